//! Carries a recipe out: inner stream in, file out.

use std::io::{Read, Write};

use crate::recipe::{Coding, Recipe};
use crate::sink::{Bounded, Inner};
use crate::{Error, Limits};

/// Encodes the inner stream into the file, as a stream: what is held in memory is what [`Recipe::memory`] declares.
///
/// Takes exactly [`Recipe::inner_length`] bytes of `inner` and writes at most [`Recipe::encoded_length`] bytes. That the
/// bytes are the right ones is for the caller to check, by the digest that it trusts.
///
/// # Errors
///
/// [`Error::Memory`] before anything is done, [`Error::EncoderMissing`] and [`Error::EncoderUnfit`] before the part that
/// needs the encoder; otherwise whatever reading, encoding or writing met. What was written until then is a part of the file.
pub fn encode(
    recipe: &Recipe,
    mut inner: impl Read,
    mut out: impl Write,
    limits: &Limits,
) -> Result<(), Error> {
    let needed = recipe.memory();
    if needed > limits.memory {
        return Err(Error::Memory {
            needed,
            allowed: limits.memory,
        });
    }
    for part in &recipe.parts {
        let mut source = Inner::new(&mut inner, part.inner);
        let mut sink = Bounded::new(&mut out, part.encoded);
        let result = match &part.coding {
            Coding::Stored => copy(&mut source, &mut sink),
            Coding::Zstd(params) => params.encode(part.inner, &mut source, &mut sink, limits),
            Coding::Xz(params) => params.encode(&mut source, &mut sink, limits),
            Coding::Gzip(params) => params.encode(part.inner, &mut source, &mut sink),
        };
        let result = source.finish(result);
        sink.finish(result)?;
    }
    Ok(())
}

fn copy(source: &mut dyn Read, sink: &mut dyn Write) -> Result<(), Error> {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let count = match source.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Error::Read(error)),
        };
        sink.write_all(buffer.get(..count).unwrap_or_default())
            .map_err(Error::Write)?;
    }
}
