//! Writes the delta that rebuilds one layer out of the files of another image.
//!
//! Plans come from [`super::plan`]; here they become operations, in the order of the target's stream.
//! What an operation needs is made before it: an old member is decoded, a file of the target that an
//! archive holds is rebuilt early, kept, and only copied when its turn comes. The same input always
//! gives the same delta.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::fs::File;
use std::io::{self, BufWriter, Read, Seek as _, SeekFrom, Write};
use std::path::PathBuf;
use std::thread;

use bundle_delta::codec::DATA;
use bundle_delta::header::{Effort, Header, SOURCE_HASH, SourceEntry};
use bundle_delta::program::{CONTROL, Coder, FRAME, Op, STREAMS};
use bundle_delta::rebuild::rebuild;
use bundle_delta::streams::Writer;
use bundle_delta::{DeltaError, Encoder, varint};

use super::matcher::BaseFile;
use super::plan::{MemberKind, Old, Piece, Planner, Way};
use super::spool::Spool;
use super::store::SpoolStore;
use crate::progress::Progress;

/// What a stream may hold above the window that the encoder aims at: one file's steps and hints.
const SLACK: u64 = 16 << 20;

/// Bytes copied at once.
const PART: u64 = 1 << 20;
/// A smaller archive is not worth an order of layers.
const ARCHIVE: u64 = 1 << 20;

/// How to make deltas.
#[derive(Clone, Debug)]
pub struct Options {
    /// zstd level of the streams.
    pub level: i32,
    /// Bytes of one window; the reader holds one in memory.
    pub window: u64,
    /// Encoders to look for recipes with, and what they may cost where the delta is applied.
    pub recipes: bundle_recipes::Options,
    /// Bytes of memory that making may take, about.
    pub memory: u64,
    /// Threads; 0 is one for each processor.
    pub threads: usize,
    /// Where temporary files go.
    pub directory: PathBuf,
}

impl Default for Options {
    /// Level 19, windows of 8 MiB, the encoders that are linked, 2 GiB, all processors, the system's directory.
    fn default() -> Self {
        Self {
            level: 19,
            window: 8 << 20,
            recipes: bundle_recipes::Options::default(),
            memory: 2 << 30,
            threads: 0,
            directory: std::env::temp_dir(),
        }
    }
}

impl Options {
    /// Bounds what rebuilding takes in memory where the delta is applied, in bytes.
    ///
    /// Compressed files whose encoder would need more are left closed.
    #[must_use]
    pub fn with_target_memory(mut self, bytes: u64) -> Self {
        // A window ends a little behind where it is full.
        let window = self.window + (1 << 20);
        let left = bytes.saturating_sub(super::REBUILD_MEMORY + window);
        self.recipes.limits.memory = left;
        self.recipes.decoder_memory = self.recipes.decoder_memory.min(left);
        self
    }

    pub(super) fn threads(&self) -> usize {
        match self.threads {
            0 => thread::available_parallelism().map_or(1, |n| n.get().min(8)),
            threads => threads,
        }
    }
}

/// A layer that files are taken from.
#[derive(Clone, Copy, Debug)]
pub struct Layer<'a> {
    /// The layer.
    pub spool: &'a Spool,
    /// Its number in the target, counted from the lowest, if it is one of the target's own and rebuilt before; `None` for a
    /// layer of the base.
    pub target: Option<u32>,
}

/// Writes the delta from the files of `sources` to the stream of `target`, and returns its head.
///
/// The same input gives the same delta, with any number of threads.
///
/// # Errors
/// Fails where a spool cannot be read, memory runs out, or `out` cannot be written.
pub fn make(
    target: &Spool,
    sources: &[Layer<'_>],
    options: &Options,
    progress: &dyn Progress,
    out: &mut dyn Write,
) -> Result<Header, DeltaError> {
    let planner = Planner::new(target, sources, options)?;
    let ways = planner.ways(progress)?;
    let (entries, numbers) = entries(&planner, &ways);
    let caps = [options.window + SLACK; STREAMS];
    let file = tempfile::tempfile_in(&options.directory)?;
    let mut program = Program {
        planner: &planner,
        ways: &ways,
        numbers,
        objects: HashMap::new(),
        next: entries.len() as u64,
        repeated: repeated(&ways),
        scratch: 0,
        needs: Needs::default(),
        writer: Writer::new(BufWriter::new(file), &caps, options.level)?,
        encoder: Encoder::new(options.window),
        coder: Coder::default(),
        window: options.window,
    };
    progress.stage("compressing", target.size());
    program.run(progress)?;
    let needs = program.needs;
    // The last window is counted once it is written.
    program.writer.end_window()?;
    // A window is unpacked before what is in it is carried out.
    let encoding = program.writer.largest_window() + needs.memory;
    let memory = super::REBUILD_MEMORY + encoding.max(program.writer.largest_unpacking());
    let header = Header {
        target_size: target.size(),
        target_hash: *target.digest().as_bytes(),
        scratch: program.scratch,
        memory,
        effort: needs.effort,
        encoders: needs.encoders.into_iter().collect(),
        sources: entries,
    };
    header.write(out, options.level)?;
    let mut streams = program.writer.finish()?;
    let file = streams.get_mut();
    file.seek(SeekFrom::Start(0))?;
    io::copy(file, out)?;
    Ok(header)
}

/// Rebuilds the target of a delta, as the appliance will, and drops it.
///
/// # Errors
/// Fails unless what comes out is the target, byte for byte.
pub fn prove(
    delta: &mut dyn Read,
    sources: &[Layer<'_>],
    options: &Options,
) -> Result<(), DeltaError> {
    let header = Header::read(delta, &Default::default())?;
    let store = SpoolStore::new(&header, sources, options);
    rebuild(&header, delta, &store, &mut io::sink(), &Default::default())
}

/// Returns the order in which the layers of an image are best rebuilt: those that hold archives of other files, such as an
/// initramfs, come last, when these files are there.
pub fn rebuild_order(layers: &[&Spool]) -> Vec<usize> {
    let holds_archives = |layer: &&Spool| {
        layer.files().iter().any(|file| {
            let mut beginning = [0; 6];
            let is_image = file.name().contains("initr");
            is_image
                && file.size > ARCHIVE
                && layer.read_at(&mut beginning, file.offset).is_ok()
                && bundle_recipes::may_open(&beginning)
        })
    };
    let mut order: Vec<usize> = (0..layers.len()).collect();
    order.sort_by_key(|number| layers.get(*number).is_some_and(holds_archives));
    order
}

/// What carrying out a delta takes beside windows.
#[derive(Clone, Debug, Default)]
struct Needs {
    memory: u64,
    effort: Effort,
    encoders: BTreeSet<String>,
}

/// Returns the files of the target that others are copies of.
fn repeated(ways: &[Way]) -> HashSet<usize> {
    let is_copy = |way: &Way| match way {
        Way::Target(number) => Some(*number),
        _ => None,
    };
    ways.iter().filter_map(is_copy).collect()
}

/// Numbers the base files in the order of their first use.
fn entries(planner: &Planner<'_>, ways: &[Way]) -> (Vec<SourceEntry>, HashMap<BaseFile, u64>) {
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
        let Some((layer, file)) = planner.base(base) else {
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
                layer: layer.target,
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
    repeated: HashSet<usize>,
    scratch: u64,
    needs: Needs,
    writer: Writer<BufWriter<File>>,
    encoder: Encoder,
    coder: Coder,
    window: u64,
}

impl Program<'_> {
    fn run(&mut self, progress: &dyn Progress) -> Result<(), DeltaError> {
        let target = self.planner.target;
        let mut at = 0;
        for (number, file) in target.files().iter().enumerate() {
            if progress.interrupted() {
                return Err(io::Error::from(io::ErrorKind::Interrupted).into());
            }
            self.spooled(FRAME, at, file.offset)?;
            progress.advance(file.offset + file.size - at);
            at = file.offset + file.size;
            if self.repeated.contains(&number) {
                self.keep(number)?;
            }
            match self.objects.get(&Object::Target(number)) {
                Some(object) => self.op(Op::Whole { input: *object })?,
                None => {
                    self.prepare(number)?;
                    self.file(number)?;
                }
            }
        }
        self.spooled(FRAME, at, target.size())?;
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
        let memory = self.planner.decoder_memory(base, kind, offset)?;
        self.needs.memory = self.needs.memory.max(memory);
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
        let inner = bundle_recipes::inner(&content, &self.planner.options.recipes);
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
                self.needs.memory = self.needs.memory.max(recipe.memory());
                for part in recipe.parts() {
                    self.needs.encoders.extend(part.coding.encoder());
                    let effort = match (part.coding.encoder(), part.coding.is_slow()) {
                        (None, _) => Effort::Copy,
                        (_, false) => Effort::Encode,
                        (_, true) => Effort::Slow,
                    };
                    self.needs.effort = self.needs.effort.max(effort);
                }
                let recipe = recipe.to_bytes();
                self.op(Op::Encode {
                    input,
                    recipe: recipe.len() as u64,
                    len: file.size,
                })?;
                self.append(FRAME, &recipe)
            }
            Way::New => self.spooled(DATA, file.offset, file.offset + file.size),
            way => self.way(way, &target.content(file)?),
        }
    }

    /// Writes bytes of the target as they are, with the operation that takes them, a part at a time.
    fn spooled(&mut self, stream: usize, from: u64, to: u64) -> Result<(), DeltaError> {
        let len = to.saturating_sub(from);
        if len > 0 {
            self.literal(stream, len)?;
        }
        let mut part = vec![0; len.min(PART) as usize];
        let mut at = from;
        while at < to {
            let count = (to - at).min(PART) as usize;
            let part = part.get_mut(..count).unwrap_or_default();
            self.planner.target.read_at(part, at)?;
            self.append(stream, part)?;
            at += count as u64;
        }
        Ok(())
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
        if !bytes.is_empty() {
            self.literal(stream, bytes.len() as u64)?;
        }
        self.append(stream, bytes)
    }

    fn literal(&mut self, stream: usize, len: u64) -> Result<(), DeltaError> {
        match stream {
            DATA => self.op(Op::New { len }),
            _ => self.op(Op::Frame { len }),
        }
    }

    fn append(&mut self, stream: usize, bytes: &[u8]) -> Result<(), DeltaError> {
        for part in bytes.chunks(PART as usize) {
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
