//! Keys, signatures and documents of trust: who may sign what, and whether they did (SPEC 8).
//!
//! This crate reads no file and no clock; it gets bytes and gives verdicts.

pub mod chain;
pub mod document;
mod error;
mod key;
mod permit;
mod revocation;
mod role;
mod scope;
mod trust;
mod trust_root;

pub use document::{Document, Signed, add_signature, sign};
pub use error::KeyError;
pub use key::{PrivateKey, PublicKey};
pub use permit::{Nonce, Permit, check_host};
pub use revocation::RevocationList;
pub use role::{Role, RoleKeys};
pub use scope::{Range, Scope};
pub use trust::Trust;
pub use trust_root::{Draft, Terms, TrustRoot, TrustedKey};
