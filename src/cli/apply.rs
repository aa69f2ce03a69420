//! `bundle apply`: make a release the next thing that boots.

use std::path::PathBuf;

use bundle::apply::Applied;
use bundle::delta::{LayerPlan, Road};
use bundle::exit::ExitStatus;
use bundle::ostree::DeployOptions;
use bundle::{apply, verify};
use serde::Serialize;

use super::output::{Output, bytes, table};
use super::roads::{self, HostArgs, LayerReport};
use super::status::DeploymentReport;
use super::{Outcome, files};

/// Verify a bundle and deploy its release with OSTree
///
/// Everything is verified as it is read, in one pass and without temporary copies. /etc is merged
/// and /var is untouched. The deployment becomes the default for the next boot; the former one
/// stays for `bundle rollback`. Applying the same release again changes nothing.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Directory or tar file of the bundle
    path: PathBuf,
    /// Trust root that says whose releases are accepted
    #[arg(long, value_name = "FILE")]
    trust_root: PathBuf,
    /// Sysroot to deploy to [default: the running system]
    #[arg(long, value_name = "DIR")]
    sysroot: Option<PathBuf>,
    /// Stateroot, made if it is missing [default: the current one, else `default`]
    #[arg(long, value_name = "NAME")]
    stateroot: Option<String>,
    /// Kernel argument of a first deployment (repeatable); later ones inherit theirs
    #[arg(long = "karg", value_name = "ARG")]
    kargs: Vec<String>,
    #[command(flatten)]
    host: HostArgs,
}

#[derive(Serialize)]
struct ApplyReport {
    changed: bool,
    reboot_needed: bool,
    layers_imported: usize,
    layers_reused: usize,
    /// Bytes of layers and deltas read from the medium.
    read: u64,
    layers: Vec<LayerReport>,
    warnings: Vec<String>,
    deployment: DeploymentReport,
}

impl Args {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        let root = files::trust_root(&self.trust_root)?;
        let medium = verify::medium(&self.path)?;
        let bundle = verify::open(medium, &root)?;
        let options = self.host.options(DeployOptions {
            stateroot: self.stateroot.clone(),
            kargs: self.kargs.clone(),
        });
        let done = apply::apply(
            &bundle,
            self.sysroot.as_deref(),
            &options,
            &output.progress()?,
        )?;
        let deployment = DeploymentReport::of(&done.deployment);
        // What runs already needs no boot; elsewhere a sysroot is not ours to boot.
        let reboot_needed = !done.already && self.sysroot.is_none();
        for warning in &done.warnings {
            output.say(&format!("warning: {warning}"));
        }
        let text = text(&deployment, &done);
        let report = ApplyReport {
            changed: !done.already,
            reboot_needed,
            layers_imported: done.layers_imported,
            layers_reused: done.layers_reused,
            read: done.plan.bytes(),
            layers: roads::report(&done.plan),
            warnings: done.warnings,
            deployment,
        };
        output.result("bundle.apply.v1", &report, &text);
        Ok(if reboot_needed {
            ExitStatus::RebootNeeded
        } else {
            ExitStatus::Done
        })
    }
}

fn text(deployment: &DeploymentReport, done: &Applied) -> String {
    let mut rows = deployment.rows();
    let what = match (done.already, deployment.staged) {
        (true, _) => "nothing: this release is deployed already".to_string(),
        (false, staged) => {
            let when = if staged {
                "staged, needs a clean reboot"
            } else {
                "boots next"
            };
            let roads = done.plan.layers.iter().filter_map(LayerPlan::road);
            let deltas = roads.filter(|road| matches!(road, Road::Delta(_))).count();
            let full = done.layers_imported.saturating_sub(deltas);
            format!(
                "{when}; {full} layers read, {deltas} rebuilt from deltas, {} were there; {} read",
                done.layers_reused,
                bytes(done.plan.bytes())
            )
        }
    };
    rows.push(("Done", what));
    table(&rows)
}
