//! Builds small images for tests: layers as tar streams, and a source that counts what is opened.

#![allow(dead_code, reason = "each test file uses its own part of this module")]

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::sync::Mutex;

use bundle::ostree::{Image, ImageLayer, LayerSource, LayerStream};
use bundle_format::Digest;
use flate2::Compression;
use flate2::write::GzEncoder;

pub(crate) const TAR: &str = "application/vnd.oci.image.layer.v1.tar";
pub(crate) const GZIP: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
pub(crate) const ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";

/// A tar stream in the making.
#[derive(Clone, Default)]
pub(crate) struct Layer {
    tar: Vec<u8>,
    pax: Vec<u8>,
}

impl Layer {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Adds a record to the PAX header of the next entry.
    pub(crate) fn pax(mut self, key: &str, value: &[u8]) -> Self {
        let rest = key.len() + value.len() + 3;
        let mut length = rest + 1;
        while length != rest + length.to_string().len() {
            length += 1;
        }
        self.pax
            .extend_from_slice(format!("{length} {key}=").as_bytes());
        self.pax.extend_from_slice(value);
        self.pax.push(b'\n');
        self
    }

    /// Adds an entry of any kind; the path goes into the header as it is.
    pub(crate) fn entry(self, kind: u8, path: &str, link: &str, mode: u32, content: &[u8]) -> Self {
        self.header(kind, path, link, mode, content.len() as u64, |_| {})
            .content(content)
    }

    /// Adds a header alone, after `edit` changed its bytes; its checksum is made right.
    pub(crate) fn header(
        mut self,
        kind: u8,
        path: &str,
        link: &str,
        mode: u32,
        size: u64,
        edit: impl FnOnce(&mut [u8; 512]),
    ) -> Self {
        let pax = std::mem::take(&mut self.pax);
        if !pax.is_empty() {
            self = self.entry(b'x', "PaxHeaders/x", "", 0o644, &pax);
        }
        if path.len() > 100 {
            self = self.entry(
                b'L',
                "././@LongLink",
                "",
                0,
                &[path.as_bytes(), b"\0"].concat(),
            );
        }
        let mut header = tar::Header::new_ustar();
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_size(size);
        header.set_mtime(1);
        header.set_entry_type(tar::EntryType::new(kind));
        let bytes = header.as_mut_bytes();
        for (at, text) in [(0, path), (157, link)] {
            let length = text.len().min(100);
            bytes[at..at + length].copy_from_slice(&text.as_bytes()[..length]);
        }
        edit(bytes);
        header.set_cksum();
        self.tar.extend_from_slice(header.as_bytes());
        self
    }

    /// Adds raw content, padded.
    pub(crate) fn content(mut self, content: &[u8]) -> Self {
        self.tar.extend_from_slice(content);
        self.tar.resize(self.tar.len().next_multiple_of(512), 0);
        self
    }

    pub(crate) fn dir(self, path: &str) -> Self {
        self.entry(b'5', path, "", 0o755, b"")
    }

    pub(crate) fn file(self, path: &str, content: &str) -> Self {
        self.entry(b'0', path, "", 0o644, content.as_bytes())
    }

    pub(crate) fn symlink(self, path: &str, target: &str) -> Self {
        self.entry(b'2', path, target, 0o777, b"")
    }

    pub(crate) fn hardlink(self, path: &str, target: &str) -> Self {
        self.entry(b'1', path, target, 0o644, b"")
    }

    /// Ends the archive.
    pub(crate) fn tar(&self) -> Vec<u8> {
        [&self.tar[..], &[0; 1024]].concat()
    }

    /// Returns the archive without an end.
    pub(crate) fn unfinished(&self) -> Vec<u8> {
        self.tar.clone()
    }
}

pub(crate) fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

pub(crate) fn zstd(bytes: &[u8]) -> Vec<u8> {
    zstd::encode_all(bytes, 3).unwrap()
}

/// Stored layers, and the digests of those that were opened.
#[derive(Default)]
pub(crate) struct Source {
    blobs: BTreeMap<Digest, Vec<u8>>,
    pub(crate) opened: Mutex<Vec<Digest>>,
    /// Whether it says that it gives tar streams.
    pub(crate) rebuilt: bool,
    /// After how many bytes of a blob reading fails.
    pub(crate) fails_after: Option<usize>,
}

impl Source {
    pub(crate) fn add(&mut self, blob: Vec<u8>) -> Digest {
        let digest = Digest::of(&blob);
        self.blobs.insert(digest, blob);
        digest
    }

    /// Makes the source give other bytes for a digest.
    pub(crate) fn replace(&mut self, digest: Digest, blob: Vec<u8>) {
        self.blobs.insert(digest, blob);
    }

    pub(crate) fn opened(&self) -> usize {
        self.opened.lock().unwrap().len()
    }
}

impl LayerSource for Source {
    fn open(&self, layer: &ImageLayer) -> io::Result<LayerStream<'_>> {
        self.opened.lock().unwrap().push(layer.digest);
        let blob = self
            .blobs
            .get(&layer.digest)
            .ok_or(io::ErrorKind::NotFound)?;
        if self.rebuilt {
            return Ok(LayerStream::Rebuilt(Box::new(|out| out.write_all(blob))));
        }
        Ok(LayerStream::Stored(match self.fails_after {
            Some(length) => Box::new(blob[..length].chain(Failing)),
            None => Box::new(&blob[..]),
        }))
    }
}

struct Failing;

impl Read for Failing {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("chunk 7 does not match"))
    }
}

/// Stores `tar` in `source` and describes it.
pub(crate) fn layer(source: &mut Source, media_type: &str, tar: &[u8]) -> ImageLayer {
    let blob = match media_type {
        GZIP => gzip(tar),
        ZSTD => zstd(tar),
        _ => tar.to_vec(),
    };
    let size = blob.len() as u64;
    let digest = source.add(blob);
    ImageLayer {
        digest,
        diff_id: Digest::of(tar),
        media_type: media_type.to_owned(),
        size,
        zstd_chunked: false,
    }
}

/// Makes an image of `layers`, with a manifest and a configuration as small as bootc reads them.
pub(crate) fn image(layers: Vec<ImageLayer>, version: &str, labels: &[(&str, &str)]) -> Image {
    let diff_ids: Vec<String> = layers
        .iter()
        .map(|layer| layer.diff_id.to_string())
        .collect();
    let mut all: BTreeMap<&str, &str> = labels.iter().copied().collect();
    all.insert("org.opencontainers.image.version", version);
    let config = serde_json::json!({
        "architecture": "amd64",
        "os": "linux",
        "config": {"Labels": all},
        "rootfs": {"type": "layers", "diff_ids": diff_ids},
        "history": [],
    })
    .to_string();
    let described: Vec<_> = layers
        .iter()
        .map(|layer| {
            serde_json::json!({
                "mediaType": layer.media_type, "digest": layer.digest, "size": layer.size,
            })
        })
        .collect();
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": Digest::of(config.as_bytes()), "size": config.len(),
        },
        "layers": described,
    })
    .to_string();
    Image {
        imgref: "registry.example/os:stable".to_owned(),
        manifest_digest: Digest::of(manifest.as_bytes()),
        manifest,
        config,
        layers,
        version: Some(version.to_owned()),
        created: Some(1_700_000_000),
        metadata: BTreeMap::from([("bundle.release.sequence".to_owned(), version.to_owned())]),
    }
}

/// Adds what a deployment needs to a layer: a kernel, its initramfs, an identity, and mount points.
pub(crate) fn bootable(layer: Layer, version: &str) -> Layer {
    bootable_with(layer, version, "etc")
}

/// Does what [`bootable`] does, with `/etc` at another place: `usr/etc` in the tree of a commit.
pub(crate) fn bootable_with(layer: Layer, version: &str, etc: &str) -> Layer {
    layer
        .dir("usr/")
        .dir(&format!("{etc}/"))
        .file(
            &format!("{etc}/os-release"),
            &format!("ID=test\nVERSION_ID={version}\n"),
        )
        .dir("usr/lib/")
        .file(
            "usr/lib/os-release",
            &format!("ID=test\nVERSION_ID={version}\n"),
        )
        .file("usr/lib/modules/1.0/vmlinuz", "kernel")
        .file("usr/lib/modules/1.0/initramfs.img", "initramfs")
        .dir("sysroot/")
        .dir("var/")
        .dir("boot/")
}
