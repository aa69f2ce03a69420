//! What zlib or gzip would do next: the tokens, and where blocks end.
//!
//! Both parse alike (`deflate` of zlib, `deflate.c` of gzip). The fast levels take the first match. The slow ones look one
//! byte further before they take it, and take a literal if the match there is longer. The prediction goes from token to
//! token and follows what really came, so that it is right again after a token that was not predicted.

use std::io::Read;

use super::finder::{Effort, Family, Finder, Found, Supply};
use super::huffman::Frequencies;
use super::symbol::{MIN_MATCH, Token, distance_bits, distance_code};
use crate::Error;

/// A match of three bytes farther away than this costs more than literals.
const TOO_FAR: usize = 4096;
/// Tokens between two looks of gzip at whether a new block pays.
const LOOK: usize = 4096;
/// Most tokens of a block of gzip, and one more.
const GNU_TOKENS: usize = 1 << 15;

/// The encoder that is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Encoder {
    /// `None` for GNU gzip; for zlib its memory level, 1 to 9, which is 8 but for few programs.
    pub memory_level: Option<u8>,
    /// 1 to 9.
    pub level: u8,
}

impl Encoder {
    /// Most tokens of a block, and one more.
    pub(super) fn tokens(self) -> usize {
        match self.memory_level {
            None => GNU_TOKENS,
            Some(level) => 1 << (level.min(9) + 6),
        }
    }

    fn family(self) -> Family {
        match self.memory_level {
            None => Family::Gnu,
            Some(_) => Family::Zlib,
        }
    }

    fn hash_bits(self) -> u32 {
        match self.memory_level {
            None => 15,
            Some(level) => u32::from(level.clamp(1, 9)) + 7,
        }
    }

    /// The published settings of the levels: what is good, lazy and nice, and the length of the chains.
    fn settings(self) -> (Effort, usize) {
        let (good, lazy, nice, chain) = match self.level {
            0 | 1 => (4, 4, 8, 4),
            2 => (4, 5, 16, 8),
            3 => (4, 6, 32, 32),
            4 => (4, 4, 16, 16),
            5 => (8, 16, 32, 32),
            6 => (8, 16, 128, 128),
            7 => (8, 32, 128, 256),
            8 => (32, 128, 258, 1024),
            _ => (32, 258, 258, 4096),
        };
        (Effort { good, nice, chain }, lazy)
    }
}

/// Predicts the tokens of a content, block by block.
#[derive(Debug, Clone)]
pub(super) struct Predictor {
    encoder: Encoder,
    finder: Finder,
    /// Slow levels: a match shorter than this is only taken if there is none longer at the next byte. Fast levels: a longer
    /// match is not put in the chains but for its beginning.
    lazy: usize,
    /// The match at the position, if a literal was predicted because of it.
    waiting: Option<Found>,
    block: Counts,
}

/// What is counted of the block that is being made.
#[derive(Debug, Clone)]
struct Counts {
    frequencies: Frequencies,
    tokens: usize,
    matches: usize,
    /// Bits of the distances, as gzip guesses them.
    distances: u64,
    /// Where the block began.
    start: u64,
    /// Where the encoder stood when it took the last token.
    stood: u64,
    /// Whether the last token was the literal that a slow level takes after its loop, which ends no block.
    after_loop: bool,
}

impl Counts {
    fn new(start: u64) -> Self {
        Self {
            frequencies: Frequencies::new(),
            tokens: 0,
            matches: 0,
            distances: 0,
            start,
            stood: start,
            after_loop: false,
        }
    }
}

impl Predictor {
    pub(super) fn new(encoder: Encoder) -> Self {
        let (effort, lazy) = encoder.settings();
        Self {
            encoder,
            finder: Finder::new(encoder.family(), encoder.hash_bits(), effort),
            lazy,
            waiting: None,
            block: Counts::new(0),
        }
    }

    fn is_fast(&self) -> bool {
        self.encoder.level < 4
    }

    /// Steps of the search so far, as a measure of time.
    pub(super) fn steps(&self) -> u64 {
        self.finder.steps()
    }

    /// The token that the encoder would take; `None` at the end of the supply.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub(super) fn predict<R: Read>(
        &mut self,
        supply: &mut Supply<R>,
    ) -> Result<Option<Token>, Error> {
        self.finder.ensure(0, supply)?;
        if self.finder.ahead() == 0 {
            return Ok(None);
        }
        let literal = Token::literal(self.finder.byte());
        if self.is_fast() {
            let found = self.finder.search(0, MIN_MATCH - 1);
            return Ok(Some(found.and_then(token).unwrap_or(literal)));
        }
        let found = match self.waiting.take() {
            Some(found) => Some(found),
            None => {
                let near = |found: &Found| found.length > MIN_MATCH || found.distance <= TOO_FAR;
                self.finder.search(0, MIN_MATCH - 1).filter(near)
            }
        };
        // The encoder stands at the next byte when it decides.
        self.finder.ensure(1, supply)?;
        let Some(found) = found else {
            return Ok(Some(literal));
        };
        if found.length < self.lazy {
            self.waiting = self.finder.search(1, found.length);
        }
        Ok(Some(match self.waiting {
            Some(_) => literal,
            None => token(found).unwrap_or(literal),
        }))
    }

    /// Takes the token that came, which was predicted or not; at most as long as what is ahead.
    pub(super) fn accept(&mut self, token: Token) {
        let block = &mut self.block;
        block.stood = self.finder.position() + u64::from(self.encoder.level >= 4);
        if let Some(count) = block.frequencies.literals.get_mut(token.symbol()) {
            *count += 1;
        }
        block.tokens += 1;
        let Some((length, distance)) = token.as_match() else {
            self.finder.pass(1);
            self.block.after_loop = !self.is_fast() && self.finder.ahead() == 0;
            return;
        };
        block.matches += 1;
        block.after_loop = false;
        let symbol = distance_code(distance).symbol;
        block.distances += 5 + u64::from(distance_bits(symbol));
        if let Some(count) = block.frequencies.distances.get_mut(symbol) {
            *count += 1;
        }
        self.waiting = None;
        let after = self.finder.ahead().saturating_sub(length);
        let leaps = length > self.lazy || self.encoder.memory_level.is_some() && after < MIN_MATCH;
        if self.is_fast() && leaps {
            self.finder.leap(length);
        } else {
            self.finder.pass(length);
        }
    }

    /// Takes a byte of a block that is not made of predicted tokens; `None` at the end of the supply.
    ///
    /// # Errors
    ///
    /// [`Error::Read`].
    pub(super) fn pass<R: Read>(&mut self, supply: &mut Supply<R>) -> Result<Option<u8>, Error> {
        self.waiting = None;
        self.finder.ensure(0, supply)?;
        if self.finder.ahead() == 0 {
            return Ok(None);
        }
        let byte = self.finder.byte();
        self.finder.pass(1);
        Ok(Some(byte))
    }

    /// Whether the encoder ends the block after the last token.
    pub(super) fn is_full(&self) -> bool {
        let block = &self.block;
        if block.after_loop || block.tokens == 0 {
            return false;
        }
        let gnu = self.encoder.memory_level.is_none();
        if gnu && self.encoder.level > 2 && block.tokens.is_multiple_of(LOOK) {
            let guess = (block.tokens as u64 * 8 + block.distances) / 8;
            let content = block.stood.saturating_sub(block.start);
            if block.matches < block.tokens / 2 && guess < content / 2 {
                return true;
            }
        }
        block.tokens >= self.encoder.tokens() - 1
    }

    /// Bytes at hand.
    pub(super) fn ahead(&self) -> usize {
        self.finder.ahead()
    }

    /// The byte that comes next.
    pub(super) fn byte(&self) -> u8 {
        self.finder.byte()
    }

    /// Counts of the block's symbols.
    pub(super) fn frequencies(&self) -> &Frequencies {
        &self.block.frequencies
    }

    /// Bytes that the block stands for.
    pub(super) fn length(&self) -> u64 {
        self.finder.position() - self.block.start
    }

    /// The bytes of the block, while they are in the window: else the encoder cannot store them.
    pub(super) fn content(&self) -> Option<&[u8]> {
        self.finder.last(self.length())
    }

    /// Begins the next block.
    pub(super) fn next_block(&mut self) {
        self.block = Counts::new(self.finder.position());
    }

    /// Begins anew, as pigz does for each of its pieces, with what came before as a dictionary or without.
    pub(super) fn restart(&mut self, dictionary: bool) {
        self.waiting = None;
        self.finder.restart(dictionary);
        self.next_block();
    }

    /// Goes on after a flush.
    pub(super) fn resume(&mut self) {
        self.waiting = None;
        self.finder.resume();
        self.next_block();
    }
}

fn token(found: Found) -> Option<Token> {
    Token::found(found.length, found.distance)
}
