//! Delta artifacts: what rebuilds which layers of an image out of another image (SPEC 10.1).
//!
//! Scope: the artifact's manifest, in the shape of containers/oci-delta, whose `subject` is the target
//! image. How a layer delta itself is coded is not known here.
//!
//! Threats: an artifact that names layers of another image, or one layer twice. Defences: what the
//! annotations say has to agree with the subject, once and in full; what is made of it is checked by the
//! target's own `diff_id` wherever it is applied.

use alloc::collections::{BTreeMap, BTreeSet};
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::Serialize;

use crate::json::JsonError;
use crate::manifest::Manifest;
use crate::{Descriptor, Digest, Limits, media_type};

/// Annotation of the artifact: digest of the target's manifest.
const TARGET: &str = "io.github.containers.delta.target";
/// Annotation of the artifact: digest of the base's manifest.
const SOURCE: &str = "io.github.containers.delta.source";
/// Annotation of the artifact: digest of the base's configuration.
const SOURCE_CONFIG: &str = "io.github.containers.delta.source-config";
/// Annotation of the artifact: JSON array of the target's layers that the base has as well.
const REUSED: &str = "io.github.containers.delta.reused";
/// Annotation of the artifact: their `diff_id`s, in the same order.
const REUSED_DIFF_ID: &str = "io.github.containers.delta.reused-diff-id";
/// Annotation of a layer: what it is.
const CONTENT: &str = "io.github.containers.delta.content";
/// Annotation of a layer: digest of the target's layer that it makes.
const TO: &str = "io.github.containers.delta.to";

const IMAGE_MANIFEST: &str = "image-manifest";
const IMAGE_CONFIG: &str = "image-config";
const IMAGE_LAYER: &str = "image-layer";

/// A delta from one base image to one target image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeltaArtifact {
    /// Manifest of the target image.
    pub target: Descriptor,
    /// Configuration of the target image.
    pub config: Descriptor,
    /// Digest of the base's manifest, where it is told.
    pub source: Option<Digest>,
    /// Digest of the base's configuration.
    pub source_config: Digest,
    /// What makes the layers that the base does not have, in the order in which they are rebuilt: one may
    /// take files of those before it.
    pub layers: Vec<LayerDelta>,
    /// Layers of the target that the base has as well.
    pub reused: Vec<ReusedLayer>,
}

/// What makes one layer of the target.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LayerDelta {
    /// Digest of the target's layer.
    pub to: Digest,
    /// The blob: a layer delta, a tar-diff, or the layer itself.
    pub blob: Descriptor,
}

/// A layer of the target that the base has as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ReusedLayer {
    /// Digest of the target's layer.
    pub digest: Digest,
    /// Digest of its tar stream.
    pub diff_id: Digest,
}

/// Returns true for descriptors and manifests of delta artifacts.
pub fn is_delta(artifact_type: Option<&str>) -> bool {
    artifact_type == Some(media_type::OCI_DELTA)
}

impl DeltaArtifact {
    /// Reads a delta artifact out of its manifest.
    ///
    /// # Errors
    /// Fails on every breach of SPEC 10.1; the digests it names are not followed here.
    pub fn of(manifest: &Manifest) -> Result<Self, JsonError> {
        let fail = |cause: &str| JsonError {
            cause: cause.to_string(),
        };
        if !is_delta(manifest.artifact_type.as_deref()) {
            return Err(fail("not a delta artifact"));
        }
        let subject = manifest.subject.as_ref();
        let subject = subject.ok_or_else(|| fail("a delta without a subject"))?;
        let annotation = |name: &str| manifest.annotations.get(name).map(|text| digest(text));
        if annotation(TARGET)
            .transpose()?
            .is_some_and(|target| target != subject.digest)
        {
            return Err(fail("the target is not the subject"));
        }
        let source_config = annotation(SOURCE_CONFIG).transpose()?;
        let mut artifact = Self {
            target: plain(subject),
            config: plain(subject),
            source: annotation(SOURCE).transpose()?,
            source_config: source_config.ok_or_else(|| fail("a delta without a base"))?,
            layers: Vec::new(),
            reused: reused(manifest)?,
        };
        let (mut manifests, mut configs) = (0, 0);
        let mut made = BTreeSet::new();
        for layer in &manifest.layers {
            match layer.annotations.get(CONTENT).map(String::as_str) {
                Some(IMAGE_MANIFEST) if layer.digest == subject.digest => manifests += 1,
                Some(IMAGE_MANIFEST) => return Err(fail("a manifest that is not the subject")),
                Some(IMAGE_CONFIG) => {
                    artifact.config = plain(layer);
                    configs += 1;
                }
                Some(IMAGE_LAYER) => {
                    let to = layer.annotations.get(TO).map(|text| digest(text));
                    let to = to.unwrap_or(Ok(layer.digest))?;
                    if !made.insert(to) {
                        return Err(fail("two deltas for one layer"));
                    }
                    let blob = plain(layer);
                    artifact.layers.push(LayerDelta { to, blob });
                }
                // Signatures of the target, and what later versions add: not needed to rebuild it.
                _ => {}
            }
        }
        if (manifests, configs) != (1, 1) {
            return Err(fail("not one manifest and one configuration"));
        }
        Ok(artifact)
    }

    /// Writes the artifact's manifest; equal artifacts give equal bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let annotated = |blob: &Descriptor, content: &str, to: Option<Digest>| {
            let mut blob = plain(blob);
            blob.annotations.insert(CONTENT.into(), content.into());
            if let Some(to) = to {
                blob.annotations.insert(TO.into(), to.to_string());
            }
            blob
        };
        let own = [
            annotated(&self.target, IMAGE_MANIFEST, None),
            annotated(&self.config, IMAGE_CONFIG, None),
        ];
        let layers = self.layers.iter();
        let layers = layers.map(|layer| annotated(&layer.blob, IMAGE_LAYER, Some(layer.to)));
        let list = |of: fn(&ReusedLayer) -> Digest| {
            let digests: Vec<_> = self.reused.iter().map(of).collect();
            String::from_utf8(crate::to_json(&digests)).unwrap_or_default()
        };
        let mut annotations = BTreeMap::from([
            (TARGET.to_string(), self.target.digest.to_string()),
            (SOURCE_CONFIG.to_string(), self.source_config.to_string()),
            (REUSED.to_string(), list(|layer| layer.digest)),
            (REUSED_DIFF_ID.to_string(), list(|layer| layer.diff_id)),
        ]);
        if let Some(source) = self.source {
            annotations.insert(SOURCE.into(), source.to_string());
        }
        let empty = Descriptor {
            media_type: media_type::OCI_EMPTY.into(),
            digest: Digest::of(crate::layout::EMPTY),
            size: crate::layout::EMPTY.len() as u64,
            artifact_type: None,
            annotations: BTreeMap::new(),
            platform: None,
        };
        crate::to_json(&Wire {
            schema_version: 2,
            media_type: media_type::OCI_MANIFEST,
            artifact_type: media_type::OCI_DELTA,
            config: empty,
            layers: own.into_iter().chain(layers).collect(),
            subject: plain(&self.target),
            annotations,
        })
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    media_type: &'static str,
    artifact_type: &'static str,
    config: Descriptor,
    layers: Vec<Descriptor>,
    subject: Descriptor,
    annotations: BTreeMap<String, String>,
}

fn digest(text: &str) -> Result<Digest, JsonError> {
    text.parse().map_err(|_| JsonError {
        cause: alloc::format!("{text:?} is no digest"),
    })
}

/// Returns what points at a blob, without what is told about it.
fn plain(descriptor: &Descriptor) -> Descriptor {
    Descriptor {
        media_type: descriptor.media_type.clone(),
        digest: descriptor.digest,
        size: descriptor.size,
        artifact_type: None,
        annotations: BTreeMap::new(),
        platform: None,
    }
}

fn reused(manifest: &Manifest) -> Result<Vec<ReusedLayer>, JsonError> {
    let list = |name: &str| -> Result<Vec<Digest>, JsonError> {
        let text = manifest.annotations.get(name);
        let text = text.filter(|text| !text.is_empty() && *text != "null");
        text.map_or(Ok(Vec::new()), |text| {
            crate::json::parse(text.as_bytes(), &Limits::DEFAULT)
        })
    };
    let (digests, diff_ids) = (list(REUSED)?, list(REUSED_DIFF_ID)?);
    if digests.len() != diff_ids.len() {
        return Err(JsonError {
            cause: "lists of reused layers with two lengths".into(),
        });
    }
    let pairs = digests.into_iter().zip(diff_ids);
    Ok(pairs
        .map(|(digest, diff_id)| ReusedLayer { digest, diff_id })
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest::Document;

    fn blob(media_type: &str, content: &[u8]) -> Descriptor {
        Descriptor {
            media_type: media_type.into(),
            digest: Digest::of(content),
            size: content.len() as u64,
            artifact_type: None,
            annotations: BTreeMap::new(),
            platform: None,
        }
    }

    fn sample() -> DeltaArtifact {
        let layer = |to: &[u8], delta: &[u8]| LayerDelta {
            to: Digest::of(to),
            blob: blob(media_type::LAYER_DELTA, delta),
        };
        DeltaArtifact {
            target: blob(media_type::OCI_MANIFEST, b"manifest"),
            config: blob(media_type::OCI_CONFIG, b"config"),
            source: Some(Digest::of(b"old manifest")),
            source_config: Digest::of(b"old config"),
            layers: [layer(b"b", b"delta b"), layer(b"a", b"delta a")].into(),
            reused: [ReusedLayer {
                digest: Digest::of(b"c"),
                diff_id: Digest::of(b"tar of c"),
            }]
            .into(),
        }
    }

    fn parse(json: &str) -> Result<DeltaArtifact, JsonError> {
        match Document::parse(json.as_bytes(), media_type::OCI_MANIFEST, &Limits::DEFAULT)? {
            Document::Manifest(manifest) => DeltaArtifact::of(&manifest),
            Document::Index(_) => unreachable!(),
        }
    }

    #[test]
    fn an_artifact_survives_the_round_trip_and_lies_are_refused() {
        let good = String::from_utf8(sample().to_json()).unwrap();
        assert_eq!(parse(&good).unwrap(), sample());
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let other = Digest::of(b"other").to_string();
        for bad in [
            good.replace(media_type::OCI_DELTA, "application/x"),
            good.replace(r#""subject""#, r#""object""#),
            good.replacen(&sample().target.digest.to_string(), &other, 1),
            good.replace(&a.to_string(), &b.to_string()),
            good.replace(IMAGE_CONFIG, "config"),
            good.replace(SOURCE_CONFIG, "config"),
            good.replace(REUSED_DIFF_ID, "x"),
            good.replace(&sample().source_config.to_string(), "sha256:0"),
        ] {
            assert_ne!(bad, good);
            assert!(parse(&bad).is_err(), "{bad}");
        }
    }
}
