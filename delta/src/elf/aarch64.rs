//! Distances in aarch64 code: `b`, `bl` and `adrp`.

use super::layout::{Layout, Region};
use super::sites::{Role, Stretch};

/// Finds instructions that begin in `from..to`, which lies in `region`.
pub(crate) fn find(
    layout: &Layout,
    stretch: &Stretch<'_>,
    region: &Region,
    from: u64,
    to: u64,
    emit: &mut impl FnMut(u64, usize, Role),
) {
    let mut at = region.start + (from - region.start).div_ceil(4) * 4;
    while at < to && region.end - at >= 4 {
        let Some(word) = stretch.u32(at) else { return };
        if word >> 26 & 0x1f == 0b00101 && (word & 0x03ff_ffff != 0 || !layout.relocatable) {
            emit(at, 4, Role::Branch26);
        } else if word >> 24 & 0x9f == 0x90 && !layout.relocatable {
            emit(at, 4, Role::Page21);
        }
        at += 4;
    }
}

/// Distance of a branch, in bytes.
pub(crate) const fn branch_distance(word: u32) -> i64 {
    ((word << 6) as i32 >> 4) as i64
}

/// The branch with another distance.
pub(crate) const fn with_branch_distance(word: u32, distance: u64) -> u32 {
    word & 0xfc00_0000 | (distance >> 2) as u32 & 0x03ff_ffff
}

/// Distance of an `adrp`, in pages.
pub(crate) const fn page_distance(word: u32) -> i64 {
    let pages = (word >> 5 & 0x7ffff) << 2 | word >> 29 & 3;
    ((pages << 11) as i32 >> 11) as i64
}

/// The `adrp` with another distance.
pub(crate) const fn with_page_distance(word: u32, pages: u64) -> u32 {
    let pages = pages as u32 & 0x1f_ffff;
    word & 0x9f00_001f | (pages >> 2) << 5 | (pages & 3) << 29
}
