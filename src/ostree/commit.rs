//! Writes commits whose names depend on their content alone.

use std::collections::BTreeMap;

use ::ostree::glib::Variant;
use ::ostree::glib::prelude::*;
use ::ostree::{MutableTree, Repo, RepoFile, gio};

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
    let written = repo.write_mtree(&tree, gio::Cancellable::NONE).map_err(failed)?;
    let written = written.downcast::<RepoFile>().map_err(|_| OstreeError::Name {
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
