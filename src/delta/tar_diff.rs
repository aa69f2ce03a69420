//! Writes tar-diff, version 1, for hosts that apply deltas with other tools.
//!
//! Such a host finds old files by their path in the image's root, or as objects of a chunked layer, so only files that no upper
//! layer of the base has replaced are taken.

use std::collections::HashMap;
use std::io::{self, Read, Write};

use bundle_delta::step::Step;
use bundle_delta::tar_diff::{
    self, ADD, COPY, DATA, Files, MAGIC_1, MAX_ADD, MAX_PATH, OPEN, SEEK,
};
use bundle_delta::{DeltaError, Source, bsdiff, varint};
use sha2::{Digest as _, Sha256};

use super::make::{Layer, Options};
use super::matcher::{BaseFile, Matcher};
use super::spool::{Spool, SpooledFile};
use crate::progress::Progress;

/// zstd level of the stream.
const LEVEL: i32 = 19;
/// Larger files are not compared: a suffix array takes many times their size.
const COMPARED: u64 = 192 << 20;
/// Bytes copied at once.
const PART: u64 = 1 << 20;
/// Marks of removed files in layers.
const WHITEOUT: &str = ".wh.";

/// Writes a tar-diff from the base's files to the stream of `target`.
///
/// # Errors
/// Fails where a spool cannot be read, or `out` not be written.
pub fn make(
    target: &Spool,
    sources: &[Layer<'_>],
    options: &Options,
    progress: &dyn Progress,
    out: &mut dyn Write,
) -> Result<(), DeltaError> {
    let visible = visible(sources);
    let mut matcher = Matcher::default();
    for (layer, files) in visible.iter().enumerate() {
        matcher.add(layer, files);
    }
    progress.stage("comparing", target.size());
    out.write_all(MAGIC_1)?;
    let mut encoder = zstd::stream::write::Encoder::new(out, LEVEL)?;
    encoder.long_distance_matching(true)?;
    let mut writer = Writer {
        out: encoder,
        target,
        sources,
        visible: &visible,
        open: None,
        at: 0,
    };
    let mut at = 0;
    for file in target.files() {
        if progress.interrupted() {
            return Err(io::Error::from(io::ErrorKind::Interrupted).into());
        }
        writer.data(at, file.offset)?;
        writer.file(&matcher, file, options)?;
        progress.advance(file.offset + file.size - at);
        at = file.offset + file.size;
    }
    writer.data(at, target.size())?;
    writer.out.finish()?;
    Ok(())
}

/// Rebuilds the target out of the base's files and drops it.
///
/// # Errors
/// Fails unless what comes out is the target, byte for byte.
pub fn prove(
    target: &Spool,
    delta: &mut dyn Read,
    sources: &[Layer<'_>],
) -> Result<(), DeltaError> {
    let files = SpooledFiles::new(sources);
    let mut hash = Hash(Sha256::new());
    tar_diff::rebuild(delta, &files, &mut hash, &Default::default())?;
    match hash.0.finalize().as_slice() == target.digest().as_bytes() {
        true => Ok(()),
        false => Err(DeltaError::WrongTarget),
    }
}

/// The files of unpacked layers by path, as a host has them that deployed the image.
#[derive(Debug)]
pub struct SpooledFiles<'a> {
    by_path: HashMap<String, (&'a Spool, SpooledFile)>,
}

impl<'a> SpooledFiles<'a> {
    /// Takes the files of the base's layers, lowest first.
    pub fn new(sources: &[Layer<'a>]) -> Self {
        let mut by_path = HashMap::new();
        for (files, layer) in visible(sources).into_iter().zip(sources) {
            let files = files.into_iter();
            by_path.extend(files.map(|file| (file.path.clone(), (layer.spool, file))));
        }
        Self { by_path }
    }
}

impl Files for SpooledFiles<'_> {
    fn open(&self, path: &str) -> io::Result<Box<dyn Source + '_>> {
        let (spool, file) = self.by_path.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(Box::new(super::store::Part { spool, file }))
    }
}

/// Returns for each layer of the base the files that no layer above it replaces or removes.
fn visible(sources: &[Layer<'_>]) -> Vec<Vec<SpooledFile>> {
    let mut hidden: HashMap<String, ()> = HashMap::new();
    let mut found = Vec::new();
    for layer in sources.iter().rev() {
        // A host with other tools has nothing of the target before it is whole.
        let files = match layer.target {
            None => layer.spool.files(),
            Some(_) => &[],
        };
        let shown = |file: &&SpooledFile| {
            !above(&file.path).any(|path| hidden.contains_key(path))
                && file.path.len() as u64 <= MAX_PATH
        };
        found.push(files.iter().filter(shown).cloned().collect());
        let names = match layer.target {
            None => layer.spool.names(),
            Some(_) => &[],
        };
        for name in names {
            let (parent, last) = name.rsplit_once('/').unwrap_or(("", name));
            match last.strip_prefix(WHITEOUT) {
                Some(".wh..opq") => hidden.insert(parent.into(), ()),
                Some(removed) if parent.is_empty() => hidden.insert(removed.into(), ()),
                Some(removed) => hidden.insert(format!("{parent}/{removed}"), ()),
                None => hidden.insert(name.clone(), ()),
            };
        }
    }
    found.reverse();
    found
}

/// Runs over a path and the directories above it.
fn above(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |path| Some(path.rsplit_once('/')?.0))
}

struct Writer<'a, W: Write> {
    out: W,
    target: &'a Spool,
    sources: &'a [Layer<'a>],
    visible: &'a [Vec<SpooledFile>],
    open: Option<BaseFile>,
    at: u64,
}

impl<W: Write> Writer<'_, W> {
    fn file(
        &mut self,
        matcher: &Matcher,
        file: &SpooledFile,
        options: &Options,
    ) -> Result<(), DeltaError> {
        if let Some(base) = matcher.same(&file.digest) {
            self.open(base)?;
            return self.copy(0, file.size);
        }
        let candidates = matcher.candidates(file.name(), file.size);
        let base = candidates.first().copied();
        let old = base.and_then(|base| Some((base, self.visible.get(base.layer)?.get(base.file)?)));
        let fits = |old: &SpooledFile| old.size.max(file.size) <= COMPARED.min(options.memory / 8);
        let Some((base, old)) = old.filter(|(_, old)| fits(old)) else {
            return self.data(file.offset, file.offset + file.size);
        };
        let Some(layer) = self.sources.get(base.layer) else {
            return self.data(file.offset, file.offset + file.size);
        };
        let (old, new) = (layer.spool.content(old)?, self.target.content(file)?);
        let steps = bsdiff::diff(&old, &new, &bsdiff::Options::default())?;
        self.open(base)?;
        self.steps(&steps, &old, &new)
    }

    fn steps(&mut self, steps: &[Step], old: &[u8], new: &[u8]) -> Result<(), DeltaError> {
        let (mut old_at, mut new_at) = (0_u64, 0_u64);
        for step in steps {
            let mut done = 0;
            while done < step.copy {
                let count = (step.copy - done).min(MAX_ADD);
                let range = |at: u64| (at + done) as usize..(at + done + count) as usize;
                let was = old.get(range(old_at)).unwrap_or_default();
                let is = new.get(range(new_at)).unwrap_or_default();
                self.seek(old_at + done)?;
                if was == is {
                    self.operation(COPY, count)?;
                } else {
                    self.operation(ADD, count)?;
                    let pairs = is.iter().zip(was);
                    let sums: Vec<u8> = pairs.map(|(is, was)| is.wrapping_sub(*was)).collect();
                    self.out.write_all(&sums)?;
                }
                self.at += count;
                done += count;
            }
            new_at += step.copy;
            let extra = new.get(new_at as usize..(new_at + step.extra) as usize);
            let extra = extra.unwrap_or_default();
            if !extra.is_empty() {
                self.operation(DATA, step.extra)?;
                self.out.write_all(extra)?;
            }
            new_at += step.extra;
            old_at = (old_at + step.copy).wrapping_add_signed(step.seek);
        }
        Ok(())
    }

    fn open(&mut self, base: BaseFile) -> Result<(), DeltaError> {
        if self.open == Some(base) {
            return Ok(());
        }
        let file = self
            .visible
            .get(base.layer)
            .and_then(|files| files.get(base.file));
        let path = file.map(|file| file.path.clone()).unwrap_or_default();
        self.operation(OPEN, path.len() as u64)?;
        self.out.write_all(path.as_bytes())?;
        self.open = Some(base);
        self.at = 0;
        Ok(())
    }

    fn seek(&mut self, to: u64) -> Result<(), DeltaError> {
        if self.at != to {
            self.operation(SEEK, to)?;
            self.at = to;
        }
        Ok(())
    }

    fn copy(&mut self, from: u64, size: u64) -> Result<(), DeltaError> {
        self.seek(from)?;
        self.operation(COPY, size)?;
        self.at += size;
        Ok(())
    }

    /// Writes bytes of the target as they are.
    fn data(&mut self, from: u64, to: u64) -> Result<(), DeltaError> {
        if from >= to {
            return Ok(());
        }
        self.operation(DATA, to - from)?;
        let mut part = vec![0; (to - from).min(PART) as usize];
        let mut at = from;
        while at < to {
            let count = (to - at).min(PART) as usize;
            let part = part.get_mut(..count).unwrap_or_default();
            self.target.read_at(part, at)?;
            self.out.write_all(part)?;
            at += count as u64;
        }
        Ok(())
    }

    fn operation(&mut self, kind: u8, size: u64) -> Result<(), DeltaError> {
        let mut bytes = vec![kind];
        varint::put(&mut bytes, size);
        Ok(self.out.write_all(&bytes)?)
    }
}

struct Hash(Sha256);

impl Write for Hash {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
