//! Trust roots: which keys may sign what for one product (SPEC 8.2).
//!
//! Threats: a threshold that counts nothing, one key counted twice, a key used in a role it does
//! not hold, a document that nobody signed. Defences: a root is checked whole when it is read; keys
//! are named by the hash of their material, so one key has one name; a signature counts only for a
//! role that lists its key; the root must carry enough signatures of its own root role.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use bundle_format::dsse::{Envelope, Signature, parse_keyid};
use bundle_format::{Digest, Limits, check_product, json, media_type};
use serde::{Deserialize, Serialize};

use crate::{KeyError, PrivateKey, PublicKey};

/// What a key is trusted to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Role {
    /// Trust roots.
    Root,
    /// Release statements.
    Release,
    /// Revocation lists.
    Revocation,
    /// A site's approval of a release.
    SiteApprover,
    /// Evidence that travels with images.
    Evidence,
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Revocation => "revocation",
            Self::SiteApprover => "site-approver",
            Self::Evidence => "evidence",
        })
    }
}

/// The keys of a role and how many of them have to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleKeys {
    /// Key ids.
    pub keyids: BTreeSet<Digest>,
    /// How many distinct keys must have signed; at least 1, at most the number of keys.
    pub threshold: usize,
}

/// A checked trust root.
#[derive(Clone, Debug)]
pub struct TrustRoot {
    product: String,
    version: u64,
    keys: BTreeMap<Digest, PublicKey>,
    roles: BTreeMap<Role, RoleKeys>,
    digest: Digest,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    critical: Vec<String>,
    product: String,
    version: u64,
    keys: BTreeMap<String, WireKey>,
    roles: BTreeMap<Role, WireRole>,
}

#[derive(Serialize, Deserialize)]
struct WireKey {
    #[serde(rename = "type")]
    key_type: String,
    spki: String,
}

#[derive(Serialize, Deserialize)]
struct WireRole {
    keyids: Vec<String>,
    threshold: usize,
}

impl TrustRoot {
    /// Reads and checks a trust root document.
    ///
    /// # Errors
    /// Fails on every breach of SPEC 8.2, so that no half-valid root exists.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, KeyError> {
        if bytes.len() as u64 > limits.trust_root_bytes {
            return Err(KeyError::root(format!(
                "is larger than {} bytes",
                limits.trust_root_bytes
            )));
        }
        let envelope = Envelope::parse(bytes, limits)?;
        if envelope.payload_type != media_type::TRUST_ROOT {
            return Err(KeyError::PayloadType {
                expected: media_type::TRUST_ROOT,
                found: envelope.payload_type,
            });
        }
        let wire: Wire = json::parse(&envelope.payload, limits)?;
        let root = Self::from_wire(wire, Digest::of(bytes))?;
        root.check_signatures(Role::Root, &envelope)?;
        Ok(root)
    }

    /// Makes and signs version 1 of a product's trust root.
    ///
    /// # Errors
    /// Fails where the result would not be a valid trust root, such as a threshold that the keys or
    /// the signers cannot meet.
    pub fn create(
        product: &str,
        roles: &BTreeMap<Role, (Vec<PublicKey>, usize)>,
        signers: &[PrivateKey],
    ) -> Result<Vec<u8>, KeyError> {
        let keys = roles.values().flat_map(|(keys, _)| keys).map(|key| {
            (
                key.keyid().to_hex(),
                WireKey {
                    key_type: "ed25519".into(),
                    spki: key.to_base64(),
                },
            )
        });
        let wire = Wire {
            critical: Vec::new(),
            product: product.into(),
            version: 1,
            keys: keys.collect(),
            roles: roles
                .iter()
                .map(|(role, (keys, threshold))| {
                    let keyids: BTreeSet<_> = keys.iter().map(|key| key.keyid().to_hex()).collect();
                    let keyids = keyids.into_iter().collect();
                    (
                        *role,
                        WireRole {
                            keyids,
                            threshold: *threshold,
                        },
                    )
                })
                .collect(),
        };
        let payload = serde_json::to_vec(&wire).map_err(|e| KeyError::root(e.to_string()))?;
        let bytes = sign(media_type::TRUST_ROOT, payload, signers)?.to_json();
        Self::parse(&bytes, &Limits::DEFAULT)?;
        Ok(bytes)
    }

    fn from_wire(wire: Wire, digest: Digest) -> Result<Self, KeyError> {
        json::check_critical(&wire.critical, &[])?;
        check_product(&wire.product)
            .map_err(|problem| KeyError::root(format!("product {problem}")))?;
        if wire.version == 0 {
            return Err(KeyError::root("version is 0"));
        }
        let mut keys = BTreeMap::new();
        for (name, key) in &wire.keys {
            let keyid = parse_keyid(name)?;
            if key.key_type != "ed25519" {
                return Err(KeyError::root(format!(
                    "key {name} has unknown type {:?}",
                    key.key_type
                )));
            }
            let public = PublicKey::from_base64(&key.spki)?;
            if public.keyid() != keyid {
                return Err(KeyError::root(format!(
                    "key {name} is not named by its own hash"
                )));
            }
            keys.insert(keyid, public);
        }
        let mut roles = BTreeMap::new();
        for (role, listed) in &wire.roles {
            let keyids = listed
                .keyids
                .iter()
                .map(|id| parse_keyid(id))
                .collect::<Result<_, _>>()?;
            let role_keys = RoleKeys {
                keyids,
                threshold: listed.threshold,
            };
            check_role(*role, &role_keys, listed.keyids.len(), &keys)?;
            roles.insert(*role, role_keys);
        }
        for needed in [Role::Root, Role::Release] {
            if !roles.contains_key(&needed) {
                return Err(KeyError::root(format!("role {needed} is missing")));
            }
        }
        Ok(Self {
            product: wire.product,
            version: wire.version,
            keys,
            roles,
            digest,
        })
    }

    /// Returns the product whose releases this root vouches for.
    pub fn product(&self) -> &str {
        &self.product
    }

    /// Returns the version, from 1.
    pub const fn version(&self) -> u64 {
        self.version
    }

    /// Returns the digest of the whole document: its fingerprint for people.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the keys by id.
    pub const fn keys(&self) -> &BTreeMap<Digest, PublicKey> {
        &self.keys
    }

    /// Returns the roles.
    pub const fn roles(&self) -> &BTreeMap<Role, RoleKeys> {
        &self.roles
    }

    /// Checks that enough keys of `role` signed `envelope`; returns the ids of those that did.
    ///
    /// Signatures by keys outside the role are passed over. A signature that names a key of the
    /// role and does not verify is fatal: nobody makes one by accident (SPEC 8.3).
    ///
    /// # Errors
    /// Fails on a bad signature and below the threshold.
    pub fn check_signatures(
        &self,
        role: Role,
        envelope: &Envelope,
    ) -> Result<BTreeSet<Digest>, KeyError> {
        let listed = self.roles.get(&role).ok_or(KeyError::NoRole { role })?;
        if envelope.signatures.is_empty() {
            return Err(KeyError::Unsigned);
        }
        let signed = envelope.signed_bytes();
        let mut signers = BTreeSet::new();
        for Signature { keyid, sig } in &envelope.signatures {
            if !listed.keyids.contains(keyid) {
                continue;
            }
            let key = self.keys.get(keyid).ok_or(KeyError::NoRole { role })?;
            if !key.verifies(&signed, sig) {
                return Err(KeyError::BadSignature { keyid: *keyid });
            }
            signers.insert(*keyid);
        }
        if signers.len() < listed.threshold {
            return Err(KeyError::Threshold {
                role,
                needed: listed.threshold,
                found: signers.len(),
                named: envelope.signatures.iter().map(|s| s.keyid).collect(),
            });
        }
        Ok(signers)
    }
}

fn check_role(
    role: Role,
    listed: &RoleKeys,
    names: usize,
    keys: &BTreeMap<Digest, PublicKey>,
) -> Result<(), KeyError> {
    if names != listed.keyids.len() {
        return Err(KeyError::root(format!("role {role} lists a key twice")));
    }
    if let Some(unknown) = listed.keyids.iter().find(|id| !keys.contains_key(id)) {
        return Err(KeyError::root(format!(
            "role {role} lists the unknown key {}",
            unknown.to_hex()
        )));
    }
    if listed.threshold == 0 || listed.threshold > names {
        return Err(KeyError::root(format!(
            "role {role} has threshold {} and {names} keys",
            listed.threshold
        )));
    }
    Ok(())
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
    let bytes = envelope.signed_bytes();
    for signer in signers {
        let keyid = signer.public()?.keyid();
        envelope.signatures.push(Signature {
            keyid,
            sig: signer.sign(&bytes).to_vec(),
        });
    }
    envelope.signatures.sort_by_key(|s| s.keyid);
    envelope.signatures.dedup_by_key(|s| s.keyid);
    if envelope.signatures.is_empty() {
        return Err(KeyError::Unsigned);
    }
    Ok(envelope)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> PrivateKey {
        PrivateKey::generate().unwrap()
    }

    fn root(root_keys: &[&PrivateKey], release_keys: &[&PrivateKey], threshold: usize) -> Vec<u8> {
        let public = |keys: &[&PrivateKey]| keys.iter().map(|k| k.public().unwrap()).collect();
        let roles = BTreeMap::from([
            (Role::Root, (public(root_keys), 1)),
            (Role::Release, (public(release_keys), threshold)),
        ]);
        let signer = PrivateKey::from_pem(&root_keys[0].to_pem().unwrap()).unwrap();
        TrustRoot::create("appliance", &roles, &[signer]).unwrap()
    }

    /// Signs a changed payload again, so that only the change can be the reason to refuse it.
    fn changed(signer: &PrivateKey, document: &[u8], from: &str, to: &str) -> Vec<u8> {
        let envelope = Envelope::parse(document, &Limits::DEFAULT).unwrap();
        let payload = String::from_utf8(envelope.payload).unwrap();
        assert!(payload.contains(from), "{payload} lacks {from}");
        let signer = PrivateKey::from_pem(&signer.to_pem().unwrap()).unwrap();
        let payload = payload.replacen(from, to, 1).into_bytes();
        sign(media_type::TRUST_ROOT, payload, &[signer])
            .unwrap()
            .to_json()
    }

    #[test]
    fn a_key_counts_only_in_its_role() {
        let (boss, releaser) = (key(), key());
        let root = TrustRoot::parse(&root(&[&boss], &[&releaser], 1), &Limits::DEFAULT).unwrap();
        let by = |signer: PrivateKey| sign(media_type::IN_TOTO, b"{}".to_vec(), &[signer]).unwrap();
        let releaser_id = releaser.public().unwrap().keyid();
        assert!(matches!(
            root.check_signatures(Role::Release, &by(boss)),
            Err(KeyError::Threshold {
                needed: 1,
                found: 0,
                ..
            })
        ));
        let good = by(releaser);
        assert_eq!(
            root.check_signatures(Role::Release, &good).unwrap(),
            BTreeSet::from([releaser_id])
        );
        assert!(root.check_signatures(Role::Root, &good).is_err());
        assert!(matches!(
            root.check_signatures(Role::Evidence, &good),
            Err(KeyError::NoRole {
                role: Role::Evidence
            })
        ));
        let mut swapped = good.clone();
        swapped.payload_type = media_type::TRUST_ROOT.into();
        assert!(matches!(
            root.check_signatures(Role::Release, &swapped),
            Err(KeyError::BadSignature { .. })
        ));
        let mut none = good;
        none.signatures.clear();
        assert!(matches!(
            root.check_signatures(Role::Release, &none),
            Err(KeyError::Unsigned)
        ));
    }

    #[test]
    fn thresholds_count_keys_not_signatures() {
        let (one, two) = (key(), key());
        let document = root(&[&one], &[&one, &two], 2);
        let root = TrustRoot::parse(&document, &Limits::DEFAULT).unwrap();
        let mut envelope = sign(media_type::IN_TOTO, b"{}".to_vec(), &[one]).unwrap();
        envelope.signatures.push(envelope.signatures[0].clone());
        assert!(matches!(
            root.check_signatures(Role::Release, &envelope),
            Err(KeyError::Threshold {
                needed: 2,
                found: 1,
                ..
            })
        ));
        let second = sign(media_type::IN_TOTO, b"{}".to_vec(), &[two]).unwrap();
        envelope.signatures[1] = second.signatures[0].clone();
        assert_eq!(
            root.check_signatures(Role::Release, &envelope)
                .unwrap()
                .len(),
            2
        );
    }

    #[test]
    fn half_valid_roots_are_refused() {
        let (one, two) = (key(), key());
        let id = one.public().unwrap().keyid().to_hex();
        let good = root(&[&one], &[&one], 1);
        let cases = [
            (
                r#""threshold":1"#.to_string(),
                r#""threshold":0"#.to_string(),
            ),
            (r#""threshold":1"#.into(), r#""threshold":2"#.into()),
            (r#""threshold":1"#.into(), r#""threshold":-1"#.into()),
            (r#""type":"ed25519""#.into(), r#""type":"rsa""#.into()),
            (r#""version":1"#.into(), r#""version":0"#.into()),
            (r#""release""#.into(), r#""evidence""#.into()),
            (r#""release""#.into(), r#""moon""#.into()),
            (
                format!(r#""keyids":["{id}"]"#),
                format!(r#""keyids":["{id}","{id}"]"#),
            ),
            (format!(r#""keyids":["{id}"]"#), r#""keyids":[]"#.into()),
            (
                format!(r#"{{"{id}":"#),
                format!(r#"{{"{}":"#, Digest::of(b"").to_hex()),
            ),
            (
                r#""product":"appliance""#.into(),
                r#""product":"../x""#.into(),
            ),
            (
                r#""product""#.into(),
                r#""critical":["moon"],"product""#.into(),
            ),
        ];
        for (from, to) in cases {
            let bad = changed(&one, &good, &from, &to);
            assert!(
                TrustRoot::parse(&bad, &Limits::DEFAULT).is_err(),
                "{from} -> {to}"
            );
        }
        let same = changed(&one, &good, r#""version":1"#, r#""version":1"#);
        assert!(TrustRoot::parse(&same, &Limits::DEFAULT).is_ok());
        let foreign = changed(&two, &good, r#""version":1"#, r#""version":1"#);
        assert!(TrustRoot::parse(&foreign, &Limits::DEFAULT).is_err());
        let unknown = changed(&one, &good, r#""product""#, r#""moon":1,"product""#);
        assert!(TrustRoot::parse(&unknown, &Limits::DEFAULT).is_ok());
    }
}
