//! Gives the space of an abandoned transaction back.
//!
//! libostree keeps the staging directory of an aborted transaction, for the next one of the same boot to resume. After a
//! layer that was refused there is nothing to resume, and its objects may have filled the disk. Other updaters may hold
//! staging directories of their own: only those whose lock can be had are removed, as libostree itself does.

use std::fs::{self, File};
use std::io::ErrorKind;
use std::path::Path;

use ::ostree::Repo;
use ::ostree::gio::prelude::*;
use rustix::fs::{FlockOperation, fcntl_lock};

const PREFIX: &str = "staging-";
const LOCK_SUFFIX: &str = "-lock";

/// Removes the staging directories that no transaction holds; what cannot be removed is left to libostree.
pub(super) fn discard(repo: &Repo) {
    let Some(tmp) = repo.path().path().map(|path| path.join("tmp")) else {
        return;
    };
    let Ok(entries) = fs::read_dir(&tmp) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| name.starts_with(PREFIX)) else {
            continue;
        };
        // A process that is killed between the two leaves the lock alone.
        let name = name.strip_suffix(LOCK_SUFFIX).unwrap_or(name);
        remove(&tmp, name);
    }
}

fn remove(tmp: &Path, name: &str) {
    let lock_path = tmp.join(format!("{name}{LOCK_SUFFIX}"));
    let Ok(lock) = File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .open(&lock_path)
    else {
        return;
    };
    // Conflicts with the open-file-description lock that libostree takes, also one of this process.
    if fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
        return;
    }
    let removed = fs::remove_dir_all(tmp.join(name));
    if removed.is_ok() || removed.is_err_and(|error| error.kind() == ErrorKind::NotFound) {
        // Only while the lock is held, or another process could have taken it over.
        let _ = fs::remove_file(&lock_path);
    }
}
