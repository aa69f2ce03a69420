//! Text of strangers, made harmless.
//!
//! Threats: a registry's message may be long, hold escape sequences for the terminal, or reorder
//! the text around it. Defences: it is cut to 200 characters and loses controls and direction
//! marks; it is only looked for in JSON of the expected shape.

use std::fmt;

/// What a registry said about an error: one line, cut to 200 characters, or nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail(Option<String>);

impl Detail {
    /// Takes the first message out of an error body of the distribution specification.
    pub(super) fn parse(body: &[u8]) -> Self {
        #[derive(serde::Deserialize)]
        struct Body {
            #[serde(default)]
            errors: Vec<Item>,
            /// Of token servers, after RFC 6749.
            #[serde(default)]
            error_description: Option<String>,
            #[serde(default)]
            details: Option<String>,
        }
        #[derive(serde::Deserialize)]
        struct Item {
            #[serde(default)]
            code: String,
            #[serde(default)]
            message: String,
        }
        let Ok(body) = serde_json::from_slice::<Body>(body) else {
            return Self(None);
        };
        let text = match body.errors.into_iter().next() {
            Some(item) if item.message.is_empty() => item.code,
            Some(item) => item.message,
            None => body.error_description.or(body.details).unwrap_or_default(),
        };
        let text = printable(&text);
        Self((!text.is_empty()).then_some(text))
    }
}

/// Cuts foreign text to 200 characters and drops what could drive a terminal.
pub(super) fn printable(text: &str) -> String {
    // Format characters outside the controls reorder text (bidirectional overrides).
    let harmful = |c: &char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    text.chars()
        .filter(|c| !harmful(c))
        .take(200)
        .collect::<String>()
        .trim()
        .to_owned()
}

impl fmt::Display for Detail {
    /// Writes a colon, a space and the text, or nothing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(text) => write!(f, ": {text}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn details_are_one_harmless_line() {
        for (body, expected) in [
            (
                r#"{"errors":[{"code":"DENIED","message":"no\u001b[31m way\n"}]}"#,
                ": no[31m way",
            ),
            (r#"{"errors":[{"code":"DENIED"}]}"#, ": DENIED"),
            (
                r#"{"details":"incorrect username or password"}"#,
                ": incorrect username or password",
            ),
            (r#"{"errors":[]}"#, ""),
            ("<html>", ""),
            ("[]", ""),
        ] {
            assert_eq!(
                Detail::parse(body.as_bytes()).to_string(),
                expected,
                "{body}"
            );
        }
        let long = format!(r#"{{"errors":[{{"message":"{}"}}]}}"#, "a".repeat(5000));
        assert_eq!(Detail::parse(long.as_bytes()).to_string().len(), 202);
    }
}
