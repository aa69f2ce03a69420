//! Symbols of deflate: tokens, and the codes of lengths and distances (RFC 1951, 3.2.5).

/// Bytes that a match has at least and at most.
pub(super) const MIN_MATCH: usize = 3;
pub(super) const MAX_MATCH: usize = 258;
/// Farthest match that the format knows.
pub(super) const MAX_DISTANCE: usize = 1 << 15;

/// Symbol that ends a block.
pub(super) const END: usize = 256;
/// Symbols for literals, the end and lengths.
pub(super) const LITERALS: usize = 286;
/// Symbols for distances.
pub(super) const DISTANCES: usize = 30;
/// Symbols of the code for code lengths.
pub(super) const LENGTHS: usize = 19;
/// Longest code of literals and distances, in bits.
pub(super) const MAX_BITS: usize = 15;
/// Order in which the lengths of the code for code lengths are written (3.2.7).
pub(super) const ORDER: [u8; LENGTHS] = [
    16, 17, 18, 0, 8, 7, 9, 6, 10, 5, 11, 4, 12, 3, 13, 2, 14, 1, 15,
];

/// A literal byte, or a match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Token {
    /// The byte, or the length of the match.
    value: u16,
    /// 0 for a literal.
    distance: u16,
}

impl Token {
    pub(super) fn literal(byte: u8) -> Self {
        Self {
            value: u16::from(byte),
            distance: 0,
        }
    }

    /// A match; `None` for lengths and distances that the format does not have.
    pub(super) fn found(length: usize, distance: usize) -> Option<Self> {
        let known =
            (MIN_MATCH..=MAX_MATCH).contains(&length) && (1..=MAX_DISTANCE).contains(&distance);
        known.then_some(Self {
            value: length as u16,
            distance: distance as u16,
        })
    }

    /// Length and distance, if it is a match.
    pub(super) fn as_match(self) -> Option<(usize, usize)> {
        (self.distance != 0).then_some((usize::from(self.value), usize::from(self.distance)))
    }

    /// Bytes that it stands for.
    pub(super) fn length(self) -> usize {
        self.as_match().map_or(1, |(length, _)| length)
    }

    /// Its symbol in the code of literals.
    pub(super) fn symbol(self) -> usize {
        match self.as_match() {
            Some((length, _)) => length_code(length).symbol,
            None => usize::from(self.value),
        }
    }
}

/// A symbol with the bits that follow it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Code {
    pub(super) symbol: usize,
    /// Count of the bits.
    pub(super) bits: u32,
    /// Their value.
    pub(super) extra: u32,
}

/// Code of the length of a match.
pub(super) fn length_code(length: usize) -> Code {
    let value = length.saturating_sub(MIN_MATCH) as u32;
    // The longest has a symbol of its own.
    if length >= MAX_MATCH {
        return code(285, 0, 0);
    }
    match value.checked_ilog2() {
        Some(log) if log > 2 => {
            let bits = log - 2;
            let symbol = 257 + 4 * bits + (value >> bits);
            code(symbol, bits, value & ((1 << bits) - 1))
        }
        _ => code(257 + value, 0, 0),
    }
}

/// Code of the distance of a match.
pub(super) fn distance_code(distance: usize) -> Code {
    let value = distance.saturating_sub(1) as u32;
    match value.checked_ilog2() {
        Some(log) if log > 1 => {
            let bits = log - 1;
            let symbol = 2 * bits + (value >> bits);
            code(symbol, bits, value & ((1 << bits) - 1))
        }
        _ => code(value, 0, 0),
    }
}

fn code(symbol: u32, bits: u32, extra: u32) -> Code {
    Code {
        symbol: symbol as usize,
        bits,
        extra,
    }
}

/// Smallest length of a symbol, and the count of its extra bits.
pub(super) fn length_base(symbol: usize) -> Option<(usize, u32)> {
    let index = symbol.checked_sub(257)?;
    match index {
        0..8 => Some((index + MIN_MATCH, 0)),
        8..28 => {
            let bits = index / 4 - 1;
            Some((((4 + index % 4) << bits) + MIN_MATCH, bits as u32))
        }
        28 => Some((MAX_MATCH, 0)),
        _ => None,
    }
}

/// Smallest distance of a symbol, and the count of its extra bits.
pub(super) fn distance_base(symbol: usize) -> Option<(usize, u32)> {
    match symbol {
        0..4 => Some((symbol + 1, 0)),
        4..DISTANCES => {
            let bits = symbol / 2 - 1;
            Some((((2 + symbol % 2) << bits) + 1, bits as u32))
        }
        _ => None,
    }
}

/// Extra bits after a symbol of the code of literals.
pub(super) fn length_bits(symbol: usize) -> u32 {
    length_base(symbol).map_or(0, |(_, bits)| bits)
}

/// Extra bits after a symbol of the code of distances.
pub(super) fn distance_bits(symbol: usize) -> u32 {
    distance_base(symbol).map_or(0, |(_, bits)| bits)
}

/// Code lengths of the fixed code of literals (3.2.6).
pub(super) fn fixed_literals() -> [u8; 288] {
    std::array::from_fn(|symbol| match symbol {
        0..144 => 8,
        144..256 => 9,
        256..280 => 7,
        _ => 8,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_bases_agree() {
        for length in MIN_MATCH..=MAX_MATCH {
            let code = length_code(length);
            let (base, bits) = length_base(code.symbol).unwrap();
            assert_eq!((base + code.extra as usize, bits), (length, code.bits));
        }
        for distance in 1..=MAX_DISTANCE {
            let code = distance_code(distance);
            let (base, bits) = distance_base(code.symbol).unwrap();
            assert_eq!((base + code.extra as usize, bits), (distance, code.bits));
        }
        // From the tables of RFC 1951.
        for (length, symbol, bits) in [(10, 264, 0), (11, 265, 1), (227, 284, 5), (257, 284, 5)] {
            let code = length_code(length);
            assert_eq!((code.symbol, code.bits), (symbol, bits));
        }
        for (distance, symbol, bits) in [(4, 3, 0), (5, 4, 1), (24_577, 29, 13)] {
            let code = distance_code(distance);
            assert_eq!((code.symbol, code.bits), (symbol, bits));
        }
    }

    #[test]
    fn tokens_have_the_bounds_of_the_format() {
        assert!(Token::found(2, 1).is_none() && Token::found(259, 1).is_none());
        assert!(Token::found(3, 0).is_none() && Token::found(3, 32_769).is_none());
        let farthest = Token::found(258, 32_768).unwrap();
        assert_eq!(farthest.as_match(), Some((258, 32_768)));
        assert_eq!(Token::literal(0).as_match(), None);
    }
}
