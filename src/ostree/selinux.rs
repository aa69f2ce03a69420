//! Labels an image with the SELinux policy that it carries.
//!
//! Container layers have no labels, and labels are part of an object's name, so they are given when layers are united, as
//! ostree-ext does. The policy is the image's own: it was signed with the rest, and libselinux parses it.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read};
use std::path::Path;

use ::ostree::gio::prelude::*;
use ::ostree::glib::Variant;
use ::ostree::{ObjectType, Repo, SePolicy, gio, glib};

use super::error::OstreeError;
use super::object::{self, Checksum, DIRECTORY, Metadata};
use super::tree::{Directory, Node};
use super::writer::{INLINE, parse_checksum, write_metadata};

const ATTRIBUTE: &[u8] = b"security.selinux";
/// Where the policy lies in an OSTree tree, and where libselinux is shown it.
const POLICY: &str = "usr/etc/selinux";
/// Bytes of all files of a policy; Fedora's has 10 MB.
const MAX_POLICY: u64 = 256 << 20;

/// Gives labels to trees, within an open transaction.
pub(super) struct Labeler<'a> {
    repo: &'a Repo,
    policy: SePolicy,
    /// Holds the policy's files, which libselinux opens as it needs them.
    _files: tempfile::TempDir,
    /// What is known of objects: metadata of files and directories, and their labelled forms.
    known: HashMap<Checksum, Metadata>,
    labelled: HashMap<(Checksum, String), Checksum>,
}

impl<'a> Labeler<'a> {
    /// Reads the policy in `tree`; `None` where it has none.
    pub(super) fn of_tree(repo: &'a Repo, tree: &Directory) -> Result<Option<Self>, OstreeError> {
        let Some(Node::Directory(policy)) = tree.get(POLICY) else {
            return Ok(None);
        };
        if !policy.children.contains_key("config") {
            return Ok(None);
        }
        let parent = repo.path().path().unwrap_or_default().join("tmp");
        let files = tempfile::tempdir_in(&parent).map_err(unpacking)?;
        let target = files.path().join(POLICY);
        fs::create_dir_all(&target).map_err(unpacking)?;
        let mut budget = MAX_POLICY;
        unpack(repo, policy, &target, &mut budget)?;
        let policy = SePolicy::new(&gio::File::for_path(files.path()), gio::Cancellable::NONE)
            .map_err(|error| OstreeError::libostree("reading the image's SELinux policy", error))?;
        if policy.name().is_none_or(|name| name.is_empty()) {
            return Ok(None);
        }
        let (known, labelled) = (HashMap::new(), HashMap::new());
        Ok(Some(Self {
            repo,
            policy,
            _files: files,
            known,
            labelled,
        }))
    }

    /// Labels everything in `tree`.
    pub(super) fn relabel_image(&mut self, tree: &mut Directory) -> Result<(), OstreeError> {
        self.directory(tree, "/", true).map(drop)
    }

    /// Labels what a layer's tree describes, and says whether anything changed.
    pub(super) fn relabel_layer(&mut self, tree: &mut Directory) -> Result<bool, OstreeError> {
        self.directory(tree, "/", false)
    }

    fn directory(
        &mut self,
        directory: &mut Directory,
        path: &str,
        all: bool,
    ) -> Result<bool, OstreeError> {
        let mut changed = false;
        if directory.metadata.is_some() || all {
            let labelled = self.directory_metadata(directory.metadata, path)?;
            changed = labelled != directory.metadata;
            directory.metadata = labelled;
        }
        for (name, node) in &mut directory.children {
            let below = format!("{}/{name}", path.trim_end_matches('/'));
            match node {
                Node::Directory(directory) => changed |= self.directory(directory, &below, all)?,
                Node::File(file) => {
                    let labelled = self.file(*file, &below)?;
                    changed |= labelled != *file;
                    *file = labelled;
                }
            }
        }
        Ok(changed)
    }

    /// Returns the label of an absolute path; `mode` includes the file type.
    pub(super) fn label(&self, path: &str, mode: u32) -> Result<Option<String>, OstreeError> {
        self.policy
            .label(path, mode, gio::Cancellable::NONE)
            .map(|label| label.map(String::from))
            .map_err(|error| OstreeError::libostree(format!("labelling {path}"), error))
    }

    fn directory_metadata(
        &mut self,
        present: Option<Checksum>,
        path: &str,
    ) -> Result<Option<Checksum>, OstreeError> {
        let Some(label) = self.label(path, DIRECTORY | 0o755)? else {
            return Ok(present);
        };
        let key = (present.unwrap_or_default(), label);
        if let Some(labelled) = self.labelled.get(&key) {
            return Ok(Some(*labelled));
        }
        let metadata = match present {
            Some(checksum) => self.load_directory(&checksum)?,
            None => object::default_directory(),
        };
        let Some(metadata) = with_label(&metadata, &key.1) else {
            return Ok(present);
        };
        let variant = object::directory_variant(&metadata);
        let labelled = write_metadata(self.repo, ObjectType::DirMeta, &variant)?;
        self.labelled.insert(key, labelled);
        Ok(Some(labelled))
    }

    fn load_directory(&self, checksum: &Checksum) -> Result<Metadata, OstreeError> {
        let name = hex::encode(checksum);
        let variant = self
            .repo
            .load_variant(ObjectType::DirMeta, &name)
            .map_err(|error| OstreeError::libostree(format!("reading object {name}"), error))?;
        let number = |index| {
            variant
                .try_child_value(index)
                .and_then(|value| value.get::<u32>())
        };
        let numbers = number(0).zip(number(1)).zip(number(2));
        let (((uid, gid), mode), xattrs) =
            numbers
                .zip(variant.try_child_value(3))
                .ok_or(OstreeError::Name {
                    what: "directory metadata",
                    name,
                })?;
        let from = u32::from_be;
        Ok(Metadata {
            uid: from(uid),
            gid: from(gid),
            mode: from(mode),
            xattrs,
        })
    }

    fn file(&mut self, file: Checksum, path: &str) -> Result<Checksum, OstreeError> {
        let name = hex::encode(file);
        let reading = |error| OstreeError::libostree(format!("reading object {name}"), error);
        let metadata = match self.known.get(&file) {
            Some(metadata) => metadata.clone(),
            None => {
                let (info, xattrs) = self
                    .repo
                    .query_file(&name, gio::Cancellable::NONE)
                    .map_err(reading)?;
                let metadata = metadata_of(&info, xattrs);
                self.known.insert(file, metadata.clone());
                metadata
            }
        };
        let Some(label) = self.label(path, metadata.mode)? else {
            return Ok(file);
        };
        let Some(metadata) = with_label(&metadata, &label) else {
            return Ok(file);
        };
        let key = (file, label);
        if let Some(labelled) = self.labelled.get(&key) {
            return Ok(*labelled);
        }
        let (content, info, _) = self
            .repo
            .load_file(&name, gio::Cancellable::NONE)
            .map_err(reading)?;
        let labelled = match content {
            Some(content) => self.copy(&metadata, &info, content)?,
            None => {
                let target = info.symlink_target().unwrap_or_default();
                let target = target.to_string_lossy();
                self.write(object::content_header(&metadata, &target))?
            }
        };
        self.labelled.insert(key, labelled);
        Ok(labelled)
    }

    /// Writes the content of a regular file under other metadata.
    fn copy(
        &self,
        metadata: &Metadata,
        info: &gio::FileInfo,
        content: gio::InputStream,
    ) -> Result<Checksum, OstreeError> {
        let size = u64::try_from(info.size()).unwrap_or(0);
        let mut content = content.into_read();
        if size <= INLINE {
            let mut bytes = object::content_header(metadata, "");
            content.read_to_end(&mut bytes).map_err(relabelling)?;
            return self.write(bytes);
        }
        let failed = |error| OstreeError::libostree("labelling a large file", error);
        let Metadata {
            uid,
            gid,
            mode,
            xattrs,
        } = metadata;
        let output = self
            .repo
            .write_regfile(None, *uid, *gid, *mode, size, Some(xattrs))
            .map_err(failed)?;
        let mut buffer = vec![0; 256 << 10];
        loop {
            let length = content.read(&mut buffer).map_err(relabelling)?;
            if length == 0 {
                break;
            }
            let (_, error) = output
                .write_all(
                    buffer.get(..length).unwrap_or_default(),
                    gio::Cancellable::NONE,
                )
                .map_err(failed)?;
            error.map_or(Ok(()), |error| Err(failed(error)))?;
        }
        let name = output.finish(gio::Cancellable::NONE).map_err(failed)?;
        parse_checksum(&name).ok_or_else(|| OstreeError::Name {
            what: "object name from libostree",
            name: name.to_string(),
        })
    }

    fn write(&self, bytes: Vec<u8>) -> Result<Checksum, OstreeError> {
        let checksum = object::checksum(&bytes);
        let name = hex::encode(checksum);
        let length = bytes.len() as u64;
        let stream = gio::MemoryInputStream::from_bytes(&glib::Bytes::from_owned(bytes));
        self.repo
            .write_content_trusted(&name, &stream, length, gio::Cancellable::NONE)
            .map_err(|error| OstreeError::libostree(format!("writing object {name}"), error))?;
        Ok(checksum)
    }
}

fn metadata_of(info: &gio::FileInfo, xattrs: Variant) -> Metadata {
    Metadata {
        uid: info.attribute_uint32("unix::uid"),
        gid: info.attribute_uint32("unix::gid"),
        mode: info.attribute_uint32("unix::mode"),
        xattrs,
    }
}

/// Returns `metadata` with the label, or `None` where it has that label already.
fn with_label(metadata: &Metadata, label: &str) -> Option<Metadata> {
    let mut xattrs: Vec<(Vec<u8>, Vec<u8>)> = Vec::new();
    for pair in metadata.xattrs.iter() {
        let bytes = |index| {
            let part: Option<Variant> = pair.try_child_value(index);
            part.and_then(|part| part.fixed_array::<u8>().map(<[u8]>::to_vec).ok())
        };
        let (mut name, value) = bytes(0).zip(bytes(1)).unwrap_or_default();
        name.pop();
        if name == ATTRIBUTE && value.strip_suffix(b"\0") == Some(label.as_bytes()) {
            return None;
        }
        xattrs.push((name, value));
    }
    Some(Metadata {
        xattrs: set_label(xattrs, label),
        ..metadata.clone()
    })
}

/// Returns extended attributes (names without NUL) with `label` in place of any other, as OSTree stores them.
pub(super) fn set_label(mut xattrs: Vec<(Vec<u8>, Vec<u8>)>, label: &str) -> Variant {
    xattrs.retain(|(name, _)| name != ATTRIBUTE);
    xattrs.push((ATTRIBUTE.to_vec(), [label.as_bytes(), b"\0"].concat()));
    xattrs.sort();
    object::xattrs_variant(&xattrs)
}

/// Writes the regular files of a policy below `target`, which is a new directory of ours.
fn unpack(
    repo: &Repo,
    directory: &Directory,
    target: &Path,
    budget: &mut u64,
) -> Result<(), OstreeError> {
    for (name, node) in &directory.children {
        // Trees hold plain names only: nothing here leaves `target`.
        let path = target.join(name);
        match node {
            Node::Directory(below) => {
                fs::create_dir(&path).map_err(unpacking)?;
                unpack(repo, below, &path, budget)?;
            }
            Node::File(file) => {
                let name = hex::encode(file);
                let (content, _, _) = repo
                    .load_file(&name, gio::Cancellable::NONE)
                    .map_err(|error| OstreeError::libostree(format!("reading {name}"), error))?;
                let Some(content) = content else { continue };
                let mut file = fs::File::create_new(&path).map_err(unpacking)?;
                let mut content = content.into_read().take(*budget + 1);
                let copied = io::copy(&mut content, &mut file).map_err(unpacking)?;
                *budget = budget.checked_sub(copied).ok_or_else(|| {
                    unpacking(io::Error::other("the policy is larger than 256 MiB"))
                })?;
            }
        }
    }
    Ok(())
}

fn unpacking(source: io::Error) -> OstreeError {
    OstreeError::io("unpacking the image's SELinux policy", source)
}

fn relabelling(source: io::Error) -> OstreeError {
    OstreeError::io("labelling a file", source)
}
