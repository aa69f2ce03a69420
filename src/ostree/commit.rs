//! Writes commits whose names depend on their content alone, and makes them visible whole.

use std::collections::BTreeMap;

use ::ostree::glib::Variant;
use ::ostree::glib::prelude::*;
use ::ostree::{MutableTree, Repo, RepoFile, TransactionGuard, gio};

use super::error::OstreeError;
use super::tree_repo::DirectoryObjects;

/// Metadata of a commit; sorted, so that its serialised form has one order.
pub(super) type CommitMetadata = BTreeMap<String, Variant>;

/// Writes a commit of the tree `root` at `time` (seconds since 1970) and returns its name.
pub(super) fn write(
    repo: &Repo,
    parent: Option<&str>,
    metadata: &CommitMetadata,
    root: DirectoryObjects,
    time: u64,
) -> Result<String, OstreeError> {
    let failed = |error| OstreeError::libostree("writing a commit", error);
    // A tree that has both names is taken as written.
    let tree = MutableTree::new();
    tree.set_metadata_checksum(&hex::encode(root.metadata));
    tree.set_contents_checksum(&hex::encode(root.contents));
    let written = repo
        .write_mtree(&tree, gio::Cancellable::NONE)
        .map_err(failed)?;
    let written = written
        .downcast::<RepoFile>()
        .map_err(|_| OstreeError::Name {
            what: "tree from libostree",
            name: hex::encode(root.contents),
        })?;
    let metadata = (!metadata.is_empty()).then(|| metadata.to_variant());
    let commit = repo
        .write_commit_with_time(
            parent,
            None,
            None,
            metadata.as_ref(),
            &written,
            time,
            gio::Cancellable::NONE,
        )
        .map_err(failed)?;
    Ok(commit.to_string())
}

/// Ends the transaction that wrote the commits, and sets the ref before each to it.
///
/// libostree moves staged objects into place in no particular order. A process that is killed there would leave a commit
/// without its tree, which no ref names but `ostree fsck` finds; so the commits are marked as partial until all is done.
pub(super) fn publish(
    repo: &Repo,
    transaction: TransactionGuard<'_>,
    refs: &[(String, String)],
) -> Result<(), OstreeError> {
    let failed = |error| OstreeError::libostree("storing commits", error);
    for (name, commit) in refs {
        repo.mark_commit_partial(commit, true).map_err(failed)?;
        repo.transaction_set_ref(None, name, Some(commit));
    }
    if let Err(error) = transaction.commit(gio::Cancellable::NONE) {
        // Still open, and nobody else closes it: its lock would keep the staged objects from being discarded.
        let _ = repo.abort_transaction(gio::Cancellable::NONE);
        return Err(failed(error));
    }
    refs.iter()
        .try_for_each(|(_, commit)| mark_whole(repo, commit))
}

/// Removes the mark of a partial commit.
///
/// A commit that one of our refs names is whole, even if its importer was killed before it could remove the mark.
pub(super) fn mark_whole(repo: &Repo, commit: &str) -> Result<(), OstreeError> {
    repo.mark_commit_partial(commit, false)
        .map_err(|error| OstreeError::libostree(format!("completing commit {commit}"), error))
}
