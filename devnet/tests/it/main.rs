//! devnet, one module a subject: the chain against recorded transactions, its RPC against recorded exchanges with a
//! real node and by a client that we did not write, and its schedule on the clock.
#![allow(clippy::unwrap_used, missing_docs, unreachable_pub)]

mod admission;
mod collection;
mod driver;
mod exchanges;
mod faults;
mod invalid;
mod latency;
mod light_client;
mod metrics;
mod patch;
mod queues;
mod reopen;
mod restart;
mod shape;
mod shards;
mod supply;
mod typed_client;
mod vectors;
mod world;
