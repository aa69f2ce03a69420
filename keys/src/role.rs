//! Roles: what a key is trusted to sign (SPEC 8.2).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use bundle_format::Digest;
use serde::{Deserialize, Serialize};

/// What a key is trusted to sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Role {
    /// Trust roots.
    Root,
    /// Release statements and permits.
    Release,
    /// Revocation lists.
    Revocation,
    /// A site's approval of a release.
    SiteApprover,
    /// Evidence that travels with images.
    Evidence,
}

impl Role {
    /// Every role, in the order of trust roots.
    pub const ALL: [Self; 5] = [
        Self::Root,
        Self::Release,
        Self::Revocation,
        Self::SiteApprover,
        Self::Evidence,
    ];

    /// Returns true where what the role signs has a sequence, which a scope can bound.
    pub const fn has_scope(self) -> bool {
        matches!(self, Self::Release | Self::Revocation | Self::SiteApprover)
    }

    /// Returns true where a revocation list takes keys out of the role.
    ///
    /// Not `root` and `revocation`: those who revoke could lock out those who appoint them.
    pub const fn is_revocable(self) -> bool {
        matches!(self, Self::Release | Self::SiteApprover | Self::Evidence)
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Release => "release",
            Self::Revocation => "revocation",
            Self::SiteApprover => "site-approver",
            Self::Evidence => "evidence",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Role {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|role| role.name() == text);
        found.ok_or_else(|| {
            let names = Self::ALL.map(Self::name).join(", ");
            format!("{text:?} is no role; there are {names}")
        })
    }
}

/// The keys of a role and how many of them have to agree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoleKeys {
    /// Key ids.
    pub keyids: BTreeSet<Digest>,
    /// How many distinct keys must have signed; at least 1, at most the number of distinct keys.
    pub threshold: usize,
}
