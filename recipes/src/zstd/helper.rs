//! Helper programs: encoders with an older libzstd, one program a release.
//!
//! Threats: a program that is another one than its name says, hangs, writes without end, or eats memory; what it inherits.
//! Defences: the directory is the caller's to choose and to protect, never searched for in `PATH`; the program must answer
//! `--version` with its release; it gets no environment, `/` as directory, two pipes and nothing else; its address space,
//! processor time and files are limited; there is a time limit over all; the sink refuses a byte too many; whatever goes
//! wrong, it is killed and waited for. Descriptors of this process are close-on-exec, as all that Rust opens.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_setfl};
use rustix::process::{Pid, Resource, Rlimit, prlimit};

use super::{LINKED, Version, cli};
use crate::Error;

/// Bytes moved at a time: what a pipe holds.
const CHUNK: usize = 64 << 10;
/// How long `--version` may take.
const ANSWER: Duration = Duration::from_secs(10);

/// The encoders at hand: the linked libzstd, and helper programs of one directory.
#[derive(Debug, Clone, Default)]
pub struct EncoderSet {
    programs: Arc<BTreeMap<Version, Result<PathBuf, &'static str>>>,
}

/// One encoding by a helper.
pub(super) struct Job<'a> {
    pub(super) settings: &'a cli::Settings,
    /// Address space that it may take, in bytes.
    pub(super) space: u64,
    /// How long it may take.
    pub(super) time: Duration,
}

impl EncoderSet {
    /// Only the linked libzstd.
    pub fn none() -> Self {
        Self::default()
    }

    /// The linked libzstd and the programs `bundle-zstd-X.Y.Z` of `directory`, each asked for its release once.
    ///
    /// A program that does not answer as it should is kept as unfit: a recipe that needs it fails with
    /// [`Error::EncoderUnfit`]. A directory that is not there is an empty one.
    pub fn in_directory(directory: &Path) -> Self {
        // They run in another directory than this process.
        let Ok(directory) = std::path::absolute(directory) else {
            return Self::none();
        };
        let mut programs = BTreeMap::new();
        for version in Version::KNOWN
            .into_iter()
            .filter(|version| *version != LINKED)
        {
            let path = directory.join(format!("bundle-zstd-{version}"));
            if path.is_file() {
                let fit = answers(&path, version).map(|()| path);
                programs.insert(version, fit);
            }
        }
        Self {
            programs: Arc::new(programs),
        }
    }

    /// Whether there is a fit encoder of this release.
    pub fn has(&self, version: Version) -> bool {
        version == LINKED || matches!(self.programs.get(&version), Some(Ok(_)))
    }

    /// The releases at hand, the newest first.
    pub fn versions(&self) -> Vec<Version> {
        Version::KNOWN
            .into_iter()
            .filter(|version| self.has(*version))
            .collect()
    }

    /// Runs the helper of `version` from `input` to `output`.
    pub(super) fn run(
        &self,
        version: Version,
        job: &Job<'_>,
        input: &mut dyn Read,
        output: &mut dyn Write,
    ) -> Result<(), Error> {
        let path = match self.programs.get(&version) {
            Some(Ok(path)) => path,
            Some(Err(why)) => return Err(Error::EncoderUnfit { version, why }),
            None => return Err(Error::EncoderMissing { version }),
        };
        let failed = |source| Error::Run { version, source };
        let mut command = Command::new(path);
        command.args(arguments(job.settings));
        let mut running = Running::start(&mut command).map_err(failed)?;
        // Before the first byte of input is given: it waits for that, and has allocated nothing.
        running.limit(job.space, job.time).map_err(failed)?;
        let deadline = Instant::now() + job.time;
        match running.pump(input, output, deadline) {
            Ok(()) => {}
            Err(Stop::Read(error)) => return Err(Error::Read(error)),
            Err(Stop::Write(error)) => return Err(Error::Write(error)),
            Err(Stop::Pipe(error)) => return Err(failed(error)),
            Err(Stop::Late) => {
                return Err(Error::TooSlow {
                    version,
                    seconds: job.time.as_secs(),
                });
            }
        }
        let status = running.child.wait().map_err(failed)?;
        if status.success() {
            return Ok(());
        }
        Err(Error::Encoder {
            encoder: "zstd",
            why: format!("helper {version}: {status}"),
        })
    }
}

/// The nine numbers of the protocol, see `encoders/main.rs`.
fn arguments(settings: &cli::Settings) -> [String; 9] {
    let level = u64::try_from(settings.level).unwrap_or(0);
    let pledged = settings.pledged.map_or(0, |size| size.saturating_add(1));
    [
        level,
        u64::from(settings.workers),
        u64::from(settings.checksum),
        u64::from(settings.content_size),
        u64::from(settings.window_log),
        u64::from(settings.long),
        u64::from(settings.job_size),
        pledged,
        u64::from(settings.probe),
    ]
    .map(|number| number.to_string())
}

/// Whether the program is the encoder that its name says.
fn answers(path: &Path, version: Version) -> Result<(), &'static str> {
    let mut command = Command::new(path);
    command.arg("--version");
    let mut running = Running::start(&mut command).map_err(|_| "it cannot be started")?;
    running
        .limit(256 << 20, ANSWER)
        .map_err(|_| "it cannot be limited")?;
    let mut answer = Vec::new();
    running
        .pump(
            &mut io::empty(),
            &mut Short(&mut answer),
            Instant::now() + ANSWER,
        )
        .map_err(|_| "it does not answer")?;
    let status = running
        .child
        .wait()
        .map_err(|_| "it cannot be waited for")?;
    if !status.success() || answer != format!("bundle-zstd {version}\n").as_bytes() {
        return Err("it answers that it is another program");
    }
    Ok(())
}

/// Takes no more than a line.
struct Short<'a>(&'a mut Vec<u8>);

impl Write for Short<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        if self.0.len() + buffer.len() > 64 {
            return Err(ErrorKind::FileTooLarge.into());
        }
        self.0.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Why pumping stopped before the helper was done.
enum Stop {
    Read(io::Error),
    Write(io::Error),
    Pipe(io::Error),
    Late,
}

/// A helper that is killed when it is dropped.
struct Running {
    child: Child,
}

impl Drop for Running {
    fn drop(&mut self) {
        // Errors mean that it has ended and was waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    fn start(command: &mut Command) -> io::Result<Self> {
        command
            .env_clear()
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null());
        Ok(Self {
            child: command.spawn()?,
        })
    }

    fn limit(&self, space: u64, time: Duration) -> io::Result<()> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw);
        // Threads count together, and there are at most 64.
        let processor = time.as_secs().saturating_mul(64).saturating_add(1);
        for (resource, limit) in [
            (Resource::As, space),
            (Resource::Cpu, processor),
            (Resource::Core, 0),
            (Resource::Fsize, 0),
        ] {
            let limit = Rlimit {
                current: Some(limit),
                maximum: Some(limit),
            };
            match prlimit(pid, resource, limit) {
                Ok(_) => {}
                // It has ended already, which its exit status will tell.
                Err(rustix::io::Errno::SRCH) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Moves bytes both ways until the helper closes its output.
    fn pump(
        &mut self,
        input: &mut dyn Read,
        output: &mut dyn Write,
        deadline: Instant,
    ) -> Result<(), Stop> {
        let mut stdin = self.child.stdin.take();
        let Some(mut stdout) = self.child.stdout.take() else {
            return Err(Stop::Pipe(ErrorKind::BrokenPipe.into()));
        };
        if let Some(pipe) = &stdin {
            fcntl_setfl(pipe, OFlags::NONBLOCK).map_err(|error| Stop::Pipe(error.into()))?;
        }
        fcntl_setfl(&stdout, OFlags::NONBLOCK).map_err(|error| Stop::Pipe(error.into()))?;
        let mut feed = Feed {
            buffer: vec![0; CHUNK],
            start: 0,
            end: 0,
        };
        let mut buffer = vec![0; CHUNK];
        loop {
            let (readable, writable) = ready(&stdout, stdin.as_ref(), deadline)?;
            if let (true, Some(pipe)) = (writable, stdin.as_mut())
                && !feed.push(input, pipe)?
            {
                // Closed: the helper sees the end of its input.
                stdin = None;
            }
            if readable {
                match stdout.read(&mut buffer) {
                    Ok(0) => return Ok(()),
                    Ok(count) => output
                        .write_all(buffer.get(..count).unwrap_or_default())
                        .map_err(Stop::Write)?,
                    Err(error) if retry(&error) => {}
                    Err(error) => return Err(Stop::Pipe(error)),
                }
            }
        }
    }
}

/// Waits until the output can be read or the input be written; an end or an error counts as either.
fn ready(
    stdout: &ChildStdout,
    stdin: Option<&ChildStdin>,
    deadline: Instant,
) -> Result<(bool, bool), Stop> {
    let left = deadline.saturating_duration_since(Instant::now());
    if left.is_zero() {
        return Err(Stop::Late);
    }
    let timeout = Timespec::try_from(left).unwrap_or(Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    });
    let mut descriptors = vec![PollFd::new(stdout, PollFlags::IN)];
    descriptors.extend(stdin.map(|pipe| PollFd::new(pipe, PollFlags::OUT)));
    match poll(&mut descriptors, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(Stop::Pipe(error.into())),
    }
    let mut events = descriptors
        .iter()
        .map(|descriptor| !descriptor.revents().is_empty());
    Ok((
        events.next().unwrap_or(false),
        events.next().unwrap_or(false),
    ))
}

fn retry(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted)
}

/// Input on its way into the pipe.
struct Feed {
    buffer: Vec<u8>,
    start: usize,
    end: usize,
}

impl Feed {
    /// Writes what the pipe takes; false when there is no more, or nobody who wants it.
    fn push(&mut self, input: &mut dyn Read, pipe: &mut ChildStdin) -> Result<bool, Stop> {
        if self.start == self.end {
            self.start = 0;
            self.end = match input.read(&mut self.buffer) {
                Ok(0) => return Ok(false),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => 0,
                Err(error) => return Err(Stop::Read(error)),
            };
        }
        match pipe.write(self.buffer.get(self.start..self.end).unwrap_or_default()) {
            Ok(count) => self.start = (self.start + count).min(self.end),
            Err(error) if retry(&error) => {}
            // The helper ended early: its exit status says why.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(false),
            Err(error) => return Err(Stop::Pipe(error)),
        }
        Ok(true)
    }
}
