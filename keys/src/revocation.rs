//! Revocation lists: keys and releases that count no more (SPEC 8.6).
//!
//! Threats: an old list that brings back what was revoked since, a list for another product.
//! Defences: lists have a sequence and a host never goes back; keys of the role `revocation` sign
//! them, within their scope.

use std::collections::{BTreeMap, BTreeSet};

use bundle_format::dsse::parse_keyid;
use bundle_format::{Digest, Limits, Time, check_channel, check_product, json, media_type};
use serde::{Deserialize, Serialize};

use crate::{Document, KeyError, Role, Signed, TrustRoot};

/// What was revoked for a product; a list replaces the one before as a whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevocationList {
    /// The product.
    pub product: String,
    /// Position in the order of lists, from 1.
    pub sequence: u64,
    /// When it was made, as its signers say.
    pub created: Option<Time>,
    /// Ids of keys whose signatures count no more, in the roles that keys are revoked from.
    pub keys: BTreeSet<Digest>,
    /// Digests of statements, manifests or other blobs: releases with one of them are refused.
    pub digests: BTreeSet<Digest>,
    /// For each channel, the lowest sequence of a release that is still secure.
    pub floors: BTreeMap<String, u64>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    critical: Vec<String>,
    product: String,
    sequence: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<Time>,
    #[serde(default)]
    keys: Vec<String>,
    #[serde(default)]
    digests: Vec<Digest>,
    #[serde(default)]
    floors: BTreeMap<String, u64>,
}

impl RevocationList {
    /// Begins the first list of a product, with nothing in it.
    pub fn new(product: &str) -> Self {
        Self {
            product: product.into(),
            sequence: 1,
            created: None,
            keys: BTreeSet::new(),
            digests: BTreeSet::new(),
            floors: BTreeMap::new(),
        }
    }

    /// Returns the lowest sequence that is still secure in a channel; 0 where the list says nothing.
    pub fn floor(&self, channel: &str) -> u64 {
        self.floors.get(channel).copied().unwrap_or(0)
    }

    fn check(&self, limits: &Limits) -> Result<(), KeyError> {
        let refuse = |problem: String| KeyError::document("revocation list", problem);
        check_product(&self.product).map_err(|problem| refuse(format!("product {problem}")))?;
        if self.sequence == 0 {
            return Err(refuse("sequence is 0".into()));
        }
        let entries = self.keys.len() + self.digests.len() + self.floors.len();
        if entries > limits.trust_entries {
            return Err(refuse(format!(
                "has {entries} entries, at most {} are read",
                limits.trust_entries
            )));
        }
        for (channel, floor) in &self.floors {
            check_channel(channel).map_err(|problem| refuse(format!("channel {problem}")))?;
            if *floor == 0 {
                return Err(refuse(format!("floor of channel {channel} is 0")));
            }
        }
        Ok(())
    }
}

impl Document for RevocationList {
    const PAYLOAD_TYPE: &'static str = media_type::REVOCATION_LIST;
    const ROLE: Role = Role::Revocation;

    fn from_payload(payload: &[u8], limits: &Limits) -> Result<Self, KeyError> {
        let wire: Wire = json::parse(payload, limits)?;
        json::check_critical(&wire.critical, &[])?;
        let keys: Vec<_> = wire
            .keys
            .iter()
            .map(|id| parse_keyid(id))
            .collect::<Result<_, _>>()?;
        if !keys.is_sorted_by(|a, b| a < b) || !wire.digests.is_sorted_by(|a, b| a < b) {
            let problem = "is not sorted, or has an entry twice";
            return Err(KeyError::document("revocation list", problem.into()));
        }
        let list = Self {
            product: wire.product,
            sequence: wire.sequence,
            created: wire.created,
            keys: keys.into_iter().collect(),
            digests: wire.digests.into_iter().collect(),
            floors: wire.floors,
        };
        list.check(limits)?;
        Ok(list)
    }

    fn to_payload(&self) -> Result<Vec<u8>, KeyError> {
        self.check(&Limits::DEFAULT)?;
        let wire = Wire {
            critical: Vec::new(),
            product: self.product.clone(),
            sequence: self.sequence,
            created: self.created,
            keys: self.keys.iter().map(Digest::to_hex).collect(),
            digests: self.digests.iter().copied().collect(),
            floors: self.floors.clone(),
        };
        let fail = |e: serde_json::Error| KeyError::document("revocation list", e.to_string());
        serde_json::to_vec(&wire).map_err(fail)
    }

    fn product(&self) -> &str {
        &self.product
    }

    fn in_scope(
        &self,
        root: &TrustRoot,
        signers: &BTreeSet<Digest>,
    ) -> Result<BTreeSet<Digest>, KeyError> {
        root.in_scope(Self::ROLE, signers, None, self.sequence)
    }
}

impl Signed<RevocationList> {
    /// Checks that this list may take the place of `held`; the same list again may.
    ///
    /// # Errors
    /// Fails for an older one, and for another one with the same sequence.
    pub fn check_successor(&self, held: &Self) -> Result<(), KeyError> {
        let same = self.sequence == held.sequence && self.statement() == held.statement();
        if self.sequence > held.sequence || same {
            return Ok(());
        }
        Err(KeyError::OldList {
            held: held.sequence,
            offered: self.sequence,
        })
    }
}
