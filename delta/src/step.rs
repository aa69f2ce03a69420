//! Steps that rebuild a new file from an old one, and their coding.
//!
//! Threats: steps that read outside the old file, or whose lengths add up to more than the new
//! file has, and counts that make the reader allocate. Defences: the count is bounded by the
//! bytes that hold it, every sum is checked, and the total must be the new length exactly.

use crate::{DeltaError, varint};

/// Copy with differences, then new bytes, then move in the old file. Lengths in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// Bytes copied from the old position, to which differences are added.
    pub copy: u64,
    /// Bytes taken from the stream of new data.
    pub extra: u64,
    /// Movement of the old position after the copy.
    pub seek: i64,
}

/// Appends to three streams: a count and the lengths of copies; lengths of new data; movements.
///
/// Each has its own statistics: apart they take a tenth less. The movement is written less
/// `extra`: new bytes mostly replace as many old ones.
pub fn encode(steps: &[Step], copies: &mut Vec<u8>, extras: &mut Vec<u8>, seeks: &mut Vec<u8>) {
    varint::put(copies, steps.len() as u64);
    for step in steps {
        varint::put(copies, step.copy);
        varint::put(extras, step.extra);
        varint::put_signed(seeks, step.seek.wrapping_sub(step.extra as i64));
    }
}

/// Takes steps off the front of the three streams, which rebuild exactly `new_len` bytes from `old_len`.
///
/// # Errors
/// Any step that leaves the old file, and any total but `new_len`.
pub fn decode(
    copies: &mut &[u8],
    extras: &mut &[u8],
    seeks: &mut &[u8],
    old_len: u64,
    new_len: u64,
) -> Result<Vec<Step>, DeltaError> {
    let count = varint::get(copies)?;
    // A byte a step in each: a lie about the count allocates no more than 24 times the input.
    if count > copies.len().min(extras.len()).min(seeks.len()) as u64 {
        return Err(DeltaError::Truncated { part: "the steps" });
    }
    let mut steps = Vec::with_capacity(count as usize);
    for _ in 0..count {
        let copy = varint::get(copies)?;
        let extra = varint::get(extras)?;
        let seek = varint::get_signed(seeks)?.wrapping_add(extra as i64);
        steps.push(Step { copy, extra, seek });
    }
    check(&steps, old_len, new_len)?;
    Ok(steps)
}

/// Checks that `steps` stay inside the old file and add up to `new_len`.
///
/// # Errors
/// [`DeltaError::OutOfBounds`] or [`DeltaError::Malformed`].
pub fn check(steps: &[Step], old_len: u64, new_len: u64) -> Result<(), DeltaError> {
    let sum = DeltaError::Malformed {
        what: "steps do not add up to the new length",
    };
    let (mut old, mut new) = (0u64, 0u64);
    for step in steps {
        let end = old.saturating_add(step.copy);
        if end > old_len {
            return Err(DeltaError::OutOfBounds {
                start: old,
                end,
                len: old_len,
            });
        }
        new = match new
            .checked_add(step.copy)
            .and_then(|n| n.checked_add(step.extra))
        {
            Some(n) if n <= new_len => n,
            _ => return Err(sum),
        };
        old = end
            .checked_add_signed(step.seek)
            .ok_or(DeltaError::Malformed {
                what: "step moves before the old file",
            })?;
    }
    if new == new_len { Ok(()) } else { Err(sum) }
}

/// A copy of `len` bytes from `old` to `new`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Copy {
    /// Offset in the old file.
    pub old: u64,
    /// Offset in the new file.
    pub new: u64,
    /// Bytes copied.
    pub len: u64,
}

/// The copies of `steps`, with absolute offsets; empty ones left out.
pub fn copies(steps: &[Step]) -> impl Iterator<Item = Copy> + '_ {
    let (mut old, mut new) = (0u64, 0u64);
    steps.iter().filter_map(move |step| {
        let copy = Copy {
            old,
            new,
            len: step.copy,
        };
        new = new.wrapping_add(step.copy).wrapping_add(step.extra);
        old = old.wrapping_add(step.copy).wrapping_add_signed(step.seek);
        (copy.len > 0).then_some(copy)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_steps_that_lie() {
        let step = |copy, extra, seek| Step { copy, extra, seek };
        for (steps, ok, name) in [
            (vec![step(10, 5, -10), step(10, 0, 0)], true, "sound"),
            (vec![step(11, 4, 0)], false, "reads past the end"),
            (vec![step(10, 4, 0)], false, "too short"),
            (vec![step(10, 15, 1), step(1, 0, 0)], false, "too long"),
            (
                vec![step(1, 0, -5), step(10, 14, 0)],
                false,
                "before the start",
            ),
            (vec![step(u64::MAX, 25, 0)], false, "overflow"),
            (vec![step(10, u64::MAX, 0)], false, "overflow of new bytes"),
        ] {
            assert_eq!(check(&steps, 10, 25).is_ok(), ok, "{name}");
        }
        let many = &mut &[0xff, 0xff, 0x7f, 0, 0, 0][..];
        assert!(decode(many, &mut &[0; 9][..], &mut &[0; 9][..], 1, 1).is_err());
    }

    proptest! {
        #[test]
        fn round_trips(raw in prop::collection::vec((0u64..99, 0u64..99, 0i64..99), 0..20)) {
            let steps: Vec<Step> =
                raw.iter().map(|&(copy, extra, seek)| Step { copy, extra, seek }).collect();
            let new_len = steps.iter().map(|s| s.copy + s.extra).sum();
            let (mut a, mut b, mut c) = (Vec::new(), Vec::new(), Vec::new());
            encode(&steps, &mut a, &mut b, &mut c);
            let (mut a, mut b, mut c) = (&a[..], &b[..], &c[..]);
            prop_assert_eq!(decode(&mut a, &mut b, &mut c, 1 << 20, new_len).unwrap(), steps);
            prop_assert!(a.is_empty() && b.is_empty() && c.is_empty());
        }

        #[test]
        fn never_panics(a: Vec<u8>, b: Vec<u8>, c: Vec<u8>, old: u64, new: u64) {
            let _ = decode(&mut &a[..], &mut &b[..], &mut &c[..], old, new);
        }
    }
}
