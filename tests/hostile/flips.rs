//! Rows 1 and 2: damage at every place.

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bundle::progress::Silent;
use bundle::verify;
use bundle_keys::TrustRoot;

use crate::case::{accepts, command_line, library};
use crate::common::kit::{Image, Kit, files};
use crate::common::tarball::{finish, members};

/// One bit, the highest bit, all bits.
const FLIPS: [u8; 3] = [0x01, 0x80, 0xff];

fn accepted(path: &Path, root: &TrustRoot) -> bool {
    let Ok(medium) = verify::medium(path) else {
        return false;
    };
    verify::check(medium, root, &Silent)
        .unwrap()
        .problems
        .is_empty()
}

/// Changes one byte of a file in place, looks, and changes it back.
fn flipped<T>(file: &fs::File, at: u64, mask: u8, look: impl FnOnce() -> T) -> T {
    let mut byte = [0];
    file.read_exact_at(&mut byte, at).unwrap();
    file.write_all_at(&[byte[0] ^ mask], at).unwrap();
    let seen = look();
    file.write_all_at(&byte, at).unwrap();
    seen
}

fn writable(path: &Path) -> fs::File {
    fs::File::options()
        .read(true)
        .write(true)
        .open(path)
        .unwrap()
}

#[test]
fn every_byte_of_a_minimal_bundle() {
    let kit = Kit::new(Image::MINIMAL);
    accepts(&kit.bundle, &kit.trust_root);
    let root = kit.root();
    // Two halves of the work on two copies: each changes its own.
    std::thread::scope(|scope| {
        for half in 0..2 {
            let dir = kit.copy(&format!("half-{half}"));
            let root = &root;
            scope.spawn(move || {
                for path in files(&dir) {
                    let file = writable(&dir.join(&path));
                    for at in (half..file.metadata().unwrap().len()).step_by(2) {
                        for mask in FLIPS {
                            let accepted = flipped(&file, at, mask, || accepted(&dir, root));
                            assert!(!accepted, "{path}: byte {at} ^ {mask:#x} is accepted");
                        }
                    }
                }
                assert!(accepted(&dir, root));
            });
        }
    });
}

/// Offsets at the ends, at the chunk borders and between.
fn samples(size: u64) -> Vec<u64> {
    let chunk = 1_u64 << 20;
    let mut offsets: Vec<u64> = (0..8).map(|part| part * size / 8).collect();
    offsets.extend([
        size.saturating_sub(1),
        chunk - 1,
        chunk,
        2 * chunk - 1,
        2 * chunk,
    ]);
    offsets.retain(|at| *at < size);
    offsets.sort_unstable();
    offsets.dedup();
    offsets
}

#[test]
fn sampled_bits_of_a_usual_bundle() {
    let kit = Kit::new(Image::USUAL);
    accepts(&kit.bundle, &kit.trust_root);
    let dir = kit.copy("flipped");
    for path in files(&dir) {
        let file = writable(&dir.join(&path));
        let offsets = samples(file.metadata().unwrap().len());
        for (number, at) in offsets.into_iter().enumerate() {
            let name = format!("{path}: byte {at}");
            flipped(&file, at, 1 << (at % 8), || {
                let found = library(&name, &dir, &kit.trust_root).expect_err(&name);
                assert!([10, 11, 12].contains(&found.status), "{name}: {found:?}");
                if path.starts_with("blobs") {
                    assert_eq!(found.status, 12, "{name}: {found:?}");
                }
                if number == 0 {
                    assert_eq!(command_line(&name, &dir, &kit.trust_root), found, "{name}");
                }
            });
        }
    }
    accepts(&dir, &kit.trust_root);
}

#[test]
fn every_header_byte_of_the_tar_form() {
    let kit = Kit::new(Image::MINIMAL);
    let tar = kit.path("bundle.tar");
    let members = members(&kit.bundle);
    fs::write(&tar, finish(&members)).unwrap();
    accepts(&tar, &kit.trust_root);
    let root = kit.root();
    let file = writable(&tar);
    let mut start = 0;
    for (number, member) in members.iter().enumerate() {
        // Every byte of the first header and of its padding, samples of the others.
        let step = if number == 0 { 1 } else { 7 };
        for at in (start..start + 512).step_by(step) {
            for mask in FLIPS {
                let accepted = flipped(&file, at, mask, || accepted(&tar, &root));
                assert!(
                    !accepted,
                    "header {number}: byte {} ^ {mask:#x} is accepted",
                    at - start
                );
            }
        }
        start += member.len() as u64;
        let accepted = flipped(&file, start - 1, 1, || accepted(&tar, &root));
        assert!(
            !accepted,
            "the last byte of member {number} is changed and accepted"
        );
    }
    for at in start..start + 1024 {
        let accepted = flipped(&file, at, 1, || accepted(&tar, &root));
        assert!(
            !accepted,
            "byte {} of the end marker is changed and accepted",
            at - start
        );
    }
    flipped(&file, 600, 1, || {
        let found = library("tar", &tar, &kit.trust_root).unwrap_err();
        assert_eq!(command_line("tar", &tar, &kit.trust_root), found);
    });
}

#[test]
fn files_cut_emptied_or_continued() {
    let kit = Kit::new(Image::USUAL);
    accepts(&kit.bundle, &kit.trust_root);
    let dir = kit.copy("cut");
    for path in files(&dir) {
        let place = dir.join(&path);
        let good = fs::read(&place).unwrap();
        let damages: [(&str, Option<Vec<u8>>); 6] = [
            ("a byte less", Some(good[..good.len() - 1].to_vec())),
            ("half", Some(good[..good.len() / 2].to_vec())),
            ("empty", Some(Vec::new())),
            ("a byte more", Some([&good[..], b"\n"].concat())),
            ("twice", Some([&good[..], &good[..]].concat())),
            ("gone", None),
        ];
        for (what, bytes) in damages {
            let name = format!("{path}: {what}");
            match bytes {
                Some(bytes) => fs::write(&place, bytes).unwrap(),
                None => fs::remove_file(&place).unwrap(),
            }
            let found = library(&name, &dir, &kit.trust_root).expect_err(&name);
            let expected = if path == "index.json" {
                [10, 11, 12].as_slice()
            } else {
                &[12]
            };
            assert!(expected.contains(&found.status), "{name}: {found:?}");
            assert_eq!(command_line(&name, &dir, &kit.trust_root), found, "{name}");
        }
        fs::write(&place, good).unwrap();
    }
    accepts(&dir, &kit.trust_root);
}
