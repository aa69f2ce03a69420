//! `bundle trust permit`: let hosts go back once.

use std::path::PathBuf;

use bundle_format::{DEFAULT_CHANNEL, Digest, Time};
use bundle_keys::{Nonce, Permit, Range};

use super::{options, report, signing};
use crate::cli::output::Output;
use crate::cli::{Outcome, files};

/// Let named hosts install an older release, once
///
/// A permit lifts the rule that sequences only rise, and the security floor, for the hosts, the
/// channel and the sequences it names. It lifts no revocation. Each host uses it once.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Trust root whose role `release` signs
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
    /// Private key of the role `release` (repeatable)
    #[arg(long = "key", required = true, value_name = "KEY.pem")]
    keys: Vec<PathBuf>,
    /// Id of a host that may use it (repeatable)
    #[arg(long = "host", required = true, value_name = "ID")]
    hosts: Vec<String>,
    /// Channel of the release
    #[arg(long, default_value = DEFAULT_CHANNEL)]
    channel: String,
    /// Sequences that may be installed, N or FROM..TO
    #[arg(long, value_name = "RANGE", value_parser = options::range)]
    sequence: Range,
    /// Digest of the statement of the one release that may be installed
    #[arg(long, value_name = "sha256:…")]
    statement: Option<Digest>,
    /// When it was made, such as 2026-01-02T03:04:05Z [default: now]
    #[arg(long, value_name = "TIME")]
    created: Option<Time>,
    /// When it ends [default: when it was used]
    #[arg(long, value_name = "TIME")]
    expires: Option<Time>,
    /// File for the permit
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

impl Args {
    pub(super) fn run(&self, output: &Output) -> Outcome {
        let root = files::trust_root(&self.trust_root)?;
        let permit = Permit {
            product: root.product().into(),
            channel: Some(self.channel.clone()).filter(|name| name != DEFAULT_CHANNEL),
            hosts: self.hosts.iter().cloned().collect(),
            sequence: self.sequence,
            statement: self.statement,
            nonce: Nonce::generate().map_err(signing::about(&self.out))?,
            created: Some(self.created.unwrap_or_else(options::now)),
            expires: self.expires,
        };
        let made = signing::seal(&permit, &root, &self.keys, &self.out, output)?;
        report::permit(&permit, made.standing, output);
        Ok(report::passed_on(made.missing.as_deref(), output))
    }
}
