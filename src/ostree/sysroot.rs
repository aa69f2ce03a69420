//! Opens a sysroot, and locks it for the one who changes it.

use std::path::Path;

use ::ostree::gio;
use ::ostree::{Repo, Sysroot};

use super::error::OstreeError;

/// Opens the sysroot at `path`, the running system's for `None`, to look at it.
///
/// # Errors
/// When there is no sysroot or libostree cannot read it.
pub fn open(path: Option<&Path>) -> Result<Sysroot, OstreeError> {
    let sysroot = at(path);
    sysroot
        .load(gio::Cancellable::NONE)
        .map_err(|error| failed("opening", path, error))?;
    Ok(sysroot)
}

/// Opens the sysroot at `path` and locks it, without waiting.
///
/// Import, deployment and rollback belong under one lock: layers that nothing references yet are dropped by whoever deploys
/// next. On a running system the calling thread gets a mount namespace of its own, since `/sysroot` is read-only in the
/// system's; call this before starting threads.
///
/// # Errors
/// [`OstreeError::Locked`] when another updater has the lock.
pub fn lock(path: Option<&Path>) -> Result<SysrootLock, OstreeError> {
    let sysroot = at(path);
    let opening = |error| failed("opening", path, error);
    sysroot
        .initialize_with_mount_namespace(gio::Cancellable::NONE)
        .map_err(opening)?;
    if !sysroot
        .try_lock()
        .map_err(|error| failed("locking", path, error))?
    {
        return Err(OstreeError::Locked);
    }
    // Locked before it is read: what is read stays true.
    let locked = SysrootLock { sysroot };
    locked
        .sysroot
        .load(gio::Cancellable::NONE)
        .map_err(opening)?;
    Ok(locked)
}

/// A sysroot that nobody else changes until this is dropped.
#[derive(Debug)]
pub struct SysrootLock {
    sysroot: Sysroot,
}

impl SysrootLock {
    /// Returns the sysroot.
    pub fn sysroot(&self) -> &Sysroot {
        &self.sysroot
    }

    /// Returns the repository of the sysroot.
    pub fn repo(&self) -> Repo {
        self.sysroot.repo()
    }
}

impl Drop for SysrootLock {
    fn drop(&mut self) {
        self.sysroot.unlock();
    }
}

fn at(path: Option<&Path>) -> Sysroot {
    Sysroot::new(path.map(gio::File::for_path).as_ref())
}

fn failed(action: &str, path: Option<&Path>, error: ::ostree::glib::Error) -> OstreeError {
    let path = path.unwrap_or(Path::new("/"));
    OstreeError::libostree(format!("{action} sysroot {}", path.display()), error)
}
