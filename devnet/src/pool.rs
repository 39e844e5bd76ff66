//! Transactions that wait for a chunk: grouped by key, ordered by nonce, taken one a group in turn.
//! Source: nearcore `chain/pool/src/lib.rs`. Whether a transaction is valid is for others to say.

use std::collections::{BTreeMap, HashSet};
use std::ops::Bound;
use std::sync::Arc;

use near_crypto::PublicKey;
use near_primitives::hash::CryptoHash;
use near_primitives::transaction::SignedTransaction;
use near_primitives::types::AccountId;

/// Bytes of transactions that a pool holds. Source: nearcore `client_config.rs`, `transaction_pool_size_limit`.
const CAPACITY_BYTES: u64 = 100_000_000;

type Group = (AccountId, PublicKey);

/// What [`Pool::insert`] did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Inserted {
    New,
    Duplicate,
    Full,
}

/// What becomes of a transaction that was offered to a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Offered {
    /// It is in the chunk; its group waits for the next turn.
    Taken,
    /// It is dropped; the next one of its group is offered.
    Dropped,
    /// The chunk is full: nothing more is offered, and this one stays.
    Full,
}

/// The pool of one shard.
pub(crate) struct Pool {
    groups: BTreeMap<Group, BTreeMap<(u64, CryptoHash), Arc<SignedTransaction>>>,
    hashes: HashSet<CryptoHash>,
    bytes: u64,
    capacity: u64,
    /// The group served last; the next chunk begins behind it, so that no key waits forever.
    last: Option<Group>,
}

impl Default for Pool {
    fn default() -> Self {
        Self { groups: BTreeMap::new(), hashes: HashSet::new(), bytes: 0, capacity: CAPACITY_BYTES, last: None }
    }
}

impl Pool {
    /// Takes a transaction in.
    pub(crate) fn insert(&mut self, transaction: Arc<SignedTransaction>) -> Inserted {
        let hash = *transaction.hash();
        if self.hashes.contains(&hash) {
            return Inserted::Duplicate;
        }
        let bytes = self.bytes.saturating_add(transaction.get_size());
        if bytes > self.capacity {
            return Inserted::Full;
        }
        self.bytes = bytes;
        self.hashes.insert(hash);
        let tx = &transaction.transaction;
        let group = (tx.signer_id().clone(), tx.public_key().clone());
        let nonce = tx.nonce().nonce();
        self.groups.entry(group).or_default().insert((nonce, hash), transaction);
        Inserted::New
    }

    /// How many transactions wait, and their bytes.
    pub(crate) fn size(&self) -> (u64, u64) {
        (self.hashes.len() as u64, self.bytes)
    }

    /// Forgets all that waits.
    pub(crate) fn clear(&mut self) {
        *self = Self { capacity: self.capacity, ..Self::default() };
    }

    /// Offers transactions in turn until the chunk is full or the pool empty.
    pub(crate) fn offer(&mut self, mut chunk: impl FnMut(&Arc<SignedTransaction>) -> Offered) {
        while let Some(group) = self.next_group() {
            while let Some(waiting) = self.groups.get_mut(&group)
                && let Some((&position, transaction)) = waiting.first_key_value()
            {
                let offered = chunk(transaction);
                if offered == Offered::Full {
                    return;
                }
                self.hashes.remove(&position.1);
                self.bytes = self.bytes.saturating_sub(transaction.get_size());
                waiting.remove(&position);
                if waiting.is_empty() {
                    self.groups.remove(&group);
                }
                if offered == Offered::Taken {
                    break;
                }
            }
            self.last = Some(group);
        }
    }

    fn next_group(&self) -> Option<Group> {
        let after = self.last.as_ref().and_then(|last| {
            self.groups.range((Bound::Excluded(last), Bound::Unbounded)).next().map(|(group, _)| group)
        });
        after.or_else(|| self.groups.keys().next()).cloned()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use near_crypto::{InMemorySigner, KeyType};
    use near_primitives::types::Balance;

    use super::*;

    fn transfer(key: &str, nonce: u64) -> Arc<SignedTransaction> {
        let signer = InMemorySigner::from_seed("a.near".parse().unwrap(), KeyType::ED25519, key);
        let (from, to) = ("a.near".parse().unwrap(), "b.near".parse().unwrap());
        let deposit = Balance::from_yoctonear(1);
        Arc::new(SignedTransaction::send_money(nonce, from, to, &signer, deposit, CryptoHash::default()))
    }

    fn nonces(pool: &mut Pool, limit: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        pool.offer(|tx| {
            if taken.len() == limit {
                return Offered::Full;
            }
            taken.push(tx.transaction.nonce().nonce());
            Offered::Taken
        });
        taken
    }

    #[test]
    fn keys_take_turns_and_each_sends_in_the_order_of_its_nonces() {
        let mut pool = Pool::default();
        for (key, nonce) in [("x", 12), ("x", 10), ("y", 21), ("x", 11), ("y", 20)] {
            assert_eq!(pool.insert(transfer(key, nonce)), Inserted::New);
        }
        let mut taken = nonces(&mut pool, 3);
        taken.extend(nonces(&mut pool, 9));
        let of = |tens: u64| taken.iter().copied().filter(|nonce| nonce / 10 == tens).collect::<Vec<_>>();
        assert_eq!((of(1), of(2)), (vec![10, 11, 12], vec![20, 21]));
        assert_ne!(taken[0] / 10, taken[1] / 10, "one a key in turn");
        assert_ne!(taken[2] / 10, taken[3] / 10, "and the next chunk goes on where the last one stopped");
    }

    #[test]
    fn an_invalid_transaction_makes_way_for_the_next_of_its_key() {
        let mut pool = Pool::default();
        for nonce in [1, 2, 3] {
            pool.insert(transfer("x", nonce));
        }
        let mut offered = Vec::new();
        pool.offer(|tx| {
            let nonce = tx.transaction.nonce().nonce();
            offered.push(nonce);
            if nonce == 1 { Offered::Dropped } else { Offered::Taken }
        });
        assert_eq!(offered, [1, 2, 3]);
        assert_eq!((pool.bytes, pool.hashes.len()), (0, 0));
    }

    #[test]
    fn a_full_pool_takes_nothing_and_a_duplicate_takes_no_room() {
        let first = transfer("x", 1);
        let mut pool = Pool { capacity: first.get_size(), ..Pool::default() };
        assert_eq!(pool.insert(Arc::clone(&first)), Inserted::New);
        assert_eq!(pool.insert(first), Inserted::Duplicate);
        assert_eq!(pool.insert(transfer("x", 2)), Inserted::Full);
        assert_eq!(nonces(&mut pool, 9), [1]);
        assert_eq!(pool.insert(transfer("x", 2)), Inserted::New, "what was taken made room");
    }
}
