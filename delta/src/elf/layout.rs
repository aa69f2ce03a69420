//! What an ELF file says about itself: sections, and which of them hold references.
//!
//! 64-bit little-endian, x86-64 and aarch64, relocatable, executable and shared. The same bytes
//! always give the same layout, on every machine: deltas rely on it.
//!
//! Threats: files that lie about offsets, counts and links. Defences: everything read is checked
//! against the file's length, counts are capped, overlapping regions dropped; a file that makes no
//! sense simply has no layout, and is predicted by its plain bytes.

use super::btf::{Btf, MAX_BYTES};
use crate::{
    DeltaError,
    source::{Source, read_up_to},
};

/// Most sections that are looked at.
const MAX_SECTIONS: usize = 4096;
/// Most bytes of names of sections.
const MAX_NAMES: u64 = 1 << 20;
/// Most symbols of a relocatable file.
const MAX_SYMBOLS: u64 = 1 << 22;
/// Most frame descriptions that are looked at.
const MAX_FRAMES: usize = 1 << 21;

pub(crate) const SHT_NOBITS: u32 = 8;

/// Processor that the code is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Machine {
    X86_64,
    Aarch64,
}

/// A section header, with its fields as they stand.
#[derive(Clone, Debug, Default)]
pub(crate) struct Section {
    pub(crate) name: Vec<u8>,
    pub(crate) kind: u32,
    pub(crate) flags: u64,
    pub(crate) addr: u64,
    pub(crate) offset: u64,
    pub(crate) size: u64,
    pub(crate) link: u32,
    pub(crate) info: u32,
    pub(crate) align: u64,
}

impl Section {
    pub(crate) fn is_code(&self) -> bool {
        self.flags & 4 != 0
    }

    pub(crate) fn is_loaded(&self) -> bool {
        self.flags & 2 != 0
    }

    /// Bytes in the file.
    pub(crate) fn file_size(&self) -> u64 {
        if self.kind == SHT_NOBITS {
            0
        } else {
            self.size
        }
    }
}

/// What the references in a region look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RegionKind {
    Header,
    SectionHeaders,
    Code,
    Rela,
    Symbols,
    Dynamic,
    Frames,
    FrameTable,
    Pointers,
    /// Constants, tables of jumps among them.
    Jumps,
    Btf,
    /// Rows of so many bytes that begin with a checksum of an interface.
    Sums(u64),
}

/// A stretch of the file with references of one kind.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Region {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) kind: RegionKind,
    /// The section that it is.
    pub(crate) section: usize,
}

/// The layout of one file.
#[derive(Debug)]
pub(crate) struct Layout {
    pub(crate) machine: Machine,
    /// Relocatable: addresses are offsets in sections.
    pub(crate) relocatable: bool,
    /// Linked for fixed addresses, which then stand in code and data as they are.
    pub(crate) fixed: bool,
    pub(crate) sections: Vec<Section>,
    pub(crate) section_headers: u64,
    /// In order of offset, without overlap.
    pub(crate) regions: Vec<Region>,
    /// Loaded sections (address, end, index) in order of address.
    pub(crate) loaded: Vec<(u64, u64, usize)>,
    /// Per symbol of a relocatable file: the section, if it stands for one as a whole; else 0.
    pub(crate) section_symbols: Vec<u16>,
    /// Type information of a module.
    pub(crate) btf: Option<Btf>,
    /// Offsets in the file of frame descriptions, ascending.
    pub(crate) frames: Vec<u64>,
}

pub(crate) fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u16::from_le_bytes(*b))
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u32::from_le_bytes(*b))
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> Option<u64> {
    bytes
        .get(at..)?
        .first_chunk()
        .map(|b| u64::from_le_bytes(*b))
}

impl Layout {
    /// Reads the layout of a file, if it has one.
    ///
    /// # Errors
    /// Only when reading fails.
    pub(crate) fn read(file: &dyn Source) -> Result<Option<Self>, DeltaError> {
        let head = read_up_to(file, 0, 64)?;
        let Some((machine, relocatable)) = identify(&head) else {
            return Ok(None);
        };
        let Some(section_headers) = u64_at(&head, 0x28) else {
            return Ok(None);
        };
        let count = usize::from(u16_at(&head, 0x3c).unwrap_or(0)).min(MAX_SECTIONS);
        let table = read_up_to(file, section_headers, count as u64 * 64)?;
        let mut sections: Vec<Section> = table.as_chunks::<64>().0.iter().map(section).collect();
        if sections.len() != count || count < 2 {
            return Ok(None);
        }
        for section in &mut sections {
            let end = section.offset.checked_add(section.file_size());
            if section.kind == 0 || end.is_none_or(|end| end > file.len()) {
                *section = Section {
                    kind: 0,
                    ..Section::default()
                };
            }
        }
        let names = usize::from(u16_at(&head, 0x3e).unwrap_or(0));
        let names = match sections.get(names) {
            Some(s) => read_up_to(file, s.offset, s.file_size().min(MAX_NAMES))?,
            None => Vec::new(),
        };
        for (section, row) in sections.iter_mut().zip(table.as_chunks::<64>().0) {
            let at = u32_at(row, 0).unwrap_or(0) as usize;
            let rest = names.get(at..).unwrap_or_default();
            let len = rest.iter().position(|b| *b == 0).unwrap_or(0);
            section.name = rest.get(..len).unwrap_or_default().to_vec();
        }
        let mut layout = Self {
            machine,
            relocatable,
            fixed: u16_at(&head, 0x10) == Some(2),
            section_headers,
            regions: Vec::new(),
            loaded: Vec::new(),
            section_symbols: Vec::new(),
            frames: Vec::new(),
            btf: None,
            sections,
        };
        layout.find_loaded();
        layout.find_regions();
        layout.read_section_symbols(file)?;
        layout.read_frames(file)?;
        layout.read_btf(file)?;
        Ok(Some(layout))
    }

    fn find_loaded(&mut self) {
        for (i, s) in self.sections.iter().enumerate() {
            // Thread-local bss takes no addresses, though it says so.
            let tbss = s.flags & 0x400 != 0 && s.kind == SHT_NOBITS;
            if s.is_loaded() && s.size > 0 && s.addr > 0 && !tbss {
                self.loaded.push((s.addr, s.addr.saturating_add(s.size), i));
            }
        }
        self.loaded.sort_unstable();
    }

    fn find_regions(&mut self) {
        let mut regions = vec![Region {
            start: 0,
            end: 64,
            kind: RegionKind::Header,
            section: 0,
        }];
        let end = self
            .section_headers
            .saturating_add(self.sections.len() as u64 * 64);
        let start = self.section_headers;
        regions.push(Region {
            start,
            end,
            kind: RegionKind::SectionHeaders,
            section: 0,
        });
        for (section, s) in self.sections.iter().enumerate() {
            let kind = match (s.kind, s.name.as_slice()) {
                (SHT_NOBITS | 0, _) => continue,
                (4, _) => RegionKind::Rela,
                (2 | 11, _) => RegionKind::Symbols,
                (6, _) => RegionKind::Dynamic,
                (_, b".eh_frame") if !self.relocatable => RegionKind::Frames,
                (_, b".eh_frame_hdr") if !self.relocatable => RegionKind::FrameTable,
                (1, _) if s.is_code() => RegionKind::Code,
                (14 | 15, _) if !self.relocatable => RegionKind::Pointers,
                (1, b".got" | b".got.plt" | b".data.rel.ro" | b".data") if !self.relocatable => {
                    RegionKind::Pointers
                }
                (1, b".rodata") if !self.relocatable => RegionKind::Jumps,
                (1, b".BTF") if self.relocatable => RegionKind::Btf,
                (1, b"__versions") if self.relocatable => RegionKind::Sums(64),
                (1, b"__kcrctab" | b"__kcrctab_gpl") if self.relocatable => RegionKind::Sums(4),
                _ => continue,
            };
            let (start, end) = (s.offset, s.offset.saturating_add(s.size));
            regions.push(Region {
                start,
                end,
                kind,
                section,
            });
        }
        regions.sort_unstable_by_key(|r| (r.start, r.end));
        let mut reached = 0;
        regions.retain(|r| {
            let keep = r.start >= reached && r.end > r.start;
            reached = if keep { r.end } else { reached };
            keep
        });
        self.regions = regions;
    }

    fn read_section_symbols(&mut self, file: &dyn Source) -> Result<(), DeltaError> {
        let table = self.sections.iter().find(|s| s.kind == 2);
        let Some(table) = table.filter(|_| self.relocatable) else {
            return Ok(());
        };
        let bytes = read_up_to(file, table.offset, table.size.min(MAX_SYMBOLS * 24))?;
        let of = |row: &[u8; 24]| match u16_at(row, 6) {
            Some(section) if row[4] & 0xf == 3 && section < 0xff00 => section,
            _ => 0,
        };
        self.section_symbols = bytes.as_chunks::<24>().0.iter().map(of).collect();
        // Section symbols come first: the rest need not be kept.
        let used = self
            .section_symbols
            .iter()
            .rposition(|s| *s != 0)
            .map_or(0, |i| i + 1);
        self.section_symbols.truncate(used);
        Ok(())
    }

    fn read_frames(&mut self, file: &dyn Source) -> Result<(), DeltaError> {
        let Some(region) = self.regions.iter().find(|r| r.kind == RegionKind::Frames) else {
            return Ok(());
        };
        let bytes = read_up_to(file, region.start, region.end - region.start)?;
        let mut at = 0usize;
        while let (Some(len), Some(cie)) = (u32_at(&bytes, at), u32_at(&bytes, at + 4)) {
            if len == 0 || len >= 0xffff_fff0 || self.frames.len() == MAX_FRAMES {
                break;
            }
            if cie != 0 {
                self.frames.push(region.start + at as u64);
            }
            at += 4 + len as usize;
        }
        Ok(())
    }

    fn read_btf(&mut self, file: &dyn Source) -> Result<(), DeltaError> {
        let region = self.regions.iter().find(|r| r.kind == RegionKind::Btf);
        if let Some(region) = region.filter(|r| r.end - r.start <= MAX_BYTES) {
            self.btf = Btf::parse(&read_up_to(file, region.start, region.end - region.start)?);
        }
        Ok(())
    }

    /// The section that holds address `addr`.
    pub(crate) fn section_of(&self, addr: u64) -> Option<usize> {
        let i = self
            .loaded
            .partition_point(|(start, _, _)| *start <= addr)
            .checked_sub(1)?;
        let (_, end, section) = *self.loaded.get(i)?;
        (addr < end).then_some(section)
    }

    pub(crate) fn section(&self, index: usize) -> Option<&Section> {
        self.sections.get(index).filter(|s| s.kind != 0)
    }
}

fn identify(head: &[u8]) -> Option<(Machine, bool)> {
    if head.get(..7)? != b"\x7fELF\x02\x01\x01" || u16_at(head, 0x3a)? != 64 {
        return None;
    }
    let machine = match u16_at(head, 0x12)? {
        62 => Machine::X86_64,
        183 => Machine::Aarch64,
        _ => return None,
    };
    match u16_at(head, 0x10)? {
        1 => Some((machine, true)),
        2 | 3 => Some((machine, false)),
        _ => None,
    }
}

fn section(row: &[u8; 64]) -> Section {
    let u32 = |at| u32_at(row, at).unwrap_or(0);
    let u64 = |at| u64_at(row, at).unwrap_or(0);
    Section {
        name: Vec::new(),
        kind: u32(4),
        flags: u64(8),
        addr: u64(0x10),
        offset: u64(0x18),
        size: u64(0x20),
        link: u32(0x28),
        info: u32(0x2c),
        align: u64(0x30),
    }
}
