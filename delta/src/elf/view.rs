//! A view of an ELF file for matching: what the predictor gets right is masked.
//!
//! Every byte keeps its place. Numbers that change with any move become zero, or a digest of what
//! they refer to, so that equal meaning looks equal.

use super::{
    layout::{Layout, RegionKind, u32_at},
    sites::{self, Role, Site, Stretch},
    table::{Table, shift},
};

/// Which of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    /// The old one: what the table maps is mapped.
    Old,
    /// The new one.
    New,
}

/// Bytes masked at a time.
const BLOCK: u64 = 1 << 20;

/// The view of `file`, of the same length; the bytes themselves where it is no such file.
#[must_use]
pub(crate) fn view(file: &[u8], table: Option<&Table>, side: Side) -> Vec<u8> {
    let mut out = file.to_vec();
    let Ok(Some(layout)) = Layout::read(&file) else {
        return out;
    };
    let stretch = Stretch {
        start: 0,
        bytes: file,
    };
    let mut from = 0;
    while from < file.len() as u64 {
        let to = (from + BLOCK).min(file.len() as u64);
        sites::find(&layout, &stretch, from, to, &mut |site| {
            let Some(value) = masked(&layout, &stretch, &site, table, side) else {
                return;
            };
            let at = site.at as usize;
            if let Some(slot) = out.get_mut(at..at + site.width) {
                slot.copy_from_slice(&value.to_le_bytes()[..site.width]);
            }
        });
        from = to;
    }
    out
}

fn masked(
    layout: &Layout,
    stretch: &Stretch<'_>,
    site: &Site,
    table: Option<&Table>,
    side: Side,
) -> Option<u64> {
    let file = stretch.bytes;
    let at = site.at as usize;
    let rela = layout.section(site.home).filter(|s| s.kind == 4);
    if let Some(table) = rela.filter(|s| (site.at - s.offset).is_multiple_of(24)) {
        // Distance from the row before.
        let before = if site.at == table.offset {
            0
        } else {
            stretch.u64(site.at - 24)?
        };
        return Some(stretch.u64(site.at)?.wrapping_sub(before));
    }
    match site.role {
        // What a distance leads to tells less than it costs where that changed: measured.
        Role::Relative { .. }
        | Role::Back
        | Role::Jump
        | Role::RowOffset { .. }
        | Role::SectionOffset { .. }
        | Role::SectionAddress { .. }
        | Role::SectionSize { .. }
        | Role::SectionHeaders => Some(0),
        Role::Length { .. } => None,
        Role::FromSection { section } => {
            let distance = i64::from(stretch.u32(site.at)? as i32);
            let addr = layout.section(section)?.addr.wrapping_add_signed(distance);
            let s = layout.section(layout.section_of(addr)?)?;
            if !s.is_code() {
                return Some(0);
            }
            Some(content(
                file,
                s.offset.wrapping_add(addr.wrapping_sub(s.addr)),
            ))
        }
        Role::Branch26 => Some((stretch.u32(site.at)? & 0xfc00_0000).into()),
        Role::Page21 => Some((stretch.u32(site.at)? & 0x9f00_001f).into()),
        Role::Address if site.width == 4 => {
            let addr = i64::from(stretch.u32(site.at)? as i32) as u64;
            let s = layout.section(layout.section_of(addr)?)?;
            if s.is_code() || s.file_size() == 0 {
                return Some(0);
            }
            Some(content(
                file,
                s.offset.wrapping_add(addr.wrapping_sub(s.addr)),
            ))
        }
        Role::Address => {
            let addr = stretch.u64(site.at)?;
            let s = layout.section(layout.section_of(addr)?)?;
            Some(content(
                file,
                s.offset.wrapping_add(addr.wrapping_sub(s.addr)),
            ))
        }
        Role::Inside { section, bias } => {
            let field = if site.width == 8 {
                stretch.u64(site.at)?
            } else {
                u32_at(file, at)?.into()
            };
            let s = layout.section(section)?;
            let offset = s.offset.wrapping_add(field).wrapping_add(bias);
            // Symbols' values follow from their names.
            let symbols = layout.regions.iter().find(|r| r.section == site.home)?;
            if symbols.kind == RegionKind::Symbols && site.width == 8 {
                return Some(0);
            }
            Some(if s.kind == 3 {
                name(file, offset)
            } else {
                content(file, offset)
            })
        }
        Role::Row { section } => {
            let table = layout.section(section)?;
            let row = table
                .offset
                .wrapping_add(u64::from(stretch.u32(site.at)?) * 24);
            let names = layout.section(table.link as usize)?;
            let index = stretch.u16(row.wrapping_add(6))?;
            match stretch.u32(row)? {
                0 => Some(digest(&layout.section(index.into())?.name)),
                at => Some(name(file, names.offset.wrapping_add(at.into()))),
            }
        }
        Role::Type => {
            let (table, number) = (table?, stretch.u32(site.at)?);
            Some(match side {
                Side::Old if number < table.types.0 => {
                    number.wrapping_add(shift(&table.type_runs, number)).into()
                }
                Side::New if number < table.types.1 => number.into(),
                _ => u64::from(u32::MAX),
            })
        }
        Role::Name => {
            let (table, number) = (table?, stretch.u32(site.at)?);
            let base = if side == Side::Old {
                table.names.0
            } else {
                table.names.1
            };
            Some(match (number.checked_sub(base), side) {
                (None, Side::Old) => number.wrapping_add(shift(&table.name_runs, number)).into(),
                (None, Side::New) => number.into(),
                (Some(own), _) => {
                    let strings =
                        layout.section(site.home)?.offset + u64::from(layout.btf.as_ref()?.strings);
                    name(file, strings + u64::from(own))
                }
            })
        }
        Role::Sum => {
            let sum = stretch.u32(site.at)?;
            Some(
                if side == Side::Old {
                    table?.sum(sum)
                } else {
                    sum
                }
                .into(),
            )
        }
        Role::Section => {
            let s = layout.section(stretch.u16(site.at)?.into())?;
            Some(digest(&s.name) & 0xffff)
        }
    }
}

/// Digest of the string at `offset`.
pub(crate) fn name(file: &[u8], offset: u64) -> u64 {
    let rest = file.get(offset as usize..).unwrap_or_default();
    digest(rest.split(|b| *b == 0).next().unwrap_or_default())
}

/// Digest of what stands at `offset`.
fn content(file: &[u8], offset: u64) -> u64 {
    let rest = file.get(offset as usize..).unwrap_or_default();
    digest(rest.get(..8).unwrap_or(rest))
}

/// FNV-1a, 32 bits.
fn digest(bytes: &[u8]) -> u64 {
    let hash = |h: u32, b: &u8| (h ^ u32::from(*b)).wrapping_mul(0x0100_0193);
    bytes.iter().fold(0x811c_9dc5, hash).into()
}
