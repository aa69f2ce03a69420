//! The files of a bundle that follow from its statement (SPEC 3).
//!
//! Threats: an `index.json` or release manifest that says more, less or other than what was signed.
//! Defence: both are functions of the signed statement and of the envelope's digest. A reader uses
//! the copies on the medium only to find the envelope, then computes what they have to be and
//! compares byte for byte.

use alloc::string::{String, ToString};
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::json::{self, JsonError};
use crate::{BlobEntry, Descriptor, Digest, Limits, Release, media_type};

/// Path of the layout marker.
pub const OCI_LAYOUT_PATH: &str = "oci-layout";
/// Content of the layout marker.
pub const OCI_LAYOUT: &[u8] = br#"{"imageLayoutVersion":"1.0.0"}"#;
/// Path of the index.
pub const INDEX_PATH: &str = "index.json";
/// Directory that holds every blob.
pub const BLOBS_PATH: &str = "blobs/sha256";
/// Content of the empty descriptor, the `config` of artifacts.
pub const EMPTY: &[u8] = b"{}";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Index {
    schema_version: u32,
    media_type: String,
    manifests: Vec<Descriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ReleaseManifest {
    schema_version: u32,
    media_type: String,
    artifact_type: String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    subject: Descriptor,
}

/// Says why no release statement can be found.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FindError {
    /// The document is not what its place asks for.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// `index.json` names no release statement: an OCI layout, but no bundle.
    #[error("no release statement is listed, so this is an OCI layout but not a signed bundle")]
    Unsigned,
    /// `index.json` names several.
    #[error("{found} release statements are listed, exactly one is allowed")]
    Several {
        /// How many.
        found: usize,
    },
    /// The release manifest does not have its two layers.
    #[error("release manifest does not list an envelope and a chunk index")]
    Layers,
}

/// Finds the release manifest's descriptor in the bytes of an unverified `index.json`.
///
/// # Errors
/// Fails where there is not exactly one.
pub fn find_release(index_json: &[u8], limits: &Limits) -> Result<Descriptor, FindError> {
    let index: Index = json::parse(index_json, limits)?;
    let is_release = |d: &Descriptor| d.artifact_type.as_deref() == Some(media_type::RELEASE);
    let mut found: Vec<_> = index.manifests.into_iter().filter(is_release).collect();
    match (found.len(), found.pop()) {
        (1, Some(release)) => Ok(release),
        (0, _) => Err(FindError::Unsigned),
        (found, _) => Err(FindError::Several { found }),
    }
}

/// Finds the envelope's descriptor in the bytes of an unverified release manifest.
///
/// # Errors
/// Fails where the manifest has not the two layers of SPEC 3.4.
pub fn find_envelope(release_manifest: &[u8], limits: &Limits) -> Result<BlobEntry, FindError> {
    let manifest: ReleaseManifest = json::parse(release_manifest, limits)?;
    match manifest.layers.as_slice() {
        [envelope, _] if envelope.media_type == media_type::RELEASE_ENVELOPE => Ok(BlobEntry {
            digest: envelope.digest,
            size: envelope.size,
        }),
        _ => Err(FindError::Layers),
    }
}

/// Computes the release manifest of a release whose envelope is `envelope` (SPEC 3.4).
pub fn release_manifest(release: &Release, envelope: BlobEntry) -> Vec<u8> {
    let plain = |media_type: &str, blob: BlobEntry| Descriptor {
        media_type: media_type.to_string(),
        digest: blob.digest,
        size: blob.size,
        artifact_type: None,
        annotations: Default::default(),
        platform: None,
    };
    let empty = BlobEntry {
        digest: Digest::of(EMPTY),
        size: EMPTY.len() as u64,
    };
    let subject = release.image().map(|image| {
        plain(
            &image.media_type,
            BlobEntry {
                digest: image.digest,
                size: image.size,
            },
        )
    });
    crate::to_json(&ReleaseManifest {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_string(),
        artifact_type: media_type::RELEASE.to_string(),
        config: plain(media_type::OCI_EMPTY, empty),
        layers: [
            plain(media_type::RELEASE_ENVELOPE, envelope),
            plain(media_type::CHUNK_INDEX, release.chunks.index),
        ]
        .into(),
        subject: subject.unwrap_or_else(|| plain(media_type::OCI_EMPTY, empty)),
    })
}

/// Computes `index.json` of a release (SPEC 3.3).
pub fn index_json(release: &Release, release_manifest: &[u8]) -> Vec<u8> {
    let own = Descriptor {
        media_type: media_type::OCI_MANIFEST.to_string(),
        digest: Digest::of(release_manifest),
        size: release_manifest.len() as u64,
        artifact_type: Some(media_type::RELEASE.to_string()),
        annotations: Default::default(),
        platform: None,
    };
    let manifests: Vec<_> = release.index.iter().cloned().chain([own]).collect();
    image_index(&manifests)
}

/// Writes an OCI index of `manifests`.
pub fn image_index(manifests: &[Descriptor]) -> Vec<u8> {
    crate::to_json(&Index {
        schema_version: 2,
        media_type: media_type::OCI_INDEX.to_string(),
        manifests: manifests.to_vec(),
    })
}
