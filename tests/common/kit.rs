//! Makes the good input: a small image, keys, a trust root and a signed bundle.
//!
//! Everything is made here, in a directory that is removed again, so that the suites need no
//! registry and no fixture of unknown origin.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use bundle::export::{Order, Source, export};
use bundle::platform::Choice;
use bundle::progress::Silent;
use bundle::registry::ClientOptions;
use bundle_format::{Digest, Limits, media_type};
use bundle_keys::{PrivateKey, Role, TrustRoot};
use serde_json::{Value, json};
use tempfile::TempDir;

/// Tag of the test image.
pub(crate) const TAG: &str = "1.2.3";
/// Product of the test trust root.
pub(crate) const PRODUCT: &str = "appliance";
/// Reference that exports record.
pub(crate) const REFERENCE: &str = "registry.example/os/appliance:1.2.3";

/// What a test image holds.
#[derive(Clone, Copy)]
pub(crate) struct Image {
    /// Bytes in the large layer; 0 leaves it and one more out.
    pub(crate) large: usize,
    /// Artifacts that refer to the image.
    pub(crate) referrers: usize,
    /// Goes into every layer, so that two images share nothing.
    pub(crate) seed: u64,
}

impl Image {
    /// Three layers, one of them three chunks long, and one referrer.
    pub(crate) const USUAL: Self = Self {
        large: (2 << 20) + 300_000,
        referrers: 1,
        seed: 1,
    };
    /// As little as there can be.
    pub(crate) const MINIMAL: Self = Self {
        large: 0,
        referrers: 0,
        seed: 1,
    };
}

/// A temporary directory with an image, keys, a trust root and a good bundle.
pub(crate) struct Kit {
    temp: TempDir,
    /// OCI layout the bundle came from.
    pub(crate) image: PathBuf,
    /// The good bundle; never changed.
    pub(crate) bundle: PathBuf,
    /// Trust root file that accepts it.
    pub(crate) trust_root: PathBuf,
    /// Private key that signed it.
    pub(crate) key_file: PathBuf,
    key_pem: String,
}

impl Kit {
    pub(crate) fn new(image: Image) -> Self {
        let temp = scratch();
        let at = |name: &str| temp.path().join(name);
        write_image(&at("image"), image);
        let key = PrivateKey::generate().unwrap();
        let key_pem = key.to_pem().unwrap().to_string();
        fs::write(at("key.pem"), &key_pem).unwrap();
        fs::set_permissions(at("key.pem"), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(at("root.json"), root_of(PRODUCT, &key)).unwrap();
        let kit = Self {
            image: at("image"),
            bundle: at("bundle"),
            trust_root: at("root.json"),
            key_file: at("key.pem"),
            key_pem,
            temp,
        };
        kit.export(&kit.image, &kit.bundle, 7);
        kit
    }

    /// A place for files of this kit.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.temp.path().join(name)
    }

    pub(crate) fn key(&self) -> PrivateKey {
        PrivateKey::from_pem(&self.key_pem).unwrap()
    }

    pub(crate) fn root(&self) -> TrustRoot {
        TrustRoot::parse(&fs::read(&self.trust_root).unwrap(), &Limits::DEFAULT).unwrap()
    }

    /// Exports the image of a layout through the library, signed with the kit's key.
    pub(crate) fn export(&self, image: &Path, bundle: &Path, sequence: u64) {
        let source = format!("oci:{}:{TAG}", image.display());
        let source = Source::open(&source, ClientOptions::default()).unwrap();
        let order = Order {
            deltas: None,
            platforms: Choice::All,
            output: bundle.into(),
            sequence,
            version: None,
            reference: Some(REFERENCE.into()),
        };
        export(&source, &order, &self.root(), &[self.key()], &Silent).unwrap();
    }

    /// Copies the good bundle to a new place under `name`.
    pub(crate) fn copy(&self, name: &str) -> PathBuf {
        let to = self.path(name);
        copy_tree(&self.bundle, &to);
        to
    }
}

/// A directory in memory where there is room: exports sync, and a busy disk makes that slow.
fn scratch() -> TempDir {
    let memory = Path::new("/dev/shm");
    let free = rustix::fs::statvfs(memory).map_or(0, |fs| fs.f_bavail * fs.f_frsize);
    if free > 1 << 30 {
        TempDir::new_in(memory).unwrap()
    } else {
        TempDir::new().unwrap()
    }
}

/// A trust root for one product with one key in both roles.
pub(crate) fn root_of(product: &str, key: &PrivateKey) -> Vec<u8> {
    let public = key.public().unwrap();
    let roles = BTreeMap::from([
        (Role::Root, (vec![public.clone()], 1)),
        (Role::Release, (vec![public], 1)),
    ]);
    let key = PrivateKey::from_pem(&key.to_pem().unwrap()).unwrap();
    TrustRoot::create(product, &roles, &[key]).unwrap()
}

/// Copies a directory of plain files and directories.
pub(crate) fn copy_tree(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for item in fs::read_dir(from).unwrap() {
        let item = item.unwrap();
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_tree(&item.path(), &target);
        } else {
            fs::copy(item.path(), target).unwrap();
        }
    }
}

/// Lists the files of a bundle, relative to its root, in order.
pub(crate) fn files(bundle: &Path) -> Vec<String> {
    let mut found = Vec::new();
    let mut waiting = vec![bundle.to_path_buf()];
    while let Some(directory) = waiting.pop() {
        for item in fs::read_dir(directory).unwrap() {
            let item = item.unwrap();
            if item.file_type().unwrap().is_dir() {
                waiting.push(item.path());
            } else {
                let path = item.path();
                let path = path.strip_prefix(bundle).unwrap();
                found.push(path.to_str().unwrap().to_string());
            }
        }
    }
    found.sort();
    found
}

/// An OCI layout in the making.
pub(crate) struct Layout {
    dir: PathBuf,
    pub(crate) manifests: Vec<Value>,
}

impl Layout {
    pub(crate) fn create(dir: &Path) -> Self {
        fs::create_dir_all(dir.join("blobs/sha256")).unwrap();
        fs::write(dir.join("oci-layout"), br#"{"imageLayoutVersion":"1.0.0"}"#).unwrap();
        Self {
            dir: dir.into(),
            manifests: Vec::new(),
        }
    }

    /// Stores a blob and returns its descriptor.
    pub(crate) fn blob(&self, media_type: &str, bytes: &[u8]) -> Value {
        let digest = Digest::of(bytes);
        fs::write(self.dir.join(digest.blob_path()), bytes).unwrap();
        json!({"mediaType": media_type, "digest": digest.to_string(), "size": bytes.len()})
    }

    /// Stores a JSON document and returns its descriptor.
    pub(crate) fn document(&self, media_type: &str, document: &Value) -> Value {
        self.blob(media_type, &serde_json::to_vec(document).unwrap())
    }

    /// Lists a descriptor in `index.json`.
    pub(crate) fn list(&mut self, mut descriptor: Value, tag: Option<&str>) {
        if let Some(tag) = tag {
            descriptor["annotations"] = json!({media_type::REF_NAME: tag});
        }
        self.manifests.push(descriptor);
    }

    /// Writes `index.json`.
    pub(crate) fn finish(self) {
        let index = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": self.manifests,
        });
        fs::write(
            self.dir.join("index.json"),
            serde_json::to_vec(&index).unwrap(),
        )
        .unwrap();
    }

    /// Stores an artifact that refers to `subject` and returns its descriptor.
    pub(crate) fn artifact(&self, subject: &Value, content: &[u8]) -> Value {
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_MANIFEST,
            "artifactType": "application/vnd.example.sbom",
            "config": self.blob(media_type::OCI_EMPTY, b"{}"),
            "layers": [self.blob("text/plain", content)],
            "subject": subject,
        });
        self.document(media_type::OCI_MANIFEST, &manifest)
    }
}

/// Writes an image with its referrers as an OCI layout, tagged [`TAG`].
pub(crate) fn write_image(dir: &Path, image: Image) {
    let mut layout = Layout::create(dir);
    let text = format!("seed {}\n", image.seed);
    let mut tars = vec![layer(&[("etc/os-release", text.as_bytes())])];
    let mut layers = vec![layout.blob(media_type::LAYER_TAR_GZIP, &gzip(&tars[0]))];
    if image.large > 0 {
        tars.push(layer(&[("usr/bin/tool", text.as_bytes())]));
        let zstd = zstd::encode_all(tars[1].as_slice(), 3).unwrap();
        layers.push(layout.blob(media_type::LAYER_TAR_ZSTD, &zstd));
        tars.push(layer(&[("usr/lib/noise", &noise(image.large, image.seed))]));
        // Not compressed, so that the noise of every seed has one size.
        layers.push(layout.blob(media_type::LAYER_TAR, &tars[2]));
    }
    let diff_ids: Vec<_> = tars.iter().map(|tar| Digest::of(tar).to_string()).collect();
    let config = json!({
        "architecture": bundle::platform::Wanted::host().architecture,
        "os": "linux",
        "created": "2026-01-01T00:00:00Z",
        "config": {"Labels": {"org.opencontainers.image.version": TAG}},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": layout.document(media_type::OCI_CONFIG, &config),
        "layers": layers,
    });
    let manifest = layout.document(media_type::OCI_MANIFEST, &manifest);
    layout.list(manifest.clone(), Some(TAG));
    for number in 0..image.referrers {
        let artifact = layout.artifact(&manifest, format!("referrer {number}").as_bytes());
        layout.list(artifact, None);
    }
    layout.finish();
}

fn layer(files: &[(&str, &[u8])]) -> Vec<u8> {
    let mut tar = tar::Builder::new(Vec::new());
    for (path, content) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(content.len() as u64);
        header.set_mode(0o644);
        header.set_mtime(1_767_225_600);
        tar.append_data(&mut header, path, *content).unwrap();
    }
    tar.into_inner().unwrap()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

/// Bytes that do not compress and are the same in every run (xorshift).
pub(crate) fn noise(length: usize, seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(length + 8);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes.truncate(length);
    bytes
}
