//! Carries signed operating-system updates across an air gap.
//!
//! Reading starts at [`verify`]: it alone turns bytes on a medium into a
//! [`verify::VerifiedBundle`], and everything that acts on a release asks for one.

#[cfg(feature = "ostree")]
pub mod apply;
#[cfg(feature = "delta")]
pub mod delta;
mod error;
pub mod exit;
#[cfg(feature = "export")]
pub mod export;
#[cfg(feature = "delta")]
mod layer;
pub mod layout;
#[cfg(feature = "ostree")]
pub mod ostree;
pub mod platform;
pub mod progress;
#[cfg(feature = "export")]
pub mod registry;
pub mod text;
pub mod verify;

pub use error::{Error, is_no_space, worst};
