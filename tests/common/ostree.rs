//! Repositories and sysroots of their own for tests, and the `ostree` command to look at them.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use bundle::ostree::{self as engine, DeployOptions, Deployed, Image, OstreeError};
use ostree::{Repo, RepoMode, gio};

use super::image::{self, Layer, Source};

/// Runs a program that must be installed, and returns its output.
pub(crate) fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .unwrap_or_else(|error| {
            panic!("this test needs the program `{program}`: {error}");
        });
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {text}{errors}"
    );
    text
}

/// An empty repository in a directory of its own.
pub(crate) struct TestRepo {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) repo: Repo,
}

impl TestRepo {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repo = Repo::new_for_path(directory.path().join("repo"));
        repo.create(RepoMode::Bare, gio::Cancellable::NONE)
            .expect("these tests need root");
        Self { directory, repo }
    }

    pub(crate) fn path(&self) -> String {
        format!("--repo={}", self.directory.path().join("repo").display())
    }

    pub(crate) fn ostree(&self, arguments: &[&str]) -> String {
        run("ostree", &[&[self.path().as_str()], arguments].concat())
    }

    pub(crate) fn import(
        &self,
        image: &Image,
        source: &Source,
    ) -> Result<engine::Imported, OstreeError> {
        engine::import(&self.repo, image, source, &(), &|| false)
    }

    /// Asserts that nothing is stored or staged but what is referenced.
    pub(crate) fn assert_empty(&self, what: &str) {
        assert_eq!(self.ostree(&["refs"]), "", "{what}");
        for directory in ["tmp", "objects"] {
            let path = self.directory.path().join("repo").join(directory);
            let left = walkdir(&path)
                .into_iter()
                .filter(|path| !path.ends_with("cache"));
            let left: Vec<String> = left.filter(|path| path.len() > 3).collect();
            assert_eq!(left, Vec::<String>::new(), "{what}: {directory}");
        }
    }

    /// Returns path to mode, owner and extended attributes, as `ostree ls` shows them, without directory objects.
    pub(crate) fn list(&self, commit: &str) -> BTreeMap<String, String> {
        self.ostree(&["ls", "-R", "-C", "-X", commit, "/"])
            .lines()
            .map(|line| {
                let (facts, path) = line.split_once(" /").unwrap();
                let facts: Vec<&str> = facts.split_whitespace().collect();
                let hidden = if facts[0].starts_with('d') {
                    4..6
                } else {
                    4..4
                };
                let facts: Vec<&str> = facts
                    .iter()
                    .enumerate()
                    .filter(|(index, _)| !hidden.contains(index))
                    .map(|(_, fact)| *fact)
                    .collect();
                (path.to_owned(), facts.join(" "))
            })
            .collect()
    }

    pub(crate) fn cat(&self, commit: &str, path: &str) -> String {
        self.ostree(&["cat", commit, path])
    }
}

/// Returns the names of all files below `path`.
pub(crate) fn walkdir(path: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(path).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(walkdir(&entry.path()));
        } else {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

pub(crate) fn import_one(tar: &[u8]) -> (TestRepo, Result<engine::Imported, OstreeError>) {
    let test = TestRepo::new();
    let mut source = Source::default();
    let layer = image::layer(&mut source, image::TAR, tar);
    let result = test.import(&image::image(vec![layer], "1", &[]), &source);
    (test, result)
}

/// A sysroot that `ostree admin` made.
pub(crate) struct TestSysroot {
    pub(crate) directory: tempfile::TempDir,
}

impl TestSysroot {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        run(
            "ostree",
            &[
                "admin",
                "init-fs",
                "--modern",
                &directory.path().display().to_string(),
            ],
        );
        Self { directory }
    }

    pub(crate) fn path(&self) -> &Path {
        self.directory.path()
    }

    pub(crate) fn lock(&self) -> engine::SysrootLock {
        engine::lock(Some(self.path())).unwrap()
    }

    pub(crate) fn status(&self) -> engine::Status {
        engine::status(&engine::open(Some(self.path())).unwrap())
    }

    pub(crate) fn ostree(&self, arguments: &[&str]) -> String {
        let repo = format!("--repo={}/ostree/repo", self.path().display());
        run("ostree", &[&[repo.as_str()], arguments].concat())
    }

    pub(crate) fn admin(&self, verb: &str, arguments: &[&str]) -> String {
        let sysroot = format!("--sysroot={}", self.path().display());
        run("ostree", &[&["admin", verb, &sysroot], arguments].concat())
    }

    /// Imports and deploys an image as a caller does.
    pub(crate) fn apply(&self, image: &Image, source: &Source) -> Deployed {
        let lock = self.lock();
        let imported = engine::import(&lock.repo(), image, source, &(), &|| false).unwrap();
        let kargs = vec!["root=LABEL=root".to_owned(), "quiet".to_owned()];
        let options = DeployOptions {
            stateroot: Some("os".to_owned()),
            kargs,
        };
        engine::deploy(&lock, &image.imgref, &imported.commit, &options).unwrap()
    }

    /// Returns the options of the loader entry that boots first.
    pub(crate) fn default_options(&self) -> String {
        let mut entries: Vec<_> = std::fs::read_dir(self.path().join("boot/loader/entries"))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        let entry = std::fs::read_to_string(entries.last().unwrap()).unwrap();
        let options = entry.lines().find_map(|line| line.strip_prefix("options "));
        options.unwrap().to_owned()
    }
}

impl Drop for TestSysroot {
    fn drop(&mut self) {
        // Roots of deployments are immutable.
        let _ = Command::new("chattr")
            .args(["-R", "-i"])
            .arg(self.path().join("ostree"))
            .output();
    }
}

/// Most of what honest archives hold.
pub(crate) fn rich() -> Layer {
    Layer::new()
        .dir("./")
        .dir("./usr/")
        .entry(b'5', "./usr/private/", "", 0o1700, b"")
        .file("./usr/bin/tool", "tool")
        .entry(b'0', "usr/bin/sudo", "", 0o4755, b"sudo")
        .pax("SCHILY.xattr.user.b", b"2")
        .pax("SCHILY.xattr.user.a", b"\x00\xff1")
        .pax("uid", b"70000")
        .file("usr/bin/attributed", "attributed")
        .pax("SCHILY.xattr.user.d", b"d")
        .dir("usr/attributed/")
        .symlink("bin", "usr/bin")
        .hardlink("usr/bin/alias", "./usr/bin/tool")
        .hardlink("usr/bin/alias2", "usr/bin/tool")
        .file("usr/lib/conf", "conf")
        .entry(b'0', "usr/empty", "", 0o600, b"")
        .file(
            &format!("usr/{}/{}", "d".repeat(120), "f".repeat(200)),
            "long name",
        )
        .pax("path", "usr/ü".as_bytes())
        .file("short", "pax name")
        .entry(b'0', "usr/large", "", 0o755, &vec![7; 9 << 20])
}
