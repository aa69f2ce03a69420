//! Imports chunked ("ostree-native") images, built here from a commit that the `ostree` command made.

#![cfg(feature = "ostree")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

#[path = "common/chunked.rs"]
mod chunked;
#[path = "common/image.rs"]
mod image;
#[path = "common/ostree.rs"]
mod support;

use std::collections::BTreeMap;
use std::path::Path;

use bundle::ostree::{self as engine, ImageProblem, OstreeError, RejectReason};
use bundle_format::Digest;
use chunked::{commit_of, object_path, objects};
use image::{GZIP, Layer, Source};
use support::TestRepo;

/// The commit that images here encapsulate.
fn commit() -> (TestRepo, String) {
    let tar = Layer::new()
        .dir("./")
        .dir("usr/")
        .entry(b'5', "usr/private/", "", 0o700, b"")
        .file("usr/a", "a")
        .file("usr/copy-of-a", "a")
        .entry(b'0', "usr/sudo", "", 0o4755, b"sudo")
        .entry(b'0', "usr/empty", "", 0o644, b"")
        .pax("SCHILY.xattr.user.label", b"one")
        .file("usr/labelled", "x")
        .pax("SCHILY.xattr.user.label", b"one")
        .file("usr/labelled2", "y")
        .symlink("usr/link", "a")
        .file("usr/etc/conf", "conf")
        .entry(b'0', "usr/large", "", 0o644, &vec![3; 9 << 20])
        .tar();
    commit_of(&tar)
}

fn import(
    test: &TestRepo,
    layers: &[Layer],
    chunks: usize,
) -> (engine::Image, Result<engine::Imported, OstreeError>) {
    let mut source = Source::default();
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| image::layer(&mut source, GZIP, &layer.tar()))
        .collect();
    let last = layers[chunks - 1].diff_id.to_string();
    let image = image::image(layers, "1", &[("ostree.final-diffid", &last)]);
    let imported = engine::import(&test.repo, &image, &source, &(), &|| false);
    (image, imported)
}

#[test]
fn privileged_chunks_become_the_commit_they_were_made_of() {
    let (origin, base) = commit();
    for count in [1, 3] {
        let test = TestRepo::new();
        let layers = objects(&origin, &base).layers(count);
        let (image, imported) = import(&test, &layers, layers.len());
        let imported = imported.unwrap();
        assert_eq!(imported.layers_imported, count + 1);
        let list =
            |repo: &TestRepo, commit: &str| repo.ostree(&["ls", "-R", "-C", "-X", commit, "/"]);
        assert_eq!(list(&test, &imported.commit), list(&origin, &base));
        // The first layer's ref is the encapsulated commit itself, and the merged commit's parent.
        let first = test.ostree(&["rev-parse", &engine::layer_ref(&image.layers[0].digest)]);
        assert_eq!(first.trim(), base);
        let parent = test.ostree(&["rev-parse", &format!("{}^", imported.commit)]);
        assert_eq!(parent.trim(), base);
        // Other layers keep their objects by name.
        let chunk = engine::layer_ref(&image.layers[1].digest);
        for line in test.ostree(&["ls", "-C", &chunk, "/"]).lines().skip(1) {
            let (facts, name) = line.split_once(" /").unwrap();
            let name = name.split(" -> ").next().unwrap();
            assert!(facts.ends_with(name), "{line}");
        }
        test.ostree(&["fsck"]);
        let (_, again) = import(&test, &layers, layers.len());
        assert!(again.unwrap().already_present);
    }
}

#[test]
fn privileged_plain_layers_on_a_chunked_base() {
    let (origin, base) = commit();
    let objects = objects(&origin, &base);
    let test = TestRepo::new();
    let name = origin.ostree(&["ls", "-C", &base, "/usr/sudo"]);
    let name = name.split_whitespace().nth(4).unwrap().to_owned();
    let changed = object_path(&"5".repeat(64), "file");
    let derived = Layer::new()
        .file("usr/.wh.copy-of-a", "")
        .file("etc/added", "added")
        // A build changed an object in place and links to it.
        .file(&changed, "changed")
        .hardlink("usr/changed", &changed)
        .hardlink("usr/linked", &object_path(&name, "file"))
        .file("usr/private/secret", "secret");
    let layers = [objects.layers(1), vec![derived]].concat();
    let (_, imported) = import(&test, &layers, 2);
    let commit = imported.unwrap().commit;
    let cat = |path: &str| test.ostree(&["cat", &commit, path]);
    assert_eq!(cat("/usr/etc/added"), "added");
    assert_eq!(cat("/usr/etc/conf"), "conf");
    assert_eq!(cat("/usr/changed"), "changed");
    assert_eq!(cat("/usr/linked"), "sudo");
    let tree = test.ostree(&["ls", "-R", &commit, "/"]);
    assert!(
        !tree.contains("copy-of-a") && !tree.contains("sysroot"),
        "{tree}"
    );
    assert!(tree.contains("d00700 0 0      0 /usr/private"), "{tree}");
    test.ostree(&["fsck"]);
}

#[test]
fn privileged_plain_layers_get_the_labels_of_their_base() {
    let contexts = "/.* u:object_r:default_t:s0\n/usr/bin(/.*)? u:object_r:bin_t:s0\n";
    let tar = Layer::new()
        .dir("usr/")
        .file(
            "usr/etc/selinux/config",
            "SELINUX=enforcing\nSELINUXTYPE=targeted\n",
        )
        .file(
            "usr/etc/selinux/targeted/contexts/files/file_contexts",
            contexts,
        )
        .file("usr/etc/selinux/targeted/policy/policy.33", "policy")
        .tar();
    let (origin, base) = commit_of(&tar);
    let derived = Layer::new()
        .dir("usr/bin/")
        .file("usr/bin/tool", "tool")
        .file("opt/x", "x");
    let layers = [objects(&origin, &base).layers(1), vec![derived]].concat();
    let test = TestRepo::new();
    let (image, imported) = import(&test, &layers, 2);
    let imported = imported.unwrap();
    let tree = test.list(&imported.commit);
    for (path, label) in [
        ("usr/bin", "bin_t"),
        ("usr/bin/tool", "bin_t"),
        ("opt/x", "default_t"),
    ] {
        assert!(
            tree[path].contains(&format!(":{label}:")),
            "{path}: {}",
            tree[path]
        );
    }
    let layer = test.list(&engine::layer_ref(&image.layers[2].digest));
    assert_eq!(layer["usr/bin/tool"], tree["usr/bin/tool"]);
    test.ostree(&["fsck"]);
}

#[test]
fn privileged_objects_that_lie_are_refused() {
    let (origin, base) = commit();
    let objects = objects(&origin, &base);
    let good = objects.layers(1);
    let name = objects.content.keys().next().unwrap().clone();
    let zero = "0".repeat(64);
    let path = |kind: &str| object_path(&zero, kind);
    let chunk = |layer: Layer| vec![objects.metadata.clone(), layer];
    let cases: Vec<(&str, Vec<Layer>, RejectReason)> = vec![
        (
            "content of another name",
            chunk(
                Layer::new()
                    .entry(b'0', &path("file-xattrs-link"), "", 0, b"")
                    .file(&path("file"), "x"),
            ),
            RejectReason::ObjectChecksum {
                found: String::new(),
            },
        ),
        (
            "large content of another name",
            chunk(
                Layer::new()
                    .entry(b'0', &path("file-xattrs-link"), "", 0, b"")
                    .entry(b'0', &path("file"), "", 0o644, &vec![0; 9 << 20]),
            ),
            RejectReason::ObjectChecksum {
                found: String::new(),
            },
        ),
        (
            "no attributes",
            chunk(Layer::new().file(&path("file"), "x")),
            RejectReason::Object,
        ),
        (
            "attributes of another",
            chunk(
                Layer::new()
                    .entry(b'0', &object_path(&name, "file-xattrs-link"), "", 0, b"")
                    .file(&path("file"), "x"),
            ),
            RejectReason::Object,
        ),
        (
            "malformed attributes",
            chunk(Layer::new().entry(b'0', &path("file-xattrs-link"), "", 0, b"\xff\xff\xff")),
            RejectReason::Object,
        ),
        (
            "link to no attributes",
            chunk(Layer::new().hardlink(&path("file-xattrs-link"), &path("file-xattrs"))),
            RejectReason::Object,
        ),
        (
            "metadata in a chunk",
            chunk(Layer::new().file(&path("dirtree"), "")),
            RejectReason::Object,
        ),
        (
            "a name of no object",
            chunk(Layer::new().file("sysroot/ostree/repo/objects/xx/y.file", "")),
            RejectReason::Object,
        ),
        (
            "two commits",
            vec![
                objects.metadata.clone().file(&path("commit"), ""),
                Layer::new(),
            ],
            RejectReason::Object,
        ),
        (
            "a malformed directory",
            vec![
                objects.metadata.clone().file(&path("dirtree"), "nonsense"),
                Layer::new(),
            ],
            RejectReason::Object,
        ),
    ];
    for (what, layers, expected) in cases {
        let test = TestRepo::new();
        match import(&test, &layers, layers.len()).1 {
            Err(OstreeError::Reject { reason, .. }) => assert_eq!(
                std::mem::discriminant(&reason),
                std::mem::discriminant(&expected),
                "{what}: {reason}"
            ),
            other => panic!("{what}: {other:?}"),
        }
        assert!(!test.ostree(&["refs"]).contains("image"), "{what}");
        test.ostree(&["fsck"]);
    }

    // A commit with an object missing is refused, and found whole when the object comes.
    let test = TestRepo::new();
    let missing: Layer = objects
        .content
        .values()
        .skip(1)
        .fold(Layer::new(), |layer, add| add(layer));
    let refused = import(&test, &chunk(missing), 2).1;
    match refused {
        Err(OstreeError::Image {
            problem: ImageProblem::Incomplete { object },
            ..
        }) => {
            assert_eq!(object, name);
        }
        other => panic!("{other:?}"),
    }
    test.ostree(&["fsck"]);
    import(&test, &good, 2).1.unwrap();
    test.ostree(&["fsck"]);
}

/// Reads the image of the fixture `chunked`, which ostree-ext made.
fn fixture(source: &mut Source) -> engine::Image {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/chunked");
    let read = |path: &str| std::fs::read(directory.join(path)).unwrap();
    let digest = |value: &serde_json::Value| -> Digest { value.as_str().unwrap().parse().unwrap() };
    let index: serde_json::Value = serde_json::from_slice(&read("index.json")).unwrap();
    let manifest_digest = digest(&index["manifests"][0]["digest"]);
    let manifest_text = String::from_utf8(read(&manifest_digest.blob_path())).unwrap();
    let manifest: serde_json::Value = serde_json::from_str(&manifest_text).unwrap();
    let config_digest = digest(&manifest["config"]["digest"]);
    let config_text = String::from_utf8(read(&config_digest.blob_path())).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config_text).unwrap();
    let diff_ids = config["rootfs"]["diff_ids"].as_array().unwrap();
    let layers = manifest["layers"].as_array().unwrap().iter().zip(diff_ids);
    let layers = layers.map(|(layer, diff_id)| {
        let stored = source.add(read(&digest(&layer["digest"]).blob_path()));
        assert_eq!(stored, digest(&layer["digest"]));
        engine::ImageLayer {
            digest: stored,
            diff_id: digest(diff_id),
            media_type: layer["mediaType"].as_str().unwrap().to_owned(),
            size: layer["size"].as_u64().unwrap(),
            zstd_chunked: false,
        }
    });
    engine::Image {
        imgref: "registry.example/chunked:1".to_owned(),
        manifest_digest,
        layers: layers.collect(),
        manifest: manifest_text,
        config: config_text,
        version: None,
        created: None,
        metadata: BTreeMap::new(),
    }
}

#[test]
fn privileged_what_ostree_ext_wrote_becomes_its_commit() {
    let expected = include_str!("fixtures/chunked.expected");
    let (commit, listing) = expected.split_once('\n').unwrap();
    let test = TestRepo::new();
    let mut source = Source::default();
    let mut image = fixture(&mut source);
    let imported = test.import(&image, &source).unwrap();
    assert_eq!(
        test.ostree(&["ls", "-R", "-C", "-X", &imported.commit, "/"]),
        listing
    );
    let base = test.ostree(&["rev-parse", &engine::layer_ref(&image.layers[0].digest)]);
    assert_eq!(format!("commit {}", base.trim()), commit);
    test.ostree(&["fsck"]);

    // Each layer counts: with one of them emptied, the commit is incomplete or missing.
    for index in 0..image.layers.len() - 1 {
        let test = TestRepo::new();
        let whole = image.layers[index].clone();
        image.layers[index] = image::layer(&mut source, GZIP, &Layer::new().tar());
        let refused = test.import(&image, &source);
        assert!(
            matches!(refused, Err(OstreeError::Image { .. })),
            "{index}: {refused:?}"
        );
        assert!(
            !test.ostree(&["refs"]).contains("container/image"),
            "{index}"
        );
        test.ostree(&["fsck"]);
        image.layers[index] = whole;
    }
}
