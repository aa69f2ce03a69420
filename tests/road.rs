//! The whole road with nothing faked: a registry at one end, an OSTree sysroot at the other, a real image between.

#![cfg(all(feature = "export", feature = "ostree"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod common;

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundle_format::{Digest, media_type};
use serde_json::{Value, json};
use tempfile::TempDir;

use common::program::{Steps, behind, bundle, finish, output, require_root, scratch, tool};
use common::registry::{Layout, Registry};
use common::signer::Signer;
use common::small::Small;
use common::target::{Target, unchanged};

const PRODUCT: &str = "demo-appliance";

/// Returns the layout with the releases 1.0.0 and 2.0.0.
fn real_image() -> PathBuf {
    let path = std::env::var_os("BUNDLE_TEST_IMAGE").map(PathBuf::from);
    let missing = || panic!("BUNDLE_TEST_IMAGE does not name the test image: run `make test`");
    let path = path.unwrap_or_else(missing);
    assert!(
        path.join("index.json").is_file(),
        "{} holds no image: run `make test`",
        path.display()
    );
    path
}

/// Everything the road leads through.
struct Road {
    image: PathBuf,
    work: TempDir,
    registry: Registry,
    signer: Signer,
}

impl Road {
    fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    fn repository(&self) -> String {
        format!("{}/os/appliance", self.registry.host())
    }

    /// Returns the digest of a release's manifest as skopeo computes it, from the source of everything.
    fn digest(&self, version: &str) -> Digest {
        let source = format!("oci:{}:{version}", self.image.display());
        Digest::of(output("skopeo", ["inspect", "--raw", &source]).as_bytes())
    }

    /// Pushes both releases, and for the second what others say about it.
    fn push(&self) -> (Digest, Digest) {
        for version in ["1.0.0", "2.0.0"] {
            let source = format!("oci:{}:{version}", self.image.display());
            let destination = format!("docker://{}:{version}", self.repository());
            let options = [
                "copy",
                "--quiet",
                "--preserve-digests",
                "--dest-tls-verify=false",
            ];
            output(
                "skopeo",
                options.into_iter().chain([source.as_str(), &destination]),
            );
        }
        let digest = self.digest("2.0.0");
        let manifest = self.image.join(digest.blob_path());
        let subject = json!({
            "mediaType": media_type::OCI_MANIFEST,
            "digest": digest,
            "size": fs::metadata(manifest).unwrap().len(),
        });
        let mut layout = Layout::new();
        let empty = layout.blob(media_type::OCI_EMPTY, b"{}");
        let text = layout.blob("application/spdx+json", br#"{"spdxVersion": "SPDX-2.3"}"#);
        let sbom = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "artifactType": "application/spdx+json",
            "config": empty,
            "layers": [text],
            "subject": subject,
        });
        let mut sbom = layout.manifest("sbom", media_type::OCI_MANIFEST, &sbom);
        let tag = format!("sha256-{}", digest.to_hex());
        let signature = layout.image(&format!("{tag}.sig"), &[b"a simple signing payload"]);
        for tag in ["sbom", &format!("{tag}.sig")] {
            let destination = format!("{}:{tag}", self.repository());
            layout.push(tag, &destination, &["--dest-tls-verify=false"]);
        }
        // This registry has no referrers interface, so clients keep the list under a tag.
        sbom.artifact_type = Some("application/spdx+json".into());
        let list =
            json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [sbom]});
        self.registry
            .put_manifest("os/appliance", &tag, media_type::OCI_INDEX, &list);
        (sbom.digest, signature.digest)
    }

    fn export(&self, version: &str, name: &str, sequence: u64) -> Value {
        let source = format!("docker://{}:{version}", self.repository());
        let mut command = self.signer.export(&source, &self.path(name), sequence);
        finish(command.args(["--product", PRODUCT])).ok().json()
    }
}

#[test]
fn privileged_from_a_registry_to_a_deployment_and_back() {
    require_root();
    let mut steps = Steps::new();
    steps.begin("push");
    let road = Road {
        image: real_image(),
        work: scratch(),
        registry: Registry::plain(),
        signer: Signer::new(PRODUCT),
    };
    let (sbom, signature) = road.push();

    steps.begin("export");
    let report = road.export("1.0.0", "one", 1);
    assert_eq!(
        report["version"], "1.0.0",
        "the image's label gives the version"
    );
    let report = road.export("2.0.0", "two", 2);
    assert_eq!(report["referrers"], 2);
    assert_eq!(report["image"], road.digest("2.0.0").to_string());
    exports_are_deterministic(&road);
    referrers_come_along(&road, sbom, signature);

    steps.begin("skopeo and openssl");
    skopeo_reads_the_bundle(&road);
    openssl_checks_the_signature(&road);

    steps.begin("verify without network");
    for name in ["one", "two", "two.tar"] {
        let report = finish(&mut behind(
            &["unshare", "-n"],
            &road.signer.verify(&road.path(name)),
        ))
        .ok();
        assert_eq!(report.json()["verified"], true);
    }

    steps.begin("apply 1.0.0");
    let target = Target::new();
    let applied = finish(&mut target.apply(&road.path("one"), &road.signer))
        .ok()
        .json();
    assert_eq!(counts(&applied), (true, 2, 0), "{applied}");
    target.check();
    let first = target.deployments().remove(0);
    let etc = |root: &Path, name: &str| fs::read_to_string(root.join("etc").join(name)).unwrap();
    assert_eq!(
        etc(&first, "appliance.conf"),
        "release = 1.0.0\ninterval = 10\n"
    );
    // What the owner of the host changes stays; /var stays whoever changed it.
    fs::write(first.join("etc/hostname"), "renamed\n").unwrap();
    fs::write(target.stateroot().join("var/data"), "precious\n").unwrap();

    steps.begin("apply 2.0.0, the shared layer unreadable");
    let second_target = Target::new();
    second_target.become_copy_of(&target);
    layers_that_are_there_are_not_read(&road, &second_target);

    steps.begin("apply 2.0.0");
    let applied = finish(&mut target.apply(&road.path("two"), &road.signer))
        .ok()
        .json();
    assert_eq!(counts(&applied), (true, 1, 1), "{applied}");
    target.check();
    let second = target.deployments().remove(0);
    steps.begin("compare with the layers");
    is_the_union_of_its_layers(&road, "2.0.0", &second);
    entries_are_right(&second);
    assert_eq!(
        etc(&second, "appliance.conf"),
        "release = 2.0.0\ninterval = 20\n"
    );
    assert_eq!(etc(&second, "hostname"), "renamed\n");
    assert_eq!(
        fs::read_to_string(target.stateroot().join("var/data")).unwrap(),
        "precious\n"
    );
    records_are_right(&road, &target);

    steps.begin("apply again, roll back twice, refuse 1.0.0");
    let before = everything(target.path());
    let applied = finish(&mut target.apply(&road.path("two.tar"), &road.signer))
        .ok()
        .json();
    assert_eq!(counts(&applied), (false, 0, 2), "{applied}");
    let changed: Vec<_> = everything(target.path())
        .difference(&before)
        .cloned()
        .collect();
    assert!(changed.is_empty(), "{changed:?}");
    let older = || finish(&mut target.apply(&road.path("one"), &road.signer));
    unchanged(&target, 13, older);
    for expected in [["1.0.0", "2.0.0"], ["2.0.0", "1.0.0"]] {
        let report = finish(&mut target.rollback()).ok().json();
        assert_eq!(report["deployment"]["version"], expected[0]);
        assert_eq!(target.versions(), expected);
        target.check();
    }
    unchanged(&target, 13, older);
    // The stock tool is at home here, too.
    let text = finish(&mut target.admin(&["status"])).ok().stdout;
    assert!(
        text.contains("Version: 2.0.0") && text.contains("Version: 1.0.0"),
        "{text}"
    );
}

/// Returns what an apply reports: changed, layers read, layers that were there.
fn counts(report: &Value) -> (bool, u64, u64) {
    let count = |key: &str| report[key].as_u64().unwrap();
    (
        report["changed"].as_bool().unwrap(),
        count("layers_imported"),
        count("layers_reused"),
    )
}

fn exports_are_deterministic(road: &Road) {
    for name in ["two again", "two.tar", "again.tar"] {
        road.export("2.0.0", name, 2);
    }
    let same = |tool: &str, options: &[&str], one: &str, other: &str| {
        let (one, other) = (road.path(one), road.path(other));
        let options = options.iter().map(AsRef::as_ref);
        output(tool, options.chain([one.as_os_str(), other.as_os_str()]));
    };
    same("diff", &["-r"], "two", "two again");
    same("cmp", &[], "two.tar", "again.tar");
    let left = fs::read_dir(road.work.path()).unwrap();
    let left: Vec<_> = left.map(|item| item.unwrap().file_name()).collect();
    assert!(
        !left
            .iter()
            .any(|name| name.to_string_lossy().contains("partial")),
        "{left:?}"
    );
}

fn referrers_come_along(road: &Road, sbom: Digest, signature: Digest) {
    let report = finish(bundle(["--json", "inspect"]).arg(road.path("two")))
        .ok()
        .json();
    let contents = report["contents"].as_array().unwrap();
    let find = |digest: Digest| {
        let digest = digest.to_string();
        contents
            .iter()
            .find(|item| item["digest"] == digest)
            .unwrap()
    };
    assert_eq!(find(sbom)["artifact_type"], "application/spdx+json");
    let tag = format!("sha256-{}.sig", road.digest("2.0.0").to_hex());
    assert_eq!(find(signature)["tag"], tag);
    // What they consist of is there, under the names that stock tools ask for.
    let manifest = fs::read(road.path("two").join(sbom.blob_path())).unwrap();
    assert_eq!(Digest::of(&manifest), sbom);
    let text = Digest::of(br#"{"spdxVersion": "SPDX-2.3"}"#);
    assert!(road.path("two").join(text.blob_path()).is_file());
    let source = format!("oci:{}:{tag}", road.path("two").display());
    let raw = output("skopeo", ["inspect", "--raw", &source]);
    assert_eq!(Digest::of(raw.as_bytes()), signature);
}

fn skopeo_reads_the_bundle(road: &Road) {
    for (name, version) in [("one", "1.0.0"), ("two", "2.0.0")] {
        let source = format!("oci:{}:{version}", road.path(name).display());
        let report: Value = serde_json::from_str(&output("skopeo", ["inspect", &source])).unwrap();
        assert_eq!(report["Digest"], road.digest(version).to_string());
        assert_eq!(
            report["Labels"]["org.opencontainers.image.version"],
            version
        );
        let copy = road.path(&format!("copy of {name}"));
        let destination = format!("oci:{}:{version}", copy.display());
        output(
            "skopeo",
            [
                "copy",
                "--quiet",
                "--preserve-digests",
                &source,
                &destination,
            ],
        );
        let raw = output("skopeo", ["inspect", "--raw", &destination]);
        assert_eq!(Digest::of(raw.as_bytes()), road.digest(version));
        fs::remove_dir_all(copy).unwrap();
    }
}

/// Follows the layout to the envelope and has openssl check what it signs, with nothing of this project's code.
fn openssl_checks_the_signature(road: &Road) {
    let read = |path: &str| -> Value {
        serde_json::from_slice(&fs::read(road.path("two").join(path)).unwrap()).unwrap()
    };
    let blob = |descriptor: &Value| {
        let digest = descriptor["digest"].as_str().unwrap();
        read(&format!("blobs/{}", digest.replace(':', "/")))
    };
    let index = read("index.json");
    let manifests = index["manifests"].as_array().unwrap();
    let release = manifests
        .iter()
        .find(|m| m["artifactType"] == media_type::RELEASE)
        .unwrap();
    let envelope = blob(&blob(release)["layers"][0]);
    let payload = STANDARD
        .decode(envelope["payload"].as_str().unwrap())
        .unwrap();
    let kind = envelope["payloadType"].as_str().unwrap();
    let head = format!("DSSEv1 {} {kind} {} ", kind.len(), payload.len());
    let signed = [head.as_bytes(), &payload].concat();
    let signature = STANDARD
        .decode(envelope["signatures"][0]["sig"].as_str().unwrap())
        .unwrap();
    let (message, sig) = (road.path("message"), road.path("signature"));
    fs::write(&sig, signature).unwrap();
    let check = |bytes: &[u8]| {
        fs::write(&message, bytes).unwrap();
        let mut openssl = tool(
            "openssl",
            ["pkeyutl", "-verify", "-rawin", "-pubin", "-inkey"],
        );
        openssl
            .arg(road.signer.public())
            .arg("-sigfile")
            .arg(&sig)
            .arg("-in")
            .arg(&message);
        finish(&mut openssl).status == Some(0)
    };
    assert!(check(&signed));
    assert!(!check(&[&signed[..], b" "].concat()));
    // And what was signed speaks of this image.
    let statement: Value = serde_json::from_slice(&payload).unwrap();
    assert!(
        statement
            .to_string()
            .contains(&road.digest("2.0.0").to_hex())
    );
}

/// Applies a copy of the second release whose largest layer, which the first has too, is nothing but zeros.
fn layers_that_are_there_are_not_read(road: &Road, target: &Target) {
    let damaged = road.path("damaged");
    output(
        "cp",
        [
            "-r".as_ref(),
            road.path("two").as_os_str(),
            damaged.as_os_str(),
        ],
    );
    let blobs = fs::read_dir(damaged.join("blobs/sha256")).unwrap();
    let largest = blobs
        .map(|blob| blob.unwrap())
        .max_by_key(|blob| blob.metadata().unwrap().len());
    let largest = largest.unwrap().path();
    let size = largest.metadata().unwrap().len();
    assert!(
        road.path("one/blobs/sha256")
            .join(largest.file_name().unwrap())
            .is_file()
    );
    File::create(&largest).unwrap().set_len(size).unwrap();
    let report = finish(&mut road.signer.verify(&damaged));
    assert_eq!(report.status, Some(12), "{}", report.stdout);
    let applied = finish(&mut target.apply(&damaged, &road.signer))
        .ok()
        .json();
    assert_eq!(counts(&applied), (true, 1, 1), "{applied}");
    target.check();
    // On a host that lacks the layer, the damage counts.
    let fresh = Target::new();
    unchanged(&fresh, 12, || {
        finish(&mut fresh.apply(&damaged, &road.signer))
    });
    fs::remove_dir_all(damaged).unwrap();
}

/// Compares a deployment with the image's layers as umoci puts them on top of each other.
fn is_the_union_of_its_layers(road: &Road, version: &str, deployment: &Path) {
    let source = format!("oci:{}:{version}", road.image.display());
    let raw = output("skopeo", ["inspect", "--raw", &source]);
    let manifest: Value = serde_json::from_str(&raw).unwrap();
    // umoci does not know zstd.
    let layers = manifest["layers"].as_array().unwrap().iter().map(|layer| {
        let digest = layer["digest"].as_str().unwrap().replace(':', "/");
        let path = road.image.join("blobs").join(digest);
        let zstd = layer["mediaType"].as_str().unwrap().ends_with("zstd");
        let mut unpack = tool(if zstd { "zstd" } else { "gzip" }, ["-dc"]);
        let done = unpack.arg(path).output().unwrap();
        assert!(done.status.success());
        done.stdout
    });
    let layers: Vec<_> = layers.collect();
    let mut layout = Layout::new();
    let layers: Vec<_> = layers.iter().map(Vec::as_slice).collect();
    layout.image("all", &layers);
    let unpacked = scratch();
    let source = format!("{}:all", layout.path().display());
    let tree = unpacked.path().join("bundle");
    output(
        "umoci",
        [
            "unpack".as_ref(),
            "--image".as_ref(),
            source.as_ref(),
            tree.as_os_str(),
        ],
    );

    let mut expected = BTreeMap::new();
    for (path, what) in listing(&tree.join("rootfs")) {
        // OSTree keeps an image's /etc where updates can tell it from the host's.
        let moved = match path.strip_prefix("etc") {
            Some(rest) if rest.is_empty() || rest.starts_with('/') => format!("usr/etc{rest}"),
            _ => path,
        };
        expected.insert(moved, what);
    }
    let mut found = listing(deployment);
    found.retain(|path, _| path != "etc" && !path.starts_with("etc/"));
    assert!(expected.len() > 3000, "{}", expected.len());
    for (path, what) in &expected {
        assert_eq!(found.get(path), Some(what), "{version}: {path}");
    }
    let more: Vec<_> = found
        .keys()
        .filter(|path| !expected.contains_key(*path))
        .collect();
    assert!(more.is_empty(), "{version}: {more:?}");
}

/// Describes everything below a directory but times: kind, mode, owner, target, content, extended attributes.
fn listing(root: &Path) -> BTreeMap<String, String> {
    let script = r"find . -mindepth 1 -printf '%P\0%y %m %U:%G %l\0'
        echo; find . -type f -print0 | xargs -0 sha256sum -z
        echo; getfattr -Rhd -m - -e hex --absolute-names .";
    let mut shell = tool("sh", ["-ec", script]);
    let printed = shell.current_dir(root).output().unwrap();
    assert!(
        printed.status.success(),
        "{}",
        String::from_utf8_lossy(&printed.stderr)
    );
    let printed = String::from_utf8(printed.stdout).unwrap();
    let mut parts = printed.splitn(3, '\n');
    let mut next = || parts.next().unwrap();
    let mut entries = BTreeMap::new();
    let mut words = next().split_terminator('\0');
    while let (Some(path), Some(what)) = (words.next(), words.next()) {
        entries.insert(path.to_owned(), what.to_owned());
    }
    let mut add = |path: &str, what: &str| {
        let path = path.strip_prefix("./").unwrap();
        entries
            .get_mut(path)
            .unwrap_or_else(|| panic!("{path}"))
            .push_str(what);
    };
    for line in next().split_terminator('\0') {
        let (sum, path) = line.split_once("  ").unwrap();
        add(path, sum);
    }
    for block in next()
        .split("\n\n")
        .filter(|block| !block.trim().is_empty())
    {
        let (path, attributes) = block.trim().split_once('\n').unwrap();
        let path = path.strip_prefix("# file: ").unwrap();
        if path != "." {
            add(path, attributes);
        }
    }
    entries
}

/// Looks at the entries that an importer can get wrong, so that a fault of both sides shows, too.
fn entries_are_right(root: &Path) {
    for gone in [
        "usr/etc/issue.net",
        "etc/issue.net",
        "usr/share/debianutils",
        "usr/share/dict",
    ] {
        assert!(!root.join(gone).exists(), "{gone}");
    }
    let left = fs::read_dir(root.join("usr/share/pam-configs")).unwrap();
    let left: Vec<_> = left.map(|item| item.unwrap().file_name()).collect();
    assert_eq!(left, ["appliance"]);
    let inode = |path: &str| fs::metadata(root.join(path)).unwrap().ino();
    assert_eq!(
        inode("usr/share/appliance/data-a"),
        inode("usr/share/appliance/data-b")
    );
    assert_eq!(
        inode("usr/etc/appliance.conf"),
        inode("usr/etc/appliance.conf.orig")
    );
    let mode = |path: &str| fs::metadata(root.join(path)).unwrap().mode() & 0o7777;
    assert_eq!(mode("usr/libexec/appliance/helper"), 0o4755);
    assert_eq!(mode("usr/etc/appliance.key"), 0o600);
    assert_eq!(mode("etc/appliance.key"), 0o600);
    let probe = root.join("usr/bin/appliance-probe");
    assert!(output("getcap", [&probe]).contains("cap_net_raw=ep"));
    assert!(root.join("usr/share/appliance/space and Ünïcode").is_file());
}

/// Checks what is recorded of both deployments.
fn records_are_right(road: &Road, target: &Target) {
    let status = target.status();
    let key = finish(bundle(["key", "show"]).arg(road.signer.public()))
        .ok()
        .stdout;
    let deployments = target.deployments();
    for (slot, version, sequence, root) in [
        ("pending", "2.0.0", 2, &deployments[0]),
        ("rollback", "1.0.0", 1, &deployments[1]),
    ] {
        let deployment = &status[slot];
        let digest = road.digest(version).to_string();
        assert_eq!(deployment["version"], version);
        assert_eq!(deployment["product"], PRODUCT);
        assert_eq!(deployment["sequence"], sequence);
        assert_eq!(deployment["manifest_digest"], digest);
        assert_eq!(deployment["signers"], json!([key.trim()]));
        let commit = deployment["commit"].as_str().unwrap();
        let option = "--print-metadata-key=ostree.manifest-digest";
        let recorded = finish(&mut target.ostree(&["show", option, commit]))
            .ok()
            .stdout;
        assert_eq!(recorded.trim(), format!("'{digest}'"));
        let option = "--print-metadata-key=ostree.manifest";
        let manifest = finish(&mut target.ostree(&["show", option, commit]))
            .ok()
            .stdout;
        let manifest = manifest.trim().trim_matches('\'').to_owned();
        assert_eq!(Digest::of(manifest.as_bytes()).to_string(), digest);
        // Each release says where it came from; the host goes on following the reference it began with.
        let source = format!("{}:{version}", road.repository());
        assert_eq!(deployment["source"], source);
        let image = format!("{}:1.0.0", road.repository());
        assert_eq!(deployment["follows"], image);
        let origin = fs::read_to_string(format!("{}.origin", root.display())).unwrap();
        let line = format!("container-image-reference=ostree-unverified-registry:{image}");
        assert!(origin.lines().any(|found| found == line), "{origin}");
        assert!(
            !origin.contains(&road.work.path().display().to_string()),
            "{origin}"
        );
    }
    assert_eq!(status["booted"], Value::Null);
    assert_eq!(status["staged"], Value::Null);
}

/// Lists every file below a directory with inode and times: what is the same was not touched.
fn everything(root: &Path) -> BTreeSet<String> {
    let mut find = tool("find", [root]);
    // Locking makes files in these two directories and removes them.
    find.args([
        "-not",
        "-path",
        "*/repo/tmp*",
        "-not",
        "-name",
        ".lock",
        "-not",
        "-path",
    ]);
    find.arg(root.join("ostree"))
        .args(["-printf", "%P %i %T@ %s %m\\n"]);
    let lines = finish(&mut find).ok().stdout;
    lines.lines().map(str::to_owned).collect()
}

#[test]
fn privileged_what_is_not_for_this_host_is_refused() {
    require_root();
    let (signer, other) = (Signer::new(PRODUCT), Signer::new("other-appliance"));
    let work = scratch();
    let mut layout = Layout::new();
    let foreign = if bundle::platform::Wanted::host().architecture == "s390x" {
        "amd64"
    } else {
        "s390x"
    };
    Small::TINY.release(&mut layout, "1");
    Small::TINY.release(&mut layout, "2");
    Small::TINY.release_for(&mut layout, "3", foreign);
    let path = |name: &str| work.path().join(name);
    signer.export_layout(layout.path(), "1", &path("1"), 1);
    other.export_layout(layout.path(), "2", &path("other"), 2);
    signer.export_layout(layout.path(), "3", &path("foreign"), 3);
    let target = Target::new();
    finish(&mut target.apply(&path("1"), &signer)).ok();

    let cases = [
        ("other", &signer, 11),
        ("other", &other, 0),
        ("foreign", &signer, 14),
    ];
    for (name, signer, status) in cases {
        let apply = || finish(&mut target.apply(&path(name), signer));
        match status {
            // For a host of that product it is a fine release.
            0 => drop(finish(&mut Target::new().apply(&path(name), signer)).ok()),
            _ => drop(unchanged(&target, status, apply)),
        }
    }
    // Another image under the sequence that the host has is an attempt to replace the release.
    signer.export_layout(layout.path(), "2", &path("twin"), 1);
    unchanged(&target, 13, || {
        finish(&mut target.apply(&path("twin"), &signer))
    });
    finish(&mut target.rollback()).fails(16);
}
