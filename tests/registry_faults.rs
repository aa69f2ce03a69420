//! The registry client against a server that misbehaves.

#![cfg(feature = "export")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a test may fail loudly")]

mod common;

use std::path::Path;
use std::time::{Duration, Instant};

use bundle::registry::{Client, ClientOptions, MAX_MANIFEST_BYTES, RegistryError};
use bundle_format::{Digest, media_type};

use common::client::{anonymous, content, descriptor, manifest, options, partial, repository};
use common::fake::{FakeServer, Reply, Request};

/// Pulls `content()` and returns what arrived and how it ended.
fn pull(server: &FakeServer) -> (Vec<u8>, Result<(), RegistryError>) {
    pull_with(&anonymous(), server)
}

fn pull_with(client: &Client, server: &FakeServer) -> (Vec<u8>, Result<(), RegistryError>) {
    let mut bytes = Vec::new();
    let result = client.blob(
        &repository(server),
        &descriptor(&content()),
        0,
        &mut |chunk| {
            bytes.extend_from_slice(chunk);
            Ok(())
        },
    );
    (bytes, result)
}

#[test]
fn statuses_have_their_errors_and_only_passing_ones_are_repeated() {
    type Check = fn(&RegistryError) -> bool;
    let cases: &[(u16, usize, Check)] = &[
        (400, 1, |e| {
            matches!(e, RegistryError::Status { status: 400, .. })
        }),
        (401, 1, |e| {
            matches!(e, RegistryError::Unauthorized { status: 401, .. })
        }),
        (403, 1, |e| {
            matches!(e, RegistryError::Unauthorized { status: 403, .. })
        }),
        (404, 1, |e| matches!(e, RegistryError::NotFound { .. })),
        (418, 1, |e| {
            matches!(e, RegistryError::Status { status: 418, .. })
        }),
        (429, 3, |e| {
            matches!(e, RegistryError::TooManyRequests { .. })
        }),
        (500, 3, |e| {
            matches!(e, RegistryError::Server { status: 500, .. })
        }),
        (501, 1, |e| {
            matches!(e, RegistryError::Server { status: 501, .. })
        }),
        (503, 3, |e| {
            matches!(e, RegistryError::Server { status: 503, .. })
        }),
    ];
    for (status, requests, check) in cases {
        let status = *status;
        let server = FakeServer::start(move |_, _| {
            Reply::new(status).body(r#"{"errors":[{"message":"said so"}]}"#)
        });
        let error = anonymous().manifest(&repository(&server)).unwrap_err();
        assert!(check(&error), "{status}: {error:?}");
        assert!(error.hint().is_some(), "{status}");
        assert_eq!(
            status != 404,
            error.to_string().contains("said so"),
            "{error}"
        );
        assert_eq!(server.requests().len(), *requests, "{status}");
    }
}

#[test]
fn a_passing_failure_passes() {
    for first in [
        Reply::new(500),
        Reply::new(429).header("Retry-After", "0"),
        Reply::new(200).length(100).body("cut"),
    ] {
        let server = FakeServer::start(move |_, n| if n == 0 { first.clone() } else { manifest() });
        let found = anonymous().manifest(&repository(&server)).unwrap();
        assert_eq!(found.bytes, b"{}");
        assert_eq!(server.requests().len(), 2);
    }
}

#[test]
fn retry_after_is_obeyed() {
    let server = FakeServer::start(|_, n| match n {
        0 => Reply::new(429).header("Retry-After", "1"),
        _ => manifest(),
    });
    let started = Instant::now();
    anonymous().manifest(&repository(&server)).unwrap();
    let waited = started.elapsed();
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(5)).contains(&waited),
        "{waited:?}"
    );
}

#[test]
fn a_cut_blob_is_resumed_where_it_was_cut() {
    for ignores_range in [false, true] {
        let server = FakeServer::start(move |request, n| {
            let content = content();
            match n {
                0 => Reply::new(200)
                    .length(content.len() as u64)
                    .body(&content[..150_000]),
                _ if ignores_range => Reply::new(200).body(content),
                _ => partial(request, &content),
            }
        });
        let (bytes, result) = pull(&server);
        result.unwrap();
        assert!(bytes == content());
        let starts: Vec<_> = server.requests().iter().map(Request::start).collect();
        assert_eq!(starts, [0, 150_000]);
    }
}

#[test]
fn a_blob_that_is_always_cut_is_given_up() {
    let server = FakeServer::start(|request, _| {
        let end = request.start() + 10;
        let content = content();
        partial(request, &content).body(&content[request.start()..end])
    });
    let (bytes, result) = pull(&server);
    assert!(
        matches!(
            result,
            Err(RegistryError::Cut {
                received: 30,
                expected: 400_000,
                ..
            })
        ),
        "{result:?}"
    );
    assert!(bytes == content()[..30]);
}

#[test]
fn sizes_are_held_to() {
    let long = [content(), b"x".to_vec()].concat();
    let short = content()[..1000].to_vec();
    type Check = fn(&RegistryError) -> bool;
    let cases: [(Reply, Check); 5] = [
        (Reply::new(200).body(&*long), |e| {
            matches!(
                e,
                RegistryError::WrongSize {
                    expected: 400_000,
                    found: 400_001,
                    ..
                }
            )
        }),
        (Reply::new(200).body(&*long).unframed(), |e| {
            matches!(e, RegistryError::TooLong { limit: 400_000, .. })
        }),
        (Reply::new(200).endless(), |e| {
            matches!(e, RegistryError::TooLong { .. })
        }),
        (Reply::new(200).body(&*short), |e| {
            matches!(
                e,
                RegistryError::WrongSize {
                    expected: 400_000,
                    found: 1000,
                    ..
                }
            )
        }),
        (
            Reply::new(200)
                .header("Transfer-Encoding", "chunked")
                .body("3\r\nabc\r\n0\r\n\r\n")
                .unframed(),
            |e| {
                matches!(
                    e,
                    RegistryError::WrongSize {
                        expected: 400_000,
                        found: 3,
                        ..
                    }
                )
            },
        ),
    ];
    for (reply, check) in cases {
        let server = FakeServer::start(move |_, _| reply.clone());
        let (bytes, result) = pull(&server);
        let error = result.unwrap_err();
        assert!(check(&error), "{error:?}");
        assert!(bytes.len() <= 400_000);
        assert_eq!(server.requests().len(), 1, "{error}");
    }
}

#[test]
fn wrong_ranges_are_refused() {
    for range in [
        None,
        Some("bytes 5-399999/400000"),
        Some("bytes 10-399999/500000"),
    ] {
        let server = FakeServer::start(move |_, n| match n {
            0 => Reply::new(200).length(400_000).body(&content()[..10]),
            _ => {
                let reply = Reply::new(206).body(&content()[10..]);
                range.map_or(reply.clone(), |range| reply.header("Content-Range", range))
            }
        });
        let (bytes, result) = pull(&server);
        assert!(
            matches!(
                result,
                Err(RegistryError::Malformed { .. } | RegistryError::WrongSize { .. })
            ),
            "{range:?}: {result:?}"
        );
        assert_eq!(bytes.len(), 10);
    }
}

#[test]
fn silence_is_timed_out_and_resumed() {
    let silence = Duration::from_millis(500);
    let options = ClientOptions {
        silence,
        ..options(Path::new("/dev/null"))
    };
    let impatient = Client::new(options).unwrap();
    let server = FakeServer::start(|request, n| match n {
        0 => Reply::new(200)
            .length(400_000)
            .body(&content()[..1000])
            .stall(),
        _ => partial(request, &content()),
    });
    let (bytes, result) = pull_with(&impatient, &server);
    result.unwrap();
    assert!(bytes == content());

    let server = FakeServer::start(|_, _| Reply::new(200).length(400_000).body("").stall());
    let started = Instant::now();
    let (_, result) = pull_with(&impatient, &server);
    assert!(
        matches!(result, Err(RegistryError::Stalled { .. })),
        "{result:?}"
    );
    assert!(started.elapsed() < Duration::from_secs(10));
}

#[test]
fn documents_are_capped_and_verified() {
    let json = |reply: Reply| reply.header("Content-Type", media_type::OCI_MANIFEST);
    let server = FakeServer::start(move |_, _| json(Reply::new(200).endless()));
    let error = anonymous().manifest(&repository(&server)).unwrap_err();
    assert!(
        matches!(
            error,
            RegistryError::TooLong {
                limit: MAX_MANIFEST_BYTES,
                ..
            }
        ),
        "{error:?}"
    );

    let other = Digest::of(b"other");
    let server = FakeServer::start(move |_, _| {
        manifest().header("Docker-Content-Digest", other.to_string())
    });
    for reference in [
        repository(&server),
        repository(&server).with_digest(Digest::of(b"asked")),
    ] {
        let error = anonymous().manifest(&reference).unwrap_err();
        assert!(
            matches!(error, RegistryError::WrongDigest { .. }),
            "{error:?}"
        );
    }

    let server = FakeServer::start(|_, _| {
        let huge = "a".repeat(100_000);
        manifest().header("X-Huge", huge)
    });
    let error = anonymous().manifest(&repository(&server)).unwrap_err();
    assert!(
        matches!(error, RegistryError::Malformed { .. }),
        "{error:?}"
    );

    let server = FakeServer::start(|_, _| {
        manifest()
            .header("Content-Type", "text/html")
            .body("<html>log in to the proxy</html>")
    });
    let error = anonymous().manifest(&repository(&server)).unwrap_err();
    assert!(
        matches!(error, RegistryError::Malformed { .. }),
        "{error:?}"
    );
}

#[test]
fn nobody_at_home_is_told_at_once() {
    let server = FakeServer::start(|_, _| manifest());
    let gone = repository(&server);
    drop(server);
    for (reference, verify) in [(gone, false), ("registry.invalid/x".parse().unwrap(), true)] {
        let options = ClientOptions {
            tls_verify: verify,
            ..options(Path::new("/dev/null"))
        };
        let error = Client::new(options)
            .unwrap()
            .manifest(&reference)
            .unwrap_err();
        assert!(matches!(error, RegistryError::Connect { .. }), "{error:?}");
    }
}
