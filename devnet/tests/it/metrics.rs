//! What `/metrics` says of the chain.

use crate::world::{BENCH, NEAR, base64, call, config, http, serve, signed};
use near_primitives::{
    action::{Action, TransferAction},
    types::Balance,
};
use nearbench_devnet::{Config, Devnet};
use serde_json::json;
use std::time::Duration;

/// The value of a metric, its labels as part of its name.
async fn value(address: std::net::SocketAddr, name: &str) -> i64 {
    let response = http().build().unwrap().get(format!("http://{address}/metrics")).send().await.unwrap();
    let media_type = response.headers()["content-type"].to_str().unwrap().to_owned();
    assert!(media_type.starts_with("application/openmetrics-text"), "{media_type}");
    let text = response.text().await.unwrap();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} in {text}")).parse().unwrap()
}

/// No block is made from here on, but for one that another call lets through.
async fn stall(devnet: &Devnet) {
    devnet.set_faults(&json!([{"fault": "stall", "milliseconds": 3_600_000}])).unwrap();
    while devnet.faults()["rules"][0]["hit"] == 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pool_the_head_and_the_gas_of_its_chunk_are_those_of_the_chain() {
    let devnet = Devnet::start(Config { block_time: Duration::from_millis(20), ..config() }).await.unwrap();
    let address = serve(&devnet).await;
    call(&devnet, "sandbox_fast_forward", json!({"delta_height": 5})).await;
    stall(&devnet).await;
    let height = i64::try_from(devnet.height()).unwrap();
    assert_eq!(value(address, "near_block_height_head").await, height);
    assert_eq!(value(address, "near_final_block_height").await, height - 2);
    let (entries, size) =
        ("near_transaction_pool_entries{shard_id=\"0\"}", "near_transaction_pool_size{shard_id=\"0\"}");
    let (transactions, gas) = ("near_chunk_transactions{shard_id=\"0\"}", "near_chunk_gas_used{shard_id=\"0\"}");
    for name in [entries, size, transactions, gas] {
        assert_eq!(value(address, name).await, 0, "{name}");
    }

    let pay = Action::Transfer(TransferAction { deposit: Balance::from_yoctonear(NEAR) });
    let transaction = signed(&devnet, BENCH, 1, "test.near", vec![pay]).await;
    call(&devnet, "broadcast_tx_async", json!([base64(&transaction)])).await;
    assert_eq!(value(address, entries).await, 1);
    assert_eq!(value(address, size).await, i64::try_from(transaction.get_size()).unwrap());

    stall(&devnet).await;
    assert_eq!(value(address, "near_block_height_head").await, height + 1);
    assert_eq!((value(address, entries).await, value(address, size).await), (0, 0));
    // What the conversion of a native transfer burns.
    assert_eq!((value(address, transactions).await, value(address, gas).await), (1, 223_182_562_500));
}
