//! What opening and encoding may use: always bounded, with defaults that fit an appliance.

use std::time::Duration;

use crate::zstd::EncoderSet;

/// Largest recipe in its wire form, in bytes.
pub const MAX_RECIPE: usize = 1 << 20;
/// Most parts of one recipe: an initramfs has two or three.
pub const MAX_PARTS: usize = 64;
/// Largest inner stream of one recipe, in bytes.
pub const MAX_INNER: u64 = 4 << 30;
/// Largest encoded file of one recipe, in bytes.
pub const MAX_ENCODED: u64 = 4 << 30;

/// What encoding may use.
#[derive(Debug, Clone)]
pub struct Limits {
    /// The encoders at hand besides those that are linked.
    pub encoders: EncoderSet,
    /// Threads for encoders that give the same bytes with any number of them; at least one is used.
    pub threads: u32,
    /// Memory that a recipe may declare, in bytes.
    pub memory: u64,
    /// How long a helper program may run for one part.
    pub time: Duration,
}

impl Limits {
    /// Whether there is the encoder that [`Coding::encoder`](crate::Coding::encoder) names.
    pub fn has_encoder(&self, name: &str) -> bool {
        if [crate::xz::NAME, crate::gzip::NAME].contains(&name) {
            return true;
        }
        let versions = self.encoders.versions();
        versions
            .iter()
            .any(|version| name.strip_prefix("zstd ") == Some(&version.to_string()))
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            encoders: EncoderSet::none(),
            threads: 1,
            memory: 400 << 20,
            time: Duration::from_secs(900),
        }
    }
}

/// What opening may use, and what the recipe it finds may cost where it is applied.
#[derive(Debug, Clone)]
pub struct Options {
    /// For the encoders that the search runs. A recipe above `limits.memory` is not returned.
    pub limits: Limits,
    /// Largest inner stream, in bytes. It is held in memory.
    pub inner: u64,
    /// Memory for decoding, in bytes: of windows and dictionaries, beside the inner stream.
    pub decoder_memory: u64,
    /// Full encodings tried for one part before giving up. Probes of the first megabyte come before.
    pub attempts: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            limits: Limits::default(),
            inner: 1 << 30,
            decoder_memory: 160 << 20,
            attempts: 6,
        }
    }
}
