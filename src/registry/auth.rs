//! Answers a registry's challenge: basic, or a bearer token from its token server.
//!
//! Threats: the challenge names where a password is sent, and the token server may send anything.
//! Defences: a password goes to an https realm only while verification is on; a redirect of the
//! token server to another origin loses it; the token response is capped at 1 MiB and a token at
//! 32 KiB; nothing of either is ever shown.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use url::{Url, form_urlencoded};

use super::challenge::Challenge;
use super::credentials::{Credentials, Places, Searched};
use super::error::RegistryError;
use super::manifest::parse_object;
use super::transport::{Get, Transport};

/// Most bytes of a token response.
const MAX_TOKEN_RESPONSE_BYTES: u64 = 1 << 20;
/// Longest token, in bytes: it must fit a header.
const MAX_TOKEN_BYTES: usize = 32 << 10;
/// Life of a token that does not say (distribution specification).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is renewed this long before its end, so that it outlives the request.
const MARGIN: Duration = Duration::from_secs(5);

/// The authorizations of one registry, shared by all threads.
pub(super) struct Authorizer {
    registry: String,
    places: Places,
    /// Values of `Authorization` by repository, for credentials belong to namespaces.
    known: Mutex<HashMap<String, Known>>,
    credentials: Mutex<HashMap<String, (Credentials, Searched)>>,
    /// Held while a token is fetched, so that parallel pulls ask for one token, not for many.
    fetching: Mutex<()>,
}

struct Known {
    header: String,
    expires: Option<Instant>,
}

#[derive(Deserialize)]
struct TokenResponse {
    #[serde(default)]
    token: Option<String>,
    #[serde(default)]
    access_token: Option<String>,
    #[serde(default)]
    expires_in: Option<u64>,
}

impl Authorizer {
    /// Prepares authorizations for the registry called `registry`.
    pub(super) fn new(registry: &str, places: Places) -> Self {
        Self {
            registry: registry.to_owned(),
            places,
            known: Mutex::default(),
            credentials: Mutex::default(),
            fetching: Mutex::default(),
        }
    }

    /// Returns the header that worked last for `repository`, unless it has expired.
    pub(super) fn known(&self, repository: &str) -> Option<String> {
        let known = lock(&self.known);
        let known = known.get(repository)?;
        let fresh = known.expires.is_none_or(|expires| expires > Instant::now());
        fresh.then(|| known.header.clone())
    }

    /// Says where credentials for `repository` were looked for.
    pub(super) fn searched(&self, repository: &str) -> Result<Searched, RegistryError> {
        Ok(self.credentials(repository)?.1)
    }

    /// Makes a header that answers `challenges`; `None` when there is no answer.
    ///
    /// `rejected` is the header that the challenges came back for: another thread may have
    /// replaced it meanwhile.
    pub(super) fn answer(
        &self,
        transport: &Transport,
        repository: &str,
        challenges: &[Challenge],
        rejected: Option<&str>,
    ) -> Result<Option<String>, RegistryError> {
        let _guard = lock(&self.fetching);
        if let Some(header) = self
            .known(repository)
            .filter(|header| Some(&**header) != rejected)
        {
            return Ok(Some(header));
        }
        let (credentials, searched) = self.credentials(repository)?;
        let by_scheme = |scheme| challenges.iter().find(|c: &&Challenge| c.scheme == scheme);
        let known = if let Some(bearer) = by_scheme("bearer") {
            self.token(transport, repository, bearer, &credentials, searched)?
        } else if let (Some(_), Credentials::Password { username, password }) =
            (by_scheme("basic"), &credentials)
        {
            Known {
                header: basic(username, password),
                expires: None,
            }
        } else {
            return Ok(None);
        };
        let header = known.header.clone();
        lock(&self.known).insert(repository.to_owned(), known);
        Ok(Some(header).filter(|header| Some(&**header) != rejected))
    }

    fn credentials(&self, repository: &str) -> Result<(Credentials, Searched), RegistryError> {
        let mut cache = lock(&self.credentials);
        if let Some(found) = cache.get(repository) {
            return Ok(found.clone());
        }
        let found = self.places.find(&self.registry, repository)?;
        cache.insert(repository.to_owned(), found.clone());
        Ok(found)
    }

    fn token(
        &self,
        transport: &Transport,
        repository: &str,
        challenge: &Challenge,
        credentials: &Credentials,
        searched: Searched,
    ) -> Result<Known, RegistryError> {
        let object = format!("token for {}/{repository}", self.registry);
        let mut url = challenge
            .parameter("realm")
            .and_then(|realm| Url::parse(realm).ok())
            .ok_or_else(|| RegistryError::malformed(&object, "the challenge's realm is no URL"))?;
        let own_scope = format!("repository:{repository}:pull");
        let scope = challenge.parameter("scope").unwrap_or(&own_scope);
        let service = challenge.parameter("service");
        let asked = Instant::now();
        let answer = if let Credentials::IdentityToken(token) = credentials {
            let mut form = form_urlencoded::Serializer::new(String::new());
            form.append_pair("grant_type", "refresh_token")
                .append_pair("client_id", "bundle")
                .append_pair("scope", scope)
                .append_pair("refresh_token", token);
            if let Some(service) = service {
                form.append_pair("service", service);
            }
            transport.post(&url, &form.finish(), &object)?
        } else {
            let mut authorization = None;
            {
                let mut query = url.query_pairs_mut();
                if let Some(service) = service {
                    query.append_pair("service", service);
                }
                query.append_pair("scope", scope);
                if let Credentials::Password { username, password } = credentials {
                    query.append_pair("account", username);
                    authorization = Some(basic(username, password));
                }
            }
            let authorization = authorization.as_deref();
            transport.get(Get {
                url: &url,
                accept: "",
                start: 0,
                authorization,
                object: &object,
            })?
        };
        if !answer.status.is_success() {
            return Err(super::session::status_error(answer, &object, || {
                Ok(searched)
            }));
        }
        let body = answer.document(MAX_TOKEN_RESPONSE_BYTES, &object)?;
        parse_token(&body, asked).map_err(|reason| RegistryError::malformed(&object, reason))
    }
}

fn parse_token(body: &[u8], asked: Instant) -> Result<Known, &'static str> {
    let response: TokenResponse =
        parse_object(body).map_err(|_| "the token response is no JSON")?;
    let token = response
        .token
        .filter(|token| !token.is_empty())
        .or(response.access_token)
        .ok_or("the token response has no token")?;
    if token.is_empty()
        || token.len() > MAX_TOKEN_BYTES
        || !token.bytes().all(|b| b.is_ascii_graphic())
    {
        return Err("the token does not fit a header");
    }
    // Older servers say less than the minimum that the specification allows.
    let life = response
        .expires_in
        .map_or(DEFAULT_LIFE, Duration::from_secs)
        .max(DEFAULT_LIFE);
    let expires = asked
        .checked_add(life)
        .and_then(|end| end.checked_sub(MARGIN));
    Ok(Known {
        header: format!("Bearer {token}"),
        expires,
    })
}

fn basic(username: &str, password: &str) -> String {
    format!(
        "Basic {}",
        STANDARD.encode(format!("{username}:{password}"))
    )
}

/// Locks, also after another thread panicked: every update here is one insertion.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_taken_from_either_field_and_checked() {
        let now = Instant::now();
        for (body, expected) in [
            (r#"{"token":"a","access_token":"b"}"#, Ok("Bearer a")),
            (r#"{"access_token":"b","expires_in":300}"#, Ok("Bearer b")),
            (r#"{"token":"","access_token":"b"}"#, Ok("Bearer b")),
            (
                r#"{"token":"a","expires_in":18446744073709551615}"#,
                Ok("Bearer a"),
            ),
            (r#"{"token":"a\r\nX-Evil: 1"}"#, Err("header")),
            (r#"{"token":""}"#, Err("no token")),
            ("{}", Err("no token")),
            ("<html>", Err("no JSON")),
        ] {
            match (parse_token(body.as_bytes(), now), expected) {
                (Ok(known), Ok(expected)) => assert_eq!(known.header, expected),
                (Err(reason), Err(expected)) => assert!(reason.contains(expected), "{reason}"),
                (result, _) => panic!("{body}: {:?}", result.map(|known| known.header)),
            }
        }
        let long = format!(r#"{{"token":"{}"}}"#, "a".repeat(MAX_TOKEN_BYTES + 1));
        assert!(parse_token(long.as_bytes(), now).is_err());
        let short = parse_token(br#"{"token":"a","expires_in":1}"#, now)
            .ok()
            .unwrap();
        assert!(short.expires.unwrap() > now + Duration::from_secs(50));
    }
}
