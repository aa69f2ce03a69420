//! Fingerprints of content, to find a file again that was moved and renamed.
//!
//! Content is cut where a rolling hash says so, so that an insertion moves cuts and does not change
//! them; the smallest hashes of the pieces are the sketch. Two files that share some of them share much
//! of their content.

use std::collections::HashMap;

use super::matcher::BaseFile;

/// Smaller files cost little when they are sent whole.
pub(super) const SMALLEST: u64 = 16 << 10;
/// Larger ones are looked at as far as this.
const LONGEST: usize = 64 << 20;
/// Hashes that a sketch keeps.
const KEPT: usize = 16;
/// Hashes that have to be shared for a file to count as a relative.
const SHARED: usize = 2;
/// A cut comes every 4 KiB or so.
const CUT: u64 = 0xfff << 40;
/// Shortest piece, so that runs of one byte make no cuts without end.
const PIECE: usize = 512;
/// What stands before a build-id in the note of an ELF file: sizes of name and id, type, name.
const NOTE: &[u8; 16] = b"\x04\0\0\0\x14\0\0\0\x03\0\0\0GNU\0";
/// The note lies among the first pages.
const NOTE_WITHIN: usize = 8192;

/// What is known of one file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Sketch {
    hashes: Vec<u64>,
}

impl Sketch {
    /// Looks at a file.
    pub(super) fn of(content: &[u8]) -> Self {
        let content = content.get(..LONGEST).unwrap_or(content);
        let mut hashes: Vec<u64> = pieces(content).map(hash).collect();
        hashes.sort_unstable();
        hashes.dedup();
        hashes.truncate(KEPT);
        // One build is one program, whatever was stripped off it.
        hashes.extend(build_id(content).map(hash));
        Self { hashes }
    }
}

/// Sketches of the files of a base, by what they are made of.
#[derive(Debug, Default)]
pub(super) struct Sketches {
    by_hash: HashMap<u64, Vec<BaseFile>>,
}

impl Sketches {
    /// Adds a file.
    pub(super) fn add(&mut self, file: BaseFile, sketch: &Sketch) {
        for hash in &sketch.hashes {
            self.by_hash.entry(*hash).or_default().push(file);
        }
    }

    /// Returns the file that shares most with `sketch`.
    pub(super) fn nearest(&self, sketch: &Sketch) -> Option<BaseFile> {
        let mut shared: HashMap<BaseFile, usize> = HashMap::new();
        for hash in &sketch.hashes {
            // What is in hundreds of files, such as a licence, says nothing of any.
            for file in self.by_hash.get(hash).into_iter().flatten().take(64) {
                *shared.entry(*file).or_default() += 1;
            }
        }
        let relatives = shared.into_iter().filter(|(_, count)| *count >= SHARED);
        let best = relatives.max_by_key(|(file, count)| (*count, std::cmp::Reverse(*file)));
        best.map(|(file, _)| file)
    }
}

/// Cuts content into pieces whose ends depend on the bytes before them alone.
fn pieces(content: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = content;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let mut rolling = 0_u64;
        let end = rest.iter().enumerate().position(|(at, byte)| {
            rolling = (rolling << 1).wrapping_add(scramble(u64::from(*byte)));
            at >= PIECE && rolling & CUT == 0
        });
        let (piece, tail) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
        rest = tail;
        Some(piece)
    })
}

fn hash(bytes: &[u8]) -> u64 {
    bytes.chunks(8).fold(bytes.len() as u64, |hash, chunk| {
        let mut word = [0; 8];
        word.iter_mut()
            .zip(chunk)
            .for_each(|(to, from)| *to = *from);
        scramble(hash ^ u64::from_le_bytes(word))
    })
}

/// Spreads a number over all bits (splitmix64).
const fn scramble(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

/// Returns the build-id of an ELF file, with the note before it.
fn build_id(content: &[u8]) -> Option<&[u8]> {
    let head = content.get(..NOTE_WITHIN).unwrap_or(content);
    if !head.starts_with(b"\x7fELF") {
        return None;
    }
    let at = head.windows(NOTE.len()).position(|window| window == NOTE)?;
    head.get(at..at + NOTE.len() + 20)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(seed: u64, len: usize) -> Vec<u8> {
        (0..len as u64)
            .map(|at| scramble(seed + at / 8) as u8)
            .collect()
    }

    #[test]
    fn a_relative_is_found_and_a_stranger_is_not() {
        let file = |file| BaseFile { layer: 0, file };
        let mut sketches = Sketches::default();
        for number in 0..20 {
            let sketch = Sketch::of(&content(number << 32, 200_000));
            sketches.add(file(number as usize), &sketch);
        }
        let mut edited = content(7 << 32, 200_000);
        edited.splice(1000..1000, *b"an insertion");
        edited.truncate(150_000);
        assert_eq!(sketches.nearest(&Sketch::of(&edited)), Some(file(7)));
        assert_eq!(
            sketches.nearest(&Sketch::of(&content(99 << 32, 200_000))),
            None
        );
        assert_eq!(Sketch::of(&[]), Sketch::default());
        // Zeros make one piece, not hundreds.
        assert_eq!(Sketch::of(&[0; 1 << 20]).hashes.len(), 1);
    }
}
