//! Ed25519 keys: generating, reading, signing and strict verifying (SPEC 8.1).
//!
//! Threats: small-order public keys under which forgeries verify, malleable signatures, key files
//! with more than one key or other algorithms. Defences: weak keys are refused when they are read,
//! verification is the strict kind, a PEM file holds one key of one algorithm.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundle_format::Digest;
use ed25519_dalek::pkcs8::spki::der::pem::LineEnding;
use ed25519_dalek::pkcs8::{
    DecodePrivateKey, DecodePublicKey, EncodePrivateKey, EncodePublicKey, KeypairBytes,
};
use ed25519_dalek::{Signer as _, SigningKey, VerifyingKey};

use crate::KeyError;

/// A public key that is safe to verify with.
#[derive(Clone, PartialEq, Eq)]
pub struct PublicKey {
    key: VerifyingKey,
    spki: Vec<u8>,
}

impl PublicKey {
    /// Reads a key from SubjectPublicKeyInfo DER.
    ///
    /// # Errors
    /// Refuses other algorithms, other encodings of the same key, and weak (small-order) keys.
    pub fn from_spki(der: &[u8]) -> Result<Self, KeyError> {
        let malformed = |cause: &dyn fmt::Display| KeyError::Malformed {
            expected: "an Ed25519 public key",
            cause: cause.to_string(),
        };
        let key = VerifyingKey::from_public_key_der(der).map_err(|e| malformed(&e))?;
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        let public = Self::of(key)?;
        if public.spki != der {
            return Err(malformed(&"not the one DER encoding"));
        }
        Ok(public)
    }

    /// Reads a key from the base64 of its SubjectPublicKeyInfo, as trust roots hold it.
    ///
    /// # Errors
    /// As [`PublicKey::from_spki`].
    pub fn from_base64(text: &str) -> Result<Self, KeyError> {
        let der = STANDARD.decode(text).map_err(|e| KeyError::Malformed {
            expected: "the base64 of a public key",
            cause: e.to_string(),
        })?;
        Self::from_spki(&der)
    }

    /// Reads a `PUBLIC KEY` PEM document.
    ///
    /// # Errors
    /// As [`PublicKey::from_spki`].
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let key = VerifyingKey::from_public_key_pem(text.trim_end()).map_err(|e| {
            KeyError::Malformed {
                expected: "an Ed25519 public key in PEM",
                cause: e.to_string(),
            }
        })?;
        if key.is_weak() {
            return Err(KeyError::Weak);
        }
        Self::of(key)
    }

    fn of(key: VerifyingKey) -> Result<Self, KeyError> {
        let der = key.to_public_key_der().map_err(|e| KeyError::Malformed {
            expected: "an Ed25519 public key",
            cause: e.to_string(),
        })?;
        Ok(Self {
            key,
            spki: der.as_bytes().to_vec(),
        })
    }

    /// Returns the key id: SHA-256 of the SubjectPublicKeyInfo.
    ///
    /// `openssl pkey -pubin -in KEY.pub.pem -outform DER | openssl dgst -sha256` prints the same.
    pub fn keyid(&self) -> Digest {
        Digest::of(&self.spki)
    }

    /// Returns the base64 of the SubjectPublicKeyInfo.
    pub fn to_base64(&self) -> String {
        STANDARD.encode(&self.spki)
    }

    /// Returns the key as a `PUBLIC KEY` PEM document.
    pub fn to_pem(&self) -> String {
        format!(
            "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
            self.to_base64()
        )
    }

    /// Checks `signature` over `message`, strictly.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        ed25519_dalek::Signature::from_slice(signature)
            .is_ok_and(|signature| self.key.verify_strict(message, &signature).is_ok())
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({})", self.keyid())
    }
}

/// A private key; wiped from memory when dropped, never printed.
pub struct PrivateKey {
    key: SigningKey,
}

impl PrivateKey {
    /// Makes a new key from the operating system's random numbers.
    ///
    /// # Errors
    /// Fails where the system has no random numbers to give.
    pub fn generate() -> Result<Self, KeyError> {
        let mut seed = [0; 32];
        getrandom::fill(&mut seed).map_err(|e| KeyError::Random {
            cause: e.to_string(),
        })?;
        let key = SigningKey::from_bytes(&seed);
        zeroize::Zeroize::zeroize(&mut seed);
        Ok(Self { key })
    }

    /// Reads a `PRIVATE KEY` PEM document (PKCS#8), as `openssl genpkey -algorithm ed25519` writes.
    ///
    /// # Errors
    /// Refuses other algorithms, encrypted keys and other documents.
    pub fn from_pem(text: &str) -> Result<Self, KeyError> {
        let key = SigningKey::from_pkcs8_pem(text.trim_end()).map_err(|e| KeyError::Malformed {
            expected: "an unencrypted Ed25519 private key in PKCS#8 PEM",
            cause: e.to_string(),
        })?;
        Ok(Self { key })
    }

    /// Returns the key as a `PRIVATE KEY` PEM document.
    ///
    /// # Errors
    /// Fails where the key cannot be encoded.
    pub fn to_pem(&self) -> Result<zeroize::Zeroizing<String>, KeyError> {
        // Version 1, without the public half: OpenSSL 3.0 does not read version 2.
        let pair = KeypairBytes {
            secret_key: self.key.to_bytes(),
            public_key: None,
        };
        pair.to_pkcs8_pem(LineEnding::LF)
            .map_err(|e| KeyError::Malformed {
                expected: "a private key that can be encoded",
                cause: e.to_string(),
            })
    }

    /// Returns the public half.
    ///
    /// # Errors
    /// Fails where the key cannot be encoded.
    pub fn public(&self) -> Result<PublicKey, KeyError> {
        PublicKey::of(self.key.verifying_key())
    }

    /// Signs `message`; the same message always gives the same signature.
    pub fn sign(&self, message: &[u8]) -> [u8; 64] {
        self.key.sign(message).to_bytes()
    }
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PrivateKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPKI_HEAD: [u8; 12] = [0x30, 0x2a, 0x30, 5, 6, 3, 0x2b, 0x65, 0x70, 3, 0x21, 0];

    #[test]
    fn keys_survive_pem_and_sign() {
        let private = PrivateKey::generate().unwrap();
        let again = PrivateKey::from_pem(&private.to_pem().unwrap()).unwrap();
        let public = again.public().unwrap();
        assert_eq!(PublicKey::from_pem(&public.to_pem()).unwrap(), public);
        assert_eq!(PublicKey::from_base64(&public.to_base64()).unwrap(), public);
        let signature = private.sign(b"message");
        assert!(public.verifies(b"message", &signature));
        assert!(!public.verifies(b"messagf", &signature));
    }

    #[test]
    fn lengths_and_malleated_scalars_are_refused() {
        let private = PrivateKey::generate().unwrap();
        let public = private.public().unwrap();
        let good = private.sign(b"m");
        assert!(!public.verifies(b"m", &good[..63]));
        assert!(!public.verifies(b"m", &[&good[..], &[0]].concat()));
        // S + L is the same scalar in another spelling (RFC 8032 5.1.7 forbids it).
        let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010")
            .unwrap();
        let mut malleated = good;
        let mut carry = 0_u16;
        for (byte, add) in malleated[32..].iter_mut().zip(order) {
            carry += u16::from(*byte) + u16::from(add);
            *byte = (carry & 0xff) as u8;
            carry >>= 8;
        }
        assert!(!public.verifies(b"m", &malleated));
    }

    #[test]
    fn small_order_keys_are_refused() {
        let mut identity = [0; 32];
        identity[0] = 1;
        let order_eight =
            hex::decode("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a")
                .unwrap();
        for point in [&[0; 32][..], &identity, &order_eight] {
            let spki = [&SPKI_HEAD[..], point].concat();
            assert!(
                matches!(PublicKey::from_spki(&spki), Err(KeyError::Weak)),
                "{point:?}"
            );
        }
    }

    #[test]
    fn other_documents_are_refused() {
        let public = PrivateKey::generate().unwrap().public().unwrap();
        assert!(PrivateKey::from_pem(&public.to_pem()).is_err());
        assert!(PublicKey::from_pem("").is_err());
        assert!(PublicKey::from_base64(&format!("{} ", public.to_base64())).is_err());
    }
}
