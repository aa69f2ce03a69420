//! Text from outside made safe for terminals, logs and reports.

/// Returns `text` with control characters and invisible direction marks written as escapes.
///
/// Names and annotations on a medium may hold terminal sequences; nothing prints them raw.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        let steers = matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || steers {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    #[test]
    fn sequences_become_visible() {
        assert_eq!(
            super::printable("a\u{1b}[2Jb\u{202e}c\n"),
            "a\\u{1b}[2Jb\\u{202e}c\\u{a}"
        );
        assert_eq!(super::printable("grün <b>"), "grün <b>");
    }
}
