//! Finds for each file of a target how it is made, on all processors.
//!
//! A file with the content of a base file is that file. Another is compared with its likeliest
//! candidates, and a trial decides. A compressed one is opened first where a recipe makes it again bit
//! for bit; its inner stream is then made in pieces, each for itself: an initramfs out of the files of the
//! very target it belongs to.

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::thread;

use bundle_delta::elf::{Learner, Table};
use bundle_delta::streams::Writer;
use bundle_delta::{DeltaError, Encoder, Plan, bsdiff};
use bundle_format::Digest;
use bundle_recipes::{Kind, Member, Recipe, cpio};

use super::budget::Budget;
use super::make::{Layer, Options};
use super::matcher::{BaseFile, Matcher};
use super::sketch::{self, Sketch, Sketches};
use super::spool::{Spool, SpooledFile};
use crate::progress::Progress;

/// Level for the trial that compares ways to code a file.
const TRIAL_LEVEL: i32 = 3;
/// Bytes of memory that comparing takes for each byte of the two files: a suffix array, the files and their views.
const COMPARED: u64 = 8;
/// Bytes of memory that opening a compressed file takes for each byte of it: its content, and an encoder's work.
const OPENED: u64 = 24;
/// A smaller file that occurs twice in the target is as cheap to send twice.
const REPEATED: u64 = 16 << 10;
/// Smaller contents inside an archive are not worth an operation of their own.
const SMALL: usize = 64;
/// Entries of one archive that are looked at.
const ENTRIES: usize = 1 << 20;

/// Old bytes that a piece is made from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Old {
    /// A file of the base.
    File(BaseFile),
    /// What a compressed member of a file of the base decodes to.
    Member {
        /// The file.
        base: BaseFile,
        /// Compression of the member.
        kind: MemberKind,
        /// Where it lies in the file.
        offset: u64,
        /// Bytes it takes there.
        length: u64,
        /// Bytes it decodes to.
        inner: u64,
    },
}

/// [`Kind`], with what a map's key needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum MemberKind {
    Zstd,
    Xz,
    Gzip,
}

impl From<Kind> for MemberKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::Zstd => Self::Zstd,
            Kind::Xz => Self::Xz,
            Kind::Gzip => Self::Gzip,
        }
    }
}

impl From<MemberKind> for Kind {
    fn from(kind: MemberKind) -> Self {
        match kind {
            MemberKind::Zstd => Self::Zstd,
            MemberKind::Xz => Self::Xz,
            MemberKind::Gzip => Self::Gzip,
        }
    }
}

/// How bytes of the target are made.
#[derive(Debug)]
pub(super) enum Way {
    /// All of a base file.
    Same(BaseFile),
    /// All of another file of the target.
    Target(usize),
    /// Steps from old bytes.
    From(Old, Box<Plan>),
    /// Their own bytes, among the content of files.
    New,
    /// Their own bytes, among what stands between files.
    Frame,
    /// Pieces of an inner stream, encoded by a recipe.
    Encoded(Box<Recipe>, Vec<Piece>),
}

/// A range of an inner stream and how it is made.
#[derive(Debug)]
pub(super) struct Piece {
    pub(super) range: Range<usize>,
    pub(super) way: Way,
}

/// Everything that plans are made from.
pub(super) struct Planner<'a> {
    pub(super) target: &'a Spool,
    pub(super) sources: &'a [Layer<'a>],
    pub(super) options: &'a Options,
    matcher: Matcher,
    by_digest: HashMap<Digest, usize>,
    table: Option<Arc<Table>>,
    sketches: OnceLock<Sketches>,
    budget: Budget,
}

impl<'a> Planner<'a> {
    /// Indexes the sources and learns what their kernel modules share with the target's.
    pub(super) fn new(
        target: &'a Spool,
        sources: &'a [Layer<'a>],
        options: &'a Options,
    ) -> Result<Self, DeltaError> {
        let mut matcher = Matcher::default();
        for (number, layer) in sources.iter().enumerate() {
            matcher.add(number, layer.spool.files());
        }
        let files = target.files().iter().enumerate();
        let by_digest = files
            .rev()
            .map(|(number, file)| (file.digest, number))
            .collect();
        let mut planner = Self {
            target,
            sources,
            options,
            matcher,
            by_digest,
            table: None,
            sketches: OnceLock::new(),
            // The rest is for windows, and for what is written at last.
            budget: Budget::new(options.memory / 4 * 3),
        };
        planner.table = planner.learn()?.map(Arc::new);
        Ok(planner)
    }

    fn learn(&self) -> Result<Option<Table>, DeltaError> {
        let mut learner = Learner::default();
        let modules = self.target.files().iter();
        let modules = modules.filter(|file| is_module(file.name()));
        for file in modules.filter(|file| self.matcher.same(&file.digest).is_none()) {
            if let Some(base) = self.matcher.candidates(file.name(), file.size).first() {
                let old = self.unpacked(self.base_content(*base)?);
                let new = self.unpacked(self.target.content(file)?);
                learner.add(&old, &new)?;
            }
        }
        Ok(learner.finish())
    }

    /// Decodes a module that is compressed.
    fn unpacked(&self, module: Vec<u8>) -> Vec<u8> {
        let members = bundle_recipes::members(&module, &self.options.recipes);
        let first = members.into_iter().next();
        first.map_or(module, |member| member.inner)
    }

    /// Returns a base file and the layer it is in.
    pub(super) fn base(&self, base: BaseFile) -> Option<(Layer<'a>, &'a SpooledFile)> {
        let layer = *self.sources.get(base.layer)?;
        Some((layer, layer.spool.files().get(base.file)?))
    }

    fn base_content(&self, base: BaseFile) -> io::Result<Vec<u8>> {
        match self.base(base) {
            Some((layer, file)) => layer.spool.content(file),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// Reads old bytes into memory.
    pub(super) fn old(&self, old: Old) -> io::Result<Vec<u8>> {
        match old {
            Old::File(base) => self.base_content(base),
            Old::Member {
                base,
                kind,
                offset,
                length,
                ..
            } => {
                let file = self.base_content(base)?;
                let end = (offset + length) as usize;
                let bytes = file.get(offset as usize..end).unwrap_or_default();
                let decoded = bundle_recipes::decode(kind.into(), bytes, &self.options.recipes);
                Ok(decoded.ok_or(io::ErrorKind::InvalidData)?.1)
            }
        }
    }

    /// Returns the bytes of memory that decoding a member of a base file takes.
    pub(super) fn decoder_memory(
        &self,
        base: BaseFile,
        kind: MemberKind,
        offset: u64,
    ) -> io::Result<u64> {
        let Some((layer, file)) = self.base(base) else {
            return Ok(0);
        };
        let length = file.size.saturating_sub(offset).min(4096);
        let mut beginning = vec![0; length as usize];
        layer.spool.read_at(&mut beginning, file.offset + offset)?;
        Ok(bundle_recipes::decoder_memory(kind.into(), &beginning))
    }

    /// Finds a way for each file of the target.
    pub(super) fn ways(&self, progress: &dyn Progress) -> Result<Vec<Way>, DeltaError> {
        let files = self.target.files();
        progress.stage("comparing", files.iter().map(|file| file.size).sum());
        // The largest first, so that no processor is left with one at the end.
        let mut order: Vec<usize> = (0..files.len()).collect();
        order.sort_by_key(|number| std::cmp::Reverse(files.get(*number).map(|file| file.size)));
        let next = AtomicUsize::new(0);
        let found = Mutex::new((HashMap::new(), None));
        let work = || {
            loop {
                let turn = next.fetch_add(1, Ordering::Relaxed);
                let Some(number) = order.get(turn) else {
                    return;
                };
                let Some(file) = files.get(*number) else {
                    return;
                };
                if progress.interrupted() {
                    return;
                }
                let way = self.way(*number, file);
                progress.advance(file.size);
                let mut found = found.lock().unwrap_or_else(|poison| poison.into_inner());
                match way {
                    Ok(way) => {
                        found.0.insert(*number, way);
                    }
                    Err(error) => {
                        found.1.get_or_insert(error);
                        next.store(files.len(), Ordering::Relaxed);
                    }
                }
            }
        };
        thread::scope(|scope| {
            for _ in 1..self.options.threads() {
                scope.spawn(work);
            }
            work();
        });
        let (mut found, failure) = found
            .into_inner()
            .unwrap_or_else(|poison| poison.into_inner());
        if progress.interrupted() {
            return Err(io::Error::from(io::ErrorKind::Interrupted).into());
        }
        if let Some(error) = failure {
            return Err(error);
        }
        // Every file has one: the workers stop early only where they fail.
        Ok((0..files.len())
            .map(|number| found.remove(&number).unwrap_or(Way::New))
            .collect())
    }

    fn way(&self, number: usize, file: &SpooledFile) -> Result<Way, DeltaError> {
        if let Some(base) = self.matcher.same(&file.digest) {
            return Ok(Way::Same(base));
        }
        let first = self.by_digest.get(&file.digest).copied();
        if let Some(first) = first.filter(|first| *first != number && file.size >= REPEATED) {
            return Ok(Way::Target(first));
        }
        // A file that memory does not hold twice is sent as it is, in parts.
        let needed = file.size.saturating_mul(COMPARED);
        if !self.budget.allows(needed) {
            return Ok(Way::New);
        }
        let loan = self.budget.take(needed);
        let new = self.target.content(file)?;
        if bundle_recipes::may_open(new.get(..1024).unwrap_or(&new)) {
            drop(loan);
            let _loan = self.budget.take(file.size.saturating_mul(OPENED));
            if let Some(opened) = bundle_recipes::open(&new, &self.options.recipes) {
                let pieces = self.pieces(file, &opened.recipe, &opened.inner)?;
                return Ok(Way::Encoded(Box::new(opened.recipe), pieces));
            }
            return self.changed(file.name(), &new);
        }
        drop(loan);
        let olds = self.olds(file.name(), file.size);
        let largest = olds.iter().map(|old| self.size(*old)).max().unwrap_or(0);
        let _loan = self
            .budget
            .take(largest.saturating_add(file.size).saturating_mul(COMPARED));
        self.changed(file.name(), &new)
    }

    /// Plans a file from the base files that its name leads to, and where these are of no use from one with similar content.
    fn changed(&self, name: &str, new: &[u8]) -> Result<Way, DeltaError> {
        let size = new.len() as u64;
        let way = self.from(&self.olds(name, size), new)?;
        if !matches!(way, Way::New) || size < sketch::SMALLEST {
            return Ok(way);
        }
        let sketches = self.sketches.get_or_init(|| self.sketch_sources());
        let nearest = sketches.nearest(&Sketch::of(new)).map(Old::File);
        self.from(nearest.as_slice(), new)
    }

    /// Returns the base files that a new one of this name most likely comes from.
    fn olds(&self, name: &str, size: u64) -> Vec<Old> {
        let found = self.matcher.candidates(name, size);
        found.into_iter().map(Old::File).collect()
    }

    /// Sketches the files of the sources that the target does not have: the others are found by hash.
    fn sketch_sources(&self) -> Sketches {
        let mut sketches = Sketches::default();
        for (number, layer) in self.sources.iter().enumerate() {
            for (file, spooled) in layer.spool.files().iter().enumerate() {
                let gone = !self.by_digest.contains_key(&spooled.digest)
                    && crate::layer::is_kept(&spooled.path);
                let fits = self.budget.allows(spooled.size.saturating_mul(COMPARED));
                if spooled.size < sketch::SMALLEST || !gone || !fits {
                    continue;
                }
                // A file that cannot be read now fails where it is used.
                if let Ok(content) = layer.spool.content(spooled) {
                    let layer = number;
                    sketches.add(BaseFile { layer, file }, &Sketch::of(&content));
                }
            }
        }
        sketches
    }

    fn size(&self, old: Old) -> u64 {
        match old {
            Old::File(base) => self.base(base).map_or(0, |(_, file)| file.size),
            Old::Member { inner, .. } => inner,
        }
    }

    /// Chooses among old bytes by trial; none of them where nothing is gained.
    fn from(&self, olds: &[Old], new: &[u8]) -> Result<Way, DeltaError> {
        let mut best = (
            zstd::bulk::compress(new, TRIAL_LEVEL)?.len() as u64,
            Way::New,
        );
        for old in olds {
            if !self.budget.allows(self.size(*old).saturating_mul(COMPARED)) {
                continue;
            }
            let bytes = self.old(*old)?;
            let options = bsdiff::Options::default();
            let plan = match Plan::predicted(&bytes, new, self.table.clone(), &options)? {
                Some(plan) => plan,
                None => Plan::plain(&bytes, new, &options)?,
            };
            let cost = cost(&plan, &bytes, new)?;
            if cost < best.0 {
                best = (cost, Way::From(*old, Box::new(plan)));
            }
            // A good match needs no rival.
            if best.0 < new.len() as u64 / 50 {
                break;
            }
        }
        Ok(best.1)
    }

    /// Plans an inner stream, each part of its recipe for itself.
    fn pieces(
        &self,
        file: &SpooledFile,
        recipe: &Recipe,
        inner: &[u8],
    ) -> Result<Vec<Piece>, DeltaError> {
        let candidate = self
            .matcher
            .candidates(file.name(), file.size)
            .first()
            .copied();
        let members = match candidate {
            Some(base) => bundle_recipes::members(&self.base_content(base)?, &self.options.recipes),
            None => Vec::new(),
        };
        let olds: Vec<_> = candidate
            .iter()
            .flat_map(|base| members.iter().map(|member| old_member(*base, member)))
            .collect();
        let mut pieces = Vec::new();
        let mut at = 0;
        let mut compressed = 0;
        for part in recipe.parts() {
            let range = at..at + part.inner as usize;
            at = range.end;
            let bytes = inner.get(range.clone()).unwrap_or_default();
            let old = if part.coding.name() == "stored" {
                None
            } else {
                compressed += 1;
                olds.get(compressed - 1).copied()
            };
            if cpio::is_cpio(bytes) {
                self.archive(range.start, bytes, &mut pieces)?;
            } else if let Some(old) = old {
                pieces.push(Piece {
                    range,
                    way: self.from(&[old], bytes)?,
                });
            } else {
                let olds = candidate.map(Old::File).into_iter().collect::<Vec<_>>();
                let way = if bytes.len() < SMALL {
                    Way::Frame
                } else {
                    self.from(&olds, bytes)?
                };
                pieces.push(Piece { range, way });
            }
        }
        Ok(pieces)
    }

    /// Plans an archive: each file in it is one of the target, one of the base, or made from one.
    fn archive(
        &self,
        start: usize,
        bytes: &[u8],
        pieces: &mut Vec<Piece>,
    ) -> Result<(), DeltaError> {
        let archives = cpio::split_all(bytes, ENTRIES);
        let entries = archives.iter().flatten();
        let mut at = 0;
        for entry in entries.filter(|entry| entry.is_file() && entry.data.len() >= SMALL) {
            let Some(data) = bytes.get(entry.data.clone()) else {
                continue;
            };
            let digest = Digest::of(data);
            let way = if let Some(base) = self.matcher.same(&digest) {
                Way::Same(base)
            } else if let Some(number) = self.by_digest.get(&digest) {
                Way::Target(*number)
            } else {
                let name = String::from_utf8_lossy(entry.name);
                self.changed(&name, data)?
            };
            if entry.data.start > at {
                pieces.push(Piece {
                    range: start + at..start + entry.data.start,
                    way: Way::Frame,
                });
            }
            pieces.push(Piece {
                range: start + entry.data.start..start + entry.data.end,
                way,
            });
            at = entry.data.end;
        }
        if at < bytes.len() {
            pieces.push(Piece {
                range: start + at..start + bytes.len(),
                way: Way::Frame,
            });
        }
        Ok(())
    }
}

/// Returns true for kernel modules, compressed ones among them.
fn is_module(name: &str) -> bool {
    [".ko", ".ko.xz", ".ko.zst", ".ko.gz"]
        .iter()
        .any(|ending| name.ends_with(ending))
}

fn old_member(base: BaseFile, member: &Member) -> Old {
    Old::Member {
        base,
        kind: member.kind.into(),
        offset: member.offset as u64,
        length: member.length as u64,
        inner: member.inner.len() as u64,
    }
}

/// Bytes that a plan takes, found by trial.
fn cost(plan: &Plan, old: &[u8], new: &[u8]) -> Result<u64, DeltaError> {
    let cap = new.len() as u64 * 2 + (64 << 20);
    let mut writer = Writer::new(Vec::new(), &[cap; bundle_delta::STREAMS], TRIAL_LEVEL)?;
    let mut encoder = Encoder::new(u64::MAX).knowing(plan.table.clone());
    encoder.file(plan, old, new, &mut writer)?;
    encoder.end_window(&mut writer)?;
    Ok(writer.finish()?.len() as u64)
}
