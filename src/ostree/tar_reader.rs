//! Reads a tar stream entry by entry, in bounded memory, with one meaning for every archive.
//!
//! Threats: an archive that two readers unpack differently (sizes or names stated twice, data behind the end), declared
//! sizes that exhaust memory or disk, extended headers without end, sparse files of exabytes. Defences: contradictions
//! are refused instead of resolved; extended headers, names and maps are bounded before they are read; the sizes of all
//! files are summed up against a limit, holes included. This is why the `tar` crate does not read here: it keeps GNU long
//! names and PAX headers of any size in memory and lets PAX sizes win silently.

use std::io::{self, Read};

use bundle_format::Digest;

use super::error::{OstreeError, RejectReason};
use super::limits::Limits;
use super::tar_extension::Extension;
use super::tar_header::{self, BLOCK, Header, Segment};

/// The largest size that fits into the octal digits of a tar header.
const MAX_OCTAL: u64 = 0o77_777_777_777;

/// What an entry of an archive is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    File,
    Directory,
    Symlink,
    Hardlink,
    /// A device, FIFO or unknown type, with its flag.
    Other(u8),
}

/// One entry, as the archive states it: nothing in it is checked but its form.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) path: Vec<u8>,
    pub(super) link: Vec<u8>,
    pub(super) kind: Kind,
    pub(super) mode: u32,
    pub(super) uid: u32,
    pub(super) gid: u32,
    /// Bytes of content, holes included.
    pub(super) size: u64,
    /// Names without their NUL and values, sorted by name.
    pub(super) xattrs: Vec<(Vec<u8>, Vec<u8>)>,
}

/// A reader of tar archives.
pub(super) struct TarReader<'a, R> {
    input: R,
    layer: Digest,
    limits: &'a Limits,
    /// Stored bytes of the current entry not read yet.
    stored: u64,
    padding: u64,
    /// Position in and size of the current entry's content.
    position: u64,
    size: u64,
    segments: Vec<Segment>,
    next_segment: usize,
    unpacked: u64,
}

impl<'a, R: Read> TarReader<'a, R> {
    pub(super) fn new(input: R, layer: Digest, limits: &'a Limits) -> Self {
        Self {
            input,
            layer,
            limits,
            stored: 0,
            padding: 0,
            position: 0,
            size: 0,
            segments: Vec::new(),
            next_segment: 0,
            unpacked: 0,
        }
    }

    /// Returns the error that refuses this layer for the entry `path`.
    pub(super) fn reject(&self, path: &[u8], reason: RejectReason) -> OstreeError {
        let mut entry = String::from_utf8_lossy(path).into_owned();
        if entry.len() > 256 {
            entry = entry.chars().take(200).chain("…".chars()).collect();
        }
        OstreeError::Reject {
            layer: self.layer,
            entry,
            reason,
        }
    }

    fn limit(&self, what: &'static str, limit: u64) -> OstreeError {
        OstreeError::Limit {
            layer: self.layer,
            what,
            limit,
        }
    }

    /// Returns the next entry, or `None` at the archive's end; what is left of the current one is skipped.
    pub(super) fn next(&mut self) -> Result<Option<Entry>, OstreeError> {
        self.skip_rest()?;
        let mut extension = Extension::default();
        let mut extended = false;
        loop {
            let mut block = [0; BLOCK];
            if !self.read_block(&mut block)? || block.iter().all(|&byte| byte == 0) {
                if extended {
                    return Err(self.reject(b"", RejectReason::Truncated));
                }
                self.read_trailer()?;
                return Ok(None);
            }
            let header =
                Header::new(&block).map_err(|reason| self.reject(&block[..100], reason))?;
            let name = header.path();
            match header.kind() {
                b'x' | b'g' | b'L' | b'K' => {
                    extended = header.kind() != b'g' || extended;
                    self.extend(&mut extension, &header, &name)?;
                }
                kind => return self.entry(&header, kind, extension).map(Some),
            }
        }
    }

    /// Reads the body of an extended header into `extension`.
    fn extend(
        &mut self,
        extension: &mut Extension,
        header: &Header<'_>,
        name: &[u8],
    ) -> Result<(), OstreeError> {
        let refuse = |reason| self.reject(name, reason);
        let size = header.size().map_err(refuse)?;
        if size > self.limits.extension {
            return Err(self.limit("bytes in one extended header", self.limits.extension));
        }
        let mut body = vec![0; usize::try_from(size).unwrap_or(0)];
        self.fill(&mut body)?;
        self.stored = 0;
        self.padding = padding(size);
        self.skip_rest()?;
        let malformed = || Err(self.reject(name, RejectReason::Extension));
        match header.kind() {
            b'x' if !extension.pax => {
                extension.pax = true;
                let limits = self.limits;
                extension
                    .pax_body(&body, limits)
                    .map_err(|reason| self.reject(name, reason))
            }
            // A global header may carry a comment, as git's does, but nothing that changes entries.
            b'g' => {
                let mut global = Extension::default();
                let parsed = global.pax_body(&body, self.limits);
                parsed.map_err(|reason| self.reject(name, reason))?;
                if global.is_empty() {
                    Ok(())
                } else {
                    malformed()
                }
            }
            kind @ (b'L' | b'K') => {
                let target = if kind == b'L' {
                    &mut extension.path
                } else {
                    &mut extension.link
                };
                if target.is_some() {
                    return malformed();
                }
                while body.last() == Some(&0) {
                    body.pop();
                }
                *target = Some(body);
                Ok(())
            }
            _ => malformed(),
        }
    }

    /// Combines a header and what extends it.
    fn entry(
        &mut self,
        header: &Header<'_>,
        flag: u8,
        extension: Extension,
    ) -> Result<Entry, OstreeError> {
        let path = extension.path.unwrap_or_else(|| header.path());
        let refuse = |reason| self.reject(&path, reason);
        let ustar = header.size().map_err(refuse)?;
        let mut stored = ustar;
        if let Some(pax) = extension.size {
            // Only what does not fit the header may differ from it, and the header then holds 0.
            if pax != ustar && (pax <= MAX_OCTAL || ustar != 0) {
                return Err(refuse(RejectReason::SizeMismatch { pax, ustar }));
            }
            stored = pax;
        }
        let kind = match flag {
            0 if path.ends_with(b"/") => Kind::Directory,
            0 | b'0' | b'7' | b'S' => Kind::File,
            b'1' => Kind::Hardlink,
            b'2' => Kind::Symlink,
            b'5' => Kind::Directory,
            flag => Kind::Other(flag),
        };
        if stored != 0 && !matches!(kind, Kind::File | Kind::Other(_)) {
            return Err(refuse(RejectReason::Number { field: "size" }));
        }
        let owner = |stated: Option<u64>, header: Result<u64, RejectReason>| {
            let id = match stated {
                Some(id) => id,
                None => header.map_err(refuse)?,
            };
            // The largest value tells chown to change nothing.
            let id = u32::try_from(id).ok().filter(|&id| id != u32::MAX);
            id.ok_or_else(|| refuse(RejectReason::Owner))
        };
        let uid = owner(extension.uid, header.uid())?;
        let gid = owner(extension.gid, header.gid())?;
        let mode = header.mode().map_err(refuse)?;
        let (segments, size) = if flag == b'S' {
            if extension.size.is_some() {
                return Err(refuse(RejectReason::Sparse));
            }
            let (segments, size) = self.sparse_map(header, &path)?;
            let checked = tar_header::check_map(&segments, stored, size);
            checked.map_err(|reason| self.reject(&path, reason))?;
            (segments, size)
        } else {
            (Vec::new(), stored)
        };
        self.unpacked = self.unpacked.saturating_add(size);
        if self.unpacked > self.limits.tar_bytes || stored > self.limits.tar_bytes {
            return Err(self.limit("bytes of content", self.limits.tar_bytes));
        }
        self.segments = if flag == b'S' {
            segments
        } else {
            vec![Segment {
                offset: 0,
                length: stored,
            }]
        };
        self.next_segment = 0;
        self.position = 0;
        self.size = size;
        self.stored = stored;
        self.padding = padding(stored);
        let link = extension.link.unwrap_or_else(|| header.link());
        Ok(Entry {
            path,
            link,
            kind,
            mode,
            uid,
            gid,
            size,
            xattrs: extension.xattrs,
        })
    }

    fn sparse_map(
        &mut self,
        header: &Header<'_>,
        path: &[u8],
    ) -> Result<(Vec<Segment>, u64), OstreeError> {
        let (mut segments, mut more, size) = header
            .sparse()
            .map_err(|reason| self.reject(path, reason))?;
        while more {
            let mut block = [0; BLOCK];
            self.fill(&mut block)?;
            let (found, follows) =
                tar_header::sparse_block(&block).map_err(|reason| self.reject(path, reason))?;
            if found.is_empty() || segments.len() + found.len() > self.limits.segments {
                return Err(self.reject(path, RejectReason::Sparse));
            }
            segments.extend(found);
            more = follows;
        }
        Ok((segments, size))
    }

    /// Reads content of the current entry; 0 means that it is complete.
    pub(super) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, OstreeError> {
        while let Some(segment) = self.segments.get(self.next_segment) {
            if self.position < segment.offset {
                return Ok(self.zeros(buffer, segment.offset));
            }
            let end = segment.offset.saturating_add(segment.length);
            if self.position >= end {
                self.next_segment += 1;
                continue;
            }
            let wanted = clamp(buffer.len(), end - self.position);
            let part = buffer.get_mut(..wanted).unwrap_or_default();
            let read = self.read_some(part)?;
            self.position += read as u64;
            self.stored = self.stored.saturating_sub(read as u64);
            return Ok(read);
        }
        Ok(self.zeros(buffer, self.size))
    }

    fn zeros(&mut self, buffer: &mut [u8], until: u64) -> usize {
        let count = clamp(buffer.len(), until.saturating_sub(self.position));
        buffer.get_mut(..count).unwrap_or_default().fill(0);
        self.position += count as u64;
        count
    }

    fn skip_rest(&mut self) -> Result<(), OstreeError> {
        let mut scratch = [0; 8192];
        let mut rest = self.stored.saturating_add(self.padding);
        while rest > 0 {
            let part = scratch.get_mut(..clamp(8192, rest)).unwrap_or_default();
            rest -= self.read_some(part)? as u64;
        }
        (self.stored, self.padding) = (0, 0);
        Ok(())
    }

    /// Demands that nothing but zeros follows.
    fn read_trailer(&mut self) -> Result<(), OstreeError> {
        let mut scratch = [0; 8192];
        loop {
            match self.input_read(&mut scratch)? {
                0 => return Ok(()),
                n if scratch.iter().take(n).any(|&byte| byte != 0) => {
                    return Err(self.reject(b"", RejectReason::TrailingData));
                }
                _ => {}
            }
        }
    }

    /// Reads a block, or returns `false` where the input ends before it.
    fn read_block(&mut self, block: &mut [u8; BLOCK]) -> Result<bool, OstreeError> {
        match self.input_read(block)? {
            0 => Ok(false),
            BLOCK => Ok(true),
            read => self
                .fill(block.get_mut(read..).unwrap_or_default())
                .map(|()| true),
        }
    }

    fn fill(&mut self, mut buffer: &mut [u8]) -> Result<(), OstreeError> {
        while !buffer.is_empty() {
            let read = self.read_some(buffer)?;
            buffer = buffer.get_mut(read..).unwrap_or_default();
        }
        Ok(())
    }

    /// Reads at least a byte into a buffer that is not empty.
    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, OstreeError> {
        match self.input_read(buffer)? {
            0 => Err(self.reject(b"", RejectReason::Truncated)),
            read => Ok(read),
        }
    }

    fn input_read(&mut self, buffer: &mut [u8]) -> Result<usize, OstreeError> {
        loop {
            match self.input.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    return Err(OstreeError::Source {
                        layer: self.layer,
                        source,
                    });
                }
                Ok(read) => return Ok(read),
            }
        }
    }
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK as u64
}

fn clamp(length: usize, rest: u64) -> usize {
    usize::try_from(rest).map_or(length, |rest| rest.min(length))
}
