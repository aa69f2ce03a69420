//! What a caller hands to the engine: a verified description of an image, and a source of its layers.

use std::collections::BTreeMap;
use std::io;

use bundle_format::Digest;
use serde::Deserialize;

use super::error::{ImageProblem, OstreeError};
use super::limits::Limits;
use super::refescape;

/// A layer of an image, by the names its manifest and configuration give it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ImageLayer {
    /// Digest of the stored, usually compressed, bytes.
    pub digest: Digest,
    /// Digest of the tar stream they unpack to.
    pub diff_id: Digest,
    /// Media type of the descriptor, which says how they are compressed.
    pub media_type: String,
    /// Stored bytes.
    pub size: u64,
    /// Whether the descriptor announces a zstd:chunked layer: many frames, and a table of contents in skippable ones.
    pub zstd_chunked: bool,
}

/// A verified image: the caller vouches for every field.
#[derive(Clone, Debug)]
pub struct Image {
    /// Registry reference without a transport, `host/repo:tag`; where the host will follow the image, never the medium.
    pub imgref: String,
    /// Digest of the manifest, as signed.
    pub manifest_digest: Digest,
    /// The manifest, byte for byte.
    pub manifest: String,
    /// The configuration, byte for byte.
    pub config: String,
    /// Layers in the order of the manifest.
    pub layers: Vec<ImageLayer>,
    /// Version for people, if there is one.
    pub version: Option<String>,
    /// Time of creation in seconds since 1970; the manifest's annotation, else the configuration's field.
    pub created: Option<u64>,
    /// More metadata of the merged commit, such as `bundle.release.sequence`.
    pub metadata: BTreeMap<String, String>,
}

/// Something that writes a layer's tar stream.
pub type Rebuild<'a> = Box<dyn FnOnce(&mut dyn io::Write) -> io::Result<()> + Send + 'a>;

/// A layer's bytes on their way into the repository.
pub enum LayerStream<'a> {
    /// The stored bytes, to be decompressed; each byte read has been verified.
    Stored(Box<dyn io::Read + Send + 'a>),
    /// Something that writes the layer's tar stream. Its `diff_id` is what makes the bytes trusted, so nothing is kept before
    /// the last was seen.
    Rebuilt(Rebuild<'a>),
}

impl std::fmt::Debug for LayerStream<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Stored(_) => "Stored",
            Self::Rebuilt(_) => "Rebuilt",
        })
    }
}

/// Gives the bytes of layers.
pub trait LayerSource {
    /// Opens a layer, which is read or written once, from start to end, on another thread than the caller's.
    ///
    /// # Errors
    /// Those of the medium and of verification. They reach the caller of the import as [`OstreeError::Source`].
    fn open(&self, layer: &ImageLayer) -> io::Result<LayerStream<'_>>;

    /// Says whether there is another way to a layer that could not be imported because of `error`; then it is opened again.
    fn another_way(&self, _layer: &ImageLayer, _error: &OstreeError) -> bool {
        false
    }

    /// Orders the chunks of a chunked base: those of a lower rank are imported first.
    fn rank(&self, _layer: &ImageLayer) -> usize {
        0
    }
}

/// The parts of an image's configuration that matter here.
#[derive(Deserialize)]
struct Configuration {
    config: Option<ContainerConfiguration>,
}

#[derive(Deserialize)]
struct ContainerConfiguration {
    #[serde(rename = "Labels")]
    labels: Option<BTreeMap<String, String>>,
}

/// Label that names the last layer of a chunked base.
const FINAL_DIFF_ID: &str = "ostree.final-diffid";

impl Image {
    fn problem(&self, problem: ImageProblem) -> OstreeError {
        OstreeError::Image {
            image: self.imgref.clone(),
            problem,
        }
    }

    /// Checks what the engine relies on, whatever the caller has verified.
    pub(super) fn check(&self, limits: &Limits) -> Result<(), OstreeError> {
        if self.layers.is_empty() {
            return Err(self.problem(ImageProblem::NoLayers));
        }
        if self.layers.len() > limits.layers {
            return Err(self.problem(ImageProblem::TooManyLayers {
                limit: limits.layers,
            }));
        }
        for (what, text) in [
            ("manifest", &self.manifest),
            ("configuration", &self.config),
        ] {
            if text.len() > limits.json {
                return Err(self.problem(ImageProblem::TooLarge {
                    what,
                    limit: limits.json,
                }));
            }
        }
        let found = Digest::of(self.manifest.as_bytes());
        if found != self.manifest_digest {
            let expected = self.manifest_digest;
            return Err(self.problem(ImageProblem::ManifestDigest { expected, found }));
        }
        let texts = self.metadata.iter().flat_map(|(key, value)| [key, value]);
        let texts = texts
            .chain([&self.imgref, &self.manifest, &self.config])
            .chain(&self.version);
        for text in texts {
            if text.contains('\0') {
                let what = text.chars().take(40).collect();
                return Err(self.problem(ImageProblem::Nul { what }));
            }
        }
        Ok(())
    }

    /// Returns the ref of the merged commit.
    pub(super) fn image_ref(&self) -> Result<String, OstreeError> {
        refescape::image_ref(&self.imgref).ok_or_else(|| OstreeError::Name {
            what: "image reference",
            name: self.imgref.clone(),
        })
    }

    /// Returns how many of the first layers form a chunked base; 0 for an image of plain layers.
    pub(super) fn chunked_layers(&self) -> Result<usize, OstreeError> {
        let config: Configuration = serde_json::from_str(&self.config)
            .map_err(|_| self.problem(ImageProblem::Configuration))?;
        let labels = config
            .config
            .and_then(|config| config.labels)
            .unwrap_or_default();
        let Some(last) = labels.get(FINAL_DIFF_ID) else {
            return Ok(0);
        };
        let position = self
            .layers
            .iter()
            .position(|layer| layer.diff_id.to_string() == *last);
        position
            .map(|last| last + 1)
            .ok_or_else(|| self.problem(ImageProblem::FinalDiffId))
    }

    /// Says whether layer `number` is a chunk of a chunked base; these may be imported in any order.
    pub(crate) fn is_chunk(&self, number: usize) -> bool {
        // The first holds the commit, and comes last.
        self.chunked_layers()
            .is_ok_and(|chunked| number > 0 && number < chunked)
    }

    pub(super) fn incomplete(&self, object: String) -> OstreeError {
        self.problem(ImageProblem::Incomplete { object })
    }

    pub(super) fn no_commit(&self) -> OstreeError {
        self.problem(ImageProblem::NoCommit)
    }
}
