//! The hostile-input kit: every case states its row of the attack matrix, its damage and its verdict.
//!
//! Each case runs through the library and through the command line, on a copy of a bundle that was
//! accepted undamaged just before. Errors are fine; panics, hangs and wrong verdicts are bugs.

#![cfg(feature = "export")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

mod common;

#[path = "hostile/case.rs"]
mod case;
#[path = "hostile/chain.rs"]
mod chain;
#[path = "hostile/changing.rs"]
mod changing;
#[path = "hostile/flips.rs"]
mod flips;
#[path = "hostile/medium.rs"]
mod medium;
#[path = "hostile/signed.rs"]
mod signed;
#[path = "hostile/source.rs"]
mod source;
#[path = "hostile/tarfile.rs"]
mod tarfile;
#[path = "hostile/text.rs"]
mod text;
#[path = "hostile/trust.rs"]
mod trust;
#[path = "hostile/volume.rs"]
mod volume;
