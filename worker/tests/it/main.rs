//! The engine against devnet: what it does when the chain refuses, the endpoint fails, or time runs out; and the API over
//! a socket, with and without its store.
#![allow(clippy::unwrap_used, missing_docs)]

mod api;
mod ends;
mod faults;
mod fleet;
mod hand;
mod heard;
mod rollback;
mod settling;
mod spool;
mod world;
