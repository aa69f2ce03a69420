//! What happens beside an apply or export: a second one, a medium that changes or fails, a full disk, no network.

#![cfg(all(feature = "export", feature = "ostree"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod common;

use std::fs::{self, File};
use std::io::ErrorKind;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use common::loopfs::LoopFs;
use common::program::{Running, Steps, behind, finish, output, scratch, start, tool};
use common::registry::{Layout, Registry};
use common::signer::Signer;
use common::small::Small;
use common::target::{Target, staged, unchanged};

/// Layers of 24 MiB each that do not compress: an apply reads them for a while.
const LARGE: Small = Small {
    files: 12,
    bytes: 2 << 20,
    ..Small::TINY
};

/// Two releases as bundles.
struct Releases {
    signer: Signer,
    work: TempDir,
    layout: Layout,
}

impl Releases {
    fn new(small: &Small) -> Self {
        let (signer, work) = (Signer::new("appliance"), scratch());
        let mut made = Self {
            signer,
            work,
            layout: Layout::new(),
        };
        for (version, sequence) in [("1", 1), ("2", 2)] {
            small.release(&mut made.layout, version);
            let path = made.bundle(version);
            made.signer
                .export_layout(made.layout.path(), version, &path, sequence);
        }
        made
    }

    fn bundle(&self, version: &str) -> PathBuf {
        self.work.path().join(version)
    }

    fn apply(&self, target: &Target, version: &str) -> Command {
        target.apply(&self.bundle(version), &self.signer)
    }

    /// Copies a bundle, for a test that damages it.
    fn copy(&self, version: &str, to: &Path) {
        output(
            "cp",
            [
                "-r".as_ref(),
                self.bundle(version).as_os_str(),
                to.as_os_str(),
            ],
        );
    }
}

/// Returns the last layer of a bundle of `small`: the larger of those that only this one of two bundles has.
fn own_layer(bundle: &Path, other: &Path) -> PathBuf {
    let blobs = fs::read_dir(bundle.join("blobs/sha256"))
        .unwrap()
        .map(|blob| blob.unwrap());
    let own = blobs.filter(|blob| !other.join("blobs/sha256").join(blob.file_name()).exists());
    own.max_by_key(|blob| blob.metadata().unwrap().len())
        .unwrap()
        .path()
}

/// Waits until something is true of a program that runs, then stops it in its tracks.
#[track_caller]
fn stop_when(running: &mut Running, what: &str, mut ready: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !ready() {
        assert!(running.runs(), "it ended before {what}");
        assert!(Instant::now() < deadline, "{what} does not come");
        std::thread::sleep(Duration::from_micros(200));
    }
    signal(running, Signal::STOP);
}

fn signal(running: &Running, signal: Signal) {
    kill_process(Pid::from_child(&running.child), signal).unwrap();
}

/// Starts an apply and stops it at its first layer.
#[track_caller]
fn stopped_apply(command: &mut Command, target: &Target) -> Running {
    let mut running = start(command);
    stop_when(&mut running, "an open transaction", || {
        !staged(target).is_empty()
    });
    running
}

#[test]
fn privileged_the_second_of_two_at_once_is_turned_away() {
    let releases = Releases::new(&LARGE);
    let target = Target::new();
    finish(&mut releases.apply(&target, "1")).ok();
    let held = stopped_apply(&mut releases.apply(&target, "2"), &target);
    for command in [&mut releases.apply(&target, "2"), &mut target.rollback()] {
        let refused = finish(command).fails(15);
        assert!(
            refused.elapsed < Duration::from_secs(10),
            "{:?}",
            refused.elapsed
        );
        assert_eq!(refused.json()["code"], "locked");
    }
    // Looking is allowed.
    assert_eq!(target.versions(), ["1"]);
    signal(&held, Signal::CONT);
    held.wait().ok();
    assert_eq!(target.versions(), ["2", "1"]);
    target.check();

    // Without help from the outside: of several at once one does it and no one breaks it.
    let target = Target::new();
    let running: Vec<_> = (0..4)
        .map(|_| start(&mut releases.apply(&target, "1")))
        .collect();
    let ends: Vec<_> = running
        .into_iter()
        .map(|running| running.wait().status.unwrap())
        .collect();
    assert!(
        ends.contains(&0) && ends.iter().all(|end| [0, 15].contains(end)),
        "{ends:?}"
    );
    assert_eq!(target.versions(), ["1"]);
    target.check();
}

#[test]
fn the_second_of_two_exports_to_a_path_is_turned_away() {
    let signer = Signer::new("appliance");
    let registry = Registry::plain();
    let mut layout = Layout::new();
    LARGE.release(&mut layout, "1");
    let name = format!("{}/os", registry.host());
    layout.push("1", &format!("{name}:1"), &["--dest-tls-verify=false"]);
    let source = format!("docker://{name}:1");
    let work = scratch();
    let path = work.path().join("bundle");
    let mut held = start(&mut signer.export(&source, &path, 1));
    let blobs = work.path().join("bundle.partial/blobs/sha256");
    stop_when(&mut held, "the first blob", || {
        fs::read_dir(&blobs).is_ok_and(|mut blobs| blobs.next().is_some())
    });
    let refused = finish(&mut signer.export(&source, &path, 1)).fails(15);
    assert_eq!(refused.json()["code"], "busy");
    assert!(!path.exists());
    signal(&held, Signal::CONT);
    held.wait().ok();
    assert_eq!(
        finish(&mut signer.verify(&path)).ok().json()["verified"],
        true
    );
    // And what is there is not overwritten.
    finish(&mut signer.export(&source, &path, 1)).fails(1);
}

#[test]
fn privileged_a_bundle_swapped_after_its_verification_is_refused() {
    let releases = Releases::new(&Small::TINY);
    let target = Target::new();
    finish(&mut releases.apply(&target, "1")).ok();
    let work = scratch();
    let bundle = work.path().join("bundle");
    let apply = || finish(&mut target.apply(&bundle, &releases.signer));
    let verified = || assert_eq!(finish(&mut releases.signer.verify(&bundle)).status, Some(0));

    releases.copy("2", &bundle);
    verified();
    let layer = own_layer(&bundle, &releases.bundle("1"));
    let mut bytes = fs::read(&layer).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&layer, bytes).unwrap();
    let refused = unchanged(&target, 12, apply);
    assert!(
        refused
            .stderr
            .contains(layer.file_name().unwrap().to_str().unwrap()),
        "{}",
        refused.stderr
    );

    fs::remove_dir_all(&bundle).unwrap();
    releases.copy("2", &bundle);
    verified();
    fs::remove_dir_all(&bundle).unwrap();
    let stranger = Signer::new("appliance");
    stranger.export_layout(releases.layout.path(), "2", &bundle, 2);
    unchanged(&target, 11, apply);
    fs::remove_dir_all(&bundle).unwrap();
    unchanged(&target, 1, apply);
    releases.copy("2", &bundle);
    apply().ok();
    assert_eq!(target.versions(), ["2", "1"]);
}

#[test]
fn privileged_a_medium_that_changes_during_an_apply_is_refused() {
    let releases = Releases::new(&LARGE);
    let pristine = Target::new();
    finish(&mut releases.apply(&pristine, "1")).ok();
    type Change = fn(&Path);
    let changes: [(&str, Change); 5] = [
        ("truncated", |layer| {
            File::options()
                .write(true)
                .open(layer)
                .unwrap()
                .set_len(1000)
                .unwrap();
        }),
        ("emptied", |layer| drop(File::create(layer).unwrap())),
        ("overwritten in the middle", |layer| {
            let file = File::options().write(true).open(layer).unwrap();
            let size = file.metadata().unwrap().len();
            file.write_all_at(&vec![7; 1 << 20], size - (4 << 20))
                .unwrap();
        }),
        ("overwritten at the end", |layer| {
            let file = File::options().write(true).open(layer).unwrap();
            file.write_all_at(b"other", file.metadata().unwrap().len() - 5)
                .unwrap();
        }),
        ("taken away", |layer| {
            fs::remove_dir_all(layer.parent().unwrap()).unwrap()
        }),
    ];
    for (name, change) in changes {
        let work = scratch();
        let bundle = work.path().join("bundle");
        // Where a directory vanishes, what is open stays readable: only a later layer is missed, so both are read then.
        let target = if name == "taken away" {
            Target::new()
        } else {
            copy_of(&pristine)
        };
        releases.copy("2", &bundle);
        let layer = own_layer(&bundle, &releases.bundle("1"));
        let before = target.deployments();
        let running = stopped_apply(&mut target.apply(&bundle, &releases.signer), &target);
        change(&layer);
        signal(&running, Signal::CONT);
        let refused = running.wait();
        assert_eq!(refused.status, Some(12), "{name}: {}", refused.stderr);
        refused.fails(12);
        assert_eq!(target.deployments(), before, "{name}");
        target.check();
        finish(&mut releases.apply(&target, "2")).ok();
        assert_eq!(target.versions()[0], "2");
    }
}

fn copy_of(pristine: &Target) -> Target {
    let target = Target::new();
    target.become_copy_of(pristine);
    target
}

#[test]
fn privileged_a_medium_that_is_pulled_during_an_apply_fails_and_a_retry_completes() {
    let releases = Releases::new(&LARGE);
    let stick = LoopFs::new(128);
    let target = Target::new();
    finish(&mut releases.apply(&target, "1")).ok();
    let bundle = stick.path().join("bundle");
    releases.copy("2", &bundle);
    stick.restore();
    let before = target.deployments();
    let running = stopped_apply(&mut target.apply(&bundle, &releases.signer), &target);
    stick.cut();
    signal(&running, Signal::CONT);
    let refused = running.wait().fails(12);
    assert_eq!(refused.json()["code"], "unreadable");
    assert_eq!(target.deployments(), before);
    target.check();
    // As long as it is out, there is nothing to be had.
    let gone = unchanged(&target, 12, || {
        finish(&mut target.apply(&bundle, &releases.signer))
    });
    assert!(gone.stderr.contains("medium"), "{}", gone.stderr);
    stick.restore();
    finish(&mut target.apply(&bundle, &releases.signer)).ok();
    assert_eq!(target.versions(), ["2", "1"]);
    target.check();
}

#[test]
fn privileged_a_full_disk_is_left_as_it_was() {
    let mut steps = Steps::new();
    steps.begin("prepare");
    let releases = Releases::new(&Small {
        files: 100,
        bytes: 30_000,
        etc: 4 << 20,
    });
    let disk = LoopFs::new(64);
    let target = Target::at(&disk.path().join("sysroot"));
    finish(&mut releases.apply(&target, "1")).ok();
    let filler = disk.path().join("filler");
    let layers = || {
        finish(&mut target.ostree(&["refs"]))
            .ok()
            .stdout
            .matches("/blob/")
            .count()
    };
    // The reserve of libostree makes it refuse early; without one it runs into the wall at many places: in the
    // import, and once there was room for the layers, in the deployment.
    let rooms = [0, 200, 2000, 6000, 7200, 7600, 500, 1000, 2000, 3000, 3800];
    let rounds = [(3, 0), (3, 4 << 10)]
        .into_iter()
        .chain(rooms.map(|room| (0, room)));
    for (reserve, room) in rounds {
        steps.begin(&format!("{room} KiB of room, {reserve} % of reserve"));
        let key = "core.min-free-space-percent";
        finish(&mut target.ostree(&["config", "set", key, &reserve.to_string()])).ok();
        let before = (disk.used(), layers());
        let free = rustix::fs::statvfs(disk.path())
            .map(|s| s.f_bavail * s.f_frsize)
            .unwrap();
        fill(&filler, free.saturating_sub(room << 10));
        let done = finish(&mut releases.apply(&target, "2"));
        fs::remove_file(&filler).unwrap();
        let refused = done.fails(17);
        assert_eq!(refused.json()["code"], "no-space");
        assert_eq!(target.versions(), ["1"]);
        target.check();
        let (kept, complete) = (disk.used().saturating_sub(before.0), layers() - before.1);
        let error = refused.stderr.lines().next().unwrap();
        eprintln!("         kept {kept} bytes, {complete} layers: {error}");
        // Only whole layers stay for the next run; half a deployment is taken away.
        assert!(
            complete > 0 || kept < 512 << 10,
            "{room}: {kept} bytes are still in use"
        );
        assert_eq!(
            fs::read_dir(target.stateroot().join("deploy"))
                .unwrap()
                .count(),
            2,
            "{room}"
        );
    }
    steps.begin("enlarge");
    disk.grow(128);
    finish(&mut releases.apply(&target, "2")).ok();
    assert_eq!(target.versions(), ["2", "1"]);
    target.check();
}

/// Writes a file of so many bytes, or of as many as there is room for.
fn fill(path: &Path, bytes: u64) {
    let file = File::create(path).unwrap();
    let block = vec![1; 64 << 10];
    let mut at = 0;
    while at < bytes {
        let part = usize::try_from((bytes - at).min(block.len() as u64)).unwrap();
        match file.write_at(&block[..part], at) {
            Ok(count) => at += count as u64,
            Err(error) if error.kind() == ErrorKind::StorageFull => break,
            Err(error) => panic!("{error}"),
        }
    }
    match file.sync_all() {
        Err(error) if error.kind() != ErrorKind::StorageFull => panic!("{error}"),
        _ => {}
    }
}

#[test]
fn privileged_a_read_only_sysroot_is_refused_in_words() {
    let releases = Releases::new(&Small::TINY);
    let disk = LoopFs::new(64);
    let target = Target::at(&disk.path().join("sysroot"));
    finish(&mut releases.apply(&target, "1")).ok();
    finish(&mut releases.apply(&target, "2")).ok();
    disk.remount("ro");
    for mut command in [releases.apply(&target, "2"), target.rollback()] {
        let refused = finish(&mut command);
        assert_eq!(
            refused.status,
            Some(1),
            "{}{}",
            refused.stdout,
            refused.stderr
        );
        assert!(refused.stderr.starts_with("error: "), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("Read-only file system"),
            "{}",
            refused.stderr
        );
    }
    assert_eq!(target.versions(), ["2", "1"]);
    disk.remount("rw");
    finish(&mut target.rollback()).ok();
    target.check();
}

#[test]
fn privileged_the_disconnected_side_opens_no_socket() {
    let releases = Releases::new(&Small::TINY);
    let work = scratch();
    let log = work.path().join("log");
    let log_option = format!("--output={}", log.display());
    let denying = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=%network",
        "-e",
        "inject=socket:error=EAFNOSUPPORT",
    ];
    let watching = ["strace", "-f", "-qq", "-e", "trace=%network"];
    let cut_off = ["unshare", "-n"];
    for wrapper in [&denying[..], &watching, &cut_off] {
        let target = Target::new();
        let verify = releases.signer.verify(&releases.bundle("1"));
        let (first, second) = (releases.apply(&target, "1"), releases.apply(&target, "2"));
        for command in [
            verify,
            first,
            second,
            target.status_command(),
            target.rollback(),
        ] {
            let mut all: Vec<&str> = wrapper.to_vec();
            if all[0] == "strace" {
                all.insert(1, &log_option);
            }
            finish(&mut behind(&all, &command)).ok();
            if all[0] == "strace" {
                let calls = fs::read_to_string(&log).unwrap();
                assert!(!calls.contains("AF_INET"), "{command:?}: {calls}");
            }
        }
        assert_eq!(target.versions(), ["1", "2"]);
    }
    // The trap works: what does open one is seen.
    let mut curious = tool(watching[0], [log_option.as_str()]);
    curious
        .args(&watching[1..])
        .args(["python3", "-c", "import socket; socket.socket()"]);
    finish(&mut curious).ok();
    assert!(fs::read_to_string(&log).unwrap().contains("AF_INET"));
}
