//! Permits: going back to an older release, on named hosts, once (SPEC 8.7).
//!
//! Threats: a permit for one host used on another, used again, stretched to other releases, used
//! after its end. Defences: all of that is in what was signed. That a nonce was used before, and what
//! time it is, is for the host to remember and to say.

use std::collections::BTreeSet;

use bundle_format::{
    DEFAULT_CHANNEL, Digest, Limits, Release, Time, check_channel, check_product, check_version,
    json, media_type,
};
use serde::{Deserialize, Serialize};

use crate::{Document, KeyError, Range, Role, TrustRoot};

/// What refusals call it.
const PERMIT: &str = "permit";

/// Lets hosts install a release below their sequence and their floors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    /// The product.
    pub product: String,
    /// The channel; `None` is the default one.
    pub channel: Option<String>,
    /// The hosts it is for, by the ids they are known by: 1 to 10,000.
    pub hosts: BTreeSet<String>,
    /// Sequences that may be installed.
    pub sequence: Range,
    /// The one release that may be installed, by the digest of its statement.
    pub statement: Option<Digest>,
    /// What makes it one permit: a host uses a nonce once.
    pub nonce: Nonce,
    /// When it was made, as its signers say.
    pub created: Option<Time>,
    /// When it ends.
    pub expires: Option<Time>,
}

/// 16 random bytes, written as 32 digits out of `0-9a-f`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Nonce([u8; 16]);

#[derive(Serialize, Deserialize)]
struct Wire {
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    critical: Vec<String>,
    product: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    channel: Option<String>,
    hosts: Vec<String>,
    sequence: Range,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    statement: Option<Digest>,
    nonce: Nonce,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    created: Option<Time>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires: Option<Time>,
}

impl Nonce {
    /// Makes a new one from the operating system's random numbers.
    ///
    /// # Errors
    /// Fails where the system has none to give.
    pub fn generate() -> Result<Self, KeyError> {
        let mut bytes = [0; 16];
        getrandom::fill(&mut bytes).map_err(|e| KeyError::Random {
            cause: e.to_string(),
        })?;
        Ok(Self(bytes))
    }
}

impl TryFrom<String> for Nonce {
    type Error = KeyError;

    fn try_from(text: String) -> Result<Self, KeyError> {
        let mut bytes = [0; 16];
        let read = hex::decode_to_slice(&text, &mut bytes);
        if read.is_err() || hex::encode(bytes) != text {
            let problem = "nonce is not 32 digits out of 0-9a-f";
            return Err(KeyError::document(PERMIT, problem.into()));
        }
        Ok(Self(bytes))
    }
}

impl From<Nonce> for String {
    fn from(nonce: Nonce) -> Self {
        hex::encode(nonce.0)
    }
}

/// Checks the id of a host: 1 to 128 of `A-Z a-z 0-9 . _ - + ~ :`, starting with a letter or digit.
///
/// # Errors
/// Returns what is wrong, to be put behind the name of the thing.
pub fn check_host(id: &str) -> Result<(), String> {
    check_version(id)
}

impl Permit {
    /// Returns the channel, also where the permit names none.
    pub fn channel(&self) -> &str {
        self.channel.as_deref().unwrap_or(DEFAULT_CHANNEL)
    }

    /// Checks that the permit lets the host `host` install a release whose statement has the digest
    /// `statement`. Whether its nonce was used and its time has passed is not known here.
    ///
    /// # Errors
    /// Names the first thing that the permit does not cover.
    pub fn allows(&self, host: &str, release: &Release, statement: Digest) -> Result<(), KeyError> {
        let refuse = |problem: String| Err(KeyError::document(PERMIT, problem));
        if release.product != self.product || release.channel() != self.channel() {
            return refuse(format!(
                "is for channel {} of {}",
                self.channel(),
                self.product
            ));
        }
        if !self.hosts.contains(host) {
            return refuse(format!("is not for the host {host}"));
        }
        if !self.sequence.covers(release.sequence) {
            return refuse(format!("is for sequence {}", self.sequence));
        }
        match self.statement {
            Some(only) if only != statement => refuse(format!("is for the statement {only}")),
            _ => Ok(()),
        }
    }

    fn check(&self, limits: &Limits) -> Result<(), KeyError> {
        let refuse = |problem: String| KeyError::document(PERMIT, problem);
        check_product(&self.product).map_err(|problem| refuse(format!("product {problem}")))?;
        if let Some(channel) = &self.channel {
            check_channel(channel).map_err(|problem| refuse(format!("channel {problem}")))?;
            if channel == DEFAULT_CHANNEL {
                return Err(refuse("channel names the default channel".into()));
            }
        }
        self.sequence
            .check()
            .map_err(|problem| refuse(format!("sequence {problem}")))?;
        if self.hosts.is_empty() || self.hosts.len() > limits.trust_entries {
            return Err(refuse(format!(
                "names {} hosts, 1 to {} are allowed",
                self.hosts.len(),
                limits.trust_entries
            )));
        }
        for host in &self.hosts {
            check_host(host).map_err(|problem| refuse(format!("host {problem}")))?;
        }
        Ok(())
    }
}

impl Document for Permit {
    const PAYLOAD_TYPE: &'static str = media_type::PERMIT;
    const ROLE: Role = Role::Release;

    fn from_payload(payload: &[u8], limits: &Limits) -> Result<Self, KeyError> {
        let wire: Wire = json::parse(payload, limits)?;
        json::check_critical(&wire.critical, &[])?;
        if !wire.hosts.is_sorted_by(|a, b| a < b) {
            let problem = "hosts are not sorted, or one is there twice";
            return Err(KeyError::document(PERMIT, problem.into()));
        }
        let permit = Self {
            product: wire.product,
            channel: wire.channel,
            hosts: wire.hosts.into_iter().collect(),
            sequence: wire.sequence,
            statement: wire.statement,
            nonce: wire.nonce,
            created: wire.created,
            expires: wire.expires,
        };
        permit.check(limits)?;
        Ok(permit)
    }

    fn to_payload(&self) -> Result<Vec<u8>, KeyError> {
        self.check(&Limits::DEFAULT)?;
        let wire = Wire {
            critical: Vec::new(),
            product: self.product.clone(),
            channel: self.channel.clone(),
            hosts: self.hosts.iter().cloned().collect(),
            sequence: self.sequence,
            statement: self.statement,
            nonce: self.nonce,
            created: self.created,
            expires: self.expires,
        };
        serde_json::to_vec(&wire).map_err(|e| KeyError::document(PERMIT, e.to_string()))
    }

    fn product(&self) -> &str {
        &self.product
    }

    fn in_scope(
        &self,
        root: &TrustRoot,
        signers: &BTreeSet<Digest>,
    ) -> Result<BTreeSet<Digest>, KeyError> {
        // A scope has no gaps: who may sign both ends may sign all between.
        let channel = Some(self.channel());
        let signers = root.in_scope(Self::ROLE, signers, channel, self.sequence.from)?;
        root.in_scope(Self::ROLE, &signers, channel, self.sequence.to)
    }
}
