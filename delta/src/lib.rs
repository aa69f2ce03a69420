//! The differ.
mod error;
pub mod varint;
pub mod step;
pub mod sparse;
pub mod streams;
pub mod source;
#[cfg(feature = "encode")]
pub mod index;
#[cfg(feature = "encode")]
pub mod bsdiff;
pub mod codec;
pub mod elf;
pub mod header;
pub mod program;
pub mod rebuild;
pub use error::DeltaError;
