//! Returns to the deployment before the current one by changing the order of booting.

use ::ostree::{SysrootWriteDeploymentsOpts, gio};

use super::error::OstreeError;
use super::gc;
use super::status::{DeploymentStatus, Slot, describe, slots};
use super::sysroot::SysrootLock;

/// What a rollback did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RolledBack {
    /// What boots next.
    pub default: DeploymentStatus,
    /// Whether a staged deployment was dropped, which would have taken over at shutdown.
    pub staged_dropped: bool,
}

/// Makes the rollback deployment the default, or the booted one where it is not the default.
///
/// So a second rollback undoes the first. Nothing is deleted but a staged deployment; pins and the others stay in order.
/// The deployment's own `/etc` comes back with it.
///
/// # Errors
/// [`OstreeError::NothingToRollBackTo`]; then nothing has changed, a staged deployment included. A failure of the clean-up
/// says that the order was changed.
pub fn rollback(lock: &SysrootLock) -> Result<RolledBack, OstreeError> {
    let sysroot = lock.sysroot();
    let all = sysroot.deployments();
    let slots = slots(sysroot, &all);
    let staged_dropped = slots.contains(&Slot::Staged);
    let is_default = |slot| slots.iter().find(|&&slot| slot != Slot::Staged) == Some(&slot);
    let target = if slots.contains(&Slot::Booted) && !is_default(Slot::Booted) {
        Slot::Booted
    } else {
        Slot::Rollback
    };
    let (mut order, mut rest) = (Vec::new(), Vec::new());
    for (deployment, slot) in all.into_iter().zip(&slots) {
        match *slot {
            slot if slot == target => order.push(deployment),
            Slot::Staged => {}
            _ => rest.push(deployment),
        }
    }
    if order.is_empty() {
        return Err(OstreeError::NothingToRollBackTo);
    }
    order.append(&mut rest);
    let options = SysrootWriteDeploymentsOpts {
        do_postclean: false,
    };
    sysroot
        .write_deployments_with_options(&order, &options, gio::Cancellable::NONE)
        .map_err(|error| OstreeError::libostree("writing the order of deployments", error))?;
    gc::clean_up(sysroot)?;
    let deployments = sysroot.deployments();
    let default = deployments
        .first()
        .ok_or(OstreeError::NothingToRollBackTo)?;
    Ok(RolledBack {
        default: describe(sysroot, default),
        staged_dropped,
    })
}
