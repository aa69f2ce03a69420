//! A sysroot as an appliance's disk has it, and what must be true of it at every moment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use tempfile::TempDir;

use super::program::{Done, bundle, finish, output, require_root, scratch, tool};
use super::signer::Signer;

/// Stateroot of the tests.
pub const STATEROOT: &str = "demo";

/// A sysroot in a directory.
pub struct Target {
    path: PathBuf,
    /// The directory, where it is ours to remove.
    _directory: Option<TempDir>,
}

impl Target {
    /// Makes a fresh sysroot in a temporary directory.
    #[track_caller]
    pub fn new() -> Self {
        let directory = scratch();
        let mut target = Self::at(&directory.path().join("sysroot"));
        target._directory = Some(directory);
        target
    }

    /// Makes a fresh sysroot at a path.
    #[track_caller]
    pub fn at(path: &Path) -> Self {
        require_root();
        fs::create_dir(path).unwrap();
        output(
            "ostree",
            [
                "admin".as_ref(),
                "init-fs".as_ref(),
                "--modern".as_ref(),
                path.as_os_str(),
            ],
        );
        Self {
            path: path.to_owned(),
            _directory: None,
        }
    }

    /// Returns its path.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Prepares an apply.
    pub fn apply(&self, path: &Path, signer: &Signer) -> Command {
        let mut command = bundle(["--json", "apply", "--stateroot", STATEROOT]);
        command
            .arg(path)
            .arg("--sysroot")
            .arg(&self.path)
            .arg("--trust-root")
            .arg(signer.root());
        command
    }

    /// Prepares a rollback.
    pub fn rollback(&self) -> Command {
        let mut command = bundle(["--json", "rollback", "--sysroot"]);
        command.arg(&self.path);
        command
    }

    /// Prepares a status.
    pub fn status_command(&self) -> Command {
        let mut command = bundle(["--json", "status", "--sysroot"]);
        command.arg(&self.path);
        command
    }

    /// Returns the status.
    #[track_caller]
    pub fn status(&self) -> Value {
        finish(&mut self.status_command()).ok().json()
    }

    /// Returns the versions in boot order: what boots next, then what a rollback returns to.
    #[track_caller]
    pub fn versions(&self) -> Vec<String> {
        let status = self.status();
        ["pending", "rollback"]
            .iter()
            .filter_map(|slot| status[slot]["version"].as_str().map(str::to_owned))
            .collect()
    }

    /// Prepares an `ostree` command on the repository.
    pub fn ostree(&self, arguments: &[&str]) -> Command {
        let mut command = tool("ostree", arguments);
        command.arg(format!(
            "--repo={}",
            self.path.join("ostree/repo").display()
        ));
        command
    }

    /// Prepares an `ostree admin` command on the sysroot.
    pub fn admin(&self, arguments: &[&str]) -> Command {
        let mut command = tool("ostree", ["admin"].iter().chain(arguments));
        command.arg(format!("--sysroot={}", self.path.display()));
        command
    }

    /// Returns the roots of all deployments in boot order, with what `ostree admin status` says.
    #[track_caller]
    pub fn deployments(&self) -> Vec<PathBuf> {
        let status = finish(&mut self.admin(&["status"])).ok().stdout;
        let name = |line: &str| {
            let name = line
                .trim_start_matches(['*', ' '])
                .strip_prefix(STATEROOT)?
                .trim();
            let name = name.split_whitespace().next()?;
            Some(self.stateroot().join("deploy").join(name))
        };
        status.lines().filter_map(name).collect()
    }

    /// Returns the directory of the stateroot.
    pub fn stateroot(&self) -> PathBuf {
        self.path.join("ostree/deploy").join(STATEROOT)
    }

    /// Checks all that a boot and a later update need: objects, boot entries and deployments agree.
    #[track_caller]
    pub fn check(&self) {
        let fsck = finish(&mut self.ostree(&["fsck", "--quiet"]));
        assert_eq!(fsck.status, Some(0), "{}{}", fsck.stdout, fsck.stderr);
        let deployments = self.deployments();
        let entries = self.boot_entries();
        assert_eq!(
            entries.len(),
            deployments.len(),
            "{entries:?} for {deployments:?}"
        );
        for (entry, deployment) in entries.iter().zip(&deployments) {
            let text = fs::read_to_string(entry).unwrap();
            let value = |key: &str| {
                let line = text.lines().find_map(|line| line.strip_prefix(key));
                line.unwrap_or_else(|| panic!("no {key}in {text}"))
                    .trim()
                    .to_owned()
            };
            for key in ["linux ", "initrd "] {
                let file = self
                    .path
                    .join("boot")
                    .join(value(key).trim_start_matches('/'));
                assert!(
                    file.metadata().is_ok_and(|meta| meta.len() > 0),
                    "{}",
                    file.display()
                );
            }
            let options = value("options ");
            let link = options
                .split(' ')
                .find_map(|word| word.strip_prefix("ostree=/"))
                .unwrap();
            let root = fs::canonicalize(self.path.join(link));
            let root =
                root.unwrap_or_else(|error| panic!("{link} of {}: {error}", entry.display()));
            assert_eq!(
                root,
                fs::canonicalize(deployment).unwrap(),
                "{}",
                entry.display()
            );
            for part in ["usr/lib/os-release", "etc"] {
                assert!(root.join(part).exists(), "{} has no {part}", root.display());
            }
        }
    }

    /// Returns the files of the boot loader's entries, the one that boots first in front.
    #[track_caller]
    pub fn boot_entries(&self) -> Vec<PathBuf> {
        let directory = self.path.join("boot/loader/entries");
        let Ok(entries) = fs::read_dir(&directory) else {
            return Vec::new();
        };
        let mut entries: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        entries.sort();
        entries.reverse();
        entries
    }

    /// Replaces the sysroot by a copy of another one.
    pub fn become_copy_of(&self, other: &Self) {
        self.mutable();
        fs::remove_dir_all(&self.path).unwrap();
        let copy = ["-a".as_ref(), other.path.as_os_str(), self.path.as_os_str()];
        output("cp", copy);
    }

    /// Lets the roots of deployments, which OSTree makes immutable, be removed.
    pub fn mutable(&self) {
        let Ok(deployments) = fs::read_dir(self.stateroot().join("deploy")) else {
            return;
        };
        for deployment in deployments.flatten() {
            // Of a file system without the flag there is nothing to take.
            let _ = Command::new("chattr")
                .arg("-i")
                .arg(deployment.path())
                .output();
        }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.mutable();
    }
}

/// Says which bytes the repository of a sysroot has in objects that nothing names yet.
pub fn staged(target: &Target) -> Vec<String> {
    let Ok(names) = fs::read_dir(target.path().join("ostree/repo/tmp")) else {
        return Vec::new();
    };
    names
        .map(|name| name.unwrap().file_name().to_string_lossy().into_owned())
        .filter(|name| name.starts_with("staging-") || name.starts_with("tmp"))
        .collect()
}

/// Asserts that a command failed and that nothing of the deployments changed by it.
#[track_caller]
pub fn unchanged(target: &Target, status: i32, run: impl FnOnce() -> Done) -> Done {
    let before = (target.deployments(), target.versions());
    let done = run().fails(status);
    assert_eq!((target.deployments(), target.versions()), before);
    target.check();
    done
}
