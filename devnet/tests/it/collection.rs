//! What a node answers that collects, and an archival one beside it, on a chain of short epochs.

use crate::{
    driver,
    world::{BENCH, base64, call, config, final_hash, key, request, signed},
};
use near_primitives::{
    action::{Action, TransferAction},
    hash::CryptoHash,
    transaction::SignedTransaction,
    types::Balance,
};
use nearbench_devnet::{
    Config, Devnet,
    chain::{Chain, Retention},
};
use serde_json::{Value, json};

/// Collecting is what `POST /` is answered with, `archive` answers from everything.
const ARCHIVE: &str = "archive";
const EPOCH: u64 = 10;
const KEPT: u64 = 3;

fn short_lived() -> Config {
    Config {
        epoch_length: EPOCH,
        transaction_validity_period: 2 * EPOCH,
        keep_epochs: Some(KEPT),
        archival: vec![ARCHIVE.to_owned()],
        ..config()
    }
}

fn pay() -> Vec<Action> {
    vec![Action::Transfer(TransferAction { deposit: Balance::from_yoctonear(1) })]
}

/// The status and the body of an answer.
async fn ask(devnet: &Devnet, endpoint: &str, method: &str, params: Value) -> (u16, Value) {
    let answer = devnet.handle_at(endpoint, request(method, params)).await;
    (answer.status, serde_json::from_slice(&answer.body).unwrap())
}

/// The name of the error that an endpoint answers; none for a result.
async fn cause(devnet: &Devnet, endpoint: &str, method: &str, params: Value) -> String {
    ask(devnet, endpoint, method, params).await.1["error"]["cause"]["name"].as_str().unwrap_or("none").to_owned()
}

/// A chain on which one payment is old enough to be collected, that payment, and the height of its block.
struct Aged {
    devnet: Devnet,
    paid: SignedTransaction,
    outcome: Value,
    height: u64,
    hash: CryptoHash,
    chunk: String,
}

async fn aged(config: Config) -> Aged {
    let devnet = Devnet::start(config).await.unwrap();
    let paid = signed(&devnet, BENCH, 1, "test.near", pay()).await;
    let send = json!({"signed_tx_base64": base64(&paid), "wait_until": "FINAL"});
    let outcome = call(&devnet, "send_tx", send).await;
    let hash: CryptoHash = outcome["transaction_outcome"]["block_hash"].as_str().unwrap().parse().unwrap();
    let block = call(&devnet, "block", json!({"block_id": hash})).await;
    let height = block["header"]["height"].as_u64().unwrap();
    let chunk = block["chunks"][0]["chunk_hash"].as_str().unwrap().to_owned();
    call(&devnet, "sandbox_fast_forward", json!({"delta_height": (KEPT + 2) * EPOCH})).await;
    devnet.stop().await;
    Aged { devnet, paid, outcome, height, hash, chunk }
}

#[tokio::test(start_paused = true)]
async fn what_is_collected_is_answered_in_nearcore_s_words_and_an_archival_endpoint_still_has_it() {
    let Aged { devnet, paid, outcome, height, hash, chunk } = aged(short_lived()).await;
    let head = devnet.height();
    let account = |block: Value| json!({"request_type": "view_account", "account_id": BENCH, "block_id": block});
    let id = json!({"tx_hash": paid.get_hash(), "sender_account_id": BENCH, "wait_until": "NONE"});
    let keys = json!([{"account_id": BENCH, "public_key": key(BENCH).public_key()}]);
    let changes = json!({"block_id": hash, "changes_type": "single_access_key_changes", "keys": keys});
    let receipt = &outcome["receipts_outcome"][0]["id"];
    let head_hash = final_hash(&devnet).await;
    let proof =
        json!({"type": "receipt", "receipt_id": receipt, "receiver_id": "test.near", "light_client_head": head_hash});
    for (method, params, collected) in [
        ("light_client_proof", proof, "UNKNOWN_TRANSACTION_OR_RECEIPT"),
        ("tx", id.clone(), "UNKNOWN_TRANSACTION"),
        ("EXPERIMENTAL_tx_status", id.clone(), "UNKNOWN_TRANSACTION"),
        ("block", json!({"block_id": height}), "UNKNOWN_BLOCK"),
        ("block", json!({"block_id": hash}), "UNKNOWN_BLOCK"),
        ("chunk", json!({"chunk_id": chunk}), "UNKNOWN_CHUNK"),
        ("chunk", json!({"block_id": height, "shard_id": 0}), "UNKNOWN_BLOCK"),
        ("EXPERIMENTAL_congestion_level", json!({"block_id": height, "shard_id": 0}), "UNKNOWN_BLOCK"),
        ("query", account(json!(height)), "GARBAGE_COLLECTED_BLOCK"),
        ("query", account(json!(hash)), "GARBAGE_COLLECTED_BLOCK"),
        ("EXPERIMENTAL_view_account", account(json!(hash)), "GARBAGE_COLLECTED_BLOCK"),
        ("EXPERIMENTAL_changes", changes.clone(), "UNKNOWN_BLOCK"),
        ("validators", json!([hash]), "UNKNOWN_EPOCH"),
        // Headers stay.
        ("gas_price", json!([hash]), "none"),
        ("gas_price", json!([height]), "none"),
        ("EXPERIMENTAL_protocol_config", json!({"block_id": height}), "none"),
    ] {
        assert_eq!(cause(&devnet, "", method, params.clone()).await, collected, "{method} {params}");
        assert_eq!(cause(&devnet, "another", method, params.clone()).await, collected, "{method} {params}");
        assert_eq!(cause(&devnet, ARCHIVE, method, params.clone()).await, "none", "{method} {params}");
    }
    let (_, found) = ask(&devnet, ARCHIVE, "tx", json!([paid.get_hash(), BENCH])).await;
    assert_eq!(found["result"], outcome);
    let (_, changed) = ask(&devnet, ARCHIVE, "EXPERIMENTAL_changes", changes).await;
    assert_eq!(changed["result"]["changes"][0]["cause"]["tx_hash"], json!(paid.get_hash()));

    // The store knows the hash of a height whose block it lacks; below the head that has a status of its own.
    let (status, unknown) = ask(&devnet, "", "block", json!({"block_id": height})).await;
    assert_eq!((status, &unknown["error"]["cause"]["info"]), (422, &json!({})));
    let said = unknown["error"]["data"].as_str().unwrap();
    assert!(said.starts_with(&format!("DB Not Found Error: BLOCK: {hash}")), "{said}");
    let (status, gone) = ask(&devnet, "", "query", account(json!(height))).await;
    let info = json!({"block_height": height, "block_hash": hash});
    assert_eq!((status, &gone["error"]["cause"]["info"]), (200, &info));

    // Its nonce is reached and its base has expired: nothing says that it moved something, but for the archive.
    let key = json!({"request_type": "view_access_key", "finality": "final", "account_id": BENCH,
        "public_key": key(BENCH).public_key()});
    assert_eq!(ask(&devnet, "", "query", key).await.1["result"]["nonce"], 1);
    for endpoint in ["", ARCHIVE] {
        let send = json!({"signed_tx_base64": base64(&paid), "wait_until": "INCLUDED"});
        let (_, refused) = ask(&devnet, endpoint, "send_tx", send).await;
        assert_eq!(refused["error"]["data"]["TxExecutionError"]["InvalidTxError"], "Expired", "{refused}");
    }

    let first = (head / EPOCH + 1 - KEPT) * EPOCH - 1;
    let earliest = |status: &Value| status["result"]["sync_info"]["earliest_block_height"].as_u64().unwrap();
    assert_eq!(earliest(&ask(&devnet, "", "status", json!([])).await.1), first);
    assert_eq!(earliest(&ask(&devnet, ARCHIVE, "status", json!([])).await.1), 0);
    for (height, kept) in [(first - 1, false), (first, true), (head, true)] {
        assert_eq!(cause(&devnet, "", "block", json!({"block_id": height})).await == "none", kept, "{height}");
        assert_eq!(cause(&devnet, "", "query", account(json!(height))).await == "none", kept, "{height}");
        let changes = json!({"block_id": height, "changes_type": "account_changes", "account_ids": [BENCH]});
        assert_eq!(cause(&devnet, "", "EXPERIMENTAL_changes", changes).await == "none", kept, "{height}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_chain_in_a_folder_is_opened_with_an_archival_endpoint_that_it_did_not_have() {
    let home = tempfile::tempdir().unwrap();
    let collecting = Config { home: Some(home.path().to_owned()), archival: Vec::new(), ..short_lived() };
    let Aged { devnet, paid, outcome, .. } = aged(collecting.clone()).await;
    let id = json!({"tx_hash": paid.get_hash(), "sender_account_id": BENCH, "wait_until": "NONE"});
    assert_eq!(cause(&devnet, ARCHIVE, "tx", id.clone()).await, "UNKNOWN_TRANSACTION", "nobody named it archival");
    drop(devnet);
    let devnet = Devnet::start(Config { archival: vec![ARCHIVE.to_owned()], ..collecting }).await.unwrap();
    assert_eq!(ask(&devnet, ARCHIVE, "tx", id.clone()).await.1["result"], outcome);
    assert_eq!(cause(&devnet, "", "tx", id).await, "UNKNOWN_TRANSACTION");
}

#[tokio::test(start_paused = true)]
async fn whoever_waits_for_a_collected_transaction_waits_in_vain() {
    let Aged { devnet, paid, .. } = aged(Config { archival: Vec::new(), ..short_lived() }).await;
    let id = json!({"tx_hash": paid.get_hash(), "sender_account_id": BENCH, "wait_until": "EXECUTED_OPTIMISTIC"});
    let (status, answer) = ask(&devnet, "", "tx", id).await;
    assert_eq!((status, &answer["error"]["cause"]["name"]), (408, &json!("TIMEOUT_ERROR")), "{answer}");
}

#[test]
fn a_chain_that_collects_drops_what_it_does_not_keep_and_makes_the_same_blocks() {
    let chain = |retention| {
        let near = Balance::from_near(9);
        let mut genesis = driver::genesis(&[("alice.near", near), ("bob.near", near)]);
        (genesis.epoch_length, genesis.transaction_validity_period) = (EPOCH, 2 * EPOCH);
        let mut chain = Chain::with_retention(genesis, retention).unwrap();
        let mut paid = Vec::new();
        for _ in 0..6 * EPOCH {
            paid.push(driver::submit(&mut chain, "alice.near", "bob.near", pay()).unwrap());
            driver::next_block(&mut chain);
        }
        (chain, paid)
    };
    let (all, paid) = chain(Retention::default());
    let (archival, _) = chain(Retention { epochs: Some(KEPT), archival: true });
    let (collected, _) = chain(Retention { epochs: Some(KEPT), archival: false });
    assert_eq!([archival.head().hash, collected.head().hash], [all.head().hash; 2]);
    assert_eq!([all.first_kept(), archival.first_kept(), collected.first_kept()], [0, 39, 39]);

    // The payment at index n is in block n + 1.
    for (hash, height) in paid.iter().zip(1..) {
        let kept = height >= 39;
        for chain in [&all, &archival] {
            assert!(chain.transaction(hash).is_some() && chain.outcome(hash).is_some(), "{height}");
            assert!(chain.state_at(height).is_some(), "{height}");
        }
        assert_eq!(collected.outcome(hash).is_some(), kept, "{height}");
        assert_eq!(collected.transaction(hash).is_some(), kept, "{height}");
        // One more, for what the first block changed.
        assert_eq!(collected.state_at(height).is_some(), height >= 38, "{height}");
        let block = collected.block_at(height).unwrap();
        assert_eq!(collected.block(&block.hash).map(|block| block.height), Some(height), "hashes are never forgotten");
        assert_eq!(collected.block_of_chunk(&block.chunks[0].hash).is_some(), kept, "{height}");
    }
}
