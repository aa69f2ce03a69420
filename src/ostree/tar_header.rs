//! Decodes tar header blocks, PAX records and GNU sparse maps.
//!
//! Everything here is hostile: the layer's digest is signed, but a build machine may have been made to sign anything.
//! Threats: numbers that overflow or are negative, fields that two readers take differently, maps that point outside
//! the file. Defences: every field is decoded by one strict function or refused; nothing is allocated by declared size.

use super::error::RejectReason;

/// Bytes of a tar block.
pub(super) const BLOCK: usize = 512;

/// One header block whose checksum is right.
pub(super) struct Header<'a>(&'a [u8; BLOCK]);

/// A run of stored data within a sparse file, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) offset: u64,
    pub(super) length: u64,
}

impl<'a> Header<'a> {
    /// Accepts `block` as a header.
    pub(super) fn new(block: &'a [u8; BLOCK]) -> Result<Self, RejectReason> {
        let header = Self(block);
        let stated = number(header.field(148, 8), "checksum")?;
        let sum: u64 = block
            .iter()
            .enumerate()
            .map(|(at, &byte)| {
                if (148..156).contains(&at) {
                    32
                } else {
                    u64::from(byte)
                }
            })
            .sum();
        if sum == stated {
            Ok(header)
        } else {
            Err(RejectReason::HeaderChecksum)
        }
    }

    fn field(&self, at: usize, length: usize) -> &'a [u8] {
        self.0
            .get(at..at.saturating_add(length))
            .unwrap_or_default()
    }

    /// Returns the type flag; NUL is the old spelling of a regular file.
    pub(super) fn kind(&self) -> u8 {
        self.field(156, 1).first().copied().unwrap_or_default()
    }

    /// Returns the path, joined with the prefix of POSIX headers.
    pub(super) fn path(&self) -> Vec<u8> {
        let name = until_nul(self.field(0, 100));
        let prefix = until_nul(self.field(345, 155));
        if self.field(257, 6) != b"ustar\0" || prefix.is_empty() {
            return name.to_vec();
        }
        [prefix, b"/", name].concat()
    }

    pub(super) fn link(&self) -> Vec<u8> {
        until_nul(self.field(157, 100)).to_vec()
    }

    pub(super) fn size(&self) -> Result<u64, RejectReason> {
        number(self.field(124, 12), "size")
    }

    /// Returns permission bits, set-id bits and the sticky bit; the file type is not the header's to say.
    pub(super) fn mode(&self) -> Result<u32, RejectReason> {
        let mode = number(self.field(100, 8), "mode")? & 0o7777;
        u32::try_from(mode).map_err(|_| RejectReason::Number { field: "mode" })
    }

    pub(super) fn uid(&self) -> Result<u64, RejectReason> {
        number(self.field(108, 8), "uid")
    }

    pub(super) fn gid(&self) -> Result<u64, RejectReason> {
        number(self.field(116, 8), "gid")
    }

    /// Returns the segments of the sparse header, whether more blocks of them follow, and the file's size.
    pub(super) fn sparse(&self) -> Result<(Vec<Segment>, bool, u64), RejectReason> {
        let segments = segments(self.field(386, 4 * 24))?;
        let size = number(self.field(483, 12), "real size")?;
        Ok((segments, self.field(482, 1) != [0], size))
    }
}

/// Returns the segments of an extension block of a sparse header, and whether another block follows.
pub(super) fn sparse_block(block: &[u8; BLOCK]) -> Result<(Vec<Segment>, bool), RejectReason> {
    let (map, rest) = block.split_at(21 * 24);
    Ok((segments(map)?, rest.first().is_some_and(|&more| more != 0)))
}

fn segments(map: &[u8]) -> Result<Vec<Segment>, RejectReason> {
    map.chunks_exact(24)
        .take_while(|slot| slot.first().is_some_and(|&first| first != 0))
        .map(|slot| {
            let (offset, length) = slot.split_at(12);
            let offset = number(offset, "sparse offset")?;
            Ok(Segment {
                offset,
                length: number(length, "sparse length")?,
            })
        })
        .collect()
}

/// Checks that segments ascend without overlap, end within `size` and hold `stored` bytes together.
pub(super) fn check_map(segments: &[Segment], stored: u64, size: u64) -> Result<(), RejectReason> {
    let (mut end, mut sum) = (0_u64, 0_u64);
    for segment in segments {
        if segment.offset < end {
            return Err(RejectReason::Sparse);
        }
        end = segment
            .offset
            .checked_add(segment.length)
            .ok_or(RejectReason::Sparse)?;
        sum = sum
            .checked_add(segment.length)
            .ok_or(RejectReason::Sparse)?;
    }
    if end > size || sum != stored {
        return Err(RejectReason::Sparse);
    }
    Ok(())
}

/// Decodes a numeric field: octal digits, or base 256 where the first bit is set; never negative.
fn number(field: &[u8], name: &'static str) -> Result<u64, RejectReason> {
    let refuse = || RejectReason::Number { field: name };
    if let Some((&first, rest)) = field.split_first()
        && first & 0x80 != 0
    {
        // 0x80 alone marks a positive number; the bits beside it would be its sign or more than 64 bits.
        let (high, low) = rest.split_at(rest.len().saturating_sub(8));
        if first != 0x80 || high.iter().any(|&byte| byte != 0) {
            return Err(refuse());
        }
        return Ok(low
            .iter()
            .fold(0, |value, &byte| (value << 8) | u64::from(byte)));
    }
    let is_blank = |byte: &u8| matches!(byte, 0 | b' ');
    let start = field
        .iter()
        .position(|byte| *byte != b' ')
        .unwrap_or(field.len());
    let field = field.get(start..).unwrap_or_default();
    let digits = field.iter().position(is_blank).unwrap_or(field.len());
    let (digits, blank) = field.split_at(digits);
    if !blank.iter().all(is_blank) {
        return Err(refuse());
    }
    // 12 octal digits are 36 bits: no overflow.
    digits.iter().try_fold(0_u64, |value, &byte| match byte {
        b'0'..=b'7' => Ok((value << 3) | u64::from(byte - b'0')),
        _ => Err(refuse()),
    })
}

fn until_nul(field: &[u8]) -> &[u8] {
    field.split(|&byte| byte == 0).next().unwrap_or_default()
}

/// Key and value of a PAX record.
pub(super) type Record<'a> = (&'a [u8], &'a [u8]);

/// Splits the body of a PAX header into its records.
pub(super) fn pax_records(mut body: &[u8]) -> Result<Vec<Record<'_>>, RejectReason> {
    let mut records = Vec::new();
    while !body.is_empty() {
        let space = body
            .iter()
            .position(|&byte| byte == b' ')
            .ok_or(RejectReason::Extension)?;
        let length = decimal(body.get(..space).unwrap_or_default())?;
        let length = usize::try_from(length).map_err(|_| RejectReason::Extension)?;
        if length > body.len() {
            return Err(RejectReason::Extension);
        }
        let (record, rest) = body.split_at(length);
        let record = record
            .get(space + 1..)
            .and_then(|record| record.strip_suffix(b"\n"));
        let record = record.ok_or(RejectReason::Extension)?;
        let equals = record
            .iter()
            .position(|&byte| byte == b'=')
            .ok_or(RejectReason::Extension)?;
        let (key, value) = record.split_at(equals);
        records.push((key, value.get(1..).unwrap_or_default()));
        body = rest;
    }
    Ok(records)
}

/// Decodes a plain decimal number.
pub(super) fn decimal(digits: &[u8]) -> Result<u64, RejectReason> {
    if digits.is_empty() {
        return Err(RejectReason::Extension);
    }
    digits.iter().try_fold(0_u64, |value, &byte| match byte {
        b'0'..=b'9' => value
            .checked_mul(10)
            .and_then(|value| value.checked_add(u64::from(byte - b'0')))
            .ok_or(RejectReason::Extension),
        _ => Err(RejectReason::Extension),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers() {
        let cases: &[(&[u8], Option<u64>)] = &[
            (b"0000644\0", Some(0o644)),
            (b"    644 ", Some(0o644)),
            (b"\0\0\0\0\0\0\0\0", Some(0)),
            (b"777777777777", Some((1 << 36) - 1)),
            (b"\x80\0\0\0\0\0\0\x01\0\0\0\0", Some(1 << 32)),
            (b"\x80\0\0\0\x80\0\0\0\0\0\0\0", Some(1 << 63)),
            (b"\x80\0\0\x01\0\0\0\0\0\0\0\0", None),
            (b"\x81\0\0\0\0\0\0\0\0\0\0\0", None),
            (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff", None),
            (b"-0000644", None),
            (b"0000648\0", None),
            (b"0x1\0\0\0\0\0", None),
            (b"64 4\0\0\0\0", None),
        ];
        for (field, expected) in cases {
            assert_eq!(number(field, "size").ok(), *expected, "{field:?}");
        }
    }

    #[test]
    fn records() {
        let cases: &[(&[u8], Option<usize>)] = &[
            (b"", Some(0)),
            (b"9 a=b=cd\n", Some(1)),
            (b"6 a=b\n6 c=d\n", Some(2)),
            (b"5 a=\n", Some(1)),
            (b"6 a=b\n6 c=d", None),
            (b"99 a=b\n", None),
            (b"-6 a=b\n", None),
            (b"6 a-b\n", None),
            (b" a=b\n", None),
            (b"1 a=b\n", None),
            (b"99999999999999999999999 a=b\n", None),
        ];
        for (body, expected) in cases {
            assert_eq!(
                pax_records(body).ok().map(|r| r.len()),
                *expected,
                "{body:?}"
            );
        }
    }

    #[test]
    fn maps() {
        let at = |offset, length| Segment { offset, length };
        for (map, stored, size, good) in [
            (vec![], 0, 100, true),
            (vec![at(0, 10), at(10, 5), at(90, 10)], 25, 100, true),
            (vec![at(0, 10), at(5, 10)], 20, 100, false),
            (vec![at(50, 10), at(0, 10)], 20, 100, false),
            (vec![at(90, 11)], 11, 100, false),
            (vec![at(0, 10)], 9, 100, false),
            (vec![at(u64::MAX, 1)], 1, u64::MAX, false),
        ] {
            assert_eq!(check_map(&map, stored, size).is_ok(), good, "{map:?}");
        }
    }
}
