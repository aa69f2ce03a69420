//! Bytes that nobody meant well: errors are fine, panics are bugs.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use bundle_recipes::{Limits, Options, Recipe, cpio, encode, open};
use proptest::prelude::{ProptestConfig, Strategy, any, prop_oneof, proptest};

/// Recipes of every kind, to be damaged.
fn seeds() -> Vec<Vec<u8>> {
    vec![
        vec![1, 1, 5, 5, 0],
        // zstd 1.5.7, level 3.
        vec![1, 1, 5, 18, 1, 0x8b, 0x52, 3, 0b1011, 0],
        // xz: CRC-32, x86, 1 MiB, the parameters of level 6.
        vec![
            1, 1, 5, 68, 2, 1, 1, 1, 4, 0x80, 0x80, 0x40, 3, 0, 2, 0, 20, 64, 0, 0, 0,
        ],
        // gzip: level 6, of zlib and of GNU gzip, in pieces and with corrections.
        gzip(&[8, 6, 0, 0, 0]),
        gzip(&[8, 6, 1, 0x80, 0x80, 2, 0, 0]),
        // A literal, and after one that is right a match of three bytes at distance 1; then a block of three tokens in the
        // fixed codes, and a stored one of two bytes.
        gzip(&[0, 9, 0, 4, 0, 3, 0, 0, 6, 0, 0b1001, 3, 0, 0b101, 2]),
    ]
}

/// A recipe of one member with five bytes, 25 in the file, and a header without anything that may be left out.
fn gzip(rest: &[u8]) -> Vec<u8> {
    let beginning = [1, 1, 5, 25, 3, 1, 10, 0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3];
    [&beginning, rest].concat()
}

fn limits() -> Limits {
    Limits {
        memory: 64 << 20,
        ..Limits::default()
    }
}

fn options() -> Options {
    Options {
        limits: limits(),
        inner: 4 << 20,
        decoder_memory: 32 << 20,
        ..Options::default()
    }
}

/// A seed with some bytes changed, and perhaps cut.
fn damaged(seeds: Vec<Vec<u8>>) -> impl Strategy<Value = Vec<u8>> {
    let changes = proptest::collection::vec((any::<usize>(), any::<u8>()), 0..6);
    (proptest::sample::select(seeds), changes, any::<usize>()).prop_map(
        |(mut bytes, changes, cut)| {
            for (at, value) in changes {
                let at = at % bytes.len();
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            if cut % 3 == 0 {
                bytes.truncate(cut % (bytes.len() + 1));
            }
            bytes
        },
    )
}

/// Small files of every format.
fn files() -> Vec<Vec<u8>> {
    let archive = {
        let mut bytes = b"070701".to_vec();
        for field in [1, 0o100_644, 0, 0, 1, 0, 4, 0, 0, 0, 0, 2, 0] {
            bytes.extend(format!("{field:08X}").into_bytes());
        }
        bytes.extend(b"a\0data");
        bytes
    };
    vec![
        archive,
        // printf hello | zstd, | gzip -n, | xz --check=crc32
        vec![
            0x28, 0xb5, 0x2f, 0xfd, 0x24, 0x05, 0x29, 0, 0, b'h', b'e', b'l', b'l', b'o', 0x76,
            0x30, 0x28, 0xe8,
        ],
        vec![
            0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 7, 0, 0x86, 0xa6,
            0x10, 0x36, 5, 0, 0, 0,
        ],
        vec![
            0xfd, b'7', b'z', b'X', b'Z', 0, 0, 1, 0x69, 0x22, 0xde, 0x36, 2, 0, 0x21, 1, 0x16, 0,
            0, 0, 0x74, 0x2f, 0xe5, 0xa3, 1, 0, 4, b'h', b'e', b'l', b'l', b'o', 0, 0, 0, 0,
        ],
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 600, ..ProptestConfig::default() })]

    #[test]
    fn recipes(bytes in prop_oneof![
        damaged(seeds()),
        proptest::collection::vec(any::<u8>(), 0..300),
    ]) {
        if let Ok(recipe) = Recipe::parse(&bytes) {
            assert_eq!(recipe.to_bytes(), bytes, "not canonical");
            let _ = recipe.memory_with(64);
            if recipe.inner_length() < 1 << 16 {
                let inner = vec![b'x'; recipe.inner_length() as usize];
                let mut out = Vec::new();
                let _ = encode(&recipe, inner.as_slice(), &mut out, &limits());
                assert!(out.len() as u64 <= recipe.encoded_length());
            }
        }
    }

    #[test]
    fn files_of_every_kind(bytes in prop_oneof![
        damaged(files()),
        proptest::collection::vec(any::<u8>(), 0..2000),
    ]) {
        if let Some(opened) = open(&bytes, &options()) {
            let mut again = Vec::new();
            encode(&opened.recipe, opened.inner.as_slice(), &mut again, &limits()).unwrap();
            assert_eq!(again, bytes);
        }
    }

    #[test]
    fn archives(bytes in damaged(files())) {
        for entry in cpio::split_all(&bytes, 10).unwrap_or_default() {
            assert!(bytes.get(entry.data).is_some() && bytes.get(entry.header).is_some());
        }
    }
}

/// Contents far larger than their files: refused before they fill the memory.
#[test]
fn bombs() {
    let zeros = vec![0; 16 << 20];
    for (program, arguments) in [("xz", "-0"), ("gzip", "-9"), ("zstd", "-1")] {
        let mut child = std::process::Command::new(program)
            .arg(arguments)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
        let mut pipe = child.stdin.take().unwrap();
        std::io::Write::write_all(&mut pipe, &zeros).unwrap();
        drop(pipe);
        let file = child.wait_with_output().unwrap().stdout;
        assert!(open(&file, &options()).is_none(), "{program}");
    }
}
