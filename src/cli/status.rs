//! `bundle status`: what runs, what boots next, what to fall back to, signed by whom.

use std::path::PathBuf;

use bundle::apply::metadata;
use bundle::exit::ExitStatus;
use bundle::ostree::{self, DeploymentStatus};
use serde::Serialize;

use super::Outcome;
use super::output::{Output, table};

/// Show what is deployed: booted, next and rollback
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sysroot to look at [default: the running system]
    #[arg(long, value_name = "DIR")]
    sysroot: Option<PathBuf>,
}

#[derive(Serialize)]
struct StatusReport {
    booted: Option<DeploymentReport>,
    staged: Option<DeploymentReport>,
    pending: Option<DeploymentReport>,
    rollback: Option<DeploymentReport>,
    other: Vec<DeploymentReport>,
}

/// A deployment as every verb reports it.
#[derive(Serialize)]
pub(crate) struct DeploymentReport {
    version: Option<String>,
    product: Option<String>,
    sequence: Option<u64>,
    source: Option<String>,
    follows: Option<String>,
    manifest_digest: Option<String>,
    statement: Option<String>,
    signers: Vec<String>,
    commit: String,
    stateroot: String,
    serial: i32,
    pub(crate) staged: bool,
    pinned: bool,
}

impl DeploymentReport {
    pub(crate) fn of(deployment: &DeploymentStatus) -> Self {
        let own = |key: &str| deployment.metadata.get(key).cloned();
        Self {
            version: deployment.version.clone(),
            product: own(metadata::PRODUCT),
            sequence: own(metadata::SEQUENCE).and_then(|text| text.parse().ok()),
            source: own(metadata::SOURCE),
            follows: deployment.imgref.clone(),
            manifest_digest: deployment.manifest_digest.clone(),
            statement: own(metadata::STATEMENT),
            signers: own(metadata::SIGNERS)
                .map(|ids| ids.split_whitespace().map(Into::into).collect())
                .unwrap_or_default(),
            commit: deployment.commit.clone(),
            stateroot: deployment.stateroot.clone(),
            serial: deployment.serial,
            staged: deployment.staged,
            pinned: deployment.pinned,
        }
    }

    /// Lays the deployment out for people.
    pub(crate) fn rows(&self) -> Vec<(&'static str, String)> {
        let unknown = || "not from a bundle".to_string();
        let release = match (&self.product, self.sequence) {
            (Some(product), Some(sequence)) => {
                let version = self.version.as_deref().unwrap_or("without version");
                format!("{product} {version} (sequence {sequence})")
            }
            _ => self.version.clone().unwrap_or_else(unknown),
        };
        let mut rows = vec![
            ("Release", release),
            ("Source", self.source.clone().unwrap_or_else(unknown)),
            (
                "Digest",
                self.manifest_digest.clone().unwrap_or_else(unknown),
            ),
        ];
        if let Some(follows) = &self.follows {
            rows.push(("Follows", follows.clone()));
        }
        rows.extend(self.signers.iter().map(|id| ("Signed by", id.clone())));
        let pinned = if self.pinned { ", pinned" } else { "" };
        let place = format!("{} {}.{}{pinned}", self.stateroot, self.commit, self.serial);
        rows.push(("Deployment", place));
        rows
    }
}

impl Args {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        let status = ostree::status(&ostree::open(self.sysroot.as_deref())?);
        let report =
            |deployment: &Option<DeploymentStatus>| deployment.as_ref().map(DeploymentReport::of);
        let report = StatusReport {
            booted: report(&status.booted),
            staged: report(&status.staged),
            pending: report(&status.pending),
            rollback: report(&status.rollback),
            other: status.other.iter().map(DeploymentReport::of).collect(),
        };
        output.result("bundle.status.v1", &report, &text(&report));
        Ok(ExitStatus::Done)
    }
}

fn text(report: &StatusReport) -> String {
    let named = [
        ("Booted", &report.booted),
        (
            "Staged: takes over at the next clean reboot",
            &report.staged,
        ),
        ("Next: boots next", &report.pending),
        (
            "Rollback: `bundle rollback` returns to it",
            &report.rollback,
        ),
    ];
    let named = named
        .into_iter()
        .filter_map(|(title, d)| Some((title, d.as_ref()?)));
    let other = report.other.iter().map(|deployment| ("Other", deployment));
    let blocks: Vec<_> = named
        .chain(other)
        .map(|(title, deployment)| {
            let rows = table(&deployment.rows());
            let rows: String = rows.lines().map(|line| format!("  {line}\n")).collect();
            format!("{title}\n{rows}")
        })
        .collect();
    if blocks.is_empty() {
        "Nothing is deployed\n".into()
    } else {
        blocks.join("\n")
    }
}
