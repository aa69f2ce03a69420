//! Memory that several threads share: whoever needs much waits until others have given back.

use std::sync::{Condvar, Mutex};

/// A number of bytes to be lent.
#[derive(Debug)]
pub(super) struct Budget {
    total: u64,
    left: Mutex<u64>,
    returned: Condvar,
}

/// Bytes that were lent; dropping gives them back.
#[derive(Debug)]
pub(super) struct Loan<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl Budget {
    pub(super) fn new(total: u64) -> Self {
        Self {
            total,
            left: Mutex::new(total),
            returned: Condvar::new(),
        }
    }

    /// Returns true where so much can be lent at all.
    pub(super) fn allows(&self, bytes: u64) -> bool {
        bytes <= self.total
    }

    /// Lends `bytes`, and waits until they are there; never more than the whole.
    pub(super) fn take(&self, bytes: u64) -> Loan<'_> {
        let bytes = bytes.min(self.total);
        let mut left = self
            .left
            .lock()
            .unwrap_or_else(|poison| poison.into_inner());
        while *left < bytes {
            let waited = self.returned.wait(left);
            left = waited.unwrap_or_else(|poison| poison.into_inner());
        }
        *left -= bytes;
        Loan {
            budget: self,
            bytes,
        }
    }
}

impl Drop for Loan<'_> {
    fn drop(&mut self) {
        let left = self.budget.left.lock();
        *left.unwrap_or_else(|poison| poison.into_inner()) += self.bytes;
        self.budget.returned.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn no_more_is_lent_than_there_is() {
        let budget = Budget::new(10);
        let (now, most) = (AtomicU64::new(0), AtomicU64::new(0));
        std::thread::scope(|scope| {
            for bytes in [3, 7, 9, 10, 99, 1, 4] {
                scope.spawn({
                    let (budget, now, most) = (&budget, &now, &most);
                    move || {
                        let loan = budget.take(bytes);
                        let held = now.fetch_add(loan.bytes, Ordering::SeqCst) + loan.bytes;
                        most.fetch_max(held, Ordering::SeqCst);
                        now.fetch_sub(loan.bytes, Ordering::SeqCst);
                    }
                });
            }
        });
        assert!(most.into_inner() <= 10);
        assert!(budget.allows(10) && !budget.allows(11));
    }
}
