//! Who signed: the trust roots that travel in a bundle, and the statement (SPEC 6.3.1 and 6.4).
//!
//! Threats: a root on the medium that the host never had, a chain without end, a statement by keys
//! that may not sign it. Defences: a root is taken only where the one before vouches for it, from the
//! host's own on; number and sizes are capped before one is read; the statement is parsed after its
//! signatures were counted, and judged by the newest root.

use std::collections::BTreeSet;
use std::fmt;

use bundle_format::dsse::Envelope;
use bundle_format::layout::INDEX_PATH;
use bundle_format::{Digest, Limits, Release, media_type, trust_chain};
use bundle_keys::chain::{self, Step};
use bundle_keys::{KeyError, Role, Trust, TrustRoot};

use super::{Problem, ProblemKind, read_blob};
use crate::layout::Medium;

/// Step 6.3.1: walks from the host's root along the chain of the bundle, where it has one.
pub(super) fn walk(
    medium: &Medium,
    index_json: &[u8],
    held: &TrustRoot,
    limits: &Limits,
) -> Result<Vec<Step>, Problem> {
    let malformed = |path: &str, detail: &dyn fmt::Display| {
        Problem::new(ProblemKind::Untrusted, path, detail.to_string())
    };
    let manifest = trust_chain::find(index_json, limits).map_err(|e| malformed(INDEX_PATH, &e))?;
    let Some(manifest) = manifest else {
        return Ok(Vec::new());
    };
    let path = manifest.digest.blob_path();
    let bytes = read_blob(medium, &manifest, limits.manifest_bytes)?;
    let blobs = trust_chain::roots(&bytes, limits).map_err(|e| malformed(&path, &e))?;
    let roots = blobs
        .iter()
        .map(|blob| read_blob(medium, blob, limits.trust_root_bytes))
        .collect::<Result<Vec<_>, _>>()?;
    chain::walk(held, &roots, limits).map_err(|error| refuse(&path, &error))
}

/// Step 6.4: decides whether the envelope holds a release that this host trusts.
pub(super) fn judge(
    envelope: &Envelope,
    path: &str,
    trust: &Trust<'_>,
    limits: &Limits,
) -> Result<(Release, BTreeSet<Digest>), Problem> {
    if envelope.payload_type != media_type::IN_TOTO {
        let detail = format!(
            "holds {:?}, not {}",
            envelope.payload_type,
            media_type::IN_TOTO
        );
        return Err(Problem::new(ProblemKind::Untrusted, path, detail));
    }
    let signers = trust
        .check_signatures(Role::Release, envelope)
        .map_err(|error| refuse(path, &error))?;
    let release = Release::parse(&envelope.payload, limits)
        .map_err(|e| Problem::new(ProblemKind::Inconsistent, path, e))?;
    let statement = Digest::of(&envelope.payload);
    let signers = trust
        .check_release(Role::Release, &release, statement, &signers)
        .map_err(|error| refuse(path, &error))?;
    Ok((release, signers))
}

/// Makes a finding of what the documents of trust say.
fn refuse(path: &str, error: &KeyError) -> Problem {
    let kind = match error {
        KeyError::Unsigned => ProblemKind::Unsigned,
        KeyError::OtherProduct { .. } => ProblemKind::WrongProduct,
        KeyError::OtherChannel { .. } => ProblemKind::WrongChannel,
        KeyError::Revoked { .. } | KeyError::RevokedKey { .. } => ProblemKind::Revoked,
        _ => ProblemKind::Untrusted,
    };
    let mut detail = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        detail = format!("{detail}: {cause}");
        source = cause.source();
    }
    Problem::new(kind, path, detail)
}
