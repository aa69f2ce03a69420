//! Trust roots: which keys may sign what for one product (SPEC 8.2).
//!
//! Threats: a document that nobody signed, a key used in a role it does not hold or beyond its
//! scope, one key counted twice. Defences: a root must carry enough signatures of its own root role;
//! a signature counts only for a role that lists its key; keys are counted, never signatures.

mod draft;
mod terms;

use std::collections::{BTreeMap, BTreeSet};

use bundle_format::dsse::{Envelope, Signature};
use bundle_format::{Digest, Limits, Time};

pub use draft::Draft;
pub use terms::{Terms, TrustedKey};

use crate::{KeyError, PrivateKey, PublicKey, Role, RoleKeys};

/// A checked trust root.
#[derive(Clone, Debug)]
pub struct TrustRoot {
    terms: Terms,
    digest: Digest,
    content: Digest,
}

impl TrustRoot {
    /// Reads and checks a trust root document.
    ///
    /// # Errors
    /// Fails on every breach of SPEC 8.2, so that no half-valid root exists.
    pub fn parse(bytes: &[u8], limits: &Limits) -> Result<Self, KeyError> {
        Draft::parse(bytes, limits)?.finish()
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
        let mut terms = Terms::new(product);
        for (role, (keys, threshold)) in roles {
            for key in keys {
                terms.add(*role, key.clone());
            }
            if let Some(listed) = terms.roles.get_mut(role) {
                listed.threshold = *threshold;
            }
        }
        let mut draft = Draft::new(terms)?;
        for signer in signers {
            draft.sign(signer)?;
        }
        let bytes = draft.to_json();
        draft.finish()?;
        Ok(bytes)
    }

    /// Returns what the root says.
    pub const fn terms(&self) -> &Terms {
        &self.terms
    }

    /// Returns the product whose releases this root vouches for.
    pub fn product(&self) -> &str {
        &self.terms.product
    }

    /// Returns the version, from 1.
    pub const fn version(&self) -> u64 {
        self.terms.version
    }

    /// Returns when hosts stop relying on it; what time it is is for the host to say.
    pub const fn expires(&self) -> Option<Time> {
        self.terms.expires
    }

    /// Returns the digest of the whole document: its fingerprint for people.
    pub const fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the digest of what was signed, which further signatures do not change.
    pub const fn content(&self) -> Digest {
        self.content
    }

    /// Returns the keys by id.
    pub const fn keys(&self) -> &BTreeMap<Digest, TrustedKey> {
        &self.terms.keys
    }

    /// Returns the roles.
    pub const fn roles(&self) -> &BTreeMap<Role, RoleKeys> {
        &self.terms.roles
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
        self.signers(role, envelope, |_| true)
    }

    /// Counts as [`TrustRoot::check_signatures`] does, only keys that `counts` lets through.
    pub(crate) fn signers(
        &self,
        role: Role,
        envelope: &Envelope,
        counts: impl Fn(&Digest) -> bool,
    ) -> Result<BTreeSet<Digest>, KeyError> {
        let listed = self.role(role)?;
        if envelope.signatures.is_empty() {
            return Err(KeyError::Unsigned);
        }
        let signed = envelope.signed_bytes();
        let mut signers = BTreeSet::new();
        for Signature { keyid, sig } in &envelope.signatures {
            if !listed.keyids.contains(keyid) || !counts(keyid) {
                continue;
            }
            let key = self.keys().get(keyid).ok_or(KeyError::NoRole { role })?;
            if !key.public.verifies(&signed, sig) {
                return Err(KeyError::BadSignature { keyid: *keyid });
            }
            signers.insert(*keyid);
        }
        let found = self.terms.distinct(&signers);
        if found < listed.threshold {
            return Err(KeyError::Threshold {
                role,
                needed: listed.threshold,
                found,
                named: envelope.signatures.iter().map(|s| s.keyid).collect(),
            });
        }
        Ok(signers)
    }

    /// Returns those of `signers` that may sign `sequence` of `channel` in `role` (SPEC 8.2.4).
    ///
    /// What has no channel, such as a revocation list, is bound by sequences alone.
    ///
    /// # Errors
    /// Fails where fewer keys are left than the role asks for.
    pub fn in_scope(
        &self,
        role: Role,
        signers: &BTreeSet<Digest>,
        channel: Option<&str>,
        sequence: u64,
    ) -> Result<BTreeSet<Digest>, KeyError> {
        let listed = self.role(role)?;
        let covers = |id: &&Digest| {
            let key = self.keys().get(id).filter(|_| listed.keyids.contains(id));
            let scope = |key: &TrustedKey| match &key.scope {
                Some(scope) => scope.covers(channel, sequence),
                None => true,
            };
            key.is_some_and(scope)
        };
        let left: BTreeSet<_> = signers.iter().filter(covers).copied().collect();
        let found = self.terms.distinct(&left);
        if found < listed.threshold {
            return Err(KeyError::OutOfScope {
                role,
                needed: listed.threshold,
                found,
                channel: channel.map(Into::into),
                sequence,
            });
        }
        Ok(left)
    }

    /// Returns true where enough keys of `role` may sign `sequence` of `channel`, whoever did.
    ///
    /// A number that a host holds counts no more once it is out of reach: so a root can undo a
    /// sequence that was signed by mistake or by a thief (SPEC 8.4.6).
    pub fn reaches(&self, role: Role, channel: Option<&str>, sequence: u64) -> bool {
        let listed = self.roles().get(&role);
        listed.is_some_and(|listed| {
            self.in_scope(role, &listed.keyids, channel, sequence)
                .is_ok()
        })
    }

    fn role(&self, role: Role) -> Result<&RoleKeys, KeyError> {
        self.roles().get(&role).ok_or(KeyError::NoRole { role })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sign;
    use bundle_format::media_type;

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
