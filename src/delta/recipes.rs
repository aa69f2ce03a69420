//! Carries out the recipes of a delta: decoding members of old files, encoding new ones.
//!
//! Threats: recipes that ask for memory, time or lengths without end. Defences: recipes are parsed under
//! caps and hold their declared memory against the limit before anything runs; what is decoded has the
//! length that the delta declares, and what is encoded is checked by the hash of the whole layer.

use std::io::{self, Read, Write};

use bundle_delta::{Source, varint};
use bundle_recipes::{Kind, Limits, Options, Recipe};

/// Bytes read at once.
const BUFFER: usize = 1 << 20;

/// Encodes `input` by a recipe.
pub(super) fn encode(
    recipe: &[u8],
    input: &dyn Source,
    out: &mut dyn Write,
    limits: &Limits,
) -> io::Result<()> {
    let recipe = Recipe::parse(recipe).map_err(io::Error::other)?;
    let input = io::BufReader::with_capacity(BUFFER, Reader { input, position: 0 });
    bundle_recipes::encode(&recipe, input, out, limits).map_err(io::Error::other)
}

/// Decodes a member of `input`: its kind, where it begins and its length.
pub(super) fn decode(recipe: &[u8], input: &dyn Source, out: &mut dyn Write) -> io::Result<()> {
    let mut rest = recipe;
    let mut number = || varint::get(&mut rest).map_err(io::Error::other);
    let (kind, offset, length) = (number()?, number()?, number()?);
    let kind = match kind {
        0 => Kind::Zstd,
        1 => Kind::Xz,
        2 => Kind::Gzip,
        _ => return Err(io::Error::other("unknown kind of compression")),
    };
    let end = offset.checked_add(length);
    if end.is_none_or(|end| end > input.len()) {
        return Err(io::Error::other("a member outside its file"));
    }
    let reader = Reader {
        input,
        position: offset,
    };
    let reader = io::BufReader::with_capacity(BUFFER, reader.take(length));
    bundle_recipes::decode_stream(kind, reader, out, &Options::default())
}

/// Reads a source from a position on.
struct Reader<'a> {
    input: &'a dyn Source,
    position: u64,
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.input.len().saturating_sub(self.position);
        let count = left.min(buffer.len() as u64) as usize;
        let part = buffer.get_mut(..count).unwrap_or_default();
        self.input.read_at(self.position, part)?;
        self.position += count as u64;
        Ok(count)
    }
}
