//! The registry client as the tests with a misbehaving server set it up.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundle::registry::{Client, ClientOptions, Reference};
use bundle_format::{Descriptor, Digest, media_type};
use serde_json::json;
use tempfile::TempDir;

use super::fake::{FakeServer, Reply, Request};

/// Waits are short here, so that tests are quick; silence is not, for machines may be busy.
pub fn options(auth: &Path) -> ClientOptions {
    ClientOptions {
        authfile: Some(auth.to_owned()),
        tls_verify: false,
        attempts: 3,
        backoff: Duration::from_millis(1),
        silence: Duration::from_secs(10),
        ..ClientOptions::default()
    }
}

/// A client without credentials.
pub fn anonymous() -> Client {
    // An auth.json may be any readable file; this one has nothing in it.
    Client::new(options(Path::new("/dev/null"))).unwrap()
}

/// A client that knows `ada:secret` for one host.
pub fn known(host: &str) -> (TempDir, Client) {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("auth.json");
    let auths = json!({"auths": {host: {"auth": STANDARD.encode("ada:secret")}}});
    fs::write(&file, auths.to_string()).unwrap();
    let client = Client::new(options(&file)).unwrap();
    (directory, client)
}

/// Names an image of a server.
pub fn repository(server: &FakeServer) -> Reference {
    format!("docker://{}/team/os:v1", server.host())
        .parse()
        .unwrap()
}

/// Describes a layer.
pub fn descriptor(bytes: &[u8]) -> Descriptor {
    Descriptor {
        media_type: media_type::LAYER_TAR.to_owned(),
        digest: Digest::of(bytes),
        size: bytes.len() as u64,
        artifact_type: None,
        annotations: std::collections::BTreeMap::new(),
        platform: None,
    }
}

/// 400,000 bytes, no two ranges alike.
pub fn content() -> Vec<u8> {
    (0..100_000_u32)
        .flat_map(|number| number.to_be_bytes())
        .collect()
}

/// The smallest manifest.
pub fn manifest() -> Reply {
    Reply::new(200)
        .header("Content-Type", media_type::OCI_MANIFEST)
        .body("{}")
}

/// Serves the range that was asked for.
pub fn partial(request: &Request, body: &[u8]) -> Reply {
    let start = request.start();
    if start == 0 {
        return Reply::new(200).body(body);
    }
    let range = format!("bytes {start}-{}/{}", body.len() - 1, body.len());
    Reply::new(206)
        .header("Content-Range", range)
        .body(&body[start..])
}
