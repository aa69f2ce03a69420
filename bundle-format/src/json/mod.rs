//! Strict JSON for signed and hostile documents (SPEC 2.1).
//!
//! Threats: two readers that disagree about one document (duplicate keys), stack exhaustion by
//! nesting, numbers that lose precision, arrays that pass for objects. Defences: every document is
//! read through one filter, also where its members are ignored, which refuses duplicate keys, nesting
//! beyond the cap, numbers that are no 64-bit integers, and anything but an object for a structure.
//! `serde_json` itself refuses byte-order marks, NaN, trailing data and invalid
//! UTF-8. Members this version does not know are ignored, except that a document's `critical` array
//! may name members a reader has to know (SPEC 2.1.6).

mod strict;

use alloc::string::{String, ToString};

use serde::de::DeserializeOwned;

use crate::Limits;
use strict::Strict;

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
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = T::deserialize(Strict::new(&mut reader, limits.json_depth)).map_err(fail)?;
    reader.end().map_err(fail)?;
    Ok(value)
}

/// Compares a `critical` list with the members that readers have to understand (SPEC 2.1.6).
///
/// `members` are those of this version for this document, and whether they are in it. The list has to
/// name exactly those that are, so that no reader of another version passes them over.
///
/// # Errors
/// Names the first member that this version does not understand, or that the list has or lacks
/// wrongly.
pub fn check_critical(critical: &[String], members: &[(&str, bool)]) -> Result<(), JsonError> {
    let fail = |cause: String| Err(JsonError { cause });
    let known = |name: &String| members.iter().any(|(member, _)| member == name);
    if let Some(name) = critical.iter().find(|name| !known(name)) {
        return fail(alloc::format!(
            "critical member {name:?} is not known to this version"
        ));
    }
    for (member, present) in members {
        if critical.iter().filter(|name| name == member).count() != usize::from(*present) {
            return fail(alloc::format!(
                "critical does not agree with the member {member:?}"
            ));
        }
    }
    Ok(())
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
            ("null", b"null".to_vec(), true),
        ];
        for (name, text, good) in cases {
            let verdict = parse::<serde_json::Value>(text, &Limits::DEFAULT);
            assert_eq!(verdict.is_ok(), *good, "{name}: {verdict:?}");
        }
    }

    #[derive(Debug, serde::Deserialize)]
    struct Pair {
        #[allow(dead_code, reason = "only whether it can be read counts")]
        left: u32,
        #[allow(dead_code, reason = "only whether it can be read counts")]
        right: Option<alloc::boxed::Box<Pair>>,
    }

    #[test]
    fn a_structure_is_an_object() {
        for (text, good) in [
            (r#"{"left":1,"right":null}"#, true),
            (r#"{"left":1,"right":{"left":2}}"#, true),
            (r#"[1,null]"#, false),
            (r#"{"left":1,"right":[2,null]}"#, false),
            (r#"{"left":1,"other":{"a":1,"a":2}}"#, false),
            (r#"{"left":1,"other":[1.5]}"#, false),
            (r#"{"left":1,"left":1}"#, false),
            (r#"{"left":-1}"#, false),
        ] {
            let verdict = parse::<Pair>(text.as_bytes(), &Limits::DEFAULT);
            assert_eq!(verdict.is_ok(), good, "{text}: {verdict:?}");
        }
    }

    #[test]
    fn numbers_keep_their_range() {
        assert!(parse::<BTreeMap<String, u32>>(br#"{"a":4294967296}"#, &Limits::DEFAULT).is_err());
    }

    #[test]
    fn unknown_critical_members_are_refused() {
        let check = |names: &[&str], present| {
            let names: Vec<_> = names.iter().map(ToString::to_string).collect();
            check_critical(&names, &[("expires", present)]).is_ok()
        };
        assert!(check(&["expires"], true) && check(&[], false));
        assert!(!check(&["expires", "moon"], true) && !check(&["moon"], false));
        assert!(!check(&[], true) && !check(&["expires"], false));
        assert!(!check(&["expires", "expires"], true));
    }
}
