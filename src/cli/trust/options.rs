//! Values that several verbs of `bundle trust` take, and what they mean.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use bundle::Error;
use bundle_format::{Digest, Limits, Time, dsse};
use bundle_keys::{
    Document, Draft, KeyError, Range, Role, Scope, Signed, Terms, TrustRoot, add_signature,
    document,
};

use super::report::Standing;
use crate::cli::files;
use crate::cli::output::Output;

/// `ROLE=VALUE`.
#[derive(Clone, Debug)]
pub(super) struct ForRole<T> {
    pub(super) role: Role,
    pub(super) value: T,
}

impl<T: FromStr> FromStr for ForRole<T>
where
    T::Err: ToString,
{
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (role, value) = text.split_once('=').ok_or("not of the form ROLE=VALUE")?;
        Ok(Self {
            role: role.parse()?,
            value: value.parse::<T>().map_err(|e| e.to_string())?,
        })
    }
}

/// `KEY,channel=NAME,…,sequence=FROM..TO`.
#[derive(Clone, Debug)]
pub(super) struct ForKey {
    key: String,
    scope: Scope,
}

impl FromStr for ForKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = text.split(',');
        let key = parts.next().unwrap_or_default().to_string();
        let mut scope = Scope {
            channels: None,
            sequence: None,
        };
        for part in parts {
            match part.split_once('=') {
                Some(("channel", name)) => {
                    let channels = scope.channels.get_or_insert_default();
                    channels.insert(name.to_string());
                }
                Some(("sequence", text)) if scope.sequence.is_none() => {
                    scope.sequence = Some(range(text)?);
                }
                _ => {
                    return Err(format!(
                        "{part:?} is neither channel=NAME nor sequence=N..N"
                    ));
                }
            }
        }
        Ok(Self { key, scope })
    }
}

/// Reads `N` or `FROM..TO`, both ends in it.
pub(super) fn range(text: &str) -> Result<Range, String> {
    let number = |text: &str| text.parse::<u64>().map_err(|e| format!("{text:?}: {e}"));
    let (from, to) = text.split_once("..").unwrap_or((text, text));
    Ok(Range {
        from: number(from)?,
        to: number(to)?,
    })
}

/// Reads a key id: 64 digits, or the file of the key.
pub(super) fn keyid(text: &str) -> Result<Digest, Error> {
    match dsse::parse_keyid(text) {
        Ok(keyid) => Ok(keyid),
        Err(_) => Ok(files::public_key(Path::new(text))?.keyid()),
    }
}

/// Returns the time of this machine, for what a signer says about when a document was made.
pub(super) fn now() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    Time::from_seconds(since.map_or(0, |duration| duration.as_secs()))
}

pub(super) fn usage(option: &str, problem: impl Into<String>, hint: &str) -> Error {
    Error::Usage {
        option: option.into(),
        problem: problem.into(),
        hint: hint.into(),
    }
}

/// Sets thresholds, each of a role that has keys.
pub(super) fn set_thresholds(terms: &mut Terms, wanted: &[ForRole<usize>]) -> Result<(), Error> {
    for ForRole { role, value } in wanted {
        let listed = terms.roles.get_mut(role).ok_or_else(|| {
            let hint = "name the keys of the role as well";
            usage("--threshold", format!("role {role} has no key"), hint)
        })?;
        listed.threshold = *value;
    }
    Ok(())
}

/// Sets the scopes of keys that the terms name.
pub(super) fn set_scopes(terms: &mut Terms, wanted: &[ForKey]) -> Result<(), Error> {
    for ForKey { key, scope } in wanted {
        let id = keyid(key)?;
        let found = terms.keys.get_mut(&id).ok_or_else(|| {
            let hint = "give the scope of a key that has a role";
            usage(
                "--scope",
                format!("{key} is no key of the trust root"),
                hint,
            )
        })?;
        found.scope = Some(scope.clone());
    }
    Ok(())
}

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
