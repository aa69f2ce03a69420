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
use std::sync::{Arc, Mutex};
use std::thread;

use bundle_delta::elf::{Learner, Table};
use bundle_delta::streams::Writer;
use bundle_delta::{DeltaError, Encoder, Plan, bsdiff};
use bundle_format::Digest;
use bundle_recipes::{Kind, Member, Recipe, cpio};

use super::matcher::{BaseFile, Matcher};
use super::spool::{Spool, SpooledFile};
use crate::progress::Progress;

/// Level for the trial that compares ways to code a file.
const TRIAL_LEVEL: i32 = 3;
/// Largest file that is matched: a suffix array takes five bytes for each of the base's.
const MATCHED: u64 = 512 << 20;
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
    pub(super) bases: &'a [Spool],
    pub(super) recipes: &'a bundle_recipes::Options,
    matcher: Matcher,
    by_digest: HashMap<Digest, usize>,
    table: Option<Arc<Table>>,
}

impl<'a> Planner<'a> {
    /// Indexes the bases and learns what their kernel modules share with the target's.
    pub(super) fn new(
        target: &'a Spool,
        bases: &'a [Spool],
        recipes: &'a bundle_recipes::Options,
    ) -> Result<Self, DeltaError> {
        let mut matcher = Matcher::default();
        for (layer, base) in bases.iter().enumerate() {
            matcher.add(layer, base.files());
        }
        let files = target.files().iter().enumerate();
        let by_digest = files
            .rev()
            .map(|(number, file)| (file.digest, number))
            .collect();
        let mut planner = Self {
            target,
            bases,
            recipes,
            matcher,
            by_digest,
            table: None,
        };
        planner.table = planner.learn()?.map(Arc::new);
        Ok(planner)
    }

    fn learn(&self) -> Result<Option<Table>, DeltaError> {
        let mut learner = Learner::default();
        let modules = self
            .target
            .files()
            .iter()
            .filter(|file| file.path.ends_with(".ko"));
        for file in modules.filter(|file| self.matcher.same(&file.digest).is_none()) {
            if let Some(base) = self.matcher.candidates(&file.path, file.size).first() {
                learner.add(&self.base_content(*base)?, &self.target.content(file)?)?;
            }
        }
        Ok(learner.finish())
    }

    /// Returns a base file and the layer it is in.
    pub(super) fn base(&self, base: BaseFile) -> Option<(&'a Spool, &'a SpooledFile)> {
        let spool = self.bases.get(base.layer)?;
        Some((spool, spool.files().get(base.file)?))
    }

    fn base_content(&self, base: BaseFile) -> io::Result<Vec<u8>> {
        match self.base(base) {
            Some((spool, file)) => spool.content(file),
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
                let kind = match kind {
                    MemberKind::Zstd => Kind::Zstd,
                    MemberKind::Xz => Kind::Xz,
                    MemberKind::Gzip => Kind::Gzip,
                };
                let decoded = bundle_recipes::decode(kind, bytes, self.recipes);
                Ok(decoded.ok_or(io::ErrorKind::InvalidData)?.1)
            }
        }
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
                let way = self.way(file);
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
            for _ in 1..thread::available_parallelism().map_or(1, |n| n.get().min(8)) {
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

    fn way(&self, file: &SpooledFile) -> Result<Way, DeltaError> {
        if let Some(base) = self.matcher.same(&file.digest) {
            return Ok(Way::Same(base));
        }
        if file.size > MATCHED {
            return Ok(Way::New);
        }
        let new = self.target.content(file)?;
        let promising = bundle_recipes::may_open(new.get(..1024).unwrap_or(&new));
        if let Some(opened) = promising
            .then(|| bundle_recipes::open(&new, self.recipes))
            .flatten()
        {
            let pieces = self.pieces(file, &opened.recipe, &opened.inner)?;
            return Ok(Way::Encoded(Box::new(opened.recipe), pieces));
        }
        let olds = self
            .matcher
            .candidates(&file.path, file.size)
            .into_iter()
            .map(Old::File);
        self.from(&olds.collect::<Vec<_>>(), &new)
    }

    /// Chooses among old bytes by trial; none of them where nothing is gained.
    fn from(&self, olds: &[Old], new: &[u8]) -> Result<Way, DeltaError> {
        let mut best = (
            zstd::bulk::compress(new, TRIAL_LEVEL)?.len() as u64,
            Way::New,
        );
        for old in olds {
            let bytes = self.old(*old)?;
            if bytes.len() as u64 > MATCHED {
                continue;
            }
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
            .candidates(&file.path, file.size)
            .first()
            .copied();
        let members = match candidate {
            Some(base) => bundle_recipes::members(&self.base_content(base)?, self.recipes),
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
                let found = self.matcher.candidates(&name, data.len() as u64);
                self.from(&found.into_iter().map(Old::File).collect::<Vec<_>>(), data)?
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
