//! What a chain is started with, in plain types, and its check.

use crate::genesis::{Genesis, GenesisAccount};
use near_primitives::types::{Balance, Gas};
use std::{path::PathBuf, time::Duration};

/// What a chain is started with. [`Config::default`] is nearcore's localnet without accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The chain's name, in `status` and in the genesis.
    pub chain_id: String,
    /// The protocol, 84 to 88; constant over the chain's life.
    pub protocol_version: u32,
    /// Between two blocks; at least a millisecond.
    pub block_time: Duration,
    /// Gas that a chunk may burn.
    pub gas_limit: u64,
    /// Blocks for which a transaction stays valid after its base block.
    pub transaction_validity_period: u64,
    /// The accounts of the genesis.
    pub accounts: Vec<AccountConfig>,
    /// The folder that holds the chain; without one it is gone with the process.
    pub home: Option<PathBuf>,
}

/// An account of the genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccountConfig {
    /// Its name.
    pub account_id: String,
    /// Its balance in yoctoNEAR.
    pub balance: u128,
    /// Its full-access keys, such as `ed25519:…`.
    pub public_keys: Vec<String>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            chain_id: "devnet".to_owned(),
            protocol_version: 86,
            block_time: Duration::from_millis(600),
            gas_limit: 1_000_000_000_000_000,
            transaction_validity_period: 86_400,
            accounts: Vec::new(),
            home: None,
        }
    }
}

/// A field of the configuration that is wrong.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value:?}: {reason}; {way_out}")]
pub struct ConfigError {
    /// The field, by its path.
    pub field: String,
    /// Its value.
    pub value: String,
    /// What is wrong with it.
    pub reason: String,
    /// What would be right.
    pub way_out: &'static str,
}

/// Every genesis has this time (2020-07-21T16:55:51Z, mainnet's), so that equal configurations make equal chains and a
/// chain in a folder is found again.
const GENESIS_TIME_NS: u64 = 1_595_350_551_000_000_000;
const SHORTEST_BLOCK_TIME: Duration = Duration::from_millis(1);
const LONGEST_BLOCK_TIME: Duration = Duration::from_secs(3600);

impl Config {
    /// The genesis of this configuration. What concerns it as a whole is checked by the chain that is made from it.
    pub(crate) fn into_genesis(self) -> Result<Genesis, ConfigError> {
        if !(SHORTEST_BLOCK_TIME..=LONGEST_BLOCK_TIME).contains(&self.block_time) {
            return Err(ConfigError {
                field: "block_time".to_owned(),
                value: format!("{:?}", self.block_time),
                reason: "blocks cannot be made at that pace".to_owned(),
                way_out: "use 1 ms to 1 hour, such as the default of 600 ms",
            });
        }
        let accounts = self
            .accounts
            .iter()
            .enumerate()
            .map(genesis_account)
            .collect::<Result<_, _>>()?;
        Ok(Genesis {
            protocol_version: self.protocol_version,
            gas_limit: Gas::from_gas(self.gas_limit),
            transaction_validity_period: self.transaction_validity_period,
            accounts,
            ..Genesis::new(self.chain_id, GENESIS_TIME_NS)
        })
    }
}

fn genesis_account(
    (index, account): (usize, &AccountConfig),
) -> Result<GenesisAccount, ConfigError> {
    let account_id = account.account_id.parse().map_err(
        |error: near_primitives::account::id::ParseAccountError| ConfigError {
            field: format!("accounts[{index}].account_id"),
            value: account.account_id.clone(),
            reason: error.to_string(),
            way_out: "use 2 to 64 of a-z, 0-9, '-', '_' and '.', such as bench.devnet",
        },
    )?;
    let public_key = |(key, text): (usize, &String)| {
        text.parse()
            .map_err(|error: near_crypto::ParseKeyError| ConfigError {
                field: format!("accounts[{index}].public_keys[{key}]"),
                value: text.clone(),
                reason: error.to_string(),
                way_out: "use a public key such as ed25519: and 32 bytes in base58",
            })
    };
    Ok(GenesisAccount {
        account_id,
        balance: Balance::from_yoctonear(account.balance),
        public_keys: account
            .public_keys
            .iter()
            .enumerate()
            .map(public_key)
            .collect::<Result<_, _>>()?,
        code: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(config: Config) -> String {
        config.into_genesis().unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_field_is_named_with_its_value_and_the_way_out() {
        let block_time = refused(Config {
            block_time: Duration::ZERO,
            ..Config::default()
        });
        assert!(
            block_time.starts_with("block_time is \"0ns\":")
                && block_time.contains("1 ms to 1 hour"),
            "{block_time}"
        );

        let account = |account_id: &str, key: &str| Config {
            accounts: vec![AccountConfig {
                account_id: account_id.into(),
                balance: 1,
                public_keys: vec![key.into()],
            }],
            ..Config::default()
        };
        let name = refused(account("A B", "ed25519:11111111111111111111111111111111"));
        assert!(
            name.starts_with("accounts[0].account_id is \"A B\":"),
            "{name}"
        );
        let key = refused(account("a.devnet", "ed25519:nope"));
        assert!(
            key.starts_with("accounts[0].public_keys[0] is \"ed25519:nope\":"),
            "{key}"
        );
    }
}
