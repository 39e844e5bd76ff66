//! The outcome of a receipt by its own id, and the receipt itself in its chunk: what is left where nobody tells of the
//! transaction.

use crate::world::{BENCH, TOKEN, base64, call, config, deploy_token, final_hash, function_call, http, request, serve};
use crate::world::{freeze, moving, signed};
use base64::{Engine, engine::general_purpose::STANDARD};
use near_jsonrpc_client::{JsonRpcClient, methods::light_client_proof::RpcLightClientExecutionProofRequest};
use near_primitives::{
    hash::CryptoHash,
    types::TransactionOrReceiptId,
    views::{ExecutionOutcomeWithIdView, ExecutionStatusView},
};
use nearbench_devnet::{Config, Devnet};
use serde_json::{Value, json};

fn hash(value: &Value) -> CryptoHash {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_receipt_is_in_the_next_chunk_and_its_outcome_is_proven_by_the_block_after_its_own() {
    let _frozen = freeze();
    let devnet = Devnet::start(config()).await.unwrap();
    deploy_token(&devnet).await;
    let args = |n: u128| json!({"receiver_id": "user-1.test.near", "amount": n.to_string(), "memo": format!("m{n}")});
    let actions = (1..3).map(|n| function_call("ft_transfer", &args(n), 1)).collect();
    let paid = signed(&devnet, BENCH, 9, TOKEN, actions).await;
    let send = json!({"signed_tx_base64": base64(&paid), "wait_until": "FINAL"});
    let outcome = moving(call(&devnet, "send_tx", send)).await;
    let executed = &outcome["receipts_outcome"][0];
    let (included, receipt_id) = (hash(&outcome["transaction_outcome"]["block_hash"]), hash(&executed["id"]));

    // By the chunk, as it was sent out.
    let included = call(&devnet, "block", json!({"block_id": included})).await["header"]["height"].as_u64().unwrap();
    let next = call(&devnet, "block", json!({"block_id": included + 1})).await;
    assert_eq!(next["header"]["hash"], executed["block_hash"]);
    let chunk = call(&devnet, "chunk", json!({"chunk_id": next["chunks"][0]["chunk_hash"]})).await;
    let receipts = chunk["receipts"].as_array().unwrap();
    let receipt = receipts.iter().find(|receipt| receipt["receipt_id"] == json!(receipt_id)).unwrap();
    assert_eq!((&receipt["predecessor_id"], &receipt["receiver_id"]), (&json!(BENCH), &json!(TOKEN)));
    let action = &receipt["receipt"]["Action"];
    assert_eq!(action["signer_public_key"], json!(paid.transaction.public_key()));
    let calls: Vec<Value> = action["actions"]
        .as_array()
        .unwrap()
        .iter()
        .map(|action| {
            assert_eq!(action["FunctionCall"]["method_name"], "ft_transfer");
            let bytes = STANDARD.decode(action["FunctionCall"]["args"].as_str().unwrap()).unwrap();
            serde_json::from_slice(&bytes).unwrap()
        })
        .collect();
    assert_eq!(calls, [args(1), args(2)]);

    // By the proof, as a client understands it that we did not write.
    let address = serve(&devnet).await;
    let client = JsonRpcClient::with(http().build().unwrap()).connect(format!("http://{address}"));
    let light_client_head = final_hash(&devnet).await;
    let id = TransactionOrReceiptId::Receipt { receipt_id, receiver_id: TOKEN.parse().unwrap() };
    let proven = client.call(RpcLightClientExecutionProofRequest { id, light_client_head }).await.unwrap();
    let shown: ExecutionOutcomeWithIdView = serde_json::from_value(executed.clone()).unwrap();
    assert_eq!((proven.outcome_proof.id, &proven.outcome_proof.outcome), (shown.id, &shown.outcome));
    assert_eq!(proven.outcome_proof.outcome.logs.len(), 2);
    let lite = proven.block_header_lite;
    assert_eq!((lite.inner_lite.height, lite.prev_block_hash), (included + 2, shown.block_hash));
    let commits = call(&devnet, "block", json!({"block_id": included + 2})).await;
    assert_eq!(json!(proven.outcome_proof.block_hash), commits["header"]["hash"]);

    let sender_id = BENCH.parse().unwrap();
    let id = TransactionOrReceiptId::Transaction { transaction_hash: paid.get_hash(), sender_id };
    let converted = client.call(RpcLightClientExecutionProofRequest { id, light_client_head }).await.unwrap();
    assert_eq!(converted.outcome_proof.outcome.status, ExecutionStatusView::SuccessReceiptId(receipt_id));
    assert_eq!(converted.block_header_lite.inner_lite.height, included + 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_known_not_final_or_not_committed_to_yet_has_nearcores_errors() {
    let devnet = Devnet::start(Config { block_time: std::time::Duration::from_millis(20), ..config() }).await.unwrap();
    let paid = signed(&devnet, BENCH, 5, "user-1.test.near", Vec::new()).await;
    let send = json!({"signed_tx_base64": base64(&paid), "wait_until": "EXECUTED_OPTIMISTIC"});
    call(&devnet, "send_tx", send).await;
    devnet.stop().await;
    let ask = async |id: CryptoHash, head: CryptoHash| {
        let params =
            json!({"type": "transaction", "transaction_hash": id, "sender_id": BENCH, "light_client_head": head});
        let answer = devnet.handle(request("EXPERIMENTAL_light_client_proof", params)).await;
        let body: Value = serde_json::from_slice(&answer.body).unwrap();
        (answer.status, body["error"]["cause"]["name"].as_str().unwrap_or("none").to_owned(), body)
    };
    let last_final = final_hash(&devnet).await;
    let status = call(&devnet, "status", json!([])).await;
    let head = hash(&status["sync_info"]["latest_block_hash"]);
    let at = call(&devnet, "tx", json!([paid.get_hash(), BENCH])).await["transaction_outcome"]["block_hash"].clone();
    let at = call(&devnet, "block", json!({"block_id": at})).await["header"]["height"].as_u64().unwrap();
    assert!(at + 1 > devnet.height() - 2, "the block that commits to it is not final yet");

    let (status, cause, body) = ask(CryptoHash::hash_bytes(b"nobody's"), last_final).await;
    assert_eq!((status, &*cause), (200, "UNKNOWN_TRANSACTION_OR_RECEIPT"), "{body}");
    let (status, cause, body) = ask(paid.get_hash(), CryptoHash::hash_bytes(b"no block")).await;
    assert_eq!((status, &*cause), (200, "UNKNOWN_BLOCK"), "{body}");
    for head in [last_final, head] {
        let (status, cause, body) = ask(paid.get_hash(), head).await;
        assert_eq!((status, &*cause), (500, "INTERNAL_ERROR"), "{body}");
    }
    let answer = devnet.handle(request("light_client_proof", json!({"type": "receipt"}))).await;
    assert_eq!(answer.status, 400);
}
