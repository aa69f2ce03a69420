//! DSSE envelopes: a payload, its type, and signatures over both (SPEC 4.1).
//!
//! Threats: a signature made for one kind of document used for another, an algorithm chosen by the
//! attacker, a second spelling of the same bytes. Defences: the payload type is part of what is
//! signed; the envelope has no member for an algorithm and unknown members are refused; base64 has
//! one accepted spelling; the number of signatures is capped.

use alloc::format;
use alloc::string::{String, ToString};
use alloc::vec::Vec;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

use crate::json::{self, JsonError};
use crate::{Digest, Limits};

/// A parsed envelope; nothing in it is trusted until its signatures were checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Envelope {
    /// Type of the payload, part of what is signed.
    pub payload_type: String,
    /// The signed bytes, decoded.
    pub payload: Vec<u8>,
    /// Signatures, in file order.
    pub signatures: Vec<Signature>,
}

/// One signature and the key it claims to be made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    /// SHA-256 of the signer's public key in SubjectPublicKeyInfo form.
    pub keyid: Digest,
    /// The raw signature bytes.
    pub sig: Vec<u8>,
}

/// Says why bytes are not an envelope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EnvelopeError {
    /// Not JSON, or not the members of an envelope.
    #[error(transparent)]
    Json(#[from] JsonError),
    /// A member is not standard base64 with padding.
    #[error("{member} is not base64")]
    Base64 {
        /// The member's name.
        member: &'static str,
    },
    /// A key id is not 64 lower-case hexadecimal digits.
    #[error("key id {found:?} is not 64 lower-case hexadecimal digits")]
    KeyId {
        /// The text that was refused, cut to 80 characters.
        found: String,
    },
    /// More signatures than the cap.
    #[error("{found} signatures, at most {cap} are read")]
    TooManySignatures {
        /// How many there are.
        found: usize,
        /// The cap.
        cap: usize,
    },
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Wire {
    payload_type: String,
    payload: String,
    signatures: Vec<WireSignature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct WireSignature {
    keyid: String,
    sig: String,
}

impl Envelope {
    /// Parses an envelope.
    ///
    /// # Errors
    /// Fails on anything SPEC 4.1 does not allow. The caller caps the size of `bytes`.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, EnvelopeError> {
        let wire: Wire = json::parse(bytes, limits)?;
        if wire.signatures.len() > limits.signatures {
            return Err(EnvelopeError::TooManySignatures {
                found: wire.signatures.len(),
                cap: limits.signatures,
            });
        }
        let decode = |member, text: &str| {
            STANDARD
                .decode(text)
                .map_err(|_| EnvelopeError::Base64 { member })
        };
        let signatures = wire
            .signatures
            .iter()
            .map(|s| {
                Ok(Signature {
                    keyid: parse_keyid(&s.keyid)?,
                    sig: decode("sig", &s.sig)?,
                })
            })
            .collect::<Result<_, EnvelopeError>>()?;
        Ok(Self {
            payload_type: wire.payload_type,
            payload: decode("payload", &wire.payload)?,
            signatures,
        })
    }

    /// Serialises the envelope; the same envelope always gives the same bytes.
    pub fn to_json(&self) -> Vec<u8> {
        let wire = Wire {
            payload_type: self.payload_type.clone(),
            payload: STANDARD.encode(&self.payload),
            signatures: self
                .signatures
                .iter()
                .map(|s| WireSignature {
                    keyid: s.keyid.to_hex(),
                    sig: STANDARD.encode(&s.sig),
                })
                .collect(),
        };
        crate::to_json(&wire)
    }

    /// Returns the bytes that signatures are made over.
    pub fn signed_bytes(&self) -> Vec<u8> {
        pre_authentication_encoding(&self.payload_type, &self.payload)
    }
}

/// Encodes type and payload into the bytes that are signed (DSSE "PAE").
pub fn pre_authentication_encoding(payload_type: &str, payload: &[u8]) -> Vec<u8> {
    let head = format!(
        "DSSEv1 {} {payload_type} {} ",
        payload_type.len(),
        payload.len()
    );
    let mut bytes = Vec::with_capacity(head.len() + payload.len());
    bytes.extend_from_slice(head.as_bytes());
    bytes.extend_from_slice(payload);
    bytes
}

/// Parses a key id: 64 lower-case hexadecimal digits (SPEC 8.1).
///
/// # Errors
/// Fails on any other spelling.
pub fn parse_keyid(text: &str) -> Result<Digest, EnvelopeError> {
    format!("sha256:{text}")
        .parse()
        .map_err(|_| EnvelopeError::KeyId {
            found: text.chars().take(80).collect::<String>().to_string(),
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Envelope {
        Envelope {
            payload_type: "text/plain".into(),
            payload: b"hello".to_vec(),
            signatures: [Signature {
                keyid: Digest::of(b"k"),
                sig: [7; 64].to_vec(),
            }]
            .to_vec(),
        }
    }

    #[test]
    fn pae_matches_the_dsse_specification() {
        assert_eq!(
            pre_authentication_encoding("http://example.com/HelloWorld", b"hello world"),
            b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
        );
    }

    #[test]
    fn an_envelope_survives_the_round_trip() {
        let bytes = sample().to_json();
        assert_eq!(Envelope::parse(&bytes, &Limits::DEFAULT), Ok(sample()));
    }

    #[test]
    fn a_named_algorithm_and_other_extras_are_refused() {
        let good = String::from_utf8(sample().to_json()).unwrap();
        for bad in [
            good.replace(r#""keyid""#, r#""alg":"rsa","keyid""#),
            good.replace(r#""payload""#, r#""extra":1,"payload""#),
            good.replace("aGVsbG8=", "aGVsbG8"),
            good.replace("aGVsbG8=", "aGVsbG9="),
            good.replace("aGVsbG8=", "aGVs\\nbG8="),
            good.replace(
                &Digest::of(b"k").to_hex(),
                &Digest::of(b"k").to_hex().to_uppercase(),
            ),
            good.replace(&Digest::of(b"k").to_hex(), ""),
        ] {
            assert_ne!(bad, good);
            assert!(
                Envelope::parse(bad.as_bytes(), &Limits::DEFAULT).is_err(),
                "{bad}"
            );
        }
    }

    #[test]
    fn signatures_are_capped() {
        let mut many = sample();
        many.signatures = alloc::vec![many.signatures[0].clone(); 65];
        assert!(matches!(
            Envelope::parse(&many.to_json(), &Limits::DEFAULT),
            Err(EnvelopeError::TooManySignatures { found: 65, cap: 64 })
        ));
    }
}
