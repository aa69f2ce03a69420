//! Reads what an xz stream says of itself, and decodes one stream.
//!
//! Threats: dictionaries of 4 GiB, contents without end, indexes that lie, streams that follow silently. Defences: the
//! decoder has a memory limit, output is bounded while it grows, exactly one stream is decoded, by liblzma, which checks
//! headers, index and sums; what is parsed here only guides the search.

use liblzma::stream::{Action, Status, Stream};

use super::{Branch, Check, DICT, MAX_FILTERS};
use crate::Options;

pub(super) const MAGIC: [u8; 6] = [0xfd, b'7', b'z', b'X', b'Z', 0];
/// Bytes before the first block.
const STREAM_HEADER: usize = 12;

/// What the headers of a stream and of its first block say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Header {
    pub(super) check: Check,
    pub(super) filters: Vec<Branch>,
    /// Dictionary in bytes.
    pub(super) dict: u32,
    /// `lc`, `lp` and `pb`, where the first chunk of LZMA2 has them.
    pub(super) bits: Option<(u8, u8, u8)>,
    /// Size of the first block's content, where the header has both sizes.
    pub(super) sized: Option<u64>,
    /// Where the data of the first block begins.
    pub(super) data: usize,
}

/// Parses the beginning of a stream; `None` for streams that no encoder here can make.
pub(super) fn parse(bytes: &[u8]) -> Option<Header> {
    let flags = bytes.strip_prefix(&MAGIC)?;
    let check = Check::from_id(*flags.get(1)?)?;
    let block = bytes.get(STREAM_HEADER..)?;
    let size = (usize::from(*block.first()?) + 1) * 4;
    // A zero is the index of a stream without blocks.
    if size < 8 {
        return None;
    }
    let mut rest = block.get(1..size.checked_sub(4)?)?;
    let flags = take(&mut rest)?;
    let sized = match flags & 0b1100_0000 {
        0 => None,
        0b1100_0000 => {
            number(&mut rest)?;
            Some(number(&mut rest)?)
        }
        _ => return None,
    };
    let mut filters = Vec::new();
    for _ in 0..flags & 3 {
        filters.push(Branch::from_id(number(&mut rest)?)?);
        // A start offset, which nobody sets.
        if number(&mut rest)? != 0 {
            return None;
        }
    }
    if filters.len() > MAX_FILTERS || number(&mut rest)? != 0x21 || number(&mut rest)? != 1 {
        return None;
    }
    let dict = dictionary(take(&mut rest)?)?;
    let data = STREAM_HEADER + size;
    let bits = bytes.get(data..).and_then(properties);
    Some(Header {
        check,
        filters,
        dict,
        bits,
        sized,
        data,
    })
}

fn take(rest: &mut &[u8]) -> Option<u8> {
    let (first, after) = rest.split_first()?;
    *rest = after;
    Some(*first)
}

/// A number of variable length (format, 1.2).
fn number(rest: &mut &[u8]) -> Option<u64> {
    let mut value = 0;
    for shift in (0..63).step_by(7) {
        let byte = take(rest)?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

/// Size of the dictionary (format, 5.3.1).
fn dictionary(bits: u8) -> Option<u32> {
    let size = (2 | u32::from(bits & 1)).checked_shl(u32::from(bits / 2) + 11)?;
    (bits < 40 && DICT.contains(&size)).then_some(size)
}

/// Properties in the header of an LZMA chunk, if the data begins with one.
fn properties(data: &[u8]) -> Option<(u8, u8, u8)> {
    if *data.first()? < 0xe0 {
        return None;
    }
    let value = *data.get(5)?;
    let (pb, rest) = (value / 45, value % 45);
    let (lp, lc) = (rest / 9, rest % 9);
    (lc + lp <= 4 && pb <= 4).then_some((lc, lp, pb))
}

/// Decodes the stream at the beginning of `bytes` to the end of `inner`, and returns its length.
pub(crate) fn decode(bytes: &[u8], inner: &mut Vec<u8>, options: &Options) -> Option<usize> {
    let room = options.inner.checked_sub(inner.len() as u64)?;
    let mut decoder = Stream::new_stream_decoder(options.decoder_memory, 0).ok()?;
    let mut buffer = vec![0; 128 << 10];
    let mut rest = bytes;
    loop {
        let (read, written) = (decoder.total_in(), decoder.total_out());
        let status = decoder.process(rest, &mut buffer, Action::Run).ok()?;
        let took = usize::try_from(decoder.total_in() - read).ok()?;
        let gave = usize::try_from(decoder.total_out() - written).ok()?;
        if decoder.total_out() > room {
            return None;
        }
        inner.extend_from_slice(buffer.get(..gave)?);
        rest = rest.get(took..)?;
        match status {
            Status::StreamEnd => return usize::try_from(decoder.total_in()).ok(),
            // The end of the bytes within the stream.
            _ if took == 0 && gave == 0 => return None,
            _ => {}
        }
    }
}

/// Returns the bytes of memory that decoding the stream takes which begins so.
pub(crate) fn decoder_memory(beginning: &[u8]) -> u64 {
    // Without a header that is known, the largest there is.
    let dict = parse(beginning).map_or(*DICT.end(), |header| header.dict);
    u64::from(dict) + (1 << 20)
}

/// Sizes of the contents of the first two blocks, from the index of a whole stream that was decoded.
pub(super) fn blocks(stream: &[u8]) -> Option<(u64, Option<u64>)> {
    let footer = stream.get(stream.len().checked_sub(STREAM_HEADER)?..)?;
    let backward = u32::from_le_bytes(footer.get(4..8)?.try_into().ok()?);
    let size = (usize::try_from(backward).ok()? + 1).checked_mul(4)?;
    let start = stream.len().checked_sub(STREAM_HEADER)?.checked_sub(size)?;
    let mut index = stream.get(start..)?;
    if take(&mut index)? != 0 {
        return None;
    }
    let count = number(&mut index)?;
    let mut next = || {
        number(&mut index)?;
        number(&mut index)
    };
    let first = next()?;
    Some((first, if count > 1 { Some(next()?) } else { None }))
}
