//! Where an image is exported from: a registry, or an OCI layout in a directory or tar file.
//!
//! Threats: both are hostile. Defence: documents are hashed here before they are returned; blobs
//! are hashed by whoever receives them.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;
use std::sync::OnceLock;

use bundle_format::layout::INDEX_PATH;
use bundle_format::manifest::{Document, Index, is_document};
use bundle_format::{Descriptor, Digest, Limits, media_type};

use crate::Error;
use crate::layout::Medium;
use crate::registry::{Client, ClientOptions, Reference};

/// Bytes handed on at once when copying out of a layout.
const COPY_BYTES: usize = 1 << 20;
/// Annotations by which `cosign save` and `cosign verify --local-image` know what is what.
const COSIGN_KIND: &str = "kind";

/// A place that has an image.
#[derive(Debug)]
pub enum Source {
    /// A repository of a registry.
    Registry {
        /// The client.
        client: Box<Client>,
        /// Repository, with the tag or digest asked for.
        reference: Reference,
    },
    /// An OCI layout.
    Layout {
        /// The directory or tar file.
        medium: Medium,
        /// Its `index.json`.
        index: Vec<Descriptor>,
        /// Tag asked for.
        tag: Option<String>,
        /// What refers to what, found out once.
        referrers: OnceLock<BTreeMap<Digest, Vec<Descriptor>>>,
    },
}

impl Source {
    /// Opens `docker://REFERENCE`, `oci:PATH[:TAG]` or `oci-archive:PATH[:TAG]`.
    ///
    /// # Errors
    /// Fails on other transports, malformed references and layouts that cannot be read.
    pub fn open(text: &str, options: ClientOptions) -> Result<Self, Error> {
        let usage = |problem: String, hint: String| Error::Usage {
            option: text.into(),
            problem,
            hint,
        };
        if text.starts_with("docker://") {
            let reference: Reference =
                text.parse().map_err(|e: crate::registry::ReferenceError| {
                    usage(e.reason.to_string(), e.hint())
                })?;
            return Ok(Self::Registry {
                client: Box::new(Client::new(options)?),
                reference,
            });
        }
        let rest = ["oci:", "oci-archive:"]
            .iter()
            .find_map(|prefix| text.strip_prefix(prefix));
        let Some(rest) = rest else {
            let hint = "write docker://HOST/REPOSITORY:TAG, oci:DIRECTORY:TAG or \
                        oci-archive:FILE:TAG";
            return Err(usage("no transport that is known".into(), hint.into()));
        };
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag.to_string())),
            None => (rest, None),
        };
        Self::layout(Path::new(path), tag)
    }

    /// Opens the OCI layout that is the directory or tar file at `path`.
    ///
    /// # Errors
    /// Fails where there is none that can be read.
    pub fn layout(path: &Path, tag: Option<String>) -> Result<Self, Error> {
        let limits = &Limits::DEFAULT;
        let fail = |e| Error::file("reading the OCI layout", path, e);
        let medium = Medium::open(path, limits).map_err(fail)?;
        let bytes = medium
            .file(INDEX_PATH)
            .and_then(|file| file.read_capped(limits.manifest_bytes))
            .map_err(fail)?;
        let index = bundle_format::json::parse::<Index>(&bytes, limits)
            .map_err(|e| fail(io::Error::other(format!("{INDEX_PATH}: {e}"))))?;
        Ok(Self::Layout {
            medium,
            index: index.manifests,
            tag,
            referrers: OnceLock::new(),
        })
    }

    /// Returns what the index of a layout lists; nothing for a registry.
    pub fn listed(&self) -> &[Descriptor] {
        match self {
            Self::Registry { .. } => &[],
            Self::Layout { index, .. } => index,
        }
    }

    /// Resolves the reference, once, to the image's descriptor, tagged as it shall be found.
    ///
    /// # Errors
    /// Fails where there is no such image, or several.
    pub fn image(&self) -> Result<Descriptor, Error> {
        match self {
            Self::Registry { client, reference } => {
                let mut image = client.manifest(reference)?.descriptor();
                // A reference by digest alone has no tag; stock tools still need one to ask for.
                let tag = match (reference.tag(), reference.digest()) {
                    (Some(tag), _) => tag.to_string(),
                    (None, None) => "latest".into(),
                    (None, Some(digest)) => format!("sha256-{}", digest.to_hex()),
                };
                mark(&mut image, &tag);
                Ok(image)
            }
            Self::Layout {
                medium, index, tag, ..
            } => {
                let name = |d: &Descriptor| d.annotations.get(media_type::REF_NAME).cloned();
                let fits = |d: &&Descriptor| match tag {
                    Some(tag) => name(d).as_ref() == Some(tag),
                    None => d.artifact_type.is_none(),
                };
                let found: Vec<_> = index.iter().filter(fits).collect();
                let [one] = found.as_slice() else {
                    let tags: Vec<_> = index.iter().filter_map(name).collect();
                    return Err(Error::Image {
                        object: medium.path().display().to_string(),
                        problem: format!(
                            "{} images fit {}; tags: {}",
                            found.len(),
                            tag.as_deref().unwrap_or("no tag"),
                            crate::text::printable(&tags.join(", "))
                        ),
                    });
                };
                let mut image = (*one).clone();
                let tag = name(&image).unwrap_or_else(|| "latest".into());
                image.annotations.clear();
                // Podman writes whole references into this annotation; the tag is what counts.
                mark(&mut image, tag.rsplit([':', '/']).next().unwrap_or(&tag));
                Ok(image)
            }
        }
    }

    /// Returns the registry reference hosts go on following, where the source is a registry.
    pub fn reference(&self) -> Option<String> {
        match self {
            Self::Registry { reference, .. } => {
                let name = reference.name();
                Some(match (reference.tag(), reference.digest()) {
                    (None, Some(digest)) => format!("{name}@{digest}"),
                    (tag, _) => format!("{name}:{}", tag.unwrap_or("latest")),
                })
            }
            Self::Layout { .. } => None,
        }
    }

    /// Reads a manifest or index; its bytes match its digest.
    ///
    /// # Errors
    /// Fails where it is not there, too large, or has another digest.
    pub fn document(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        match self {
            Self::Registry { client, reference } => Ok(client
                .manifest(&reference.with_digest(descriptor.digest))?
                .bytes),
            Self::Layout { .. } => self.small_blob(descriptor),
        }
    }

    /// Reads a small blob, such as a configuration; its bytes match its digest.
    ///
    /// # Errors
    /// Fails where it is larger than manifests may be, has another digest, or cannot be read.
    pub fn small_blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, Error> {
        let refuse = |problem: String| Error::Image {
            object: format!("blob {}", descriptor.digest),
            problem,
        };
        if descriptor.size > Limits::DEFAULT.manifest_bytes {
            return Err(refuse(format!("has {} bytes", descriptor.size)));
        }
        let mut bytes = Vec::new();
        self.blob(descriptor, 0, &mut |part| {
            bytes.extend_from_slice(part);
            Ok(())
        })?;
        if Digest::of(&bytes) != descriptor.digest {
            return Err(refuse("differs from its digest".into()));
        }
        Ok(bytes)
    }

    /// Streams a blob from byte `start` on; the receiver checks its digest.
    ///
    /// # Errors
    /// Fails where the source does, or `sink` does.
    pub fn blob(
        &self,
        descriptor: &Descriptor,
        start: u64,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Error> {
        match self {
            Self::Registry { client, reference } => {
                Ok(client.blob(reference, descriptor, start, sink)?)
            }
            Self::Layout { medium, .. } => {
                let path = descriptor.digest.blob_path();
                let fail = |e| Error::file("reading", medium.path().join(&path), e);
                let file = medium.file(&path).map_err(fail)?;
                if file.size() != descriptor.size {
                    return Err(Error::Image {
                        object: format!("blob {}", descriptor.digest),
                        problem: format!(
                            "has {} bytes, its descriptor says {}",
                            file.size(),
                            descriptor.size
                        ),
                    });
                }
                let mut buffer = vec![0; COPY_BYTES];
                let mut at = start;
                while at < descriptor.size {
                    let part = (descriptor.size - at).min(COPY_BYTES as u64) as usize;
                    let part = buffer.get_mut(..part).unwrap_or_default();
                    file.read_exact_at(part, at).map_err(fail)?;
                    sink(part).map_err(fail)?;
                    at += part.len() as u64;
                }
                Ok(())
            }
        }
    }

    /// Lists everything that refers to `subject`: artifacts, and cosign's tagged signatures.
    ///
    /// # Errors
    /// Fails where the source does.
    pub fn referrers(&self, subject: Digest) -> Result<Vec<Descriptor>, Error> {
        match self {
            Self::Registry { client, reference } => {
                let found = client
                    .referrers(reference, subject)?
                    .into_iter()
                    .map(|referrer| {
                        let mut descriptor = referrer.descriptor;
                        if let Some(tag) = &referrer.tag {
                            mark(&mut descriptor, tag);
                        }
                        descriptor
                    });
                Ok(found.collect())
            }
            Self::Layout {
                index, referrers, ..
            } => {
                // Each document is read once, not once for every subject.
                if referrers.get().is_none() {
                    let mut found: BTreeMap<Digest, Vec<Descriptor>> = BTreeMap::new();
                    for descriptor in index {
                        for subject in self.subjects(descriptor)? {
                            found.entry(subject).or_default().push(descriptor.clone());
                        }
                    }
                    referrers.get_or_init(|| found);
                }
                Ok(referrers
                    .get()
                    .and_then(|all| all.get(&subject))
                    .cloned()
                    .unwrap_or_default())
            }
        }
    }

    /// Returns what an entry of a layout's index refers to, by cosign's tag or by its manifest.
    fn subjects(&self, descriptor: &Descriptor) -> Result<BTreeSet<Digest>, Error> {
        let tag = descriptor.annotations.get(media_type::REF_NAME);
        let tagged = tag
            .and_then(|tag| tag.strip_prefix("sha256-")?.split_once('.'))
            .and_then(|(hex, _)| format!("sha256:{hex}").parse().ok());
        let mut subjects: BTreeSet<_> = tagged.into_iter().collect();
        let is_release = descriptor.artifact_type.as_deref() == Some(media_type::RELEASE);
        if is_release || !is_document(&descriptor.media_type) {
            return Ok(subjects);
        }
        let bytes = self.document(descriptor)?;
        if let Ok(Document::Manifest(manifest)) =
            Document::parse(&bytes, &descriptor.media_type, &Limits::DEFAULT)
        {
            subjects.extend(manifest.subject.map(|subject| subject.digest));
        }
        Ok(subjects)
    }
}

/// Tags a descriptor so that stock tools and cosign find it in a layout.
fn mark(descriptor: &mut Descriptor, tag: &str) {
    let kind = match tag.rsplit_once('.') {
        Some((_, "sig")) if tag.starts_with("sha256-") => Some("sigs"),
        Some((_, "att")) if tag.starts_with("sha256-") => Some("atts"),
        _ => None,
    };
    let annotations: &mut BTreeMap<_, _> = &mut descriptor.annotations;
    annotations.insert(media_type::REF_NAME.into(), tag.into());
    if let Some(kind) = kind {
        annotations.insert(
            COSIGN_KIND.into(),
            format!("dev.cosignproject.cosign/{kind}"),
        );
    }
}
