#![allow(clippy::unwrap_used)]
use super::*;
use base64::{Engine, engine::general_purpose::STANDARD};
use nearbench_core::outcome::FailureKind;
use serde_json::Value;

const KEY: &str = "ed25519:mine";
/// What is otherwise in a receipt.
type Change = fn(&mut Value);

const RECEIPT: Hash = Hash([7; 32]);

fn account(id: &str) -> Account {
    Account::new(id).unwrap()
}

fn ids(ids: &[u8]) -> Vec<TransferId> {
    ids.iter().map(|n| TransferId([*n; 16])).collect()
}

fn call(method: &str, memo: &str) -> Value {
    let args = STANDARD.encode(json!({"receiver_id": "user.near", "amount": "1", "memo": memo}).to_string());
    json!({"FunctionCall": {"method_name": method, "args": args, "gas": 1, "deposit": "1"}})
}

fn pay(id: u8) -> Value {
    call("ft_transfer", &TransferId([id; 16]).to_string())
}

/// A receipt as nearcore prints it, of a payment from `bench.near` with transfers 1 and 2.
fn receipt(change: impl FnOnce(&mut Value)) -> ReceiptView {
    let mut receipt = json!({
        "predecessor_id": "bench.near", "receiver_id": "ft.near", "receipt_id": RECEIPT, "priority": 0,
        "receipt": {"Action": {
            "signer_id": "bench.near", "signer_public_key": KEY, "gas_price": "1", "is_promise_yield": false,
            "input_data_ids": [], "output_data_receivers": [], "actions": [pay(1), pay(2)],
        }},
    });
    change(&mut receipt);
    serde_json::from_value(receipt).unwrap()
}

#[test]
fn a_receipt_is_a_payments_if_account_token_key_and_the_ids_in_their_order_are() {
    let (bench, token, ids) = (account("bench.near"), account("ft.near"), ids(&[1, 2]));
    let payment = Payment { account: &bench, public_key: KEY, token: &token, ids: &ids };
    let is_its = |change: Change| is_of(&receipt(change), &payment);
    assert!(is_its(|_| ()));
    assert!(is_its(|receipt| receipt["receipt"]["Action"]["actions"][1] =
        call("ft_transfer", &format!("{} for lunch", TransferId([2; 16])))));
    let others: [(&str, Change); 11] = [
        ("a refund", |receipt| receipt["predecessor_id"] = json!("system")),
        ("somebody's", |receipt| receipt["predecessor_id"] = json!("other.near")),
        ("to another token", |receipt| receipt["receiver_id"] = json!("other.near")),
        ("of another signer", |receipt| receipt["receipt"]["Action"]["signer_id"] = json!("other.near")),
        ("of another key", |receipt| receipt["receipt"]["Action"]["signer_public_key"] = json!("ed25519:other")),
        ("in another order", |receipt| receipt["receipt"]["Action"]["actions"] = json!([pay(2), pay(1)])),
        ("of another batch", |receipt| receipt["receipt"]["Action"]["actions"] = json!([pay(1), pay(3)])),
        ("with one more", |receipt| receipt["receipt"]["Action"]["actions"] = json!([pay(1), pay(2), pay(3)])),
        ("with one less", |receipt| receipt["receipt"]["Action"]["actions"] = json!([pay(1)])),
        ("another call", |receipt| {
            receipt["receipt"]["Action"]["actions"][1] = call("ft_transfer_call", &TransferId([2; 16]).to_string())
        }),
        ("data", |receipt| {
            receipt["receipt"] = json!({"Data": {"data_id": RECEIPT, "data": "", "is_promise_resume": false}})
        }),
    ];
    for (what, change) in others {
        assert!(!is_its(change), "{what}");
    }
}

fn event(standard: &str, event: &str, owner: &str, memos: &[&str]) -> String {
    let moved = |memo: &&str| json!({"old_owner_id": owner, "new_owner_id": "user.near", "amount": "1", "memo": memo});
    let data: Vec<_> = memos.iter().map(moved).collect();
    format!("EVENT_JSON:{}", json!({"standard": standard, "version": "1.0.0", "event": event, "data": data}))
}

#[test]
fn events_tell_of_a_payment_if_they_name_its_transfers_and_no_others_of_the_sender() {
    let (bench, token, ids) = (account("bench.near"), account("ft.near"), ids(&[1, 2]));
    let payment = Payment { account: &bench, public_key: KEY, token: &token, ids: &ids };
    let text: Vec<_> = (1..4).map(|n| TransferId([n; 16]).to_string()).collect();
    let moved = |memos: &[&str]| event("nep141", "ft_transfer", "bench.near", memos);
    let (one, two) = (moved(&[&text[0]]), moved(&[&text[1]]));
    let bare = r#"EVENT_JSON:{"standard":"nep141","version":"1.0.0","event":"ft_transfer","data":[{"old_owner_id":"bench.near","new_owner_id":"fees.near","amount":"1"}]}"#;
    for (logs, tell, why) in [
        (vec![one.clone(), two.clone()], true, "an event each, as near-sdk's token logs them"),
        (vec![moved(&[&text[0], &text[1]])], true, "one event for both"),
        (
            vec!["hello".to_owned(), one.clone(), bare.to_owned(), two.clone()],
            true,
            "other logs, and a fee without an id",
        ),
        (vec![one.clone(), event("nep141", "ft_transfer", "other.near", &[&text[2]]), two.clone()], true, "another's"),
        (vec![], false, "nothing"),
        (vec![one.clone()], false, "one of the two"),
        (vec![two.clone(), one.clone()], false, "another order"),
        (vec![one.clone(), two.clone(), two.clone()], false, "one twice"),
        (vec![one.clone(), two.clone(), moved(&[&text[2]])], false, "one more"),
        (vec![one.clone(), event("nep141", "ft_mint", "bench.near", &[&text[1]])], false, "another event"),
        (vec![one.clone(), event("nep171", "ft_transfer", "bench.near", &[&text[1]])], false, "another standard"),
        (vec![one.clone(), event("nep141", "ft_transfer", "other.near", &[&text[1]])], false, "another owner's"),
        (vec![one.clone(), two.replacen("EVENT_JSON:", "EVENT_JSON: {", 1)], false, "no JSON"),
        (vec![one.clone(), two.replacen("EVENT_JSON:", "", 1)], false, "no event"),
    ] {
        assert_eq!(tells_of(&logs, &payment), tell, "{why}: {logs:?}");
    }
}

#[test]
fn a_success_without_its_events_is_none_and_a_failure_needs_none() {
    let (bench, token, ids) = (account("bench.near"), account("ft.near"), ids(&[1]));
    let payment = Payment { account: &bench, public_key: KEY, token: &token, ids: &ids };
    let told = event("nep141", "ft_transfer", "bench.near", &[&ids[0].to_string()]);
    let proof = |id: Hash, status: &Value, logs: &[&String]| -> LightProofView {
        serde_json::from_value(json!({
            "outcome_proof": {"id": id, "block_hash": Hash([9; 32]), "proof": [], "outcome": {
                "logs": logs, "receipt_ids": [], "gas_burnt": 5, "tokens_burnt": "1", "executor_id": "ft.near",
                "status": status, "metadata": {"version": 1, "gas_profile": null}}},
            "outcome_root_proof": [], "block_proof": [],
            "block_header_lite": {"prev_block_hash": Hash([8; 32]), "inner_rest_hash": Hash::default(), "inner_lite": {}},
        }))
        .unwrap()
    };
    let as_landed = |execution| Some(Landed { receipt: RECEIPT, block: Hash([8; 32]), execution, gas_burnt: 5 });
    let success = json!({"SuccessValue": ""});
    assert_eq!(landed(&proof(RECEIPT, &success, &[&told]), RECEIPT, &payment), as_landed(Execution::Success));
    assert_eq!(landed(&proof(RECEIPT, &success, &[]), RECEIPT, &payment), None);
    assert_eq!(landed(&proof(Hash([1; 32]), &success, &[&told]), RECEIPT, &payment), None, "another receipt's");
    assert_eq!(landed(&proof(RECEIPT, &json!("Unknown"), &[&told]), RECEIPT, &payment), None);
    let panic = "Smart contract panicked: The account user.near is not registered";
    let failure =
        json!({"Failure": {"ActionError": {"index": 3, "kind": {"FunctionCallError": {"ExecutionError": panic}}}}});
    let failed = Execution::Failure { index: Some(3), kind: FailureKind::Unregistered };
    assert_eq!(landed(&proof(RECEIPT, &failure, &[]), RECEIPT, &payment), as_landed(failed));
}
