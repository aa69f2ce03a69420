//! `bundle trust sign`: one more signature on a document of trust.

use std::path::PathBuf;

use bundle::Error;
use bundle_format::dsse::Envelope;
use bundle_format::{Digest, Limits};
use bundle_keys::{
    Document, Draft, Permit, PrivateKey, RevocationList, Role, Signed, TrustRoot, add_signature,
};

use super::options::usage;
use super::report::{self, Standing};
use super::show::Found;
use super::signing::{self, about};
use crate::cli::output::Output;
use crate::cli::{Outcome, files};

/// Add a signature to a trust root, revocation list or permit
///
/// For documents that several people sign: each adds a signature and passes the file on. What is
/// signed does not change. The file is replaced in one step.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The document
    file: PathBuf,
    /// Private key to sign with (repeatable)
    #[arg(long = "key", required = true, value_name = "KEY.pem")]
    keys: Vec<PathBuf>,
    /// For a trust root: the version before; for others: the trust root that gives the role
    #[arg(long, value_name = "FILE")]
    trust_root: Option<PathBuf>,
}

/// The keys to sign with, each with its file and its id.
type Signers = Vec<(PathBuf, PrivateKey, Digest)>;

impl Args {
    pub(super) fn run(&self, output: &Output) -> Outcome {
        let root = self.trust_root.as_ref();
        let root = root.map(|path| files::trust_root(path)).transpose()?;
        let found = Found::parse(&self.file, &files::read(&self.file)?)?;
        let signers = self.signers(output)?;
        match found {
            Found::Root(draft) => self.sign_root(*draft, root.as_ref(), &signers, output),
            Found::List(list, envelope) => {
                let root = needed(root.as_ref())?;
                let (envelope, missing) =
                    self.sign_document::<RevocationList>(envelope, root, &signers)?;
                let standing = Standing::counted(&envelope, missing.clone());
                report::list(&list, standing, output);
                Ok(report::passed_on(missing.as_deref(), output))
            }
            Found::Permit(permit, envelope) => {
                let root = needed(root.as_ref())?;
                let (envelope, missing) = self.sign_document::<Permit>(envelope, root, &signers)?;
                let standing = Standing::counted(&envelope, missing.clone());
                report::permit(&permit, standing, output);
                Ok(report::passed_on(missing.as_deref(), output))
            }
        }
    }

    fn signers(&self, output: &Output) -> Result<Signers, Error> {
        let read = |path: &PathBuf| {
            let key = files::private_key(path, output)?;
            let keyid = key.public().map_err(about(path))?.keyid();
            Ok((path.clone(), key, keyid))
        };
        self.keys.iter().map(read).collect()
    }

    fn sign_root(
        &self,
        mut draft: Draft,
        former: Option<&TrustRoot>,
        signers: &Signers,
        output: &Output,
    ) -> Outcome {
        for (path, key, keyid) in signers {
            let before =
                former.is_some_and(|root| signing::has_role(root.terms(), Role::Root, keyid));
            if !before && !signing::has_role(draft.terms(), Role::Root, keyid) {
                return Err(signing::no_role(path, Role::Root));
            }
            draft.sign(key).map_err(about(path))?;
        }
        let missing = signing::missing(&self.file, signing::verdict(&draft, former))?;
        files::replace(&self.file, &draft.to_json())?;
        report::root(&draft, missing.as_deref(), output);
        Ok(report::passed_on(missing.as_deref(), output))
    }

    fn sign_document<T: Document>(
        &self,
        mut envelope: Envelope,
        root: &TrustRoot,
        signers: &Signers,
    ) -> Result<(Envelope, Option<String>), Error> {
        for (path, key, keyid) in signers {
            if !signing::has_role(root.terms(), T::ROLE, keyid) {
                return Err(signing::no_role(path, T::ROLE));
            }
            add_signature(&mut envelope, key).map_err(about(path))?;
        }
        let bytes = envelope.to_json();
        let verdict = Signed::<T>::open(&bytes, root, &Limits::DEFAULT);
        let missing = signing::missing(&self.file, verdict)?;
        files::replace(&self.file, &bytes)?;
        Ok((envelope, missing))
    }
}

fn needed(root: Option<&TrustRoot>) -> Result<&TrustRoot, Error> {
    root.ok_or_else(|| {
        let hint = "name the product's trust root, which says who may sign this";
        usage("--trust-root", "is needed for this document", hint)
    })
}
