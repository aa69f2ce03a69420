//! The OSTree engine: imports verified container images and deploys them, in ostree-ext's layout.
//!
//! [`import()`] turns layers into commits, [`deploy()`] a merged commit into a deployment, [`status()`] and [`rollback()`] say
//! and choose what boots. Callers verify; nothing here opens a socket or trusts an archive's contents beyond its digest.

mod chunked;
mod commit;
mod deploy;
mod error;
mod gc;
mod image;
mod import;
mod layer;
mod limits;
mod merge;
mod object;
mod origin;
mod progress;
mod refescape;
mod rollback;
mod selinux;
mod session;
mod sources;
mod staging;
mod status;
mod stream;
mod sysroot;
mod tar_entries;
mod tar_extension;
mod tar_header;
mod tar_reader;
mod tree;
mod tree_repo;
mod writer;

pub use deploy::{DeployOptions, Deployed, deploy, followed};
pub use error::{ImageProblem, OstreeError, RejectReason};
pub use image::{Image, ImageLayer, LayerSource, LayerStream, Rebuild};
pub use import::{Imported, import, import_within, layers_present};
pub use limits::Limits;
pub use progress::Progress;
pub use refescape::{escape, image_ref, layer_ref, unescape};
pub use rollback::{RolledBack, rollback};
pub use sources::{Content, ImageFiles, ObjectFile, Sources, remove_damaged};
pub use status::{DeploymentStatus, Status, status};
pub use sysroot::{SysrootLock, lock, open};
