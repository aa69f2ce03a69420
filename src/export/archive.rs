//! Deltas between images by themselves, without a bundle and its signature: for people who have another way to trust a file.
//!
//! An archive is an OCI layout with delta artifacts. Nothing of it is trusted: what is rebuilt counts where it has the hashes
//! that the image's configuration states, and whoever knows the digest of the image can ask for that one alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use bundle_delta::DeltaError;
use bundle_delta::header::Header;
use bundle_delta::rebuild::rebuild;
use bundle_delta::tar_diff;
use bundle_format::delta::{DeltaArtifact, LayerDelta, is_delta};
use bundle_format::layout::{EMPTY, image_index};
use bundle_format::manifest::{Document, Manifest};
use bundle_format::{BlobEntry, Descriptor, Digest, Limits, media_type};
use serde_json::json;

use super::base::{self, Base, Parts};
use super::deltas::{self, Deltas};
use super::source::Source;
use super::walk::Contents;
use crate::Error;
use crate::delta::tar_diff::SpooledFiles;
use crate::delta::{Layer, Options, Spool, SpoolStore};
use crate::layout::{Finished, Staging};
use crate::platform::{Choice, Wanted};
use crate::progress::Progress;

/// What was written.
#[derive(Debug)]
pub struct Created {
    /// Manifests of the artifacts, one for each platform.
    pub artifacts: Vec<Descriptor>,
    /// Bytes of all blobs.
    pub size: u64,
}

/// What came out of a delta.
#[derive(Debug)]
pub struct Rebuilt {
    /// Digest of the image as it was published.
    pub image: Digest,
    /// Digest of the manifest that was written; another one where layers were compressed, since nobody can compress them the
    /// same way again.
    pub written: Digest,
    /// Layers that were rebuilt from deltas.
    pub layers: usize,
}

/// Writes the deltas from the bases of `deltas` to `source` as an OCI layout at `output`.
///
/// # Errors
/// Fails as [`super::export`] does.
pub fn create_archive(
    source: &Source,
    platforms: &Choice,
    deltas: &Deltas,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Created, Error> {
    Staging::check_target(output)?;
    let image = source.image()?;
    let contents = Contents::of_image(source, &image, platforms)?;
    let staging = Staging::open(output)?;
    super::copy_blobs(source, &contents, &staging, progress)?;
    let made = deltas::make(deltas, &contents, &staging, progress)?;
    let mut blobs = Vec::new();
    let mut keep = |entry: BlobEntry| {
        if !blobs.contains(&entry) {
            blobs.push(entry);
        }
    };
    let mut artifacts = Vec::new();
    for (descriptor, bytes) in &made.artifacts {
        keep(staging.put(bytes)?);
        artifacts.push(descriptor.clone());
    }
    keep(staging.put(EMPTY)?);
    for (_, bytes) in &contents.documents {
        keep(staging.put(bytes)?);
    }
    let carried = contents.blobs.iter().filter(|blob| {
        let is_document = bundle_format::manifest::is_document(&blob.media_type);
        !is_document && !made.omitted.contains(&blob.digest)
    });
    carried.map(entry).for_each(&mut keep);
    made.blobs
        .values()
        .map(|(blob, _)| entry(blob))
        .for_each(&mut keep);
    let size = blobs
        .iter()
        .fold(0_u64, |sum, blob| sum.saturating_add(blob.size));
    staging.publish(&blobs, &image_index(&artifacts))?;
    Ok(Created { artifacts, size })
}

/// Rebuilds the image of a delta archive at `file` from `base`, as an OCI layout at `output`.
///
/// # Errors
/// Fails where the archive has no delta for this base or not for the image `wanted`, where it is malformed, and where what
/// comes out is not the image.
pub fn apply_archive(
    file: &Path,
    base: &Base,
    wanted: Option<Digest>,
    options: &Options,
    output: &Path,
    progress: &dyn Progress,
) -> Result<Rebuilt, Error> {
    Staging::check_target(output)?;
    let source = Source::layout(file, None)?;
    let name = file.display().to_string();
    let (artifact, manifest, parts, old) = choose(&source, &name, base, wanted)?;
    let staging = Staging::open(output)?;
    let mut work = Work {
        source: &source,
        base,
        options,
        staging: &staging,
        progress,
        target: &parts,
        sources: Vec::new(),
    };
    let total = old.layers.iter().map(|(layer, _)| layer.size);
    progress.stage("reading base", total.fold(0, u64::saturating_add));
    for (layer, diff_id) in &old.layers {
        let spool = base.spool(layer, *diff_id, &options.directory, progress)?;
        work.sources.push((None, spool));
    }
    let mut layers: BTreeMap<Digest, Descriptor> = BTreeMap::new();
    for reused in &artifact.reused {
        let mut same = old
            .layers
            .iter()
            .filter(|(_, diff_id)| *diff_id == reused.diff_id);
        if let Some((layer, _)) = same.next() {
            layers.insert(reused.digest, work.copy(layer)?);
        }
    }
    let mut rebuilt = 0;
    for delta in &artifact.layers {
        let written = work.layer(delta)?;
        rebuilt += usize::from(written.digest != delta.to || delta.blob.digest != delta.to);
        layers.insert(delta.to, written);
    }
    let config = source.small_blob(&manifest.config)?;
    let mut blobs = vec![staging.put(&config)?];
    let mut listed = Vec::new();
    for (layer, _) in &parts.layers {
        let written = layers.get(&layer.digest).ok_or_else(|| Error::Image {
            object: name.clone(),
            problem: format!("has no delta for layer {}", layer.digest),
        })?;
        blobs.push(entry(written));
        listed.push(written.clone());
    }
    let same = listed
        .iter()
        .zip(&parts.layers)
        .all(|(new, (old, _))| new.digest == old.digest);
    let bytes = match same {
        true => source.document(&parts.manifest)?,
        false => plain_manifest(&manifest, &listed),
    };
    let written = staging.put(&bytes)?;
    let mut descriptor = described(media_type::OCI_MANIFEST, written);
    let tag = (media_type::REF_NAME.to_string(), "latest".to_string());
    descriptor.annotations = BTreeMap::from([tag]);
    blobs.insert(0, written);
    staging.publish(&blobs, &image_index(&[descriptor]))?;
    Ok(Rebuilt {
        image: parts.manifest.digest,
        written: written.digest,
        layers: rebuilt,
    })
}

/// Finds the artifact that makes `wanted`, if that is given, out of `base`.
fn choose(
    source: &Source,
    name: &str,
    base: &Base,
    wanted: Option<Digest>,
) -> Result<(DeltaArtifact, Manifest, Parts, Parts), Error> {
    let refuse = |problem: String| Error::Image {
        object: name.into(),
        problem,
    };
    let mut reasons = Vec::new();
    for entry in source.listed() {
        let Document::Manifest(manifest) = parse(source, name, entry)? else {
            continue;
        };
        if !is_delta(manifest.artifact_type.as_deref()) {
            continue;
        }
        let artifact = DeltaArtifact::of(&manifest).map_err(|e| refuse(e.to_string()))?;
        if wanted.is_some_and(|wanted| wanted != artifact.target.digest) {
            reasons.push(format!("one makes {}", artifact.target.digest));
            continue;
        }
        let Document::Manifest(image) = parse(source, name, &artifact.target)? else {
            return Err(refuse("has an index as an image".into()));
        };
        let read = |blob: &Descriptor| source.small_blob(blob);
        let (parts, config) = base::parts(name, &artifact.target, &image, read)?;
        let old = base.parts(&Wanted::of(&config), artifact.target.digest)?;
        if old.config.digest == artifact.source_config {
            return Ok((artifact, *image, parts, old));
        }
        let made_for = artifact.source.unwrap_or(artifact.source_config);
        reasons.push(format!("one is for hosts that have {made_for}"));
    }
    let listed = match reasons.is_empty() {
        true => "it has none".into(),
        false => reasons.join("; "),
    };
    Err(refuse(format!("has no delta for {}: {listed}", base.name)))
}

fn parse(source: &Source, name: &str, descriptor: &Descriptor) -> Result<Document, Error> {
    let bytes = source.document(descriptor)?;
    Document::parse(&bytes, &descriptor.media_type, &Limits::DEFAULT).map_err(|e| Error::Image {
        object: name.into(),
        problem: e.to_string(),
    })
}

struct Work<'a> {
    source: &'a Source,
    base: &'a Base,
    options: &'a Options,
    staging: &'a Staging,
    progress: &'a dyn Progress,
    target: &'a Parts,
    /// Layers of the base, and those of the target that were rebuilt, with their numbers.
    sources: Vec<(Option<u32>, Spool)>,
}

impl Work<'_> {
    /// Makes one layer of the target, and returns what was written.
    fn layer(&mut self, delta: &LayerDelta) -> Result<Descriptor, Error> {
        let of_target = self.target.layers.iter().enumerate();
        let mut found = of_target.filter(|(_, (layer, _))| layer.digest == delta.to);
        let Some((number, (layer, diff_id))) = found.next() else {
            return Err(self.refuse(delta, "makes a layer that the image does not have".into()));
        };
        let directory = &self.options.directory;
        let fail = |e| Error::file("writing a temporary file in", directory, e);
        let mut stored = tempfile::tempfile_in(directory).map_err(fail)?;
        self.source
            .blob(&delta.blob, 0, &mut |part| stored.write_all(part))?;
        stored.seek(SeekFrom::Start(0)).map_err(fail)?;
        let spool = match delta.blob.media_type.as_str() {
            media_type::LAYER_DELTA | media_type::TAR_DIFF => self.rebuild(delta, stored)?,
            _ => base::unpack("the delta", stored, layer, *diff_id, directory)?,
        };
        if spool.digest() != *diff_id {
            let found = spool.digest();
            return Err(self.refuse(delta, format!("makes {found}, not {diff_id}")));
        }
        let entry = BlobEntry {
            digest: *diff_id,
            size: spool.size(),
        };
        self.store(entry, &spool)?;
        self.sources.push((u32::try_from(number).ok(), spool));
        Ok(described(media_type::LAYER_TAR, entry))
    }

    fn rebuild(&self, delta: &LayerDelta, stored: File) -> Result<Spool, Error> {
        let layers: Vec<Layer<'_>> = self
            .sources
            .iter()
            .map(|(target, spool)| Layer {
                spool,
                target: *target,
            })
            .collect();
        let directory = &self.options.directory;
        let mut out = tempfile::tempfile_in(directory)
            .map_err(|e| Error::file("writing a temporary file in", directory, e))?;
        let mut input = BufReader::with_capacity(1 << 20, stored);
        let result = match delta.blob.media_type.as_str() {
            media_type::TAR_DIFF => {
                let files = SpooledFiles::new(&layers);
                tar_diff::rebuild(input, &files, &mut out, &Default::default())
            }
            _ => Header::read(&mut input, &Default::default()).and_then(|header| {
                self.progress.stage("rebuilding", header.target_size);
                let store = SpoolStore::new(&header, &layers, self.options);
                if let Some(missing) = store.missing().next() {
                    let source = header.sources.get(missing);
                    let path = source.map(|source| source.path.clone()).unwrap_or_default();
                    return Err(DeltaError::WrongSource { path });
                }
                rebuild(&header, input, &store, &mut out, &Default::default())
            }),
        };
        result.map_err(|error| self.refuse(delta, error.to_string()))?;
        out.seek(SeekFrom::Start(0))
            .and_then(|_| Spool::read(BufReader::new(out), directory))
            .map_err(|e| self.refuse(delta, e.to_string()))
    }

    fn store(&self, entry: BlobEntry, spool: &Spool) -> Result<(), Error> {
        let mut writer = self.staging.blob(entry)?;
        let fail = |e| Error::file("writing", self.staging.path(), e);
        let mut part = vec![0; 1 << 20];
        while writer.received() < entry.size {
            let left = entry.size - writer.received();
            let count = left.min(part.len() as u64) as usize;
            let part = part.get_mut(..count).unwrap_or_default();
            spool.read_at(part, writer.received()).map_err(fail)?;
            writer.write(part).map_err(fail)?;
        }
        self.finish(writer.finish()?, &entry)
    }

    /// Copies a layer of the base as it is.
    fn copy(&self, layer: &Descriptor) -> Result<Descriptor, Error> {
        let mut writer = self.staging.blob(entry(layer))?;
        let received = writer.received();
        self.base
            .blob(layer, received, &mut |part| writer.write(part))?;
        self.finish(writer.finish()?, &entry(layer))?;
        Ok(layer.clone())
    }

    fn finish(&self, finished: Finished, entry: &BlobEntry) -> Result<(), Error> {
        match finished {
            Finished::Whole(_) => Ok(()),
            Finished::WrongDigest { found } => Err(Error::Image {
                object: format!("blob {}", entry.digest),
                problem: format!("has other bytes, with digest {found}"),
            }),
        }
    }

    fn refuse(&self, delta: &LayerDelta, problem: String) -> Error {
        Error::Image {
            object: format!("delta {}", delta.blob.digest),
            problem,
        }
    }
}

/// Writes the manifest of an image whose layers are stored otherwise than they were published.
fn plain_manifest(manifest: &Manifest, layers: &[Descriptor]) -> Vec<u8> {
    let document = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": &manifest.config,
        "layers": layers,
        "annotations": &manifest.annotations,
    });
    document.to_string().into_bytes()
}

fn entry(blob: &Descriptor) -> BlobEntry {
    BlobEntry {
        digest: blob.digest,
        size: blob.size,
    }
}

fn described(media_type: &str, entry: BlobEntry) -> Descriptor {
    Descriptor {
        media_type: media_type.into(),
        digest: entry.digest,
        size: entry.size,
        artifact_type: None,
        annotations: BTreeMap::new(),
        platform: None,
    }
}

/// Opens the layer deltas of an archive, or the one that a file is, for whoever looks at them.
///
/// # Errors
/// Fails where `file` is neither, and where it cannot be read.
pub fn layer_deltas(file: &Path, directory: &Path) -> Result<Vec<(Option<Digest>, File)>, Error> {
    let fail = |e| Error::file("reading", file, e);
    let mut opened = File::open(file).map_err(fail)?;
    let mut magic = [0; 8];
    let is_delta_file = opened.metadata().map_err(fail)?.is_file()
        && opened.read_exact(&mut magic).is_ok()
        && [
            bundle_delta::header::MAGIC,
            tar_diff::MAGIC_1,
            tar_diff::MAGIC_2,
        ]
        .contains(&&magic);
    if is_delta_file {
        opened.seek(SeekFrom::Start(0)).map_err(fail)?;
        return Ok(vec![(None, opened)]);
    }
    let source = Source::layout(file, None)?;
    let name = file.display().to_string();
    let mut found = Vec::new();
    for entry in source.listed() {
        let Document::Manifest(manifest) = parse(&source, &name, entry)? else {
            continue;
        };
        let Ok(artifact) = DeltaArtifact::of(&manifest) else {
            continue;
        };
        for layer in &artifact.layers {
            let kinds = [media_type::LAYER_DELTA, media_type::TAR_DIFF];
            if kinds.contains(&layer.blob.media_type.as_str()) {
                let mut stored = tempfile::tempfile_in(directory).map_err(fail)?;
                source.blob(&layer.blob, 0, &mut |part| stored.write_all(part))?;
                stored.seek(SeekFrom::Start(0)).map_err(fail)?;
                found.push((Some(layer.to), stored));
            }
        }
    }
    if found.is_empty() {
        let nothing = io::Error::other("holds no layer delta");
        return Err(fail(nothing));
    }
    Ok(found)
}
