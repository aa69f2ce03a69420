//! Imports a verified image into an OSTree repository, in ostree-ext's layout.
//!
//! Each layer is a transaction of its own, so an import that was killed continues with the layer it was at. A layer's ref
//! is set in the transaction of its objects, after its `diff_id` was seen to be right. The image's ref comes last.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};

use ::ostree::glib::Variant;
use ::ostree::glib::prelude::*;
use ::ostree::{ObjectType, Repo, RepoListRefsExtFlags, RepoPruneFlags, gio};

use bundle_format::Digest;

use super::chunked;
use super::commit::{self, CommitMetadata};
use super::error::OstreeError;
use super::image::{Image, ImageLayer, LayerSource};
use super::layer;
use super::limits::Limits;
use super::merge;
use super::progress::Progress;
use super::refescape::{LAYER_PREFIX, layer_ref};
use super::selinux::Labeler;
use super::session::Session;
use super::staging;
use super::tar_entries::Layout;
use super::tree::{Directory, Node, Precedence};
use super::tree_repo;

/// Metadata key of layer commits: the `diff_id` they were made from.
const DIFF_ID: &str = "bundle.diff-id";
/// Metadata key of layer commits: directories that exist only because something is in them.
const UNDESCRIBED: &str = "bundle.undescribed-directories";
/// Metadata key of all commits: version of the importer.
pub(super) const IMPORTER: &str = "ostree.importer.version";

/// What an import did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Imported {
    /// Name of the merged commit.
    pub commit: String,
    /// Layers that were read from the source.
    pub layers_imported: usize,
    /// Layers that the repository had.
    pub layers_reused: usize,
    /// Whether the image's ref named this very image before, so that nothing was done.
    pub already_present: bool,
}

/// Imports `image` into `repo` and sets its ref; layers that the repository has are not opened.
///
/// The same image makes the same commit. `cancel` is asked every half MiB or so.
///
/// # Errors
/// See [`OstreeError`]. After an error no ref has changed but those of layers that were complete.
pub fn import(
    repo: &Repo,
    image: &Image,
    source: &dyn LayerSource,
    progress: &dyn Progress,
    cancel: &dyn Fn() -> bool,
) -> Result<Imported, OstreeError> {
    import_within(repo, image, source, progress, cancel, &Limits::default())
}

/// Does what [`import`] does, within other limits.
///
/// # Errors
/// Those of [`import`].
pub fn import_within(
    repo: &Repo,
    image: &Image,
    source: &dyn LayerSource,
    progress: &dyn Progress,
    cancel: &dyn Fn() -> bool,
    limits: &Limits,
) -> Result<Imported, OstreeError> {
    image.check(limits)?;
    if let Some(commit) = merge::present(repo, image)? {
        staging::discard(repo);
        return Ok(Imported {
            commit,
            layers_imported: 0,
            layers_reused: image.layers.len(),
            already_present: true,
        });
    }
    let session = Session {
        repo,
        source,
        progress,
        cancel,
        limits,
        layout: Layout::of_host(),
        entries: Cell::new(0),
        labeler: None,
    };
    let mut import = Import {
        session,
        image,
        by_diff_id: diff_ids(repo)?,
        imported: 0,
    };
    let result = import.run();
    // Our own, and what runs that were killed have left and this one had no use for.
    staging::discard(repo);
    result.inspect_err(|error| {
        // The commit of a transaction may fail when a part of its objects is in place.
        if matches!(error, OstreeError::NoSpace { .. }) {
            // What cannot be pruned now is pruned by the next deployment.
            let _ = repo.prune(RepoPruneFlags::REFS_ONLY, 0, gio::Cancellable::NONE);
        }
    })
}

struct Import<'a> {
    session: Session<'a>,
    image: &'a Image,
    /// Commits of layers in the repository by `diff_id`: the same content, compressed otherwise, is the same layer.
    by_diff_id: HashMap<String, String>,
    imported: usize,
}

impl Import<'_> {
    fn run(&mut self) -> Result<Imported, OstreeError> {
        let chunks = self.image.chunked_layers()?;
        let (base, plain) = self.image.layers.split_at(chunks);
        let base_commit = self.base(base)?;
        let mut merged = match &base_commit {
            Some(commit) => {
                let commit = self.load_commit(commit)?;
                tree_repo::read(self.session.repo, &commit, self.session.limits)?
            }
            None => Directory::default(),
        };
        if !plain.is_empty() {
            self.session.labeler = Labeler::of_tree(self.session.repo, &merged)?;
        }
        let mut trees = Vec::new();
        for (index, layer) in plain.iter().enumerate() {
            let (tree, precedence) = self.plain(layer, chunks + index, &merged)?;
            merged.overlay(&tree, precedence);
            trees.push(PlainLayer {
                layer,
                tree,
                own: precedence == Precedence::Upper,
            });
        }
        self.check_cancelled()?;
        self.session.progress.merging();
        let commit = merge::write(
            self.session.repo,
            self.image,
            base_commit.as_deref(),
            merged,
            trees,
        )?;
        Ok(Imported {
            commit,
            layers_imported: self.imported,
            layers_reused: self.image.layers.len() - self.imported,
            already_present: false,
        })
    }

    /// Imports the layers of a chunked base and returns its commit.
    fn base(&mut self, layers: &[ImageLayer]) -> Result<Option<String>, OstreeError> {
        let Some((commit_layer, chunks)) = layers.split_first() else {
            return Ok(None);
        };
        // The commit comes last, when everything that it reaches is there.
        let mut chunks: Vec<_> = chunks.iter().enumerate().collect();
        chunks.sort_by_key(|(_, layer)| self.session.source.rank(layer));
        for (index, layer) in chunks {
            self.layer(layer, index + 1, |import| {
                let tree = chunked::import_objects(&import.session, layer)?;
                write_layer(import.session.repo, &tree, &CommitMetadata::new())
            })?;
        }
        let commit = self.layer(commit_layer, 0, |import| {
            let commit = chunked::import_commit(&import.session, commit_layer)?;
            let commit = commit.ok_or_else(|| import.image.no_commit())?;
            import.check_complete(&commit)?;
            Ok(commit)
        })?;
        Ok(Some(commit))
    }

    /// Imports a plain layer and returns its tree.
    fn plain(
        &mut self,
        layer: &ImageLayer,
        index: usize,
        lower: &Directory,
    ) -> Result<(Directory, Precedence), OstreeError> {
        let mut fresh = None;
        let commit = self.layer(layer, index, |import| {
            let tree = layer::import(&import.session, layer, lower)?;
            let metadata = layer_metadata(layer, &tree);
            let commit = write_layer(import.session.repo, &tree, &metadata)?;
            fresh = Some(tree);
            Ok(commit)
        })?;
        if let Some(tree) = fresh {
            return Ok((tree, Precedence::Upper));
        }
        let commit = self.load_commit(&commit)?;
        let mut tree = tree_repo::read(self.session.repo, &commit, self.session.limits)?;
        let Some(found) = tree_repo::metadata_string(&commit, DIFF_ID) else {
            return Ok((tree, Precedence::Lower));
        };
        if let Ok(found) = found.parse()
            && found != layer.diff_id
        {
            let (layer, expected) = (layer.digest, layer.diff_id);
            return Err(OstreeError::DiffId {
                layer,
                expected,
                found,
            });
        }
        for path in tree_repo::metadata_strings(&commit, UNDESCRIBED) {
            tree.forget_description(&path);
        }
        Ok((tree, Precedence::Upper))
    }

    /// Returns the commit of a layer, which `read` imports if the repository does not have it.
    fn layer(
        &mut self,
        layer: &ImageLayer,
        index: usize,
        mut read: impl FnMut(&mut Self) -> Result<String, OstreeError>,
    ) -> Result<String, OstreeError> {
        let (repo, progress) = (self.session.repo, self.session.progress);
        self.check_cancelled()?;
        progress.layer_started(layer, index, self.image.layers.len());
        let name = layer_ref(&layer.digest);
        let failed =
            |error| OstreeError::libostree(format!("storing layer {}", layer.digest), error);
        let known = repo
            .resolve_rev(&name, true)
            .map_err(failed)?
            .map(|commit| commit.to_string());
        let reused = known.is_some();
        let known = known.or_else(|| self.by_diff_id.get(&layer.diff_id.to_string()).cloned());
        let fresh = known.is_none();
        let commit = match known {
            Some(commit) if reused => {
                commit::mark_whole(repo, &commit)?;
                commit
            }
            known => loop {
                // Leaving it without publishing undoes what was written in it.
                let transaction = repo
                    .auto_transaction(gio::Cancellable::NONE)
                    .map_err(failed)?;
                match known.clone().map_or_else(|| read(self), Ok) {
                    Ok(commit) => {
                        commit::publish(repo, transaction, &[(name.clone(), commit.clone())])?;
                        break commit;
                    }
                    Err(error) if self.session.source.another_way(layer, &error) => {}
                    Err(error) => return Err(error),
                }
            },
        };
        self.imported += usize::from(fresh);
        progress.layer_finished(layer, !fresh);
        Ok(commit)
    }

    /// Checks that all objects of a chunked base's commit are in the repository.
    fn check_complete(&self, commit: &str) -> Result<(), OstreeError> {
        let variant = self.load_commit(commit)?;
        let tree = tree_repo::read(self.session.repo, &variant, self.session.limits)?;
        self.check_directory(&tree)
    }

    fn check_directory(&self, directory: &Directory) -> Result<(), OstreeError> {
        let check = |kind, checksum: &[u8]| {
            let name = hex::encode(checksum);
            match self
                .session
                .repo
                .has_object(kind, &name, gio::Cancellable::NONE)
            {
                Ok(true) => Ok(()),
                Ok(false) => Err(self.image.incomplete(name)),
                Err(error) => Err(OstreeError::libostree(
                    format!("looking for object {name}"),
                    error,
                )),
            }
        };
        if let Some(metadata) = directory.metadata {
            check(ObjectType::DirMeta, &metadata)?;
        }
        for node in directory.children.values() {
            match node {
                Node::File(file) => check(ObjectType::File, file)?,
                Node::Directory(below) => self.check_directory(below)?,
            }
        }
        Ok(())
    }

    fn check_cancelled(&self) -> Result<(), OstreeError> {
        if (self.session.cancel)() {
            Err(OstreeError::Cancelled)
        } else {
            Ok(())
        }
    }

    fn load_commit(&self, commit: &str) -> Result<Variant, OstreeError> {
        load_commit(self.session.repo, commit)
    }
}

/// A plain layer and its tree.
pub(super) struct PlainLayer<'a> {
    pub(super) layer: &'a ImageLayer,
    pub(super) tree: Directory,
    /// Whether this program wrote its commit, and may write it anew.
    pub(super) own: bool,
}

/// Returns the metadata of a plain layer's commit.
pub(super) fn layer_metadata(layer: &ImageLayer, tree: &Directory) -> CommitMetadata {
    let mut metadata = CommitMetadata::new();
    metadata.insert(IMPORTER.to_owned(), env!("CARGO_PKG_VERSION").to_variant());
    metadata.insert(DIFF_ID.to_owned(), layer.diff_id.to_string().to_variant());
    let undescribed = tree.undescribed();
    if !undescribed.is_empty() {
        metadata.insert(UNDESCRIBED.to_owned(), undescribed.to_variant());
    }
    metadata
}

/// Writes the commit of a layer's tree. Its time is 1970: nothing but the layer may decide over its name.
pub(super) fn write_layer(
    repo: &Repo,
    tree: &Directory,
    metadata: &CommitMetadata,
) -> Result<String, OstreeError> {
    let default = tree_repo::write_default(repo)?;
    let root = tree_repo::write(repo, tree, default)?;
    commit::write(repo, None, metadata, root, 0)
}

/// Loads a commit object.
pub(super) fn load_commit(repo: &Repo, commit: &str) -> Result<Variant, OstreeError> {
    repo.load_commit(commit)
        .map(|(commit, _)| commit)
        .map_err(|error| OstreeError::libostree(format!("reading commit {commit}"), error))
}

/// Returns the refs below `prefix`, by their whole names.
pub(super) fn refs(repo: &Repo, prefix: &str) -> Result<HashMap<String, String>, OstreeError> {
    repo.list_refs_ext(
        Some(prefix),
        RepoListRefsExtFlags::empty(),
        gio::Cancellable::NONE,
    )
    .map_err(|error| OstreeError::libostree(format!("listing refs {prefix}"), error))
}

/// Returns the digests of those layers of `image` that an import would not open, for `repo` has them.
///
/// # Errors
/// When the repository cannot be read.
pub fn layers_present(repo: &Repo, image: &Image) -> Result<HashSet<Digest>, OstreeError> {
    if merge::present(repo, image)?.is_some() {
        return Ok(image.layers.iter().map(|layer| layer.digest).collect());
    }
    let (refs, diff_ids) = (refs(repo, LAYER_PREFIX)?, diff_ids(repo)?);
    let present = |layer: &&ImageLayer| {
        refs.contains_key(&layer_ref(&layer.digest))
            || diff_ids.contains_key(&layer.diff_id.to_string())
    };
    let present = image.layers.iter().filter(present);
    Ok(present.map(|layer| layer.digest).collect())
}

/// Returns the commits of plain layers in the repository by their `diff_id`.
fn diff_ids(repo: &Repo) -> Result<HashMap<String, String>, OstreeError> {
    let mut found = HashMap::new();
    for commit in refs(repo, LAYER_PREFIX)?.into_values() {
        if let Some(diff_id) = tree_repo::metadata_string(&load_commit(repo, &commit)?, DIFF_ID) {
            found.insert(diff_id, commit);
        }
    }
    Ok(found)
}
