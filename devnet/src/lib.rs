//! A NEAR chain in one process.

pub mod block;
pub mod chain;
pub mod genesis;
pub mod history;
pub mod pool;
pub mod runtime;
pub mod state;
