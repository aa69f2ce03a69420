//! Finds the parameters with which the linked liblzma gives a stream's very bytes.
//!
//! Headers, index and the first LZMA2 chunk tell all but mode, match finder, nice length and depth. Those come from the
//! presets, tried on the beginning of the first block, and proven on the whole.

use super::format::{self, Header};
use super::{Layout, Lzma, MAX_THREADED_BLOCK, XzParams};
use crate::sink::Match;
use crate::{Options, Shape};

/// Bytes of content that a probe encodes: two of LZMA2's largest chunks.
const PROBE: usize = 4 << 20;

/// Mode, nice length, match finder and depth of the presets, the likeliest first: 6 to 9, 0e to 9e but 3e and 5e, 5, 4, 3,
/// 2, 1, 0, and then 3e and 5e.
const PRESETS: [(bool, u16, u8, u16); 9] = [
    (false, 64, 20, 0),
    (false, 273, 20, 512),
    (false, 32, 20, 0),
    (false, 16, 20, 0),
    (true, 273, 4, 48),
    (true, 273, 4, 24),
    (true, 128, 4, 8),
    (true, 128, 3, 4),
    (false, 192, 20, 0),
];

/// Decodes the stream at the beginning of `bytes` to the end of `inner` and finds its parameters.
///
/// Returns the stream's length, and the parameters if there are any. `None`: it is no stream that can be decoded.
pub(crate) fn open(
    bytes: &[u8],
    inner: &mut Vec<u8>,
    options: &Options,
) -> Option<Shape<XzParams>> {
    let header = format::parse(bytes)?;
    let start = inner.len();
    let length = format::decode(bytes, inner, options)?;
    let (stream, content) = (bytes.get(..length)?, inner.get(start..)?);
    Some(Shape {
        length,
        params: search(stream, content, &header, options),
    })
}

fn search(stream: &[u8], content: &[u8], header: &Header, options: &Options) -> Option<XzParams> {
    let data = stream.get(header.data..)?;
    let (first, second) = format::blocks(stream)?;
    let probing = content.len() > PROBE;
    let mut left = options.attempts;
    for (fast, nice, finder, depth) in PRESETS {
        let (lc, lp, pb) = header.bits.unwrap_or((3, 0, 2));
        let lzma = Lzma {
            dict: header.dict,
            lc,
            lp,
            pb,
            fast,
            nice,
            finder,
            depth,
        };
        let plain = XzParams {
            check: header.check,
            filters: header.filters.clone(),
            lzma,
            layout: Layout::Whole,
        };
        if plain.memory(1) > options.limits.memory {
            continue;
        }
        // No further than the first block, at whose end the encoder is flushed.
        let beginning = content.get(..PROBE.min(usize::try_from(first).unwrap_or(PROBE)))?;
        if probing && !plain.begins(beginning, data) {
            continue;
        }
        for layout in layouts(header, first, second) {
            let params = XzParams {
                layout,
                ..plain.clone()
            };
            if params.memory(1) > options.limits.memory {
                continue;
            }
            if proves(&params, stream, content, options) {
                return Some(params);
            }
            if probing {
                left = left.saturating_sub(1);
                if left == 0 {
                    return None;
                }
            }
        }
    }
    None
}

/// The layouts that the headers and the index allow.
fn layouts(header: &Header, first: u64, second: Option<u64>) -> Vec<Layout> {
    match (header.sized, second) {
        (None, None) => vec![Layout::Whole],
        (None, Some(_)) => vec![Layout::Cut(first)],
        (Some(_), Some(_)) if first <= MAX_THREADED_BLOCK => vec![Layout::Threaded(first)],
        (Some(_), Some(_)) => Vec::new(),
        // The header has room for the size of a full block, which an only block does not tell: liblzma's default, or its
        // own size. The command takes the default.
        (Some(_), None) => {
            let default = u64::from(header.dict).saturating_mul(3).max(1 << 20);
            [default, first.max(1)]
                .into_iter()
                .filter(|block| (first..=MAX_THREADED_BLOCK).contains(block))
                .map(Layout::Threaded)
                .collect()
        }
    }
}

/// Whether the content becomes the stream, with the encoder and the settings of applying.
fn proves(params: &XzParams, stream: &[u8], mut content: &[u8], options: &Options) -> bool {
    let mut sink = Match::new(stream);
    params
        .encode(&mut content, &mut sink, &options.limits)
        .is_ok()
        && sink.missing() == 0
}
