//! `/metrics`: how the chain stands, in the text format of OpenMetrics and under nearcore's names where it has them.
//!
//! Every number is read off the chain when it is asked for; nothing is counted on the side.

use super::TEXT;
use crate::{Answer, node::Node};
use prometheus_client::{
    encoding::text::encode,
    metrics::{family::Family, gauge::Gauge},
    registry::Registry,
};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The metric of each shard.
type OfShards = Family<[(&'static str, String); 1], Gauge>;

pub(crate) fn metrics(node: &Node) -> Answer {
    let (head, last_final, pools) = {
        let chain = node.chain();
        (chain.head(), chain.final_block(), chain.pool_sizes().collect::<Vec<_>>())
    };
    let mut registry = Registry::default();
    for (name, help, value) in [
        ("near_block_height_head", "Height of the latest block", head.height),
        ("near_final_block_height", "Height of the latest final block", last_final.height),
        ("near_current_epoch_height", "Number of the latest block's epoch", head.epoch_height),
    ] {
        let gauge = Gauge::<i64>::default();
        gauge.set(number(value));
        registry.register(name, help, gauge);
    }
    let of_shards =
        |name: &str, help: &str, values: &mut dyn Iterator<Item = (String, u64)>, registry: &mut Registry| {
            let family = OfShards::default();
            for (shard_id, value) in values {
                family.get_or_create(&[("shard_id", shard_id)]).set(number(value));
            }
            registry.register(name, help, family);
        };
    let mut chunks = head.chunks.iter().map(|chunk| (chunk.shard_id.to_string(), chunk.gas_used.as_gas()));
    of_shards("near_chunk_gas_used", "Gas burnt in the latest chunk", &mut chunks, &mut registry);
    let mut chunks = head.chunks.iter().map(|chunk| (chunk.shard_id.to_string(), chunk.transactions.len() as u64));
    of_shards("near_chunk_transactions", "Transactions in the latest chunk", &mut chunks, &mut registry);
    let mut entries = pools.iter().map(|(shard_id, (entries, _))| (shard_id.to_string(), *entries));
    of_shards("near_transaction_pool_entries", "Transactions that wait in the pool", &mut entries, &mut registry);
    let mut bytes = pools.iter().map(|(shard_id, (_, bytes))| (shard_id.to_string(), *bytes));
    of_shards("near_transaction_pool_size", "Bytes of the transactions that wait", &mut bytes, &mut registry);

    let mut text = String::new();
    match encode(&mut text, &registry) {
        Ok(()) => Answer { status: 200, content_type: OPENMETRICS, body: text.into() },
        Err(error) => Answer { status: 500, content_type: TEXT, body: error.to_string().into() },
    }
}

fn number(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
