//! From offsets in the old file to offsets in the new one, along the copies of a delta.

use crate::step::Copy;

/// Copies in order of old offset, none overlapping another.
#[derive(Debug, Default)]
pub(crate) struct Mapping {
    copies: Vec<Copy>,
}

impl Mapping {
    /// Of two copies of the same old bytes, the longer counts.
    pub(crate) fn new(copies: impl Iterator<Item = Copy>) -> Self {
        let mut sorted: Vec<Copy> = copies.collect();
        sorted.sort_unstable_by_key(|c| (c.old, c.new));
        let mut kept: Vec<Copy> = Vec::with_capacity(sorted.len());
        for mut copy in sorted {
            if let Some(last) = kept.last_mut() {
                let end = last.old.saturating_add(last.len);
                if copy.old < end && copy.len > last.len {
                    last.len = copy.old - last.old;
                    if last.len == 0 {
                        kept.pop();
                    }
                } else if copy.old < end {
                    let cut = end - copy.old;
                    if copy.len <= cut {
                        continue;
                    }
                    copy = Copy {
                        old: end,
                        new: copy.new.wrapping_add(cut),
                        len: copy.len - cut,
                    };
                }
            }
            kept.push(copy);
        }
        Self { copies: kept }
    }

    /// How far the byte at `old` moved, judged by the copies inside `start..end` of the old file.
    ///
    /// A byte that was not copied moved like what stands before it, or else after it.
    pub(crate) fn shift(&self, old: u64, start: u64, end: u64) -> Option<u64> {
        let i = self.copies.partition_point(|c| c.old <= old);
        let before = i.checked_sub(1).and_then(|i| self.copies.get(i));
        let before = before.filter(|c| c.old.saturating_add(c.len) > start);
        let after = || self.copies.get(i).filter(|c| c.old < end);
        before.or_else(after).map(|c| c.new.wrapping_sub(c.old))
    }
}
