//! Archives and compressed files as images have them.

#![allow(dead_code, reason = "each test file uses its own part of this module")]
#![allow(unreachable_pub, reason = "a module of tests has no outside")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::io::Write as _;
use std::process::{Command, Stdio};

/// Paths and contents.
pub type Files = Vec<(String, Vec<u8>)>;

/// Compresses as the command does; a missing program fails the test.
pub fn filter(program: &str, arguments: &[&str], bytes: &[u8]) -> Vec<u8> {
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
pub fn cpio(files: &Files) -> Vec<u8> {
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
