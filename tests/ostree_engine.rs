//! Imports and deploys small images with the real libostree, and compares with what the `ostree` command makes of them.

#![cfg(feature = "ostree")]

#[path = "common/image.rs"]
mod image;

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use bundle::ostree::{self as engine, Image, ImageProblem, Limits, OstreeError, RejectReason};
use image::{GZIP, Layer, Source, TAR, ZSTD, bootable};
use ostree::{Repo, RepoMode, gio};

/// Runs a program that must be installed, and returns its output.
fn run(program: &str, arguments: &[&str]) -> String {
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
struct TestRepo {
    directory: tempfile::TempDir,
    repo: Repo,
}

impl TestRepo {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let repo = Repo::new_for_path(directory.path().join("repo"));
        repo.create(RepoMode::Bare, gio::Cancellable::NONE)
            .expect("these tests need root");
        Self { directory, repo }
    }

    fn path(&self) -> String {
        format!("--repo={}", self.directory.path().join("repo").display())
    }

    fn ostree(&self, arguments: &[&str]) -> String {
        run("ostree", &[&[self.path().as_str()], arguments].concat())
    }

    fn import(&self, image: &Image, source: &Source) -> Result<engine::Imported, OstreeError> {
        engine::import(&self.repo, image, source, &(), &|| false)
    }

    /// Asserts that nothing is stored or staged but what is referenced.
    fn assert_empty(&self, what: &str) {
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
    fn list(&self, commit: &str) -> BTreeMap<String, String> {
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

    fn cat(&self, commit: &str, path: &str) -> String {
        self.ostree(&["cat", commit, path])
    }
}

/// Returns the names of all files below `path`.
fn walkdir(path: &Path) -> Vec<String> {
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

fn import_one(tar: &[u8]) -> (TestRepo, Result<engine::Imported, OstreeError>) {
    let test = TestRepo::new();
    let mut source = Source::default();
    let layer = image::layer(&mut source, TAR, tar);
    let result = test.import(&image::image(vec![layer], "1", &[]), &source);
    (test, result)
}

/// Most of what honest archives hold.
fn rich() -> Layer {
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

#[test]
fn privileged_objects_are_those_that_ostree_makes() {
    let test = TestRepo::new();
    let tar = rich().tar();
    std::fs::write(test.directory.path().join("layer.tar"), &tar).unwrap();
    let mut source = Source::default();
    let layer = image::layer(&mut source, GZIP, &tar);
    let reference = engine::layer_ref(&layer.digest);
    let imported = test
        .import(&image::image(vec![layer], "1", &[]), &source)
        .unwrap();
    let tree = format!(
        "--tree=tar={}",
        test.directory.path().join("layer.tar").display()
    );
    test.ostree(&[
        "commit",
        "-b",
        "expected",
        "--tar-autocreate-parents",
        &tree,
    ]);
    let expected = test.list("expected");
    assert_eq!(test.list(&reference), expected);
    assert_eq!(test.list(&imported.commit), expected);
    assert_eq!(expected["usr/bin/alias2"], expected["usr/bin/tool"]);
    assert!(
        expected["usr/bin/sudo"].starts_with("-04755 "),
        "{}",
        expected["usr/bin/sudo"]
    );
    test.ostree(&["fsck"]);
}

#[test]
fn privileged_same_image_same_commit_and_no_second_reading() {
    let image = |source: &mut Source| {
        let first = image::layer(source, GZIP, &rich().tar());
        let second = image::layer(source, ZSTD, &Layer::new().file("usr/second", "2").tar());
        let third = image::layer(source, TAR, &Layer::new().file("usr/third", "3").tar());
        image::image(vec![first, second, third], "1", &[])
    };
    let (one, two) = (TestRepo::new(), TestRepo::new());
    let mut source = Source::default();
    let wanted = image(&mut source);
    let first = one.import(&wanted, &source).unwrap();
    assert_eq!(
        (first.layers_imported, first.layers_reused, source.opened()),
        (3, 0, 3)
    );
    let again = one.import(&wanted, &source).unwrap();
    assert!(again.already_present);
    assert_eq!((&again.commit, source.opened()), (&first.commit, 3));

    // Another image of known layers: nothing is opened, and trees come out of the repository.
    let mut other = wanted.clone();
    other.imgref = "registry.example/other:1".to_owned();
    let other = one.import(&other, &source).unwrap();
    assert_eq!(
        (other.layers_imported, other.layers_reused, source.opened()),
        (0, 3, 3)
    );
    assert_eq!(other.commit, first.commit);

    // The same layers, compressed otherwise.
    let mut source = Source::default();
    let first_layer = image::layer(&mut source, ZSTD, &rich().tar());
    let mut recompressed = wanted.clone();
    recompressed.layers[0] = first_layer;
    recompressed.imgref = "registry.example/recompressed:1".to_owned();
    assert_eq!(one.import(&recompressed, &source).unwrap().layers_reused, 3);
    assert_eq!(source.opened(), 0);

    let mut source = Source::default();
    let wanted = image(&mut source);
    assert_eq!(two.import(&wanted, &source).unwrap().commit, first.commit);
    for test in [&one, &two] {
        test.ostree(&["fsck"]);
    }
}

#[test]
fn privileged_commit_says_what_bootc_asks_for() {
    let test = TestRepo::new();
    let mut source = Source::default();
    let layer = image::layer(&mut source, GZIP, &bootable(Layer::new(), "7").tar());
    let image = image::image(vec![layer.clone()], "7", &[]);
    let imported = test.import(&image, &source).unwrap();
    let refs = test.ostree(&["refs"]);
    assert!(
        refs.contains("ostree/container/image/docker_3A__2F__2F_registry_2E_example/os_3A_stable")
    );
    assert!(refs.contains(&format!(
        "ostree/container/blob/sha256_3A_{}",
        layer.digest.to_hex()
    )));
    let key = |key: &str| {
        let option = format!("--print-metadata-key={key}");
        test.ostree(&["show", &option, &imported.commit])
            .trim()
            .to_owned()
    };
    assert_eq!(
        key("ostree.manifest-digest"),
        format!("'{}'", image.manifest_digest)
    );
    assert_eq!(key("ostree.manifest"), format!("'{}'", image.manifest));
    assert_eq!(
        key("ostree.container.image-config"),
        format!("'{}'", image.config)
    );
    assert_eq!(key("version"), "'7'");
    assert_eq!(key("ostree.bootable"), "true");
    assert_eq!(key("ostree.linux"), "'1.0'");
    assert_eq!(key("bundle.release.sequence"), "'7'");
    let log = test.ostree(&["log", &imported.commit]);
    assert!(log.contains("2023-11-14 22:13:20"), "{log}");
}

#[test]
fn privileged_layers_unite() {
    let test = TestRepo::new();
    let mut source = Source::default();
    let layers = [
        Layer::new()
            .entry(b'5', "usr/kept/", "", 0o700, b"")
            .entry(b'5', "usr/changed/", "", 0o700, b"")
            .file("usr/kept/a", "a")
            .file("usr/changed/a", "a")
            .file("usr/gone", "gone")
            .file("usr/gone-dir/x", "x")
            .file("usr/opaque/old", "old")
            .file("etc/conf", "1")
            .file("etc/dropped", "1")
            .file("etc/hostname", "")
            .file("etc/resolv.conf", "nameserver 10.0.0.1")
            .file("var/lib/state", "state")
            .file("run/secret", "secret")
            .entry(b'3', "dev/null", "", 0o666, b"")
            .dir("run/"),
        Layer::new()
            .file("usr/kept/b", "b")
            .entry(b'5', "usr/changed/", "", 0o711, b"")
            .file("usr/.wh.gone", "")
            .file("usr/.wh.gone-dir", "")
            .file("usr/opaque/.wh..wh..opq", "")
            .file("usr/opaque/new", "new")
            .file("etc/.wh.dropped", "")
            .hardlink("usr/linked", "etc/conf")
            .hardlink("etc/linked", "usr/kept/a")
            .file("usr/twice", "first")
            .file("usr/twice", "last"),
    ];
    let layers = layers
        .iter()
        .map(|layer| image::layer(&mut source, GZIP, &layer.tar()))
        .collect();
    let image = image::image(layers, "1", &[]);
    let commit = test.import(&image, &source).unwrap().commit;
    let tree = test.list(&commit);
    let names: Vec<&str> = tree.keys().map(String::as_str).collect();
    let expected = [
        "",
        "run",
        "usr",
        "usr/changed",
        "usr/changed/a",
        "usr/etc",
        "usr/etc/conf",
        "usr/etc/linked",
        "usr/etc/resolv.conf",
        "usr/kept",
        "usr/kept/a",
        "usr/kept/b",
        "usr/linked",
        "usr/opaque",
        "usr/opaque/new",
        "usr/share",
        "usr/share/factory",
        "usr/share/factory/var",
        "usr/share/factory/var/lib",
        "usr/share/factory/var/lib/state",
        "usr/twice",
    ];
    if ostree::check_version(2024, 3) {
        assert!(names.contains(&"var/lib/state"));
    } else {
        assert_eq!(names, expected);
    }
    assert!(
        tree["usr/kept"].starts_with("d00700 "),
        "{}",
        tree["usr/kept"]
    );
    assert!(
        tree["usr/changed"].starts_with("d00711 "),
        "{}",
        tree["usr/changed"]
    );
    assert_eq!(test.cat(&commit, "/usr/twice"), "last");
    assert_eq!(test.cat(&commit, "/usr/linked"), "1");
    assert_eq!(test.cat(&commit, "/usr/etc/linked"), "a");
    let layer = test.list(&engine::layer_ref(&image.layers[1].digest));
    assert!(layer.contains_key("usr/.wh.gone") && layer.contains_key("usr/opaque/.wh..wh..opq"));

    // The union of trees read back from the repository is the same.
    test.ostree(&["refs", "--delete", "ostree/container/image"]);
    let again = test.import(&image, &source).unwrap();
    assert_eq!((again.commit, again.layers_reused), (commit, 2));
}

#[test]
fn privileged_sparse_files_are_filled() {
    let sparse = Layer::new().header(b'S', "usr/sparse", "", 0o644, 6, |bytes| {
        bytes[257..265].copy_from_slice(b"ustar  \0");
        bytes[345..500].fill(0);
        bytes[386..398].copy_from_slice(b"00000000002\0");
        bytes[398..410].copy_from_slice(b"00000000003\0");
        bytes[410..422].copy_from_slice(b"00000000010\0");
        bytes[422..434].copy_from_slice(b"00000000003\0");
        bytes[483..495].copy_from_slice(b"00000000020\0");
    });
    let (test, result) = import_one(&sparse.content(b"abcdef").file("usr/next", "next").tar());
    let commit = result.unwrap().commit;
    assert_eq!(
        test.cat(&commit, "/usr/sparse"),
        "\0\0abc\0\0\0def\0\0\0\0\0"
    );
    assert_eq!(test.cat(&commit, "/usr/next"), "next");
}

#[test]
fn privileged_hostile_archives_are_refused_and_leave_nothing() {
    use RejectReason as R;
    let start = || Layer::new().file("usr/before", "before");
    let parent = |parent: &str| R::ParentNotDirectory {
        parent: parent.to_owned(),
    };
    let link = |target: &str| R::LinkTarget {
        target: target.to_owned(),
    };
    let cases: Vec<(&str, Layer, &str, RejectReason)> = vec![
        (
            "absolute",
            start().file("/etc/passwd", "x"),
            "/etc/passwd",
            R::Absolute,
        ),
        (
            "parent",
            start().file("usr/../../x", "x"),
            "usr/../../x",
            R::ParentDirectory,
        ),
        ("empty name", start().file("", "x"), "", R::EmptyName),
        (
            "not UTF-8",
            start().pax("path", b"usr/\xff").file("x", "x"),
            "usr/\u{fffd}",
            R::NotText,
        ),
        (
            "NUL",
            start().pax("path", b"usr/a\0b").file("x", "x"),
            "usr/a\0b",
            R::NotText,
        ),
        (
            "through a symbolic link",
            start().symlink("usr/l", "/etc").file("usr/l/passwd", "x"),
            "usr/l/passwd",
            parent("usr/l"),
        ),
        (
            "through a file",
            start().file("usr/before/x", "x"),
            "usr/before/x",
            parent("usr/before"),
        ),
        (
            "file over a filled directory",
            start().file("usr", "x"),
            "usr",
            R::ReplacesDirectory,
        ),
        (
            "link out",
            start().hardlink("usr/l", "../etc/shadow"),
            "usr/l",
            link("../etc/shadow"),
        ),
        (
            "link to root",
            start().hardlink("usr/l", "/etc/shadow"),
            "usr/l",
            link("/etc/shadow"),
        ),
        (
            "link to nothing",
            start().hardlink("usr/l", "usr/no"),
            "usr/l",
            link("usr/no"),
        ),
        (
            "link to a directory",
            start().dir("usr/d").hardlink("usr/l", "usr/d"),
            "usr/l",
            link("usr/d"),
        ),
        (
            "link to a host object",
            start().hardlink(
                "usr/l",
                &format!("sysroot/ostree/repo/objects/00/{}.file", "0".repeat(62)),
            ),
            "usr/l",
            link(&format!(
                "sysroot/ostree/repo/objects/00/{}.file",
                "0".repeat(62)
            )),
        ),
        (
            "device",
            start().entry(b'3', "usr/dev", "", 0o666, b""),
            "usr/dev",
            R::Kind { kind: '3' },
        ),
        (
            "FIFO",
            start().entry(b'6', "usr/fifo", "", 0o666, b""),
            "usr/fifo",
            R::Kind { kind: '6' },
        ),
        (
            "unknown type",
            start().entry(b'Z', "usr/z", "", 0o666, b""),
            "usr/z",
            R::Kind { kind: 'Z' },
        ),
        (
            "root as a file",
            start().file("./", "x"),
            "./",
            R::Kind { kind: '0' },
        ),
        (
            "two sizes",
            start()
                .pax("size", b"3")
                .header(b'0', "usr/x", "", 0o644, 5, |_| {})
                .content(b"12345"),
            "usr/x",
            R::SizeMismatch { pax: 3, ustar: 5 },
        ),
        (
            "negative size",
            start().header(b'0', "usr/x", "", 0o644, 0, |bytes| {
                bytes[124..136].fill(0xff)
            }),
            "usr/x",
            R::Number { field: "size" },
        ),
        (
            "directory with content",
            start()
                .header(b'5', "usr/x", "", 0o755, 512, |_| {})
                .content(&[1; 512]),
            "usr/x",
            R::Number { field: "size" },
        ),
        (
            "sparse map out of bounds",
            start().header(b'S', "usr/x", "", 0o644, 3, |bytes| {
                bytes[345..500].fill(0);
                bytes[386..398].copy_from_slice(b"00000000777\0");
                bytes[398..410].copy_from_slice(b"00000000003\0");
                bytes[483..495].copy_from_slice(b"00000000020\0");
            }),
            "usr/x",
            R::Sparse,
        ),
        (
            "sparse by PAX",
            start().pax("GNU.sparse.major", b"1").file("usr/x", ""),
            "PaxHeaders/x",
            R::Sparse,
        ),
        (
            "no owner",
            start().pax("uid", b"4294967295").file("usr/x", ""),
            "usr/x",
            R::Owner,
        ),
        (
            "large owner",
            start().pax("gid", b"4294967296").file("usr/x", ""),
            "usr/x",
            R::Owner,
        ),
        (
            "attribute of no kind",
            start().pax("SCHILY.xattr.evil", b"").file("usr/x", ""),
            "PaxHeaders/x",
            R::Xattr {
                name: "evil".to_owned(),
            },
        ),
        (
            "attribute twice",
            start()
                .pax("SCHILY.xattr.user.x", b"1")
                .pax("SCHILY.xattr.user.x", b"2")
                .file("usr/x", ""),
            "PaxHeaders/x",
            R::Extension,
        ),
        (
            "large attributes",
            start()
                .pax("SCHILY.xattr.user.x", &[7; 65536])
                .file("usr/x", ""),
            "PaxHeaders/x",
            R::TooLong {
                what: "extended attributes",
                limit: 65536,
            },
        ),
        (
            "two paths",
            start()
                .pax("path", b"usr/x")
                .pax("path", b"usr/y")
                .file("z", ""),
            "PaxHeaders/x",
            R::Extension,
        ),
        (
            "global path",
            start()
                .entry(b'g', "g", "", 0o644, b"10 path=x\n")
                .file("usr/x", ""),
            "g",
            R::Extension,
        ),
        (
            "whiteout of nothing",
            start().file("usr/.wh.", ""),
            "usr/.wh.",
            R::Whiteout,
        ),
        (
            "whiteout of a parent",
            start().file("usr/.wh...", ""),
            "usr/.wh...",
            R::Whiteout,
        ),
        (
            "whiteout with content",
            start().file("usr/.wh.x", "x"),
            "usr/.wh.x",
            R::Whiteout,
        ),
        (
            "whiteout as a directory",
            start().file("usr/.wh.x/y", ""),
            "usr/.wh.x/y",
            R::Whiteout,
        ),
        (
            "no target",
            start().symlink("usr/l", ""),
            "usr/l",
            R::SymlinkTarget,
        ),
        (
            "long target",
            start().pax("linkpath", &[b'x'; 4096]).symlink("usr/l", "x"),
            "usr/l",
            R::SymlinkTarget,
        ),
        (
            "damaged header",
            {
                let mut layer = start().file("usr/x", "");
                layer = layer.content(b"usr/no checksum");
                layer
            },
            "usr/no checksum",
            R::HeaderChecksum,
        ),
    ];
    for (name, layer, entry, reason) in cases {
        let (test, result) = import_one(&layer.tar());
        match result {
            Err(OstreeError::Reject {
                entry: found,
                reason: why,
                ..
            }) => {
                assert_eq!(
                    (found.trim_end_matches('\0'), why),
                    (entry, reason),
                    "{name}"
                );
            }
            other => panic!("{name}: {other:?}"),
        }
        test.assert_empty(name);
    }
    let (test, result) = import_one(&start().tar());
    assert!(result.is_ok());
    test.ostree(&["fsck"]);
}

#[test]
fn privileged_archives_that_end_wrongly_are_refused() {
    let layer = || Layer::new().file("usr/x", "x");
    let whole = layer().tar();
    let cases: Vec<(&str, Vec<u8>, Option<RejectReason>)> = vec![
        ("no end marker", layer().unfinished(), None),
        (
            "one block of an end marker",
            [layer().unfinished(), vec![0; 512]].concat(),
            None,
        ),
        (
            "long padding",
            [whole.clone(), vec![0; 10240]].concat(),
            None,
        ),
        (
            "within content",
            layer().unfinished()[..600].to_vec(),
            Some(RejectReason::Truncated),
        ),
        (
            "within a header",
            layer().unfinished()[..100].to_vec(),
            Some(RejectReason::Truncated),
        ),
        (
            "trailing data",
            [whole, b"x".to_vec()].concat(),
            Some(RejectReason::TrailingData),
        ),
        (
            "extension of nothing",
            layer().entry(b'x', "x", "", 0o644, b"10 path=x\n").tar(),
            Some(RejectReason::Truncated),
        ),
    ];
    for (name, tar, expected) in cases {
        let found = match import_one(&tar).1 {
            Ok(_) => None,
            Err(OstreeError::Reject { reason, .. }) => Some(reason),
            Err(error) => panic!("{name}: {error:?}"),
        };
        assert_eq!(found, expected, "{name}");
    }
}

#[test]
fn privileged_streams_that_lie_are_refused_and_leave_nothing() {
    let tar = rich().tar();
    let half = tar.len() / 2;
    let members = [image::gzip(&tar[..half]), image::gzip(&tar[half..])].concat();
    let frames = [image::zstd(&tar[..half]), image::zstd(&tar[half..])].concat();
    let skippable = b"\x50\x2a\x4d\x18\x04\0\0\0skip";
    let mut wide_window = image::zstd(&tar);
    // Magic, a frame descriptor without content size, and a window descriptor of 2^41 bytes.
    wide_window.splice(4..6, [0x00, 0xf8]);
    let with = |more: &[u8], blob: &[u8]| [blob, more].concat();
    let cases: Vec<(&str, &str, Vec<u8>, bool)> = vec![
        ("gzip", GZIP, image::gzip(&tar), true),
        ("gzip of several members", GZIP, members, true),
        (
            "gzip and garbage",
            GZIP,
            with(b"garbage", &image::gzip(&tar)),
            false,
        ),
        (
            "truncated gzip",
            GZIP,
            image::gzip(&tar)[..1000].to_vec(),
            false,
        ),
        ("tar called gzip", GZIP, tar.clone(), false),
        ("gzip called tar", TAR, image::gzip(&tar), false),
        ("zstd", ZSTD, image::zstd(&tar), true),
        ("zstd of several frames", ZSTD, frames, false),
        (
            "zstd and a skippable frame",
            ZSTD,
            with(skippable, &image::zstd(&tar)),
            false,
        ),
        (
            "zstd after a skippable frame",
            ZSTD,
            with(&image::zstd(&tar), skippable),
            false,
        ),
        (
            "zstd and garbage",
            ZSTD,
            with(b"garbage", &image::zstd(&tar)),
            false,
        ),
        ("zstd with a huge window", ZSTD, wide_window, false),
        (
            "unknown media type",
            "application/x-brotli",
            tar.clone(),
            false,
        ),
    ];
    for (name, media_type, blob, good) in cases {
        let test = TestRepo::new();
        let mut source = Source::default();
        let mut layer = image::layer(&mut source, TAR, &tar);
        layer.media_type = media_type.to_owned();
        layer.size = blob.len() as u64;
        layer.digest = source.add(blob);
        let result = test.import(&image::image(vec![layer], "1", &[]), &source);
        assert_eq!(result.is_ok(), good, "{name}: {result:?}");
        if !good {
            test.assert_empty(name);
        }
    }

    let test = TestRepo::new();
    let mut source = Source::default();
    let layer = image::layer(&mut source, GZIP, &tar);
    let image = image::image(vec![layer.clone()], "1", &[]);
    let mut wrong = image.clone();
    wrong.layers[0].diff_id = layer.digest;
    assert!(matches!(
        test.import(&wrong, &source),
        Err(OstreeError::DiffId { .. })
    ));
    test.assert_empty("diff_id");
    let mut wrong = image.clone();
    wrong.layers[0].size += 1;
    assert!(matches!(
        test.import(&wrong, &source),
        Err(OstreeError::LayerSize { .. })
    ));
    wrong.layers[0].size -= 2;
    assert!(test.import(&wrong, &source).is_err());
    test.assert_empty("size");
    source.fails_after = Some(200);
    let failed = test.import(&image, &source);
    assert!(
        matches!(&failed, Err(OstreeError::Source { source, .. }) if source.to_string().contains("chunk 7"))
    );
    test.assert_empty("source");
    source.fails_after = None;
    assert!(matches!(
        engine::import(&test.repo, &image, &source, &(), &|| true),
        Err(OstreeError::Cancelled)
    ));
    test.assert_empty("cancelled");

    // A layer rebuilt from a delta comes as tar, whatever its media type.
    source.replace(layer.digest, tar);
    source.rebuilt = true;
    assert!(test.import(&image, &source).is_ok());
}

#[test]
fn privileged_bombs_are_refused() {
    let zeros = Layer::new()
        .entry(b'0', "usr/zeros", "", 0o644, &vec![0; 80 << 20])
        .tar();
    let many = (0..100)
        .fold(Layer::new(), |layer, n| layer.file(&format!("usr/{n}"), ""))
        .tar();
    let holes = Layer::new().header(b'S', "usr/holes", "", 0o644, 0, |bytes| {
        bytes[345..500].fill(0);
        bytes[483] = 0x80;
        bytes[488] = 0x80;
    });
    let mut small = Limits::default();
    small.entries = 99;
    let mut short = Limits::default();
    short.tar_bytes = 1 << 20;
    let default = Limits::default();
    for (name, media_type, tar, limits) in [
        ("ratio", ZSTD, &zeros, &default),
        ("bytes", GZIP, &zeros, &short),
        ("entries", GZIP, &many, &small),
        ("holes", GZIP, &holes.tar(), &default),
    ] {
        let test = TestRepo::new();
        let mut source = Source::default();
        let layer = image::layer(&mut source, media_type, tar);
        let image = image::image(vec![layer], "1", &[]);
        let result = engine::import_within(&test.repo, &image, &source, &(), &|| false, limits);
        assert!(
            matches!(result, Err(OstreeError::Limit { .. })),
            "{name}: {result:?}"
        );
        test.assert_empty(name);
    }
    assert!(import_one(&many).1.is_ok());
}

#[test]
fn privileged_images_that_contradict_themselves_are_refused() {
    let test = TestRepo::new();
    let mut source = Source::default();
    let layer = image::layer(&mut source, TAR, &Layer::new().file("usr/x", "x").tar());
    let good = image::image(vec![layer], "1", &[]);
    let changed = |change: &dyn Fn(&mut Image)| {
        let mut image = good.clone();
        change(&mut image);
        test.import(&image, &source)
    };
    let problem = |result| match result {
        Err(OstreeError::Image { problem, .. }) => problem,
        other => panic!("{other:?}"),
    };
    assert_eq!(
        problem(changed(&|image| image.layers.clear())),
        ImageProblem::NoLayers
    );
    assert!(matches!(
        problem(changed(&|image| image.manifest.push(' '))),
        ImageProblem::ManifestDigest { .. }
    ));
    assert!(matches!(
        problem(changed(&|image| image.version = Some("a\0".to_owned()))),
        ImageProblem::Nul { .. }
    ));
    assert_eq!(
        problem(changed(&|image| image.config.clear())),
        ImageProblem::Configuration
    );
    assert!(matches!(
        changed(&|image| image.imgref.clear()),
        Err(OstreeError::Name { .. })
    ));
    assert!(matches!(
        changed(&|image| image.imgref = "x".repeat(600)),
        Err(OstreeError::Name { .. })
    ));
    let mut labelled = image::image(
        good.layers.clone(),
        "1",
        &[("ostree.final-diffid", "sha256:0")],
    );
    assert_eq!(
        problem(test.import(&labelled, &source)),
        ImageProblem::FinalDiffId
    );
    let diff_id = good.layers[0].diff_id.to_string();
    labelled = image::image(
        good.layers.clone(),
        "1",
        &[("ostree.final-diffid", &diff_id)],
    );
    assert_eq!(
        problem(test.import(&labelled, &source)),
        ImageProblem::NoCommit
    );
    test.assert_empty("contradictions");
    assert!(test.import(&good, &source).is_ok());
}

#[test]
fn privileged_labels_are_those_that_ostree_gives() {
    let contexts = "\
/.*                 system_u:object_r:default_t:s0
/usr(/.*)?          system_u:object_r:usr_t:s0
/usr/bin(/.*)?      system_u:object_r:bin_t:s0
/usr/etc(/.*)?      system_u:object_r:etc_t:s0
/usr/bin/l   -l     system_u:object_r:link_t:s0
/usr/none           <<none>>
";
    let first = Layer::new()
        .dir("usr/")
        .dir("usr/bin/")
        .file("usr/bin/a", "a")
        .file("usr/share/a", "a")
        .symlink("usr/bin/l", "a")
        .file("usr/none", "none")
        .pax(
            "SCHILY.xattr.security.selinux",
            b"system_u:object_r:bin_t:s0\0",
        )
        .file("usr/bin/labelled", "labelled")
        .pax("SCHILY.xattr.user.x", b"x")
        .file("usr/both", "both")
        .entry(b'0', "usr/large", "", 0o755, &vec![7; 9 << 20])
        .tar();
    let policy = Layer::new()
        .dir("etc/")
        .file(
            "etc/selinux/config",
            "SELINUX=enforcing\nSELINUXTYPE=targeted\n",
        )
        .file(
            "etc/selinux/targeted/contexts/files/file_contexts",
            contexts,
        )
        .file("etc/selinux/targeted/policy/policy.33", "policy")
        .tar();
    let test = TestRepo::new();
    let mut source = Source::default();
    let first = image::layer(&mut source, GZIP, &first);
    let unlabelled = image::image(vec![first.clone()], "1", &[]);
    let unlabelled = test.import(&unlabelled, &source).unwrap();
    let policy = image::layer(&mut source, GZIP, &policy);
    let mut labelled = image::image(vec![first.clone(), policy], "2", &[]);
    let imported = test.import(&labelled, &source).unwrap();
    assert_eq!((imported.layers_imported, imported.layers_reused), (1, 1));

    // What libostree makes of the unlabelled tree under the same policy.
    let place = |name: &str| test.directory.path().join(name).display().to_string();
    test.ostree(&["checkout", &imported.commit, &place("labelled")]);
    test.ostree(&["checkout", &unlabelled.commit, &place("plain")]);
    run(
        "cp",
        &["-r", &place("labelled/usr/etc"), &place("plain/usr/etc")],
    );
    let tree = format!("--tree=dir={}", place("plain"));
    let policy = format!("--selinux-policy={}", place("plain"));
    test.ostree(&["commit", "-b", "expected", &policy, &tree]);
    let [mut found, mut expected] = [&imported.commit, "expected"].map(|commit| test.list(commit));
    // libostree before 2025 named objects with several attributes by an order that its own fsck does not find again.
    let both = found.remove("usr/both").unwrap();
    assert!(both.contains("usr_t") && both.contains("user.x"), "{both}");
    expected.remove("usr/both");
    assert_eq!(found, expected);
    let tree = test.list(&imported.commit);
    for (path, label) in [
        ("", "default_t"),
        ("usr/bin/a", "bin_t"),
        ("usr/share/a", "usr_t"),
        ("usr/share", "usr_t"),
        ("usr/bin/labelled", "bin_t"),
        ("usr/bin/l -> a", "link_t"),
        ("usr/large", "usr_t"),
    ] {
        assert!(
            tree[path].contains(&format!(":{label}:")),
            "{path}: {}",
            tree[path]
        );
    }
    assert!(!tree["usr/none"].contains("selinux"));

    // The layer shares the labelled objects, and gives the same image when it is read back.
    let layer = test.list(&engine::layer_ref(&first.digest));
    assert_eq!(layer["usr/bin/a"], tree["usr/bin/a"]);
    labelled.imgref = "registry.example/again:1".to_owned();
    assert_eq!(
        test.import(&labelled, &source).unwrap().commit,
        imported.commit
    );
    test.ostree(&["refs", "--delete", "expected"]);
    test.ostree(&["prune", "--refs-only"]);
    test.ostree(&["fsck"]);
}
