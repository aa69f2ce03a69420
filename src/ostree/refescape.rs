//! Escapes arbitrary text into OSTree refs the way ostree-ext does, so that bootc finds what we store.
//!
//! Refs are paths on disk: what leaves [`escape`] consists of ASCII alphanumerics, `-`, `_` and single slashes between
//! other characters, so no digest or image name reaches outside the refs directory. Other text is refused.

use std::fmt::Write as _;

use bundle_format::Digest;

/// Longest image reference accepted, in bytes; its escaped form must still fit into path names.
pub(crate) const MAX_REFERENCE: usize = 512;

/// Prefix of the refs that hold one commit per container layer.
pub(crate) const LAYER_PREFIX: &str = "ostree/container/blob";

/// Prefix of the refs that hold the merged commit of an image.
pub(crate) const IMAGE_PREFIX: &str = "ostree/container/image";

/// Escapes `text`, or returns `None` where it has no ref: when it is empty, too long or holds a NUL.
pub fn escape(text: &str) -> Option<String> {
    if text.is_empty() || text.len() > MAX_REFERENCE || text.contains('\0') {
        return None;
    }
    let mut escaped = String::with_capacity(text.len() + 16);
    let mut after_alphanumeric = false;
    let mut characters = text.chars().peekable();
    while let Some(c) = characters.next() {
        match c {
            c if c.is_ascii_alphanumeric() => escaped.push(c),
            '-' => escaped.push(c),
            '_' => escaped.push_str("__"),
            '/' if after_alphanumeric && characters.peek().is_some() => escaped.push(c),
            c => {
                // Writing to a string cannot fail.
                let _ = write!(escaped, "_{:02X}_", u32::from(c));
            }
        }
        after_alphanumeric = c.is_ascii_alphanumeric();
    }
    Some(escaped)
}

/// Reverses [`escape`], or returns `None` where `escaped` is not its output.
pub fn unescape(escaped: &str) -> Option<String> {
    let mut text = String::with_capacity(escaped.len());
    let mut rest = escaped;
    while let Some(c) = rest.chars().next() {
        rest = rest.get(c.len_utf8()..)?;
        match c {
            c if c.is_ascii_alphanumeric() || matches!(c, '-' | '/') => text.push(c),
            '_' => {
                if let Some(after) = rest.strip_prefix('_') {
                    text.push('_');
                    rest = after;
                } else {
                    let (code, after) = rest.split_once('_')?;
                    text.push(char::from_u32(u32::from_str_radix(code, 16).ok()?)?);
                    rest = after;
                }
            }
            _ => return None,
        }
    }
    Some(text)
}

/// Returns the ref of the commit that holds one layer.
pub fn layer_ref(layer: &Digest) -> String {
    // `sha256:` and hexadecimal digits: the colon is all there is to escape.
    format!("{LAYER_PREFIX}/sha256_3A_{}", layer.to_hex())
}

/// Returns the ref of the merged commit of the image `imgref` (`host/repo:tag`), or `None` where it has none.
pub fn image_ref(imgref: &str) -> Option<String> {
    if imgref.is_empty() {
        return None;
    }
    let name = format!("{IMAGE_PREFIX}/{}", escape(&format!("docker://{imgref}"))?);
    // A name of the image that starts with `-` escapes to no valid ref.
    ::ostree::validate_rev(&name).is_ok().then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_as_ostree_ext_does() {
        for (text, escaped) in [
            ("foo/bar/baz-blah/foo", "foo/bar/baz-blah/foo"),
            (
                "localhost:5000/foo:latest",
                "localhost_3A_5000/foo_3A_latest",
            ),
            ("fedora/x86_64/coreos", "fedora/x86__64/coreos"),
            (
                "docker://registry.example/os/blah:v1",
                "docker_3A__2F__2F_registry_2E_example/os/blah_3A_v1",
            ),
            ("blah/", "blah_2F_"),
            ("/foo", "_2F_foo"),
            ("a//b", "a/_2F_b"),
            ("../x", "_2E__2E__2F_x"),
            ("é", "_E9_"),
        ] {
            assert_eq!(escape(text).as_deref(), Some(escaped), "{text}");
            assert_eq!(unescape(escaped).as_deref(), Some(text), "{escaped}");
            let reference = format!("test/{escaped}");
            assert!(::ostree::validate_rev(&reference).is_ok(), "{reference}");
        }
    }

    #[test]
    fn refuses_what_has_no_ref() {
        for text in ["", "a\0b", &"x".repeat(MAX_REFERENCE + 1)] {
            assert_eq!(escape(text), None);
        }
        assert_eq!(image_ref(""), None);
        assert_eq!(image_ref("host/-x"), None);
        for escaped in ["_", "a.b", "_zz_", "_110000_", "_41"] {
            assert_eq!(unescape(escaped), None, "{escaped}");
        }
    }

    #[test]
    fn layers_are_found_by_digest() {
        let digest = Digest::of(b"");
        let expected = escape(&digest.to_string()).map(|e| format!("{LAYER_PREFIX}/{e}"));
        assert_eq!(Some(layer_ref(&digest)), expected);
    }
}
