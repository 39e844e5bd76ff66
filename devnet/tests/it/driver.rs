//! Drives a chain without a clock: blocks are made as fast as they can be.
#![allow(clippy::unwrap_used)]

use std::sync::Arc;

use near_crypto::{InMemorySigner, KeyType, Signer};
use near_primitives::errors::InvalidTxError;
use near_primitives::hash::CryptoHash;
use near_primitives::transaction::{Action, SignedTransaction, Transaction, TransactionV0};
use near_primitives::types::{AccountId, Balance};
use nearbench_devnet::block::{Block, OutcomeRecord};
use nearbench_devnet::chain::{Chain, Submitted};
use nearbench_devnet::genesis::{Genesis, GenesisAccount};

pub(crate) const GENESIS_TIME_NS: u64 = 1_700_000_000_000_000_000;

pub(crate) fn account(name: &str) -> AccountId {
    name.parse().unwrap()
}

pub(crate) fn signer(name: &str) -> Signer {
    InMemorySigner::from_seed(account(name), KeyType::ED25519, name)
}

/// A genesis whose accounts have one key each, made from their names.
pub(crate) fn genesis(names: &[(&str, Balance)]) -> Genesis {
    let mut genesis = Genesis::new("localnet", GENESIS_TIME_NS);
    genesis.accounts = names
        .iter()
        .map(|(name, balance)| GenesisAccount {
            account_id: account(name),
            balance: *balance,
            public_keys: vec![signer(name).public_key()],
            code: None,
        })
        .collect();
    genesis
}

pub(crate) fn next_block(chain: &mut Chain) -> Arc<Block> {
    let timestamp = chain.head().timestamp_ns + 600_000_000;
    let executed = chain.fix_chunks().execute();
    chain.publish(executed, timestamp).unwrap()
}

/// Signs with the account's own key at the next nonce above `after`.
pub(crate) fn signed(chain: &Chain, from: &str, to: &str, actions: Vec<Action>, above: u64) -> SignedTransaction {
    let signer = signer(from);
    let state = chain.state_at(chain.head().height).unwrap();
    let nonce = state.access_key(&account(from), &signer.public_key()).map_or(0, |key| key.nonce) + 1 + above;
    Transaction::V0(TransactionV0 {
        signer_id: account(from),
        public_key: signer.public_key(),
        nonce,
        receiver_id: account(to),
        block_hash: chain.final_block().hash,
        actions,
    })
    .sign(&signer)
}

pub(crate) fn submit(
    chain: &mut Chain,
    from: &str,
    to: &str,
    actions: Vec<Action>,
) -> Result<CryptoHash, InvalidTxError> {
    let transaction = signed(chain, from, to, actions, 0);
    let hash = transaction.get_hash();
    chain.submit(transaction).map(|submitted| {
        assert_eq!(submitted, Submitted::New);
        hash
    })
}

/// The outcomes of a transaction and of all receipts that came of it, in order of discovery, breadth first.
pub(crate) fn outcomes(chain: &Chain, hash: CryptoHash) -> Option<Vec<Arc<OutcomeRecord>>> {
    let mut found = vec![chain.outcome(&hash)?];
    let mut next = 0;
    while let Some(record) = found.get(next).cloned() {
        for id in &record.outcome.outcome.receipt_ids {
            found.push(chain.outcome(id)?);
        }
        next += 1;
    }
    Some(found)
}

/// Makes blocks until a transaction and all its receipts are executed.
pub(crate) fn finish(chain: &mut Chain, hash: CryptoHash) -> Vec<Arc<OutcomeRecord>> {
    for _ in 0..32 {
        if let Some(outcomes) = outcomes(chain, hash) {
            return outcomes;
        }
        next_block(chain);
    }
    panic!("transaction {hash} is not executed after 32 blocks");
}
