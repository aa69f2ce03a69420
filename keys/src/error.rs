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
    /// Another document of trust that breaks a rule.
    #[error("{document} {problem}")]
    Document {
        /// Which kind.
        document: &'static str,
        /// What is wrong, to be read behind its name.
        problem: String,
    },
    /// A document of trust above the cap.
    #[error("larger than {cap} bytes")]
    TooLarge {
        /// The cap, in bytes.
        cap: u64,
    },
    /// An envelope with white space, another order of members, or needless escapes.
    #[error("not in the one spelling of an envelope")]
    Spelling,
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
    /// Enough keys signed, but too few of them may sign this.
    #[error(
        "signed by {found} of the {needed} keys of role {role} that may sign sequence {sequence}{}",
        channel.as_ref().map(|name| format!(" of channel {name}")).unwrap_or_default()
    )]
    OutOfScope {
        /// The role.
        role: Role,
        /// Keys needed.
        needed: usize,
        /// Keys that signed and may.
        found: usize,
        /// The channel, where there is one.
        channel: Option<String>,
        /// The sequence.
        sequence: u64,
    },
    /// Made for another product.
    #[error("is for {found:?}, not for {expected:?}")]
    OtherProduct {
        /// The product of the trust root.
        expected: String,
        /// The product found.
        found: String,
    },
    /// A release of another channel.
    #[error("is of channel {found}, not of {expected}")]
    OtherChannel {
        /// The channel the host follows.
        expected: String,
        /// The channel found.
        found: String,
    },
    /// Too few keys signed, and one that signed was revoked.
    #[error("key {} was revoked", keyid.to_hex())]
    RevokedKey {
        /// The key.
        keyid: Digest,
        /// What is missing without it.
        source: Box<KeyError>,
    },
    /// A statement or blob that was revoked.
    #[error("{digest} was revoked")]
    Revoked {
        /// What was revoked.
        digest: Digest,
    },
    /// A trust root that does not follow the one before.
    #[error("trust root version {offered} does not follow version {held}")]
    Gap {
        /// Version before.
        held: u64,
        /// Version behind it.
        offered: u64,
    },
    /// A trust root of the same version that says something else.
    #[error("trust root version {version} is another one than the one held")]
    Fork {
        /// The version.
        version: u64,
    },
    /// A successor that one of the two sides did not sign.
    #[error("trust root version {version} is not signed by the root keys of version {by}")]
    Rotation {
        /// The successor's version.
        version: u64,
        /// The version whose keys did not sign.
        by: u64,
        /// What is missing.
        source: Box<KeyError>,
    },
    /// A document of a chain that is no trust root.
    #[error("trust root {position} of the chain")]
    InChain {
        /// Its place, from 1.
        position: usize,
        /// What is wrong with it.
        source: Box<KeyError>,
    },
    /// A chain with more roots than are walked.
    #[error("a chain of {found} trust roots, at most {cap} are walked")]
    LongChain {
        /// How many there are.
        found: usize,
        /// The cap.
        cap: usize,
    },
    /// A chain without a trust root.
    #[error("a chain without a trust root")]
    EmptyChain,
    /// A revocation list that is older than the one held, or another one with its sequence.
    #[error("revocation list {offered} does not replace list {held}, which is held")]
    OldList {
        /// Sequence of the list held.
        held: u64,
        /// Sequence of the list offered.
        offered: u64,
    },
}

impl KeyError {
    /// Returns true where nothing is wrong but that others have to sign as well.
    pub fn lacks_signatures(&self) -> bool {
        match self {
            Self::Unsigned | Self::Threshold { .. } => true,
            Self::Rotation { source, .. } => source.lacks_signatures(),
            _ => false,
        }
    }

    pub(crate) fn root(problem: impl Into<String>) -> Self {
        Self::Root {
            problem: problem.into(),
        }
    }

    pub(crate) const fn document(document: &'static str, problem: String) -> Self {
        Self::Document { document, problem }
    }
}
