//! `bundle trust show`: what a document of trust says.

use std::path::{Path, PathBuf};

use bundle::Error;
use bundle::exit::ExitStatus;
use bundle_format::dsse::Envelope;
use bundle_format::{Limits, media_type};
use bundle_keys::{Draft, KeyError, Permit, RevocationList, document};

use super::report::{self, Standing};
use super::signing::{self, about};
use crate::cli::output::Output;
use crate::cli::{Outcome, files};

/// Print what a trust root, revocation list or permit says
///
/// A trust root is checked by its own keys first. What a revocation list or permit says is shown as
/// it is claimed; `bundle trust verify` checks who signed it.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// File with a trust root, revocation list or permit
    file: PathBuf,
}

/// A document of trust, by what its envelope says it holds.
pub(super) enum Found {
    Root(Box<Draft>),
    List(RevocationList, Envelope),
    Permit(Permit, Envelope),
}

impl Found {
    /// Parses a document without counting its signatures.
    pub(super) fn parse(path: &Path, bytes: &[u8]) -> Result<Self, Error> {
        let limits = &Limits::DEFAULT;
        let kind = Envelope::parse(bytes, limits).map_err(|e| about(path)(e.into()))?;
        let found = match kind.payload_type.as_str() {
            media_type::REVOCATION_LIST => {
                document::claim(bytes, limits).map(|(list, envelope)| Self::List(list, envelope))
            }
            media_type::PERMIT => document::claim(bytes, limits)
                .map(|(permit, envelope)| Self::Permit(permit, envelope)),
            // Another type is refused as no trust root.
            _ => Draft::parse(bytes, limits).map(|draft| Self::Root(Box::new(draft))),
        };
        found.map_err(about(path))
    }
}

impl Args {
    pub(super) fn run(&self, output: &Output) -> Outcome {
        let bytes = files::read(&self.file)?;
        match Found::parse(&self.file, &bytes)? {
            Found::Root(draft) => {
                let verdict: Result<_, KeyError> = signing::verdict(&draft, None);
                let missing = signing::missing(&self.file, verdict)?;
                report::root(&draft, missing.as_deref(), output);
                let Some(missing) = missing else {
                    return Ok(ExitStatus::Done);
                };
                let hint = "its root keys sign it with `bundle trust sign`; do not use it before";
                output.complain(
                    &format!("{}: {missing}", self.file.display()),
                    Some(hint.into()),
                );
                Ok(ExitStatus::Untrusted)
            }
            Found::List(list, envelope) => {
                report::list(&list, Standing::claimed(&envelope), output);
                Ok(ExitStatus::Done)
            }
            Found::Permit(permit, envelope) => {
                report::permit(&permit, Standing::claimed(&envelope), output);
                Ok(ExitStatus::Done)
            }
        }
    }
}
