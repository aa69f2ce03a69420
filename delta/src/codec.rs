//! One file after the other into streams, and out again.
//!
//! Streams: steps, hints, gaps, values and new data, see the constants; a caller may have more of
//! its own behind them. All of a file's steps and hints stand in the window where it begins.
//! A window ends where its streams are used up, all at the same point.
//!
//! Threats: streams that end at different points, steps that lie. Defences: a window is left only
//! when nothing is over in any stream; steps are checked as a whole before the first byte is made.
//! Memory: one window, two tables of at most 24 bytes a step, and 64 KiB of the file.

use std::{
    io::{Read, Write},
    sync::Arc,
};

use crate::{
    DeltaError,
    elf::{Predictor, Table},
    source::Source,
    sparse,
    step::{self, Copy, Step},
    streams::{Reader, Window},
    varint,
};

/// Stream of steps.
pub const STEPS: usize = 0;
/// Stream of hints of predicted files.
pub const HINTS: usize = 1;
/// Stream of gaps between differences.
pub const GAPS: usize = 2;
/// Stream of differences that are not zero.
pub const VALUES: usize = 3;
/// Stream of new data.
pub const EXTRA: usize = 4;
/// How many streams a file needs.
pub const STREAMS: usize = 5;

/// A predicted file's hints begin with which table it takes.
const NO_TABLE: u64 = 0;
const SAME_TABLE: u64 = 1;
const NEW_TABLE: u64 = 2;

/// Bytes made at a time.
const CHUNK: usize = 64 << 10;

/// Where the old bytes of a copy come from: as they are, or predicted.
enum Origin {
    Plain,
    Predicted(Box<Predictor>),
}

impl Origin {
    fn fill(&self, old: &dyn Source, copy: Copy, skip: u64, out: &mut [u8]) -> Result<(), DeltaError> {
        match self {
            Self::Plain => Ok(old.read_at(copy.old.saturating_add(skip), out)?),
            Self::Predicted(predictor) => predictor.fill(old, copy, skip, out),
        }
    }
}

/// Runs over the steps with absolute offsets: (copy, extra) each.
fn pieces(steps: &[Step]) -> impl Iterator<Item = (Copy, u64)> + '_ {
    let (mut old, mut new) = (0u64, 0u64);
    steps.iter().map(move |step| {
        let copy = Copy { old, new, len: step.copy };
        new = new.wrapping_add(step.copy).wrapping_add(step.extra);
        old = old.wrapping_add(step.copy).wrapping_add_signed(step.seek);
        (copy, step.extra)
    })
}

/// Rebuilds files from streams.
pub struct Decoder<R> {
    reader: Reader<R>,
    window: Window,
    sparse: sparse::Decoder,
    started: bool,
    table: Option<Arc<Table>>,
}

impl<R: Read> Decoder<R> {
    /// Takes a reader that has delivered nothing yet.
    pub fn new(reader: Reader<R>) -> Self {
        let (window, sparse) = (Window::default(), sparse::Decoder::default());
        Self { reader, window, sparse, started: false, table: None }
    }

    /// The current window, for streams of the caller's own.
    pub fn window(&mut self) -> &mut Window {
        &mut self.window
    }

    /// Leaves a window that is used up, for the next; false after the last.
    ///
    /// # Errors
    /// When the window is not used up, or the next is malformed.
    pub fn next_window(&mut self) -> Result<bool, DeltaError> {
        if self.started {
            let mut gaps = self.window.rest(GAPS);
            self.sparse.finish(&mut gaps)?;
            let left = gaps.len();
            self.window.keep(GAPS, left);
            if !self.window.is_consumed() {
                return Err(DeltaError::Malformed { what: "streams end at different points" });
            }
        }
        let window = self.reader.next_window()?;
        self.started = window.is_some();
        self.window = window.unwrap_or_default();
        Ok(self.started)
    }

    fn more(&mut self) -> Result<(), DeltaError> {
        if self.next_window()? { Ok(()) } else { Err(DeltaError::Truncated { part: "the streams" }) }
    }

    /// Rebuilds the next file, of `new_len` bytes, from `old`; `predicted` as it was encoded.
    ///
    /// # Errors
    /// Anything malformed; when reading or writing fails. What was written then is worthless.
    pub fn file(
        &mut self,
        old: &dyn Source,
        new_len: u64,
        predicted: bool,
        out: &mut dyn Write,
    ) -> Result<(), DeltaError> {
        if self.window.rest(STEPS).is_empty() {
            self.more()?;
        }
        let mut rest = self.window.rest(STEPS);
        let steps = step::decode(&mut rest, old.len(), new_len)?;
        let left = rest.len();
        self.window.keep(STEPS, left);
        let origin = if predicted {
            let mut rest = self.window.rest(HINTS);
            let table = match varint::get(&mut rest)? {
                NO_TABLE => None,
                SAME_TABLE => self.table.clone(),
                NEW_TABLE => Some(Arc::new(Table::get(&mut rest)?)),
                _ => return Err(DeltaError::Malformed { what: "unknown kind of table" }),
            };
            self.table.clone_from(&table);
            let predictor = Predictor::new(old, &mut rest, &steps, table)?;
            let left = rest.len();
            self.window.keep(HINTS, left);
            Origin::Predicted(Box::new(predictor))
        } else {
            Origin::Plain
        };
        for (copy, extra) in pieces(&steps) {
            self.copy(old, &origin, copy, out)?;
            self.take(EXTRA, extra, out)?;
        }
        Ok(())
    }

    fn copy(
        &mut self,
        old: &dyn Source,
        origin: &Origin,
        copy: Copy,
        out: &mut dyn Write,
    ) -> Result<(), DeltaError> {
        let mut buf = vec![0; copy.len.min(CHUNK as u64) as usize];
        let mut skip = 0;
        while skip < copy.len {
            let len = (copy.len - skip).min(CHUNK as u64) as usize;
            let chunk = buf.get_mut(..len).unwrap_or_default();
            origin.fill(old, copy, skip, chunk)?;
            let mut done = 0;
            while let Some(todo) = chunk.get_mut(done..).filter(|todo| !todo.is_empty()) {
                if !self.started {
                    self.more()?;
                }
                let (mut gaps, mut values) = (self.window.rest(GAPS), self.window.rest(VALUES));
                let applied = self.sparse.apply(todo, &mut gaps, &mut values)?;
                let (gaps, values) = (gaps.len(), values.len());
                self.window.keep(GAPS, gaps);
                self.window.keep(VALUES, values);
                done += applied;
                if done < len {
                    self.more()?;
                }
            }
            out.write_all(chunk)?;
            skip += len as u64;
        }
        Ok(())
    }

    /// Writes `len` bytes of stream `stream` to `out`, through as many windows as they span.
    ///
    /// # Errors
    /// When the streams end first, or end at different points.
    pub fn take(&mut self, stream: usize, mut len: u64, out: &mut dyn Write) -> Result<(), DeltaError> {
        while len > 0 {
            let rest = self.window.rest(stream);
            if rest.is_empty() {
                self.more()?;
                continue;
            }
            let now = usize::try_from(len).unwrap_or(usize::MAX).min(rest.len());
            let (taken, left) = rest.split_at(now);
            out.write_all(taken)?;
            let left = left.len();
            self.window.keep(stream, left);
            len -= now as u64;
        }
        Ok(())
    }

    /// Checks that nothing is left.
    ///
    /// # Errors
    /// When anything is.
    pub fn finish(mut self) -> Result<(), DeltaError> {
        if self.next_window()? {
            return Err(DeltaError::Malformed { what: "more windows than files" });
        }
        Ok(())
    }
}

#[cfg(feature = "encode")]
mod encode {
    use super::*;
    use crate::{bsdiff, elf, streams::Writer};

    /// How one file is made from another.
    #[derive(Clone, Debug)]
    pub struct Plan {
        /// Steps.
        pub steps: Vec<Step>,
        /// Hints; none where nothing is predicted.
        pub hints: Option<Vec<u8>>,
        /// What modules share, for predicted ones.
        pub table: Option<Arc<Table>>,
    }

    impl Plan {
        /// Plans without prediction.
        ///
        /// # Errors
        /// When memory runs out.
        pub fn plain(old: &[u8], new: &[u8], options: &bsdiff::Options) -> Result<Self, DeltaError> {
            Ok(Self { steps: bsdiff::diff(old, new, options)?, hints: None, table: None })
        }

        /// Plans with prediction, if both are ELF files of a kind known.
        ///
        /// # Errors
        /// When memory runs out.
        pub fn predicted(
            old: &[u8],
            new: &[u8],
            table: Option<Arc<Table>>,
            options: &bsdiff::Options,
        ) -> Result<Option<Self>, DeltaError> {
            let planned = elf::plan(old, new, table.as_deref(), options)?;
            let plan = |(steps, hints)| Self { steps, hints: Some(hints), table };
            Ok(planned.map(plan))
        }
    }

    /// Writes files into streams.
    #[derive(Debug)]
    pub struct Encoder {
        sparse: sparse::Encoder,
        window: u64,
        table: Option<Arc<Table>>,
    }

    impl Encoder {
        /// Ends windows at about `window` bytes of all streams together.
        #[must_use]
        pub fn new(window: u64) -> Self {
            Self { sparse: sparse::Encoder::default(), window, table: None }
        }

        /// Writes one file.
        ///
        /// # Errors
        /// When `plan` is not for these files, or writing fails.
        pub fn file<W: Write>(
            &mut self,
            plan: &Plan,
            old: &[u8],
            new: &[u8],
            writer: &mut Writer<W>,
        ) -> Result<(), DeltaError> {
            step::check(&plan.steps, old.len() as u64, new.len() as u64)?;
            if writer.pending() >= self.window {
                self.end_window(writer)?;
            }
            let streams = writer.streams();
            step::encode(&plan.steps, &mut streams[STEPS]);
            let origin = match &plan.hints {
                None => Origin::Plain,
                Some(hints) => {
                    let out = &mut streams[HINTS];
                    match &plan.table {
                        None => varint::put(out, NO_TABLE),
                        same if *same == self.table => varint::put(out, SAME_TABLE),
                        Some(table) => {
                            varint::put(out, NEW_TABLE);
                            table.put(out);
                        }
                    }
                    self.table.clone_from(&plan.table);
                    out.extend_from_slice(hints);
                    let mut hints = hints.as_slice();
                    let table = plan.table.clone();
                    let predictor = Predictor::new(&old, &mut hints, &plan.steps, table)?;
                    Origin::Predicted(Box::new(predictor))
                }
            };
            let mut buf = vec![0; CHUNK];
            for (copy, extra) in pieces(&plan.steps) {
                let (start, end) = (copy.new as usize, (copy.new + copy.len) as usize);
                for (i, piece) in new[start..end].chunks(CHUNK).enumerate() {
                    self.make_room(writer)?;
                    let out = &mut buf[..piece.len()];
                    origin.fill(&old, copy, (i * CHUNK) as u64, out)?;
                    if let [_, _, gaps, values, ..] = writer.streams() {
                        self.sparse.push(piece, out, gaps, values);
                    }
                }
                for piece in new[end..end + extra as usize].chunks(CHUNK) {
                    self.make_room(writer)?;
                    writer.streams()[EXTRA].extend_from_slice(piece);
                }
            }
            Ok(())
        }

        fn make_room<W: Write>(&mut self, writer: &mut Writer<W>) -> Result<(), DeltaError> {
            if writer.pending() >= self.window { self.end_window(writer) } else { Ok(()) }
        }

        /// Ends the window, unless it is empty.
        ///
        /// # Errors
        /// When writing fails.
        pub fn end_window<W: Write>(&mut self, writer: &mut Writer<W>) -> Result<(), DeltaError> {
            if self.sparse.is_idle() && writer.pending() == 0 {
                return Ok(());
            }
            self.sparse.flush(&mut writer.streams()[GAPS]);
            writer.end_window()
        }
    }
}
#[cfg(feature = "encode")]
pub use encode::{Encoder, Plan};
