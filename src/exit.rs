//! Exit statuses: the one table that scripts, the man page and the tests share.

use std::process::{ExitCode, Termination};

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum ExitStatus {
    /// Everything asked for was done.
    Done = 0,
    /// A failure with no status of its own.
    Other = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The path is not a bundle, or cannot be read as one.
    NotABundle = 10,
    /// The signature, the signers or the product are not what the trust root asks for.
    Untrusted = 11,
    /// Content differs from what was signed.
    Corrupt = 12,
    /// The release is older than what the host has.
    Downgrade = 13,
    /// The release is for another platform, stateroot or base.
    WrongTarget = 14,
    /// Somebody else holds the lock.
    Locked = 15,
    /// No deployment to go back to.
    NothingToRollBackTo = 16,
    /// The file system is full, or would be.
    NoSpace = 17,
    /// The registry cannot be reached or refuses.
    Network = 18,
    /// The release did not come up healthy.
    Unhealthy = 19,
    /// Done, and a reboot makes it effective.
    RebootNeeded = 100,
    /// Stopped by the user.
    Interrupted = 130,
}

impl ExitStatus {
    /// Every status, with the words of the man page.
    pub const TABLE: &[(Self, &str)] = &[
        (Self::Done, "done"),
        (Self::Other, "another failure"),
        (Self::Usage, "wrong usage"),
        (Self::NotABundle, "not a readable bundle"),
        (
            Self::Untrusted,
            "not trusted: unsigned, signed by others, or for another product",
        ),
        (
            Self::Corrupt,
            "corrupt: content differs from what was signed",
        ),
        (Self::Downgrade, "older than what the host has"),
        (Self::WrongTarget, "for another platform, stateroot or base"),
        (Self::Locked, "locked by another updater"),
        (Self::NothingToRollBackTo, "nothing to roll back to"),
        (Self::NoSpace, "no space"),
        (Self::Network, "network or registry failure"),
        (Self::Unhealthy, "the release did not come up healthy"),
        (Self::RebootNeeded, "done, a reboot is needed"),
        (Self::Interrupted, "interrupted"),
    ];
}

impl Termination for ExitStatus {
    fn report(self) -> ExitCode {
        ExitCode::from(self as u8)
    }
}
