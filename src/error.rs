//! What can go wrong, in words, as a stable code, and as an exit status.

use std::io;
use std::path::PathBuf;

use bundle_format::Digest;
use bundle_keys::KeyError;

use crate::exit::ExitStatus;
#[cfg(feature = "export")]
use crate::registry::RegistryError;
use crate::verify::Problem;

/// Any failure of the library.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A file of the host or of the build box that cannot be used.
    #[error("{doing} {}", path.display())]
    File {
        /// What was tried, such as "reading".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// A bundle that is not what its signers made, or that nobody trusted made.
    #[error("{}: {}{}", path.display(), problems.first().map(ToString::to_string).unwrap_or_default(), more(problems))]
    Rejected {
        /// The bundle.
        path: PathBuf,
        /// What is wrong with it; never empty.
        problems: Vec<Problem>,
    },
    /// Reading a bundle failed in the middle of using it.
    #[error("{}", problem)]
    Content {
        /// What is wrong.
        problem: Box<Problem>,
    },
    /// A key or a trust root that cannot be used.
    #[error("{}", path.display())]
    Key {
        /// The file it came from.
        path: PathBuf,
        /// What is wrong with it.
        source: KeyError,
    },
    /// An option whose value makes no sense here.
    #[error("{option}: {problem}")]
    Usage {
        /// The option or argument.
        option: String,
        /// What is wrong with it.
        problem: String,
        /// What to do instead.
        hint: String,
    },
    /// Something that is already there and is never overwritten.
    #[error("{} exists and is never overwritten", path.display())]
    Exists {
        /// The path.
        path: PathBuf,
    },
    /// The image at the source cannot be made into a bundle.
    #[error("{object}: {problem}")]
    Image {
        /// The manifest, index or configuration.
        object: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The release has no image for the platform.
    #[error("no image for platform {wanted}; there are: {}", available.join(", "))]
    WrongPlatform {
        /// Platform asked for.
        wanted: String,
        /// Platforms the release has.
        available: Vec<String>,
    },
    /// A layer that is not in the bundle, and that no delta of it makes on this host.
    #[error(
        "layer {layer} is not in the bundle, and no delta of it can be used here{}",
        because(reasons)
    )]
    MissingBase {
        /// Digest of the layer.
        layer: Digest,
        /// Why each delta is of no use.
        reasons: Vec<String>,
        /// Manifests of the images that the deltas were made against.
        bases: Vec<Digest>,
    },
    /// The release is older than what the host has.
    #[error("{}", downgrade(product, *offered, *held))]
    Downgrade {
        /// The product.
        product: String,
        /// Sequence of the release.
        offered: u64,
        /// Sequence the system has.
        held: u64,
    },
    /// Two runs at once.
    #[error("{} is in use by another run of bundle", path.display())]
    Busy {
        /// What both want.
        path: PathBuf,
    },
    /// The registry.
    #[cfg(feature = "export")]
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The OSTree engine.
    #[cfg(feature = "ostree")]
    #[error(transparent)]
    Ostree(#[from] crate::ostree::OstreeError),
    /// The user asked to stop.
    #[error("interrupted")]
    Interrupted,
}

fn downgrade(product: &str, offered: u64, held: u64) -> String {
    if offered == held {
        return format!("release sequence {offered} of {product} is held by another release");
    }
    format!("release sequence {offered} of {product} is older than {held}, which this system has")
}

fn because(reasons: &[String]) -> String {
    match reasons {
        [] => String::new(),
        reasons => format!(": {}", reasons.join("; ")),
    }
}

fn more(problems: &[Problem]) -> String {
    match problems.len() {
        0 | 1 => String::new(),
        n => format!(" (and {} more)", n - 1),
    }
}

impl Error {
    /// Wraps a failure on a file.
    pub fn file(doing: &'static str, path: impl Into<PathBuf>, source: io::Error) -> Self {
        Self::File {
            doing,
            path: path.into(),
            source,
        }
    }

    /// Returns a code that never changes for one kind of failure, for scripts and reports.
    pub fn code(&self) -> &'static str {
        match self {
            Self::File { source, .. } if is_no_space(source) => "no-space",
            Self::File { .. } => "file",
            Self::Rejected { problems, .. } => problems.first().map_or("rejected", Problem::code),
            Self::Content { problem } => problem.code(),
            Self::Key { .. } => "key",
            Self::Usage { .. } => "usage",
            Self::Exists { .. } => "exists",
            Self::Image { .. } => "image",
            Self::WrongPlatform { .. } => "wrong-platform",
            Self::MissingBase { .. } => "missing-base",
            Self::Downgrade { .. } => "downgrade",
            Self::Busy { .. } => "busy",
            #[cfg(feature = "export")]
            Self::Registry(error) => error.code(),
            #[cfg(feature = "ostree")]
            Self::Ostree(error) => error.code(),
            Self::Interrupted => "interrupted",
        }
    }

    /// Returns the exit status that stands for this failure.
    pub fn status(&self) -> ExitStatus {
        match self {
            Self::File { source, .. } if is_no_space(source) => ExitStatus::NoSpace,
            Self::File { .. } | Self::Exists { .. } | Self::Image { .. } => ExitStatus::Other,
            Self::Rejected { problems, .. } => worst(problems),
            Self::Content { problem } => problem.status(),
            Self::Key { .. } => ExitStatus::Untrusted,
            Self::Usage { .. } => ExitStatus::Usage,
            Self::WrongPlatform { .. } | Self::MissingBase { .. } => ExitStatus::WrongTarget,
            Self::Downgrade { .. } => ExitStatus::Downgrade,
            Self::Busy { .. } => ExitStatus::Locked,
            #[cfg(feature = "export")]
            Self::Registry(RegistryError::Sink { source, .. }) if is_no_space(source) => {
                ExitStatus::NoSpace
            }
            #[cfg(feature = "export")]
            Self::Registry(RegistryError::Sink { .. }) => ExitStatus::Other,
            #[cfg(feature = "export")]
            Self::Registry(_) => ExitStatus::Network,
            #[cfg(feature = "ostree")]
            Self::Ostree(error) => error.status(),
            Self::Interrupted => ExitStatus::Interrupted,
        }
    }

    /// Returns what the user can do about it, where that is known.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::File { source, path, .. } => file_hint(source, path),
            Self::Rejected { problems, .. } => problems.first().map(Problem::hint),
            Self::Content { problem } => Some(problem.hint()),
            Self::Key { source, .. } => key_hint(source),
            Self::Usage { hint, .. } => Some(hint.clone()),
            Self::Exists { .. } => Some("choose another path, or move this one away".into()),
            Self::WrongPlatform { .. } => {
                Some("export the release with --platform, or with --all-platforms".into())
            }
            Self::MissingBase { bases, .. } => Some(base_hint(bases)),
            Self::Downgrade { .. } => Some(
                "apply a release with a higher sequence; to go back to the former release, \
                     run `bundle rollback`"
                    .into(),
            ),
            Self::Busy { .. } => Some("wait until it has ended, then run this again".into()),
            #[cfg(feature = "export")]
            Self::Registry(error) => error.hint(),
            #[cfg(feature = "ostree")]
            Self::Ostree(error) => error.hint().map(Into::into),
            Self::Interrupted => {
                Some("run the same command again; what was complete is not done twice".into())
            }
            Self::Image { .. } => None,
        }
    }
}

/// Returns the exit status for a list of problems: distrust outweighs damage.
pub fn worst(problems: &[Problem]) -> ExitStatus {
    let has = |status| problems.iter().any(|p| p.status() == status);
    [ExitStatus::Untrusted, ExitStatus::NotABundle]
        .into_iter()
        .find(|status| has(*status))
        .unwrap_or(ExitStatus::Corrupt)
}

/// Returns true where the system says that a file system or quota is full.
pub fn is_no_space(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
    )
}

fn base_hint(bases: &[Digest]) -> String {
    let made_for = match bases {
        [] => String::new(),
        bases => {
            let bases: Vec<_> = bases.iter().map(ToString::to_string).collect();
            format!(
                "; this one's deltas are for hosts that have {}",
                bases.join(" or ")
            )
        }
    };
    format!(
        "ask for a full bundle, or for one exported with --from the release that `bundle status` \
         shows here{made_for}"
    )
}

fn file_hint(source: &io::Error, path: &std::path::Path) -> Option<String> {
    match source.kind() {
        io::ErrorKind::NotFound => Some("check the path; is the medium mounted?".into()),
        io::ErrorKind::PermissionDenied => Some("run this as a user who may, such as root".into()),
        _ if is_no_space(source) => Some(format!(
            "free space on the file system that holds {}",
            path.display()
        )),
        _ => None,
    }
}

fn key_hint(source: &KeyError) -> Option<String> {
    match source {
        KeyError::Malformed { .. } => {
            Some("keys are Ed25519 in PEM; `bundle key generate --out KEY.pem` makes a pair".into())
        }
        KeyError::Weak => Some("`bundle key generate --out KEY.pem` makes a sound pair".into()),
        KeyError::Random { .. } => None,
        KeyError::Gap { .. } => Some(
            "bring every version between the one the host has and the newest, one after the other"
                .into(),
        ),
        KeyError::Rotation { .. } => Some(
            "root keys of both versions sign a new version, with `bundle trust sign`; \
             if it came from elsewhere, do not use it"
                .into(),
        ),
        KeyError::Fork { .. } | KeyError::OtherProduct { .. } => {
            Some("compare fingerprints with `bundle trust show`; it is not of this family".into())
        }
        KeyError::OldList { .. } => Some("use the newest list there is".into()),
        KeyError::Threshold { .. } | KeyError::NoRole { .. } | KeyError::Unsigned => Some(
            "keys of the role sign it with `bundle trust sign`; `bundle trust show` lists them"
                .into(),
        ),
        KeyError::OutOfScope { .. } => Some(
            "`bundle trust show` lists what each key may sign; `bundle trust rotate` changes it"
                .into(),
        ),
        KeyError::RevokedKey { .. } => Some("sign it with keys that are not revoked".into()),
        _ => Some("`bundle trust init` makes a trust root; copy it to hosts unchanged".into()),
    }
}
