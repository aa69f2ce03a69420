//! Maps a reference to the places it is asked for.
//!
//! This is the door for registries.conf(5): mirrors will be further endpoints in front of the
//! one that a reference names. Callers already try them in order.

use super::reference::Reference;

/// One place that serves a repository.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Endpoint {
    /// Name under which credentials and certificates are filed.
    pub(super) registry: String,
    /// Host and port to connect to.
    pub(super) host: String,
    /// Repository there.
    pub(super) repository: String,
}

/// Returns the endpoints to try, in order; today exactly one.
pub(super) fn endpoints(reference: &Reference) -> Vec<Endpoint> {
    let registry = reference.registry().to_owned();
    // The Hub's name and its registry's differ for historical reasons.
    let host = match registry.as_str() {
        "docker.io" => "registry-1.docker.io".to_owned(),
        _ => registry.clone(),
    };
    vec![Endpoint {
        registry,
        host,
        repository: reference.repository().to_owned(),
    }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hub_lives_elsewhere() {
        for (text, host, repository) in [
            ("h.example:5000/a/b:c", "h.example:5000", "a/b"),
            ("docker.io/alpine", "registry-1.docker.io", "library/alpine"),
        ] {
            let found = endpoints(&text.parse().unwrap());
            let expected = [(host, repository)];
            assert!(
                found
                    .iter()
                    .map(|e| (e.host.as_str(), e.repository.as_str()))
                    .eq(expected)
            );
        }
    }
}
