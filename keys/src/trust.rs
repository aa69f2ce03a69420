//! What a host accepts releases by: its trust root, its channel, and what was revoked (SPEC 8.3).

use std::collections::BTreeSet;

use bundle_format::dsse::Envelope;
use bundle_format::{DEFAULT_CHANNEL, Digest, Release};

use crate::{KeyError, RevocationList, Role, TrustRoot};

/// Everything a host holds that decides whom it believes.
#[derive(Clone, Copy, Debug)]
pub struct Trust<'a> {
    /// The newest trust root it has.
    pub root: &'a TrustRoot,
    /// The channel it follows.
    pub channel: &'a str,
    /// The newest revocation list it has.
    pub revoked: Option<&'a RevocationList>,
}

impl<'a> From<&'a TrustRoot> for Trust<'a> {
    /// Trusts a root on the default channel, with nothing revoked.
    fn from(root: &'a TrustRoot) -> Self {
        Self {
            root,
            channel: DEFAULT_CHANNEL,
            revoked: None,
        }
    }
}

impl Trust<'_> {
    /// Checks that enough keys of `role` signed `envelope`; returns the ids of those that did.
    ///
    /// Keys that were revoked count for nothing, where the role is one that keys are revoked from.
    ///
    /// # Errors
    /// Fails on a bad signature and below the threshold.
    pub fn check_signatures(
        &self,
        role: Role,
        envelope: &Envelope,
    ) -> Result<BTreeSet<Digest>, KeyError> {
        let revoked = self.revoked.filter(|_| role.is_revocable());
        let is_revoked = |id: &Digest| revoked.is_some_and(|list| list.keys.contains(id));
        let verdict = self.root.signers(role, envelope, |id| !is_revoked(id));
        verdict.map_err(|error| match &error {
            KeyError::Threshold { named, .. } => match named.iter().find(|id| is_revoked(id)) {
                Some(keyid) => KeyError::RevokedKey {
                    keyid: *keyid,
                    source: Box::new(error),
                },
                None => error,
            },
            _ => error,
        })
    }

    /// Checks what a release says against what its signers may sign and what this host takes.
    ///
    /// `statement` is the digest of the signed payload, `signers` come from
    /// [`Trust::check_signatures`]. Returns those whose scope covers the release.
    ///
    /// # Errors
    /// Fails, in this order, for another product, another channel, too few signers in scope, and
    /// where the statement or a blob of the release was revoked.
    pub fn check_release(
        &self,
        role: Role,
        release: &Release,
        statement: Digest,
        signers: &BTreeSet<Digest>,
    ) -> Result<BTreeSet<Digest>, KeyError> {
        self.check_product(&release.product)?;
        if release.channel() != self.channel {
            return Err(KeyError::OtherChannel {
                expected: self.channel.into(),
                found: release.channel().into(),
            });
        }
        let channel = Some(release.channel());
        let signers = self
            .root
            .in_scope(role, signers, channel, release.sequence)?;
        if let Some(list) = self.revoked {
            let blobs = release.blobs.iter().map(|blob| blob.digest);
            let mut all = blobs
                .chain(release.omitted.iter().copied())
                .chain([statement]);
            if let Some(digest) = all.find(|digest| list.digests.contains(digest)) {
                return Err(KeyError::Revoked { digest });
            }
        }
        Ok(signers)
    }

    pub(crate) fn check_product(&self, found: &str) -> Result<(), KeyError> {
        if found == self.root.product() {
            return Ok(());
        }
        Err(KeyError::OtherProduct {
            expected: self.root.product().into(),
            found: found.into(),
        })
    }
}
