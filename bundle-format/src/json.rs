//! Strict JSON for signed and hostile documents (SPEC 2.1).
//!
//! Threats: two readers that disagree about one document (duplicate keys), stack exhaustion by
//! nesting, numbers that lose precision. Defences: every document is walked once before it is
//! typed; duplicate keys, nesting beyond the cap, floating-point numbers and integers outside 64
//! bits are refused. `serde_json` itself refuses byte-order marks, NaN, trailing data and invalid
//! UTF-8. Members this version does not know are ignored, except that a document's `critical` array
//! may name members a reader has to know (SPEC 2.1.6).

use alloc::collections::BTreeSet;
use alloc::string::{String, ToString};
use core::fmt;

use serde::de::{self, DeserializeOwned, DeserializeSeed, MapAccess, SeqAccess, Visitor};

use crate::Limits;

/// Says why a document is not acceptable JSON, with the position where that is known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not acceptable JSON: {cause}")]
pub struct JsonError {
    /// The parser's words.
    pub cause: String,
}

/// Parses `bytes` as `T` under the strict rules.
///
/// # Errors
/// Fails on any breach of SPEC 2.1 and on members of the wrong type. The caller caps the size.
pub fn parse<T: DeserializeOwned>(bytes: &[u8], limits: &Limits) -> Result<T, JsonError> {
    let fail = |e: serde_json::Error| JsonError {
        cause: e.to_string(),
    };
    let mut walk = serde_json::Deserializer::from_slice(bytes);
    Strict {
        depth: limits.json_depth,
    }
    .deserialize(&mut walk)
    .map_err(fail)?;
    walk.end().map_err(fail)?;
    serde_json::from_slice(bytes).map_err(fail)
}

/// Refuses a `critical` list that names a member outside `known` (SPEC 2.1.6).
///
/// # Errors
/// Names the first member that this version does not understand.
pub fn check_critical(critical: &[String], known: &[&str]) -> Result<(), JsonError> {
    match critical.iter().find(|name| !known.contains(&name.as_str())) {
        None => Ok(()),
        Some(name) => Err(JsonError {
            cause: alloc::format!("critical member {name:?} is not known to this version"),
        }),
    }
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: de::Error>(self) -> Result<Self, E> {
        let depth = self
            .depth
            .checked_sub(1)
            .ok_or_else(|| E::custom("nested too deeply"))?;
        Ok(Self { depth })
    }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON with whole numbers only")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        while items.next_element_seed(inner)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<(), A::Error> {
        let inner = self.deeper()?;
        let mut seen = BTreeSet::new();
        while let Some(key) = members.next_key::<String>()? {
            if let Some(twice) = seen.replace(key) {
                return Err(de::Error::custom(alloc::format!(
                    "member {twice:?} occurs twice"
                )));
            }
            members.next_value_seed(inner)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeMap;
    use alloc::vec::Vec;

    #[test]
    fn the_strict_rules_hold() {
        let deep = |n: usize| ["[".repeat(n), "]".repeat(n)].concat().into_bytes();
        let cases: &[(&str, Vec<u8>, bool)] = &[
            (
                "object",
                br#"{"a":1,"b":[true,null,"x",-5]}"#.to_vec(),
                true,
            ),
            ("duplicate", br#"{"a":1,"a":1}"#.to_vec(), false),
            (
                "escaped duplicate",
                br#"{"a":1,"\u0061":1}"#.to_vec(),
                false,
            ),
            (
                "inner duplicate",
                br#"[{"b":{"a":1,"a":2}}]"#.to_vec(),
                false,
            ),
            ("deep enough", deep(32), true),
            ("too deep", deep(33), false),
            ("bomb", deep(100_000), false),
            ("not a number", b"NaN".to_vec(), false),
            ("float", b"1.5".to_vec(), false),
            ("u64 max", b"18446744073709551615".to_vec(), true),
            ("u64 overflow", b"18446744073709551616".to_vec(), false),
            ("exponent", b"1e3".to_vec(), false),
            ("byte-order mark", b"\xef\xbb\xbf{}".to_vec(), false),
            ("trailing data", b"{} {}".to_vec(), false),
            ("invalid UTF-8", b"\"\xff\"".to_vec(), false),
            ("empty", b"".to_vec(), false),
        ];
        for (name, text, good) in cases {
            let verdict = parse::<serde_json::Value>(text, &Limits::DEFAULT);
            assert_eq!(verdict.is_ok(), *good, "{name}: {verdict:?}");
        }
    }

    #[test]
    fn numbers_keep_their_range() {
        assert!(parse::<BTreeMap<String, u32>>(br#"{"a":4294967296}"#, &Limits::DEFAULT).is_err());
    }

    #[test]
    fn unknown_critical_members_are_refused() {
        assert!(check_critical(&["expires".into()], &["expires"]).is_ok());
        assert!(check_critical(&["expires".into(), "moon".into()], &["expires"]).is_err());
    }
}
