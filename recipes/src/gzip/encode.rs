//! Content in, deflate data out: what the appliance runs.
//!
//! Threats: corrections that do not fit the content, contents made to be slow. Defences: tokens lie within the content,
//! blocks and the work of the search are bounded, and what is wrong is an error. Whether the bytes are the right ones is
//! for the caller's digest to say.

use std::io::{Read, Write};

use super::corrections::{BlockFix, Fixes, FormFix, Tokens};
use super::stream::{Choice, Stream};
use super::symbol::Token;
use super::write::BitWriter;
use super::{Deflate, MAX_TOKENS, work_is_too_much};
use crate::Error;

/// Encodes a content of `length` bytes; returns its CRC-32.
pub(super) fn encode(
    deflate: &Deflate,
    length: u64,
    source: &mut dyn Read,
    out: &mut dyn Write,
) -> Result<u32, Error> {
    let mut run = Run {
        stream: Stream::new(deflate.encoder, deflate.pieces, source, length),
        fixes: Fixes::new(&deflate.blocks)?,
        corrections: Tokens::new(&deflate.tokens)?,
        tokens: Vec::new(),
        bits: BitWriter::default(),
        length,
    };
    loop {
        let last = run.block()?;
        run.bits.flush(out)?;
        if last {
            break;
        }
        if let Some(marker) = run.stream.next_block() {
            let (fixed, stored) = marker.blocks(run.bits.pending());
            for _ in 0..fixed {
                run.bits.put(0b010, 10);
            }
            for _ in 0..stored {
                run.bits.put(0, 3);
                run.bits.stored(&[]);
            }
        }
    }
    run.bits.align();
    run.bits.finish(out)?;
    if !run.fixes.is_done() || !run.corrections.is_done() {
        return Err(malformed("corrections of gzip are left over"));
    }
    Ok(run.stream.sum())
}

struct Run<'a, 'b> {
    stream: Stream<&'a mut dyn Read>,
    fixes: Fixes<'b>,
    corrections: Tokens<'b>,
    /// Of the block.
    tokens: Vec<Token>,
    bits: BitWriter,
    length: u64,
}

impl Run<'_, '_> {
    /// Writes a block; whether it was the last one.
    fn block(&mut self) -> Result<bool, Error> {
        let fix = self.fixes.next()?;
        let stored = fix.form == Some(FormFix::Stored);
        let mut bytes = Vec::new();
        if stored {
            for _ in 0..fix.count.unwrap_or(0) {
                let byte = self.stream.pass()?;
                bytes.push(byte.ok_or(malformed("a stored block of gzip is too long"))?);
            }
        } else {
            self.predict(fix.count)?;
        }
        let full = fix.count.is_none() && self.stream.predictor.is_full();
        let last = (self.stream.is_over() && !full) != fix.flip;
        if last && !self.stream.is_over() {
            return Err(malformed("gzip ends before its content"));
        }
        self.bits.put(u32::from(last), 1);
        if stored {
            self.bits.put(0, 2);
            self.bits.stored(&bytes);
        } else {
            self.write(&fix)
                .ok_or(malformed("a block of gzip has no code for a symbol"))?;
        }
        Ok(last)
    }

    /// Gathers the tokens of a block.
    fn predict(&mut self, count: Option<u64>) -> Result<(), Error> {
        self.tokens.clear();
        loop {
            let enough = match count {
                Some(count) => self.tokens.len() as u64 >= count,
                None => self.stream.predictor.is_full(),
            };
            if enough {
                return Ok(());
            }
            let Some(predicted) = self.stream.predict()? else {
                return match count {
                    Some(_) => Err(malformed("a block of gzip has too many tokens")),
                    None => Ok(()),
                };
            };
            let byte = self.stream.predictor.byte();
            let token = self.corrections.correct(predicted, byte)?;
            if token.length() > self.stream.predictor.ahead() || self.tokens.len() >= MAX_TOKENS {
                return Err(malformed("a token of gzip is too long, or a block is"));
            }
            self.stream.predictor.accept(token);
            self.tokens.push(token);
            if work_is_too_much(self.stream.predictor.steps(), self.length) {
                return Err(Error::Encoder {
                    encoder: "gzip",
                    why: "the content takes too long to search".to_owned(),
                });
            }
        }
    }

    /// Writes the tokens, in the form that was chosen or corrected.
    fn write(&mut self, fix: &BlockFix) -> Option<()> {
        let (choice, codes) = self.stream.choose();
        let form = match &fix.form {
            None => choice,
            Some(FormFix::Fixed) => Choice::Fixed,
            Some(FormFix::Stored | FormFix::Dynamic) => Choice::Dynamic,
            Some(FormFix::Described(description)) => {
                let lengths = description.lengths()?;
                self.bits.put(2, 2);
                self.bits.put_all(&description.bytes, description.bits);
                return self
                    .bits
                    .tokens(&self.tokens, &lengths.literals, &lengths.distances);
            }
        };
        match form {
            Choice::Stored => {
                self.bits.put(0, 2);
                self.bits.stored(self.stream.predictor.content()?);
                Some(())
            }
            Choice::Fixed => {
                self.bits.put(1, 2);
                self.bits.fixed(&self.tokens)
            }
            Choice::Dynamic => {
                self.bits.put(2, 2);
                codes.describe(&mut self.bits);
                self.bits
                    .tokens(&self.tokens, &codes.literals, &codes.distances)
            }
        }
    }
}

fn malformed(why: &'static str) -> Error {
    Error::Malformed { why }
}
