//! Decodes what is compressed in a file, without asking how it could be encoded again.
//!
//! For old files: only their content counts. The exporter says where a member lies and what it is; the appliance decodes
//! just that.
//!
//! Threats: members that lie about their size, or decode to more than memory holds. Defences: the bounds of [`Options`],
//! and the caller's own expectation of the length.

use std::io::{self, BufRead, Read, Write};

use flate2::bufread::GzDecoder;
use liblzma::bufread::XzDecoder;
use liblzma::stream::Stream;

use crate::{Options, bzimage, cpio, gzip, xz, zstd};

/// A kind of compression that can be decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// One zstd frame.
    Zstd,
    /// One xz stream.
    Xz,
    /// One gzip member.
    Gzip,
}

/// A compressed member of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// What it is.
    pub kind: Kind,
    /// Where it begins in the file.
    pub offset: usize,
    /// How long it is in the file.
    pub length: usize,
    /// What it decodes to.
    pub inner: Vec<u8>,
}

/// Decodes the member of `kind` at the beginning of `bytes`; its length in the file, and its content.
///
/// `None` for anything but such a member within the bounds.
pub fn decode(kind: Kind, bytes: &[u8], options: &Options) -> Option<(usize, Vec<u8>)> {
    let mut inner = Vec::new();
    let length = match kind {
        Kind::Zstd => zstd::decode(bytes, &mut inner, options)?,
        Kind::Xz => xz::decode(bytes, &mut inner, options)?,
        Kind::Gzip => gzip::decode(bytes, &mut inner, options)?,
    };
    Some((length, inner))
}

/// Decodes the one member of `kind` that `input` is, as a stream; what is held in memory is [`decoder_memory`] and buffers.
///
/// # Errors
/// For anything but exactly such a member, beyond the bounds of `options`, and where reading or writing fails.
pub fn decode_stream(
    kind: Kind,
    input: impl BufRead,
    out: &mut dyn Write,
    options: &Options,
) -> io::Result<()> {
    let mut rest = match kind {
        Kind::Zstd => {
            let mut decoder = ::zstd::stream::read::Decoder::with_buffer(input)?.single_frame();
            decoder.window_log_max(zstd::WINDOW_LOG)?;
            bounded_copy(&mut decoder, out, options.inner)?;
            decoder.finish()
        }
        Kind::Xz => {
            let stream = Stream::new_stream_decoder(options.decoder_memory, 0);
            let stream = stream.map_err(io::Error::other)?;
            let mut decoder = XzDecoder::new_stream(input, stream);
            bounded_copy(&mut decoder, out, options.inner)?;
            decoder.into_inner()
        }
        Kind::Gzip => {
            let mut decoder = GzDecoder::new(input);
            bounded_copy(&mut decoder, out, options.inner)?;
            decoder.into_inner()
        }
    };
    if rest.fill_buf()?.is_empty() {
        Ok(())
    } else {
        Err(io::Error::other("bytes behind a compressed member"))
    }
}

fn bounded_copy(from: &mut dyn Read, out: &mut dyn Write, most: u64) -> io::Result<()> {
    if io::copy(&mut from.take(most.saturating_add(1)), out)? > most {
        return Err(io::Error::other("a compressed member larger than allowed"));
    }
    Ok(())
}

/// Bytes of memory that decoding the member takes which begins so: its window or dictionary.
pub fn decoder_memory(kind: Kind, beginning: &[u8]) -> u64 {
    match kind {
        Kind::Zstd => zstd::window(beginning),
        Kind::Xz => xz::decoder_memory(beginning),
        Kind::Gzip => gzip::DECODER,
    }
}

/// Finds and decodes the compressed members of a file: of a bzImage, an initramfs, or a file that is one.
pub fn members(bytes: &[u8], options: &Options) -> Vec<Member> {
    let (mut at, end) = match bzimage::payload(bytes) {
        Some(payload) => (payload.start, payload.end),
        None => (0, bytes.len()),
    };
    let mut found = Vec::new();
    while let Some(rest) = bytes.get(at..end).filter(|rest| !rest.is_empty()) {
        let zeros = cpio::padding(rest);
        let Some(rest) = rest.get(zeros..).filter(|rest| !rest.is_empty()) else {
            break;
        };
        at += zeros;
        if cpio::is_cpio(rest) {
            let Some(archive) = cpio::split(rest, usize::MAX).filter(|a| a.complete) else {
                break;
            };
            at += archive.end;
            continue;
        }
        let kind = match rest.first() {
            Some(0x28) => Kind::Zstd,
            Some(0xfd) => Kind::Xz,
            Some(0x1f) => Kind::Gzip,
            _ => break,
        };
        let Some((length, inner)) = decode(kind, rest, options) else {
            break;
        };
        found.push(Member {
            kind,
            offset: at,
            length,
            inner,
        });
        at += length;
    }
    found
}
