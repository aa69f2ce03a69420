//! Text from outside made safe for terminals, logs and reports.

/// Returns `text` with control characters and invisible direction marks written as escapes.
///
/// Names and annotations on a medium may hold terminal sequences; nothing prints them raw.
pub fn printable(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if steers(c) {
            safe.extend(c.escape_unicode());
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Returns a JSON document in which the same characters are written as JSON's own escapes.
///
/// JSON writers escape only what is below U+0020. The document means what it meant: behind that,
/// such characters occur inside strings alone. Line feeds between members stay.
pub fn printable_json(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for c in json.chars() {
        if c != '\n' && steers(c) {
            for unit in c.encode_utf16(&mut [0; 2]) {
                safe.push_str(&format!("\\u{unit:04x}"));
            }
        } else {
            safe.push(c);
        }
    }
    safe
}

/// Returns true for what acts on a terminal or hides from a reader instead of being seen: controls,
/// line and paragraph separators, direction marks, invisible spaces and fillers, tags.
fn steers(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
            | '\u{e0000}'..='\u{e007f}')
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

    #[test]
    fn json_keeps_its_meaning() {
        let text = "a\u{9b}\u{e0041}\u{2028}\n\u{1b}";
        let json = serde_json::to_string_pretty(&[text]).unwrap();
        let safe = super::printable_json(&json);
        assert!(safe.is_ascii());
        assert_eq!(serde_json::from_str::<Vec<String>>(&safe).unwrap(), [text]);
    }
}
