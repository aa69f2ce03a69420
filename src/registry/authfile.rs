//! Reads containers-auth.json(5) and docker's `config.json`.
//!
//! The file is the user's own; a cap on its size stands in `credentials`. Secrets never reach an
//! error message.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;

use super::credentials::Credentials;
use super::manifest::parse_object;

/// A parsed file.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Authfile {
    #[serde(default)]
    auths: BTreeMap<String, Entry>,
    /// Helper per host.
    #[serde(default)]
    cred_helpers: BTreeMap<String, String>,
    /// Helper for every host that is not in `auths`.
    #[serde(default)]
    creds_store: Option<String>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Entry {
    auth: String,
    username: String,
    password: String,
    identitytoken: String,
    /// Decoded when the file is parsed, so that damage shows before it matters.
    #[serde(skip)]
    decoded: Option<Credentials>,
}

/// What a file has for a repository.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// Credentials as they are.
    Credentials(Credentials),
    /// Name of a helper, without `docker-credential-`.
    Helper(String),
}

impl Authfile {
    /// Parses a file.
    ///
    /// # Errors
    /// Says what is wrong when it is not JSON of this shape, or an entry cannot be decoded.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.trim_ascii().is_empty() {
            // `touch auth.json` is a common way to have no credentials.
            return Ok(Self {
                auths: BTreeMap::new(),
                cred_helpers: BTreeMap::new(),
                creds_store: None,
            });
        }
        // serde_json's message may quote a value: say only where.
        let mut file: Self = parse_object(bytes).map_err(|error| {
            format!(
                "not auth.json at line {} column {}",
                error.line(),
                error.column()
            )
        })?;
        for (key, entry) in &mut file.auths {
            entry.decoded = entry
                .decode()
                .map_err(|reason| format!("entry {key:?}: {reason}"))?;
        }
        Ok(file)
    }

    /// Finds what the file has for `repository` of `host`, the longest namespace first.
    pub(super) fn find(&self, host: &str, repository: &str) -> Option<Found> {
        if let Some(helper) = self.cred_helpers.get(host) {
            return Some(Found::Helper(helper.clone()));
        }
        for key in lookup_keys(host, repository) {
            if let Some(credentials) = self.auths.get(&key).and_then(|e| e.decoded.clone()) {
                return Some(Found::Credentials(credentials));
            }
        }
        // docker login writes URLs as keys: https://index.docker.io/v1/.
        let old = self.auths.iter().find(|(key, entry)| {
            entry.decoded.is_some() && host_of_url(key).is_some_and(|found| found == host)
        });
        if let Some((
            _,
            Entry {
                decoded: Some(credentials),
                ..
            },
        )) = old
        {
            return Some(Found::Credentials(credentials.clone()));
        }
        self.creds_store
            .clone()
            .filter(|name| !name.is_empty())
            .map(Found::Helper)
    }
}

impl Entry {
    fn decode(&self) -> Result<Option<Credentials>, &'static str> {
        if !self.identitytoken.is_empty() {
            return Ok(Some(Credentials::IdentityToken(self.identitytoken.clone())));
        }
        if self.auth.is_empty() {
            // docker with a credsStore leaves empty entries behind.
            return Ok((!self.username.is_empty()).then(|| Credentials::Password {
                username: self.username.clone(),
                password: self.password.clone(),
            }));
        }
        let bytes = STANDARD
            .decode(self.auth.trim())
            .map_err(|_| "auth is not base64")?;
        let text = String::from_utf8(bytes).map_err(|_| "auth is not UTF-8")?;
        let (username, password) = text.split_once(':').ok_or("auth has no colon")?;
        // Some writers pad the password with NUL.
        let password = password.trim_end_matches('\0');
        Ok(Some(Credentials::Password {
            username: username.to_owned(),
            password: password.to_owned(),
        }))
    }
}

/// Returns `host/a/b`, `host/a`, `host` for the repository `a/b`.
fn lookup_keys(host: &str, repository: &str) -> Vec<String> {
    let mut key = format!("{host}/{repository}");
    let mut keys = vec![key.clone()];
    while let Some(at) = key.rfind('/') {
        key.truncate(at);
        keys.push(key.clone());
    }
    keys
}

/// Returns the host of a key that is a URL.
fn host_of_url(key: &str) -> Option<&str> {
    let rest = key
        .strip_prefix("https://")
        .or_else(|| key.strip_prefix("http://"))?;
    let host = rest.split('/').next()?;
    Some(match host {
        "index.docker.io" | "registry-1.docker.io" => "docker.io",
        other => other,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn password(username: &str) -> Option<Found> {
        Some(Found::Credentials(Credentials::Password {
            username: username.to_owned(),
            password: "p:w".to_owned(),
        }))
    }

    fn entry(username: &str) -> String {
        format!(
            r#"{{"auth":"{}"}}"#,
            STANDARD.encode(format!("{username}:p:w"))
        )
    }

    #[test]
    fn the_longest_namespace_wins() {
        let json = format!(
            r#"{{"auths":{{"h.example":{},"h.example/a":{},"h.example/a/b":{},"h:5000":{},
                "https://index.docker.io/v1/":{},"https://old.example":{},"store.example":{{}},
                "plain.example":{{"username":"f","password":"p:w"}},
                "id.example":{{"auth":"eDo=","identitytoken":"t"}}}},
                "credHelpers":{{"gcr.example":"gcloud"}},"credsStore":"pass","other":[1]}}"#,
            entry("host"),
            entry("a"),
            entry("ab"),
            entry("port"),
            entry("hub"),
            entry("old"),
        );
        let file = Authfile::parse(json.as_bytes()).unwrap();
        let helper = |name: &str| Some(Found::Helper(name.to_owned()));
        for (host, repository, expected) in [
            ("h.example", "a/b", password("ab")),
            ("h.example", "a/b/c", password("ab")),
            ("h.example", "a/bc", password("a")),
            ("h.example", "ab", password("host")),
            ("h:5000", "x", password("port")),
            ("docker.io", "library/x", password("hub")),
            ("old.example", "x", password("old")),
            ("plain.example", "x", password("f")),
            (
                "id.example",
                "x",
                Some(Found::Credentials(Credentials::IdentityToken("t".into()))),
            ),
            ("gcr.example", "x", helper("gcloud")),
            ("store.example", "x", helper("pass")),
            ("h", "5000", helper("pass")),
        ] {
            assert_eq!(file.find(host, repository), expected, "{host}/{repository}");
        }
    }

    #[test]
    fn damage_is_named_without_the_secret() {
        for (json, expected) in [
            ("{", "line 1"),
            ("[]", "not auth.json"),
            (
                r#"{"auths":{"h":{"auth":"s3cr3t!"}}}"#,
                "\"h\": auth is not base64",
            ),
            (
                r#"{"auths":{"h":{"auth":"czNjcjN0"}}}"#,
                "auth has no colon",
            ),
            (r#"{"auths":{"h":"s3cr3t"}}"#, "line 1"),
        ] {
            let error = Authfile::parse(json.as_bytes()).err().expect(json);
            assert!(error.contains(expected), "{json}: {error}");
            assert!(!error.contains("s3cr3t"), "{error}");
        }
        for empty in ["", "\n", "{}"] {
            let file = Authfile::parse(empty.as_bytes()).unwrap();
            assert_eq!(file.find("h.example", "x"), None);
        }
    }
}
