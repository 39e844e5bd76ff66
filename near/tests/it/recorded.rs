//! A real node's recorded exchanges (nearcore, protocol 86): our requests have their form, their answers our words.
//! `tests/data/exchanges.jsonl`: logs, proofs and gas profiles emptied, transactions' bytes left out.

use crate::fake::{Fake, client, ok};
use bytes::Bytes;
use nearbench_core::{
    Account, Hash, Near,
    outcome::{Execution, FailureKind, Refusal, TxStatus},
};
use nearbench_near::{
    Client, SignedTx,
    chain::{At, Permission, ViewError, Wait},
};
use serde_json::{Value, json};
use std::sync::Arc;

const EXCHANGES: &str = include_str!("../data/exchanges.jsonl");
const KEY: &str = "ed25519:4ZN72s9x1V4mreLAw9ELWxZDjFenGXcuAWJmsStUstiX";

struct Recorded {
    request: Value,
    status: u16,
    body: Bytes,
}

fn recorded(name: &str) -> Recorded {
    let mut lines = EXCHANGES.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut line = lines.find(|line| line["name"] == name).unwrap();
    let body = match line["body"].take() {
        Value::String(text) => text.into_bytes(),
        mut json => {
            // The node repeats the request's id, and ours is another than the recorded one.
            assert_eq!(json["id"], line["request"]["id"], "{name}");
            json["id"] = "nearbench".into();
            serde_json::to_vec(&json).unwrap()
        }
    };
    Recorded { request: line["request"].take(), status: line["status"].as_u64().unwrap() as u16, body: body.into() }
}

fn replay(name: &str) -> (Client, Arc<Fake>, Value) {
    let Recorded { request, status, body } = recorded(name);
    let fake = Fake::new(ok(status, body));
    (client(&[&fake]), fake, request)
}

/// What was asked is what was recorded, but for the id.
fn same_request(fake: &Fake, recorded: &Value) {
    let asked = fake.asked().remove(0);
    assert_eq!((&asked["method"], &asked["params"]), (&recorded["method"], &recorded["params"]));
}

fn account(id: &str) -> Account {
    Account::new(id).unwrap()
}

fn hash(text: &str) -> Hash {
    text.parse().unwrap()
}

#[tokio::test]
async fn the_node_and_its_blocks_are_read() {
    let (client, fake, request) = replay("status");
    let status = client.status().await.unwrap();
    assert_eq!(
        (&*status.chain_id, status.protocol_version, status.head, status.syncing),
        ("localnet", 86, 1871, false)
    );
    assert_eq!(status.version, "trunk (f0c7706f1-modified)");
    same_request(&fake, &request);

    let (client, fake, request) = replay("block_final");
    let block = client.block(At::Final).await.unwrap();
    assert_eq!((block.at.height, block.at.timestamp_ns), (1869, 1_795_454_229_545_330_583));
    assert_eq!(block.at.hash, hash("2kj8CbLJTUB9ZHn4GZwqAXv2MimKvJxgwioxCuEvPtHK"));
    assert_eq!(block.chunks, [hash("8PjR9GLguHytdaog8MGZLmPBpNHSrGzwxAuwJYgxvhHn")]);
    same_request(&fake, &request);

    let (client, fake, request) = replay("chunk");
    assert!(client.chunk(hash("4RN7ZNL3241Wy2v8dMMCnMvGxYY1GsWFR4LEFjvLwvUc")).await.unwrap().is_empty());
    same_request(&fake, &request);

    let (client, fake, request) = replay("block_unknown_hash");
    let error = client.block(At::Hash(Hash::default())).await.unwrap_err().to_string();
    assert!(error.contains("endpoint-0: block: UNKNOWN_BLOCK") && error.contains("archival"), "{error}");
    same_request(&fake, &request);

    let (client, fake, request) = replay("protocol_config");
    let limits = client.limits().await.unwrap();
    assert_eq!((limits.protocol_version, limits.max_actions, limits.transaction_validity_period), (86, 100, 86400));
    assert_eq!((limits.max_total_prepaid_gas, limits.chunk_gas_limit), (10u64.pow(15), 10u64.pow(15)));
    assert_eq!(limits.max_transaction_size, 1_572_864);
    same_request(&fake, &request);

    let (client, fake, request) = replay("gas_price_null");
    assert_eq!(client.gas_price().await.unwrap(), Near(100_000_000));
    same_request(&fake, &request);
}

#[tokio::test]
async fn limits_may_come_as_text_because_javascript_cannot_hold_them() {
    let Recorded { body, .. } = recorded("protocol_config");
    let text = String::from_utf8(body.to_vec()).unwrap();
    let numbers = client(&[&Fake::new(ok(200, text.clone()))]).limits().await.unwrap();
    let text = text.replace(":1000000000000000,", ":\"1000000000000000\",");
    assert!(text.contains("\"1000000000000000\""));
    assert_eq!(client(&[&Fake::new(ok(200, text))]).limits().await.unwrap(), numbers);
}

#[tokio::test]
async fn accounts_keys_and_views_are_read_and_their_absence_too() {
    let (client, fake, request) = replay("view_account");
    let read = client.account(&account("bench.test.near"), At::Final).await.unwrap();
    let state = read.value.unwrap();
    assert_eq!((read.height, state.storage_bytes, state.has_code), (1869, 1084, false));
    assert_eq!(state.balance, Near(999_974_819_923_597_083_407_065_491_090));
    same_request(&fake, &request);

    let (client, ..) = replay("view_account_contract");
    assert!(client.account(&account("ft.test.near"), At::Final).await.unwrap().value.unwrap().has_code);
    let (client, ..) = replay("view_account_unknown");
    let read = client.account(&account("nobody.test.near"), At::Final).await.unwrap();
    assert_eq!((read.height, read.value), (1869, None));

    let (client, fake, request) = replay("view_access_key");
    let read = client.access_key(&account("bench.test.near"), KEY, At::Final).await.unwrap();
    let key = read.value.unwrap();
    assert_eq!((key.nonce, key.permission, read.height), (1107, Permission::FullAccess, 1869));
    same_request(&fake, &request);
    let (client, ..) = replay("view_access_key_unknown");
    let read = client.access_key(&account("test.near"), KEY, At::Final).await.unwrap();
    assert_eq!((read.height, read.value), (1869, None));

    let (client, fake, request) = replay("call_function");
    let args = json!({ "account_id": "user-1.test.near" });
    let bytes = client.view(&account("ft.test.near"), "ft_balance_of", &args, At::Final).await.unwrap();
    assert_eq!(bytes, b"\"1275\"");
    let asked = fake.asked().remove(0);
    assert_eq!(asked["params"]["request_type"], request["params"]["request_type"]);
    for refused in ["call_function_panic", "call_function_state_change_forbidden"] {
        let (client, ..) = replay(refused);
        let error = client.view(&account("ft.test.near"), "x", &json!({}), At::Final).await.unwrap_err();
        assert!(matches!(error, ViewError::Contract { .. }), "{error}");
    }
}

/// The transaction that a recorded answer is about; any, where it is about none.
fn told_of(name: &str) -> Hash {
    let answer: Value = serde_json::from_slice(&recorded(name).body).unwrap_or_default();
    answer["result"]["transaction_outcome"]["id"].as_str().map_or_else(Hash::default, hash)
}

/// What `resend_and_learn` makes of a recorded answer to `send_tx`.
async fn learn(name: &str) -> TxStatus {
    let (client, ..) = replay(name);
    let tx = SignedTx { hash: told_of(name), bytes: Bytes::from_static(b"any") };
    client.resend_and_learn(&tx, &account("bench.test.near")).await.unwrap()
}

#[tokio::test]
async fn refusals_are_values() {
    let invalid = |refusal| TxStatus::Invalid(refusal);
    assert_eq!(learn("invalid_nonce").await, invalid(Refusal::NonceTooLow { key_nonce: 1115 }));
    assert_eq!(learn("expired_unknown_block").await, invalid(Refusal::Expired));
    assert_eq!(learn("nonce_too_large").await, TxStatus::Unknown, "HTTP 408 after ten seconds says nothing");
    for name in ["invalid_signature", "too_many_actions", "garbage"] {
        assert!(matches!(learn(name).await, TxStatus::Invalid(Refusal::Malformed(_))), "{name}");
    }
    assert!(matches!(learn("unknown_access_key").await, TxStatus::Invalid(Refusal::Key(_))));
    assert!(matches!(learn("not_enough_balance").await, TxStatus::Invalid(Refusal::Balance(_))));
}

#[tokio::test]
async fn outcomes_are_judged_by_the_receipt_that_carried_the_actions() {
    let bench = account("bench.test.near");
    let (client, fake, request) = replay("tx_final");
    let tx = hash("FxJw5UwYxzA5uxzHr84XWrVT8T1KeUND7VTVpj1poz6Y");
    let TxStatus::Landed(landed) = client.tx_status(tx, &bench, Wait::Final).await.unwrap() else {
        panic!("it landed")
    };
    assert_eq!(landed.receipt, hash("4wEg4LehVeYn2XfB2CquhryLVBmWGxizkp2esacuaNwN"));
    assert_eq!(landed.block, hash("HgKgVTShs2ck9mEC9TKVmiAzdFU3AVKGdkBD5naquqCp"));
    assert_eq!(
        (landed.execution, landed.gas_burnt),
        (Execution::Success, 716_785_619_845 + 4_788_499_639_171 + 223_182_562_500)
    );
    same_request(&fake, &request);

    let (client, fake, request) = replay("tx_just_sent_none");
    assert_eq!(client.tx_status(tx, &bench, Wait::None).await.unwrap(), TxStatus::Unknown);
    same_request(&fake, &request);

    assert_eq!(learn("send_tx_NONE").await, TxStatus::Unknown);
    assert_eq!(learn("send_tx_INCLUDED").await, TxStatus::Pending);
    assert!(matches!(learn("resend_same_bytes").await, TxStatus::Landed(same) if same.receipt == landed.receipt));

    let failed = [
        ("ft_transfer_unregistered", 0, "unregistered"),
        ("batch_second_fails", 1, "unregistered"),
        ("ft_transfer_insufficient", 0, "sender_balance"),
        ("ft_transfer_too_little_gas", 0, "out_of_gas"),
        ("ft_transfer_no_deposit", 0, "panic"),
        ("receiver_account_missing", 0, "contract"),
    ];
    for (name, at, label) in failed {
        let TxStatus::Landed(landed) = learn(name).await else { panic!("{name} landed") };
        let Execution::Failure { index, kind } = landed.execution else { panic!("{name} failed") };
        assert_eq!((index, kind.label()), (Some(at), label), "{name}: {kind:?}");
    }
}

#[tokio::test]
async fn an_answer_about_another_transaction_proves_nothing() {
    let (client, ..) = replay("tx_final");
    let status = client.tx_status(Hash([7; 32]), &account("bench.test.near"), Wait::Final).await.unwrap();
    assert_eq!(status, TxStatus::Pending);
}

#[tokio::test]
async fn an_unregistered_sender_is_nobodys_single_fault() {
    let (client, ..) = replay("ft_transfer_unregistered");
    let sender = account("stranger.test.near");
    let status = client.tx_status(told_of("ft_transfer_unregistered"), &sender, Wait::Final).await.unwrap();
    let TxStatus::Landed(landed) = status else { panic!("it landed") };
    assert_eq!(landed.execution, Execution::Failure { index: Some(0), kind: FailureKind::SenderUnregistered });
    assert!(!FailureKind::SenderUnregistered.is_transfers_own());
}

#[tokio::test]
async fn a_cut_off_answer_is_an_error_and_never_a_panic_or_another_value() {
    let fake = Fake::new(ok(200, ""));
    let client = client(&[&fake]);
    let bench = account("bench.test.near");
    let tx = SignedTx { hash: Hash::default(), bytes: Bytes::from_static(b"any") };
    for name in
        ["status", "block_final", "protocol_config", "tx_final", "view_account", "view_access_key", "call_function"]
    {
        let Recorded { body, .. } = recorded(name);
        for cut in (0..body.len()).step_by(body.len() / 60 + 1) {
            fake.answers(ok(200, body.slice(..cut)));
            client.status().await.unwrap_err();
            client.block(At::Final).await.unwrap_err();
            client.limits().await.unwrap_err();
            client.account(&bench, At::Final).await.unwrap_err();
            client.access_key(&bench, KEY, At::Final).await.unwrap_err();
            client.view(&bench, "x", &json!({}), At::Final).await.unwrap_err();
            client.tx_status(Hash::default(), &bench, Wait::None).await.unwrap_err();
            client.resend_and_learn(&tx, &bench).await.unwrap_err();
        }
    }
}
