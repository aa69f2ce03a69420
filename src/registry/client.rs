//! The calls the rest of the program makes.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bundle_format::{Descriptor, Digest};
use rustls_pki_types::CertificateDer;

use super::auth::Authorizer;
use super::blob::Transfer;
use super::certs;
use super::credentials::Places;
use super::endpoint::{Endpoint, endpoints};
use super::error::RegistryError;
use super::manifest::{self, Manifest};
use super::reference::Reference;
use super::referrers::{Referrer, Search};
use super::retry::Retry;
use super::session::Session;
use super::transport::Transport;

/// How to reach registries.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// File with credentials; `None` looks in the usual places.
    pub authfile: Option<PathBuf>,
    /// Directory with the certificates of the registry; `None` looks in `certs.d`.
    pub cert_dir: Option<PathBuf>,
    /// Verifies certificates. Without, clear-text http serves where https does not.
    pub tls_verify: bool,
    /// Tries in all for a request that fails for a passing reason; at least one is made.
    pub attempts: u32,
    /// First wait between tries; it doubles, up to 30 s.
    pub backoff: Duration,
    /// Longest silence of a registry before it counts as stalled.
    pub silence: Duration,
}

impl Default for ClientOptions {
    /// Verifies, tries five times with waits from 0.5 s, and bears 30 s of silence.
    fn default() -> Self {
        Self {
            authfile: None,
            cert_dir: None,
            tls_verify: true,
            attempts: 5,
            backoff: Duration::from_millis(500),
            silence: Duration::from_secs(30),
        }
    }
}

/// Pulls from registries; threads share one by reference, and with it connections and tokens.
pub struct Client {
    options: ClientOptions,
    retry: Retry,
    places: Places,
    system_roots: OnceLock<Vec<CertificateDer<'static>>>,
    sessions: Mutex<HashMap<Endpoint, Arc<Session>>>,
}

impl Client {
    /// Prepares a client; nothing is read or sent before the first call.
    ///
    /// # Errors
    /// None today; files that cannot be used show when a registry needs them.
    pub fn new(options: ClientOptions) -> Result<Self, RegistryError> {
        Ok(Self {
            retry: Retry {
                attempts: options.attempts,
                backoff: options.backoff,
            },
            places: Places::from_environment(options.authfile.as_deref()),
            options,
            system_roots: OnceLock::new(),
            sessions: Mutex::default(),
        })
    }

    /// Fetches the manifest or index that `reference` names, of at most 4 MiB.
    ///
    /// The bytes match the digest asked for; asked by tag, they match what the registry says of
    /// them (`Docker-Content-Digest`). A reference without tag and digest means `latest`.
    ///
    /// # Errors
    /// Any [`RegistryError`]; [`RegistryError::NotFound`] when there is no such manifest.
    pub fn manifest(&self, reference: &Reference) -> Result<Manifest, RegistryError> {
        self.at_each(reference, |session, endpoint| {
            manifest::pull(session, &self.retry, endpoint, reference)
        })
    }

    /// Streams the bytes of a blob from `start` to its end into `sink`, in order.
    ///
    /// `reference` names the repository. Cut connections are resumed at the byte reached. The
    /// sink gets exactly `descriptor.size - start` bytes in success and never more; it gets them
    /// unverified, for hashing them is the caller's part. An empty rest sends no request.
    ///
    /// # Errors
    /// Any [`RegistryError`]; [`RegistryError::Sink`] carries an error of `sink`.
    pub fn blob(
        &self,
        reference: &Reference,
        descriptor: &Descriptor,
        start: u64,
        sink: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), RegistryError> {
        let object = format!("blob {} of {}", descriptor.digest, reference.name());
        let mut transfer = Transfer::new(object, descriptor, start, sink)?;
        self.at_each(reference, |session, endpoint| {
            transfer.pull(session, &self.retry, endpoint)
        })
    }

    /// Lists everything that refers to the manifest `subject` in a repository.
    ///
    /// That is what the referrers interface lists, the fallback tag `sha256-HEX`, and what
    /// cosign's tags `sha256-HEX.sig`, `.att` and `.sbom` name. At most 10,000 entries in 8 MiB.
    ///
    /// # Errors
    /// Any [`RegistryError`]; nothing referring to `subject` is an empty list.
    pub fn referrers(
        &self,
        repository: &Reference,
        subject: Digest,
    ) -> Result<Vec<Referrer>, RegistryError> {
        self.at_each(repository, |session, endpoint| {
            Search {
                session,
                retry: &self.retry,
                endpoint,
                repository,
                subject,
            }
            .run()
        })
    }

    /// Calls `visit` for the endpoints of a reference until one succeeds.
    fn at_each<T>(
        &self,
        reference: &Reference,
        mut visit: impl FnMut(&Session, &Endpoint) -> Result<T, RegistryError>,
    ) -> Result<T, RegistryError> {
        let mut last = RegistryError::NotFound {
            object: reference.to_string(),
        };
        for endpoint in endpoints(reference) {
            let result = self
                .session(&endpoint)
                .and_then(|session| visit(&session, &endpoint));
            match result {
                Ok(value) => return Ok(value),
                Err(error @ RegistryError::Sink { .. }) => return Err(error),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    fn session(&self, endpoint: &Endpoint) -> Result<Arc<Session>, RegistryError> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Endpoint {
            repository: String::new(),
            ..endpoint.clone()
        };
        if let Some(session) = sessions.get(&key) {
            return Ok(Arc::clone(session));
        }
        let verify = self.options.tls_verify;
        let certs = certs::load(self.options.cert_dir.as_deref(), &endpoint.registry)?;
        let roots = if verify { self.system_roots()? } else { &[] };
        let transport = Transport::new(&certs, roots, verify, self.options.silence)?;
        let authorizer = Authorizer::new(&endpoint.registry, self.places.clone());
        let session = Arc::new(Session::new(endpoint, transport, authorizer, verify));
        sessions.insert(key, Arc::clone(&session));
        Ok(session)
    }

    fn system_roots(&self) -> Result<&[CertificateDer<'static>], RegistryError> {
        if let Some(roots) = self.system_roots.get() {
            return Ok(roots);
        }
        let roots = certs::system_roots()?;
        Ok(self.system_roots.get_or_init(|| roots))
    }
}

impl std::fmt::Debug for Client {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_can_share_a_client() {
        fn is_shared<T: Send + Sync>() {}
        is_shared::<Client>();
    }
}
