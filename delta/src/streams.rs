//! Several streams in one file, cut in windows that decompress alone.
//!
//! Layout, numbers as in [`varint`]: count of streams; per stream the most bytes that a window of
//! it holds. Then windows: the byte 1; per stream the length of its bytes and of its frame, and
//! after all lengths the frames: nothing for no bytes, the bytes themselves where both lengths are
//! equal, otherwise one zstd frame. At last the byte 0, and nothing after it.
//!
//! Threats: counts and sizes that lie, to exhaust memory; frames that are several, skippable or
//! decompress to something else than declared; data after the end. Defences: the header's caps
//! are held against the caller's before anything is allocated; a window's sizes against the
//! header's; a frame has to be exactly one, to its last byte, and to give exactly its size. Memory
//! is one window of each stream and the largest of its frames.

use std::io::{self, Read, Write};

use zstd::{bulk, zstd_safe};

use crate::{DeltaError, varint};

/// What a reader accepts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most streams.
    pub streams: u64,
    /// Most bytes of one window, all streams together.
    pub window: u64,
}

impl Default for Limits {
    /// 16 streams, 256 MiB.
    fn default() -> Self {
        Self {
            streams: 16,
            window: 256 << 20,
        }
    }
}

/// Writes streams: append to them, end windows, finish.
pub struct Writer<W> {
    out: W,
    level: i32,
    caps: Vec<u64>,
    streams: Vec<Vec<u8>>,
    largest: u64,
    unpacking: u64,
}

impl<W: Write> Writer<W> {
    /// Begins a file with one stream for each of `caps`, the most bytes that a window holds of it.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(mut out: W, caps: &[u64], level: i32) -> Result<Self, DeltaError> {
        let mut header = Vec::new();
        varint::put(&mut header, caps.len() as u64);
        for &cap in caps {
            varint::put(&mut header, cap);
        }
        out.write_all(&header)?;
        Ok(Self {
            out,
            level,
            caps: caps.to_vec(),
            streams: vec![Vec::new(); caps.len()],
            largest: 0,
            unpacking: 0,
        })
    }

    /// The bytes of all streams in this window so far, to append to.
    pub fn streams(&mut self) -> &mut [Vec<u8>] {
        &mut self.streams
    }

    /// Bytes in this window so far, all streams together.
    #[must_use]
    pub fn pending(&self) -> u64 {
        self.streams.iter().map(|s| s.len() as u64).sum()
    }

    /// Bytes that the largest window so far takes in a reader's memory.
    #[must_use]
    pub fn largest_window(&self) -> u64 {
        self.largest
    }

    /// Bytes that a window so far takes at most while a reader unpacks it: its streams, and one frame.
    #[must_use]
    pub fn largest_unpacking(&self) -> u64 {
        self.unpacking
    }

    /// Ends the window, unless it is empty.
    ///
    /// # Errors
    /// [`DeltaError::TooLarge`] when a stream outgrew its cap; when compressing or writing fails.
    pub fn end_window(&mut self) -> Result<(), DeltaError> {
        if self.pending() == 0 {
            return Ok(());
        }
        let mut head = vec![1];
        let mut frames = Vec::with_capacity(self.streams.len());
        for (stream, &cap) in self.streams.iter().zip(&self.caps) {
            let found = stream.len() as u64;
            if found > cap {
                let what = "window of a stream";
                return Err(DeltaError::TooLarge {
                    what,
                    found,
                    limit: cap,
                });
            }
            let frame = compress(stream, self.level)?;
            varint::put(&mut head, found);
            varint::put(&mut head, frame.as_deref().unwrap_or(stream).len() as u64);
            frames.push(frame);
        }
        let longest = frames.iter().flatten().map(Vec::len).max().unwrap_or(0);
        let window = self.pending();
        self.largest = self.largest.max(window);
        self.unpacking = self.unpacking.max(window + longest as u64);
        self.out.write_all(&head)?;
        for (stream, frame) in self.streams.iter_mut().zip(frames) {
            self.out.write_all(frame.as_deref().unwrap_or(stream))?;
            stream.clear();
        }
        Ok(())
    }

    /// Ends the last window and the file.
    ///
    /// # Errors
    /// As [`Self::end_window`].
    pub fn finish(mut self) -> Result<W, DeltaError> {
        self.end_window()?;
        self.out.write_all(&[0])?;
        self.out.flush()?;
        Ok(self.out)
    }
}

/// One zstd frame of `bytes`, if that is smaller.
fn compress(bytes: &[u8], level: i32) -> Result<Option<Vec<u8>>, DeltaError> {
    if bytes.is_empty() {
        return Ok(None);
    }
    let mut compressor = bulk::Compressor::new(level)?;
    // The window spans all: frames are decompressed at once, so it costs the reader nothing.
    let log = usize::BITS - (bytes.len() - 1).leading_zeros();
    compressor.set_parameter(zstd_safe::CParameter::WindowLog(log.clamp(10, 27)))?;
    if log > 23 {
        compressor.set_parameter(zstd_safe::CParameter::EnableLongDistanceMatching(true))?;
    }
    compressor.set_parameter(zstd_safe::CParameter::ContentSizeFlag(false))?;
    let frame = compressor.compress(bytes)?;
    Ok((frame.len() < bytes.len()).then_some(frame))
}

/// One window of all streams, as far as it is not consumed.
#[derive(Debug, Default)]
pub struct Window {
    streams: Vec<(Vec<u8>, usize)>,
    /// Bytes that each stream takes in the delta.
    packed: Vec<u64>,
}

impl Window {
    /// What is left of stream `index`; nothing where there is no such stream.
    #[must_use]
    pub fn rest(&self, index: usize) -> &[u8] {
        self.streams
            .get(index)
            .and_then(|(bytes, at)| bytes.get(*at..))
            .unwrap_or_default()
    }

    /// Marks all but the last `left` bytes of stream `index` consumed.
    pub fn keep(&mut self, index: usize, left: usize) {
        if let Some((bytes, at)) = self.streams.get_mut(index) {
            *at = bytes.len().saturating_sub(left).max(*at);
        }
    }

    /// Bytes of the delta that what was consumed stands for, each stream taken as evenly packed.
    #[must_use]
    pub fn spent(&self) -> f64 {
        let streams = self.streams.iter().zip(&self.packed);
        streams
            .filter(|((bytes, _), _)| !bytes.is_empty())
            .map(|((bytes, at), packed)| *packed as f64 * *at as f64 / bytes.len() as f64)
            .sum()
    }

    /// Whether every byte was consumed.
    #[must_use]
    pub fn is_consumed(&self) -> bool {
        self.streams.iter().all(|(bytes, at)| *at >= bytes.len())
    }
}

/// Reads streams, one window after the other.
pub struct Reader<R> {
    input: R,
    caps: Vec<u64>,
    finished: bool,
}

impl<R: Read> Reader<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// [`DeltaError::TooLarge`] when it asks for more than `limits` allow; malformed or cut headers.
    pub fn new(mut input: R, limits: &Limits) -> Result<Self, DeltaError> {
        let count = number(&mut input)?;
        at_most("count of streams", count, limits.streams)?;
        let mut caps = Vec::new();
        let mut left = limits.window;
        for _ in 0..count {
            let cap = number(&mut input)?;
            at_most("window of a stream", cap, left)?;
            left -= cap;
            caps.push(cap);
        }
        Ok(Self {
            input,
            caps,
            finished: false,
        })
    }

    /// Most bytes that a window takes in memory, frames aside.
    #[must_use]
    pub fn window_bytes(&self) -> u64 {
        self.caps
            .iter()
            .fold(0, |sum, cap| sum.saturating_add(*cap))
    }

    /// The next window, or none after the last.
    ///
    /// # Errors
    /// For anything but a well-formed window or end.
    pub fn next_window(&mut self) -> Result<Option<Window>, DeltaError> {
        if self.finished {
            return Ok(None);
        }
        match byte(&mut self.input)? {
            0 => {
                self.finished = true;
                let mut one = [0];
                return match read_some(&mut self.input, &mut one)? {
                    0 => Ok(None),
                    _ => Err(DeltaError::Malformed {
                        what: "data after the end",
                    }),
                };
            }
            1 => {}
            _ => {
                return Err(DeltaError::Malformed {
                    what: "neither window nor end",
                });
            }
        }
        let mut sizes = Vec::with_capacity(self.caps.len());
        for &cap in &self.caps {
            let (size, packed) = (number(&mut self.input)?, number(&mut self.input)?);
            at_most("window of a stream", size, cap)?;
            at_most("frame of a stream", packed, size)?;
            sizes.push((size, packed));
        }
        if sizes.iter().all(|(size, _)| *size == 0) {
            return Err(DeltaError::Malformed {
                what: "empty window",
            });
        }
        let mut streams = Vec::with_capacity(sizes.len());
        let frames = sizes.iter().map(|(_, packed)| *packed).collect();
        for (size, packed) in sizes {
            let mut frame = Vec::new();
            // Grows with what arrives, so a declared size alone allocates nothing.
            if self.input.by_ref().take(packed).read_to_end(&mut frame)? as u64 != packed {
                return Err(DeltaError::Truncated { part: "a frame" });
            }
            let bytes = if packed == size {
                frame
            } else {
                decompress(&frame, size)?
            };
            streams.push((bytes, 0));
        }
        let packed = frames;
        Ok(Some(Window { streams, packed }))
    }
}

pub(crate) fn decompress(frame: &[u8], size: u64) -> Result<Vec<u8>, DeltaError> {
    let malformed = |what| DeltaError::Malformed { what };
    if !frame.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]) {
        return Err(malformed("frame is not zstd's"));
    }
    match zstd_safe::find_frame_compressed_size(frame) {
        Ok(len) if len == frame.len() => {}
        _ => return Err(malformed("not exactly one zstd frame")),
    }
    let size = usize::try_from(size).map_err(|_| malformed("window exceeds memory"))?;
    let bytes = bulk::decompress(frame, size).map_err(DeltaError::Frame)?;
    if bytes.len() == size {
        Ok(bytes)
    } else {
        Err(malformed("frame is of another size"))
    }
}

fn at_most(what: &'static str, found: u64, limit: u64) -> Result<(), DeltaError> {
    if found <= limit {
        Ok(())
    } else {
        Err(DeltaError::TooLarge { what, found, limit })
    }
}

fn read_some(input: &mut impl Read, buf: &mut [u8]) -> io::Result<usize> {
    loop {
        match input.read(buf) {
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn byte(input: &mut impl Read) -> Result<u8, DeltaError> {
    let mut one = [0];
    match read_some(input, &mut one)? {
        0 => Err(DeltaError::Truncated {
            part: "the streams",
        }),
        _ => Ok(one[0]),
    }
}

fn number(input: &mut impl Read) -> Result<u64, DeltaError> {
    let mut bytes = Vec::with_capacity(varint::MAX_LEN);
    loop {
        let next = byte(input)?;
        bytes.push(next);
        if next & 0x80 == 0 || bytes.len() == varint::MAX_LEN {
            return varint::get(&mut &bytes[..]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[allow(clippy::unwrap_used, reason = "a test")]
    fn written(windows: &[Vec<Vec<u8>>]) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &[1000, 1000, 1000], 3).unwrap();
        for window in windows {
            for (stream, bytes) in writer.streams().iter_mut().zip(window) {
                stream.extend_from_slice(bytes);
            }
            writer.end_window().unwrap();
        }
        writer.finish().unwrap()
    }

    fn read(bytes: &[u8], limits: &Limits) -> Result<Vec<Vec<Vec<u8>>>, DeltaError> {
        let mut reader = Reader::new(bytes, limits)?;
        let mut windows = Vec::new();
        while let Some(window) = reader.next_window()? {
            windows.push((0..3).map(|i| window.rest(i).to_vec()).collect());
        }
        Ok(windows)
    }

    #[test]
    fn refuses_lies() {
        let packed = bulk::compress(&[7; 200], 3).unwrap();
        let one = |frame: &[u8], size: u64| {
            let mut bytes = vec![1, 0xe8, 7, 1];
            varint::put(&mut bytes, size);
            varint::put(&mut bytes, frame.len() as u64);
            [&bytes, frame, &[0]].concat()
        };
        let skippable = [&packed[..], &[0x50, 0x2a, 0x4d, 0x18, 0, 0, 0, 0]].concat();
        for (bytes, ok, name) in [
            (one(&packed, 200), true, "sound"),
            (one(&packed, 201), false, "larger than the frame gives"),
            (one(&packed, 199), false, "smaller than the frame gives"),
            (one(&packed, 2000), false, "over the cap"),
            (one(&skippable, 200), false, "skippable frame behind"),
            (
                one(&skippable[packed.len()..], 200),
                false,
                "skippable frame alone",
            ),
            (one(&packed.repeat(2), 400), false, "two frames"),
            (
                [&one(&packed, 200)[..], &[0]].concat(),
                false,
                "data after the end",
            ),
            (vec![1, 0xe8, 7, 1, 0, 0, 0], false, "empty window"),
            (vec![1, 0xe8, 7, 2], false, "neither window nor end"),
            (vec![1, 0xe8, 7], false, "no end"),
            (vec![17, 0], false, "too many streams"),
            (
                vec![1, 0xff, 0xff, 0xff, 0xff, 0xf, 0],
                false,
                "too large a window",
            ),
        ] {
            assert_eq!(read(&bytes, &Limits::default()).is_ok(), ok, "{name}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(windows in prop::collection::vec(
            prop::collection::vec(prop::collection::vec(0u8..9, 1..300), 3..=3), 0..4,
        )) {
            prop_assert_eq!(read(&written(&windows), &Limits::default()).unwrap(), windows);
        }

        #[test]
        fn never_panics(bytes: Vec<u8>) {
            let _ = read(&bytes, &Limits { streams: 4, window: 1 << 16 });
        }
    }
}
