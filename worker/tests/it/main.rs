//! The engine against devnet: what it does when the chain refuses, the endpoint fails, or time runs out.
#![allow(clippy::unwrap_used, missing_docs)]

mod ends;
mod faults;
mod fleet;
mod hand;
mod heard;
mod rollback;
mod settling;
mod world;
