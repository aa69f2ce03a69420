//! `bundle trust rotate`: the next version of a trust root.

use std::path::PathBuf;

use bundle::Error;
use bundle_format::Time;
use bundle_keys::{Role, Terms, TrustRoot};

use super::options::{self, ForKey, ForRole, usage};
use super::{report, signing};
use crate::cli::output::Output;
use crate::cli::{Outcome, files};

/// Make the next version of a trust root
///
/// Hosts go from one version to the next only where the root keys of both have signed, each by its
/// threshold. Export the result with every bundle, after the versions before it, so that hosts find
/// their way. Keep every version: a host that was away for years needs all of them.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The version before
    old: PathBuf,
    /// Private key of the role `root`, before or after; signs (repeatable)
    #[arg(long = "key", required = true, value_name = "KEY.pem")]
    keys: Vec<PathBuf>,
    /// Public key that gets a role (repeatable)
    #[arg(long = "add-key", value_name = "ROLE=KEY.pub.pem")]
    add: Vec<ForRole<PathBuf>>,
    /// Key that loses a role, by file or key id (repeatable)
    #[arg(long = "remove-key", value_name = "ROLE=KEY")]
    remove: Vec<ForRole<String>>,
    /// Keys of a role that have to agree (repeatable) [default: as before]
    #[arg(long = "threshold", value_name = "ROLE=N")]
    thresholds: Vec<ForRole<usize>>,
    /// What a key may sign, such as a.pub.pem,channel=beta,sequence=1..1000 (repeatable)
    #[arg(long = "scope", value_name = "KEY,LIMIT…")]
    scopes: Vec<ForKey>,
    /// Key that may sign everything its roles allow (repeatable)
    #[arg(long = "no-scope", value_name = "KEY")]
    no_scopes: Vec<String>,
    /// When it was made, such as 2026-01-02T03:04:05Z [default: now]
    #[arg(long, value_name = "TIME")]
    created: Option<Time>,
    /// When hosts stop relying on it
    #[arg(long, value_name = "TIME", conflicts_with = "no_expires")]
    expires: Option<Time>,
    /// Hosts never stop relying on it
    #[arg(long)]
    no_expires: bool,
    /// File for the new version
    #[arg(long, short, value_name = "FILE")]
    out: PathBuf,
}

impl Args {
    pub(super) fn run(&self, output: &Output) -> Outcome {
        let old = files::trust_root(&self.old)?;
        let mut draft = signing::draft(self.terms(&old)?)?;
        for path in &self.keys {
            let key = files::private_key(path, output)?;
            let keyid = key.public().map_err(signing::about(path))?.keyid();
            let signs = |terms: &Terms| signing::has_role(terms, Role::Root, &keyid);
            if !signs(old.terms()) && !signs(draft.terms()) {
                let problem = format!("{} has the role root in neither version", path.display());
                let hint = "`bundle trust show` lists the root keys";
                return Err(usage("--key", problem, hint));
            }
            draft.sign(&key).map_err(signing::about(path))?;
        }
        let missing = signing::missing(&self.out, signing::verdict(&draft, Some(&old)))?;
        files::create(&self.out, &draft.to_json(), 0o644)?;
        report::root(&draft, missing.as_deref(), output);
        Ok(report::passed_on(missing.as_deref(), output))
    }

    fn terms(&self, old: &TrustRoot) -> Result<Terms, Error> {
        let mut terms = old.terms().clone();
        terms.version = terms.version.checked_add(1).ok_or_else(|| {
            let hint = "begin a new product";
            usage("OLD", "has the highest version there is", hint)
        })?;
        terms.created = Some(self.created.unwrap_or_else(options::now));
        if terms.expires.is_some() && self.expires.is_none() && !self.no_expires {
            let hint = "give --expires with the time of the new version, or --no-expires";
            return Err(usage("--expires", "the version before expires", hint));
        }
        terms.expires = self.expires;
        // Adding comes first: a role whose every key is replaced keeps its threshold.
        for ForRole { role, value } in &self.add {
            terms.add(*role, files::public_key(value)?);
        }
        for ForRole { role, value } in &self.remove {
            if !terms.remove(*role, &options::keyid(value)?) {
                let problem = format!("{value} does not have the role {role}");
                let hint = "`bundle trust show` lists the keys of each role";
                return Err(usage("--remove-key", problem, hint));
            }
        }
        options::set_thresholds(&mut terms, &self.thresholds)?;
        options::set_scopes(&mut terms, &self.scopes)?;
        for key in &self.no_scopes {
            if let Some(found) = terms.keys.get_mut(&options::keyid(key)?) {
                found.scope = None;
            }
        }
        Ok(terms)
    }
}
