//! Deploys small images into fresh sysroots with the real libostree, and looks at them with the `ostree` command.

#![cfg(feature = "ostree")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[path = "common/image.rs"]
mod image;
#[path = "common/ostree.rs"]
mod support;

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use bundle::ostree::{self as engine, DeployOptions, Deployed, Image, OstreeError};
use image::{GZIP, Layer, Source, bootable};
use support::{TestSysroot, run};

/// A release of two layers; the first is the same in all.
fn release(source: &mut Source, version: &str) -> Image {
    let base = image::layer(
        source,
        GZIP,
        &Layer::new().dir("usr/").file("usr/base", "base").tar(),
    );
    let top = bootable(Layer::new(), version).file("usr/version", version);
    let top = image::layer(source, GZIP, &top.tar());
    image::image(vec![base, top], version, &[])
}

fn done(deployed: Deployed) -> engine::DeploymentStatus {
    match deployed {
        Deployed::Deployed(status) => status,
        other => panic!("{other:?}"),
    }
}

#[test]
fn privileged_two_releases_and_back() {
    let sysroot = TestSysroot::new();
    let mut source = Source::default();
    let (first, second, third) = (
        release(&mut source, "1"),
        release(&mut source, "2"),
        release(&mut source, "3"),
    );

    let one = done(sysroot.apply(&first, &source));
    assert_eq!(one.stateroot, "os");
    assert_eq!(one.version.as_deref(), Some("1"));
    assert_eq!(one.manifest_digest, Some(first.manifest_digest.to_string()));
    assert_eq!(one.imgref.as_deref(), Some("registry.example/os:stable"));
    assert_eq!(
        one.origin.as_deref(),
        Some("ostree-unverified-registry:registry.example/os:stable")
    );
    assert_eq!(one.metadata["bundle.release.sequence"], "1");
    assert_eq!(
        (one.timestamp, one.pinned, one.staged),
        (1_700_000_000, false, false)
    );
    assert!(
        sysroot
            .default_options()
            .starts_with("root=LABEL=root quiet ")
    );

    let unchanged = sysroot.admin("status", &[]);
    assert!(
        matches!(sysroot.apply(&first, &source), Deployed::AlreadyDeployed(status) if status == one)
    );
    assert_eq!(sysroot.admin("status", &[]), unchanged);

    // The host's owner follows a mirror; no update changes that, nor the arguments of the kernel.
    let origin = format!("ostree/deploy/os/deploy/{}.0.origin", one.commit);
    let mirror =
        "[origin]\ncontainer-image-reference=ostree-image-signed:docker://mirror/os:stable\n";
    std::fs::write(sysroot.path().join(origin), mirror).unwrap();
    sysroot.admin("instutil", &["set-kargs", "root=LABEL=root", "debug"]);
    let two = done(sysroot.apply(&second, &source));
    assert_eq!(
        two.origin.as_deref(),
        Some("ostree-image-signed:docker://mirror/os:stable")
    );
    assert_eq!(two.imgref.as_deref(), Some("mirror/os:stable"));
    assert!(
        sysroot
            .default_options()
            .starts_with("root=LABEL=root debug ")
    );
    // The kernel's layer of the first release is needed by its deployment.
    for image in [&first, &second] {
        for layer in &image.layers {
            sysroot.ostree(&["rev-parse", &engine::layer_ref(&layer.digest)]);
        }
    }
    let status = sysroot.status();
    assert_eq!(status.booted, None);
    assert_eq!(status.pending.as_ref(), Some(&two));
    assert_eq!(
        status.rollback.map(|rollback| rollback.commit),
        Some(one.commit.clone())
    );
    let json = serde_json::to_value(sysroot.status()).unwrap();
    assert_eq!(
        json["pending"]["manifestDigest"],
        second.manifest_digest.to_string()
    );
    assert_eq!(json["pending"]["metadata"]["bundle.release.sequence"], "2");

    for expected in ["1", "2", "1", "2"] {
        let back = engine::rollback(&sysroot.lock()).unwrap();
        assert_eq!(back.default.version.as_deref(), Some(expected));
        assert!(!back.staged_dropped);
        assert_eq!(
            sysroot.status().pending.unwrap().version.as_deref(),
            Some(expected)
        );
    }

    // The third release pushes the first out; its layer goes, the shared one stays.
    done(sysroot.apply(&third, &source));
    let refs = sysroot.ostree(&["refs"]);
    let has = |layer: &engine::ImageLayer| refs.contains(&engine::layer_ref(&layer.digest));
    assert!(
        has(&third.layers[0]) && has(&third.layers[1]) && has(&second.layers[1]),
        "{refs}"
    );
    assert!(!has(&first.layers[1]), "{refs}");
    assert!(
        !sysroot
            .ostree(&["ls", "-R", "-C", &refs_of(&refs)])
            .is_empty()
    );
    sysroot.ostree(&["fsck"]);

    // A pinned deployment outlives updates and is in nobody's way.
    sysroot.admin("pin", &["1"]);
    let fourth = release(&mut source, "4");
    done(sysroot.apply(&fourth, &source));
    let status = sysroot.status();
    assert!(
        status
            .other
            .iter()
            .any(|other| other.pinned && other.version.as_deref() == Some("2"))
    );
    let back = engine::rollback(&sysroot.lock()).unwrap();
    assert_eq!(back.default.version.as_deref(), Some("3"));
    assert!(sysroot.status().other.iter().any(|other| other.pinned));
    sysroot.ostree(&["fsck"]);
}

fn refs_of(refs: &str) -> String {
    refs.lines()
        .find(|name| name.contains("/image/"))
        .unwrap()
        .to_owned()
}

#[test]
fn privileged_nothing_to_roll_back_to() {
    let sysroot = TestSysroot::new();
    let nothing = || engine::rollback(&sysroot.lock());
    assert!(matches!(nothing(), Err(OstreeError::NothingToRollBackTo)));
    let mut source = Source::default();
    let first = release(&mut source, "1");
    sysroot.apply(&first, &source);
    assert!(matches!(nothing(), Err(OstreeError::NothingToRollBackTo)));
    assert_eq!(
        sysroot.status().pending.unwrap().version.as_deref(),
        Some("1")
    );
}

#[test]
fn privileged_one_updater_at_a_time() {
    let sysroot = TestSysroot::new();
    let held = sysroot.lock();
    let refused = engine::lock(Some(sysroot.path()));
    assert!(matches!(&refused, Err(OstreeError::Locked)), "{refused:?}");
    assert!(refused.err().and_then(|error| error.hint()).is_some());
    // Looking needs no lock.
    assert_eq!(sysroot.status().pending, None);
    drop(held);
    sysroot.lock();
}

#[test]
fn privileged_unusable_names_are_refused() {
    let sysroot = TestSysroot::new();
    let mut source = Source::default();
    let image = release(&mut source, "1");
    let lock = sysroot.lock();
    let commit = engine::import(&lock.repo(), &image, &source, &(), &|| false)
        .unwrap()
        .commit;
    for stateroot in ["", ".", "..", "a/b", "../x", "é", "a\nb"] {
        let options = DeployOptions {
            stateroot: Some(stateroot.to_owned()),
            kargs: vec![],
        };
        let refused = engine::deploy(&lock, &image.imgref, &commit, &options);
        assert!(
            matches!(refused, Err(OstreeError::Name { .. })),
            "{stateroot:?}: {refused:?}"
        );
    }
    assert!(engine::open(Some(Path::new("/nonexistent"))).is_err());
}

/// Applies a release in a process of its own, which a test may kill. Does nothing unless that test asks for it.
#[test]
fn child_applies() {
    let Ok(path) = std::env::var("BUNDLE_TEST_SYSROOT") else {
        return;
    };
    let mut source = Source::default();
    let image = large_release(&mut source);
    std::fs::write(Path::new(&path).join("started"), "").unwrap();
    let lock = engine::lock(Some(Path::new(&path))).unwrap();
    let commit = engine::import(&lock.repo(), &image, &source, &(), &|| false)
        .unwrap()
        .commit;
    engine::deploy(&lock, &image.imgref, &commit, &DeployOptions::default()).unwrap();
}

/// A release that takes a moment.
fn large_release(source: &mut Source) -> Image {
    let layers = (0..4)
        .map(|number| {
            let mut layer = bootable(Layer::new(), "large");
            for file in 0..250 {
                let content = format!("{number}-{file} ").repeat(1000);
                layer = layer.file(&format!("usr/{number}/{file}"), &content);
            }
            image::layer(source, GZIP, &layer.tar())
        })
        .collect();
    image::image(layers, "large", &[])
}

/// Starts `child_applies` and waits until it has prepared its image.
fn spawn_apply(sysroot: &TestSysroot) -> Child {
    let started = sysroot.path().join("started");
    let _ = std::fs::remove_file(&started);
    let child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child_applies"])
        .env("BUNDLE_TEST_SYSROOT", sysroot.path())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while !started.exists() {
        assert!(Instant::now() < deadline, "the child does not start");
        std::thread::sleep(Duration::from_millis(1));
    }
    child
}

#[test]
fn privileged_killed_at_any_moment() {
    let sysroot = TestSysroot::new();
    let mut source = Source::default();
    sysroot.apply(&release(&mut source, "1"), &source);
    let other = TestSysroot::new();
    other.apply(&release(&mut source, "1"), &source);
    let mut child = spawn_apply(&other);
    let start = Instant::now();
    assert!(child.wait().unwrap().success());
    let whole = start.elapsed();

    for step in 1..=16 {
        let mut child = spawn_apply(&sysroot);
        std::thread::sleep(whole * step / 16);
        child.kill().unwrap();
        child.wait().unwrap();
        sysroot.ostree(&["fsck"]);
        let status = sysroot.status();
        let pending = status.pending.unwrap();
        let version = pending.version.as_deref();
        assert!(
            matches!(version, Some("1" | "large")),
            "step {step}: {version:?}"
        );
    }
    assert!(spawn_apply(&sysroot).wait().unwrap().success());
    let status = sysroot.status();
    assert_eq!(status.pending.unwrap().version.as_deref(), Some("large"));
    assert_eq!(status.rollback.unwrap().version.as_deref(), Some("1"));
    sysroot.ostree(&["fsck"]);
    // What the killed ones had staged is gone.
    let left: Vec<_> = std::fs::read_dir(sysroot.path().join("ostree/repo/tmp"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .filter(|name| name.to_string_lossy().starts_with("staging-"))
        .collect();
    assert_eq!(left, Vec::<std::ffi::OsString>::new());
}

/// A file system of its own, unmounted at the end.
struct Small(tempfile::TempDir);

impl Small {
    fn new(mebibytes: u32) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m,mode=755");
        run(
            "mount",
            &[
                "-t",
                "tmpfs",
                "-o",
                &size,
                "tmpfs",
                &directory.path().display().to_string(),
            ],
        );
        Self(directory)
    }

    fn used(&self) -> u64 {
        let stat = rustix::fs::statvfs(self.0.path()).unwrap();
        (stat.f_blocks - stat.f_bfree) * stat.f_frsize
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.0.path()).output();
    }
}

#[test]
fn privileged_full_file_systems_are_left_as_they_were() {
    let mut source = Source::default();
    let mut layer = Layer::new();
    for number in 0..40_u8 {
        let content: Vec<u8> = (0..1_u32 << 20).map(|n| (n >> 8) as u8 ^ number).collect();
        layer = layer.entry(b'0', &format!("usr/{number}"), "", 0o644, &content);
    }
    let mut huge = Layer::new();
    huge = huge.entry(b'0', "usr/huge", "", 0o644, &vec![1; 40 << 20]);
    let images = [layer, huge].map(|layer| {
        let layer = image::layer(&mut source, GZIP, &layer.tar());
        image::image(vec![layer], "1", &[])
    });
    for reserve in ["3", "0"] {
        for image in &images {
            let small = Small::new(24);
            let repo = ostree::Repo::new_for_path(small.0.path().join("repo"));
            repo.create(ostree::RepoMode::Bare, ostree::gio::Cancellable::NONE)
                .unwrap();
            let config = repo.copy_config();
            config.set_string("core", "min-free-space-percent", reserve);
            repo.write_config(&config).unwrap();
            repo.reload_config(ostree::gio::Cancellable::NONE).unwrap();
            let before = small.used();
            let refused = engine::import(&repo, image, &source, &(), &|| false);
            assert!(
                matches!(refused, Err(OstreeError::NoSpace { .. })),
                "{reserve}: {refused:?}"
            );
            let kept = small.used() - before;
            assert!(kept < 256 << 10, "{reserve}: {kept} bytes are still in use");
        }
    }
    let roomy = Small::new(64);
    let repo = ostree::Repo::new_for_path(roomy.0.path().join("repo"));
    repo.create(ostree::RepoMode::Bare, ostree::gio::Cancellable::NONE)
        .unwrap();
    engine::import(&repo, &images[0], &source, &(), &|| false).unwrap();
    assert!(roomy.used() > 40 << 20);
}
