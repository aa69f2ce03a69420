//! Carries signed operating-system updates across an air gap.

#[cfg(feature = "export")]
pub mod registry;
