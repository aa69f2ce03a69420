//! Splits a cpio archive in the newc format, as an initramfs is, so that its files can be named and referred to.
//!
//! Threats: sizes beyond the archive, names without end, entries without number, numbers that are none. Defences: every
//! range lies within the bytes that were given, names are capped at the kernel's `PATH_MAX` and entries by the caller's
//! limit, numbers are eight hexadecimal digits, and nothing is copied or created: names are bytes for matching, never paths
//! to open.

use std::ops::Range;

/// Bytes of an entry before its name.
const HEADER: usize = 110;
/// Longest name, with its zero: the kernel's limit.
const MAX_NAME: usize = 4096;
/// Name of the entry that ends an archive.
const TRAILER: &[u8] = b"TRAILER!!!";

/// One entry of an archive. What lies between the ranges of two entries is padding.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry<'a> {
    /// The header, 110 bytes.
    pub header: Range<usize>,
    /// The name, without the zero that ends it.
    pub name: &'a [u8],
    /// File type and permissions, as in `stat`.
    pub mode: u32,
    /// Where the content lies; empty for what has none, and for all hard links of a file but the last.
    pub data: Range<usize>,
}

impl Entry<'_> {
    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.mode & 0o170_000 == 0o100_000
    }
}

/// An archive, or as much of one as there is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Archive<'a> {
    /// The entries, without the one that ends the archive.
    pub entries: Vec<Entry<'a>>,
    /// Where the archive ends: after its last entry, and where there is one its trailer, but before zero padding.
    pub end: usize,
    /// Whether the entry that ends an archive was there.
    pub complete: bool,
}

/// Whether an archive may begin here.
pub fn is_cpio(bytes: &[u8]) -> bool {
    bytes.starts_with(b"070701") || bytes.starts_with(b"070702")
}

/// Splits the archive at the beginning of `bytes`.
///
/// `None` if there is none, or it has more than `limit` entries. A damaged or cut archive is split as far as it goes, since
/// the rest is coded some other way.
pub fn split(bytes: &[u8], limit: usize) -> Option<Archive<'_>> {
    if !is_cpio(bytes) {
        return None;
    }
    let mut archive = Archive {
        entries: Vec::new(),
        end: 0,
        complete: false,
    };
    while let Some((entry, end)) = entry(bytes, archive.end) {
        archive.end = end;
        if entry.name == TRAILER {
            archive.complete = true;
            break;
        }
        if archive.entries.len() >= limit {
            return None;
        }
        archive.entries.push(entry);
    }
    Some(archive)
}

/// Splits all archives of `bytes`, one after another with zero padding between them, as the kernel reads an initramfs.
///
/// Ranges are within `bytes`. `limit` is for all entries together.
pub fn split_all(bytes: &[u8], limit: usize) -> Option<Vec<Entry<'_>>> {
    let mut entries = Vec::new();
    let mut at = 0;
    while let Some(rest) = bytes.get(at..).filter(|rest| is_cpio(rest)) {
        let archive = split(rest, limit.checked_sub(entries.len())?)?;
        entries.extend(archive.entries.into_iter().map(|entry| Entry {
            header: entry.header.start + at..entry.header.end + at,
            data: entry.data.start + at..entry.data.end + at,
            ..entry
        }));
        if !archive.complete {
            break;
        }
        at += archive.end;
        at += padding(bytes.get(at..)?);
    }
    (at > 0 || !entries.is_empty()).then_some(entries)
}

/// Length of the zeros at the beginning of `bytes`.
pub fn padding(bytes: &[u8]) -> usize {
    bytes
        .iter()
        .position(|byte| *byte != 0)
        .unwrap_or(bytes.len())
}

/// The entry at `at`, and where the next one begins.
fn entry(bytes: &[u8], at: usize) -> Option<(Entry<'_>, usize)> {
    let header = bytes.get(at..)?.get(..HEADER)?;
    if !is_cpio(header) {
        return None;
    }
    // Of the thirteen fields: 1 is the mode, 6 the size of the file, 11 the length of the name.
    let field = |index: usize| {
        let start = 6 + index * 8;
        number(header.get(start..start + 8)?)
    };
    let (mode, size) = (field(1)?, usize::try_from(field(6)?).ok()?);
    let length = usize::try_from(field(11)?)
        .ok()
        .filter(|length| *length <= MAX_NAME)?;
    let start = at + HEADER;
    let (zero, name) = bytes.get(start..)?.get(..length)?.split_last()?;
    if *zero != 0 {
        return None;
    }
    let data = aligned(start + length)?;
    let end = data.checked_add(size).filter(|end| *end <= bytes.len())?;
    // The padding of the last entry may be missing.
    let next = aligned(end)?.min(bytes.len());
    Some((
        Entry {
            header: at..start,
            name,
            mode,
            data: data..end,
        },
        next,
    ))
}

fn aligned(at: usize) -> Option<usize> {
    Some(at.checked_add(3)? & !3)
}

/// Eight hexadecimal digits: no sign, no space.
fn number(digits: &[u8]) -> Option<u32> {
    digits.iter().try_fold(0u32, |value, digit| {
        let digit = char::from(*digit).to_digit(16)?;
        Some(value << 4 | digit)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An entry as `cpio -H newc` writes it.
    fn made(name: &str, mode: u32, data: &[u8]) -> Vec<u8> {
        let fields = [
            1,
            mode,
            0,
            0,
            1,
            0,
            data.len() as u32,
            0,
            0,
            0,
            0,
            name.len() as u32 + 1,
            0,
        ];
        let mut bytes = b"070701".to_vec();
        bytes.extend(
            fields
                .iter()
                .flat_map(|field| format!("{field:08X}").into_bytes()),
        );
        bytes.extend(name.bytes().chain([0]));
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes.extend(data);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn archive() -> Vec<u8> {
        [
            made("kernel/x86/microcode", 0o040_755, b""),
            made("init", 0o100_755, b"#!/bin/sh"),
            made("TRAILER!!!", 0, b""),
        ]
        .concat()
    }

    #[test]
    fn entries_and_ranges() {
        let bytes = archive();
        let found = split(&bytes, 10).unwrap();
        assert!(found.complete);
        assert_eq!(found.end, bytes.len());
        let [directory, file] = found.entries.as_slice() else {
            panic!("two entries")
        };
        assert_eq!(directory.name, b"kernel/x86/microcode");
        assert!(directory.data.is_empty() && !directory.is_file());
        assert!(file.is_file());
        assert_eq!(bytes.get(file.data.clone()).unwrap(), b"#!/bin/sh");
        assert_eq!(file.header.len(), HEADER);
    }

    #[test]
    fn several_archives_with_padding() {
        let mut bytes = archive();
        bytes.extend([0; 512]);
        bytes.extend(archive());
        let entries = split_all(&bytes, 4).unwrap();
        assert_eq!(entries.len(), 4);
        for file in entries.iter().filter(|entry| entry.is_file()) {
            assert_eq!(bytes.get(file.data.clone()).unwrap(), b"#!/bin/sh");
        }
        assert!(split_all(&bytes, 3).is_none());
    }

    #[test]
    fn lies_end_the_archive() {
        let whole = archive();
        let size_field = 6 + 6 * 8;
        let name_field = 6 + 11 * 8;
        for (field, value) in [
            (size_field, "FFFFFFFF"),
            (size_field, "+0000001"),
            (name_field, "00000000"),
            (name_field, "FFFFFFFF"),
            (name_field, "00001001"),
            (name_field, "00000002"),
        ] {
            let mut bytes = whole.clone();
            bytes.splice(field..field + 8, value.bytes());
            let found = split(&bytes, 10).unwrap();
            assert!(
                found.entries.is_empty() && !found.complete,
                "{field} {value}"
            );
        }
        for length in 0..whole.len() {
            let cut = whole.get(..length).unwrap();
            if let Some(found) = split(cut, 10) {
                assert!(found.end <= length);
            }
        }
    }
}
