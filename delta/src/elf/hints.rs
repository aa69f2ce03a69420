//! Where the sections of the old file are in the new one: a few bytes that the encoder sends.
//!
//! Coded as what differs from laying the sections out again after their new sizes, which for most
//! files is nothing.
//!
//! Threats: hostile numbers. Defences: they only shift predictions, all arithmetic wraps.

use super::layout::Layout;
use crate::{DeltaError, varint};

/// The counterpart of an old section in the new file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) offset: u64,
    pub(crate) addr: u64,
    pub(crate) size: u64,
    pub(crate) index: u64,
}

/// Counterparts of all old sections, and the place of the section headers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Hints {
    pub(crate) targets: Vec<Target>,
    pub(crate) section_headers: u64,
}

/// Order of old sections in the file.
fn order(old: &Layout) -> Vec<usize> {
    let mut order: Vec<usize> = (0..old.sections.len()).collect();
    order.sort_by_key(|&i| old.sections.get(i).map(|s| (s.offset, i)));
    order
}

/// Lays out: each section after the one before it, with the padding it had or its alignment asks.
struct Cursor {
    old_end: u64,
    new_end: u64,
}

impl Cursor {
    fn next(&self, offset: u64, align: u64) -> u64 {
        let pad = |end: u64| {
            if align > 1 {
                end.wrapping_neg() % align
            } else {
                0
            }
        };
        let was = offset.wrapping_sub(self.old_end);
        let pad = if was == pad(self.old_end) {
            pad(self.new_end)
        } else {
            was
        };
        self.new_end.wrapping_add(pad)
    }
}

/// Runs over the numbers sent, to write or to read them: `visit(predicted, slot)`.
fn walk(
    old: &Layout,
    hints: &mut Hints,
    mut visit: impl FnMut(u64, &mut u64) -> Result<(), DeltaError>,
) -> Result<(), DeltaError> {
    let mut next = 0u64;
    for target in &mut hints.targets {
        visit(next, &mut target.index)?;
        next = target.index.wrapping_add(1);
    }
    let mut cursor = Cursor {
        old_end: 0,
        new_end: 0,
    };
    for i in order(old) {
        let (Some(s), Some(target)) = (old.section(i), hints.targets.get_mut(i)) else {
            continue;
        };
        visit(cursor.next(s.offset, s.align), &mut target.offset)?;
        visit(s.size, &mut target.size)?;
        let moved = target.offset.wrapping_sub(s.offset);
        visit(
            if s.addr == 0 {
                0
            } else {
                s.addr.wrapping_add(moved)
            },
            &mut target.addr,
        )?;
        let held = if s.file_size() == 0 { 0 } else { target.size };
        cursor.old_end = s.offset.wrapping_add(s.file_size());
        cursor.new_end = target.offset.wrapping_add(held);
    }
    visit(
        cursor.next(old.section_headers, 8),
        &mut hints.section_headers,
    )
}

impl Hints {
    /// Reads what [`Hints::between`] wrote, off the front of `input`.
    ///
    /// # Errors
    /// When `input` ends early or is no number.
    pub(crate) fn read(old: &Layout, input: &mut &[u8]) -> Result<Self, DeltaError> {
        let targets = vec![Target::default(); old.sections.len()];
        let mut hints = Self {
            targets,
            section_headers: 0,
        };
        walk(old, &mut hints, |predicted, slot| {
            *slot = predicted.wrapping_add_signed(varint::get_signed(input)?);
            Ok(())
        })?;
        Ok(hints)
    }

    /// Finds the counterparts of the sections of `old` in `new`, by name and order, and writes them.
    #[cfg(feature = "encode")]
    pub(crate) fn between(old: &Layout, new: &Layout, out: &mut Vec<u8>) {
        let mut by_name: std::collections::HashMap<_, std::collections::VecDeque<usize>> =
            std::collections::HashMap::new();
        for (i, s) in new.sections.iter().enumerate() {
            by_name.entry((&s.name, s.kind)).or_default().push_back(i);
        }
        let mut found = Vec::with_capacity(old.sections.len());
        for s in &old.sections {
            let same = by_name.get_mut(&(&s.name, s.kind));
            found.push(same.and_then(|indices| indices.pop_front()));
        }
        let mut hints = Self {
            targets: vec![Target::default(); old.sections.len()],
            section_headers: new.section_headers,
        };
        // A section without counterpart sends zeros: the fields are visited in a fixed order, so
        // where we are tells which to send.
        let mut slots = Vec::new();
        for i in 0..old.sections.len() {
            slots.push((i, 0));
        }
        for i in order(old) {
            if old.section(i).is_some() {
                slots.extend([(i, 1), (i, 2), (i, 3)]);
            }
        }
        let mut slots = slots.into_iter();
        let _ = walk(old, &mut hints, |predicted, slot| {
            let value = match slots.next() {
                None => Some(new.section_headers),
                Some((i, field)) => found[i].and_then(|j| {
                    let s = new.sections.get(j)?;
                    Some([j as u64, s.offset, s.size, s.addr][field])
                }),
            };
            *slot = value.unwrap_or(predicted);
            varint::put_signed(out, slot.wrapping_sub(predicted) as i64);
            Ok(())
        });
    }
}
