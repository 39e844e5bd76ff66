//! The node itself: `status`, `health`, `network_info`, `validators`, `sandbox_fast_forward`,
//! `sandbox_patch_state`.
//!
//! It is a chain's only node and its only validator, without peers.

use super::{params::read, site::Site, value, view};
use crate::patch::PatchError;
use near_jsonrpc_primitives::{
    errors::RpcError,
    types::{
        network_info::RpcNetworkInfoResponse,
        sandbox::{
            RpcSandboxFastForwardRequest, RpcSandboxFastForwardResponse, RpcSandboxPatchStateError,
            RpcSandboxPatchStateRequest, RpcSandboxPatchStateResponse,
        },
        status::{RpcStatusError, RpcStatusResponse},
        validator::{RpcValidatorError, RpcValidatorResponse},
    },
};
use near_primitives::{
    types::{Balance, BlockId, BlockReference},
    version::Version,
    views::{
        CurrentEpochValidatorInfo, EpochValidatorInfo, NextEpochValidatorInfo, StatusResponse, StatusSyncInfo,
        ValidatorInfo,
    },
};
use near_time::Utc;
use serde_json::Value;
use std::collections::HashMap;

/// Without a block for this many block times the node is not healthy.
const UNHEALTHY_AFTER: u32 = 20;

pub(crate) fn status(node: &Site<'_>) -> Result<Value, RpcError> {
    let (head, earliest, genesis) = {
        let chain = node.chain();
        (chain.head(), chain.earliest(), chain.header_at(0))
    };
    let key = view::validator_key();
    let syncing = StatusSyncInfo {
        latest_block_hash: head.hash,
        latest_block_height: head.height,
        latest_state_root: head.commitment(|chunk| chunk.state_root),
        latest_block_time: utc(head.timestamp_ns)?,
        syncing: false,
        earliest_block_hash: Some(earliest.hash),
        earliest_block_height: Some(earliest.height),
        earliest_block_time: Some(utc(earliest.timestamp_ns)?),
        epoch_id: Some(head.epoch_id),
        epoch_start_height: Some(node.epoch_start(&head)),
    };
    value(RpcStatusResponse {
        status_response: StatusResponse {
            version: Version {
                version: env!("CARGO_PKG_VERSION").to_owned(),
                build: concat!(env!("CARGO_PKG_NAME"), " ", env!("CARGO_PKG_VERSION")).to_owned(),
                commit: String::new(),
                rustc_version: env!("CARGO_PKG_RUST_VERSION").to_owned(),
            },
            chain_id: node.genesis().chain_id.clone(),
            protocol_version: node.genesis().protocol_version,
            latest_protocol_version: node.genesis().protocol_version,
            rpc_addr: node.address().map(|address| address.to_string()),
            validators: vec![ValidatorInfo { account_id: view::VALIDATOR.clone() }],
            sync_info: syncing,
            validator_account_id: Some(view::VALIDATOR.clone()),
            validator_public_key: Some(key.clone()),
            node_public_key: key.clone(),
            node_key: Some(key),
            uptime_sec: i64::try_from(node.uptime().as_secs()).unwrap_or(i64::MAX),
            genesis_hash: genesis.map(|genesis| genesis.hash).unwrap_or_default(),
            detailed_debug_status: None,
        },
    })
}

pub(crate) fn health(node: &Site<'_>) -> Result<Value, RpcError> {
    let elapsed = node.since_head();
    if elapsed > node.block_time().saturating_mul(UNHEALTHY_AFTER) {
        let elapsed = elapsed.try_into().map_err(|error| internal(format!("{error}")))?;
        return Err(RpcStatusError::NoNewBlocks { elapsed }.into());
    }
    Ok(Value::Null)
}

pub(crate) fn network_info() -> Result<Value, RpcError> {
    value(RpcNetworkInfoResponse {
        active_peers: Vec::new(),
        num_active_peers: 0,
        peer_max_count: 0,
        sent_bytes_per_sec: 0,
        received_bytes_per_sec: 0,
        known_producers: Vec::new(),
    })
}

/// `[null]`, `["latest"]`, `{"latest": null}`, or a block; all epochs have the same validator.
pub(super) fn validators(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let reference = match params {
        Value::Array(mut values) if values.len() == 1 => match values.remove(0) {
            Value::Null => BlockReference::latest(),
            block_id => BlockReference::BlockId(read::<BlockId>(block_id)?),
        },
        params => match read::<near_primitives::types::EpochReference>(params)? {
            near_primitives::types::EpochReference::BlockId(block_id) => BlockReference::BlockId(block_id),
            near_primitives::types::EpochReference::Latest => BlockReference::latest(),
            near_primitives::types::EpochReference::EpochId(_) => {
                return Err(RpcValidatorError::UnknownEpoch.into());
            }
        },
    };
    let block = super::block::find(&node.chain(), &reference).map_err(|_| RpcValidatorError::UnknownEpoch)?;
    let start = node.epoch_start(&block);
    let made = block.height.saturating_sub(start).saturating_add(1);
    let shards: Vec<_> = block.chunks.iter().map(|chunk| chunk.shard_id).collect();
    let made_in_all = made.saturating_mul(shards.len() as u64);
    let made_in_each = vec![made; shards.len()];
    value(RpcValidatorResponse {
        validator_info: EpochValidatorInfo {
            current_validators: vec![CurrentEpochValidatorInfo {
                account_id: view::VALIDATOR.clone(),
                public_key: view::validator_key(),
                is_slashed: false,
                stake: Balance::ZERO,
                shards_produced: shards.clone(),
                num_produced_blocks: made,
                num_expected_blocks: made,
                num_produced_chunks: made_in_all,
                num_expected_chunks: made_in_all,
                num_produced_chunks_per_shard: made_in_each.clone(),
                num_expected_chunks_per_shard: made_in_each.clone(),
                num_produced_endorsements: made_in_all,
                num_expected_endorsements: made_in_all,
                num_produced_endorsements_per_shard: made_in_each.clone(),
                num_expected_endorsements_per_shard: made_in_each,
                shards_endorsed: shards.clone(),
            }],
            next_validators: vec![NextEpochValidatorInfo {
                account_id: view::VALIDATOR.clone(),
                public_key: view::validator_key(),
                stake: Balance::ZERO,
                shards,
            }],
            current_fishermen: Vec::new(),
            next_fishermen: Vec::new(),
            current_proposals: Vec::new(),
            prev_epoch_kickout: Vec::new(),
            epoch_start_height: start,
            epoch_height: block.epoch_height,
            validator_reward_paid_prev_epoch: HashMap::from([(view::VALIDATOR.clone(), Balance::ZERO)]),
        },
    })
}

/// Advances the chain by real blocks, as many as asked for.
pub(super) async fn fast_forward(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let RpcSandboxFastForwardRequest { delta_height } = read(params)?;
    node.fast_forward(delta_height).await;
    value(RpcSandboxFastForwardResponse {})
}

/// Puts records into the state. nearcore knows one error here, and gives what is wrong with a record as its text.
pub(super) async fn patch_state(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let RpcSandboxPatchStateRequest { records } = read(params)?;
    let internal = |error: PatchError| RpcSandboxPatchStateError::InternalError { error_message: error.to_string() };
    node.patch(records).await.map_err(internal)?;
    value(RpcSandboxPatchStateResponse {})
}

fn utc(timestamp_ns: u64) -> Result<Utc, RpcError> {
    Utc::from_unix_timestamp_nanos(i128::from(timestamp_ns)).map_err(|error| internal(error.to_string()))
}

fn internal(error_message: String) -> RpcError {
    RpcStatusError::InternalError { error_message }.into()
}
