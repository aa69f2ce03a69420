//! Writes the union of an image's layers as the commit that is deployed.

use ::ostree::Repo;
use ::ostree::gio;
use ::ostree::gio::prelude::*;

use super::commit::{self, CommitMetadata};
use super::error::OstreeError;
use super::image::Image;
use super::import::{IMPORTER, PlainLayer, layer_metadata, load_commit, write_layer};
use super::object::Checksum;
use super::refescape::layer_ref;
use super::selinux::Labeler;
use super::tree::{Directory, Node};
use super::tree_repo;

/// Metadata key of the manifest's digest, by which images are told apart.
pub(super) const MANIFEST_DIGEST: &str = "ostree.manifest-digest";
/// Metadata key of the manifest.
pub(super) const MANIFEST: &str = "ostree.manifest";
const CONFIG: &str = "ostree.container.image-config";
/// Metadata key of the version for people.
pub(super) const VERSION: &str = "version";
const BOOTABLE: &str = "ostree.bootable";
const LINUX: &str = "ostree.linux";

/// Files that container builds leave behind empty; as ostree-ext does, they are not deployed.
const INJECTED: [&str; 2] = ["usr/etc/hostname", "usr/etc/resolv.conf"];

/// Returns the commit of the image's ref, if it was made from this very image and its first layer is there.
pub(super) fn present(repo: &Repo, image: &Image) -> Result<Option<String>, OstreeError> {
    let name = image.image_ref()?;
    let resolve = |name: &str| {
        repo.resolve_rev(name, true)
            .map_err(|error| OstreeError::libostree(format!("reading ref {name}"), error))
    };
    let Some(commit) = resolve(&name)? else {
        return Ok(None);
    };
    let digest = tree_repo::metadata_string(&load_commit(repo, &commit)?, MANIFEST_DIGEST);
    if digest != Some(image.manifest_digest.to_string()) {
        return Ok(None);
    }
    // bootc does not recognise an image without it.
    for layer in &image.layers {
        if resolve(&layer_ref(&layer.digest))?.is_none() {
            return Ok(None);
        }
    }
    commit::mark_whole(repo, &commit)?;
    Ok(Some(commit.to_string()))
}

/// Writes the commit of `merged` and sets the image's ref to it, in one transaction.
///
/// Where the image has an SELinux policy and plain layers, everything gets the labels of that policy. The commits of the
/// plain layers are then written anew, so that both share their objects.
pub(super) fn write(
    repo: &Repo,
    image: &Image,
    base: Option<&str>,
    mut merged: Directory,
    layers: Vec<PlainLayer<'_>>,
) -> Result<String, OstreeError> {
    let failed = |error| OstreeError::libostree(format!("storing image {}", image.imgref), error);
    for path in INJECTED {
        if let Some(Node::File(file)) = merged.get(path)
            && is_empty_file(repo, file)?
        {
            merged.remove_file(path);
        }
    }
    let kernel = kernel_version(&merged).map(str::to_owned);
    if kernel.is_some() && !merged.children.contains_key("var") {
        // Where libostree moves /var to, nothing is left to mount it on.
        merged
            .children
            .insert("var".to_owned(), Node::Directory(Directory::default()));
    }
    let transaction = repo
        .auto_transaction(gio::Cancellable::NONE)
        .map_err(failed)?;
    let mut refs = Vec::new();
    let labeler = if layers.is_empty() {
        None
    } else {
        Labeler::of_tree(repo, &merged)?
    };
    if let Some(mut labeler) = labeler {
        labeler.relabel_image(&mut merged)?;
        for mut layer in layers.into_iter().filter(|layer| layer.own) {
            if labeler.relabel_layer(&mut layer.tree)? {
                let metadata = layer_metadata(layer.layer, &layer.tree);
                let commit = write_layer(repo, &layer.tree, &metadata)?;
                refs.push((layer_ref(&layer.layer.digest), commit));
            }
        }
    }
    let default = tree_repo::write_default(repo)?;
    let root = tree_repo::write(repo, &merged, default)?;
    let metadata = metadata(image, kernel.as_deref());
    let commit = commit::write(repo, base, &metadata, root, image.created.unwrap_or(0))?;
    refs.push((image.image_ref()?, commit.clone()));
    commit::publish(repo, transaction, &refs)?;
    Ok(commit)
}

fn metadata(image: &Image, kernel: Option<&str>) -> CommitMetadata {
    let mut metadata = CommitMetadata::new();
    let mut set = |key: &str, value: &str| {
        metadata.insert(key.to_owned(), value.to_variant());
    };
    for (key, value) in &image.metadata {
        set(key, value);
    }
    // After the caller's, whose keys cannot replace these.
    set(MANIFEST_DIGEST, &image.manifest_digest.to_string());
    set(MANIFEST, &image.manifest);
    set(CONFIG, &image.config);
    set(IMPORTER, env!("CARGO_PKG_VERSION"));
    if let Some(version) = &image.version {
        set(VERSION, version);
    }
    if let Some(kernel) = kernel {
        set(LINUX, kernel);
        metadata.insert(BOOTABLE.to_owned(), true.to_variant());
    }
    metadata
}

/// Returns the version of the kernel in the tree, if it has one where libostree looks for it.
fn kernel_version(tree: &Directory) -> Option<&str> {
    let Some(Node::Directory(modules)) = tree.get("usr/lib/modules") else {
        return None;
    };
    modules
        .children
        .iter()
        .find_map(|(version, node)| match node {
            Node::Directory(directory) if directory.children.contains_key("vmlinuz") => {
                Some(version.as_str())
            }
            _ => None,
        })
}

fn is_empty_file(repo: &Repo, file: &Checksum) -> Result<bool, OstreeError> {
    let name = hex::encode(file);
    let (info, _) = repo
        .query_file(&name, gio::Cancellable::NONE)
        .map_err(|error| OstreeError::libostree(format!("reading object {name}"), error))?;
    Ok(info.file_type() == gio::FileType::Regular && info.size() == 0)
}
