//! Carries signed operating-system updates across an air gap.

#[cfg(feature = "ostree")]
pub mod ostree;
