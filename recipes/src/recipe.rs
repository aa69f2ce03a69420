//! The recipe: how a file comes out of its inner stream.
//!
//! A recipe is a list of parts. Each takes the next bytes of the inner stream and turns them into the next bytes of the
//! file. An initramfs is `stored` (the early cpio and its padding) and `zstd`; a bzImage is `stored`, `xz`, `stored`; so
//! what lies around a payload can be coded as a delta as well as the payload.

use crate::gzip::{self, GzipParams};
use crate::xz::{self, XzParams};
use crate::zstd::ZstdParams;

/// Highest level of zstd that encodes tens of megabytes a second.
const SLOW_LEVEL: u8 = 10;

/// How a file comes out of its inner stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Recipe {
    pub(crate) parts: Vec<Part>,
}

/// One part of a file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Part {
    /// Bytes of the inner stream that it takes.
    pub inner: u64,
    /// Bytes of the file that it gives.
    pub encoded: u64,
    /// How.
    pub coding: Coding,
}

/// How the bytes of a part are coded in the file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Coding {
    /// As they are.
    Stored,
    /// One zstd frame.
    Zstd(ZstdParams),
    /// One xz stream.
    Xz(XzParams),
    /// One gzip member.
    Gzip(GzipParams),
}

impl Coding {
    /// The name of the coding for reports.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Zstd(_) => "zstd",
            Self::Xz(_) => "xz",
            Self::Gzip(_) => "gzip",
        }
    }

    /// The encoder that it needs, by name and release; none where bytes stay as they are.
    pub fn encoder(&self) -> Option<String> {
        match self {
            Self::Stored => None,
            Self::Zstd(params) => Some(format!("zstd {}", params.version)),
            Self::Xz(_) => Some(xz::NAME.into()),
            Self::Gzip(_) => Some(gzip::NAME.into()),
        }
    }

    /// Whether encoding takes seconds for each few megabytes.
    pub fn is_slow(&self) -> bool {
        match self {
            Self::Stored | Self::Gzip(_) => false,
            Self::Zstd(params) => params.level > SLOW_LEVEL,
            Self::Xz(_) => true,
        }
    }
}

impl Recipe {
    /// The parts in order.
    pub fn parts(&self) -> &[Part] {
        &self.parts
    }

    /// Length of the inner stream in bytes.
    pub fn inner_length(&self) -> u64 {
        self.parts
            .iter()
            .fold(0, |sum, part| sum.saturating_add(part.inner))
    }

    /// Length of the encoded file in bytes.
    pub fn encoded_length(&self) -> u64 {
        self.parts
            .iter()
            .fold(0, |sum, part| sum.saturating_add(part.encoded))
    }

    /// Memory in bytes that encoding needs at most, with one thread: the largest part's, since parts run one by one.
    ///
    /// An upper bound of what the encoder allocates, the helper program included; measured figures are in the README.
    pub fn memory(&self) -> u64 {
        self.memory_with(1)
    }

    /// Memory in bytes that encoding needs at most with `threads` threads.
    pub fn memory_with(&self, threads: u32) -> u64 {
        let buffers = 1 << 20;
        self.parts
            .iter()
            .map(|part| match &part.coding {
                Coding::Stored => 0,
                Coding::Zstd(params) => params.memory(part.inner, threads),
                Coding::Xz(params) => params.memory(threads),
                Coding::Gzip(params) => params.memory(),
            })
            .max()
            .unwrap_or(0)
            .saturating_add(buffers)
    }
}
