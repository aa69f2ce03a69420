//! `bundle trust init`: version 1 of a trust root.

use std::path::PathBuf;

use bundle::Error;
use bundle_format::{Time, check_product};
use bundle_keys::{PrivateKey, PublicKey, Role, Terms};

use super::options::{self, ForKey, ForRole, usage};
use super::{report, signing};
use crate::cli::output::Output;
use crate::cli::{Outcome, files};

/// Make version 1 of a product's trust root
///
/// A trust root names a product, the keys that may sign its releases and how many of them have to
/// agree. It is signed by its own root keys. Bring it to hosts by a way you trust, such as inside
/// the image: a trust root on an update medium is never believed for its own sake.
///
/// Where holders of root keys sit apart, give --key for those who are here and --root-key for the
/// others, and let them add their signatures with `bundle trust sign`.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Name of the product: a-z 0-9 . _ -
    #[arg(long)]
    product: String,
    /// Private key of the role `root`; signs the trust root (repeatable)
    #[arg(long = "key", required = true, value_name = "KEY.pem")]
    keys: Vec<PathBuf>,
    /// Public key of the role `root` that signs later (repeatable)
    #[arg(long = "root-key", value_name = "KEY.pub.pem")]
    root_keys: Vec<PathBuf>,
    /// Public key of the role `release` (repeatable) [default: the root keys]
    #[arg(long = "release-key", value_name = "KEY.pub.pem")]
    release_keys: Vec<PathBuf>,
    /// Public key of the role `revocation` (repeatable)
    #[arg(long = "revocation-key", value_name = "KEY.pub.pem")]
    revocation_keys: Vec<PathBuf>,
    /// Public key of the role `site-approver` (repeatable)
    #[arg(long = "site-approver-key", value_name = "KEY.pub.pem")]
    site_approver_keys: Vec<PathBuf>,
    /// Public key of the role `evidence` (repeatable)
    #[arg(long = "evidence-key", value_name = "KEY.pub.pem")]
    evidence_keys: Vec<PathBuf>,
    /// Keys of a role that have to agree (repeatable) [default: 1 of each role]
    #[arg(long = "threshold", value_name = "ROLE=N")]
    thresholds: Vec<ForRole<usize>>,
    /// What a key may sign, such as a.pub.pem,channel=beta,sequence=1..1000 (repeatable)
    #[arg(long = "scope", value_name = "KEY,LIMIT…")]
    scopes: Vec<ForKey>,
    /// When it was made, such as 2026-01-02T03:04:05Z [default: now]
    #[arg(long, value_name = "TIME")]
    created: Option<Time>,
    /// When hosts stop relying on it [default: never]
    #[arg(long, value_name = "TIME")]
    expires: Option<Time>,
    /// File for the trust root
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

impl Args {
    pub(super) fn run(&self, output: &Output) -> Outcome {
        check_product(&self.product).map_err(|problem| {
            let hint = "use lower-case letters, digits, dots, dashes and underscores";
            usage("--product", problem, hint)
        })?;
        let private = |path: &PathBuf| files::private_key(path, output);
        let signers: Vec<PrivateKey> = self.keys.iter().map(private).collect::<Result<_, _>>()?;
        let mut draft = signing::draft(self.terms()?)?;
        for signer in &signers {
            draft.sign(signer).map_err(signing::about(&self.out))?;
        }
        let missing = signing::missing(&self.out, signing::verdict(&draft, None))?;
        files::create(&self.out, &draft.to_json(), 0o644)?;
        report::root(&draft, missing.as_deref(), output);
        Ok(report::passed_on(missing.as_deref(), output))
    }

    fn terms(&self) -> Result<Terms, Error> {
        let mut terms = Terms::new(&self.product);
        terms.created = Some(self.created.unwrap_or_else(options::now));
        terms.expires = self.expires;
        let root_keys = keys(self.keys.iter().chain(&self.root_keys))?;
        let release_keys = match self.release_keys.as_slice() {
            [] => root_keys.clone(),
            paths => keys(paths)?,
        };
        for (role, keys) in [
            (Role::Root, root_keys),
            (Role::Release, release_keys),
            (Role::Revocation, keys(&self.revocation_keys)?),
            (Role::SiteApprover, keys(&self.site_approver_keys)?),
            (Role::Evidence, keys(&self.evidence_keys)?),
        ] {
            for key in keys {
                terms.add(role, key);
            }
        }
        options::set_thresholds(&mut terms, &self.thresholds)?;
        options::set_scopes(&mut terms, &self.scopes)?;
        Ok(terms)
    }
}

fn keys<'a>(paths: impl IntoIterator<Item = &'a PathBuf>) -> Result<Vec<PublicKey>, Error> {
    let paths = paths.into_iter();
    paths.map(|path| files::public_key(path)).collect()
}
