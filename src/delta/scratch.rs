//! Space for what a rebuild makes on the way: small objects in memory, others in a file without a name.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use bundle_delta::Source;
use bundle_delta::rebuild::Scratch;

/// Largest object that is kept in memory, in bytes.
const IN_MEMORY: u64 = 256 << 10;
/// Bytes gathered before they are written.
const BUFFER: usize = 256 << 10;

/// Makes room for an object of `len` bytes, in memory or below `directory`.
pub(super) fn scratch(len: u64, directory: &Path) -> io::Result<Box<dyn Scratch>> {
    if len <= IN_MEMORY {
        return Ok(Box::new(Vec::with_capacity(len as usize)));
    }
    let file = tempfile::tempfile_in(directory)?;
    // A full file system is noticed now, and not after minutes of work.
    match rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, len) {
        Ok(()) | Err(rustix::io::Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    let file = BufWriter::with_capacity(BUFFER, file);
    Ok(Box::new(Writing { file, len }))
}

/// An object of `len` bytes while it is written to a file.
struct Writing {
    file: BufWriter<File>,
    len: u64,
}

impl Write for Writing {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.file.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Scratch for Writing {
    fn seal(self: Box<Self>) -> io::Result<Box<dyn Source>> {
        let file = self.file.into_inner();
        let file = file.map_err(io::IntoInnerError::into_error)?;
        let len = self.len;
        Ok(Box::new(Written { file, len }))
    }
}

/// An object in a file.
struct Written {
    file: File,
    len: u64,
}

impl Source for Written {
    fn len(&self) -> u64 {
        self.len
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        for len in [0, 1, IN_MEMORY, IN_MEMORY + 1, 3 << 20] {
            let bytes: Vec<u8> = (0..len).map(|at| (at / 7) as u8).collect();
            let mut writing = scratch(len, directory.path()).unwrap();
            writing.write_all(&bytes).unwrap();
            let source = writing.seal().unwrap();
            assert_eq!(source.len(), len);
            let mut back = vec![0; len as usize];
            source.read_at(0, &mut back).unwrap();
            assert_eq!(back, bytes);
            assert!(source.read_at(len, &mut [0]).is_err());
        }
        assert_eq!(directory.path().read_dir().unwrap().count(), 0, "no names");
        assert!(scratch(IN_MEMORY + 1, Path::new("/nowhere")).is_err());
    }
}
