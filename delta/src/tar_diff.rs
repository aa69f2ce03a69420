//! Reads tar-diff, versions 1 and 2: operations that make a tar stream out of files of an old tree.
//!
//! Threats: paths that leave the old tree, sizes without bounds, prefixes that take gigabytes, frames that decompress without
//! end. Defences: a path has plain names only, and whoever gives files decides what it leads to; everything is copied in
//! parts of bounded size; a prefix and the target are held against the caller's limits; the stream is one zstd frame with
//! nothing behind it. What comes out counts only once its hash was compared.

use std::io::{self, BufRead, BufReader, Read, Write};

use crate::{DeltaError, Source};

/// What version 1 begins with.
pub const MAGIC_1: &[u8; 8] = b"tardf1\n\0";
/// What version 2 begins with.
pub const MAGIC_2: &[u8; 8] = b"tardf2\n\0";
/// Append bytes of the delta.
pub const DATA: u8 = 0;
/// Choose the old file by its path; reading begins at its start.
pub const OPEN: u8 = 1;
/// Append bytes of the old file.
pub const COPY: u8 = 2;
/// Append the sums of bytes of the delta and of the old file.
pub const ADD: u8 = 3;
/// Go to a position in the old file.
pub const SEEK: u8 = 4;
/// Append what a zstd frame gives that has the old file as its prefix; version 2.
const PREFIXED: u8 = 5;

/// Longest path, in bytes.
pub const MAX_PATH: u64 = 4096;
/// Most bytes of one addition.
pub const MAX_ADD: u64 = 100 << 20;
/// Logarithm of the largest window of a frame with a prefix.
const WINDOW_LOG: u32 = 29;
/// Bytes copied at once.
const PART: usize = 64 << 10;

/// The files of the old tree.
pub trait Files {
    /// Opens the file at `path`, which is relative and has plain names only.
    ///
    /// # Errors
    /// When there is none.
    fn open(&self, path: &str) -> io::Result<Box<dyn Source + '_>>;
}

/// What a reader accepts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of the target.
    pub target: u64,
    /// Largest old file that is held in memory as a prefix.
    pub prefix: u64,
    /// Most files that are opened.
    pub files: u64,
}

impl Default for Limits {
    /// 64 GiB, 64 MiB, 4 million.
    fn default() -> Self {
        Self {
            target: 64 << 30,
            prefix: 64 << 20,
            files: 4 << 20,
        }
    }
}

/// Rebuilds a tar stream; whether it is the right one is for the caller to check by its hash.
///
/// # Errors
/// When the delta is malformed or beyond the limits, and when a file cannot be read.
pub fn rebuild(
    input: impl Read,
    files: &dyn Files,
    out: &mut dyn Write,
    limits: &Limits,
) -> Result<(), DeltaError> {
    let mut reader = Reader::new(input)?;
    let mut left = limits.target;
    let mut opened = 0;
    let mut file: Option<Box<dyn Source + '_>> = None;
    let mut at = 0_u64;
    let mut buffer = vec![0; PART];
    while let Some((operation, size)) = reader.operation()? {
        if matches!(operation, DATA | COPY | ADD) {
            left = take(left, size)?;
        }
        match operation {
            DATA => reader.copy(size, &mut buffer, &mut |part| Ok(out.write_all(part)?))?,
            OPEN => {
                opened += 1;
                if opened > limits.files {
                    return Err(too_large("files opened", opened, limits.files));
                }
                file = Some(files.open(&reader.path(size)?)?);
                at = 0;
            }
            COPY => {
                let file = current(file.as_deref())?;
                let end = advance(&mut at, size, file)?;
                copy(file, end - size, end, &mut buffer, out)?;
            }
            ADD => {
                if size > MAX_ADD {
                    return Err(too_large("addition", size, MAX_ADD));
                }
                let file = current(file.as_deref())?;
                let end = advance(&mut at, size, file)?;
                let mut from = end - size;
                let mut sums = vec![0; PART];
                reader.copy(size, &mut buffer, &mut |part| {
                    let sums = sums.get_mut(..part.len()).unwrap_or_default();
                    file.read_at(from, sums)?;
                    from += part.len() as u64;
                    sums.iter_mut()
                        .zip(part)
                        .for_each(|(sum, byte)| *sum = sum.wrapping_add(*byte));
                    Ok(out.write_all(sums)?)
                })?;
            }
            SEEK => at = size,
            PREFIXED if reader.second => {
                let file = current(file.as_deref())?;
                if file.len() > limits.prefix {
                    return Err(too_large("prefix", file.len(), limits.prefix));
                }
                let mut prefix = vec![0; file.len() as usize];
                file.read_at(0, &mut prefix)?;
                at = file.len();
                let written = reader.prefixed(size, &prefix, left, out)?;
                left = take(left, written)?;
            }
            _ => return Err(malformed("unknown operation")),
        }
    }
    Ok(())
}

/// Lists the paths that a delta opens, each once, sorted.
///
/// # Errors
/// When the delta is malformed or beyond the limits.
pub fn paths(input: impl Read, limits: &Limits) -> Result<Vec<String>, DeltaError> {
    let mut reader = Reader::new(input)?;
    let mut found = std::collections::BTreeSet::new();
    let mut buffer = vec![0; PART];
    while let Some((operation, size)) = reader.operation()? {
        match operation {
            OPEN => {
                found.insert(reader.path(size)?);
                if found.len() as u64 > limits.files {
                    return Err(too_large("files opened", found.len() as u64, limits.files));
                }
            }
            DATA | ADD | PREFIXED => reader.copy(size, &mut buffer, &mut |_| Ok(()))?,
            COPY | SEEK => {}
            _ => return Err(malformed("unknown operation")),
        }
    }
    Ok(found.into_iter().collect())
}

/// The operations of a delta.
struct Reader<R: Read> {
    stream: BufReader<zstd::stream::read::Decoder<'static, BufReader<R>>>,
    second: bool,
}

impl<R: Read> Reader<R> {
    fn new(mut input: R) -> Result<Self, DeltaError> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        let second = match &magic {
            MAGIC_1 => false,
            MAGIC_2 => true,
            _ => return Err(malformed("not a tar-diff of version 1 or 2")),
        };
        let decoder = zstd::stream::read::Decoder::new(input).map_err(DeltaError::Frame)?;
        Ok(Self {
            stream: BufReader::with_capacity(PART, decoder.single_frame()),
            second,
        })
    }

    /// Reads the next operation and its size; none at the end.
    fn operation(&mut self) -> Result<Option<(u8, u64)>, DeltaError> {
        if self.stream.fill_buf()?.is_empty() {
            let rest = self.stream.get_mut().get_mut();
            return match rest.fill_buf()?.is_empty() {
                true => Ok(None),
                false => Err(malformed("data behind the frame")),
            };
        }
        let operation = self.byte()?;
        let (mut size, mut shift) = (0_u64, 0);
        loop {
            let byte = self.byte()?;
            let bits = u64::from(byte & 0x7f);
            if shift > 63 || (shift == 63 && bits > 1) {
                return Err(malformed("size"));
            }
            size |= bits << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return Ok(Some((operation, size)));
            }
        }
    }

    fn byte(&mut self) -> Result<u8, DeltaError> {
        let mut byte = [0];
        self.stream
            .read_exact(&mut byte)
            .map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => DeltaError::Truncated {
                    part: "an operation",
                },
                _ => error.into(),
            })?;
        let [byte] = byte;
        Ok(byte)
    }

    fn path(&mut self, size: u64) -> Result<String, DeltaError> {
        if size > MAX_PATH {
            return Err(too_large("path", size, MAX_PATH));
        }
        let mut path = vec![0; size as usize];
        self.stream.read_exact(&mut path)?;
        let path = String::from_utf8(path).map_err(|_| malformed("path that is no text"))?;
        let plain = |name: &str| !name.is_empty() && name != "." && name != "..";
        if path.contains('\0') || !path.split('/').all(plain) {
            return Err(malformed("path that leaves the old tree"));
        }
        Ok(path)
    }

    /// Hands on the next `size` bytes.
    fn copy(
        &mut self,
        size: u64,
        buffer: &mut [u8],
        take: &mut dyn FnMut(&[u8]) -> Result<(), DeltaError>,
    ) -> Result<(), DeltaError> {
        let mut left = size;
        while left > 0 {
            let count = left.min(buffer.len() as u64) as usize;
            let part = buffer.get_mut(..count).unwrap_or_default();
            self.stream.read_exact(part)?;
            take(part)?;
            left -= count as u64;
        }
        Ok(())
    }

    /// Decompresses a frame of `size` bytes with a prefix; returns how many bytes it gave.
    fn prefixed(
        &mut self,
        size: u64,
        prefix: &[u8],
        most: u64,
        out: &mut dyn Write,
    ) -> Result<u64, DeltaError> {
        let frame = BufReader::new(Read::by_ref(&mut self.stream).take(size));
        let decoder = zstd::stream::read::Decoder::with_ref_prefix(frame, prefix);
        let mut decoder = decoder.map_err(DeltaError::Frame)?.single_frame();
        // The window reaches over the prefix, which is bounded, and what it gives is bounded as well.
        decoder
            .window_log_max(WINDOW_LOG)
            .map_err(DeltaError::Frame)?;
        let written = io::copy(
            &mut Read::by_ref(&mut decoder).take(most.saturating_add(1)),
            out,
        )?;
        if written > most {
            return Err(too_large("target", written, most));
        }
        let mut frame = decoder.finish();
        if frame.fill_buf()?.is_empty() && frame.get_ref().limit() == 0 {
            Ok(written)
        } else {
            Err(malformed("data behind a frame with a prefix"))
        }
    }
}

fn current<'a>(file: Option<&'a (dyn Source + 'a)>) -> Result<&'a (dyn Source + 'a), DeltaError> {
    file.ok_or_else(|| malformed("reads before a file is opened"))
}

/// Moves on by `size` within a file, and returns where that ends.
fn advance(at: &mut u64, size: u64, file: &dyn Source) -> Result<u64, DeltaError> {
    let (start, len) = (*at, file.len());
    let end = start.checked_add(size).filter(|end| *end <= len);
    let end = end.ok_or(DeltaError::OutOfBounds {
        start,
        end: start.saturating_add(size),
        len,
    })?;
    *at = end;
    Ok(end)
}

fn copy(
    file: &dyn Source,
    start: u64,
    end: u64,
    buffer: &mut [u8],
    out: &mut dyn Write,
) -> Result<(), DeltaError> {
    let mut at = start;
    while at < end {
        let count = (end - at).min(buffer.len() as u64) as usize;
        let part = buffer.get_mut(..count).unwrap_or_default();
        file.read_at(at, part)?;
        out.write_all(part)?;
        at += count as u64;
    }
    Ok(())
}

fn take(left: u64, size: u64) -> Result<u64, DeltaError> {
    left.checked_sub(size)
        .ok_or_else(|| too_large("target", size, left))
}

const fn malformed(what: &'static str) -> DeltaError {
    DeltaError::Malformed { what }
}

const fn too_large(what: &'static str, found: u64, limit: u64) -> DeltaError {
    DeltaError::TooLarge { what, found, limit }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const OLD: &[u8] = b"0123456789abcdefghij";

    struct Old;

    impl Files for Old {
        fn open(&self, path: &str) -> io::Result<Box<dyn Source + '_>> {
            match path {
                "usr/old" => Ok(Box::new(OLD.to_vec())),
                _ => Err(io::ErrorKind::NotFound.into()),
            }
        }
    }

    fn operation(kind: u8, size: u64, data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![kind];
        crate::varint::put(&mut bytes, size);
        bytes.extend_from_slice(data);
        bytes
    }

    fn delta(magic: &[u8], operations: &[Vec<u8>]) -> Vec<u8> {
        let frame = zstd::bulk::compress(&operations.concat(), 3).unwrap();
        [magic, &frame].concat()
    }

    fn rebuilt(delta: &[u8]) -> Result<Vec<u8>, DeltaError> {
        let mut out = Vec::new();
        let limits = Limits {
            target: 1000,
            prefix: 100,
            files: 3,
        };
        rebuild(delta, &Old, &mut out, &limits).map(|()| out)
    }

    fn open() -> Vec<u8> {
        operation(OPEN, 7, b"usr/old")
    }

    fn prefixed(content: &[u8]) -> Vec<u8> {
        let mut frame = Vec::new();
        let mut encoder =
            zstd::stream::write::Encoder::with_ref_prefix(&mut frame, 3, OLD).unwrap();
        encoder.write_all(content).unwrap();
        encoder.finish().unwrap();
        frame
    }

    #[test]
    fn both_versions_are_read() {
        let operations = [
            operation(DATA, 3, b"new"),
            open(),
            operation(COPY, 4, b""),
            operation(SEEK, 18, b""),
            operation(ADD, 2, &[1, 255]),
        ];
        for magic in [MAGIC_1, MAGIC_2] {
            let delta = delta(magic, &operations);
            assert_eq!(rebuilt(&delta).unwrap(), b"new0123ji");
            assert_eq!(
                paths(delta.as_slice(), &Limits::default()).unwrap(),
                ["usr/old"]
            );
            for end in 0..delta.len() {
                assert!(rebuilt(&delta[..end]).is_err(), "cut at {end}");
            }
            assert!(rebuilt(&[delta.as_slice(), b"x"].concat()).is_err());
        }
        let content = b"0123456789abcdefghij and more";
        let frame = prefixed(content);
        let operations = [open(), operation(PREFIXED, frame.len() as u64, &frame)];
        assert_eq!(rebuilt(&delta(MAGIC_2, &operations)).unwrap(), content);
        assert!(
            rebuilt(&delta(MAGIC_1, &operations)).is_err(),
            "not in version 1"
        );
    }

    #[test]
    fn lies_are_refused() {
        let frame = prefixed(b"abc");
        let longer = [frame.as_slice(), b"x"].concat();
        let bomb = prefixed(&[0; 5000]);
        for (what, operations) in [
            ("nothing opened", vec![operation(COPY, 1, b"")]),
            ("beyond the end", vec![open(), operation(COPY, 21, b"")]),
            (
                "a far position",
                vec![
                    open(),
                    operation(SEEK, u64::MAX, b""),
                    operation(COPY, 1, b""),
                ],
            ),
            ("other file", vec![operation(OPEN, 7, b"usr/new")]),
            ("parent", vec![operation(OPEN, 10, b"../usr/old")]),
            ("absolute", vec![operation(OPEN, 8, b"/usr/old")]),
            ("dot", vec![operation(OPEN, 9, b"./usr/old")]),
            ("long path", vec![operation(OPEN, 5000, &[b'a'; 5000])]),
            ("large target", vec![operation(DATA, 1001, &[0; 1001])]),
            (
                "large addition",
                vec![open(), operation(ADD, MAX_ADD + 1, b"")],
            ),
            ("many files", vec![open(), open(), open(), open()]),
            ("unknown", vec![operation(6, 0, b"")]),
            (
                "large size",
                vec![vec![DATA, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]],
            ),
            (
                "bomb",
                vec![open(), operation(PREFIXED, bomb.len() as u64, &bomb)],
            ),
            (
                "behind",
                vec![open(), operation(PREFIXED, longer.len() as u64, &longer)],
            ),
            ("no frame", vec![open(), operation(PREFIXED, 3, b"abc")]),
        ] {
            assert!(rebuilt(&delta(MAGIC_2, &operations)).is_err(), "{what}");
        }
        assert!(rebuilt(b"tardf3\n\0").is_err());
    }

    proptest! {
        #[test]
        fn nonsense_is_an_error_or_bytes(operations in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = rebuilt(&delta(MAGIC_2, &[operations]));
        }
    }
}
