//! A program that is killed, and a host that loses power, at any moment: the old state or the new one, nothing between.

#![cfg(all(feature = "export", feature = "ostree"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod common;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use common::loopfs::LoopFs;
use common::program::{Random, Steps, finish, output, scratch, start};
use common::registry::{Layout, Registry};
use common::signer::Signer;
use common::small::Small;
use common::target::{Target, staged};

/// Two releases as bundles.
struct Releases {
    signer: Signer,
    work: TempDir,
}

impl Releases {
    fn new(small: &Small) -> Self {
        let made = Self {
            signer: Signer::new("appliance"),
            work: scratch(),
        };
        let mut layout = Layout::new();
        for (version, sequence) in [("1", 1), ("2", 2)] {
            small.release(&mut layout, version);
            made.signer
                .export_layout(layout.path(), version, &made.bundle(version), sequence);
        }
        made
    }

    fn bundle(&self, version: &str) -> PathBuf {
        self.work.path().join(version)
    }

    fn apply(&self, target: &Target, version: &str) -> Command {
        target.apply(&self.bundle(version), &self.signer)
    }

    /// Deploys the first release and makes its host's own changes.
    fn prepare(&self, target: &Target) {
        finish(&mut self.apply(target, "1")).ok();
        fs::write(
            target.deployments()[0].join("etc/release.conf"),
            "changed by the owner",
        )
        .unwrap();
        fs::write(target.stateroot().join("var/data"), "precious").unwrap();
    }
}

/// Checks that the old release is as it was, and that the new one is whole if it is there; returns what boots next.
#[track_caller]
fn check_old_or_new(target: &Target) -> String {
    target.check();
    let versions = target.versions();
    let old: &[&str] = &["1"];
    assert!(
        versions == old || versions == ["2", "1"] || versions == ["1", "2"],
        "{versions:?}"
    );
    assert_eq!(
        fs::read_to_string(target.stateroot().join("var/data")).unwrap(),
        "precious"
    );
    for (root, version) in target.deployments().iter().zip(&versions) {
        let read = |path: &str| fs::read_to_string(root.join(path)).unwrap();
        assert_eq!(read("usr/version"), *version);
        assert_eq!(read("usr/etc/release.conf"), *version);
        // The owner's change was merged into the new one.
        assert_eq!(read("etc/release.conf"), "changed by the owner");
    }
    versions[0].clone()
}

/// Kills a command after a part of the time it would take; returns whether it was still running.
fn kill_at_random(command: &mut Command, random: &mut Random, whole: Duration) -> bool {
    let running = start(command);
    // A little beyond the end, since the last steps are those that matter and machines are not always as busy.
    std::thread::sleep(random.part(whole.mul_f64(1.3)));
    running.kill()
}

#[test]
fn privileged_apply_and_rollback_killed_at_any_moment() {
    let mut steps = Steps::new();
    steps.begin("prepare");
    let mut random = Random::new();
    let releases = Releases::new(&Small::BUSY);
    let (pristine, target) = (Target::new(), Target::new());
    releases.prepare(&pristine);
    // The quickest of three: a machine that is busy for once must not have all kills come too late.
    let apply_once = || {
        target.become_copy_of(&pristine);
        let elapsed = finish(&mut releases.apply(&target, "2")).ok().elapsed;
        assert_eq!(check_old_or_new(&target), "2");
        elapsed
    };
    let whole = apply_once().min(apply_once()).min(apply_once());
    target.become_copy_of(&pristine);

    steps.begin(&format!("50 kills of an apply that takes {whole:?}"));
    let (mut killed, mut new) = (0, 0);
    for round in 0..50 {
        killed += usize::from(kill_at_random(
            &mut releases.apply(&target, "2"),
            &mut random,
            whole,
        ));
        let is_new = check_old_or_new(&target) == "2";
        new += usize::from(is_new);
        // Half of the rounds go on with what a killed one left, for leftovers pile up in the field, too.
        if is_new || round % 2 == 1 {
            target.become_copy_of(&pristine);
        }
    }
    eprintln!("{killed} of 50 were killed, {new} had deployed");
    assert!(killed >= 10, "only {killed} were still running");
    finish(&mut releases.apply(&target, "2")).ok();
    assert_eq!(check_old_or_new(&target), "2");
    assert_eq!(staged(&target), Vec::<String>::new());

    steps.begin("20 kills of a rollback");
    let whole = finish(&mut target.rollback()).ok().elapsed;
    assert_eq!(check_old_or_new(&target), "1");
    for _ in 0..20 {
        kill_at_random(&mut target.rollback(), &mut random, whole);
        check_old_or_new(&target);
        assert_eq!(target.deployments().len(), 2);
    }
    let before = target.versions();
    finish(&mut target.rollback()).ok();
    assert_ne!(target.versions(), before);
    check_old_or_new(&target);
}

#[test]
fn privileged_power_lost_at_any_moment() {
    let mut steps = Steps::new();
    steps.begin("prepare");
    let mut random = Random::new();
    let releases = Releases::new(&Small {
        files: 300,
        bytes: 2000,
        ..Small::TINY
    });
    // Declared before the sysroot on it, so that it is unmounted after that one is let go of.
    let disk = LoopFs::new(256);
    let target = Target::at(&disk.path().join("sysroot"));
    releases.prepare(&target);
    disk.save();
    let apply = finish(&mut releases.apply(&target, "2")).ok().elapsed;
    disk.revert();

    let rounds = 24;
    steps.begin(&format!("{rounds} cuts of an apply that takes {apply:?}"));
    let (mut ended, mut new) = (0, 0);
    for round in 0..rounds {
        let done = cut_at_random(&disk, &mut releases.apply(&target, "2"), &mut random, apply);
        let is_new = check_old_or_new(&target) == "2";
        // What was said to be done is done for good.
        assert!(
            is_new || !done,
            "round {round}: an apply that had ended with success is lost"
        );
        ended += usize::from(done);
        new += usize::from(is_new);
        if is_new || round % 2 == 1 {
            disk.revert();
        }
    }
    eprintln!("{ended} of {rounds} had ended, {new} had deployed");
    finish(&mut releases.apply(&target, "2")).ok();
    assert_eq!(check_old_or_new(&target), "2");

    let rounds = 8;
    let rollback = finish(&mut target.rollback()).ok().elapsed;
    steps.begin(&format!(
        "{rounds} cuts of a rollback that takes {rollback:?}"
    ));
    for round in 0..rounds {
        let before = target.versions();
        let done = cut_at_random(&disk, &mut target.rollback(), &mut random, rollback);
        check_old_or_new(&target);
        assert!(
            !done || target.versions() != before,
            "round {round}: a rollback is lost"
        );
        assert_eq!(target.deployments().len(), 2);
    }
    finish(&mut target.rollback()).ok();
    check_old_or_new(&target);
}

/// Cuts the disk off after a part of the time that a command takes; returns whether that had ended with success.
fn cut_at_random(
    disk: &LoopFs,
    command: &mut Command,
    random: &mut Random,
    whole: Duration,
) -> bool {
    let cutter = disk.cutter();
    let running = start(command);
    std::thread::sleep(random.part(whole.mul_f64(1.2)));
    cutter.cut();
    let done = running.wait().status == Some(0);
    disk.restore();
    done
}

#[test]
fn export_killed_at_any_moment() {
    let mut steps = Steps::new();
    steps.begin("prepare");
    let mut random = Random::new();
    let signer = Signer::new("appliance");
    let registry = Registry::plain();
    let mut layout = Layout::new();
    Small {
        files: 300,
        bytes: 40_000,
        ..Small::TINY
    }
    .release(&mut layout, "1");
    let name = format!("{}/os", registry.host());
    layout.push("1", &format!("{name}:1"), &["--dest-tls-verify=false"]);
    let source = format!("docker://{name}:1");
    let work = scratch();
    let reference = work.path().join("reference");
    let whole = finish(&mut signer.export(&source, &reference, 1))
        .ok()
        .elapsed;

    steps.begin(&format!(
        "2 times 10 kills of an export that takes {whole:?}"
    ));
    for name in ["directory", "file.tar"] {
        let path = work.path().join(name);
        let mut published = 0;
        for round in 0..10 {
            kill_at_random(&mut signer.export(&source, &path, 1), &mut random, whole);
            if path.symlink_metadata().is_err() {
                continue;
            }
            published += 1;
            let report = finish(&mut signer.verify(&path)).ok().json();
            assert_eq!(report["verified"], true, "round {round}");
            remove(&path);
        }
        eprintln!("{published} of 10 had published {name}");
        // Whatever the last one left, the next run makes it whole, and nothing else stays.
        finish(&mut signer.export(&source, &path, 1)).ok();
        assert_eq!(
            finish(&mut signer.verify(&path)).ok().json()["verified"],
            true
        );
    }
    let directory = work.path().join("directory");
    output(
        "diff",
        ["-r".as_ref(), reference.as_os_str(), directory.as_os_str()],
    );
    let left = fs::read_dir(work.path()).unwrap();
    let mut left: Vec<_> = left.map(|item| item.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["directory", "file.tar", "reference"]);
}

fn remove(path: &Path) {
    if path.is_dir() {
        fs::remove_dir_all(path).unwrap();
    } else if path.symlink_metadata().is_ok() {
        fs::remove_file(path).unwrap();
    }
}
