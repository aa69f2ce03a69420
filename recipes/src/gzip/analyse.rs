//! Deflate data in, corrections out: what the prediction of an encoder gets wrong.

use super::corrections::{BlockFix, Description, FormFix, Log};
use super::inflate::{self, Block, Blocks, Form};
use super::predict::Encoder;
use super::stream::{Choice, Marker, Pieces, Stream};
use super::symbol::Token;
use super::write::BitWriter;
use super::{Deflate, MAX_TOKENS, work_is_too_much};

/// One byte of corrections for so many of the data is the most, at every place.
pub(super) const WORTH: usize = 16;
/// Bytes of corrections that may come before it is looked at.
const SLACK: usize = 512;

/// How far to analyse.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of content after which to stop.
    pub(super) content: u64,
    /// Bytes of corrections above which to give up.
    pub(super) corrections: usize,
}

/// Compares deflate data, which decodes to `content`, with what the encoder would have made.
///
/// `None` where it cannot be put in corrections, or in so few bytes.
pub(super) fn analyse(
    data: &[u8],
    content: &[u8],
    encoder: Encoder,
    pieces: Option<Pieces>,
    bounds: Bounds,
) -> Option<Deflate> {
    let length = content.len() as u64;
    let mut run = Run {
        data,
        blocks: Blocks::new(data),
        stream: Stream::new(encoder, pieces, content, length),
        tokens: Vec::new(),
        log: Log::default(),
    };
    let mut done = 0;
    loop {
        let block = run.read()?;
        let fix = run.block(&block)?;
        run.log.block(&fix);
        done += run.stream.predictor.length();
        if run.log.len() > bounds.corrections
            || run.log.len() > SLACK + run.read_bytes() / WORTH
            || work_is_too_much(run.stream.predictor.steps(), length)
        {
            return None;
        }
        if block.last {
            run.stream.is_over().then_some(())?;
            break;
        }
        if done >= bounds.content {
            break;
        }
        if let Some(marker) = run.stream.next_block() {
            run.marker(marker)?;
        }
    }
    Some(Deflate {
        encoder,
        pieces,
        tokens: run.log.tokens,
        blocks: run.log.blocks,
    })
}

struct Run<'a> {
    data: &'a [u8],
    blocks: Blocks<'a>,
    stream: Stream<&'a [u8]>,
    /// Of the block that was read.
    tokens: Vec<Token>,
    log: Log,
}

impl Run<'_> {
    fn read_bytes(&self) -> usize {
        (self.blocks.position() / 8) as usize
    }

    fn read(&mut self) -> Option<Block> {
        self.tokens.clear();
        let tokens = &mut self.tokens;
        self.blocks.next(&mut |token| {
            tokens.push(token);
            tokens.len() <= MAX_TOKENS
        })
    }

    /// Follows a block; what is different in it.
    fn block(&mut self, block: &Block) -> Option<BlockFix> {
        if let Form::Stored(range) = &block.form {
            return self.stored(range.len() as u64, block.last);
        }
        let mut ended = None;
        for (number, token) in self.tokens.iter().enumerate() {
            let predicted = self.stream.predict().ok()??;
            // No token goes on in the next piece.
            if token.length() > self.stream.predictor.ahead() {
                return None;
            }
            self.log.token(predicted, *token);
            self.stream.predictor.accept(*token);
            if ended.is_none() && self.stream.predictor.is_full() {
                ended = Some(number + 1);
            }
        }
        let count = self.tokens.len();
        let natural = match ended {
            Some(ended) => ended == count,
            None => self.stream.piece_is_over(),
        };
        let full = natural && ended.is_some();
        Some(BlockFix {
            count: (!natural).then_some(count as u64),
            form: self.form(&block.form)?,
            flip: (self.stream.is_over() && !full) != block.last,
        })
    }

    /// The form of a block of tokens, if it is not the predicted one.
    fn form(&self, form: &Form) -> Option<Option<FormFix>> {
        let (choice, codes) = self.stream.choose();
        let range = match form {
            Form::Dynamic(range) => range,
            _ => return Some((choice != Choice::Fixed).then_some(FormFix::Fixed)),
        };
        let bytes = inflate::cut(self.data, range)?;
        let mut own = BitWriter::default();
        codes.describe(&mut own);
        if own.into_bytes() != bytes {
            let bits = range.end - range.start;
            let description = Description { bytes, bits };
            return Some(Some(FormFix::Described(description)));
        }
        Some((choice != Choice::Dynamic).then_some(FormFix::Dynamic))
    }

    /// Follows a stored block of `length` bytes: as the outcome of tokens that did not pay, or just as bytes.
    fn stored(&mut self, length: u64, last: bool) -> Option<BlockFix> {
        let before = self.stream.clone();
        let mut tokens = 0;
        while self.stream.predictor.length() < length && !self.stream.predictor.is_full() {
            let Some(token) = self.stream.predict().ok()? else {
                break;
            };
            self.stream.predictor.accept(token);
            tokens += 1;
        }
        let full = self.stream.predictor.is_full();
        let natural = self.stream.predictor.length() == length
            && (full || self.stream.piece_is_over())
            && self.stream.choose().0 == Choice::Stored
            && (self.stream.is_over() && !full) == last;
        if natural {
            self.log.right(tokens);
            return Some(BlockFix::default());
        }
        self.stream = before;
        for _ in 0..length {
            self.stream.pass().ok()??;
        }
        Some(BlockFix {
            count: Some(length),
            form: Some(FormFix::Stored),
            flip: self.stream.is_over() != last,
        })
    }

    /// Reads the empty blocks between two pieces.
    fn marker(&mut self, marker: Marker) -> Option<()> {
        let (fixed, stored) = marker.blocks((self.blocks.position() % 8) as u32);
        for number in 0..fixed + stored {
            let block = self.read()?;
            let same = match &block.form {
                Form::Stored(range) => number >= fixed && range.is_empty(),
                form => number < fixed && *form == Form::Fixed && self.tokens.is_empty(),
            };
            if !same || block.last {
                return None;
            }
        }
        Some(())
    }
}
