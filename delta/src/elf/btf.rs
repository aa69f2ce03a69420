//! BTF, the kernel's type information, in modules: which of its words refer to types and strings.
//!
//! A module's BTF continues that of the kernel: numbers below a base, which the module does not
//! tell, are the kernel's. See `table` for how those are mapped.
//!
//! Threats and defences: as for `layout`; what does not parse to its end is not predicted.

use super::layout::{u16_at, u32_at};

/// Most bytes of BTF that are looked at.
pub(crate) const MAX_BYTES: u64 = 16 << 20;

/// What a word refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Word {
    Type,
    Name,
}

/// Where the references of a BTF section are; offsets count from the start of the section.
#[derive(Debug, Default)]
pub(crate) struct Btf {
    /// Offsets of referring words, ascending.
    pub(crate) words: Vec<(u32, Word)>,
    /// Offsets of type records, ascending.
    pub(crate) records: Vec<u32>,
    /// Offset of the strings.
    pub(crate) strings: u32,
}

impl Btf {
    /// Parses a section.
    pub(crate) fn parse(bytes: &[u8]) -> Option<Self> {
        if u16_at(bytes, 0)? != 0xeb9f || bytes.len() as u64 > MAX_BYTES {
            return None;
        }
        let head = u32_at(bytes, 4)?;
        let mut at = head.checked_add(u32_at(bytes, 8)?)?;
        let end = at.checked_add(u32_at(bytes, 12)?)?;
        let strings = head.checked_add(u32_at(bytes, 16)?)?;
        if end as usize > bytes.len() || strings < end {
            return None;
        }
        let mut btf = Self {
            strings,
            ..Self::default()
        };
        while at < end {
            btf.records.push(at);
            at = btf.record(bytes, at)?;
        }
        btf.words.sort_unstable_by_key(|(at, _)| *at);
        (at == end).then_some(btf)
    }

    /// Notes the words of the record at `at`; returns where the next begins.
    fn record(&mut self, bytes: &[u8], at: u32) -> Option<u32> {
        let info = u32_at(bytes, at as usize + 4)?;
        let (kind, count) = (info >> 24 & 31, info & 0xffff);
        self.words.push((at, Word::Name));
        // Kinds with a type where the others have a size; then bytes of each member, and its words.
        let (typed, fixed, member, words): (bool, u32, u32, &[(u32, Word)]) = match kind {
            1 => (false, 4, 0, &[]),
            2 | 7..=12 | 18 => (true, 0, 0, &[]),
            3 => (false, 12, 0, &[]),
            4 | 5 => (false, 0, 12, &[(0, Word::Name), (4, Word::Type)]),
            6 => (false, 0, 8, &[(0, Word::Name)]),
            13 => (true, 0, 8, &[(0, Word::Name), (4, Word::Type)]),
            14 | 17 => (true, 4, 0, &[]),
            15 => (false, 0, 12, &[(0, Word::Type)]),
            16 => (false, 0, 0, &[]),
            19 => (false, 0, 12, &[(0, Word::Name)]),
            _ => return None,
        };
        if typed {
            self.words.push((at + 8, Word::Type));
        }
        let body = at.checked_add(12)?;
        if kind == 3 {
            self.words
                .extend([(body, Word::Type), (body.checked_add(4)?, Word::Type)]);
        }
        let end = body
            .checked_add(fixed)?
            .checked_add(count.checked_mul(member)?)?;
        if end as usize > bytes.len() {
            return None;
        }
        if member > 0 {
            for start in (body..end).step_by(member as usize) {
                self.words
                    .extend(words.iter().map(|(at, word)| (start + at, *word)));
            }
        }
        Some(end)
    }

    /// Index of the record at `at`.
    #[cfg(feature = "encode")]
    pub(crate) fn record_at(&self, at: u32) -> Option<usize> {
        self.records.binary_search(&at).ok()
    }
}
