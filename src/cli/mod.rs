//! The command line: the only place that knows clap or prints.
//!
//! Standard output is data, standard error is talk. Each verb has a file with its `Args` and its
//! `run`; this one holds what they share.

#[cfg(feature = "ostree")]
mod apply;
#[cfg(feature = "export")]
mod delta;
#[cfg(feature = "export")]
mod export;
mod files;
mod generate;
mod inspect;
mod key;
mod output;
#[cfg(feature = "ostree")]
mod plan;
mod progress;
#[cfg(feature = "ostree")]
mod roads;
#[cfg(feature = "ostree")]
mod rollback;
#[cfg(feature = "delta")]
mod size;
#[cfg(feature = "ostree")]
mod status;
mod trust;
mod verify;

use bundle::Error;
use bundle::exit::ExitStatus;
use clap::{Args, Parser, Subcommand};

use output::Output;

/// Carry signed operating-system updates across an air gap.
///
/// On a connected build box, `bundle export` writes a bootable-container image as a signed bundle.
/// On the disconnected side, `bundle verify` proves what a medium holds and `bundle apply` feeds
/// it into OSTree. Nothing but `export` opens a network connection.
#[derive(Debug, Parser)]
#[command(name = "bundle", version, after_long_help = exit_status_help())]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) shared: Shared,
    #[command(subcommand)]
    command: Command,
}

/// Options of every verb.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shared {
    /// Write one JSON document to standard output instead of text
    #[arg(long, global = true)]
    pub(crate) json: bool,
    /// Say nothing on standard error but errors; no progress bar
    #[arg(long, short, global = true)]
    pub(crate) quiet: bool,
    /// Write progress as JSON lines to this open file descriptor
    #[arg(long, global = true, value_name = "FD")]
    pub(crate) progress_fd: Option<i32>,
}

#[derive(Debug, Subcommand)]
enum Command {
    #[command(subcommand)]
    Key(key::Command),
    #[command(subcommand)]
    Trust(Box<trust::Command>),
    #[cfg(feature = "export")]
    Export(Box<export::Args>),
    #[cfg(feature = "export")]
    #[command(subcommand)]
    Delta(Box<delta::Command>),
    Inspect(inspect::Args),
    Verify(verify::Args),
    #[cfg(feature = "ostree")]
    Plan(plan::Args),
    #[cfg(feature = "ostree")]
    Apply(apply::Args),
    #[cfg(feature = "ostree")]
    Status(status::Args),
    #[cfg(feature = "ostree")]
    Rollback(rollback::Args),
    Completion(generate::CompletionArgs),
    #[command(hide = true)]
    Man(generate::ManArgs),
}

/// Runs the command line; every failure is printed here and nowhere else.
pub(crate) fn main() -> ExitStatus {
    let cli = Cli::parse();
    let output = Output::new(&cli.shared);
    let result = match cli.command {
        Command::Key(command) => command.run(&output),
        Command::Trust(command) => command.run(&output),
        #[cfg(feature = "export")]
        Command::Export(args) => args.run(&output),
        #[cfg(feature = "export")]
        Command::Delta(command) => command.run(&output),
        Command::Inspect(args) => args.run(&output),
        Command::Verify(args) => args.run(&output),
        #[cfg(feature = "ostree")]
        Command::Plan(args) => args.run(&output),
        #[cfg(feature = "ostree")]
        Command::Apply(args) => args.run(&output),
        #[cfg(feature = "ostree")]
        Command::Status(args) => args.run(&output),
        #[cfg(feature = "ostree")]
        Command::Rollback(args) => args.run(&output),
        Command::Completion(args) => args.run(&output),
        Command::Man(args) => args.run(),
    };
    result.unwrap_or_else(|error| output.error(&error))
}

/// What a verb returns.
type Outcome = Result<ExitStatus, Error>;

fn exit_status_help() -> String {
    let rows = ExitStatus::TABLE.iter().map(|(status, words)| {
        let number = *status as u8;
        format!("  {number:>3}  {words}\n")
    });
    format!("Exit status:\n{}", rows.collect::<String>())
}
