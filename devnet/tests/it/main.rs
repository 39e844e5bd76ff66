//! Tests of the chain and of its RPC, one module a subject.

mod admission;
mod driver;
mod queues;
mod reopen;
mod supply;
mod vectors;
