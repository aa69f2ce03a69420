//! OCI layouts on a medium: finding, listing and reading files without trusting any of them.

mod medium;
#[cfg(feature = "export")]
mod staging;
mod tar;

pub use medium::{Entry, EntryKind, Medium, MediumFile};
#[cfg(feature = "export")]
pub use staging::{BlobWriter, Finished, Staging};
