//! Reads the header of a zstd frame, and decodes one frame.
//!
//! Threats: windows that want gigabytes, contents that are larger than said or never end, dictionaries, skippable and
//! concatenated frames that a decoder takes silently. Defences: windows up to 128 MiB and below the caller's limit, output
//! bounded while it grows, exactly one frame, and only frames with the plain magic number and no dictionary.

use zstd_safe::{DCtx, DParameter, InBuffer, OutBuffer};

use crate::Options;

pub(super) const MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// What a frame header says (RFC 8878, 3.1.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Header {
    /// Logarithm of the window, unless the window is the content itself.
    pub(super) window_log: Option<u8>,
    /// Size of the content.
    pub(super) content: Option<u64>,
    /// A checksum follows.
    pub(super) checksum: bool,
}

impl Header {
    /// Bytes of the window.
    pub(super) fn window(&self) -> u64 {
        let content = self.content.unwrap_or(0);
        self.window_log.map_or(content, |log| 1 << log.min(63))
    }
}

/// Parses the beginning of a frame; `None` for frames that no encoder here can make.
pub(super) fn parse(bytes: &[u8]) -> Option<Header> {
    let (descriptor, mut rest) = bytes.strip_prefix(&MAGIC)?.split_first()?;
    // The reserved bit, and a dictionary's name.
    if descriptor & 0b0000_1011 != 0 {
        return None;
    }
    let single_segment = descriptor & 0b0010_0000 != 0;
    let mut window_log = None;
    if !single_segment {
        let (window, after) = rest.split_first()?;
        // libzstd writes powers of two only.
        if window & 7 != 0 {
            return None;
        }
        window_log = Some(10 + (window >> 3));
        rest = after;
    }
    let size = |length: usize| {
        let mut number = [0; 8];
        number
            .get_mut(..length)?
            .copy_from_slice(rest.get(..length)?);
        Some(u64::from_le_bytes(number))
    };
    let content = match (descriptor >> 6, single_segment) {
        (0, false) => None,
        (0, true) => Some(size(1)?),
        (1, _) => Some(size(2)? + 256),
        (2, _) => Some(size(4)?),
        _ => Some(size(8)?),
    };
    Some(Header {
        window_log,
        content,
        checksum: descriptor & 0b100 != 0,
    })
}

/// Decodes the frame at the beginning of `bytes` to the end of `inner`, and returns its length.
pub(super) fn decode(
    bytes: &[u8],
    header: &Header,
    inner: &mut Vec<u8>,
    options: &Options,
) -> Option<usize> {
    let room = options.inner.checked_sub(inner.len() as u64)?;
    let window = header.window();
    if header.content.is_some_and(|content| content > room)
        || (header.window_log.is_some() && window > options.decoder_memory)
    {
        return None;
    }
    let start = inner.len();
    let mut decoder = DCtx::try_create()?;
    let log = DParameter::WindowLogMax(super::WINDOW_LOG);
    decoder.set_parameter(log).ok()?;
    let mut buffer = vec![0u8; DCtx::out_size()];
    let mut source = InBuffer::around(bytes);
    loop {
        let before = source.pos;
        let mut target = OutBuffer::around(buffer.as_mut_slice());
        let hint = decoder.decompress_stream(&mut target, &mut source).ok()?;
        let produced = target.pos();
        if (inner.len() - start + produced) as u64 > room {
            return None;
        }
        inner.extend_from_slice(buffer.get(..produced)?);
        if hint == 0 {
            return Some(source.pos);
        }
        // The end of the bytes within the frame.
        if source.pos == before && produced == 0 {
            return None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_read() {
        let cases: [(&[u8], Option<Header>); 6] = [
            // zstd -9 of a file of 128,854,016 bytes.
            (
                &[0x84, 0x60, 0x00, 0x28, 0xae, 0x07],
                Some(Header {
                    window_log: Some(22),
                    content: Some(128_854_016),
                    checksum: true,
                }),
            ),
            // zstd -3 of a pipe.
            (
                &[0x04, 0x58],
                Some(Header {
                    window_log: Some(21),
                    content: None,
                    checksum: true,
                }),
            ),
            // Three bytes, in one segment.
            (
                &[0x24, 0x03],
                Some(Header {
                    window_log: None,
                    content: Some(3),
                    checksum: true,
                }),
            ),
            // With a dictionary; with a window that is no power of two; cut.
            (&[0x05, 0x58, 0x01], None),
            (&[0x04, 0x59], None),
            (&[0x84, 0x60, 0x00], None),
        ];
        for (rest, expected) in cases {
            let bytes = [&MAGIC[..], rest].concat();
            assert_eq!(parse(&bytes), expected, "{rest:02x?}");
        }
    }
}
