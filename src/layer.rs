//! How layers are compressed, by their media types.

use std::io::{self, BufRead, Read};

use bundle_format::media_type::{DOCKER_LAYER_GZIP, LAYER_TAR, LAYER_TAR_GZIP, LAYER_TAR_ZSTD};

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

    /// Unpacks a layer on the build box, where its `diff_id` is compared before anything is done with it.
    ///
    /// # Errors
    /// Fails where the decompressor cannot be set up.
    #[cfg(feature = "export")]
    pub(crate) fn unpack(self, stored: impl BufRead + 'static) -> io::Result<Box<dyn Read>> {
        Ok(match self {
            Self::Tar => Box::new(stored),
            Self::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(stored)),
            Self::Zstd => Box::new(zstd::stream::read::Decoder::with_buffer(stored)?),
        })
    }
}
