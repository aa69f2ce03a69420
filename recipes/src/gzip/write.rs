//! Writes deflate data: bits, and the tokens of a block.

use std::io::Write;

use super::huffman::canonical;
use super::symbol::{self, DISTANCES, END, Token};
use crate::Error;

/// Bytes that are gathered before they are written on.
const BUFFER: usize = 64 << 10;

/// Gathers bits, the lowest of each byte first.
#[derive(Debug, Default)]
pub(super) struct BitWriter {
    bytes: Vec<u8>,
    held: u64,
    count: u32,
}

impl BitWriter {
    /// Appends up to 32 bits.
    pub(super) fn put(&mut self, value: u32, bits: u32) {
        self.held |= u64::from(value) << self.count;
        self.count += bits;
        if self.count >= 32 {
            self.bytes
                .extend_from_slice(&(self.held as u32).to_le_bytes());
            self.held >>= 32;
            self.count -= 32;
        }
    }

    /// Appends the first `count` bits of `bytes`.
    pub(super) fn put_all(&mut self, bytes: &[u8], count: u64) {
        let mut left = count;
        for byte in bytes {
            let bits = left.min(8) as u32;
            self.put(u32::from(*byte) & ((1 << bits) - 1), bits);
            left -= u64::from(bits);
        }
    }

    /// Bits of the last byte that are taken: 0 to 7.
    pub(super) fn pending(&self) -> u32 {
        self.count % 8
    }

    /// Fills the last byte with zeros.
    pub(super) fn align(&mut self) {
        self.put(0, (8 - self.pending()) % 8);
        let whole = self.count as usize / 8;
        let held = self.held.to_le_bytes();
        self.bytes
            .extend_from_slice(held.get(..whole).unwrap_or_default());
        (self.held, self.count) = (0, 0);
    }

    /// All of it, with the last byte filled.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.align();
        self.bytes
    }

    /// A stored block after its first three bits; at most 65,535 bytes.
    pub(super) fn stored(&mut self, content: &[u8]) {
        self.align();
        let length = content.len() as u16;
        self.put(u32::from(length), 16);
        self.put(u32::from(!length), 16);
        self.align();
        self.bytes.extend_from_slice(content);
    }

    /// The tokens of a block and its end, in codes of these lengths. A symbol without a code is none.
    pub(super) fn tokens(
        &mut self,
        tokens: &[Token],
        literals: &[u8],
        distances: &[u8],
    ) -> Option<()> {
        let literals = canonical(literals);
        let distances = canonical(distances);
        let code = |codes: &[(u32, u32)], symbol: usize| {
            codes.get(symbol).copied().filter(|(_, bits)| *bits > 0)
        };
        for token in tokens {
            let (value, bits) = code(&literals, token.symbol())?;
            let Some((length, distance)) = token.as_match() else {
                self.put(value, bits);
                continue;
            };
            let length = symbol::length_code(length);
            self.put(value | length.extra << bits, bits + length.bits);
            let distance = symbol::distance_code(distance);
            let (value, bits) = code(&distances, distance.symbol)?;
            self.put(value | distance.extra << bits, bits + distance.bits);
        }
        let (value, bits) = code(&literals, END)?;
        self.put(value, bits);
        Some(())
    }

    /// The tokens of a block in the fixed codes.
    pub(super) fn fixed(&mut self, tokens: &[Token]) -> Option<()> {
        self.tokens(tokens, &symbol::fixed_literals(), &[5; DISTANCES])
    }

    /// Writes whole bytes on, where many were gathered.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub(super) fn flush(&mut self, out: &mut dyn Write) -> Result<(), Error> {
        if self.bytes.len() >= BUFFER {
            self.finish(out)?;
        }
        Ok(())
    }

    /// Writes all whole bytes on.
    ///
    /// # Errors
    ///
    /// [`Error::Write`].
    pub(super) fn finish(&mut self, out: &mut dyn Write) -> Result<(), Error> {
        out.write_all(&self.bytes).map_err(Error::Write)?;
        self.bytes.clear();
        Ok(())
    }
}
