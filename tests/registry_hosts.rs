//! The registry client among hosts that are not to be trusted with its secrets: redirects, token
//! servers, proxies, and lists that point elsewhere.

#![cfg(feature = "export")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bundle::registry::{MAX_REFERRERS_BYTES, Referrer, RegistryError};
use bundle_format::{Descriptor, Digest, media_type};
use serde_json::json;

use common::client::{anonymous, content, descriptor, known, manifest, partial, repository};
use common::fake::{FakeServer, Reply};

#[test]
fn authorization_does_not_follow_to_another_origin() {
    let elsewhere = FakeServer::start(|request, _| partial(request, &content()));
    let target = format!("http://{}/signed?secret=1", elsewhere.host());
    let basic = format!("Basic {}", STANDARD.encode("ada:secret"));
    let expected = basic.clone();
    let server = FakeServer::start(move |request, _| {
        if request.header("authorization") != Some(&expected) {
            return Reply::new(401).header("WWW-Authenticate", r#"Basic realm="x""#);
        }
        match request.target.as_str() {
            "/here" => Reply::new(307).header("Location", target.clone()),
            _ => Reply::new(302).header("Location", "/here"),
        }
    });
    let (_auth, client) = known(&server.host());
    let mut bytes = Vec::new();
    client
        .blob(
            &repository(&server),
            &descriptor(&content()),
            7,
            &mut |chunk| {
                bytes.extend_from_slice(chunk);
                Ok(())
            },
        )
        .unwrap();
    assert!(bytes == content()[7..]);
    let here = server.requests();
    let found: Vec<_> = here
        .iter()
        .map(|request| request.header("authorization"))
        .collect();
    assert_eq!(found, [None, Some(basic.as_str()), Some(basic.as_str())]);
    let there = elsewhere.requests();
    assert_eq!(there.len(), 1);
    assert_eq!(
        (there[0].header("authorization"), there[0].start()),
        (None, 7)
    );
}

#[test]
fn a_host_redirected_to_cannot_challenge() {
    let elsewhere = FakeServer::start(|_, _| {
        Reply::new(401).header("WWW-Authenticate", r#"Basic realm="give me""#)
    });
    let target = format!("http://{}/x", elsewhere.host());
    let server = FakeServer::start(move |_, _| Reply::new(302).header("Location", target.clone()));
    let (_auth, client) = known(&server.host());
    let error = client.manifest(&repository(&server)).unwrap_err();
    assert!(
        matches!(error, RegistryError::Unauthorized { status: 401, .. }),
        "{error:?}"
    );
    assert!(
        elsewhere
            .requests()
            .iter()
            .all(|r| r.header("authorization").is_none())
    );
}

#[test]
fn redirects_end() {
    for (location, status) in [
        ("/again", 302),
        ("ftp://h.example/", 302),
        ("http://[", 301),
    ] {
        let server = FakeServer::start(move |_, _| Reply::new(status).header("Location", location));
        let error = anonymous().manifest(&repository(&server)).unwrap_err();
        let fits = match location {
            "/again" => matches!(error, RegistryError::Redirects { limit: 10, .. }),
            _ => matches!(error, RegistryError::Malformed { .. }),
        };
        assert!(fits, "{location}: {error:?}");
        assert!(server.requests().len() <= 11);
    }
}

#[test]
fn token_servers_are_not_trusted_either() {
    for (reply, requests) in [
        (Reply::new(200).endless(), 1),
        (Reply::new(200).body("{}"), 1),
        (Reply::new(200).body(r#"{"token":"a\nb"}"#), 1),
        (Reply::new(500), 3),
    ] {
        let tokens = FakeServer::start(move |_, _| reply.clone());
        let challenge = format!(r#"Bearer realm="http://{}/t",service="s""#, tokens.host());
        let server = FakeServer::start(move |_, _| {
            Reply::new(401).header("WWW-Authenticate", challenge.clone())
        });
        let error = anonymous().manifest(&repository(&server)).unwrap_err();
        assert!(error.to_string().contains("token for"), "{error}");
        assert_eq!(tokens.requests().len(), requests, "{error}");
        let scope = "scope=repository%3Ateam%2Fos%3Apull";
        assert!(
            tokens.requests()[0].target.contains(scope),
            "{:?}",
            tokens.requests()[0]
        );
    }
}

#[test]
fn an_expired_token_is_renewed_once() {
    let tokens = FakeServer::start(|_, n| Reply::new(200).body(format!(r#"{{"token":"t{n}"}}"#)));
    let challenge = format!(r#"Bearer realm="http://{}/t""#, tokens.host());
    let server = FakeServer::start(move |request, n| {
        // The first token is refused after its second use.
        let good = if n < 3 { "Bearer t0" } else { "Bearer t1" };
        if request.header("authorization") == Some(good) {
            return manifest();
        }
        Reply::new(401).header("WWW-Authenticate", challenge.clone())
    });
    let client = anonymous();
    for _ in 0..4 {
        client.manifest(&repository(&server)).unwrap();
    }
    assert_eq!(tokens.requests().len(), 2);
    assert_eq!(server.requests().len(), 6);
}

fn list(referrers: &[Descriptor]) -> Reply {
    let index = json!({"schemaVersion": 2, "manifests": referrers});
    Reply::new(200)
        .header("Content-Type", media_type::OCI_INDEX)
        .body(index.to_string())
}

#[test]
fn referrers_are_read_page_by_page() {
    let server = FakeServer::start(|request, _| {
        let target = request.target.as_str();
        if target.ends_with("?page=2") {
            list(&[descriptor(b"b"), descriptor(b"a")])
        } else if target.contains("/referrers/") {
            list(&[descriptor(b"a")]).header("Link", format!("<{target}?page=2>; rel=\"next\""))
        } else if target.ends_with(".att") {
            manifest()
        } else {
            Reply::new(404)
        }
    });
    let subject = Digest::of(b"subject");
    let found = anonymous()
        .referrers(&repository(&server), subject)
        .unwrap();
    let digests: Vec<_> = found
        .iter()
        .map(|referrer| referrer.descriptor.digest)
        .collect();
    assert_eq!(
        digests,
        [Digest::of(b"a"), Digest::of(b"b"), Digest::of(b"{}")]
    );
    let Referrer { manifest, tag, .. } = &found[2];
    assert_eq!(manifest.as_deref(), Some(&b"{}"[..]));
    assert_eq!(
        tag.as_deref(),
        Some(format!("sha256-{}.att", subject.to_hex()).as_str())
    );
}

#[test]
fn lists_of_referrers_are_bounded() {
    type Check = fn(&RegistryError) -> bool;
    let many: Vec<_> = (0..4000_u32)
        .map(|n| descriptor(&n.to_be_bytes()))
        .collect();
    let cases: [(Reply, Check); 4] = [
        (list(&[]).endless(), |e| {
            matches!(
                e,
                RegistryError::TooLong {
                    limit: MAX_REFERRERS_BYTES,
                    ..
                }
            )
        }),
        (
            list(&many).header("Link", "<?n=1>; rel=next"),
            |e| matches!(e, RegistryError::Malformed { reason, .. } if reason.contains("10000")),
        ),
        (
            list(&[]).header("Link", "<http://127.0.0.1:9/v2/>; rel=next"),
            |e| matches!(e, RegistryError::Malformed { reason, .. } if reason.contains("host")),
        ),
        (
            list(&[]).header("Link", "<?n=1>; rel=next"),
            |e| matches!(e, RegistryError::Malformed { reason, .. } if reason.contains("pages")),
        ),
    ];
    for (reply, check) in cases {
        let server = FakeServer::start(move |_, _| reply.clone());
        let error = anonymous()
            .referrers(&repository(&server), Digest::of(b"subject"))
            .unwrap_err();
        assert!(check(&error), "{error:?}");
    }
}
