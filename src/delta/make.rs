//! Writes the delta that rebuilds one layer out of the files of another image.
//!
//! Plans come from [`super::plan`]; here they become operations, in the order of the target's stream.
//! What an operation needs is made before it: an old member is decoded, a file of the target that an
//! archive holds is rebuilt early, kept, and only copied when its turn comes. The same input always
//! gives the same delta.

use std::collections::HashMap;
use std::io::{self, Write};

use bundle_delta::codec::DATA;
use bundle_delta::header::{Header, SOURCE_HASH, SourceEntry};
use bundle_delta::program::{CONTROL, Coder, FRAME, Op, STREAMS};
use bundle_delta::streams::Writer;
use bundle_delta::{DeltaError, Encoder, varint};

use super::matcher::BaseFile;
use super::plan::{MemberKind, Old, Piece, Planner, Way};
use super::spool::Spool;
use crate::progress::Progress;

/// What a stream may hold above the window that the encoder aims at: one file's steps and hints.
const SLACK: u64 = 16 << 20;

/// How to make deltas.
#[derive(Clone, Debug)]
pub struct Options {
    /// zstd level of the streams.
    pub level: i32,
    /// Bytes of one window; the reader holds one in memory.
    pub window: u64,
    /// Encoders to look for recipes with, and what they may cost where the delta is applied.
    pub recipes: bundle_recipes::Options,
}

impl Default for Options {
    /// Level 19, windows of 8 MiB, and the encoders that are linked.
    fn default() -> Self {
        Self {
            level: 19,
            window: 8 << 20,
            recipes: bundle_recipes::Options::default(),
        }
    }
}

/// Writes the delta from the files of `bases` to the stream of `target`.
///
/// # Errors
/// Fails where a spool cannot be read, memory runs out, or `out` cannot be written.
pub fn make(
    target: &Spool,
    bases: &[Spool],
    options: &Options,
    progress: &dyn Progress,
    out: &mut dyn Write,
) -> Result<(), DeltaError> {
    let planner = Planner::new(target, bases, &options.recipes)?;
    let ways = planner.ways(progress)?;
    let (sources, numbers) = sources(&planner, &ways);
    let caps = [options.window + SLACK; STREAMS];
    let mut program = Program {
        planner: &planner,
        ways: &ways,
        numbers,
        objects: HashMap::new(),
        next: sources.len() as u64,
        scratch: 0,
        writer: Writer::new(Vec::new(), &caps, options.level)?,
        encoder: Encoder::new(options.window),
        coder: Coder::default(),
        window: options.window,
    };
    program.run()?;
    let header = Header {
        target_size: target.size(),
        target_hash: *target.digest().as_bytes(),
        scratch: program.scratch,
        memory: 0,
        effort: Default::default(),
        encoders: Vec::new(),
        sources,
    };
    header.write(out, options.level)?;
    out.write_all(&program.writer.finish()?)?;
    Ok(())
}

/// Numbers the base files in the order of their first use.
fn sources(planner: &Planner<'_>, ways: &[Way]) -> (Vec<SourceEntry>, HashMap<BaseFile, u64>) {
    let (mut entries, mut numbers) = (Vec::new(), HashMap::new());
    let mut waiting: Vec<&Way> = ways.iter().rev().collect();
    while let Some(way) = waiting.pop() {
        let base = match way {
            Way::Same(base) | Way::From(Old::File(base) | Old::Member { base, .. }, _) => *base,
            Way::Encoded(_, pieces) => {
                waiting.extend(pieces.iter().rev().map(|piece| &piece.way));
                continue;
            }
            Way::Target(_) | Way::New | Way::Frame => continue,
        };
        let Some((_, file)) = planner.base(base) else {
            continue;
        };
        numbers.entry(base).or_insert_with(|| {
            let mut hash = [0; SOURCE_HASH];
            hash.iter_mut()
                .zip(file.digest.as_bytes())
                .for_each(|(to, from)| *to = *from);
            entries.push(SourceEntry {
                size: file.size,
                hash,
                path: file.path.clone(),
                layer: None,
            });
            entries.len() as u64 - 1
        });
    }
    (entries, numbers)
}

/// What objects are made of.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Object {
    Member(Old),
    Target(usize),
    Inner(usize),
}

/// A delta while it is written.
struct Program<'a> {
    planner: &'a Planner<'a>,
    ways: &'a [Way],
    numbers: HashMap<BaseFile, u64>,
    objects: HashMap<Object, u64>,
    next: u64,
    scratch: u64,
    writer: Writer<Vec<u8>>,
    encoder: Encoder,
    coder: Coder,
    window: u64,
}

impl Program<'_> {
    fn run(&mut self) -> Result<(), DeltaError> {
        let target = self.planner.target;
        let mut at = 0;
        for (number, file) in target.files().iter().enumerate() {
            let frame = spooled(target, at, file.offset)?;
            self.bytes(FRAME, &frame)?;
            at = file.offset + file.size;
            match self.objects.get(&Object::Target(number)) {
                Some(object) => self.op(Op::Whole { input: *object })?,
                None => {
                    self.prepare(number)?;
                    self.file(number)?;
                }
            }
        }
        self.bytes(FRAME, &spooled(target, at, target.size())?)?;
        self.op(Op::End)?;
        self.encoder.end_window(&mut self.writer)
    }

    fn number(&self, base: BaseFile) -> u64 {
        self.numbers.get(&base).copied().unwrap_or(u64::MAX)
    }

    /// Makes the objects that a file of the target needs.
    fn prepare(&mut self, number: usize) -> Result<(), DeltaError> {
        let ways = self.ways;
        match ways.get(number) {
            Some(Way::From(old, _)) => self.member(*old),
            Some(Way::Encoded(recipe, pieces)) => {
                for piece in pieces {
                    match &piece.way {
                        Way::From(old, _) => self.member(*old)?,
                        Way::Target(other) => self.keep(*other)?,
                        _ => {}
                    }
                }
                self.inner(number, recipe.inner_length(), pieces)
            }
            _ => Ok(()),
        }
    }

    /// Decodes an old member, once.
    fn member(&mut self, old: Old) -> Result<(), DeltaError> {
        let Old::Member {
            base,
            kind,
            offset,
            length,
            inner,
        } = old
        else {
            return Ok(());
        };
        if self.objects.contains_key(&Object::Member(old)) {
            return Ok(());
        }
        let mut recipe = Vec::new();
        varint::put(
            &mut recipe,
            match kind {
                MemberKind::Zstd => 0,
                MemberKind::Xz => 1,
                MemberKind::Gzip => 2,
            },
        );
        varint::put(&mut recipe, offset);
        varint::put(&mut recipe, length);
        let input = self.number(base);
        self.op(Op::Open {
            input,
            recipe: recipe.len() as u64,
            len: inner,
        })?;
        self.append(FRAME, &recipe)?;
        self.made(Object::Member(old), inner);
        Ok(())
    }

    /// Rebuilds a file of the target before its turn, unless it is one of the base.
    fn keep(&mut self, number: usize) -> Result<(), DeltaError> {
        let known = self.objects.contains_key(&Object::Target(number));
        if known || matches!(self.ways.get(number), None | Some(Way::Same(_))) {
            return Ok(());
        }
        self.prepare(number)?;
        let size = self
            .planner
            .target
            .files()
            .get(number)
            .map_or(0, |file| file.size);
        self.op(Op::Object { len: size })?;
        self.file(number)?;
        self.made(Object::Target(number), size);
        Ok(())
    }

    /// Makes an inner stream out of its pieces.
    fn inner(&mut self, number: usize, len: u64, pieces: &[Piece]) -> Result<(), DeltaError> {
        let Some(file) = self.planner.target.files().get(number) else {
            return Ok(());
        };
        let content = self.planner.target.content(file)?;
        // Opened again rather than kept: plans are many, and an inner stream is large.
        let inner = bundle_recipes::inner(&content, self.planner.recipes);
        let inner = inner.filter(|inner| inner.len() as u64 == len);
        let inner = inner.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
        self.op(Op::Object { len })?;
        for piece in pieces {
            let bytes = inner.get(piece.range.clone()).unwrap_or_default();
            self.way(&piece.way, bytes)?;
        }
        self.made(Object::Inner(number), len);
        Ok(())
    }

    fn made(&mut self, object: Object, size: u64) {
        self.objects.insert(object, self.next);
        self.next += 1;
        self.scratch += size;
    }

    /// Writes the operations of one file of the target.
    fn file(&mut self, number: usize) -> Result<(), DeltaError> {
        let (ways, target) = (self.ways, self.planner.target);
        let (Some(way), Some(file)) = (ways.get(number), target.files().get(number)) else {
            return Ok(());
        };
        match way {
            Way::Same(base) => self.op(Op::Whole {
                input: self.number(*base),
            }),
            Way::Encoded(recipe, _) => {
                let input = self
                    .objects
                    .get(&Object::Inner(number))
                    .copied()
                    .unwrap_or(u64::MAX);
                let recipe = recipe.to_bytes();
                self.op(Op::Encode {
                    input,
                    recipe: recipe.len() as u64,
                    len: file.size,
                })?;
                self.append(FRAME, &recipe)
            }
            way => self.way(way, &target.content(file)?),
        }
    }

    /// Writes the operations that make `bytes`.
    fn way(&mut self, way: &Way, bytes: &[u8]) -> Result<(), DeltaError> {
        match way {
            Way::Same(base) => self.op(Op::Whole {
                input: self.number(*base),
            }),
            Way::Target(number) => {
                let input = match (
                    self.objects.get(&Object::Target(*number)),
                    self.ways.get(*number),
                ) {
                    (Some(object), _) => *object,
                    (None, Some(Way::Same(base))) => self.number(*base),
                    (None, _) => u64::MAX,
                };
                self.op(Op::Whole { input })
            }
            Way::From(old, plan) => {
                let input = match old {
                    Old::File(base) => self.number(*base),
                    old => self
                        .objects
                        .get(&Object::Member(*old))
                        .copied()
                        .unwrap_or(u64::MAX),
                };
                let (len, predicted) = (bytes.len() as u64, plan.hints.is_some());
                self.op(Op::File {
                    input,
                    len,
                    predicted,
                })?;
                let old = self.planner.old(*old)?;
                self.encoder.file(plan, &old, bytes, &mut self.writer)
            }
            Way::New => self.bytes(DATA, bytes),
            Way::Frame => self.bytes(FRAME, bytes),
            // Inner streams are not opened again.
            Way::Encoded(..) => Err(DeltaError::Malformed {
                what: "a recipe inside a recipe",
            }),
        }
    }

    fn op(&mut self, op: Op) -> Result<(), DeltaError> {
        self.make_room()?;
        if let Some(control) = self.writer.streams().get_mut(CONTROL) {
            self.coder.put(control, op);
        }
        Ok(())
    }

    /// Writes bytes as they are, with the operation that takes them.
    fn bytes(&mut self, stream: usize, bytes: &[u8]) -> Result<(), DeltaError> {
        let len = bytes.len() as u64;
        match stream {
            _ if len == 0 => return Ok(()),
            DATA => self.op(Op::New { len })?,
            _ => self.op(Op::Frame { len })?,
        }
        self.append(stream, bytes)
    }

    fn append(&mut self, stream: usize, bytes: &[u8]) -> Result<(), DeltaError> {
        for part in bytes.chunks(1 << 20) {
            self.make_room()?;
            if let Some(stream) = self.writer.streams().get_mut(stream) {
                stream.extend_from_slice(part);
            }
        }
        Ok(())
    }

    fn make_room(&mut self) -> Result<(), DeltaError> {
        if self.writer.pending() >= self.window {
            self.encoder.end_window(&mut self.writer)?;
        }
        Ok(())
    }
}

/// Reads what stands between two files.
fn spooled(spool: &Spool, from: u64, to: u64) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).map_err(io::Error::other)?];
    spool.read_at(&mut bytes, from)?;
    Ok(bytes)
}
