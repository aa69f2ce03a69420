//! Rebuilds a layer's tar stream from a delta and old files (SPEC 10.4).
//!
//! Threats: operations that read outside inputs, make more bytes than declared, name objects that are
//! not there yet, or nest. Defences: every length is held against what is left of the target or
//! object before a byte is made; inputs are checked to exist; objects do not nest and their sum is held
//! against the header. What comes out counts only once its hash is the header's: until then the
//! receiver keeps nothing. Memory: one window, and what the codec and the store take.

use std::io::{self, Read, Write};

use sha2::{Digest as _, Sha256};

use crate::DeltaError;
use crate::Source;
use crate::codec::{self, Decoder};
use crate::header::Header;
use crate::program::{CONTROL, Coder, FRAME, Op};
use crate::streams::{self, Reader};

/// Longest recipe, in bytes.
const RECIPE: u64 = 64 << 20;
/// Bytes copied at once.
const COPY: usize = 256 << 10;

/// What a rebuild takes from outside: old files, scratch space, and encoders.
pub trait Store {
    /// Opens source number `index` of the header; its content was checked before.
    ///
    /// # Errors
    /// When it cannot be read.
    fn open(&self, index: usize) -> io::Result<Box<dyn Source + '_>>;

    /// Makes room for an object of `len` bytes.
    ///
    /// # Errors
    /// When there is none.
    fn scratch(&self, len: u64) -> io::Result<Box<dyn Scratch>>;

    /// Encodes `input` by `recipe`.
    ///
    /// # Errors
    /// When the recipe is malformed, or its encoder is not here.
    fn encode(&self, recipe: &[u8], input: &dyn Source, out: &mut dyn Write) -> io::Result<()>;

    /// Decodes `input` by `recipe`.
    ///
    /// # Errors
    /// As [`Store::encode`].
    fn decode(&self, recipe: &[u8], input: &dyn Source, out: &mut dyn Write) -> io::Result<()>;
}

/// An object while it is written.
pub trait Scratch: Write {
    /// Ends writing; the object can be read from now on.
    ///
    /// # Errors
    /// When what was written cannot be kept.
    fn seal(self: Box<Self>) -> io::Result<Box<dyn Source>>;
}

impl Scratch for Vec<u8> {
    fn seal(self: Box<Self>) -> io::Result<Box<dyn Source>> {
        Ok(self)
    }
}

/// Rebuilds the target that `header` describes; `input` stands behind the header.
///
/// # Errors
/// When the delta is malformed, a source or encoder fails, or what comes out is not the target.
/// What was written to `out` then is worthless.
pub fn rebuild(
    header: &Header,
    input: impl Read,
    store: &dyn Store,
    out: &mut dyn Write,
    limits: &streams::Limits,
) -> Result<(), DeltaError> {
    let mut hashed = Hashed {
        out,
        hash: Sha256::new(),
    };
    rebuild_trusting(header, input, store, &mut hashed, limits)?;
    if hashed.hash.finalize().as_slice() != header.target_hash {
        return Err(DeltaError::WrongTarget);
    }
    Ok(())
}

/// Does what [`rebuild`] does, but leaves it to the receiver to compare the hash of the target.
///
/// # Errors
/// When the delta is malformed, or a source or encoder fails.
pub fn rebuild_trusting(
    header: &Header,
    input: impl Read,
    store: &dyn Store,
    out: &mut dyn Write,
    limits: &streams::Limits,
) -> Result<(), DeltaError> {
    rebuild_observed(header, input, store, out, limits, &mut |_| {})
}

/// An operation that was carried out.
#[derive(Clone, Copy, Debug)]
pub struct Done {
    /// The operation.
    pub op: Op,
    /// Bytes of the target that are there after it.
    pub target: u64,
    /// Bytes of the delta that it and what it was prepared from stand for, about.
    pub cost: f64,
}

/// Does what [`rebuild_trusting`] does, and tells of each operation that makes bytes of the target.
///
/// # Errors
/// As [`rebuild_trusting`].
pub fn rebuild_observed(
    header: &Header,
    input: impl Read,
    store: &dyn Store,
    out: &mut dyn Write,
    limits: &streams::Limits,
    observe: &mut dyn FnMut(Done),
) -> Result<(), DeltaError> {
    let mut machine = Machine {
        header,
        store,
        decoder: Decoder::new(Reader::new(input, limits)?),
        coder: Coder::default(),
        objects: Vec::new(),
        scratch_left: header.scratch,
    };
    let mut out = Bounded {
        out,
        left: header.target_size,
    };
    machine.run(&mut out, observe)?;
    machine.decoder.finish()?;
    if out.left != 0 {
        return Err(DeltaError::Truncated { part: "the target" });
    }
    Ok(())
}

struct Machine<'a, R> {
    header: &'a Header,
    store: &'a dyn Store,
    decoder: Decoder<R>,
    coder: Coder,
    objects: Vec<Box<dyn Source>>,
    scratch_left: u64,
}

impl<R: Read> Machine<'_, R> {
    fn run(
        &mut self,
        out: &mut Bounded<'_>,
        observe: &mut dyn FnMut(Done),
    ) -> Result<(), DeltaError> {
        let mut before = 0.0;
        loop {
            match self.next_op()? {
                Op::End => return Ok(()),
                Op::Object { len } => self.object(len, |machine, object| {
                    while object.left > 0 {
                        let op = machine.next_op()?;
                        machine.emit(op, object)?;
                    }
                    Ok(())
                })?,
                Op::Open { input, recipe, len } => {
                    let recipe = self.recipe(recipe)?;
                    self.object(len, |machine, object| {
                        let input = machine.input(input)?;
                        Ok(machine.store.decode(&recipe, &*input, object)?)
                    })?;
                }
                op => {
                    self.emit(op, out)?;
                    let spent = self.decoder.spent();
                    observe(Done {
                        op,
                        target: self.header.target_size - out.left,
                        cost: spent - before,
                    });
                    before = spent;
                }
            }
        }
    }

    fn next_op(&mut self) -> Result<Op, DeltaError> {
        while self.decoder.window().rest(CONTROL).is_empty() {
            if !self.decoder.next_window()? {
                return Err(DeltaError::Truncated {
                    part: "the operations",
                });
            }
        }
        let window = self.decoder.window();
        let mut rest = window.rest(CONTROL);
        let op = self.coder.get(&mut rest)?;
        let left = rest.len();
        window.keep(CONTROL, left);
        Ok(op)
    }

    /// Makes one object, of exactly `len` bytes.
    fn object(
        &mut self,
        len: u64,
        fill: impl FnOnce(&mut Self, &mut Bounded<'_>) -> Result<(), DeltaError>,
    ) -> Result<(), DeltaError> {
        self.scratch_left = self
            .scratch_left
            .checked_sub(len)
            .ok_or(DeltaError::Malformed {
                what: "more scratch bytes than declared",
            })?;
        let mut scratch = self.store.scratch(len)?;
        let mut object = Bounded {
            out: &mut *scratch,
            left: len,
        };
        fill(self, &mut object)?;
        if object.left != 0 {
            return Err(DeltaError::Truncated { part: "an object" });
        }
        self.objects.push(scratch.seal()?);
        Ok(())
    }

    /// Carries out an operation that makes bytes.
    fn emit(&mut self, op: Op, out: &mut Bounded<'_>) -> Result<(), DeltaError> {
        match op {
            Op::Frame { len } => self.decoder.take(FRAME, out.room(len)?, out),
            Op::New { len } => self.decoder.take(codec::DATA, out.room(len)?, out),
            Op::Whole { input } => {
                let input = self.input(input)?;
                copy(&*input, 0, out.room(input.len())?, out)
            }
            Op::Copy { input, offset, len } => {
                copy(&*self.input(input)?, offset, out.room(len)?, out)
            }
            Op::File {
                input,
                len,
                predicted,
            } => {
                let old = open(self.store, self.header, &self.objects, input)?;
                self.decoder.file(&*old, out.room(len)?, predicted, out)
            }
            Op::Encode { input, recipe, len } => {
                let end = out.left.saturating_sub(out.room(len)?);
                let recipe = self.recipe(recipe)?;
                self.store.encode(&recipe, &*self.input(input)?, out)?;
                if out.left != end {
                    return Err(DeltaError::Malformed {
                        what: "length of an encoded file",
                    });
                }
                Ok(())
            }
            Op::End | Op::Object { .. } | Op::Open { .. } => Err(DeltaError::Malformed {
                what: "operation inside an object",
            }),
        }
    }

    fn recipe(&mut self, len: u64) -> Result<Vec<u8>, DeltaError> {
        if len > RECIPE {
            return Err(DeltaError::TooLarge {
                what: "recipe",
                found: len,
                limit: RECIPE,
            });
        }
        let mut recipe = Vec::new();
        self.decoder.take(FRAME, len, &mut recipe)?;
        Ok(recipe)
    }

    fn input(&self, input: u64) -> Result<Box<dyn Source + '_>, DeltaError> {
        open(self.store, self.header, &self.objects, input)
    }
}

/// Opens an input by its number: a source of the header, or an object that was made.
fn open<'a>(
    store: &'a dyn Store,
    header: &Header,
    objects: &'a [Box<dyn Source>],
    input: u64,
) -> Result<Box<dyn Source + 'a>, DeltaError> {
    let input = usize::try_from(input).unwrap_or(usize::MAX);
    if let Some(entry) = header.sources.get(input) {
        let source = store.open(input)?;
        if source.len() != entry.size {
            return Err(DeltaError::WrongSource {
                path: entry.path.clone(),
            });
        }
        return Ok(source);
    }
    let object = objects.get(input - header.sources.len().min(input));
    let object = object.ok_or(DeltaError::Malformed {
        what: "input that is not there",
    })?;
    Ok(Box::new(&**object))
}

fn copy(from: &dyn Source, start: u64, len: u64, out: &mut dyn Write) -> Result<(), DeltaError> {
    let end = start.saturating_add(len);
    if end > from.len() {
        return Err(DeltaError::OutOfBounds {
            start,
            end,
            len: from.len(),
        });
    }
    let mut buffer = vec![0; len.min(COPY as u64) as usize];
    let mut at = start;
    while at < end {
        let part = (end - at).min(COPY as u64) as usize;
        let part = buffer.get_mut(..part).unwrap_or_default();
        from.read_at(at, part)?;
        out.write_all(part)?;
        at += part.len() as u64;
    }
    Ok(())
}

/// A receiver that hashes.
struct Hashed<'a> {
    out: &'a mut dyn Write,
    hash: Sha256,
}

impl Write for Hashed<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.out.write_all(bytes)?;
        self.hash.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

/// A receiver of at most so many bytes.
struct Bounded<'a> {
    out: &'a mut dyn Write,
    left: u64,
}

impl Bounded<'_> {
    /// Returns `len` where there is room for it.
    const fn room(&self, len: u64) -> Result<u64, DeltaError> {
        if len > self.left {
            return Err(DeltaError::Malformed {
                what: "more bytes than declared",
            });
        }
        Ok(len)
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let len = bytes.len() as u64;
        self.left = self
            .left
            .checked_sub(len)
            .ok_or_else(|| io::Error::other("more bytes than declared"))?;
        self.out.write_all(bytes)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}
