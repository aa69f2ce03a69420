//! Prediction of files that compilers make, and of files that nobody should.

use std::sync::Arc;

use proptest::prelude::*;

use super::{Learner, Predictor, Table, plan};
use crate::{
    bsdiff::Options,
    step::{Step, check, copies},
};

/// A small ELF file: a header, `.text`, its relocations, symbols, names, section headers.
fn sample(kind: u16, text: &[u8], rela: &[(u64, u32, u32, u64)], section: &[u8]) -> Vec<u8> {
    let names = b"\0.text\0.rela.text\0.symtab\0.strtab\0.BTF\0.eh_frame\0";
    let rela: Vec<u8> = rela
        .iter()
        .flat_map(|(at, kind, symbol, addend)| {
            let info = u64::from(*symbol) << 32 | u64::from(*kind);
            [at.to_le_bytes(), info.to_le_bytes(), addend.to_le_bytes()].concat()
        })
        .collect();
    let symbols = [&[0; 24][..], &[1, 0, 0, 0, 3, 0, 1, 0], &[0; 16]].concat();
    let bodies: [(u32, u32, u64, &[u8]); 6] = [
        (1, 1, 6, text),
        (7, 4, 0, &rela),
        (18, 2, 0, &symbols),
        (26, 3, 0, names),
        (34, 1, 0, section),
        (39, 1, 2, section),
    ];
    let mut file = vec![0; 64];
    let mut headers = vec![0; 64];
    for (name, kind, flags, body) in bodies {
        let offset = file.len() as u64;
        let mut row = [0; 64];
        row[..4].copy_from_slice(&u32::to_le_bytes(name));
        row[4..8].copy_from_slice(&u32::to_le_bytes(kind));
        row[8..16].copy_from_slice(&u64::to_le_bytes(flags));
        row[0x10..0x18].copy_from_slice(&(0x1000 + offset).to_le_bytes());
        row[0x18..0x20].copy_from_slice(&offset.to_le_bytes());
        row[0x20..0x28].copy_from_slice(&(body.len() as u64).to_le_bytes());
        row[0x28..0x2c].copy_from_slice(&(if kind == 4 { 3u32 } else { 4 }).to_le_bytes());
        row[0x2c..0x30].copy_from_slice(&1u32.to_le_bytes());
        headers.extend_from_slice(&row);
        file.extend_from_slice(body);
    }
    let at = file.len() as u64;
    file.extend_from_slice(&headers);
    file[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    file[0x10..0x12].copy_from_slice(&kind.to_le_bytes());
    file[0x12] = 62;
    file[0x28..0x30].copy_from_slice(&at.to_le_bytes());
    file[0x3a] = 64;
    file[0x3c] = 7;
    file[0x3e] = 4;
    file
}

/// Differences left after prediction, which must not depend on how it is cut.
#[allow(clippy::unwrap_used, reason = "a test")]
fn left(old: &[u8], new: &[u8], steps: &[Step], hints: &[u8], table: Option<Arc<Table>>) -> usize {
    let predictor = Predictor::new(&old, &mut &*hints, steps, table).unwrap();
    let mut left = 0;
    for copy in copies(steps) {
        let mut whole = vec![0; copy.len as usize];
        predictor.fill(&old, copy, 0, &mut whole).unwrap();
        let mut cut = vec![0; copy.len as usize];
        for (i, piece) in cut.chunks_mut(13).enumerate() {
            predictor.fill(&old, copy, i as u64 * 13, piece).unwrap();
        }
        assert_eq!(whole, cut);
        let new = &new[copy.new as usize..];
        left += whole.iter().zip(new).filter(|(a, b)| a != b).count();
    }
    left
}

/// Code of `count` functions of 32 bytes, each calling the first.
fn code(count: usize, gap: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for i in 0..count {
        if i == count / 2 {
            text.extend(std::iter::repeat_n(0x90, gap));
        }
        let word = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes();
        text.extend_from_slice(&word);
        let distance = -(text.len() as i32 + 5);
        text.push(0xe8);
        text.extend_from_slice(&distance.to_le_bytes());
        text.extend_from_slice(&word.map(|b| b ^ 0x55));
        text.resize(text.len() + 11, 0xcc);
    }
    text
}

#[test]
fn follows_calls_over_an_insertion() {
    let (old, new) = (
        sample(3, &code(64, 0), &[], &[]),
        sample(3, &code(64, 48), &[], &[]),
    );
    let (steps, hints) = plan(&old, &new, None, &Options::default())
        .unwrap()
        .unwrap();
    assert!(steps.len() < 6, "{steps:?}");
    assert_eq!(left(&old, &new, &steps, &hints, None), 0);
    let plain = crate::bsdiff::diff(&old, &new, &Options::default()).unwrap();
    let changed: usize = copies(&plain)
        .map(|c| {
            let (a, b) = (&old[c.old as usize..], &new[c.new as usize..]);
            a.iter()
                .zip(b)
                .take(c.len as usize)
                .filter(|(a, b)| a != b)
                .count()
        })
        .sum();
    assert!(changed > 16, "{changed}");
}

#[test]
fn other_files_have_no_plan() {
    for old in [
        &b""[..],
        b"\x7fELF",
        &[0; 64],
        &sample(1, &[], &[], &[])[..63],
    ] {
        assert!(plan(old, old, None, &Options::default()).unwrap().is_none());
        let steps = [Step {
            copy: old.len() as u64,
            extra: 0,
            seek: 0,
        }];
        assert!(Predictor::new(&old, &mut &[][..], &steps, None).is_err());
    }
}

proptest! {
    #[test]
    fn hostile_files_are_predicted_the_same_in_pieces(
        kind in 1u16..4,
        text in prop::collection::vec(any::<u8>(), 0..80),
        rela in prop::collection::vec((0u64..90, 0u32..5, 0u32..4, 0u64..90), 0..5),
        section in prop::collection::vec(any::<u8>(), 0..90),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
        arm: bool,
    ) {
        let mut old = sample(kind, &text, &rela, &section);
        if arm {
            old[0x12] = 183;
        }
        let mut new = old.clone();
        for (at, to) in damage {
            let at = at.index(old.len());
            old[at] = to;
            new[at / 2] ^= to;
        }
        let mut learner = Learner::default();
        learner.add(&old, &new).unwrap();
        let table = learner.finish().map(Arc::new);
        if let Some((steps, hints)) = plan(&old, &new, table.as_deref(), &Options::default()).unwrap() {
            check(&steps, old.len() as u64, new.len() as u64).unwrap();
            left(&old, &new, &steps, &hints, table);
        }
    }

    #[test]
    fn hostile_hints_never_panic(
        hints in prop::collection::vec(any::<u8>(), 0..200),
        table in prop::collection::vec(any::<u8>(), 0..60),
        text in prop::collection::vec(any::<u8>(), 0..80),
    ) {
        let table = Table::get(&mut &table[..]).ok().map(Arc::new);
        let old = sample(1, &text, &[(3, 2, 1, 5), (9, 4, 1, u64::MAX)], &[]);
        let copy = crate::step::Copy { old: 0, new: u64::MAX - 9, len: old.len() as u64 };
        let steps = [Step { copy: old.len() as u64, extra: 0, seek: 0 }];
        if let Ok(predictor) = Predictor::new(&&old[..], &mut &hints[..], &steps, table) {
            predictor.fill(&&old[..], copy, 0, &mut vec![0; old.len()]).unwrap();
        }
    }
}
