//! What can be wrong with keys, signatures and trust roots.

use bundle_format::Digest;
use bundle_format::dsse::EnvelopeError;
use bundle_format::json::JsonError;

use crate::Role;

/// Says why a key, a signature or a trust root is refused.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// Bytes that are not the key they should be.
    #[error("not {expected}: {cause}")]
    Malformed {
        /// What was asked for.
        expected: &'static str,
        /// The parser's words.
        cause: String,
    },
    /// A small-order public key, under which anybody can sign.
    #[error("weak public key: signatures under it prove nothing")]
    Weak,
    /// The system has no random numbers.
    #[error("no random numbers from the system: {cause}")]
    Random {
        /// The system's words.
        cause: String,
    },
    /// Not an envelope.
    #[error(transparent)]
    Envelope(#[from] EnvelopeError),
    /// Not acceptable JSON.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A trust root that breaks a rule.
    #[error("trust root {problem}")]
    Root {
        /// What is wrong, to be read behind "trust root".
        problem: String,
    },
    /// An envelope around something else.
    #[error("envelope holds {found:?}, not {expected}")]
    PayloadType {
        /// The type asked for.
        expected: &'static str,
        /// The type found.
        found: String,
    },
    /// The trust root gives nobody this role.
    #[error("trust root gives no key the role {role}")]
    NoRole {
        /// The role.
        role: Role,
    },
    /// No signature at all.
    #[error("no signature")]
    Unsigned,
    /// A signature by a key of the role that does not verify.
    #[error("bad signature by key {}", keyid.to_hex())]
    BadSignature {
        /// The key.
        keyid: Digest,
    },
    /// Too few keys of the role signed.
    #[error("signed by {found} of the {needed} keys that role {role} asks for")]
    Threshold {
        /// The role.
        role: Role,
        /// Keys needed.
        needed: usize,
        /// Keys that signed.
        found: usize,
        /// Key ids that the envelope names.
        named: Vec<Digest>,
    },
}

impl KeyError {
    pub(crate) fn root(problem: impl Into<String>) -> Self {
        Self::Root {
            problem: problem.into(),
        }
    }
}
