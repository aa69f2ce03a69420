//! Imports the layers of a chunked ("ostree-native") base, in which ostree-ext packs an OSTree commit.
//!
//! Such layers hold `sysroot/ostree/repo/objects/xx/….<type>` entries; the hard links to them at ordinary paths are for
//! container runtimes and ignored here. The first layer holds the commit and its metadata objects, the others content.
//!
//! Threats: objects whose content is not what their name says, metadata objects with names that leave the tree, commits
//! whose objects are missing. Defences: every object is hashed and compared with its name, metadata must be in normal form
//! and pass libostree's validation, and a commit is referenced only when everything it reaches is present.

use std::collections::{BTreeMap, HashMap};

use ::ostree::glib::{self, Variant};
use ::ostree::{ObjectType, gio};

use super::error::{OstreeError, RejectReason};
use super::image::ImageLayer;
use super::layer;
use super::object::{self, Checksum, Metadata, REGULAR, SYMLINK};
use super::session::Session;
use super::tar_entries::Place;
use super::tar_reader::{Entry, Kind, TarReader};
use super::tree::{Directory, Node};
use super::writer::{self, INLINE, ObjectWriter};

/// Bytes of all attribute sets that one layer may keep for later objects.
const MAX_XATTR_SETS: usize = 16 << 20;

/// Imports a layer of content objects, and returns the flat tree that keeps them: each under its own name.
pub(super) fn import_objects(
    session: &Session<'_>,
    layer: &ImageLayer,
) -> Result<Directory, OstreeError> {
    let importer = run(session, layer, false)?;
    let children = importer.files.into_iter();
    let children = children
        .map(|file| (hex::encode(file.0), Node::File(file.0)))
        .collect();
    Ok(Directory {
        metadata: None,
        children,
    })
}

/// Imports the layer with the commit, and returns the commit's name if there was one.
pub(super) fn import_commit(
    session: &Session<'_>,
    layer: &ImageLayer,
) -> Result<Option<String>, OstreeError> {
    Ok(run(session, layer, true)?.commit)
}

fn run<'a>(
    session: &'a Session<'a>,
    layer: &ImageLayer,
    takes_commit: bool,
) -> Result<Importer<'a>, OstreeError> {
    session.run(layer, |tar, writer| {
        let mut importer = Importer {
            session,
            takes_commit,
            commit: None,
            files: BTreeMap::new(),
            sets: HashMap::new(),
            set_bytes: 0,
            pending: None,
        };
        while let Some(entry) = tar.next()? {
            session.count(layer)?;
            let place = session.layout.place(&entry.path, session.limits);
            let place = place.map_err(|reason| tar.reject(&entry.path, reason))?;
            if let (Place::Object(path), false) = (place, entry.kind == Kind::Directory) {
                importer.object(&path, &entry, tar, writer)?;
            }
        }
        Ok(importer)
    })
}

struct Importer<'a> {
    session: &'a Session<'a>,
    takes_commit: bool,
    commit: Option<String>,
    files: BTreeMap<Checksum, ()>,
    /// Attribute sets by the hash of their serialised form.
    sets: HashMap<Checksum, Variant>,
    set_bytes: usize,
    /// The attributes of the file object that must follow.
    pending: Option<(Checksum, Variant)>,
}

impl Importer<'_> {
    fn object<R: std::io::Read>(
        &mut self,
        path: &str,
        entry: &Entry,
        tar: &mut TarReader<'_, R>,
        writer: &mut ObjectWriter<'_>,
    ) -> Result<(), OstreeError> {
        // The 256 directories are no files, so anything without a name of this form is out of place.
        let (name, kind) =
            object_name(path).ok_or_else(|| tar.reject(&entry.path, RejectReason::Object))?;
        match kind {
            "file" => self.file(name, entry, tar, writer),
            "file-xattrs" => {
                let set = self.read_set(entry, tar)?;
                if object::checksum(set.data()) == name {
                    Ok(())
                } else {
                    mismatch(tar, entry, &set)
                }
            }
            "file-xattrs-link" => self.link(name, entry, tar),
            "commit" if self.takes_commit && self.commit.is_none() => {
                let commit = self.metadata(ObjectType::Commit, name, entry, tar)?;
                self.commit = Some(commit);
                Ok(())
            }
            "dirtree" if self.takes_commit => self
                .metadata(ObjectType::DirTree, name, entry, tar)
                .map(drop),
            "dirmeta" if self.takes_commit => self
                .metadata(ObjectType::DirMeta, name, entry, tar)
                .map(drop),
            "commitmeta" if self.commit.as_deref() == Some(&hex::encode(name)) => {
                self.detached(name, entry, tar)
            }
            _ => Err(tar.reject(&entry.path, RejectReason::Object)),
        }
    }

    /// Imports a content object, whose attributes came before it.
    fn file<R: std::io::Read>(
        &mut self,
        name: Checksum,
        entry: &Entry,
        tar: &mut TarReader<'_, R>,
        writer: &mut ObjectWriter<'_>,
    ) -> Result<(), OstreeError> {
        let refuse = |reason| tar.reject(&entry.path, reason);
        let pending = self.pending.take().filter(|pending| pending.0 == name);
        let (_, xattrs) = pending.ok_or_else(|| refuse(RejectReason::Object))?;
        if self.files.insert(name, ()).is_some() {
            return Err(refuse(RejectReason::Object));
        }
        let metadata = Metadata {
            uid: entry.uid,
            gid: entry.gid,
            mode: 0,
            xattrs,
        };
        let bytes = match entry.kind {
            Kind::File => {
                let metadata = Metadata {
                    mode: REGULAR | entry.mode,
                    ..metadata
                };
                if entry.size > INLINE {
                    let expected = hex::encode(name);
                    return put_large(&metadata, &expected, entry, tar, writer);
                }
                layer::read_object(&metadata, entry, tar)?
            }
            Kind::Symlink => {
                let target = layer::symlink_target(entry).map_err(refuse)?;
                object::content_header(
                    &Metadata {
                        mode: SYMLINK | 0o777,
                        ..metadata
                    },
                    target,
                )
            }
            _ => return Err(refuse(RejectReason::Object)),
        };
        let found = object::checksum(&bytes);
        if found != name {
            let found = hex::encode(found);
            return Err(tar.reject(&entry.path, RejectReason::ObjectChecksum { found }));
        }
        writer.put_named(name, bytes)
    }

    /// Takes note of the attributes of the file object `name`, given in place or by a link to a set.
    fn link<R: std::io::Read>(
        &mut self,
        name: Checksum,
        entry: &Entry,
        tar: &mut TarReader<'_, R>,
    ) -> Result<(), OstreeError> {
        let refuse = |reason| tar.reject(&entry.path, reason);
        if self.pending.is_some() {
            return Err(refuse(RejectReason::Object));
        }
        let set = if entry.kind == Kind::Hardlink {
            let target = String::from_utf8_lossy(&entry.link);
            let set = target
                .rsplit_once("objects/")
                .and_then(|(_, path)| object_name(path));
            // Old exporters wrote targets relative to the object's own directory.
            let set = set.or_else(|| target.strip_prefix("../").and_then(object_name));
            let set = set
                .filter(|(_, kind)| *kind == "file-xattrs")
                .map(|(set, _)| set);
            let known = set.and_then(|set| self.sets.get(&set));
            known.cloned().ok_or_else(|| refuse(RejectReason::Object))?
        } else {
            self.read_set(entry, tar)?
        };
        self.pending = Some((name, set));
        Ok(())
    }

    /// Reads a set of attributes and keeps it for links.
    fn read_set<R: std::io::Read>(
        &mut self,
        entry: &Entry,
        tar: &mut TarReader<'_, R>,
    ) -> Result<Variant, OstreeError> {
        let limit = self.session.limits.xattrs as u64;
        let bytes = read_small(entry, limit, tar)?;
        let checksum = object::checksum(&bytes);
        if let Some(set) = self.sets.get(&checksum) {
            return Ok(set.clone());
        }
        self.set_bytes += bytes.len();
        let set = Variant::from_bytes::<Vec<(Vec<u8>, Vec<u8>)>>(&glib::Bytes::from_owned(bytes));
        let names_end = set.iter().all(|pair| {
            let name = pair.child_value(0);
            name.fixed_array::<u8>()
                .is_ok_and(|name| name.iter().position(|&b| b == 0) == Some(name.len() - 1))
        });
        if !set.is_normal_form() || !names_end || self.set_bytes > MAX_XATTR_SETS {
            return Err(tar.reject(&entry.path, RejectReason::Object));
        }
        self.sets.insert(checksum, set.clone());
        Ok(set)
    }

    /// Imports a commit, dirtree or dirmeta object, and returns its name in hexadecimal.
    fn metadata<R: std::io::Read>(
        &mut self,
        kind: ObjectType,
        name: Checksum,
        entry: &Entry,
        tar: &mut TarReader<'_, R>,
    ) -> Result<String, OstreeError> {
        let bytes = read_small(entry, self.session.limits.metadata, tar)?;
        let found = object::checksum(&bytes);
        let bytes = glib::Bytes::from_owned(bytes);
        let variant = match kind {
            ObjectType::Commit => Variant::from_bytes::<::ostree::CommitVariantType>(&bytes),
            ObjectType::DirTree => Variant::from_bytes::<::ostree::TreeVariantType>(&bytes),
            _ => Variant::from_bytes::<::ostree::DirmetaVariantType>(&bytes),
        };
        let valid = variant.is_normal_form()
            && match kind {
                ObjectType::Commit => ::ostree::validate_structureof_commit(&variant),
                ObjectType::DirTree => ::ostree::validate_structureof_dirtree(&variant),
                _ => ::ostree::validate_structureof_dirmeta(&variant),
            }
            .is_ok();
        if !valid {
            return Err(tar.reject(&entry.path, RejectReason::Object));
        }
        if found != name {
            let found = hex::encode(found);
            return Err(tar.reject(&entry.path, RejectReason::ObjectChecksum { found }));
        }
        let name = hex::encode(name);
        self.session
            .repo
            .write_metadata(kind, Some(&name), &variant, gio::Cancellable::NONE)
            .map_err(|error| OstreeError::libostree(format!("writing object {name}"), error))?;
        Ok(name)
    }

    /// Imports the detached metadata of the commit, which holds its signatures.
    fn detached<R: std::io::Read>(
        &mut self,
        name: Checksum,
        entry: &Entry,
        tar: &mut TarReader<'_, R>,
    ) -> Result<(), OstreeError> {
        let bytes = glib::Bytes::from_owned(read_small(entry, self.session.limits.metadata, tar)?);
        let variant = Variant::from_bytes_with_type(&bytes, glib::VariantTy::VARDICT);
        if !variant.is_normal_form() {
            return Err(tar.reject(&entry.path, RejectReason::Object));
        }
        let name = hex::encode(name);
        self.session
            .repo
            .write_commit_detached_metadata(&name, Some(&variant), gio::Cancellable::NONE)
            .map_err(|error| OstreeError::libostree(format!("writing metadata of {name}"), error))
    }
}

/// Splits `xx/yyyy….<type>` into the object's name and type.
fn object_name(path: &str) -> Option<(Checksum, &str)> {
    let (shard, rest) = path.split_once('/')?;
    let (rest, kind) = rest.split_once('.')?;
    if shard.len() != 2 {
        return None;
    }
    Some((writer::parse_checksum(&format!("{shard}{rest}"))?, kind))
}

fn mismatch<T, R: std::io::Read>(
    tar: &TarReader<'_, R>,
    entry: &Entry,
    found: &Variant,
) -> Result<T, OstreeError> {
    let found = hex::encode(object::checksum(found.data()));
    Err(tar.reject(&entry.path, RejectReason::ObjectChecksum { found }))
}

/// Reads a whole regular file of at most `limit` bytes.
fn read_small<R: std::io::Read>(
    entry: &Entry,
    limit: u64,
    tar: &mut TarReader<'_, R>,
) -> Result<Vec<u8>, OstreeError> {
    if entry.kind != Kind::File {
        return Err(tar.reject(&entry.path, RejectReason::Object));
    }
    if entry.size > limit {
        let reason = RejectReason::TooLong {
            what: "ostree object",
            limit,
        };
        return Err(tar.reject(&entry.path, reason));
    }
    let mut bytes = vec![0; usize::try_from(entry.size).unwrap_or(0)];
    let mut position = 0;
    while position < bytes.len() {
        match tar.read(bytes.get_mut(position..).unwrap_or_default())? {
            0 => return Err(tar.reject(&entry.path, RejectReason::Truncated)),
            read => position += read,
        }
    }
    Ok(bytes)
}

fn put_large<R: std::io::Read>(
    metadata: &Metadata,
    expected: &str,
    entry: &Entry,
    tar: &mut TarReader<'_, R>,
    writer: &mut ObjectWriter<'_>,
) -> Result<(), OstreeError> {
    let mut failure = None;
    let put = writer.put_large(metadata, entry.size, Some(expected), &mut |buffer| {
        tar.read(buffer).inspect_err(|_| failure = Some(()))
    });
    match put {
        // libostree says this of content that hashes to another name.
        Err(OstreeError::Libostree { source, .. })
            if failure.is_none() && source.message().contains("Corrupted") =>
        {
            let found = "another object".to_owned();
            Err(tar.reject(&entry.path, RejectReason::ObjectChecksum { found }))
        }
        put => put.map(drop),
    }
}
