//! Layer archives unpacked for making deltas: the tar stream in one temporary file, and an index of
//! the files in it.
//!
//! Scope: the exporter only. Archives come from registries: they are hostile, but nothing of them is
//! acted on here; a name is a hint for matching, content is known by its hash, and the whole stream
//! has to hash to the `diff_id` that the image's configuration states.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bundle_format::Digest;
use sha2::{Digest as _, Sha256};

use crate::layer::OBJECTS;

/// Bytes read or written at once.
const BUFFER: usize = 1 << 20;

/// A tar stream on disk, without a name, gone with this value.
#[derive(Debug)]
pub struct Spool {
    file: File,
    size: u64,
    digest: Digest,
    files: Vec<SpooledFile>,
    names: Vec<String>,
}

/// A regular file with content inside a [`Spool`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpooledFile {
    /// Path as the archive spells it, without a leading `./`; bytes that are no UTF-8 are replaced.
    pub path: String,
    /// Hard links to it, spelled likewise.
    pub links: Vec<String>,
    /// Where the content begins in the tar stream.
    pub offset: u64,
    /// Bytes of content.
    pub size: u64,
    /// SHA-256 of the content.
    pub digest: Digest,
}

impl SpooledFile {
    /// Returns the path that says most about the file: in chunked layers its first link, for the file itself is called
    /// by its hash there.
    pub fn name(&self) -> &str {
        match self.links.first() {
            Some(link) if self.path.starts_with(OBJECTS) => link,
            _ => &self.path,
        }
    }
}

impl Spool {
    /// Reads an uncompressed tar stream into a temporary file below `directory` and indexes it.
    ///
    /// # Errors
    /// Fails where the stream cannot be read, the file not be written, or the archive not be parsed.
    pub fn read(mut stream: impl Read, directory: &Path) -> io::Result<Self> {
        let mut file = tempfile::tempfile_in(directory)?;
        let mut hash = Sha256::new();
        let mut size = 0;
        let mut buffer = vec![0; BUFFER];
        loop {
            let count = match stream.read(&mut buffer) {
                Ok(0) => break,
                Ok(count) => count,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => return Err(e),
            };
            let part = buffer.get(..count).unwrap_or_default();
            hash.update(part);
            file.write_all(part)?;
            size += count as u64;
        }
        let digest = Digest::from_bytes(hash.finalize().into());
        let mut spool = Self {
            file,
            size,
            digest,
            files: Vec::new(),
            names: Vec::new(),
        };
        (spool.files, spool.names) = spool.index()?;
        Ok(spool)
    }

    /// Returns the SHA-256 of the whole stream: its `diff_id`.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// Returns the bytes of the whole stream.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Returns the regular files that have content, in the order of the stream.
    pub fn files(&self) -> &[SpooledFile] {
        &self.files
    }

    /// Returns the paths of everything that is no directory, in the order of the stream.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Fills `buffer` from byte `offset` of the stream on.
    ///
    /// # Errors
    /// Fails behind the end and where the temporary file cannot be read.
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }

    /// Reads the content of a file of the stream into memory.
    ///
    /// # Errors
    /// Fails where the temporary file cannot be read.
    pub fn content(&self, file: &SpooledFile) -> io::Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(file.size).map_err(io::Error::other)?];
        self.read_at(&mut bytes, file.offset)?;
        Ok(bytes)
    }

    fn index(&self) -> io::Result<(Vec<SpooledFile>, Vec<String>)> {
        let mut names = Vec::new();
        let mut files: Vec<SpooledFile> = Vec::new();
        let mut by_path: HashMap<String, usize> = HashMap::new();
        let mut archive = tar::Archive::new(Reader {
            spool: self,
            position: 0,
        });
        let mut buffer = vec![0; BUFFER];
        for entry in archive.entries_with_seek()? {
            let entry = entry?;
            let size = entry.size();
            let path = relative(&entry.path_bytes());
            if entry.header().entry_type() != tar::EntryType::Directory {
                names.push(path.clone());
            }
            if entry.header().entry_type() == tar::EntryType::Link {
                let linked = entry.link_name_bytes().map(|name| relative(&name));
                let linked = linked.and_then(|name| by_path.get(&name).copied());
                if let Some(file) = linked.and_then(|number| files.get_mut(number)) {
                    file.links.push(path);
                }
                continue;
            }
            // A sparse entry's content is not what lies in the stream; it is left to literal data.
            if entry.header().entry_type() != tar::EntryType::Regular || size == 0 {
                continue;
            }
            let offset = entry.raw_file_position();
            if offset.checked_add(size).is_none_or(|end| end > self.size) {
                return Err(io::Error::other("an entry reaches beyond the archive"));
            }
            let digest = self.hash(offset, size, &mut buffer)?;
            by_path.insert(path.clone(), files.len());
            files.push(SpooledFile {
                path,
                links: Vec::new(),
                offset,
                size,
                digest,
            });
        }
        Ok((files, names))
    }

    fn hash(&self, offset: u64, size: u64, buffer: &mut [u8]) -> io::Result<Digest> {
        let mut hash = Sha256::new();
        let mut done = 0;
        while done < size {
            let part =
                usize::try_from((size - done).min(BUFFER as u64)).map_err(io::Error::other)?;
            let part = buffer.get_mut(..part).unwrap_or_default();
            self.read_at(part, offset + done)?;
            hash.update(&*part);
            done += part.len() as u64;
        }
        Ok(Digest::from_bytes(hash.finalize().into()))
    }
}

fn relative(path: &[u8]) -> String {
    let path = String::from_utf8_lossy(path);
    path.strip_prefix("./").unwrap_or(&path).to_string()
}

/// Reads a spool from its start, for the archive parser.
struct Reader<'a> {
    spool: &'a Spool,
    position: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.spool.file.read_at(buffer, self.position)?;
        self.position += count as u64;
        Ok(count)
    }
}

impl io::Seek for Reader<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        let position = match to {
            io::SeekFrom::Start(at) => Some(at),
            io::SeekFrom::Current(by) => self.position.checked_add_signed(by),
            io::SeekFrom::End(by) => self.spool.size.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
