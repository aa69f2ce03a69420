//! Says what is deployed, and what boots next.

use std::collections::BTreeMap;

use ::ostree::glib::Variant;
use ::ostree::{Deployment, Sysroot};
use serde::Serialize;

use super::import::load_commit;
use super::merge::{MANIFEST_DIGEST, VERSION};
use super::origin;
use super::tree_repo;

/// Start of the metadata keys that belong to this program.
const OWN_METADATA: &str = "bundle.";

/// The deployments of a sysroot by their part in booting.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Status {
    /// The one that runs; none for a sysroot that is not the running system's.
    pub booted: Option<DeploymentStatus>,
    /// The one that a clean shutdown will make the default.
    pub staged: Option<DeploymentStatus>,
    /// The one that boots next, where that is not the booted one.
    pub pending: Option<DeploymentStatus>,
    /// The one that a rollback returns to.
    pub rollback: Option<DeploymentStatus>,
    /// All others, in boot order: pinned ones, and those of other stateroots.
    pub other: Vec<DeploymentStatus>,
}

/// A deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DeploymentStatus {
    /// Version of the image, for people.
    pub version: Option<String>,
    /// Digest of the manifest it was made from, `sha256:…`.
    pub manifest_digest: Option<String>,
    /// Name of the OSTree commit.
    pub commit: String,
    /// Container image reference of the origin, as written there.
    pub origin: Option<String>,
    /// Registry reference that the host follows, `host/repo:tag`.
    pub imgref: Option<String>,
    /// Name of the stateroot.
    pub stateroot: String,
    /// Which deployment of the same commit this is, from 0.
    pub serial: i32,
    /// Position in boot order, from 0.
    pub index: i32,
    /// Whether it waits for a clean shutdown.
    pub staged: bool,
    /// Whether it is kept from clean-up.
    pub pinned: bool,
    /// Time of the commit in seconds since 1970.
    pub timestamp: u64,
    /// Metadata that this program recorded, with its `bundle.` keys.
    pub metadata: BTreeMap<String, String>,
}

/// Describes the deployments of a sysroot.
///
/// What a deployment's commit does not say, because something else made it or it is damaged, stays empty.
pub fn status(sysroot: &Sysroot) -> Status {
    let deployments = sysroot.deployments();
    let mut status = Status::default();
    for (deployment, slot) in deployments.iter().zip(slots(sysroot, &deployments)) {
        let described = describe(sysroot, deployment);
        match slot {
            Slot::Booted => status.booted = Some(described),
            Slot::Staged => status.staged = Some(described),
            Slot::Pending => status.pending = Some(described),
            Slot::Rollback => status.rollback = Some(described),
            Slot::Other => status.other.push(described),
        }
    }
    status
}

/// The part of a deployment in booting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Slot {
    Booted,
    Staged,
    Pending,
    Rollback,
    Other,
}

/// Returns the slot of each deployment.
pub(super) fn slots(sysroot: &Sysroot, deployments: &[Deployment]) -> Vec<Slot> {
    let booted = sysroot.booted_deployment();
    let facts: Vec<Facts> = deployments
        .iter()
        .map(|deployment| Facts {
            stateroot: deployment.osname().to_string(),
            booted: booted
                .as_ref()
                .is_some_and(|booted| booted.equal(deployment)),
            staged: deployment.is_staged(),
        })
        .collect();
    slots_of(&facts)
}

/// What decides over slots.
struct Facts {
    stateroot: String,
    booted: bool,
    staged: bool,
}

fn slots_of(facts: &[Facts]) -> Vec<Slot> {
    let any_booted = facts.iter().any(|facts| facts.booted);
    let mut current: Option<&str> = None;
    let (mut pending, mut rollback) = (false, false);
    facts
        .iter()
        .map(|facts| {
            if facts.booted {
                current = Some(&facts.stateroot);
                Slot::Booted
            } else if facts.staged {
                Slot::Staged
            } else if current.is_none() && !pending {
                pending = true;
                if !any_booted {
                    current = Some(&facts.stateroot);
                }
                Slot::Pending
            } else if current == Some(facts.stateroot.as_str()) && !rollback {
                rollback = true;
                Slot::Rollback
            } else {
                Slot::Other
            }
        })
        .collect()
}

/// Returns the digest of the manifest that a deployment was made from.
pub(super) fn manifest_digest(sysroot: &Sysroot, deployment: &Deployment) -> Option<String> {
    let commit = load_commit(&sysroot.repo(), &deployment.csum()).ok()?;
    tree_repo::metadata_string(&commit, MANIFEST_DIGEST)
}

/// Describes one deployment.
pub(super) fn describe(sysroot: &Sysroot, deployment: &Deployment) -> DeploymentStatus {
    let commit = load_commit(&sysroot.repo(), &deployment.csum()).ok();
    let string = |key| {
        commit
            .as_ref()
            .and_then(|commit| tree_repo::metadata_string(commit, key))
    };
    let reference = deployment.origin().as_ref().and_then(origin::reference);
    DeploymentStatus {
        version: string(VERSION),
        manifest_digest: string(MANIFEST_DIGEST),
        commit: deployment.csum().to_string(),
        imgref: reference
            .as_deref()
            .and_then(origin::registry_reference)
            .map(str::to_owned),
        origin: reference,
        stateroot: deployment.osname().to_string(),
        serial: deployment.deployserial(),
        index: deployment.index(),
        staged: deployment.is_staged(),
        pinned: deployment.is_pinned(),
        timestamp: commit
            .as_ref()
            .map(::ostree::commit_get_timestamp)
            .unwrap_or_default(),
        metadata: commit.as_ref().map(own_metadata).unwrap_or_default(),
    }
}

fn own_metadata(commit: &Variant) -> BTreeMap<String, String> {
    let Some(dict) = commit.try_child_value(0) else {
        return BTreeMap::new();
    };
    dict.iter()
        .filter_map(|entry| {
            let key = entry.try_child_value(0)?.str()?.to_owned();
            let value = entry.try_child_value(1)?.as_variant()?.str()?.to_owned();
            key.starts_with(OWN_METADATA).then_some((key, value))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_follow_boot_order() {
        use Slot::{Booted, Other, Pending, Rollback, Staged};
        // Each letter: b booted, s staged, d another; each digit its stateroot.
        for (deployments, expected) in [
            ("", vec![]),
            ("b0", vec![Booted]),
            ("s0 b0 d0", vec![Staged, Booted, Rollback]),
            ("d0 b0", vec![Pending, Booted]),
            ("d0 b0 d0 d0", vec![Pending, Booted, Rollback, Other]),
            ("b0 d1 d0", vec![Booted, Other, Rollback]),
            ("d0", vec![Pending]),
            ("d0 d0 d0", vec![Pending, Rollback, Other]),
            ("d0 d1", vec![Pending, Other]),
            ("d0 d0 b0", vec![Pending, Other, Booted]),
        ] {
            let facts: Vec<Facts> = deployments
                .split_whitespace()
                .map(|deployment| Facts {
                    stateroot: deployment[1..].to_owned(),
                    booted: deployment.starts_with('b'),
                    staged: deployment.starts_with('s'),
                })
                .collect();
            assert_eq!(slots_of(&facts), expected, "{deployments}");
        }
    }
}
