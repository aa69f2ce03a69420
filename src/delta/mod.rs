//! Deltas between releases: made on the build box, applied out of the OSTree repository.

#[cfg(feature = "export")]
mod budget;
#[cfg(feature = "ostree")]
mod host;
#[cfg(feature = "export")]
mod make;
#[cfg(feature = "export")]
mod matcher;
mod offer;
#[cfg(feature = "export")]
mod plan;
mod recipes;
#[cfg(feature = "ostree")]
mod road;
mod scratch;
#[cfg(feature = "export")]
mod sketch;
#[cfg(feature = "export")]
mod spool;
#[cfg(feature = "export")]
mod store;
#[cfg(feature = "export")]
pub mod tar_diff;

#[cfg(feature = "ostree")]
pub use host::PlannedLayers;
#[cfg(feature = "export")]
pub use make::{Layer, Options, make, prove, rebuild_order};
pub use offer::{Offer, offers};
#[cfg(feature = "ostree")]
pub use road::{DeltaRoad, LayerPlan, Means, Plan, Refusal, Road, free_memory, plan};
#[cfg(feature = "export")]
pub use spool::{Spool, SpooledFile};
#[cfg(feature = "export")]
pub use store::SpoolStore;

/// Where encoders of other releases are looked for.
pub const ENCODERS: &str = "/usr/lib/bundle/encoders";
/// Bytes of memory that rebuilding takes beside windows and encoders: buffers, tables of steps, the table of sources.
pub const REBUILD_MEMORY: u64 = 40 << 20;
