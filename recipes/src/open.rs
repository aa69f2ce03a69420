//! Opens a file: finds what in it is compressed, and recipes that are proven.
//!
//! Threats: files that nest, repeat or pretend, to cost time or memory. Defences: one level only, at most as many parts as a
//! recipe may have, the bounds of [`Options`] on everything decoded, and any doubt ends in bytes that are stored as they are.

use crate::recipe::{Coding, Part, Recipe};
use crate::{MAX_ENCODED, MAX_PARTS, Options, bzimage, cpio, gzip, xz, zstd};

/// A file that was opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// How the file comes out of the inner stream.
    pub recipe: Recipe,
    /// The inner stream: that of every part of the recipe, one after another.
    pub inner: Vec<u8>,
}

/// What a format found at the beginning of some bytes.
pub(crate) struct Shape<T> {
    /// Length of what was decoded, in the file.
    pub(crate) length: usize,
    /// How to make it again, where that was found and proven.
    pub(crate) params: Option<T>,
}

/// Whether it may be worth opening the file: its first 1 KiB decides.
pub fn may_open(beginning: &[u8]) -> bool {
    compressed(beginning)
        || cpio::is_cpio(beginning)
        || beginning.get(0x202..0x206) == Some(b"HdrS")
}

/// Opens a compressed file, a concatenation of such with cpio archives and zeros, or a bzImage.
///
/// Returns only what was proven: [`encode`](crate::encode) of the inner stream gives `bytes`, and was run to see it. `None`
/// if nothing in the file is compressed, or nothing could be made again with the encoders of `options`.
pub fn open(bytes: &[u8], options: &Options) -> Option<Opened> {
    if bytes.len() as u64 > MAX_ENCODED {
        return None;
    }
    let mut walk = Walk {
        options,
        parts: Vec::new(),
        inner: Vec::new(),
        found: false,
    };
    match bzimage::payload(bytes) {
        Some(payload) => {
            walk.store(bytes.get(..payload.start)?)?;
            let rest = walk.members(bytes.get(payload.clone())?)?;
            walk.store(rest)?;
            walk.store(bytes.get(payload.end..)?)?;
        }
        None => {
            let rest = walk.members(bytes)?;
            walk.store(rest)?;
        }
    }
    walk.found.then_some(Opened {
        recipe: Recipe { parts: walk.parts },
        inner: walk.inner,
    })
}

/// The inner stream of a file that [`open`] has a recipe for, without looking for the recipe again.
pub fn inner(bytes: &[u8], options: &Options) -> Option<Vec<u8>> {
    let mut inner = Vec::new();
    let mut at = 0;
    for member in crate::members(bytes, options) {
        inner.extend_from_slice(bytes.get(at..member.offset)?);
        inner.extend_from_slice(&member.inner);
        at = member.offset + member.length;
    }
    inner.extend_from_slice(bytes.get(at..)?);
    Some(inner)
}

fn compressed(bytes: &[u8]) -> bool {
    [
        &[0x28, 0xb5, 0x2f, 0xfd][..],
        &[0xfd, b'7', b'z', b'X', b'Z', 0],
        &[0x1f, 0x8b, 8],
    ]
    .iter()
    .any(|magic| bytes.starts_with(magic))
}

struct Walk<'a> {
    options: &'a Options,
    parts: Vec<Part>,
    inner: Vec<u8>,
    found: bool,
}

impl Walk<'_> {
    /// Takes archives and compressed members from the beginning of `bytes`, and gives what is neither.
    fn members<'a>(&mut self, mut bytes: &'a [u8]) -> Option<&'a [u8]> {
        loop {
            let zeros = cpio::padding(bytes);
            let (padding, rest) = bytes.split_at_checked(zeros)?;
            // One is left for what follows.
            if rest.is_empty() || self.parts.len() + 3 > MAX_PARTS {
                return Some(bytes);
            }
            if cpio::is_cpio(rest) {
                // Any number of entries: none is kept.
                let archive = cpio::split(rest, usize::MAX).filter(|archive| archive.complete);
                let Some(archive) = archive else {
                    return Some(bytes);
                };
                let (stored, rest) = bytes.split_at_checked(zeros + archive.end)?;
                self.store(stored)?;
                bytes = rest;
            } else if compressed(rest) {
                self.store(padding)?;
                let Some(length) = self.member(rest) else {
                    return Some(rest);
                };
                bytes = rest.get(length..)?;
            } else {
                return Some(bytes);
            }
        }
    }

    /// Takes the compressed member at the beginning of `bytes`; its length, unless it is none.
    fn member(&mut self, bytes: &[u8]) -> Option<usize> {
        let start = self.inner.len();
        let inner = &mut self.inner;
        let found = match bytes.first()? {
            0x28 => zstd::open(bytes, inner, self.options)
                .map(|shape| (shape.length, shape.params.map(Coding::Zstd))),
            0xfd => xz::open(bytes, inner, self.options)
                .map(|shape| (shape.length, shape.params.map(Coding::Xz))),
            0x1f => gzip::open(bytes, inner, self.options)
                .map(|shape| (shape.length, shape.params.map(Coding::Gzip))),
            _ => None,
        };
        let Some((length, coding)) = found else {
            self.inner.truncate(start);
            return None;
        };
        match coding {
            Some(coding) => {
                let inner = (self.inner.len() - start) as u64;
                self.parts.push(Part {
                    inner,
                    encoded: length as u64,
                    coding,
                });
                self.found = true;
            }
            None => {
                self.inner.truncate(start);
                self.store(bytes.get(..length)?)?;
            }
        }
        Some(length)
    }

    /// Takes bytes as they are.
    fn store(&mut self, bytes: &[u8]) -> Option<()> {
        if bytes.is_empty() {
            return Some(());
        }
        let length = bytes.len() as u64;
        if self.inner.len() as u64 + length > self.options.inner {
            return None;
        }
        self.inner.extend_from_slice(bytes);
        match self.parts.last_mut() {
            Some(Part {
                inner,
                encoded,
                coding: Coding::Stored,
            }) => {
                *inner += length;
                *encoded += length;
            }
            _ => self.parts.push(Part {
                inner: length,
                encoded: length,
                coding: Coding::Stored,
            }),
        }
        Some(())
    }
}
