//! Deltas for a bundle: one artifact for each base and platform, every layer delta proven before it counts.
//!
//! What was made is noted beside the blobs, so that a run after an interruption makes only what is missing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader, Read as _, Seek as _, SeekFrom};
use std::path::PathBuf;

use bundle_delta::DeltaError;
use bundle_format::delta::{DeltaArtifact, LayerDelta, ReusedLayer};
use bundle_format::manifest::{Document, Manifest};
use bundle_format::{BlobEntry, Descriptor, Digest, Limits, media_type};
use sha2::{Digest as _, Sha256};

use super::base::{self, Base, Parts};
use super::walk::Contents;
use crate::Error;
use crate::delta::{self, Layer, Spool};
use crate::layout::{Finished, Staging};
use crate::platform::Wanted;
use crate::progress::Progress;

/// Bytes copied at once.
const COPY: usize = 1 << 20;

/// Which deltas a bundle carries, and how they are made.
#[derive(Debug)]
pub struct Deltas {
    /// Images that hosts come from.
    pub bases: Vec<Base>,
    /// Leave out layers that every base's delta makes.
    pub only: bool,
    /// How layer deltas are coded.
    pub format: DeltaFormat,
    /// How they are made.
    pub options: delta::Options,
}

/// How layer deltas are coded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum DeltaFormat {
    /// This project's codec.
    #[default]
    Bundle,
    /// tar-diff, version 1, for hosts with other tools.
    TarDiff,
}

/// What was made, for the statement.
#[derive(Debug, Default)]
pub(super) struct Made {
    /// Manifests of the artifacts.
    pub(super) artifacts: Vec<(Descriptor, Vec<u8>)>,
    /// Blobs with layer deltas, and the hashes of their chunks.
    pub(super) blobs: BTreeMap<Digest, (Descriptor, Vec<Digest>)>,
    /// Layers of the image.
    pub(super) layers: BTreeSet<Digest>,
    /// Layers that the bundle can do without.
    pub(super) omitted: BTreeSet<Digest>,
}

/// Makes all deltas of an export; the layers of the image are in `staging`.
pub(super) fn make(
    deltas: &Deltas,
    contents: &Contents,
    staging: &Staging,
    progress: &dyn Progress,
) -> Result<Made, Error> {
    let mut made = Made::default();
    let mut needed = BTreeSet::new();
    for (descriptor, manifest) in contents.images() {
        let name = format!("manifest {}", descriptor.digest);
        let read = |blob: &Descriptor| read_staged(staging, blob);
        let (parts, config) = base::parts(&name, descriptor, manifest, read)?;
        let platform = Wanted::of(&config);
        made.layers
            .extend(parts.layers.iter().map(|(layer, _)| layer.digest));
        let mut work = Work {
            deltas,
            staging,
            progress,
            target: &parts,
            spools: BTreeMap::new(),
        };
        for base in &deltas.bases {
            let artifact = work.artifact(base, &platform, &mut made)?;
            let in_full = artifact
                .layers
                .iter()
                .filter(|layer| layer.to == layer.blob.digest);
            needed.extend(in_full.map(|layer| layer.to));
            let bytes = artifact.to_json();
            let mut descriptor = blob_descriptor(media_type::OCI_MANIFEST, &bytes);
            descriptor.artifact_type = Some(media_type::OCI_DELTA.into());
            made.artifacts.push((descriptor, bytes));
        }
    }
    if deltas.only {
        made.omitted = made.layers.difference(&needed).copied().collect();
    }
    Ok(made)
}

/// One image, for which deltas from several bases are made.
struct Work<'a> {
    deltas: &'a Deltas,
    staging: &'a Staging,
    progress: &'a dyn Progress,
    target: &'a Parts,
    /// Layers of the target that were unpacked, by their numbers.
    spools: BTreeMap<usize, Spool>,
}

impl Work<'_> {
    fn artifact(
        &mut self,
        base: &Base,
        platform: &Wanted,
        made: &mut Made,
    ) -> Result<DeltaArtifact, Error> {
        let old = base.parts(platform, self.target.manifest.digest)?;
        let had: BTreeSet<Digest> = old.layers.iter().map(|(_, diff_id)| *diff_id).collect();
        let mut artifact = DeltaArtifact {
            target: self.target.manifest.clone(),
            config: self.target.config.clone(),
            source: Some(old.manifest.digest),
            source_config: old.config.digest,
            layers: Vec::new(),
            reused: Vec::new(),
        };
        let mut todo = Vec::new();
        for (number, (layer, diff_id)) in self.target.layers.iter().enumerate() {
            if had.contains(diff_id) {
                let (digest, diff_id) = (layer.digest, *diff_id);
                artifact.reused.push(ReusedLayer { digest, diff_id });
            } else {
                todo.push(number);
                self.unpack(number)?;
            }
        }
        let mut spools = None;
        for number in self.order(&todo) {
            let Some((layer, _)) = self.target.layers.get(number) else {
                continue;
            };
            let key = self.key(&old, layer);
            let known = self.staging.note(&key)?;
            let delta = match known {
                Some(entry) => self.stored(layer, entry, made)?,
                None => {
                    let old = match &mut spools {
                        Some(spools) => spools,
                        empty => empty.insert(self.unpack_base(base, &old)?),
                    };
                    let entry = self.delta(number, layer, old, &todo, made)?;
                    self.staging
                        .set_note(&key, entry.map_or(whole(layer), |e| e))?;
                    entry
                }
            };
            let blob = match delta {
                Some(entry) => described(self.format(), entry),
                None => layer.clone(),
            };
            artifact.layers.push(LayerDelta {
                to: layer.digest,
                blob,
            });
        }
        Ok(artifact)
    }

    fn format(&self) -> &'static str {
        match self.deltas.format {
            DeltaFormat::Bundle => media_type::LAYER_DELTA,
            DeltaFormat::TarDiff => media_type::TAR_DIFF,
        }
    }

    /// Orders layers so that each finds the files of others that it holds archives of. Only chunks may be moved: another
    /// layer needs those below it.
    fn order(&self, todo: &[usize]) -> Vec<usize> {
        let is_chunk = |number: &usize| *number > 0 && *number < self.target.chunked;
        let chunks: Vec<usize> = todo.iter().copied().filter(is_chunk).collect();
        let spools: Vec<&Spool> = chunks.iter().filter_map(|n| self.spools.get(n)).collect();
        let ordered = delta::rebuild_order(&spools).into_iter();
        let ordered = ordered.filter_map(|place| chunks.get(place).copied());
        // The first layer of a chunked base holds its commit and comes last of it.
        let rest = todo.iter().copied().filter(|number| !is_chunk(number));
        ordered.chain(rest).collect()
    }

    fn unpack(&mut self, number: usize) -> Result<(), Error> {
        if self.spools.contains_key(&number) {
            return Ok(());
        }
        let Some((layer, diff_id)) = self.target.layers.get(number) else {
            return Ok(());
        };
        let stored = self.staging.open_blob(&layer.digest)?;
        let directory = &self.deltas.options.directory;
        self.progress.stage("unpacking", layer.size);
        let spool = base::unpack("the image", stored, layer, *diff_id, directory)?;
        self.progress.advance(layer.size);
        self.spools.insert(number, spool);
        self.interrupted()
    }

    fn unpack_base(&self, base: &Base, old: &Parts) -> Result<Vec<Spool>, Error> {
        let total = old.layers.iter().map(|(layer, _)| layer.size);
        self.progress
            .stage("reading base", total.fold(0, u64::saturating_add));
        let directory = &self.deltas.options.directory;
        let spool = |(layer, diff_id): &(Descriptor, Digest)| {
            base.spool(layer, *diff_id, directory, self.progress)
        };
        old.layers.iter().map(spool).collect()
    }

    /// Makes the delta for one layer; none where the layer itself is no larger.
    fn delta(
        &self,
        number: usize,
        layer: &Descriptor,
        old: &[Spool],
        todo: &[usize],
        made: &mut Made,
    ) -> Result<Option<BlobEntry>, Error> {
        let Some(target) = self.spools.get(&number) else {
            return Ok(None);
        };
        let mut sources: Vec<Layer<'_>> = old
            .iter()
            .map(|spool| Layer {
                spool,
                target: None,
            })
            .collect();
        let order = self.order(todo);
        let before = order.iter().take_while(|other| **other != number);
        for other in before {
            if let Some(spool) = self.spools.get(other) {
                let target = u32::try_from(*other).ok();
                sources.push(Layer { spool, target });
            }
        }
        let options = &self.deltas.options;
        let failed = |error: DeltaError| self.failed(layer, error);
        let mut file = tempfile::tempfile_in(&options.directory)
            .map_err(|e| Error::file("writing a temporary file in", &options.directory, e))?;
        match self.deltas.format {
            DeltaFormat::Bundle => {
                delta::make(target, &sources, options, self.progress, &mut file).map_err(failed)?;
            }
            DeltaFormat::TarDiff => {
                delta::tar_diff::make(target, &sources, options, self.progress, &mut file)
                    .map_err(failed)?;
            }
        }
        let rewind = |file: &mut File| file.seek(SeekFrom::Start(0)).map_err(DeltaError::Io);
        let size = file.stream_position().map_err(|e| failed(e.into()))?;
        if size >= layer.size {
            return Ok(None);
        }
        self.progress.stage("proving", target.size());
        rewind(&mut file).map_err(failed)?;
        let mut input = BufReader::new(&file);
        match self.deltas.format {
            DeltaFormat::Bundle => delta::prove(&mut input, &sources, options).map_err(failed)?,
            DeltaFormat::TarDiff => {
                delta::tar_diff::prove(target, &mut input, &sources).map_err(failed)?;
            }
        }
        self.progress.advance(target.size());
        self.interrupted()?;
        rewind(&mut file).map_err(failed)?;
        self.store(file, size, made).map(Some)
    }

    /// Keeps a delta as a blob of the bundle.
    fn store(&self, mut file: File, size: u64, made: &mut Made) -> Result<BlobEntry, Error> {
        let fail = |e| Error::file("reading a temporary file in", self.staging.path(), e);
        let mut hash = Sha256::new();
        let mut buffer = vec![0; COPY];
        each_part(&mut file, &mut buffer, |part| {
            hash.update(part);
            Ok(())
        })
        .map_err(fail)?;
        let digest = Digest::from_bytes(hash.finalize().into());
        let entry = BlobEntry { digest, size };
        let mut writer = self.staging.blob(entry)?;
        let received = writer.received();
        file.seek(SeekFrom::Start(received)).map_err(fail)?;
        each_part(&mut file, &mut buffer, |part| writer.write(part)).map_err(fail)?;
        self.finish(entry, writer.finish()?, made)?;
        Ok(entry)
    }

    /// Takes a delta that an earlier run has kept; none where that run found the layer itself to be smaller.
    fn stored(
        &self,
        layer: &Descriptor,
        entry: BlobEntry,
        made: &mut Made,
    ) -> Result<Option<BlobEntry>, Error> {
        if entry == whole(layer) {
            return Ok(None);
        }
        let writer = self.staging.blob(entry)?;
        self.finish(entry, writer.finish()?, made)?;
        Ok(Some(entry))
    }

    fn finish(&self, entry: BlobEntry, finished: Finished, made: &mut Made) -> Result<(), Error> {
        match finished {
            Finished::Whole(chunks) => {
                let blob = described(self.format(), entry);
                made.blobs.insert(entry.digest, (blob, chunks));
                Ok(())
            }
            Finished::WrongDigest { found } => Err(Error::Image {
                object: format!("delta {}", entry.digest),
                problem: format!("changed on its way to the disk, to {found}; run this again"),
            }),
        }
    }

    /// Names what a delta depends on, so that a later run takes it only for the same.
    fn key(&self, old: &Parts, layer: &Descriptor) -> Digest {
        let options = &self.deltas.options;
        let mut encoders = options.recipes.limits.encoders.versions();
        encoders.sort();
        let text = format!(
            "{} {} {:?} {} {} {} {} {encoders:?} {:?}",
            env!("CARGO_PKG_VERSION"),
            old.manifest.digest,
            layer.digest,
            options.level,
            options.window,
            options.memory,
            options.recipes.limits.memory,
            self.deltas.format,
        );
        Digest::of(text.as_bytes())
    }

    fn failed(&self, layer: &Descriptor, error: DeltaError) -> Error {
        match error {
            DeltaError::Io(e) if e.kind() == io::ErrorKind::Interrupted => Error::Interrupted,
            DeltaError::Io(e) if crate::is_no_space(&e) => {
                Error::file("writing in", &self.deltas.options.directory, e)
            }
            error => Error::Image {
                object: format!("layer {}", layer.digest),
                problem: format!("no delta can be made: {error}"),
            },
        }
    }

    fn interrupted(&self) -> Result<(), Error> {
        match self.progress.interrupted() {
            true => Err(Error::Interrupted),
            false => Ok(()),
        }
    }
}

/// Where temporary files of hundreds of megabytes go: beside the output they would be on a stick.
pub fn temporary_directory() -> PathBuf {
    std::env::var_os("TMPDIR").map_or_else(|| "/var/tmp".into(), PathBuf::from)
}

/// Stands for a layer that is no larger than its delta.
const fn whole(layer: &Descriptor) -> BlobEntry {
    BlobEntry {
        digest: layer.digest,
        size: layer.size,
    }
}

fn each_part(
    file: &mut File,
    buffer: &mut [u8],
    mut take: impl FnMut(&[u8]) -> io::Result<()>,
) -> io::Result<()> {
    loop {
        match file.read(buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => take(buffer.get(..count).unwrap_or_default())?,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
}

fn read_staged(staging: &Staging, blob: &Descriptor) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    let file = staging.open_blob(&blob.digest)?;
    file.take(Limits::DEFAULT.manifest_bytes)
        .read_to_end(&mut bytes)
        .map_err(|e| Error::file("reading", staging.path().join(blob.digest.blob_path()), e))?;
    Ok(bytes)
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

fn blob_descriptor(media_type: &str, bytes: &[u8]) -> Descriptor {
    let entry = BlobEntry {
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
    };
    described(media_type, entry)
}

impl Contents {
    /// Returns the manifests of the image itself, one for each platform.
    fn images(&self) -> impl Iterator<Item = (&Descriptor, &Manifest)> {
        self.manifests
            .iter()
            .filter_map(|(descriptor, document)| match document {
                Document::Manifest(manifest) => Some((descriptor, manifest.as_ref())),
                Document::Index(_) => None,
            })
    }
}
