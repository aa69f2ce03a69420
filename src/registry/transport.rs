//! One HTTP exchange: connections, TLS, time limits, redirects.
//!
//! Threats: a server that is silent, endless, sends huge headers, redirects for ever, to other
//! schemes, or to a host that fishes for credentials. Defences: silence, headers and redirects
//! are limited; documents are read under a cap and a total time; redirects are followed here, not
//! by the library, `Authorization` is dropped for good at the first change of scheme, host or
//! port, and clear text is refused while verification is on.

use std::io::{self, Read as _};
use std::time::{Duration, Instant};

use ureq::Agent;
use ureq::http::{HeaderMap, Request, StatusCode, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use url::Url;

use rustls_pki_types::CertificateDer;

use super::certs::{self, HostCerts};
use super::error::RegistryError;
use super::proxy::Proxies;

/// Most redirects followed for one request.
const MAX_REDIRECTS: u32 = 10;
/// Most bytes of a response's headers.
const MAX_HEADER_BYTES: usize = 64 << 10;
/// Read buffer of a connection: large, for blobs are.
const INPUT_BUFFER_BYTES: usize = 256 << 10;
/// Write buffer of a connection; bounds the size of one header, such as a token.
const OUTPUT_BUFFER_BYTES: usize = 64 << 10;
/// Most bytes read from a body nobody wants, to keep its connection.
const MAX_DISCARDED_BYTES: u64 = 16 << 10;
/// A document may take this many times the limit on silence.
const DOCUMENT_PATIENCE: u32 = 10;
/// Connections kept open: as many as anyone pulls blobs in parallel.
const IDLE_CONNECTIONS: usize = 16;
/// How we introduce ourselves.
const USER_AGENT: &str = concat!("bundle/", env!("CARGO_PKG_VERSION"));

/// The connections to one registry, its token server, and where they redirect to.
pub(super) struct Transport {
    direct: Agent,
    /// Agents for http and https, where a proxy is set; a pool belongs to one proxy.
    proxied: [Option<Agent>; 2],
    proxies: Proxies,
    verify: bool,
    silence: Duration,
}

/// A GET request.
#[derive(Clone, Copy)]
pub(super) struct Get<'a> {
    pub(super) url: &'a Url,
    /// Media types for `Accept`; empty for any.
    pub(super) accept: &'a str,
    /// First byte wanted; 0 sends no `Range`.
    pub(super) start: u64,
    /// Value of `Authorization`.
    pub(super) authorization: Option<&'a str>,
    /// What is asked for, in messages.
    pub(super) object: &'a str,
}

/// A response whose body is still to be read.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    /// Where it came from, after redirects.
    pub(super) url: Url,
    body: ureq::BodyReader<'static>,
    silence: Duration,
}

impl Transport {
    /// Prepares connections with the certificates of one host.
    pub(super) fn new(
        certs: &HostCerts,
        system_roots: &[CertificateDer<'static>],
        verify: bool,
        silence: Duration,
    ) -> Result<Self, RegistryError> {
        let proxies = Proxies::from_environment()?;
        let tls = tls_config(certs, system_roots, verify);
        let agent = |proxy: Option<&ureq::Proxy>| {
            Agent::config_builder()
                .tls_config(tls.clone())
                .proxy(proxy.cloned())
                .http_status_as_error(false)
                .max_redirects(0)
                .max_redirects_will_error(false)
                .user_agent(USER_AGENT)
                // A blob is hashed as it is stored: nothing may be unpacked on the way.
                .accept_encoding("identity")
                .max_response_header_size(MAX_HEADER_BYTES)
                .input_buffer_size(INPUT_BUFFER_BYTES)
                .output_buffer_size(OUTPUT_BUFFER_BYTES)
                .max_idle_connections(IDLE_CONNECTIONS)
                .max_idle_connections_per_host(IDLE_CONNECTIONS)
                .timeout_connect(Some(silence))
                .timeout_recv_response(Some(silence))
                .timeout_per_read(Some(silence))
                .timeout_per_write(Some(silence))
                .build()
                .new_agent()
        };
        let proxied = [proxies.http(), proxies.https()].map(|p| p.map(|proxy| agent(Some(proxy))));
        Ok(Self {
            direct: agent(None),
            proxied,
            proxies,
            verify,
            silence,
        })
    }

    /// Sends a GET and follows its redirects.
    pub(super) fn get(&self, get: Get<'_>) -> Result<Answer, RegistryError> {
        let mut url = get.url.clone();
        let mut authorization = get.authorization;
        for _ in 0..=MAX_REDIRECTS {
            self.permit(&url, get.object)?;
            let mut request = Request::get(url.as_str());
            if !get.accept.is_empty() {
                request = request.header(header::ACCEPT, get.accept);
            }
            if get.start > 0 {
                request = request.header(header::RANGE, format!("bytes={}-", get.start));
            }
            if let Some(authorization) = authorization {
                request = request.header(header::AUTHORIZATION, authorization);
            }
            let request = request
                .body(())
                .map_err(|e| RegistryError::malformed(get.object, e))?;
            let response = self.agent(&url).run(request);
            let answer = self.answer(response, &url, get.object)?;
            let Some(location) = answer.location() else {
                return Ok(answer);
            };
            let next = url
                .join(location)
                .map_err(|_| RegistryError::malformed(get.object, "redirect to no URL"))?;
            if next.origin() != url.origin() {
                authorization = None;
            }
            answer.discard();
            url = next;
        }
        Err(RegistryError::Redirects {
            object: get.object.to_owned(),
            limit: MAX_REDIRECTS,
        })
    }

    /// Sends a form with POST; a redirect is returned, for a form holds secrets.
    pub(super) fn post(
        &self,
        url: &Url,
        form: &str,
        object: &str,
    ) -> Result<Answer, RegistryError> {
        self.permit(url, object)?;
        let request = Request::post(url.as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form)
            .map_err(|error| RegistryError::malformed(object, error))?;
        self.answer(self.agent(url).run(request), url, object)
    }

    fn permit(&self, url: &Url, object: &str) -> Result<(), RegistryError> {
        match url.scheme() {
            "https" => Ok(()),
            "http" if !self.verify => Ok(()),
            "http" => Err(RegistryError::ClearText {
                object: object.to_owned(),
                host: host_of(url),
            }),
            _ => Err(RegistryError::malformed(
                object,
                "a URL that is neither https nor http",
            )),
        }
    }

    fn agent(&self, url: &Url) -> &Agent {
        let [http, https] = &self.proxied;
        let proxied = if url.scheme() == "https" { https } else { http };
        match (self.proxies.for_url(url), proxied) {
            (Some(_), Some(agent)) => agent,
            _ => &self.direct,
        }
    }

    fn answer(
        &self,
        response: Result<ureq::http::Response<ureq::Body>, ureq::Error>,
        url: &Url,
        object: &str,
    ) -> Result<Answer, RegistryError> {
        let response = response.map_err(|error| failure(error, url, object, self.silence))?;
        let (parts, body) = response.into_parts();
        Ok(Answer {
            status: parts.status,
            headers: parts.headers,
            url: url.clone(),
            body: body.into_reader(),
            silence: self.silence,
        })
    }
}

impl Answer {
    /// Returns a header that is text.
    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    fn location(&self) -> Option<&str> {
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

    /// Reads what an error says, as far as it is short; failures count as silence.
    pub(super) fn excerpt(self) -> Vec<u8> {
        let mut excerpt = Vec::new();
        // What arrived before a failure is as good as nothing.
        let _ = self
            .body
            .take(MAX_DISCARDED_BYTES)
            .read_to_end(&mut excerpt);
        excerpt
    }

    /// Drops the body, keeping the connection where that is cheap.
    pub(super) fn discard(self) {
        let announced = self
            .header("content-length")
            .and_then(|length| length.parse().ok());
        if announced.is_some_and(|length: u64| length < MAX_DISCARDED_BYTES) {
            drop(self.excerpt());
        }
    }
}

fn tls_config(
    certs: &HostCerts,
    system_roots: &[CertificateDer<'static>],
    verify: bool,
) -> TlsConfig {
    let roots: Vec<_> = system_roots
        .iter()
        .chain(&certs.roots)
        .map(|root| Certificate::from_der(root).to_owned())
        .collect();
    TlsConfig::builder()
        .provider(TlsProvider::Rustls)
        .unversioned_rustls_crypto_provider(certs::provider())
        .root_certs(RootCerts::from(roots))
        .client_cert(certs.client.clone())
        .disable_verification(!verify)
        .build()
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
