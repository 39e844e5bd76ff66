//! Tests of the chain and of its RPC, one module a subject.

mod driver;
mod reopen;
mod supply;
mod vectors;
