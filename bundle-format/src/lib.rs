//! The bundle format: types, limits and rules, in the order of `SPEC.md`.
//!
//! Nothing here opens a file, a socket or a process, or asks the time: the crate is `no_std`, so
//! the compiler itself enforces it. Whoever holds the bytes decides where they came from.

#![no_std]

extern crate alloc;

mod descriptor;
mod digest;
pub mod media_type;

pub use descriptor::{Descriptor, Platform};
pub use digest::{Digest, DigestError};
