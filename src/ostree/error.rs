//! What can go wrong in the OSTree engine, with the object, the cause and the remedy.

use std::io;

use ::ostree::{gio, glib};
use bundle_format::Digest;

use crate::exit::ExitStatus;

/// Says why the OSTree engine refused or failed; nothing it had begun is left referenced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OstreeError {
    /// A layer holds an entry that no honest image holds, or that OSTree cannot express.
    #[error("layer {layer}: entry {entry:?}: {reason}")]
    Reject {
        /// Digest of the stored layer.
        layer: Digest,
        /// Path of the entry as the archive spells it, shortened.
        entry: String,
        /// What is wrong with it.
        reason: RejectReason,
    },
    /// A layer unpacks to something other than the configuration declares.
    #[error("layer {layer}: unpacked content is {found}, the image declares {expected}")]
    DiffId {
        /// Digest of the stored layer.
        layer: Digest,
        /// `diff_id` in the image's configuration.
        expected: Digest,
        /// What the stream hashed to.
        found: Digest,
    },
    /// A layer's source gave another number of bytes than its descriptor declares.
    #[error("layer {layer}: {found} bytes were read, its descriptor declares {expected}")]
    LayerSize {
        /// Digest of the stored layer.
        layer: Digest,
        /// Size in the descriptor.
        expected: u64,
        /// Bytes read; reading stops soon after the declared size.
        found: u64,
    },
    /// A layer is compressed in a way that this engine does not read.
    #[error("layer {layer}: unsupported media type {media_type:?}")]
    MediaType {
        /// Digest of the stored layer.
        layer: Digest,
        /// Media type of its descriptor.
        media_type: String,
    },
    /// A layer's compressed stream is damaged, or continues after its end.
    #[error("layer {layer}: cannot decompress")]
    Decompress {
        /// Digest of the stored layer.
        layer: Digest,
        /// What the decompressor said.
        source: io::Error,
    },
    /// A layer exceeds one of the [`Limits`](super::Limits).
    #[error("layer {layer}: more than {limit} {what}")]
    Limit {
        /// Digest of the stored layer.
        layer: Digest,
        /// Name of the limit.
        what: &'static str,
        /// Its value.
        limit: u64,
    },
    /// The bytes of a layer could not be read.
    #[error("layer {layer}: cannot read")]
    Source {
        /// Digest of the stored layer.
        layer: Digest,
        /// What the source said; verification failures of the caller arrive here unchanged.
        source: io::Error,
    },
    /// The image's description contradicts itself or exceeds a limit.
    #[error("image {image}: {problem}")]
    Image {
        /// Reference of the image.
        image: String,
        /// What is wrong.
        problem: ImageProblem,
    },
    /// The file system of the repository has no room for the image.
    #[error("no space for {object}: {detail}")]
    NoSpace {
        /// What was being written.
        object: String,
        /// Bytes needed and available, or libostree's words.
        detail: String,
    },
    /// Another process is changing the deployments.
    #[error("the sysroot is locked by another updater")]
    Locked,
    /// There is no deployment before the current one.
    #[error("there is no deployment to roll back to")]
    NothingToRollBackTo,
    /// The caller asked to stop; whatever was complete stays, and the next import continues from there.
    #[error("interrupted")]
    Cancelled,
    /// A name that becomes a directory or ref is not usable as one.
    #[error("not a usable {what}: {name:?}")]
    Name {
        /// Kind of name.
        what: &'static str,
        /// The name.
        name: String,
    },
    /// libostree failed.
    #[error("{action}")]
    Libostree {
        /// What was being done, as a gerund with its object.
        action: String,
        /// libostree's error.
        source: glib::Error,
    },
    /// The operating system failed.
    #[error("{action}")]
    Io {
        /// What was being done, as a gerund with its object.
        action: String,
        /// The operating system's error.
        source: io::Error,
    },
}

/// Says what is wrong with an entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RejectReason {
    /// The header block's checksum is wrong.
    #[error("damaged tar header")]
    HeaderChecksum,
    /// A number in the header is not one, is negative or too large.
    #[error("{field} is not a number tar allows")]
    Number {
        /// Field of the header.
        field: &'static str,
    },
    /// The archive ends within an entry.
    #[error("archive ends within an entry")]
    Truncated,
    /// Something follows the archive's end.
    #[error("data after the end of the archive")]
    TrailingData,
    /// A PAX header cannot be parsed, or says the same thing twice.
    #[error("malformed extended header")]
    Extension,
    /// Two sizes of one entry contradict each other.
    #[error("extended header says {pax} bytes, tar header says {ustar}")]
    SizeMismatch {
        /// Size in the PAX header.
        pax: u64,
        /// Size in the tar header.
        ustar: u64,
    },
    /// The map of a sparse file is out of order or out of bounds, or of an unsupported version.
    #[error("unusable map of a sparse file")]
    Sparse,
    /// An entry type that names no file: device, FIFO, or unknown.
    #[error("unsupported entry type {kind:?}")]
    Kind {
        /// Type flag of the header.
        kind: char,
    },
    /// The path is empty.
    #[error("empty name")]
    EmptyName,
    /// The path is not UTF-8, which OSTree requires, or holds a NUL.
    #[error("name is not UTF-8 text")]
    NotText,
    /// The path starts at the root of the file system.
    #[error("absolute path")]
    Absolute,
    /// The path climbs with `..`.
    #[error("path with \"..\"")]
    ParentDirectory,
    /// The path, a name in it, its depth or the attributes exceed a limit.
    #[error("{what} exceeds {limit}")]
    TooLong {
        /// Name of the limit.
        what: &'static str,
        /// Its value.
        limit: u64,
    },
    /// A directory above the entry is a file or a symbolic link.
    #[error("its parent {parent:?} is not a directory")]
    ParentNotDirectory {
        /// The offending path.
        parent: String,
    },
    /// A file would replace a directory that this layer has filled.
    #[error("replaces a directory of the same layer that is not empty")]
    ReplacesDirectory,
    /// A hard link to nothing, to a directory or out of the tree.
    #[error("hard link to {target:?}, which is not a file of this image")]
    LinkTarget {
        /// Target as the archive spells it.
        target: String,
    },
    /// A symbolic link without a usable target.
    #[error("unusable target of a symbolic link")]
    SymlinkTarget,
    /// A whiteout that names nothing or is not an empty file.
    #[error("malformed whiteout")]
    Whiteout,
    /// An extended attribute that Linux would refuse.
    #[error("unusable extended attribute {name:?}")]
    Xattr {
        /// Its name.
        name: String,
    },
    /// An owner that does not fit into 32 bits or means "nobody in particular".
    #[error("unusable owner")]
    Owner,
    /// An OSTree object in a chunked layer has a malformed name or content.
    #[error("malformed ostree object")]
    Object,
    /// An OSTree object in a chunked layer does not match its name.
    #[error("ostree object is {found}, its name says otherwise")]
    ObjectChecksum {
        /// What it hashed to.
        found: String,
    },
}

/// Says what is wrong with an image as a whole.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ImageProblem {
    /// It has no layers.
    #[error("no layers")]
    NoLayers,
    /// It has more layers than allowed.
    #[error("more than {limit} layers")]
    TooManyLayers {
        /// The limit.
        limit: usize,
    },
    /// Its manifest or configuration is too large to store in a commit.
    #[error("{what} exceeds {limit} bytes")]
    TooLarge {
        /// `manifest` or `configuration`.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Its manifest does not have the digest it should have.
    #[error("the manifest is {found}, not {expected}")]
    ManifestDigest {
        /// The declared digest.
        expected: Digest,
        /// The digest of the text.
        found: Digest,
    },
    /// A text that becomes commit metadata holds a NUL.
    #[error("{what} holds a NUL character")]
    Nul {
        /// Which text.
        what: String,
    },
    /// Its configuration is not JSON.
    #[error("the configuration is not the JSON of an image")]
    Configuration,
    /// It declares a chunked base whose last layer is not among its layers.
    #[error("the label ostree.final-diffid names no layer")]
    FinalDiffId,
    /// A chunked base whose objects are not all in its layers.
    #[error("ostree object {object} is in none of its layers")]
    Incomplete {
        /// Name of the object.
        object: String,
    },
    /// The layer that should hold the OSTree commit of a chunked base does not.
    #[error("its first layer holds no ostree commit")]
    NoCommit,
}

impl OstreeError {
    /// Wraps libostree's error for an action, and recognises a full file system and an interruption.
    pub(crate) fn libostree(action: impl Into<String>, source: glib::Error) -> Self {
        let action = action.into();
        let message = source.message();
        if source.matches(gio::IOErrorEnum::NoSpace)
            || message.contains("min-free-space-")
            || message.contains("No space left on device")
        {
            return Self::NoSpace {
                object: action,
                detail: message.to_owned(),
            };
        }
        if source.matches(gio::IOErrorEnum::Cancelled) {
            return Self::Cancelled;
        }
        Self::Libostree { action, source }
    }

    /// Returns a code that never changes for one kind of failure.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Reject { .. } => "layer-entry",
            Self::DiffId { .. } => "layer-diff-id",
            Self::LayerSize { .. } => "layer-size",
            Self::MediaType { .. } => "layer-media-type",
            Self::Decompress { .. } => "layer-compression",
            Self::Limit { .. } => "layer-limit",
            Self::Source { .. } => "layer-unreadable",
            Self::Image { .. } => "image",
            Self::NoSpace { .. } => "no-space",
            Self::Locked => "locked",
            Self::NothingToRollBackTo => "nothing-to-roll-back-to",
            Self::Cancelled => "interrupted",
            Self::Name { .. } => "name",
            Self::Libostree { .. } => "ostree",
            Self::Io { .. } => "file",
        }
    }

    /// Returns the exit status that stands for this failure.
    pub fn status(&self) -> ExitStatus {
        match self {
            Self::Reject { .. }
            | Self::DiffId { .. }
            | Self::LayerSize { .. }
            | Self::Decompress { .. }
            | Self::Limit { .. }
            | Self::Source { .. }
            | Self::Image { .. } => ExitStatus::Corrupt,
            Self::NoSpace { .. } => ExitStatus::NoSpace,
            Self::Locked => ExitStatus::Locked,
            Self::NothingToRollBackTo => ExitStatus::NothingToRollBackTo,
            Self::Cancelled => ExitStatus::Interrupted,
            Self::MediaType { .. }
            | Self::Name { .. }
            | Self::Libostree { .. }
            | Self::Io { .. } => ExitStatus::Other,
        }
    }

    /// Wraps the operating system's error for an action, and recognises a full file system.
    pub(crate) fn io(action: impl Into<String>, source: io::Error) -> Self {
        let action = action.into();
        if source.kind() == io::ErrorKind::StorageFull {
            return Self::NoSpace {
                object: action,
                detail: source.to_string(),
            };
        }
        Self::Io { action, source }
    }

    /// Returns what an operator can do about it, where there is something.
    pub fn hint(&self) -> Option<&'static str> {
        match self {
            Self::Reject { .. } | Self::Limit { .. } | Self::Image { .. } => {
                Some("the image cannot be deployed; have it rebuilt and exported again")
            }
            Self::DiffId { .. } | Self::LayerSize { .. } => {
                Some("the image was published inconsistent; have it pushed and exported again")
            }
            Self::Decompress { .. } | Self::MediaType { .. } => {
                Some("have the layer recompressed as one gzip or one plain zstd stream")
            }
            Self::Source { .. } => Some("check the medium, or copy the bundle again"),
            Self::NoSpace { .. } => {
                Some("free space, or remove old deployments with `ostree admin undeploy`")
            }
            Self::Locked => Some("wait for the other updater, then run the command again"),
            Self::NothingToRollBackTo => Some("list what there is with `ostree admin status`"),
            Self::Cancelled => Some("run the command again to continue"),
            Self::Name { .. } | Self::Libostree { .. } | Self::Io { .. } => None,
        }
    }
}
