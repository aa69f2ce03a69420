//! The recipe's wire form, version 1: small, canonical, and read with caps.
//!
//! One byte of version, the number of parts, and the parts: length of the inner stream, length in the file, a byte of
//! kind, and what the kind needs. Numbers are LEB128 of the fewest bytes.
//!
//! Threats: counts and lengths that lie, numbers of many forms, parameters that an encoder asserts on, parts that take
//! nothing. Defences: every length is checked against the bytes that are left before anything is allocated, sums against the
//! limits of the crate, parameters against what the encoders take; there is one form only, and nothing may follow it.

use crate::gzip::{self, Deflate, Encoder, GzipParams, MIN_PIECE, Marker, Memory, Pieces};
use crate::recipe::{Coding, Part, Recipe};
use crate::xz::{self, Branch, Check, Layout, Lzma, XzParams};
use crate::zstd::{Version, ZstdParams};
use crate::{Error, MAX_ENCODED, MAX_INNER, MAX_PARTS, MAX_RECIPE};

/// Version of the wire form.
const VERSION: u8 = 1;

const STORED: u8 = 0;
const ZSTD: u8 = 1;
const XZ: u8 = 2;
const GZIP: u8 = 3;

impl Recipe {
    /// The canonical bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = vec![VERSION];
        put(&mut out, self.parts.len() as u64);
        for part in &self.parts {
            put(&mut out, part.inner);
            put(&mut out, part.encoded);
            match &part.coding {
                Coding::Stored => out.push(STORED),
                Coding::Zstd(params) => put_zstd(&mut out, params),
                Coding::Xz(params) => put_xz(&mut out, params),
                Coding::Gzip(params) => put_gzip(&mut out, params),
            }
        }
        out
    }

    /// Reads a recipe of at most [`MAX_RECIPE`] bytes.
    ///
    /// # Errors
    ///
    /// [`Error::RecipeVersion`] and [`Error::Generation`] for what a later release wrote, [`Error::Malformed`] otherwise.
    /// Whether there is an encoder for it is not looked at.
    pub fn parse(bytes: &[u8]) -> Result<Self, Error> {
        check(bytes.len() <= MAX_RECIPE, "it is too large")?;
        let mut rest = Reader(bytes);
        let version = rest.byte()?;
        if version != VERSION {
            return Err(Error::RecipeVersion {
                found: version,
                known: VERSION,
            });
        }
        let count = rest.number()?;
        check(
            (1..=MAX_PARTS as u64).contains(&count),
            "it has no parts, or too many",
        )?;
        let mut parts: Vec<Part> = Vec::new();
        for _ in 0..count {
            let part = rest.part()?;
            let after_stored = matches!(
                parts.last(),
                Some(Part {
                    coding: Coding::Stored,
                    ..
                })
            );
            let twice = after_stored && part.coding == Coding::Stored;
            check(!twice, "two parts in a row are stored")?;
            parts.push(part);
        }
        check(rest.0.is_empty(), "bytes follow it")?;
        let recipe = Self { parts };
        check(
            recipe.inner_length() <= MAX_INNER,
            "its inner stream is too long",
        )?;
        check(
            recipe.encoded_length() <= MAX_ENCODED,
            "its file is too long",
        )?;
        Ok(recipe)
    }
}

pub(crate) fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_zstd(out: &mut Vec<u8>, params: &ZstdParams) {
    out.push(ZSTD);
    put(out, u64::from(params.version.number()));
    let flags = [
        params.workers,
        params.checksum,
        params.pledged,
        params.content_size,
        params.long,
    ];
    let flags = flags
        .into_iter()
        .rev()
        .fold(0, |sum, flag| sum << 1 | u8::from(flag));
    out.extend([params.level, flags, params.window_log]);
}

fn put_xz(out: &mut Vec<u8>, params: &XzParams) {
    out.extend([
        XZ,
        xz::GENERATION,
        params.check as u8,
        params.filters.len() as u8,
    ]);
    out.extend(params.filters.iter().map(|branch| *branch as u8));
    let Lzma {
        dict,
        lc,
        lp,
        pb,
        fast,
        nice,
        finder,
        depth,
    } = params.lzma;
    put(out, u64::from(dict));
    out.extend([lc, lp, pb, u8::from(fast), finder]);
    put(out, u64::from(nice));
    put(out, u64::from(depth));
    let (layout, block) = match params.layout {
        Layout::Whole => (0, 0),
        Layout::Cut(block) => (1, block),
        Layout::Threaded(block) => (2, block),
    };
    out.push(layout);
    put(out, block);
}

fn put_gzip(out: &mut Vec<u8>, params: &GzipParams) {
    out.extend([GZIP, gzip::GENERATION]);
    let GzipParams { header, deflate } = params;
    put_bytes(out, header);
    out.extend([
        deflate.encoder.memory_level.unwrap_or(0),
        deflate.encoder.level,
    ]);
    match deflate.pieces {
        Some(pieces) => {
            out.push(1 + pieces.memory as u8 + 3 * pieces.marker as u8);
            put(out, pieces.length);
        }
        None => out.push(0),
    }
    put_bytes(out, &deflate.tokens);
    put_bytes(out, &deflate.blocks);
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

pub(crate) fn check(holds: bool, why: &'static str) -> Result<(), Error> {
    if holds {
        Ok(())
    } else {
        Err(Error::Malformed { why })
    }
}

/// The bytes that are left.
pub(crate) struct Reader<'a>(pub(crate) &'a [u8]);

impl<'a> Reader<'a> {
    pub(crate) fn take(&mut self, length: u64) -> Result<&'a [u8], Error> {
        let split = usize::try_from(length)
            .ok()
            .and_then(|length| self.0.split_at_checked(length));
        let (taken, rest) = split.ok_or(Error::Malformed {
            why: "it ends early",
        })?;
        self.0 = rest;
        Ok(taken)
    }

    pub(crate) fn byte(&mut self) -> Result<u8, Error> {
        self.take(1)?.first().copied().ok_or(Error::Malformed {
            why: "it ends early",
        })
    }

    fn flag(&mut self) -> Result<bool, Error> {
        let byte = self.byte()?;
        check(byte <= 1, "a flag is neither 0 nor 1")?;
        Ok(byte == 1)
    }

    pub(crate) fn number(&mut self) -> Result<u64, Error> {
        let mut value = 0;
        for shift in (0..63).step_by(7) {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                check(
                    byte != 0 || shift == 0,
                    "a number has more bytes than it needs",
                )?;
                return Ok(value);
            }
        }
        Err(Error::Malformed {
            why: "a number is too large",
        })
    }

    fn small<T: TryFrom<u64>>(&mut self) -> Result<T, Error> {
        T::try_from(self.number()?).map_err(|_| Error::Malformed {
            why: "a number is too large",
        })
    }

    fn part(&mut self) -> Result<Part, Error> {
        let (inner, encoded) = (self.number()?, self.number()?);
        check(
            inner <= MAX_INNER && encoded <= MAX_ENCODED,
            "a part is too long",
        )?;
        check(encoded > 0, "a part is empty")?;
        let coding = match self.byte()? {
            STORED => {
                check(inner == encoded, "a stored part has two lengths")?;
                Coding::Stored
            }
            ZSTD => Coding::Zstd(self.zstd()?),
            XZ => Coding::Xz(self.xz()?),
            GZIP => Coding::Gzip(self.gzip()?),
            _ => {
                return Err(Error::Malformed {
                    why: "a part has an unknown kind",
                });
            }
        };
        Ok(Part {
            inner,
            encoded,
            coding,
        })
    }

    fn zstd(&mut self) -> Result<ZstdParams, Error> {
        let version = Version::from_number(self.small()?).ok_or(Error::Malformed {
            why: "there is no such release of zstd",
        })?;
        let (level, flags, window_log) = (self.byte()?, self.byte()?, self.byte()?);
        check((1..=22).contains(&level), "there is no such level of zstd")?;
        check(flags < 32, "there is no such flag of zstd")?;
        check(
            matches!(window_log, 0 | 10..=27),
            "there is no such window of zstd",
        )?;
        let flag = |bit: u8| flags >> bit & 1 == 1;
        Ok(ZstdParams {
            version,
            level,
            workers: flag(0),
            checksum: flag(1),
            pledged: flag(2),
            content_size: flag(3),
            window_log,
            long: flag(4),
        })
    }

    fn xz(&mut self) -> Result<XzParams, Error> {
        self.generation("xz", xz::GENERATION)?;
        let unknown = |why| Error::Malformed { why };
        let id = self.byte()?;
        let check_kind = Check::from_id(id).ok_or(unknown("there is no such check of xz"))?;
        let count = self.byte()?;
        check(
            usize::from(count) <= xz::MAX_FILTERS,
            "xz has fewer filters",
        )?;
        let filters = self
            .take(u64::from(count))?
            .iter()
            .map(|id| Branch::from_id(u64::from(*id)))
            .collect::<Option<Vec<_>>>()
            .ok_or(unknown("there is no such filter of xz"))?;
        let lzma = Lzma {
            dict: self.small()?,
            lc: self.byte()?,
            lp: self.byte()?,
            pb: self.byte()?,
            fast: self.flag()?,
            finder: self.byte()?,
            nice: self.small()?,
            depth: self.small()?,
        };
        check(lzma.is_valid(), "LZMA2 takes no such parameters")?;
        let (layout, block) = (self.byte()?, self.number()?);
        let layout = match (layout, block) {
            (0, 0) => Layout::Whole,
            (1, 1..) => Layout::Cut(block),
            (2, 1..=xz::MAX_THREADED_BLOCK) => Layout::Threaded(block),
            _ => return Err(unknown("there is no such layout of xz")),
        };
        Ok(XzParams {
            check: check_kind,
            filters,
            lzma,
            layout,
        })
    }

    fn gzip(&mut self) -> Result<GzipParams, Error> {
        self.generation("gzip", gzip::GENERATION)?;
        let header = self.bytes()?;
        check(
            gzip::is_header(&header),
            "the header of gzip is none, or too long",
        )?;
        let (memory_level, level) = (self.byte()?, self.byte()?);
        check(memory_level <= 9, "there is no such encoder of gzip")?;
        check((1..=9).contains(&level), "there is no such level of gzip")?;
        let encoder = Encoder {
            memory_level: (memory_level > 0).then_some(memory_level),
            level,
        };
        let pieces = match self.byte()?.checked_sub(1) {
            None => None,
            Some(number) => {
                let unknown = Error::Malformed {
                    why: "there are no such pieces of gzip",
                };
                let kinds = Memory::from_number(number % 3).zip(Marker::from_number(number / 3));
                let (memory, marker) = kinds.ok_or(unknown)?;
                let length = self.number()?;
                check(length >= MIN_PIECE, "a piece of gzip is too short")?;
                Some(Pieces {
                    length,
                    memory,
                    marker,
                })
            }
        };
        Ok(GzipParams {
            header,
            deflate: Deflate {
                encoder,
                pieces,
                tokens: self.bytes()?,
                blocks: self.bytes()?,
            },
        })
    }

    fn bytes(&mut self) -> Result<Vec<u8>, Error> {
        let length = self.number()?;
        Ok(self.take(length)?.to_vec())
    }

    fn generation(&mut self, encoder: &'static str, known: u8) -> Result<(), Error> {
        let found = self.byte()?;
        if found == known {
            Ok(())
        } else {
            Err(Error::Generation {
                encoder,
                found,
                known,
            })
        }
    }
}
