//! What the tests of several rooms start and watch: real servers, each in a folder and on a port of its own, that end with
//! the test. No room but their tests may depend on this one.
#![allow(clippy::unwrap_used)]

pub mod prometheus;
pub mod redis;
