//! What several integration tests share.

#![allow(dead_code, reason = "every test binary uses its own part")]
#![allow(unreachable_pub, reason = "a module of tests has no outside")]
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

pub mod archive;
#[cfg(feature = "ostree")]
pub(crate) mod chunked;
#[cfg(feature = "export")]
pub mod client;
pub mod fake;
#[cfg(feature = "ostree")]
pub(crate) mod image;
#[cfg(feature = "export")]
pub mod kit;
pub mod loopfs;
pub mod program;
pub mod registry;
#[cfg(feature = "export")]
pub mod reseal;
pub mod run;
pub mod signer;
#[cfg(feature = "ostree")]
pub mod small;
#[cfg(feature = "ostree")]
#[path = "ostree.rs"]
pub(crate) mod support;
pub mod tarball;
pub mod target;
