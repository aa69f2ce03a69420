//! Carries out the roads of a plan: the layers of a bundle, rebuilt out of the repository where a delta says how.
//!
//! What is rebuilt counts only once the engine has seen that its hash is the layer's `diff_id`. Where a rebuild fails in
//! spite of the plan, since an old file was damaged meanwhile, or the medium, the next road is taken.

use std::cell::RefCell;
use std::io::{self, BufReader, Write};
use std::os::unix::fs::FileExt as _;
use std::path::PathBuf;
use std::sync::Arc;

use ::ostree::Repo;
use bundle_delta::header::{Header, SourceEntry};
use bundle_delta::rebuild::{Scratch, Store, rebuild_trusting};
use bundle_delta::{DeltaError, Source, tar_diff};
use bundle_format::Digest;

use super::road::{LayerPlan, Means, OldFiles, Plan, Road, rank};
use crate::ostree::{
    Content, ImageFiles, ImageLayer, LayerSource, LayerStream, ObjectFile, OstreeError, Sources,
};
use crate::verify::VerifiedBundle;

/// Describes a source of a delta to the repository.
pub(super) fn content_of(source: &SourceEntry) -> Content {
    Content {
        size: source.size,
        hash: source.hash,
        path: source.path.clone(),
    }
}

/// The layers of a bundle, by the roads of a plan.
#[derive(Debug)]
pub struct PlannedLayers<'a> {
    bundle: &'a VerifiedBundle,
    repo: &'a Repo,
    means: &'a Means,
    state: RefCell<State>,
}

#[derive(Debug)]
struct State {
    plan: Plan,
    warnings: Vec<String>,
}

impl<'a> PlannedLayers<'a> {
    /// Carries out `plan`, which was made for this bundle and repository.
    pub fn new(bundle: &'a VerifiedBundle, repo: &'a Repo, means: &'a Means, plan: Plan) -> Self {
        let damaged = plan.damaged.iter();
        let warnings = damaged
            .map(|name| format!("object {name} of the repository is damaged: it was not used, and is written anew where the release has it"))
            .collect();
        Self {
            bundle,
            repo,
            means,
            state: RefCell::new(State { plan, warnings }),
        }
    }

    /// Returns the plan as it was carried out, and what went wrong on the way.
    pub fn finish(self) -> (Plan, Vec<String>) {
        let State { plan, warnings } = self.state.into_inner();
        (plan, warnings)
    }

    /// Finds the sources of a delta that other layers of the image have brought.
    fn complete(
        &self,
        header: &Header,
        planned: &[Option<ObjectFile>],
    ) -> io::Result<(Sources, Vec<ObjectFile>)> {
        let mut sources = Sources::of(self.repo).map_err(io::Error::other)?;
        let missing: Vec<_> = header
            .sources
            .iter()
            .zip(planned)
            .filter(|(_, found)| found.is_none())
            .map(|(source, _)| content_of(source))
            .collect();
        let late = sources.find(self.repo, &missing);
        let mut late = late.map_err(io::Error::other)?.into_iter();
        let mut objects = Vec::with_capacity(planned.len());
        for (source, found) in header.sources.iter().zip(planned) {
            let found = found.or_else(|| late.next().flatten());
            objects.push(found.ok_or_else(|| wrong_source(&source.path))?);
        }
        if objects.len() != header.sources.len() {
            return Err(wrong_source("?"));
        }
        Ok((sources, objects))
    }

    fn rebuilt(
        &self,
        blob: &Digest,
        planned: Vec<Option<ObjectFile>>,
    ) -> io::Result<LayerStream<'_>> {
        let input = self.bundle.blob(blob).map_err(io::Error::other)?;
        let mut input = BufReader::with_capacity(64 << 10, input);
        let header = Header::read(&mut input, &Default::default()).map_err(into_io)?;
        let (sources, objects) = self.complete(&header, &planned)?;
        let store = HostStore {
            sources,
            objects,
            recipes: self.means.recipes.clone(),
            directory: self.means.directory.clone(),
        };
        Ok(LayerStream::Rebuilt(Box::new(move |out| {
            rebuild_trusting(&header, input, &store, out, &Default::default()).map_err(into_io)
        })))
    }
}

impl PlannedLayers<'_> {
    fn patched(&self, blob: &Digest, files: Arc<ImageFiles>) -> io::Result<LayerStream<'_>> {
        let input = self.bundle.blob(blob).map_err(io::Error::other)?;
        let input = BufReader::with_capacity(64 << 10, input);
        Ok(LayerStream::Rebuilt(Box::new(move |out| {
            tar_diff::rebuild(input, &ByPath(&files), out, &Default::default()).map_err(into_io)
        })))
    }
}

/// Gives a tar-diff the files of an image.
struct ByPath<'a>(&'a ImageFiles);

impl tar_diff::Files for ByPath<'_> {
    fn open(&self, path: &str) -> io::Result<Box<dyn Source + '_>> {
        let (file, len) = self.0.open(path)?;
        Ok(Box::new(Old { file, len }))
    }
}

impl LayerSource for PlannedLayers<'_> {
    fn open(&self, layer: &ImageLayer) -> io::Result<LayerStream<'_>> {
        let planned = {
            let state = self.state.borrow();
            let plan = find(&state.plan, layer);
            match plan.and_then(LayerPlan::road) {
                Some(Road::Delta(road)) => Some((road.blob.digest, road.old.clone())),
                _ => None,
            }
        };
        match planned {
            Some((blob, OldFiles::Objects(sources))) => self.rebuilt(&blob, sources),
            Some((blob, OldFiles::Image(files))) => self.patched(&blob, files),
            None => {
                let blob = self.bundle.blob(&layer.digest);
                Ok(LayerStream::Stored(Box::new(
                    blob.map_err(io::Error::other)?,
                )))
            }
        }
    }

    fn another_way(&self, layer: &ImageLayer, error: &OstreeError) -> bool {
        // Only what a rebuild did wrong can be right on another road.
        let rebuilding = matches!(
            error,
            OstreeError::Source { .. } | OstreeError::DiffId { .. }
        );
        let mut state = self.state.borrow_mut();
        let plans = &mut state.plan.layers;
        let plan = plans
            .iter_mut()
            .find(|plan| plan.layer.digest == layer.digest);
        let Some(plan) = plan.filter(|plan| rebuilding && plan.roads.len() > 1) else {
            return false;
        };
        plan.roads.remove(0);
        let cause = std::error::Error::source(error).map(|cause| format!(": {cause}"));
        let warning = format!(
            "layer {} could not be rebuilt from its delta and was read in full: {error}{}",
            layer.digest,
            cause.unwrap_or_default()
        );
        state.warnings.push(crate::text::printable(&warning));
        true
    }

    fn rank(&self, layer: &ImageLayer) -> usize {
        rank(find(&self.state.borrow().plan, layer))
    }
}

fn find<'a>(plan: &'a Plan, layer: &ImageLayer) -> Option<&'a LayerPlan> {
    let mut plans = plan.layers.iter();
    plans.find(|plan| plan.layer.digest == layer.digest)
}

fn wrong_source(path: &str) -> io::Error {
    let path = crate::text::printable(path);
    io::Error::other(DeltaError::WrongSource { path })
}

/// Keeps what the medium said as it is, so that the caller finds it again.
fn into_io(error: DeltaError) -> io::Error {
    match error {
        DeltaError::Io(error) => error,
        error => io::Error::other(error),
    }
}

/// Gives a rebuild the objects of the repository.
struct HostStore {
    sources: Sources,
    objects: Vec<ObjectFile>,
    recipes: bundle_recipes::Limits,
    directory: PathBuf,
}

impl Store for HostStore {
    fn open(&self, index: usize) -> io::Result<Box<dyn Source + '_>> {
        let object = self.objects.get(index).ok_or(io::ErrorKind::NotFound)?;
        let file = self.sources.open(object)?;
        let len = object.size;
        Ok(Box::new(Old { file, len }))
    }

    fn scratch(&self, len: u64) -> io::Result<Box<dyn Scratch>> {
        super::scratch::scratch(len, &self.directory)
    }

    fn encode(&self, recipe: &[u8], input: &dyn Source, out: &mut dyn Write) -> io::Result<()> {
        super::recipes::encode(recipe, input, out, &self.recipes)
    }

    fn decode(&self, recipe: &[u8], input: &dyn Source, out: &mut dyn Write) -> io::Result<()> {
        super::recipes::decode(recipe, input, out)
    }
}

/// A content object of the repository.
struct Old {
    file: std::fs::File,
    len: u64,
}

impl Source for Old {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}
