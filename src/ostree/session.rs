//! Runs the threads of one layer's import, and decides which of their errors is the cause.

use std::cell::Cell;
use std::io;
use std::panic;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread;

use ::ostree::Repo;

use super::error::OstreeError;
use super::image::{ImageLayer, LayerSource};
use super::limits::Limits;
use super::progress::Progress;
use super::selinux::Labeler;
use super::stream::{self, Feed, Pump, Pumped};
use super::tar_entries::Layout;
use super::tar_reader::TarReader;
use super::writer::ObjectWriter;

/// What all layers of one import share.
pub(super) struct Session<'a> {
    pub(super) repo: &'a Repo,
    pub(super) source: &'a dyn LayerSource,
    pub(super) progress: &'a dyn Progress,
    pub(super) cancel: &'a dyn Fn() -> bool,
    pub(super) limits: &'a Limits,
    pub(super) layout: Layout,
    /// Entries of all layers so far.
    pub(super) entries: Cell<u64>,
    /// Gives labels while importing, where the policy is known from the base image.
    pub(super) labeler: Option<Labeler<'a>>,
}

impl Session<'_> {
    /// Counts an entry.
    pub(super) fn count(&self, layer: &ImageLayer) -> Result<(), OstreeError> {
        self.entries.set(self.entries.get() + 1);
        if self.entries.get() > self.limits.entries {
            let (what, limit) = ("entries in the image", self.limits.entries);
            return Err(OstreeError::Limit {
                layer: layer.digest,
                what,
                limit,
            });
        }
        Ok(())
    }

    /// Streams `layer` through `parse`, and returns its result if the whole layer was what its `diff_id` says.
    ///
    /// A transaction must be open. The caller must abandon it on an error.
    pub(super) fn run<T>(
        &self,
        layer: &ImageLayer,
        parse: impl FnOnce(
            &mut TarReader<'_, Feed<'_>>,
            &mut ObjectWriter<'_>,
        ) -> Result<T, OstreeError>,
    ) -> Result<T, OstreeError> {
        let source = self.source.open(layer);
        let source = source.map_err(|source| OstreeError::Source {
            layer: layer.digest,
            source,
        })?;

        let read = AtomicU64::new(0);
        let cancelled = Cell::new(false);
        let between = || {
            self.progress
                .layer_bytes(layer, read.load(Ordering::Relaxed));
            cancelled.set((self.cancel)());
            if cancelled.get() {
                Err(io::Error::other("cancelled"))
            } else {
                Ok(())
            }
        };
        let (pumped, written, parsed) = thread::scope(|scope| {
            let (filled, received) = mpsc::sync_channel(stream::BUFFERS);
            let (recycle, empty) = mpsc::channel();
            let (limits, read) = (self.limits, &read);
            let pump = Pump {
                layer,
                limits,
                read,
                filled,
                empty,
            };
            let pump = scope.spawn(move || pump.run(source));
            let mut writer = ObjectWriter::start(scope, self.repo);
            // Dropping the feed at the end of this block is what stops the pump after an error.
            let parsed = {
                let feed = Feed::new(received, recycle, &between);
                parse(&mut TarReader::new(feed, layer.digest, limits), &mut writer)
            };
            let written = writer.finish();
            let pumped = pump
                .join()
                .unwrap_or_else(|panic| panic::resume_unwind(panic));
            (pumped, written, parsed)
        });
        if cancelled.get() {
            return Err(OstreeError::Cancelled);
        }
        // A pump that failed made the archive look truncated; a writer that failed made the parser stop.
        let pumped = pumped?;
        written?;
        let value = parsed?;
        match pumped {
            Pumped::Whole(found) if found == layer.diff_id => {
                self.progress.layer_bytes(layer, read.into_inner());
                Ok(value)
            }
            Pumped::Whole(found) => Err(OstreeError::DiffId {
                layer: layer.digest,
                expected: layer.diff_id,
                found,
            }),
            // The parser reads to the end, so this cannot be; nothing may be kept if it were.
            Pumped::Abandoned => Err(OstreeError::Cancelled),
        }
    }
}
