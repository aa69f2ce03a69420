//! Applying: from a verified bundle to an OSTree deployment.
//!
//! Scope: choosing the image for this host out of the release, refusing what is older than what the
//! host has, and handing layers to the engine as streams whose every byte was checked.

use std::collections::BTreeMap;
use std::io::{self, Read};

use bundle_format::manifest::{Document, Manifest};
use bundle_format::{Descriptor, Digest, Limits};
use oci_spec::image::ImageConfiguration;

use crate::Error;
use crate::ostree::{Image, ImageLayer, LayerSource};
use crate::platform::{Wanted, describe};
use crate::verify::{Problem, ProblemKind, VerifiedBundle};

/// Commit metadata that says which release a deployment is, beside ostree-ext's own keys.
pub mod metadata {
    /// Product of the release.
    pub const PRODUCT: &str = "bundle.release.product";
    /// Sequence of the release, in decimal digits.
    pub const SEQUENCE: &str = "bundle.release.sequence";
    /// Key ids of the trusted signers, separated by spaces.
    pub const SIGNERS: &str = "bundle.release.signers";
    /// Digest of the signed statement.
    pub const STATEMENT: &str = "bundle.release.statement";
}

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
            Document::Manifest(manifest) => return Ok((descriptor, manifest, text)),
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

/// Gives the engine the layers of a verified bundle.
#[derive(Debug)]
pub struct BundleLayers<'a>(pub &'a VerifiedBundle);

impl LayerSource for BundleLayers<'_> {
    fn open(&self, layer: &ImageLayer) -> io::Result<Box<dyn Read + Send + '_>> {
        Ok(Box::new(
            self.0.blob(&layer.digest).map_err(io::Error::other)?,
        ))
    }
}
