//! Imports a plain layer: each entry of its archive becomes an object and a name in the layer's tree.
//!
//! Modes are kept as signed, set-id bits too, wherever the file is. Of two entries for one path the last wins, as it does
//! when an archive is unpacked. Device nodes and FIFOs are refused, since OSTree has no objects for them; in directories
//! whose content is left out, such as `/dev`, they are left out with it.
//!
//! Threats: see [`tar_entries`](super::tar_entries) for paths; here, entries that write through a symbolic link or a file
//! of the same layer, hard links to what is not a file of the image, device nodes, whiteouts that carry content. Defences:
//! the tree is built in memory from checked names, so nothing is followed; what has no meaning in it is refused.

use std::collections::HashMap;

use ::ostree::{ObjectType, gio};

use super::error::{OstreeError, RejectReason};
use super::image::ImageLayer;
use super::object::{self, Checksum, DIRECTORY, Metadata, REGULAR, SYMLINK};
use super::selinux;
use super::session::Session;
use super::tar_entries::{Marker, Place, marker};
use super::tar_reader::{Entry, Kind, TarReader};
use super::tree::{Directory, Node};
use super::writer::{self, INLINE, ObjectWriter};

/// Longest target of a symbolic link that Linux takes.
const MAX_TARGET: usize = 4095;

/// Imports the entries of `layer` into the open transaction and returns its tree, whiteouts included.
///
/// `lower` is the union of the layers below, for hard links that reach into them.
pub(super) fn import(
    session: &Session<'_>,
    layer: &ImageLayer,
    lower: &Directory,
) -> Result<Directory, OstreeError> {
    session.run(layer, |tar, writer| {
        let mut importer = Importer {
            session,
            lower,
            tree: Directory::default(),
            shipped: HashMap::new(),
        };
        while let Some(entry) = tar.next()? {
            session.count(layer)?;
            importer.entry(&entry, tar, writer)?;
        }
        Ok(importer.tree)
    })
}

struct Importer<'a> {
    session: &'a Session<'a>,
    lower: &'a Directory,
    tree: Directory,
    /// Files that the layer ships below `sysroot/ostree/repo/objects`: container builds on a chunked base write
    /// changed files there, and hard links to them at their paths.
    shipped: HashMap<String, Checksum>,
}

impl Importer<'_> {
    fn entry<R: std::io::Read>(
        &mut self,
        entry: &Entry,
        tar: &mut TarReader<'_, R>,
        writer: &mut ObjectWriter<'_>,
    ) -> Result<(), OstreeError> {
        let place = self.session.layout.place(&entry.path, self.session.limits);
        let place = place.map_err(|reason| tar.reject(&entry.path, reason))?;
        let path = match &place {
            Place::Excluded => return Ok(()),
            Place::Object(path) if entry.kind == Kind::File => {
                let metadata = self.metadata("", entry, REGULAR | entry.mode)?;
                let file = write_file(&metadata, entry, tar, writer)?;
                self.shipped.insert(path.clone(), file);
                return Ok(());
            }
            Place::Object(_) => return Ok(()),
            Place::Root if entry.kind == Kind::Directory => "",
            Place::Root => return Err(tar.reject(&entry.path, kind_reason(entry.kind))),
            Place::At(path) => path,
        };
        if !check_markers(path, entry).map_err(|reason| tar.reject(&entry.path, reason))? {
            return Ok(());
        }
        let put = match entry.kind {
            Kind::Directory => {
                let metadata = self.metadata(path, entry, DIRECTORY | entry.mode)?;
                self.tree
                    .put_directory(path, writer.put_directory(&metadata)?)
            }
            Kind::File => {
                let metadata = self.metadata(path, entry, REGULAR | entry.mode)?;
                let file = write_file(&metadata, entry, tar, writer)?;
                self.tree.put_file(path, file)
            }
            Kind::Symlink => {
                let target = symlink_target(entry);
                let target = target.map_err(|reason| tar.reject(&entry.path, reason))?;
                let metadata = self.metadata(path, entry, SYMLINK | 0o777)?;
                let link = writer.put(object::content_header(&metadata, target))?;
                self.tree.put_file(path, link)
            }
            Kind::Hardlink => match self.link_target(entry)? {
                Some(file) => self.tree.put_file(path, file),
                None => Err(RejectReason::LinkTarget {
                    target: String::from_utf8_lossy(&entry.link)
                        .chars()
                        .take(200)
                        .collect(),
                }),
            },
            Kind::Other(_) => Err(kind_reason(entry.kind)),
        };
        put.map_err(|reason| tar.reject(&entry.path, reason))
    }

    /// Returns what the object of an entry at `path` records beside content.
    fn metadata(&self, path: &str, entry: &Entry, mode: u32) -> Result<Metadata, OstreeError> {
        let label = match &self.session.labeler {
            Some(labeler) => labeler.label(&format!("/{path}"), mode)?,
            None => None,
        };
        let xattrs = match label {
            Some(label) => selinux::set_label(entry.xattrs.clone(), &label),
            None => object::xattrs_variant(&entry.xattrs),
        };
        Ok(Metadata {
            uid: entry.uid,
            gid: entry.gid,
            mode,
            xattrs,
        })
    }

    /// Returns the file that a hard link names, in this layer or one below it.
    fn link_target(&self, entry: &Entry) -> Result<Option<Checksum>, OstreeError> {
        let Ok(place) = self.session.layout.place(&entry.link, self.session.limits) else {
            return Ok(None);
        };
        match place {
            Place::At(path) => Ok(
                match self.tree.get(&path).or_else(|| self.lower.get(&path)) {
                    Some(Node::File(file)) => Some(*file),
                    _ => None,
                },
            ),
            Place::Object(path) => match self.shipped.get(&path) {
                Some(file) => Ok(Some(*file)),
                None => self.base_object(&path),
            },
            Place::Root | Place::Excluded => Ok(None),
        }
    }

    /// Returns the object of a chunked base that `path` names, if the repository has it.
    fn base_object(&self, path: &str) -> Result<Option<Checksum>, OstreeError> {
        let name = path
            .strip_suffix(".file")
            .and_then(|path| path.split_once('/'));
        let name = name
            .map(|(shard, rest)| format!("{shard}{rest}"))
            .unwrap_or_default();
        let Some(checksum) = writer::parse_checksum(&name) else {
            return Ok(None);
        };
        let exists = self
            .session
            .repo
            .has_object(ObjectType::File, &name, gio::Cancellable::NONE);
        let exists = exists
            .map_err(|error| OstreeError::libostree(format!("looking for object {name}"), error))?;
        Ok(exists.then_some(checksum))
    }
}

/// Checks the whiteout names in `path`; `false` means that the entry is AUFS's own business and left out.
fn check_markers(path: &str, entry: &Entry) -> Result<bool, RejectReason> {
    let mut names = path.split('/').peekable();
    while let Some(name) = names.next() {
        let empty_file = names.peek().is_none()
            && entry.size == 0
            && matches!(entry.kind, Kind::File | Kind::Hardlink);
        match marker(name) {
            Marker::None => {}
            Marker::Meta => return Ok(false),
            Marker::Whiteout(_) | Marker::Opaque if empty_file => {}
            _ => return Err(RejectReason::Whiteout),
        }
    }
    Ok(true)
}

fn kind_reason(kind: Kind) -> RejectReason {
    let flag = match kind {
        Kind::File => b'0',
        Kind::Hardlink => b'1',
        Kind::Symlink => b'2',
        Kind::Directory => b'5',
        Kind::Other(flag) => flag,
    };
    RejectReason::Kind {
        kind: char::from(flag),
    }
}

fn write_file<R: std::io::Read>(
    metadata: &Metadata,
    entry: &Entry,
    tar: &mut TarReader<'_, R>,
    writer: &mut ObjectWriter<'_>,
) -> Result<Checksum, OstreeError> {
    if entry.size > INLINE {
        return writer.put_large(metadata, entry.size, None, &mut |buffer| tar.read(buffer));
    }
    writer.put(read_object(metadata, entry, tar)?)
}

/// Reads a small file into memory, behind the header of its object.
pub(super) fn read_object<R: std::io::Read>(
    metadata: &Metadata,
    entry: &Entry,
    tar: &mut TarReader<'_, R>,
) -> Result<Vec<u8>, OstreeError> {
    let mut bytes = object::content_header(metadata, "");
    let mut position = bytes.len();
    bytes.resize(position + usize::try_from(entry.size).unwrap_or(0), 0);
    while position < bytes.len() {
        match tar.read(bytes.get_mut(position..).unwrap_or_default())? {
            0 => return Err(tar.reject(&entry.path, RejectReason::Truncated)),
            read => position += read,
        }
    }
    Ok(bytes)
}

/// Returns the target of a symbolic link; where it points does not matter, since nothing here follows it.
pub(super) fn symlink_target(entry: &Entry) -> Result<&str, RejectReason> {
    let target = std::str::from_utf8(&entry.link).map_err(|_| RejectReason::SymlinkTarget)?;
    if target.is_empty() || target.len() > MAX_TARGET || target.contains('\0') {
        return Err(RejectReason::SymlinkTarget);
    }
    Ok(target)
}
