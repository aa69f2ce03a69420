//! Makes the delta that rebuilds one layer out of the files of another image.
//!
//! First every file of the target gets a plan, on all processors: the base file with the same
//! content, else the likeliest candidate and the steps from it, else nothing but itself. Then the
//! plans are written in the order of the target's stream. The order of the work decides nothing, so
//! the same input always gives the same delta.

use std::collections::HashMap;
use std::io::{self, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

use bundle_delta::codec::DATA;
use bundle_delta::elf::{Learner, Table};
use bundle_delta::header::{Header, SOURCE_HASH, SourceEntry};
use bundle_delta::program::{CONTROL, Coder, FRAME, Op, STREAMS};
use bundle_delta::streams::Writer;
use bundle_delta::{DeltaError, Encoder, Plan, bsdiff};

use super::matcher::{BaseFile, Matcher};
use super::spool::{Spool, SpooledFile};
use crate::progress::Progress;

/// Level for the trial that compares ways to code a file.
const TRIAL_LEVEL: i32 = 3;
/// What a stream may hold above the window that the encoder aims at.
const SLACK: u64 = 64 << 20;
/// Largest file that is matched: a suffix array takes five bytes for each of the base's.
const MATCHED: u64 = 512 << 20;

/// How to make deltas.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// zstd level of the streams.
    pub level: i32,
    /// Bytes of one window; the reader holds one in memory.
    pub window: u64,
}

impl Default for Options {
    /// Level 19, windows of 16 MiB.
    fn default() -> Self {
        Self { level: 19, window: 16 << 20 }
    }
}

/// How one file of the target is made.
enum Way {
    /// All of a base file.
    Same(BaseFile),
    /// Steps from a base file.
    From(BaseFile, Box<Plan>),
    /// Its own bytes.
    New,
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
    let mut matcher = Matcher::default();
    for (layer, base) in bases.iter().enumerate() {
        matcher.add(layer, base.files());
    }
    let maker = Maker { target, bases, matcher, table: None };
    let table = maker.learn()?.map(Arc::new);
    let maker = Maker { table, ..maker };
    let ways = maker.plan(progress)?;
    maker.write(&ways, options, out)
}

struct Maker<'a> {
    target: &'a Spool,
    bases: &'a [Spool],
    matcher: Matcher,
    table: Option<Arc<Table>>,
}

impl Maker<'_> {
    fn base(&self, base: BaseFile) -> Option<(&Spool, &SpooledFile)> {
        let spool = self.bases.get(base.layer)?;
        Some((spool, spool.files().get(base.file)?))
    }

    fn old(&self, base: BaseFile) -> io::Result<Vec<u8>> {
        match self.base(base) {
            Some((spool, file)) => spool.content(file),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Learns from all pairs of kernel modules what they share.
    fn learn(&self) -> Result<Option<Table>, DeltaError> {
        let mut learner = Learner::default();
        for file in self.target.files().iter().filter(|file| file.path.ends_with(".ko")) {
            if self.matcher.same(&file.digest).is_some() {
                continue;
            }
            if let Some(base) = self.matcher.candidates(file).first() {
                learner.add(&self.old(*base)?, &self.target.content(file)?)?;
            }
        }
        Ok(learner.finish())
    }

    /// Finds a way for each file, on all processors.
    fn plan(&self, progress: &dyn Progress) -> Result<Vec<Way>, DeltaError> {
        let files = self.target.files();
        progress.stage("comparing", files.iter().map(|file| file.size).sum());
        let next = AtomicUsize::new(0);
        let found = Mutex::new((HashMap::new(), None));
        let work = || {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let Some(file) = files.get(turn) else { return };
                if progress.interrupted() {
                    return;
                }
                let way = self.way(file);
                progress.advance(file.size);
                let mut found = found.lock().unwrap_or_else(|poison| poison.into_inner());
                match way {
                    Ok(way) => {
                        found.0.insert(turn, way);
                    }
                    Err(error) => {
                        found.1.get_or_insert(error);
                        next.store(files.len(), Ordering::Relaxed);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..thread::available_parallelism().map_or(1, |n| n.get().min(8)) {
                scope.spawn(work);
            }
            work();
        });
        let (mut found, failure) = found.into_inner().unwrap_or_else(|poison| poison.into_inner());
        match failure {
            Some(error) => Err(error),
            None if progress.interrupted() => Err(io::Error::from(io::ErrorKind::Interrupted).into()),
            None => (0..files.len())
                .map(|turn| found.remove(&turn).ok_or_else(|| io::ErrorKind::Other.into()))
                .map(|way: Result<_, io::Error>| way.map_err(Into::into))
                .collect(),
        }
    }

    fn way(&self, file: &SpooledFile) -> Result<Way, DeltaError> {
        if let Some(base) = self.matcher.same(&file.digest) {
            return Ok(Way::Same(base));
        }
        let candidates = self.matcher.candidates(file);
        if candidates.is_empty() || file.size > MATCHED {
            return Ok(Way::New);
        }
        let new = self.target.content(file)?;
        let mut best = (zstd::bulk::compress(&new, TRIAL_LEVEL)?.len() as u64, Way::New);
        for base in candidates {
            if self.base(base).is_none_or(|(_, old)| old.size > MATCHED) {
                continue;
            }
            let old = self.old(base)?;
            let options = bsdiff::Options::default();
            let predicted = Plan::predicted(&old, &new, self.table.clone(), &options)?;
            let plain = if predicted.is_some() { None } else { Some(Plan::plain(&old, &new, &options)?) };
            for plan in predicted.into_iter().chain(plain) {
                let cost = cost(&plan, &old, &new)?;
                if cost < best.0 {
                    best = (cost, Way::From(base, Box::new(plan)));
                }
            }
            // A good match needs no rival.
            if best.0 < file.size / 50 {
                break;
            }
        }
        Ok(best.1)
    }

    /// Numbers the sources in the order of their first use.
    fn sources(&self, ways: &[Way]) -> (Vec<SourceEntry>, HashMap<BaseFile, u64>) {
        let (mut entries, mut numbers) = (Vec::new(), HashMap::new());
        for way in ways {
            let (Way::Same(base) | Way::From(base, _)) = way else { continue };
            let Some((_, file)) = self.base(*base) else { continue };
            numbers.entry(*base).or_insert_with(|| {
                let mut hash = [0; SOURCE_HASH];
                let digest = file.digest;
                hash.iter_mut().zip(digest.as_bytes()).for_each(|(to, from)| *to = *from);
                entries.push(SourceEntry { size: file.size, hash, path: file.path.clone() });
                entries.len() as u64 - 1
            });
        }
        (entries, numbers)
    }

    fn write(&self, ways: &[Way], options: &Options, out: &mut dyn Write) -> Result<(), DeltaError> {
        let (sources, numbers) = self.sources(ways);
        let header = Header {
            target_size: self.target.size(),
            target_hash: *self.target.digest().as_bytes(),
            scratch: 0,
            sources,
        };
        header.write(out, options.level)?;
        let writer = Writer::new(out, &[options.window + SLACK; STREAMS], options.level)?;
        let mut program = Program {
            writer,
            encoder: Encoder::new(options.window),
            coder: Coder::default(),
            window: options.window,
        };
        let mut at = 0;
        for (file, way) in self.target.files().iter().zip(ways) {
            self.frame(at, file.offset, &mut program)?;
            at = file.offset + file.size;
            let number = |base: &BaseFile| numbers.get(base).copied().unwrap_or(0);
            match way {
                Way::Same(base) => program.op(Op::Whole { input: number(base) })?,
                Way::From(base, plan) => {
                    let (input, predicted) = (number(base), plan.hints.is_some());
                    program.op(Op::File { input, len: file.size, predicted })?;
                    let (old, new) = (self.old(*base)?, self.target.content(file)?);
                    program.encoder.file(plan, &old, &new, &mut program.writer)?;
                }
                Way::New => {
                    program.op(Op::New { len: file.size })?;
                    program.bytes(DATA, self.target, file.offset, file.size)?;
                }
            }
        }
        self.frame(at, self.target.size(), &mut program)?;
        program.op(Op::End)?;
        program.encoder.end_window(&mut program.writer)?;
        program.writer.finish()?;
        Ok(())
    }

    /// Writes what stands between two files.
    fn frame<W: Write>(&self, from: u64, to: u64, program: &mut Program<W>) -> Result<(), DeltaError> {
        let len = to.saturating_sub(from);
        if len == 0 {
            return Ok(());
        }
        program.op(Op::Frame { len })?;
        program.bytes(FRAME, self.target, from, len)
    }
}

/// Bytes that a plan takes, found by trial.
fn cost(plan: &Plan, old: &[u8], new: &[u8]) -> Result<u64, DeltaError> {
    let cap = new.len() as u64 * 2 + SLACK;
    let mut writer =
        Writer::new(Vec::new(), &[cap; bundle_delta::codec::STREAMS], TRIAL_LEVEL)?;
    let mut encoder = Encoder::new(u64::MAX);
    encoder.file(&Plan { table: None, ..plan.clone() }, old, new, &mut writer)?;
    encoder.end_window(&mut writer)?;
    Ok(writer.finish()?.len() as u64)
}

/// The streams of a delta while they are written.
struct Program<W: Write> {
    writer: Writer<W>,
    encoder: Encoder,
    coder: Coder,
    window: u64,
}

impl<W: Write> Program<W> {
    fn op(&mut self, op: Op) -> Result<(), DeltaError> {
        if self.writer.pending() >= self.window {
            self.encoder.end_window(&mut self.writer)?;
        }
        if let Some(control) = self.writer.streams().get_mut(CONTROL) {
            self.coder.put(control, op);
        }
        Ok(())
    }

    /// Appends bytes of a spool to a stream, over as many windows as that takes.
    fn bytes(&mut self, stream: usize, from: &Spool, at: u64, len: u64) -> Result<(), DeltaError> {
        let mut buffer = vec![0; len.min(1 << 20) as usize];
        let (mut at, end) = (at, at + len);
        while at < end {
            let part = (end - at).min(1 << 20) as usize;
            let part = buffer.get_mut(..part).unwrap_or_default();
            from.read_at(part, at)?;
            if self.writer.pending() >= self.window {
                self.encoder.end_window(&mut self.writer)?;
            }
            if let Some(stream) = self.writer.streams().get_mut(stream) {
                stream.extend_from_slice(part);
            }
            at += part.len() as u64;
        }
        Ok(())
    }
}
