//! The chain's constants: `EXPERIMENTAL_protocol_config`, `EXPERIMENTAL_genesis_config`.
//!
//! The runtime's are those that the chain executes with (`near-parameters`). Those of staking and epochs, which
//! devnet does not have, are nearcore's localnet's.

use super::site::Site;
use super::{params::read_or_single, value, view};
use near_chain_configs::{GenesisConfig, ProtocolConfig, ProtocolConfigView};
use near_jsonrpc_primitives::{
    errors::RpcError,
    types::config::{RpcProtocolConfigError, RpcProtocolConfigRequest, RpcProtocolConfigResponse},
};
use near_parameters::RuntimeConfig;
use near_primitives::types::BlockReference;
use serde_json::{Value, json};

pub(super) fn protocol_config(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let RpcProtocolConfigRequest { block_reference } = read_or_single(params, |block_id| RpcProtocolConfigRequest {
        block_reference: BlockReference::BlockId(block_id),
    })?;
    super::block::find_header(&node.chain(), &block_reference)
        .map_err(|error_message| RpcProtocolConfigError::UnknownBlock { error_message })?;
    let config =
        ProtocolConfig { genesis_config: genesis(node)?, runtime_config: RuntimeConfig::clone(node.runtime_config()) };
    value(RpcProtocolConfigResponse { config_view: ProtocolConfigView::from(config) })
}

pub(super) fn genesis_config(node: &Site<'_>) -> Result<Value, RpcError> {
    value(genesis(node)?)
}

/// The genesis in nearcore's type; parsed, not built, since its fields are of crates that nearcore does not export.
fn genesis(node: &Site<'_>) -> Result<GenesisConfig, RpcError> {
    let genesis = node.genesis();
    let total_supply = genesis.total_supply().map_err(|error| RpcError::serialization_error(error.to_string()))?;
    let config = json!({
        "protocol_version": genesis.protocol_version,
        "genesis_time": near_primitives::utils::from_timestamp(genesis.timestamp_ns),
        "chain_id": genesis.chain_id,
        "genesis_height": 0,
        "num_block_producer_seats": 50,
        "dynamic_resharding": false,
        "protocol_upgrade_stake_threshold": [4, 5],
        "epoch_length": genesis.epoch_length,
        "gas_limit": genesis.gas_limit,
        "min_gas_price": genesis.min_gas_price,
        "max_gas_price": "10000000000000000000000",
        "block_producer_kickout_threshold": 90,
        "chunk_producer_kickout_threshold": 90,
        "gas_price_adjustment_rate": [1, 100],
        "validators": [{
            "account_id": *view::VALIDATOR,
            "public_key": view::validator_key(),
            "amount": "0",
        }],
        "transaction_validity_period": genesis.transaction_validity_period,
        "protocol_reward_rate": [0, 1],
        "max_inflation_rate": [0, 1],
        "total_supply": total_supply,
        "num_blocks_per_year": 31_536_000,
        "protocol_treasury_account": *view::VALIDATOR,
        "fishermen_threshold": "10000000000000000000000000",
        "shard_layout": genesis.shard_layout,
    });
    serde_json::from_value(config).map_err(|error| RpcError::serialization_error(error.to_string()))
}
