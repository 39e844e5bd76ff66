//! nearbench as a person meets it: the binary, its files, its messages and its exit codes.
#![allow(clippy::unwrap_used, missing_docs)]

mod alerts;
mod artillery;
mod bad_input;
mod bounds;
mod compare;
mod compose;
mod devnet;
mod fleet;
mod harness;
mod http;
mod kills;
mod live;
mod logs;
mod metrics;
mod page;
mod remove_keys;
mod reports;
mod run_secret;
mod runs;
mod steps;
mod stop;
