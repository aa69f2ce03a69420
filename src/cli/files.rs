//! Keys and trust roots as files: reading with a cap, writing without overwriting.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use bundle::Error;
use bundle_format::Limits;
use bundle_keys::{KeyError, PrivateKey, PublicKey, TrustRoot};

use super::output::Output;

/// Reads a trust root.
pub(crate) fn trust_root(path: &Path) -> Result<TrustRoot, Error> {
    TrustRoot::parse(&read(path)?, &Limits::DEFAULT).map_err(|source| Error::Key {
        path: path.into(),
        source,
    })
}

/// Reads a private key; says so where others can read it too.
pub(crate) fn private_key(path: &Path, output: &Output) -> Result<PrivateKey, Error> {
    let text = zeroize::Zeroizing::new(text(path)?);
    let mode = fs::metadata(path).map_or(0, |meta| meta.permissions().mode());
    if mode & 0o077 != 0 {
        output.say(&format!(
            "warning: other users can read the private key {}",
            path.display()
        ));
    }
    PrivateKey::from_pem(&text).map_err(|source| Error::Key {
        path: path.into(),
        source,
    })
}

/// Reads a public key, or the public half of a private one.
pub(crate) fn public_key(path: &Path) -> Result<PublicKey, Error> {
    let text = zeroize::Zeroizing::new(text(path)?);
    let key = if text.contains("PRIVATE KEY") {
        PrivateKey::from_pem(&text).and_then(|key| key.public())
    } else {
        PublicKey::from_pem(&text)
    };
    key.map_err(|source| Error::Key {
        path: path.into(),
        source,
    })
}

/// Writes a new file with the given mode; durable, never over another.
pub(crate) fn create(path: &Path, bytes: &[u8], mode: u32) -> Result<(), Error> {
    let file = File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    let mut file = file.map_err(|e| match e.kind() {
        std::io::ErrorKind::AlreadyExists => Error::Exists { path: path.into() },
        _ => Error::file("creating", path, e),
    })?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(|e| Error::file("writing", path, e))
}

/// Puts other content in the place of a file, in one step: readers see the old or the new.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let fail = |e| Error::file("replacing", path, e);
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let mode = fs::metadata(path).map_err(fail)?.permissions();
    let mut file = tempfile::NamedTempFile::new_in(directory).map_err(fail)?;
    file.write_all(bytes)
        .and_then(|()| file.as_file().set_permissions(mode))
        .and_then(|()| file.as_file().sync_all())
        .map_err(fail)?;
    file.persist(path).map_err(|e| fail(e.error))?;
    File::open(directory)
        .and_then(|directory| directory.sync_all())
        .map_err(fail)
}

/// Reads a document of trust or a key, at most a byte beyond the cap.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let fail = |e| Error::file("reading", path, e);
    let mut bytes = Vec::new();
    let cap = Limits::DEFAULT.trust_root_bytes;
    File::open(path)
        .and_then(|f| f.take(cap + 1).read_to_end(&mut bytes))
        .map_err(fail)?;
    Ok(bytes)
}

fn text(path: &Path) -> Result<String, Error> {
    String::from_utf8(read(path)?).map_err(|e| Error::Key {
        path: path.into(),
        source: KeyError::Malformed {
            expected: "a PEM file",
            cause: e.utf8_error().to_string(),
        },
    })
}
