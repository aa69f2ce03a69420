//! gzip: one member, its deflate data rebuilt from the content and corrections by preflate.
//!
//! preflate guesses how zlib would have compressed and records where it is wrong. It does well for GNU gzip, pigz and
//! zlib, and not at all for most others; a member whose corrections are large is not worth a recipe.
//!
//! Threats: contents without end, headers without end; corrections that make preflate panic. Defences: everything is done
//! in pieces of bounded size, the header is capped, and a panic of preflate is caught and becomes an error: the crate is
//! written in safe Rust, and asserts.

use std::io::{Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};

use preflate_rs::{
    ExitCode, PreflateConfig, PreflateStreamChunkResult, PreflateStreamProcessor,
    RecreateStreamProcessor,
};

use crate::sink::Match;
use crate::{Error, Options, Shape};

/// Generation of the encoder: preflate-rs 0.7.6. Raised when corrections are read differently.
pub(crate) const GENERATION: u8 = 1;
/// Largest header of a member, in bytes: ten, and a name.
pub(crate) const MAX_HEADER: usize = 4096;
/// Content that is held at a time, in bytes, for a piece.
pub(crate) const MAX_PIECE: u64 = 64 << 20;
/// Most pieces of a member.
pub(crate) const MAX_PIECES: usize = 1 << 16;
/// Largest content of a member, in bytes: preflate counts positions in 31 bits.
pub(crate) const MAX_CONTENT: u64 = 1 << 30;
/// Bytes of deflate data looked at for the first piece, from which preflate guesses the encoder's parameters: one size after
/// another, since now and then it guesses wrong and fails later.
const FIRST: [usize; 3] = [4 << 20, 1 << 20, 14 << 20];
/// Bytes of deflate data looked at for another piece.
const STEP: usize = 1 << 20;
/// Memory in bytes that preflate takes, besides what it takes for each byte of a piece: tokens, hash chains, output.
const MEMORY: u64 = 16 << 20;
const MEMORY_PER_BYTE: u64 = 6;

/// How a gzip member is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GzipParams {
    /// The header as it is: flags, time, system, name.
    pub header: Vec<u8>,
    /// The deflate data in pieces.
    pub pieces: Vec<Piece>,
}

/// A run of deflate blocks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Bytes of the content.
    pub content: u64,
    /// What preflate needs to know besides.
    pub corrections: Vec<u8>,
}

impl GzipParams {
    /// Upper bound of the memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let largest = self
            .pieces
            .iter()
            .map(|piece| piece.content)
            .max()
            .unwrap_or(0);
        MEMORY.saturating_add(largest.saturating_mul(MEMORY_PER_BYTE))
    }

    /// Encodes `inner` as one member.
    pub(crate) fn encode(&self, inner: &mut dyn Read, out: &mut dyn Write) -> Result<(), Error> {
        out.write_all(&self.header).map_err(Error::Write)?;
        let mut encoder = RecreateStreamProcessor::new();
        let mut sum = crc32fast::Hasher::new();
        let mut total: u64 = 0;
        for piece in &self.pieces {
            if piece.content > MAX_PIECE {
                return Err(Error::Malformed {
                    why: "a gzip piece is too large",
                });
            }
            let mut content = Vec::new();
            inner
                .take(piece.content)
                .read_to_end(&mut content)
                .map_err(Error::Read)?;
            sum.update(&content);
            total = total.wrapping_add(content.len() as u64);
            let data = caught(|| encoder.recompress(&mut content.as_slice(), &piece.corrections))?;
            out.write_all(&data.0).map_err(Error::Write)?;
        }
        out.write_all(&sum.finalize().to_le_bytes())
            .map_err(Error::Write)?;
        // Modulo 2³², as the format has it.
        out.write_all(&(total as u32).to_le_bytes())
            .map_err(Error::Write)
    }
}

/// Runs preflate; its errors and panics become ours.
fn caught<T>(run: impl FnOnce() -> preflate_rs::Result<T>) -> Result<T, Error> {
    let encoder = "gzip";
    // Whatever a panic leaves half done is dropped by the caller.
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(Error::Encoder {
            encoder,
            why: error.to_string(),
        }),
        Err(_) => Err(Error::Encoder {
            encoder,
            why: "corrections that do not fit".to_owned(),
        }),
    }
}

/// Decodes the member at the beginning of `bytes` to the end of `inner` and finds its corrections.
///
/// Returns the member's length, and the parameters if there are any. `None`: it is no member that can be decoded.
pub(crate) fn open(
    bytes: &[u8],
    inner: &mut Vec<u8>,
    options: &Options,
) -> Option<Shape<GzipParams>> {
    let header = header(bytes)?;
    let data = bytes.get(header..)?;
    let start = inner.len();
    let mut shape = None;
    for first in FIRST {
        inner.truncate(start);
        let (pieces, length) = match analyse(data, first, inner, options) {
            Ok(found) => found,
            // Another size would give the same.
            Err(true) => break,
            Err(false) => continue,
        };
        let length = header.saturating_add(length).saturating_add(8);
        // No room for the sum and the length: not a whole member.
        let Some(member) = bytes.get(..length) else {
            continue;
        };
        let params = GzipParams {
            header: bytes.get(..header)?.to_vec(),
            pieces,
        };
        if proves(&params, member, inner.get(start..)?, options) {
            return Some(Shape {
                length,
                params: Some(params),
            });
        }
        shape = Some(Shape {
            length,
            params: None,
        });
        if first >= data.len() {
            break;
        }
    }
    shape
}

/// Whether the content becomes the member.
fn proves(params: &GzipParams, member: &[u8], mut content: &[u8], options: &Options) -> bool {
    let mut sink = Match::new(member);
    params.memory() <= options.limits.memory
        && params.encode(&mut content, &mut sink).is_ok()
        && sink.missing() == 0
        && content.is_empty()
}

/// Length of a member's header (RFC 1952, 2.3).
fn header(bytes: &[u8]) -> Option<usize> {
    let &[0x1f, 0x8b, 8, flags, ..] = bytes else {
        return None;
    };
    if flags & 0b1110_0000 != 0 {
        return None;
    }
    let mut at = 10;
    if flags & 4 != 0 {
        let extra = bytes.get(at..)?.first_chunk::<2>()?;
        at += 2 + usize::from(u16::from_le_bytes(*extra));
    }
    // A name and a comment, each up to a zero.
    for flag in [8, 16] {
        if flags & flag != 0 {
            let rest = bytes.get(at..)?;
            at += rest.iter().take(MAX_HEADER).position(|byte| *byte == 0)? + 1;
        }
    }
    if flags & 2 != 0 {
        at += 2;
    }
    (at <= MAX_HEADER && at <= bytes.len()).then_some(at)
}

/// Decodes deflate data piece by piece; gives the pieces and the length of the data.
///
/// Fails with whether the first piece was all there is.
fn analyse(
    data: &[u8],
    first: usize,
    inner: &mut Vec<u8>,
    options: &Options,
) -> Result<(Vec<Piece>, usize), bool> {
    let config = PreflateConfig {
        plain_text_limit: MAX_PIECE as usize,
        verify_compression: false,
        ..PreflateConfig::default()
    };
    let mut decoder = PreflateStreamProcessor::new(&config);
    let (mut at, mut corrections, mut total) = (0, 0, 0u64);
    let mut pieces = Vec::new();
    let whole = first >= data.len();
    while !decoder.is_done() {
        let step = if pieces.is_empty() { first } else { STEP };
        let found = next(&mut decoder, data.get(at..).unwrap_or_default(), step).ok_or(whole)?;
        let content = decoder.plain_text().text();
        total += content.len() as u64;
        let room = options.inner.saturating_sub(inner.len() as u64);
        if content.len() as u64 > room || total > MAX_CONTENT || pieces.len() >= MAX_PIECES {
            return Err(true);
        }
        inner.extend_from_slice(content);
        at += found.compressed_size;
        corrections += found.corrections.len();
        // Not worth it: another encoder's.
        if corrections > at / 16 + 4096 {
            return Err(whole);
        }
        pieces.push(Piece {
            content: content.len() as u64,
            corrections: found.corrections,
        });
        decoder.shrink_to_dictionary();
    }
    Ok((pieces, at))
}

/// The blocks of the next `step` bytes, or of as many more as the first one needs.
fn next(
    decoder: &mut PreflateStreamProcessor,
    rest: &[u8],
    mut step: usize,
) -> Option<PreflateStreamChunkResult> {
    loop {
        let mut short = false;
        let found = caught(|| {
            let window = rest.get(..step.min(rest.len())).unwrap_or_default();
            decoder.decompress(window).inspect_err(|error| {
                short = error.exit_code() == ExitCode::ShortRead;
            })
        });
        match found {
            Ok(found) if !found.blocks.is_empty() => return Some(found),
            // A block that is longer than the window: preflate goes back to where it was.
            Err(_) if short && step < rest.len() && step < MAX_PIECE as usize => step *= 2,
            _ => return None,
        }
    }
}
