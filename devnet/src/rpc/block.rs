//! Blocks and chunks: `block`, `chunk`, `gas_price`, `EXPERIMENTAL_congestion_level`.

use super::{
    params::{read, read_or_single, take},
    site::{Sight, Site},
    value, view,
};
use crate::block::{Block, Chunk};
use near_jsonrpc_primitives::{
    errors::RpcError,
    types::{
        blocks::{RpcBlockError, RpcBlockRequest, RpcBlockResponse},
        chunks::{ChunkReference, RpcChunkError, RpcChunkRequest, RpcChunkResponse},
        congestion::RpcCongestionLevelResponse,
        gas_price::{RpcGasPriceError, RpcGasPriceRequest, RpcGasPriceResponse},
    },
};
use near_primitives::{
    congestion_info::CongestionControl,
    sharding::ChunkHash,
    types::{BlockId, BlockReference, Finality, SyncCheckpoint},
    views::GasPriceView,
};
use serde_json::Value;
use std::sync::Arc;

pub(super) fn block(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let RpcBlockRequest { block_reference } =
        read_or_single(params, |block_id| RpcBlockRequest { block_reference: BlockReference::BlockId(block_id) })?;
    let block = find(&node.chain(), &block_reference);
    let block = block.map_err(|error_message| RpcBlockError::UnknownBlock { error_message })?;
    value(RpcBlockResponse { block_view: view::block(&block) })
}

pub(super) fn chunk(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let RpcChunkRequest { chunk_reference } = chunk_request(params)?;
    let by_its_hash = matches!(chunk_reference, ChunkReference::ChunkHash { .. });
    let show = |block: &Block, chunk: &Chunk| view::chunk(block, chunk, by_its_hash);
    value(RpcChunkResponse { chunk_view: of_chunk(node, &chunk_reference, show)? })
}

pub(super) fn congestion_level(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let RpcChunkRequest { chunk_reference } = chunk_request(params)?;
    let config = node.runtime_config().congestion_control_config;
    let level = |_: &Block, chunk: &Chunk| CongestionControl::new(config, chunk.congestion, 0).congestion_level();
    let congestion_level = of_chunk(node, &chunk_reference, level)?;
    value(RpcCongestionLevelResponse { congestion_level })
}

pub(super) fn gas_price(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let RpcGasPriceRequest { block_id } = read_or_single(params, |block_id| RpcGasPriceRequest { block_id })?;
    let reference = block_id.map_or(BlockReference::latest(), BlockReference::BlockId);
    let block = find_header(&node.chain(), &reference);
    let block = block.map_err(|error_message| RpcGasPriceError::UnknownBlock { error_message })?;
    value(RpcGasPriceResponse { gas_price_view: GasPriceView { gas_price: block.gas_price } })
}

/// The block that is meant, or what nearcore's store says of one that it lacks. It knows the hash of one that it
/// collected.
pub(super) fn find(chain: &Sight<'_>, reference: &BlockReference) -> Result<Arc<Block>, String> {
    let block = find_header(chain, reference)?;
    if chain.keeps(block.height) { Ok(block) } else { Err(format!("BLOCK: {}", block.hash)) }
}

/// The same for what reads no more than the header, which is never collected.
pub(super) fn find_header(chain: &Sight<'_>, reference: &BlockReference) -> Result<Arc<Block>, String> {
    let found = match reference {
        BlockReference::Finality(Finality::None) => Some(chain.head()),
        BlockReference::Finality(Finality::DoomSlug) => Some(chain.near_final()),
        BlockReference::Finality(Finality::Final) => Some(chain.final_block()),
        BlockReference::BlockId(BlockId::Height(height)) => chain.header_at(*height),
        BlockReference::BlockId(BlockId::Hash(hash)) => chain.header(hash),
        BlockReference::SyncCheckpoint(SyncCheckpoint::Genesis) => chain.header_at(0),
        BlockReference::SyncCheckpoint(SyncCheckpoint::EarliestAvailable) => Some(chain.earliest()),
    };
    found.ok_or_else(|| match reference {
        BlockReference::BlockId(BlockId::Height(height)) => format!("BLOCK HEIGHT: {height}"),
        BlockReference::BlockId(BlockId::Hash(hash)) => format!("BLOCK: {hash}"),
        other => format!("BLOCK: {other:?}"),
    })
}

/// `{chunk_id}`, `{block_id, shard_id}`, `[chunk]` or `[[block, shard]]`.
fn chunk_request(params: Value) -> Result<RpcChunkRequest, RpcError> {
    let chunk_reference = match take::<1>(params) {
        Ok([pair @ Value::Array(_)]) => {
            let (block_id, shard_id) = read(pair)?;
            ChunkReference::BlockShardId { block_id, shard_id }
        }
        Ok([chunk_id]) => ChunkReference::ChunkHash { chunk_id: read(chunk_id)? },
        Err(params) => return read(params),
    };
    Ok(RpcChunkRequest { chunk_reference })
}

/// What `look` sees in the chunk that is meant and in its block.
fn of_chunk<T>(
    node: &Site<'_>,
    reference: &ChunkReference,
    look: impl FnOnce(&Block, &Chunk) -> T,
) -> Result<T, RpcChunkError> {
    match reference {
        ChunkReference::ChunkHash { chunk_id } => {
            let block = node.chain().block_of_chunk(chunk_id);
            let found = block.as_ref().and_then(|block| Some((block, block.chunk_by_hash(chunk_id)?)));
            let (block, chunk) = found.ok_or(RpcChunkError::UnknownChunk { chunk_hash: ChunkHash(*chunk_id) })?;
            Ok(look(block, chunk))
        }
        ChunkReference::BlockShardId { block_id, shard_id } => {
            let reference = BlockReference::BlockId(block_id.clone());
            let block = find(&node.chain(), &reference)
                .map_err(|error_message| RpcChunkError::UnknownBlock { error_message })?;
            let chunk = block.chunk(*shard_id).ok_or(RpcChunkError::InvalidShardId { shard_id: *shard_id })?;
            Ok(look(&block, chunk))
        }
    }
}
