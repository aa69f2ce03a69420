//! What can be wrong with a delta.

use std::io;

/// Why a delta cannot be read, applied or written.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeltaError {
    /// The input ends before it should.
    #[error("delta ends early in {part}")]
    Truncated {
        /// Which part was being read.
        part: &'static str,
    },
    /// A value is impossible, or larger than the limits allow.
    #[error("delta is malformed: {what}")]
    Malformed {
        /// Which rule was broken.
        what: &'static str,
    },
    /// A declared number exceeds a cap.
    #[error("{what} is {found}, more than the limit of {limit}")]
    TooLarge {
        /// Which number.
        what: &'static str,
        /// The number found.
        found: u64,
        /// The largest number accepted.
        limit: u64,
    },
    /// A step reads the old file outside its bounds.
    #[error("step reads old bytes {start}..{end} of {len}")]
    OutOfBounds {
        /// First byte wanted.
        start: u64,
        /// One past the last byte wanted.
        end: u64,
        /// Length of the old file.
        len: u64,
    },
    /// A frame does not decompress.
    #[error("cannot decompress a frame")]
    Frame(#[source] io::Error),
    /// A source has another size than the delta says.
    #[error("source {path:?} is not the file that the delta was made from")]
    WrongSource {
        /// Path of the source.
        path: String,
    },
    /// What was rebuilt is not what the delta was made for.
    #[error("what was rebuilt has another hash than the target")]
    WrongTarget,
    /// Reading or writing failed.
    #[error("cannot read or write")]
    Io(#[from] io::Error),
    /// The suffix array could not be built, for want of memory.
    #[error("cannot build the suffix array of {len} bytes")]
    SuffixArray {
        /// Length of the text.
        len: usize,
    },
}
