//! A suffix array over one stretch of an old file, and the search for the longest match in it.
//!
//! Build-box only: trusts nothing, but spends memory of five bytes for each byte indexed.

use libsais::SuffixArrayConstruction;

use crate::DeltaError;

/// Longest text that one index takes, in bytes.
pub const MAX_TEXT: usize = i32::MAX as usize - (1 << 20);

/// A suffix array with a table of where each pair of first bytes begins.
pub struct Index<'t> {
    text: &'t [u8],
    suffixes: Vec<i32>,
    buckets: Vec<u32>,
}

impl<'t> Index<'t> {
    /// Indexes `text`, of at most [`MAX_TEXT`] bytes.
    ///
    /// # Errors
    /// [`DeltaError::SuffixArray`] for too long a text, or when memory runs out.
    pub fn new(text: &'t [u8]) -> Result<Self, DeltaError> {
        let failed = DeltaError::SuffixArray { len: text.len() };
        if text.len() > MAX_TEXT {
            return Err(failed);
        }
        let array = SuffixArrayConstruction::for_text(text)
            .in_owned_buffer32()
            .single_threaded();
        let suffixes = array.run().map_err(|_| failed)?.into_vec();
        // buckets[p]..buckets[p + 1] are the suffixes that begin with the pair p. The last byte
        // alone sorts before all pairs that it begins: counted with the pair that ends in zero.
        let mut buckets = vec![0u32; 65_537];
        for pair in text.windows(2) {
            buckets[usize::from(pair[0]) << 8 | usize::from(pair[1])] += 1;
        }
        if let Some(&last) = text.last() {
            buckets[usize::from(last) << 8] += 1;
        }
        let mut sum = 0;
        for bucket in &mut buckets {
            sum += std::mem::replace(bucket, sum);
        }
        Ok(Self {
            text,
            suffixes,
            buckets,
        })
    }

    /// The longest match of a prefix of `wanted`: position in the text, and length.
    ///
    /// Matches of fewer than two bytes are not found.
    #[must_use]
    pub fn longest(&self, wanted: &[u8]) -> (usize, usize) {
        let &[first, second, ..] = wanted else {
            return (0, 0);
        };
        let pair = usize::from(first) << 8 | usize::from(second);
        let (mut low, mut high) = (self.buckets[pair] as usize, self.buckets[pair + 1] as usize);
        // Both ends of the range share this many bytes with what is wanted: not compared again.
        let (mut low_len, mut high_len) = (0, 0);
        let mut best = (0, 0);
        while low < high {
            let middle = low + (high - low) / 2;
            let start = self.suffixes[middle] as usize;
            let suffix = &self.text[start..];
            let known = low_len.min(high_len);
            let len = known + common_prefix(&suffix[known.min(suffix.len())..], &wanted[known..]);
            if len > best.1 {
                best = (start, len);
            }
            if len == wanted.len() {
                break;
            }
            if suffix.get(len).is_none_or(|byte| *byte < wanted[len]) {
                (low, low_len) = (middle + 1, len);
            } else {
                (high, high_len) = (middle, len);
            }
        }
        if best.1 < 2 { (0, 0) } else { best }
    }
}

/// How many bytes two slices share at their beginning.
#[must_use]
pub fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    let (a8, _) = a.as_chunks::<8>();
    let (b8, _) = b.as_chunks::<8>();
    let mut len = 0;
    for (x, y) in a8.iter().zip(b8) {
        let differ = u64::from_le_bytes(*x) ^ u64::from_le_bytes(*y);
        if differ != 0 {
            return len + differ.trailing_zeros() as usize / 8;
        }
        len += 8;
    }
    len + a[len..]
        .iter()
        .zip(&b[len..])
        .take_while(|(x, y)| x == y)
        .count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn finds_the_longest(
            text in prop::collection::vec(0u8..4, 0..60),
            wanted in prop::collection::vec(0u8..4, 0..12),
        ) {
            let (at, len) = Index::new(&text).unwrap().longest(&wanted);
            prop_assert_eq!(&text[at..at + len], &wanted[..len]);
            let best = (0..text.len()).map(|i| common_prefix(&text[i..], &wanted)).max();
            let best = best.unwrap_or(0);
            prop_assert_eq!(len, if best < 2 { 0 } else { best });
        }
    }
}
