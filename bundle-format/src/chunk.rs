//! The chunk index: a SHA-256 for each chunk of each blob (SPEC 5).
//!
//! Threat: content that reaches a decompressor before it was checked. Defence: the index is bound
//! by the signed statement and its length must fit the blobs exactly, so every byte a reader hands
//! on belongs to a chunk whose hash was signed.

use alloc::collections::BTreeMap;
use alloc::vec::Vec;
use core::ops::Range;

use crate::{BlobEntry, Digest};

/// Bytes a chunk: 1 MiB; the last chunk of a blob is what remains.
pub const CHUNK_BYTES: u64 = 1 << 20;

/// Returns how many chunks a blob of `size` bytes has; an empty blob has none.
pub const fn chunk_count(size: u64) -> u64 {
    size.div_ceil(CHUNK_BYTES)
}

/// Chunk hashes of every blob of one release.
#[derive(Clone, Debug)]
pub struct ChunkIndex {
    hashes: Vec<Digest>,
    blobs: BTreeMap<Digest, BlobChunks>,
}

#[derive(Clone, Copy, Debug)]
struct BlobChunks {
    first: usize,
    size: u64,
}

/// Says why bytes are not the chunk index of a list of blobs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChunkIndexError {
    /// The length does not fit the blobs.
    #[error("chunk index has {found} bytes where the blobs need {expected}")]
    Length {
        /// Bytes the blobs need.
        expected: u64,
        /// Bytes there are.
        found: u64,
    },
    /// A blob of one chunk whose chunk hash is not its digest.
    #[error("chunk index contradicts the digest of blob {digest}")]
    Contradiction {
        /// The blob.
        digest: Digest,
    },
}

impl ChunkIndex {
    /// Reads the index that belongs to `blobs`, in their order.
    ///
    /// # Errors
    /// Fails where the length differs from what SPEC 5.2 asks, or a blob of at most one chunk has
    /// another hash than its digest (SPEC 5.4).
    pub fn parse(bytes: &[u8], blobs: &[BlobEntry]) -> Result<Self, ChunkIndexError> {
        let chunks = blobs
            .iter()
            .try_fold(0_u64, |sum, b| sum.checked_add(chunk_count(b.size)));
        let expected = chunks.and_then(|n| n.checked_mul(32)).unwrap_or(u64::MAX);
        let found = bytes.len() as u64;
        if expected != found {
            return Err(ChunkIndexError::Length { expected, found });
        }
        let (hashes, _) = bytes.as_chunks::<32>();
        let hashes: Vec<_> = hashes
            .iter()
            .map(|hash| Digest::from_bytes(*hash))
            .collect();
        let mut first = 0;
        let mut places = BTreeMap::new();
        for blob in blobs {
            let count = chunk_count(blob.size) as usize;
            let contradicts = match count {
                0 => blob.digest != Digest::of(b""),
                1 => hashes.get(first) != Some(&blob.digest),
                _ => false,
            };
            if contradicts {
                return Err(ChunkIndexError::Contradiction {
                    digest: blob.digest,
                });
            }
            places.insert(
                blob.digest,
                BlobChunks {
                    first,
                    size: blob.size,
                },
            );
            first += count;
        }
        Ok(Self {
            hashes,
            blobs: places,
        })
    }

    /// Returns the size of a blob in bytes, or `None` for a blob the release does not have.
    pub fn size(&self, blob: &Digest) -> Option<u64> {
        self.blobs.get(blob).map(|b| b.size)
    }

    /// Returns the byte range and the hash of chunk `number` of a blob, counted from 0.
    pub fn chunk(&self, blob: &Digest, number: u64) -> Option<(Range<u64>, Digest)> {
        let place = self.blobs.get(blob)?;
        if number >= chunk_count(place.size) {
            return None;
        }
        let hash = self
            .hashes
            .get(place.first.checked_add(usize::try_from(number).ok()?)?)?;
        let start = number * CHUNK_BYTES;
        Some((start..place.size.min(start + CHUNK_BYTES), *hash))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn blob(content: &[u8]) -> BlobEntry {
        BlobEntry {
            digest: Digest::of(content),
            size: content.len() as u64,
        }
    }

    fn index_of(contents: &[&[u8]]) -> Vec<u8> {
        contents
            .iter()
            .flat_map(|c| c.chunks(CHUNK_BYTES as usize))
            .flat_map(|c| *Digest::of(c).as_bytes())
            .collect()
    }

    #[test]
    fn chunks_lie_where_the_blobs_order_puts_them() {
        let large = alloc::vec![7_u8; CHUNK_BYTES as usize + 5];
        let contents: [&[u8]; 3] = [b"small", b"", &large];
        let blobs = contents.map(blob);
        let index = ChunkIndex::parse(&index_of(&contents), &blobs).unwrap();
        let last = index.chunk(&blobs[2].digest, 1).unwrap();
        assert_eq!(last, (CHUNK_BYTES..CHUNK_BYTES + 5, Digest::of(&[7; 5])));
        assert_eq!(
            index.chunk(&blobs[0].digest, 0),
            Some((0..5, blobs[0].digest))
        );
        assert_eq!(index.chunk(&blobs[0].digest, 1), None);
        assert_eq!(index.chunk(&blobs[1].digest, 0), None);
        assert_eq!(index.chunk(&Digest::of(b"other"), 0), None);
    }

    #[test]
    fn lengths_and_contradictions_are_refused() {
        let blobs = [blob(b"a")];
        let good = index_of(&[b"a"]);
        assert!(ChunkIndex::parse(&good, &blobs).is_ok());
        assert!(ChunkIndex::parse(&good[1..], &blobs).is_err());
        assert!(ChunkIndex::parse(&[&good[..], &[0]].concat(), &blobs).is_err());
        assert!(ChunkIndex::parse(&index_of(&[b"b"]), &blobs).is_err());
        let huge = [BlobEntry {
            digest: Digest::of(b"a"),
            size: u64::MAX,
        }; 3];
        assert!(ChunkIndex::parse(&good, &huge).is_err());
    }
}
