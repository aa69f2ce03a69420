//! Chooses how each layer of a release comes to this host: it is here, a delta rebuilds it, or it is read in full.
//!
//! A delta is a road where all old files that it takes are in the repository, whichever image they came with, and where this
//! host has the memory, the space and the encoders that its head asks for. All that is decided, and every old file hashed,
//! before anything is written.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufReader};
use std::path::PathBuf;
use std::sync::Arc;

use ::ostree::Repo;
use bundle_delta::header::Header;
use bundle_delta::tar_diff;
use bundle_format::delta::{DeltaArtifact, is_delta};
use bundle_format::manifest::Document;
use bundle_format::{Descriptor, Digest, Limits, media_type};

use super::host::content_of;
use crate::Error;
use crate::ostree::{self, Image, ImageFiles, ImageLayer, ObjectFile, Sources};
use crate::verify::{Problem, ProblemKind, VerifiedBundle};

/// Paths that are told of old files that are not here.
const EXAMPLES: usize = 3;

/// What rebuilding may take on this host.
#[derive(Clone, Debug)]
pub struct Means {
    /// Bytes of memory.
    pub memory: u64,
    /// Bytes of temporary files.
    pub scratch: u64,
    /// Where temporary files go.
    pub directory: PathBuf,
    /// What recipes may use.
    pub recipes: bundle_recipes::Limits,
}

/// A way to a layer.
#[derive(Debug)]
pub enum Road {
    /// The repository has the layer; nothing is read.
    Present,
    /// A delta rebuilds it.
    Delta(Box<DeltaRoad>),
    /// It is read in full.
    Full,
}

/// A delta whose old files are here.
#[derive(Debug)]
pub struct DeltaRoad {
    /// The delta.
    pub blob: Descriptor,
    /// Manifest of the image it was made against, where that is told.
    pub base: Option<Digest>,
    /// Bytes of memory that rebuilding takes.
    pub memory: u64,
    /// Bytes of temporary files that rebuilding takes.
    pub scratch: u64,
    /// Bytes of the layer's tar stream; none where the delta does not say.
    pub target_size: Option<u64>,
    /// Position among the deltas of its artifact.
    pub(super) position: usize,
    /// Layers of the image whose files it takes.
    pub(super) layers: Vec<usize>,
    /// Where its old files are.
    pub(super) old: OldFiles,
}

/// The old files of a delta.
#[derive(Clone, Debug)]
pub(super) enum OldFiles {
    /// Objects, in the order of the head; those of other layers of the same image are looked for later.
    Objects(Vec<Option<ObjectFile>>),
    /// Files of one image by path, for a tar-diff.
    Image(Arc<ImageFiles>),
}

/// Why a delta is no road on this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Digest of the delta.
    pub blob: Digest,
    /// Manifest of the image it was made against, where that is told.
    pub base: Option<Digest>,
    /// Why, in words.
    pub reason: String,
}

/// The roads to one layer.
#[derive(Debug)]
pub struct LayerPlan {
    /// The layer.
    pub layer: ImageLayer,
    /// What leads to it, the cheapest first; empty where nothing does.
    pub roads: Vec<Road>,
    /// Deltas that are no roads here.
    pub refused: Vec<Refusal>,
}

/// The roads to all layers of an image.
#[derive(Debug)]
pub struct Plan {
    /// In the order of the image.
    pub layers: Vec<LayerPlan>,
    /// Names of objects in the repository whose content is damaged.
    pub damaged: Vec<String>,
}

impl Road {
    /// Returns the bytes that are read from the medium.
    pub fn bytes(&self, layer: &ImageLayer) -> u64 {
        match self {
            Self::Present => 0,
            Self::Delta(delta) => delta.blob.size,
            Self::Full => layer.size,
        }
    }

    /// Returns the road's name in reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Present => "present",
            Self::Delta(_) => "delta",
            Self::Full => "full",
        }
    }
}

impl LayerPlan {
    /// Returns the road that is taken.
    pub fn road(&self) -> Option<&Road> {
        self.roads.first()
    }
}

impl Plan {
    /// Returns the bytes of layers and deltas that are read from the medium.
    pub fn bytes(&self) -> u64 {
        let bytes = |plan: &LayerPlan| plan.road().map_or(0, |road| road.bytes(&plan.layer));
        self.layers.iter().map(bytes).fold(0, u64::saturating_add)
    }

    /// Fails where there is a layer without a road.
    ///
    /// # Errors
    /// Returns [`Error::MissingBase`] for the first such layer.
    pub fn check(&self) -> Result<(), Error> {
        let Some(plan) = self.layers.iter().find(|plan| plan.roads.is_empty()) else {
            return Ok(());
        };
        let reasons = plan.refused.iter();
        let bases = plan.refused.iter().filter_map(|refusal| refusal.base);
        Err(Error::MissingBase {
            layer: plan.layer.digest,
            reasons: reasons.map(|refusal| refusal.reason.clone()).collect(),
            bases: bases.collect(),
        })
    }
}

/// Plans the roads to the layers of `image` on the host that has `repo`.
///
/// # Errors
/// Fails where the bundle or the repository cannot be read; that there is no road is no failure here.
pub fn plan(
    bundle: &VerifiedBundle,
    image: &Image,
    repo: &Repo,
    means: &Means,
) -> Result<Plan, Error> {
    let present = ostree::layers_present(repo, image)?;
    let mut candidates = candidates(bundle, image)?;
    let mut planner = Planner {
        bundle,
        repo,
        means,
        sources: Sources::of(repo)?,
        layers: image.layers.len(),
    };
    let mut layers = Vec::new();
    for layer in &image.layers {
        let mut plan = LayerPlan {
            layer: layer.clone(),
            roads: Vec::new(),
            refused: Vec::new(),
        };
        if present.contains(&layer.digest) {
            plan.roads.push(Road::Present);
        } else {
            let offered = candidates.remove(&layer.digest).unwrap_or_default();
            for base in offered.reused {
                plan.refused.push(Refusal {
                    blob: layer.digest,
                    base: Some(base),
                    reason: format!("it is a layer of image {base}, which is not here"),
                });
            }
            planner.choose(offered.deltas, &mut plan)?;
        }
        layers.push(plan);
    }
    drop_circles(image, &mut layers);
    let damaged = planner.sources.damaged().collect();
    Ok(Plan { layers, damaged })
}

/// What artifacts say of a layer.
#[derive(Default)]
struct Offered {
    /// Deltas for it, the smallest first.
    deltas: Vec<Candidate>,
    /// Images that have it as well.
    reused: Vec<Digest>,
}

/// A delta for a layer.
struct Candidate {
    blob: Descriptor,
    base: Option<Digest>,
    position: usize,
}

/// Finds what the artifacts of the bundle say of each layer.
fn candidates(bundle: &VerifiedBundle, image: &Image) -> Result<BTreeMap<Digest, Offered>, Error> {
    let mut found: BTreeMap<Digest, Offered> = BTreeMap::new();
    let index = bundle.release().index.iter();
    for entry in index.filter(|entry| is_delta(entry.artifact_type.as_deref())) {
        let refuse = |detail: &dyn std::fmt::Display| {
            let path = entry.digest.blob_path();
            let problem = Problem::new(ProblemKind::Inconsistent, &path, detail.to_string());
            Error::Content {
                problem: Box::new(problem),
            }
        };
        let bytes = bundle.small_blob(&entry.digest);
        let bytes = bytes.map_err(|problem| Error::Content {
            problem: Box::new(problem),
        })?;
        let document = Document::parse(&bytes, &entry.media_type, &Limits::DEFAULT)
            .map_err(|error| refuse(&error))?;
        let Document::Manifest(manifest) = document else {
            return Err(refuse(&"an index as a delta"));
        };
        // Those for other platforms are not looked into.
        let subject = manifest.subject.as_ref().map(|subject| subject.digest);
        if subject != Some(image.manifest_digest) {
            continue;
        }
        let artifact = DeltaArtifact::of(&manifest).map_err(|error| refuse(&error))?;
        for reused in &artifact.reused {
            let offered = found.entry(reused.digest).or_default();
            offered.reused.extend(artifact.source);
        }
        for (position, layer) in artifact.layers.into_iter().enumerate() {
            // Where a delta is no smaller the artifact names the layer itself.
            if layer.blob.digest != layer.to {
                found.entry(layer.to).or_default().deltas.push(Candidate {
                    blob: layer.blob,
                    base: artifact.source,
                    position,
                });
            }
        }
    }
    for offered in found.values_mut() {
        let size = |candidate: &Candidate| (candidate.blob.size, candidate.blob.digest);
        offered.deltas.sort_by_key(size);
    }
    Ok(found)
}

struct Planner<'a> {
    bundle: &'a VerifiedBundle,
    repo: &'a Repo,
    means: &'a Means,
    sources: Sources,
    layers: usize,
}

impl Planner<'_> {
    /// Fills `plan` with the smallest delta that can be used here, and the full layer, the cheaper first.
    fn choose(&mut self, candidates: Vec<Candidate>, plan: &mut LayerPlan) -> Result<(), Error> {
        for candidate in candidates {
            let (blob, base) = (candidate.blob.digest, candidate.base);
            match self.road(candidate, &plan.layer)? {
                Ok(road) => {
                    plan.roads.push(Road::Delta(Box::new(road)));
                    break;
                }
                Err(reason) => plan.refused.push(Refusal { blob, base, reason }),
            }
        }
        if self.bundle.has(&plan.layer.digest) {
            plan.roads.push(Road::Full);
        }
        let LayerPlan { roads, layer, .. } = plan;
        roads.sort_by_key(|road| road.bytes(layer));
        Ok(())
    }

    /// Says whether a delta can be used; the reason where it cannot.
    fn road(
        &mut self,
        candidate: Candidate,
        layer: &ImageLayer,
    ) -> Result<Result<DeltaRoad, String>, Error> {
        if candidate.blob.media_type == media_type::TAR_DIFF {
            return self.tar_diff(candidate);
        }
        if candidate.blob.media_type != media_type::LAYER_DELTA {
            let kind = crate::text::printable(&candidate.blob.media_type);
            return Ok(Err(format!("its format {kind:?} is not known")));
        }
        let header = match self.head(&candidate.blob) {
            Ok(header) => header,
            Err(error) => return Ok(Err(format!("its head cannot be read: {error}"))),
        };
        if let Some(reason) = self.unfit(&header, layer) {
            return Ok(Err(reason));
        }
        let wanted: Vec<_> = header.sources.iter().map(content_of).collect();
        let mut layers: Vec<usize> = Vec::new();
        let mut here = Vec::new();
        for (number, source) in header.sources.iter().enumerate() {
            match source.layer {
                None => here.push(number),
                Some(layer) => layers.push(layer as usize),
            }
        }
        layers.sort_unstable();
        layers.dedup();
        if layers.last().is_some_and(|last| *last >= self.layers) {
            return Ok(Err("it takes files of a layer that is not there".into()));
        }
        let asked: Vec<_> = here
            .iter()
            .filter_map(|number| wanted.get(*number).cloned())
            .collect();
        let found = self.sources.find(self.repo, &asked)?;
        let by_number: HashMap<usize, ObjectFile> = here
            .iter()
            .zip(&found)
            .filter_map(|(number, found)| found.map(|found| (*number, found)))
            .collect();
        if by_number.len() < here.len() {
            let missing = here.iter().filter(|number| !by_number.contains_key(number));
            let paths = missing.filter_map(|number| Some(&header.sources.get(*number)?.path));
            let paths: Vec<_> = paths
                .take(EXAMPLES)
                .map(|path| crate::text::printable(path))
                .collect();
            let (missing, all) = (here.len() - by_number.len(), here.len());
            let reason = format!(
                "{missing} of {all} old files are not here, such as {}",
                paths.join(", ")
            );
            return Ok(Err(reason));
        }
        let numbers = 0..header.sources.len();
        let sources = numbers.map(|number| by_number.get(&number).copied());
        let sources = sources.collect();
        Ok(Ok(DeltaRoad {
            blob: candidate.blob,
            base: candidate.base,
            memory: header.memory,
            scratch: header.scratch,
            target_size: Some(header.target_size),
            position: candidate.position,
            layers,
            old: OldFiles::Objects(sources),
        }))
    }

    /// Says whether a tar-diff can be used. It names its old files by path alone, so the very image has to be here.
    fn tar_diff(&mut self, candidate: Candidate) -> Result<Result<DeltaRoad, String>, Error> {
        let Some(base) = candidate.base else {
            return Ok(Err("it does not say which image it is for".into()));
        };
        let Some(files) = ImageFiles::of(self.repo, &base)? else {
            return Ok(Err(format!("it is for hosts that have image {base}")));
        };
        let memory = super::REBUILD_MEMORY + tar_diff::Limits::default().prefix;
        if memory > self.means.memory {
            return Ok(Err(more("memory", memory, self.means.memory)));
        }
        let input = match self.bundle.blob(&candidate.blob.digest) {
            Ok(input) => BufReader::new(input),
            Err(problem) => return Ok(Err(format!("it cannot be read: {problem}"))),
        };
        let paths = match tar_diff::paths(input, &Default::default()) {
            Ok(paths) => paths,
            Err(error) => return Ok(Err(format!("it cannot be read: {error}"))),
        };
        let bad = |path: &&String| files.check(self.repo, path).is_err();
        if let Some(path) = paths.iter().find(bad) {
            let path = crate::text::printable(path);
            return Ok(Err(format!(
                "an old file is not here or is damaged: {path}"
            )));
        }
        Ok(Ok(DeltaRoad {
            blob: candidate.blob,
            base: candidate.base,
            memory,
            scratch: 0,
            target_size: None,
            position: candidate.position,
            layers: Vec::new(),
            old: OldFiles::Image(Arc::new(files)),
        }))
    }

    fn head(&self, blob: &Descriptor) -> Result<Header, String> {
        let input = self.bundle.blob(&blob.digest);
        let input = input.map_err(|problem| problem.to_string())?;
        Header::read(&mut BufReader::new(input), &Default::default())
            .map_err(|error| error.to_string())
    }

    /// Returns why this host cannot carry a delta out.
    fn unfit(&self, header: &Header, layer: &ImageLayer) -> Option<String> {
        if &header.target_hash != layer.diff_id.as_bytes() {
            return Some("it makes another layer".into());
        }
        if header.memory > self.means.memory {
            return Some(more("memory", header.memory, self.means.memory));
        }
        if header.scratch > self.means.scratch {
            return Some(more("temporary files", header.scratch, self.means.scratch));
        }
        let encoders = header.encoders.iter();
        let missing: Vec<_> = encoders
            .filter(|name| !self.means.recipes.has_encoder(name))
            .map(|name| crate::text::printable(name))
            .collect();
        let reason = format!("this host lacks the encoder {}", missing.join(", "));
        (!missing.is_empty()).then_some(reason)
    }
}

/// Says that something takes more than there is.
fn more(what: &str, needed: u64, allowed: u64) -> String {
    let (needed, allowed) = (needed.div_ceil(1 << 20), allowed >> 20);
    format!("it takes {needed} MiB of {what}, {allowed} MiB are free for it")
}

/// Takes roads away that would take files of a layer which is not imported before.
fn drop_circles(image: &Image, layers: &mut [LayerPlan]) {
    // Taking one away may close another's way, so until nothing changes; each turn takes one away at least.
    loop {
        let before = |own: usize, other: usize| match image.is_chunk(own) && image.is_chunk(other) {
            true => rank(layers.get(other)) < rank(layers.get(own)),
            false => other < own,
        };
        let blocked = (0..layers.len()).find(|own| {
            let plan = layers.get(*own);
            let closed = |other: &usize| {
                let reachable = layers
                    .get(*other)
                    .is_some_and(|plan| !plan.roads.is_empty());
                !reachable || !before(*own, *other)
            };
            match plan.and_then(LayerPlan::road) {
                Some(Road::Delta(road)) => road.layers.iter().any(closed),
                _ => false,
            }
        });
        let Some(plan) = blocked.and_then(|number| layers.get_mut(number)) else {
            return;
        };
        if let Road::Delta(road) = plan.roads.remove(0) {
            plan.refused.push(Refusal {
                blob: road.blob.digest,
                base: road.base,
                reason: "it takes files of a layer that comes later".into(),
            });
        }
    }
}

/// Orders chunks: those that need no others come first.
pub(super) fn rank(plan: Option<&LayerPlan>) -> usize {
    match plan.and_then(LayerPlan::road) {
        Some(Road::Delta(road)) if !road.layers.is_empty() => road.position.saturating_add(1),
        _ => 0,
    }
}

/// Returns the memory that is free on this host, in bytes.
///
/// # Errors
/// Fails where the kernel does not say.
pub fn free_memory() -> io::Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo")?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("MemAvailable:"));
    let number = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    let kibibytes = number.ok_or_else(|| io::Error::other("no MemAvailable in /proc/meminfo"))?;
    Ok(kibibytes.saturating_mul(1024))
}
