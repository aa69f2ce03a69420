//! Decodes deflate data (RFC 1951) block by block, to tokens or to bytes.
//!
//! Threats: codes that overlap or have gaps, symbols and distances that do not exist, contents far larger than their data,
//! blocks without end. Defences: codes are checked before they are used, as the RFC asks; every read is within the data;
//! whoever takes tokens says at each one whether to go on, and so bounds time and memory.

use std::ops::Range;

use super::symbol::{
    self, DISTANCES, END, LENGTHS, LITERALS, MAX_BITS, MAX_DISTANCE, ORDER, Token,
};

/// What a block is, beside its tokens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Block {
    /// Whether it says that it is the last.
    pub(super) last: bool,
    pub(super) form: Form,
}

/// The three forms of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Bytes as they are: where they lie in the data.
    Stored(Range<usize>),
    /// Tokens in the fixed codes.
    Fixed,
    /// Tokens in codes of its own: where their description lies, in bits.
    Dynamic(Range<u64>),
}

/// Reads blocks.
#[derive(Debug, Clone)]
pub(super) struct Blocks<'a> {
    bits: Bits<'a>,
}

impl<'a> Blocks<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            bits: Bits::new(data),
        }
    }

    /// Bits that were read.
    pub(super) fn position(&self) -> u64 {
        self.bits.position()
    }

    /// Bytes that were read, with the rest of the last one, which must be zero.
    pub(super) fn end(&mut self) -> Option<usize> {
        self.bits.align()?;
        usize::try_from(self.bits.position() / 8).ok()
    }

    /// Reads a block and hands its tokens to `take`, which says whether to go on. Stored bytes are not handed on.
    ///
    /// `None` for what is not deflate data, and where `take` said so.
    pub(super) fn next(&mut self, take: &mut impl FnMut(Token) -> bool) -> Option<Block> {
        let last = self.bits.take(1)? == 1;
        let form = match self.bits.take(2)? {
            0 => Form::Stored(self.stored()?),
            1 => {
                let literals = Decoder::new(&symbol::fixed_literals())?;
                let distances = Decoder::new(&[5; 32])?;
                self.tokens(&literals, &distances, take)?;
                Form::Fixed
            }
            2 => {
                let start = self.position();
                let lengths = Lengths::read(&mut self.bits)?;
                let end = self.position();
                // The end must have a code.
                if lengths.literals.get(END) == Some(&0) {
                    return None;
                }
                let literals = Decoder::new(&lengths.literals)?;
                let distances = Decoder::new(&lengths.distances)?;
                self.tokens(&literals, &distances, take)?;
                Form::Dynamic(start..end)
            }
            _ => return None,
        };
        Some(Block { last, form })
    }

    fn stored(&mut self) -> Option<Range<usize>> {
        self.bits.align()?;
        let length = self.bits.take(16)?;
        if self.bits.take(16)? != !length & 0xffff {
            return None;
        }
        self.bits.skip(length as usize)
    }

    fn tokens(
        &mut self,
        literals: &Decoder,
        distances: &Decoder,
        take: &mut impl FnMut(Token) -> bool,
    ) -> Option<()> {
        loop {
            let symbol = literals.read(&mut self.bits)?;
            let token = match u8::try_from(symbol) {
                Ok(byte) => Token::literal(byte),
                Err(_) if symbol == END => return Some(()),
                Err(_) => {
                    let (base, bits) = symbol::length_base(symbol)?;
                    let length = base + self.bits.take(bits)? as usize;
                    let (base, bits) = symbol::distance_base(distances.read(&mut self.bits)?)?;
                    Token::found(length, base + self.bits.take(bits)? as usize)?
                }
            };
            if !take(token) {
                return None;
            }
        }
    }
}

/// The lengths of a block's codes (RFC 1951, 3.2.7).
pub(super) struct Lengths {
    pub(super) literals: Vec<u8>,
    pub(super) distances: Vec<u8>,
}

impl Lengths {
    pub(super) fn read(bits: &mut Bits<'_>) -> Option<Self> {
        let literals = bits.take(5)? as usize + 257;
        let distances = bits.take(5)? as usize + 1;
        let count = bits.take(4)? as usize + 4;
        if literals > LITERALS || distances > DISTANCES {
            return None;
        }
        let mut of_lengths = [0; LENGTHS];
        for index in ORDER.iter().take(count) {
            *of_lengths.get_mut(usize::from(*index))? = bits.take(3)? as u8;
        }
        let decoder = Decoder::new(&of_lengths)?;
        let mut all: Vec<u8> = Vec::with_capacity(LITERALS + DISTANCES);
        while all.len() < literals + distances {
            let (value, count) = match decoder.read(bits)? {
                16 => (*all.last()?, 3 + bits.take(2)?),
                17 => (0, 3 + bits.take(3)?),
                18 => (0, 11 + bits.take(7)?),
                length => (u8::try_from(length).ok()?, 1),
            };
            all.extend(std::iter::repeat_n(value, count as usize));
        }
        if all.len() > literals + distances {
            return None;
        }
        let distances = all.split_off(literals);
        Some(Self {
            literals: all,
            distances,
        })
    }
}

/// A canonical code, to be read.
struct Decoder {
    /// By the next bits: symbol and length; length 0 where no code is.
    table: Vec<u16>,
    /// Bits that index the table.
    bits: u32,
}

impl Decoder {
    /// `None` for lengths that are no code: with more codes than there are, or gaps, but for one code alone or none.
    fn new(lengths: &[u8]) -> Option<Self> {
        let mut counts = [0u32; MAX_BITS + 1];
        for length in lengths {
            *counts.get_mut(usize::from(*length))? += 1;
        }
        let used = lengths.len() as u32 - counts[0];
        let bits = (1..=MAX_BITS)
            .rev()
            .find(|bits| counts.get(*bits) != Some(&0))
            .unwrap_or(1);
        let mut firsts = [0u32; MAX_BITS + 2];
        for length in 1..=MAX_BITS {
            firsts[length + 1] = (firsts[length] + counts[length]) << 1;
            if firsts[length] + counts[length] > 1 << length {
                return None;
            }
        }
        let complete = firsts[bits] + counts[bits] == 1 << bits;
        let excused = used == 0 || used == 1 && bits == 1;
        if !complete && !excused {
            return None;
        }
        let mut table = vec![0; 1 << bits];
        for (symbol, length) in lengths.iter().enumerate() {
            let length = usize::from(*length);
            if length == 0 {
                continue;
            }
            let code = firsts[length];
            firsts[length] += 1;
            // Codes come with their first bit lowest.
            let start = (code.reverse_bits() >> (32 - length)) as usize;
            let entry = (symbol as u16) << 4 | length as u16;
            for slot in table.iter_mut().skip(start).step_by(1 << length) {
                *slot = entry;
            }
        }
        Some(Self {
            table,
            bits: bits as u32,
        })
    }

    fn read(&self, bits: &mut Bits<'_>) -> Option<usize> {
        let entry = *self.table.get(bits.peek(self.bits))?;
        let length = u32::from(entry & 15);
        if length == 0 {
            return None;
        }
        bits.drop(length)?;
        Some(usize::from(entry >> 4))
    }
}

/// Reads bits, the lowest of each byte first.
#[derive(Debug, Clone)]
pub(super) struct Bits<'a> {
    data: &'a [u8],
    /// Next byte to be put into `held`.
    at: usize,
    held: u64,
    count: u32,
}

impl<'a> Bits<'a> {
    pub(super) fn new(data: &'a [u8]) -> Self {
        Self {
            data,
            at: 0,
            held: 0,
            count: 0,
        }
    }

    /// Bits that were read.
    pub(super) fn position(&self) -> u64 {
        self.at as u64 * 8 - u64::from(self.count)
    }

    fn fill(&mut self) {
        while self.count <= 56 {
            let Some(byte) = self.data.get(self.at) else {
                return;
            };
            self.held |= u64::from(*byte) << self.count;
            self.count += 8;
            self.at += 1;
        }
    }

    /// The next bits, with zeros beyond the end.
    fn peek(&mut self, count: u32) -> usize {
        if self.count < count {
            self.fill();
        }
        (self.held & ((1 << count) - 1)) as usize
    }

    fn drop(&mut self, count: u32) -> Option<()> {
        self.count = self.count.checked_sub(count)?;
        self.held >>= count;
        Some(())
    }

    /// Reads up to 16 bits.
    pub(super) fn take(&mut self, count: u32) -> Option<u32> {
        let value = self.peek(count) as u32;
        self.drop(count)?;
        Some(value)
    }

    /// Reads to the end of the byte; `None` unless the bits are zero, as every encoder writes them.
    fn align(&mut self) -> Option<()> {
        let rest = self.count % 8;
        (self.take(rest)? == 0).then_some(())
    }

    /// Passes over whole bytes; where they lie. Only at the beginning of a byte.
    fn skip(&mut self, length: usize) -> Option<Range<usize>> {
        let start = self.at - self.count as usize / 8;
        let end = start.checked_add(length)?;
        if end > self.data.len() {
            return None;
        }
        (self.at, self.held, self.count) = (end, 0, 0);
        Some(start..end)
    }
}

/// Cuts bits out of the data, with zeros after the last of them.
pub(super) fn cut(data: &[u8], range: &Range<u64>) -> Option<Vec<u8>> {
    let mut bits = Bits::new(data.get(usize::try_from(range.start / 8).ok()?..)?);
    bits.take((range.start % 8) as u32)?;
    let mut out = Vec::new();
    let mut left = range.end - range.start;
    while left > 0 {
        let count = left.min(8) as u32;
        out.push(bits.take(count)? as u8);
        left -= u64::from(count);
    }
    Some(out)
}

/// Appends what a token stands for to `out`, where the content began at `start`; `None` for a match before it.
pub(super) fn append(out: &mut Vec<u8>, start: usize, token: Token) -> Option<()> {
    let Some((length, distance)) = token.as_match() else {
        out.push(token.symbol() as u8);
        return Some(());
    };
    let from = out
        .len()
        .checked_sub(distance)
        .filter(|from| *from >= start)?;
    debug_assert!(distance <= MAX_DISTANCE);
    if distance >= length {
        out.extend_from_within(from..from + length);
    } else {
        // The match reaches into what it makes.
        for at in from..from + length {
            out.push(*out.get(at)?);
        }
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Bits as the RFC draws them, first to last, as bytes.
    fn bytes(bits: &str) -> Vec<u8> {
        let mut out = super::super::write::BitWriter::default();
        for bit in bits.chars().filter(char::is_ascii_digit) {
            out.put(u32::from(bit == '1'), 1);
        }
        out.into_bytes()
    }

    /// What the blocks decode to, and where they end.
    fn decoded(data: &[u8]) -> Option<(Vec<u8>, usize)> {
        let (mut blocks, mut out) = (Blocks::new(data), Vec::new());
        loop {
            let block = blocks.next(&mut |token| append(&mut out, 0, token).is_some())?;
            if let Form::Stored(range) = block.form {
                out.extend_from_slice(data.get(range)?);
            }
            if block.last {
                return Some((out, blocks.end()?));
            }
        }
    }

    #[test]
    fn blocks_of_every_form() {
        // A literal "a" is 0x30 + 0x61 in the fixed code, a match of three 0000001, distance one 00000, the end 0000000.
        let fixed = bytes("1 10 10010001 0000001 00000 0000000");
        assert_eq!(decoded(&fixed), Some((b"aaaa".to_vec(), 4)));
        let stored = [0, 2, 0, 0xfd, 0xff, b'h', b'i', 1, 0, 0, 0xff, 0xff, 9];
        assert_eq!(decoded(&stored), Some((b"hi".to_vec(), 12)));
    }

    #[test]
    fn what_is_no_deflate_data_is_refused() {
        let cases = [
            ("nothing", String::new()),
            ("a form that does not exist", "1 11 00000".into()),
            (
                "a stored length that is not said twice",
                "1 00 00000 0100000000000000 1111111111111111".into(),
            ),
            (
                "padding that is not zero",
                "1 00 00001 0000000000000000 1111111111111111".into(),
            ),
            (
                "stored bytes beyond the end",
                "1 00 00000 1000000000000000 0111111111111111".into(),
            ),
            (
                "a distance before the beginning",
                "1 10 10010001 0000001 00001 0000000".into(),
            ),
            (
                "distance symbol 30",
                "1 10 10010001 0000001 11110 0000000".into(),
            ),
            (
                "length symbol 286",
                "1 10 10010001 11000110 00000 0000000".into(),
            ),
            ("no end", "1 10 10010001".into()),
            ("287 symbols of literals", "1 01 01111 00000 0000".into()),
            ("31 symbols of distances", "1 01 00000 01111 0000".into()),
            (
                "too many codes of length 1",
                format!("1 01 00000 00000 0000 {}", "100".repeat(4)),
            ),
            (
                "a gap in the code",
                format!("1 01 00000 00000 0000 {}", "010".repeat(3)),
            ),
            // Lengths 0 and 18 have codes of one bit; all of the 258 lengths are zero.
            (
                "no code for the end",
                "1 01 00000 00000 0000 000 000 100 100 1 1111111 1 1011011".into(),
            ),
            (
                "a repetition of nothing",
                "1 01 00000 00000 0000 100 000 000 100 1 00".into(),
            ),
        ];
        for (what, bits) in cases {
            assert_eq!(decoded(&bytes(&bits)), None, "{what}");
        }
    }

    #[test]
    fn whoever_takes_tokens_can_stop() {
        let fixed = bytes("1 10 10010001 0000001 00000 0000000");
        let mut count = 0;
        let block = Blocks::new(&fixed).next(&mut |_| {
            count += 1;
            count < 2
        });
        assert_eq!((block, count), (None, 2));
    }

    #[test]
    fn bits_are_cut_at_any_place() {
        let data = [0b1010_0101, 0b0011_1100, 0xff];
        assert_eq!(cut(&data, &(0..8)), Some(vec![0b1010_0101]));
        assert_eq!(cut(&data, &(4..15)), Some(vec![0b1100_1010, 0b011]));
        assert_eq!(cut(&data, &(20..25)), None);
    }
}
