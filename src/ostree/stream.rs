//! Turns a layer's stored bytes into its tar stream on a thread of its own, hashing and bounding it.
//!
//! Threats: decompression bombs, windows that take gigabytes, frames or members that one reader sees and another does
//! not, data behind the compressed stream. Defences: output is bounded in bytes and by its ratio to the input; zstd keeps
//! its default window limit and may consist of one frame, unless the signed manifest announces zstd:chunked; gzip may
//! have several members, as its format says; anything behind is an error. The consumer sees bytes before their hash is
//! known and keeps nothing until it is.

use std::io::{self, BufReader, Read, Write};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender};

use bundle_format::Digest;
use flate2::bufread::MultiGzDecoder;
use sha2::{Digest as _, Sha256};

use super::error::OstreeError;
use super::image::{ImageLayer, LayerStream, Rebuild};
use super::limits::Limits;
use crate::layer::Encoding;

/// Bytes handed from thread to thread at once.
const BUFFER: usize = 512 << 10;
/// Buffers on their way; with those at both ends about 4 MiB.
pub(super) const BUFFERS: usize = 6;
/// Bytes read from the source at once.
const INPUT: usize = 256 << 10;

/// The producing end: reads, decompresses and hashes one layer.
pub(super) struct Pump<'a> {
    pub(super) layer: &'a ImageLayer,
    pub(super) limits: &'a Limits,
    /// Stored bytes read so far, or bytes rebuilt, for progress.
    pub(super) read: &'a AtomicU64,
    pub(super) filled: SyncSender<Vec<u8>>,
    pub(super) empty: Receiver<Vec<u8>>,
}

/// How a pump ended where nothing was wrong with the layer.
pub(super) enum Pumped {
    /// The whole layer was read; this is its `diff_id`.
    Whole(Digest),
    /// The consumer has stopped listening.
    Abandoned,
}

impl Pump<'_> {
    /// Takes all of `stream`.
    pub(super) fn run(self, stream: LayerStream<'_>) -> Result<Pumped, OstreeError> {
        match stream {
            LayerStream::Stored(source) => self.unpack(source),
            LayerStream::Rebuilt(write) => self.rebuild(write),
        }
    }

    fn unpack(self, source: Box<dyn Read + Send + '_>) -> Result<Pumped, OstreeError> {
        let encoding =
            Encoding::of(&self.layer.media_type).ok_or_else(|| OstreeError::MediaType {
                layer: self.layer.digest,
                media_type: self.layer.media_type.chars().take(120).collect(),
            })?;
        let counted = Counted {
            source,
            count: self.read,
            // One byte more than declared proves that there are too many.
            bound: self.layer.size.saturating_add(1),
            failure: None,
        };
        let mut input = BufReader::with_capacity(INPUT, counted);
        let result = match encoding {
            Encoding::Tar => self.copy(&mut input),
            Encoding::Gzip => self.copy(&mut MultiGzDecoder::new(&mut input)),
            Encoding::Zstd => self.copy_zstd(&mut input),
        };
        // What the source said explains what the decompressor made of it.
        if let Some(source) = input.get_mut().failure.take() {
            return Err(self.source_failed(source));
        }
        let pumped = result?;
        let read = self.read.load(Ordering::Relaxed);
        if matches!(pumped, Pumped::Whole(_)) && read != self.layer.size {
            let (layer, expected) = (self.layer.digest, self.layer.size);
            return Err(OstreeError::LayerSize {
                layer,
                expected,
                found: read,
            });
        }
        Ok(pumped)
    }

    fn rebuild(self, write: Rebuild<'_>) -> Result<Pumped, OstreeError> {
        let mut sink = Sink {
            pump: &self,
            buffer: Vec::with_capacity(BUFFER),
            hasher: Sha256::new(),
            total: 0,
            abandoned: false,
        };
        let result = write(&mut sink).and_then(|()| sink.send());
        match (sink.abandoned, result) {
            (true, _) => Ok(Pumped::Abandoned),
            (false, Err(source)) => Err(self.source_failed(source)),
            (false, Ok(())) => Ok(Pumped::Whole(Digest::from_bytes(
                sink.hasher.finalize().into(),
            ))),
        }
    }

    fn source_failed(&self, source: io::Error) -> OstreeError {
        OstreeError::Source {
            layer: self.layer.digest,
            source,
        }
    }

    fn copy_zstd(&self, input: &mut BufReader<Counted<'_>>) -> Result<Pumped, OstreeError> {
        let failed = |source| OstreeError::Decompress {
            layer: self.layer.digest,
            source,
        };
        let decoder = zstd::stream::read::Decoder::with_buffer(&mut *input).map_err(failed)?;
        if self.layer.zstd_chunked {
            // Every frame's content is in the diff_id, and what skippable frames hold is content to nobody.
            return self.copy(&mut { decoder });
        }
        let pumped = self.copy(&mut decoder.single_frame())?;
        let mut byte = [0];
        if matches!(pumped, Pumped::Whole(_)) && input.read(&mut byte).map_err(failed)? != 0 {
            let message = "more frames or other data behind the first frame";
            return Err(failed(io::Error::new(io::ErrorKind::InvalidData, message)));
        }
        Ok(pumped)
    }

    fn copy(&self, tar: &mut dyn Read) -> Result<Pumped, OstreeError> {
        let mut hasher = Sha256::new();
        let mut total = 0_u64;
        loop {
            let mut buffer = self.empty.try_recv().unwrap_or_default();
            buffer.resize(BUFFER, 0);
            let mut length = 0;
            let mut end = false;
            while length < BUFFER && !end {
                match tar.read(buffer.get_mut(length..).unwrap_or_default()) {
                    Ok(0) => end = true,
                    Ok(read) => length += read,
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(source) => {
                        return Err(OstreeError::Decompress {
                            layer: self.layer.digest,
                            source,
                        });
                    }
                }
            }
            buffer.truncate(length);
            total = total.saturating_add(length as u64);
            self.check(total)?;
            hasher.update(&buffer);
            if length > 0 && self.filled.send(buffer).is_err() {
                return Ok(Pumped::Abandoned);
            }
            if end {
                return Ok(Pumped::Whole(Digest::from_bytes(hasher.finalize().into())));
            }
        }
    }

    fn check(&self, total: u64) -> Result<(), OstreeError> {
        let exceeded = |what, limit| OstreeError::Limit {
            layer: self.layer.digest,
            what,
            limit,
        };
        if total > self.limits.tar_bytes {
            return Err(exceeded("bytes of tar", self.limits.tar_bytes));
        }
        let read = self.read.load(Ordering::Relaxed);
        if total > self.limits.ratio_grace && total > read.saturating_mul(self.limits.ratio) {
            return Err(exceeded("times the stored bytes", self.limits.ratio));
        }
        Ok(())
    }
}

/// Takes a tar stream from whoever rebuilds it.
struct Sink<'a, 'b> {
    pump: &'b Pump<'a>,
    buffer: Vec<u8>,
    hasher: Sha256,
    total: u64,
    abandoned: bool,
}

impl Sink<'_, '_> {
    fn send(&mut self) -> io::Result<()> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        self.total = self.total.saturating_add(self.buffer.len() as u64);
        if self.total > self.pump.limits.tar_bytes {
            return Err(io::Error::other("the layer is larger than allowed"));
        }
        self.hasher.update(&self.buffer);
        self.pump.read.store(self.total, Ordering::Relaxed);
        let next = self.pump.empty.try_recv().unwrap_or_default();
        let full = std::mem::replace(&mut self.buffer, next);
        self.buffer.clear();
        self.pump.filled.send(full).map_err(|_| {
            self.abandoned = true;
            io::Error::from(io::ErrorKind::BrokenPipe)
        })
    }
}

impl Write for Sink<'_, '_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let room = BUFFER.saturating_sub(self.buffer.len());
        let part = bytes.get(..room).unwrap_or(bytes);
        self.buffer.extend_from_slice(part);
        if self.buffer.len() >= BUFFER {
            self.send()?;
        }
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Counts and bounds what is read from a source, and remembers how it failed.
struct Counted<'a> {
    source: Box<dyn Read + Send + 'a>,
    count: &'a AtomicU64,
    bound: u64,
    failure: Option<io::Error>,
}

impl Read for Counted<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let rest = self
            .bound
            .saturating_sub(self.count.load(Ordering::Relaxed));
        let wanted = usize::try_from(rest).map_or(buffer.len(), |rest| rest.min(buffer.len()));
        match self
            .source
            .read(buffer.get_mut(..wanted).unwrap_or_default())
        {
            Ok(read) => {
                self.count.fetch_add(read as u64, Ordering::Relaxed);
                Ok(read)
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let seen = io::Error::new(error.kind(), "the source failed");
                self.failure = Some(error);
                Err(seen)
            }
        }
    }
}

/// The consuming end: the tar stream, for a parser. It ends early where the pump fails, whose error then counts.
pub(super) struct Feed<'a> {
    filled: Receiver<Vec<u8>>,
    empty: Sender<Vec<u8>>,
    current: Vec<u8>,
    position: usize,
    /// Called between buffers; an error stops the parser.
    between: &'a dyn Fn() -> io::Result<()>,
}

impl<'a> Feed<'a> {
    pub(super) fn new(
        filled: Receiver<Vec<u8>>,
        empty: Sender<Vec<u8>>,
        between: &'a dyn Fn() -> io::Result<()>,
    ) -> Self {
        Self {
            filled,
            empty,
            current: Vec::new(),
            position: 0,
            between,
        }
    }
}

impl Read for Feed<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.position >= self.current.len() {
            (self.between)()?;
            let Ok(next) = self.filled.recv() else {
                return Ok(0);
            };
            // The pump may be gone already; then nobody needs the buffer.
            let _ = self.empty.send(std::mem::replace(&mut self.current, next));
            self.position = 0;
        }
        let read = self
            .current
            .get(self.position..)
            .unwrap_or_default()
            .read(buffer)?;
        self.position += read;
        Ok(read)
    }
}
