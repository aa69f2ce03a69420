//! Steps and hints for a pair of files.

use super::{
    hints::Hints,
    layout::{Layout, Section},
    table::{Runs, Table, put_runs},
    view::{Side, view},
};
use crate::{
    DeltaError, bsdiff,
    step::{Step, copies},
    varint,
};

/// Steps, and the hints for them, encoded.
pub type StepsAndHints = (Vec<Step>, Vec<u8>);

/// Steps that rebuild `new` from predictions on `old`, and the hints that these need.
///
/// None where either file is not of a kind known.
///
/// # Errors
/// When memory runs out.
pub fn plan(
    old: &[u8],
    new: &[u8],
    table: Option<&Table>,
    options: &bsdiff::Options,
) -> Result<Option<StepsAndHints>, DeltaError> {
    let (Some(a), Some(b)) = (Layout::read(&old)?, Layout::read(&new)?) else {
        return Ok(None);
    };
    let steps = bsdiff::diff(
        &view(old, table, Side::Old),
        &view(new, table, Side::New),
        options,
    )?;
    let mut hints = Vec::new();
    Hints::between(&a, &b, &mut hints);
    if let (Some(btf), Some(_)) = (&a.btf, table) {
        let strings = b.btf.as_ref().map_or(btf.strings, |new| new.strings);
        varint::put_signed(
            &mut hints,
            i64::from(strings.wrapping_sub(btf.strings) as i32),
        );
        put_runs(&own_types(&a, &b, &steps).unwrap_or_default(), &mut hints);
    }
    Ok(Some((steps, hints)))
}

/// How the numbers of a module's own types changed: seen where records are copied.
fn own_types(old: &Layout, new: &Layout, steps: &[Step]) -> Option<Runs> {
    let start = |layout: &Layout| {
        let is = |s: &&Section| s.kind == 1 && s.name == b".BTF";
        layout.sections.iter().find(is).map(|s| s.offset)
    };
    let (a, b) = (old.btf.as_ref()?, new.btf.as_ref()?);
    let (a_start, b_start) = (start(old)?, start(new)?);
    let mut moved = Vec::new();
    for copy in copies(steps) {
        let first = a
            .records
            .partition_point(|at| a_start + u64::from(*at) < copy.old);
        for (i, at) in a.records.iter().enumerate().skip(first) {
            let inside = a_start + u64::from(*at) - copy.old;
            if inside >= copy.len {
                break;
            }
            let to = (copy.new + inside)
                .checked_sub(b_start)
                .and_then(|to| u32::try_from(to).ok());
            if let Some(j) = to.and_then(|to| b.record_at(to)) {
                moved.push((i as u32, (j as u32).wrapping_sub(i as u32)));
            }
        }
    }
    moved.sort_unstable();
    let mut runs = Runs::new();
    for (i, add) in moved {
        // Of a record copied twice, the first counts.
        let seen = runs.last().is_some_and(|(start, _)| *start == i);
        if !seen && runs.last().map_or(0, |(_, add)| *add) != add {
            runs.push((i, add));
        }
    }
    Some(runs)
}
