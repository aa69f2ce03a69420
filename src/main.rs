//! Command-line entry: parses, runs, maps the outcome to an exit status.

mod cli;

fn main() -> bundle::exit::ExitStatus {
    cli::main()
}
