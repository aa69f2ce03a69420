//! Deletes what no image and no deployment needs: deployments that gave way, layers, and their objects.

use std::collections::HashSet;

use ::ostree::{Repo, RepoListRefsExtFlags, RepoPruneFlags, Sysroot, gio};
use serde::Deserialize;

use super::error::OstreeError;
use super::import::{load_commit, refs};
use super::merge::MANIFEST;
use super::refescape::{IMAGE_PREFIX, LAYER_PREFIX, layer_ref};
use super::tree_repo;

/// Prefixes of the refs whose commits keep their layers: images, deployments, and base images of other tools.
const PROTECTED: [&str; 5] = [
    IMAGE_PREFIX,
    "ostree/0",
    "ostree/1",
    "ostree/container/baseimage",
    "rpmostree/base",
];

#[derive(Deserialize)]
struct Manifest {
    layers: Vec<Layer>,
}

#[derive(Deserialize)]
struct Layer {
    digest: String,
}

/// Deletes what nothing needs any more.
///
/// This is libostree's own clean-up in steps, since that one prints to standard output when it has freed something. It comes
/// after the change that its caller was asked for, and its errors say so.
pub(super) fn clean_up(sysroot: &Sysroot) -> Result<(), OstreeError> {
    let failed =
        |error| OstreeError::libostree("cleaning up, after the deployments were changed", error);
    // First the refs of deployments that are gone, which would hold their layers.
    sysroot
        .prepare_cleanup(gio::Cancellable::NONE)
        .map_err(failed)?;
    drop_layers(sysroot)?;
    let repo = sysroot.repo();
    if !has_unreferenced_commits(&repo)? {
        return Ok(());
    }
    repo.prune(RepoPruneFlags::REFS_ONLY, 0, gio::Cancellable::NONE)
        .map_err(failed)?;
    Ok(())
}

/// Says whether there is anything that pruning, which visits every object, could be for.
///
/// What a killed import left without a commit waits for the next pruning; most of it the next import takes up again.
fn has_unreferenced_commits(repo: &Repo) -> Result<bool, OstreeError> {
    let failed = |error| {
        OstreeError::libostree("listing commits, after the deployments were changed", error)
    };
    let commits = repo
        .list_commit_objects_starting_with(None, gio::Cancellable::NONE)
        .map_err(failed)?;
    let referenced = repo
        .list_refs_ext(None, RepoListRefsExtFlags::empty(), gio::Cancellable::NONE)
        .map_err(failed)?;
    let referenced: HashSet<&str> = referenced.values().map(String::as_str).collect();
    Ok(commits
        .iter()
        .any(|commit| !referenced.contains(commit.as_str())))
}

/// Drops the refs of unneeded layers, and returns how many there were. Objects stay until the next pruning.
///
/// Where one manifest cannot be read, all layers count as needed.
fn drop_layers(sysroot: &Sysroot) -> Result<usize, OstreeError> {
    let repo = sysroot.repo();
    let mut commits: HashSet<String> = sysroot
        .deployments()
        .iter()
        .map(|deployment| deployment.csum().to_string())
        .collect();
    for prefix in PROTECTED {
        commits.extend(refs(&repo, prefix)?.into_values());
    }
    let mut needed = HashSet::new();
    for commit in commits {
        let Some(layers) = layers_of(&repo, &commit)? else {
            return Ok(0);
        };
        needed.extend(layers);
    }
    let mut stale: Vec<String> = refs(&repo, LAYER_PREFIX)?.into_keys().collect();
    stale.retain(|name| !needed.contains(name));
    if stale.is_empty() {
        return Ok(0);
    }
    let failed = |error| {
        OstreeError::libostree("dropping layers, after the deployments were changed", error)
    };
    let transaction = repo
        .auto_transaction(gio::Cancellable::NONE)
        .map_err(failed)?;
    for name in &stale {
        repo.transaction_set_ref(None, name, None);
    }
    transaction.commit(gio::Cancellable::NONE).map_err(failed)?;
    Ok(stale.len())
}

/// Returns the refs of the layers of a commit, or `None` where they cannot be told.
fn layers_of(repo: &Repo, commit: &str) -> Result<Option<Vec<String>>, OstreeError> {
    let Some(manifest) = tree_repo::metadata_string(&load_commit(repo, commit)?, MANIFEST) else {
        // Not made from a container image.
        return Ok(Some(Vec::new()));
    };
    let Ok(manifest) = serde_json::from_str::<Manifest>(&manifest) else {
        return Ok(None);
    };
    let layers = manifest
        .layers
        .iter()
        .map(|layer| Some(layer_ref(&layer.digest.parse().ok()?)));
    Ok(layers.collect())
}
