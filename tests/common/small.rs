//! Images small enough to apply in a moment, with a kernel of a few bytes.

use std::collections::BTreeMap;

use serde_json::json;

use super::image::{Layer, bootable, gzip};
use super::registry::Layout;
use bundle::platform::Wanted;
use bundle_format::{Descriptor, Digest, media_type};

/// Layers that all releases share, and one of each.
pub struct Small {
    /// Files in the layer of each release.
    pub files: usize,
    /// Bytes of each file; from a few on they do not compress.
    pub bytes: usize,
    /// Bytes of a file in /etc, of which every deployment has a copy of its own.
    pub etc: usize,
}

impl Small {
    /// Ten small files.
    pub const TINY: Self = Self {
        files: 10,
        bytes: 100,
        etc: 10,
    };
    /// Some thousand files; an apply takes a good part of a second.
    pub const BUSY: Self = Self {
        files: 1500,
        bytes: 2000,
        etc: 10,
    };

    /// Adds a release to a layout, tagged with its version.
    pub fn release(&self, layout: &mut Layout, version: &str) -> Descriptor {
        self.release_for(layout, version, &Wanted::host().architecture)
    }

    /// Adds a release for another architecture.
    pub fn release_for(
        &self,
        layout: &mut Layout,
        version: &str,
        architecture: &str,
    ) -> Descriptor {
        let shared = self.fill(
            Layer::new().dir("usr/").dir("usr/shared/"),
            "usr/shared",
            "shared",
        );
        let own = bootable(Layer::new(), version)
            .file("etc/release.conf", version)
            .file("usr/version", version)
            .entry(b'0', "etc/large", "", 0o644, &noise(version, self.etc))
            .dir("usr/own/");
        let own = self.fill(own, "usr/own", version);
        image(layout, version, architecture, &[shared.tar(), own.tar()])
    }

    fn fill(&self, mut layer: Layer, directory: &str, seed: &str) -> Layer {
        for number in 0..self.files {
            let content = noise(&format!("{seed} {number}"), self.bytes);
            layer = layer.entry(b'0', &format!("{directory}/{number}"), "", 0o644, &content);
        }
        layer
    }
}

/// Adds an image of gzip layers to a layout.
pub fn image(layout: &mut Layout, tag: &str, architecture: &str, layers: &[Vec<u8>]) -> Descriptor {
    image_with(layout, tag, architecture, layers, &[])
}

/// Adds an image of gzip layers with more labels.
pub fn image_with(
    layout: &mut Layout,
    tag: &str,
    architecture: &str,
    layers: &[Vec<u8>],
    labels: &[(&str, &str)],
) -> Descriptor {
    let mut all: BTreeMap<&str, &str> = labels.iter().copied().collect();
    all.insert("org.opencontainers.image.version", tag);
    let diff_ids: Vec<_> = layers.iter().map(|layer| Digest::of(layer)).collect();
    let config = json!({
        "architecture": architecture,
        "os": "linux",
        "config": {"Labels": all},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
    });
    let config = layout.blob(media_type::OCI_CONFIG, config.to_string().as_bytes());
    let layers: Vec<_> = layers
        .iter()
        .map(|layer| layout.blob("application/vnd.oci.image.layer.v1.tar+gzip", &gzip(layer)))
        .collect();
    let manifest = json!({
        "schemaVersion": 2,
        "mediaType": media_type::OCI_MANIFEST,
        "config": config,
        "layers": layers,
    });
    layout.manifest(tag, media_type::OCI_MANIFEST, &manifest)
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: &str, length: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(length + 32);
    let mut last = Digest::of(seed.as_bytes());
    while bytes.len() < length {
        bytes.extend_from_slice(last.as_bytes());
        last = Digest::of(last.as_bytes());
    }
    bytes.truncate(length);
    bytes
}
