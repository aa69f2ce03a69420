//! Reads certificates for a registry out of containers-certs.d(5).
//!
//! `*.crt` are CAs trusted besides the system's, `NAME.cert` with `NAME.key` is the client's pair.
//! A file that cannot be used is an error, never skipped: a CA that was silently dropped shows
//! later as a riddle. The files are the administrator's; each is read under a cap of 1 MiB.

use std::fs::{self, File};
use std::io::{ErrorKind, Read as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use ureq::tls::{Certificate, ClientCert, PrivateKey};

use super::error::RegistryError;

/// Most bytes of a certificate or key file.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// What the administrator set up for one host.
#[derive(Default)]
pub(super) struct HostCerts {
    /// Additional CAs.
    pub(super) roots: Vec<CertificateDer<'static>>,
    /// Certificate chain and key to show to the host.
    pub(super) client: Option<ClientCert>,
}

/// Loads the certificates for `host`: from `cert_dir` itself where given, else from the first of
/// `~/.config/containers/certs.d`, `/etc/containers/certs.d` and `/etc/docker/certs.d` that has a
/// directory called `host`.
pub(super) fn load(cert_dir: Option<&Path>, host: &str) -> Result<HostCerts, RegistryError> {
    if let Some(directory) = cert_dir {
        return load_directory(directory);
    }
    let home = std::env::home_dir().map(|home| home.join(".config/containers/certs.d"));
    let places = [
        PathBuf::from("/etc/containers/certs.d"),
        PathBuf::from("/etc/docker/certs.d"),
    ];
    for place in home.into_iter().chain(places) {
        // The reference's grammar keeps slashes and dot-dot out of `host`.
        let directory = place.join(host);
        match fs::metadata(&directory) {
            Ok(_) => return load_directory(&directory),
            Err(error)
                if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
            Err(error) => return Err(refuse(&directory, error)),
        }
    }
    Ok(HostCerts::default())
}

/// Loads the system's CAs.
///
/// # Errors
/// When `SSL_CERT_FILE` or `SSL_CERT_DIR` name something unusable. A system without CAs is none:
/// certs.d may have them all.
pub(super) fn system_roots() -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let loaded = rustls_native_certs::load_native_certs();
    for variable in ["SSL_CERT_FILE", "SSL_CERT_DIR"] {
        if let (Some(path), Some(error)) = (std::env::var_os(variable), loaded.errors.first()) {
            return Err(refuse(Path::new(&path), error));
        }
    }
    Ok(loaded.certs)
}

fn load_directory(directory: &Path) -> Result<HostCerts, RegistryError> {
    let mut paths = fs::read_dir(directory)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<Result<Vec<_>, _>>()
        })
        .map_err(|error| refuse(directory, error))?;
    paths.sort();
    let mut certs = HostCerts::default();
    for path in &paths {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("crt") => certs.roots.extend(load_roots(path)?),
            Some("cert") => {
                if certs.client.is_some() {
                    return Err(refuse(
                        path,
                        "a second client certificate; one is supported",
                    ));
                }
                certs.client = Some(load_client(path)?);
            }
            Some("key") if !paths.contains(&path.with_extension("cert")) => {
                return Err(refuse(path, "a key without its .cert"));
            }
            _ => {}
        }
    }
    Ok(certs)
}

fn load_roots(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let roots = load_certificates(path)?;
    let mut store = RootCertStore::empty();
    for root in &roots {
        store
            .add(root.clone())
            .map_err(|error| refuse(path, error))?;
    }
    Ok(roots)
}

fn load_client(path: &Path) -> Result<ClientCert, RegistryError> {
    let chain = load_certificates(path)?;
    let key_path = path.with_extension("key");
    let pem = read(&key_path)?;
    let key = PrivateKeyDer::from_pem_slice(&pem).map_err(|error| refuse(&key_path, error))?;
    // The HTTP library assumes a pair that fits: find out here whether it does.
    ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .and_then(|builder| {
            builder
                .with_root_certificates(RootCertStore::empty())
                .with_client_auth_cert(chain.clone(), key)
        })
        .map_err(|error| refuse(&key_path, error))?;
    let key = PrivateKey::from_pem(&pem).map_err(|error| refuse(&key_path, error))?;
    let chain: Vec<_> = chain
        .iter()
        .map(|c| Certificate::from_der(c).to_owned())
        .collect();
    Ok(ClientCert::new_with_certs(&chain, key))
}

fn load_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, RegistryError> {
    let certificates = CertificateDer::pem_slice_iter(&read(path)?)
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| refuse(path, error))?;
    if certificates.is_empty() {
        return Err(refuse(path, "no PEM certificate in it"));
    }
    Ok(certificates)
}

fn read(path: &Path) -> Result<Vec<u8>, RegistryError> {
    let mut bytes = Vec::new();
    File::open(path)
        .and_then(|file| file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes))
        .map_err(|error| refuse(path, error))?;
    if bytes.len() as u64 > MAX_FILE_BYTES {
        return Err(refuse(path, format!("longer than {MAX_FILE_BYTES} bytes")));
    }
    Ok(bytes)
}

/// Returns the cryptography of every connection.
pub(super) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

fn refuse(path: &Path, reason: impl ToString) -> RegistryError {
    RegistryError::Certificates {
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GARBAGE: &str = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";

    #[test]
    fn unusable_files_are_errors() {
        for (name, content, expected) in [
            ("ca.crt", "", "no PEM certificate"),
            ("ca.crt", "hello", "no PEM certificate"),
            ("ca.crt", GARBAGE, "ca.crt"),
            ("me.key", "", "without its .cert"),
            ("me.cert", GARBAGE, "me.key"),
        ] {
            let directory = tempfile::tempdir().unwrap();
            fs::write(directory.path().join(name), content).unwrap();
            let error = load_directory(directory.path()).err().expect(name);
            assert!(
                error.to_string().contains(expected),
                "{name} {content:?}: {error}"
            );
        }
    }

    #[test]
    fn other_files_do_not_matter_and_a_missing_directory_does() {
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("README"), "x").unwrap();
        assert!(load_directory(directory.path()).unwrap().roots.is_empty());
        assert!(load(Some(&directory.path().join("absent")), "h").is_err());
        assert!(load(None, "host.invalid:5000").unwrap().client.is_none());
    }
}
