//! Finds the compressed kernel in a bzImage (Linux `Documentation/arch/x86/boot.rst`).
//!
//! Threats: offsets and lengths beyond the file. Defence: the range is checked, and it is only where the search begins; what
//! lies around it is coded like any other bytes.

use std::ops::Range;

/// Where the payload lies, if `bytes` are a bzImage of boot protocol 2.08 or later.
pub(crate) fn payload(bytes: &[u8]) -> Option<Range<usize>> {
    if bytes.get(0x202..0x206)? != b"HdrS" {
        return None;
    }
    let word = |at: usize| {
        let four = bytes.get(at..)?.first_chunk::<4>()?;
        usize::try_from(u32::from_le_bytes(*four)).ok()
    };
    let protocol = u16::from_le_bytes(*bytes.get(0x206..)?.first_chunk::<2>()?);
    if protocol < 0x0208 {
        return None;
    }
    // Zero stands for four, for the sake of very old kernels.
    let sectors = match *bytes.get(0x1f1)? {
        0 => 4,
        sectors => usize::from(sectors),
    };
    let start = ((sectors + 1) * 512).checked_add(word(0x248)?)?;
    let end = start
        .checked_add(word(0x24c)?)
        .filter(|end| *end <= bytes.len())?;
    (start < end).then_some(start..end)
}
