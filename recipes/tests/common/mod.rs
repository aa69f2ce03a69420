//! What the tests with real programs share.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

use std::io::Write;
use std::process::{Command, Stdio};

/// Words and binary noise: compressible, with matches near and far.
pub(crate) fn text(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed | 1;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut out = Vec::with_capacity(length + 64);
    while out.len() < length {
        let word = next() % 4000;
        out.extend(format!("{:x}{} ", word * word, word % 17).into_bytes());
        if word < 40 {
            out.extend(next().to_le_bytes());
        }
    }
    out.truncate(length);
    out
}

/// Output of a program with `input` on its standard input, or as a file where `{}` is among the arguments.
pub(crate) fn run(program: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("input");
    std::fs::write(&path, input).unwrap();
    let as_file = arguments.contains(&"{}");
    let mut command = Command::new(program);
    for argument in arguments {
        if *argument == "{}" {
            command.arg(&path);
        } else {
            command.arg(argument);
        }
    }
    let mut child = command
        .stdin(if as_file {
            Stdio::null()
        } else {
            Stdio::piped()
        })
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{program} cannot be run: {error}"));
    let writer = child.stdin.take().map(|mut pipe| {
        let input = input.to_vec();
        std::thread::spawn(move || pipe.write_all(&input))
    });
    let output = child.wait_with_output().unwrap();
    if let Some(writer) = writer {
        writer.join().unwrap().unwrap();
    }
    assert!(output.status.success(), "{program} {arguments:?}");
    output.stdout
}
