//! `bundle trust revoke`: make a revocation list, or extend one.

use std::path::PathBuf;

use bundle::Error;
use bundle_format::{DEFAULT_CHANNEL, Digest, Limits, Time};
use bundle_keys::{RevocationList, Signed, TrustRoot};

use super::options::{self, usage};
use super::report;
use super::signing::{self, about};
use crate::cli::output::Output;
use crate::cli::{Outcome, files};

/// Make a revocation list, or extend one
///
/// A list names keys whose signatures count no more, digests of what must not be installed, and the
/// lowest sequence that is still secure. It travels without an update. A list replaces the one
/// before as a whole: extend that one with --extend, so that nothing gets lost.
///
/// Root and revocation keys are not taken back by lists: `bundle trust rotate` removes them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Trust root whose role `revocation` signs
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
    /// Private key of the role `revocation` (repeatable)
    #[arg(long = "key", required = true, value_name = "KEY.pem")]
    keys: Vec<PathBuf>,
    /// The list before; everything in it stays revoked
    #[arg(long, value_name = "FILE")]
    extend: Option<PathBuf>,
    /// Position in the order of lists [default: 1, or behind the list before]
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    sequence: Option<u64>,
    /// Key to revoke, by file or key id (repeatable)
    #[arg(long = "revoke-key", value_name = "KEY")]
    revoke_keys: Vec<String>,
    /// Digest of a statement, manifest or other blob to revoke (repeatable)
    #[arg(long = "revoke-digest", value_name = "sha256:…")]
    revoke_digests: Vec<Digest>,
    /// Lowest sequence that is still secure, in a channel (repeatable)
    #[arg(long = "floor", value_name = "[CHANNEL=]N", value_parser = floor)]
    floors: Vec<(String, u64)>,
    /// When it was made, such as 2026-01-02T03:04:05Z [default: now]
    #[arg(long, value_name = "TIME")]
    created: Option<Time>,
    /// File for the list
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

fn floor(text: &str) -> Result<(String, u64), String> {
    let (channel, number) = text.split_once('=').unwrap_or((DEFAULT_CHANNEL, text));
    let number = number.parse().map_err(|e| format!("{number:?}: {e}"))?;
    Ok((channel.into(), number))
}

impl Args {
    pub(super) fn run(&self, output: &Output) -> Outcome {
        let root = files::trust_root(&self.trust_root)?;
        let list = self.list(&root)?;
        let made = signing::seal(&list, &root, &self.keys, &self.out, output)?;
        report::list(&list, made.standing, output);
        Ok(report::passed_on(made.missing.as_deref(), output))
    }

    fn list(&self, root: &TrustRoot) -> Result<RevocationList, Error> {
        let mut list = RevocationList::new(root.product());
        if let Some(path) = &self.extend {
            let bytes = files::read(path)?;
            let old = Signed::<RevocationList>::open(&bytes, root, &Limits::DEFAULT);
            let old = old.map_err(about(path))?;
            list = RevocationList::clone(&old);
            list.sequence = list.sequence.checked_add(1).ok_or_else(|| {
                let hint = "no list can follow it; a new trust root with a scope for the \
                            revocation keys makes hosts forget it";
                usage("--extend", "has the highest sequence there is", hint)
            })?;
        }
        if let Some(sequence) = self.sequence {
            if sequence < list.sequence {
                let problem = format!("{sequence} is not behind the list before");
                let hint = "leave it out, or give a higher one";
                return Err(usage("--sequence", problem, hint));
            }
            list.sequence = sequence;
        }
        list.created = Some(self.created.unwrap_or_else(options::now));
        for key in &self.revoke_keys {
            list.keys.insert(options::keyid(key)?);
        }
        list.digests.extend(&self.revoke_digests);
        for (channel, floor) in &self.floors {
            let held = list.floors.entry(channel.clone()).or_default();
            *held = (*held).max(*floor);
        }
        Ok(list)
    }
}
