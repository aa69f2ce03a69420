//! Matching: which stretches of an old file predict which stretches of a new one.
//!
//! The algorithm is Colin Percival's bsdiff: walk the new file, look for the longest match in the
//! old one, and leave the current alignment only for a match that explains more than eight bytes
//! the alignment does not; then extend every match both ways, over differences, as long as more
//! than half of the bytes agree. Two changes: long agreement along the current alignment is not
//! searched at all, which is most of the time and keeps copies long; and an old file larger than
//! memory allows is indexed in windows that follow the position reached.

use crate::{
    DeltaError,
    index::{Index, MAX_TEXT, common_prefix},
    step::Step,
};

/// Agreement along the current alignment that makes a search needless, in bytes.
const GOOD_RUN: usize = 32;

/// How matches are looked for.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Memory for the index, in bytes; each byte of the old file indexed takes five.
    pub memory: usize,
    /// Bytes that a match must explain beyond the current alignment to replace it.
    pub advantage: usize,
}

impl Default for Options {
    /// 1 GiB, 8 bytes.
    fn default() -> Self {
        Self {
            memory: 1 << 30,
            advantage: 8,
        }
    }
}

/// Steps that rebuild `new` from `old`.
///
/// The two may also be views of the files with what is predictable masked, of the same lengths.
///
/// # Errors
/// [`DeltaError::SuffixArray`] when memory runs out.
pub fn diff(old: &[u8], new: &[u8], options: &Options) -> Result<Vec<Step>, DeltaError> {
    let window = (options.memory / 5).clamp(1 << 16, MAX_TEXT);
    let mut scan = Scan::new(old, new, options.advantage);
    if old.len() <= window {
        let index = Index::new(old)?;
        scan.run(&index, 0, new.len());
        return Ok(scan.finish());
    }
    while scan.at < new.len() {
        let middle = (scan.at as i64 + scan.offset).clamp(0, old.len() as i64) as usize;
        let start = middle.saturating_sub(window / 4).min(old.len() - window);
        let index = Index::new(&old[start..start + window])?;
        let end = new.len().min(scan.at + window / 2);
        scan.run(&index, start, end);
    }
    Ok(scan.finish())
}

/// As [`diff`], with an index of the whole of `old` made before: for several new files.
#[must_use]
pub fn diff_with(index: &Index<'_>, old: &[u8], new: &[u8], options: &Options) -> Vec<Step> {
    let mut scan = Scan::new(old, new, options.advantage);
    scan.run(index, 0, new.len());
    scan.finish()
}

struct Scan<'a> {
    old: &'a [u8],
    new: &'a [u8],
    advantage: usize,
    /// Position in the new file.
    at: usize,
    /// Where the current alignment began, in new and old.
    last_new: usize,
    last_old: usize,
    /// Old position less new position of the current alignment.
    offset: i64,
    copies: Vec<(usize, usize, usize)>,
}

impl<'a> Scan<'a> {
    fn new(old: &'a [u8], new: &'a [u8], advantage: usize) -> Self {
        let copies = Vec::new();
        Self {
            old,
            new,
            advantage,
            at: 0,
            last_new: 0,
            last_old: 0,
            offset: 0,
            copies,
        }
    }

    /// The old bytes that the current alignment puts at position `at` of the new file.
    fn aligned(&self, at: usize) -> &'a [u8] {
        usize::try_from(at as i64 + self.offset)
            .ok()
            .and_then(|i| self.old.get(i..))
            .unwrap_or(&[])
    }

    /// Goes on until `end` of the new file, with an index of the old one from `start`.
    fn run(&mut self, index: &Index<'_>, start: usize, end: usize) {
        while self.at < end {
            // Bytes of the match found that the alignment gets right, counted up to `scored`.
            let (mut score, mut scored) = (0usize, self.at);
            let (mut found, mut len) = (0, 0);
            while self.at < end {
                let run = common_prefix(self.aligned(self.at), &self.new[self.at..]);
                if run >= GOOD_RUN {
                    self.at += run;
                    (score, scored, len) = (0, self.at, 0);
                    continue;
                }
                (found, len) = index.longest(&self.new[self.at..]);
                found += start;
                if scored < self.at + len {
                    let piece = &self.new[scored..self.at + len];
                    score += self
                        .aligned(scored)
                        .iter()
                        .zip(piece)
                        .filter(|(a, b)| a == b)
                        .count();
                    scored = self.at + len;
                }
                if (len == score && len != 0) || len > score + self.advantage {
                    break;
                }
                let counted = scored > self.at;
                if counted && self.aligned(self.at).first() == self.new.get(self.at) {
                    score -= 1;
                }
                self.at += 1;
                scored = scored.max(self.at);
            }
            if self.at < end && len != score {
                self.switch(found);
            }
            self.at += if self.at < end { len } else { 0 };
        }
    }

    /// Ends the current alignment, for the match of position `at` with old position `found`.
    fn switch(&mut self, found: usize) {
        let mut forward = self.forward(self.at);
        let mut backward = 0;
        let (mut score, mut best) = (0i64, 0i64);
        for i in 1..=(self.at - self.last_new).min(found) {
            score += if self.old[found - i] == self.new[self.at - i] {
                1
            } else {
                -1
            };
            if score > best {
                (best, backward) = (score, i);
            }
        }
        // Both extensions claim bytes: split where together they explain most.
        let gap = self.at - self.last_new;
        if forward + backward > gap {
            let overlap = forward + backward - gap;
            let (new, left) = (
                self.last_new + forward - overlap,
                self.last_old + forward - overlap,
            );
            let right = found - backward;
            let (mut score, mut best, mut split) = (0i64, 0i64, 0);
            for i in 0..overlap {
                score += i64::from(self.new[new + i] == self.old[left + i]);
                score -= i64::from(self.new[new + i] == self.old[right + i]);
                if score > best {
                    (best, split) = (score, i + 1);
                }
            }
            forward = forward - overlap + split;
            backward -= split;
        }
        self.copies.push((self.last_old, self.last_new, forward));
        self.last_new = self.at - backward;
        self.last_old = found - backward;
        self.offset = found as i64 - self.at as i64;
    }

    /// How far the current alignment predicts, up to `end` of the new file.
    fn forward(&self, end: usize) -> usize {
        let (mut score, mut best, mut len) = (0i64, 0i64, 0);
        let old = &self.old[self.last_old..];
        for (i, (a, b)) in self.new[self.last_new..end].iter().zip(old).enumerate() {
            score += if a == b { 1 } else { -1 };
            if score > best {
                (best, len) = (score, i + 1);
            }
        }
        len
    }

    fn finish(mut self) -> Vec<Step> {
        let forward = self.forward(self.new.len());
        self.copies.push((self.last_old, self.last_new, forward));
        self.copies.retain(|&(_, _, len)| len > 0);
        let mut steps = Vec::with_capacity(self.copies.len() + 1);
        let mut step = Step::default();
        let (mut old_end, mut new_end) = (0usize, 0usize);
        for &(old, new, len) in &self.copies {
            step.extra = (new - new_end) as u64;
            step.seek = old as i64 - old_end as i64;
            if step != Step::default() {
                steps.push(step);
            }
            step = Step {
                copy: len as u64,
                extra: 0,
                seek: 0,
            };
            (old_end, new_end) = (old + len, new + len);
        }
        step.extra = (self.new.len() - new_end) as u64;
        if step != Step::default() {
            steps.push(step);
        }
        steps
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::step::{check, copies};
    use proptest::prelude::*;

    fn rebuilt(old: &[u8], new: &[u8], options: &Options) {
        let steps = diff(old, new, options).unwrap();
        check(&steps, old.len() as u64, new.len() as u64).unwrap();
    }

    #[test]
    fn follows_a_moved_block() {
        let old: Vec<u8> = (0..4000u32)
            .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        let new = [&old[8000..], b"something new", &old[..8000]].concat();
        let steps = diff(&old, &new, &Options::default()).unwrap();
        let lens: Vec<u64> = copies(&steps).map(|c| c.len).collect();
        assert_eq!(lens, [8000, 8000]);
        assert_eq!(steps.iter().map(|s| s.extra).sum::<u64>(), 13);
    }

    #[test]
    fn windows_of_the_old_file_suffice() {
        let old: Vec<u8> = (0..200_000u32)
            .flat_map(|i| i.wrapping_mul(2_654_435_761).to_le_bytes())
            .collect();
        let mut new = old.clone();
        new.splice(300_000..300_000, *b"inserted");
        let options = Options {
            memory: 1,
            ..Options::default()
        };
        let steps = diff(&old, &new, &options).unwrap();
        check(&steps, old.len() as u64, new.len() as u64).unwrap();
        assert!(steps.len() < 8, "{steps:?}");
    }

    proptest! {
        #[test]
        fn steps_add_up(
            old in prop::collection::vec(0u8..3, 0..400),
            new in prop::collection::vec(0u8..3, 0..400),
        ) {
            rebuilt(&old, &new, &Options::default());
            rebuilt(&old, &new, &Options { advantage: 0, ..Options::default() });
        }
    }
}
