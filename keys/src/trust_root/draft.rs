//! Trust roots in the making: checked, but perhaps not signed by enough yet (SPEC 8.2, 8.4).
//!
//! Holders of root keys rarely sit in one room. A draft goes from one to the next and each adds a
//! signature. Nothing takes a draft for a [`TrustRoot`].

use bundle_format::dsse::Envelope;
use bundle_format::{Digest, Limits, media_type};

use super::{Terms, TrustRoot};
use crate::{KeyError, PrivateKey, Role, add_signature, document};

/// A trust root whose signatures were not counted.
#[derive(Clone, Debug)]
pub struct Draft {
    envelope: Envelope,
    terms: Terms,
}

impl Draft {
    /// Makes a draft that nobody signed.
    ///
    /// # Errors
    /// Fails where the terms break a rule of SPEC 8.2.
    pub fn new(terms: Terms) -> Result<Self, KeyError> {
        let envelope = Envelope {
            payload_type: media_type::TRUST_ROOT.into(),
            payload: terms.to_payload()?,
            signatures: Vec::new(),
        };
        Ok(Self { envelope, terms })
    }

    /// Reads a draft; every rule but those about signatures is checked.
    ///
    /// # Errors
    /// Fails on every breach of SPEC 8.2 but missing signatures.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, KeyError> {
        let envelope = document::read(bytes, media_type::TRUST_ROOT, limits)?;
        let terms = Terms::parse(&envelope.payload, limits)?;
        Ok(Self { envelope, terms })
    }

    /// Returns what the root would say.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Returns the envelope, with the signatures so far.
    pub const fn envelope(&self) -> &Envelope {
        &self.envelope
    }

    /// Returns the digest of what is signed, which further signatures do not change.
    pub fn content(&self) -> Digest {
        Digest::of(&self.envelope.payload)
    }

    /// Adds a signature.
    ///
    /// # Errors
    /// Fails where the key cannot be encoded.
    pub fn sign(&mut self, key: &PrivateKey) -> Result<(), KeyError> {
        add_signature(&mut self.envelope, key)
    }

    /// Returns the document as it stands.
    pub fn to_json(&self) -> Vec<u8> {
        self.envelope.to_json()
    }

    /// Makes a trust root of it, once its own root keys have signed.
    ///
    /// # Errors
    /// Fails below the threshold of its own role `root`, and on a bad signature.
    pub fn finish(self) -> Result<TrustRoot, KeyError> {
        let root = TrustRoot {
            digest: Digest::of(&self.to_json()),
            content: self.content(),
            terms: self.terms,
        };
        root.check_signatures(Role::Root, &self.envelope)?;
        Ok(root)
    }

    /// Makes a trust root of it as the successor of `former` (SPEC 8.4).
    ///
    /// # Errors
    /// Fails where it is not the next version of the same product, or is not signed by the
    /// thresholds of both.
    pub fn succeed(self, former: &TrustRoot) -> Result<TrustRoot, KeyError> {
        let (held, offered) = (former.version(), self.terms.version);
        if self.terms.product != former.product() {
            return Err(KeyError::OtherProduct {
                expected: former.product().into(),
                found: self.terms.product,
            });
        }
        if held.checked_add(1) != Some(offered) {
            return Err(KeyError::Gap { held, offered });
        }
        let lacks = |by: u64, source: KeyError| KeyError::Rotation {
            version: offered,
            by,
            source: Box::new(source),
        };
        former
            .check_signatures(Role::Root, &self.envelope)
            .map_err(|e| lacks(held, e))?;
        self.finish().map_err(|e| lacks(offered, e))
    }
}
