//! Recipes: decode a compressed file of an image to its inner stream, and encode it again bit for bit.
//!
//! An initramfs, a kernel or a compressed module changes in every byte when one byte of its content does. Opened, what did
//! not change is seen, and a delta carries the rest. [`open`] finds a recipe on the build box and proves it by running the
//! encoder; [`encode`] carries it out on the appliance, in a stream, within declared memory.
//!
//! ```
//! let limits = bundle_recipes::Limits::default();
//! # let file: Vec<u8> = Vec::new();
//! if let Some(opened) = bundle_recipes::open(&file, &bundle_recipes::Options::default()) {
//!     let mut again = Vec::new();
//!     bundle_recipes::encode(&opened.recipe, opened.inner.as_slice(), &mut again, &limits)?;
//!     assert_eq!(again, file);
//! }
//! # Ok::<(), bundle_recipes::Error>(())
//! ```

mod bzimage;
pub mod cpio;
mod decode;
mod encode;
mod error;
pub mod gzip;
mod limits;
mod open;
mod recipe;
mod sink;
mod wire;
pub mod xz;
pub mod zstd;

pub use decode::{Kind, Member, decode, decode_stream, decoder_memory, members};
pub use encode::encode;
pub use error::Error;
pub use gzip::GzipParams;
pub use limits::{Limits, MAX_ENCODED, MAX_INNER, MAX_PARTS, MAX_RECIPE, Options};
pub(crate) use open::Shape;
pub use open::{Opened, inner, may_open, open};
pub use recipe::{Coding, Part, Recipe};
pub use xz::XzParams;
pub use zstd::{EncoderSet, Version, ZstdParams};
