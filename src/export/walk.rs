//! What belongs to an image: its documents, blobs and everything that refers to it.
//!
//! Threats: a registry that answers with documents without end or referrers that refer in circles.
//! Defences: each digest is visited once; the number of blobs and the nesting of indexes are capped;
//! a digest has one size, whoever names it.

use std::collections::{BTreeMap, BTreeSet};

use bundle_format::manifest::{Document, is_document};
use bundle_format::{BlobEntry, Descriptor, Digest, Limits, media_type};

use super::source::Source;
use crate::Error;
use crate::platform::{Choice, Wanted, describe};

/// Media types of image configurations, which hold the image's labels.
const CONFIGS: [&str; 2] = [
    media_type::OCI_CONFIG,
    "application/vnd.docker.container.image.v1+json",
];

/// Indexes inside indexes; registries have one level, rarely two.
const DEPTH: usize = 8;

/// Everything a bundle carries of an image.
#[derive(Debug, Default)]
pub struct Contents {
    /// Descriptors for `index.json`; the image first.
    pub index: Vec<Descriptor>,
    /// Manifests and indexes, read already.
    pub documents: Vec<(Descriptor, Vec<u8>)>,
    /// The image's own manifests and indexes, without what refers to them.
    pub(super) manifests: Vec<(Descriptor, Document)>,
    /// Every blob, documents included, in reading order.
    pub blobs: Vec<Descriptor>,
    /// Configuration of the first image, read already.
    pub config: Option<Vec<u8>>,
    sizes: BTreeMap<Digest, u64>,
    walked: BTreeSet<Digest>,
}

impl Contents {
    /// Collects what belongs to `image`, as `source` has it.
    ///
    /// An index is carried as it is, so that its digest stays what the registry and its signers
    /// know; of the manifests it names only the chosen ones come along.
    ///
    /// # Errors
    /// Fails where the source does, on documents that are none, and where no platform matches.
    pub fn of(source: &Source, image: &Descriptor, choice: &Choice) -> Result<Self, Error> {
        let (mut contents, mut subjects) = Self::with_subjects(source, image, choice)?;
        let mut next = 0;
        while let Some(subject) = subjects.get(next).copied() {
            next += 1;
            for referrer in source.referrers(subject)? {
                if contents.sizes.contains_key(&referrer.digest) {
                    continue;
                }
                contents.add(source, &referrer, &Choice::All, &mut subjects, DEPTH)?;
                contents.index.push(referrer);
            }
        }
        Ok(contents)
    }

    /// Collects `image` without what refers to it.
    ///
    /// # Errors
    /// As [`Contents::of`].
    pub fn of_image(source: &Source, image: &Descriptor, choice: &Choice) -> Result<Self, Error> {
        Ok(Self::with_subjects(source, image, choice)?.0)
    }

    /// Collects `image`, and lists the documents that others may refer to.
    fn with_subjects(
        source: &Source,
        image: &Descriptor,
        choice: &Choice,
    ) -> Result<(Self, Vec<Digest>), Error> {
        let mut contents = Self::default();
        let mut subjects = Vec::new();
        contents.index.push(image.clone());
        contents.add(source, image, choice, &mut subjects, DEPTH)?;
        for (descriptor, bytes) in &contents.documents {
            let document = parse(descriptor, bytes)?;
            contents.manifests.push((descriptor.clone(), document));
        }
        Ok((contents, subjects))
    }

    fn add(
        &mut self,
        source: &Source,
        descriptor: &Descriptor,
        choice: &Choice,
        subjects: &mut Vec<Digest>,
        depth: usize,
    ) -> Result<(), Error> {
        self.note(descriptor)?;
        if !self.walked.insert(descriptor.digest) {
            return Ok(());
        }
        if !is_document(&descriptor.media_type) {
            return Err(Error::Image {
                object: descriptor.digest.to_string(),
                problem: format!(
                    "has the media type {:?}, which is no manifest or index",
                    descriptor.media_type
                ),
            });
        }
        let refuse = |problem: String| Error::Image {
            object: format!("manifest {}", descriptor.digest),
            problem,
        };
        let Some(deeper) = depth.checked_sub(1) else {
            return Err(refuse(format!("is nested more than {DEPTH} deep")));
        };
        subjects.push(descriptor.digest);
        let bytes = source.document(descriptor)?;
        if bytes.len() as u64 != descriptor.size {
            let (found, claimed) = (bytes.len(), descriptor.size);
            return Err(refuse(format!(
                "has {found} bytes, its descriptor says {claimed}"
            )));
        }
        let document = parse(descriptor, &bytes)?;
        self.documents.push((descriptor.clone(), bytes));
        match document {
            Document::Index(index) => {
                for manifest in chosen(&index.manifests, choice)? {
                    self.add(source, manifest, choice, subjects, deeper)?;
                }
            }
            Document::Manifest(manifest) => {
                let is_image = CONFIGS.contains(&manifest.config.media_type.as_str());
                if self.config.is_none() && is_image {
                    self.config = Some(source.small_blob(&manifest.config)?);
                }
                for part in [&manifest.config].into_iter().chain(&manifest.layers) {
                    self.note(part)?;
                }
            }
        }
        Ok(())
    }

    /// Notes a blob, once; says whether it was not noted before.
    pub(super) fn note(&mut self, descriptor: &Descriptor) -> Result<bool, Error> {
        match self.sizes.insert(descriptor.digest, descriptor.size) {
            None => {}
            Some(size) if size == descriptor.size => return Ok(false),
            Some(size) => {
                return Err(Error::Image {
                    object: format!("blob {}", descriptor.digest),
                    problem: format!("has two sizes, {size} and {}", descriptor.size),
                });
            }
        }
        if self.blobs.len() >= Limits::DEFAULT.blobs {
            return Err(Error::Image {
                object: descriptor.digest.to_string(),
                problem: format!("the image has more than {} blobs", Limits::DEFAULT.blobs),
            });
        }
        self.blobs.push(descriptor.clone());
        Ok(true)
    }

    /// Returns the blobs that are still to be copied: all but the documents.
    pub fn to_copy(&self) -> impl Iterator<Item = &Descriptor> {
        let read: BTreeSet<_> = self.documents.iter().map(|(d, _)| d.digest).collect();
        self.blobs
            .iter()
            .filter(move |blob| !read.contains(&blob.digest))
    }

    /// Returns digest and size of every blob, in reading order.
    pub fn entries(&self) -> Vec<BlobEntry> {
        self.blobs
            .iter()
            .map(|b| BlobEntry {
                digest: b.digest,
                size: b.size,
            })
            .collect()
    }

    /// Adds a blob that the bundle itself needs, unless the image has it already.
    ///
    /// # Errors
    /// Fails beyond the cap on blobs.
    pub fn add_own(&mut self, blob: BlobEntry) -> Result<(), Error> {
        let descriptor = Descriptor {
            media_type: media_type::OCI_EMPTY.into(),
            digest: blob.digest,
            size: blob.size,
            artifact_type: None,
            annotations: Default::default(),
            platform: None,
        };
        self.note(&descriptor)?;
        Ok(())
    }
}

fn chosen<'a>(manifests: &'a [Descriptor], choice: &Choice) -> Result<Vec<&'a Descriptor>, Error> {
    let wanted = match choice {
        Choice::All => return Ok(manifests.iter().collect()),
        Choice::Host => vec![Wanted::host()],
        Choice::These(wanted) => wanted.clone(),
    };
    if let Some(absent) = wanted.iter().find(|w| w.among(manifests).is_none()) {
        return Err(missing(absent, manifests));
    }
    let is_wanted = |m: &&Descriptor| {
        m.platform
            .as_ref()
            .is_some_and(|p| wanted.iter().any(|wanted| wanted.matches(p)))
    };
    Ok(manifests.iter().filter(is_wanted).collect())
}

fn missing(wanted: &Wanted, manifests: &[Descriptor]) -> Error {
    Error::WrongPlatform {
        wanted: wanted.to_string(),
        available: manifests
            .iter()
            .filter_map(|m| m.platform.as_ref().map(describe))
            .collect(),
    }
}

fn parse(descriptor: &Descriptor, bytes: &[u8]) -> Result<Document, Error> {
    Document::parse(bytes, &descriptor.media_type, &Limits::DEFAULT).map_err(|e| Error::Image {
        object: format!("manifest {}", descriptor.digest),
        problem: e.to_string(),
    })
}
