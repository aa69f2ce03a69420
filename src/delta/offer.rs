//! What the deltas of a bundle would save hosts, as the bundle itself says: for people who look at one.
//!
//! Threats: nothing of it is verified yet. Defences: documents are read under the caps that hold for verified ones, and have
//! to have the digest they are asked for by; nothing is decided by them.

use std::collections::BTreeMap;
use std::io::{self, BufReader, Read};

use bundle_delta::header::{Effort, Header};
use bundle_format::delta::{DeltaArtifact, is_delta};
use bundle_format::manifest::Document;
use bundle_format::{Descriptor, Digest, Limits, Release, media_type};

use crate::layout::{Medium, MediumFile};

/// What a host that has one base would read and need.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// Manifest of the image that the delta makes.
    pub target: Digest,
    /// Manifest of the image that it was made against.
    pub base: Option<Digest>,
    /// Bytes that such a host reads: deltas, and layers that no delta makes.
    pub read: u64,
    /// Bytes of all layers of the image.
    pub full: u64,
    /// Layers that deltas make, that the base has, and that are read in full.
    pub layers: [usize; 3],
    /// Most bytes of memory that rebuilding a layer takes.
    pub memory: u64,
    /// Most bytes of temporary files that rebuilding a layer takes.
    pub scratch: u64,
    /// What rebuilding asks of the processor.
    pub effort: Effort,
    /// Encoders that rebuilding needs.
    pub encoders: Vec<String>,
}

/// Returns what each delta artifact of `release` offers; what cannot be read is left out.
pub fn offers(medium: &Medium, release: &Release) -> Vec<Offer> {
    let index = release.index.iter();
    let artifacts = index.filter(|entry| is_delta(entry.artifact_type.as_deref()));
    artifacts
        .filter_map(|entry| offer(medium, entry).ok())
        .collect()
}

fn offer(medium: &Medium, entry: &Descriptor) -> io::Result<Offer> {
    let Document::Manifest(manifest) = document(medium, entry)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let artifact = DeltaArtifact::of(&manifest).map_err(io::Error::other)?;
    let Document::Manifest(image) = document(medium, &artifact.target)? else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    let made: BTreeMap<Digest, &Descriptor> = artifact
        .layers
        .iter()
        .map(|layer| (layer.to, &layer.blob))
        .collect();
    let mut offer = Offer {
        target: artifact.target.digest,
        base: artifact.source,
        read: 0,
        full: image
            .layers
            .iter()
            .map(|layer| layer.size)
            .fold(0, u64::saturating_add),
        layers: [0; 3],
        memory: 0,
        scratch: 0,
        effort: Effort::Copy,
        encoders: Vec::new(),
    };
    for layer in &image.layers {
        let reused = artifact
            .reused
            .iter()
            .any(|reused| reused.digest == layer.digest);
        let (kind, read) = match made.get(&layer.digest) {
            _ if reused => (1, 0),
            Some(blob) if blob.digest != layer.digest => {
                offer.need(medium, blob);
                (0, blob.size)
            }
            _ => (2, layer.size),
        };
        offer.read = offer.read.saturating_add(read);
        if let Some(count) = offer.layers.get_mut(kind) {
            *count += 1;
        }
    }
    offer.encoders.sort();
    offer.encoders.dedup();
    Ok(offer)
}

impl Offer {
    /// Adds what rebuilding one layer needs, as far as its head says.
    fn need(&mut self, medium: &Medium, blob: &Descriptor) {
        if blob.media_type != media_type::LAYER_DELTA {
            return;
        }
        let Ok(file) = medium.file(&blob.digest.blob_path()) else {
            return;
        };
        let mut input = BufReader::with_capacity(1 << 20, Reader { file, position: 0 });
        if let Ok(header) = Header::read(&mut input, &Default::default()) {
            self.memory = self.memory.max(header.memory);
            self.scratch = self.scratch.max(header.scratch);
            self.effort = self.effort.max(header.effort);
            self.encoders.extend(header.encoders);
        }
    }
}

fn document(medium: &Medium, descriptor: &Descriptor) -> io::Result<Document> {
    let limits = &Limits::DEFAULT;
    let bytes = medium
        .file(&descriptor.digest.blob_path())?
        .read_capped(limits.manifest_bytes)?;
    if Digest::of(&bytes) != descriptor.digest {
        return Err(io::ErrorKind::InvalidData.into());
    }
    Document::parse(&bytes, &descriptor.media_type, limits).map_err(io::Error::other)
}

/// Reads a file of a medium from a position on.
struct Reader {
    file: MediumFile,
    position: u64,
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.file.size().saturating_sub(self.position);
        let count = left.min(buffer.len() as u64) as usize;
        let part = buffer.get_mut(..count).unwrap_or_default();
        self.file.read_exact_at(part, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}
