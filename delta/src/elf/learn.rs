//! Learns a [`Table`] from pairs of modules, by lining their type information up.

use std::collections::{BTreeMap, HashMap};

use super::{
    btf::{Btf, Word},
    layout::{Layout, u32_at},
    table::{Runs, Table},
    view::name,
};
use crate::{DeltaError, bsdiff, step::copies};

type Votes = BTreeMap<u32, HashMap<u32, u32>>;

/// Collects what pairs of modules have in common.
#[derive(Debug, Default)]
pub struct Learner {
    types: (u32, u32),
    names: (u32, u32),
    type_votes: Votes,
    name_votes: Votes,
    sum_votes: Votes,
}

/// A module's BTF section: its bytes, their parts, and the base of names that they suggest.
struct Part<'a> {
    bytes: &'a [u8],
    btf: Btf,
    names: u32,
}

impl<'a> Part<'a> {
    fn read(file: &'a [u8], layout: &Layout) -> Option<Self> {
        let s = layout
            .sections
            .iter()
            .find(|s| s.kind != 0 && s.name == b".BTF")?;
        let bytes = file.get(s.offset as usize..)?.get(..s.size as usize)?;
        let btf = Btf::parse(bytes)?;
        // The last string is used by something, and nothing uses more.
        let strings = bytes.get(btf.strings as usize..)?.strip_suffix(&[0])?;
        let last = strings.iter().rposition(|b| *b == 0).map_or(0, |i| i + 1);
        let names = max(bytes, &btf, Word::Name).saturating_sub(last as u32);
        Some(Self { bytes, btf, names })
    }

    /// All numbers masked, the module's own names as digests.
    fn view(&self) -> Vec<u8> {
        let mut out = self.bytes.to_vec();
        for &(at, word) in &self.btf.words {
            let at = at as usize;
            let number = u32_at(self.bytes, at).unwrap_or(0);
            let value = match word {
                Word::Name if number >= self.names => name(
                    self.bytes,
                    u64::from(self.btf.strings) + u64::from(number - self.names),
                ),
                _ => 0,
            };
            out[at..at + 4].copy_from_slice(&value.to_le_bytes()[..4]);
        }
        out
    }
}

fn max(bytes: &[u8], btf: &Btf, wanted: Word) -> u32 {
    let words = btf.words.iter().filter(|(_, word)| *word == wanted);
    words
        .filter_map(|(at, _)| u32_at(bytes, *at as usize))
        .max()
        .unwrap_or(0)
}

impl Learner {
    /// Learns from the old and the new version of a module; other files teach nothing.
    ///
    /// # Errors
    /// When memory runs out.
    pub fn add(&mut self, old: &[u8], new: &[u8]) -> Result<(), DeltaError> {
        let (Ok(Some(a)), Ok(Some(b))) = (Layout::read(&old), Layout::read(&new)) else {
            return Ok(());
        };
        if !a.relocatable || !b.relocatable {
            return Ok(());
        }
        self.sums(old, &a, new, &b);
        if let (Some(old), Some(new)) = (Part::read(old, &a), Part::read(new, &b)) {
            self.words(&old, &new)?;
        }
        Ok(())
    }

    fn words(&mut self, old: &Part<'_>, new: &Part<'_>) -> Result<(), DeltaError> {
        let base = |p: &Part<'_>| {
            let own = p.btf.records.len().saturating_sub(1) as u32;
            max(p.bytes, &p.btf, Word::Type).saturating_sub(own)
        };
        self.types = (self.types.0.max(base(old)), self.types.1.max(base(new)));
        self.names = (self.names.0.max(old.names), self.names.1.max(new.names));
        let (old_view, new_view) = (old.view(), new.view());
        let options = bsdiff::Options::default();
        let steps = bsdiff::diff(&old_view, &new_view, &options)?;
        let there: HashMap<u32, Word> = new.btf.words.iter().copied().collect();
        for copy in copies(&steps) {
            let first = old
                .btf
                .words
                .partition_point(|(at, _)| u64::from(*at) < copy.old);
            for &(at, word) in old.btf.words.iter().skip(first) {
                if u64::from(at) + 4 > copy.old + copy.len {
                    break;
                }
                let moved = (u64::from(at) - copy.old + copy.new) as u32;
                if there.get(&moved) != Some(&word) {
                    continue;
                }
                let numbers = (
                    u32_at(old.bytes, at as usize),
                    u32_at(new.bytes, moved as usize),
                );
                let (Some(from), Some(to)) = numbers else {
                    continue;
                };
                let votes = match word {
                    Word::Type => &mut self.type_votes,
                    Word::Name => &mut self.name_votes,
                };
                *votes.entry(from).or_default().entry(to).or_default() += 1;
            }
        }
        Ok(())
    }

    /// Rows of `__versions`: checksum and name, 64 bytes.
    fn sums(&mut self, old: &[u8], a: &Layout, new: &[u8], b: &Layout) {
        fn rows<'f>(file: &'f [u8], layout: &Layout) -> Vec<(u32, &'f [u8])> {
            let s = layout
                .sections
                .iter()
                .find(|s| s.kind == 1 && s.name == b"__versions");
            let bytes = s.and_then(|s| file.get(s.offset as usize..)?.get(..s.size as usize));
            let rows = bytes.unwrap_or_default().as_chunks::<64>().0;
            rows.iter()
                .map(|row| (u32_at(row, 0).unwrap_or(0), &row[8..]))
                .collect()
        }
        let new: HashMap<&[u8], u32> = rows(new, b)
            .into_iter()
            .map(|(sum, symbol)| (symbol, sum))
            .collect();
        for (sum, symbol) in rows(old, a) {
            if let Some(to) = new.get(symbol) {
                *self
                    .sum_votes
                    .entry(sum)
                    .or_default()
                    .entry(*to)
                    .or_default() += 1;
            }
        }
    }

    /// The table, if there is anything in it.
    #[must_use]
    pub fn finish(self) -> Option<Table> {
        let runs = |votes: Votes, base: u32| {
            let mut runs = Runs::new();
            for (from, votes) in votes.range(1..base) {
                // The least of equals, so that the outcome is the same each time.
                let best = votes.iter().max_by_key(|(to, n)| (**n, u32::MAX - **to));
                let Some((to, _)) = best else { continue };
                let add = to.wrapping_sub(*from);
                if runs.last().map_or(0, |(_, add)| *add) != add {
                    runs.push((*from, add));
                }
            }
            runs
        };
        let sums = self.sum_votes.iter().filter_map(|(from, votes)| {
            let (to, _) = votes.iter().max_by_key(|(to, n)| (**n, u32::MAX - **to))?;
            (to != from).then_some((*from, *to))
        });
        let table = Table {
            types: self.types,
            names: self.names,
            sums: sums.collect(),
            type_runs: runs(self.type_votes, self.types.0),
            name_runs: runs(self.name_votes, self.names.0),
        };
        (table != Table::default()).then_some(table)
    }
}
