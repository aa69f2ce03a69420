//! How long work reports to whoever waits for it, and learns that nobody does any more.

/// Receives progress and answers whether to go on; shared between threads.
pub trait Progress: Sync {
    /// Begins a stage of `total` bytes; `name` is for people.
    fn stage(&self, name: &str, total: u64);

    /// Adds `bytes` to the current stage.
    fn advance(&self, bytes: u64);

    /// Returns true once the user asked to stop; work then ends with [`crate::Error::Interrupted`].
    fn interrupted(&self) -> bool;
}

/// Progress that nobody watches and nobody interrupts.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn stage(&self, _: &str, _: u64) {}

    fn advance(&self, _: u64) {}

    fn interrupted(&self) -> bool {
        false
    }
}
