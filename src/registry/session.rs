//! The conversation with one registry: which scheme it speaks, who we are to it, what it means.

use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use url::Url;

use super::answer::Answer;
use super::auth::Authorizer;
use super::challenge::{Challenge, parse_challenges};
use super::credentials::Searched;
use super::detail::Detail;
use super::endpoint::Endpoint;
use super::error::RegistryError;
use super::retry::parse_retry_after;
use super::transport::{Get, Transport};

/// One registry.
pub(super) struct Session {
    host: String,
    transport: Transport,
    authorizer: Authorizer,
    verify: bool,
    /// Base URL, once it is known which scheme the registry speaks.
    base: Mutex<Option<Url>>,
}

/// A request to a registry.
#[derive(Clone, Copy)]
pub(super) struct Ask<'a> {
    /// Repository that authorization is for.
    pub(super) repository: &'a str,
    /// Path and query.
    pub(super) path: &'a str,
    /// Media types for `Accept`; empty for any.
    pub(super) accept: &'a str,
    /// First byte wanted.
    pub(super) start: u64,
    /// What is asked for, in messages.
    pub(super) object: &'a str,
}

impl Session {
    /// Prepares a conversation; nothing is sent yet.
    pub(super) fn new(
        endpoint: &Endpoint,
        transport: Transport,
        authorizer: Authorizer,
        verify: bool,
    ) -> Self {
        let host = endpoint.host.clone();
        Self {
            host,
            transport,
            authorizer,
            verify,
            base: Mutex::default(),
        }
    }

    /// Sends a request once, authenticating where the registry demands it.
    ///
    /// # Errors
    /// Any status but a success is one.
    pub(super) fn get(&self, ask: Ask<'_>) -> Result<Answer, RegistryError> {
        let Ask {
            repository,
            accept,
            start,
            object,
            ..
        } = ask;
        let base = self.base(object)?;
        let url = base
            .join(ask.path)
            .map_err(|error| RegistryError::malformed(object, error))?;
        let send = |authorization: Option<&str>| {
            self.transport.get(Get {
                url: &url,
                accept,
                start,
                authorization,
                object,
            })
        };
        let known = self.authorizer.known(repository);
        let mut answer = send(known.as_deref())?;
        // Only the registry itself may challenge, not what it redirects to.
        if answer.status.as_u16() == 401 && answer.url.origin() == url.origin() {
            let challenges = challenges(&answer);
            let header = self.authorizer.answer(
                &self.transport,
                repository,
                &challenges,
                known.as_deref(),
            )?;
            if let Some(header) = header {
                answer.discard();
                answer = send(Some(&header))?;
            }
        }
        if answer.status.is_success() {
            return Ok(answer);
        }
        Err(status_error(answer, object, || {
            self.authorizer.searched(repository)
        }))
    }

    /// Tells whether `url` belongs to this registry, such as the next page of a list.
    pub(super) fn owns(&self, url: &Url, object: &str) -> Result<bool, RegistryError> {
        Ok(self.base(object)?.origin() == url.origin())
    }

    /// Finds out which scheme the registry speaks: https, or http as well where nothing is verified.
    fn base(&self, object: &str) -> Result<Url, RegistryError> {
        // Held during the probe, so that parallel pulls probe once.
        let mut base = self.base.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(url) = &*base {
            return Ok(url.clone());
        }
        let url = |scheme: &str| {
            Url::parse(&format!("{scheme}://{}/", self.host))
                .map_err(|error| RegistryError::malformed(object, error))
        };
        let mut found = url("https")?;
        if !self.verify
            && let Err(error) = self.probe(&found, object)
        {
            // A TLS server answers clear text with 400: that would be no registry found.
            let plain = url("http")?;
            match self.probe(&plain, object) {
                Ok(status) if status != 400 => found = plain,
                _ => return Err(error),
            }
        }
        Ok(base.insert(found).clone())
    }

    fn probe(&self, base: &Url, object: &str) -> Result<u16, RegistryError> {
        let url = base
            .join("/v2/")
            .map_err(|error| RegistryError::malformed(object, error))?;
        let get = Get {
            url: &url,
            accept: "",
            start: 0,
            authorization: None,
            object,
        };
        let answer = self.transport.get(get)?;
        let status = answer.status.as_u16();
        answer.discard();
        Ok(status)
    }
}

fn challenges(answer: &Answer) -> Vec<Challenge> {
    answer
        .headers
        .get_all("www-authenticate")
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(parse_challenges)
        .collect()
}

/// Turns an answer that is no success into an error.
pub(super) fn status_error(
    answer: Answer,
    object: &str,
    searched: impl FnOnce() -> Result<Searched, RegistryError>,
) -> RegistryError {
    let object = object.to_owned();
    let status = answer.status.as_u16();
    let retry_after = answer
        .header("retry-after")
        .and_then(|value| parse_retry_after(value, SystemTime::now()));
    let detail = Detail::parse(&answer.excerpt());
    match status {
        404 => RegistryError::NotFound { object },
        401 | 403 => match searched() {
            Ok(searched) => RegistryError::Unauthorized {
                object,
                status,
                detail,
                searched,
            },
            Err(error) => error,
        },
        429 => RegistryError::TooManyRequests {
            object,
            detail,
            retry_after,
        },
        500.. => RegistryError::Server {
            object,
            status,
            detail,
            retry_after,
        },
        _ => RegistryError::Status {
            object,
            status,
            detail,
        },
    }
}
