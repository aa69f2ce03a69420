//! Measures techniques on two files, or on two directories by equal relative path.
//!
//! `measure [--every N] [--peers] [--window MIB] [--level L] [--keep DIR] OLD NEW`
#![allow(
    clippy::print_stdout,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a measurement"
)]

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use bundle_delta::{
    Decoder, Encoder, Plan, STREAMS,
    bsdiff::Options,
    elf::Learner,
    streams::{Limits, Reader, Writer},
};

struct Arguments {
    every: usize,
    peers: bool,
    window: u64,
    level: i32,
    advantage: usize,
    keep: Option<PathBuf>,
    paths: Vec<PathBuf>,
}

fn arguments() -> Arguments {
    let mut args = Arguments {
        every: 1,
        peers: false,
        window: 64 << 20,
        level: 19,
        advantage: Options::default().advantage,
        keep: None,
        paths: Vec::new(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        let mut number = || words.next().unwrap().parse::<u64>().unwrap();
        match word.as_str() {
            "--every" => args.every = number() as usize,
            "--peers" => args.peers = true,
            "--window" => args.window = number() << 20,
            "--level" => args.level = number() as i32,
            "--advantage" => args.advantage = number() as usize,
            "--keep" => args.keep = words.next().map(PathBuf::from),
            _ => args.paths.push(word.into()),
        }
    }
    args
}

fn pairs(old: &Path, new: &Path, out: &mut Vec<(PathBuf, PathBuf)>) {
    if new.is_symlink() {
        return;
    }
    if new.is_dir() {
        let mut names: Vec<_> = fs::read_dir(new)
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        names.sort();
        for name in names {
            pairs(&old.join(&name), &new.join(&name), out);
        }
    } else if old.is_file() {
        out.push((old.into(), new.into()));
    }
}

fn report(name: &str, bytes: usize, time: Duration) {
    println!("{name:<28} {bytes:>11} bytes {:>8.2} s", time.as_secs_f64());
}

fn prefix(old: &[u8], new: &[u8], level: i32) -> usize {
    let mut out = Vec::new();
    let mut encoder = zstd::Encoder::with_ref_prefix(&mut out, level, old).unwrap();
    let log = usize::BITS - (old.len() + new.len()).leading_zeros();
    encoder.window_log(log.clamp(10, 31)).unwrap();
    encoder.long_distance_matching(old.len() > 1 << 20).unwrap();
    std::io::copy(&mut &*new, &mut encoder).unwrap();
    encoder.finish().unwrap();
    out.len()
}

fn codec(files: &[(Vec<u8>, Vec<u8>)], args: &Arguments, predict: bool, name: &str) {
    let started = Instant::now();
    let options = Options {
        advantage: args.advantage,
        ..Options::default()
    };
    let mut learner = Learner::default();
    if predict {
        for (old, new) in files {
            learner.add(old, new).unwrap();
        }
    }
    let table = learner.finish().map(Arc::new);
    println!("learning {:.2} s", started.elapsed().as_secs_f64());
    let plan = |old: &[u8], new: &[u8]| {
        let predicted = if predict {
            Plan::predicted(old, new, table.clone(), &options).unwrap()
        } else {
            None
        };
        predicted.unwrap_or_else(|| Plan::plain(old, new, &options).unwrap())
    };
    let plans: Vec<Plan> = files.iter().map(|(old, new)| plan(old, new)).collect();
    let matched = started.elapsed();
    let started = Instant::now();
    let mut writer =
        Writer::new(Vec::new(), &[args.window + (32 << 20); STREAMS], args.level).unwrap();
    let mut encoder = Encoder::new(args.window);
    let mut sizes = [0; STREAMS];
    let mut kept = vec![Vec::new(); STREAMS];
    for (plan, (old, new)) in plans.iter().zip(files) {
        let before: Vec<usize> = writer.streams().iter().map(Vec::len).collect();
        encoder.file(plan, old, new, &mut writer).unwrap();
        for (i, stream) in writer.streams().iter().enumerate() {
            let begin = if stream.len() >= before[i] {
                before[i]
            } else {
                0
            };
            sizes[i] += stream.len() - begin;
            kept[i].extend_from_slice(&stream[begin..]);
        }
    }
    encoder.end_window(&mut writer).unwrap();
    let file = writer.finish().unwrap();
    report(name, file.len(), matched + started.elapsed());
    println!(
        "    matching {:.2} s; steps {}",
        matched.as_secs_f64(),
        plans.iter().map(|p| p.steps.len()).sum::<usize>()
    );
    for (i, what) in [
        "copies", "extras", "seeks", "hints", "gaps", "values", "data",
    ]
    .iter()
    .enumerate()
    {
        let packed = zstd::bulk::compress(&kept[i], args.level).unwrap().len();
        println!("    {what:<8} {:>10} -> {packed:>9}", sizes[i]);
        if let Some(dir) = &args.keep {
            fs::write(
                dir.join(format!("{name}.{what}").replace(' ', "-")),
                &kept[i],
            )
            .unwrap();
        }
    }
    let started = Instant::now();
    let limits = Limits {
        window: 1 << 30,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(Reader::new(&file[..], &limits).unwrap());
    for (plan, (old, new)) in plans.iter().zip(files) {
        let mut out = Vec::with_capacity(new.len());
        decoder
            .file(old, new.len() as u64, plan.hints.is_some(), &mut out)
            .unwrap();
        assert!(out == *new, "decoded wrongly");
    }
    decoder.finish().unwrap();
    println!(
        "    decoding {:.2} s, byte for byte",
        started.elapsed().as_secs_f64()
    );
}

fn main() {
    let args = arguments();
    let [old, new] = &args.paths[..] else {
        panic!("two paths wanted")
    };
    let mut paths = Vec::new();
    pairs(old, new, &mut paths);
    let files: Vec<(Vec<u8>, Vec<u8>)> = paths
        .iter()
        .step_by(args.every)
        .map(|(old, new)| (fs::read(old).unwrap(), fs::read(new).unwrap()))
        .filter(|(old, new)| old != new)
        .collect();
    println!("{} files differ", files.len());
    report(
        "raw",
        files.iter().map(|(_, new)| new.len()).sum(),
        Duration::ZERO,
    );
    if args.peers {
        let started = Instant::now();
        let all: Vec<u8> = files
            .iter()
            .flat_map(|(_, new)| new.iter().copied())
            .collect();
        report(
            "zstd -19",
            zstd::bulk::compress(&all, 19).unwrap().len(),
            started.elapsed(),
        );
        let started = Instant::now();
        let sum = files.iter().map(|(old, new)| prefix(old, new, 19)).sum();
        report("zstd -19 prefix, per file", sum, started.elapsed());
    }
    codec(&files, &args, false, "bsdiff");
    codec(&files, &args, true, "predicted");
}
