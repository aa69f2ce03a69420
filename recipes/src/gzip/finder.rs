//! The window and the hash chains of zlib and gzip: where a string came before.
//!
//! What they find hangs on how they keep their window: 64 KiB, of which the upper half moves down when it is nearly used
//! up; a string at its very beginning is never found; gzip goes on comparing behind the end of the content, in what lies
//! there since. So the window here is kept in the same way, filled to the same marks, and moved at the same positions.
//!
//! Threats: contents made to be slow to search. Defence: every step of a chain is counted, by which the caller bounds the
//! work.

use std::io::Read;

use super::symbol::{MAX_MATCH, MIN_MATCH};
use crate::Error;

/// Half of the window: the farthest distance of the format.
pub(super) const HALF: usize = 1 << 15;
const WINDOW: usize = 2 * HALF;
/// Bytes that must be ahead while there are any: the longest match, and a string after it.
const AHEAD: usize = MAX_MATCH + MIN_MATCH + 1;
/// Farthest distance that is looked at.
const FARTHEST: usize = HALF - AHEAD;
/// Positions from here on make the window move.
const MOVE: usize = HALF + FARTHEST;
/// Length of the arrays by position, and by hash at the largest.
const HASHES: usize = 1 << 16;

/// Whose window it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// GNU gzip.
    Gnu,
    /// zlib and what is linked to it.
    Zlib,
}

/// How hard to look.
#[derive(Debug, Clone, Copy)]
pub(super) struct Effort {
    /// With a match of this length at hand, a quarter of the steps is enough.
    pub(super) good: usize,
    /// A match of this length ends the search.
    pub(super) nice: usize,
    /// Steps along a chain.
    pub(super) chain: u32,
}

/// A match that was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) length: usize,
    pub(super) distance: usize,
}

/// Where content comes from, and how much of it may be read.
#[derive(Debug, Clone)]
pub(super) struct Supply<R> {
    pub(super) source: R,
    /// Bytes up to the next flush, or the end.
    pub(super) left: u64,
    /// Sum of what was read.
    pub(super) sum: crc32fast::Hasher,
}

impl<R: Read> Supply<R> {
    /// Reads as much as there is room and content.
    fn read(&mut self, room: &mut [u8]) -> Result<usize, Error> {
        let count = room
            .len()
            .min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let room = room.get_mut(..count).unwrap_or_default();
        self.source.read_exact(room).map_err(Error::Read)?;
        self.sum.update(room);
        self.left -= count as u64;
        Ok(count)
    }
}

/// A window over the content with its hash chains. Positions are within the window.
#[derive(Debug, Clone)]
pub(super) struct Finder {
    family: Family,
    effort: Effort,
    /// Bits of a hash, and how far it moves with each byte.
    hash_bits: u32,
    shift: u32,
    /// Some more bytes, which are never content.
    window: Box<[u8]>,
    /// The last position with a hash; 0 is none.
    heads: Box<[u16; HASHES]>,
    /// The position before with the same hash, by position; 0 is none.
    before: Box<[u16; HALF]>,
    /// What comes next.
    at: usize,
    /// Where the content that was read ends.
    end: usize,
    /// The first position that is not in the chains.
    chained: usize,
    /// Whether gzip met the end of the content, after which its window stands still.
    ended: bool,
    /// How often the window moved.
    moves: u64,
    /// Steps along chains so far.
    steps: u64,
}

impl Finder {
    /// With hashes of 8 to 16 bits.
    pub(super) fn new(family: Family, hash_bits: u32, effort: Effort) -> Self {
        Self {
            family,
            effort,
            hash_bits,
            shift: hash_bits.div_ceil(MIN_MATCH as u32),
            window: vec![0; WINDOW + MAX_MATCH].into_boxed_slice(),
            heads: Box::new([0; HASHES]),
            before: Box::new([0; HALF]),
            at: 0,
            end: 0,
            chained: 0,
            ended: false,
            moves: 0,
            steps: 0,
        }
    }

    /// Bytes at hand from the position on.
    pub(super) fn ahead(&self) -> usize {
        self.end - self.at
    }

    /// Steps along chains so far: of chains, and of long comparisons.
    pub(super) fn steps(&self) -> u64 {
        self.steps
    }

    /// Bytes from the beginning of the window on, those that left it included.
    pub(super) fn position(&self) -> u64 {
        self.moves * HALF as u64 + self.at as u64
    }

    /// The byte that comes next.
    pub(super) fn byte(&self) -> u8 {
        self.window.get(self.at).copied().unwrap_or(0)
    }

    /// The last `length` bytes, if all are in the window.
    pub(super) fn last(&self, length: u64) -> Option<&[u8]> {
        let start = self.at.checked_sub(usize::try_from(length).ok()?)?;
        self.window.get(start..self.at)
    }

    /// Begins anew at the position, with the half of the window before it as a dictionary, or with nothing.
    pub(super) fn restart(&mut self, dictionary: bool) {
        // Just after a move a little of the half is gone: so little that no match is looked for there.
        let kept = if dictionary { self.at.min(HALF) } else { 0 };
        let start = if dictionary { HALF } else { 0 };
        self.window
            .copy_within(self.at - kept..self.at, start - kept);
        self.heads.fill(0);
        (self.at, self.end, self.moves) = (start, start, 0);
        self.chained = start - kept;
        self.chain_to(start);
    }

    /// Goes on after a flush. The last two strings, which were not all there, get into the chains with what follows.
    pub(super) fn resume(&mut self) {
        self.chained = self.at.saturating_sub(MIN_MATCH - 1);
    }

    /// Reads on where less than enough is ahead of the position `more` bytes from here.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub(super) fn ensure<R: Read>(
        &mut self,
        more: usize,
        supply: &mut Supply<R>,
    ) -> Result<(), Error> {
        while self.end < self.at + more + AHEAD && !self.ended {
            if self.at + more >= MOVE {
                self.slide();
            }
            let room = self.window.get_mut(self.end..WINDOW).unwrap_or_default();
            let count = supply.read(room)?;
            self.end += count;
            if count > 0 {
                // Positions at the end of what was there before a flush wait for bytes after them.
                self.chain_to(self.at);
                continue;
            }
            if self.family == Family::Gnu {
                self.ended = true;
                // The hash of the last strings is over zeros.
                if let Some(after) = self.window.get_mut(self.end..self.end + MIN_MATCH - 1) {
                    after.fill(0);
                }
            }
            break;
        }
        Ok(())
    }

    fn slide(&mut self) {
        self.window.copy_within(HALF..WINDOW, 0);
        for position in self.heads.iter_mut().chain(self.before.iter_mut()) {
            *position = position.saturating_sub(HALF as u16);
        }
        self.at -= HALF;
        self.end -= HALF;
        self.chained = self.chained.saturating_sub(HALF);
        self.moves += 1;
    }

    /// Puts positions in the chains up to `end`; zlib only those of strings that are all there.
    fn chain_to(&mut self, end: usize) {
        let end = match self.family {
            Family::Gnu => end,
            Family::Zlib => end.min((self.end + 1).saturating_sub(MIN_MATCH)),
        };
        while self.chained < end {
            self.chain(self.chained);
            self.chained += 1;
        }
    }

    /// Puts a position in its chain.
    fn chain(&mut self, at: usize) {
        let Some(&[first, second, third]) = self.window.get(at..).and_then(<[u8]>::first_chunk)
        else {
            return;
        };
        let mix = u32::from(first) << (2 * self.shift)
            ^ u32::from(second) << self.shift
            ^ u32::from(third);
        let hash = (mix & ((1 << self.hash_bits) - 1)) as usize % HASHES;
        self.before[at % HALF] = self.heads[hash];
        self.heads[hash] = at as u16;
    }

    /// Goes on by `length` bytes, all of which are put in the chains.
    pub(super) fn pass(&mut self, length: usize) {
        self.at += length.min(self.ahead());
        self.chain_to(self.at);
    }

    /// Goes on by `length` bytes, of which only the first is in the chains.
    pub(super) fn leap(&mut self, length: usize) {
        self.at += length.min(self.ahead());
        self.chained = self.at;
    }

    /// Looks for a match longer than `least`, at the position `more` bytes from here.
    pub(super) fn search(&mut self, more: usize, least: usize) -> Option<Found> {
        let at = self.at + more;
        self.chain_to(at + 1);
        if at >= self.chained {
            return None;
        }
        let ahead = self.end.checked_sub(at)?;
        let limit = at.saturating_sub(FARTHEST);
        let (most, nice) = match self.family {
            Family::Gnu => (MAX_MATCH, self.effort.nice),
            Family::Zlib => (ahead.min(MAX_MATCH), self.effort.nice.min(ahead)),
        };
        let mut candidate = usize::from(self.before[at % HALF]);
        // The first may be as far as the limit, those after it not.
        if candidate == 0 || candidate < limit || at > WINDOW - AHEAD || least >= most {
            return None;
        }
        let mut chain = self.effort.chain;
        if least >= self.effort.good {
            chain /= 4;
        }
        let ours = self.window.get(at..at + most)?;
        let mut best = least;
        let mut start = 0;
        let mut steps = 0;
        loop {
            steps += 1;
            let theirs = self.window.get(candidate..candidate + most)?;
            if theirs.get(best - 1..=best) == ours.get(best - 1..=best) {
                let length = common(ours, theirs);
                steps += length as u64 / 32;
                if length > best {
                    start = candidate;
                    best = length;
                    if length >= nice || length >= most {
                        break;
                    }
                }
            }
            candidate = usize::from(self.before[candidate % HALF]);
            chain = chain.saturating_sub(1);
            if candidate <= limit || chain == 0 {
                break;
            }
        }
        self.steps += steps;
        let length = best.min(ahead);
        (best > least && length > least).then(|| Found {
            length,
            distance: at - start,
        })
    }
}

/// Bytes that two strings have in common at their beginning.
fn common(one: &[u8], other: &[u8]) -> usize {
    let mut length = 0;
    for (one, other) in one.chunks_exact(8).zip(other.chunks_exact(8)) {
        let word = |bytes: &[u8]| {
            bytes
                .first_chunk()
                .map_or(0, |bytes| u64::from_le_bytes(*bytes))
        };
        let differing = word(one) ^ word(other);
        if differing != 0 {
            return length + differing.trailing_zeros() as usize / 8;
        }
        length += 8;
    }
    let rest = one.iter().zip(other).skip(length);
    length + rest.take_while(|(one, other)| one == other).count()
}
