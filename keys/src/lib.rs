//! Keys, signatures and trust roots: who may sign what, and whether they did (SPEC 8).
//!
//! This crate reads no file and no clock; it gets bytes and gives verdicts.

mod error;
mod key;
mod trust_root;

pub use error::KeyError;
pub use key::{PrivateKey, PublicKey};
pub use trust_root::{Role, RoleKeys, TrustRoot, sign};
