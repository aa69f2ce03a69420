//! A bundle in the making: a layout beside its final place, resumable until it is whole.
//!
//! Work happens in `PATH.partial`. A blob that is whole there has its final name; one that is not
//! ends in `.partial` and goes on where it stopped. What an earlier run left is hashed again before
//! it counts. Publishing removes whatever the bundle does not list, makes everything durable and
//! renames the directory, so that PATH is whole or absent at every instant.
//!
//! Threat: PATH lies where others can write, and links wait in PATH.partial to have something else
//! overwritten. Defence: everything is opened relative to directory handles and without following
//! links; a file with a second name is refused.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Seek as _, Write as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundle_format::chunk::CHUNK_BYTES;
use bundle_format::layout::{BLOBS_PATH, INDEX_PATH, OCI_LAYOUT, OCI_LAYOUT_PATH};
use bundle_format::{BlobEntry, Digest};
use cap_std_ext::cap_std;
use cap_std_ext::dirext::CapStdExtDirExt as _;
use rustix::fs::{AtFlags, CWD, FlockOperation, Mode, OFlags, RenameFlags, ResolveFlags};
use sha2::{Digest as _, Sha256};

use crate::Error;

/// Longest note, in bytes.
const NOTE: u64 = 256;

/// The directory a bundle is assembled in, locked against a second run.
#[derive(Debug)]
pub struct Staging {
    target: PathBuf,
    path: PathBuf,
    lock: OwnedFd,
    blobs: Arc<OwnedFd>,
    dir: cap_std::fs::Dir,
}

/// A blob on its way in; hashed as it arrives.
#[derive(Debug)]
pub struct BlobWriter {
    blob: BlobEntry,
    blobs: Arc<OwnedFd>,
    partial: String,
    whole: String,
    /// For messages.
    path: PathBuf,
    file: File,
    received: u64,
    hash: Sha256,
    chunk: Sha256,
    in_chunk: u64,
    chunks: Vec<Digest>,
}

/// How a finished blob turned out.
#[derive(Debug)]
pub enum Finished {
    /// Every byte is what the digest says; the hashes of its chunks.
    Whole(Vec<Digest>),
    /// The bytes have another digest; the partial file is gone.
    WrongDigest {
        /// Digest of what arrived.
        found: Digest,
    },
}

impl Staging {
    /// Refuses a target that exists, before anything is fetched for it.
    ///
    /// # Errors
    /// [`Error::Exists`].
    pub fn check_target(target: &Path) -> Result<(), Error> {
        match target.symlink_metadata() {
            Ok(_) => Err(Error::Exists {
                path: target.into(),
            }),
            Err(_) => Ok(()),
        }
    }

    /// Opens `TARGET.partial`, making it or going on with what an earlier run left.
    ///
    /// # Errors
    /// Fails where the target exists, another run holds the lock, or the directory cannot be made.
    pub fn open(target: &Path) -> Result<Self, Error> {
        Self::check_target(target)?;
        let name = target.file_name().ok_or_else(|| Error::Usage {
            option: "--output".into(),
            problem: format!("{} has no name for a bundle", target.display()),
            hint: "give a path such as /media/stick/appliance-1.2.3".into(),
        })?;
        let mut partial = name.to_os_string();
        partial.push(".partial");
        let path = target.with_file_name(partial);
        match fs::create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::file("creating", path, e));
            }
            _ => {}
        }
        check_ours(&path)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = rustix::fs::openat(CWD, &path, flags, Mode::empty())
            .map_err(|e| Error::file("opening", &path, e.into()))?;
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(
            |e| match e {
                rustix::io::Errno::WOULDBLOCK => Error::Busy { path: path.clone() },
                e => Error::file("locking", &path, e.into()),
            },
        )?;
        let fail = |e: io::Error| Error::file("opening", &path, e);
        let dir = cap_std::fs::Dir::reopen_dir(&lock).map_err(fail)?;
        dir.create_dir_all(BLOBS_PATH)
            .map_err(|e| Error::file("creating", path.join(BLOBS_PATH), e))?;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let blobs = rustix::fs::openat2(&lock, BLOBS_PATH, flags, Mode::empty(), resolve)
            .map_err(|e| Error::file("opening", path.join(BLOBS_PATH), e.into()))?;
        Ok(Self {
            target: target.into(),
            path,
            lock,
            blobs: Arc::new(blobs),
            dir,
        })
    }

    /// Returns the directory that work happens in.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Begins or resumes a blob; [`BlobWriter::received`] tells how much is there already.
    ///
    /// # Errors
    /// Fails where the file cannot be made or read back.
    pub fn blob(&self, blob: BlobEntry) -> Result<BlobWriter, Error> {
        let whole = blob.digest.to_hex();
        let partial = format!("{whole}.partial");
        let path = self.path.join(BLOBS_PATH).join(&partial);
        let fail = |e: io::Error| Error::file("resuming", &path, e);
        if !exists(&self.blobs, &partial).map_err(fail)? {
            match rustix::fs::renameat(&*self.blobs, &whole, &*self.blobs, &partial) {
                Ok(()) | Err(rustix::io::Errno::NOENT) => {}
                Err(e) => return Err(fail(e.into())),
            }
        }
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::NONBLOCK;
        let file = open_plain(&self.blobs, &partial, flags).map_err(fail)?;
        let mut writer = BlobWriter {
            blob,
            blobs: Arc::clone(&self.blobs),
            partial,
            whole,
            path,
            file,
            received: 0,
            hash: Sha256::new(),
            chunk: Sha256::new(),
            in_chunk: 0,
            chunks: Vec::new(),
        };
        writer
            .rehash()
            .map_err(|e| Error::file("resuming", &writer.path, e))?;
        Ok(writer)
    }

    /// Stores a small blob whole.
    ///
    /// # Errors
    /// Fails where it cannot be written.
    pub fn put(&self, bytes: &[u8]) -> Result<BlobEntry, Error> {
        let entry = BlobEntry {
            digest: Digest::of(bytes),
            size: bytes.len() as u64,
        };
        let path = entry.digest.blob_path();
        self.dir
            .atomic_write(&path, bytes)
            .map_err(|e| Error::file("writing", self.path.join(&path), e))?;
        Ok(entry)
    }

    /// Opens a blob that is whole here.
    ///
    /// # Errors
    /// Fails where it is not there.
    pub fn open_blob(&self, digest: &Digest) -> Result<File, Error> {
        let name = digest.to_hex();
        let flags = OFlags::RDONLY | OFlags::NONBLOCK;
        open_plain(&self.blobs, &name, flags)
            .map_err(|e| Error::file("opening", self.path.join(BLOBS_PATH).join(&name), e))
    }

    /// Returns the blob that an earlier run noted under `key`, if it is still there.
    ///
    /// # Errors
    /// Fails where a note is there and cannot be read.
    pub fn note(&self, key: &Digest) -> Result<Option<BlobEntry>, Error> {
        let name = note_name(key);
        let fail = |e| Error::file("reading", self.path.join(&name), e);
        let mut text = String::new();
        match open_plain(&self.lock, &name, OFlags::RDONLY | OFlags::NONBLOCK) {
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) => return Err(fail(e)),
            Ok(file) => file.take(NOTE).read_to_string(&mut text).map_err(fail)?,
        };
        // A note that makes no sense is no note.
        let entry = text.split_once(' ').and_then(|(digest, size)| {
            Some(BlobEntry {
                digest: digest.parse().ok()?,
                size: size.parse().ok()?,
            })
        });
        let there = |entry: &BlobEntry| exists(&self.blobs, &entry.digest.to_hex());
        match entry {
            Some(entry) if there(&entry).map_err(fail)? => Ok(Some(entry)),
            _ => Ok(None),
        }
    }

    /// Notes a blob under `key` for a later run; publishing forgets it.
    ///
    /// # Errors
    /// Fails where it cannot be written.
    pub fn set_note(&self, key: &Digest, entry: BlobEntry) -> Result<(), Error> {
        let name = note_name(key);
        let text = format!("{} {}", entry.digest, entry.size);
        self.dir
            .atomic_write(&name, text)
            .map_err(|e| Error::file("writing", self.path.join(&name), e))
    }

    /// Makes the bundle whole: writes `index.json`, drops what `blobs` does not list, syncs, and
    /// gives it its final name: the directory's, or for a name in `.tar` that of one file.
    ///
    /// `blobs` is the order of a tar file, so that reading a bundle reads it front to back.
    ///
    /// # Errors
    /// Fails where something cannot be written; the staging directory then stays.
    pub fn publish(self, blobs: &[BlobEntry], index_json: &[u8]) -> Result<(), Error> {
        let keep: BTreeSet<_> = blobs.iter().map(|b| b.digest.to_hex()).collect();
        let layout = |name: &str| ["blobs", OCI_LAYOUT_PATH, INDEX_PATH].contains(&name);
        self.sweep("", &layout)?;
        self.sweep("blobs", &|name| name == "sha256")?;
        self.sweep(BLOBS_PATH, &|name| keep.contains(name))?;
        for name in &keep {
            readable(&self.blobs, name)
                .map_err(|e| Error::file("writing", self.path.join(BLOBS_PATH).join(name), e))?;
        }
        for (name, bytes) in [(OCI_LAYOUT_PATH, OCI_LAYOUT), (INDEX_PATH, index_json)] {
            // Replaces whatever has the name, without writing through it.
            self.dir
                .atomic_write(name, bytes)
                .and_then(|()| readable(&self.lock, name))
                .map_err(|e| Error::file("writing", self.path.join(name), e))?;
        }
        if is_tar(&self.target) {
            return self.publish_tar(blobs);
        }
        self.sync()?;
        rename_new(&self.path, &self.target)?;
        self.sync()
    }

    /// Writes the layout as one tar file and removes the directory.
    fn publish_tar(self, blobs: &[BlobEntry]) -> Result<(), Error> {
        let mut name = self.path.clone().into_os_string();
        name.push(".tar");
        let partial = PathBuf::from(name);
        let fail = |e| Error::file("writing", &partial, e);
        let paths = [OCI_LAYOUT_PATH.into(), INDEX_PATH.into()];
        let paths = paths
            .into_iter()
            .chain(blobs.iter().map(|b| b.digest.blob_path()));
        let file = File::create(&partial).map_err(fail)?;
        super::tar::write(&self.path, paths, &file).map_err(fail)?;
        file.sync_all().map_err(fail)?;
        rename_new(&partial, &self.target)?;
        fs::remove_dir_all(&self.path).map_err(|e| Error::file("removing", &self.path, e))?;
        self.sync()
    }

    fn sync(&self) -> Result<(), Error> {
        rustix::fs::syncfs(&self.lock).map_err(|e| Error::file("syncing", &self.target, e.into()))
    }

    /// Removes from a directory whatever an earlier run, or somebody else, left there.
    fn sweep(&self, directory: &str, keep: &dyn Fn(&str) -> bool) -> Result<(), Error> {
        let directory = self.path.join(directory);
        let listing = fs::read_dir(&directory).map_err(|e| Error::file("reading", &directory, e));
        for item in listing? {
            let item = item.map_err(|e| Error::file("reading", &directory, e))?;
            if !item.file_name().to_str().is_some_and(keep) {
                fs::remove_file(item.path())
                    .map_err(|e| Error::file("removing", item.path(), e))?;
            }
        }
        Ok(())
    }
}

/// Names a note so that publishing sweeps it away, and another run knows it as ours.
fn note_name(key: &Digest) -> String {
    format!(".tmp-note-{}", key.to_hex())
}

/// Returns true for a bundle that is to be one tar file.
fn is_tar(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == "tar")
}

/// Refuses a directory that some other program filled, before anything in it is removed.
fn check_ours(path: &Path) -> Result<(), Error> {
    let fail = |e| Error::file("reading", path, e);
    for item in fs::read_dir(path).map_err(fail)? {
        let name = item.map_err(fail)?.file_name();
        let ours = ["blobs", OCI_LAYOUT_PATH, INDEX_PATH];
        // A killed run leaves temporary files; publishing sweeps them away.
        let temporary = name.as_encoded_bytes().starts_with(b".tmp");
        if !temporary && !ours.iter().any(|ours| name == *ours) {
            let problem = format!(
                "{} holds {}, which no export wrote",
                path.display(),
                name.display()
            );
            return Err(Error::Usage {
                option: "--output".into(),
                problem,
                hint: "choose another path, or move that directory away".into(),
            });
        }
    }
    Ok(())
}

/// Renames without replacing.
fn rename_new(from: &Path, to: &Path) -> Result<(), Error> {
    rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)
        .or_else(|e| match e {
            // Some file systems of sticks know no flags; the target was absent when we began.
            rustix::io::Errno::INVAL | rustix::io::Errno::NOSYS => {
                rustix::fs::renameat(CWD, from, CWD, to)
            }
            e => Err(e),
        })
        .map_err(|e| match e {
            rustix::io::Errno::EXIST => Error::Exists { path: to.into() },
            e => Error::file("publishing", to, e.into()),
        })
}

impl BlobWriter {
    /// Returns how many bytes are there.
    pub fn received(&self) -> u64 {
        self.received
    }

    /// Appends bytes.
    ///
    /// # Errors
    /// Fails where they cannot be written, and where they exceed the blob's size.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let after = self.received.saturating_add(bytes.len() as u64);
        if after > self.blob.size {
            return Err(io::Error::other(format!(
                "more than {} bytes",
                self.blob.size
            )));
        }
        self.file.write_all(bytes)?;
        self.hash_part(bytes);
        Ok(())
    }

    /// Ends the blob: checks digest and size, makes it durable, gives it its final name.
    ///
    /// # Errors
    /// Fails where the file cannot be synced or renamed.
    pub fn finish(mut self) -> Result<Finished, Error> {
        if self.in_chunk > 0 {
            let chunk = std::mem::take(&mut self.chunk);
            self.chunks
                .push(Digest::from_bytes(chunk.finalize().into()));
        }
        let found = match self.chunks.as_slice() {
            [only] => *only,
            _ => Digest::from_bytes(self.hash.finalize().into()),
        };
        if found != self.blob.digest || self.received != self.blob.size {
            rustix::fs::unlinkat(&*self.blobs, &self.partial, AtFlags::empty())
                .map_err(|e| Error::file("removing", &self.path, e.into()))?;
            return Ok(Finished::WrongDigest { found });
        }
        self.file
            .sync_data()
            .map_err(|e| Error::file("syncing", &self.path, e))?;
        rustix::fs::renameat(&*self.blobs, &self.partial, &*self.blobs, &self.whole)
            .map_err(|e| Error::file("renaming", &self.path, e.into()))?;
        Ok(Finished::Whole(self.chunks))
    }

    /// Hashes what an earlier run left and cuts what is too much.
    fn rehash(&mut self) -> io::Result<()> {
        if self.file.metadata()?.len() > self.blob.size {
            self.file.set_len(0)?;
        }
        let mut buffer = vec![0; CHUNK_BYTES as usize];
        loop {
            let count = self.file.read(&mut buffer)?;
            let Some(part) = buffer.get(..count).filter(|part| !part.is_empty()) else {
                break;
            };
            self.hash_part(part);
        }
        self.file.seek(io::SeekFrom::Start(self.received))?;
        Ok(())
    }

    fn hash_part(&mut self, mut bytes: &[u8]) {
        self.received += bytes.len() as u64;
        // A blob of one chunk has its digest for its chunk hash; hashing it once is enough.
        if self.blob.size > CHUNK_BYTES {
            self.hash.update(bytes);
        }
        while !bytes.is_empty() {
            let room = (CHUNK_BYTES - self.in_chunk).min(bytes.len() as u64);
            let (part, rest) = bytes.split_at(room as usize);
            self.chunk.update(part);
            self.in_chunk += room;
            if self.in_chunk == CHUNK_BYTES {
                let chunk = std::mem::take(&mut self.chunk);
                self.chunks
                    .push(Digest::from_bytes(chunk.finalize().into()));
                self.in_chunk = 0;
            }
            bytes = rest;
        }
    }
}

fn exists(directory: &OwnedFd, name: &str) -> io::Result<bool> {
    match rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(_) => Ok(true),
        Err(rustix::io::Errno::NOENT) => Ok(false),
        Err(e) => Err(e.into()),
    }
}

/// Opens a regular file that has one name and is no link.
fn open_plain(directory: &OwnedFd, name: &str, flags: OFlags) -> io::Result<File> {
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = File::from(rustix::fs::openat(
        directory,
        name,
        flags,
        Mode::from_raw_mode(0o644),
    )?);
    let stat = rustix::fs::fstat(&file)?;
    let regular = rustix::fs::FileType::from_raw_mode(stat.st_mode).is_file();
    if !regular || stat.st_nlink > 1 {
        return Err(io::Error::other(
            "is no plain file of an earlier run; remove it",
        ));
    }
    Ok(file)
}

/// Lets everybody read a file of the bundle, whatever the umask and the writer chose.
fn readable(directory: &OwnedFd, name: &str) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let file = open_plain(directory, name, OFlags::RDONLY | OFlags::NONBLOCK)?;
    match file.set_permissions(fs::Permissions::from_mode(0o644)) {
        // Sticks with vfat or exfat have no modes to set.
        Err(e) if e.kind() == io::ErrorKind::PermissionDenied => Ok(()),
        other => other,
    }
}
