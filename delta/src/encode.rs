//! Files into streams: plans, and the encoder that writes them. See `codec` for the order.
//!
//! Build-box only; what it writes is decoded and compared before it ships.

use std::{io::Write, sync::Arc};

use crate::{
    DeltaError, bsdiff,
    codec::{CHUNK, DATA, GAPS, HINTS, NEW_TABLE, NO_TABLE, Origin, SAME_TABLE, pieces},
    elf::{self, Predictor, Table},
    sparse,
    step::{self, Step},
    streams::Writer,
    varint,
};

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
        Ok(Self {
            steps: bsdiff::diff(old, new, options)?,
            hints: None,
            table: None,
        })
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
        let plan = |(steps, hints)| Self {
            steps,
            hints: Some(hints),
            table,
        };
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
        Self {
            sparse: sparse::Encoder::default(),
            window,
            table: None,
        }
    }

    /// Takes `table` for known to the decoder, as it is to a trial that only compares costs.
    #[must_use]
    pub fn knowing(mut self, table: Option<Arc<Table>>) -> Self {
        self.table = table;
        self
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
        if let [copies, extras, seeks, ..] = streams {
            step::encode(&plan.steps, copies, extras, seeks);
        }
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
                if let [_, _, _, _, gaps, values, ..] = writer.streams() {
                    self.sparse.push(piece, out, gaps, values);
                }
            }
            for piece in new[end..end + extra as usize].chunks(CHUNK) {
                self.make_room(writer)?;
                writer.streams()[DATA].extend_from_slice(piece);
            }
        }
        Ok(())
    }

    fn make_room<W: Write>(&mut self, writer: &mut Writer<W>) -> Result<(), DeltaError> {
        if writer.pending() >= self.window {
            self.end_window(writer)
        } else {
            Ok(())
        }
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
