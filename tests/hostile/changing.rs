//! Rows 31 to 33: media that change their answers, vanish or fail.

use std::fs;
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};

use bundle::verify::{self, ProblemKind, VerifiedBundle};
use bundle_format::{BlobEntry, Digest};

use crate::case::{accepts, library};
use crate::common::kit::{Image, Kit, write_image};
use crate::common::reseal::parts;
use crate::common::run::{bundle, run, tool};

fn opened(path: &Path, kit: &Kit) -> VerifiedBundle {
    verify::open(verify::medium(path).unwrap(), &kit.root()).unwrap()
}

fn largest(bundle: &Path) -> BlobEntry {
    let blobs = parts(bundle).release.blobs;
    blobs.into_iter().max_by_key(|blob| blob.size).unwrap()
}

/// Reads a blob; returns what was handed on and the problem that ended it.
fn read(bundle: &VerifiedBundle, blob: &Digest) -> (Vec<u8>, Option<ProblemKind>) {
    let mut bytes = Vec::new();
    let problem = match bundle.blob(blob) {
        Ok(mut reader) => reader
            .read_to_end(&mut bytes)
            .err()
            .map(|error| verify::into_problem(error, "x").kind),
        Err(problem) => Some(problem.kind),
    };
    (bytes, problem)
}

#[test]
fn content_changed_after_opening_is_never_handed_on() {
    type Change = fn(&Path);
    let kit = Kit::new(Image::USUAL);
    let blob = largest(&kit.bundle);
    let good = fs::read(kit.bundle.join(blob.digest.blob_path())).unwrap();
    let cases: &[(u8, &str, ProblemKind, Change)] = &[
        (31, "other bytes", ProblemKind::Corrupt, |path| {
            let length = fs::metadata(path).unwrap().len() as usize;
            fs::write(path, vec![7; length]).unwrap();
        }),
        (
            31,
            "one bit of the last chunk",
            ProblemKind::Corrupt,
            |path| {
                let mut bytes = fs::read(path).unwrap();
                *bytes.last_mut().unwrap() ^= 1;
                fs::write(path, bytes).unwrap();
            },
        ),
        (32, "truncated", ProblemKind::WrongSize, |path| {
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(1 << 20)
                .unwrap();
        }),
        (
            32,
            "replaced by a longer file",
            ProblemKind::WrongSize,
            |path| {
                let mut bytes = fs::read(path).unwrap();
                bytes.push(0);
                fs::remove_file(path).unwrap();
                fs::write(path, bytes).unwrap();
            },
        ),
        (32, "removed", ProblemKind::MissingFile, |path| {
            fs::remove_file(path).unwrap()
        }),
        (32, "renamed", ProblemKind::MissingFile, |path| {
            fs::rename(path, path.with_extension("away")).unwrap();
        }),
        (
            32,
            "replaced by a link",
            ProblemKind::MisplacedFile,
            |path| {
                fs::rename(path, path.with_extension("away")).unwrap();
                std::os::unix::fs::symlink(path.with_extension("away"), path).unwrap();
            },
        ),
    ];
    for (number, (row, name, kind, change)) in cases.iter().enumerate() {
        let dir = kit.copy(&format!("changed-{number}"));
        let bundle = opened(&dir, &kit);
        assert_eq!(
            read(&bundle, &blob.digest),
            (good.clone(), None),
            "{name}: the twin"
        );
        change(&dir.join(blob.digest.blob_path()));
        let (bytes, problem) = read(&bundle, &blob.digest);
        assert_eq!(problem, Some(*kind), "row {row}: {name}");
        assert!(good.starts_with(&bytes), "row {row}: {name}: mixed content");
    }
}

/// Row 31: the change comes between two chunks of one read, through the handle that is open.
#[test]
fn content_changed_in_the_middle_of_a_read() {
    type Change = fn(&Path);
    let kit = Kit::new(Image::USUAL);
    let blob = largest(&kit.bundle);
    let good = fs::read(kit.bundle.join(blob.digest.blob_path())).unwrap();
    let cases: &[(&str, ProblemKind, Change)] = &[
        ("overwritten in place", ProblemKind::Corrupt, |path| {
            let length = fs::metadata(path).unwrap().len();
            let file = fs::File::options().write(true).open(path).unwrap();
            std::os::unix::fs::FileExt::write_all_at(&file, &vec![7; length as usize], 0).unwrap();
        }),
        ("truncated in place", ProblemKind::Unreadable, |path| {
            fs::File::options()
                .write(true)
                .open(path)
                .unwrap()
                .set_len(1 << 20)
                .unwrap();
        }),
    ];
    for (name, kind, change) in cases {
        let dir = kit.copy("middle");
        let bundle = opened(&dir, &kit);
        let mut reader = bundle.blob(&blob.digest).unwrap();
        let mut bytes = vec![0; 1000];
        reader.read_exact(&mut bytes).unwrap();
        change(&dir.join(blob.digest.blob_path()));
        let error = reader.read_to_end(&mut bytes).unwrap_err();
        assert_eq!(verify::into_problem(error, "x").kind, *kind, "{name}");
        assert!(good.starts_with(&bytes), "{name}: mixed content");
        // The reader does not go on behind what it refused.
        let again = reader.read(&mut [0; 10]).map_err(|error| error.kind());
        assert_eq!(again, Err(ErrorKind::Other), "{name}");
        fs::remove_dir_all(dir).unwrap();
    }
}

/// Row 32: a file replaced under an open reader: the reader keeps the file it opened.
#[test]
fn a_file_renamed_over_an_open_one_does_not_mix() {
    let kit = Kit::new(Image::USUAL);
    let blob = largest(&kit.bundle);
    let dir = kit.copy("swapped");
    let bundle = opened(&dir, &kit);
    let mut reader = bundle.blob(&blob.digest).unwrap();
    let mut bytes = vec![0; 1000];
    reader.read_exact(&mut bytes).unwrap();
    fs::write(dir.join("new"), vec![7; blob.size as usize]).unwrap();
    fs::rename(dir.join("new"), dir.join(blob.digest.blob_path())).unwrap();
    reader.read_to_end(&mut bytes).unwrap();
    assert_eq!(Digest::of(&bytes), blob.digest);
}

/// Row 33, as far as it goes without `apply`: whoever opens verifies, whatever was verified before.
#[test]
fn a_swap_between_verify_and_use_is_found() {
    let kit = Kit::new(Image::USUAL);
    let path = kit.copy("stick");
    accepts(&path, &kit.trust_root);
    let (image, evil) = (kit.path("evil-image"), kit.path("evil"));
    write_image(
        &image,
        Image {
            seed: 3,
            ..Image::USUAL
        },
    );
    kit.export(&image, &evil, 9);
    let stranger = bundle_keys::PrivateKey::generate().unwrap();
    let payload = parts(&evil).signed.payload;
    crate::common::reseal::sign_payload(&evil, payload, &[stranger]);
    fs::rename(&path, kit.path("aside")).unwrap();
    fs::rename(&evil, &path).unwrap();
    let found = library("swapped", &path, &kit.trust_root).unwrap_err();
    assert_eq!(
        (found.status, found.codes.contains("untrusted")),
        (11, true)
    );
}

/// Row 31: the directory that was opened is the one that is read, even when its name moves on.
#[test]
fn a_directory_swapped_after_opening_is_not_followed() {
    let kit = Kit::new(Image::USUAL);
    let path = kit.copy("stick");
    let bundle = opened(&path, &kit);
    fs::rename(&path, kit.path("aside")).unwrap();
    fs::create_dir(&path).unwrap();
    for blob in &bundle.release().blobs {
        let (bytes, problem) = read(&bundle, &blob.digest);
        assert_eq!((Digest::of(&bytes), problem), (blob.digest, None));
    }
}

/// Row 32: the kernel answers reads with an error, as for a bad sector or a medium that was pulled.
#[test]
fn failing_reads_are_reported_with_their_place() {
    let kit = Kit::new(Image::USUAL);
    let blob = largest(&kit.bundle);
    let layer = kit.bundle.join(blob.digest.blob_path());
    let verify: PathBuf = env!("CARGO_BIN_EXE_bundle").into();
    // Counted by thread: the first read of each, or all of them.
    for (error, when) in [
        ("EIO", "1"),
        ("EIO", "1+"),
        ("ENOMEDIUM", "1+"),
        ("ENXIO", "1"),
    ] {
        let mut command = tool(
            "strace",
            ["-f", "-qq", "-o", "/dev/null", "-e", "trace=pread64"],
        );
        command.arg("-P").arg(&layer).arg("-e");
        command.arg(format!("inject=pread64:error={error}:when={when}"));
        command
            .arg(&verify)
            .args(["verify", "--json"])
            .arg(&kit.bundle);
        let done = run(command.arg("--trust-root").arg(&kit.trust_root)).bad(12);
        let problems = done.json()["problems"].as_array().unwrap().clone();
        let codes: Vec<_> = problems
            .iter()
            .map(|p| p["code"].as_str().unwrap())
            .collect();
        assert!(
            !codes.is_empty() && codes.iter().all(|c| *c == "unreadable"),
            "{codes:?}"
        );
        assert_eq!(problems[0]["file"], blob.digest.blob_path());
        assert!(problems[0]["range"][0].as_u64().is_some(), "{problems:?}");
        assert!(
            done.stderr.contains("hint: the medium fails"),
            "{}",
            done.stderr
        );
    }
    // The same medium in a working drive.
    run(bundle(["verify"])
        .arg(&kit.bundle)
        .arg("--trust-root")
        .arg(&kit.trust_root))
    .good();
}

/// Row 32: the list of files and the files disagree because one came in between.
#[test]
fn a_file_that_comes_and_goes_does_not_confuse() {
    let kit = Kit::new(Image::MINIMAL);
    let dir = kit.copy("busy");
    let stop = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                fs::write(dir.join("flicker"), "x").unwrap();
                fs::remove_file(dir.join("flicker")).unwrap();
            }
        });
        for _ in 0..50 {
            let medium = verify::medium(&dir).unwrap();
            let found = verify::check(medium, &kit.root(), &bundle::progress::Silent).unwrap();
            let known = [ProblemKind::ExtraFile, ProblemKind::Unreadable];
            assert!(
                found.problems.iter().all(|p| known.contains(&p.kind)),
                "{found:?}"
            );
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
    accepts(&dir, &kit.trust_root);
}
