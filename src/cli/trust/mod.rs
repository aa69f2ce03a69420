//! `bundle trust`: the documents that say whose releases a host accepts.
//!
//! Nothing here touches the state of a host: these verbs make, sign, print and compare files.

mod init;
mod options;
mod permit;
mod report;
mod revoke;
mod rotate;
mod show;
mod sign;
mod signing;
mod verify;

use super::Outcome;
use super::output::Output;

/// Make, sign and look at trust roots, revocation lists and permits
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    Init(init::Args),
    Show(show::Args),
    Rotate(rotate::Args),
    Sign(sign::Args),
    Verify(verify::Args),
    Revoke(revoke::Args),
    Permit(permit::Args),
}

impl Command {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        match self {
            Self::Init(args) => args.run(output),
            Self::Show(args) => args.run(output),
            Self::Rotate(args) => args.run(output),
            Self::Sign(args) => args.run(output),
            Self::Verify(args) => args.run(output),
            Self::Revoke(args) => args.run(output),
            Self::Permit(args) => args.run(output),
        }
    }
}
