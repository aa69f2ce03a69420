//! Old files for rebuilding a layer, found by their content in unpacked layers.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;

use bundle_delta::Source;
use bundle_delta::header::{Header, SOURCE_HASH};
use bundle_delta::rebuild::{Scratch, Store};

use super::make::{Layer, Options};
use super::spool::{Spool, SpooledFile};

/// Gives the files of unpacked layers to a rebuild.
#[derive(Debug)]
pub struct SpoolStore<'a> {
    found: Vec<Option<(&'a Spool, &'a SpooledFile)>>,
    limits: bundle_recipes::Limits,
    directory: PathBuf,
}

impl<'a> SpoolStore<'a> {
    /// Looks for every source of `header` in `layers`.
    pub fn new(header: &Header, layers: &[Layer<'a>], options: &Options) -> Self {
        let mut by_hash = HashMap::new();
        for Layer { spool, .. } in layers {
            for file in spool.files() {
                let mut hash = [0; SOURCE_HASH];
                hash.iter_mut()
                    .zip(file.digest.as_bytes())
                    .for_each(|(to, from)| *to = *from);
                by_hash.insert((file.size, hash), (*spool, file));
            }
        }
        let find = |source: &bundle_delta::header::SourceEntry| {
            by_hash.get(&(source.size, source.hash)).copied()
        };
        Self {
            found: header.sources.iter().map(find).collect(),
            limits: options.recipes.limits.clone(),
            directory: options.directory.clone(),
        }
    }

    /// Returns the numbers of the sources that are not there.
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        self.found
            .iter()
            .enumerate()
            .filter(|(_, found)| found.is_none())
            .map(|(i, _)| i)
    }
}

impl Store for SpoolStore<'_> {
    fn open(&self, index: usize) -> io::Result<Box<dyn Source + '_>> {
        match self.found.get(index).copied().flatten() {
            Some((spool, file)) => Ok(Box::new(Part { spool, file })),
            None => Err(io::ErrorKind::NotFound.into()),
        }
    }

    fn scratch(&self, len: u64) -> io::Result<Box<dyn Scratch>> {
        super::scratch::scratch(len, &self.directory)
    }

    fn encode(&self, recipe: &[u8], input: &dyn Source, out: &mut dyn Write) -> io::Result<()> {
        super::recipes::encode(recipe, input, out, &self.limits)
    }

    fn decode(&self, recipe: &[u8], input: &dyn Source, out: &mut dyn Write) -> io::Result<()> {
        super::recipes::decode(recipe, input, out)
    }
}

/// A file inside an unpacked layer.
pub(super) struct Part<'a> {
    pub(super) spool: &'a Spool,
    pub(super) file: &'a SpooledFile,
}

impl Source for Part<'_> {
    fn len(&self) -> u64 {
        self.file.size
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.file.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.spool.read_at(buffer, self.file.offset + offset)
    }
}
