//! `bundle export` from a registry that fails: a clear end within seconds, nothing at PATH, and the next run goes on.

#![cfg(all(feature = "export", feature = "ostree"))]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test may fail loudly"
)]

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bundle_format::{Descriptor, Digest, media_type};
use serde_json::Value;
use tempfile::TempDir;

use common::client::partial;
use common::fake::{FakeServer, Reply, Request};
use common::program::{Done, finish, scratch};
use common::registry::Layout;
use common::signer::Signer;
use common::small::Small;

/// Longest time to an answer: four waits between five tries are 7.5 s, the rest is a busy machine.
const LIMIT: Duration = Duration::from_secs(40);

/// What a request is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Manifest,
    Layer,
}

/// An image that a server of ours has.
struct Image {
    manifest: Descriptor,
    layer: Digest,
    config: Digest,
    files: BTreeMap<Digest, Vec<u8>>,
}

impl Image {
    fn new() -> Arc<Self> {
        let mut layout = Layout::new();
        let manifest = Small {
            files: 20,
            bytes: 20_000,
            ..Small::TINY
        }
        .release(&mut layout, "1");
        let blobs = fs::read_dir(layout.path().join("blobs/sha256")).unwrap();
        let files: BTreeMap<_, _> = blobs
            .map(|blob| fs::read(blob.unwrap().path()).unwrap())
            .map(|bytes| (Digest::of(&bytes), bytes))
            .collect();
        let document: Value = serde_json::from_slice(&files[&manifest.digest]).unwrap();
        let digest = |part: &Value| part["digest"].as_str().unwrap().parse().unwrap();
        let (layer, config) = (digest(&document["layers"][1]), digest(&document["config"]));
        Arc::new(Self {
            manifest,
            layer,
            config,
            files,
        })
    }

    fn part(&self, request: &Request) -> Option<Part> {
        if request.target.ends_with("/manifests/1") {
            Some(Part::Manifest)
        } else if request.target.ends_with(&self.layer.to_string()) {
            Some(Part::Layer)
        } else {
            None
        }
    }

    /// Answers as a registry does.
    fn answer(&self, request: &Request) -> Reply {
        let manifest = Reply::new(200)
            .header("Content-Type", media_type::OCI_MANIFEST)
            .header("Docker-Content-Digest", self.manifest.digest.to_string());
        match request.target.rsplit_once('/').unwrap() {
            (path, "1") if path.ends_with("/manifests") => {
                manifest.body(self.files[&self.manifest.digest].clone())
            }
            (path, name) => match name.parse().ok().and_then(|digest| self.files.get(&digest)) {
                Some(bytes) if path.ends_with("/manifests") => manifest.body(bytes.clone()),
                Some(bytes) if path.ends_with("/blobs") => partial(request, bytes),
                _ => Reply::new(404).body(r#"{"errors":[{"message":"not here"}]}"#),
            },
        }
    }
}

/// A server that fails at one part until it is repaired, and an export from it.
struct Case {
    image: Arc<Image>,
    server: FakeServer,
    broken: Arc<AtomicBool>,
    signer: Signer,
    work: TempDir,
}

impl Case {
    fn new(
        image: &Arc<Image>,
        part: Part,
        failure: impl Fn(&Request, &Image) -> Reply + Send + Sync + 'static,
    ) -> Self {
        let broken = Arc::new(AtomicBool::new(true));
        let (there, is_broken) = (Arc::clone(image), Arc::clone(&broken));
        let server = FakeServer::start(move |request, _| {
            if is_broken.load(Ordering::SeqCst) && there.part(request) == Some(part) {
                failure(request, &there)
            } else {
                there.answer(request)
            }
        });
        let (signer, work) = (Signer::new("appliance"), scratch());
        Self {
            image: Arc::clone(image),
            server,
            broken,
            signer,
            work,
        }
    }

    fn export(&self) -> Done {
        let source = format!("docker://{}/team/os:1", self.server.host());
        let path = self.work.path().join("bundle");
        // An auth.json may be any readable file; this one has nothing in it.
        finish(
            self.signer
                .export(&source, &path, 1)
                .args(["--authfile", "/dev/null"]),
        )
    }

    /// Fails as it should; then the repaired server gives the rest, and no more than that.
    fn check(&self, name: &str, code: &str) {
        let path = self.work.path().join("bundle");
        let refused = self.export();
        assert!(refused.elapsed < LIMIT, "{name}: {:?}", refused.elapsed);
        eprintln!(
            "{:6.2} s  {name}: {}",
            refused.elapsed.as_secs_f64(),
            refused.stderr.trim()
        );
        assert_eq!(refused.status, Some(18), "{name}: {}", refused.stderr);
        assert_eq!(refused.fails(18).json()["code"], code, "{name}");
        assert!(path.symlink_metadata().is_err(), "{name}");

        let partial = self.work.path().join("bundle.partial");
        // Nothing is there before the first layer is asked for.
        let there: BTreeMap<_, _> = fs::read_dir(partial.join("blobs/sha256"))
            .into_iter()
            .flatten()
            .map(|blob| blob.unwrap())
            .map(|blob| {
                (
                    blob.file_name().into_string().unwrap(),
                    blob.metadata().unwrap().len(),
                )
            })
            .collect();
        self.broken.store(false, Ordering::SeqCst);
        let before = self.server.requests().len();
        self.export().ok();
        let report = finish(&mut self.signer.verify(&path)).ok().json();
        assert_eq!(report["verified"], true, "{name}");
        for request in &self.server.requests()[before..] {
            let Some((_, digest)) = request.target.split_once("/blobs/sha256:") else {
                continue;
            };
            // The configuration, a page of text, says how the release is called before anything else is done.
            if digest == self.image.config.to_hex() {
                continue;
            }
            assert!(
                !there.contains_key(digest),
                "{name}: {digest} is fetched again"
            );
            // What arrived of a blob before the failure is not asked for again, either.
            let begun = there
                .get(&format!("{digest}.partial"))
                .copied()
                .unwrap_or(0);
            assert_eq!(request.start() as u64, begun, "{name}: {digest}");
        }
        assert!(!partial.exists(), "{name}");
        assert_eq!(report["image"], self.image.manifest.digest.to_string());
    }
}

type Failure = fn(&Request, &Image) -> Reply;

/// Runs all cases at once, since most of their time is waiting.
fn check_all(cases: &'static [(&str, Part, &str, Failure)]) {
    let image = Image::new();
    thread::scope(|scope| {
        for (name, part, code, failure) in cases {
            let image = &image;
            scope.spawn(move || {
                let name = format!("{name} at the {part:?}");
                Case::new(image, *part, failure).check(&name, code);
            });
        }
    });
}

fn layer(image: &Image) -> &[u8] {
    &image.files[&image.layer]
}

#[test]
fn statuses_end_the_export_in_words() {
    check_all(&[
        ("401", Part::Manifest, "registry-unauthorized", |_, _| {
            Reply::new(401)
        }),
        ("401", Part::Layer, "registry-unauthorized", |_, _| {
            Reply::new(401)
        }),
        ("403", Part::Manifest, "registry-unauthorized", |_, _| {
            Reply::new(403)
        }),
        ("404", Part::Manifest, "registry-not-found", |_, _| {
            Reply::new(404)
        }),
        ("404", Part::Layer, "registry-not-found", |_, _| {
            Reply::new(404)
        }),
        (
            "429",
            Part::Manifest,
            "registry-too-many-requests",
            |_, _| Reply::new(429),
        ),
        (
            "429 with a wait",
            Part::Layer,
            "registry-too-many-requests",
            |_, _| Reply::new(429).header("Retry-After", "1"),
        ),
        ("500", Part::Manifest, "registry-failed", |_, _| {
            Reply::new(500)
        }),
        ("503", Part::Layer, "registry-failed", |_, _| {
            Reply::new(503)
        }),
        (
            "200 with a login page",
            Part::Manifest,
            "registry-malformed",
            |_, _| {
                Reply::new(200)
                    .header("Content-Type", "text/html")
                    .body("<html>Log in</html>")
            },
        ),
    ]);
}

#[test]
fn bad_bodies_end_the_export_in_words() {
    check_all(&[
        (
            "a cut connection",
            Part::Manifest,
            "registry-unreachable",
            |_, image| {
                let bytes = &image.files[&image.manifest.digest];
                Reply::new(200)
                    .header("Content-Type", media_type::OCI_MANIFEST)
                    .length(bytes.len() as u64)
                    .body(&bytes[..10])
            },
        ),
        (
            "a cut connection",
            Part::Layer,
            "registry-cut",
            |request, image| {
                let (bytes, start) = (layer(image), request.start());
                let part = &bytes[start..(start + 1000).min(bytes.len())];
                match start {
                    0 => Reply::new(200).length(bytes.len() as u64).body(part),
                    _ => Reply::new(206)
                        .header(
                            "Content-Range",
                            format!("bytes {start}-{}/{}", bytes.len() - 1, bytes.len()),
                        )
                        .length((bytes.len() - start) as u64)
                        .body(part),
                }
            },
        ),
        (
            "wrong bytes",
            Part::Manifest,
            "registry-wrong-content",
            |_, image| {
                let mut bytes = image.files[&image.manifest.digest].clone();
                bytes.push(b' ');
                Reply::new(200)
                    .header("Content-Type", media_type::OCI_MANIFEST)
                    .header("Docker-Content-Digest", image.manifest.digest.to_string())
                    .body(bytes)
            },
        ),
        (
            "wrong bytes",
            Part::Layer,
            "registry-wrong-content",
            |_, image| {
                let mut bytes = layer(image).to_vec();
                bytes[5000] ^= 1;
                Reply::new(200).body(bytes)
            },
        ),
        (
            "another size",
            Part::Layer,
            "registry-wrong-content",
            |_, image| Reply::new(200).body([layer(image), b"more"].concat()),
        ),
        (
            "an endless body",
            Part::Manifest,
            "registry-wrong-content",
            |_, _| {
                Reply::new(200)
                    .header("Content-Type", media_type::OCI_MANIFEST)
                    .endless()
            },
        ),
        (
            "an endless body",
            Part::Layer,
            "registry-wrong-content",
            |_, image| Reply::new(200).body(layer(image)).unframed().endless(),
        ),
    ]);
}

#[test]
fn what_passes_is_borne() {
    let image = Image::new();
    for part in [Part::Manifest, Part::Layer] {
        let first = AtomicBool::new(true);
        let case = Case::new(&image, part, move |request, image| {
            if first.swap(false, Ordering::SeqCst) {
                return Reply::new(503).header("Retry-After", "0");
            }
            image.answer(request)
        });
        case.export().ok();
    }
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let work = scratch();
    let signer = Signer::new("appliance");
    // Nobody listens on this port of the loopback interface.
    let path = work.path().join("bundle");
    let refused = finish(&mut signer.export("docker://127.0.0.1:1/os:1", &path, 1)).fails(18);
    assert!(refused.elapsed < LIMIT, "{:?}", refused.elapsed);
    assert_eq!(refused.json()["code"], "registry-unreachable");
    assert!(refused.stderr.contains("127.0.0.1:1"), "{}", refused.stderr);
    assert!(path.symlink_metadata().is_err());
}
