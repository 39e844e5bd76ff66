//! A chain in a folder outlives its process.

use crate::world::{BENCH, NEAR, base64, call, config, signed};
use near_primitives::{
    action::{Action, TransferAction},
    types::Balance,
};
use nearbench_devnet::{Config, Devnet};
use serde_json::json;

#[tokio::test(start_paused = true)]
async fn a_chain_in_a_folder_goes_on_where_it_stopped() {
    let home = tempfile::tempdir().unwrap();
    let at_home = || Config { home: Some(home.path().to_owned()), ..config() };

    let devnet = Devnet::start(at_home()).await.unwrap();
    let pay = Action::Transfer(TransferAction { deposit: Balance::from_yoctonear(NEAR) });
    let transaction = signed(&devnet, BENCH, 1, "user-1.test.near", vec![pay]).await;
    let send = json!({"signed_tx_base64": base64(&transaction), "wait_until": "FINAL"});
    let sent = call(&devnet, "send_tx", send).await;
    devnet.stop().await;
    let stopped = call(&devnet, "status", json!([])).await;
    drop(devnet);

    let devnet = Devnet::start(at_home()).await.unwrap();
    let restored = call(&devnet, "block", json!([stopped["sync_info"]["latest_block_height"]])).await;
    assert_eq!(restored["header"]["hash"], stopped["sync_info"]["latest_block_hash"]);
    let id = json!({"tx_hash": transaction.get_hash(), "sender_account_id": BENCH, "wait_until": "FINAL"});
    assert_eq!(call(&devnet, "tx", id).await, sent);
}
