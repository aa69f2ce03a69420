//! Images that deltas are made against: where they are, and their layers unpacked.
//!
//! A base is hostile as any source is. Everything of it is reached from one manifest by digest, and a layer counts once its
//! tar stream has the hash that the configuration states.

use std::io::{self, BufReader, Seek as _, SeekFrom, Write as _};
use std::path::Path;

use bundle_format::manifest::{Document, Manifest};
use bundle_format::{Descriptor, Digest, Limits};
use bundle_keys::TrustRoot;
use flate2::bufread::MultiGzDecoder;
use oci_spec::image::ImageConfiguration;
use serde::Deserialize;

use super::source::Source;
use crate::delta::Spool;
use crate::layer::Encoding;
use crate::platform::Wanted;
use crate::progress::Progress;
use crate::registry::{ClientOptions, Reference};
use crate::{Error, verify};

/// Longest receipt, in bytes.
const RECEIPT: u64 = 1 << 20;

/// An image that deltas can be made against.
#[derive(Debug)]
pub struct Base {
    /// As the user named it.
    pub name: String,
    source: Source,
    image: Descriptor,
}

/// The parts of an image that deltas are made of.
#[derive(Debug)]
pub(super) struct Parts {
    /// Manifest.
    pub(super) manifest: Descriptor,
    /// Configuration.
    pub(super) config: Descriptor,
    /// Layers and the hashes of their tar streams, lowest first.
    pub(super) layers: Vec<(Descriptor, Digest)>,
    /// Layers that form a chunked base, from the lowest on.
    pub(super) chunked: usize,
}

/// What `status` and `apply` write with `--json`, as far as it names a deployed image.
#[derive(Deserialize)]
struct Receipt {
    schema: String,
    deployment: Option<Deployed>,
    booted: Option<Deployed>,
    pending: Option<Deployed>,
}

#[derive(Deserialize)]
struct Deployed {
    source: Option<String>,
    manifest_digest: Option<Digest>,
}

impl Base {
    /// Opens a base: an image as [`Source::open`] takes it, the path of an earlier bundle for the product of `root`, or the path
    /// of a receipt, which is the output of `bundle status --json` or `bundle apply --json`.
    ///
    /// # Errors
    /// Fails where it is none of these or cannot be read, and where a bundle is not signed as `root` wants it.
    pub fn open(text: &str, options: ClientOptions, root: &TrustRoot) -> Result<Self, Error> {
        let with_transport = ["docker://", "oci:", "oci-archive:"];
        if with_transport.iter().any(|prefix| text.starts_with(prefix)) {
            return Self::image(text, options);
        }
        let path = Path::new(text);
        if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            return Self::receipt(text, path, options);
        }
        let bundle = verify::open(verify::medium(path)?, root)?;
        let image = bundle.release().image().cloned();
        let image = image.ok_or_else(|| refuse(text, "names no image".into()))?;
        // The bundle was checked but for its content, and that is checked by digests here, as that of any source.
        let source = Source::layout(path, None)?;
        Ok(Self::new(text, source, image))
    }

    /// Opens an image as [`Source::open`] takes it.
    ///
    /// # Errors
    /// As [`Source::open`] and [`Source::image`].
    pub fn image(text: &str, options: ClientOptions) -> Result<Self, Error> {
        let source = Source::open(text, options)?;
        let image = source.image()?;
        Ok(Self::new(text, source, image))
    }

    fn new(name: &str, source: Source, image: Descriptor) -> Self {
        Self {
            name: name.into(),
            source,
            image,
        }
    }

    fn receipt(text: &str, path: &Path, options: ClientOptions) -> Result<Self, Error> {
        let usage = |problem: &str| Error::Usage {
            option: "--from".into(),
            problem: format!("{}: {problem}", path.display()),
            hint:
                "a receipt is what `bundle status --json` or `bundle apply --json` writes on a host"
                    .into(),
        };
        let file = std::fs::File::open(path).map_err(|e| Error::file("opening", path, e))?;
        let mut bytes = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(file, RECEIPT), &mut bytes)
            .map_err(|e| Error::file("reading", path, e))?;
        let receipt: Receipt =
            serde_json::from_slice(&bytes).map_err(|_| usage("is no receipt"))?;
        if !["bundle.status.v1", "bundle.apply.v1"].contains(&receipt.schema.as_str()) {
            return Err(usage("is no receipt"));
        }
        let deployed = receipt.deployment.or(receipt.booted).or(receipt.pending);
        let deployed = deployed.and_then(|found| found.source.zip(found.manifest_digest));
        let (source, digest) = deployed.ok_or_else(|| usage("names no image from a bundle"))?;
        let reference: Reference = source
            .parse()
            .map_err(|_| usage("names an image that is none"))?;
        let wanted = format!("docker://{}@{digest}", reference.name());
        let source = Source::open(&wanted, options)?;
        let image = source.image()?;
        Ok(Self::new(text, source, image))
    }

    /// Finds the image's parts for the platform of a target, whose own manifest is `target`.
    pub(super) fn parts(&self, platform: &Wanted, target: Digest) -> Result<Parts, Error> {
        let mut descriptor = self.image.clone();
        for _ in 0..2 {
            match self.document(&descriptor)? {
                Document::Index(index) => {
                    let found = platform.among(&index.manifests);
                    let available = index.manifests.iter().filter_map(|m| m.platform.as_ref());
                    let available = available.map(crate::platform::describe).collect();
                    descriptor = found.cloned().ok_or_else(|| Error::WrongPlatform {
                        wanted: platform.to_string(),
                        available,
                    })?;
                }
                Document::Manifest(_) if descriptor.digest == target => {
                    return Err(Error::Usage {
                        option: "--from".into(),
                        problem: format!("{} is the image that is exported", self.name),
                        hint: "name an earlier release, from which hosts come".into(),
                    });
                }
                Document::Manifest(manifest) => {
                    let read = |blob: &Descriptor| self.source.small_blob(blob);
                    let parts = parts(&self.name, &descriptor, &manifest, read)?;
                    return check_platform(&self.name, parts, platform);
                }
            }
        }
        Err(refuse(&self.name, "is an index of indexes".into()))
    }

    fn document(&self, descriptor: &Descriptor) -> Result<Document, Error> {
        let bytes = self.source.document(descriptor)?;
        Document::parse(&bytes, &descriptor.media_type, &Limits::DEFAULT)
            .map_err(|e| refuse(&self.name, e.to_string()))
    }

    /// Streams a blob of the base from byte `start` on; the receiver checks its digest.
    pub(super) fn blob(
        &self,
        blob: &Descriptor,
        start: u64,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), Error> {
        self.source.blob(blob, start, sink)
    }

    /// Unpacks a layer into a temporary file below `directory`.
    pub(super) fn spool(
        &self,
        layer: &Descriptor,
        diff_id: Digest,
        directory: &Path,
        progress: &dyn Progress,
    ) -> Result<Spool, Error> {
        let fail = |e| Error::file("writing a temporary file in", directory, e);
        let mut stored = tempfile::tempfile_in(directory).map_err(fail)?;
        // The source would call a full disk its own failure.
        let mut full = None;
        let copied = self.source.blob(layer, 0, &mut |part| {
            if progress.interrupted() {
                return Err(io::ErrorKind::Interrupted.into());
            }
            progress.advance(part.len() as u64);
            stored.write_all(part).map_err(|error| {
                let kind = error.kind();
                full = Some(error);
                kind.into()
            })
        });
        match (full, copied) {
            (Some(error), _) => return Err(fail(error)),
            (None, Err(_)) if progress.interrupted() => return Err(Error::Interrupted),
            (None, copied) => copied?,
        }
        stored.seek(SeekFrom::Start(0)).map_err(fail)?;
        unpack(&self.name, stored, layer, diff_id, directory)
    }
}

/// Reads a manifest's configuration, and pairs its layers with the hashes of their tar streams.
pub(super) fn parts(
    name: &str,
    descriptor: &Descriptor,
    manifest: &Manifest,
    read: impl FnOnce(&Descriptor) -> Result<Vec<u8>, Error>,
) -> Result<(Parts, ImageConfiguration), Error> {
    let bytes = read(&manifest.config)?;
    let config: ImageConfiguration = bundle_format::json::parse(&bytes, &Limits::DEFAULT)
        .map_err(|e| refuse(name, format!("configuration: {e}")))?;
    let diff_ids = config.rootfs().diff_ids();
    if diff_ids.len() != manifest.layers.len() || diff_ids.is_empty() {
        let (layers, ids) = (manifest.layers.len(), diff_ids.len());
        return Err(refuse(
            name,
            format!("lists {ids} diff_ids for {layers} layers"),
        ));
    }
    let layer = |(descriptor, diff_id): (&Descriptor, &String)| {
        let diff_id = diff_id.parse();
        let diff_id = diff_id.map_err(|_| refuse(name, "lists a diff_id that is none".into()))?;
        Ok((descriptor.clone(), diff_id))
    };
    let layers: Vec<(Descriptor, Digest)> = manifest
        .layers
        .iter()
        .zip(diff_ids)
        .map(layer)
        .collect::<Result<_, Error>>()?;
    let labels = config
        .config()
        .as_ref()
        .and_then(|config| config.labels().as_ref());
    let last = labels.and_then(|labels| labels.get("ostree.final-diffid"));
    let chunked = last.and_then(|last| layers.iter().position(|(_, id)| id.to_string() == *last));
    let parts = Parts {
        manifest: descriptor.clone(),
        config: manifest.config.clone(),
        layers,
        chunked: chunked.map_or(0, |last| last + 1),
    };
    Ok((parts, config))
}

fn check_platform(
    name: &str,
    (parts, config): (Parts, ImageConfiguration),
    platform: &Wanted,
) -> Result<Parts, Error> {
    if config.architecture().to_string() == platform.architecture {
        return Ok(parts);
    }
    let found = format!("{}/{} ({name})", config.os(), config.architecture());
    Err(Error::WrongPlatform {
        wanted: platform.to_string(),
        available: vec![crate::text::printable(&found)],
    })
}

/// Unpacks a stored layer, and checks that it is the one that the configuration names.
pub(super) fn unpack(
    name: &str,
    stored: std::fs::File,
    layer: &Descriptor,
    diff_id: Digest,
    directory: &Path,
) -> Result<Spool, Error> {
    let object = format!("layer {} of {name}", layer.digest);
    let encoding = Encoding::of(&layer.media_type).ok_or_else(|| {
        refuse(
            &object,
            format!("has the media type {:?}", layer.media_type),
        )
    })?;
    let stored = BufReader::with_capacity(256 << 10, stored);
    let spool = match encoding {
        Encoding::Tar => Spool::read(stored, directory),
        Encoding::Gzip => Spool::read(MultiGzDecoder::new(stored), directory),
        Encoding::Zstd => zstd::stream::read::Decoder::with_buffer(stored)
            .and_then(|tar| Spool::read(tar, directory)),
    };
    let spool = spool.map_err(|error| match crate::is_no_space(&error) {
        true => Error::file("unpacking a layer in", directory, error),
        false => refuse(&object, format!("cannot be unpacked: {error}")),
    })?;
    if spool.digest() != diff_id {
        let found = spool.digest();
        return Err(refuse(
            &object,
            format!("unpacks to {found}, not to {diff_id}"),
        ));
    }
    Ok(spool)
}

fn refuse(object: &str, problem: String) -> Error {
    Error::Image {
        object: object.into(),
        problem,
    }
}
