//! Image manifests and indexes: which blobs belong together (SPEC 3.5).
//!
//! Threats: documents that pose as another kind, descriptors without end. Defences: the kind comes
//! from the descriptor that led here and has to agree with the document; lists are capped.

use alloc::boxed::Box;
use alloc::string::String;
use alloc::vec::Vec;

use serde::Deserialize;

use crate::json::{self, JsonError};
use crate::{Descriptor, Limits, media_type};

/// A manifest or an index, reduced to what it points at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Document {
    /// An image or artifact manifest.
    Manifest(Box<Manifest>),
    /// An image index.
    Index(Index),
}

/// An image or artifact manifest.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Media type, where the document names its own.
    pub media_type: Option<String>,
    /// Type of the artifact, where it is one.
    pub artifact_type: Option<String>,
    /// Configuration.
    pub config: Descriptor,
    /// Layers, lowest first.
    #[serde(default)]
    pub layers: Vec<Descriptor>,
    /// What this artifact refers to; not part of it.
    pub subject: Option<Descriptor>,
    /// Free-form annotations.
    #[serde(default)]
    pub annotations: alloc::collections::BTreeMap<String, String>,
}

/// An image index.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Media type, where the document names its own.
    pub media_type: Option<String>,
    /// Manifests, one a platform; a bundle may carry only some.
    #[serde(default)]
    pub manifests: Vec<Descriptor>,
}

/// Returns true for the media types of manifests and indexes.
pub fn is_document(media_type: &str) -> bool {
    is_index(media_type) || is_manifest(media_type)
}

/// Returns true for the media types of image indexes.
pub fn is_index(media_type: &str) -> bool {
    [media_type::OCI_INDEX, media_type::DOCKER_LIST].contains(&media_type)
}

/// Returns true for the media types of manifests.
pub fn is_manifest(media_type: &str) -> bool {
    [media_type::OCI_MANIFEST, media_type::DOCKER_MANIFEST].contains(&media_type)
}

impl Document {
    /// Parses the document that a descriptor of `media_type` points at.
    ///
    /// # Errors
    /// Fails where it is no such document or exceeds the limits.
    pub fn parse(bytes: &[u8], media_type: &str, limits: &Limits) -> Result<Self, JsonError> {
        let fail = |cause: String| JsonError { cause };
        if bytes.len() as u64 > limits.manifest_bytes {
            return Err(fail(alloc::format!(
                "more than {} bytes",
                limits.manifest_bytes
            )));
        }
        let (document, named, count) = if is_index(media_type) {
            let index: Index = json::parse(bytes, limits)?;
            let (named, count) = (index.media_type.clone(), index.manifests.len());
            (Self::Index(index), named, count)
        } else if is_manifest(media_type) {
            let manifest: Manifest = json::parse(bytes, limits)?;
            let (named, count) = (manifest.media_type.clone(), manifest.layers.len());
            (Self::Manifest(Box::new(manifest)), named, count)
        } else {
            return Err(fail(alloc::format!(
                "{media_type:?} is neither a manifest nor an index"
            )));
        };
        if named.as_deref().is_some_and(|named| named != media_type) {
            return Err(fail(alloc::format!(
                "calls itself {named:?}, not {media_type:?}"
            )));
        }
        if count > limits.descriptors {
            return Err(fail(alloc::format!(
                "more than {} descriptors",
                limits.descriptors
            )));
        }
        Ok(document)
    }

    /// Returns the descriptors of everything that belongs to the document, in reading order.
    pub fn parts(&self) -> impl Iterator<Item = &Descriptor> {
        let (config, list) = match self {
            Self::Manifest(manifest) => (Some(&manifest.config), &manifest.layers),
            Self::Index(index) => (None, &index.manifests),
        };
        config.into_iter().chain(list)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_is_what_its_descriptor_says() {
        let digest = crate::Digest::of(b"");
        let entry = alloc::format!(r#"{{"mediaType":"x","digest":"{digest}","size":0}}"#);
        let manifest =
            alloc::format!(r#"{{"schemaVersion":2,"config":{entry},"layers":[{entry}]}}"#);
        let parse =
            |text: &str, media_type| Document::parse(text.as_bytes(), media_type, &Limits::DEFAULT);
        let good = parse(&manifest, media_type::OCI_MANIFEST).unwrap();
        assert_eq!(good.parts().count(), 2);
        assert!(parse(&manifest, "text/plain").is_err());
        let liar = manifest.replacen('{', r#"{"mediaType":"x","#, 1);
        assert!(parse(&liar, media_type::OCI_MANIFEST).is_err());
        for size in ["-1", "1.5", "18446744073709551616", "\"1\""] {
            let bad = manifest.replace(r#""size":0"#, &alloc::format!(r#""size":{size}"#));
            assert!(parse(&bad, media_type::OCI_MANIFEST).is_err(), "{size}");
        }
    }
}
