//! Deltas between releases: made on the build box, applied out of the OSTree repository.

mod make;
mod matcher;
mod plan;
mod recipes;
mod spool;
mod store;

pub use make::{Options, make};
pub use spool::{Spool, SpooledFile};
pub use store::SpoolStore;
