//! A response: its body under caps and time limits, its failures under their names.
//!
//! Threats: bodies that are endless, trickle, or break. Defences: a document is read under a cap
//! and a total time; what an error says is read up to 16 KiB and as long as silence is borne;
//! whoever streams a blob counts its bytes (`blob`).

use std::io::{self, Read as _};
use std::time::{Duration, Instant};

use ureq::http::{HeaderMap, Response, StatusCode};
use url::Url;

use super::error::RegistryError;

/// Most bytes read of an error, or of a body nobody wants, to keep its connection.
const MAX_EXCERPT_BYTES: usize = 16 << 10;
/// A document may take this many times the limit on silence.
const DOCUMENT_PATIENCE: u32 = 10;

/// A response whose body is still to be read.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Where it came from, after redirects.
    pub(super) url: Url,
    body: ureq::BodyReader<'static>,
    silence: Duration,
}

impl Answer {
    /// Takes over what the HTTP library returned for `url`.
    pub(super) fn new(
        response: Result<Response<ureq::Body>, ureq::Error>,
        url: &Url,
        object: &str,
        silence: Duration,
    ) -> Result<Self, RegistryError> {
        let response = response.map_err(|error| failure(error, url, object, silence))?;
        let (parts, body) = response.into_parts();
        Ok(Self {
            status: parts.status,
            headers: parts.headers,
            url: url.clone(),
            body: body.into_reader(),
            silence,
        })
    }

    /// Returns a header that is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// Returns where a redirect leads, as the server wrote it.
    pub(super) fn location(&self) -> Option<&str> {
        let redirect = matches!(self.status.as_u16(), 301 | 302 | 303 | 307 | 308);
        self.header("location").filter(|_| redirect)
    }

    /// Reads the next bytes of the body.
    pub(super) fn read(&mut self, buffer: &mut [u8], object: &str) -> Result<usize, RegistryError> {
        loop {
            match self.body.read(buffer) {
                Ok(read) => return Ok(read),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    return Err(failure(error.into(), &self.url, object, self.silence));
                }
            }
        }
    }

    /// Reads a whole document of at most `limit` bytes.
    ///
    /// # Errors
    /// [`RegistryError::TooLong`] at the first byte over the limit; [`RegistryError::Stalled`]
    /// when the document trickles in for more than ten times the limit on silence.
    pub(super) fn document(mut self, limit: u64, object: &str) -> Result<Vec<u8>, RegistryError> {
        let patience = self.silence.saturating_mul(DOCUMENT_PATIENCE);
        let started = Instant::now();
        let mut document = Vec::new();
        let mut buffer = vec![0; 32 << 10];
        loop {
            let read = self.read(&mut buffer, object)?;
            if read == 0 {
                return Ok(document);
            }
            document.extend_from_slice(buffer.get(..read).unwrap_or_default());
            if document.len() as u64 > limit {
                return Err(RegistryError::TooLong {
                    object: object.to_owned(),
                    limit,
                });
            }
            if started.elapsed() > patience {
                return Err(RegistryError::Stalled {
                    object: object.to_owned(),
                    after: patience,
                });
            }
        }
    }

    /// Reads what an error says: at most 16 KiB that arrive without failure or delay.
    pub(super) fn excerpt(mut self) -> Vec<u8> {
        let started = Instant::now();
        let mut excerpt = Vec::new();
        let mut buffer = [0; 4096];
        while excerpt.len() < MAX_EXCERPT_BYTES && started.elapsed() < self.silence {
            match self.read(&mut buffer, "") {
                Ok(0) | Err(_) => break,
                Ok(read) => excerpt.extend_from_slice(buffer.get(..read).unwrap_or_default()),
            }
        }
        excerpt
    }

    /// Drops the body, keeping the connection where that is cheap.
    pub(super) fn discard(self) {
        let announced = self
            .header("content-length")
            .and_then(|length| length.parse().ok());
        if announced.is_some_and(|length: usize| length < MAX_EXCERPT_BYTES) {
            drop(self.excerpt());
        }
    }
}

/// Returns host and port for messages; the rest of a URL may hold secrets.
pub(super) fn host_of(url: &Url) -> String {
    match (url.host_str(), url.port()) {
        (Some(host), Some(port)) => format!("{host}:{port}"),
        (host, _) => host.unwrap_or_default().to_owned(),
    }
}

/// Gives a failure of the library its name.
fn failure(error: ureq::Error, url: &Url, object: &str, silence: Duration) -> RegistryError {
    use io::ErrorKind as Kind;
    let host = host_of(url);
    let object = object.to_owned();
    match error {
        ureq::Error::Timeout(ureq::Timeout::Connect | ureq::Timeout::Resolve) => {
            RegistryError::Connect {
                host,
                source: io::Error::from(Kind::TimedOut).into(),
            }
        }
        ureq::Error::Timeout(_) => RegistryError::Stalled {
            object,
            after: silence,
        },
        ureq::Error::HostNotFound
        | ureq::Error::ConnectionFailed
        | ureq::Error::ConnectProxyFailed(_) => RegistryError::Connect {
            host,
            source: Box::new(error),
        },
        ureq::Error::Rustls(source) => RegistryError::Tls {
            host,
            source: source.into(),
        },
        ureq::Error::Tls(_) | ureq::Error::TlsRequired | ureq::Error::Pem(_) => {
            RegistryError::Tls {
                host,
                source: Box::new(error),
            }
        }
        ureq::Error::Io(source) if source.get_ref().is_some_and(|e| e.is::<rustls::Error>()) => {
            RegistryError::Tls {
                host,
                source: source.into(),
            }
        }
        ureq::Error::Io(source) => match source.kind() {
            Kind::TimedOut | Kind::WouldBlock => RegistryError::Stalled {
                object,
                after: silence,
            },
            Kind::ConnectionReset
            | Kind::ConnectionAborted
            | Kind::BrokenPipe
            | Kind::NotConnected
            | Kind::UnexpectedEof
            | Kind::InvalidData => RegistryError::Broken { object, source },
            // Refused, unreachable, and names that do not resolve, which have no kind.
            _ => RegistryError::Connect {
                host,
                source: source.into(),
            },
        },
        other => RegistryError::Malformed {
            object,
            reason: other.to_string(),
        },
    }
}
