//! Differences as gaps between non-zero bytes, and the non-zero bytes: two streams.
//!
//! Nearly all differences of a good match are zero. Apart, gaps and values each have their own
//! statistics, which the compressor then finds. A run of differences spans copies and files: the
//! gap is what was passed since the last non-zero byte, wherever that was.
//!
//! Threats: gaps that overflow, values of zero, streams that end early or hold more than is used.
//! Defences: each checked; memory is the caller's window, never a declared length.

use crate::{DeltaError, varint};

/// Splits differences into two streams.
#[derive(Debug, Default)]
pub struct Encoder {
    zeros: u64,
}

impl Encoder {
    /// Adds the differences `new - predicted`, byte by byte, to the end of both streams.
    pub fn push(&mut self, new: &[u8], predicted: &[u8], gaps: &mut Vec<u8>, values: &mut Vec<u8>) {
        for (new, predicted) in new.iter().zip(predicted) {
            if new == predicted {
                self.zeros += 1;
            } else {
                varint::put(gaps, self.zeros);
                values.push(new.wrapping_sub(*predicted));
                self.zeros = 0;
            }
        }
    }

    /// Whether no zeros are owed.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.zeros == 0
    }

    /// Ends a window: writes the zeros still owed, so that the window decodes alone.
    pub fn flush(&mut self, gaps: &mut Vec<u8>) {
        varint::put(gaps, self.zeros);
        self.zeros = 0;
    }
}

/// Adds differences back to what was predicted.
#[derive(Debug, Default)]
pub struct Decoder {
    /// Zeros still to pass, once read.
    gap: Option<u64>,
}

impl Decoder {
    /// Turns `bytes` from predicted into new ones, taking what it needs off the front of both streams.
    ///
    /// Returns how many bytes are done: fewer than there are where the window ends.
    ///
    /// # Errors
    /// When values end before gaps do, or a value is zero.
    pub fn apply(
        &mut self,
        bytes: &mut [u8],
        gaps: &mut &[u8],
        values: &mut &[u8],
    ) -> Result<usize, DeltaError> {
        let mut done = 0usize;
        while let Some(rest) = bytes.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let gap = match self.gap {
                Some(gap) => gap,
                None => varint::get(gaps)?,
            };
            let passed = gap.min(rest.len() as u64);
            self.gap = Some(gap - passed);
            done += passed as usize;
            if passed == rest.len() as u64 {
                break;
            }
            let (Some(byte), Some((value, left))) = (bytes.get_mut(done), values.split_first())
            else {
                if gaps.is_empty() {
                    break;
                }
                return Err(DeltaError::Truncated {
                    part: "the difference values",
                });
            };
            if *value == 0 {
                return Err(DeltaError::Malformed {
                    what: "difference value is zero",
                });
            }
            *byte = byte.wrapping_add(*value);
            *values = left;
            self.gap = None;
            done += 1;
        }
        Ok(done)
    }

    /// Ends a window, where the encoder flushed.
    ///
    /// # Errors
    /// When differences are left over.
    pub fn finish(&mut self, gaps: &mut &[u8]) -> Result<(), DeltaError> {
        let gap = match self.gap.take() {
            Some(gap) => gap,
            None => varint::get(gaps)?,
        };
        if gap == 0 {
            Ok(())
        } else {
            Err(DeltaError::Malformed {
                what: "differences left over",
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_bad_streams() {
        for (gaps, values, name) in [
            (&[][..], &[][..], "no gaps"),
            (&[1, 1], &[], "no value"),
            (&[1], &[0], "zero value"),
            (&[1, 0x80], &[1], "unfinished gap"),
        ] {
            let mut bytes = [0; 8];
            let got = Decoder::default().apply(&mut bytes, &mut &*gaps, &mut &*values);
            assert!(got.is_err(), "{name}");
        }
        let (mut decoder, mut gaps) = (Decoder::default(), &[9][..]);
        assert_eq!(
            decoder.apply(&mut [0; 8], &mut gaps, &mut &[][..]).unwrap(),
            8
        );
        assert!(decoder.finish(&mut gaps).is_err());
    }

    proptest! {
        #[test]
        fn round_trips_in_pieces(
            pairs in prop::collection::vec((0u8..3, 0u8..3), 0..300),
            cuts in prop::collection::vec(1usize..50, 1..20),
        ) {
            let (new, old): (Vec<u8>, Vec<u8>) = pairs.into_iter().unzip();
            let (mut gaps, mut values) = (Vec::new(), Vec::new());
            let mut encoder = Encoder::default();
            let mut cut = cuts.iter().cycle();
            let mut at = 0;
            while at < new.len() {
                let end = (at + cut.next().unwrap()).min(new.len());
                encoder.push(&new[at..end], &old[at..end], &mut gaps, &mut values);
                at = end;
            }
            encoder.flush(&mut gaps);
            let (mut gaps, mut values) = (&gaps[..], &values[..]);
            let mut got = old.clone();
            let mut decoder = Decoder::default();
            for piece in got.chunks_mut(17) {
                let done = decoder.apply(piece, &mut gaps, &mut values).unwrap();
                prop_assert_eq!(done, piece.len());
            }
            decoder.finish(&mut gaps).unwrap();
            prop_assert!(gaps.is_empty() && values.is_empty());
            prop_assert_eq!(got, new);
        }
    }
}
