//! State that is put in by hand, in the shapes that nearcore's sandbox takes.

use crate::world::{BENCH, NEAR, base64, call, config, function_call, key, request, signed};
use base64::{Engine, engine::general_purpose::STANDARD};
use near_primitives::{hash::CryptoHash, state_record::StateRecord};
use nearbench_devnet::{Config, Devnet};
use serde_json::{Value, json};
use std::{path::Path, time::Duration};

const WASM: &[u8] = include_bytes!("../data/ft-sdk-5.24.wasm");
const NEW: &str = "new.test.near";

fn at_home(home: &Path) -> Config {
    Config { home: Some(home.to_owned()), block_time: Duration::from_millis(20), ..config() }
}

fn account(account_id: &str, amount: u128, code_hash: CryptoHash) -> Value {
    json!({"Account": {"account_id": account_id, "account": {"amount": amount.to_string(), "locked": "0",
        "code_hash": code_hash, "storage_usage": 130_000, "version": "V1"}}})
}

fn access_key(account_id: &str, nonce: u64) -> Value {
    json!({"AccessKey": {"account_id": account_id, "public_key": key(account_id).public_key(),
        "access_key": {"nonce": nonce, "permission": "FullAccess"}}})
}

fn contract(account_id: &str) -> Value {
    json!({"Contract": {"account_id": account_id, "code": STANDARD.encode(WASM)}})
}

async fn view(devnet: &Devnet, mut query: Value) -> Value {
    query["finality"] = json!("optimistic");
    call(devnet, "query", query).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_its_key_its_contract_and_its_data_are_there_with_the_next_block_and_when_the_chain_is_opened_again()
{
    let home = tempfile::tempdir().unwrap();
    let devnet = Devnet::start(at_home(home.path())).await.unwrap();
    let data =
        json!({"Data": {"account_id": NEW, "data_key": STANDARD.encode("by"), "value": STANDARD.encode("hand")}});
    let records = [account(NEW, 7 * NEAR, CryptoHash::hash_bytes(WASM)), access_key(NEW, 41), contract(NEW), data];
    let before = devnet.height();
    assert_eq!(call(&devnet, "sandbox_patch_state", json!({"records": records})).await, json!({}));
    assert!(devnet.height() > before);

    let state = view(&devnet, json!({"request_type": "view_state", "account_id": NEW, "prefix_base64": ""})).await;
    assert_eq!(state["values"], json!([{"key": STANDARD.encode("by"), "value": STANDARD.encode("hand")}]));
    let seen = view(&devnet, json!({"request_type": "view_account", "account_id": NEW})).await;
    assert_eq!((&seen["amount"], &seen["storage_usage"]), (&json!((7 * NEAR).to_string()), &json!(130_000)));

    // The key signs, above its nonce, and the contract runs.
    let new = function_call("new", &json!({"owner_id": BENCH, "total_supply": "1000"}), 0);
    let used = signed(&devnet, NEW, 41, NEW, vec![new.clone()]).await;
    let send = |transaction| json!({"signed_tx_base64": base64(transaction), "wait_until": "FINAL"});
    let answer = devnet.handle(request("send_tx", send(&used))).await;
    assert!(String::from_utf8_lossy(&answer.body).contains("InvalidNonce"), "{answer:?}");
    let made = call(&devnet, "send_tx", send(&signed(&devnet, NEW, 42, NEW, vec![new]).await)).await;
    assert!(made["status"]["SuccessValue"].is_string(), "{made}");

    devnet.stop().await;
    let balance = json!({"request_type": "call_function", "account_id": NEW, "method_name": "ft_balance_of",
        "args_base64": STANDARD.encode(json!({"account_id": BENCH}).to_string())});
    let (height, seen) = (devnet.height(), view(&devnet, balance.clone()).await);
    drop(devnet);
    let devnet = Devnet::start(at_home(home.path())).await.unwrap();
    devnet.stop().await;
    assert!(devnet.resumed().is_some_and(|resumed| resumed.height == height));
    assert_eq!(view(&devnet, balance).await["result"], seen["result"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_there_is_changed_and_the_change_is_told() {
    let devnet = Devnet::start(config()).await.unwrap();
    let poor = account(BENCH, 3, CryptoHash::default());
    call(&devnet, "sandbox_patch_state", json!({"records": [poor, access_key(BENCH, 5)]})).await;
    let height = devnet.height();
    for (changes_type, value) in
        [("all_access_key_changes", "access_key_update"), ("account_changes", "account_update")]
    {
        let asked = json!({"block_id": height, "changes_type": changes_type, "account_ids": [BENCH]});
        let told = call(&devnet, "EXPERIMENTAL_changes", asked).await;
        assert_eq!(told["changes"].as_array().unwrap().len(), 1, "{told}");
        assert_eq!(told["changes"][0]["cause"], json!({"type": "migration"}));
        assert_eq!(told["changes"][0]["type"], value);
    }
    let pay = near_primitives::action::TransferAction { deposit: near_primitives::types::Balance::from_yoctonear(1) };
    let payment = signed(&devnet, BENCH, 6, "test.near", vec![near_primitives::action::Action::Transfer(pay)]).await;
    let send = request("send_tx", json!({"signed_tx_base64": base64(&payment), "wait_until": "INCLUDED"}));
    let refused = devnet.handle(send).await;
    assert!(String::from_utf8_lossy(&refused.body).contains("NotEnoughBalance"), "{refused:?}");
}

#[tokio::test(start_paused = true)]
async fn a_record_that_does_not_fit_is_refused_with_its_place_and_nothing_is_put_in() {
    let devnet = Devnet::start(config()).await.unwrap();
    let data_id = CryptoHash::default();
    let received = json!({"ReceivedData": {"account_id": BENCH, "data_id": data_id, "data": null}});
    let gas_key = json!({"AccessKey": {"account_id": BENCH, "public_key": key(BENCH).public_key(), "access_key":
        {"nonce": 0, "permission": {"GasKeyFullAccess": {"balance": "0", "num_nonces": 1}}}}});
    serde_json::from_value::<StateRecord>(gas_key.clone()).unwrap();
    for (wrong, told) in [
        (contract(BENCH), "names 1111"),
        (contract("nobody.near"), "is not there"),
        (received, "ReceivedData"),
        (gas_key, "a gas key"),
    ] {
        let records = [account(BENCH, 3, CryptoHash::default()), wrong];
        let answer = devnet.handle(request("sandbox_patch_state", json!({"records": records}))).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        assert_eq!((answer.status, &body["error"]["name"]), (500, &json!("INTERNAL_ERROR")), "{body}");
        let said = body["error"].to_string();
        assert!(said.contains("records[1]") && said.contains(told), "{said} should tell {told}");
    }
    call(&devnet, "sandbox_fast_forward", json!({"delta_height": 2})).await;
    let seen = view(&devnet, json!({"request_type": "view_account", "account_id": BENCH})).await;
    assert_eq!(seen["amount"], (1_000_000 * NEAR).to_string());
    let answer = devnet.handle(request("sandbox_patch_state", json!({"records": [{"Nonsense": {}}]}))).await;
    assert_eq!(answer.status, 400);
}
