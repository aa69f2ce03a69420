//! Signing documents of trust, and saying what they still lack.

use std::path::{Path, PathBuf};

use bundle::Error;
use bundle_format::{Digest, Limits};
use bundle_keys::{
    Document, Draft, KeyError, Role, Signed, Terms, TrustRoot, add_signature, document,
};

use super::options::usage;
use super::report::Standing;
use crate::cli::files;
use crate::cli::output::Output;

/// Makes a draft; what is wrong with the terms is wrong with the options.
pub(super) fn draft(terms: Terms) -> Result<Draft, Error> {
    Draft::new(terms).map_err(|error| {
        let hint = "a threshold is at least 1 and at most the number of different keys; \
                    a scope is for keys of the roles release, revocation and site-approver";
        usage("--threshold or --scope", error.to_string(), hint)
    })
}

/// Makes an error about a file of it.
pub(super) fn about(path: &Path) -> impl Fn(KeyError) -> Error + '_ {
    |source| Error::Key {
        path: path.into(),
        source,
    }
}

/// Takes a lack of signatures for what it is: a document that somebody else has to sign as well.
///
/// Returns what is missing, in words, and nothing where the document is complete.
pub(super) fn missing<T>(
    path: &Path,
    verdict: Result<T, KeyError>,
) -> Result<Option<String>, Error> {
    match verdict {
        Ok(_) => Ok(None),
        Err(error) if error.lacks_signatures() => Ok(Some(words(&error))),
        Err(error) => Err(about(path)(error)),
    }
}

/// Writes an error with its causes in one line.
pub(super) fn words(error: &KeyError) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// Returns the verdict on a draft: by itself, or also as the successor of another root.
pub(super) fn verdict(draft: &Draft, former: Option<&TrustRoot>) -> Result<TrustRoot, KeyError> {
    match former {
        Some(former) => draft.clone().succeed(former),
        None => draft.clone().finish(),
    }
}

/// Returns true where a root gives a key a role.
pub(super) fn has_role(terms: &Terms, role: Role, keyid: &Digest) -> bool {
    let listed = terms.roles.get(&role);
    listed.is_some_and(|listed| listed.keyids.contains(keyid))
}

/// A revocation list or permit that was written.
pub(super) struct Sealed {
    pub(super) standing: Standing,
    pub(super) missing: Option<String>,
}

/// Signs a new document with keys that have its role, and writes it.
pub(super) fn seal<T: Document>(
    content: &T,
    root: &TrustRoot,
    keys: &[PathBuf],
    out: &Path,
    output: &Output,
) -> Result<Sealed, Error> {
    let mut envelope = document::envelope(content).map_err(|error| {
        let hint = "`--help` says what each option takes";
        usage("an option", error.to_string(), hint)
    })?;
    for path in keys {
        let key = files::private_key(path, output)?;
        let keyid = key.public().map_err(about(path))?.keyid();
        if !has_role(root.terms(), T::ROLE, &keyid) {
            return Err(no_role(path, T::ROLE));
        }
        add_signature(&mut envelope, &key).map_err(about(path))?;
    }
    let bytes = envelope.to_json();
    let missing = missing(out, Signed::<T>::open(&bytes, root, &Limits::DEFAULT))?;
    files::create(out, &bytes, 0o644)?;
    Ok(Sealed {
        standing: Standing::counted(&envelope, missing.clone()),
        missing,
    })
}

/// Refuses a key without the role that the document needs.
pub(super) fn no_role(path: &Path, role: Role) -> Error {
    let hint = "`bundle trust show` lists the keys of each role; for a new version of a trust root \
                give the version before with --trust-root";
    let problem = format!("{} has no role {role}", path.display());
    usage("--key", problem, hint)
}
