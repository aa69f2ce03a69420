//! What can go wrong with a registry, and what of it is worth trying again.
//!
//! Threats: messages from a registry reach a terminal and a log. Defences: the only foreign text
//! shown goes through [`Detail`] or `printable`; URLs, which may carry signed queries or
//! passwords, are never part of an error.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use bundle_format::Digest;

use super::credentials::Searched;
use super::detail::Detail;

/// Says what a registry, or the way to it, failed at.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// The registry has no such object, or hides it.
    #[error("{object} does not exist")]
    NotFound {
        /// What was asked for.
        object: String,
    },
    /// The registry refused our credentials, or the lack of them (401, 403).
    #[error("{object}: access denied ({status}{detail}); {searched}")]
    Unauthorized {
        /// What was asked for.
        object: String,
        /// HTTP status.
        status: u16,
        /// What the registry said.
        detail: Detail,
        /// Where credentials were looked for.
        searched: Searched,
    },
    /// The registry limits requests and did not relent (429).
    #[error("{object}: too many requests{detail}")]
    TooManyRequests {
        /// What was asked for.
        object: String,
        /// What the registry said.
        detail: Detail,
        /// How long the registry asked us to wait.
        retry_after: Option<Duration>,
    },
    /// The registry failed (5xx).
    #[error("{object}: the registry failed with status {status}{detail}")]
    Server {
        /// What was asked for.
        object: String,
        /// HTTP status.
        status: u16,
        /// What the registry said.
        detail: Detail,
        /// How long the registry asked us to wait.
        retry_after: Option<Duration>,
    },
    /// The registry answered with a status that has no meaning here.
    #[error("{object}: unexpected status {status}{detail}")]
    Status {
        /// What was asked for.
        object: String,
        /// HTTP status.
        status: u16,
        /// What the registry said.
        detail: Detail,
    },
    /// The host could not be found or reached.
    #[error("cannot connect to {host}")]
    Connect {
        /// Host and port.
        host: String,
        /// Cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// The host does not prove to be who it should be, or speaks no TLS.
    #[error("cannot set up TLS with {host}")]
    Tls {
        /// Host and port.
        host: String,
        /// Cause.
        #[source]
        source: Box<dyn StdError + Send + Sync>,
    },
    /// Verification is on and the next step would be in clear text.
    #[error("{object}: refusing clear-text http to {host}")]
    ClearText {
        /// What was asked for.
        object: String,
        /// Host and port that would have been spoken to.
        host: String,
    },
    /// The connection broke before the answer.
    #[error("{object}: the connection broke")]
    Broken {
        /// What was asked for.
        object: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
    /// The registry stayed silent too long.
    #[error("{object}: nothing received for {} s", .after.as_secs_f32())]
    Stalled {
        /// What was asked for.
        object: String,
        /// How long was waited.
        after: Duration,
    },
    /// The body ended before its time.
    #[error("{object}: cut after {received} of {expected} bytes")]
    Cut {
        /// What was asked for.
        object: String,
        /// Bytes that arrived, counted from the object's first.
        received: u64,
        /// Size of the object.
        expected: u64,
    },
    /// The registry has an object of another size than its descriptor says.
    #[error("{object}: the registry has {found} bytes, the descriptor says {expected}")]
    WrongSize {
        /// What was asked for.
        object: String,
        /// Size in the descriptor.
        expected: u64,
        /// Size the registry announced or sent.
        found: u64,
    },
    /// The body does not end where it must.
    #[error("{object}: longer than {limit} bytes")]
    TooLong {
        /// What was asked for.
        object: String,
        /// The size or cap that was passed.
        limit: u64,
    },
    /// The bytes are not those of the digest.
    #[error("{object}: expected {expected}, found {found}")]
    WrongDigest {
        /// What was asked for.
        object: String,
        /// Digest asked for, or named by the registry.
        expected: Digest,
        /// Digest of the bytes that came.
        found: Digest,
    },
    /// The answer breaks the protocol.
    #[error("{object}: malformed answer: {reason}")]
    Malformed {
        /// What was asked for.
        object: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The registry sends us around in circles.
    #[error("{object}: more than {limit} redirects")]
    Redirects {
        /// What was asked for.
        object: String,
        /// How many were followed.
        limit: u32,
    },
    /// A file with credentials cannot be used.
    #[error("cannot use credentials in {}: {reason}", .path.display())]
    Authfile {
        /// The file.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A credential helper failed.
    #[error("credential helper {helper}: {reason}")]
    Helper {
        /// Name of the program.
        helper: String,
        /// How it failed.
        reason: String,
    },
    /// A certificate or key cannot be used.
    #[error("cannot use certificates in {}: {reason}", .path.display())]
    Certificates {
        /// The file or directory.
        path: PathBuf,
        /// Why not.
        reason: String,
    },
    /// A proxy variable is malformed.
    #[error("environment variable {variable} is no proxy URL")]
    Proxy {
        /// Name of the variable; its value may hold a password.
        variable: String,
    },
    /// A caller asked to start behind the end.
    #[error("{object}: cannot start at {start} of {size} bytes")]
    Start {
        /// What was asked for.
        object: String,
        /// Where to start.
        start: u64,
        /// Size in the descriptor.
        size: u64,
    },
    /// The receiver of the bytes failed.
    #[error("{object}: cannot store what was received")]
    Sink {
        /// What was asked for.
        object: String,
        /// Cause.
        #[source]
        source: io::Error,
    },
}

impl RegistryError {
    /// Returns a code that never changes for one kind of failure.
    pub fn code(&self) -> &'static str {
        match self {
            Self::NotFound { .. } => "registry-not-found",
            Self::Unauthorized { .. } => "registry-unauthorized",
            Self::TooManyRequests { .. } => "registry-too-many-requests",
            Self::Server { .. } | Self::Status { .. } => "registry-failed",
            Self::Connect { .. } | Self::Broken { .. } | Self::Stalled { .. } => {
                "registry-unreachable"
            }
            Self::Tls { .. } | Self::ClearText { .. } | Self::Certificates { .. } => "registry-tls",
            Self::Cut { .. } => "registry-cut",
            Self::WrongSize { .. } | Self::TooLong { .. } | Self::WrongDigest { .. } => {
                "registry-wrong-content"
            }
            Self::Malformed { .. } | Self::Redirects { .. } => "registry-malformed",
            Self::Authfile { .. } | Self::Helper { .. } => "registry-credentials",
            Self::Proxy { .. } | Self::Start { .. } => "registry-setup",
            Self::Sink { .. } => "storing",
        }
    }

    /// Tells whether the same request may succeed in a moment.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            Self::TooManyRequests { .. }
            | Self::Broken { .. }
            | Self::Stalled { .. }
            | Self::Cut { .. } => true,
            Self::Server { status, .. } => matches!(status, 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Returns how long the registry asked us to wait.
    pub(super) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after, .. } | Self::Server { retry_after, .. } => {
                *retry_after
            }
            _ => None,
        }
    }

    /// Makes a [`RegistryError::Malformed`].
    pub(super) fn malformed(object: &str, reason: impl fmt::Display) -> Self {
        Self::Malformed {
            object: object.to_owned(),
            reason: reason.to_string(),
        }
    }
}
