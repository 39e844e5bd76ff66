//! State: an ordered map from nearcore's trie keys to borsh values, one a shard.
//!
//! Maps are persistent (versions share structure): a version is cheap to clone, to keep and to drop, and needs no
//! lock. There is no Merkle trie; a root is a hash chain over what changed, and [`ShardState::trie_nodes`] says how
//! many nodes nearcore's trie would touch. Nothing here knows fees or receipts.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use borsh::{BorshDeserialize, BorshSerialize};
use near_crypto::{PublicKey, PublicKeyHandle};
use near_primitives::account::{AccessKey, Account, AccountContract};
use near_primitives::hash::CryptoHash;
use near_primitives::trie_key::{TrieKey, trie_key_parsers};
use near_primitives::types::{AccountId, ShardId};
use near_vm_runner::ContractCode;
use rpds::RedBlackTreeMapSync;

use crate::runtime::view::{self, ViewContext};
pub use crate::runtime::view::{ViewError, ViewResult};

/// A raw value, shared between versions.
pub type Value = Arc<[u8]>;

/// One version of one shard's state.
#[derive(Clone, Default)]
pub struct ShardState {
    values: RedBlackTreeMapSync<Arc<[u8]>, Value>,
    root: CryptoHash,
    changes: usize,
}

impl ShardState {
    /// How many keys changed since the version before.
    pub(crate) fn changes(&self) -> usize {
        self.changes
    }

    /// Commitment to the state and to how it came about: equal inputs give equal roots.
    pub fn root(&self) -> CryptoHash {
        self.root
    }

    /// The raw value of a raw key.
    pub fn get_raw(&self, key: &[u8]) -> Option<&Value> {
        self.values.get(key)
    }

    /// The value of a key.
    pub fn get<T: BorshDeserialize>(&self, key: &TrieKey) -> Option<T> {
        self.get_raw(&key.to_vec()).map(|value| decode(value))
    }

    /// Raw keys that begin with `prefix`, in order, with their values.
    pub fn with_prefix<'a>(&'a self, prefix: &'a [u8]) -> impl Iterator<Item = (&'a [u8], &'a Value)> {
        self.values
            .range::<[u8], _>((Bound::Included(prefix), Bound::Unbounded))
            .take_while(move |(key, _)| key.starts_with(prefix))
            .map(|(key, value)| (key.as_ref(), value))
    }

    /// How many nodes of nearcore's trie a lookup of `key` passes: a branch wherever the path forks, an extension
    /// before a branch that is more than a nibble away, and the leaf if the key is there.
    pub fn trie_nodes(&self, key: &[u8]) -> u64 {
        let nibbles = key.len() * 2;
        // Depths, deepest first, at which some other key leaves the path of this one.
        let mut forks = Vec::new();
        let (mut low, mut high) = (Bound::Excluded(key.to_vec()), Bound::Excluded(key.to_vec()));
        loop {
            let below = self.values.range::<[u8], _>((Bound::Unbounded, as_slice(&low))).next_back();
            let above = self.values.range::<[u8], _>((as_slice(&high), Bound::Unbounded)).next();
            let fork = [below, above].into_iter().flatten().map(|(other, _)| common_nibbles(key, other)).max();
            let Some(fork) = fork else { break };
            forks.push(fork);
            if fork == 0 {
                break;
            }
            (low, high) = outside(key, fork);
        }
        let present = self.values.contains_key(key);
        let mut nodes = 0;
        let mut depth = 0;
        for (index, fork) in forks.iter().copied().enumerate().rev() {
            // A lookup of an absent key may end inside an extension or a leaf, where no branch is.
            if index == 0 && !present && !self.forks_at(key, fork) {
                return nodes + 1;
            }
            nodes += if fork > depth { 2 } else { 1 };
            depth = fork + 1;
        }
        // A key that ends in a branch has its value there; every other present key ends in a leaf.
        nodes + u64::from(present && depth <= nibbles)
    }

    /// Whether the keys that share the first `depth` nibbles with `key` differ in the next one.
    fn forks_at(&self, key: &[u8], depth: usize) -> bool {
        let (low, high) = outside(key, depth);
        let below = match as_slice(&low) {
            // The bound excludes a key that ends right here, and that key is among those that share the nibbles.
            Bound::Excluded(first) => Bound::Included(first),
            other => other,
        };
        let above = match as_slice(&high) {
            Bound::Included(end) => Bound::Excluded(end),
            other => other,
        };
        let mut sharing = self.values.range::<[u8], _>((below, above));
        let Some((first, _)) = sharing.next() else {
            return false;
        };
        let last = sharing.next_back().map_or(first, |(last, _)| last);
        first.len() * 2 == depth || (first != last && common_nibbles(first, last) == depth)
    }

    /// This version with `changes` (`None` removes) made.
    fn with_changes(&self, changes: &Changes) -> Self {
        if changes.is_empty() {
            return Self { changes: 0, ..self.clone() };
        }
        let mut values = self.values.clone();
        for (key, value) in changes {
            match value {
                Some(value) => values.insert_mut(Arc::from(key.as_slice()), Arc::clone(value)),
                None => {
                    values.remove_mut(key.as_slice());
                }
            }
        }
        let changed = CryptoHash::hash_borsh(changes);
        Self { values, root: CryptoHash::hash_borsh((self.root, changed)), changes: changes.len() }
    }
}

type Changes = BTreeMap<Vec<u8>, Option<Value>>;

fn as_slice(bound: &Bound<Vec<u8>>) -> Bound<&[u8]> {
    bound.as_ref().map(Vec::as_slice)
}

fn nibble(key: &[u8], index: usize) -> u8 {
    let byte = key[index / 2];
    if index.is_multiple_of(2) { byte >> 4 } else { byte & 0x0f }
}

fn common_nibbles(a: &[u8], b: &[u8]) -> usize {
    let length = a.len().min(b.len()) * 2;
    (0..length).find(|&index| nibble(a, index) != nibble(b, index)).unwrap_or(length)
}

/// Bounds beyond every key that shares the first `length` nibbles with `key`.
fn outside(key: &[u8], length: usize) -> (Bound<Vec<u8>>, Bound<Vec<u8>>) {
    let mut first = key[..length.div_ceil(2)].to_vec();
    let mut last = first.clone();
    if !length.is_multiple_of(2)
        && let (Some(first), Some(last)) = (first.last_mut(), last.last_mut())
    {
        *first &= 0xf0;
        *last |= 0x0f;
    }
    // The first key after every extension of `last`.
    while last.last() == Some(&0xff) {
        last.pop();
    }
    let above = match last.last_mut() {
        Some(byte) => {
            *byte += 1;
            Bound::Included(last)
        }
        // Nothing follows: an empty range above.
        None => Bound::Excluded(vec![0xff; 256]),
    };
    (Bound::Excluded(first), above)
}

fn decode<T: BorshDeserialize>(value: &[u8]) -> T {
    T::try_from_slice(value).expect("state holds only what the runtime wrote")
}

/// A shard's state with the changes of a chunk under way: those of finished receipts, and those of the current one.
pub struct Update {
    base: ShardState,
    committed: Changes,
    pending: Changes,
}

/// Where a value was found.
pub enum Found<'a> {
    /// Written or removed in this chunk; no trie node is touched.
    InChunk(Option<&'a Value>),
    /// In the state before the chunk, or nowhere.
    Before(Option<&'a Value>),
}

impl Update {
    /// Nothing changed yet.
    pub fn new(base: ShardState) -> Self {
        Self { base, committed: Changes::new(), pending: Changes::new() }
    }

    /// The state before the chunk.
    pub fn base(&self) -> &ShardState {
        &self.base
    }

    /// Looks a raw key up.
    pub fn find(&self, key: &[u8]) -> Found<'_> {
        match self.pending.get(key).or_else(|| self.committed.get(key)) {
            Some(changed) => Found::InChunk(changed.as_ref()),
            None => Found::Before(self.base.get_raw(key)),
        }
    }

    /// The raw value of a raw key.
    pub fn get_raw(&self, key: &[u8]) -> Option<&Value> {
        match self.find(key) {
            Found::InChunk(value) | Found::Before(value) => value,
        }
    }

    /// The value of a key.
    pub fn get<T: BorshDeserialize>(&self, key: &TrieKey) -> Option<T> {
        self.get_raw(&key.to_vec()).map(|value| decode(value))
    }

    /// Whether there is such a key.
    pub fn contains(&self, key: &TrieKey) -> bool {
        self.get_raw(&key.to_vec()).is_some()
    }

    /// Sets a raw key.
    pub fn set_raw(&mut self, key: Vec<u8>, value: Value) {
        self.pending.insert(key, Some(value));
    }

    /// Sets a key.
    pub fn set<T: BorshSerialize>(&mut self, key: &TrieKey, value: &T) {
        let value = borsh::to_vec(value).expect("writing to memory does not fail");
        self.set_raw(key.to_vec(), value.into());
    }

    /// Removes a raw key.
    pub fn remove_raw(&mut self, key: Vec<u8>) {
        self.pending.insert(key, None);
    }

    /// Removes a key.
    pub fn remove(&mut self, key: &TrieKey) {
        self.remove_raw(key.to_vec());
    }

    /// Removes a key and returns its value.
    pub fn take<T: BorshDeserialize>(&mut self, key: &TrieKey) -> Option<T> {
        let value = self.get(key);
        if value.is_some() {
            self.remove(key);
        }
        value
    }

    /// Raw keys that begin with `prefix`, in order.
    pub fn keys_with_prefix(&self, prefix: &[u8]) -> Vec<Vec<u8>> {
        let mut keys: BTreeMap<Vec<u8>, bool> =
            self.base.with_prefix(prefix).map(|(key, _)| (key.to_vec(), true)).collect();
        for changes in [&self.committed, &self.pending] {
            let changed = changes.range(prefix.to_vec()..).take_while(|(key, _)| key.starts_with(prefix));
            keys.extend(changed.map(|(key, value)| (key.clone(), value.is_some())));
        }
        keys.into_iter().filter_map(|(key, present)| present.then_some(key)).collect()
    }

    /// Keeps what changed since the last commit.
    pub fn commit(&mut self) {
        self.committed.append(&mut self.pending);
    }

    /// Forgets what changed since the last commit.
    pub fn rollback(&mut self) {
        self.pending.clear();
    }

    /// The next version: everything committed, nothing else.
    pub fn finish(self) -> ShardState {
        self.base.with_changes(&self.committed)
    }

    /// An account.
    pub fn account(&self, account_id: &AccountId) -> Option<Account> {
        self.get(&TrieKey::Account { account_id: account_id.clone() })
    }

    /// Writes an account.
    pub fn set_account(&mut self, account_id: &AccountId, account: &Account) {
        self.set(&TrieKey::Account { account_id: account_id.clone() }, account);
    }

    /// A key of an account.
    pub fn access_key(&self, account_id: &AccountId, key: &PublicKey) -> Option<AccessKey> {
        self.get(&TrieKey::access_key(account_id.clone(), key))
    }

    /// Writes a key of an account.
    pub fn set_access_key(&mut self, account_id: &AccountId, key: &PublicKey, access_key: &AccessKey) {
        self.set(&TrieKey::access_key(account_id.clone(), key), access_key);
    }
}

/// The state of all shards after one block. Cheap to clone, `Send`, independent of the chain's lock.
#[derive(Clone)]
pub struct StateView {
    shards: BTreeMap<ShardId, ShardState>,
    context: ViewContext,
}

impl StateView {
    /// A view of the states of all shards of the context's layout.
    pub(crate) fn new(shards: BTreeMap<ShardId, ShardState>, context: ViewContext) -> Self {
        Self { shards, context }
    }

    fn shard_of(&self, account_id: &AccountId) -> &ShardState {
        let shard_id = self.context.rules.layout.account_id_to_shard_id(account_id);
        self.shards.get(&shard_id).expect("the layout lists every shard")
    }

    /// An account.
    pub fn account(&self, account_id: &AccountId) -> Option<Account> {
        self.shard_of(account_id).get(&TrieKey::Account { account_id: account_id.clone() })
    }

    /// A key of an account.
    pub fn access_key(&self, account_id: &AccountId, key: &PublicKey) -> Option<AccessKey> {
        self.shard_of(account_id).get(&TrieKey::access_key(account_id.clone(), key))
    }

    /// All keys of an account, in the order of the trie.
    pub fn access_keys(&self, account_id: &AccountId) -> Vec<(PublicKey, AccessKey)> {
        let prefix = trie_key_parsers::get_raw_prefix_for_access_keys(account_id);
        self.shard_of(account_id)
            .with_prefix(&prefix)
            .filter_map(|(key, value)| {
                let key = match trie_key_parsers::parse_key_handle_from_access_key_key(key, account_id).ok()? {
                    PublicKeyHandle::ED25519(key) => PublicKey::ED25519(key),
                    PublicKeyHandle::SECP256K1(key) => PublicKey::SECP256K1(key),
                    // The trie holds only a hash of such a key.
                    PublicKeyHandle::MlDsa65(_) => return None,
                };
                Some((key, decode(value)))
            })
            .collect()
    }

    /// The contract of an account.
    pub fn code(&self, account_id: &AccountId) -> Option<Arc<ContractCode>> {
        let account = self.account(account_id)?;
        let AccountContract::Local(hash) = *account.contract() else {
            return None;
        };
        let code =
            self.shard_of(account_id).get_raw(&TrieKey::ContractCode { account_id: account_id.clone() }.to_vec())?;
        Some(Arc::new(ContractCode::new(code.to_vec(), Some(hash))))
    }

    /// Contract data of an account whose keys begin with `prefix`, in order, as (key, value).
    pub fn data(&self, account_id: &AccountId, prefix: &[u8]) -> Vec<(Vec<u8>, Value)> {
        let raw = trie_key_parsers::get_raw_prefix_for_contract_data(account_id, prefix);
        let own = raw.len() - prefix.len();
        self.shard_of(account_id)
            .with_prefix(&raw)
            .map(|(key, value)| (key[own..].to_vec(), Arc::clone(value)))
            .collect()
    }

    /// Runs a view method with the protocol's gas limit.
    pub fn call(&self, account_id: &AccountId, method: &str, args: &[u8]) -> Result<ViewResult, ViewError> {
        view::call(&self.context, self.shard_of(account_id), account_id, method, args)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn state(keys: &[&[u8]]) -> ShardState {
        let changes = keys.iter().map(|key| (key.to_vec(), Some(Value::from([1])))).collect();
        ShardState::default().with_changes(&changes)
    }

    #[test]
    fn trie_nodes_are_those_of_a_patricia_trie() {
        assert_eq!(state(&[]).trie_nodes(b"a"), 0);
        assert_eq!(state(&[b"a"]).trie_nodes(b"a"), 1, "a leaf alone");
        // 0x61, 0x62: extension 6, branch, leaf.
        assert_eq!(state(&[b"a", b"b"]).trie_nodes(b"a"), 3);
        // 0x61, 0x71: branch, leaf.
        assert_eq!(state(&[b"a", b"q"]).trie_nodes(b"a"), 2);
        // "a" ends in the branch below which "ab" lies: extension, branch.
        assert_eq!(state(&[b"a", b"ab"]).trie_nodes(b"a"), 2);
        assert_eq!(state(&[b"a", b"ab"]).trie_nodes(b"ab"), 3);
        // Extension 6, branch at 1, extension, branch at 4, leaf.
        assert_eq!(state(&[b"ab1", b"ab\x41", b"b"]).trie_nodes(b"ab1"), 5);
        assert_eq!(state(&[b"ab1", b"ab\x41", b"b"]).trie_nodes(b"b"), 3);
        // Absent keys: in a leaf; in a branch; in an extension after a branch.
        assert_eq!(state(&[b"abc"]).trie_nodes(b"abd"), 1);
        assert_eq!(state(&[b"a", b"b"]).trie_nodes(b"c"), 2);
        assert_eq!(state(&[b"ab1", b"ab\x41", b"b"]).trie_nodes(b"aq"), 3);
    }

    #[test]
    fn a_rolled_back_change_leaves_no_trace_and_a_committed_one_does() {
        let before = state(&[b"a", b"b"]);
        let mut update = Update::new(before.clone());
        update.set_raw(b"a".to_vec(), Value::from([2]));
        update.rollback();
        assert_eq!(update.get_raw(b"a"), Some(&Value::from([1])));
        update.remove_raw(b"a".to_vec());
        update.set_raw(b"c".to_vec(), Value::from([3]));
        update.commit();
        update.set_raw(b"d".to_vec(), Value::from([4]));
        assert_eq!(update.keys_with_prefix(b""), [b"b", b"c", b"d"]);
        let after = update.finish();
        assert!(after.get_raw(b"a").is_none() && after.get_raw(b"d").is_none());
        assert_eq!(after.get_raw(b"c"), Some(&Value::from([3])));
        assert_eq!(before.get_raw(b"a"), Some(&Value::from([1])), "an older version never changes");
        assert_ne!(before.root(), after.root());
    }
}
