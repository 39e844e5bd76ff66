//! What a chain is started with, in plain types, and its check.

use crate::{
    DevnetError,
    chain::Retention,
    genesis::{Genesis, GenesisAccount, SUPPORTED_PROTOCOL_VERSIONS},
    home::{self, Parameters},
};
use near_primitives::types::{Balance, Gas};
use std::{path::PathBuf, time::Duration};

/// What a chain is started with. [`Config::default`] is nearcore's localnet without accounts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The chain's name, in `status` and in the genesis; not that of one of NEAR's networks.
    pub chain_id: String,
    /// The protocol, 84 to 88; constant over the chain's life.
    pub protocol_version: u32,
    /// Between two blocks; a millisecond to an hour.
    pub block_time: Duration,
    /// Gas that a chunk may burn.
    pub gas_limit: u64,
    /// Blocks for which a transaction stays valid after its base block; at most two epochs, as nearcore wants it.
    pub transaction_validity_period: u64,
    /// Blocks of an epoch.
    pub epoch_length: u64,
    /// Epochs that the node keeps, the current one included, at least 3; what is older it collects. `None` keeps
    /// everything, as an archival node does.
    pub keep_epochs: Option<u64>,
    /// Endpoints, by the NAME of `POST /endpoints/NAME`, that answer from everything where the others have collected.
    /// Not part of the chain: one in a folder may be opened with others.
    pub archival: Vec<String>,
    /// The accounts of the genesis.
    pub accounts: Vec<AccountConfig>,
    /// The folder that holds the chain; without one it is gone with the process. It is opened again only with the
    /// configuration that it was made with. Its log keeps every block, whatever the node collects.
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
            epoch_length: 43_200,
            keep_epochs: None,
            archival: Vec::new(),
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
const LONGEST_EPOCH: u64 = 1_000_000_000;
/// Source: nearcore `core/chain-configs`, `MIN_GC_NUM_EPOCHS_TO_KEEP`.
const FEWEST_EPOCHS_KEPT: u64 = 3;
const MOST_EPOCHS_KEPT: u64 = 1_000_000_000;
const LONGEST_ENDPOINT_NAME: usize = 64;

/// The ids of NEAR's networks: nobody may take this chain for one of them.
const NEARS_CHAIN_IDS: [&str; 3] = ["mainnet", "testnet", "betanet"];

impl Config {
    /// Says what is wrong with the configuration, also where `home` holds a chain that was made with another one.
    /// Nothing is changed; that the home can be opened is seen only by doing so.
    ///
    /// # Errors
    /// Names the fields with their values and the way out.
    pub fn check(&self) -> Result<(), DevnetError> {
        self.genesis()?.validate().map_err(crate::chain::ChainError::from)?;
        if let Some(home) = &self.home {
            home::check(home, &self.parameters())?;
        }
        Ok(())
    }

    /// The genesis of this configuration. What concerns it as a whole is checked by the chain that is made from it.
    pub(crate) fn genesis(&self) -> Result<Genesis, ConfigError> {
        let wrong = |field: &str, value: String, reason: &str, way_out| {
            Err(ConfigError { field: field.to_owned(), value, reason: reason.to_owned(), way_out })
        };
        let chain_id = self.chain_id.trim();
        if chain_id.is_empty() {
            return wrong("chain_id", self.chain_id.clone(), "a chain needs a name", OWN_CHAIN_IDS);
        }
        if NEARS_CHAIN_IDS.iter().any(|id| chain_id.eq_ignore_ascii_case(id)) {
            let reason = "that is a network of NEAR, and a devnet must not be mistaken for it";
            return wrong("chain_id", self.chain_id.clone(), reason, OWN_CHAIN_IDS);
        }
        if !SUPPORTED_PROTOCOL_VERSIONS.contains(&self.protocol_version) {
            let reason = "devnet does not execute that version";
            return wrong("protocol_version", self.protocol_version.to_string(), reason, "use 84 to 88");
        }
        if !(SHORTEST_BLOCK_TIME..=LONGEST_BLOCK_TIME).contains(&self.block_time) {
            let reason = "blocks cannot be made at that pace";
            return wrong("block_time", milliseconds(self.block_time), reason, "use 1ms to 1h, such as 600ms");
        }
        if !(1..=LONGEST_EPOCH).contains(&self.epoch_length) {
            let reason = "an epoch cannot have that many blocks";
            return wrong("epoch_length", self.epoch_length.to_string(), reason, "use 1 to 1000000000, such as 43200");
        }
        // Source: nearcore, which checks it of every genesis.
        if !(1..=2 * self.epoch_length).contains(&self.transaction_validity_period) {
            let period = self.transaction_validity_period.to_string();
            let reason = format!("a transaction is valid for 1 block to two epochs, here {}", 2 * self.epoch_length);
            return wrong("transaction_validity_period", period, &reason, "use fewer blocks, or longer epochs");
        }
        if let Some(epochs) = self.keep_epochs
            && !(FEWEST_EPOCHS_KEPT..=MOST_EPOCHS_KEPT).contains(&epochs)
        {
            let reason = "nearcore keeps at least 3 epochs, the current one included";
            return wrong("keep_epochs", epochs.to_string(), reason, "use 3 to 1000000000, or none to keep everything");
        }
        for (index, name) in self.archival.iter().enumerate() {
            let field = format!("archival[{index}]");
            if name.is_empty() || name.len() > LONGEST_ENDPOINT_NAME || name.contains('/') {
                let reason = "no endpoint can have that name";
                return wrong(
                    &field,
                    name.clone(),
                    reason,
                    "use the NAME of an endpoint /endpoints/NAME, such as archive",
                );
            }
            if self.keep_epochs.is_none() {
                let reason = "every endpoint is archival where nothing is collected";
                return wrong(&field, name.clone(), reason, "say how many epochs the others keep, such as 3");
            }
        }
        let accounts = self.accounts.iter().enumerate().map(genesis_account).collect::<Result<_, _>>()?;
        Ok(Genesis {
            protocol_version: self.protocol_version,
            gas_limit: Gas::from_gas(self.gas_limit),
            transaction_validity_period: self.transaction_validity_period,
            epoch_length: self.epoch_length,
            accounts,
            ..Genesis::new(self.chain_id.clone(), GENESIS_TIME_NS)
        })
    }

    /// What its chain keeps of its past.
    pub(crate) fn retention(&self) -> Retention {
        Retention { epochs: self.keep_epochs, archival: !self.archival.is_empty() }
    }

    /// All that must be the same when the chain in `home` is opened again.
    pub(crate) fn parameters(&self) -> Parameters {
        let Self { chain_id, protocol_version, block_time, gas_limit, transaction_validity_period, .. } = self;
        let Self { epoch_length, keep_epochs, accounts, archival: _, home: _, .. } = self;
        let mut parameters = Parameters::from([
            ("chain_id".to_owned(), chain_id.clone()),
            ("protocol_version".to_owned(), protocol_version.to_string()),
            ("block_time".to_owned(), milliseconds(*block_time)),
            ("gas_limit".to_owned(), gas_limit.to_string()),
            ("transaction_validity_period".to_owned(), transaction_validity_period.to_string()),
            ("epoch_length".to_owned(), epoch_length.to_string()),
            ("keep_epochs".to_owned(), keep_epochs.map_or("everything".to_owned(), |epochs| epochs.to_string())),
        ]);
        for (index, AccountConfig { account_id, balance, public_keys }) in accounts.iter().enumerate() {
            parameters.insert(format!("accounts[{index}].account_id"), account_id.clone());
            parameters.insert(format!("accounts[{index}].balance"), balance.to_string());
            for (key, public_key) in public_keys.iter().enumerate() {
                parameters.insert(format!("accounts[{index}].public_keys[{key}]"), public_key.clone());
            }
        }
        parameters
    }
}

/// What may be a chain's name, for the way out of a wrong one.
const OWN_CHAIN_IDS: &str =
    "use any other, such as devnet or localnet, which the manifest's profiles of these names expect";

/// A time such as `600ms`, or `1500000ns` where it is not whole.
fn milliseconds(time: Duration) -> String {
    match time.subsec_nanos() % 1_000_000 {
        0 => format!("{}ms", time.as_millis()),
        _ => format!("{}ns", time.as_nanos()),
    }
}

fn genesis_account((index, account): (usize, &AccountConfig)) -> Result<GenesisAccount, ConfigError> {
    let account_id =
        account.account_id.parse().map_err(|error: near_primitives::account::id::ParseAccountError| ConfigError {
            field: format!("accounts[{index}].account_id"),
            value: account.account_id.clone(),
            reason: error.to_string(),
            way_out: "use 2 to 64 of a-z, 0-9, '-', '_' and '.', such as bench.devnet",
        })?;
    let public_key = |(key, text): (usize, &String)| {
        text.parse().map_err(|error: near_crypto::ParseKeyError| ConfigError {
            field: format!("accounts[{index}].public_keys[{key}]"),
            value: text.clone(),
            reason: error.to_string(),
            way_out: "use a public key such as ed25519: and 32 bytes in base58",
        })
    };
    Ok(GenesisAccount {
        account_id,
        balance: Balance::from_yoctonear(account.balance),
        public_keys: account.public_keys.iter().enumerate().map(public_key).collect::<Result<_, _>>()?,
        code: None,
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn refused(config: Config) -> String {
        config.genesis().unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_field_is_named_with_its_value_and_the_way_out() {
        let block_time = refused(Config { block_time: Duration::ZERO, ..Config::default() });
        assert!(block_time.starts_with("block_time is \"0ms\":") && block_time.contains("1ms to 1h"), "{block_time}");
        for near in ["mainnet", "testnet", "betanet", "Mainnet", " testnet"] {
            let chain_id = refused(Config { chain_id: near.to_owned(), ..Config::default() });
            assert!(chain_id.starts_with(&format!("chain_id is {near:?}:")) && chain_id.contains("localnet"), "{near}");
        }
        for version in [83, 89] {
            let protocol = refused(Config { protocol_version: version, ..Config::default() });
            assert!(protocol.contains(&version.to_string()) && protocol.contains("84 to 88"), "{protocol}");
        }

        for (epoch_length, transaction_validity_period, field) in [
            (0, 1, "epoch_length is \"0\""),
            (10, 21, "transaction_validity_period is \"21\""),
            (10, 0, "transaction_v"),
        ] {
            let said = refused(Config { epoch_length, transaction_validity_period, ..Config::default() });
            assert!(said.starts_with(field), "{said}");
        }
        let kept = refused(Config { keep_epochs: Some(2), ..Config::default() });
        assert!(kept.starts_with("keep_epochs is \"2\"") && kept.contains("at least 3"), "{kept}");
        let archival = |keep_epochs, name: &str| {
            refused(Config { keep_epochs, archival: vec!["archive".into(), name.into()], ..Config::default() })
        };
        assert!(archival(Some(3), "").starts_with("archival[1] is \"\""));
        assert!(archival(Some(3), "a/b").starts_with("archival[1] is \"a/b\""));
        assert!(archival(None, "b").starts_with("archival[0] is \"archive\""));

        let account = |account_id: &str, key: &str| Config {
            accounts: vec![AccountConfig { account_id: account_id.into(), balance: 1, public_keys: vec![key.into()] }],
            ..Config::default()
        };
        let name = refused(account("A B", "ed25519:11111111111111111111111111111111"));
        assert!(name.starts_with("accounts[0].account_id is \"A B\":"), "{name}");
        let key = refused(account("a.devnet", "ed25519:nope"));
        assert!(key.starts_with("accounts[0].public_keys[0] is \"ed25519:nope\":"), "{key}");
    }
}
