//! Deltas from export to deployment: what a host takes, what it refuses, and that it ends with the very image that was signed.

#![cfg(all(feature = "export", feature = "ostree"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod common;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use bundle_format::{Digest, media_type};
use serde_json::{Value, json};
use tempfile::TempDir;

use common::archive::{Files, cpio, filter};
use common::chunked::{commit_of, object_path, objects};
use common::image::{Layer, bootable, bootable_with};
use common::loopfs::LoopFs;
use common::program::{Random, bundle, finish, output, scratch, start};
use common::registry::{Layout, Registry};
use common::reseal;
use common::signer::{REFERENCE, Signer};
use common::small::{image, image_with, noise};
use common::target::Target;

/// Status of a release that has no way to this host.
const MISSING_BASE: i32 = 14;

/// Three releases that differ a little, in a layout.
struct Releases {
    layout: Layout,
    signer: Signer,
    work: TempDir,
}

/// Returns bytes that compress as a program's do, with a few of them changed for each release.
fn program(seed: &str, release: usize, length: usize) -> Vec<u8> {
    let mut bytes = noise(seed, length);
    for at in (0..length).step_by(1000) {
        bytes[at] = bytes[at].wrapping_add(release as u8);
    }
    bytes
}

impl Releases {
    fn new() -> Self {
        let mut layout = Layout::new();
        let shared = Layer::new().dir("usr/").dir("usr/shared/");
        let shared = shared.entry(
            b'0',
            "usr/shared/data",
            "",
            0o644,
            &noise("shared", 300_000),
        );
        let shared = shared.tar();
        for release in 1..=3 {
            let version = release.to_string();
            let mut own = bootable(Layer::new(), &version)
                .file("etc/release.conf", &version)
                .dir("usr/own/");
            for number in 0..20 {
                let content = program(&format!("own {number}"), release, 60_000);
                own = own.entry(
                    b'0',
                    &format!("usr/own/{number}-1.{release}"),
                    "",
                    0o755,
                    &content,
                );
            }
            // Unchanged, at the same place and at another.
            own = own.entry(b'0', "usr/own/same", "", 0o644, &noise("same", 50_000));
            let moved = format!("usr/own/moved-{}", noise(&version, 3)[0]);
            own = own.entry(b'0', &moved, "", 0o644, &noise("moved", 50_000));
            image(&mut layout, &version, "amd64", &[shared.clone(), own.tar()]);
        }
        Self {
            layout,
            signer: Signer::new("appliance"),
            work: scratch(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn source(&self, version: &str) -> String {
        format!("oci:{}:{version}", self.layout.path().display())
    }

    fn export(&self, version: &str, name: &str, options: &[&str]) -> Command {
        let path = self.path(name);
        let mut command =
            self.signer
                .export(&self.source(version), &path, version.parse().unwrap());
        command.args(["--version", version, "--reference", REFERENCE]);
        command.args(options);
        command
    }

    /// Exports release 2 with a delta from release 1, and release 1 by itself; deploys the latter.
    fn deployed(&self, options: &[&str]) -> Target {
        finish(&mut self.export("1", "one", &[])).ok();
        let from = self.source("1");
        let options = [&["--from", &from], options].concat();
        finish(&mut self.export("2", "two", &options)).ok();
        let target = Target::new();
        finish(&mut target.apply(&self.path("one"), &self.signer)).ok();
        target
    }

    fn plan(&self, target: &Target, name: &str) -> Command {
        let mut command = bundle(["--json", "plan"]);
        command
            .arg(self.path(name))
            .arg("--sysroot")
            .arg(target.path());
        command.arg("--trust-root").arg(self.signer.root());
        command
    }
}

fn roads(report: &Value) -> Vec<&str> {
    let layers = report["layers"].as_array().unwrap();
    layers
        .iter()
        .map(|layer| layer["road"].as_str().unwrap_or("none"))
        .collect()
}

fn contains(report: &Value, text: &str) -> bool {
    report.to_string().contains(text)
}

#[test]
fn privileged_a_delta_alone_brings_the_signed_image() {
    let releases = Releases::new();
    let target = releases.deployed(&["--delta-only"]);
    let two = releases.path("two");

    let inspected = finish(bundle(["--json", "inspect"]).arg(&two)).ok().json();
    let delta = &inspected["deltas"][0];
    assert!(
        delta["read"].as_u64().unwrap() * 4 < delta["full"].as_u64().unwrap(),
        "{delta}"
    );
    assert_eq!(
        (&delta["layers_rebuilt"], &delta["layers_reused"]),
        (&json!(1), &json!(1))
    );
    assert_eq!(inspected["omitted"].as_array().unwrap().len(), 2);

    let mut verify = releases.signer.verify(&two);
    verify
        .arg("--against-host")
        .arg("--sysroot")
        .arg(target.path());
    let verified = finish(&mut verify).ok().json();
    assert_eq!(roads(&verified), ["present", "delta"]);
    let planned = finish(&mut releases.plan(&target, "two")).ok().json();
    assert_eq!(roads(&planned), ["present", "delta"]);
    assert_eq!(planned["read"], delta["read"]);

    let applied = finish(&mut target.apply(&two, &releases.signer))
        .ok()
        .json();
    assert_eq!(roads(&applied), ["present", "delta"]);
    assert_eq!(applied["warnings"], json!([]));
    let signed = output("skopeo", ["inspect", "--raw", &releases.source("2")]);
    let digest = Digest::of(signed.as_bytes()).to_string();
    assert_eq!(applied["deployment"]["manifest_digest"], json!(digest));
    assert_eq!(target.versions(), ["2", "1"]);
    target.check();
    let deployed = &target.deployments()[0];
    for number in 0..20 {
        let content = fs::read(deployed.join(format!("usr/own/{number}-1.2"))).unwrap();
        assert!(
            content == program(&format!("own {number}"), 2, 60_000),
            "{number}"
        );
    }

    // Layers read in full give the same commits.
    let other = Target::new();
    finish(&mut releases.export("2", "full", &[])).ok();
    finish(&mut other.apply(&releases.path("full"), &releases.signer)).ok();
    let layers = |target: &Target| -> BTreeSet<(String, String)> {
        let refs = target
            .path()
            .join("ostree/repo/refs/heads/ostree/container/blob");
        let named = walk(&refs).into_iter().map(|path| {
            let name = path.strip_prefix(&refs).unwrap().display().to_string();
            (name, fs::read_to_string(&path).unwrap())
        });
        named.collect()
    };
    assert_eq!(layers(&other).len(), 2);
    assert!(layers(&other).is_subset(&layers(&target)));
}

#[test]
fn privileged_bases_of_every_kind_compete() {
    let releases = Releases::new();
    let registry = Registry::plain();
    for version in ["1", "2"] {
        let to = format!("{}/os/appliance:{version}", registry.host());
        releases
            .layout
            .push(version, &to, &["--dest-tls-verify=false"]);
    }
    finish(&mut releases.export("1", "one", &[])).ok();
    let one = releases.path("one").display().to_string();
    let two = format!("docker://{}/os/appliance:2", registry.host());
    finish(&mut releases.export("3", "three", &["--from", &one, "--from", &two])).ok();
    let inspected = bundle(["--json", "inspect"])
        .arg(releases.path("three"))
        .output()
        .unwrap();
    let inspected: Value = serde_json::from_slice(&inspected.stdout).unwrap();
    assert_eq!(inspected["deltas"].as_array().unwrap().len(), 2);
    assert_eq!(inspected["omitted"], json!([]));

    // Two exports are one, and stock tools read the image in it.
    finish(&mut releases.export("3", "again", &["--from", &one, "--from", &two])).ok();
    output(
        "diff",
        [
            "-r".as_ref(),
            releases.path("three").as_os_str(),
            releases.path("again").as_os_str(),
        ],
    );
    let copied = format!("oci:{}:3", releases.path("copied").display());
    let carried = format!("oci:{}:3", releases.path("three").display());
    output("skopeo", ["copy", "--quiet", &carried, &copied]);

    // A host that has either base takes a delta, and one that has none the full layers.
    let target = Target::new();
    let applied = finish(&mut target.apply(&releases.path("three"), &releases.signer)).ok();
    assert_eq!(roads(&applied.json()), ["full", "full"]);
    let target = Target::new();
    finish(&mut target.apply(&releases.path("one"), &releases.signer)).ok();
    // What the host writes tells which image it has: a receipt.
    let status = target.status();
    fs::write(releases.path("receipt.json"), status.to_string()).unwrap();
    let applied = finish(&mut target.apply(&releases.path("three"), &releases.signer)).ok();
    assert_eq!(roads(&applied.json()), ["present", "delta"]);
    target.check();

    // The receipt names the registry that the release came from, which is not there.
    let receipt = releases.path("receipt.json").display().to_string();
    let done = finish(&mut releases.export("3", "receipt", &["--from", &receipt]));
    assert_eq!(done.status, Some(18), "{}", done.stderr);
    assert!(done.stderr.contains("registry.example"), "{}", done.stderr);
}

#[test]
fn wrong_bases_are_refused_before_anything_is_made() {
    let mut releases = Releases::new();
    image(
        &mut releases.layout,
        "arm",
        "arm64",
        &[Layer::new().file("usr", "x").tar()],
    );
    finish(&mut releases.export("1", "one", &[])).ok();
    let stranger = Signer::new("appliance");
    stranger.export_layout(releases.layout.path(), "1", &releases.path("stranger"), 1);
    fs::write(releases.path("text.json"), "{}").unwrap();
    let path = |name: &str| releases.path(name).display().to_string();
    for (base, status, word) in [
        (releases.source("2"), 2, "is the image that is exported"),
        (releases.source("9"), 1, "fit 9"),
        (releases.source("arm"), 14, "arm64"),
        (path("stranger"), 11, "stranger"),
        (path("text.json"), 2, "no receipt"),
        (path("nowhere"), 1, "nowhere"),
    ] {
        let done = finish(&mut releases.export("2", "two", &["--from", &base]));
        assert_eq!(done.status, Some(status), "{base}: {}", done.stderr);
        assert!(done.stderr.contains(word), "{base}: {}", done.stderr);
        assert!(!releases.path("two").exists());
    }
    let done = finish(&mut releases.export("2", "two", &["--delta-only"]));
    assert_eq!(done.status, Some(2), "{}", done.stderr);
    let tiny = ["--from", &releases.source("1"), "--target-ram", "1MiB"];
    finish(&mut releases.export("2", "two", &tiny)).fails(2);
}

#[test]
fn privileged_a_host_without_the_base_is_told_which_bundle_to_ask_for() {
    let releases = Releases::new();
    let target = releases.deployed(&["--delta-only"]);
    let empty = Target::new();
    let before = output(
        "ostree",
        [
            "refs",
            &format!("--repo={}/ostree/repo", empty.path().display()),
        ],
    );
    let planned = finish(&mut releases.plan(&empty, "two")).fails(MISSING_BASE);
    assert_eq!(planned.json()["possible"], json!(false));
    let done =
        finish(&mut empty.apply(&releases.path("two"), &releases.signer)).fails(MISSING_BASE);
    assert!(done.stderr.contains("--from"), "{}", done.stderr);
    assert!(contains(&done.json(), "missing-base"), "{}", done.stdout);
    let after = output(
        "ostree",
        [
            "refs",
            &format!("--repo={}/ostree/repo", empty.path().display()),
        ],
    );
    assert_eq!(before, after);

    // Memory that is not allowed closes the road as well.
    let mut tight = target.apply(&releases.path("two"), &releases.signer);
    let done = finish(tight.args(["--memory", "1MiB"])).fails(MISSING_BASE);
    assert!(done.stderr.contains("memory"), "{}", done.stderr);
    assert_eq!(target.versions(), ["1"]);
}

/// Changes one byte of the object that holds `content`; the deployment's own link keeps its bytes.
fn damage(target: &Target, content: &[u8]) -> PathBuf {
    let objects = target.path().join("ostree/repo/objects");
    let found = walk(&objects).into_iter().find(|path| {
        path.extension()
            .is_some_and(|extension| extension == "file")
            && fs::read(path).is_ok_and(|bytes| bytes == content)
    });
    let object = found.unwrap();
    let mut bytes = content.to_vec();
    bytes[content.len() / 2] ^= 1;
    fs::remove_file(&object).unwrap();
    fs::write(&object, bytes).unwrap();
    object
}

fn walk(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        match path.symlink_metadata().unwrap().is_dir() {
            true => found.extend(walk(&path)),
            false => found.push(path),
        }
    }
    found
}

#[test]
fn privileged_a_damaged_old_file_is_reported_and_routed_around() {
    let releases = Releases::new();
    let target = releases.deployed(&[]);
    damage(&target, &program("own 7", 1, 60_000));
    let same = damage(&target, &noise("same", 50_000));
    let planned = finish(&mut releases.plan(&target, "two")).ok().json();
    assert_eq!(roads(&planned), ["present", "full"]);
    assert_eq!(planned["damaged"].as_array().unwrap().len(), 2, "{planned}");
    let applied = finish(&mut target.apply(&releases.path("two"), &releases.signer))
        .ok()
        .json();
    assert_eq!(roads(&applied), ["present", "full"]);
    assert!(contains(&applied["warnings"], "damaged"), "{applied}");
    // What the new release has as well was written anew.
    assert!(fs::read(&same).unwrap() == noise("same", 50_000));
    assert_eq!(target.versions(), ["2", "1"]);

    // Without the full layer there is no way.
    let target = releases_with_delta_only(&releases);
    damage(&target, &program("own 7", 1, 60_000));
    finish(&mut target.apply(&releases.path("only"), &releases.signer)).fails(MISSING_BASE);
    assert_eq!(target.versions(), ["1"]);
}

fn releases_with_delta_only(releases: &Releases) -> Target {
    let from = releases.source("1");
    let options = ["--from", &from, "--delta-only"];
    finish(&mut releases.export("2", "only", &options)).ok();
    let target = Target::new();
    finish(&mut target.apply(&releases.path("one"), &releases.signer)).ok();
    target
}

/// Returns the layer delta of a bundle.
fn delta_blob(bundle: &Path) -> Vec<u8> {
    let mut found = walk(&bundle.join("blobs")).into_iter().filter_map(|path| {
        let bytes = fs::read(path).unwrap();
        bytes.starts_with(b"bndlDLT1").then_some(bytes)
    });
    found.next().unwrap()
}

/// Replaces the layer delta of a bundle by other bytes and signs it again, as a signer would who was fooled.
fn replace_delta(releases: &Releases, bundle: &Path, edit: impl FnOnce(Vec<u8>) -> Vec<u8>) {
    let index: Value =
        serde_json::from_slice(&fs::read(bundle.join("index.json")).unwrap()).unwrap();
    let artifact = index["manifests"]
        .as_array()
        .unwrap()
        .iter()
        .find(|entry| entry["artifactType"] == json!(media_type::OCI_DELTA));
    let old: Digest = artifact.unwrap()["digest"]
        .as_str()
        .unwrap()
        .parse()
        .unwrap();
    let mut manifest: Value =
        serde_json::from_slice(&fs::read(bundle.join(old.blob_path())).unwrap()).unwrap();
    let layer = manifest["layers"].as_array_mut().unwrap().iter_mut();
    let layer = layer
        .into_iter()
        .find(|layer| layer["mediaType"] == json!(media_type::LAYER_DELTA))
        .unwrap();
    let was: Digest = layer["digest"].as_str().unwrap().parse().unwrap();
    let bytes = edit(fs::read(bundle.join(was.blob_path())).unwrap());
    let blob = reseal::put(bundle, &bytes);
    layer["digest"] = json!(blob.digest);
    layer["size"] = json!(blob.size);
    let document = reseal::put(bundle, manifest.to_string().as_bytes());
    for gone in [was, old] {
        fs::remove_file(bundle.join(gone.blob_path())).unwrap();
    }
    let key =
        bundle_keys::PrivateKey::from_pem(&fs::read_to_string(releases.signer.key()).unwrap());
    reseal::edit_release(bundle, key.unwrap(), |release| {
        for (from, to) in [(was, blob), (old, document)] {
            for entry in &mut release.blobs {
                if entry.digest == from {
                    *entry = to;
                }
            }
            for entry in &mut release.index {
                if entry.digest == from {
                    entry.digest = to.digest;
                    entry.size = to.size;
                }
            }
        }
    });
}

#[test]
fn privileged_a_delta_that_lies_changes_nothing() {
    let releases = Releases::new();
    let target = releases.deployed(&[]);
    let last = |mut bytes: Vec<u8>| {
        let end = bytes.len() - 40;
        bytes[end] ^= 1;
        bytes
    };
    // A good delta, for another release.
    let from = releases.source("1");
    finish(&mut releases.export("3", "three", &["--from", &from])).ok();
    let other = delta_blob(&releases.path("three"));
    let other = move |_| other.clone();
    type Edit<'a> = &'a dyn Fn(Vec<u8>) -> Vec<u8>;
    let cases: [(&str, Edit<'_>, bool); 5] = [
        ("damaged in its streams", &last, true),
        ("cut", &|bytes| bytes[..bytes.len() / 2].to_vec(), true),
        ("no delta", &|_| b"no delta at all".to_vec(), false),
        (
            "data behind",
            &|bytes| [bytes, b"x".to_vec()].concat(),
            true,
        ),
        ("for another layer", &other, false),
    ];
    for (what, edit, planned) in cases {
        for only in [true, false] {
            let bundle = releases.path("lie");
            let name = if only { "only" } else { "two" };
            if only {
                drop(releases_with_delta_only(&releases));
            }
            output(
                "cp",
                [
                    "-r".as_ref(),
                    releases.path(name).as_os_str(),
                    bundle.as_os_str(),
                ],
            );
            replace_delta(&releases, &bundle, edit);
            finish(&mut releases.signer.verify(&bundle)).ok();
            let plan = finish(&mut releases.plan(&target, "lie"));
            let expected = if planned || !only { 0 } else { MISSING_BASE };
            assert_eq!(plan.status, Some(expected), "{what}: {}", plan.stderr);
            let host = Target::new();
            finish(&mut host.apply(&releases.path("one"), &releases.signer)).ok();
            let done = finish(&mut host.apply(&bundle, &releases.signer));
            if only {
                assert_ne!(done.status, Some(0), "{what}");
                assert_eq!(host.versions(), ["1"], "{what}");
            } else {
                // The full layer is the next road.
                let report = done.ok().json();
                assert_eq!(roads(&report), ["present", "full"], "{what}");
                assert_eq!(host.versions(), ["2", "1"], "{what}");
                assert_eq!(
                    planned,
                    contains(&report["warnings"], "read in full"),
                    "{what}: {report}"
                );
            }
            host.check();
            fs::remove_dir_all(&bundle).unwrap();
            if only {
                fs::remove_dir_all(releases.path("only")).unwrap();
            }
        }
    }
}

#[test]
fn privileged_killed_at_any_moment_a_rebuild_publishes_nothing() {
    let releases = Releases::new();
    let first = releases.deployed(&["--delta-only"]);
    let whole = finish(&mut first.apply(&releases.path("two"), &releases.signer))
        .ok()
        .elapsed;
    let mut random = Random::new();
    for _ in 0..20 {
        let target = Target::new();
        finish(&mut target.apply(&releases.path("one"), &releases.signer)).ok();
        let running = start(&mut target.apply(&releases.path("two"), &releases.signer));
        std::thread::sleep(random.part(whole));
        running.kill();
        target.check();
        let versions = target.versions();
        assert!(versions == ["1"] || versions == ["2", "1"], "{versions:?}");
        finish(&mut target.apply(&releases.path("two"), &releases.signer)).ok();
        assert_eq!(target.versions(), ["2", "1"]);
    }
}

#[test]
fn what_is_left_out_has_to_be_named_and_said() {
    let releases = Releases::new();
    let from = releases.source("1");
    finish(&mut releases.export("2", "two", &["--from", &from, "--delta-only"])).ok();
    let two = releases.path("two");
    finish(&mut releases.signer.verify(&two)).ok();
    let key = || {
        let pem = fs::read_to_string(releases.signer.key()).unwrap();
        bundle_keys::PrivateKey::from_pem(&pem).unwrap()
    };
    // Something that no manifest names.
    let strange = releases.path("strange");
    output("cp", ["-r".as_ref(), two.as_os_str(), strange.as_os_str()]);
    reseal::edit_release(&strange, key(), |release| {
        release.omitted.push(Digest::of(b"what"));
        release.omitted.sort();
    });
    let done = finish(&mut releases.signer.verify(&strange)).fails(12);
    assert!(
        contains(&done.json(), "no manifest names"),
        "{}",
        done.stdout
    );
    // A layer that is not there, and not said to be left out.
    let silent = releases.path("silent");
    output("cp", ["-r".as_ref(), two.as_os_str(), silent.as_os_str()]);
    reseal::edit_release(&silent, key(), |release| {
        release.omitted.pop();
    });
    let done = finish(&mut releases.signer.verify(&silent)).fails(12);
    assert!(contains(&done.json(), "is not there"), "{}", done.stdout);
}

#[test]
fn an_export_that_was_killed_goes_on_and_ends_the_same() {
    let releases = Releases::new();
    let from = releases.source("1");
    let whole = finish(&mut releases.export("2", "whole", &["--from", &from]))
        .ok()
        .elapsed;
    let mut random = Random::new();
    let mut killed = 0;
    for _ in 0..15 {
        let running = start(&mut releases.export("2", "two", &["--from", &from]));
        std::thread::sleep(random.part(whole));
        killed += usize::from(running.kill());
        let two = releases.path("two");
        if two.exists() {
            fs::remove_dir_all(&two).unwrap();
        }
    }
    assert!(killed > 3, "{killed} of 15 were killed");
    // What was noted and is damaged since is made again.
    let partial = releases.path("two.partial");
    let blobs = partial.join("blobs/sha256");
    for blob in blobs.read_dir().into_iter().flatten() {
        let path = blob.unwrap().path();
        let mut bytes = fs::read(&path).unwrap();
        if let Some(last) = bytes.last_mut() {
            *last ^= 1;
        }
        fs::write(&path, bytes).unwrap();
    }
    let mut resumed = finish(&mut releases.export("2", "two", &["--from", &from]));
    if resumed.status != Some(0) {
        assert!(
            resumed.stderr.contains("run this again"),
            "{}",
            resumed.stderr
        );
        resumed = finish(&mut releases.export("2", "two", &["--from", &from]));
    }
    resumed.ok();
    let (whole, two) = (releases.path("whole"), releases.path("two"));
    output("diff", ["-r".as_ref(), whole.as_os_str(), two.as_os_str()]);
    assert!(!partial.exists());
}

#[test]
fn privileged_a_full_disk_ends_an_export_with_its_name() {
    let releases = Releases::new();
    let small = LoopFs::new(4);
    let from = releases.source("1");
    let mut export = releases.export("2", "two", &["--from", &from]);
    let done = finish(export.env("TMPDIR", small.path())).fails(17);
    assert!(
        done.stderr.contains(&small.path().display().to_string()),
        "{}",
        done.stderr
    );
    assert!(!releases.path("two").exists());
    assert_eq!(
        fs::read_dir(small.path())
            .unwrap()
            .filter(|entry| { entry.as_ref().unwrap().file_name() != "lost+found" })
            .count(),
        0
    );
}

#[test]
fn privileged_tar_diff_is_written_and_read() {
    let releases = Releases::new();
    let target = releases.deployed(&["--delta-only", "--delta-format", "tar-diff"]);
    let applied = finish(&mut target.apply(&releases.path("two"), &releases.signer))
        .ok()
        .json();
    assert_eq!(roads(&applied), ["present", "delta"]);
    target.check();
    let empty = Target::new();
    finish(&mut empty.apply(&releases.path("two"), &releases.signer)).fails(MISSING_BASE);
    // A file that it names by path alone is checked as well.
    let target = Target::new();
    finish(&mut target.apply(&releases.path("one"), &releases.signer)).ok();
    damage(&target, &program("own 3", 1, 60_000));
    finish(&mut target.apply(&releases.path("two"), &releases.signer)).fails(MISSING_BASE);
}

#[test]
fn deltas_by_themselves_make_the_same_layers() {
    let releases = Releases::new();
    for format in ["bundle", "tar-diff"] {
        let file = releases.path("delta.tar");
        let out = releases.path("image");
        let (old, new) = (releases.source("1"), releases.source("2"));
        let mut create = bundle([
            "--json",
            "delta",
            "create",
            &old,
            &new,
            "--delta-format",
            format,
        ]);
        let created = finish(create.arg("-o").arg(&file)).ok().json();
        assert_eq!(created["artifacts"].as_array().unwrap().len(), 1);
        let shown = finish(bundle(["--json", "delta", "show", "--base", &old]).arg(&file))
            .ok()
            .json();
        let delta = &shown["deltas"][0];
        assert_eq!(shown["deltas"].as_array().unwrap().len(), 1);
        if format == "bundle" {
            let sum = |list: &Value, member: &str| -> u64 {
                let list = list.as_array().unwrap().iter();
                list.map(|share| share[member].as_u64().unwrap()).sum()
            };
            assert_eq!(
                sum(&delta["files"], "made"),
                delta["target_size"].as_u64().unwrap()
            );
            assert_eq!(
                sum(&delta["operations"], "made"),
                delta["target_size"].as_u64().unwrap()
            );
        }
        let apply = |base: &str, options: &[&str]| {
            let mut command = bundle(["--json", "delta", "apply", "--base", base]);
            command.arg(&file).arg("-o").arg(&out).args(options);
            finish(&mut command)
        };
        let applied = apply(&old, &[]).ok().json();
        let config = |source: &str| output("skopeo", ["inspect", "--config", "--raw", source]);
        let written = format!("oci:{}:latest", out.display());
        assert_eq!(config(&written), config(&new), "{format}");
        assert_eq!(applied["layers_rebuilt"], json!(1));
        fs::remove_dir_all(&out).unwrap();
        for (base, options) in [
            (&releases.source("3"), &[][..]),
            (&old, &["--digest", &Digest::of(b"another").to_string()]),
        ] {
            assert_eq!(apply(base, options).status, Some(1), "{base}");
            assert!(!out.exists());
        }
        fs::remove_file(&file).unwrap();
    }
}

/// A chunked release: programs in one chunk, and in the chunk before it an initramfs that holds them as well.
fn chunked_release(layout: &mut Layout, release: usize) {
    let programs: Files = (0..8)
        .map(|number| {
            let content = program(&format!("program {number}"), release, 300_000);
            (format!("usr/bin/program-{number}"), content)
        })
        .collect();
    let options = ["--check=crc32", "--lzma2=dict=1MiB", "-c"];
    let initramfs = filter("xz", &options, &cpio(&programs));
    let version = release.to_string();
    let mut tree = bootable_with(Layer::new().dir("./"), &version, "usr/etc").dir("usr/bin/");
    for (path, content) in &programs {
        tree = tree.entry(b'0', path, "", 0o755, content);
    }
    let tree = tree.file("usr/etc/release.conf", &version).entry(
        b'0',
        "usr/lib/initrd.img",
        "",
        0o644,
        &initramfs,
    );
    let (repo, commit) = commit_of(&tree.tar());
    let name = |path: &str| {
        let listed = repo.ostree(&["ls", "-C", &commit, path]);
        listed.split_whitespace().nth(4).unwrap().to_owned()
    };
    let large = name("/usr/lib/initrd.img");
    let objects = objects(&repo, &commit);
    let (mut first, mut second) = (Layer::new(), Layer::new());
    for (object, add) in &objects.content {
        match *object == large {
            true => {
                first = add(first).hardlink("usr/lib/initrd.img", &object_path(object, "file"));
            }
            false => second = add(second),
        }
    }
    for (path, _) in &programs {
        let object = name(&format!("/{path}"));
        second = second.hardlink(path, &object_path(&object, "file"));
    }
    let layers = [objects.metadata.tar(), first.tar(), second.tar()];
    let last = Digest::of(&layers[2]).to_string();
    let labels = [("ostree.final-diffid", last.as_str())];
    image_with(layout, &version, "amd64", &layers, &labels);
}

#[test]
fn privileged_chunks_are_rebuilt_in_the_order_that_they_need() {
    let mut releases = Releases::new();
    releases.layout = Layout::new();
    for release in [1, 2] {
        chunked_release(&mut releases.layout, release);
    }
    let target = releases.deployed(&["--delta-only"]);
    let two = releases.path("two");
    let inspected = finish(bundle(["--json", "inspect"]).arg(&two)).ok().json();
    let delta = &inspected["deltas"][0];
    // The initramfs costs next to nothing beside the programs that it holds.
    let read = delta["read"].as_u64().unwrap();
    assert!(read * 20 < delta["full"].as_u64().unwrap(), "{delta}");
    assert_eq!(delta["encoders"], json!(["xz 5.8"]));
    let applied = finish(&mut target.apply(&two, &releases.signer))
        .ok()
        .json();
    assert_eq!(roads(&applied), ["delta", "delta", "delta"]);
    target.check();

    // A host with too little memory for the encoder takes the layer in full, where it is there.
    let options = ["--from", &releases.source("1")];
    finish(&mut releases.export("2", "both", &options)).ok();
    let target = Target::new();
    finish(&mut target.apply(&releases.path("one"), &releases.signer)).ok();
    let mut tight = target.apply(&releases.path("both"), &releases.signer);
    let applied = finish(tight.args(["--memory", "50MiB"])).ok().json();
    assert_eq!(roads(&applied), ["delta", "full", "delta"], "{applied}");
    target.check();
}
