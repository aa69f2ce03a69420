//! Parses `WWW-Authenticate`, with which a registry says how to authenticate (RFC 9110, 11.6.1).
//!
//! Threats: the header is the registry's, unauthenticated. Defences: the parser walks forward
//! over bytes, never recurses or indexes, keeps at most 16 challenges of 32 parameters, and
//! skips what it does not understand; the transport bounds the header itself.

/// Most challenges kept; registries send one or two.
const MAX_CHALLENGES: usize = 16;
/// Most parameters kept in a challenge.
const MAX_PARAMETERS: usize = 32;

/// One way in that the registry offers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// Scheme in lower case: `bearer`, `basic`.
    pub(super) scheme: String,
    /// Parameters in their order, names in lower case.
    parameters: Vec<(String, String)>,
}

impl Challenge {
    /// Returns the first parameter called `name`.
    pub(super) fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .find(|(key, _)| key == name)
            .map(|(_, value)| value.as_str())
    }
}

/// Parses one header value, which may hold several challenges.
pub(super) fn parse_challenges(header: &str) -> Vec<Challenge> {
    let mut challenges: Vec<Challenge> = Vec::new();
    let mut rest = header;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return challenges;
        }
        let (name, after) = token(rest);
        if name.is_empty() {
            rest = skip_to_comma(rest);
            continue;
        }
        let after = after.trim_start_matches([' ', '\t']);
        if let Some(value) = after.strip_prefix('=') {
            let (value, after) = parameter_value(value.trim_start_matches([' ', '\t']));
            if let Some(challenge) = challenges.last_mut()
                && challenge.parameters.len() < MAX_PARAMETERS
            {
                challenge
                    .parameters
                    .push((name.to_ascii_lowercase(), value));
            }
            rest = skip_to_comma_unless_token(after);
        } else if challenges.len() < MAX_CHALLENGES {
            let scheme = name.to_ascii_lowercase();
            challenges.push(Challenge {
                scheme,
                parameters: Vec::new(),
            });
            rest = after;
        } else {
            return challenges;
        }
    }
}

/// Splits a token (RFC 9110, 5.6.2) off the front.
fn token(text: &str) -> (&str, &str) {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)))
        .unwrap_or(text.len());
    text.split_at(end)
}

/// Reads a token or a quoted string, undoing backslashes; an unfinished quote ends at the end.
fn parameter_value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        // Wider than a token: registries have been seen to leave URLs unquoted.
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut characters = quoted.chars();
    while let Some(character) = characters.next() {
        match character {
            '"' => break,
            '\\' => value.extend(characters.next()),
            other => value.push(other),
        }
    }
    (value, characters.as_str())
}

fn skip_to_comma(text: &str) -> &str {
    text.find(',').and_then(|at| text.get(at..)).unwrap_or("")
}

/// Drops junk after a value, such as a second quote, but not the next item after a space.
fn skip_to_comma_unless_token(text: &str) -> &str {
    if text.starts_with([' ', '\t', ',']) || text.is_empty() {
        text
    } else {
        skip_to_comma(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_registries_write_them() {
        type Expected<'a> = &'a [(&'a str, &'a [(&'a str, &'a str)])];
        let cases: &[(&str, Expected<'_>)] = &[
            ("", &[]),
            (" , ,", &[]),
            ("Basic", &[("basic", &[])]),
            (
                r#"Basic realm="Registry Realm""#,
                &[("basic", &[("realm", "Registry Realm")])],
            ),
            (
                r#"Bearer realm="https://auth.example/token",service="r",scope="repository:a/b:pull""#,
                &[(
                    "bearer",
                    &[
                        ("realm", "https://auth.example/token"),
                        ("service", "r"),
                        ("scope", "repository:a/b:pull"),
                    ],
                )],
            ),
            (
                r#"Bearer realm="a", scope="repository:a:pull,push", Basic realm="b""#,
                &[
                    (
                        "bearer",
                        &[("realm", "a"), ("scope", "repository:a:pull,push")],
                    ),
                    ("basic", &[("realm", "b")]),
                ],
            ),
            (
                r#"BEARER Realm = "a\"b\\c" , Error=invalid_token"#,
                &[(
                    "bearer",
                    &[("realm", "a\"b\\c"), ("error", "invalid_token")],
                )],
            ),
            (
                "Bearer realm=https://a/b?c,service=d",
                &[("bearer", &[("realm", "https://a/b?c"), ("service", "d")])],
            ),
            (
                r#"Bearer realm="unfinished"#,
                &[("bearer", &[("realm", "unfinished")])],
            ),
            (
                r#"Bearer realm="x"junk,service="y""#,
                &[("bearer", &[("realm", "x"), ("service", "y")])],
            ),
            (r#"realm="no scheme""#, &[]),
            ("\u{e9}, Basic", &[("basic", &[])]),
            (r#"Basic realm="\"#, &[("basic", &[("realm", "")])]),
        ];
        for (header, expected) in cases {
            let expected: Vec<_> = expected
                .iter()
                .map(|(scheme, parameters)| Challenge {
                    scheme: (*scheme).to_owned(),
                    parameters: parameters
                        .iter()
                        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
                        .collect(),
                })
                .collect();
            assert_eq!(parse_challenges(header), expected, "{header}");
        }
    }

    #[test]
    fn a_flood_of_challenges_is_bounded() {
        assert_eq!(
            parse_challenges(&"Basic,".repeat(10_000)).len(),
            MAX_CHALLENGES
        );
        let many = format!("Bearer {}", "a=b,".repeat(10_000));
        assert_eq!(parse_challenges(&many)[0].parameters.len(), MAX_PARAMETERS);
        let negotiate = parse_challenges(r#"Negotiate YII/+a==, Bearer realm="x""#);
        assert!(negotiate.iter().any(|c| c.parameter("realm") == Some("x")));
    }

    proptest::proptest! {
        #[test]
        fn no_header_makes_it_panic(header in ".{0,200}") {
            parse_challenges(&header);
        }
    }
}
