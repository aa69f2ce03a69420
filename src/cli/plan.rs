//! `bundle plan`: how a release would come to this host.

use std::path::PathBuf;

use bundle::exit::ExitStatus;
use bundle::ostree::DeployOptions;
use bundle::{apply, verify};
use serde::Serialize;

use super::output::{Output, bytes, table};
use super::roads::{self, HostArgs, LayerReport};
use super::{Outcome, files};

/// Say how a release would come to this host, and whether it can; changes nothing
///
/// The signature and the list of files are checked, the content is not. For each layer it is told whether the host has it,
/// whether a delta rebuilds it from files of the host, each of which is hashed, or whether it is read in full.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory or tar file of the bundle
    path: PathBuf,
    /// Trust root that says whose releases are accepted
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
    /// Sysroot to plan for [default: the running system]
    #[arg(long, value_name = "DIR")]
    sysroot: Option<PathBuf>,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Serialize)]
struct PlanReport {
    possible: bool,
    product: String,
    version: String,
    sequence: u64,
    /// Bytes of layers and deltas that are read from the medium.
    read: u64,
    layers: Vec<LayerReport>,
    damaged: Vec<String>,
}

impl Args {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        let root = files::trust_root(&self.trust_root)?;
        let bundle = verify::open(verify::medium(&self.path)?, &root)?;
        let options = self.host.options(DeployOptions::default());
        let plan = apply::plan(&bundle, self.sysroot.as_deref(), &options)?;
        let release = bundle.release();
        let possible = plan.check();
        let report = PlanReport {
            possible: possible.is_ok(),
            product: release.product.clone(),
            version: release.version.clone(),
            sequence: release.sequence,
            read: plan.bytes(),
            layers: roads::report(&plan),
            damaged: plan.damaged.clone(),
        };
        let name = format!(
            "{} {} (sequence {})",
            report.product, report.version, report.sequence
        );
        let mut rows = vec![("Release", name)];
        rows.extend(roads::rows(&plan));
        rows.push(("To read", bytes(report.read)));
        rows.push((
            "Possible",
            if report.possible { "yes" } else { "NO" }.into(),
        ));
        output.result("bundle.plan.v1", &report, &table(&rows));
        if let Err(error) = possible {
            output.complain(&error.to_string(), error.hint());
            return Ok(error.status());
        }
        Ok(ExitStatus::Done)
    }
}
