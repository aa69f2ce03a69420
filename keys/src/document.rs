//! Documents of trust: one signed envelope a file (SPEC 8).
//!
//! Scope: what revocation lists and permits share: reading, counting signatures, signing.
//!
//! Threats: a document of one kind or product taken for another, content that is used before its
//! signatures were counted. Defences: the payload type is part of what is signed; [`Signed`] comes
//! out of [`Signed::open`] alone, which parses nothing before the signatures were found good.

use std::collections::BTreeSet;
use std::ops::Deref;

use bundle_format::dsse::{Envelope, Signature};
use bundle_format::{Digest, Limits};

use crate::{KeyError, PrivateKey, Role, Trust, TrustRoot};

/// A kind of document that keys of one role sign.
pub trait Document: Sized {
    /// Payload type of the envelope.
    const PAYLOAD_TYPE: &'static str;
    /// The role whose keys sign it.
    const ROLE: Role;

    /// Reads and checks the content.
    ///
    /// # Errors
    /// Fails on every breach of its section of SPEC 8.
    fn from_payload(payload: &[u8], limits: &Limits) -> Result<Self, KeyError>;

    /// Writes the content; equal contents give equal bytes.
    ///
    /// # Errors
    /// Fails where [`Document::from_payload`] would refuse the result.
    fn to_payload(&self) -> Result<Vec<u8>, KeyError>;

    /// Returns the product it is for.
    fn product(&self) -> &str;

    /// Returns those of `signers` whose scope covers the content.
    ///
    /// # Errors
    /// Fails where too few are left.
    fn in_scope(
        &self,
        root: &TrustRoot,
        signers: &BTreeSet<Digest>,
    ) -> Result<BTreeSet<Digest>, KeyError>;
}

/// A document that enough trusted keys signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signed<T> {
    content: T,
    signers: BTreeSet<Digest>,
    statement: Digest,
}

impl<T: Document> Signed<T> {
    /// Reads a document and checks who signed it.
    ///
    /// # Errors
    /// Fails where it is another document, for another product, not signed by enough keys of its
    /// role whose scope covers it, or breaks a rule.
    pub fn open<'a>(
        bytes: &[u8],
        trust: impl Into<Trust<'a>>,
        limits: &Limits,
    ) -> Result<Self, KeyError> {
        let trust = trust.into();
        let envelope = read(bytes, T::PAYLOAD_TYPE, limits)?;
        let signers = trust.check_signatures(T::ROLE, &envelope)?;
        let content = T::from_payload(&envelope.payload, limits)?;
        trust.check_product(content.product())?;
        Ok(Self {
            signers: content.in_scope(trust.root, &signers)?,
            statement: Digest::of(&envelope.payload),
            content,
        })
    }

    /// Returns the key ids that were accepted.
    pub const fn signers(&self) -> &BTreeSet<Digest> {
        &self.signers
    }

    /// Returns the digest of what was signed: a name for exactly this content.
    pub const fn statement(&self) -> Digest {
        self.statement
    }
}

impl<T> Deref for Signed<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.content
    }
}

/// Reads what a document claims, without checking a single signature.
///
/// # Errors
/// Fails where it is another document, or breaks a rule.
pub fn claim<T: Document>(bytes: &[u8], limits: &Limits) -> Result<(T, Envelope), KeyError> {
    let envelope = read(bytes, T::PAYLOAD_TYPE, limits)?;
    Ok((T::from_payload(&envelope.payload, limits)?, envelope))
}

/// Puts a document into an envelope that nobody signed yet.
///
/// # Errors
/// Fails where the content breaks a rule.
pub fn envelope<T: Document>(content: &T) -> Result<Envelope, KeyError> {
    Ok(Envelope {
        payload_type: T::PAYLOAD_TYPE.into(),
        payload: content.to_payload()?,
        signatures: Vec::new(),
    })
}

/// Reads the envelope of a document of trust: of one type, under the cap, in its one spelling.
pub(crate) fn read(
    bytes: &[u8],
    payload_type: &'static str,
    limits: &Limits,
) -> Result<Envelope, KeyError> {
    if bytes.len() as u64 > limits.trust_root_bytes {
        return Err(KeyError::TooLarge {
            cap: limits.trust_root_bytes,
        });
    }
    let envelope = Envelope::parse(bytes, limits)?;
    if envelope.payload_type != payload_type {
        return Err(KeyError::PayloadType {
            expected: payload_type,
            found: envelope.payload_type,
        });
    }
    // Else one set of signatures could have many fingerprints.
    if envelope.to_json() != bytes {
        return Err(KeyError::Spelling);
    }
    Ok(envelope)
}

/// Signs a payload with every key and returns the envelope.
///
/// # Errors
/// Fails without keys, and where a key cannot be encoded.
pub fn sign(
    payload_type: &str,
    payload: Vec<u8>,
    signers: &[PrivateKey],
) -> Result<Envelope, KeyError> {
    let mut envelope = Envelope {
        payload_type: payload_type.into(),
        payload,
        signatures: Vec::new(),
    };
    for signer in signers {
        add_signature(&mut envelope, signer)?;
    }
    if envelope.signatures.is_empty() {
        return Err(KeyError::Unsigned);
    }
    Ok(envelope)
}

/// Adds a signature to an envelope, in the place of an older one by the same key.
///
/// # Errors
/// Fails where the key cannot be encoded.
pub fn add_signature(envelope: &mut Envelope, key: &PrivateKey) -> Result<(), KeyError> {
    let keyid = key.public()?.keyid();
    let sig = key.sign(&envelope.signed_bytes()).to_vec();
    envelope.signatures.retain(|other| other.keyid != keyid);
    envelope.signatures.push(Signature { keyid, sig });
    envelope.signatures.sort_by_key(|signature| signature.keyid);
    Ok(())
}
