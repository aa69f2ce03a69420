//! The trust roots that travel in a bundle: which blobs they are (SPEC 8.5).
//!
//! Scope: finding and writing the artifact that lists them. Who signed them is not known here.
//!
//! Threats: the list is read before any signature was checked, to find the keys that check it.
//! Defences: it names blobs by digest and nothing else; their number and their sizes are capped
//! before one is read. Later the statement has to list the artifact, or `index.json` does not match.

use alloc::string::ToString;
use alloc::vec::Vec;

use serde::{Deserialize, Serialize};

use crate::json::{self, JsonError};
use crate::{BlobEntry, Descriptor, Digest, Limits, layout, media_type};

#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Wire {
    schema_version: u32,
    media_type: alloc::string::String,
    artifact_type: alloc::string::String,
    config: Descriptor,
    layers: Vec<Descriptor>,
    subject: Descriptor,
}

/// Finds the chain's manifest in the bytes of an unverified `index.json`; most bundles have none.
///
/// # Errors
/// Fails where there are several.
pub fn find(index_json: &[u8], limits: &Limits) -> Result<Option<BlobEntry>, JsonError> {
    let index: Index = json::parse(index_json, limits)?;
    let is_chain = |d: &Descriptor| d.artifact_type.as_deref() == Some(media_type::TRUST_CHAIN);
    let mut found = index.manifests.iter().filter(|d| is_chain(d));
    match (found.next(), found.next()) {
        (Some(_), Some(_)) => Err(fail("more than one trust chain is listed")),
        (chain, _) => Ok(chain.map(|chain| BlobEntry {
            digest: chain.digest,
            size: chain.size,
        })),
    }
}

/// Reads the blobs of the trust roots, oldest first, out of the chain's manifest.
///
/// # Errors
/// Fails where it is another document, and above the caps for their number and their sizes.
pub fn roots(manifest: &[u8], limits: &Limits) -> Result<Vec<BlobEntry>, JsonError> {
    let wire: Wire = json::parse(manifest, limits)?;
    if wire.artifact_type != media_type::TRUST_CHAIN {
        return Err(fail("not a trust chain"));
    }
    if wire.layers.is_empty() || wire.layers.len() > limits.trust_chain_roots {
        return Err(fail(&alloc::format!(
            "lists {} trust roots, 1 to {} are read",
            wire.layers.len(),
            limits.trust_chain_roots
        )));
    }
    if wire
        .layers
        .iter()
        .any(|d| d.media_type != media_type::TRUST_ROOT)
    {
        return Err(fail("lists something that is no trust root"));
    }
    let sizes = wire.layers.iter().map(|layer| layer.size);
    let total = sizes.fold(0, u64::saturating_add);
    if total > limits.trust_chain_bytes {
        return Err(fail(&alloc::format!(
            "lists {total} bytes of trust roots, at most {} are read",
            limits.trust_chain_bytes
        )));
    }
    let entry = |layer: &Descriptor| BlobEntry {
        digest: layer.digest,
        size: layer.size,
    };
    Ok(wire.layers.iter().map(entry).collect())
}

/// Writes the manifest that lists `roots`, oldest first, beside the image of a release.
///
/// Returns the descriptor for the statement's `index`, and the manifest. The manifest, the roots and
/// the empty blob belong into the statement's `blobs`. Equal inputs give equal bytes.
pub fn manifest(image: &Descriptor, roots: &[BlobEntry]) -> (Descriptor, Vec<u8>) {
    let plain = |media_type: &str, blob: BlobEntry| Descriptor {
        media_type: media_type.to_string(),
        digest: blob.digest,
        size: blob.size,
        artifact_type: None,
        annotations: Default::default(),
        platform: None,
    };
    let of = |bytes: &[u8]| BlobEntry {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    };
    let subject = BlobEntry {
        digest: image.digest,
        size: image.size,
    };
    let bytes = crate::to_json(&Wire {
        schema_version: 2,
        media_type: media_type::OCI_MANIFEST.to_string(),
        artifact_type: media_type::TRUST_CHAIN.to_string(),
        config: plain(media_type::OCI_EMPTY, of(layout::EMPTY)),
        layers: roots
            .iter()
            .map(|root| plain(media_type::TRUST_ROOT, *root))
            .collect(),
        subject: plain(&image.media_type, subject),
    });
    let descriptor = Descriptor {
        artifact_type: Some(media_type::TRUST_CHAIN.to_string()),
        ..plain(media_type::OCI_MANIFEST, of(&bytes))
    };
    (descriptor, bytes)
}

fn fail(cause: &str) -> JsonError {
    JsonError {
        cause: cause.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(size: u64) -> BlobEntry {
        BlobEntry {
            digest: Digest::of(&size.to_le_bytes()),
            size,
        }
    }

    fn image() -> Descriptor {
        Descriptor {
            media_type: media_type::OCI_MANIFEST.into(),
            digest: Digest::of(b"image"),
            size: 5,
            artifact_type: None,
            annotations: Default::default(),
            platform: None,
        }
    }

    fn index(manifests: &[Descriptor]) -> Vec<u8> {
        let list = alloc::string::String::from_utf8(crate::to_json(&manifests.to_vec())).unwrap();
        alloc::format!(r#"{{"schemaVersion":2,"manifests":{list}}}"#).into_bytes()
    }

    #[test]
    fn a_chain_is_found_again() {
        let blobs = [blob(1), blob(2)];
        let (descriptor, bytes) = manifest(&image(), &blobs);
        assert_eq!(descriptor.digest, Digest::of(&bytes));
        let limits = &Limits::DEFAULT;
        let found = find(&index(&[image(), descriptor.clone()]), limits).unwrap();
        assert_eq!(found.map(|blob| blob.digest), Some(descriptor.digest));
        assert_eq!(roots(&bytes, limits).unwrap(), blobs);
        assert_eq!(find(&index(&[image()]), limits), Ok(None));
        assert!(find(&index(&[descriptor.clone(), descriptor]), limits).is_err());
    }

    #[test]
    fn caps_hold() {
        let check = |blobs: &[BlobEntry]| roots(&manifest(&image(), blobs).1, &Limits::DEFAULT);
        assert_eq!(check(&[blob(1); 256]).unwrap().len(), 256);
        assert!(check(&[]).is_err());
        assert!(check(&[blob(1); 257]).is_err());
        assert!(check(&[blob(1); 1000]).is_err());
        assert!(check(&[blob(16 << 20)]).is_ok());
        assert!(check(&[blob((16 << 20) + 1)]).is_err());
        assert!(check(&[blob(u64::MAX), blob(1)]).is_err());
    }

    #[test]
    fn other_documents_are_refused() {
        let good = alloc::string::String::from_utf8(manifest(&image(), &[blob(1)]).1).unwrap();
        for (from, to) in [
            (media_type::TRUST_CHAIN, media_type::RELEASE),
            (media_type::TRUST_ROOT, media_type::LAYER_TAR),
            (r#""layers""#, r#""strata""#),
        ] {
            assert!(good.contains(from));
            let bad = good.replace(from, to);
            assert!(roots(bad.as_bytes(), &Limits::DEFAULT).is_err(), "{from}");
        }
    }
}
