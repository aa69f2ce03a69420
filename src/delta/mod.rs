//! Deltas between releases: made on the build box, applied out of the OSTree repository.

#[cfg(feature = "export")]
mod budget;
#[cfg(feature = "export")]
mod make;
#[cfg(feature = "export")]
mod matcher;
#[cfg(feature = "export")]
mod plan;
mod recipes;
mod scratch;
#[cfg(feature = "export")]
mod sketch;
#[cfg(feature = "export")]
mod spool;
#[cfg(feature = "export")]
mod store;

#[cfg(feature = "export")]
pub use make::{Layer, Options, make, prove, rebuild_order};
#[cfg(feature = "export")]
pub use spool::{Spool, SpooledFile};
#[cfg(feature = "export")]
pub use store::SpoolStore;

/// Bytes of memory that rebuilding takes beside windows and encoders: buffers, tables of steps, the table of sources.
pub const REBUILD_MEMORY: u64 = 24 << 20;
