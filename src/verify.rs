//! The one way from bytes on a medium to a [`VerifiedBundle`].
//!
//! Scope: finding the release statement, checking who signed it, deriving what every file has to
//! be, and reading content chunk by chunk. Steps are numbered as in SPEC 6.
//!
//! Threats: everything on the medium is hostile, and may change between two reads. Defences: before
//! the signature is checked only three small documents are parsed, under caps, to find the envelope
//! (6.1-6.3), and trust roots that vouch for each other, from the host's own on (6.3.1); what those
//! three say is then derived from the signed statement and compared byte for byte (6.6); files and
//! statement have to match one to one (6.7); no byte of content is handed on before its chunk was
//! checked (6.9).

mod content;
mod problem;
mod trust;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Read as _;
use std::path::Path;

use bundle_format::dsse::Envelope;
use bundle_format::layout::{self, FindError, INDEX_PATH, OCI_LAYOUT, OCI_LAYOUT_PATH};
use bundle_format::manifest::{Document, is_document};
use bundle_format::{BlobEntry, ChunkIndex, Descriptor, Digest, Limits, Release};
use bundle_keys::Trust;
use bundle_keys::chain::Step;

pub use content::BlobReader;
pub use problem::{Problem, ProblemKind};

use crate::Error;
use crate::layout::{EntryKind, Medium};
use crate::progress::Progress;

/// A bundle whose statement is signed by enough trusted keys, whose files are all there and no
/// more, and whose content is checked as it is read. Only this module makes one.
#[derive(Debug)]
pub struct VerifiedBundle {
    medium: Medium,
    release: Release,
    signers: BTreeSet<Digest>,
    chunks: ChunkIndex,
    statement: Digest,
    roots: Vec<Step>,
}

/// What `verify` found out about a bundle.
#[derive(Debug)]
pub struct Report {
    /// The release, once its statement was found to be signed by trusted keys and the chunk index
    /// to be the one it binds.
    pub release: Option<Release>,
    /// Key ids of the trusted signers.
    pub signers: BTreeSet<Digest>,
    /// Trust roots that the bundle brought and that follow the host's, oldest first; the last one
    /// judged the release.
    pub roots: Vec<Step>,
    /// Everything that is wrong; empty for a good bundle.
    pub problems: Vec<Problem>,
}

/// What a bundle claims about itself, found without checking a single signature.
#[derive(Debug)]
pub struct Claim {
    /// The release as the statement describes it.
    pub release: Release,
    /// Key ids that the envelope names.
    pub signers: Vec<Digest>,
    /// Size of the envelope in bytes.
    pub envelope: BlobEntry,
}

/// Opens the directory or tar file at `path`.
///
/// # Errors
/// Returns [`Error::File`] where the system does not open it, and [`Error::Rejected`] where it
/// holds no layout: another kind of file, or a tar file that is broken or hides data.
pub fn medium(path: &Path) -> Result<Medium, Error> {
    Medium::open(path, &Limits::DEFAULT).map_err(|error| match error.raw_os_error() {
        Some(_) => Error::file("opening", path, error),
        None => Error::Rejected {
            path: path.into(),
            problems: vec![Problem::new(ProblemKind::NotABundle, ".", error)],
        },
    })
}

/// Opens a bundle for use: everything but the content is checked now, the content as it is read.
///
/// # Errors
/// Returns [`Error::Rejected`] with every problem found.
pub fn open<'a>(medium: Medium, trust: impl Into<Trust<'a>>) -> Result<VerifiedBundle, Error> {
    let path = medium.path().to_path_buf();
    match examine(medium, trust.into(), &Limits::DEFAULT) {
        (Some(bundle), problems) if problems.is_empty() => Ok(bundle),
        (_, problems) => Err(Error::Rejected { path, problems }),
    }
}

/// Checks everything, reading each byte of the medium once, and reports all problems.
///
/// # Errors
/// Fails only where it was interrupted; what is wrong with the bundle is in the report.
pub fn check<'a>(
    medium: Medium,
    trust: impl Into<Trust<'a>>,
    progress: &dyn Progress,
) -> Result<Report, Error> {
    let (bundle, mut problems) = examine(medium, trust.into(), &Limits::DEFAULT);
    let Some(bundle) = bundle else {
        return Ok(Report {
            release: None,
            signers: BTreeSet::new(),
            roots: Vec::new(),
            problems,
        });
    };
    progress.stage("verifying", bundle.release.total_size());
    let found = content::check_all(
        &bundle.medium,
        &bundle.chunks,
        &bundle.release.blobs,
        progress,
    );
    if progress.interrupted() {
        return Err(Error::Interrupted);
    }
    // Missing and misplaced files were found by the listing already.
    let place = |p: &Problem| (p.file.clone(), p.range.as_ref().map(|range| range.start));
    let known: BTreeSet<_> = problems.iter().map(place).collect();
    let is_new =
        |p: &Problem| !known.contains(&(p.file.clone(), None)) && !known.contains(&place(p));
    problems.extend(found.into_iter().filter(is_new));
    Ok(Report {
        release: Some(bundle.release),
        signers: bundle.signers,
        roots: bundle.roots,
        problems,
    })
}

/// Reads what a bundle says about itself, trusting nothing and promising nothing.
///
/// # Errors
/// Returns [`Error::Rejected`] where no release statement can be found or read.
pub fn claim(medium: &Medium) -> Result<Claim, Error> {
    let limits = &Limits::DEFAULT;
    let rejected = |problem| Error::Rejected {
        path: medium.path().to_path_buf(),
        problems: vec![problem],
    };
    let found = find(medium, limits).map_err(rejected)?;
    let signers = found.envelope.signatures.iter().map(|s| s.keyid).collect();
    let release = Release::parse(&found.envelope.payload, limits).map_err(|e| {
        let path = found.envelope_blob.digest.blob_path();
        rejected(Problem::new(ProblemKind::NotABundle, &path, e))
    })?;
    Ok(Claim {
        release,
        signers,
        envelope: found.envelope_blob,
    })
}

impl VerifiedBundle {
    /// Returns the signed statement.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// Returns the key ids of the trusted signers.
    pub fn signers(&self) -> &BTreeSet<Digest> {
        &self.signers
    }

    /// Returns the trust roots that the bundle brought and that follow the host's, oldest first.
    ///
    /// The last one judged the release. The host may keep them, in this order.
    pub fn roots(&self) -> &[Step] {
        &self.roots
    }

    /// Returns the digest of the signed statement, a name for exactly this release.
    pub fn statement(&self) -> Digest {
        self.statement
    }

    /// Returns true where the release has the blob.
    pub fn has(&self, digest: &Digest) -> bool {
        self.chunks.size(digest).is_some()
    }

    /// Opens a blob; each byte is checked before it is returned.
    ///
    /// # Errors
    /// Fails where the medium no longer has the file, or has another.
    pub fn blob(&self, digest: &Digest) -> Result<BlobReader<'_>, Problem> {
        BlobReader::open(&self.medium, &self.chunks, digest)
    }

    /// Reads a small blob whole, such as a manifest or a configuration.
    ///
    /// # Errors
    /// Fails where it is larger than the cap for manifests, and as [`VerifiedBundle::blob`].
    pub fn small_blob(&self, digest: &Digest) -> Result<Vec<u8>, Problem> {
        let path = digest.blob_path();
        if self
            .chunks
            .size(digest)
            .is_none_or(|size| size > Limits::DEFAULT.manifest_bytes)
        {
            let detail = "is too large for a manifest or configuration";
            return Err(Problem::new(ProblemKind::Inconsistent, &path, detail));
        }
        let mut bytes = Vec::new();
        match self.blob(digest)?.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(into_problem(error, &path)),
        }
    }
}

/// Returns the problem inside an error of a [`BlobReader`], or makes one of another error.
pub fn into_problem(error: std::io::Error, path: &str) -> Problem {
    let text = error.to_string();
    match error.into_inner().map(|inner| inner.downcast::<Problem>()) {
        Some(Ok(problem)) => *problem,
        _ => Problem::new(ProblemKind::Unreadable, path, text),
    }
}

struct Found {
    index_json: Vec<u8>,
    manifest: BlobEntry,
    manifest_bytes: Vec<u8>,
    envelope: Envelope,
    envelope_blob: BlobEntry,
}

/// Steps 6.1 to 6.3: follows index.json and the release manifest to the envelope.
fn find(medium: &Medium, limits: &Limits) -> Result<Found, Problem> {
    let index_json = read(medium, INDEX_PATH, limits.manifest_bytes).map_err(|p| match p.kind {
        ProblemKind::MissingFile | ProblemKind::WrongSize => Problem {
            kind: ProblemKind::NotABundle,
            ..p
        },
        _ => p,
    })?;
    let refuse = |path: &str, error: FindError| {
        let kind = match error {
            FindError::Unsigned => ProblemKind::Unsigned,
            _ => ProblemKind::NotABundle,
        };
        Problem::new(kind, path, error)
    };
    let manifest = layout::find_release(&index_json, limits).map_err(|e| refuse(INDEX_PATH, e))?;
    let manifest = BlobEntry {
        digest: manifest.digest,
        size: manifest.size,
    };
    let manifest_bytes = read_blob(medium, &manifest, limits.manifest_bytes)?;
    let envelope_blob = layout::find_envelope(&manifest_bytes, limits)
        .map_err(|e| refuse(&manifest.digest.blob_path(), e))?;
    let bytes = read_blob(medium, &envelope_blob, limits.envelope_bytes)?;
    let untrusted = |detail: &dyn std::fmt::Display| {
        let path = envelope_blob.digest.blob_path();
        Problem::new(ProblemKind::Untrusted, &path, detail.to_string())
    };
    let envelope = Envelope::parse(&bytes, limits).map_err(|e| untrusted(&e))?;
    // The envelope is the one file that nobody signs: without this it could carry what it likes.
    if envelope.to_json() != bytes {
        return Err(untrusted(&"is not in the one spelling of an envelope"));
    }
    Ok(Found {
        index_json,
        manifest,
        manifest_bytes,
        envelope,
        envelope_blob,
    })
}

/// Steps 6.1 to 6.8; without a trusted statement there is no bundle and only the reason why.
fn examine(
    medium: Medium,
    trust: Trust<'_>,
    limits: &Limits,
) -> (Option<VerifiedBundle>, Vec<Problem>) {
    match authenticate(&medium, trust, limits) {
        Err(problem) => (None, vec![problem]),
        Ok(authentic) => {
            let Authentic { found, release, .. } = &authentic;
            let mut problems = check_derived(&medium, found, release);
            let known: BTreeSet<_> = problems.iter().map(|p| p.file.clone()).collect();
            let listed = check_files(&medium, found, release, limits);
            problems.extend(listed.into_iter().filter(|p| !known.contains(&p.file)));
            let bundle = VerifiedBundle {
                medium,
                statement: Digest::of(&authentic.found.envelope.payload),
                release: authentic.release,
                signers: authentic.signers,
                chunks: authentic.chunks,
                roots: authentic.roots,
            };
            problems.extend(check_documents(&bundle, limits, &problems));
            (Some(bundle), problems)
        }
    }
}

/// What is known once the statement is trusted.
struct Authentic {
    found: Found,
    roots: Vec<Step>,
    release: Release,
    signers: BTreeSet<Digest>,
    chunks: ChunkIndex,
}

/// Steps 6.1 to 6.5: what was signed, by whom, and with which chunk index.
fn authenticate(medium: &Medium, trust: Trust<'_>, limits: &Limits) -> Result<Authentic, Problem> {
    let found = find(medium, limits)?;
    let roots = trust::walk(medium, &found.index_json, trust.root, limits)?;
    let newest = Trust {
        root: roots.last().map_or(trust.root, |step| &step.root),
        ..trust
    };
    let path = found.envelope_blob.digest.blob_path();
    let (release, signers) = trust::judge(&found.envelope, &path, &newest, limits)?;
    let bytes = read_blob(medium, &release.chunks.index, limits.chunk_index_bytes)?;
    let chunks = ChunkIndex::parse(&bytes, &release.blobs).map_err(|e| {
        Problem::new(
            ProblemKind::Inconsistent,
            &release.chunks.index.digest.blob_path(),
            e,
        )
    })?;
    Ok(Authentic {
        found,
        roots,
        release,
        signers,
        chunks,
    })
}

/// Step 6.6: the files that follow from the statement are exactly what follows from it.
fn check_derived(medium: &Medium, found: &Found, release: &Release) -> Vec<Problem> {
    let mut problems = Vec::new();
    let manifest = layout::release_manifest(release, found.envelope_blob);
    let differs = |path: &str| {
        Problem::new(
            ProblemKind::Corrupt,
            path,
            "differs from what follows from the statement",
        )
    };
    if manifest != found.manifest_bytes {
        problems.push(differs(&found.manifest.digest.blob_path()));
    }
    if layout::index_json(release, &manifest) != found.index_json {
        problems.push(differs(INDEX_PATH));
    }
    match read(medium, OCI_LAYOUT_PATH, 4096) {
        Ok(bytes) if bytes == OCI_LAYOUT => {}
        Ok(_) => problems.push(differs(OCI_LAYOUT_PATH)),
        Err(problem) => problems.push(problem),
    }
    problems
}

/// Step 6.7: the medium holds every file of the statement, with its size, and nothing else.
fn check_files(medium: &Medium, found: &Found, release: &Release, limits: &Limits) -> Vec<Problem> {
    let own = [found.manifest, found.envelope_blob, release.chunks.index];
    let mut expected: BTreeMap<String, Option<u64>> = own
        .iter()
        .chain(&release.blobs)
        .map(|b| (b.digest.blob_path(), Some(b.size)))
        .collect();
    for path in [OCI_LAYOUT_PATH, INDEX_PATH] {
        expected.insert(path.into(), None);
    }
    let entries = match medium.entries(limits) {
        Ok(entries) => entries,
        Err(error) => return vec![Problem::new(ProblemKind::Unreadable, ".", error)],
    };
    let mut problems = Vec::new();
    for entry in entries {
        match (expected.remove(&entry.path), entry.kind) {
            (None, EntryKind::File { .. }) => {
                let detail = "is not listed in the release statement";
                problems.push(Problem::new(ProblemKind::ExtraFile, &entry.path, detail));
            }
            (None, EntryKind::Misplaced { what }) => {
                let detail = format!("is {what} that the release statement does not list");
                problems.push(Problem::new(ProblemKind::ExtraFile, &entry.path, detail));
            }
            (Some(_), EntryKind::Misplaced { what }) => {
                let detail = format!("is {what}");
                problems.push(Problem::new(
                    ProblemKind::MisplacedFile,
                    &entry.path,
                    detail,
                ));
            }
            (Some(Some(signed)), EntryKind::File { size }) if signed != size => {
                let detail = format!("has {size} bytes, {signed} were signed");
                problems.push(Problem::new(ProblemKind::WrongSize, &entry.path, detail));
            }
            (Some(_), EntryKind::File { .. }) => {}
        }
    }
    let missing = expected.into_keys();
    problems.extend(missing.map(|p| Problem::new(ProblemKind::MissingFile, &p, "is missing")));
    problems
}

/// Step 6.8: every manifest and index that the release lists is whole.
///
/// An index may name manifests that the bundle does not carry; a manifest carries all its blobs.
fn check_documents(bundle: &VerifiedBundle, limits: &Limits, known: &[Problem]) -> Vec<Problem> {
    let mut problems = Vec::new();
    let known: BTreeSet<_> = known.iter().map(|problem| problem.file.as_str()).collect();
    let mut seen = BTreeSet::new();
    let mut omitted: BTreeSet<_> = bundle.release.omitted.iter().copied().collect();
    let mut waiting: Vec<Descriptor> = bundle.release.index.iter().rev().cloned().collect();
    while let Some(descriptor) = waiting.pop() {
        if problems.len() >= content::PROBLEM_CAP {
            break;
        }
        let path = descriptor.digest.blob_path();
        if !is_document(&descriptor.media_type)
            || !seen.insert(descriptor.digest)
            || known.contains(path.as_str())
        {
            continue;
        }
        let inconsistent = |detail: &dyn std::fmt::Display| {
            Problem::new(ProblemKind::Inconsistent, &path, detail.to_string())
        };
        let bytes = match bundle.small_blob(&descriptor.digest) {
            Ok(bytes) => bytes,
            Err(problem) => {
                problems.push(problem);
                continue;
            }
        };
        let document = match Document::parse(&bytes, &descriptor.media_type, limits) {
            Ok(document) => document,
            Err(error) => {
                problems.push(inconsistent(&error));
                continue;
            }
        };
        let sparse = matches!(document, Document::Index(_));
        for part in document.parts() {
            match bundle.chunks.size(&part.digest) {
                Some(size) if size == part.size => {
                    if sparse {
                        waiting.push(part.clone());
                    }
                }
                None if sparse || bundle.release.omitted.binary_search(&part.digest).is_ok() => {
                    omitted.remove(&part.digest);
                }
                None => problems.push(inconsistent(&format!(
                    "needs {}, which is not there",
                    part.digest
                ))),
                Some(size) => problems.push(inconsistent(&format!(
                    "gives {} the size {}, the statement {size}",
                    part.digest, part.size
                ))),
            }
        }
    }
    // Only where every document was read it is known that none names them.
    if problems.is_empty() && known.is_empty() {
        let path = bundle.statement.blob_path();
        let unknown = omitted.iter().map(|digest| {
            let detail = format!("omits {digest}, which no manifest names");
            Problem::new(ProblemKind::Inconsistent, &path, detail)
        });
        problems.extend(unknown.take(1));
    }
    problems
}

fn read(medium: &Medium, path: &str, cap: u64) -> Result<Vec<u8>, Problem> {
    medium
        .file(path)
        .and_then(|file| file.read_capped(cap))
        .map_err(|error| content::unreadable(path, &error))
}

/// Reads a blob that no chunk index covers and checks it against its digest.
fn read_blob(medium: &Medium, blob: &BlobEntry, cap: u64) -> Result<Vec<u8>, Problem> {
    let path = blob.digest.blob_path();
    let bytes = read(medium, &path, cap)?;
    if bytes.len() as u64 != blob.size {
        let detail = format!("has {} bytes, not {}", bytes.len(), blob.size);
        return Err(Problem::new(ProblemKind::WrongSize, &path, detail));
    }
    if Digest::of(&bytes) != blob.digest {
        let detail = "differs from its digest";
        return Err(Problem::new(ProblemKind::Corrupt, &path, detail));
    }
    Ok(bytes)
}
