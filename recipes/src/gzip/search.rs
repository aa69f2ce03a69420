//! Finds the encoder that made a member: the one whose prediction needs the fewest corrections.
//!
//! The header tells the fastest and the best level, the length of the first block and empty blocks tell the family. What
//! is left is tried on the beginning of the content, the likeliest first, and proven on the whole.
//!
//! Threats: members made to keep the search busy. Defences: the beginning is short, attempts on the whole are counted, and
//! each ends when its corrections or its work are too much.

use super::analyse::{Bounds, WORTH, analyse};
use super::format::{self, Member};
use super::predict::Encoder;
use super::stream::{MIN_PIECE, Marker, Memory, Pieces};
use super::{Deflate, GzipParams, PIGZ};
use crate::sink::Match;
use crate::{MAX_RECIPE, Options, Shape};

/// Bytes of content that are tried: some blocks of every encoder.
const PROBE: u64 = 256 << 10;
/// The system that GNU gzip and pigz name in the header, but not Python.
const UNIX: u8 = 3;

/// Decodes the member at the beginning of `bytes` to the end of `inner` and finds how it is made.
///
/// Returns the member's length, and its parameters if there are any. `None`: it is no member that can be decoded.
pub(crate) fn open(
    bytes: &[u8],
    inner: &mut Vec<u8>,
    options: &Options,
) -> Option<Shape<GzipParams>> {
    let start = inner.len();
    let member = format::read(bytes, inner, options)?;
    let (file, content) = (bytes.get(..member.length)?, inner.get(start..)?);
    Some(Shape {
        length: member.length,
        params: search(file, content, &member, options),
    })
}

type Candidate = (Encoder, Option<Pieces>);

fn search(file: &[u8], content: &[u8], member: &Member, options: &Options) -> Option<GzipParams> {
    let (header, data) = file.split_at_checked(member.header)?;
    let deflate = nearest(data, content, &candidates(header, member), options)?;
    let params = GzipParams {
        header: header.to_vec(),
        deflate,
    };
    let fits = params.memory() <= options.limits.memory;
    (fits && proves(&params, file, content)).then_some(params)
}

/// The candidate that needs the fewest corrections.
fn nearest(
    data: &[u8],
    content: &[u8],
    candidates: &[Candidate],
    options: &Options,
) -> Option<Deflate> {
    // The rest of the recipe takes little.
    let most = (data.len() / WORTH).min(MAX_RECIPE / 2);
    let mut attempts = Attempts {
        data,
        content,
        left: options.attempts,
        best: None,
        most,
    };
    let mut probe = Bounds {
        content: PROBE,
        corrections: most,
    };
    let mut ranked = Vec::new();
    for candidate in candidates {
        let (encoder, pieces) = *candidate;
        let Some(found) = analyse(data, content, encoder, pieces, probe) else {
            continue;
        };
        let size = size(&found);
        // One that is twice as bad as another is not worth an attempt on the whole.
        probe.corrections = probe.corrections.min(size * 2);
        if size > 0 {
            ranked.push((size, *candidate));
        } else if attempts.is_exact(*candidate) {
            return attempts.best;
        }
    }
    ranked.sort_by_key(|(size, _)| *size);
    for (_, candidate) in ranked {
        if attempts.is_exact(candidate) {
            break;
        }
    }
    attempts.best
}

/// Analyses of the whole.
struct Attempts<'a> {
    data: &'a [u8],
    content: &'a [u8],
    left: u32,
    best: Option<Deflate>,
    /// Bytes of corrections that are not more than those of the best.
    most: usize,
}

impl Attempts<'_> {
    /// Tries a candidate, unless there were enough attempts; whether nothing has to be corrected.
    fn is_exact(&mut self, (encoder, pieces): Candidate) -> bool {
        let Some(left) = self.left.checked_sub(1) else {
            return false;
        };
        self.left = left;
        let bounds = Bounds {
            content: u64::MAX,
            corrections: self.most,
        };
        let Some(found) = analyse(self.data, self.content, encoder, pieces, bounds) else {
            return false;
        };
        let size = size(&found);
        self.most = size.saturating_sub(1);
        self.best = Some(found);
        size == 0
    }
}

fn size(deflate: &Deflate) -> usize {
    deflate.tokens.len() + deflate.blocks.len()
}

/// Everything that the header and the blocks allow, the likeliest first.
fn candidates(header: &[u8], member: &Member) -> Vec<Candidate> {
    // What the encoder says of its level.
    let levels = match header.get(8) {
        Some(2) => [9, 8, 7, 6, 5, 4, 3, 2, 1],
        Some(4) => [1, 2, 3, 4, 5, 6, 7, 8, 9],
        _ => [6, 9, 8, 7, 5, 4, 3, 2, 1],
    };
    let pieces = pieces(member);
    let cut = !pieces.is_empty();
    let told = member.first.and_then(memory_level);
    let mut memory_levels = match told {
        // As many tokens as GNU gzip takes, too.
        Some(9) if !cut => vec![None, Some(9)],
        Some(told) => vec![Some(told)],
        None => vec![None, Some(8), Some(9)],
    };
    if told.is_none() && (cut || header.get(9) != Some(&UNIX)) {
        memory_levels.swap(0, 1);
    }
    let pieces: Vec<_> = match pieces.as_slice() {
        [] => vec![None],
        some => some.iter().copied().map(Some).chain([None]).collect(),
    };
    let mut all = Vec::new();
    for memory_level in &memory_levels {
        for pieces in &pieces {
            all.extend(levels.map(|level| {
                let memory_level = *memory_level;
                (
                    Encoder {
                        memory_level,
                        level,
                    },
                    *pieces,
                )
            }));
        }
    }
    all
}

/// The memory level at which zlib ends a block after so many tokens.
fn memory_level(tokens: usize) -> Option<u8> {
    let log = (tokens + 1).ilog2();
    let full = (tokens + 1).is_power_of_two() && (7..=15).contains(&log);
    full.then(|| log as u8 - 6)
}

/// The ways to cut the content that the empty blocks allow.
fn pieces(member: &Member) -> Vec<Pieces> {
    // Not every piece of pigz ends with one.
    let length = match member.flushes {
        flushes if flushes > 0 && flushes.is_multiple_of(PIGZ) => PIGZ,
        flushes => flushes,
    };
    if (length as u64) < MIN_PIECE {
        return Vec::new();
    }
    [
        (Memory::Dictionary, Marker::Shortest),
        (Memory::All, Marker::Shortest),
        (Memory::Nothing, Marker::StoredTwice),
        (Memory::Nothing, Marker::Stored),
        (Memory::Dictionary, Marker::Stored),
        (Memory::All, Marker::Stored),
    ]
    .into_iter()
    .map(|(memory, marker)| Pieces {
        length: length as u64,
        memory,
        marker,
    })
    .collect()
}

/// Whether the content becomes the member, with the encoder of applying.
fn proves(params: &GzipParams, file: &[u8], mut content: &[u8]) -> bool {
    let length = content.len() as u64;
    let mut sink = Match::new(file);
    params.encode(length, &mut content, &mut sink).is_ok() && sink.missing() == 0
}
