//! Makes good documents of trust, and changes them so that only the change can be refused.

#![allow(
    dead_code,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "each test file uses a part of it, and a test may fail loudly"
)]

use bundle_format::dsse::Envelope;
use bundle_format::{Digest, Limits};
use bundle_keys::{Draft, PrivateKey, Role, Scope, Terms, TrustRoot, document, sign};

/// Limits that every command runs under.
pub(crate) const LIMITS: &Limits = &Limits::DEFAULT;
/// Product of the tests.
pub(crate) const PRODUCT: &str = "appliance";

pub(crate) fn key() -> PrivateKey {
    PrivateKey::generate().unwrap()
}

pub(crate) fn copy(key: &PrivateKey) -> PrivateKey {
    PrivateKey::from_pem(&key.to_pem().unwrap()).unwrap()
}

pub(crate) fn id(key: &PrivateKey) -> Digest {
    key.public().unwrap().keyid()
}

/// Terms of version 1 with keys in roles, thresholds 1.
pub(crate) fn terms(roles: &[(Role, &[&PrivateKey])]) -> Terms {
    let mut terms = Terms::new(PRODUCT);
    for (role, keys) in roles {
        for key in *keys {
            terms.add(*role, key.public().unwrap());
        }
    }
    terms
}

/// Bounds a key of the terms.
pub(crate) fn scoped(mut terms: Terms, key: &PrivateKey, scope: Scope) -> Terms {
    terms.keys.get_mut(&id(key)).unwrap().scope = Some(scope);
    terms
}

/// Signs terms with keys, whether they are enough or not.
pub(crate) fn signed(terms: &Terms, signers: &[&PrivateKey]) -> Vec<u8> {
    let mut draft = Draft::new(terms.clone()).unwrap();
    for signer in signers {
        draft.sign(signer).unwrap();
    }
    draft.to_json()
}

/// Signs terms and reads the result.
pub(crate) fn root(terms: &Terms, signers: &[&PrivateKey]) -> TrustRoot {
    TrustRoot::parse(&signed(terms, signers), LIMITS).unwrap()
}

/// Signs any payload.
pub(crate) fn seal(payload_type: &str, payload: &[u8], signers: &[&PrivateKey]) -> Vec<u8> {
    let signers: Vec<_> = signers.iter().map(|key| copy(key)).collect();
    sign(payload_type, payload.to_vec(), &signers)
        .unwrap()
        .to_json()
}

/// Signs a list or permit.
pub(crate) fn issue<T: document::Document>(content: &T, signers: &[&PrivateKey]) -> Vec<u8> {
    seal(T::PAYLOAD_TYPE, &content.to_payload().unwrap(), signers)
}

/// Changes the payload of a document as text, and signs it again.
pub(crate) fn changed(bytes: &[u8], from: &str, to: &str, signers: &[&PrivateKey]) -> Vec<u8> {
    let envelope = Envelope::parse(bytes, LIMITS).unwrap();
    let payload = String::from_utf8(envelope.payload).unwrap();
    assert!(payload.contains(from), "{payload} lacks {from}");
    let payload = payload.replacen(from, to, 1);
    seal(&envelope.payload_type, payload.as_bytes(), signers)
}

/// Returns the next version of a root's terms.
pub(crate) fn next(terms: &Terms) -> Terms {
    Terms {
        version: terms.version + 1,
        ..terms.clone()
    }
}
