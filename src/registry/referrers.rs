//! Finds everything that refers to a manifest: referrers and cosign's tags.
//!
//! Sources, merged by digest: the referrers interface with its pages; the fallback tag
//! `sha256-HEX` of registries without it, asked in any case since a registry that learned the
//! interface may have older referrers there; cosign's tags `sha256-HEX.sig`, `.att`, `.sbom`.
//!
//! Threats: lists without end and pages that point elsewhere. Defences: 8 MiB, 10,000 entries and
//! 1,000 pages in all; the next page must be of the same registry. The list is the registry's
//! word: whoever reads a referrer's manifest compares its `subject`.

use std::collections::BTreeSet;

use bundle_format::{Descriptor, Digest, media_type};
use serde::Deserialize;
use url::Url;

use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::manifest::{self, Manifest};
use super::reference::Reference;
use super::retry::Retry;
use super::session::{Ask, Session};

/// Most bytes of a list of referrers, over all pages: 8 MiB.
pub const MAX_REFERRERS_BYTES: u64 = 8 << 20;
/// Most referrers of one manifest.
pub const MAX_REFERRERS: usize = 10_000;
/// Most pages of a list.
const MAX_PAGES: u32 = 1_000;
/// What cosign appends to the fallback tag.
const COSIGN_SUFFIXES: [&str; 3] = ["sig", "att", "sbom"];

/// Something that refers to a manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Referrer {
    /// Descriptor of the referring manifest, with artifact type and annotations where listed.
    pub descriptor: Descriptor,
    /// The manifest's bytes, verified, where they were fetched already.
    pub manifest: Option<Vec<u8>>,
    /// The tag that makes it a referrer, for cosign's convention.
    pub tag: Option<String>,
}

#[derive(Deserialize)]
struct Index {
    #[serde(default)]
    manifests: Vec<Descriptor>,
}

/// Bytes of one page, and the path of the next.
type Page = (Vec<u8>, Option<String>);

/// Collects referrers from one endpoint.
pub(super) struct Search<'a> {
    pub(super) session: &'a Session,
    pub(super) retry: &'a Retry,
    pub(super) endpoint: &'a Endpoint,
    pub(super) repository: &'a Reference,
    pub(super) subject: Digest,
}

impl Search<'_> {
    /// Asks all sources in turn.
    pub(super) fn run(&self) -> Result<Vec<Referrer>, RegistryError> {
        let mut found = self.listed()?;
        let tag = format!("sha256-{}", self.subject.to_hex());
        if let Some(fallback) = self.tagged(&tag)? {
            if fallback.is_index() {
                let object = format!("manifest {}:{tag}", self.repository.name());
                found.extend(parse_index(&fallback.bytes, &object)?);
            } else {
                // Not by the specification; carried as it is rather than lost.
                found.push((fallback.descriptor(), Some((tag.clone(), fallback.bytes))));
            }
        }
        for suffix in COSIGN_SUFFIXES {
            let tag = format!("{tag}.{suffix}");
            if let Some(manifest) = self.tagged(&tag)? {
                found.push((manifest.descriptor(), Some((tag, manifest.bytes))));
            }
        }
        let mut seen = BTreeSet::new();
        let referrers: Vec<_> = found
            .into_iter()
            .map(|(descriptor, fetched)| {
                let (tag, manifest) = fetched.unzip();
                Referrer {
                    descriptor,
                    manifest,
                    tag,
                }
            })
            .filter(|referrer| seen.insert((referrer.descriptor.digest, referrer.tag.clone())))
            .collect();
        if referrers.len() > MAX_REFERRERS {
            return Err(self.too_many());
        }
        Ok(referrers)
    }

    /// Asks the referrers interface; a registry without it has none listed.
    fn listed(&self) -> Result<Vec<Found>, RegistryError> {
        let object = self.object();
        let mut path = format!(
            "/v2/{}/referrers/{}",
            self.endpoint.repository, self.subject
        );
        let mut found = Vec::new();
        let mut left = MAX_REFERRERS_BYTES;
        for page in 0..MAX_PAGES {
            let (bytes, next) = match self.retry.run(|| self.page(&path, left, &object)) {
                Ok(Some(page)) => page,
                Ok(None) if page == 0 => return Ok(found),
                Ok(None) => return Err(RegistryError::malformed(&object, "a page is missing")),
                // The cap is on the whole list.
                Err(RegistryError::TooLong { object, .. }) => {
                    return Err(RegistryError::TooLong {
                        object,
                        limit: MAX_REFERRERS_BYTES,
                    });
                }
                Err(error) => return Err(error),
            };
            left = left.saturating_sub(bytes.len() as u64);
            found.extend(parse_index(&bytes, &object)?);
            if found.len() > MAX_REFERRERS {
                return Err(self.too_many());
            }
            match next {
                Some(next) => path = next,
                None => return Ok(found),
            }
        }
        Err(RegistryError::malformed(
            &object,
            format!("more than {MAX_PAGES} pages"),
        ))
    }

    /// Fetches one page and the path of the next; `None` when there is no such interface.
    fn page(&self, path: &str, limit: u64, object: &str) -> Result<Option<Page>, RegistryError> {
        let answer = match self.session.get(Ask {
            repository: &self.endpoint.repository,
            path,
            accept: media_type::OCI_INDEX,
            start: 0,
            object,
        }) {
            Ok(answer) => answer,
            // The specification says 404; routers of older registries also say these.
            Err(RegistryError::NotFound { .. })
            | Err(RegistryError::Status {
                status: 400 | 405 | 406 | 410,
                ..
            })
            | Err(RegistryError::Server { status: 501, .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        let listed = answer
            .header("content-type")
            .is_some_and(|value| value.trim_start().starts_with(media_type::OCI_INDEX));
        if !listed {
            // A catch-all page with status 200 is no referrers interface either.
            return Ok(None);
        }
        let next = answer
            .headers
            .get_all("link")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(next_link)
            .map(|link| self.next_path(&answer.url, link, object))
            .transpose()?;
        Ok(Some((answer.document(limit, object)?, next)))
    }

    fn next_path(&self, page: &Url, link: &str, object: &str) -> Result<String, RegistryError> {
        let next = page
            .join(link)
            .map_err(|_| RegistryError::malformed(object, "the next page is no URL"))?;
        if !self.session.owns(&next, object)? {
            return Err(RegistryError::malformed(
                object,
                "the next page is at another host",
            ));
        }
        Ok(match next.query() {
            Some(query) => format!("{}?{query}", next.path()),
            None => next.path().to_owned(),
        })
    }

    fn tagged(&self, tag: &str) -> Result<Option<Manifest>, RegistryError> {
        let reference = self
            .repository
            .with_tag(tag)
            .map_err(|error| RegistryError::malformed(&self.object(), error))?;
        match manifest::pull(self.session, self.retry, self.endpoint, &reference) {
            Ok(manifest) => Ok(Some(manifest)),
            Err(RegistryError::NotFound { .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn object(&self) -> String {
        format!("referrers of {}@{}", self.repository.name(), self.subject)
    }

    fn too_many(&self) -> RegistryError {
        let reason = format!("more than {MAX_REFERRERS} referrers");
        RegistryError::Malformed {
            object: self.object(),
            reason,
        }
    }
}

/// A descriptor, and tag and bytes where a tag led to it.
type Found = (Descriptor, Option<(String, Vec<u8>)>);

fn parse_index(bytes: &[u8], object: &str) -> Result<Vec<Found>, RegistryError> {
    let index: Index =
        manifest::parse_object(bytes).map_err(|error| RegistryError::malformed(object, error))?;
    Ok(index
        .manifests
        .into_iter()
        .map(|descriptor| (descriptor, None))
        .collect())
}

/// Returns the target of `rel="next"` out of a `Link` header (RFC 8288).
fn next_link(header: &str) -> Option<&str> {
    let mut rest = header;
    loop {
        let (_, after) = rest.split_once('<')?;
        let (target, after) = after.split_once('>')?;
        let parameters = after.split('<').next().unwrap_or_default();
        let is_next = parameters.split([';', ',']).any(|parameter| {
            let parameter = parameter.replace([' ', '"'], "").to_ascii_lowercase();
            parameter == "rel=next"
        });
        if is_next {
            return Some(target);
        }
        rest = after;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_found() {
        for (header, expected) in [
            (r#"</v2/x?n=1,2>; rel="next""#, Some("/v2/x?n=1,2")),
            ("<a>;rel=prev, <b> ; Rel = Next", Some("b")),
            (r#"<a>; rel="prev""#, None),
            ("rel=next", None),
            ("<a; rel=next", None),
            ("", None),
        ] {
            assert_eq!(next_link(header), expected, "{header}");
        }
    }
}
