//! The rules of nearbench: values in, values out.
//!
//! This room does no I/O, reads no clock and draws no random number: time and randomness are arguments.
//! It must not depend on an async runtime, on kube, on redis or on any of nearcore's crates (account ids aside).

pub mod account;
pub mod amount;
pub mod audit;
pub mod backoff;
mod base58;
pub mod batch;
pub mod breaker;
pub mod compare;
pub mod counts;
pub mod ensure;
pub mod evidence;
pub mod exposition;
pub mod fleet;
pub mod hash;
pub mod histogram;
pub mod history;
pub mod lane;
pub mod ledger;
pub mod lifecycle;
pub mod link_local;
pub mod measure;
pub mod outcome;
pub mod plan;
pub mod quota;
pub mod report;
pub mod schedule;
pub mod settle;
pub mod standing;
pub mod transfer;
pub mod turns;
pub mod verdict;

pub use account::{Account, AccountError};
pub use amount::{Amount, AmountError, Near};
pub use hash::{Hash, HashError};
pub use plan::Plan;
pub use transfer::{Memo, MemoError, Transfer, TransferId, TransferState};

/// A block's height.
pub type Height = u64;
/// A nonce of an access key.
pub type Nonce = u64;
/// Gas units; 1 Tgas is 10¹².
pub type Gas = u64;
/// One Tgas.
pub const TGAS: Gas = 1_000_000_000_000;
/// A nonce must stay below `height * NONCE_RANGE` (nearcore, `ACCESS_KEY_NONCE_RANGE_MULTIPLIER`).
pub const NONCE_RANGE: u64 = 1_000_000;
