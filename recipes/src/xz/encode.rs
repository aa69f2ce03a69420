//! Runs liblzma as the `xz` command does.

use std::io::{ErrorKind, Read, Write};

use liblzma::stream::{Action, Status, Stream};

use super::{Layout, XzParams};
use crate::{Error, Limits};

/// Bytes handed to and taken from liblzma at a time; its output does not depend on it.
const BUFFER: usize = 128 << 10;

impl XzParams {
    /// Encodes `inner` to its end as one stream.
    pub(crate) fn encode(
        &self,
        inner: &mut dyn Read,
        out: &mut dyn Write,
        limits: &Limits,
    ) -> Result<(), Error> {
        let (stream, cut) = match self.layout {
            Layout::Whole => (self.plain()?, u64::MAX),
            Layout::Cut(block) => (self.plain()?, block.max(1)),
            Layout::Threaded(block) => {
                // More threads than the memory allows would only be faster.
                let fits = |threads: &u32| self.memory(*threads) <= limits.memory;
                let threads = (1..=limits.threads.clamp(1, 64))
                    .rev()
                    .find(fits)
                    .unwrap_or(1);
                (
                    self.threaded(block, threads)?.encoder().map_err(failed)?,
                    u64::MAX,
                )
            }
        };
        let mut pump = Pump {
            stream,
            out,
            buffer: vec![0; BUFFER],
        };
        let mut chunk = vec![0; BUFFER];
        let mut room = cut;
        loop {
            let wanted = chunk.len().min(usize::try_from(room).unwrap_or(usize::MAX));
            let count = match inner.read(chunk.get_mut(..wanted).unwrap_or_default()) {
                Ok(0) => return pump.run(&[], Action::Finish),
                Ok(count) => count,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(error) => return Err(Error::Read(error)),
            };
            pump.run(chunk.get(..count).unwrap_or_default(), Action::Run)?;
            room = room.saturating_sub(count as u64);
            if room == 0 {
                // At the end of the input too: liblzma writes no empty block after it.
                pump.run(&[], Action::FullFlush)?;
                room = cut;
            }
        }
    }

    fn plain(&self) -> Result<Stream, Error> {
        Stream::new_stream_encoder(&self.chain()?, self.liblzma_check()).map_err(failed)
    }

    /// Whether the beginning of a content becomes the beginning of a block's data: what LZMA2 writes of it unasked.
    pub(super) fn begins(&self, content: &[u8], data: &[u8]) -> bool {
        let Ok(filters) = self.chain() else {
            return false;
        };
        let Ok(stream) = Stream::new_raw_encoder(&filters) else {
            return false;
        };
        let mut sink = crate::sink::Match::new(data);
        Pump {
            stream,
            out: &mut sink,
            buffer: vec![0; BUFFER],
        }
        .run(content, Action::Run)
        .is_ok()
    }
}

/// liblzma between a chunk and a writer.
struct Pump<'a> {
    stream: Stream,
    out: &'a mut dyn Write,
    buffer: Vec<u8>,
}

impl Pump<'_> {
    /// Runs `action` with `input` until it is done.
    fn run(&mut self, mut input: &[u8], action: Action) -> Result<(), Error> {
        let runs = matches!(action, Action::Run);
        loop {
            if runs && input.is_empty() {
                return Ok(());
            }
            let (read, written) = (self.stream.total_in(), self.stream.total_out());
            let status = self
                .stream
                .process(input, &mut self.buffer, action)
                .map_err(failed)?;
            let took = usize::try_from(self.stream.total_in() - read).unwrap_or(usize::MAX);
            let gave = usize::try_from(self.stream.total_out() - written).unwrap_or(usize::MAX);
            self.out
                .write_all(self.buffer.get(..gave).unwrap_or_default())
                .map_err(Error::Write)?;
            input = input.get(took..).unwrap_or_default();
            match status {
                Status::StreamEnd => return Ok(()),
                _ if took == 0 && gave == 0 => return Err(failed("no progress")),
                _ => {}
            }
        }
    }
}

fn failed(why: impl ToString) -> Error {
    Error::Encoder {
        encoder: "xz",
        why: why.to_string(),
    }
}
