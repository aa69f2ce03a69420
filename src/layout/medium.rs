//! A medium: the directory or tar file that holds a bundle.
//!
//! Threats: links that lead out of the bundle, devices and FIFOs that hang or act when opened,
//! another file system mounted inside, directories without end, files that change or vanish while
//! they are read. Defences: every open is relative to one directory handle and resolved by the
//! kernel beneath it, without links and without crossing mounts; opens never block; what is no
//! regular file with one name is reported, not read; listings are capped; a file is read through
//! one handle at explicit offsets, and whoever reads checks each chunk.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bundle_format::Limits;
use bundle_format::layout::BLOBS_PATH;
use rustix::fs::{AtFlags, Dir, FileType, Mode, OFlags, ResolveFlags};

use super::tar::TarIndex;

/// A place that holds a bundle, opened for reading.
#[derive(Debug)]
pub struct Medium {
    path: PathBuf,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Directory(OwnedFd),
    Tar(TarIndex),
}

/// Something a medium holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Path relative to the bundle's root; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// What it is.
    pub kind: EntryKind,
}

/// What an entry of a medium is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryKind {
    /// A regular file with one name.
    File {
        /// Size in bytes.
        size: u64,
    },
    /// Anything else, with the reason why it has no place in a bundle.
    Misplaced {
        /// Such as "a symbolic link".
        what: String,
    },
}

/// One file of a medium, read at offsets.
#[derive(Clone, Debug)]
pub struct MediumFile {
    file: Arc<File>,
    start: u64,
    size: u64,
}

impl Medium {
    /// Opens a directory or tar file.
    ///
    /// # Errors
    /// Fails where `path` is neither, or cannot be opened.
    pub fn open(path: &Path, limits: &Limits) -> io::Result<Self> {
        let fd = rustix::fs::open(path, READ | OFlags::CLOEXEC, Mode::empty())?;
        let kind = match FileType::from_raw_mode(rustix::fs::fstat(&fd)?.st_mode) {
            FileType::Directory => Kind::Directory(fd),
            FileType::RegularFile => Kind::Tar(TarIndex::read(File::from(fd), limits)?),
            _ => return Err(io::Error::other("neither a directory nor a tar file")),
        };
        Ok(Self {
            path: path.to_path_buf(),
            kind,
        })
    }

    /// Returns the path the medium was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Lists everything on the medium.
    ///
    /// In a directory only the three directories of a layout are entered; others are one entry.
    ///
    /// # Errors
    /// Fails where a directory cannot be read or has more entries than the cap.
    pub fn entries(&self, limits: &Limits) -> io::Result<Vec<Entry>> {
        let root = match &self.kind {
            Kind::Tar(index) => return Ok(index.entries()),
            Kind::Directory(root) => root,
        };
        let mut entries = Vec::new();
        list(root, "", &mut entries, limits)?;
        for directory in ["blobs", BLOBS_PATH] {
            let place = entries.iter().position(|e| is_directory(e, directory));
            if let Some(place) = place {
                entries.swap_remove(place);
                let fd = open_beneath(root, directory, READ | OFlags::DIRECTORY)?;
                list(&fd, directory, &mut entries, limits)?;
            }
        }
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        Ok(entries)
    }

    /// Opens one file.
    ///
    /// # Errors
    /// Fails where it is missing or no regular file; the latter says so in words, under
    /// [`io::ErrorKind::InvalidInput`].
    pub fn file(&self, path: &str) -> io::Result<MediumFile> {
        let root = match &self.kind {
            Kind::Tar(index) => return index.file(path),
            Kind::Directory(root) => root,
        };
        // Looked at before it is opened: to open a device can start or rewind something.
        regular(&open_beneath(root, path, OFlags::PATH)?)?;
        let fd = open_beneath(root, path, READ)?;
        let size = regular(&fd)?;
        // A hint to read ahead; a file system that cannot does not matter.
        rustix::fs::fadvise(&fd, 0, None, rustix::fs::Advice::Sequential).ok();
        Ok(MediumFile {
            file: Arc::new(File::from(fd)),
            start: 0,
            size,
        })
    }
}

impl MediumFile {
    pub(super) fn within(file: Arc<File>, start: u64, size: u64) -> Self {
        Self { file, start, size }
    }

    /// Returns the size in bytes when the file was opened.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Fills `buffer` from `offset` on.
    ///
    /// # Errors
    /// Fails at the end of the file and on read errors.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.size) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.file
            .read_exact_at(buffer, self.start.saturating_add(offset))
    }

    /// Reads the whole file if it has at most `cap` bytes.
    ///
    /// # Errors
    /// Fails where it is larger or cannot be read.
    pub fn read_capped(&self, cap: u64) -> io::Result<Vec<u8>> {
        if self.size > cap {
            let detail = format!("has {} bytes, at most {cap} are read", self.size);
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, detail));
        }
        let mut bytes = vec![0; usize::try_from(self.size).map_err(io::Error::other)?];
        self.read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }
}

fn is_directory(entry: &Entry, path: &str) -> bool {
    entry.path == path
        && matches!(&entry.kind, EntryKind::Misplaced { what } if what == "a directory")
}

/// How everything is opened: for reading, without waiting for anybody.
const READ: OFlags = OFlags::RDONLY.union(OFlags::NONBLOCK).union(OFlags::NOCTTY);

/// Returns the size of what is a regular file with one name, and refuses anything else.
fn regular(fd: &OwnedFd) -> io::Result<u64> {
    match kind_of(&rustix::fs::fstat(fd)?) {
        EntryKind::File { size } => Ok(size),
        EntryKind::Misplaced { what } => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("is {what}"),
        )),
    }
}

fn open_beneath(root: &OwnedFd, path: &str, flags: OFlags) -> io::Result<OwnedFd> {
    let flags = flags | OFlags::CLOEXEC;
    let resolve = ResolveFlags::BENEATH
        | ResolveFlags::NO_SYMLINKS
        | ResolveFlags::NO_MAGICLINKS
        | ResolveFlags::NO_XDEV;
    Ok(rustix::fs::openat2(
        root,
        path,
        flags,
        Mode::empty(),
        resolve,
    )?)
}

fn list(fd: &OwnedFd, base: &str, entries: &mut Vec<Entry>, limits: &Limits) -> io::Result<()> {
    for item in Dir::read_from(fd)? {
        let item = item?;
        let name = item.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        if entries.len() >= limits.medium_entries {
            let cap = limits.medium_entries;
            return Err(io::Error::other(format!(
                "more than {cap} files and directories"
            )));
        }
        let stat = rustix::fs::statat(fd, name, AtFlags::SYMLINK_NOFOLLOW)?;
        let name = name.to_string_lossy();
        let path = if base.is_empty() {
            name.into_owned()
        } else {
            format!("{base}/{name}")
        };
        entries.push(Entry {
            path,
            kind: kind_of(&stat),
        });
    }
    Ok(())
}

fn kind_of(stat: &rustix::fs::Stat) -> EntryKind {
    let what = match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile if stat.st_nlink > 1 => "a file with several names (hard links)",
        FileType::RegularFile => {
            return EntryKind::File {
                size: u64::try_from(stat.st_size).unwrap_or(0),
            };
        }
        FileType::Directory => "a directory",
        FileType::Symlink => "a symbolic link",
        FileType::Fifo => "a FIFO",
        FileType::Socket => "a socket",
        FileType::BlockDevice | FileType::CharacterDevice => "a device",
        _ => "no regular file",
    };
    EntryKind::Misplaced { what: what.into() }
}
