//! Every recorded exchange with a real node, replayed over HTTP.
//!
//! Transactions are decoded, given our key and a base block of devnet, and signed anew; nonces and actions stay.
//! Heights, hashes and keys of the recorded chain are replaced by devnet's before an exchange is sent and before its
//! answer is compared.

use crate::{
    shape::differences,
    world::{
        BENCH, base64, call, config, deploy_token, final_hash, freeze, http, key, moving, serve,
        sign,
    },
};
use base64::{Engine, engine::general_purpose::STANDARD};
use borsh::BorshDeserialize;
use near_primitives::{
    hash::CryptoHash,
    transaction::{SignedTransaction, Transaction},
};
use nearbench_devnet::Devnet;
use serde::Deserialize;
use serde_json::{Value, json};
use std::{collections::BTreeSet, time::Duration};

const EXCHANGES: &str = include_str!("../data/exchanges.jsonl");

/// The differences that are meant: exchange (`*`: all), how the path begins or, from `/…`, ends, and why.
const DEVIATIONS: &[(&str, &str, &str)] = &[
    (
        "validators",
        "result/validator_reward_paid_prev_epoch",
        "its keys are the names of the validators",
    ),
    (
        "protocol_config",
        "result/runtime_config/wasm_config/ext_costs/ml_dsa_verify",
        NEWER,
    ),
    (
        "protocol_config",
        "result/runtime_config/wasm_config/ext_costs/sha3_",
        NEWER,
    ),
    (
        "protocol_config",
        "result/runtime_config/wasm_config/ext_costs/universal_state_init",
        NEWER,
    ),
    (
        "protocol_config",
        "result/runtime_config/wasm_config/limit_config/max_receipt_total_input_size",
        NEWER,
    ),
    (
        "protocol_config",
        "result/runtime_config/wasm_config/limit_config/max_state_init_entries",
        NEWER,
    ),
    (
        "protocol_config",
        "result/runtime_config/wasm_config/limit_config/max_universal_state_init_keys",
        NEWER,
    ),
    (
        "protocol_config",
        "result/runtime_config/wasm_config/ml_dsa_verify_host_fn",
        NEWER,
    ),
    (
        "protocol_config",
        "result/runtime_config/wasm_config/sha3_host_fns",
        NEWER,
    ),
    (
        "protocol_config",
        "result/runtime_config/wasm_config/universal_accounts",
        NEWER,
    ),
    (
        "*",
        "/proof",
        "devnet has no Merkle trees, so it proves nothing",
    ),
];

/// Why a parameter is printed that the recorded node does not know.
const NEWER: &str =
    "a parameter of protocol 88, which the types of nearcore 2.14 print at every protocol";

#[derive(Deserialize)]
struct Exchange {
    name: String,
    request: Request,
    response: Response,
}

#[derive(Deserialize)]
struct Request {
    method: String,
    path: String,
    body: Value,
}

#[derive(Deserialize)]
struct Response {
    status: u16,
    content_type: String,
    body: Value,
}

/// What stands on devnet for what was recorded, as texts.
struct Replacements(Vec<(String, String)>);

impl Replacements {
    fn add(&mut self, recorded: impl ToString, ours: impl ToString) {
        let (recorded, ours) = (recorded.to_string(), ours.to_string());
        if recorded != ours && !self.0.iter().any(|(known, _)| *known == recorded) {
            self.0.push((recorded, ours));
        }
    }

    fn apply(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => {
                Value::String(self.0.iter().fold(text.clone(), |text, (recorded, ours)| {
                    if text.contains(recorded.as_str()) {
                        text.replace(recorded.as_str(), ours)
                    } else {
                        text
                    }
                }))
            }
            Value::Array(values) => values.iter().map(|value| self.apply(value)).collect(),
            Value::Object(map) => map
                .iter()
                .map(|(key, value)| (key.clone(), self.apply(value)))
                .collect(),
            other => other.clone(),
        }
    }
}

fn exchanges() -> Vec<Exchange> {
    EXCHANGES
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// The recorded transaction in a request, and the text that it stands in.
fn recorded_transaction(body: &Value) -> Option<(String, SignedTransaction)> {
    let params = body.get("params")?;
    let text = params
        .get("signed_tx_base64")
        .or_else(|| params.get(0))?
        .as_str()?;
    let transaction = SignedTransaction::try_from_slice(&STANDARD.decode(text).ok()?).ok()?;
    Some((text.to_owned(), transaction))
}

/// The same transaction for devnet. A signature that was wrong is wrong again; an unknown base block stays unknown.
fn signed_anew(recorded: &SignedTransaction, block_hash: CryptoHash) -> SignedTransaction {
    let (hash, _) = recorded.transaction.get_hash_and_size();
    let valid = recorded
        .signature
        .verify(hash.as_ref(), recorded.transaction.public_key());
    let Transaction::V0(mut transaction) = recorded.transaction.clone() else {
        panic!("recorded as version 0")
    };
    transaction.public_key = key(BENCH).public_key();
    if transaction.block_hash != CryptoHash::default() {
        transaction.block_hash = block_hash;
    }
    sign(
        Transaction::V0(transaction),
        &key(if valid { BENCH } else { "somebody else" }),
    )
}

/// Whether the answer comes only after blocks have.
fn waits(body: &Value) -> bool {
    let level = body["params"].get("wait_until").and_then(Value::as_str);
    match body["method"].as_str() {
        Some("broadcast_tx_commit" | "sandbox_fast_forward") => true,
        Some("send_tx" | "tx" | "EXPERIMENTAL_tx_status") => level != Some("NONE"),
        _ => false,
    }
}

#[tokio::test(start_paused = true)]
async fn every_recorded_exchange_is_answered_as_by_a_real_node() {
    let _frozen = freeze();
    let devnet = Devnet::start(config()).await.unwrap();
    let address = serve(&devnet).await;
    deploy_token(&devnet).await;

    // The recordings look a few blocks back.
    call(&devnet, "sandbox_fast_forward", json!({"delta_height": 10})).await;

    let mut ours = Replacements(Vec::new());
    let block = call(&devnet, "block", json!({"finality": "final"})).await;
    let recorded_height = 1871;
    let height = block["header"]["height"].as_u64().unwrap();
    let client = http();
    let mut unused: BTreeSet<_> = (0..DEVIATIONS.len()).collect();
    let mut failures = Vec::new();

    for exchange in exchanges() {
        let Exchange {
            name,
            request,
            response: recorded,
        } = exchange;
        if let Some((text, transaction)) = recorded_transaction(&request.body) {
            let again = signed_anew(&transaction, final_hash(&devnet).await);
            ours.add(
                transaction.transaction.public_key(),
                again.transaction.public_key(),
            );
            ours.add(transaction.get_hash(), again.get_hash());
            ours.add(text, base64(&again));
        }
        if name == "chunk" {
            ours.add(
                request.body["params"]["chunk_id"].as_str().unwrap(),
                block["chunks"][0]["chunk_hash"].as_str().unwrap(),
            );
        }
        if name == "view_access_key" {
            ours.add(
                request.body["params"]["public_key"].as_str().unwrap(),
                key(BENCH).public_key(),
            );
        }
        let mut body = ours.apply(&request.body);
        if let Some(id) = body.pointer_mut("/params/block_id")
            && let Some(recorded) = id.as_u64()
        {
            *id = (height - (recorded_height - recorded)).into();
        }

        let url = format!("http://{address}{}", request.path);
        let sent = match (request.method.as_str(), &body) {
            ("GET", _) => client.get(url),
            (_, Value::String(text)) => client
                .post(url)
                .header("content-type", "application/json")
                .body(text.clone()),
            (_, body) => client
                .post(url)
                .header("content-type", "application/json")
                .body(body.to_string()),
        };
        let exchanged = async {
            let answer = sent.send().await.unwrap();
            let status = answer.status().as_u16();
            let content_type = answer.headers()["content-type"]
                .to_str()
                .unwrap()
                .to_owned();
            (status, content_type, answer.text().await.unwrap())
        };
        let (status, content_type, text) = if waits(&body) {
            moving(exchanged).await
        } else {
            exchanged.await
        };
        let answered = serde_json::from_str(&text).unwrap_or(Value::String(text));

        let mut found = differences(&ours.apply(&recorded.body), &answered);
        if status != recorded.status {
            found.push((
                "status".to_owned(),
                format!("{status}, recorded {}", recorded.status),
            ));
        }
        if content_type != recorded.content_type {
            found.push((
                "content_type".to_owned(),
                format!("{content_type}, recorded {}", recorded.content_type),
            ));
        }
        for (path, what) in found {
            let meant = DEVIATIONS.iter().position(|(of, at, _)| {
                let here = if at.starts_with('/') {
                    path.ends_with(at)
                } else {
                    path.starts_with(at)
                };
                here && (*of == "*" || *of == name)
            });
            match meant {
                Some(index) => _ = unused.remove(&index),
                None => failures.push(format!("{name}: {path}: {what}")),
            }
        }
    }
    let unused: Vec<_> = unused.into_iter().map(|index| DEVIATIONS[index]).collect();
    assert!(
        unused.is_empty(),
        "deviations that do not deviate: {unused:?}"
    );
    assert!(
        failures.is_empty(),
        "{} differences:\n{}",
        failures.len(),
        failures.join("\n")
    );
    tokio::time::timeout(Duration::from_secs(60), moving(devnet.stop()))
        .await
        .unwrap();
}

#[test]
fn a_difference_in_keys_types_or_literals_is_found() {
    let recorded = json!({"result": {"gas_burnt": 1, "hash": "a", "list": [{"x": 1}]}});
    assert!(differences(&recorded, &recorded.clone()).is_empty());
    for wrong in [
        json!({"result": {"gas_burnt": 2, "hash": "a", "list": [{"x": 1}]}}),
        json!({"result": {"gas_burnt": 1, "hash": 7, "list": [{"x": 1}]}}),
        json!({"result": {"gas_burnt": 1, "hash": "b", "list": [{}]}}),
        json!({"result": {"gas_burnt": 1, "hash": "a", "list": [{"x": 1}], "more": 1}}),
    ] {
        assert_eq!(differences(&recorded, &wrong).len(), 1, "{wrong}");
    }
    assert!(
        differences(
            &recorded,
            &json!({"result": {"gas_burnt": 1, "hash": "b", "list": [{"x": 5}]}})
        )
        .is_empty()
    );
}
