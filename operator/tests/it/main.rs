//! The operator's decisions and objects, as values.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod building;
mod deciding;
mod documents;
mod fleet;
mod world;
