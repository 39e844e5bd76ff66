//! What became of a transaction on chain, in the words of nearbench.
//!
//! `near` translates nearcore's answers into these values; the rules of settling read only these.

use crate::{Hash, Height};
use serde::{Deserialize, Serialize};

/// Why a node refused a transaction's bytes (nearcore, `InvalidTxError`). Refusals are hints, never evidence.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Refusal {
    /// The nonce is not above the key's: an earlier nonce already passed, or these very bytes executed.
    NonceTooLow {
        /// The key's nonce as the node sees it.
        key_nonce: u64,
    },
    /// The nonce is beyond the height's range.
    NonceTooHigh {
        /// The first nonce that is too high.
        upper_bound: u64,
    },
    /// The base block is too old or unknown.
    Expired,
    /// The base block is on another fork or chain.
    WrongChain,
    /// The receiver's shard takes no more for now: back off and resend.
    Congested {
        /// The shard.
        shard: u64,
    },
    /// The access key is missing or does not allow this.
    Key(String),
    /// The payer cannot pay for gas and deposits.
    Balance(String),
    /// The bytes can never be valid: signature, size, version, action limits.
    Malformed(String),
    /// The node failed internally.
    Node(String),
}

impl Refusal {
    /// Whether these bytes can never be included, whatever changes: no resending helps.
    pub fn is_for_good(&self) -> bool {
        matches!(self, Self::WrongChain | Self::Malformed(_))
    }

    /// A bounded name for counts of errors by type.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NonceTooLow { .. } => "nonce_too_low",
            Self::NonceTooHigh { .. } => "nonce_too_high",
            Self::Expired => "expired",
            Self::WrongChain => "wrong_chain",
            Self::Congested { .. } => "congested",
            Self::Key(_) => "access_key",
            Self::Balance(_) => "balance",
            Self::Malformed(_) => "malformed",
            Self::Node(_) => "node",
        }
    }
}

/// What kind of failure ended a receipt. The distinction is whose fault it is (a transfer's or everybody's).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum FailureKind {
    /// The receiver has no storage at the token.
    Unregistered,
    /// The amount is zero or otherwise refused.
    BadAmount,
    /// Sender and receiver are the same.
    SelfTransfer,
    /// The sender's token balance does not suffice: nobody else's turn either.
    SenderBalance,
    /// The sender has no storage at the token: no transfer can work.
    SenderUnregistered,
    /// The attached gas was used up.
    OutOfGas,
    /// The contract is missing, lacks the method or cannot be run.
    Contract(String),
    /// The contract panicked otherwise.
    Panic(String),
    /// An action failed otherwise (nearcore, `ActionErrorKind`).
    Action(String),
    /// The access key was taken off the account: nothing more can be signed with it.
    KeyGone,
}

impl FailureKind {
    /// Whether one transfer alone is to blame, so that it may be failed and the others put back.
    pub fn is_transfers_own(&self) -> bool {
        matches!(self, Self::Unregistered | Self::BadAmount | Self::SelfTransfer)
    }

    /// A bounded name for counts of errors by type.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Unregistered => "unregistered",
            Self::BadAmount => "bad_amount",
            Self::SelfTransfer => "self_transfer",
            Self::SenderBalance => "sender_balance",
            Self::SenderUnregistered => "sender_unregistered",
            Self::OutOfGas => "out_of_gas",
            Self::Contract(_) => "contract",
            Self::Panic(_) => "panic",
            Self::Action(_) => "action",
            Self::KeyGone => "key_gone",
        }
    }
}

/// How the receipt of an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Execution {
    /// Every action was applied.
    Success,
    /// Nothing was applied.
    Failure {
        /// The action that failed; `None` when the whole receipt is to blame.
        index: Option<u64>,
        /// Why.
        kind: FailureKind,
    },
}

/// A receipt's execution and the block that holds it. Evidence once that block is final and canonical.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Landed {
    /// The receipt that carried the actions.
    pub receipt: Hash,
    /// The block that executed it.
    pub block: Hash,
    /// How it ended.
    pub execution: Execution,
    /// Gas burnt by transaction and receipts known so far.
    pub gas_burnt: u64,
}

/// What a node says of a transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TxStatus {
    /// Not known here. A hint, never a proof.
    Unknown,
    /// Known, its receipt not executed yet.
    Pending,
    /// Its receipt was executed.
    Landed(Landed),
    /// Refused by this node, or recorded as invalid without a receipt. A hint: the same bytes may have landed
    /// (what was executed long ago answers so too) or may still land.
    Invalid(Refusal),
}

/// A block, as far as nearbench needs one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BlockRef {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: Hash,
    /// The block before it.
    pub prev_hash: Hash,
    /// Its time, in nanoseconds since the Unix epoch, as the producer wrote it.
    pub timestamp_ns: u64,
}
