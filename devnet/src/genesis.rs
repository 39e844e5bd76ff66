//! The genesis of a chain: its constants and its first accounts, checked before anything is built on them.

use std::collections::HashSet;

use near_crypto::PublicKey;
use near_primitives::hash::CryptoHash;
use near_primitives::shard_layout::ShardLayout;
use near_primitives::types::{AccountId, Balance, Gas};

/// Protocol versions that the runtime executes.
pub const SUPPORTED_PROTOCOL_VERSIONS: std::ops::RangeInclusive<u32> = 84..=88;

/// What a chain starts from. Two chains of equal genesis and equal inputs are equal.
#[derive(Clone, Debug, PartialEq, Eq, borsh::BorshSerialize)]
pub struct Genesis {
    /// Name of the network.
    pub chain_id: String,
    /// Protocol version, constant over the chain's life.
    pub protocol_version: u32,
    /// Limit of one chunk.
    pub gas_limit: Gas,
    /// Lowest price of gas, and the price at genesis, in yoctoNEAR per gas.
    pub min_gas_price: Balance,
    /// Blocks for which a transaction's base block is valid.
    pub transaction_validity_period: u64,
    /// Blocks of an epoch.
    pub epoch_length: u64,
    /// Time of the genesis block, in nanoseconds since the Unix epoch.
    pub timestamp_ns: u64,
    /// Which shards there are and which of them an account is in, constant over the chain's life.
    pub shard_layout: ShardLayout,
    /// The first accounts.
    pub accounts: Vec<GenesisAccount>,
}

/// An account of the genesis.
#[derive(Clone, Debug, PartialEq, Eq, borsh::BorshSerialize)]
pub struct GenesisAccount {
    /// Its name.
    pub account_id: AccountId,
    /// Its balance in yoctoNEAR.
    pub balance: Balance,
    /// Its full-access keys.
    pub public_keys: Vec<PublicKey>,
    /// The contract deployed on it.
    pub code: Option<Vec<u8>>,
}

/// What is wrong with a genesis.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// The chain has no name.
    #[error("chain_id is empty; give the chain a name such as \"devnet\"")]
    EmptyChainId,
    /// The runtime does not know the protocol.
    #[error("protocol_version is {0}; devnet executes versions 84 to 88")]
    ProtocolVersion(u32),
    /// A quantity that must be positive is zero.
    #[error("{0} is 0; it must be positive")]
    Zero(&'static str),
    /// An account is listed twice.
    #[error("account {0} is listed twice; list each account once")]
    DuplicateAccount(AccountId),
    /// A key is listed twice.
    #[error("account {account_id} lists the key {public_key} twice; list each key once")]
    DuplicateKey {
        /// The account.
        account_id: AccountId,
        /// The key.
        public_key: PublicKey,
    },
    /// The sum of the balances exceeds 2^128 - 1.
    #[error("the balances of the genesis accounts add up to more than 2^128 - 1 yoctoNEAR; lower them")]
    SupplyOverflow,
    /// An account cannot pay for its own storage.
    #[error("account {account_id} has {balance}; its storage needs {required}")]
    StorageStake {
        /// The account.
        account_id: AccountId,
        /// What it has.
        balance: Balance,
        /// What its storage needs.
        required: Balance,
    },
}

impl Genesis {
    /// A genesis with nearcore's localnet constants and one shard, without accounts.
    pub fn new(chain_id: impl Into<String>, timestamp_ns: u64) -> Self {
        Self {
            chain_id: chain_id.into(),
            protocol_version: 86,
            gas_limit: Gas::from_teragas(1000),
            min_gas_price: Balance::from_yoctonear(100_000_000),
            transaction_validity_period: 86_400,
            epoch_length: 43_200,
            timestamp_ns,
            shard_layout: ShardLayout::single_shard(),
            accounts: Vec::new(),
        }
    }

    /// Checks the constants and the list of accounts; whether they can pay for their storage is the runtime's to say.
    pub fn validate(&self) -> Result<(), GenesisError> {
        if self.chain_id.is_empty() {
            return Err(GenesisError::EmptyChainId);
        }
        if !SUPPORTED_PROTOCOL_VERSIONS.contains(&self.protocol_version) {
            return Err(GenesisError::ProtocolVersion(self.protocol_version));
        }
        let positive = [
            ("gas_limit", self.gas_limit == Gas::ZERO),
            ("min_gas_price", self.min_gas_price.is_zero()),
            ("transaction_validity_period", self.transaction_validity_period == 0),
            ("epoch_length", self.epoch_length == 0),
        ];
        if let Some((name, _)) = positive.iter().find(|(_, zero)| *zero) {
            return Err(GenesisError::Zero(name));
        }
        let mut names = HashSet::new();
        for account in &self.accounts {
            if !names.insert(&account.account_id) {
                return Err(GenesisError::DuplicateAccount(account.account_id.clone()));
            }
            let mut keys = HashSet::new();
            if let Some(twice) = account.public_keys.iter().find(|key| !keys.insert(*key)) {
                return Err(GenesisError::DuplicateKey {
                    account_id: account.account_id.clone(),
                    public_key: twice.clone(),
                });
            }
        }
        self.total_supply().map(|_| ())
    }

    /// Sum of the balances.
    pub fn total_supply(&self) -> Result<Balance, GenesisError> {
        self.accounts.iter().try_fold(Balance::ZERO, |sum, account| {
            sum.checked_add(account.balance).ok_or(GenesisError::SupplyOverflow)
        })
    }

    /// Identity of the genesis: equal exactly where every field is.
    pub fn hash(&self) -> CryptoHash {
        CryptoHash::hash_borsh(self)
    }
}
