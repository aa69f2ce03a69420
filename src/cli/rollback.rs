//! `bundle rollback`: boot the former deployment again.

use std::path::PathBuf;

use bundle::exit::ExitStatus;
use bundle::ostree;
use serde::Serialize;

use super::Outcome;
use super::output::{Output, table};
use super::status::DeploymentReport;

/// Make the former deployment the default for the next boot
///
/// Changes the order of booting and deletes nothing but a staged deployment. The former
/// deployment's /etc comes back with it; /var stays. A second rollback undoes the first.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Sysroot to change [default: the running system]
    #[arg(long, value_name = "DIR")]
    sysroot: Option<PathBuf>,
}

#[derive(Serialize)]
struct RollbackReport {
    reboot_needed: bool,
    staged_dropped: bool,
    deployment: DeploymentReport,
}

impl Args {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        let done = ostree::rollback(&ostree::lock(self.sysroot.as_deref())?)?;
        let report = RollbackReport {
            reboot_needed: self.sysroot.is_none(),
            staged_dropped: done.staged_dropped,
            deployment: DeploymentReport::of(&done.default),
        };
        let mut rows = report.deployment.rows();
        rows.push(("Done", "boots next, with its own /etc".into()));
        if done.staged_dropped {
            rows.push(("Dropped", "the staged deployment".into()));
        }
        output.result("bundle.rollback.v1", &report, &table(&rows));
        Ok(if report.reboot_needed {
            ExitStatus::RebootNeeded
        } else {
            ExitStatus::Done
        })
    }
}
