//! Deltas between releases: made on the build box, applied out of the OSTree repository.

#[cfg(feature = "export")]
mod make;
#[cfg(feature = "export")]
mod matcher;
#[cfg(feature = "export")]
mod plan;
mod recipes;
#[cfg(feature = "export")]
mod spool;
#[cfg(feature = "export")]
mod store;

#[cfg(feature = "export")]
pub use make::{Options, make};
#[cfg(feature = "export")]
pub use spool::{Spool, SpooledFile};
#[cfg(feature = "export")]
pub use store::SpoolStore;
