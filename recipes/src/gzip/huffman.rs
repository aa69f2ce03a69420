//! The codes that zlib and gzip give a block, and its description (RFC 1951, 3.2.7).
//!
//! Both build them alike, and the result hangs on details: a binary heap of numbers, in which nodes of one frequency are
//! told apart by their depth; a tree made of the two smallest again and again; codes that came out too long are cut, and
//! the lengths dealt out anew from the rarest symbol on; runs of lengths are coded for literals and distances apart.

use super::symbol::{
    DISTANCES, END, LENGTHS, LITERALS, MAX_BITS, ORDER, distance_bits, fixed_literals, length_bits,
};
use super::write::BitWriter;

/// Longest code for a code length, in bits.
const MAX_LENGTH_BITS: usize = 7;

/// How often each symbol comes in a block.
#[derive(Debug, Clone)]
pub(super) struct Frequencies {
    pub(super) literals: [u32; LITERALS],
    pub(super) distances: [u32; DISTANCES],
}

impl Frequencies {
    /// Of a block without tokens: its end comes once.
    pub(super) fn new() -> Self {
        let mut literals = [0; LITERALS];
        literals[END] = 1;
        Self {
            literals,
            distances: [0; DISTANCES],
        }
    }
}

/// Codes for a block, and what it costs with them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Codes {
    /// Code lengths of literals, up to the last symbol that has one.
    pub(super) literals: Vec<u8>,
    /// Code lengths of distances, up to the last symbol that has one.
    pub(super) distances: Vec<u8>,
    /// The runs of both, as they are written.
    runs: Vec<Run>,
    /// Code lengths of the runs' symbols.
    of_lengths: [u8; LENGTHS],
    /// How many of them are written.
    written: usize,
    /// Bits of the block after its first three.
    pub(super) bits: u64,
}

/// A symbol of the code for code lengths, and what follows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Run {
    symbol: u8,
    extra: u8,
}

impl Run {
    /// Bits of what follows the symbol.
    fn bits(self) -> u32 {
        match self.symbol {
            16 => 2,
            17 => 3,
            18 => 7,
            _ => 0,
        }
    }
}

impl Codes {
    pub(super) fn new(frequencies: &Frequencies) -> Self {
        let literals = lengths(&frequencies.literals, MAX_BITS);
        let distances = lengths(&frequencies.distances, MAX_BITS);
        let mut found = Vec::new();
        runs(&literals, &mut found);
        runs(&distances, &mut found);
        let mut counts = [0; LENGTHS];
        for run in &found {
            if let Some(count) = counts.get_mut(usize::from(run.symbol)) {
                *count += 1;
            }
        }
        let mut of_lengths = [0; LENGTHS];
        for (target, length) in of_lengths.iter_mut().zip(lengths(&counts, MAX_LENGTH_BITS)) {
            *target = length;
        }
        let used = |index: &u8| of_lengths.get(usize::from(*index)) != Some(&0);
        let written = ORDER.iter().rposition(used).map_or(4, |at| (at + 1).max(4));
        let tokens = cost(&frequencies.literals, &literals, length_bits)
            + cost(&frequencies.distances, &distances, distance_bits);
        let described: u64 = found
            .iter()
            .map(|run| {
                let length = of_lengths.get(usize::from(run.symbol)).copied();
                u64::from(length.unwrap_or(0)) + u64::from(run.bits())
            })
            .sum();
        Self {
            literals,
            distances,
            runs: found,
            of_lengths,
            written,
            bits: 14 + 3 * written as u64 + described + tokens,
        }
    }

    /// Writes the description.
    pub(super) fn describe(&self, out: &mut BitWriter) {
        out.put(self.literals.len().saturating_sub(257) as u32, 5);
        out.put(self.distances.len().saturating_sub(1) as u32, 5);
        out.put(self.written.saturating_sub(4) as u32, 4);
        for index in ORDER.iter().take(self.written) {
            let length = self.of_lengths.get(usize::from(*index)).copied();
            out.put(u32::from(length.unwrap_or(0)), 3);
        }
        let codes = canonical(&self.of_lengths);
        for run in &self.runs {
            let (code, bits) = codes
                .get(usize::from(run.symbol))
                .copied()
                .unwrap_or_default();
            out.put(code, bits);
            out.put(u32::from(run.extra), run.bits());
        }
    }
}

/// Bits of a block in the fixed codes, after its first three.
pub(super) fn fixed_cost(frequencies: &Frequencies) -> u64 {
    cost(&frequencies.literals, &fixed_literals(), length_bits)
        + cost(&frequencies.distances, &[5; DISTANCES], distance_bits)
}

fn cost(frequencies: &[u32], lengths: &[u8], extra: impl Fn(usize) -> u32) -> u64 {
    frequencies
        .iter()
        .zip(lengths)
        .enumerate()
        .map(|(symbol, (count, length))| {
            u64::from(*count) * u64::from(u32::from(*length) + extra(symbol))
        })
        .sum()
}

/// Codes of the lengths, with their first bit lowest, and their lengths (3.2.2).
pub(super) fn canonical(lengths: &[u8]) -> Vec<(u32, u32)> {
    let mut counts = [0u32; MAX_BITS + 1];
    for length in lengths.iter().filter(|length| **length > 0) {
        if let Some(count) = counts.get_mut(usize::from(*length)) {
            *count += 1;
        }
    }
    let mut nexts = [0u32; MAX_BITS + 1];
    for bits in 1..MAX_BITS {
        nexts[bits + 1] = (nexts[bits] + counts[bits]) << 1;
    }
    let mut code = |length: &u8| {
        let next = nexts.get_mut(usize::from(*length))?;
        let bits = u32::from(*length);
        let reversed = next.reverse_bits().checked_shr(32 - bits)?;
        *next += 1;
        Some((reversed, bits))
    };
    lengths
        .iter()
        .map(|length| code(length).unwrap_or_default())
        .collect()
}

/// Codes code lengths as runs. A run of a length goes on from the length before, six at a time.
fn runs(lengths: &[u8], out: &mut Vec<Run>) {
    let mut rest = lengths;
    let mut before = None;
    while let Some(length) = rest.first().copied() {
        let again = before == Some(length);
        let (least, most) = match (length, again) {
            (0, _) => (3, 138),
            (_, true) => (3, 6),
            (_, false) => (4, 7),
        };
        let same = |other: &&u8| **other == length;
        let count = rest.iter().take(most).take_while(same).count();
        let plain = Run {
            symbol: length,
            extra: 0,
        };
        let run = |symbol: u8, extra: usize| Run {
            symbol,
            extra: extra as u8,
        };
        if count < least {
            out.extend(std::iter::repeat_n(plain, count));
        } else if length == 0 && count <= 10 {
            out.push(run(17, count - 3));
        } else if length == 0 {
            out.push(run(18, count - 11));
        } else if again {
            out.push(run(16, count - 3));
        } else {
            out.extend([plain, run(16, count - 4)]);
        }
        before = Some(length);
        rest = rest.get(count..).unwrap_or_default();
    }
}

/// A leaf or a joint of the tree.
#[derive(Debug, Clone, Copy, Default)]
struct Node {
    count: u32,
    /// Levels below it.
    depth: u8,
    parent: u16,
}

/// Code lengths for the frequencies, up to the last symbol that has one, and of at most `longest` bits.
///
/// Deflate wants two codes at least: symbols that never come get them, the first ones that are free.
fn lengths(frequencies: &[u32], longest: usize) -> Vec<u8> {
    let mut nodes: Vec<Node> = frequencies
        .iter()
        .map(|count| Node {
            count: *count,
            ..Node::default()
        })
        .collect();
    let mut heap: Vec<usize> = (0..nodes.len()).filter(|at| nodes[*at].count > 0).collect();
    let mut last = heap.last().copied();
    while heap.len() < 2 {
        let symbol = match last {
            Some(2..) => 0,
            Some(largest) => largest + 1,
            None => 0,
        };
        last = last.max(Some(symbol));
        nodes[symbol].count = 1;
        heap.push(symbol);
    }
    for at in (0..heap.len() / 2).rev() {
        sift(&mut heap, at, &nodes);
    }
    // From the rarest on; a joint comes after both that it joins.
    let mut order = Vec::with_capacity(heap.len() * 2);
    while heap.len() > 1 {
        let first = heap.swap_remove(0);
        sift(&mut heap, 0, &nodes);
        let second = heap[0];
        order.extend([first, second]);
        let joint = nodes.len();
        nodes.push(Node {
            count: nodes[first].count + nodes[second].count,
            depth: nodes[first].depth.max(nodes[second].depth) + 1,
            parent: 0,
        });
        nodes[first].parent = joint as u16;
        nodes[second].parent = joint as u16;
        heap[0] = joint;
        sift(&mut heap, 0, &nodes);
    }
    let symbols = last.map_or(0, |last| last + 1);
    deal(&nodes, &order, frequencies.len(), symbols, longest)
}

/// Moves the node at `at` down the heap to where both below it are larger.
fn sift(heap: &mut [usize], mut at: usize, nodes: &[Node]) {
    let key = |number: usize| (nodes[number].count, nodes[number].depth);
    let Some(moved) = heap.get(at).copied() else {
        return;
    };
    loop {
        let mut below = 2 * at + 1;
        let Some(left) = heap.get(below).copied() else {
            break;
        };
        let mut smaller = left;
        // Of two that are equal the right one.
        if let Some(right) = heap.get(below + 1).copied()
            && key(right) <= key(left)
        {
            below += 1;
            smaller = right;
        }
        if key(moved) <= key(smaller) {
            break;
        }
        heap[at] = smaller;
        at = below;
    }
    heap[at] = moved;
}

/// Code lengths of the leaves, from the tree's levels.
fn deal(nodes: &[Node], order: &[usize], leaves: usize, symbols: usize, longest: usize) -> Vec<u8> {
    let mut levels = vec![0; nodes.len()];
    let mut counts = [0usize; MAX_BITS + 2];
    let mut too_long = 0usize;
    // From the root down; it is in no order.
    for node in order.iter().rev() {
        let level = levels[usize::from(nodes[*node].parent)] + 1;
        too_long += usize::from(level > longest);
        levels[*node] = level.min(longest);
        if *node < leaves {
            counts[level.min(longest)] += 1;
        }
    }
    // Each step moves a leaf down beside one that was too long.
    let mut left = too_long as i64;
    while left > 0 {
        let Some(bits) = (1..longest).rev().find(|bits| counts[*bits] > 0) else {
            break;
        };
        counts[bits] -= 1;
        counts[bits + 1] += 2;
        counts[longest] = counts[longest].saturating_sub(1);
        left -= 2;
    }
    let mut lengths = vec![0; symbols];
    if too_long == 0 {
        for (target, level) in lengths.iter_mut().zip(&levels) {
            *target = *level as u8;
        }
        return lengths;
    }
    let mut rarest = order.iter().filter(|node| **node < leaves);
    for bits in (1..=longest).rev() {
        for node in rarest.by_ref().take(counts[bits]) {
            lengths[*node] = bits as u8;
        }
    }
    lengths
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sum of 2^-length in units of 2^-15; a complete code has 2^15.
    fn kraft(lengths: &[u8]) -> u32 {
        let used = lengths.iter().filter(|length| **length > 0);
        used.map(|length| 1 << (MAX_BITS - usize::from(*length)))
            .sum()
    }

    #[test]
    fn codes_are_complete_and_bounded() {
        let mut fibonacci = vec![1, 1];
        while fibonacci.len() < 30 {
            fibonacci.push(fibonacci.iter().rev().take(2).sum());
        }
        let cases = [
            fibonacci,
            vec![1; 286],
            vec![7, 0, 0, 9],
            (1..200).collect(),
        ];
        for counts in cases {
            for longest in [9, MAX_BITS] {
                let lengths = lengths(&counts, longest);
                assert_eq!(kraft(&lengths), 1 << MAX_BITS, "{counts:?}");
                assert!(lengths.iter().all(|length| usize::from(*length) <= longest));
                // The rarer, the longer.
                for (one, other) in [(0, 1), (counts.len() - 2, counts.len() - 1)] {
                    if counts[one] > 0 && counts[one] < counts[other] {
                        assert!(lengths[one] >= lengths[other]);
                    }
                }
            }
        }
    }

    #[test]
    fn there_are_two_codes_at_least() {
        for (used, expected) in [
            (None, &[1, 1][..]),
            (Some(0), &[1, 1]),
            (Some(1), &[0, 1, 1]),
            (Some(2), &[1, 0, 1]),
            (Some(5), &[1, 0, 0, 0, 0, 1]),
        ] {
            let mut counts = [0; DISTANCES];
            if let Some(symbol) = used {
                counts[symbol] = 3;
            }
            assert_eq!(lengths(&counts, MAX_BITS), expected, "{used:?}");
        }
    }

    #[test]
    fn runs_are_cut_where_zlib_cuts_them() {
        let cases = [
            (&[5; 3][..], &[(5, 0), (5, 0), (5, 0)][..]),
            (&[5; 4], &[(5, 0), (16, 0)]),
            // Seven, then six at a time.
            (&[5; 9], &[(5, 0), (16, 3), (5, 0), (5, 0)]),
            (&[5; 13], &[(5, 0), (16, 3), (16, 3)]),
            (&[0; 10], &[(17, 7)]),
            (&[0; 140], &[(18, 127), (0, 0), (0, 0)]),
        ];
        for (lengths, expected) in cases {
            let mut found = Vec::new();
            runs(lengths, &mut found);
            let found: Vec<_> = found.iter().map(|run| (run.symbol, run.extra)).collect();
            assert_eq!(
                found,
                expected,
                "{} of {:?}",
                lengths.len(),
                lengths.first()
            );
        }
    }

    #[test]
    fn descriptions_are_read_back_and_cost_what_they_say() {
        let mut frequencies = Frequencies::new();
        for (symbol, count) in frequencies.literals.iter_mut().enumerate() {
            *count += (symbol % 11) as u32 * 3;
        }
        frequencies.distances[7] = 4;
        let codes = Codes::new(&frequencies);
        let mut out = BitWriter::default();
        codes.describe(&mut out);
        let bytes = out.into_bytes();
        let mut bits = super::super::inflate::Bits::new(&bytes);
        let read = super::super::inflate::Lengths::read(&mut bits).unwrap();
        assert_eq!(read.literals, codes.literals);
        assert_eq!(read.distances, codes.distances);
        let tokens = cost(&frequencies.literals, &codes.literals, length_bits)
            + cost(&frequencies.distances, &codes.distances, distance_bits);
        assert_eq!(bits.position() + tokens, codes.bits);
    }
}
