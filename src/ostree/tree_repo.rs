//! Writes trees as dirtree objects and reads them back from commits.
//!
//! Objects of the repository are the host's own, but a chunked layer brings dirtree objects of its own: names are checked
//! here, on reading, whoever wrote them, and sizes and depth are bounded.

use ::ostree::glib::prelude::*;
use ::ostree::glib::{self, Variant};
use ::ostree::{ObjectType, Repo};

use super::error::OstreeError;
use super::limits::Limits;
use super::object::{self, Checksum};
use super::tree::{Directory, Node};
use super::writer::write_metadata;

/// Names of the two objects that make up a directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct DirectoryObjects {
    pub(super) contents: Checksum,
    pub(super) metadata: Checksum,
}

/// Writes `directory` and what is below it; undescribed directories get `default`'s metadata.
pub(super) fn write(
    repo: &Repo,
    directory: &Directory,
    default: Checksum,
) -> Result<DirectoryObjects, OstreeError> {
    let mut files = Vec::new();
    let mut directories = Vec::new();
    for (name, node) in &directory.children {
        match node {
            Node::File(file) => files.push(Variant::tuple_from_iter([
                name.to_variant(),
                object::bytes_variant(file),
            ])),
            Node::Directory(below) => {
                let below = write(repo, below, default)?;
                directories.push(Variant::tuple_from_iter([
                    name.to_variant(),
                    object::bytes_variant(&below.contents),
                    object::bytes_variant(&below.metadata),
                ]));
            }
        }
    }
    let file_type = <(String, Vec<u8>)>::static_variant_type();
    let directory_type = <(String, Vec<u8>, Vec<u8>)>::static_variant_type();
    let variant = Variant::tuple_from_iter([
        Variant::array_from_iter_with_type(&file_type, files),
        Variant::array_from_iter_with_type(&directory_type, directories),
    ]);
    let contents = write_metadata(repo, ObjectType::DirTree, &variant)?;
    Ok(DirectoryObjects {
        contents,
        metadata: directory.metadata.unwrap_or(default),
    })
}

/// Writes the metadata of undescribed directories and returns its name.
pub(super) fn write_default(repo: &Repo) -> Result<Checksum, OstreeError> {
    let variant = object::directory_variant(&object::default_directory());
    write_metadata(repo, ObjectType::DirMeta, &variant)
}

/// Returns the root directory's objects of a commit object.
pub(super) fn root_of(commit: &Variant) -> Option<DirectoryObjects> {
    let checksum = |index| commit.try_child_value(index).as_ref().and_then(checksum_of);
    Some(DirectoryObjects {
        contents: checksum(6)?,
        metadata: checksum(7)?,
    })
}

/// Reads the tree of a commit.
pub(super) fn read(
    repo: &Repo,
    commit: &Variant,
    limits: &Limits,
) -> Result<Directory, OstreeError> {
    let root = root_of(commit).ok_or_else(|| malformed("commit"))?;
    let mut entries = 0;
    read_directory(repo, root, limits, 0, &mut entries)
}

fn read_directory(
    repo: &Repo,
    objects: DirectoryObjects,
    limits: &Limits,
    depth: usize,
    entries: &mut u64,
) -> Result<Directory, OstreeError> {
    // The places of /etc and /var are up to three names deeper than in the archive.
    if depth > limits.depth + 4 {
        return Err(malformed("tree depth"));
    }
    let name = hex::encode(objects.contents);
    let variant = repo
        .load_variant(ObjectType::DirTree, &name)
        .map_err(|error| OstreeError::libostree(format!("reading directory {name}"), error))?;
    let mut directory = Directory {
        metadata: Some(objects.metadata),
        ..Directory::default()
    };
    let (files, directories) = variant
        .try_child_value(0)
        .zip(variant.try_child_value(1))
        .ok_or_else(|| malformed(&name))?;
    for file in files.iter() {
        let file_name = name_of(&file, &name)?;
        let content = file.try_child_value(1).as_ref().and_then(checksum_of);
        let content = content.ok_or_else(|| malformed(&name))?;
        directory.children.insert(file_name, Node::File(content));
        *entries += 1;
    }
    for below in directories.iter() {
        let directory_name = name_of(&below, &name)?;
        let checksum = |index| below.try_child_value(index).as_ref().and_then(checksum_of);
        let objects = checksum(1)
            .zip(checksum(2))
            .ok_or_else(|| malformed(&name))?;
        let objects = DirectoryObjects {
            contents: objects.0,
            metadata: objects.1,
        };
        *entries += 1;
        if *entries > limits.entries {
            return Err(malformed("number of entries"));
        }
        let below = read_directory(repo, objects, limits, depth + 1, entries)?;
        directory
            .children
            .insert(directory_name, Node::Directory(below));
    }
    Ok(directory)
}

fn name_of(entry: &Variant, object: &str) -> Result<String, OstreeError> {
    let name = entry
        .try_child_value(0)
        .and_then(|name| name.str().map(str::to_owned));
    let good = |name: &String| {
        !name.is_empty() && name.len() <= 255 && !name.contains('/') && name != "." && name != ".."
    };
    name.filter(good).ok_or_else(|| malformed(object))
}

fn malformed(object: &str) -> OstreeError {
    OstreeError::Name {
        what: "directory object",
        name: object.to_owned(),
    }
}

fn checksum_of(variant: &Variant) -> Option<Checksum> {
    variant.fixed_array::<u8>().ok()?.try_into().ok()
}

/// Returns a string from a commit's metadata.
pub(super) fn metadata_string(commit: &Variant, key: &str) -> Option<String> {
    let metadata = commit.try_child_value(0)?;
    let dict = glib::VariantDict::new(Some(&metadata));
    dict.lookup_value(key, None)
        .and_then(|value| value.str().map(str::to_owned))
}

/// Returns a list of strings from a commit's metadata, empty where there is none.
pub(super) fn metadata_strings(commit: &Variant, key: &str) -> Vec<String> {
    let Some(metadata) = commit.try_child_value(0) else {
        return Vec::new();
    };
    let dict = glib::VariantDict::new(Some(&metadata));
    dict.lookup_value(key, None)
        .and_then(|value| value.get())
        .unwrap_or_default()
}
