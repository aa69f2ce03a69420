//! What is known of layers on both ends: how they are compressed, and which of their content hosts keep.

use bundle_format::media_type::{DOCKER_LAYER_GZIP, LAYER_TAR, LAYER_TAR_GZIP, LAYER_TAR_ZSTD};

/// Top-level directories whose content never belongs to an image; the directories themselves are kept.
pub(crate) const EXCLUDED: [&str; 6] = ["dev", "proc", "run", "sys", "sysroot", "tmp"];
/// Where chunked layers keep the objects of their commit.
pub(crate) const OBJECTS: &str = "sysroot/ostree/repo/objects/";

/// Returns true where a host keeps the content of a regular file that a layer has at `path`.
#[cfg(feature = "export")]
pub(crate) fn is_kept(path: &str) -> bool {
    let (top, below) = path.split_once('/').unwrap_or((path, ""));
    let is_content = path.starts_with(OBJECTS) && path.ends_with(".file");
    is_content || below.is_empty() || !EXCLUDED.contains(&top)
}

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Encoding {
    Tar,
    Gzip,
    Zstd,
}

impl Encoding {
    /// Reads the encoding from a media type of OCI or Docker.
    pub(crate) fn of(media_type: &str) -> Option<Self> {
        match media_type {
            LAYER_TAR
            | "application/vnd.oci.image.layer.nondistributable.v1.tar"
            | "application/vnd.docker.image.rootfs.diff.tar" => Some(Self::Tar),
            LAYER_TAR_GZIP
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip"
            | DOCKER_LAYER_GZIP => Some(Self::Gzip),
            LAYER_TAR_ZSTD
            | "application/vnd.oci.image.layer.nondistributable.v1.tar+zstd"
            | "application/vnd.docker.image.rootfs.diff.tar.zstd" => Some(Self::Zstd),
            _ => None,
        }
    }
}

#[cfg(all(test, feature = "export"))]
mod tests {
    use super::*;

    #[test]
    fn hosts_keep_what_belongs_to_an_image() {
        for (path, kept) in [
            ("usr/bin/true", true),
            ("etc/fstab", true),
            ("run/lock", false),
            ("tmp/x/y", false),
            ("sysroot/ostree/repo/config", false),
            ("sysroot/ostree/repo/objects/00/11.dirtree", false),
            ("sysroot/ostree/repo/objects/00/11.file-xattrs", false),
            ("sysroot/ostree/repo/objects/00/11.file", true),
        ] {
            assert_eq!(is_kept(path), kept, "{path}");
        }
    }
}
