//! Applying: from a verified bundle to an OSTree deployment.
//!
//! Scope: choosing the image for this host out of the release, refusing what is older than what the
//! host has, and handing layers to the engine as streams whose every byte was checked.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;

use ::ostree::Repo;
use bundle_format::manifest::{Document, Manifest};
use bundle_format::{Descriptor, Digest, Limits};
use bundle_recipes::EncoderSet;
use oci_spec::image::ImageConfiguration;

use crate::Error;
use crate::delta::{self, LayerPlan, Means, Plan, PlannedLayers, Road};
use crate::ostree::{
    self, DeployOptions, Deployed, DeploymentStatus, Image, ImageLayer, OstreeError, Status,
};
use crate::platform::{Wanted, describe};
use crate::progress::Progress;
use crate::verify::{Problem, ProblemKind, VerifiedBundle};

/// Commit metadata that says which release a deployment is, beside ostree-ext's own keys.
pub mod metadata {
    /// Registry reference the release came from.
    pub const SOURCE: &str = "bundle.release.source";
    /// Product of the release.
    pub const PRODUCT: &str = "bundle.release.product";
    /// Sequence of the release, in decimal digits.
    pub const SEQUENCE: &str = "bundle.release.sequence";
    /// Key ids of the trusted signers, separated by spaces.
    pub const SIGNERS: &str = "bundle.release.signers";
    /// Digest of the signed statement.
    pub const STATEMENT: &str = "bundle.release.statement";
}

/// What an apply did.
#[derive(Debug)]
pub struct Applied {
    /// The deployment that holds the release.
    pub deployment: DeploymentStatus,
    /// True where it was there already and nothing was changed.
    pub already: bool,
    /// Layers read from the medium.
    pub layers_imported: usize,
    /// Layers the repository had, which were not read.
    pub layers_reused: usize,
    /// Which road each layer came by.
    pub plan: Plan,
    /// What went wrong on the way, and did no harm.
    pub warnings: Vec<String>,
}

/// What applying may take, and how the result is deployed.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// How it is deployed.
    pub deploy: DeployOptions,
    /// Bytes of memory that rebuilding layers may take; `None` is what is free.
    pub memory: Option<u64>,
    /// Directory with encoders for recipes; `None` is [`delta::ENCODERS`].
    pub encoders: Option<PathBuf>,
}

/// Bytes of memory that importing takes, beside rebuilding.
const ENGINE: u64 = 128 << 20;

/// Says how the release would come to `sysroot`; `None` is the running system. Nothing is changed.
///
/// # Errors
/// Fails where the release has no image for this platform, or bundle or sysroot cannot be read.
pub fn plan(
    bundle: &VerifiedBundle,
    sysroot: Option<&Path>,
    options: &Options,
) -> Result<Plan, Error> {
    let image = image_for_host(bundle)?;
    let repo = ostree::open(sysroot)?.repo();
    delta::plan(bundle, &image, &repo, &means(&repo, options)?)
}

/// Finds out what rebuilding may take on this host.
fn means(repo: &Repo, options: &Options) -> Result<Means, Error> {
    let free = delta::free_memory().map_err(|e| Error::file("reading", "/proc/meminfo", e))?;
    let free = free.saturating_sub(ENGINE);
    let memory = options.memory.unwrap_or(u64::MAX).min(free);
    // Temporary files go where the layers go: nothing else is known to have the room.
    let directory = PathBuf::from(format!("/proc/self/fd/{}/tmp", repo.dfd()));
    let space = rustix::fs::statvfs(&directory)
        .map_err(|e| Error::file("looking at", &directory, e.into()))?;
    let encoders = options
        .encoders
        .as_deref()
        .unwrap_or(Path::new(delta::ENCODERS));
    let recipes = bundle_recipes::Limits {
        encoders: EncoderSet::in_directory(encoders),
        threads: thread::available_parallelism().map_or(1, |n| n.get().min(8) as u32),
        memory,
        ..bundle_recipes::Limits::default()
    };
    Ok(Means {
        memory,
        scratch: space.f_bavail.saturating_mul(space.f_frsize),
        directory,
        recipes,
    })
}

/// Imports and deploys the release on `sysroot`; `None` is the running system.
///
/// Content is verified as it is read, whatever was verified before. After a failure the deployments
/// are what they were; layers that were complete stay for the next run.
///
/// # Errors
/// Fails where another updater holds the lock, the release is older than what would be replaced,
/// the medium fails or differs from what was signed, or there is no space.
pub fn apply(
    bundle: &VerifiedBundle,
    sysroot: Option<&Path>,
    options: &Options,
    progress: &dyn Progress,
) -> Result<Applied, Error> {
    let mut image = image_for_host(bundle)?;
    let lock = ostree::lock(sysroot)?;
    if let Some(followed) = ostree::followed(&lock, &options.deploy)? {
        image.imgref = followed;
    }
    let current = current(
        &ostree::status(lock.sysroot()),
        options.deploy.stateroot.as_deref(),
    );
    check_sequence(bundle, current.as_ref())?;
    let repo = lock.repo();
    let means = means(&repo, options)?;
    progress.stage("planning", 0);
    let plan = delta::plan(bundle, &image, &repo, &means)?;
    plan.check()?;
    ostree::remove_damaged(&repo, &plan.damaged)?;
    let steps = Steps::new(&plan, progress);
    progress.stage("importing", steps.total);
    let interrupted = || progress.interrupted();
    let layers = PlannedLayers::new(bundle, &repo, &means, plan);
    let imported = ostree::import(&repo, &image, &layers, &steps, &interrupted)
        .map_err(found_by_verification)?;
    let (plan, warnings) = layers.finish();
    let deployed = ostree::deploy(&lock, &image.imgref, &imported.commit, &options.deploy)?;
    let (deployment, already) = match deployed {
        Deployed::AlreadyDeployed(deployment) => (deployment, true),
        Deployed::Deployed(deployment) => (deployment, false),
    };
    Ok(Applied {
        deployment,
        already,
        layers_imported: imported.layers_imported,
        layers_reused: imported.layers_reused,
        plan,
        warnings,
    })
}

/// Returns the deployment that the release follows: the booted one, else the first in boot order.
///
/// One that is staged or only boots next has not proved itself; a release may replace it.
fn current(status: &Status, stateroot: Option<&str>) -> Option<DeploymentStatus> {
    let by_rank = [&status.booted, &status.pending, &status.rollback]
        .into_iter()
        .flatten();
    by_rank
        .chain(&status.other)
        .find(|deployment| stateroot.is_none_or(|name| deployment.stateroot == name))
        .cloned()
}

/// Refuses a release that is older than the deployment it would follow, and another one that
/// claims the same place in the order.
fn check_sequence(
    bundle: &VerifiedBundle,
    current: Option<&DeploymentStatus>,
) -> Result<(), Error> {
    let release = bundle.release();
    let held = |key: &str| current.and_then(|deployment| deployment.metadata.get(key));
    if held(metadata::PRODUCT) != Some(&release.product) {
        return Ok(());
    }
    let Some(sequence) = held(metadata::SEQUENCE).and_then(|text| text.parse::<u64>().ok()) else {
        return Ok(());
    };
    let same_release = held(metadata::STATEMENT) == Some(&bundle.statement().to_string());
    if release.sequence > sequence || (release.sequence == sequence && same_release) {
        return Ok(());
    }
    Err(Error::Downgrade {
        product: release.product.clone(),
        offered: release.sequence,
        held: sequence,
    })
}

/// Brings a finding of the verified reader back out of the engine's error.
fn found_by_verification(error: OstreeError) -> Error {
    match error {
        OstreeError::Source { layer, source } => {
            let is_problem = source.get_ref().is_some_and(|inner| inner.is::<Problem>());
            if is_problem {
                content(crate::verify::into_problem(source, &layer.blob_path()))
            } else {
                Error::Ostree(OstreeError::Source { layer, source })
            }
        }
        OstreeError::Cancelled => Error::Interrupted,
        other => Error::Ostree(other),
    }
}

/// Adds up the engine's steps to one progress over all layers.
struct Steps<'a> {
    progress: &'a dyn Progress,
    /// Bytes of each layer: stored ones, or those of the tar stream where it is rebuilt.
    sizes: BTreeMap<Digest, u64>,
    total: u64,
    in_layer: Cell<u64>,
}

impl<'a> Steps<'a> {
    fn new(plan: &Plan, progress: &'a dyn Progress) -> Self {
        let size = |plan: &LayerPlan| match plan.road() {
            Some(Road::Delta(road)) => road.target_size.unwrap_or(plan.layer.size),
            _ => plan.layer.size,
        };
        let layers = plan.layers.iter();
        let sizes: BTreeMap<_, _> = layers.map(|plan| (plan.layer.digest, size(plan))).collect();
        Self {
            progress,
            total: sizes
                .values()
                .fold(0, |sum, size| sum.saturating_add(*size)),
            sizes,
            in_layer: Cell::new(0),
        }
    }
}

impl ostree::Progress for Steps<'_> {
    fn layer_started(&self, _: &ImageLayer, _: usize, _: usize) {
        self.in_layer.set(0);
    }

    fn layer_bytes(&self, _: &ImageLayer, read: u64) {
        let before = self.in_layer.replace(read);
        self.progress.advance(read.saturating_sub(before));
    }

    fn layer_finished(&self, layer: &ImageLayer, _: bool) {
        let size = self.sizes.get(&layer.digest).copied().unwrap_or(0);
        let before = self.in_layer.replace(size);
        self.progress.advance(size.saturating_sub(before));
    }
}

/// What the annotations of zstd:chunked layers begin with.
const ZSTD_CHUNKED: &str = "io.github.containers.zstd-chunked.";
const CREATED: &str = "org.opencontainers.image.created";

/// Describes the image of `bundle` that this host runs, for the engine.
///
/// # Errors
/// Fails where the release has no image for this platform, or its documents contradict each other.
pub fn image_for_host(bundle: &VerifiedBundle) -> Result<Image, Error> {
    let release = bundle.release();
    let (descriptor, manifest, text) = manifest_for_host(bundle)?;
    let config_text = read_text(bundle, &manifest.config)?;
    let config: ImageConfiguration = parse(&manifest.config, &config_text)?;
    let wanted = Wanted::host();
    if config.architecture().to_string() != wanted.architecture {
        let found = format!("{}/{}", config.os(), config.architecture());
        let available = vec![crate::text::printable(&found)];
        return Err(Error::WrongPlatform {
            wanted: wanted.to_string(),
            available,
        });
    }
    let created = manifest
        .annotations
        .get(CREATED)
        .or(config.created().as_ref());
    Ok(Image {
        imgref: release.source.clone(),
        manifest_digest: descriptor.digest,
        manifest: text,
        layers: layers(&manifest, &config)?,
        version: Some(release.version.clone()),
        created: created.and_then(|text| seconds(text)),
        metadata: release_metadata(bundle),
        config: config_text,
    })
}

fn release_metadata(bundle: &VerifiedBundle) -> BTreeMap<String, String> {
    let signers: Vec<_> = bundle.signers().iter().map(Digest::to_hex).collect();
    BTreeMap::from([
        (metadata::SOURCE.into(), bundle.release().source.clone()),
        (metadata::PRODUCT.into(), bundle.release().product.clone()),
        (
            metadata::SEQUENCE.into(),
            bundle.release().sequence.to_string(),
        ),
        (metadata::SIGNERS.into(), signers.join(" ")),
        (metadata::STATEMENT.into(), bundle.statement().to_string()),
    ])
}

/// Follows indexes to the manifest for this platform; two levels are enough for anything real.
fn manifest_for_host(bundle: &VerifiedBundle) -> Result<(Descriptor, Manifest, String), Error> {
    let wanted = Wanted::host();
    let mut descriptor = bundle
        .release()
        .image()
        .cloned()
        .ok_or_else(|| empty(bundle))?;
    for _ in 0..2 {
        let text = read_text(bundle, &descriptor)?;
        let document = Document::parse(text.as_bytes(), &descriptor.media_type, &Limits::DEFAULT)
            .map_err(|e| inconsistent(&descriptor, &e))?;
        match document {
            Document::Manifest(manifest) => return Ok((descriptor, *manifest, text)),
            Document::Index(index) => {
                let carried = |d: &&Descriptor| bundle.has(&d.digest);
                let manifests: Vec<_> = index.manifests.iter().filter(carried).cloned().collect();
                let available = || {
                    manifests
                        .iter()
                        .filter_map(|m| m.platform.as_ref().map(describe))
                        .collect()
                };
                let found = wanted
                    .among(&manifests)
                    .ok_or_else(|| Error::WrongPlatform {
                        wanted: wanted.to_string(),
                        available: available(),
                    })?;
                descriptor = found.clone();
            }
        }
    }
    Err(inconsistent(&descriptor, &"an index of indexes of indexes"))
}

fn layers(manifest: &Manifest, config: &ImageConfiguration) -> Result<Vec<ImageLayer>, Error> {
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != manifest.layers.len() {
        let (layers, ids) = (manifest.layers.len(), diff_ids.len());
        let detail = format!("lists {ids} diff_ids for {layers} layers");
        return Err(inconsistent(&manifest.config, &detail));
    }
    let layer = |(descriptor, diff_id): (&Descriptor, &String)| {
        let diff_id = diff_id
            .parse()
            .map_err(|e| inconsistent(&manifest.config, &e))?;
        Ok(ImageLayer {
            digest: descriptor.digest,
            diff_id,
            media_type: descriptor.media_type.clone(),
            size: descriptor.size,
            zstd_chunked: descriptor
                .annotations
                .keys()
                .any(|key| key.starts_with(ZSTD_CHUNKED)),
        })
    };
    manifest.layers.iter().zip(diff_ids).map(layer).collect()
}

fn read_text(bundle: &VerifiedBundle, descriptor: &Descriptor) -> Result<String, Error> {
    let bytes = bundle.small_blob(&descriptor.digest).map_err(content)?;
    String::from_utf8(bytes).map_err(|e| inconsistent(descriptor, &e))
}

fn parse(descriptor: &Descriptor, text: &str) -> Result<ImageConfiguration, Error> {
    bundle_format::json::parse(text.as_bytes(), &Limits::DEFAULT)
        .map_err(|e| inconsistent(descriptor, &e))
}

fn seconds(time: &str) -> Option<u64> {
    let time: jiff::Timestamp = time.parse().ok()?;
    u64::try_from(time.as_second()).ok()
}

fn content(problem: Problem) -> Error {
    Error::Content {
        problem: Box::new(problem),
    }
}

fn inconsistent(descriptor: &Descriptor, detail: &dyn std::fmt::Display) -> Error {
    let path = descriptor.digest.blob_path();
    content(Problem::new(
        ProblemKind::Inconsistent,
        &path,
        detail.to_string(),
    ))
}

fn empty(bundle: &VerifiedBundle) -> Error {
    let path = bundle.statement().to_string();
    content(Problem::new(
        ProblemKind::Inconsistent,
        &path,
        "lists no image",
    ))
}
