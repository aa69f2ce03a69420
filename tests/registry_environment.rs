//! What the registry client takes from its environment: proxies, files with credentials,
//! credential helpers, certificates.
//!
//! The environment belongs to the process, so each case pulls in a child of its own: this very
//! program, told to run only the test `child`.

#![cfg(feature = "export")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundle::registry::{Client, ClientOptions, Reference};
use serde_json::{Value, json};
use tempfile::TempDir;

use common::client::{manifest, repository};
use common::fake::{FakeServer, Reply};
use common::registry::{Certificates, Layout, Registry};

/// Names the image that the child pulls.
const PULL: &str = "BUNDLE_TEST_PULL";
/// Set when the child verifies TLS.
const VERIFY: &str = "BUNDLE_TEST_VERIFY";

/// Does nothing by itself: it is the child of the tests below.
#[test]
fn child() {
    let Ok(reference) = std::env::var(PULL) else {
        return;
    };
    let tls_verify = std::env::var_os(VERIFY).is_some();
    let client = Client::new(ClientOptions {
        tls_verify,
        ..ClientOptions::default()
    })
    .unwrap();
    if let Err(error) = client.manifest(&reference.parse().unwrap()) {
        panic!("{error}");
    }
}

/// Prepares a child with an environment of its own.
fn pull(reference: &Reference, home: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command
        .args(["--exact", "child", "--nocapture"])
        .env_clear()
        .env("HOME", home)
        .env(PULL, reference.to_string());
    command
}

/// Runs a child and returns what it complained about, if anything.
fn complaint(command: &mut Command) -> Option<String> {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    (!output.status.success()).then_some(text)
}

/// A registry that wants `ada:secret`.
fn guarded() -> FakeServer {
    let expected = format!("Basic {}", STANDARD.encode("ada:secret"));
    FakeServer::start(move |request, _| {
        if request.header("authorization") == Some(&expected) {
            return manifest();
        }
        Reply::new(401).header("WWW-Authenticate", r#"Basic realm="x""#)
    })
}

fn write(path: &Path, document: &Value) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, document.to_string()).unwrap();
}

#[test]
fn proxies_are_used_unless_exempt() {
    let proxy = FakeServer::start(|_, _| manifest());
    let home = TempDir::new().unwrap();
    let reference = "registry.invalid:5000/x:v1".parse().unwrap();
    for (exempt, tunnelled) in [("", true), ("other.invalid", true), (".invalid", false)] {
        let before = proxy.requests().len();
        let complaint = complaint(
            pull(&reference, home.path())
                .env("HTTP_PROXY", format!("http://{}", proxy.host()))
                .env("NO_PROXY", exempt),
        );
        assert_eq!(complaint.is_none(), tunnelled, "{exempt}: {complaint:?}");
        let requests = proxy.requests().split_off(before);
        let connects: Vec<_> = requests.iter().filter(|r| r.method == "CONNECT").collect();
        assert_eq!(connects.is_empty(), !tunnelled, "{requests:?}");
        assert!(
            connects.iter().all(|r| r.target == "registry.invalid:5000"),
            "{requests:?}"
        );
    }
    let complaint = complaint(pull(&reference, home.path()).env("http_proxy", "http://a b"));
    assert!(
        complaint
            .unwrap()
            .contains("environment variable http_proxy")
    );
}

#[test]
fn credentials_are_found_where_podman_finds_them() {
    let server = guarded();
    let reference = repository(&server);
    let entry = json!({"auths": {server.host(): {"auth": STANDARD.encode("ada:secret")}}});
    for (file, variable, value) in [
        ("named.json", "REGISTRY_AUTH_FILE", "named.json"),
        ("run/containers/auth.json", "XDG_RUNTIME_DIR", "run"),
        (".config/containers/auth.json", "IRRELEVANT", ""),
        (".docker/config.json", "IRRELEVANT", ""),
        ("docker/config.json", "DOCKER_CONFIG", "docker"),
    ] {
        let home = TempDir::new().unwrap();
        let mut command = pull(&reference, home.path());
        command.env(variable, home.path().join(value));
        let before = complaint(&mut command).unwrap();
        let path = home.path().join(file);
        // A named file must exist; of the others the message lists those that were tried.
        assert!(
            before.contains(&path.display().to_string()),
            "{file}: {before}"
        );
        write(&path, &entry);
        assert_eq!(complaint(&mut command), None, "{file}");
    }
}

#[test]
fn credential_helpers_are_asked() {
    let server = guarded();
    let reference = repository(&server);
    let good = format!(
        r#"[ "$1" = get ] && read -r host || [ "$host" = {} ] || exit 1
           echo '{{"ServerURL":"x","Username":"ada","Secret":"secret"}}'"#,
        server.host()
    );
    let none = "echo credentials not found in native keychain; exit 1";
    for (script, key, expected) in [
        (good.as_str(), "credHelpers", None),
        (&good, "credsStore", None),
        (none, "credHelpers", Some("no credentials found in")),
        (
            "echo locked; exit 1",
            "credHelpers",
            Some("docker-credential-test: failed: locked"),
        ),
        ("echo hello", "credsStore", Some("answered no JSON")),
    ] {
        let home = TempDir::new().unwrap();
        let program = home.path().join("docker-credential-test");
        fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        let configuration = match key {
            "credsStore" => json!({key: "test"}),
            _ => json!({key: {server.host(): "test"}}),
        };
        write(&home.path().join(".docker/config.json"), &configuration);
        let complaint = complaint(pull(&reference, home.path()).env("PATH", home.path()));
        match (&complaint, expected) {
            (None, None) => {}
            (Some(text), Some(expected)) => assert!(text.contains(expected), "{script}: {text}"),
            _ => panic!("{script}: {complaint:?}"),
        }
    }
}

#[test]
fn certificates_are_found_by_host_and_port() {
    let certificates = Certificates::new();
    let tls = json!({
        "certificate": certificates.path("server.pem"),
        "key": certificates.path("server.key.pem"),
    });
    let registry = Registry::start(&json!({"tls": tls}), &json!({}));
    let mut layout = Layout::new();
    layout.image("v1", &[b"layer"]);
    let name = format!("{}/os:v1", registry.host());
    layout.push("v1", &name, &["--dest-tls-verify=false"]);
    let reference = name.parse().unwrap();

    let home = TempDir::new().unwrap();
    let directory = home
        .path()
        .join(".config/containers/certs.d")
        .join(registry.host());
    let pull = |variables: &[(&str, &OsStr)]| {
        complaint(
            pull(&reference, home.path())
                .env(VERIFY, "1")
                .envs(variables.iter().copied()),
        )
    };
    assert!(pull(&[]).unwrap().contains("cannot set up TLS"));
    assert_eq!(
        pull(&[("SSL_CERT_FILE", certificates.path("ca.pem").as_os_str())]),
        None
    );
    let wrong = pull(&[("SSL_CERT_FILE", OsStr::new("/absent/ca.pem"))]);
    assert!(wrong.unwrap().contains("/absent/ca.pem"));
    fs::create_dir_all(&directory).unwrap();
    fs::copy(certificates.path("ca.pem"), directory.join("ca.crt")).unwrap();
    assert_eq!(pull(&[]), None);
    fs::write(directory.join("second.crt"), "damaged").unwrap();
    assert!(pull(&[]).unwrap().contains("second.crt"));
}
