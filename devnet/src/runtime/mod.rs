//! The runtime: what transactions and receipts do to state, as nearcore does it. Pure: no clock, no I/O, no pool.

mod actions;
pub(crate) mod chunk;
mod contract;
mod external;
pub mod fees;
mod genesis;
mod promises;
mod receipts;
mod refunds;
mod validate;
pub(crate) mod verify;
pub mod view;

use std::sync::Arc;

use near_parameters::{RuntimeConfig, RuntimeConfigStore};
use near_primitives::hash::CryptoHash;
use near_primitives::shard_layout::ShardLayout;
use near_primitives::types::{Balance, Gas};

use crate::genesis::Genesis;

pub(crate) use genesis::genesis_states;
pub(crate) use validate::validate_transaction;

use contract::ContractCache;

/// What is constant over the life of a chain.
pub struct Rules {
    /// Name of the network.
    pub chain_id: String,
    /// Protocol version.
    pub protocol_version: u32,
    /// nearcore's parameters of that version.
    pub config: Arc<RuntimeConfig>,
    /// Limit of a chunk, in gas and in compute.
    pub gas_limit: Gas,
    /// Which shard an account is in.
    pub layout: ShardLayout,
    contracts: ContractCache,
}

impl Rules {
    /// The rules of a chain that starts from a genesis.
    ///
    /// # Errors
    /// The cache of compiled contracts needs a temporary directory.
    pub fn new(genesis: &Genesis) -> std::io::Result<Self> {
        let protocol_version = genesis.protocol_version;
        // Every network but mainnet and testnet has the parameters of a localnet.
        let config = RuntimeConfigStore::for_chain_id("localnet").get_config(protocol_version).clone();
        Ok(Self {
            chain_id: genesis.chain_id.clone(),
            protocol_version,
            config,
            gas_limit: genesis.gas_limit,
            layout: genesis.shard_layout.clone(),
            contracts: ContractCache::new()?,
        })
    }
}

/// Where and when a chunk is executed.
#[derive(Clone, Copy, Debug)]
pub struct BlockContext {
    /// Height of the block that the chunk will be in.
    pub height: u64,
    /// Time that contracts see: that of the block before, for the block itself has none yet.
    pub timestamp_ns: u64,
    /// Number of the epoch.
    pub epoch_height: u64,
    /// Price at which gas is burnt.
    pub gas_price: Balance,
    /// Randomness that contracts see.
    pub random_seed: CryptoHash,
}
