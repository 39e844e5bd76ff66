//! The states that a genesis describes, one a shard.

use std::collections::BTreeMap;

use near_primitives::account::{AccessKey, Account, AccountContract};
use near_primitives::hash::CryptoHash;
use near_primitives::trie_key::TrieKey;
use near_primitives::types::{Balance, ShardId};

use super::Rules;
use super::actions::key_storage;
use super::verify::lack_for_storage;
use crate::genesis::{Genesis, GenesisError};
use crate::state::{ShardState, Update};

/// Writes the accounts of a valid genesis, each into its shard.
pub(crate) fn genesis_states(rules: &Rules, genesis: &Genesis) -> Result<BTreeMap<ShardId, ShardState>, GenesisError> {
    let empty = |shard_id| (shard_id, Update::new(ShardState::default()));
    let mut states: BTreeMap<_, _> = rules.layout.shard_ids().map(empty).collect();
    for described in &genesis.accounts {
        let account_id = &described.account_id;
        let shard_id = rules.layout.account_id_to_shard_id(account_id);
        let state = states.get_mut(&shard_id).expect("the layout lists every shard");
        let mut storage = rules.config.fees.storage_usage_config.num_bytes_account;
        for public_key in &described.public_keys {
            let access_key = AccessKey::full_access();
            storage = storage.saturating_add(key_storage(&rules.config, public_key, &access_key));
            state.set_access_key(account_id, public_key, &access_key);
        }
        let contract = match &described.code {
            None => AccountContract::None,
            Some(code) => {
                storage = storage.saturating_add(code.len() as u64);
                let key = TrieKey::ContractCode { account_id: account_id.clone() }.to_vec();
                state.set_raw(key, code.as_slice().into());
                AccountContract::Local(CryptoHash::hash_bytes(code))
            }
        };
        let account = Account::new(described.balance, Balance::ZERO, contract, storage);
        if let Some(lack) = lack_for_storage(&rules.config, &account, account.amount()) {
            return Err(GenesisError::StorageStake {
                account_id: account_id.clone(),
                balance: described.balance,
                required: described.balance.saturating_add(lack),
            });
        }
        state.set_account(account_id, &account);
    }
    let finish = |(shard_id, mut state): (ShardId, Update)| {
        state.commit();
        (shard_id, state.finish())
    };
    Ok(states.into_iter().map(finish).collect())
}
