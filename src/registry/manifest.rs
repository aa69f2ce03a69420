//! Pulls manifests and indexes, verified against their digest.
//!
//! Threats: other bytes than the digest's, and documents that are one thing to one reader and
//! another to the next (CVE-2021-41190). Defences: the bytes are hashed before they are parsed,
//! and a `Content-Type` that contradicts the document's own `mediaType` is refused.

use bundle_format::{Descriptor, Digest, media_type};
use serde::Deserialize;

use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::reference::Reference;
use super::retry::Retry;
use super::session::{Ask, Session};

/// Most bytes of a manifest or index: 4 MiB, the limit registries set.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

/// A manifest or index as the registry stores it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The bytes the digest is over: never serialise them anew.
    pub bytes: Vec<u8>,
    /// Media type, agreed on by the registry and the document.
    pub media_type: String,
    /// Digest of `bytes`.
    pub digest: Digest,
}

impl Manifest {
    /// Returns a descriptor of the manifest, without annotations.
    pub fn descriptor(&self) -> Descriptor {
        Descriptor {
            media_type: self.media_type.clone(),
            digest: self.digest,
            size: self.bytes.len() as u64,
            artifact_type: None,
            annotations: std::collections::BTreeMap::new(),
            platform: None,
        }
    }

    /// Tells whether this is an index of manifests.
    pub fn is_index(&self) -> bool {
        matches!(
            self.media_type.as_str(),
            media_type::OCI_INDEX | media_type::DOCKER_LIST
        )
    }
}

/// Pulls the manifest that `reference` names from one endpoint.
pub(super) fn pull(
    session: &Session,
    retry: &Retry,
    endpoint: &Endpoint,
    reference: &Reference,
) -> Result<Manifest, RegistryError> {
    let object = format!("manifest {reference}");
    let path = format!(
        "/v2/{}/manifests/{}",
        endpoint.repository,
        reference.wanted()
    );
    let accept = [
        media_type::OCI_MANIFEST,
        media_type::OCI_INDEX,
        media_type::DOCKER_MANIFEST,
        media_type::DOCKER_LIST,
    ]
    .join(", ");
    retry.run(|| {
        let answer = session.get(Ask {
            repository: &endpoint.repository,
            path: &path,
            accept: &accept,
            start: 0,
            object: &object,
        })?;
        let stated = answer.header("content-type").map(str::to_owned);
        // Another algorithm than SHA-256 cannot be compared; it says nothing.
        let named = answer
            .header("docker-content-digest")
            .and_then(|value| value.parse().ok());
        let bytes = answer.document(MAX_MANIFEST_BYTES, &object)?;
        let digest = Digest::of(&bytes);
        if let Some(expected) = reference.digest().or(named)
            && expected != digest
        {
            return Err(RegistryError::WrongDigest {
                object: object.clone(),
                expected,
                found: digest,
            });
        }
        let media_type = media_type_of(&bytes, stated.as_deref())
            .map_err(|reason| RegistryError::malformed(&object, reason))?;
        Ok(Manifest {
            bytes,
            media_type,
            digest,
        })
    })
}

/// Parses a JSON object.
///
/// serde also fills a struct from an array; one reader's list would be another's manifest.
pub(super) fn parse_object<T: serde::de::DeserializeOwned>(
    bytes: &[u8],
) -> Result<T, serde_json::Error> {
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        serde_json::from_slice(bytes)
    } else {
        Err(serde::de::Error::custom("not a JSON object"))
    }
}

/// Settles the media type between the document and the header.
fn media_type_of(bytes: &[u8], stated: Option<&str>) -> Result<String, String> {
    #[derive(Deserialize)]
    struct Document {
        #[serde(rename = "mediaType")]
        media_type: Option<String>,
    }
    let document: Document = parse_object(bytes).map_err(|_| "not a JSON object".to_owned())?;
    let stated = stated
        .and_then(|value| value.split(';').next())
        .map(|value| value.trim().to_ascii_lowercase())
        // What a static file server says of JSON.
        .filter(|value| {
            !matches!(
                value.as_str(),
                "" | "application/json" | "text/plain" | "application/octet-stream"
            )
        });
    let media_type = match (document.media_type, stated) {
        (Some(own), Some(stated)) if own != stated => {
            return Err(format!(
                "a {} that calls itself {}",
                super::detail::printable(&stated),
                super::detail::printable(&own)
            ));
        }
        (Some(own), _) => own,
        (None, Some(stated)) => stated,
        (None, None) => return Err("no media type".to_owned()),
    };
    if media_type.starts_with("application/vnd.docker.distribution.manifest.v1+") {
        return Err("a Docker schema 1 manifest, which cannot be verified".to_owned());
    }
    Ok(media_type)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_and_document_must_agree() {
        let oci = format!(r#"{{"mediaType":"{}"}}"#, media_type::OCI_MANIFEST);
        for (body, stated, expected) in [
            (
                oci.as_str(),
                Some(media_type::OCI_MANIFEST),
                Ok(media_type::OCI_MANIFEST),
            ),
            (
                &oci,
                Some("application/json; charset=utf-8"),
                Ok(media_type::OCI_MANIFEST),
            ),
            (&oci, None, Ok(media_type::OCI_MANIFEST)),
            ("{}", Some(media_type::OCI_INDEX), Ok(media_type::OCI_INDEX)),
            (&oci, Some(media_type::OCI_INDEX), Err("calls itself")),
            ("{}", Some("text/plain"), Err("no media type")),
            (r#"["a/b"]"#, Some("a/b"), Err("JSON")),
            ("", None, Err("JSON")),
            (
                "{}",
                Some("application/vnd.docker.distribution.manifest.v1+prettyjws"),
                Err("schema 1"),
            ),
        ] {
            match (media_type_of(body.as_bytes(), stated), expected) {
                (Ok(found), Ok(expected)) => assert_eq!(found, expected),
                (Err(found), Err(expected)) => assert!(found.contains(expected), "{found}"),
                (found, _) => panic!("{body} {stated:?}: {found:?}"),
            }
        }
    }
}
