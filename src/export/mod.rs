//! Exporting: from an image in a registry to a signed bundle on a medium.
//!
//! Order: resolve the tag once; read the documents that tell what belongs to the image; copy its
//! blobs in parallel, each hashed as it arrives; derive the chunk index; sign; publish. Until the
//! last step everything lies in `PATH.partial`, and a second run goes on from there.

mod archive;
mod base;
mod deltas;
mod show;
mod source;
mod walk;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread;

use bundle_format::chunk::{CHUNK_BYTES, chunk_count};
use bundle_format::layout::{EMPTY, index_json, release_manifest};
use bundle_format::{
    BlobEntry, Chunks, Descriptor, Digest, Limits, OMITTED, Release, check_version, media_type,
};
use bundle_keys::{PrivateKey, Role, TrustRoot};
use oci_spec::image::ImageConfiguration;

pub use archive::{Created, Rebuilt, apply_archive, create_archive, layer_deltas};
pub use base::Base;
pub use deltas::{DeltaFormat, Deltas, temporary_directory};
pub use show::{Needs, Share, Shown, base_layers, show};
pub use source::Source;
pub use walk::Contents;

use deltas::Made;

use crate::Error;
use crate::layout::{Finished, Staging};
use crate::platform::Choice;
use crate::progress::Progress;
use crate::registry::{Reference, RegistryError};

/// Blobs that are copied at the same time.
const PARALLEL: usize = 4;
/// Whole tries for a blob whose bytes turn out wrong.
const TRIES: usize = 2;

const VERSION_LABEL: &str = "org.opencontainers.image.version";
const CREATED_LABEL: &str = "org.opencontainers.image.created";

/// What to export, under which name, for whom.
#[derive(Debug)]
pub struct Order {
    /// Platforms to carry.
    pub platforms: Choice,
    /// Where the bundle goes; must not exist.
    pub output: PathBuf,
    /// Position in the product's order of releases.
    pub sequence: u64,
    /// Version; `None` takes the image's label `org.opencontainers.image.version`.
    pub version: Option<String>,
    /// Registry reference hosts follow; `None` takes the source's.
    pub reference: Option<String>,
    /// Deltas from earlier releases, if there are to be any.
    pub deltas: Option<Deltas>,
}

/// What an export did.
#[derive(Debug)]
pub struct Exported {
    /// The release as it was signed.
    pub release: Release,
    /// Key ids of the signers.
    pub signers: Vec<Digest>,
    /// Bytes copied from the source.
    pub copied: u64,
    /// Bytes an earlier, interrupted run had copied already.
    pub reused: u64,
    /// Artifacts with deltas.
    pub deltas: usize,
}

/// Exports `source` as a bundle for the product of `root`, signed with `keys`.
///
/// # Errors
/// Fails before anything is copied where the keys do not satisfy the trust root or the output
/// exists; later failures leave `OUTPUT.partial` for the next run to go on with.
pub fn export(
    source: &Source,
    order: &Order,
    root: &TrustRoot,
    keys: &[PrivateKey],
    progress: &dyn Progress,
) -> Result<Exported, Error> {
    check_signers(root, keys)?;
    Staging::check_target(&order.output)?;
    let image = source.image()?;
    let mut contents = Contents::of(source, &image, &order.platforms)?;
    let names = Names::of(source, order, &contents)?;
    let staging = Staging::open(&order.output)?;
    contents.add_own(BlobEntry {
        digest: Digest::of(EMPTY),
        size: EMPTY.len() as u64,
    })?;
    let mut copy = copy_blobs(source, &contents, &staging, progress)?;
    for bytes in contents
        .documents
        .iter()
        .map(|(_, bytes)| bytes.as_slice())
        .chain([EMPTY])
    {
        let entry = staging.put(bytes)?;
        let chunks = bytes.chunks(CHUNK_BYTES as usize).map(Digest::of).collect();
        copy.chunks.insert(entry.digest, chunks);
    }
    let made = match &order.deltas {
        Some(deltas) => deltas::make(deltas, &contents, &staging, progress)?,
        None => Made::default(),
    };
    let (omitted, artifacts) = (made.omitted.clone(), made.artifacts.len());
    add_deltas(&mut contents, &mut copy, &staging, made)?;
    let blobs = contents.entries();
    let index = staging.put(&chunk_index(&blobs, &copy.chunks)?)?;
    let release = Release {
        critical: match omitted.is_empty() {
            true => Vec::new(),
            false => vec![OMITTED.into()],
        },
        product: root.product().into(),
        channel: None,
        version: names.version,
        sequence: order.sequence,
        security_floor: None,
        expires: None,
        created: names.created,
        source: names.reference,
        index: contents.index,
        blobs,
        omitted: omitted.into_iter().collect(),
        chunks: Chunks {
            size: CHUNK_BYTES,
            index,
        },
    };
    let signers = seal(release.clone(), keys, staging)?;
    Ok(Exported {
        release,
        signers,
        copied: copy.copied,
        reused: copy.reused,
        deltas: artifacts,
    })
}

/// Puts deltas where a reader comes to them before the layers they stand for, and drops layers that are left out.
fn add_deltas(
    contents: &mut Contents,
    copy: &mut Copy,
    staging: &Staging,
    made: Made,
) -> Result<(), Error> {
    for (descriptor, bytes) in &made.artifacts {
        staging.put(bytes)?;
        let chunks = bytes.chunks(CHUNK_BYTES as usize).map(Digest::of).collect();
        copy.chunks.insert(descriptor.digest, chunks);
        if contents.note(descriptor)? {
            contents.index.push(descriptor.clone());
        }
    }
    for (digest, (blob, chunks)) in made.blobs {
        copy.chunks.insert(digest, chunks);
        contents.note(&blob)?;
    }
    contents
        .blobs
        .retain(|blob| !made.omitted.contains(&blob.digest));
    contents
        .blobs
        .sort_by_key(|blob| made.layers.contains(&blob.digest));
    Ok(())
}

/// Refuses keys whose signature the hosts would not accept.
fn check_signers(root: &TrustRoot, keys: &[PrivateKey]) -> Result<(), Error> {
    let probe = bundle_keys::sign(media_type::IN_TOTO, Vec::new(), keys);
    let verdict = probe.and_then(|envelope| {
        let signers = root.check_signatures(Role::Release, &envelope)?;
        Ok(envelope
            .signatures
            .into_iter()
            .find(|s| !signers.contains(&s.keyid)))
    });
    let usage = |problem: String| Error::Usage {
        option: "--sign-key".into(),
        problem,
        hint: "`bundle trust show` lists the keys that may sign releases".into(),
    };
    match verdict {
        Ok(None) => Ok(()),
        Ok(Some(other)) => Err(usage(format!(
            "key {} has no role `release` in the trust root",
            other.keyid.to_hex()
        ))),
        Err(error) => Err(usage(error.to_string())),
    }
}

#[derive(Debug, Default)]
struct Copy {
    chunks: BTreeMap<Digest, Vec<Digest>>,
    copied: u64,
    reused: u64,
}

/// Copies every blob but the documents, several at a time; stops all at the first failure.
fn copy_blobs(
    source: &Source,
    contents: &Contents,
    staging: &Staging,
    progress: &dyn Progress,
) -> Result<Copy, Error> {
    let own = Digest::of(EMPTY);
    let blobs: Vec<_> = contents
        .to_copy()
        .filter(|blob| blob.digest != own)
        .collect();
    progress.stage(
        "exporting",
        blobs.iter().fold(0, |sum, b| sum.saturating_add(b.size)),
    );
    let (next, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    let (copied, reused) = (AtomicU64::new(0), AtomicU64::new(0));
    let results = Mutex::new((BTreeMap::new(), None));
    let lock = || results.lock().unwrap_or_else(|poison| poison.into_inner());
    let work = || {
        while !stop.load(Ordering::Relaxed) {
            let turn = next.fetch_add(1, Ordering::Relaxed);
            let Some(blob) = blobs.get(turn) else { return };
            let stopped = || stop.load(Ordering::Relaxed) || progress.interrupted();
            match copy_blob(source, blob, staging, progress, &stopped) {
                Ok((chunks, before)) => {
                    reused.fetch_add(before, Ordering::Relaxed);
                    copied.fetch_add(blob.size.saturating_sub(before), Ordering::Relaxed);
                    lock().0.insert(blob.digest, chunks);
                }
                Err(error) => {
                    // In this order: those who are stopped fail as well, and must not be the first.
                    lock().1.get_or_insert(error);
                    stop.store(true, Ordering::Relaxed);
                }
            }
        }
    };
    thread::scope(|scope| {
        for _ in 0..PARALLEL.min(blobs.len()) {
            scope.spawn(work);
        }
    });
    let (chunks, failure) = results
        .into_inner()
        .unwrap_or_else(|poison| poison.into_inner());
    if progress.interrupted() {
        return Err(Error::Interrupted);
    }
    match failure {
        Some(error) => Err(error),
        None => Ok(Copy {
            chunks,
            copied: copied.into_inner(),
            reused: reused.into_inner(),
        }),
    }
}

/// Copies one blob; returns its chunk hashes and how many of its bytes were there before.
fn copy_blob(
    source: &Source,
    blob: &Descriptor,
    staging: &Staging,
    progress: &dyn Progress,
    stopped: &dyn Fn() -> bool,
) -> Result<(Vec<Digest>, u64), Error> {
    let mut found = None;
    for _ in 0..TRIES {
        let entry = BlobEntry {
            digest: blob.digest,
            size: blob.size,
        };
        let mut writer = staging.blob(entry)?;
        let before = writer.received();
        progress.advance(before);
        source
            .blob(blob, before, &mut |part| {
                if stopped() {
                    return Err(std::io::ErrorKind::Interrupted.into());
                }
                progress.advance(part.len() as u64);
                writer.write(part)
            })
            .map_err(|error| if stopped() { Error::Interrupted } else { error })?;
        match writer.finish()? {
            Finished::Whole(chunks) => return Ok((chunks, before)),
            Finished::WrongDigest { found: other } => found = Some(other),
        }
    }
    let object = format!("blob {}", blob.digest);
    Err(match (source, found) {
        (Source::Registry { .. }, Some(found)) => Error::Registry(RegistryError::WrongDigest {
            object,
            expected: blob.digest,
            found,
        }),
        (_, found) => Error::Image {
            object,
            problem: match found {
                Some(found) => format!("the source has other bytes, with digest {found}"),
                None => "the source does not send it".into(),
            },
        },
    })
}

/// What the release is called: from the order, else from the image's own labels.
struct Names {
    version: String,
    created: Option<String>,
    reference: String,
}

impl Names {
    /// Settles the names before the long copy, so that what is missing is asked for at once.
    fn of(source: &Source, order: &Order, contents: &Contents) -> Result<Self, Error> {
        let config = contents.config.as_deref().and_then(parse_config);
        let label = |name: &str| {
            let config = config.as_ref()?.config().as_ref()?;
            config.labels().as_ref()?.get(name).cloned()
        };
        let usage = |option: &str, problem: String, hint: &str| Error::Usage {
            option: option.into(),
            problem,
            hint: hint.into(),
        };
        let version = order.version.clone().or_else(|| label(VERSION_LABEL));
        let hint = "give the version with --version; letters, digits and . _ - + ~ : may be in it";
        let version = version.ok_or_else(|| {
            usage(
                "--version",
                format!("the image has no label {VERSION_LABEL}"),
                hint,
            )
        })?;
        check_version(&version).map_err(|problem| usage("--version", problem, hint))?;
        let reference = order.reference.clone().or_else(|| source.reference());
        let hint = "give it, such as --reference registry.example/os/appliance:1.2.3";
        let reference = reference.ok_or_else(|| {
            let problem = "a layout does not say which registry reference hosts follow";
            usage("--reference", problem.into(), hint)
        })?;
        reference
            .parse::<Reference>()
            .map_err(|e| usage("--reference", e.to_string(), hint))?;
        let created = label(CREATED_LABEL).or_else(|| config.as_ref()?.created().clone());
        // A time that is none says nothing; the image stays what it is.
        let created = created.filter(|text| text.parse::<jiff::Timestamp>().is_ok());
        Ok(Self {
            version,
            created,
            reference,
        })
    }
}

/// Parses an image's configuration for its labels; artifacts have another, which is no failure.
fn parse_config(bytes: &[u8]) -> Option<ImageConfiguration> {
    bundle_format::json::parse(bytes, &Limits::DEFAULT).ok()
}

fn chunk_index(
    blobs: &[BlobEntry],
    chunks: &BTreeMap<Digest, Vec<Digest>>,
) -> Result<Vec<u8>, Error> {
    let mut bytes = Vec::new();
    for blob in blobs {
        let hashes = chunks
            .get(&blob.digest)
            .map(Vec::as_slice)
            .unwrap_or_default();
        if hashes.len() as u64 != chunk_count(blob.size) {
            return Err(Error::Image {
                object: format!("blob {}", blob.digest),
                problem: format!("is not {} bytes long", blob.size),
            });
        }
        bytes.extend(hashes.iter().flat_map(|hash| *hash.as_bytes()));
    }
    Ok(bytes)
}

/// Signs the release and publishes the bundle; returns who signed.
fn seal(release: Release, keys: &[PrivateKey], staging: Staging) -> Result<Vec<Digest>, Error> {
    let object = release
        .image()
        .map_or_else(String::new, |image| image.digest.to_string());
    let refuse = |problem: String| Error::Image {
        object: object.clone(),
        problem,
    };
    let payload = release
        .to_json(&Limits::DEFAULT)
        .map_err(|e| refuse(format!("the statement's {e}")))?;
    let envelope =
        bundle_keys::sign(media_type::IN_TOTO, payload, keys).map_err(|e| refuse(e.to_string()))?;
    let envelope_json = envelope.to_json();
    let envelope_blob = staging.put(&envelope_json)?;
    let manifest = release_manifest(&release, envelope_blob);
    let manifest_blob = staging.put(&manifest)?;
    let index_json = index_json(&release, &manifest);
    // What no reader takes must not be signed away.
    let limits = Limits::DEFAULT;
    for (what, size, cap) in [
        ("the envelope", envelope_json.len(), limits.envelope_bytes),
        ("index.json", index_json.len(), limits.manifest_bytes),
    ] {
        if size as u64 > cap {
            return Err(refuse(format!(
                "{what} would have {size} bytes, at most {cap} are read"
            )));
        }
    }
    // What a reader needs first lies first.
    let mut all = vec![manifest_blob, envelope_blob, release.chunks.index];
    all.extend(&release.blobs);
    staging.publish(&all, &index_json)?;
    Ok(envelope.signatures.iter().map(|s| s.keyid).collect())
}
