//! What a chain answers, in nearbench's words: values only, asked for and filled in by [`crate::client`].

use crate::{
    pool::TIMED_OUT,
    rpc::{RpcError, bounded, variant},
    views::{self, ActionView},
};
use nearbench_core::{
    Account, Gas, Hash, Height, Near, Nonce,
    outcome::{BlockRef, Refusal, TxStatus},
};
use serde_json::{Value, json};
use std::sync::Arc;

/// Which block to read at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The last final block.
    Final,
    /// The head.
    Optimistic,
    /// The canonical block of this height.
    Height(Height),
    /// This block.
    Hash(Hash),
}

/// How long a node may wait before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    None,
    /// Until the receipt is executed in the head's chain, at most 10 s.
    ExecutedOptimistic,
    /// Until all receipts are executed in final blocks, at most 10 s.
    Final,
}

/// What a node says of itself and its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The chain's id.
    pub chain_id: String,
    /// The protocol in force.
    pub protocol_version: u32,
    /// The node's version and build.
    pub version: String,
    /// The head's height.
    pub head: Height,
    /// Whether it is still catching up.
    pub syncing: bool,
}

/// A block and the chunks that are new in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The block.
    pub at: BlockRef,
    /// Hashes of the chunks included at this height. A shard whose producer missed its turn has none.
    pub chunks: Vec<Hash>,
    /// What the chunks before these burnt, one of each of their shards: a chunk's header tells what its predecessor did.
    pub gas_used: Gas,
    /// What the chunks might burn, together.
    pub gas_limit: Gas,
}

/// A transaction as it stands in a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkTransaction {
    /// Its hash.
    pub hash: Hash,
    /// Who signed.
    pub signer: String,
    /// With which key.
    pub public_key: String,
    /// The key's nonce.
    pub nonce: Nonce,
    /// Whom it is sent to.
    pub receiver: String,
    /// Its actions, in order.
    pub actions: Vec<ChunkAction>,
}

/// An action of a transaction in a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkAction {
    /// A function call.
    Call {
        /// The method.
        method: String,
        /// Its arguments.
        args: Vec<u8>,
    },
    /// NEAR, sent.
    Transfer,
    /// Anything else.
    Other,
}

/// What a node shows of a transaction. One that was invalid in a chunk has an outcome there, and another one where it landed
/// before or after; a node shows one of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shown {
    /// What the outcome says.
    pub status: TxStatus,
    /// The block that holds the transaction with this outcome; `None` where there is none yet.
    pub block: Option<Hash>,
}

/// A state read at a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// The block's height.
    pub height: Height,
    /// The block's hash.
    pub block: Hash,
    /// What was there.
    pub value: T,
}

/// An access key on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// The last nonce used.
    pub nonce: Nonce,
    /// What it may sign.
    pub permission: Permission,
}

/// What an access key may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Everything.
    FullAccess,
    /// Calls of one contract, without a deposit: no `ft_transfer`.
    FunctionCall {
        /// The contract.
        receiver: String,
    },
    /// Something else, such as a gas key, by its name.
    Other(String),
}

/// An account on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountState {
    /// Its balance.
    pub balance: Near,
    /// Bytes of state, paid for by locking part of the balance.
    pub storage_bytes: u64,
    /// Whether a contract is deployed there.
    pub has_code: bool,
}

/// Why a view call brought no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ViewError {
    /// The contract is missing, lacks the method or refused.
    #[error("{contract}.{method}: {reason}")]
    Contract {
        /// The contract's account.
        contract: Account,
        /// The method.
        method: String,
        /// What the node says.
        reason: String,
    },
    /// The chain could not be asked.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

/// Why a transaction was not taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SendError {
    /// The node refused it. A hint, never evidence: the same bytes may have landed before.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// Nobody knows whether it was taken.
    #[error(transparent)]
    Unanswered(#[from] RpcError),
}

impl SendError {
    /// A bounded name for counts of errors by type.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.label(),
            Self::Unanswered(error) => error.fault.label(),
        }
    }

    /// Whether the endpoint is to blame, rather than the transaction.
    pub fn is_endpoints(&self) -> bool {
        matches!(self, Self::Unanswered(error) if error.fault.is_endpoints())
    }
}

/// A chain other than the expected one, or none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChainIdError {
    /// Another chain.
    #[error(
        "{endpoint} is on chain {found:?}, not {wanted:?}: use an endpoint of {wanted:?}, or set network.profile to the chain that is meant"
    )]
    Other {
        /// The endpoint.
        endpoint: Arc<str>,
        /// Its chain.
        found: String,
        /// The expected one.
        wanted: String,
    },
    /// No endpoint answered.
    #[error(transparent)]
    Unanswered(#[from] RpcError),
}

impl At {
    pub(crate) fn params(self) -> Value {
        match self {
            Self::Final => json!({ "finality": "final" }),
            Self::Optimistic => json!({ "finality": "optimistic" }),
            Self::Height(height) => json!({ "block_id": height }),
            Self::Hash(hash) => json!({ "block_id": hash }),
        }
    }

    /// Whether a block may be the one that this names.
    pub(crate) fn is(self, height: Height, hash: Hash) -> bool {
        match self {
            Self::Final | Self::Optimistic => true,
            Self::Height(wanted) => wanted == height,
            Self::Hash(wanted) => wanted == hash,
        }
    }

    /// What a node says that does not know the block, and may know it a moment later: a block that is named by its hash was
    /// seen by another.
    pub(crate) fn again(self) -> &'static [&'static str] {
        match self {
            Self::Hash(_) => &["TIMEOUT_ERROR", "UNKNOWN_BLOCK"],
            _ => TIMED_OUT,
        }
    }

    pub(crate) fn query(self, mut params: Value) -> Value {
        if let (Value::Object(params), Value::Object(at)) = (&mut params, self.params()) {
            params.extend(at);
        }
        params
    }
}

impl Wait {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::ExecutedOptimistic => "EXECUTED_OPTIMISTIC",
            Self::Final => "FINAL",
        }
    }
}

impl From<views::StatusView> for NodeStatus {
    fn from(view: views::StatusView) -> Self {
        let views::VersionView { version, build } = view.version;
        Self {
            chain_id: view.chain_id,
            protocol_version: view.protocol_version,
            version: if build.is_empty() { version } else { format!("{version} ({build})") },
            head: view.sync_info.latest_block_height,
            syncing: view.sync_info.syncing,
        }
    }
}

impl From<views::BlockView> for Block {
    fn from(view: views::BlockView) -> Self {
        let at = view.header.block_ref();
        let new = || view.chunks.iter().filter(|chunk| chunk.height_included == at.height);
        Self {
            at,
            chunks: new().map(|chunk| chunk.chunk_hash).collect(),
            gas_used: new().map(|chunk| chunk.gas_used).fold(0, Gas::saturating_add),
            gas_limit: new().map(|chunk| chunk.gas_limit).fold(0, Gas::saturating_add),
        }
    }
}

impl From<views::TransactionView> for ChunkTransaction {
    fn from(view: views::TransactionView) -> Self {
        let actions = view.actions.into_iter().map(|action| match action {
            ActionView::Call { call } => ChunkAction::Call { method: call.method_name, args: call.args },
            ActionView::Transfer { .. } => ChunkAction::Transfer,
            ActionView::Other(_) => ChunkAction::Other,
        });
        Self {
            hash: view.hash,
            signer: view.signer_id,
            public_key: view.public_key,
            nonce: view.nonce,
            receiver: view.receiver_id,
            actions: actions.collect(),
        }
    }
}

impl Permission {
    /// A permission as JSON: `"FullAccess"` or `{"FunctionCall": {…}}`.
    pub(crate) fn read(permission: &Value) -> Self {
        match permission {
            Value::String(name) if name == "FullAccess" => Self::FullAccess,
            Value::Object(map) if map.contains_key("FunctionCall") => {
                let receiver = map["FunctionCall"].get("receiver_id").and_then(Value::as_str);
                Self::FunctionCall { receiver: bounded(receiver.unwrap_or_default()) }
            }
            other => Self::Other(variant(other).to_owned()),
        }
    }
}
