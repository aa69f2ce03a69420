//! The registry client against Debian's `docker-registry`, filled by skopeo.

#![cfg(feature = "export")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bundle::registry::{Client, ClientOptions, Manifest, Reference, RegistryError};
use bundle_format::{Descriptor, Digest, media_type};
use serde_json::{Value, json};
use tempfile::TempDir;

use common::fake::{FakeServer, Reply, Request};
use common::registry::{Certificates, Layout, Registry};

/// Arguments for pushing without TLS or without verifying it.
const INSECURE: &[&str] = &["--dest-tls-verify=false"];

/// A directory with an auth.json, empty of credentials unless some are given as JSON.
struct Auth(TempDir);

impl Auth {
    fn new(auths: &Value) -> Self {
        let directory = TempDir::new().unwrap();
        fs::write(
            directory.path().join("auth.json"),
            json!({"auths": auths}).to_string(),
        )
        .unwrap();
        Self(directory)
    }

    fn path(&self) -> PathBuf {
        self.0.path().join("auth.json")
    }

    fn client(&self, cert_dir: Option<&Path>, tls_verify: bool) -> Client {
        Client::new(ClientOptions {
            authfile: Some(self.path()),
            cert_dir: cert_dir.map(Path::to_owned),
            tls_verify,
            attempts: 2,
            backoff: Duration::from_millis(1),
            ..ClientOptions::default()
        })
        .unwrap()
    }
}

fn login(username: &str, password: &str) -> Value {
    json!({"auth": STANDARD.encode(format!("{username}:{password}"))})
}

fn reference(text: &str) -> Reference {
    text.parse().unwrap()
}

fn pull(client: &Client, reference: &Reference, descriptor: &Descriptor, start: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    client
        .blob(reference, descriptor, start, &mut |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        })
        .unwrap();
    bytes
}

fn layers(manifest: &Manifest) -> Vec<Descriptor> {
    let document: Value = serde_json::from_slice(&manifest.bytes).unwrap();
    serde_json::from_value(document["layers"].clone()).unwrap()
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        state.to_be_bytes()[0]
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn pulls_manifests_and_blobs_without_tls() {
    let registry = Registry::plain();
    let mut layout = Layout::new();
    let big = noise(3 << 20);
    let image = layout.image("v1", &[b"small layer", &big]);
    let name = format!("{}/team/os", registry.host());
    layout.push("v1", &format!("{name}:v1"), INSECURE);

    let auth = Auth::new(&json!({}));
    let client = auth.client(None, false);
    let tagged = reference(&format!("docker://{name}:v1"));
    let manifest = client.manifest(&tagged).unwrap();
    assert_eq!(manifest.digest, image.digest);
    assert_eq!(manifest.media_type, media_type::OCI_MANIFEST);
    assert_eq!(manifest.descriptor(), image);
    let pinned = tagged.with_digest(image.digest);
    assert_eq!(client.manifest(&pinned).unwrap(), manifest);

    let layers = layers(&manifest);
    assert_eq!(pull(&client, &tagged, &layers[0], 0), b"small layer");
    for start in [0, 1, 1 << 20, big.len() as u64 - 1, big.len() as u64] {
        let rest = &big[usize::try_from(start).unwrap()..];
        assert!(
            pull(&client, &tagged, &layers[1], start) == rest,
            "from {start}"
        );
    }
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| assert!(pull(&client, &tagged, &layers[1], 0) == big));
        }
    });

    let mut missing = layers[0].clone();
    missing.digest = Digest::of(b"nowhere");
    let error = client
        .blob(&tagged, &missing, 0, &mut |_| Ok(()))
        .unwrap_err();
    assert!(matches!(&error, RegistryError::NotFound { object } if object.contains("blob sha256")));
    let error = client
        .manifest(&tagged.with_tag("v2").unwrap())
        .unwrap_err();
    assert!(matches!(&error, RegistryError::NotFound { object } if object.contains("os:v2")));
    assert!(error.hint().is_some());

    let full = || Err(io::Error::from(io::ErrorKind::StorageFull));
    let error = client
        .blob(&tagged, &layers[1], 0, &mut |_| full())
        .unwrap_err();
    assert!(matches!(error, RegistryError::Sink { .. }), "{error}");
    let error = client
        .blob(&tagged, &layers[0], 12, &mut |_| Ok(()))
        .unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::Start {
                start: 12,
                size: 11,
                ..
            }
        ),
        "{error}"
    );

    // With verification on, clear text is never tried.
    let error = auth.client(None, true).manifest(&tagged).unwrap_err();
    assert!(matches!(error, RegistryError::Tls { .. }), "{error}");
    assert!(
        error.hint().unwrap().contains("--tls-verify=false"),
        "{:?}",
        error.hint()
    );
}

#[test]
fn damage_in_the_registry_is_noticed() {
    let registry = Registry::plain();
    let mut layout = Layout::new();
    let image = layout.image("v1", &[b"layer"]);
    let name = format!("{}/os", registry.host());
    layout.push("v1", &format!("{name}:v1"), INSECURE);
    let auth = Auth::new(&json!({}));
    let client = auth.client(None, false);
    let tagged = reference(&format!("{name}:v1"));
    let layer = layers(&client.manifest(&tagged).unwrap()).remove(0);

    // The registry trusts its disk: the digest it states stays the old one.
    let file = registry.blob_file(&image.digest);
    let text = fs::read_to_string(&file)
        .unwrap()
        .replace("\"size\":5", "\"size\":6");
    fs::write(&file, text).unwrap();
    for reference in [tagged.clone(), tagged.with_digest(image.digest)] {
        let error = client.manifest(&reference).unwrap_err();
        assert!(
            matches!(error, RegistryError::WrongDigest { expected, .. } if expected == image.digest),
            "{error}"
        );
    }
    fs::write(registry.blob_file(&layer.digest), "longer layer").unwrap();
    let error = client
        .blob(&tagged, &layer, 0, &mut |_| Ok(()))
        .unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::WrongSize {
                expected: 5,
                found: 12,
                ..
            }
        ),
        "{error}"
    );
}

#[test]
fn basic_authentication_uses_the_namespace() {
    let registry = Registry::with_htpasswd("ada", "se:cret");
    let mut layout = Layout::new();
    layout.image("v1", &[b"layer"]);
    let host = registry.host();
    let name = format!("{host}/team/os");
    layout.push(
        "v1",
        &format!("{name}:v1"),
        &["--dest-tls-verify=false", "--dest-creds=ada:se:cret"],
    );
    let tagged = reference(&format!("{name}:v1"));

    for (auths, found) in [
        (json!({}), None),
        (json!({&host: login("ada", "wrong")}), Some(false)),
        (
            json!({format!("{host}/other"): login("ada", "se:cret")}),
            None,
        ),
        (
            json!({&host: login("ada", "wrong"), format!("{host}/team"): login("ada", "se:cret")}),
            Some(true),
        ),
        (json!({&name: login("ada", "se:cret")}), Some(true)),
    ] {
        let auth = Auth::new(&auths);
        let client = auth.client(None, false);
        match (client.manifest(&tagged), found) {
            (Ok(manifest), Some(true)) => {
                assert_eq!(pull(&client, &tagged, &layers(&manifest)[0], 0), b"layer");
            }
            (Err(error @ RegistryError::Unauthorized { .. }), _) if found != Some(true) => {
                let text = error.to_string();
                assert!(text.contains(&auth.path().display().to_string()), "{text}");
                assert_eq!(
                    text.contains("no credentials found"),
                    found.is_none(),
                    "{text}"
                );
                assert!(!text.contains("wrong") && error.hint().is_some(), "{text}");
            }
            (result, _) => panic!("{auths}: {result:?}"),
        }
    }
    let absent = ClientOptions {
        authfile: Some(PathBuf::from("/absent/auth.json")),
        tls_verify: false,
        ..ClientOptions::default()
    };
    let error = Client::new(absent).unwrap().manifest(&tagged).unwrap_err();
    assert!(matches!(error, RegistryError::Authfile { .. }), "{error}");
}

#[test]
fn tls_trusts_the_ca_of_certs_d() {
    let certificates = Certificates::new();
    let tls = json!({
        "certificate": certificates.path("server.pem"),
        "key": certificates.path("server.key.pem"),
    });
    let registry = Registry::start(&json!({"tls": tls}), &json!({}));
    let mut layout = Layout::new();
    layout.image("v1", &[b"layer"]);
    let name = format!("{}/os", registry.host());
    layout.push("v1", &format!("{name}:v1"), INSECURE);
    let tagged = reference(&format!("{name}:v1"));
    let auth = Auth::new(&json!({}));

    let with_ca = certificates.cert_dir(&[("ca.crt", "ca.pem")]);
    let client = auth.client(Some(with_ca.path()), true);
    let manifest = client.manifest(&tagged).unwrap();
    assert_eq!(pull(&client, &tagged, &layers(&manifest)[0], 0), b"layer");

    let error = auth.client(None, true).manifest(&tagged).unwrap_err();
    assert!(matches!(error, RegistryError::Tls { .. }), "{error}");
    assert!(
        error.hint().unwrap().contains("certs.d"),
        "{:?}",
        error.hint()
    );
    assert_eq!(
        auth.client(None, false).manifest(&tagged).unwrap(),
        manifest
    );

    let bad = certificates.cert_dir(&[("ca.crt", "ca.key.pem")]);
    let error = auth
        .client(Some(bad.path()), true)
        .manifest(&tagged)
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::Certificates { .. }),
        "{error}"
    );
}

#[test]
fn tls_shows_the_client_certificate() {
    let certificates = Certificates::new();
    let tls = json!({
        "certificate": certificates.path("server.pem"),
        "key": certificates.path("server.key.pem"),
        "clientcas": [certificates.path("ca.pem")],
    });
    let registry = Registry::start(&json!({"tls": tls}), &json!({}));
    let files = [
        ("ca.crt", "ca.pem"),
        ("me.cert", "client.pem"),
        ("me.key", "client.key.pem"),
    ];
    let pair = certificates.cert_dir(&files);
    let mut layout = Layout::new();
    layout.image("v1", &[b"layer"]);
    let name = format!("{}/os", registry.host());
    let directory = format!("--dest-cert-dir={}", pair.path().display());
    layout.push("v1", &format!("{name}:v1"), &[&directory]);
    let tagged = reference(&format!("{name}:v1"));
    let auth = Auth::new(&json!({}));

    auth.client(Some(pair.path()), true)
        .manifest(&tagged)
        .unwrap();
    let without = certificates.cert_dir(&files[..1]);
    let error = auth
        .client(Some(without.path()), true)
        .manifest(&tagged)
        .unwrap_err();
    // The server's alert may be lost in the reset that follows it.
    let refused = matches!(
        error,
        RegistryError::Tls { .. } | RegistryError::Broken { .. }
    );
    assert!(refused, "{error:?}");
    let mixed = certificates.cert_dir(&[files[1], ("me.key", "server.key.pem")]);
    let error = auth
        .client(Some(mixed.path()), true)
        .manifest(&tagged)
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::Certificates { .. }),
        "{error:?}"
    );
}

/// A token server for `docker-registry` that grants what is asked to those who know the secret.
fn token_server(certificates: &Arc<Certificates>) -> FakeServer {
    let certificates = Arc::clone(certificates);
    FakeServer::start(move |request: &Request, _| {
        let form = String::from_utf8(request.body.clone()).unwrap();
        let basic = format!("Basic {}", STANDARD.encode("ada:secret"));
        let allowed = request.header("authorization") == Some(basic.as_str())
            || form.contains("grant_type=refresh_token") && form.contains("refresh_token=id3ntity");
        if !allowed {
            return Reply::new(401).body(r#"{"details":"incorrect username or password"}"#);
        }
        let query = request
            .target
            .split_once('?')
            .map_or(form.as_str(), |(_, query)| query);
        let access: Vec<_> = url::form_urlencoded::parse(query.as_bytes())
            .filter(|(key, _)| key == "scope")
            .map(|(_, scope)| {
                let parts: Vec<_> = scope.split(':').collect();
                let actions: Vec<_> = parts[2].split(',').collect();
                json!({"type": parts[0], "name": parts[1], "actions": actions})
            })
            .collect();
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let chain = [STANDARD.encode(certificates.der("server.pem"))];
        let header = json!({"typ": "JWT", "alg": "RS256", "x5c": chain});
        let claims = json!({
            "iss": "test", "sub": "ada", "aud": "registry", "jti": "1", "access": access,
            "iat": now, "nbf": now - 10, "exp": now + 300,
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!("{}.{}", encode(&header), encode(&claims));
        let signature = certificates.sign("server.key.pem", signed.as_bytes());
        let token = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
        Reply::new(200).body(json!({"token": token, "expires_in": 300}).to_string())
    })
}

#[test]
fn bearer_tokens_are_fetched_once_and_shared() {
    let certificates = Arc::new(Certificates::new());
    let server = token_server(&certificates);
    let token = json!({"token": {
        "realm": format!("http://{}/token", server.host()),
        "service": "registry",
        "issuer": "test",
        "rootcertbundle": certificates.path("ca.pem"),
    }});
    let registry = Registry::start(&json!({}), &token);
    let mut layout = Layout::new();
    layout.image("v1", &[b"layer one", b"layer two"]);
    let host = registry.host();
    let name = format!("{host}/team/os");
    layout.push(
        "v1",
        &format!("{name}:v1"),
        &["--dest-tls-verify=false", "--dest-creds=ada:secret"],
    );
    let tagged = reference(&format!("{name}:v1"));

    for (entry, method) in [
        (login("ada", "secret"), "GET"),
        (json!({"identitytoken": "id3ntity"}), "POST"),
    ] {
        let before = server.requests().len();
        let auth = Auth::new(&json!({&host: entry}));
        let client = auth.client(None, false);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| client.manifest(&tagged).unwrap());
            }
        });
        let manifest = client.manifest(&tagged).unwrap();
        assert_eq!(
            pull(&client, &tagged, &layers(&manifest)[1], 0),
            b"layer two"
        );
        let requests = server.requests().split_off(before);
        assert_eq!(requests.len(), 1, "{requests:?}");
        assert_eq!(requests[0].method, method);
    }
    for auths in [json!({}), json!({&host: login("ada", "wrong")})] {
        let error = Auth::new(&auths)
            .client(None, false)
            .manifest(&tagged)
            .unwrap_err();
        assert!(
            matches!(error, RegistryError::Unauthorized { status: 401, .. }),
            "{error}"
        );
        assert!(error.to_string().contains("incorrect username"), "{error}");
    }
}

#[test]
fn a_password_does_not_go_to_a_clear_text_realm() {
    let certificates = Arc::new(Certificates::new());
    let server = token_server(&certificates);
    let tls = json!({
        "certificate": certificates.path("server.pem"),
        "key": certificates.path("server.key.pem"),
    });
    let token = json!({"token": {
        "realm": format!("http://{}/token", server.host()),
        "service": "registry",
        "issuer": "test",
        "rootcertbundle": certificates.path("ca.pem"),
    }});
    let registry = Registry::start(&json!({"tls": tls}), &token);
    let auth = Auth::new(&json!({registry.host(): login("ada", "secret")}));
    let trusted = certificates.cert_dir(&[("ca.crt", "ca.pem")]);
    let client = auth.client(Some(trusted.path()), true);
    let error = client
        .manifest(&reference(&format!("{}/os:v1", registry.host())))
        .unwrap_err();
    assert!(
        matches!(error, RegistryError::ClearText { .. }),
        "{error:?}"
    );
    assert!(server.requests().is_empty());
}

#[test]
fn referrers_are_found_by_fallback_tag_and_cosign_tags() {
    let registry = Registry::plain();
    let mut layout = Layout::new();
    let image = layout.image("v1", &[b"layer"]);
    let other = layout.image("v2", &[b"other"]);
    let tag = format!("sha256-{}", image.digest.to_hex());
    let empty = layout.blob(media_type::OCI_EMPTY, b"{}");
    let evidence = layout.blob("application/json", b"evidence");
    let sbom = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "artifactType": "application/spdx+json",
        "config": empty,
        "layers": [evidence],
        "subject": image,
    });
    let sbom = layout.manifest("sbom", media_type::OCI_MANIFEST, &sbom);
    let mut listed = sbom.clone();
    listed.artifact_type = Some("application/spdx+json".to_owned());
    listed.annotations.insert("k".to_owned(), "v".to_owned());
    let index =
        json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": [listed]});
    let signature = layout.image(&format!("{tag}.sig"), &[b"signature"]);
    let name = format!("{}/os", registry.host());
    for tag in ["v1", "v2", "sbom", &format!("{tag}.sig")] {
        layout.push(tag, &format!("{name}:{tag}"), INSECURE);
    }
    registry.put_manifest("os", &tag, media_type::OCI_INDEX, &index);

    let auth = Auth::new(&json!({}));
    let client = auth.client(None, false);
    let repository = reference(&name);
    let found = client.referrers(&repository, image.digest).unwrap();
    assert_eq!(found.len(), 2, "{found:?}");
    assert_eq!((&found[0].descriptor, &found[0].tag), (&listed, &None));
    assert_eq!(found[1].descriptor, signature);
    assert_eq!(found[1].tag, Some(format!("{tag}.sig")));
    assert_eq!(
        Digest::of(found[1].manifest.as_ref().unwrap()),
        signature.digest
    );
    assert_eq!(client.referrers(&repository, other.digest).unwrap(), []);
    assert_eq!(
        client
            .manifest(&repository.with_digest(sbom.digest))
            .unwrap()
            .digest,
        sbom.digest
    );
}
