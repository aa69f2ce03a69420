//! The content on its way through the predictor, piece by piece: what analysing and encoding have in common.

use std::io::Read;

use super::finder::Supply;
use super::huffman::{Codes, fixed_cost};
use super::predict::{Encoder, Predictor};
use super::symbol::Token;
use crate::Error;

/// How pigz, or who else flushes at regular distances, cuts the content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pieces {
    /// Bytes of each piece but the last: at least [`MIN_PIECE`].
    pub length: u64,
    /// What a piece knows of those before it.
    pub memory: Memory,
    /// What lies between pieces.
    pub marker: Marker,
}

/// Shortest piece in bytes: pigz takes no shorter one.
pub const MIN_PIECE: u64 = 32 << 10;

/// What a piece knows of those before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Memory {
    /// The last 32 KiB as a dictionary: pigz with several threads.
    Dictionary = 0,
    /// Nothing: `pigz --independent`, full flushes of zlib.
    Nothing = 1,
    /// All, as the encoder was only flushed: pigz with one thread.
    All = 2,
}

impl Memory {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Dictionary, Self::Nothing, Self::All]
            .into_iter()
            .find(|memory| *memory as u8 == number)
    }
}

/// What lies between pieces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Marker {
    /// What brings the data to a whole byte: nothing, some empty blocks in fixed codes, or an empty stored one.
    Shortest = 0,
    /// Always an empty stored block.
    Stored = 1,
    /// Two of them: `pigz --independent`.
    StoredTwice = 2,
}

impl Marker {
    pub(crate) fn from_number(number: u8) -> Option<Self> {
        [Self::Shortest, Self::Stored, Self::StoredTwice]
            .into_iter()
            .find(|marker| *marker as u8 == number)
    }

    /// Empty blocks after data that ends with `pending` bits of a byte: how many in fixed codes, and how many stored ones.
    pub(super) fn blocks(self, pending: u32) -> (u32, u32) {
        match (self, pending % 8) {
            (Self::StoredTwice, _) => (0, 2),
            (Self::Stored, _) | (_, 1 | 3 | 5 | 7) => (0, 1),
            (Self::Shortest, 0) => (0, 0),
            // Each has ten bits.
            (Self::Shortest, even) => ((8 - even) / 2, 0),
        }
    }
}

/// The form that the encoder gives a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Choice {
    Stored,
    Fixed,
    Dynamic,
}

/// The content on its way.
#[derive(Debug, Clone)]
pub(super) struct Stream<R> {
    pub(super) predictor: Predictor,
    supply: Supply<R>,
    /// Bytes of the content after this piece.
    after: u64,
    pieces: Option<Pieces>,
}

impl<R: Read> Stream<R> {
    /// Of a content of `length` bytes.
    pub(super) fn new(encoder: Encoder, pieces: Option<Pieces>, source: R, length: u64) -> Self {
        let mut stream = Self {
            predictor: Predictor::new(encoder),
            supply: Supply {
                source,
                left: 0,
                sum: crc32fast::Hasher::new(),
            },
            after: length,
            pieces,
        };
        stream.supply_piece();
        stream
    }

    fn supply_piece(&mut self) {
        let length = self.pieces.map_or(u64::MAX, |pieces| pieces.length);
        self.supply.left = self.after.min(length);
        self.after -= self.supply.left;
    }

    /// The token that the encoder would take; `None` at the end of a piece.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub(super) fn predict(&mut self) -> Result<Option<Token>, Error> {
        self.predictor.predict(&mut self.supply)
    }

    /// Takes a byte that is not part of a token; `None` at the end of a piece.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub(super) fn pass(&mut self) -> Result<Option<u8>, Error> {
        self.predictor.pass(&mut self.supply)
    }

    /// Whether the piece was taken.
    pub(super) fn piece_is_over(&self) -> bool {
        self.supply.left == 0 && self.predictor.ahead() == 0
    }

    /// Whether all was taken.
    pub(super) fn is_over(&self) -> bool {
        self.after == 0 && self.piece_is_over()
    }

    /// Goes on to the next block; where a piece is over and it was not the last one, gives the marker and goes on to it.
    pub(super) fn next_block(&mut self) -> Option<Marker> {
        let pieces = self
            .pieces
            .filter(|_| self.piece_is_over() && self.after > 0);
        let Some(pieces) = pieces else {
            self.predictor.next_block();
            return None;
        };
        self.supply_piece();
        match pieces.memory {
            Memory::Dictionary => self.predictor.restart(true),
            Memory::Nothing => self.predictor.restart(false),
            Memory::All => self.predictor.resume(),
        }
        Some(pieces.marker)
    }

    /// The form that the encoder gives the block, and the codes that it makes for it.
    pub(super) fn choose(&self) -> (Choice, Codes) {
        let codes = Codes::new(self.predictor.frequencies());
        let bytes = |bits: u64| (bits + 3).div_ceil(8);
        let fixed = bytes(fixed_cost(self.predictor.frequencies()));
        let dynamic = bytes(codes.bits);
        let length = self.predictor.length();
        let storable = length <= u64::from(u16::MAX) && self.predictor.content().is_some();
        let choice = if storable && length + 4 <= fixed.min(dynamic) {
            Choice::Stored
        } else if fixed <= dynamic {
            Choice::Fixed
        } else {
            Choice::Dynamic
        };
        (choice, codes)
    }

    /// CRC-32 of what was read.
    pub(super) fn sum(self) -> u32 {
        self.supply.sum.finalize()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markers_end_on_a_byte() {
        for pending in 0..8 {
            let (fixed, stored) = Marker::Shortest.blocks(pending);
            assert!(stored == 1 || (pending + 10 * fixed) % 8 == 0);
            assert_eq!(stored, pending % 2);
            assert_eq!(Marker::Stored.blocks(pending), (0, 1));
        }
    }
}
