//! The control stream of a layer delta: which bytes come from where (SPEC 10.3).
//!
//! Inputs have one numbering: the sources of the header, then the objects in the order they were made.
//! An input is written as its distance from the one that follows the last named, so that a run of
//! unchanged files in order costs next to nothing.

use crate::{DeltaError, codec, varint};

/// Stream of operations.
pub const CONTROL: usize = codec::STREAMS;
/// Stream of bytes between files, such as tar headers, and of recipes.
pub const FRAME: usize = codec::STREAMS + 1;
/// How many streams a layer delta has.
pub const STREAMS: usize = codec::STREAMS + 2;

/// One operation; each appends to the target, or to the object that is being made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Op {
    /// Nothing follows.
    End,
    /// `len` bytes of stream [`FRAME`].
    Frame {
        /// Bytes.
        len: u64,
    },
    /// `len` bytes of stream [`codec::DATA`].
    New {
        /// Bytes.
        len: u64,
    },
    /// All bytes of an input.
    Whole {
        /// Input.
        input: u64,
    },
    /// Some bytes of an input.
    Copy {
        /// Input.
        input: u64,
        /// Where they begin.
        offset: u64,
        /// How many there are.
        len: u64,
    },
    /// A file of `len` bytes that the codec makes from an input.
    File {
        /// Input.
        input: u64,
        /// Bytes of the file.
        len: u64,
        /// Whether references are predicted.
        predicted: bool,
    },
    /// The operations that follow, until they have made `len` bytes, make a new object.
    Object {
        /// Bytes of the object.
        len: u64,
    },
    /// An input encoded by a recipe, `recipe` bytes of stream [`FRAME`].
    Encode {
        /// Input.
        input: u64,
        /// Bytes of the recipe.
        recipe: u64,
        /// Bytes of the result.
        len: u64,
    },
    /// An input decoded by a recipe, `recipe` bytes of stream [`FRAME`], to a new object.
    Open {
        /// Input.
        input: u64,
        /// Bytes of the recipe.
        recipe: u64,
        /// Bytes of the object.
        len: u64,
    },
}

/// Writes and reads operations, with the input that is expected next.
#[derive(Clone, Copy, Debug, Default)]
pub struct Coder {
    next: u64,
}

impl Coder {
    /// Appends an operation.
    pub fn put(&mut self, out: &mut Vec<u8>, op: Op) {
        match op {
            Op::End => varint::put(out, 0),
            Op::Frame { len } => put(out, &[1, len]),
            Op::New { len } => put(out, &[2, len]),
            Op::Whole { input } => self.put_input(out, 3, input, &[]),
            Op::Copy { input, offset, len } => self.put_input(out, 4, input, &[offset, len]),
            Op::File {
                input,
                len,
                predicted: false,
            } => self.put_input(out, 5, input, &[len]),
            Op::File {
                input,
                len,
                predicted: true,
            } => self.put_input(out, 6, input, &[len]),
            Op::Object { len } => put(out, &[7, len]),
            Op::Encode { input, recipe, len } => self.put_input(out, 8, input, &[recipe, len]),
            Op::Open { input, recipe, len } => self.put_input(out, 9, input, &[recipe, len]),
        }
    }

    /// Takes an operation off the front of `bytes`.
    ///
    /// # Errors
    /// When there is none that is known.
    pub fn get(&mut self, bytes: &mut &[u8]) -> Result<Op, DeltaError> {
        let kind = varint::get(bytes)?;
        let input = if matches!(kind, 3 | 4 | 5 | 6 | 8 | 9) {
            let distance = varint::get_signed(bytes)?;
            let input = self
                .next
                .checked_add_signed(distance)
                .ok_or(DeltaError::Malformed {
                    what: "input before the first",
                })?;
            self.next = input.wrapping_add(1);
            input
        } else {
            0
        };
        let mut number = || varint::get(bytes);
        Ok(match kind {
            0 => Op::End,
            1 => Op::Frame { len: number()? },
            2 => Op::New { len: number()? },
            3 => Op::Whole { input },
            4 => Op::Copy {
                input,
                offset: number()?,
                len: number()?,
            },
            5 | 6 => Op::File {
                input,
                len: number()?,
                predicted: kind == 6,
            },
            7 => Op::Object { len: number()? },
            8 => Op::Encode {
                input,
                recipe: number()?,
                len: number()?,
            },
            9 => Op::Open {
                input,
                recipe: number()?,
                len: number()?,
            },
            _ => {
                return Err(DeltaError::Malformed {
                    what: "unknown operation",
                });
            }
        })
    }

    fn put_input(&mut self, out: &mut Vec<u8>, kind: u64, input: u64, rest: &[u64]) {
        varint::put(out, kind);
        varint::put_signed(out, input.wrapping_sub(self.next) as i64);
        self.next = input.wrapping_add(1);
        put(out, rest);
    }
}

fn put(out: &mut Vec<u8>, numbers: &[u64]) {
    numbers.iter().for_each(|number| varint::put(out, *number));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operations_survive_the_round_trip() {
        let ops = [
            Op::Frame { len: 512 },
            Op::Whole { input: 0 },
            Op::Whole { input: 1 },
            Op::Copy {
                input: 900,
                offset: 7,
                len: 1 << 40,
            },
            Op::File {
                input: 3,
                len: 5,
                predicted: true,
            },
            Op::File {
                input: 4,
                len: 5,
                predicted: false,
            },
            Op::Object { len: 77 },
            Op::New { len: 77 },
            Op::Encode {
                input: 901,
                recipe: 20,
                len: 30,
            },
            Op::Open {
                input: 2,
                recipe: 1,
                len: 9,
            },
            Op::End,
        ];
        let (mut bytes, mut coder) = (Vec::new(), Coder::default());
        ops.iter().for_each(|op| coder.put(&mut bytes, *op));
        let (mut rest, mut coder) = (bytes.as_slice(), Coder::default());
        for op in ops {
            assert_eq!(coder.get(&mut rest).unwrap(), op);
        }
        assert!(rest.is_empty());
    }

    #[test]
    fn nonsense_is_refused() {
        for bytes in [&[10][..], &[3, 1], &[4, 0], &[]] {
            assert!(Coder::default().get(&mut &bytes[..]).is_err(), "{bytes:?}");
        }
    }
}
