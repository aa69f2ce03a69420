//! References to images in registries, in the notation of skopeo and podman.
//!
//! Threats: a reference reaches URLs, file names (`certs.d/HOST`) and messages. Defences: the
//! grammar of the distribution specification is enforced here, so that no accepted part holds a
//! slash out of place, a dot-dot, a control character or an upper-case repository.

use std::fmt;
use std::str::FromStr;

use bundle_format::Digest;

/// Longest repository, in bytes; the limit of the distribution specification.
const MAX_REPOSITORY: usize = 255;
/// Longest host, in bytes, port included.
const MAX_HOST: usize = 255 + 6;

/// Names an image: `docker://HOST[:PORT]/REPOSITORY[:TAG][@sha256:…]`.
///
/// Unlike podman's, a reference is never short: the host is part of it, so that what is exported
/// does not depend on the search list of the build box.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// Says why a string is not a [`Reference`].
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not an image reference: {text:?}: {reason}")]
#[non_exhaustive]
pub struct ReferenceError {
    /// The text that was refused, cut to 300 characters.
    pub text: String,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl ReferenceError {
    fn new(text: &str, reason: &'static str) -> Self {
        Self {
            text: text.chars().take(300).collect(),
            reason,
        }
    }

    /// Returns a remedy in one sentence.
    pub fn hint(&self) -> String {
        "write docker://HOST[:PORT]/REPOSITORY[:TAG], such as docker://h.example/os:43".to_owned()
    }
}

impl Reference {
    /// Returns the host and, where it was written, the port: `h.example`, `127.0.0.1:5000`.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// Returns the repository: `fedora/fedora-bootc`.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// Returns the tag, where one was written.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// Returns the digest, where one was written; it wins over the tag.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Names another tag of the same repository, without a digest.
    ///
    /// # Errors
    /// When `tag` is not 1 to 128 letters, digits, `_`, `.` and `-`, the first no `.` or `-`.
    pub fn with_tag(&self, tag: &str) -> Result<Self, ReferenceError> {
        if !is_tag(tag) {
            return Err(ReferenceError::new(tag, "the tag is malformed"));
        }
        Ok(Self {
            tag: Some(tag.to_owned()),
            digest: None,
            ..self.clone()
        })
    }

    /// Names content of the same repository by digest, without a tag.
    pub fn with_digest(&self, digest: Digest) -> Self {
        Self {
            tag: None,
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// Returns what a registry is asked for: the digest, else the tag, else `latest`.
    pub fn wanted(&self) -> String {
        match (self.digest, &self.tag) {
            (Some(digest), _) => digest.to_string(),
            (None, Some(tag)) => tag.clone(),
            (None, None) => "latest".to_owned(),
        }
    }

    /// Returns registry and repository without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, ReferenceError> {
        let refuse = |reason| ReferenceError::new(text, reason);
        let rest = text.strip_prefix("docker://").unwrap_or(text);
        if rest.contains("://") {
            return Err(refuse("only the docker:// transport is known here"));
        }
        let (rest, digest) = match rest.split_once('@') {
            Some((rest, digest)) => {
                let digest = digest
                    .parse()
                    .map_err(|_| refuse("the digest is no SHA-256"))?;
                (rest, Some(digest))
            }
            None => (rest, None),
        };
        let short = "a short name: the host of the registry is missing";
        let (registry, path) = rest.split_once('/').ok_or_else(|| refuse(short))?;
        // The rule of every container tool: a first component without dot or port is no host.
        if !registry.contains(['.', ':', '[']) && registry != "localhost" {
            return Err(refuse(short));
        }
        if !is_host(registry) {
            return Err(refuse("the host is malformed"));
        }
        let (repository, tag) = match path.split_once(':') {
            Some((repository, tag)) => (repository, Some(tag.to_owned())),
            None => (path, None),
        };
        if repository.len() > MAX_REPOSITORY {
            return Err(refuse("the repository is longer than 255 characters"));
        }
        if repository.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(refuse("the repository has upper-case letters"));
        }
        if !repository.split('/').all(is_component) {
            return Err(refuse("the repository is malformed"));
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(refuse("the tag is malformed"));
        }
        let (registry, repository) = match registry {
            "docker.io" | "index.docker.io" if !repository.contains('/') => {
                ("docker.io", format!("library/{repository}"))
            }
            "index.docker.io" => ("docker.io", repository.to_owned()),
            _ => (registry, repository.to_owned()),
        };
        Ok(Self {
            registry: registry.to_owned(),
            repository,
            tag,
            digest,
        })
    }
}

impl fmt::Display for Reference {
    /// Writes the reference without `docker://`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        match &self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// Tells whether `text` is `HOST`, `HOST:PORT` or `[IPv6]:PORT`.
fn is_host(text: &str) -> bool {
    if text.len() > MAX_HOST {
        return false;
    }
    if let Some(rest) = text.strip_prefix('[') {
        let Some((address, port)) = rest.split_once(']') else {
            return false;
        };
        return address.parse::<std::net::Ipv6Addr>().is_ok()
            && (port.is_empty() || port.strip_prefix(':').is_some_and(is_port));
    }
    let (host, port) = match text.split_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let label = |label: &str| {
        label
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && port.is_none_or(is_port)
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit()) && text.parse::<u16>().is_ok_and(|port| port != 0)
}

/// Tells whether `text` is lower-case alphanumerics joined by `.`, `_`, `__` or dashes.
fn is_component(text: &str) -> bool {
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let separator = |run: &str| {
        run.is_empty() || matches!(run, "." | "_" | "__") || run.bytes().all(|b| b == b'-')
    };
    let ends = text.bytes().next().is_some_and(alphanumeric)
        && text.bytes().next_back().is_some_and(alphanumeric);
    ends && text
        .split(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        .all(separator)
}

fn is_tag(text: &str) -> bool {
    text.len() <= 128
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-'))
        && text
            .bytes()
            .next()
            .is_some_and(|b| b.is_ascii_alphanumeric() || b == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn references_are_taken_apart() {
        for (text, registry, repository, tag, digest) in [
            (
                "docker://h.example/fedora/fedora:43",
                "h.example",
                "fedora/fedora",
                Some("43"),
                false,
            ),
            ("h.example/a", "h.example", "a", None, false),
            (
                "127.0.0.1:5000/x/y-z__w.v:V1.0",
                "127.0.0.1:5000",
                "x/y-z__w.v",
                Some("V1.0"),
                false,
            ),
            ("localhost/x", "localhost", "x", None, false),
            ("[::1]:5000/x:y", "[::1]:5000", "x", Some("y"), false),
            (
                &format!("h.example:443/a@{DIGEST}"),
                "h.example:443",
                "a",
                None,
                true,
            ),
            (
                &format!("docker://h.example/a:t@{DIGEST}"),
                "h.example",
                "a",
                Some("t"),
                true,
            ),
            (
                "docker.io/alpine",
                "docker.io",
                "library/alpine",
                None,
                false,
            ),
            (
                "index.docker.io/grafana/loki",
                "docker.io",
                "grafana/loki",
                None,
                false,
            ),
        ] {
            let reference: Reference = text.parse().expect(text);
            assert_eq!(reference.registry(), registry, "{text}");
            assert_eq!(reference.repository(), repository, "{text}");
            assert_eq!(reference.tag(), tag, "{text}");
            assert_eq!(reference.digest().is_some(), digest, "{text}");
            assert_eq!(reference.to_string().parse(), Ok(reference), "{text}");
        }
    }

    #[test]
    fn malformed_references_are_refused_with_a_reason() {
        for (text, reason) in [
            ("fedora", "short name"),
            ("fedora:43", "short name"),
            ("fedora/fedora:43", "short name"),
            ("oci:dir:tag", "short name"),
            ("https://h.example/x", "docker://"),
            ("h.example/", "repository"),
            ("h.example/x/", "repository"),
            ("h.example//x", "repository"),
            ("h.example/../x", "repository"),
            ("h.example/x/../../y", "repository"),
            ("h.example/a..b", "repository"),
            ("h.example/a___b", "repository"),
            ("h.example/x?y", "repository"),
            ("h.example/Fedora", "upper-case"),
            ("h.example/x:", "tag"),
            ("h.example/x:-a", "tag"),
            ("h.example/x:a:b", "tag"),
            ("h.example/x:a/b", "tag"),
            ("h.example/x@md5:abc", "SHA-256"),
            ("../x", "host"),
            ("a..b/x", "host"),
            ("user@host.example/x", "SHA-256"),
            ("h.example:0/x", "host"),
            ("h.example:70000/x", "host"),
            ("h.example:+5/x", "host"),
            ("[::1/x", "host"),
            ("-h.example/x", "host"),
            ("h .example/x", "host"),
        ] {
            let error = text.parse::<Reference>().expect_err(text);
            assert!(error.reason.contains(reason), "{text}: {error}");
        }
        let long = format!("h.example/{}", "a".repeat(256));
        assert!(long.parse::<Reference>().is_err());
    }

    #[test]
    fn what_a_registry_is_asked_for() {
        let reference: Reference = "h.example/x".parse().expect("valid");
        assert_eq!(reference.wanted(), "latest");
        assert_eq!(reference.with_tag("v1").expect("valid").wanted(), "v1");
        let digest: Digest = DIGEST.parse().expect("valid");
        let both: Reference = format!("h.example/x:v1@{DIGEST}").parse().expect("valid");
        assert_eq!(both.wanted(), DIGEST);
        assert_eq!(
            reference.with_digest(digest).to_string(),
            format!("h.example/x@{DIGEST}")
        );
        assert!(reference.with_tag("a/b").is_err());
    }
}
