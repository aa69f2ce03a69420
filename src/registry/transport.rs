//! One HTTP exchange: connections, TLS, time limits, redirects.
//!
//! Threats: a server that is silent, sends huge headers, redirects for ever, to other schemes, or
//! to a host that fishes for credentials. Defences: silence, headers and redirects are limited;
//! redirects are followed here, not by the library, `Authorization` is dropped for good at the
//! first change of scheme, host or port, and clear text is refused while verification is on.

use std::time::Duration;

use ureq::Agent;
use ureq::http::{Request, header};
use ureq::tls::{Certificate, RootCerts, TlsConfig, TlsProvider};
use url::Url;

use rustls_pki_types::CertificateDer;

use super::answer::{Answer, host_of};
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
            url = self.permit(url, get.object)?;
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
            let answer = Answer::new(response, &url, get.object, self.silence)?;
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
        let url = self.permit(url.clone(), object)?;
        let request = Request::post(url.as_str())
            .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form)
            .map_err(|error| RegistryError::malformed(object, error))?;
        Answer::new(self.agent(&url).run(request), &url, object, self.silence)
    }

    /// Refuses clear text while verification is on, and drops user and password of a URL: the
    /// library would log in with them, and they are not ours.
    fn permit(&self, mut url: Url, object: &str) -> Result<Url, RegistryError> {
        match url.scheme() {
            "http" if self.verify => {
                return Err(RegistryError::ClearText {
                    object: object.to_owned(),
                    host: host_of(&url),
                });
            }
            "https" | "http" => {}
            _ => {
                let reason = "a URL that is neither https nor http";
                return Err(RegistryError::malformed(object, reason));
            }
        }
        // Both only fail for URLs that cannot have them.
        let _ = url.set_username("");
        let _ = url.set_password(None);
        Ok(url)
    }

    fn agent(&self, url: &Url) -> &Agent {
        let [http, https] = &self.proxied;
        let proxied = if url.scheme() == "https" { https } else { http };
        match (self.proxies.for_url(url), proxied) {
            (Some(_), Some(agent)) => agent,
            _ => &self.direct,
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
