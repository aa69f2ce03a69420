//! The bundle format: types, limits and rules, in the order of `SPEC.md`.
//!
//! Nothing here opens a file, a socket or a process, or asks the time: the crate is `no_std`, so
//! the compiler itself enforces it. Whoever holds the bytes decides where they came from.

#![no_std]

extern crate alloc;

pub mod chunk;
pub mod delta;
mod descriptor;
mod digest;
pub mod dsse;
pub mod json;
pub mod layout;
mod limits;
pub mod manifest;
pub mod media_type;
mod statement;
mod time;
pub mod trust_chain;

pub use chunk::{ChunkIndex, ChunkIndexError};
pub use descriptor::{Descriptor, Platform};
pub use digest::{Digest, DigestError};
pub use limits::Limits;
pub use statement::{
    BlobEntry, CHANNEL, Chunks, DEFAULT_CHANNEL, EXPIRES, OMITTED, PREDICATE_TYPE, Release,
    STATEMENT_TYPE, StatementError, check_channel, check_product, check_version,
};
pub use time::{Time, TimeError};

/// Serialises plain data as compact JSON; equal values give equal bytes.
///
/// The types of this crate hold only strings, whole numbers, lists and ordered maps with string
/// keys, which always serialise.
fn to_json<T: serde::Serialize>(value: &T) -> alloc::vec::Vec<u8> {
    serde_json::to_vec(value).unwrap_or_default()
}
