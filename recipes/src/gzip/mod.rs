//! gzip: one member, made by GNU gzip, by pigz, or by what is linked to zlib.
//!
//! There is no library that makes the bytes of both again, and none is needed: what an encoder decides is predictable. The
//! exporter decodes a member to tokens and blocks, predicts each of them with an encoder of our own that decides as GNU gzip
//! or zlib do, and keeps what was not predicted as corrections. The appliance runs the same prediction over the content,
//! applies the corrections, and writes the bits. For files of the encoders that are known there is nothing to correct; for
//! those of others the corrections grow, and above a sixteenth of the file there is no recipe.
//!
//! # Wire form of a part (kind 3)
//!
//! After the lengths and the kind (see the wire form of recipes), numbers in LEB128 of the fewest bytes:
//!
//! | Field | Bytes | |
//! |---|---|---|
//! | generation | 1 | of the prediction; 1 |
//! | header | number, bytes | the member's header as it is: at least 10 and at most 65,536 bytes |
//! | encoder | 1 | 0 for GNU gzip, 1 to 9 for the memory level of zlib |
//! | level | 1 | 1 to 9 |
//! | pieces | 1 | 0 for none, else 1 + memory + 3 × marker |
//! | piece length | number | only where there are pieces; at least 32,768 |
//! | tokens | number, bytes | corrections of tokens |
//! | blocks | number, bytes | corrections of blocks |
//!
//! Memory of pieces: 0 the last 32 KiB, 1 nothing, 2 everything. Marker: 0 the shortest (empty blocks in fixed codes while
//! an even number of bits is missing to a whole byte, an empty stored block for an odd one), 1 always an empty stored block, 2 two of them.
//! The trailer is not kept: CRC-32 and length follow from the content.
//!
//! A correction of a token is `right × 2 + match` as a number, where `right` tokens before it were predicted rightly; a
//! literal needs no more, a match has its length less 3 in a byte and its distance less 1 in a number. A correction of a
//! block is the number of right blocks before it, a byte of flags, and what these announce: bit 0, the count of its tokens
//! as a number; bit 1, that it is the last block though it would not be, or the other way round; bits 2 to 4, its form: 0 as
//! predicted, 1 stored (the count is of bytes, which are no tokens), 2 in fixed codes, 3 in the predicted codes, 4 in codes
//! of its own, whose description follows as the number of its bits and the bits, the lowest of each byte first.
//!
//! Threats: members that decode to more than memory holds or lie about their content; recipes whose corrections do not fit;
//! contents made to be slow to search. Defences: see the modules; contents, tokens of a block, corrections and the work of
//! the search are bounded, sums and lengths are checked when decoding, and a recipe is only kept when it was proven.

mod analyse;
mod corrections;
mod encode;
mod finder;
mod format;
mod huffman;
mod inflate;
mod predict;
mod search;
mod stream;
mod symbol;
mod write;

use std::io::{Read, Write};

pub(crate) use format::decode;
pub use predict::Encoder;
pub(crate) use search::open;
pub use stream::{MIN_PIECE, Marker, Memory, Pieces};

use crate::Error;

/// Generation of the prediction. Raised when it predicts anything else.
pub(crate) const GENERATION: u8 = 1;
/// Name of the encoder in lists of what is needed.
pub(crate) const NAME: &str = "gzip 1";
/// Memory that decoding takes.
pub(crate) const DECODER: u64 = 256 << 10;
/// Longest header of a member, in bytes.
const MAX_HEADER: usize = 64 << 10;
/// Length of the pieces of pigz, unless told otherwise.
const PIGZ: usize = 128 << 10;
/// Most tokens of a block: zlib and gzip make at most 32,767.
const MAX_TOKENS: usize = 1 << 18;
/// Steps of the search for each byte of a content. Real files need far less.
const MAX_STEPS: u64 = 512;
/// Memory in bytes: window, chains and buffers, and a block's tokens.
const MEMORY: u64 = 8 << 20;

/// How a gzip member is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GzipParams {
    /// The header, as it is in the file.
    pub header: Vec<u8>,
    /// What follows it.
    pub deflate: Deflate,
}

/// How deflate data is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deflate {
    /// The encoder that is predicted.
    pub encoder: Encoder,
    /// How the content was cut.
    pub pieces: Option<Pieces>,
    /// Corrections of tokens, in their wire form.
    pub tokens: Vec<u8>,
    /// Corrections of blocks, in their wire form.
    pub blocks: Vec<u8>,
}

impl GzipParams {
    /// Encodes the next `length` bytes of `inner` as one member.
    pub(crate) fn encode(
        &self,
        length: u64,
        inner: &mut dyn Read,
        out: &mut dyn Write,
    ) -> Result<(), Error> {
        out.write_all(&self.header).map_err(Error::Write)?;
        let sum = encode::encode(&self.deflate, length, inner, out)?;
        out.write_all(&format::trailer(sum, length))
            .map_err(Error::Write)
    }

    /// Upper bound of the memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let corrections = self.header.len() + self.deflate.tokens.len() + self.deflate.blocks.len();
        MEMORY + corrections as u64
    }
}

/// Whether bytes are the header of a member, and all of it.
pub(crate) fn is_header(bytes: &[u8]) -> bool {
    format::header(bytes) == Some(bytes.len())
}

/// Whether a search that took so many steps is not worth going on, or was made to be slow.
fn work_is_too_much(steps: u64, content: u64) -> bool {
    steps > content.saturating_add(1 << 16).saturating_mul(MAX_STEPS)
}
