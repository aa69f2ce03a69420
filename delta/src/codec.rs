//! One file after the other into streams, and out again.
//!
//! Streams: steps (three), hints, gaps, values and new data, see the constants; a caller may have more of
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

/// Stream of counts of steps and lengths of copies.
pub const COPIES: usize = 0;
/// Stream of lengths of new data.
pub const EXTRAS: usize = 1;
/// Stream of movements in the old file.
pub const SEEKS: usize = 2;
/// Stream of hints of predicted files.
pub const HINTS: usize = 3;
/// Stream of gaps between differences.
pub const GAPS: usize = 4;
/// Stream of differences that are not zero.
pub const VALUES: usize = 5;
/// Stream of new data.
pub const DATA: usize = 6;
/// How many streams a file needs.
pub const STREAMS: usize = 7;

/// A predicted file's hints begin with which table it takes.
pub(crate) const NO_TABLE: u64 = 0;
pub(crate) const SAME_TABLE: u64 = 1;
pub(crate) const NEW_TABLE: u64 = 2;

/// Bytes made at a time.
pub(crate) const CHUNK: usize = 64 << 10;

/// Where the old bytes of a copy come from: as they are, or predicted.
pub(crate) enum Origin {
    Plain,
    Predicted(Box<Predictor>),
}

impl Origin {
    pub(crate) fn fill(
        &self,
        old: &dyn Source,
        copy: Copy,
        skip: u64,
        out: &mut [u8],
    ) -> Result<(), DeltaError> {
        match self {
            Self::Plain => Ok(old.read_at(copy.old.saturating_add(skip), out)?),
            Self::Predicted(predictor) => predictor.fill(old, copy, skip, out),
        }
    }
}

/// Runs over the steps with absolute offsets: (copy, extra) each.
pub(crate) fn pieces(steps: &[Step]) -> impl Iterator<Item = (Copy, u64)> + '_ {
    let (mut old, mut new) = (0u64, 0u64);
    steps.iter().map(move |step| {
        let copy = Copy {
            old,
            new,
            len: step.copy,
        };
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
    spent: f64,
    table: Option<Arc<Table>>,
}

impl<R: Read> Decoder<R> {
    /// Takes a reader that has delivered nothing yet.
    pub fn new(reader: Reader<R>) -> Self {
        let (window, sparse) = (Window::default(), sparse::Decoder::default());
        Self {
            reader,
            window,
            sparse,
            started: false,
            spent: 0.0,
            table: None,
        }
    }

    /// Bytes of the delta that what was decoded so far stands for, about.
    pub fn spent(&self) -> f64 {
        self.spent + self.window.spent()
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
                return Err(DeltaError::Malformed {
                    what: "streams end at different points",
                });
            }
        }
        self.spent += self.window.spent();
        let window = self.reader.next_window()?;
        self.started = window.is_some();
        self.window = window.unwrap_or_default();
        Ok(self.started)
    }

    fn more(&mut self) -> Result<(), DeltaError> {
        if self.next_window()? {
            Ok(())
        } else {
            Err(DeltaError::Truncated {
                part: "the streams",
            })
        }
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
        if self.window.rest(COPIES).is_empty() {
            self.more()?;
        }
        let [mut a, mut b, mut c] = [COPIES, EXTRAS, SEEKS].map(|i| self.window.rest(i));
        let steps = step::decode(&mut a, &mut b, &mut c, old.len(), new_len)?;
        for (stream, left) in [(COPIES, a.len()), (EXTRAS, b.len()), (SEEKS, c.len())] {
            self.window.keep(stream, left);
        }
        let origin = if predicted {
            let mut rest = self.window.rest(HINTS);
            let table = match varint::get(&mut rest)? {
                NO_TABLE => None,
                SAME_TABLE => self.table.clone(),
                NEW_TABLE => Some(Arc::new(Table::get(&mut rest)?)),
                _ => {
                    return Err(DeltaError::Malformed {
                        what: "unknown kind of table",
                    });
                }
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
            self.take(DATA, extra, out)?;
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
    pub fn take(
        &mut self,
        stream: usize,
        mut len: u64,
        out: &mut dyn Write,
    ) -> Result<(), DeltaError> {
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
            return Err(DeltaError::Malformed {
                what: "more windows than files",
            });
        }
        Ok(())
    }
}

#[cfg(all(test, feature = "encode"))]
mod tests {
    use super::*;
    use crate::{
        bsdiff::Options,
        encode::{Encoder, Plan},
        streams::{Limits, Writer},
    };
    use proptest::prelude::*;

    #[allow(clippy::unwrap_used, reason = "a test")]
    fn encoded(files: &[(Vec<u8>, Vec<u8>)], window: u64) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &[1 << 20; STREAMS], 3).unwrap();
        let mut encoder = Encoder::new(window);
        for (old, new) in files {
            let plan = Plan::plain(old, new, &Options::default()).unwrap();
            encoder.file(&plan, old, new, &mut writer).unwrap();
        }
        encoder.end_window(&mut writer).unwrap();
        writer.finish().unwrap()
    }

    fn decoded(delta: &[u8], files: &[(Vec<u8>, Vec<u8>)]) -> Result<Vec<Vec<u8>>, DeltaError> {
        let mut decoder = Decoder::new(Reader::new(delta, &Limits::default())?);
        let mut all = Vec::new();
        for (old, new) in files {
            let mut out = Vec::new();
            decoder.file(old, new.len() as u64, false, &mut out)?;
            all.push(out);
        }
        decoder.finish()?;
        Ok(all)
    }

    fn files() -> impl Strategy<Value = Vec<(Vec<u8>, Vec<u8>)>> {
        let bytes = || prop::collection::vec(0u8..3, 0..300);
        prop::collection::vec((bytes(), bytes()), 1..5)
    }

    #[test]
    fn spans_windows() {
        let old: Vec<u8> = (0..1_000_000u32)
            .map(|i| (i.wrapping_mul(i) >> 7) as u8)
            .collect();
        let new: Vec<u8> = old
            .iter()
            .enumerate()
            .map(|(i, b)| b ^ u8::from(i % 7 == 0))
            .collect();
        let files = [(old.clone(), new), (Vec::new(), old), (vec![1], Vec::new())];
        let delta = encoded(&files, 100_000);
        let got = decoded(&delta, &files).unwrap();
        assert!(got.iter().zip(&files).all(|(got, (_, new))| got == new));
        for len in (0..delta.len()).step_by(997) {
            assert!(decoded(&delta[..len], &files).is_err(), "cut at {len}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(files in files(), window in 1u64..300) {
            let got = decoded(&encoded(&files, window), &files).unwrap();
            for (got, (_, new)) in got.iter().zip(&files) {
                prop_assert_eq!(got, new);
            }
        }

        #[test]
        fn damage_is_an_error_or_other_bytes(files in files(), at: prop::sample::Index, to: u8) {
            let mut delta = encoded(&files, 100);
            let at = at.index(delta.len());
            delta[at] = to;
            let _ = decoded(&delta, &files);
        }
    }
}
