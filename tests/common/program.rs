//! Runs `bundle` and the programs of the system; what hangs or is missing fails the test in words.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read as _, Seek as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// Nothing here takes longer, however busy the machine is.
const PATIENCE: Duration = Duration::from_secs(120);

/// How a program ended.
#[derive(Debug)]
pub struct Done {
    /// Exit status; none after a signal.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub elapsed: Duration,
}

impl Done {
    /// Asserts success.
    #[track_caller]
    pub fn ok(self) -> Self {
        assert_eq!(self.status, Some(0), "{}{}", self.stdout, self.stderr);
        self
    }

    /// Asserts a failure with its status, a cause and a remedy.
    #[track_caller]
    pub fn fails(self, status: i32) -> Self {
        assert_eq!(self.status, Some(status), "{}{}", self.stdout, self.stderr);
        let lines = |start: &str| {
            self.stderr
                .lines()
                .filter(|line| line.starts_with(start))
                .count()
        };
        assert_eq!(
            (lines("error: "), lines("hint: ")),
            (1, 1),
            "{}",
            self.stderr
        );
        self
    }

    /// Parses standard output as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("{error}: {:?}\n{}", self.stdout, self.stderr))
    }
}

/// A program that runs, and what it printed so far.
pub struct Running {
    /// The process.
    pub child: Child,
    name: String,
    started: Instant,
    stdout: File,
    stderr: File,
}

impl Running {
    /// Waits for the end.
    #[track_caller]
    pub fn wait(mut self) -> Done {
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            if self.started.elapsed() > PATIENCE {
                self.child.kill().unwrap();
                self.child.wait().unwrap();
                panic!("{} hangs", self.name);
            }
            std::thread::sleep(Duration::from_millis(1));
        };
        let elapsed = self.started.elapsed();
        let text = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind()
                .and_then(|()| file.read_to_end(&mut bytes))
                .unwrap();
            String::from_utf8_lossy(&bytes).into_owned()
        };
        Done {
            status: status.code(),
            stdout: text(&mut self.stdout),
            stderr: text(&mut self.stderr),
            elapsed,
        }
    }

    /// Kills it as a power switch would: no handler runs. Returns false where it had ended before.
    pub fn kill(mut self) -> bool {
        let ended = self.child.try_wait().unwrap().is_some();
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        !ended
    }

    /// Returns true until it ends.
    pub fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }
}

/// Starts a command with its output in files, so that no full pipe stops it.
#[track_caller]
pub fn start(command: &mut Command) -> Running {
    let (stdout, stderr) = (tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap());
    let started = Instant::now();
    let child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone().unwrap())
        .stderr(stderr.try_clone().unwrap())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    Running {
        child,
        name: format!("{command:?}"),
        started,
        stdout,
        stderr,
    }
}

/// Runs a command to its end.
#[track_caller]
pub fn finish(command: &mut Command) -> Done {
    start(command).wait()
}

/// The `bundle` command.
pub fn bundle<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_bundle"));
    command
        .args(arguments)
        .env_remove("RUST_BACKTRACE")
        .env_remove("REGISTRY_AUTH_FILE");
    command
}

/// Another program, which has to be installed.
#[track_caller]
pub fn tool<S: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = S>) -> Command {
    require(name);
    let mut command = Command::new(name);
    command.args(arguments).env("LC_ALL", "C");
    command
}

/// Runs another program that must succeed, and returns what it printed.
#[track_caller]
pub fn output<S: AsRef<OsStr>>(name: &str, arguments: impl IntoIterator<Item = S>) -> String {
    let mut command = tool(name, arguments);
    let done = finish(&mut command);
    assert_eq!(
        done.status,
        Some(0),
        "{command:?}: {}{}",
        done.stdout,
        done.stderr
    );
    done.stdout
}

/// Puts a command behind others, such as `unshare -n` or `strace`.
#[track_caller]
pub fn behind(wrapper: &[&str], command: &Command) -> Command {
    let (name, rest) = wrapper.split_first().unwrap();
    let mut wrapped = tool(name, rest);
    wrapped.arg(command.get_program()).args(command.get_args());
    wrapped
}

/// Fails where a program is missing.
#[track_caller]
pub fn require(program: &str) {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places =
        std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin"), PathBuf::from("/sbin")]);
    assert!(
        places.any(|place| place.join(program).is_file()),
        "this test needs the program `{program}`: run tests/install-packages.sh"
    );
}

/// Fails where this is not root: deployments have owners, and mounts need rights.
#[track_caller]
pub fn require_root() {
    assert!(
        rustix::process::geteuid().is_root(),
        "this test needs root: run `make test` as root"
    );
}

/// Makes a temporary directory, in memory where there is room: these tests write a lot and often.
pub fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let roomy = rustix::fs::statvfs(memory)
        .is_ok_and(|stat| stat.f_bavail.saturating_mul(stat.f_frsize) > 2 << 30);
    if roomy {
        TempDir::new_in(memory).unwrap()
    } else {
        TempDir::new().unwrap()
    }
}

/// Names the steps of a long test, and says how long each took.
pub struct Steps {
    started: Instant,
    step: Option<(String, Instant)>,
}

impl Steps {
    pub fn new() -> Self {
        Self {
            started: Instant::now(),
            step: None,
        }
    }

    /// Ends the step before and begins one.
    pub fn begin(&mut self, name: &str) {
        self.end();
        self.step = Some((name.to_owned(), Instant::now()));
    }

    fn end(&mut self) {
        if let Some((name, begun)) = self.step.take() {
            eprintln!("{:7.2} s  {name}", begun.elapsed().as_secs_f64());
        }
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        if std::thread::panicking() {
            if let Some((name, _)) = &self.step {
                eprintln!("failed in: {name}");
            }
            return;
        }
        self.end();
        eprintln!("{:7.2} s  in all", self.started.elapsed().as_secs_f64());
    }
}

/// A generator of numbers that gives the same ones for the same seed: a failure can be repeated.
pub struct Random(u64);

impl Random {
    /// Takes the seed from `BUNDLE_TEST_SEED`, else a fixed one, and prints it.
    pub fn new() -> Self {
        let seed =
            std::env::var("BUNDLE_TEST_SEED").map_or(20_260_101, |seed| seed.parse().unwrap());
        eprintln!("BUNDLE_TEST_SEED={seed}");
        Self(seed)
    }

    /// Returns a number in `0.0..1.0` (splitmix64).
    pub fn fraction(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        f64::from(u32::try_from((mixed ^ (mixed >> 31)) >> 32).unwrap()) / 4_294_967_296.0
    }

    /// Returns a part of a duration.
    pub fn part(&mut self, whole: Duration) -> Duration {
        whole.mul_f64(self.fraction())
    }
}
