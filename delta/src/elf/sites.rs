//! The places in a file that refer to others, and how: found in old bytes, by position alone.
//!
//! Whether a place is a reference depends only on the layout and on bytes near it, so a decoder
//! can start anywhere, with any size of buffer, and find the same.

use super::layout::{Layout, Machine, Region, RegionKind, Section, u32_at, u64_at};
use super::{aarch64, btf::Word, x86};

/// Bytes before and after a stretch that are needed to find the references in it.
pub(crate) const MARGIN: u64 = 64;

/// Part of a file: `bytes` begin at `start`.
#[derive(Clone, Copy)]
pub(crate) struct Stretch<'a> {
    pub(crate) start: u64,
    pub(crate) bytes: &'a [u8],
}

impl Stretch<'_> {
    fn index(&self, at: u64) -> usize {
        at.checked_sub(self.start)
            .and_then(|i| usize::try_from(i).ok())
            .unwrap_or(usize::MAX)
    }

    pub(crate) fn u8(&self, at: u64) -> Option<u8> {
        self.bytes.get(self.index(at)).copied()
    }

    pub(crate) fn u16(&self, at: u64) -> Option<u16> {
        Some(u16::from_le_bytes([
            self.u8(at)?,
            self.u8(at.checked_add(1)?)?,
        ]))
    }

    pub(crate) fn u32(&self, at: u64) -> Option<u32> {
        u32_at(self.bytes, self.index(at))
    }

    pub(crate) fn u64(&self, at: u64) -> Option<u64> {
        u64_at(self.bytes, self.index(at))
    }
}

/// What the field of a reference means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    /// 32 bits: distance from this field plus `tail` to the target.
    Relative { tail: u64 },
    /// As `Relative`, but backwards.
    Back,
    /// An address; one of four bytes has a sign.
    Address,
    /// Distance from the start of a section that need not be the target's.
    FromSection { section: usize },
    /// Offset in a section, less `bias`.
    Inside { section: usize, bias: u64 },
    /// Offset in a section that has a relocation every so many thirds of a byte.
    RowOffset { thirds: u64 },
    /// 32 bits: distance from somewhere near to code.
    Jump,
    /// Index of a row of 24 bytes in a section.
    Row { section: usize },
    /// Length of what starts at `start` bytes in a section.
    Length { section: usize, start: u64 },
    /// Index of a section.
    Section,
    /// Offset of a section in the file.
    SectionOffset { section: usize },
    /// Address of a section.
    SectionAddress { section: usize },
    /// Size of a section.
    SectionSize { section: usize },
    /// Offset of the section headers.
    SectionHeaders,
    /// Number of a type in BTF.
    Type,
    /// Offset of a string in BTF.
    Name,
    /// Checksum of an interface.
    Sum,
    /// An instruction with 26 bits of distance.
    Branch26,
    /// An instruction with 21 bits of distance in pages.
    Page21,
}

/// One reference.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    pub(crate) at: u64,
    /// Bytes, at most 8.
    pub(crate) width: usize,
    /// The section that the field is in; 0 outside sections.
    pub(crate) home: usize,
    pub(crate) role: Role,
}

/// Calls `visit` for each reference that begins in `from..to`, in order of offset.
///
/// `stretch` must hold [`MARGIN`] bytes on both sides, where the file does.
pub(crate) fn find(
    layout: &Layout,
    stretch: &Stretch<'_>,
    from: u64,
    to: u64,
    visit: &mut impl FnMut(Site),
) {
    let first = layout.regions.partition_point(|r| r.end <= from);
    for region in layout
        .regions
        .iter()
        .skip(first)
        .take_while(|r| r.start < to)
    {
        let (from, to) = (from.max(region.start), to.min(region.end));
        let mut emit = |at: u64, width: usize, role: Role| {
            if at >= from && at < to {
                visit(Site {
                    at,
                    width,
                    home: region.section,
                    role,
                });
            }
        };
        match region.kind {
            RegionKind::Header => {
                emit(0x18, 8, Role::Address);
                emit(0x28, 8, Role::SectionHeaders);
            }
            RegionKind::Code if layout.machine == Machine::X86_64 => {
                x86::find(layout, stretch, region, from, to, &mut emit);
            }
            RegionKind::Code => aarch64::find(layout, stretch, region, from, to, &mut emit),
            RegionKind::Frames => frames(layout, stretch, from, to, &mut emit),
            RegionKind::SectionHeaders => rows(region, 64, from, to, |row| {
                section_header(layout, row, ((row - region.start) / 64) as usize, &mut emit);
            }),
            RegionKind::Rela => rows(region, 24, from, to, |row| {
                relocation(layout, stretch, region, row, &mut emit);
            }),
            RegionKind::Symbols => rows(region, 24, from, to, |row| {
                symbol(layout, stretch, region, row, &mut emit);
            }),
            RegionKind::Dynamic => rows(region, 16, from, to, |row| {
                if matches!(
                    stretch.u64(row),
                    Some(
                        3..=7
                            | 12
                            | 13
                            | 17
                            | 23
                            | 25
                            | 26
                            | 32
                            | 36
                            | 0x6fff_fef5
                            | 0x6fff_fff0
                            | 0x6fff_fffc
                            | 0x6fff_fffe
                    )
                ) {
                    emit(row + 8, 8, Role::Address);
                }
            }),
            RegionKind::FrameTable => rows(region, 4, from, to, |row| {
                if row == region.start + 4 {
                    emit(row, 4, Role::Relative { tail: 0 });
                } else if row >= region.start + 12 {
                    emit(
                        row,
                        4,
                        Role::FromSection {
                            section: region.section,
                        },
                    );
                }
            }),
            RegionKind::Btf => {
                let words = layout.btf.as_ref().map_or(&[][..], |btf| &btf.words);
                let first = words.partition_point(|(at, _)| region.start + u64::from(*at) < from);
                let words = words
                    .iter()
                    .skip(first)
                    .map(|(at, word)| (region.start + u64::from(*at), word));
                for (at, word) in words.take_while(|(at, _)| *at < to) {
                    emit(
                        at,
                        4,
                        if *word == Word::Type {
                            Role::Type
                        } else {
                            Role::Name
                        },
                    );
                }
            }
            RegionKind::Sums(size) => rows(region, size, from, to, |row| emit(row, 4, Role::Sum)),
            RegionKind::Jumps => {
                let base = layout
                    .section(region.section)
                    .map_or(0, |s| s.addr.wrapping_sub(s.offset));
                let code = |at: u64| {
                    let addr = base
                        .wrapping_add(at)
                        .wrapping_add_signed((stretch.u32(at)? as i32).into());
                    layout
                        .section(layout.section_of(addr)?)?
                        .is_code()
                        .then_some(addr)
                };
                if layout.fixed {
                    rows(region, 8, from, to, |row| {
                        if stretch
                            .u64(row)
                            .is_some_and(|v| layout.section_of(v).is_some())
                        {
                            emit(row, 8, Role::Address);
                        }
                    });
                    continue;
                }
                rows(region, 4, from, to, |row| {
                    let Some(addr) = code(row) else { return };
                    let beside = [row.wrapping_sub(4), row + 4];
                    if beside
                        .iter()
                        .any(|at| code(*at).is_some_and(|a| a.abs_diff(addr) < 1 << 14))
                    {
                        emit(row, 4, Role::Jump);
                    }
                });
            }
            RegionKind::Pointers => rows(region, 8, from, to, |row| {
                if stretch
                    .u64(row)
                    .is_some_and(|v| layout.section_of(v).is_some())
                {
                    emit(row, 8, Role::Address);
                }
            }),
        }
    }
}

/// Calls `each` with the offset of each row that may touch `from..to`.
fn rows(region: &Region, size: u64, from: u64, to: u64, mut each: impl FnMut(u64)) {
    let mut row = region.start + (from - region.start) / size * size;
    while row < to && region.end - row >= size {
        each(row);
        row += size;
    }
}

fn section_header(
    layout: &Layout,
    row: u64,
    section: usize,
    emit: &mut impl FnMut(u64, usize, Role),
) {
    let Some(s) = layout.section(section) else {
        return;
    };
    if s.addr != 0 {
        emit(row + 0x10, 8, Role::SectionAddress { section });
    }
    emit(row + 0x18, 8, Role::SectionOffset { section });
    emit(row + 0x20, 8, Role::SectionSize { section });
    emit(row + 0x28, 4, Role::Section);
    if s.kind == 4 {
        emit(row + 0x2c, 4, Role::Section);
    } else if s.kind == 2 {
        emit(row + 0x2c, 4, Role::Row { section });
    }
}

fn relocation(
    layout: &Layout,
    stretch: &Stretch<'_>,
    region: &Region,
    row: u64,
    emit: &mut impl FnMut(u64, usize, Role),
) {
    let Some(table) = layout.section(region.section) else {
        return;
    };
    let (Some(kind), Some(symbol)) = (stretch.u32(row + 8), stretch.u32(row + 12)) else {
        return;
    };
    if layout.relocatable {
        let section = table.info as usize;
        match layout
            .section(section)
            .and_then(|s| stride(s, table.size / 24))
        {
            Some(thirds) => emit(row, 8, Role::RowOffset { thirds }),
            None => emit(row, 8, Role::Inside { section, bias: 0 }),
        }
    } else {
        emit(row, 8, Role::Address);
    }
    if symbol != 0 {
        emit(
            row + 12,
            4,
            Role::Row {
                section: table.link as usize,
            },
        );
    }
    if layout.relocatable {
        let section = layout
            .section_symbols
            .get(symbol as usize)
            .copied()
            .unwrap_or(0);
        if section != 0 {
            // The distance counts from the end of the instruction, mostly four bytes on.
            let near = layout.machine == Machine::X86_64 && matches!(kind, 2 | 4);
            let bias = if near { 4 } else { 0 };
            emit(
                row + 16,
                8,
                Role::Inside {
                    section: usize::from(section),
                    bias,
                },
            );
        }
    } else if symbol == 0 {
        emit(row + 16, 8, Role::Address);
    }
}

/// Bytes between relocations, times three, in a section that has them at regular distances.
fn stride(section: &Section, rows: u64) -> Option<u64> {
    let thirds = section.size.checked_mul(3)?.checked_div(rows)?;
    let regular = thirds.checked_mul(rows) == Some(section.size * 3) && thirds <= 72;
    (regular && !section.is_code()).then_some(thirds)
}

fn symbol(
    layout: &Layout,
    stretch: &Stretch<'_>,
    region: &Region,
    row: u64,
    emit: &mut impl FnMut(u64, usize, Role),
) {
    let Some(table) = layout.section(region.section) else {
        return;
    };
    let (Some(index), Some(value)) = (stretch.u16(row + 6), stretch.u64(row + 8)) else {
        return;
    };
    emit(
        row,
        4,
        Role::Inside {
            section: table.link as usize,
            bias: 0,
        },
    );
    if index == 0 || index >= 0xff00 {
        return;
    }
    let section = usize::from(index);
    let Some(s) = layout.section(section) else {
        return;
    };
    emit(row + 6, 2, Role::Section);
    // Thread-local ones count from the start of their segment.
    if stretch.u8(row + 4).is_some_and(|info| info & 0xf == 6) {
        return;
    }
    let start = if layout.relocatable {
        value
    } else {
        value.wrapping_sub(s.addr)
    };
    let role = if layout.relocatable {
        Role::Inside { section, bias: 0 }
    } else {
        Role::Address
    };
    emit(row + 8, 8, role);
    if start < s.file_size() && stretch.u64(row + 16).is_some_and(|len| len > 0) {
        emit(row + 16, 8, Role::Length { section, start });
    }
}

fn frames(
    layout: &Layout,
    stretch: &Stretch<'_>,
    from: u64,
    to: u64,
    emit: &mut impl FnMut(u64, usize, Role),
) {
    let first = layout
        .frames
        .partition_point(|at| at.saturating_add(16) <= from);
    for &at in layout.frames.iter().skip(first).take_while(|at| **at < to) {
        emit(at + 4, 4, Role::Back);
        emit(at + 8, 4, Role::Relative { tail: 0 });
        // The length of the function, for frames that have the room.
        if let (Some(start), Some(12..)) = (stretch.u32(at + 8), stretch.u32(at)) {
            let Some(frame) = layout.regions.iter().find(|r| r.kind == RegionKind::Frames) else {
                return;
            };
            let base = layout
                .section(frame.section)
                .map_or(0, |s| s.addr.wrapping_sub(s.offset));
            let addr = base
                .wrapping_add(at + 8)
                .wrapping_add_signed(i64::from(start as i32));
            if let Some(section) = layout.section_of(addr) {
                let start = addr - layout.section(section).map_or(0, |s| s.addr);
                emit(at + 12, 4, Role::Length { section, start });
            }
        }
    }
}
