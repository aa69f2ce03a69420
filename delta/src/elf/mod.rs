//! Prediction of references in ELF files: what a copy of old bytes becomes where things moved.
//!
//! When code or data moves, every distance and address that spans the move changes. A delta
//! already says what moved where: its copies. So each reference in the old bytes is followed to
//! its old target, the target mapped along the copies, and the reference written anew. What the
//! prediction gets wrong is an ordinary difference: it need not be right, only the same on both
//! sides, and unlike a filter of whole files it needs neither file in memory.

mod aarch64;
mod btf;
mod hints;
mod layout;
#[cfg(feature = "encode")]
mod learn;
mod mapping;
#[cfg(feature = "encode")]
mod plan;
mod predict;
mod sites;
mod table;
#[cfg(feature = "encode")]
mod view;
mod x86;

#[cfg(feature = "encode")]
pub use learn::Learner;
#[cfg(feature = "encode")]
pub use plan::{StepsAndHints, plan};
pub use predict::Predictor;
pub use table::Table;

#[cfg(all(test, feature = "encode"))]
mod tests;
