//! How long an idle chain takes, on virtual time: exactly what the schedule promises.

use crate::world::{BENCH, NEAR, base64, call, config, request, signed};
use near_primitives::{
    action::{Action, TransferAction},
    types::Balance,
};
use nearbench_devnet::Devnet;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::Instant;

/// Returns right after a block was published.
async fn next_block(devnet: &Devnet) -> u64 {
    let height = async || {
        let status = call(devnet, "status", json!([])).await;
        status["sync_info"]["latest_block_height"].as_u64().unwrap()
    };
    let before = height().await;
    loop {
        let now = height().await;
        if now > before {
            return now;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

/// The time that a native transfer, sent right after a block, takes to each level.
async fn latency(devnet: &Devnet, nonce: u64, wait_until: &str) -> (Duration, Value) {
    let pay = Action::Transfer(TransferAction {
        deposit: Balance::from_yoctonear(NEAR),
    });
    let transaction = signed(devnet, BENCH, nonce, "user-1.test.near", vec![pay]).await;
    next_block(devnet).await;
    let sent = Instant::now();
    let params = json!({"signed_tx_base64": base64(&transaction), "wait_until": wait_until});
    let answer = call(devnet, "send_tx", params).await;
    (sent.elapsed(), answer)
}

#[tokio::test(start_paused = true)]
async fn an_idle_chain_takes_as_long_as_a_real_node() {
    let devnet = Devnet::start(config()).await.unwrap();
    // Measured on nearcore with blocks of 600 ms.
    for (nonce, (wait_until, measured)) in [
        ("INCLUDED", 0.12),
        ("EXECUTED_OPTIMISTIC", 1.33),
        ("FINAL", 3.16),
    ]
    .into_iter()
    .enumerate()
    {
        let (took, answer) = latency(&devnet, nonce as u64 + 1, wait_until).await;
        let ratio = took.as_secs_f64() / measured;
        assert!(
            (0.85..=1.15).contains(&ratio),
            "{wait_until} took {took:?}, measured {measured} s: {answer}"
        );
        assert_eq!(answer["final_execution_status"], wait_until);
        assert_eq!(
            answer.get("transaction").is_some(),
            wait_until != "INCLUDED"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn a_transaction_is_unknown_until_its_chunk_is_fixed() {
    let devnet = Devnet::start(config()).await.unwrap();
    let pay = Action::Transfer(TransferAction {
        deposit: Balance::from_yoctonear(NEAR),
    });
    let transaction = signed(&devnet, BENCH, 1, "user-1.test.near", vec![pay]).await;
    next_block(&devnet).await;
    call(
        &devnet,
        "send_tx",
        json!({"signed_tx_base64": base64(&transaction), "wait_until": "NONE"}),
    )
    .await;
    let look = async || {
        let id = json!({"tx_hash": transaction.get_hash(), "sender_account_id": BENCH, "wait_until": "NONE"});
        let answer = devnet.handle(request("tx", id)).await;
        serde_json::from_slice::<Value>(&answer.body).unwrap()
    };
    assert_eq!(
        look().await["error"]["cause"]["name"],
        "UNKNOWN_TRANSACTION"
    );
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(
        look().await["result"],
        json!({"final_execution_status": "INCLUDED"})
    );
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert_eq!(look().await["result"]["status"], "Started");
}

#[tokio::test(start_paused = true)]
async fn what_never_comes_is_waited_for_ten_seconds() {
    let devnet = Devnet::start(config()).await.unwrap();
    let sent = Instant::now();
    let unknown = json!({"tx_hash": "9999999999999999999999999999999999999999999", "sender_account_id": BENCH});
    let answer = devnet.handle(request("tx", unknown)).await;
    assert_eq!((answer.status, sent.elapsed().as_secs()), (408, 10));
}

#[tokio::test(start_paused = true)]
async fn blocks_keep_their_schedule_after_a_stall_and_do_not_catch_up() {
    let devnet = Devnet::start(config()).await.unwrap();
    let first = next_block(&devnet).await;
    let started = Instant::now();
    // A stall: time passes in which nothing runs.
    tokio::time::advance(Duration::from_millis(600 * 10 + 100)).await;
    let mut last = first;
    while last < first + 4 {
        last = next_block(&devnet).await;
    }
    // One block comes late; the next three are due 11, 12 and 13 block times after the one before the stall.
    let took = started.elapsed().as_millis();
    assert!(
        (600 * 13 - 10..=600 * 13 + 10).contains(&took),
        "{took} ms for {} blocks",
        last - first
    );
}

#[tokio::test(start_paused = true)]
async fn a_chain_can_be_hurried() {
    let devnet = Devnet::start(config()).await.unwrap();
    let before = next_block(&devnet).await;
    let started = Instant::now();
    assert_eq!(
        call(&devnet, "sandbox_fast_forward", json!({"delta_height": 50})).await,
        json!({})
    );
    assert_eq!(started.elapsed(), Duration::ZERO);
    let status = call(&devnet, "status", json!([])).await;
    assert!(status["sync_info"]["latest_block_height"].as_u64().unwrap() >= before + 50);
}
