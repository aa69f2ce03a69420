//! Printing: data to standard output, talk to standard error, errors in one form.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "this is the place that prints"
)]

use std::error::Error as _;
use std::io::{self, Write as _};

use bundle::Error;
use bundle::exit::ExitStatus;
use bundle::text::{printable, printable_json};
use serde::Serialize;

use super::Shared;
use super::progress::Bar;

/// How a verb talks to its caller.
#[derive(Debug)]
pub(crate) struct Output {
    shared: Shared,
}

/// The document of `--json` around what a verb has to say.
#[derive(Serialize)]
struct Document<'a, T> {
    schema: &'a str,
    #[serde(flatten)]
    data: &'a T,
}

#[derive(Serialize)]
struct Failure<'a> {
    code: &'a str,
    message: String,
    hint: Option<String>,
    exit_status: u8,
}

impl Output {
    pub(crate) fn new(shared: &Shared) -> Self {
        Self {
            shared: shared.clone(),
        }
    }

    /// Writes a verb's result: `text` for people, `data` under `schema` with `--json`.
    pub(crate) fn result<T: Serialize>(&self, schema: &str, data: &T, text: &str) {
        let bytes = if self.shared.json {
            let document = Document { schema, data };
            let json = serde_json::to_string_pretty(&document);
            let json =
                json.unwrap_or_else(|e| format!("{{\"schema\":\"error\",\"message\":\"{e}\"}}"));
            printable_json(&json) + "\n"
        } else {
            text.to_string()
        };
        self.raw(bytes.as_bytes());
    }

    /// Writes what is the same with and without `--json`, such as a script.
    ///
    /// A reader that went away, as `head` does, is no failure.
    pub(crate) fn raw(&self, bytes: &[u8]) {
        let mut out = io::stdout().lock();
        if out.write_all(bytes).and_then(|()| out.flush()).is_err() {
            // Nobody reads any more; there is nobody to tell.
        }
    }

    /// Tells people what happens, on standard error.
    pub(crate) fn say(&self, text: &str) {
        if !self.shared.quiet {
            eprintln!("{}", printable(text));
        }
    }

    /// Says what is wrong and what to do about it, in the one form; `--quiet` does not silence it.
    pub(crate) fn complain(&self, message: &str, hint: Option<String>) {
        eprintln!("error: {}", printable(message));
        if let Some(hint) = hint {
            eprintln!("hint: {}", printable(&hint));
        }
    }

    /// Prints an error with its causes and its remedy; returns the status to exit with.
    pub(crate) fn error(&self, error: &Error) -> ExitStatus {
        let mut message = printable(&error.to_string());
        let mut cause = error.source();
        while let Some(inner) = cause {
            message.push_str(": ");
            message.push_str(&printable(&inner.to_string()));
            cause = inner.source();
        }
        let (hint, status) = (error.hint(), error.status());
        self.complain(&message, hint.clone());
        if self.shared.json {
            let code = error.code();
            let failure = Failure {
                code,
                message,
                hint,
                exit_status: status as u8,
            };
            self.result("bundle.error.v1", &failure, "");
        }
        status
    }

    /// Returns the progress display the caller asked for.
    pub(crate) fn progress(&self) -> Result<Bar, Error> {
        Bar::new(self.shared.quiet, self.shared.progress_fd)
    }
}

/// Lays out `name: value` lines with the values in one column.
pub(crate) fn table(rows: &[(&str, String)]) -> String {
    let width = rows.iter().map(|(name, _)| name.len()).max().unwrap_or(0) + 1;
    rows.iter()
        .map(|(name, value)| format!("{:<width$} {}\n", format!("{name}:"), printable(value)))
        .collect()
}

/// Writes a number of bytes for people.
pub(crate) fn bytes(count: u64) -> String {
    bytesize::ByteSize(count).display().iec().to_string()
}
