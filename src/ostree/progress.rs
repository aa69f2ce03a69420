//! How an import tells its caller where it is.

use super::image::ImageLayer;

/// Receives the steps of an import; every method may be left out.
///
/// All calls come from the thread that called [`import`](super::import()).
pub trait Progress {
    /// Layer `index` of `total` starts, counted from 0.
    fn layer_started(&self, _layer: &ImageLayer, _index: usize, _total: usize) {}

    /// `read` stored bytes of the current layer have been read so far.
    fn layer_bytes(&self, _layer: &ImageLayer, _read: u64) {}

    /// A layer is in the repository; `reused` says that it was there before.
    fn layer_finished(&self, _layer: &ImageLayer, _reused: bool) {}

    /// All layers are in the repository, and their union is being written.
    fn merging(&self) {}
}

/// Reports nothing.
impl Progress for () {}
