//! zstd: one frame, made by the `zstd` command or by what feeds libzstd as the command does.
//!
//! The bytes depend on the release of libzstd. The linked one encodes in this process; older ones are helper programs,
//! see [`EncoderSet`].

mod cli;
mod frame;
mod helper;
mod levels;
mod search;

use std::fmt;
use std::io::{Read, Write};

pub use helper::EncoderSet;
pub(crate) use search::open;

/// Decodes the frame at the beginning of `bytes` to the end of `inner`, and returns its length.
pub(crate) fn decode(bytes: &[u8], inner: &mut Vec<u8>, options: &crate::Options) -> Option<usize> {
    frame::decode(bytes, &frame::parse(bytes)?, inner, options)
}

/// Logarithm of the largest window that is decoded.
pub(crate) const WINDOW_LOG: u32 = 27;

/// Returns the bytes of the window that the frame needs which begins so.
pub(crate) fn window(beginning: &[u8]) -> u64 {
    let header = frame::parse(beginning);
    header.map_or(1 << WINDOW_LOG, |header| header.window())
}

use crate::{Error, Limits};

/// The release of libzstd that this build links.
pub const LINKED: Version = Version(10_507);

/// A release of libzstd.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Version(u32);

impl Version {
    /// The releases that there are encoders for, the newest first.
    pub const KNOWN: [Self; 6] = [
        LINKED,
        Self(10_506),
        Self(10_505),
        Self(10_504),
        Self(10_502),
        Self(10_501),
    ];

    /// The release with libzstd's own number for it, 10507 for 1.5.7; it need not be one of [`Self::KNOWN`].
    pub fn from_number(number: u32) -> Option<Self> {
        (10_000..100_000).contains(&number).then_some(Self(number))
    }

    /// libzstd's own number for it.
    pub fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for Version {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(number) = self;
        write!(
            formatter,
            "{}.{}.{}",
            number / 10_000,
            number / 100 % 100,
            number % 100
        )
    }
}

/// How a zstd frame is made: what the command line said, and which libzstd heard it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ZstdParams {
    /// The libzstd.
    pub version: Version,
    /// Level, 1 to 22.
    pub level: u8,
    /// Compressed in jobs, as the command does with any number of threads but `--single-thread`.
    pub workers: bool,
    /// Ends with a checksum of the content.
    pub checksum: bool,
    /// The size was known before: a file and not a pipe. Chooses other parameters for small inputs.
    pub pledged: bool,
    /// Writes the size, where it was known.
    pub content_size: bool,
    /// Logarithm of the window in bytes, 10 to 27, or 0 for the level's own.
    pub window_log: u8,
    /// Long-distance matching.
    pub long: bool,
}

impl ZstdParams {
    fn settings(&self, inner: u64, threads: u32) -> cli::Settings {
        cli::Settings {
            level: i32::from(self.level),
            workers: if self.workers {
                threads.clamp(1, 64)
            } else {
                0
            },
            checksum: self.checksum,
            content_size: self.content_size,
            window_log: u32::from(self.window_log),
            long: self.long,
            job_size: 0,
            pledged: self.pledged.then_some(inner),
            probe: false,
        }
    }

    /// Upper bound of the memory in bytes for a content of `inner` bytes.
    pub(crate) fn memory(&self, inner: u64, threads: u32) -> u64 {
        levels::footprint(self, inner, threads).resident
    }

    /// Encodes the `length` bytes of `inner` as one frame.
    pub(crate) fn encode(
        &self,
        length: u64,
        inner: &mut dyn Read,
        out: &mut dyn Write,
        limits: &Limits,
    ) -> Result<(), Error> {
        // More threads than the memory allows would only be faster.
        let fits = |threads: &u32| self.memory(length, *threads) <= limits.memory;
        let threads = (1..=limits.threads.clamp(1, 64))
            .rev()
            .find(fits)
            .unwrap_or(1);
        self.run(&self.settings(length, threads), length, inner, out, limits)
    }

    /// Runs the encoder of this version with `settings`.
    fn run(
        &self,
        settings: &cli::Settings,
        length: u64,
        inner: &mut dyn Read,
        out: &mut dyn Write,
        limits: &Limits,
    ) -> Result<(), Error> {
        if self.version != LINKED {
            let space = levels::footprint(self, length, settings.workers).address_space;
            let job = helper::Job {
                settings,
                space,
                time: limits.time,
            };
            return limits.encoders.run(self.version, &job, inner, out);
        }
        let encoder = "zstd";
        let failed = |why: &str| Error::Encoder {
            encoder,
            why: why.to_owned(),
        };
        if zstd_safe::version_number() != LINKED.number() {
            // Some other crate's build changed the linked libzstd: none of its bytes could be trusted.
            return Err(Error::EncoderMissing { version: LINKED });
        }
        let context = zstd_safe::CCtx::try_create().ok_or_else(|| failed("out of memory"))?;
        cli::compress(context, settings, inner, out).map_err(|failure| match failure {
            cli::Failure::Read(error) => Error::Read(error),
            cli::Failure::Write(error) => Error::Write(error),
            cli::Failure::Zstd(name) => failed(name),
        })
    }
}
