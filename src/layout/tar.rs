//! A bundle in a single tar file, read in place.
//!
//! Threats: members that are links or devices, names twice, sizes beyond the file, bytes hidden
//! between or behind members. Defences: only plain files are read and everything else is reported;
//! a name counts once; sizes stay within the file; padding and the tail have to be zero.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;

use bundle_format::Limits;
use tar::EntryType;

use super::{Entry, EntryKind, MediumFile};

const BLOCK: u64 = 512;
/// Zero bytes allowed behind the last member: the end marker and one blocking factor of any size
/// in use.
const TAIL_CAP: u64 = 1 << 20;

/// Where each member of a tar file lies.
#[derive(Debug)]
pub(super) struct TarIndex {
    file: Arc<File>,
    members: BTreeMap<String, (u64, u64)>,
    misplaced: Vec<Entry>,
}

impl TarIndex {
    /// Reads the headers of a tar file and seeks over the content.
    pub(super) fn read(file: File, limits: &Limits) -> io::Result<Self> {
        let file = Arc::new(file);
        let length = file.metadata()?.len();
        let mut index = Self {
            file: Arc::clone(&file),
            members: BTreeMap::new(),
            misplaced: Vec::new(),
        };
        let (mut end, mut count) = (0, 0);
        let mut archive = tar::Archive::new(&*file);
        for entry in archive.entries_with_seek()?.raw(true) {
            let entry = entry?;
            count += 1;
            if count > limits.medium_entries {
                let cap = limits.medium_entries;
                return Err(io::Error::other(format!("more than {cap} members")));
            }
            let (start, size) = (entry.raw_file_position(), entry.header().entry_size()?);
            let stop = start.checked_add(size).filter(|stop| *stop <= length);
            let stop = stop.ok_or_else(|| io::Error::other("a member reaches beyond the file"))?;
            end = stop.next_multiple_of(BLOCK);
            check_zero(&file, stop, end.min(length))?;
            check_sum_field(entry.header().as_bytes())?;
            index.add(&entry, start, size);
        }
        if length.saturating_sub(end) > TAIL_CAP {
            return Err(io::Error::other("data behind the last member"));
        }
        check_zero(&file, end, length)?;
        Ok(index)
    }

    fn add<R: io::Read>(&mut self, entry: &tar::Entry<'_, R>, start: u64, size: u64) {
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        let path = path.strip_prefix("./").unwrap_or(&path);
        let path = if path.is_empty() { "." } else { path }.to_string();
        let what = match entry.header().entry_type() {
            EntryType::Directory if size > 0 => "a directory with content",
            EntryType::Directory => {
                if matches!(
                    path.trim_end_matches('/'),
                    "" | "." | "blobs" | "blobs/sha256"
                ) {
                    return;
                }
                "a directory"
            }
            EntryType::Regular if !self.members.contains_key(&path) => {
                self.members.insert(path, (start, size));
                return;
            }
            EntryType::Regular => "a second member of this name",
            EntryType::Symlink | EntryType::Link => "a link",
            _ => "no regular file",
        };
        self.misplaced.push(Entry {
            path,
            kind: EntryKind::Misplaced { what: what.into() },
        });
    }

    pub(super) fn entries(&self) -> Vec<Entry> {
        let files = self.members.iter().map(|(path, (_, size))| Entry {
            path: path.clone(),
            kind: EntryKind::File { size: *size },
        });
        files.chain(self.misplaced.iter().cloned()).collect()
    }

    pub(super) fn file(&self, path: &str) -> io::Result<MediumFile> {
        let (start, size) = self.members.get(path).ok_or(io::ErrorKind::NotFound)?;
        Ok(MediumFile::within(Arc::clone(&self.file), *start, *size))
    }
}

/// Writes files of a layout as a tar file; the same files always give the same bytes.
#[cfg(feature = "export")]
pub(super) fn write(
    root: &std::path::Path,
    paths: impl IntoIterator<Item = String>,
    out: impl io::Write,
) -> io::Result<()> {
    let mut builder = tar::Builder::new(out);
    for path in paths {
        let file = File::open(root.join(&path))?;
        let mut header = tar::Header::new_gnu();
        header.set_size(file.metadata()?.len());
        header.set_mode(0o644);
        builder.append_data(&mut header, path, file)?;
    }
    builder.into_inner()?.flush()
}

/// Refuses bytes behind the digits of a header's checksum, which the checksum does not cover.
fn check_sum_field(header: &[u8; 512]) -> io::Result<()> {
    let field = &header[148..156];
    let digits = field
        .iter()
        .take_while(|byte| matches!(byte, b' ' | b'0'..=b'7'))
        .count();
    if field[digits..].iter().any(|byte| !matches!(byte, 0 | b' ')) {
        return Err(io::Error::other("hidden data in the checksum of a member"));
    }
    Ok(())
}

fn check_zero(file: &File, from: u64, to: u64) -> io::Result<()> {
    let mut buffer = [0; 4096];
    let mut at = from;
    while at < to {
        let part = usize::try_from((to - at).min(4096)).map_err(io::Error::other)?;
        let part = &mut buffer[..part];
        file.read_exact_at(part, at)?;
        if part.iter().any(|byte| *byte != 0) {
            return Err(io::Error::other(format!("hidden data near byte {at}")));
        }
        at += part.len() as u64;
    }
    Ok(())
}
