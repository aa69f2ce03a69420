//! What can go wrong with a recipe.

use std::io;

use crate::zstd::Version;

/// Why a recipe could not be read or carried out.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recipe's bytes are not a recipe in its canonical form.
    #[error("the recipe is malformed: {why}")]
    Malformed {
        /// The rule that it breaks.
        why: &'static str,
    },
    /// The recipe is of a form that this release does not know.
    #[error("the recipe has version {found}, and this release knows version {known}")]
    RecipeVersion {
        /// The version it says it has.
        found: u8,
        /// The only version that this release reads.
        known: u8,
    },
    /// The recipe asks for a generation of an encoder that this build does not carry.
    #[error(
        "the recipe needs generation {found} of the {encoder} encoder, and this build has {known}"
    )]
    Generation {
        /// `xz`, `gzip`.
        encoder: &'static str,
        /// What the recipe needs.
        found: u8,
        /// What is linked.
        known: u8,
    },
    /// There is no program for the libzstd that the recipe needs.
    #[error("the encoder of zstd {version} is missing")]
    EncoderMissing {
        /// The release of libzstd.
        version: Version,
    },
    /// A program is there and is not the encoder that its name promises.
    #[error("the encoder of zstd {version} is not usable: {why}")]
    EncoderUnfit {
        /// The release of libzstd.
        version: Version,
        /// What is wrong with it.
        why: &'static str,
    },
    /// The encoder ended with an error.
    #[error("the {encoder} encoder failed: {why}")]
    Encoder {
        /// `zstd`, `xz`, `gzip`.
        encoder: &'static str,
        /// What it said.
        why: String,
    },
    /// The encoder ran longer than it may.
    #[error("the encoder of zstd {version} ran longer than {seconds} s")]
    TooSlow {
        /// The release of libzstd.
        version: Version,
        /// The limit.
        seconds: u64,
    },
    /// The recipe needs more memory than the limit.
    #[error("the recipe needs {needed} bytes of memory, and may use {allowed}")]
    Memory {
        /// What it declares.
        needed: u64,
        /// The limit.
        allowed: u64,
    },
    /// The inner stream ended early.
    #[error("the inner stream ended after {found} of {expected} bytes")]
    InnerShort {
        /// Length that the recipe says.
        expected: u64,
        /// Where it ended.
        found: u64,
    },
    /// The encoder wrote more or less than the recipe says.
    #[error("the encoder wrote {found} bytes where the recipe says {expected}")]
    OutputLength {
        /// Length that the recipe says.
        expected: u64,
        /// What was written; where it was more, the count at which that was noticed.
        found: u64,
    },
    /// The inner stream could not be read.
    #[error("reading the inner stream")]
    Read(#[source] io::Error),
    /// The output could not be written.
    #[error("writing the output")]
    Write(#[source] io::Error),
    /// A helper program could not be started or talked to.
    #[error("running the encoder of zstd {version}")]
    Run {
        /// The release of libzstd.
        version: Version,
        /// The reason.
        #[source]
        source: io::Error,
    },
}
