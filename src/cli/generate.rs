//! Shell completion and man pages, made from the same definitions as the command line.

use std::io;
use std::path::PathBuf;

use bundle::Error;
use bundle::exit::ExitStatus;
use clap::CommandFactory as _;

use super::output::Output;
use super::{Cli, Outcome};

/// Print a completion script for a shell
#[derive(Debug, clap::Args)]
pub(crate) struct CompletionArgs {
    /// Shell to complete in
    shell: clap_complete::Shell,
}

/// Write the man pages into a directory
#[derive(Debug, clap::Args)]
pub(crate) struct ManArgs {
    /// Directory, made if it is missing
    directory: PathBuf,
}

impl CompletionArgs {
    pub(crate) fn run(&self, output: &Output) -> Outcome {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "bundle", &mut script);
        output.raw(&script);
        Ok(ExitStatus::Done)
    }
}

impl ManArgs {
    pub(crate) fn run(&self) -> Outcome {
        let fail = |e: io::Error| Error::file("writing man pages to", &self.directory, e);
        std::fs::create_dir_all(&self.directory).map_err(fail)?;
        clap_mangen::generate_to(Cli::command(), &self.directory).map_err(fail)?;
        Ok(ExitStatus::Done)
    }
}
