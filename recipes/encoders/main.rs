//! A zstd encoder with one particular libzstd, as a program: parameters on the command line, standard input to
//! standard output.
//!
//! One build links one libzstd, and images come with files of several. The source is here once; each directory beside
//! it names another release of zstd-sys. The protocol is private to `bundle-recipes`, which is of the same release:
//!
//!     bundle-zstd-X.Y.Z --version
//!     bundle-zstd-X.Y.Z LEVEL WORKERS CHECKSUM CONTENT_SIZE WINDOW_LOG LONG JOB_SIZE PLEDGED PROBE
//!
//! Nine numbers; PLEDGED is the size of the input plus one, or 0 where it is unknown. Exit status 0 means that the frame
//! is whole; 1 that libzstd or a pipe failed; 2 that the command line is wrong.

use std::io::Write;
use std::process::ExitCode;

#[path = "../src/zstd/cli.rs"]
mod cli;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.first().is_some_and(|argument| argument == "--version") {
        let line = format!("bundle-zstd {}\n", version(zstd_safe::version_number()));
        return status(std::io::stdout().write_all(line.as_bytes()).is_ok());
    }
    let Some(settings) = parse(&arguments) else {
        return ExitCode::from(2);
    };
    let mut output = std::io::stdout().lock();
    let mut input = std::io::stdin().lock();
    let context = zstd_safe::CCtx::create();
    match cli::compress(context, &settings, &mut input, &mut output) {
        Ok(()) => status(output.flush().is_ok()),
        Err(failure) => {
            let line = match failure {
                cli::Failure::Read(error) => format!("reading: {error}\n"),
                cli::Failure::Write(error) => format!("writing: {error}\n"),
                cli::Failure::Zstd(name) => format!("libzstd: {name}\n"),
            };
            // Nobody may be listening, and the exit status says it too.
            let _ = std::io::stderr().write_all(line.as_bytes());
            ExitCode::FAILURE
        }
    }
}

fn status(good: bool) -> ExitCode {
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn version(number: u32) -> String {
    format!("{}.{}.{}", number / 10_000, number / 100 % 100, number % 100)
}

fn parse(arguments: &[String]) -> Option<cli::Settings> {
    let numbers: Vec<u64> =
        arguments.iter().map(|argument| argument.parse().ok()).collect::<Option<_>>()?;
    let [level, workers, checksum, content_size, window_log, long, job_size, pledged, probe] =
        <[u64; 9]>::try_from(numbers).ok()?;
    Some(cli::Settings {
        level: i32::try_from(level).ok()?,
        workers: u32::try_from(workers).ok()?,
        checksum: checksum == 1,
        content_size: content_size == 1,
        window_log: u32::try_from(window_log).ok()?,
        long: long == 1,
        job_size: u32::try_from(job_size).ok()?,
        pledged: pledged.checked_sub(1),
        probe: probe == 1,
    })
}
