//! Files that the real programs write, opened and encoded again.
//!
//! Needs xz, gzip and zstd; a missing one fails the test by name. That a release of zstd whose encoder is not at hand
//! cannot be reproduced is no failure: `BUNDLE_TEST_ENCODERS` names a directory made by `encoders/build.sh`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test fails by panicking, and says what it was at"
)]

mod common;

use std::path::Path;

use bundle_recipes::{
    Coding, EncoderSet, Error, Limits, Opened, Options, Recipe, Version, cpio, encode, may_open,
    open,
};
use common::{run, text};

fn encoders() -> EncoderSet {
    std::env::var_os("BUNDLE_TEST_ENCODERS").map_or(EncoderSet::none(), |path| {
        EncoderSet::in_directory(Path::new(&path))
    })
}

fn options() -> Options {
    let limits = Limits {
        encoders: encoders(),
        threads: 2,
        memory: 1 << 30,
        ..Limits::default()
    };
    Options {
        limits,
        ..Options::default()
    }
}

/// Encodes again from the recipe's wire form, as the appliance does.
fn prove(file: &[u8], opened: &Opened) {
    let wire = opened.recipe.to_bytes();
    let recipe = Recipe::parse(&wire).unwrap();
    assert_eq!(recipe, opened.recipe);
    assert_eq!(recipe.to_bytes(), wire);
    let mut again = Vec::new();
    encode(
        &recipe,
        opened.inner.as_slice(),
        &mut again,
        &options().limits,
    )
    .unwrap();
    assert!(again == file, "another file");
}

fn prove_one(file: &[u8], content: &[u8], coding: &str) {
    assert!(may_open(file));
    let opened = open(file, &options()).unwrap_or_else(|| panic!("{coding}: no recipe"));
    assert!(opened.inner == content, "another content");
    let [part] = opened.recipe.parts() else {
        panic!("one part")
    };
    assert_eq!(part.coding.name(), coding);
    prove(file, &opened);
}

#[test]
fn xz_as_modules_kernels_and_people_have_it() {
    let (small, large) = (text(70_000, 1), text(5 << 20, 2));
    let cases: [(&[&str], &[u8]); 9] = [
        (&["--check=crc32", "--lzma2=dict=1MiB"], &small),
        (&["--check=crc32", "--lzma2=dict=2MiB"], &large),
        (&["--check=crc32", "--x86", "--lzma2=dict=8MiB"], &large),
        (&["-9e", "--threads=1"], &small),
        (&["-0", "--threads=1"], &large),
        (&["-T2", "--block-size=2MiB", "-3"], &large),
        (&["-T2"], &small),
        (&["--threads=1", "--block-size=1MiB", "-1"], &large),
        (
            &["--check=sha256", "--lzma2=preset=5,lc=2,lp=2,pb=0"],
            &small,
        ),
    ];
    for (arguments, content) in cases {
        println!("xz {arguments:?}");
        prove_one(&run("xz", arguments, content), content, "xz");
    }
}

/// Whether the encoder of the installed `zstd` is at hand.
fn zstd_is_known() -> bool {
    let text = String::from_utf8(run("zstd", &["--version"], b"")).unwrap();
    let known = encoders()
        .versions()
        .iter()
        .any(|known| text.contains(&format!("v{known},")));
    if !known {
        println!("no encoder for {text}");
    }
    known
}

#[test]
fn zstd_as_initramfs_generators_have_it() {
    let (small, large) = (text(200_000, 7), text(17 << 20, 8));
    let known = zstd_is_known();
    let cases: [(&[&str], &[u8]); 8] = [
        (&["-q", "-9", "-T0", "-c", "{}"], &large),
        (&["-q", "-15", "-T0"], &text(2 << 20, 9)),
        (&["-q", "-3"], &large),
        (&["-q", "-1", "--no-check", "-c", "{}"], &small),
        (&["-q", "-19", "-T0"], &small),
        (&["-q", "--single-thread", "-5"], &large),
        (&["-q", "--long=27", "-3"], &large),
        (&["-q", "-3"], b"in one segment, size known at the end"),
    ];
    for (arguments, content) in cases {
        println!("zstd {arguments:?}");
        let file = run("zstd", arguments, content);
        if known {
            prove_one(&file, content, "zstd");
        } else if let Some(opened) = open(&file, &options()) {
            // Some parameters give the same in several releases.
            prove(&file, &opened);
        }
    }
}

/// An archive as `cpio -H newc` writes it.
fn newc(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (name, data) in files.iter().chain(&[("TRAILER!!!", &b""[..])]) {
        out.extend(b"070701");
        let (size, length) = (data.len(), name.len() + 1);
        for field in [1, 0o100_644, 0, 0, 1, 0, size, 0, 0, 0, 0, length, 0] {
            out.extend(format!("{field:08X}").into_bytes());
        }
        out.extend(name.bytes().chain([0]));
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend(*data);
        out.resize(out.len().next_multiple_of(4), 0);
    }
    out
}

/// The kernel's view: an early archive, padding, a compressed archive, another.
#[test]
fn initramfs_of_several_archives() {
    let lib = text(300_000, 10);
    let archive = newc(&[("bin", &text(90_000, 9)), ("lib", &lib)]);
    let mut file = archive.clone();
    file.resize(file.len().next_multiple_of(4096), 0);
    file.extend(run("xz", &["--check=crc32"], &archive));
    file.extend([0; 300]);
    file.extend(run("gzip", &["-9n"], &archive));
    file.extend([0; 4]);
    let opened = open(&file, &options()).unwrap();
    let names: Vec<_> = opened
        .recipe
        .parts()
        .iter()
        .map(|part| part.coding.name())
        .collect();
    assert_eq!(names, ["stored", "xz", "stored", "gzip", "stored"]);
    assert_eq!(opened.recipe.inner_length(), opened.inner.len() as u64);
    assert_eq!(opened.recipe.encoded_length(), file.len() as u64);
    prove(&file, &opened);
    let entries = cpio::split_all(&opened.inner, 100).unwrap();
    let files = entries.iter().filter(|entry| entry.is_file()).count();
    assert_eq!(files, 6);
    assert!(
        entries
            .iter()
            .any(|entry| opened.inner.get(entry.data.clone()) == Some(&lib[..]))
    );
}

#[test]
fn bzimage_around_a_payload() {
    let payload = run(
        "xz",
        &["--check=crc32", "--x86", "--lzma2=dict=1MiB"],
        &text(90_000, 11),
    );
    let mut file = text(4096, 12);
    file[0x1f1] = 3;
    file[0x202..0x206].copy_from_slice(b"HdrS");
    file[0x206..0x208].copy_from_slice(&0x020f_u16.to_le_bytes());
    file[0x248..0x24c].copy_from_slice(&2048_u32.to_le_bytes());
    let length = payload.len() as u32 + 4;
    file[0x24c..0x250].copy_from_slice(&length.to_le_bytes());
    file.extend(&payload);
    file.extend(90_000_u32.to_le_bytes());
    file.extend(text(5000, 13));
    let opened = open(&file, &options()).unwrap();
    let names: Vec<_> = opened
        .recipe
        .parts()
        .iter()
        .map(|part| part.coding.name())
        .collect();
    assert_eq!(names, ["stored", "xz", "stored"]);
    prove(&file, &opened);
}

#[test]
fn limits_and_missing_encoders_are_typed() {
    let content = text(50_000, 14);
    let opened = open(&run("xz", &["-6"], &content), &options()).unwrap();
    let encode = |recipe: &Recipe, inner: &[u8], limits: &Limits| {
        encode(recipe, inner, std::io::sink(), limits)
    };
    let tight = Limits {
        memory: 1 << 20,
        ..Limits::default()
    };
    assert!(matches!(
        encode(&opened.recipe, &content, &tight),
        Err(Error::Memory { .. })
    ));
    let short = encode(&opened.recipe, &content[1..], &Limits::default());
    assert!(matches!(
        short,
        Err(Error::InnerShort {
            expected: 50_000,
            found: 49_999
        })
    ));
    let other = encode(&opened.recipe, &[0; 50_000], &Limits::default());
    assert!(matches!(other, Err(Error::OutputLength { .. })));

    // zstd 1.4.0, level 3, of five bytes.
    let wire = [1, 1, 5, 18, 1, 0xf8, 0x4e, 3, 0b1011, 0];
    let wire = [&wire[..5], &[0xd8, 0x4f], &wire[7..]].concat();
    let recipe = Recipe::parse(&wire).unwrap();
    let [part] = recipe.parts() else {
        panic!("one part")
    };
    let Coding::Zstd(params) = &part.coding else {
        panic!("zstd")
    };
    let version = params.version;
    assert!(!Version::KNOWN.contains(&version));
    match encode(&recipe, b"hello", &Limits::default()) {
        Err(Error::EncoderMissing { version: missing }) => assert_eq!(missing, version),
        other => panic!("{other:?}"),
    }
}

/// Programs that are not what their names say.
#[test]
fn helpers_that_lie_or_hang() {
    use std::os::unix::fs::PermissionsExt;
    let old = Version::KNOWN[1];
    let wire = |version: Version| {
        let mut wire = vec![1, 1, 5, 18, 1];
        let number = version.number();
        wire.extend([number as u8 | 0x80, (number >> 7) as u8, 3, 0b1011, 0]);
        Recipe::parse(&wire).unwrap()
    };
    let cases = [
        ("#!/bin/sh\necho bundle-zstd 9.9.9\n", "unfit"),
        ("#!/bin/sh\nexec cat /dev/zero\n", "unfit"),
        (
            "#!/bin/sh\n[ \"$1\" = --version ] || exit 3\necho bundle-zstd VERSION\n",
            "encoder",
        ),
        (
            "#!/bin/sh\n[ \"$1\" = --version ] || exec cat /dev/zero\necho bundle-zstd VERSION\n",
            "length",
        ),
        (
            "#!/bin/sh\n[ \"$1\" = --version ] || exec sleep 60\necho bundle-zstd VERSION\n",
            "slow",
        ),
    ];
    for (script, expected) in cases {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(format!("bundle-zstd-{old}"));
        std::fs::write(&path, script.replace("VERSION", &old.to_string())).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        let encoders = EncoderSet::in_directory(directory.path());
        let time = std::time::Duration::from_secs(2);
        let limits = Limits {
            encoders,
            time,
            ..Limits::default()
        };
        let error = encode(&wire(old), &b"hello"[..], std::io::sink(), &limits).unwrap_err();
        let found = match error {
            Error::EncoderUnfit { .. } => "unfit",
            Error::Encoder { .. } => "encoder",
            Error::OutputLength { .. } => "length",
            Error::TooSlow { .. } => "slow",
            other => panic!("{script}: {other:?}"),
        };
        assert_eq!(found, expected, "{script}");
    }
}
