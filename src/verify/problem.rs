//! What can be wrong with a bundle: one entry a finding, with a code that never changes.

use std::fmt;
use std::ops::Range;

use crate::exit::ExitStatus;

/// Kinds of findings.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ProblemKind {
    /// The path does not hold an OCI layout.
    NotABundle,
    /// An OCI layout without a release statement, or an envelope without signatures.
    Unsigned,
    /// Signatures that do not satisfy the trust root.
    Untrusted,
    /// A release of another product.
    WrongProduct,
    /// A release of a channel that the host does not follow.
    WrongChannel,
    /// A release whose statement or content was revoked.
    Revoked,
    /// A file that the statement lists is not there.
    MissingFile,
    /// A file that the statement does not list.
    ExtraFile,
    /// A link, directory, device or second name where a file should be.
    MisplacedFile,
    /// A file with another size.
    WrongSize,
    /// Bytes with another hash.
    Corrupt,
    /// The medium does not return the bytes.
    Unreadable,
    /// Signed documents that contradict each other.
    Inconsistent,
}

/// One finding: what is wrong, where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// Kind of finding.
    pub kind: ProblemKind,
    /// File the finding is about, relative to the bundle's root; safe to print.
    pub file: String,
    /// Bytes of the file it is about, where it is not about all of it.
    pub range: Option<Range<u64>>,
    /// What was found, in words; safe to print.
    pub detail: String,
}

impl Problem {
    /// Notes a finding about a whole file.
    pub fn new(kind: ProblemKind, file: &str, detail: impl fmt::Display) -> Self {
        let detail = crate::text::printable(&detail.to_string());
        Self {
            kind,
            file: crate::text::printable(file),
            range: None,
            detail,
        }
    }

    /// Narrows the finding to a byte range.
    #[must_use]
    pub fn within(mut self, range: Range<u64>) -> Self {
        self.range = Some(range);
        self
    }

    /// Returns the stable code.
    pub fn code(&self) -> &'static str {
        match self.kind {
            ProblemKind::NotABundle => "not-a-bundle",
            ProblemKind::Unsigned => "unsigned",
            ProblemKind::Untrusted => "untrusted",
            ProblemKind::WrongProduct => "wrong-product",
            ProblemKind::WrongChannel => "wrong-channel",
            ProblemKind::Revoked => "revoked",
            ProblemKind::MissingFile => "missing-file",
            ProblemKind::ExtraFile => "extra-file",
            ProblemKind::MisplacedFile => "misplaced-file",
            ProblemKind::WrongSize => "wrong-size",
            ProblemKind::Corrupt => "corrupt",
            ProblemKind::Unreadable => "unreadable",
            ProblemKind::Inconsistent => "inconsistent",
        }
    }

    /// Returns the exit status that stands for the finding.
    pub fn status(&self) -> ExitStatus {
        match self.kind {
            ProblemKind::NotABundle => ExitStatus::NotABundle,
            ProblemKind::Unsigned
            | ProblemKind::Untrusted
            | ProblemKind::WrongProduct
            | ProblemKind::WrongChannel
            | ProblemKind::Revoked => ExitStatus::Untrusted,
            _ => ExitStatus::Corrupt,
        }
    }

    /// Returns what to do about it.
    pub fn hint(&self) -> String {
        match self.kind {
            ProblemKind::NotABundle => {
                "give the directory or tar file that `bundle export` wrote; is the medium mounted?"
            }
            ProblemKind::Unsigned => "only bundles that `bundle export` signed are accepted",
            ProblemKind::Untrusted => {
                "compare the signers with `bundle inspect` and `bundle trust show`; \
                 if they should be trusted, the host needs the trust root that lists them"
            }
            ProblemKind::WrongProduct => "use the trust root of the product this release is for",
            ProblemKind::WrongChannel => "use a release of the channel that this host follows",
            ProblemKind::Revoked => "use a newer release; this one was withdrawn by its makers",
            ProblemKind::MissingFile | ProblemKind::WrongSize => {
                "the copy is not complete; copy the bundle again from its source"
            }
            ProblemKind::ExtraFile => {
                "a bundle holds signed files only; keep other files outside its directory"
            }
            ProblemKind::MisplacedFile => {
                "copy the bundle with its files as plain files, without links"
            }
            ProblemKind::Corrupt => {
                "the copy is damaged or was changed; copy the bundle again from its source"
            }
            ProblemKind::Unreadable => {
                "the medium fails; try another port, drive or copy of the bundle"
            }
            ProblemKind::Inconsistent => "the bundle was made wrongly; ask its maker for another",
        }
        .into()
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.file)?;
        if let Some(range) = &self.range {
            write!(f, " bytes {}-{}", range.start, range.end.saturating_sub(1))?;
        }
        write!(f, ": {}", self.detail)
    }
}

impl std::error::Error for Problem {}
