//! The head of a layer delta: what it rebuilds, out of what, and what that takes (SPEC 10.2).
//!
//! Layout: eight bytes of magic; the length of the packed table and of the unpacked one; the table,
//! one zstd frame. In the table, numbers as in [`varint`]: bytes of the target; its SHA-256; most
//! scratch bytes; count of sources; per source its bytes, the first 16 bytes of its SHA-256, how
//! many bytes of its path are those of the path before, and the rest of the path.
//!
//! Threats: tables that lie about their size, counts without end, paths that lead elsewhere. Defences:
//! caps before anything is allocated; the frame gives exactly its size; a path is a hint and whoever
//! uses it resolves it within the old tree; a source counts only once its hash was checked.

use std::io::{Read, Write};

use crate::{DeltaError, varint};

/// What a layer delta begins with.
pub const MAGIC: &[u8; 8] = b"bndlDLT1";
/// Bytes of a source's SHA-256 that are kept; the target's own hash decides in the end.
pub const SOURCE_HASH: usize = 16;
/// Longest path.
const PATH: u64 = 4096;
/// Most encoders.
const ENCODERS: u64 = 64;
/// Longest name of an encoder.
const ENCODER_NAME: u64 = 64;

/// The head of a layer delta.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Header {
    /// Bytes of the target: a layer's tar stream.
    pub target_size: u64,
    /// SHA-256 of the target: the layer's `diff_id`.
    pub target_hash: [u8; 32],
    /// Most scratch bytes that rebuilding takes beside the target, in temporary files.
    pub scratch: u64,
    /// Most bytes of memory that rebuilding takes, encoders included.
    pub memory: u64,
    /// What rebuilding asks of the processor.
    pub effort: Effort,
    /// What encoders recipes need, by name and version, such as `zstd 1.5.4`; sorted, each once.
    pub encoders: Vec<String>,
    /// Files that the delta takes bytes from.
    pub sources: Vec<SourceEntry>,
}

/// What rebuilding asks of the processor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Effort {
    /// Reading and copying: hundreds of megabytes a second.
    #[default]
    Copy,
    /// Encoding compressed files again at quick levels: tens of megabytes a second.
    Encode,
    /// Encoding at levels that take seconds for each megabyte or two.
    Slow,
}

impl Effort {
    const fn from_number(number: u64) -> Result<Self, DeltaError> {
        match number {
            0 => Ok(Self::Copy),
            1 => Ok(Self::Encode),
            2 => Ok(Self::Slow),
            _ => Err(DeltaError::Malformed { what: "effort" }),
        }
    }
}

/// A file that a delta takes bytes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SourceEntry {
    /// Bytes of content.
    pub size: u64,
    /// The first bytes of the content's SHA-256.
    pub hash: [u8; SOURCE_HASH],
    /// Where the file was in the image the delta was made against; a hint.
    pub path: String,
    /// Layer of the *target* that has the file, counted from the lowest; `None` where it is the base's.
    ///
    /// Such a layer is rebuilt first, so the file is not there while roads are planned.
    pub layer: Option<u32>,
}

/// What a reader of headers accepts.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Most bytes of the table.
    pub table: u64,
    /// Most sources.
    pub sources: u64,
    /// Most bytes of a target.
    pub target: u64,
    /// Most scratch bytes.
    pub scratch: u64,
}

impl Default for Limits {
    /// 256 MiB of table, a million sources, a target of 64 GiB, 8 GiB of scratch.
    fn default() -> Self {
        Self {
            table: 256 << 20,
            sources: 1 << 20,
            target: 64 << 30,
            scratch: 8 << 30,
        }
    }
}

const fn cap(what: &'static str, found: u64, limit: u64) -> Result<u64, DeltaError> {
    if found > limit {
        Err(DeltaError::TooLarge { what, found, limit })
    } else {
        Ok(found)
    }
}

impl Header {
    /// Reads the head of a delta and leaves `input` where the streams begin.
    ///
    /// # Errors
    /// For anything but a well-formed head within the limits.
    pub fn read(input: &mut dyn Read, limits: &Limits) -> Result<Self, DeltaError> {
        let mut magic = [0; 8];
        input.read_exact(&mut magic)?;
        if &magic != MAGIC {
            return Err(DeltaError::Malformed {
                what: "not a layer delta of this version",
            });
        }
        let packed = cap("packed table", varint::read(input)?, limits.table)?;
        let size = cap("table", varint::read(input)?, limits.table)?;
        let mut frame = Vec::new();
        input.take(packed).read_to_end(&mut frame)?;
        if frame.len() as u64 != packed {
            return Err(DeltaError::Truncated {
                part: "the table of sources",
            });
        }
        let table = crate::streams::decompress(&frame, size)?;
        Self::parse(&table, limits)
    }

    fn parse(table: &[u8], limits: &Limits) -> Result<Self, DeltaError> {
        let mut rest = table;
        let target_size = cap("target", varint::get(&mut rest)?, limits.target)?;
        let target_hash = *take(&mut rest)?;
        let scratch = cap("scratch", varint::get(&mut rest)?, limits.scratch)?;
        let memory = varint::get(&mut rest)?;
        let effort = Effort::from_number(varint::get(&mut rest)?)?;
        let encoders = Self::parse_encoders(&mut rest)?;
        let count = cap("count of sources", varint::get(&mut rest)?, limits.sources)?;
        let mut sources: Vec<SourceEntry> = Vec::new();
        let mut path = Vec::new();
        for _ in 0..count {
            let size = cap("source", varint::get(&mut rest)?, limits.target)?;
            let hash = *take(&mut rest)?;
            let layer = varint::get(&mut rest)?.checked_sub(1);
            let layer = layer.map(u32::try_from).transpose();
            let layer = layer.map_err(|_| DeltaError::Malformed {
                what: "layer of a source",
            })?;
            let shared = varint::get(&mut rest)?;
            let own = varint::get(&mut rest)?;
            if shared > path.len() as u64 || shared.saturating_add(own) > PATH {
                return Err(DeltaError::Malformed {
                    what: "path of a source",
                });
            }
            path.truncate(shared as usize);
            let (head, tail) = rest
                .split_at_checked(own as usize)
                .ok_or(DeltaError::Truncated { part: "a path" })?;
            path.extend_from_slice(head);
            rest = tail;
            let text = std::str::from_utf8(&path).map_err(|_| DeltaError::Malformed {
                what: "path of a source is not text",
            })?;
            sources.push(SourceEntry {
                size,
                hash,
                path: text.to_string(),
                layer,
            });
        }
        if !rest.is_empty() {
            return Err(DeltaError::Malformed {
                what: "bytes behind the table of sources",
            });
        }
        Ok(Self {
            target_size,
            target_hash,
            scratch,
            memory,
            effort,
            encoders,
            sources,
        })
    }

    fn parse_encoders(rest: &mut &[u8]) -> Result<Vec<String>, DeltaError> {
        let count = cap("count of encoders", varint::get(rest)?, ENCODERS)?;
        let mut encoders: Vec<String> = Vec::new();
        for _ in 0..count {
            let len = cap("name of an encoder", varint::get(rest)?, ENCODER_NAME)?;
            let (name, tail) =
                rest.split_at_checked(len as usize)
                    .ok_or(DeltaError::Truncated {
                        part: "the name of an encoder",
                    })?;
            *rest = tail;
            let name = std::str::from_utf8(name).map_err(|_| DeltaError::Malformed {
                what: "name of an encoder is not text",
            })?;
            if encoders.last().is_some_and(|last| last.as_str() >= name) {
                return Err(DeltaError::Malformed {
                    what: "order of encoders",
                });
            }
            encoders.push(name.to_string());
        }
        Ok(encoders)
    }

    /// Writes the head of a delta.
    ///
    /// # Errors
    /// When compressing or writing fails.
    pub fn write(&self, out: &mut dyn Write, level: i32) -> Result<(), DeltaError> {
        let mut table = Vec::new();
        varint::put(&mut table, self.target_size);
        table.extend_from_slice(&self.target_hash);
        varint::put(&mut table, self.scratch);
        varint::put(&mut table, self.memory);
        varint::put(&mut table, self.effort as u64);
        varint::put(&mut table, self.encoders.len() as u64);
        for name in &self.encoders {
            varint::put(&mut table, name.len() as u64);
            table.extend_from_slice(name.as_bytes());
        }
        varint::put(&mut table, self.sources.len() as u64);
        let mut before: &[u8] = b"";
        for source in &self.sources {
            let path = source.path.as_bytes();
            let shared = before.iter().zip(path).take_while(|(a, b)| a == b).count();
            varint::put(&mut table, source.size);
            table.extend_from_slice(&source.hash);
            varint::put(
                &mut table,
                source.layer.map_or(0, |layer| u64::from(layer) + 1),
            );
            varint::put(&mut table, shared as u64);
            varint::put(&mut table, (path.len() - shared) as u64);
            table.extend_from_slice(path.get(shared..).unwrap_or_default());
            before = path;
        }
        let frame = zstd::bulk::compress(&table, level).map_err(DeltaError::Frame)?;
        let mut head = MAGIC.to_vec();
        varint::put(&mut head, frame.len() as u64);
        varint::put(&mut head, table.len() as u64);
        out.write_all(&head)?;
        out.write_all(&frame)?;
        Ok(())
    }
}

fn take<'a, const N: usize>(rest: &mut &'a [u8]) -> Result<&'a [u8; N], DeltaError> {
    let (head, tail) = rest.split_first_chunk().ok_or(DeltaError::Truncated {
        part: "the table of sources",
    })?;
    *rest = tail;
    Ok(head)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Header {
        let source = |size, path: &str| SourceEntry {
            size,
            hash: [7; 16],
            path: path.into(),
            layer: (size > 1).then_some(3),
        };
        Header {
            target_size: 1000,
            target_hash: [1; 32],
            scratch: 5,
            memory: 64 << 20,
            effort: Effort::Slow,
            encoders: vec!["xz 5.8".into(), "zstd 1.5.4".into()],
            sources: vec![
                source(1, "usr/bin/a"),
                source(0, "usr/bin/ab"),
                source(9, "etc/ü"),
            ],
        }
    }

    #[test]
    fn a_header_survives_the_round_trip() {
        let mut bytes = Vec::new();
        sample().write(&mut bytes, 3).unwrap();
        let header = Header::read(&mut bytes.as_slice(), &Limits::default()).unwrap();
        assert_eq!(header, sample());
    }

    #[test]
    fn lies_are_refused() {
        let mut bytes = Vec::new();
        sample().write(&mut bytes, 3).unwrap();
        for end in 0..bytes.len() {
            assert!(
                Header::read(&mut &bytes[..end], &Limits::default()).is_err(),
                "cut at {end}"
            );
        }
        let small = Limits {
            sources: 2,
            ..Limits::default()
        };
        assert!(Header::read(&mut bytes.as_slice(), &small).is_err());
        let small = Limits {
            target: 999,
            ..Limits::default()
        };
        assert!(Header::read(&mut bytes.as_slice(), &small).is_err());
        let small = Limits {
            table: 10,
            ..Limits::default()
        };
        assert!(Header::read(&mut bytes.as_slice(), &small).is_err());
    }
}
