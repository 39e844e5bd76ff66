//! The chain as nearbench sees it: endpoints, signing, transactions, evidence, provisioning, audit.
//!
//! Besides `devnet`, the only room that knows nearcore's types; what leaves it is in the words of `core`.

pub mod audit;
pub mod chain;
pub mod client;
mod evidence;
mod health;
pub mod history;
pub mod http;
pub mod keyfile;
mod link_local;
mod outcome;
mod pool;
pub mod provision;
pub mod receipts;
pub mod rpc;
pub mod secret;
pub mod signer;
mod token;
pub mod transaction;
pub mod transport;
mod views;

pub use client::Client;
pub use pool::{Ending, Endpoint, Reading, Traffic};
pub use secret::{SecretError, SecretText};
pub use signer::Signer;
pub use transaction::SignedTx;
