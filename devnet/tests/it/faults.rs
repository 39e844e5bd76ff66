//! Each fault as a client meets it, and that a fault ends when it is told to.

use crate::{
    driver,
    world::{BENCH, base64, call, config, http, key, request, serve, sign, signed},
};
use bytes::Bytes;
use near_primitives::{
    action::{Action, TransferAction},
    errors::InvalidTxError,
    hash::CryptoHash,
    transaction::{SignedTransaction, Transaction},
    types::Balance,
};
use nearbench_devnet::{
    Config, Devnet,
    chain::{Chain, Submitted},
    faults::Handling,
};
use serde_json::{Value, json};
use std::{net::SocketAddr, time::Duration};

fn transfer() -> Vec<Action> {
    vec![Action::Transfer(TransferAction { deposit: Balance::from_yoctonear(1) })]
}

async fn start() -> Devnet {
    Devnet::start(Config { block_time: Duration::from_millis(20), ..config() }).await.unwrap()
}

/// A devnet that serves, and a client of it.
struct Served {
    devnet: Devnet,
    address: SocketAddr,
    client: reqwest::Client,
}

impl Served {
    async fn start() -> Self {
        let devnet = start().await;
        let address = serve(&devnet).await;
        Self { devnet, address, client: http().build().unwrap() }
    }

    async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> reqwest::Result<(u16, Bytes)> {
        let response = self.client.post(format!("http://{}{path}", self.address)).body(body).send().await?;
        Ok((response.status().as_u16(), response.bytes().await?))
    }

    async fn rules(&self, rules: Value) -> (u16, Value) {
        let (status, body) = self.post("/faults", rules.to_string()).await.unwrap();
        (status, serde_json::from_slice(&body).unwrap())
    }

    /// The height that an endpoint calls the latest.
    async fn height(&self, path: &str) -> u64 {
        let (_, body) = self.post(path, request("block", json!({"finality": "optimistic"}))).await.unwrap();
        let body: Value = serde_json::from_slice(&body).unwrap();
        body["result"]["header"]["height"].as_u64().unwrap()
    }
}

/// Waits until the chain has made that many more blocks.
async fn blocks(devnet: &Devnet, count: u64) {
    call(devnet, "sandbox_fast_forward", json!({"delta_height": count})).await;
}

fn send(transaction: &SignedTransaction, wait_until: &str) -> Bytes {
    request("send_tx", json!({"signed_tx_base64": base64(transaction), "wait_until": wait_until}))
}

async fn answer(devnet: &Devnet, request: Bytes) -> Value {
    serde_json::from_slice(&devnet.handle(request).await.body).unwrap()
}

async fn is_known(devnet: &Devnet, transaction: &SignedTransaction) -> bool {
    let id = json!({"tx_hash": transaction.get_hash(), "sender_account_id": BENCH, "wait_until": "NONE"});
    answer(devnet, request("tx", id)).await.get("result").is_some()
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_are_set_read_and_cleared_over_http_and_a_wrong_one_changes_nothing() {
    let served = Served::start().await;
    let (status, set) = served.rules(json!([{"fault": "serverError", "method": "block", "count": 2}])).await;
    assert_eq!((status, &set["rules"][0]["status"]), (200, &json!(503)), "{set}");
    assert_eq!(served.post("/", request("block", json!({"finality": "final"}))).await.unwrap().0, 503);

    let (status, refused) = served.rules(json!([{"fault": "drop", "probability": 2}])).await;
    assert_eq!(status, 400);
    assert!(refused["error"].as_str().unwrap().starts_with("rules[0].probability is 2:"), "{refused}");
    assert_eq!(served.post("/faults", "{").await.unwrap().0, 400);

    let url = format!("http://{}/faults", served.address);
    let read: Value =
        serde_json::from_slice(&served.client.get(&url).send().await.unwrap().bytes().await.unwrap()).unwrap();
    assert_eq!(
        read,
        json!({"seed": 0, "rules": [{"fault": "serverError", "status": 503, "method": "block", "probability": 1.0,
            "every": 1, "count": 2, "asked": 1, "hit": 1}]})
    );
    assert_eq!(served.client.delete(&url).send().await.unwrap().status(), 200);
    assert_eq!(served.post("/", request("block", json!({"finality": "final"}))).await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_befalls_a_request_on_its_way_is_seen_once_and_the_next_is_answered() {
    let served = Served::start().await;
    let question = request("block", json!({"finality": "final"}));
    for (fault, expected) in [
        (json!({"fault": "tooManyRequests"}), 429),
        (json!({"fault": "serverError", "status": 502}), 502),
        (json!({"fault": "timeout", "milliseconds": 1}), 408),
        (json!({"fault": "truncate"}), 200),
        (json!({"fault": "garbage"}), 200),
    ] {
        let name = fault["fault"].clone();
        let mut rule = fault;
        rule["count"] = json!(1);
        served.rules(json!([rule])).await;
        let (status, body) = served.post("/", question.clone()).await.unwrap();
        assert_eq!(status, expected, "{name}");
        match serde_json::from_slice::<Value>(&body) {
            Ok(body) => assert_eq!((status, &body["error"]["cause"]["name"]), (408, &json!("TIMEOUT_ERROR"))),
            Err(_) => assert_ne!(status, 408, "{name}"),
        }
        let (status, body) = served.post("/", question.clone()).await.unwrap();
        assert_eq!((status, serde_json::from_slice::<Value>(&body).is_ok()), (200, true), "after {name}");
    }

    served.rules(json!([{"fault": "tooManyRequests", "retryAfterSeconds": 7}])).await;
    let url = format!("http://{}/", served.address);
    let response = served.client.post(url).body(question.clone()).send().await.unwrap();
    assert_eq!(response.headers()["retry-after"], "7");

    // A client may try once more by itself when a connection that it kept is gone.
    let client = http().pool_max_idle_per_host(0).build().unwrap();
    served.rules(json!([{"fault": "reset", "count": 1}])).await;
    let reset = client.post(format!("http://{}/", served.address)).body(question.clone()).send().await.unwrap_err();
    let mut cause: &dyn std::error::Error = &reset;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    assert!(cause.to_string().contains("reset by peer"), "{cause}");
    assert_eq!(served.post("/", question).await.unwrap().0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_accepted_is_done_though_its_answer_is_lost_and_what_was_not_is_not() {
    let served = Served::start().await;
    for (nonce, fault, done) in [
        (1, json!({"fault": "reset"}), false),
        (2, json!({"fault": "reset", "accepted": true}), true),
        (3, json!({"fault": "timeout", "milliseconds": 1}), true),
        (4, json!({"fault": "serverError"}), false),
        (5, json!({"fault": "truncate"}), true),
    ] {
        let transaction = signed(&served.devnet, BENCH, nonce, "test.near", transfer()).await;
        let mut rule = fault.clone();
        rule["method"] = json!("send_tx");
        served.rules(json!([rule])).await;
        let _ = served.post("/", send(&transaction, "INCLUDED")).await;
        served.devnet.clear_faults();
        blocks(&served.devnet, 3).await;
        assert_eq!(is_known(&served.devnet, &transaction).await, done, "{fault}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_transaction_is_called_valid_and_never_lands() {
    let devnet = start().await;
    devnet.set_faults(&json!([{"fault": "drop", "count": 1}])).unwrap();
    let dropped = signed(&devnet, BENCH, 1, "test.near", transfer()).await;
    let hash = call(&devnet, "broadcast_tx_async", json!([base64(&dropped)])).await;
    assert_eq!(hash, json!(dropped.get_hash()));
    blocks(&devnet, 4).await;
    assert!(!is_known(&devnet, &dropped).await);
    let again = answer(&devnet, send(&dropped, "EXECUTED_OPTIMISTIC")).await;
    assert!(
        again["result"]["status"]["SuccessValue"].is_string(),
        "the same bytes land when nothing drops them: {again}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_congested_shard_refuses_in_nearcore_s_words() {
    let devnet = start().await;
    devnet.set_faults(&json!([{"fault": "shardCongested", "method": "send_tx"}])).unwrap();
    let transaction = signed(&devnet, BENCH, 1, "test.near", transfer()).await;
    let refused = answer(&devnet, send(&transaction, "INCLUDED")).await;
    assert_eq!(refused["error"]["cause"]["name"], "INVALID_TRANSACTION");
    let data = &refused["error"]["data"]["TxExecutionError"]["InvalidTxError"]["ShardCongested"];
    assert_eq!(data, &json!({"shard_id": 0, "congestion_level": 1.0}), "{refused}");
}

#[test]
fn what_is_held_back_is_overtaken_by_later_nonces_of_its_key_and_then_refused() {
    let mut chain =
        Chain::new(driver::genesis(&[("alice.near", Balance::from_near(9)), ("bob.near", Balance::from_near(9))]))
            .unwrap();
    driver::next_block(&mut chain);
    let with_nonce = |chain: &Chain, nonce| {
        let plain = driver::signed(chain, "alice.near", "bob.near", transfer(), 0);
        let Transaction::V0(mut transaction) = plain.transaction else { unreachable!() };
        transaction.nonce = nonce;
        Transaction::V0(transaction).sign(&driver::signer("alice.near"))
    };
    let (first, second) = (with_nonce(&chain, 5), with_nonce(&chain, 6));
    assert_eq!(chain.submit_as(first.clone(), Handling::HoldBack { blocks: 1 }), Ok(Submitted::New));
    chain.submit(second.clone()).unwrap();
    for _ in 0..4 {
        driver::next_block(&mut chain);
    }
    assert!(chain.outcome(&second.get_hash()).is_some() && chain.outcome(&first.get_hash()).is_none());
    let overtaken = InvalidTxError::InvalidNonce { tx_nonce: 5, ak_nonce: 6 };
    assert_eq!(chain.submit(first), Err(overtaken));

    let alone = with_nonce(&chain, 7);
    chain.submit_as(alone.clone(), Handling::HoldBack { blocks: 2 }).unwrap();
    let landed = [(); 3].map(|()| {
        driver::next_block(&mut chain);
        chain.outcome(&alone.get_hash()).is_some()
    });
    assert_eq!(landed, [false, false, true], "what nobody overtakes lands, two blocks late");

    let forgotten = with_nonce(&chain, 8);
    let held = with_nonce(&chain, 9);
    chain.submit(forgotten.clone()).unwrap();
    chain.submit_as(held.clone(), Handling::HoldBack { blocks: 1 }).unwrap();
    chain.empty_pools();
    for _ in 0..3 {
        driver::next_block(&mut chain);
    }
    assert!(chain.outcome(&forgotten.get_hash()).is_none() && chain.outcome(&held.get_hash()).is_none());
    assert_eq!(chain.submit(forgotten), Ok(Submitted::New), "an emptied pool takes the same bytes again");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_is_emptied_before_a_block() {
    let devnet = start().await;
    let transaction = signed(&devnet, BENCH, 1, "test.near", transfer()).await;
    devnet.set_faults(&json!([{"fault": "emptyPool"}])).unwrap();
    answer(&devnet, send(&transaction, "NONE")).await;
    let head = devnet.height();
    while devnet.height() < head + 3 {
        tokio::task::yield_now().await;
    }
    assert!(!is_known(&devnet, &transaction).await);
    devnet.clear_faults();
    let landed = answer(&devnet, send(&transaction, "INCLUDED")).await;
    assert!(landed.get("result").is_some(), "{landed}");
}

#[tokio::test(flavor = "multi_thread")]
async fn blocks_stall_until_the_rules_end() {
    let devnet = start().await;
    devnet.set_faults(&json!([{"fault": "stall", "milliseconds": 3_600_000}])).unwrap();
    while devnet.faults()["rules"][0]["hit"] == 0 {
        tokio::task::yield_now().await;
    }
    let stalled = devnet.height();
    let transaction = signed(&devnet, BENCH, 1, "test.near", transfer()).await;
    answer(&devnet, send(&transaction, "NONE")).await;
    assert_eq!((devnet.height(), is_known(&devnet, &transaction).await), (stalled, false));
    devnet.clear_faults();
    let landed = answer(&devnet, send(&transaction, "EXECUTED_OPTIMISTIC")).await;
    assert!(landed["result"]["status"]["SuccessValue"].is_string(), "{landed}");
    assert!(devnet.height() > stalled);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_url_over_two_nodes_answers_in_turn_from_the_head_and_from_behind() {
    let served = Served::start().await;
    blocks(&served.devnet, 20).await;
    // Nothing moves while it is looked at.
    served.devnet.stop().await;
    let head = served.devnet.height();
    served.rules(json!([{"fault": "behind", "blocks": 5, "endpoint": "two", "every": 2}])).await;
    let mut heights = Vec::new();
    for _ in 0..4 {
        heights.push(served.height("/endpoints/two").await);
    }
    assert_eq!(heights, [head, head - 5, head, head - 5]);
    assert_eq!((served.height("/").await, served.height("/endpoints/one").await), (head, head), "the others are not");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_behind_knows_nothing_above_its_head() {
    let devnet = start().await;
    let transaction = signed(&devnet, BENCH, 1, "test.near", transfer()).await;
    let landed = answer(&devnet, send(&transaction, "FINAL")).await;
    let included: CryptoHash = landed["result"]["transaction_outcome"]["block_hash"].as_str().unwrap().parse().unwrap();
    devnet.stop().await;
    let height = call(&devnet, "block", json!({"block_id": included})).await["header"]["height"].as_u64().unwrap();
    let nonce = json!({"request_type": "view_access_key", "finality": "optimistic", "account_id": BENCH,
        "public_key": key(BENCH).public_key()});
    assert_eq!(call(&devnet, "query", nonce.clone()).await["nonce"], 1);

    let blocks = devnet.height() - height + 1;
    devnet.set_faults(&json!([{"fault": "behind", "blocks": blocks}])).unwrap();
    assert!(!is_known(&devnet, &transaction).await);
    assert_eq!(call(&devnet, "query", nonce).await["nonce"], 0);
    let unknown = answer(&devnet, request("block", json!({"block_id": included}))).await;
    assert_eq!(unknown["error"]["cause"]["name"], "UNKNOWN_BLOCK");
    assert_eq!(call(&devnet, "status", json!([])).await["sync_info"]["latest_block_height"], height - 1);

    // Its base block is one that the node behind lacks.
    let Transaction::V0(mut next) = transaction.transaction else { unreachable!() };
    (next.nonce, next.block_hash) = (2, included);
    let next = sign(Transaction::V0(next), &key(BENCH));
    let refused = answer(&devnet, send(&next, "INCLUDED")).await;
    assert_eq!(refused["error"]["data"]["TxExecutionError"]["InvalidTxError"], "Expired", "{refused}");
    devnet.clear_faults();
    assert!(answer(&devnet, send(&next, "NONE")).await.get("result").is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn another_answer_is_well_formed_and_somebody_else_s() {
    let devnet = start().await;
    blocks(&devnet, 2).await;
    devnet.set_faults(&json!([{"fault": "otherAnswer", "method": "block", "count": 1}])).unwrap();
    let first = call(&devnet, "block", json!({"block_id": 1})).await;
    assert_eq!(call(&devnet, "block", json!({"block_id": 2})).await, first);
    assert_eq!(call(&devnet, "block", json!({"block_id": 2})).await["header"]["height"], 2, "once only");
}
