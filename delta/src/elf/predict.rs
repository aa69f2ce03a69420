//! The predictor: old bytes, and where they go, to what they probably become.
//!
//! Threats: hostile old files, hints and steps. Defences: see `layout`, `hints` and `step`;
//! arithmetic wraps, and no number read here sizes anything.

use std::sync::Arc;

use super::{
    aarch64::{branch_distance, page_distance, with_branch_distance, with_page_distance},
    hints::Hints,
    layout::Layout,
    mapping::Mapping,
    sites::{self, MARGIN, Role, Site, Stretch},
    table::{Runs, Table, get_runs, shift},
};
use crate::{
    DeltaError,
    source::{Source, read_up_to},
    step::{Copy, Step, copies},
    varint,
};

/// Predicts the new bytes of copies.
#[derive(Debug)]
pub struct Predictor {
    layout: Layout,
    hints: Hints,
    mapping: Mapping,
    table: Option<Arc<Table>>,
    own: OwnTypes,
}

/// How a module's own types and strings moved.
#[derive(Debug, Default)]
struct OwnTypes {
    runs: Runs,
    /// Offset of the strings in the new section.
    strings: u32,
}

impl Predictor {
    /// Prepares for a file with `steps`; takes its hints off the front of `hints`.
    ///
    /// # Errors
    /// [`DeltaError::Malformed`] where `old` is no ELF file that can be predicted; bad hints.
    pub fn new(
        old: &dyn Source,
        hints: &mut &[u8],
        steps: &[Step],
        table: Option<Arc<Table>>,
    ) -> Result<Self, DeltaError> {
        let layout = Layout::read(old)?.ok_or(DeltaError::Malformed {
            what: "prediction from a file that has no layout",
        })?;
        let sections = Hints::read(&layout, hints)?;
        let mut own = OwnTypes::default();
        if let (Some(btf), Some(_)) = (&layout.btf, &table) {
            own.strings = btf.strings.wrapping_add(varint::get_signed(hints)? as u32);
            own.runs = get_runs(hints)?;
        }
        let mapping = Mapping::new(copies(steps));
        Ok(Self {
            layout,
            hints: sections,
            mapping,
            table,
            own,
        })
    }

    /// Fills `out` with predictions for the bytes of `copy` from its byte `skip` on.
    ///
    /// The result for a byte depends on `copy` and the byte, not on `skip` and the length of `out`.
    ///
    /// # Errors
    /// When reading fails, or the range leaves the old file.
    pub fn fill(
        &self,
        old: &dyn Source,
        copy: Copy,
        skip: u64,
        out: &mut [u8],
    ) -> Result<(), DeltaError> {
        let from = copy.old.saturating_add(skip);
        let to = from.saturating_add(out.len() as u64);
        let start = from.saturating_sub(MARGIN);
        let bytes = read_up_to(old, start, to.saturating_add(MARGIN) - start)?;
        let stretch = Stretch {
            start,
            bytes: &bytes,
        };
        let plain = bytes.get((from - start) as usize..(to - start) as usize);
        out.copy_from_slice(plain.ok_or(DeltaError::OutOfBounds {
            start: from,
            end: to,
            len: old.len(),
        })?);
        let end = copy.old.saturating_add(copy.len);
        let first = from.saturating_sub(7).max(copy.old);
        sites::find(&self.layout, &stretch, first, to, &mut |site| {
            if site.at + site.width as u64 > end {
                return;
            }
            let moved = copy.new.wrapping_sub(copy.old);
            let Some(value) = self.value(&stretch, &site, site.at.wrapping_add(moved)) else {
                return;
            };
            for (i, byte) in value.to_le_bytes().into_iter().take(site.width).enumerate() {
                let at = (site.at + i as u64)
                    .checked_sub(from)
                    .map(|at| out.get_mut(at as usize));
                if let Some(Some(slot)) = at {
                    *slot = byte;
                }
            }
        });
        Ok(())
    }

    /// What the field of `site` holds when it stands at `new_at` of the new file.
    fn value(&self, stretch: &Stretch<'_>, site: &Site, new_at: u64) -> Option<u64> {
        let target = |section| self.hints.targets.get(section);
        match site.role {
            Role::Relative { tail } => {
                let distance = i64::from(stretch.u32(site.at)? as i32);
                let moved = self.distance(site, tail, distance, new_at)?;
                Some(moved)
            }
            Role::Branch26 => {
                let word = stretch.u32(site.at)?;
                let moved = self.distance(site, 0, branch_distance(word), new_at)?;
                Some(with_branch_distance(word, moved).into())
            }
            Role::Page21 => {
                let word = stretch.u32(site.at)?;
                let home = self.layout.section(site.home)?;
                let base = home.addr.wrapping_add(site.at.wrapping_sub(home.offset)) >> 12;
                let page = base.wrapping_add_signed(page_distance(word)) << 12;
                let old = [0x800, 0, 0xfff].map(|low| page | low);
                let old = old
                    .into_iter()
                    .find(|addr| self.layout.section_of(*addr).is_some())?;
                let new = self.address(old)? >> 12;
                let home = target(site.home)?;
                let base = home.addr.wrapping_add(new_at.wrapping_sub(home.offset)) >> 12;
                Some(with_page_distance(word, new.wrapping_sub(base)).into())
            }
            Role::Back => {
                let old = site.at.wrapping_sub(stretch.u32(site.at)?.into());
                Some(new_at.wrapping_sub(self.moved(site.home, old)?))
            }
            Role::Address if site.width == 4 => {
                self.address(i64::from(stretch.u32(site.at)? as i32) as u64)
            }
            Role::Address => self.address(stretch.u64(site.at)?),
            Role::FromSection { section } => {
                let distance = i64::from(stretch.u32(site.at)? as i32);
                let old = self
                    .layout
                    .section(section)?
                    .addr
                    .wrapping_add_signed(distance);
                Some(self.address(old)?.wrapping_sub(target(section)?.addr))
            }
            Role::Inside { section, bias } => {
                let field = if site.width == 8 {
                    stretch.u64(site.at)?
                } else {
                    stretch.u32(site.at)?.into()
                };
                let s = self.layout.section(section)?;
                let inside = field.wrapping_add(bias);
                if inside > s.file_size() {
                    return None;
                }
                let new = self.moved(section, s.offset.wrapping_add(inside))?;
                Some(new.wrapping_sub(target(section)?.offset).wrapping_sub(bias))
            }
            Role::RowOffset { thirds } => {
                let table = self.layout.section(site.home)?;
                let old_row = site.at.wrapping_sub(table.offset) / 24;
                let new_row = new_at.wrapping_sub(target(site.home)?.offset) / 24;
                let moved = (new_row.wrapping_sub(old_row) as i64).wrapping_mul(thirds as i64) / 3;
                Some(stretch.u64(site.at)?.wrapping_add_signed(moved))
            }
            Role::Jump => {
                let distance = i64::from(stretch.u32(site.at)? as i32);
                self.distance(site, 0, distance, new_at)
            }
            Role::Row { section } => {
                let s = self.layout.section(section)?;
                let row = u64::from(stretch.u32(site.at)?) * 24;
                let new = self.moved(section, s.offset.wrapping_add(row))?;
                Some(new.wrapping_sub(target(section)?.offset) / 24)
            }
            Role::Length { section, start } => {
                let len = if site.width == 8 {
                    stretch.u64(site.at)?
                } else {
                    stretch.u32(site.at)?.into()
                };
                let start = self.layout.section(section)?.offset.wrapping_add(start);
                let last = self.moved(section, start.wrapping_add(len.checked_sub(1)?))?;
                Some(
                    last.wrapping_sub(self.moved(section, start)?)
                        .wrapping_add(1),
                )
            }
            Role::Type => {
                let (table, number) = (self.table.as_ref()?, stretch.u32(site.at)?);
                let new = match number.checked_sub(table.types.0) {
                    None => number.wrapping_add(shift(&table.type_runs, number)),
                    Some(own) => own
                        .wrapping_add(shift(&self.own.runs, own))
                        .wrapping_add(table.types.1),
                };
                Some(new.into())
            }
            Role::Name => {
                let (table, number) = (self.table.as_ref()?, stretch.u32(site.at)?);
                let Some(own) = number.checked_sub(table.names.0) else {
                    return Some(number.wrapping_add(shift(&table.name_runs, number)).into());
                };
                let s = self.layout.section(site.home)?;
                let old = s
                    .offset
                    .wrapping_add(self.layout.btf.as_ref()?.strings.into());
                let new = self.moved(site.home, old.wrapping_add(own.into()))?;
                let base = target(site.home)?
                    .offset
                    .wrapping_add(self.own.strings.into());
                Some(new.wrapping_sub(base).wrapping_add(table.names.1.into()))
            }
            Role::Sum => Some(self.table.as_ref()?.sum(stretch.u32(site.at)?).into()),
            Role::Section => {
                let old = stretch.u16(site.at)?;
                target(usize::from(old))
                    .map(|t| t.index)
                    .filter(|_| old != 0)
            }
            Role::SectionOffset { section } => target(section).map(|t| t.offset),
            Role::SectionAddress { section } => target(section).map(|t| t.addr),
            Role::SectionSize { section } => target(section).map(|t| t.size),
            Role::SectionHeaders => Some(self.hints.section_headers),
        }
    }

    /// The new distance for the old one of a field, whose target counts from `tail` bytes on.
    fn distance(&self, site: &Site, tail: u64, distance: i64, new_at: u64) -> Option<u64> {
        let home = self.layout.section(site.home)?;
        let old = site.at.wrapping_add(tail).wrapping_add_signed(distance);
        let base = new_at.wrapping_add(tail);
        if self.layout.relocatable {
            return Some(self.moved(site.home, old)?.wrapping_sub(base));
        }
        let target = self.hints.targets.get(site.home)?;
        let new = self.address(old.wrapping_sub(home.offset).wrapping_add(home.addr))?;
        Some(new.wrapping_sub(base.wrapping_sub(target.offset).wrapping_add(target.addr)))
    }

    /// The new address of what was at address `old`.
    fn address(&self, old: u64) -> Option<u64> {
        let section = self.layout.section_of(old)?;
        let s = self.layout.section(section)?;
        let target = self.hints.targets.get(section)?;
        let inside = old.wrapping_sub(s.addr);
        if s.file_size() == 0 {
            return Some(target.addr.wrapping_add(inside));
        }
        let new = self.moved(section, s.offset.wrapping_add(inside))?;
        Some(new.wrapping_sub(target.offset).wrapping_add(target.addr))
    }

    /// The new offset in the file of what was at offset `old`, in a section.
    fn moved(&self, section: usize, old: u64) -> Option<u64> {
        let s = self.layout.section(section)?;
        let shift = self
            .mapping
            .shift(old, s.offset, s.offset.saturating_add(s.size));
        let shift = match shift {
            Some(shift) => shift,
            None => self
                .hints
                .targets
                .get(section)?
                .offset
                .wrapping_sub(s.offset),
        };
        Some(old.wrapping_add(shift))
    }
}
