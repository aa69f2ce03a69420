//! What the test suites share; each suite uses its part of it.
#![allow(dead_code, reason = "no suite uses every helper")]

pub(crate) mod kit;
pub(crate) mod reseal;
pub(crate) mod run;
pub(crate) mod tarball;
