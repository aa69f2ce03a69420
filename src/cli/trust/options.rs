//! Values that several verbs of `bundle trust` take, and what they mean.

use std::path::Path;
use std::str::FromStr;
use std::time::{SystemTime, UNIX_EPOCH};

use bundle::Error;
use bundle_format::{Digest, Time, dsse};
use bundle_keys::{Range, Role, Scope, Terms};

use crate::cli::files;

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
