//! Layer deltas: what is made is rebuilt byte for byte, and what is damaged is refused.

#![cfg(feature = "export")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};

use bundle::delta::{Options, Spool, SpoolStore, make};
use bundle::progress::Silent;
use bundle_delta::DeltaError;
use bundle_delta::header::Header;
use bundle_delta::rebuild::rebuild;

type Files = Vec<(String, Vec<u8>)>;

/// Bytes that compress as programs do: neither random nor uniform.
fn content(seed: u64, len: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(len + 16);
    while bytes.len() < len {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let word = state.to_le_bytes();
        let used = 1 + (state >> 60) as usize % 8;
        bytes.extend_from_slice(&word[..used]);
        bytes.extend_from_slice(b"common text ");
    }
    bytes.truncate(len);
    bytes
}

fn edited(mut bytes: Vec<u8>, every: usize) -> Vec<u8> {
    for at in (every..bytes.len()).step_by(every) {
        bytes[at] = bytes[at].wrapping_add(3);
    }
    let middle = bytes.len() / 2;
    bytes.splice(middle..middle, *b"something that was not there before");
    bytes
}

fn tar(files: &Files) -> Vec<u8> {
    let mut builder = tar::Builder::new(Vec::new());
    for (path, bytes) in files {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        builder
            .append_data(&mut header, path, bytes.as_slice())
            .unwrap();
    }
    builder.into_inner().unwrap()
}

/// Compresses as the command does; a missing program fails the test.
fn filter(program: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
    let child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let mut child = child.unwrap_or_else(|e| panic!("{program} is needed: {e}"));
    let mut stdin = child.stdin.take().unwrap();
    let bytes = bytes.to_vec();
    let feeder = std::thread::spawn(move || stdin.write_all(&bytes));
    let output = child.wait_with_output().unwrap();
    feeder.join().unwrap().unwrap();
    assert!(output.status.success(), "{program}");
    output.stdout
}

/// An initramfs in the newc format.
fn cpio(files: &Files) -> Vec<u8> {
    let mut archive = Vec::new();
    let trailer = ("TRAILER!!!".to_string(), Vec::new());
    for (number, (name, bytes)) in files.iter().chain([&trailer]).enumerate() {
        let fields = [
            number,
            0o100_644,
            0,
            0,
            1,
            0,
            bytes.len(),
            0,
            0,
            0,
            0,
            name.len() + 1,
            0,
        ];
        archive.extend_from_slice(b"070701");
        fields
            .iter()
            .for_each(|field| archive.extend(format!("{field:08x}").bytes()));
        archive.extend_from_slice(name.as_bytes());
        archive.push(0);
        archive.resize(archive.len().next_multiple_of(4), 0);
        archive.extend_from_slice(bytes);
        archive.resize(archive.len().next_multiple_of(4), 0);
    }
    archive
}

/// Two releases: files unchanged, edited, renamed with their version, new, gone, twice the same, and compressed.
fn releases() -> (Vec<u8>, Vec<u8>) {
    let file = |path: &str, bytes: Vec<u8>| (path.to_string(), bytes);
    let release = |kernel: &str, change: bool| -> Files {
        let change = |bytes: Vec<u8>, every| if change { edited(bytes, every) } else { bytes };
        let modules: Files = (0..6)
            .map(|number| {
                let bytes = change(content(100 + number, 40_000), 997);
                file(
                    &format!("usr/lib/modules/{kernel}/kernel/{number}.ko"),
                    bytes,
                )
            })
            .collect();
        let initramfs = cpio(&modules);
        let xz = ["--check=crc32", "--lzma2=dict=1MiB", "-c"];
        let mut files = vec![
            file("usr/bin/same", content(1, 100_000)),
            file("usr/bin/edited", change(content(2, 300_000), 5000)),
            file(
                &format!("usr/lib/modules/{kernel}/initramfs.img"),
                filter("xz", &xz, &initramfs),
            ),
            file(
                &format!("usr/lib/modules/{kernel}/extra.ko.xz"),
                filter("xz", &xz, &change(content(7, 90_000), 700)),
            ),
            // Twice: alike but for the header, and of which the recipe tells the level.
            file(
                "usr/share/doc/changelog.gz",
                filter("gzip", &["-9n"], &change(content(8, 80_000), 900)),
            ),
            file(
                &format!("boot/initrd.img-{kernel}"),
                filter("gzip", &["-6"], &initramfs),
            ),
            file("usr/share/empty", Vec::new()),
        ];
        files.extend(modules);
        files
    };
    let old = release("6.1.0-50", false);
    let mut new = release("6.1.0-56", true);
    new.push(file("usr/bin/new", content(50, 20_000)));
    new.push(file("usr/bin/new-again", content(50, 20_000)));
    new.push(file("usr/bin/same-elsewhere", content(1, 100_000)));
    (tar(&old), tar(&new))
}

fn spool(bytes: &[u8]) -> Spool {
    Spool::read(bytes, &std::env::temp_dir()).unwrap()
}

fn made(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut delta = Vec::new();
    make(
        &spool(new),
        &[spool(old)],
        &Options::default(),
        &Silent,
        &mut delta,
    )
    .unwrap();
    delta
}

fn rebuilt(delta: &[u8], old: &[u8]) -> Result<Vec<u8>, DeltaError> {
    let mut input = delta;
    let header = Header::read(&mut input, &Default::default())?;
    let bases = [spool(old)];
    let store = SpoolStore::new(&header, &bases, Options::default().recipes.limits);
    let mut out = Vec::new();
    rebuild(&header, input, &store, &mut out, &Default::default())?;
    Ok(out)
}

#[test]
fn what_is_made_is_rebuilt_byte_for_byte() {
    let (old, new) = releases();
    let delta = made(&old, &new);
    assert_eq!(rebuilt(&delta, &old).unwrap(), new);
    assert_eq!(
        made(&old, &new),
        delta,
        "the same input gives the same delta"
    );
    let whole = zstd::bulk::compress(&new, 19).unwrap().len();
    assert!(
        delta.len() * 5 < whole,
        "{} bytes against {whole} in full",
        delta.len()
    );

    // From nothing, to nothing, and to the same.
    for (from, to) in [
        (&tar(&Vec::new()), &new),
        (&new, &tar(&Vec::new())),
        (&new, &new),
    ] {
        assert_eq!(&rebuilt(&made(from, to), from).unwrap(), to);
    }
}

#[test]
fn another_base_is_noticed() {
    let (old, new) = releases();
    let delta = made(&old, &new);
    let header = Header::read(&mut delta.as_slice(), &Default::default()).unwrap();
    let whole = [spool(&old)];
    let limits = Options::default().recipes.limits;
    assert_eq!(
        SpoolStore::new(&header, &whole, limits.clone())
            .missing()
            .count(),
        0
    );
    let other = [spool(&tar(&vec![(
        "usr/bin/same".into(),
        content(99, 100_000),
    )]))];
    assert_eq!(
        SpoolStore::new(&header, &other, limits).missing().count(),
        header.sources.len()
    );
    assert!(rebuilt(&delta, &tar(&Vec::new())).is_err());
}

#[test]
fn damaged_deltas_are_refused() {
    let (old, new) = releases();
    let delta = made(&old, &new);
    let step = delta.len() / 60;
    for at in (0..delta.len()).step_by(step.max(1)) {
        let mut bad = delta.clone();
        bad[at] ^= 0x10;
        // A hint that is only a hint, such as the path of a source, may change without harm.
        if let Ok(out) = rebuilt(&bad, &old) {
            assert_eq!(out, new, "byte {at}");
        }
        assert!(rebuilt(&delta[..at], &old).is_err(), "cut at {at}");
    }
    let more = [delta.as_slice(), b"x"].concat();
    assert!(rebuilt(&more, &old).is_err(), "data behind the end");
}
