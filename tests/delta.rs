//! Layer deltas: what is made is rebuilt byte for byte, and what is damaged is refused.

#![cfg(feature = "export")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use bundle::delta::{Layer, Options, Spool, SpoolStore, make, prove, tar_diff};
use bundle::progress::Silent;
use bundle_delta::DeltaError;
use bundle_delta::header::{Effort, Header};
use bundle_delta::rebuild::rebuild;
use bundle_delta::{program, streams};
use bundle_format::Digest;

#[path = "common/archive.rs"]
mod archive;

use archive::{Files, cpio, filter};

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

fn base(spool: &Spool) -> Layer<'_> {
    Layer {
        spool,
        target: None,
    }
}

fn made(old: &[u8], new: &[u8]) -> Vec<u8> {
    let mut delta = Vec::new();
    make(
        &spool(new),
        &[base(&spool(old))],
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
    let old = spool(old);
    let store = SpoolStore::new(&header, &[base(&old)], &Options::default());
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
    let missing = |spool: &Spool| {
        let store = SpoolStore::new(&header, &[base(spool)], &Options::default());
        store.missing().count()
    };
    assert_eq!(missing(&spool(&old)), 0);
    let other = spool(&tar(&vec![("usr/bin/same".into(), content(99, 100_000))]));
    assert_eq!(missing(&other), header.sources.len());
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

/// Makes a delta with options, and proves it.
fn made_with(layers: &[Layer<'_>], target: &Spool, options: &Options) -> (Header, Vec<u8>) {
    let mut delta = Vec::new();
    let header = make(target, layers, options, &Silent, &mut delta).unwrap();
    prove(&mut delta.as_slice(), layers, options).unwrap();
    (header, delta)
}

#[test]
fn threads_and_memory_change_nothing_but_time() {
    let (old, new) = releases();
    let (old, new) = (spool(&old), spool(&new));
    let with = |threads, memory| {
        let options = Options {
            threads,
            memory,
            ..Options::default()
        };
        made_with(&[base(&old)], &new, &options).1
    };
    let one = with(1, 2 << 30);
    assert_eq!(with(2, 2 << 30), one);
    // With next to no memory files are sent as they are, and still come out right.
    assert!(with(2, 2 << 20).len() > one.len());
}

#[test]
fn what_the_appliance_lacks_is_not_asked_of_it() {
    let (old, new) = releases();
    let (old, new) = (spool(&old), spool(&new));
    let (rich, _) = made_with(&[base(&old)], &new, &Options::default());
    assert_eq!(rich.encoders, ["gzip 1", "xz 5.8"]);
    assert_eq!(rich.effort, Effort::Slow);
    assert!(rich.scratch > 0);
    for target in [64 << 20, 50 << 20] {
        let options = Options::default().with_target_memory(target);
        let (header, _) = made_with(&[base(&old)], &new, &options);
        assert!(header.memory <= target, "{} of {target}", header.memory);
    }
    let options = Options::default().with_target_memory(50 << 20);
    let (poor, _) = made_with(&[base(&old)], &new, &options);
    assert_eq!((poor.encoders, poor.effort), (Vec::new(), Effort::Copy));
}

#[test]
fn files_are_found_that_changed_name_and_place() {
    let file = |path: &str, bytes: Vec<u8>| (path.to_string(), bytes);
    let old = tar(&vec![
        file("usr/bin/one", content(1, 200_000)),
        file("usr/lib/two", content(2, 200_000)),
    ]);
    let new = tar(&vec![
        file("opt/other/thing", edited(content(2, 200_000), 9000)),
        file("opt/again", content(3, 50_000)),
        file("srv/again", content(3, 50_000)),
    ]);
    let (header, delta) = made_with(&[base(&spool(&old))], &spool(&new), &Options::default());
    assert_eq!(header.sources.len(), 1);
    assert_eq!(header.sources[0].path, "usr/lib/two");
    // What occurs twice is kept once.
    assert_eq!(header.scratch, 50_000);
    let fresh = zstd::bulk::compress(&content(3, 50_000), 19).unwrap().len();
    assert!(
        delta.len() < fresh + 4000,
        "{} with {fresh} new",
        delta.len()
    );
}

#[test]
fn a_delta_is_no_larger_than_its_rivals() {
    let (old, new) = releases();
    let (old_layer, new_layer) = (spool(&old), spool(&new));
    let sources = [base(&old_layer)];
    let (_, ours) = made_with(&sources, &new_layer, &Options::default());
    let mut rival = Vec::new();
    tar_diff::make(
        &new_layer,
        &sources,
        &Options::default(),
        &Silent,
        &mut rival,
    )
    .unwrap();
    tar_diff::prove(&new_layer, &mut rival.as_slice(), &sources).unwrap();
    assert!(
        ours.len() < rival.len(),
        "{} against {}",
        ours.len(),
        rival.len()
    );
    // Where nothing is alike, it costs as much as the whole.
    let stranger = spool(&tar(&vec![("usr/bin/x".into(), content(1234, 400_000))]));
    let (_, ours) = made_with(&sources, &stranger, &Options::default());
    let mut whole = vec![0; stranger.size() as usize];
    stranger.read_at(&mut whole, 0).unwrap();
    let whole = zstd::bulk::compress(&whole, 19).unwrap().len();
    assert!(
        ours.len() < whole + whole / 100 + 500,
        "{} against {whole}",
        ours.len()
    );
}

/// Changes bytes, numbers, order and length, as a seed says.
fn mutated(good: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 11) as usize % below.max(1)
    };
    let mut bad = good.to_vec();
    for _ in 0..=random(4) {
        let at = random(bad.len());
        match random(5) {
            0 => bad[at] ^= 1 << random(8),
            1 => bad[at] = [0, 1, 0x7f, 0x80, 0xff][random(5)],
            2 => bad.truncate(at.max(1)),
            3 => {
                let end = (at + random(40)).min(bad.len());
                let piece = bad[at..end].to_vec();
                let to = random(bad.len());
                bad.splice(to..to, piece);
            }
            _ => {
                bad.splice(at..at, [0xff; 9]);
            }
        }
    }
    bad
}

/// Packs a delta anew without compression, so that damage reaches what is inside of frames.
fn bare(delta: &[u8]) -> Vec<u8> {
    let mut input = delta;
    let header = Header::read(&mut input, &Default::default()).unwrap();
    let mut out = Vec::new();
    header.write(&mut out, 1).unwrap();
    let mut reader = streams::Reader::new(input, &Default::default()).unwrap();
    let mut writer = streams::Writer::new(out, &[16 << 20; program::STREAMS], 1).unwrap();
    while let Some(window) = reader.next_window().unwrap() {
        for (number, stream) in writer.streams().iter_mut().enumerate() {
            stream.extend_from_slice(window.rest(number));
        }
        writer.end_window().unwrap();
    }
    writer.finish().unwrap()
}

#[test]
fn mutations_end_in_errors_or_in_the_target() {
    let rounds = std::env::var("BUNDLE_TEST_FUZZ").map_or(150, |text| text.parse().unwrap());
    let (old, new) = releases();
    let delta = bare(&made(&old, &new));
    let old = spool(&old);
    let mut accepted = 0;
    for seed in 0..rounds {
        let bad = mutated(&delta, seed);
        let mut input = bad.as_slice();
        let Ok(header) = Header::read(&mut input, &Default::default()) else {
            continue;
        };
        let store = SpoolStore::new(&header, &[base(&old)], &Options::default());
        let mut out = Vec::new();
        if rebuild(&header, input, &store, &mut out, &Default::default()).is_ok() {
            assert_eq!(
                header.target_hash,
                *Digest::of(&out).as_bytes(),
                "seed {seed}"
            );
            accepted += 1;
        }
    }
    assert!(
        accepted * 2 < rounds,
        "{accepted} of {rounds} were accepted"
    );
}
