//! `bundle apply`: make a release the next thing that boots.

use std::path::PathBuf;

use bundle::exit::ExitStatus;
use bundle::ostree::DeployOptions;
use bundle::{apply, verify};
use serde::Serialize;

use super::output::{Output, table};
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
}

#[derive(Serialize)]
struct ApplyReport {
    changed: bool,
    reboot_needed: bool,
    layers_imported: usize,
    layers_reused: usize,
    deployment: DeploymentReport,
}

impl Args {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        let root = files::trust_root(&self.trust_root)?;
        let medium = verify::medium(&self.path)?;
        let bundle = verify::open(medium, &root)?;
        let options = DeployOptions {
            stateroot: self.stateroot.clone(),
            kargs: self.kargs.clone(),
        };
        let done = apply::apply(
            &bundle,
            self.sysroot.as_deref(),
            &options,
            &output.progress()?,
        )?;
        let deployment = DeploymentReport::of(&done.deployment);
        // What runs already needs no boot; elsewhere a sysroot is not ours to boot.
        let reboot_needed = !done.already && self.sysroot.is_none();
        let text = text(
            &deployment,
            done.already,
            done.layers_imported,
            done.layers_reused,
        );
        let report = ApplyReport {
            changed: !done.already,
            reboot_needed,
            layers_imported: done.layers_imported,
            layers_reused: done.layers_reused,
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

fn text(deployment: &DeploymentReport, already: bool, imported: usize, reused: usize) -> String {
    let mut rows = deployment.rows();
    let what = match (already, deployment.staged) {
        (true, _) => "nothing: this release is deployed already".to_string(),
        (false, staged) => {
            let when = if staged {
                "staged, needs a clean reboot"
            } else {
                "boots next"
            };
            format!("{when}; {imported} layers read, {reused} were there")
        }
    };
    rows.push(("Done", what));
    table(&rows)
}
