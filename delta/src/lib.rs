//! Differences between two versions of a file: matched, predicted, and coded sparsely.
//!
//! No file, network or process is touched: old files are a [`Source`], streams a `Read` or `Write`.
//!
//! To encode: a [`elf::Learner`] sees all pairs of kernel modules; a [`Plan`] is made per pair,
//! plain or predicted; an [`Encoder`] writes plans into the streams of a [`streams::Writer`].
//! To decode: a [`Decoder`] takes the same files in the same order, with each old file at hand, and
//! needs to be told each new length and whether it was predicted.
//!
//! How it works: [`bsdiff`] finds what of the old file stands where in the new one. For ELF files
//! it looks at views with references masked, and [`elf`] then predicts these references from the
//! copies found. What prediction leaves is coded by [`sparse`] as gaps and values; [`streams`]
//! gathers each kind from many files, and cuts them in windows that decompress alone.
//!
//! Threats: everything decoded is hostile until its digest is known, and the digest of a file is
//! the caller's to check. Defences are told at the head of each module; nothing here panics on
//! input, and memory is bounded by the limits given.

#[cfg(feature = "encode")]
pub mod bsdiff;
pub mod codec;
pub mod elf;
#[cfg(feature = "encode")]
mod encode;
mod error;
pub mod header;
#[cfg(feature = "encode")]
pub mod index;
pub mod program;
pub mod rebuild;
mod source;
pub mod sparse;
pub mod step;
pub mod streams;
pub mod tar_diff;
pub mod varint;

pub use codec::{Decoder, STREAMS};
#[cfg(feature = "encode")]
pub use encode::{Encoder, Plan};
pub use error::DeltaError;
pub use source::Source;
