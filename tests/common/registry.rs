//! Debian's `docker-registry` as a guard, OCI layouts made on the spot, and skopeo to push them.
//!
//! A missing program fails the test that needs it: these tests never skip.

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use bundle_format::{Descriptor, Digest, media_type};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Time a registry has to come up.
const START_LIMIT: Duration = Duration::from_secs(20);

/// A running `docker-registry`, killed on drop.
pub struct Registry {
    child: Child,
    port: u16,
    directory: TempDir,
    /// Files that the registry reads later than at its start.
    kept: Vec<TempDir>,
}

impl Registry {
    /// Starts a registry without TLS and authentication.
    pub fn plain() -> Self {
        Self::start(&json!({}), &json!({}))
    }

    /// Starts a registry that knows one user.
    pub fn with_htpasswd(username: &str, password: &str) -> Self {
        let directory = TempDir::new().unwrap();
        let file = directory.path().join("htpasswd");
        let output = run(Command::new("htpasswd").args(["-Bbn", username, password]));
        fs::write(&file, output.stdout).unwrap();
        let auth = json!({"htpasswd": {"realm": "test", "path": file}});
        let mut registry = Self::start(&json!({}), &auth);
        registry.kept.push(directory);
        registry
    }

    /// Starts a registry with the keys `http` and `auth` of its configuration.
    ///
    /// `http.addr` is filled in; files that the configuration names must outlive the start.
    pub fn start(http: &Value, auth: &Value) -> Self {
        // Another process may take the free port in between: try again then.
        for _ in 0..5 {
            if let Some(registry) = Self::try_start(http, auth) {
                return registry;
            }
        }
        panic!("docker-registry did not come up; its log is in the test's output");
    }

    fn try_start(http: &Value, auth: &Value) -> Option<Self> {
        let directory = TempDir::new().unwrap();
        let port = free_port();
        let mut http = http.clone();
        http["addr"] = json!(format!("127.0.0.1:{port}"));
        let mut configuration = json!({
            "version": "0.1",
            "log": {"level": "error", "accesslog": {"disabled": true}},
            "storage": {
                "filesystem": {"rootdirectory": directory.path().join("data")},
                "delete": {"enabled": true},
            },
            "http": http,
        });
        if auth.as_object().is_some_and(|auth| !auth.is_empty()) {
            configuration["auth"] = auth.clone();
        }
        // YAML is a superset of JSON.
        let file = directory.path().join("registry.yml");
        fs::write(&file, serde_json::to_vec(&configuration).unwrap()).unwrap();
        let log = directory.path().join("log");
        let mut child = Command::new("docker-registry")
            .arg("serve")
            .arg(&file)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(&log).unwrap())
            .spawn()
            .unwrap_or_else(|error| missing("docker-registry", &error));
        let deadline = Instant::now() + START_LIMIT;
        while Instant::now() < deadline {
            if child.try_wait().unwrap().is_some() {
                // Shown when the test fails in the end.
                eprintln!("docker-registry: {}", fs::read_to_string(&log).unwrap());
                return None;
            }
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Some(Self {
                    child,
                    port,
                    directory,
                    kept: Vec::new(),
                });
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = child.kill();
        let _ = child.wait();
        None
    }

    /// Returns host and port.
    pub fn host(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Stores a manifest or index that skopeo would not copy unchanged.
    pub fn put_manifest(&self, repository: &str, tag: &str, media_type: &str, document: &Value) {
        let body = document.to_string();
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        write!(
            stream,
            "PUT /v2/{repository}/manifests/{tag} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\
             Content-Type: {media_type}\r\nContent-Length: {}\r\n\r\n{body}",
            self.host(),
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 201 "), "{answer}");
    }

    /// Returns the file that holds a blob.
    pub fn blob_file(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_hex();
        let blobs = "data/docker/registry/v2/blobs/sha256";
        self.directory
            .path()
            .join(blobs)
            .join(&hex[..2])
            .join(hex)
            .join("data")
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An OCI layout in a temporary directory.
pub struct Layout {
    directory: TempDir,
    index: Vec<Value>,
}

impl Layout {
    /// Makes an empty layout.
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        fs::create_dir_all(directory.path().join("blobs/sha256")).unwrap();
        fs::write(
            directory.path().join("oci-layout"),
            r#"{"imageLayoutVersion":"1.0.0"}"#,
        )
        .unwrap();
        Self {
            directory,
            index: Vec::new(),
        }
    }

    /// Stores a blob.
    pub fn blob(&self, media_type: &str, bytes: &[u8]) -> Descriptor {
        let digest = Digest::of(bytes);
        fs::write(self.directory.path().join(digest.blob_path()), bytes).unwrap();
        Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size: bytes.len() as u64,
            artifact_type: None,
            annotations: std::collections::BTreeMap::new(),
            platform: None,
        }
    }

    /// Stores a manifest or index under a tag.
    pub fn manifest(&mut self, tag: &str, media_type: &str, document: &Value) -> Descriptor {
        let descriptor = self.blob(media_type, &serde_json::to_vec(document).unwrap());
        let mut entry = serde_json::to_value(&descriptor).unwrap();
        entry["annotations"] = json!({media_type::REF_NAME: tag});
        self.index.push(entry);
        let index = json!({"schemaVersion": 2, "manifests": self.index});
        fs::write(self.directory.path().join("index.json"), index.to_string()).unwrap();
        descriptor
    }

    /// Stores an image of uncompressed layers under a tag.
    pub fn image(&mut self, tag: &str, layers: &[&[u8]]) -> Descriptor {
        let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
        let config = json!({
            "architecture": "amd64",
            "os": "linux",
            "rootfs": {"type": "layers", "diff_ids": diff_ids},
        });
        let config = self.blob(media_type::OCI_CONFIG, config.to_string().as_bytes());
        let layers: Vec<_> = layers
            .iter()
            .map(|layer| self.blob(media_type::LAYER_TAR, layer))
            .collect();
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "config": config,
            "layers": layers,
        });
        self.manifest(tag, media_type::OCI_MANIFEST, &manifest)
    }

    /// Copies a tag to `docker://DESTINATION` with skopeo.
    pub fn push(&self, tag: &str, destination: &str, arguments: &[&str]) {
        let source = format!("oci:{}:{tag}", self.directory.path().display());
        run(Command::new("skopeo")
            .args(["copy", "--quiet", "--insecure-policy", "--preserve-digests"])
            .args(arguments)
            .arg(source)
            .arg(format!("docker://{destination}"))
            // Without it skopeo remembers what other registries on this port had.
            .env("XDG_DATA_HOME", self.directory.path())
            .env_remove("REGISTRY_AUTH_FILE"));
    }

    /// Returns the directory.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A CA and certificates made with openssl.
pub struct Certificates {
    directory: TempDir,
}

impl Certificates {
    /// Makes `ca.crt`, a server certificate for 127.0.0.1 and a client certificate.
    pub fn new() -> Self {
        let directory = TempDir::new().unwrap();
        let made = Self { directory };
        made.openssl(&[
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=test CA",
            "-keyout",
            "ca.key.pem",
            "-out",
            "ca.pem",
        ]);
        for (name, extension) in [
            ("server", "subjectAltName=IP:127.0.0.1"),
            ("client", "extendedKeyUsage=clientAuth"),
        ] {
            fs::write(made.path(&format!("{name}.ext")), extension).unwrap();
            made.openssl(&[
                "req",
                "-newkey",
                "rsa:2048",
                "-nodes",
                "-subj",
                &format!("/CN={name}"),
                "-keyout",
                &format!("{name}.key.pem"),
                "-out",
                &format!("{name}.csr"),
            ]);
            made.openssl(&[
                "x509",
                "-req",
                "-days",
                "2",
                "-CA",
                "ca.pem",
                "-CAkey",
                "ca.key.pem",
                "-CAcreateserial",
                "-in",
                &format!("{name}.csr"),
                "-out",
                &format!("{name}.pem"),
                "-extfile",
                &format!("{name}.ext"),
            ]);
        }
        made
    }

    /// Returns the path of a file: `ca.pem`, `server.pem`, `server.key.pem`, `client.pem`, ….
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Fills a `certs.d` directory with copies of files, given as pairs of name there and here.
    pub fn cert_dir(&self, files: &[(&str, &str)]) -> TempDir {
        let directory = TempDir::new().unwrap();
        for (there, here) in files {
            fs::copy(self.path(here), directory.path().join(there)).unwrap();
        }
        directory
    }

    /// Signs `input` with a key, RS256.
    pub fn sign(&self, key: &str, input: &[u8]) -> Vec<u8> {
        let mut child = Command::new("openssl")
            .args(["dgst", "-sha256", "-sign"])
            .arg(self.path(key))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| missing("openssl", &error));
        child.stdin.take().unwrap().write_all(input).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "openssl failed to sign");
        output.stdout
    }

    /// Returns a certificate in DER.
    pub fn der(&self, name: &str) -> Vec<u8> {
        let path = self.path(name);
        run(Command::new("openssl")
            .args(["x509", "-outform", "DER", "-in"])
            .arg(path))
        .stdout
    }

    fn openssl(&self, arguments: &[&str]) {
        run(Command::new("openssl")
            .args(arguments)
            .current_dir(self.directory.path()));
    }
}

/// Runs a command that must succeed.
pub fn run(command: &mut Command) -> Output {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .output()
        .unwrap_or_else(|error| missing(&program, &error));
    assert!(
        output.status.success(),
        "{command:?} failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

fn missing(program: &str, error: &std::io::Error) -> ! {
    panic!("cannot run {program}, which this test needs: {error}; install the package of that name")
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}
