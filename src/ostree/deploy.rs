//! Deploys an imported image: at once where the sysroot is not running, at the next clean shutdown where it is.

use std::path::PathBuf;

use ::ostree::gio::prelude::*;
use ::ostree::{
    Deployment, Sysroot, SysrootDeployTreeOpts, SysrootSimpleWriteDeploymentFlags, gio,
};

use super::error::OstreeError;
use super::gc;
use super::import::load_commit;
use super::merge::MANIFEST_DIGEST;
use super::origin;
use super::status::{DeploymentStatus, describe, manifest_digest};
use super::sysroot::SysrootLock;
use super::tree_repo;

/// Name of the stateroot of a sysroot that has none, as bootc names it.
const DEFAULT_STATEROOT: &str = "default";

/// How to deploy.
#[derive(Clone, Debug, Default)]
pub struct DeployOptions {
    /// Stateroot; by default the booted one, else the one that boots next, else `default`. Made where it is missing.
    pub stateroot: Option<String>,
    /// Kernel arguments of a first deployment. Later ones carry the arguments of the deployment they follow.
    pub kargs: Vec<String>,
}

/// What a deployment did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Deployed {
    /// The image boots next, or after the next clean shutdown where the deployment is staged.
    Deployed(DeploymentStatus),
    /// The image was what boots next already; nothing was changed.
    AlreadyDeployed(DeploymentStatus),
}

/// Deploys `commit`, which [`import()`](super::import()) made of the image `imgref` (`host/repo:tag`).
///
/// Layers that neither an image nor a remaining deployment needs are dropped afterwards, and the repository is pruned.
///
/// # Errors
/// [`OstreeError::NoSpace`] and libostree's failures; the deployments are then what they were, except after a failure of
/// the clean-up, whose message says that the image is deployed.
pub fn deploy(
    lock: &SysrootLock,
    imgref: &str,
    commit: &str,
    options: &DeployOptions,
) -> Result<Deployed, OstreeError> {
    let sysroot = lock.sysroot();
    let stateroot = stateroot(sysroot, options)?;
    if let Some(first) = already_deployed(sysroot, &stateroot, commit)? {
        return Ok(Deployed::AlreadyDeployed(describe(sysroot, &first)));
    }
    make_stateroot(sysroot, &stateroot)?;
    let merge = sysroot.merge_deployment(Some(&stateroot));
    let previous = merge.as_ref().and_then(Deployment::origin);
    let origin = origin::make(imgref, previous.as_ref())?;
    let kargs: Vec<&str> = options.kargs.iter().map(String::as_str).collect();
    let first = merge.is_none() && !kargs.is_empty();
    // Without an override libostree carries the arguments of the merge deployment.
    let deploy_options = SysrootDeployTreeOpts {
        override_kernel_argv: first.then_some(kargs.as_slice()),
        ..SysrootDeployTreeOpts::default()
    };
    let failed = |error| {
        discard_unfinished(sysroot);
        OstreeError::libostree(format!("deploying {commit}"), error)
    };
    let none = gio::Cancellable::NONE;
    let (stateroot, origin, merge) = (Some(stateroot.as_str()), Some(&origin), merge.as_ref());
    let deployment = if sysroot.booted_deployment().is_some() {
        sysroot
            .stage_tree_with_options(stateroot, commit, origin, merge, &deploy_options, none)
            .map_err(failed)?
    } else {
        let options = Some(&deploy_options);
        let deployment = sysroot
            .deploy_tree_with_options(stateroot, commit, origin, merge, options, none)
            .map_err(failed)?;
        // The clean-up comes below, once.
        let flags = SysrootSimpleWriteDeploymentFlags::NO_CLEAN;
        sysroot
            .simple_write_deployment(stateroot, &deployment, merge, flags, none)
            .map_err(failed)?;
        deployment
    };
    gc::clean_up(sysroot)?;
    let all = sysroot.deployments();
    let current = all.iter().find(|candidate| candidate.equal(&deployment));
    Ok(Deployed::Deployed(describe(
        sysroot,
        current.unwrap_or(&deployment),
    )))
}

/// Removes what a deployment that failed has left, which may have filled the disk; what stays goes with the next one.
fn discard_unfinished(sysroot: &Sysroot) {
    // What is removed depends on what is deployed: it is read anew.
    if sysroot.load(gio::Cancellable::NONE).is_ok() {
        let _ = sysroot.prepare_cleanup(gio::Cancellable::NONE);
    }
}

/// Returns the registry reference that the host follows, `host/repo:tag`, if it follows one.
///
/// An image is imported under this name, so that bootc finds the deployment's image by its origin.
///
/// # Errors
/// [`OstreeError::Name`] for a stateroot that is no name.
pub fn followed(
    lock: &SysrootLock,
    options: &DeployOptions,
) -> Result<Option<String>, OstreeError> {
    let stateroot = stateroot(lock.sysroot(), options)?;
    let merge = lock.sysroot().merge_deployment(Some(&stateroot));
    let reference = merge.and_then(|merge| origin::reference(&merge.origin()?));
    Ok(reference.and_then(|text| origin::registry_reference(&text).map(str::to_owned)))
}

fn stateroot(sysroot: &Sysroot, options: &DeployOptions) -> Result<String, OstreeError> {
    if let Some(name) = &options.stateroot {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.+".contains(&byte);
        if name.is_empty() || name.len() > 64 || name.starts_with('.') || !name.bytes().all(plain) {
            return Err(OstreeError::Name {
                what: "stateroot",
                name: name.clone(),
            });
        }
        return Ok(name.clone());
    }
    let current = sysroot
        .booted_deployment()
        .or_else(|| sysroot.deployments().into_iter().next());
    Ok(current.map_or(DEFAULT_STATEROOT.to_owned(), |current| {
        current.osname().to_string()
    }))
}

/// Returns the first deployment if it is of the same image as `commit`.
fn already_deployed(
    sysroot: &Sysroot,
    stateroot: &str,
    commit: &str,
) -> Result<Option<Deployment>, OstreeError> {
    let Some(first) = sysroot.deployments().into_iter().next() else {
        return Ok(None);
    };
    if first.osname() != stateroot {
        return Ok(None);
    }
    let wanted = load_commit(&sysroot.repo(), commit)?;
    let wanted = tree_repo::metadata_string(&wanted, MANIFEST_DIGEST);
    let same =
        first.csum() == commit || (wanted.is_some() && wanted == manifest_digest(sysroot, &first));
    Ok(same.then_some(first))
}

fn make_stateroot(sysroot: &Sysroot, stateroot: &str) -> Result<(), OstreeError> {
    let root = sysroot.path().path().unwrap_or(PathBuf::from("/"));
    if root.join("ostree/deploy").join(stateroot).is_dir() {
        return Ok(());
    }
    sysroot
        .init_osname(stateroot, gio::Cancellable::NONE)
        .map_err(|error| OstreeError::libostree(format!("making stateroot {stateroot}"), error))
}
