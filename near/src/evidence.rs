//! Evidence about an attempt that left no outcome: its key in final blocks, who moved it there, and the blocks of its
//! life. Whoever still has a block is asked: of several endpoints one may be archival.
//!
//! It gathers; what follows from it, [`nearbench_core::settle`] says.

use crate::{
    Client,
    chain::{At, Block, ChunkTransaction, Shown},
    rpc::RpcError,
    views::{BlockView, ChangesView, ChunkView, KeyView},
};
use nearbench_core::{
    Account, Hash, Height,
    outcome::{BlockRef, TxStatus},
    settle::{KeyChange, KeyLook, Passing, Seen},
};
use serde_json::json;

/// What nodes say of a block that they never had or no longer have; what they never had first, since a node may have
/// collected a height at which no block ever was.
const NO_BLOCK: &[&str] = &["UNKNOWN_BLOCK", "GARBAGE_COLLECTED_BLOCK", "UNKNOWN_CHUNK"];

impl Client {
    /// A key in the canonical block of a height.
    ///
    /// # Errors
    /// When an endpoint that might know does not answer.
    pub async fn key_at_height(&self, account: &Account, public_key: &str, height: Height) -> Result<Seen, RpcError> {
        match self.key_from_any(account, public_key, At::Height(height)).await {
            Ok(key) => Ok(Seen::Key(key)),
            Err(error) if error.fault.caused_by(&["UNKNOWN_BLOCK"]).is_some() => Ok(Seen::NoBlock),
            Err(error) if error.fault.caused_by(NO_BLOCK).is_some() => Ok(Seen::Collected),
            Err(error) => Err(error),
        }
    }

    /// The canonical block of a height with all that changed a key in it; `None` where nobody has it any more.
    ///
    /// # Errors
    /// When an endpoint that might know does not answer.
    pub async fn passing(
        &self,
        account: &Account,
        public_key: &str,
        height: Height,
    ) -> Result<Option<Passing>, RpcError> {
        let whole = async {
            let block = self.block_from_any(At::Height(height)).await?.at;
            let at = self.key_from_any(account, public_key, At::Hash(block.hash)).await?;
            let before = self.key_from_any(account, public_key, At::Hash(block.prev_hash)).await?;
            let changes = self.key_changes(account, public_key, block.hash).await?;
            Ok(Passing { before, at, changes })
        };
        known(whole.await)
    }

    /// A block and the hashes of all transactions in it that `account` signed; `None` where nobody has it whole any more.
    /// By its hash: of a height nobody can tell whether its block is collected or never was.
    ///
    /// # Errors
    /// When an endpoint that might know does not answer.
    pub async fn signed_in(&self, account: &Account, block: Hash) -> Result<Option<(BlockRef, Vec<Hash>)>, RpcError> {
        let whole = async {
            let block = self.block_from_any(At::Hash(block)).await?;
            let mut hashes = Vec::new();
            for chunk in block.chunks {
                let transactions =
                    self.chunk_from_any(chunk).await?.transactions.into_iter().map(ChunkTransaction::from);
                hashes.extend(transactions.filter(|tx| *tx.signer == **account).map(|tx| tx.hash));
            }
            Ok((block.at, hashes))
        };
        known(whole.await)
    }

    /// What became of a transaction, asked of every endpoint until one knows it: of what is collected elsewhere an
    /// archival one has the outcome.
    ///
    /// # Errors
    /// When an endpoint that might know does not answer.
    pub async fn outcome_from_any(&self, hash: Hash, sender: &Account) -> Result<TxStatus, RpcError> {
        Ok(self.shown_from_any(hash, sender).await?.status)
    }

    /// The same, with the block that it is recorded in.
    ///
    /// # Errors
    /// When an endpoint that might know does not answer.
    pub async fn shown_from_any(&self, hash: Hash, sender: &Account) -> Result<Shown, RpcError> {
        let params = json!({ "tx_hash": hash, "sender_account_id": sender, "wait_until": "NONE" });
        let unknown = &["UNKNOWN_TRANSACTION"];
        let answer = self.0.read_from_any::<crate::views::TxView>("tx", &params, unknown, &|_| true).await;
        crate::client::shown(answer, hash, sender)
    }

    async fn key_from_any(&self, account: &Account, public_key: &str, at: At) -> Result<KeyLook, RpcError> {
        let params = Self::key_params(account, public_key, at);
        let fits = |view: &KeyView| at.is(view.block_height, view.block_hash);
        let answer = self.0.read_from_any("query", &params, NO_BLOCK, &fits).await;
        let read = Self::key_answer(answer)?;
        Ok(KeyLook { height: read.height, nonce: read.value.map(|key| key.nonce) })
    }

    pub(crate) async fn chunk_from_any(&self, chunk: Hash) -> Result<ChunkView, RpcError> {
        let fits = |answer: &ChunkView| answer.header.chunk_hash == chunk;
        self.0.read_from_any("chunk", &json!({ "chunk_id": chunk }), NO_BLOCK, &fits).await
    }

    /// A block, asked of every endpoint until one has it.
    ///
    /// # Errors
    /// When nobody has it, or an endpoint that might have it does not answer.
    pub async fn block_from_any(&self, at: At) -> Result<Block, RpcError> {
        let fits = |view: &BlockView| view.is_at(at);
        self.0.read_from_any("block", &at.params(), NO_BLOCK, &fits).await.map(Block::from)
    }

    /// Whether a transaction is among those that moved its key in a block: it was valid there. `None` where nobody has the
    /// block any more.
    ///
    /// # Errors
    /// When an endpoint that might know does not answer.
    pub(crate) async fn moved_key(
        &self,
        account: &Account,
        public_key: &str,
        block: Hash,
        hash: Hash,
    ) -> Result<Option<bool>, RpcError> {
        let is_its = |change: &KeyChange| matches!(change, KeyChange::Moved { by, .. } if *by == hash);
        Ok(known(self.key_changes(account, public_key, block).await)?.map(|changes| changes.iter().any(is_its)))
    }

    async fn key_changes(&self, account: &Account, public_key: &str, block: Hash) -> Result<Vec<KeyChange>, RpcError> {
        let params = json!({
            "changes_type": "single_access_key_changes",
            "keys": [{ "account_id": account, "public_key": public_key }],
            "block_id": block,
        });
        let fits = |view: &ChangesView| view.is_about(account, public_key, block);
        let view = self.0.read_from_any("EXPERIMENTAL_changes", &params, NO_BLOCK, &fits).await?;
        Ok(view.key_changes())
    }
}

/// A block that nobody has is a value.
pub(crate) fn known<T>(answer: Result<T, RpcError>) -> Result<Option<T>, RpcError> {
    match answer {
        Err(error) if error.fault.caused_by(NO_BLOCK).is_some() => Ok(None),
        answer => answer.map(Some),
    }
}
