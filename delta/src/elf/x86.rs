//! Distances in x86-64 code: calls, jumps, and data addressed from the instruction pointer.
//!
//! No disassembler: a pattern counts where the distance leads into a section of the file, which
//! four random bytes rarely do. What is taken for a reference wrongly costs a few bytes of delta.

use super::layout::{Layout, Region};
use super::sites::{Role, Stretch};

/// Finds distances that begin in `from..to`, which lies in `region`.
pub(crate) fn find(
    layout: &Layout,
    stretch: &Stretch<'_>,
    region: &Region,
    from: u64,
    to: u64,
    emit: &mut impl FnMut(u64, usize, Role),
) {
    let Some(home) = layout.section(region.section) else {
        return;
    };
    let to_addr = home.addr.wrapping_sub(region.start);
    let absolute = |at: u64| -> Option<Role> {
        let addr = i64::from(stretch.u32(at)? as i32) as u64;
        (at + 4 <= region.end && layout.section_of(addr).is_some()).then_some(Role::Address)
    };
    let relative = |at: u64| -> Option<Role> {
        let (tail, jump) = pattern(stretch, at, region)?;
        let distance = i64::from(stretch.u32(at)? as i32);
        let target = at.wrapping_add(tail).wrapping_add_signed(distance);
        if layout.relocatable {
            // What leaves the section has a relocation instead, and a distance of zero.
            let inside = jump && distance != 0 && target >= region.start && target < region.end;
            return inside.then_some(Role::Relative { tail });
        }
        let section = layout.section_of(target.wrapping_add(to_addr))?;
        (!jump || layout.section(section)?.is_code()).then_some(Role::Relative { tail })
    };
    let check = |at: u64| relative(at).or_else(|| if layout.fixed { absolute(at) } else { None });
    // The first of overlapping ones counts, judged by what stands before, not by what was found:
    // so the answer does not depend on where the search began.
    let mut previous = from.saturating_sub(3).max(region.start);
    let mut last = None;
    while previous < to {
        if let Some(role) = check(previous) {
            if previous >= from && last.is_none_or(|last| previous - last > 3) {
                emit(previous, 4, role);
            }
            last = Some(previous);
        }
        previous += 1;
    }
}

/// Whether the bytes before `at` make it a distance: bytes to the end of the instruction, jump or not.
#[inline]
fn pattern(stretch: &Stretch<'_>, at: u64, region: &Region) -> Option<(u64, bool)> {
    let last = stretch.u8(at.checked_sub(1)?)?;
    if at < region.start + 2 || at + 4 > region.end {
        return None;
    }
    match last {
        0xe8 | 0xe9 => return Some((4, true)),
        0x80..=0x8f if stretch.u8(at - 2)? == 0x0f => return Some((4, true)),
        _ if last & 0xc7 != 0x05 => return None,
        _ => {}
    }
    let opcode = stretch.u8(at - 2)?;
    let before = if at >= region.start + 3 {
        stretch.u8(at - 3)?
    } else {
        0
    };
    let before2 = if at >= region.start + 4 {
        stretch.u8(at - 4)?
    } else {
        0
    };
    if before == 0x0f || (before2 == 0x0f && matches!(before, 0x38 | 0x3a)) {
        let immediate = match (before, opcode) {
            (0x0f, 0x70..=0x73 | 0xa4 | 0xac | 0xba | 0xc2 | 0xc4..=0xc6) | (0x3a, _) => 1,
            _ => 0,
        };
        return Some((4 + immediate, false));
    }
    let group = last >> 3 & 7;
    let immediate = match opcode {
        0x80 | 0x83 | 0xc0 | 0xc1 | 0xc6 | 0x6b => 1,
        0x81 | 0xc7 | 0x69 => {
            if before == 0x66 || before2 == 0x66 {
                2
            } else {
                4
            }
        }
        0xf6 if group < 2 => 1,
        0xf7 if group < 2 => 4,
        0xf6 | 0xf7 | 0xfe | 0xff | 0x63 | 0x84..=0x8b | 0x8d | 0xd0..=0xd3 => 0,
        0x00..=0x3b if opcode & 7 < 4 => 0,
        // VEX: two or three bytes before the opcode.
        _ if before2 == 0xc5 || (at >= region.start + 5 && stretch.u8(at - 5)? == 0xc4) => 0,
        _ => return None,
    };
    Some((4 + immediate, false))
}
