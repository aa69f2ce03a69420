//! What a trust root says, apart from who signed it (SPEC 8.2).
//!
//! Threats: a threshold that counts nothing, one key counted twice, a restriction that is passed
//! over. Defences: terms are checked whole when they are read; keys are named by the hash of their
//! material; what a reader has to understand is critical, and roles and scopes it does not know are
//! refused.

use std::collections::{BTreeMap, BTreeSet};

use bundle_format::dsse::parse_keyid;
use bundle_format::{Digest, EXPIRES, Limits, Time, check_product, json};
use serde::{Deserialize, Serialize};

use crate::scope::WireScope;
use crate::{KeyError, PublicKey, Role, RoleKeys, Scope};

/// Name of the member `scope` in `critical`.
const SCOPE: &str = "scope";

/// What a trust root says: for whom, which keys, in which roles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The product whose releases the root vouches for.
    pub product: String,
    /// Version, from 1.
    pub version: u64,
    /// When it was made, as its signers say.
    pub created: Option<Time>,
    /// When hosts stop relying on it.
    pub expires: Option<Time>,
    /// The keys by id.
    pub keys: BTreeMap<Digest, TrustedKey>,
    /// The roles; `root` and `release` are always there.
    pub roles: BTreeMap<Role, RoleKeys>,
}

/// A key of a trust root.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustedKey {
    /// The key.
    pub public: PublicKey,
    /// What it may sign; `None` does not bound it.
    pub scope: Option<Scope>,
}

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    critical: Vec<String>,
    product: String,
    version: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Time>,
    keys: BTreeMap<String, WireKey>,
    roles: BTreeMap<Role, WireRole>,
}

#[derive(Serialize, Deserialize)]
struct WireKey {
    #[serde(rename = "type")]
    key_type: String,
    spki: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scope: Option<WireScope>,
}

#[derive(Serialize, Deserialize)]
struct WireRole {
    keyids: Vec<String>,
    threshold: usize,
}

impl Terms {
    /// Begins version 1 of a product's root, with nobody in it.
    pub fn new(product: &str) -> Self {
        Self {
            product: product.into(),
            version: 1,
            created: None,
            expires: None,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
        }
    }

    /// Gives a key a role; a role that was not there gets the threshold 1.
    pub fn add(&mut self, role: Role, key: PublicKey) {
        let keyid = key.keyid();
        self.keys.entry(keyid).or_insert(TrustedKey {
            public: key,
            scope: None,
        });
        let new = || RoleKeys {
            keyids: BTreeSet::new(),
            threshold: 1,
        };
        self.roles
            .entry(role)
            .or_insert_with(new)
            .keyids
            .insert(keyid);
    }

    /// Takes a role from a key, and drops keys and roles that nothing is left of.
    ///
    /// Returns false where the key did not have the role.
    pub fn remove(&mut self, role: Role, keyid: &Digest) -> bool {
        let found = self.roles.get_mut(&role);
        let had = found.is_some_and(|role| role.keyids.remove(keyid));
        self.roles.retain(|_, listed| !listed.keyids.is_empty());
        let roles = &self.roles;
        self.keys
            .retain(|id, _| roles.values().any(|listed| listed.keyids.contains(id)));
        had
    }

    /// Counts different keys: by their material, however many names one has.
    pub fn distinct<'a>(&self, keyids: impl IntoIterator<Item = &'a Digest>) -> usize {
        let keys = keyids.into_iter().filter_map(|id| self.keys.get(id));
        let material: BTreeSet<_> = keys.map(|key| key.public.keyid()).collect();
        material.len()
    }

    pub(super) fn parse(payload: &[u8], limits: &Limits) -> Result<Self, KeyError> {
        let wire: Wire = json::parse(payload, limits)?;
        let mut terms = Self {
            product: wire.product,
            version: wire.version,
            created: wire.created,
            expires: wire.expires,
            keys: BTreeMap::new(),
            roles: BTreeMap::new(),
        };
        for (name, key) in wire.keys {
            let (keyid, key) = read_key(&name, key)?;
            terms.keys.insert(keyid, key);
        }
        json::check_critical(&wire.critical, &terms.critical())?;
        for (role, listed) in wire.roles {
            let keyids: BTreeSet<_> = listed
                .keyids
                .iter()
                .map(|id| parse_keyid(id))
                .collect::<Result<_, _>>()?;
            if keyids.len() != listed.keyids.len() {
                return Err(KeyError::root(format!("role {role} lists a key twice")));
            }
            let threshold = listed.threshold;
            terms.roles.insert(role, RoleKeys { keyids, threshold });
        }
        terms.check()?;
        Ok(terms)
    }

    pub(super) fn to_payload(&self) -> Result<Vec<u8>, KeyError> {
        self.check()?;
        let critical = self.critical().into_iter().filter(|(_, present)| *present);
        let keys = self.keys.iter().map(|(id, key)| {
            let wire = WireKey {
                key_type: "ed25519".into(),
                spki: key.public.to_base64(),
                scope: key.scope.as_ref().map(Scope::to_wire),
            };
            (id.to_hex(), wire)
        });
        let roles = self.roles.iter().map(|(role, listed)| {
            let wire = WireRole {
                keyids: listed.keyids.iter().map(Digest::to_hex).collect(),
                threshold: listed.threshold,
            };
            (*role, wire)
        });
        let wire = Wire {
            critical: critical.map(|(name, _)| name.into()).collect(),
            product: self.product.clone(),
            version: self.version,
            created: self.created,
            expires: self.expires,
            keys: keys.collect(),
            roles: roles.collect(),
        };
        serde_json::to_vec(&wire).map_err(|e| KeyError::root(e.to_string()))
    }

    fn critical(&self) -> [(&'static str, bool); 2] {
        let scoped = self.keys.values().any(|key| key.scope.is_some());
        [(EXPIRES, self.expires.is_some()), (SCOPE, scoped)]
    }

    fn check(&self) -> Result<(), KeyError> {
        check_product(&self.product)
            .map_err(|problem| KeyError::root(format!("product {problem}")))?;
        if self.version == 0 {
            return Err(KeyError::root("version is 0"));
        }
        for (id, key) in &self.keys {
            let verdict = key.scope.as_ref().map_or(Ok(()), Scope::check);
            verdict.map_err(|problem| {
                KeyError::root(format!("scope of key {} {problem}", id.to_hex()))
            })?;
        }
        for (role, listed) in &self.roles {
            self.check_role(*role, listed)?;
        }
        for needed in [Role::Root, Role::Release] {
            if !self.roles.contains_key(&needed) {
                return Err(KeyError::root(format!("role {needed} is missing")));
            }
        }
        Ok(())
    }

    fn check_role(&self, role: Role, listed: &RoleKeys) -> Result<(), KeyError> {
        for id in &listed.keyids {
            let id_hex = id.to_hex();
            let Some(key) = self.keys.get(id) else {
                return Err(KeyError::root(format!(
                    "role {role} lists the unknown key {id_hex}"
                )));
            };
            // Somebody would rely on a scope that bounds nothing.
            if key.scope.is_some() && !role.has_scope() {
                return Err(KeyError::root(format!(
                    "role {role} lists the key {id_hex}, whose scope means nothing there"
                )));
            }
        }
        let names = self.distinct(&listed.keyids);
        if listed.threshold == 0 || listed.threshold > names {
            return Err(KeyError::root(format!(
                "role {role} has threshold {} and {names} different keys",
                listed.threshold
            )));
        }
        Ok(())
    }
}

fn read_key(name: &str, wire: WireKey) -> Result<(Digest, TrustedKey), KeyError> {
    let keyid = parse_keyid(name)?;
    if wire.key_type != "ed25519" {
        return Err(KeyError::root(format!(
            "key {name} has unknown type {:?}",
            wire.key_type
        )));
    }
    let public = PublicKey::from_base64(&wire.spki)?;
    if public.keyid() != keyid {
        return Err(KeyError::root(format!(
            "key {name} is not named by its own hash"
        )));
    }
    let scope = wire.scope.map(|scope| Scope::from_wire(scope, name));
    let scope = scope.transpose()?;
    Ok((keyid, TrustedKey { public, scope }))
}
