//! What the prediction got wrong, in the wire form of the recipe.
//!
//! Two lists. Of tokens: the count of right ones before it, and the token. Of blocks: the count of right ones before it, a
//! byte of flags, and what they announce. Numbers are LEB128 as in the rest of the recipe.
//!
//! Threats: counts and tokens that the format does not have, descriptions that are none. Defences: everything is checked as
//! it is read; each correction takes bytes, of which a recipe has few; what is left over at the end is an error.

use super::inflate::{Bits, Lengths};
use super::symbol::{MIN_MATCH, Token};
use crate::Error;
use crate::wire::{Reader, check, put};

const COUNT: u8 = 1;
const FLIP: u8 = 1 << 1;
const FORM: u8 = 2;
const FORMS: u8 = 0b111 << FORM;
/// Most bits of a block's own description, in bytes: 14, 19 of 3, and 316 lengths of up to 14.
const MAX_DESCRIPTION: u64 = 562;

/// What is different in a block.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct BlockFix {
    /// Tokens that it has; bytes, where it is stored.
    pub(super) count: Option<u64>,
    /// Its form.
    pub(super) form: Option<FormFix>,
    /// Whether it is the last one though it would not be, or the other way round.
    pub(super) flip: bool,
}

/// The form of a block that has another one than was predicted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum FormFix {
    /// Stored, without tokens: [`BlockFix::count`] is of bytes.
    Stored,
    Fixed,
    /// With the codes that were predicted.
    Dynamic,
    /// With these codes.
    Described(Description),
}

/// Codes of a block, as its own bits say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Description {
    pub(super) bytes: Vec<u8>,
    pub(super) bits: u64,
}

impl Description {
    /// The code lengths.
    pub(super) fn lengths(&self) -> Option<Lengths> {
        let mut bits = Bits::new(&self.bytes);
        let lengths = Lengths::read(&mut bits)?;
        (bits.position() == self.bits).then_some(lengths)
    }
}

/// Gathers corrections.
#[derive(Debug, Default)]
pub(super) struct Log {
    pub(super) tokens: Vec<u8>,
    pub(super) blocks: Vec<u8>,
    right_tokens: u64,
    right_blocks: u64,
}

impl Log {
    /// Bytes so far.
    pub(super) fn len(&self) -> usize {
        self.tokens.len() + self.blocks.len()
    }

    /// Counts tokens that were right.
    pub(super) fn right(&mut self, count: u64) {
        self.right_tokens += count;
    }

    pub(super) fn token(&mut self, predicted: Token, token: Token) {
        if predicted == token {
            self.right_tokens += 1;
            return;
        }
        let found = token.as_match();
        put(
            &mut self.tokens,
            self.right_tokens << 1 | u64::from(found.is_some()),
        );
        if let Some((length, distance)) = found {
            self.tokens.push((length - MIN_MATCH) as u8);
            put(&mut self.tokens, distance as u64 - 1);
        }
        self.right_tokens = 0;
    }

    pub(super) fn block(&mut self, fix: &BlockFix) {
        if *fix == BlockFix::default() {
            self.right_blocks += 1;
            return;
        }
        put(&mut self.blocks, self.right_blocks);
        self.right_blocks = 0;
        let form = match &fix.form {
            None => 0,
            Some(FormFix::Stored) => 1,
            Some(FormFix::Fixed) => 2,
            Some(FormFix::Dynamic) => 3,
            Some(FormFix::Described(_)) => 4,
        };
        let flag = |bit: u8, set: bool| if set { bit } else { 0 };
        self.blocks
            .push(flag(COUNT, fix.count.is_some()) | flag(FLIP, fix.flip) | form << FORM);
        if let Some(count) = fix.count {
            put(&mut self.blocks, count);
        }
        if let Some(FormFix::Described(description)) = &fix.form {
            put(&mut self.blocks, description.bits);
            self.blocks.extend_from_slice(&description.bytes);
        }
    }
}

/// Carries corrections of tokens out.
pub(super) struct Tokens<'a> {
    rest: Reader<'a>,
    /// Right ones before the next correction; `None` after the last.
    right: Option<u64>,
    is_match: bool,
}

impl<'a> Tokens<'a> {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut tokens = Self {
            rest: Reader(bytes),
            right: None,
            is_match: false,
        };
        tokens.gap()?;
        Ok(tokens)
    }

    fn gap(&mut self) -> Result<(), Error> {
        self.right = None;
        if !self.rest.0.is_empty() {
            let number = self.rest.number()?;
            self.right = Some(number >> 1);
            self.is_match = number & 1 == 1;
        }
        Ok(())
    }

    /// The token that comes where `predicted` was predicted, and `byte` lies.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub(super) fn correct(&mut self, predicted: Token, byte: u8) -> Result<Token, Error> {
        match &mut self.right {
            None => return Ok(predicted),
            Some(0) => {}
            Some(right) => {
                *right -= 1;
                return Ok(predicted);
            }
        }
        let token = if self.is_match {
            let length = usize::from(self.rest.byte()?) + MIN_MATCH;
            let distance = self.rest.number()?.saturating_add(1);
            usize::try_from(distance)
                .ok()
                .and_then(|distance| Token::found(length, distance))
                .ok_or(Error::Malformed {
                    why: "a correction of gzip has no such distance",
                })?
        } else {
            Token::literal(byte)
        };
        self.gap()?;
        Ok(token)
    }

    /// Whether all was carried out.
    pub(super) fn is_done(&self) -> bool {
        self.right.is_none()
    }
}

/// Carries corrections of blocks out.
pub(super) struct Fixes<'a> {
    rest: Reader<'a>,
    /// Right ones before the next correction; `None` after the last.
    right: Option<u64>,
}

impl<'a> Fixes<'a> {
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, Error> {
        let mut fixes = Self {
            rest: Reader(bytes),
            right: None,
        };
        fixes.gap()?;
        Ok(fixes)
    }

    fn gap(&mut self) -> Result<(), Error> {
        self.right = match self.rest.0 {
            [] => None,
            _ => Some(self.rest.number()?),
        };
        Ok(())
    }

    /// What is different in the next block.
    ///
    /// # Errors
    ///
    /// [`Error::Malformed`].
    pub(super) fn next(&mut self) -> Result<BlockFix, Error> {
        match &mut self.right {
            None => return Ok(BlockFix::default()),
            Some(0) => {}
            Some(right) => {
                *right -= 1;
                return Ok(BlockFix::default());
            }
        }
        let flags = self.rest.byte()?;
        let count = match flags & COUNT {
            0 => None,
            _ => Some(self.rest.number()?),
        };
        let form = match (flags & FORMS) >> FORM {
            0 => None,
            1 => Some(FormFix::Stored),
            2 => Some(FormFix::Fixed),
            3 => Some(FormFix::Dynamic),
            4 => {
                let bits = self.rest.number()?;
                check(
                    bits <= MAX_DESCRIPTION * 8,
                    "a description of gzip is too long",
                )?;
                let bytes = self.rest.take(bits.div_ceil(8))?.to_vec();
                Some(FormFix::Described(Description { bytes, bits }))
            }
            _ => {
                return Err(Error::Malformed {
                    why: "a correction of gzip has no such form",
                });
            }
        };
        check(
            flags <= COUNT | FLIP | FORMS,
            "a correction of gzip has unknown flags",
        )?;
        check(
            form != Some(FormFix::Stored) || count.is_some_and(|count| count <= 0xffff),
            "a stored block of gzip has no length",
        )?;
        self.gap()?;
        Ok(BlockFix {
            count,
            form,
            flip: flags & FLIP != 0,
        })
    }

    /// Whether all was carried out.
    pub(super) fn is_done(&self) -> bool {
        self.right.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(length: usize, distance: usize) -> Token {
        Token::found(length, distance).unwrap()
    }

    #[test]
    fn tokens_come_back() {
        let literal = Token::literal(b'x');
        let pairs = [
            (literal, literal),
            (literal, found(3, 1)),
            (found(9, 9), literal),
            (found(9, 9), found(258, 32_768)),
            (literal, literal),
        ];
        let mut log = Log::default();
        for (predicted, token) in pairs {
            log.token(predicted, token);
        }
        let mut tokens = Tokens::new(&log.tokens).unwrap();
        for (predicted, token) in pairs {
            assert_eq!(tokens.correct(predicted, b'x').unwrap(), token);
        }
        assert!(tokens.is_done());
    }

    #[test]
    fn blocks_come_back() {
        let fix = |count, form, flip| BlockFix { count, form, flip };
        let description = Description {
            bytes: vec![0xff, 1],
            bits: 9,
        };
        let blocks = [
            BlockFix::default(),
            fix(Some(300), None, false),
            fix(Some(0xffff), Some(FormFix::Stored), true),
            BlockFix::default(),
            fix(None, Some(FormFix::Fixed), false),
            fix(None, Some(FormFix::Dynamic), false),
            fix(None, Some(FormFix::Described(description)), false),
            fix(None, None, true),
        ];
        let mut log = Log::default();
        blocks.iter().for_each(|fix| log.block(fix));
        let mut fixes = Fixes::new(&log.blocks).unwrap();
        for fix in blocks {
            assert!(!fixes.is_done());
            assert_eq!(fixes.next().unwrap(), fix);
        }
        assert!(fixes.is_done());
    }

    #[test]
    fn what_is_no_correction_is_refused() {
        let cases: [(&str, &[u8]); 4] = [
            ("cut in the number", &[0x80]),
            ("no length", &[1]),
            ("no distance", &[1, 0]),
            ("a distance too far", &[1, 0, 0x80, 0x80, 2]),
        ];
        for (what, bytes) in cases {
            let outcome = Tokens::new(bytes)
                .and_then(|mut tokens| tokens.correct(Token::literal(0), 0).map(|_| ()));
            assert!(outcome.is_err(), "{what}");
        }
        let cases: [(&str, &[u8]); 7] = [
            ("cut in the number", &[0x80]),
            ("no flags", &[0]),
            ("flags that do not exist", &[0, 0x20]),
            ("a form that does not exist", &[0, 5 << 2]),
            ("stored without a length", &[0, 1 << 2]),
            ("stored and too long", &[0, 1 << 2 | 1, 0x80, 0x80, 4]),
            ("a description beyond the end", &[0, 4 << 2, 9, 0]),
        ];
        for (what, bytes) in cases {
            let outcome = Fixes::new(bytes).and_then(|mut fixes| fixes.next().map(|_| ()));
            assert!(outcome.is_err(), "{what}");
        }
    }
}
