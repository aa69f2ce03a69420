//! Progress for people (a bar on a terminal) and for programs (JSON lines), and Ctrl-C.

use std::fmt;
use std::fs::File;
use std::io::{self, IsTerminal as _, Write as _};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bundle::Error;
use bundle::progress::Progress;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use rustix::process::{PidfdFlags, PidfdGetfdFlags};
use serde::Serialize;

/// Lines on `--progress-fd` come no more often than this.
const LINE_INTERVAL: Duration = Duration::from_millis(200);

/// Shows progress and notices the user's wish to stop.
pub(crate) struct Bar {
    bar: ProgressBar,
    lines: Option<Mutex<Lines>>,
    done: AtomicU64,
    interrupted: Arc<AtomicBool>,
}

struct Lines {
    out: File,
    stage: String,
    total: u64,
    last: Instant,
}

#[derive(Serialize)]
struct Line<'a> {
    schema: &'a str,
    stage: &'a str,
    done: u64,
    total: u64,
}

impl Bar {
    pub(crate) fn new(quiet: bool, progress_fd: Option<i32>) -> Result<Self, Error> {
        let out = progress_fd
            .map(open)
            .transpose()
            .map_err(|e| Error::Usage {
                option: "--progress-fd".into(),
                problem: e.to_string(),
                hint:
                    "give the number of a descriptor that is open, as in `--progress-fd 3 3>FILE`"
                        .into(),
            })?;
        let target = if quiet || !io::stderr().is_terminal() {
            ProgressDrawTarget::hidden()
        } else {
            ProgressDrawTarget::stderr_with_hz(5)
        };
        let interrupted = Arc::new(AtomicBool::new(false));
        for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
            // A second signal ends the process at once, should the first not get through.
            let second = signal_hook::flag::register_conditional_shutdown(
                signal,
                130,
                Arc::clone(&interrupted),
            );
            let first = signal_hook::flag::register(signal, Arc::clone(&interrupted));
            debug_assert!(second.is_ok() && first.is_ok());
        }
        Ok(Self {
            bar: ProgressBar::with_draw_target(None, target),
            lines: out.map(|out| {
                let (stage, last) = (String::new(), Instant::now());
                Mutex::new(Lines {
                    out,
                    stage,
                    total: 0,
                    last,
                })
            }),
            done: AtomicU64::new(0),
            interrupted,
        })
    }
}

/// Duplicates the caller's descriptor, be it a file, a pipe or a socket.
fn open(fd: i32) -> io::Result<File> {
    let me = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty())?;
    Ok(File::from(rustix::process::pidfd_getfd(
        me,
        fd,
        PidfdGetfdFlags::empty(),
    )?))
}

impl Lines {
    fn write(&mut self, done: u64) {
        let schema = "bundle.progress.v1";
        let line = Line {
            schema,
            stage: &self.stage,
            done,
            total: self.total,
        };
        if let Ok(mut text) = serde_json::to_vec(&line) {
            text.push(b'\n');
            // A reader that left does not stop the work.
            self.out.write_all(&text).ok();
        }
        self.last = Instant::now();
    }
}

impl Progress for Bar {
    fn stage(&self, name: &str, total: u64) {
        const TEMPLATE: &str =
            "{msg:10} [{bar:30}] {bytes}/{total_bytes} {bytes_per_sec} {eta} left";
        if let Ok(style) = ProgressStyle::with_template(TEMPLATE) {
            self.bar.set_style(style.progress_chars("=> "));
        }
        self.bar.reset();
        self.bar.set_length(total);
        self.bar.set_message(name.to_string());
        self.done.store(0, Ordering::Relaxed);
        if let Some(lines) = &self.lines {
            let mut lines = lines.lock().unwrap_or_else(|poison| poison.into_inner());
            lines.stage = name.to_string();
            lines.total = total;
            lines.write(0);
        }
    }

    fn advance(&self, bytes: u64) {
        self.bar.inc(bytes);
        let done = self.done.fetch_add(bytes, Ordering::Relaxed) + bytes;
        if let Some(lines) = &self.lines {
            let mut lines = lines.lock().unwrap_or_else(|poison| poison.into_inner());
            if lines.last.elapsed() >= LINE_INTERVAL || done >= lines.total {
                lines.write(done);
            }
        }
    }

    fn interrupted(&self) -> bool {
        self.interrupted.load(Ordering::Relaxed)
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.finish_and_clear();
    }
}

impl fmt::Debug for Bar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bar").finish_non_exhaustive()
    }
}
