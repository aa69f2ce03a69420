//! `bundle trust verify`: would a host that has this trust root take that document.

use std::path::{Path, PathBuf};

use bundle::Error;
use bundle::exit::ExitStatus;
use bundle_format::{DEFAULT_CHANNEL, Limits};
use bundle_keys::chain::{self, Step};
use bundle_keys::{Document, KeyError, RevocationList, Signed, Trust, TrustRoot};
use serde::Serialize;

use super::options::usage;
use super::report::{self, Standing};
use super::show::Found;
use super::signing::about;
use crate::cli::output::{Output, table};
use crate::cli::{Outcome, files};

/// Check documents against a trust root, as a host does
///
/// Newer trust roots are walked one version at a time, each signed by the root keys of the version
/// before and by its own. A revocation list or permit is checked by the roles of the trust root.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Newer versions of the trust root, in any order; or one revocation list or permit
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Trust root that the host has
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
    /// Revocation list that the host has
    #[arg(long, value_name = "FILE")]
    revoked: Option<PathBuf>,
}

#[derive(Serialize)]
struct ChainReport {
    product: String,
    held: Version,
    steps: Vec<Version>,
}

#[derive(Serialize)]
struct Version {
    version: u64,
    digest: String,
}

impl Args {
    pub(super) fn run(&self, output: &Output) -> Outcome {
        let root = files::trust_root(&self.trust_root)?;
        let held = self.revoked.as_ref().map(|path| open(path, &root));
        let held: Option<Signed<RevocationList>> = held.transpose()?;
        let trust = Trust {
            root: &root,
            channel: DEFAULT_CHANNEL,
            revoked: held.as_deref(),
        };
        let read = |path: &PathBuf| {
            let bytes = files::read(path)?;
            let found = Found::parse(path, &bytes)?;
            Ok((path.clone(), bytes, found))
        };
        let mut found = self
            .files
            .iter()
            .map(read)
            .collect::<Result<Vec<_>, Error>>()?;
        if let [(path, bytes, one)] = found.as_slice() {
            match one {
                Found::List(list, envelope) => {
                    let new: Signed<RevocationList> = signed(path, bytes, trust)?;
                    let older = held.as_ref().map(|held| new.check_successor(held));
                    older.transpose().map_err(about(path))?;
                    report::list(list, Standing::counted(envelope, None), output);
                    return Ok(ExitStatus::Done);
                }
                Found::Permit(permit, envelope) => {
                    signed::<bundle_keys::Permit>(path, bytes, trust)?;
                    report::permit(permit, Standing::counted(envelope, None), output);
                    return Ok(ExitStatus::Done);
                }
                Found::Root(_) => {}
            }
        }
        let version = |found: &Found| match found {
            Found::Root(draft) => Some(draft.terms().version),
            _ => None,
        };
        if found.iter().any(|(_, _, found)| version(found).is_none()) {
            let hint = "check revocation lists and permits one at a time";
            return Err(usage("FILES", "not all of them are trust roots", hint));
        }
        found.sort_by_key(|(_, _, found)| version(found));
        let documents: Vec<_> = found.iter().map(|(_, bytes, _)| bytes.clone()).collect();
        let steps = chain::walk(&root, &documents, &Limits::DEFAULT);
        let steps = steps.map_err(|error| self.blame(&found, error))?;
        chain_report(&root, &steps, output);
        Ok(ExitStatus::Done)
    }

    /// Finds the file that a step of the walk failed at.
    fn blame(&self, found: &[(PathBuf, Vec<u8>, Found)], error: KeyError) -> Error {
        let wrong = match &error {
            KeyError::Gap { offered, .. } => Some(*offered),
            KeyError::Rotation { version, .. } | KeyError::Fork { version } => Some(*version),
            _ => None,
        };
        let is_wrong = |found: &Found| matches!(found, Found::Root(draft) if Some(draft.terms().version) == wrong);
        let file = found.iter().find(|(_, _, found)| is_wrong(found));
        let first = self.files.first().unwrap_or(&self.trust_root);
        about(file.map_or(first, |(path, _, _)| path))(error)
    }
}

fn open(path: &Path, root: &TrustRoot) -> Result<Signed<RevocationList>, Error> {
    signed(path, &files::read(path)?, root.into())
}

fn signed<T: Document>(path: &Path, bytes: &[u8], trust: Trust<'_>) -> Result<Signed<T>, Error> {
    Signed::open(bytes, trust, &Limits::DEFAULT).map_err(about(path))
}

fn chain_report(root: &TrustRoot, steps: &[Step], output: &Output) {
    let version = |root: &TrustRoot| Version {
        version: root.version(),
        digest: root.digest().to_string(),
    };
    let report = ChainReport {
        product: root.product().into(),
        held: version(root),
        steps: steps.iter().map(|step| version(&step.root)).collect(),
    };
    let line = |root: &Version| format!("version {} {}", root.version, root.digest);
    let mut rows = vec![
        ("Product", report.product.clone()),
        ("Held", line(&report.held)),
    ];
    rows.extend(report.steps.iter().map(|step| ("Step", line(step))));
    let newest = report.steps.last().unwrap_or(&report.held);
    rows.push((
        "Verified",
        format!("yes: version {} is trusted", newest.version),
    ));
    output.result("bundle.trust-chain.v1", &report, &table(&rows));
}
