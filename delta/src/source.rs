//! Random access to an old file, so that a decoder need not hold it in memory.

use std::io;

/// An old file: bytes that do not change while a delta is made or applied.
pub trait Source {
    /// Length in bytes.
    fn len(&self) -> u64;

    /// Whether there are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `buf` with the bytes at `offset`.
    ///
    /// # Errors
    /// When reading fails, or the range leaves the file.
    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()>;
}

impl<T: Source + ?Sized> Source for &T {
    fn len(&self) -> u64 {
        (**self).len()
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        (**self).read_at(offset, buf)
    }
}

impl Source for [u8] {
    fn len(&self) -> u64 {
        <[u8]>::len(self) as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        let range = usize::try_from(offset).ok().and_then(|start| {
            let end = start.checked_add(buf.len())?;
            self.get(start..end)
        });
        buf.copy_from_slice(range.ok_or(io::ErrorKind::UnexpectedEof)?);
        Ok(())
    }
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        Vec::len(self) as u64
    }

    fn read_at(&self, offset: u64, buf: &mut [u8]) -> io::Result<()> {
        self[..].read_at(offset, buf)
    }
}

/// Reads up to `len` bytes at `offset`, fewer at the end of the file.
///
/// # Errors
/// When reading fails.
pub(crate) fn read_up_to(source: &dyn Source, offset: u64, len: u64) -> io::Result<Vec<u8>> {
    let len = source.len().saturating_sub(offset).min(len);
    let mut buf = vec![0; usize::try_from(len).map_err(|_| io::ErrorKind::OutOfMemory)?];
    if !buf.is_empty() {
        source.read_at(offset, &mut buf)?;
    }
    Ok(buf)
}
