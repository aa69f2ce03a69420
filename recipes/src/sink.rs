//! Writers that bound and compare what an encoder gives.
//!
//! Threats: an encoder, or a recipe, that writes without end. Defence: the recipe says how long each part is, and the
//! first byte too many is an error, before it is written.

use std::io::{self, ErrorKind, Read, Write};

use crate::Error;

/// Passes on as many bytes as expected and refuses more.
pub(crate) struct Bounded<'a> {
    out: &'a mut dyn Write,
    expected: u64,
    written: u64,
    error: Option<Error>,
}

impl<'a> Bounded<'a> {
    pub(crate) fn new(out: &'a mut dyn Write, expected: u64) -> Self {
        Self {
            out,
            expected,
            written: 0,
            error: None,
        }
    }

    /// The verdict, given what the encoder said: its own failure is only told when the sink had none.
    pub(crate) fn finish(self, result: Result<(), Error>) -> Result<(), Error> {
        if let Some(error) = self.error {
            return Err(error);
        }
        result?;
        if self.written != self.expected {
            return Err(Error::OutputLength {
                expected: self.expected,
                found: self.written,
            });
        }
        Ok(())
    }
}

impl Write for Bounded<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let after = self.written.saturating_add(buffer.len() as u64);
        if after > self.expected {
            self.error = Some(Error::OutputLength {
                expected: self.expected,
                found: after,
            });
            return Err(ErrorKind::FileTooLarge.into());
        }
        if let Err(error) = self.out.write_all(buffer) {
            let kind = error.kind();
            self.error = Some(Error::Write(error));
            return Err(kind.into());
        }
        self.written = after;
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Takes exactly the bytes it was made with, and fails at the first other one: an attempt ends as soon as it is wrong.
pub(crate) struct Match<'a> {
    rest: &'a [u8],
}

impl<'a> Match<'a> {
    pub(crate) fn new(expected: &'a [u8]) -> Self {
        Self { rest: expected }
    }

    /// Bytes that did not come yet.
    pub(crate) fn missing(&self) -> usize {
        self.rest.len()
    }
}

impl Write for Match<'_> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        match self.rest.strip_prefix(buffer) {
            Some(rest) => self.rest = rest,
            None => return Err(ErrorKind::InvalidData.into()),
        }
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Reads the inner stream of one part and tells whether it ended early.
pub(crate) struct Inner<'a> {
    source: &'a mut dyn Read,
    expected: u64,
    taken: u64,
    error: Option<io::Error>,
    short: bool,
}

impl<'a> Inner<'a> {
    pub(crate) fn new(source: &'a mut dyn Read, expected: u64) -> Self {
        Self {
            source,
            expected,
            taken: 0,
            error: None,
            short: false,
        }
    }

    /// The verdict, given what the encoder said.
    pub(crate) fn finish(self, result: Result<(), Error>) -> Result<(), Error> {
        if let Some(error) = self.error {
            return Err(Error::Read(error));
        }
        if self.short {
            return Err(Error::InnerShort {
                expected: self.expected,
                found: self.taken,
            });
        }
        result
    }
}

impl Read for Inner<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.expected - self.taken).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let Some(target) = buffer.get_mut(..wanted).filter(|target| !target.is_empty()) else {
            return Ok(0);
        };
        match self.source.read(target) {
            Ok(0) => {
                self.short = true;
                Err(ErrorKind::UnexpectedEof.into())
            }
            Ok(count) => {
                self.taken = self.taken.saturating_add(count as u64).min(self.expected);
                Ok(count)
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => Err(error),
            Err(error) => {
                let kind = error.kind();
                self.error = Some(error);
                Err(kind.into())
            }
        }
    }
}
