//! Variable-length integers: LEB128, seven bits a byte, least significant first; signed ones zigzag.
//!
//! Threats: numbers that never end, overflow, or have two spellings. Defences: ten bytes at most,
//! the tenth at most 1, and no superfluous zero byte, so each number has one encoding.

use crate::DeltaError;

/// Longest encoding, in bytes.
pub const MAX_LEN: usize = 10;

/// Appends `value`.
pub fn put(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `value`, small for small magnitudes of either sign.
pub fn put_signed(out: &mut Vec<u8>, value: i64) {
    put(out, zigzag(value));
}

/// Takes a number off the front of `input`.
///
/// # Errors
/// [`DeltaError::Truncated`] when `input` ends first, [`DeltaError::Malformed`] for an overlong one.
pub fn get(input: &mut &[u8]) -> Result<u64, DeltaError> {
    let mut value = 0u64;
    for (i, &byte) in input.iter().enumerate().take(MAX_LEN) {
        let bits = u64::from(byte & 0x7f);
        if i == MAX_LEN - 1 && byte > 1 {
            return Err(DeltaError::Malformed {
                what: "number exceeds 64 bits",
            });
        }
        value |= bits << (7 * i);
        if byte & 0x80 == 0 {
            if byte == 0 && i > 0 {
                return Err(DeltaError::Malformed {
                    what: "number is not in its shortest form",
                });
            }
            *input = input.get(i + 1..).unwrap_or_default();
            return Ok(value);
        }
    }
    Err(DeltaError::Truncated { part: "a number" })
}

/// Reads a number, a byte at a time.
///
/// # Errors
/// As [`get`], and when reading fails.
pub fn read(input: &mut dyn std::io::Read) -> Result<u64, DeltaError> {
    let mut bytes = Vec::with_capacity(MAX_LEN);
    loop {
        let mut byte = [0];
        input.read_exact(&mut byte)?;
        bytes.extend_from_slice(&byte);
        if byte[0] & 0x80 == 0 || bytes.len() == MAX_LEN {
            return get(&mut bytes.as_slice());
        }
    }
}

/// Takes a signed number off the front of `input`.
///
/// # Errors
/// As [`get`].
pub fn get_signed(input: &mut &[u8]) -> Result<i64, DeltaError> {
    get(input).map(unzigzag)
}

const fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

const fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn refuses_bad_spellings() {
        for (bytes, name) in [
            (&[][..], "empty"),
            (&[0x80], "unfinished"),
            (&[0x80, 0], "superfluous byte"),
            (&[0xff; 11], "endless"),
            (
                &[0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2],
                "65 bits",
            ),
        ] {
            assert!(get(&mut &*bytes).is_err(), "{name}");
        }
    }

    proptest! {
        #[test]
        fn round_trips(value: u64, signed: i64) {
            let mut out = Vec::new();
            put(&mut out, value);
            put_signed(&mut out, signed);
            let mut rest = &out[..];
            prop_assert_eq!(get(&mut rest).unwrap(), value);
            prop_assert_eq!(get_signed(&mut rest).unwrap(), signed);
            prop_assert!(rest.is_empty());
        }
    }
}
