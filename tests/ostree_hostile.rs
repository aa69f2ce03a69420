//! Feeds the engine archives, streams and images that no honest publisher makes: refused, with a typed reason, and nothing
//! is kept; each table has its undamaged twin.

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

use bundle::ostree::{self as engine, Image, ImageProblem, Limits, OstreeError, RejectReason};
use image::{GZIP, Layer, Source, TAR, ZSTD};
use support::{TestRepo, import_one, rich};

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
        ("zstd of several frames", ZSTD, frames.clone(), false),
        (
            "chunked: several frames and a table",
            ZSTD,
            with(skippable, &frames),
            true,
        ),
        (
            "chunked: a frame and garbage",
            ZSTD,
            with(b"garbage", &frames),
            false,
        ),
        (
            "chunked: a frame too few",
            ZSTD,
            image::zstd(&tar[..half]),
            false,
        ),
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
        layer.zstd_chunked = name.starts_with("chunked");
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
