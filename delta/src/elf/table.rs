//! What all modules of a kernel share: how the kernel's types, names and symbol versions changed.
//!
//! Numbers of the kernel's types and strings move between releases, and so do checksums of its
//! interfaces; every module repeats them. The encoder learns the changes from all modules, and
//! sends them once.
//!
//! Threats: counts that lie. Defences: each entry takes bytes of the input, so memory is bounded
//! by it; numbers only shift predictions, and wrap.

use crate::{DeltaError, varint};

/// Changes of numbers: from each start on, what is added.
pub(crate) type Runs = Vec<(u32, u32)>;

/// Changes that modules share.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Table {
    /// First number that is the module's own, old and new: of types, of names.
    pub(crate) types: (u32, u32),
    pub(crate) names: (u32, u32),
    pub(crate) type_runs: Runs,
    pub(crate) name_runs: Runs,
    /// Checksums of interfaces, old and new, in order of the old.
    pub(crate) sums: Vec<(u32, u32)>,
}

/// What the runs add to `number`.
pub(crate) fn shift(runs: &Runs, number: u32) -> u32 {
    let i = runs.partition_point(|(start, _)| *start <= number);
    i.checked_sub(1)
        .and_then(|i| runs.get(i))
        .map_or(0, |(_, add)| *add)
}

/// Appends runs.
#[cfg(feature = "encode")]
pub(crate) fn put_runs(runs: &Runs, out: &mut Vec<u8>) {
    varint::put(out, runs.len() as u64);
    let (mut start, mut add) = (0, 0u32);
    for &(next, shift) in runs {
        varint::put(out, u64::from(next - start));
        varint::put_signed(out, i64::from(shift.wrapping_sub(add) as i32));
        (start, add) = (next, shift);
    }
}

/// Takes runs off the front of `input`.
pub(crate) fn get_runs(input: &mut &[u8]) -> Result<Runs, DeltaError> {
    let count = varint::get(input)?;
    if count > input.len() as u64 / 2 {
        return Err(DeltaError::Truncated {
            part: "runs of changes",
        });
    }
    let mut runs = Vec::with_capacity(count as usize);
    let (mut start, mut add) = (0u32, 0u32);
    for _ in 0..count {
        let step = varint::get(input)?;
        let next = u32::try_from(step)
            .ok()
            .and_then(|step| start.checked_add(step));
        start = next.ok_or(DeltaError::Malformed {
            what: "run starts beyond 32 bits",
        })?;
        add = add.wrapping_add(varint::get_signed(input)? as u32);
        runs.push((start, add));
    }
    Ok(runs)
}

impl Table {
    /// Appends the table.
    #[cfg(feature = "encode")]
    pub(crate) fn put(&self, out: &mut Vec<u8>) {
        for base in [self.types.0, self.types.1, self.names.0, self.names.1] {
            varint::put(out, base.into());
        }
        put_runs(&self.type_runs, out);
        put_runs(&self.name_runs, out);
        varint::put(out, self.sums.len() as u64);
        let mut last = 0;
        for &(old, new) in &self.sums {
            varint::put(out, u64::from(old - last));
            out.extend_from_slice(&new.to_le_bytes());
            last = old;
        }
    }

    /// Takes a table off the front of `input`.
    pub(crate) fn get(input: &mut &[u8]) -> Result<Self, DeltaError> {
        let mut bases = [0u32; 4];
        for base in &mut bases {
            *base = u32::try_from(varint::get(input)?).map_err(|_| DeltaError::Malformed {
                what: "base beyond 32 bits",
            })?;
        }
        let [types, new_types, names, new_names] = bases;
        let (type_runs, name_runs) = (get_runs(input)?, get_runs(input)?);
        let count = varint::get(input)?;
        if count > input.len() as u64 / 5 {
            return Err(DeltaError::Truncated {
                part: "changed checksums",
            });
        }
        let mut sums = Vec::with_capacity(count as usize);
        let mut last = 0u32;
        for _ in 0..count {
            let step = u32::try_from(varint::get(input)?)
                .ok()
                .and_then(|s| last.checked_add(s));
            last = step.ok_or(DeltaError::Malformed {
                what: "checksum beyond 32 bits",
            })?;
            let new = input.split_first_chunk::<4>();
            let (new, rest) = new.ok_or(DeltaError::Truncated {
                part: "changed checksums",
            })?;
            sums.push((last, u32::from_le_bytes(*new)));
            *input = rest;
        }
        let (types, names) = ((types, new_types), (names, new_names));
        Ok(Self {
            types,
            names,
            type_runs,
            name_runs,
            sums,
        })
    }

    /// The new checksum for an old one.
    pub(crate) fn sum(&self, old: u32) -> u32 {
        let found = self.sums.binary_search_by_key(&old, |(old, _)| *old).ok();
        found
            .and_then(|i| self.sums.get(i))
            .map_or(old, |(_, new)| *new)
    }
}
