//! The frame of a gzip member (RFC 1952), and decoding one.
//!
//! Threats: headers without end, contents far larger than their data, sums that do not fit. Defences: headers are capped,
//! output is bounded while it grows, the sum and the length are checked.

use super::inflate::{Blocks, Form, append};
use super::symbol::Token;
use super::{MAX_HEADER, PIGZ};
use crate::Options;

const MAGIC: [u8; 3] = [0x1f, 0x8b, 8];
/// Bytes of a header without the fields that may follow, and of the trailer.
const FIXED: usize = 10;
const TRAILER: usize = 8;

const HEADER_SUM: u8 = 1 << 1;
const EXTRA: u8 = 1 << 2;
const NAME: u8 = 1 << 3;
const COMMENT: u8 = 1 << 4;

/// Length of the header at the beginning of `bytes`.
pub(super) fn header(bytes: &[u8]) -> Option<usize> {
    let flags = *bytes.strip_prefix(&MAGIC)?.first()?;
    // Reserved bits.
    if flags & 0b1110_0000 != 0 {
        return None;
    }
    let mut at = FIXED;
    if flags & EXTRA != 0 {
        let length = bytes.get(at..)?.first_chunk::<2>()?;
        at += 2 + usize::from(u16::from_le_bytes(*length));
    }
    for flag in [NAME, COMMENT] {
        if flags & flag != 0 {
            let text = bytes.get(at..)?.iter().take(MAX_HEADER);
            at += text.take_while(|byte| **byte != 0).count() + 1;
        }
    }
    if flags & HEADER_SUM != 0 {
        at += 2;
    }
    (at <= MAX_HEADER && at <= bytes.len()).then_some(at)
}

/// The trailer of a content: its CRC-32, and its length modulo 2^32.
pub(super) fn trailer(sum: u32, length: u64) -> [u8; TRAILER] {
    let mut bytes = [0; TRAILER];
    let (first, second) = bytes.split_at_mut(4);
    first.copy_from_slice(&sum.to_le_bytes());
    second.copy_from_slice(&(length as u32).to_le_bytes());
    bytes
}

/// What was seen of a member while it was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Member {
    /// Length of the header, and of all of it.
    pub(super) header: usize,
    pub(super) length: usize,
    /// Tokens of the first block, if another one follows.
    pub(super) first: Option<usize>,
    /// Greatest common divisor of the places in the content where empty blocks lie, but the last one, or a block ends where
    /// the first piece of pigz does; 0 for none.
    pub(super) flushes: usize,
}

/// Decodes the member at the beginning of `bytes` to the end of `inner`.
pub(super) fn read(bytes: &[u8], inner: &mut Vec<u8>, options: &Options) -> Option<Member> {
    let header = header(bytes)?;
    let data = bytes.get(header..)?;
    let start = inner.len();
    let room = usize::try_from(options.inner).unwrap_or(usize::MAX);
    let mut blocks = Blocks::new(data);
    let (mut first, mut flushes) = (None, 0);
    loop {
        let before = inner.len();
        let mut tokens = 0;
        let block = blocks.next(&mut |token: Token| {
            tokens += 1;
            token.length() <= room.saturating_sub(inner.len())
                && append(inner, start, token).is_some()
        })?;
        if let Form::Stored(range) = block.form {
            let content = data.get(range)?;
            if content.len() > room.saturating_sub(inner.len()) {
                return None;
            }
            inner.extend_from_slice(content);
        }
        if block.last {
            break;
        }
        let after = inner.len() - start;
        // Where a piece of pigz happens to end on a whole byte, nothing else tells it.
        if inner.len() == before || after == PIGZ {
            flushes = divisor(flushes, after);
        }
        first.get_or_insert(tokens);
    }
    let end = blocks.end()?;
    let content = inner.get(start..)?;
    let expected = trailer(crc32fast::hash(content), content.len() as u64);
    if data.get(end..)?.first_chunk() != Some(&expected) {
        return None;
    }
    Some(Member {
        header,
        length: header + end + TRAILER,
        first,
        flushes,
    })
}

/// Decodes the member at the beginning of `bytes` to the end of `inner`, and returns its length.
pub(crate) fn decode(bytes: &[u8], inner: &mut Vec<u8>, options: &Options) -> Option<usize> {
    read(bytes, inner, options).map(|member| member.length)
}

/// The greatest common divisor.
fn divisor(mut one: usize, mut other: usize) -> usize {
    while other > 0 {
        (one, other) = (other, one % other);
    }
    one
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_end_where_they_say() {
        let with = |flags: u8, rest: &[u8]| {
            let fixed = [0x1f, 0x8b, 8, flags, 0, 0, 0, 0, 0, 3];
            [&fixed, rest].concat()
        };
        let cases: [(&str, u8, &[u8], Option<usize>); 9] = [
            ("plain", 0, b"data", Some(10)),
            ("text", 1, b"data", Some(10)),
            ("name", NAME, b"a\0data", Some(12)),
            (
                "all",
                HEADER_SUM | EXTRA | NAME | COMMENT,
                b"\x01\0xa\0b\0ssdata",
                Some(19),
            ),
            ("reserved", 0x20, b"data", None),
            ("extra field beyond the end", EXTRA, b"\x09\0data", None),
            ("name without an end", NAME, b"data", None),
            ("sum beyond the end", HEADER_SUM, b"s", None),
            ("cut", EXTRA, b"\x01", None),
        ];
        for (what, flags, rest, expected) in cases {
            assert_eq!(header(&with(flags, rest)), expected, "{what}");
        }
        assert_eq!(header(&[0x1f, 0x8b, 8, 0]), None);
        let long = with(NAME, &[b'x'; MAX_HEADER]);
        assert_eq!(header(&long), None);
    }

    #[test]
    fn divisors() {
        for (one, other, expected) in [(0, 6, 6), (6, 0, 6), (12, 18, 6), (5, 7, 1)] {
            assert_eq!(divisor(one, other), expected);
        }
    }
}
