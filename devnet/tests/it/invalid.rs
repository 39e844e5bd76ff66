//! A transaction that is in a chunk and invalid there: its error is its outcome, its nonce is unused, and the same bytes
//! may still land.

use crate::{
    driver,
    world::{BENCH, base64, call, config, key, request, sign, signed},
};
use near_primitives::{
    action::{Action, TransferAction},
    errors::{InvalidTxError, TxExecutionError},
    hash::CryptoHash,
    transaction::{ExecutionStatus, SignedTransaction, Transaction},
    types::Balance,
};
use nearbench_devnet::{
    Config, Devnet,
    chain::{Chain, Retention, Submitted},
    faults::Handling,
    genesis::Genesis,
};
use serde_json::{Value, json};

const UNCHECKED: Handling = Handling::Unchecked { blocks: 0 };

fn pay(deposit: Balance) -> Vec<Action> {
    vec![Action::Transfer(TransferAction { deposit })]
}

fn two_accounts() -> Genesis {
    driver::genesis(&[("alice.near", Balance::from_near(100)), ("bob.near", Balance::from_near(100))])
}

fn with_nonce(chain: &Chain, nonce: u64, deposit: Balance) -> SignedTransaction {
    let plain = driver::signed(chain, "alice.near", "bob.near", pay(deposit), 0);
    let Transaction::V0(mut transaction) = plain.transaction else { unreachable!() };
    transaction.nonce = nonce;
    Transaction::V0(transaction).sign(&driver::signer("alice.near"))
}

fn alice_s_nonce(chain: &Chain) -> u64 {
    let state = chain.state_at(chain.head().height).unwrap();
    state.access_key(&driver::account("alice.near"), &driver::signer("alice.near").public_key()).unwrap().nonce
}

/// The error that is the outcome of a transaction in the latest block.
fn failure(chain: &Chain, transaction: &SignedTransaction) -> InvalidTxError {
    let record = chain.outcomes(&transaction.get_hash()).find(|record| record.height == chain.head().height).unwrap();
    let outcome = &record.outcome.outcome;
    assert!(outcome.receipt_ids.is_empty() && outcome.gas_burnt.as_gas() == 0 && outcome.tokens_burnt.is_zero());
    assert_eq!(outcome.executor_id, driver::account("alice.near"));
    match &outcome.status {
        ExecutionStatus::Failure(TxExecutionError::InvalidTxError(error)) => error.clone(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_is_overtaken_within_its_chunk_fails_there_and_uses_no_nonce() {
    let home = tempfile::tempdir().unwrap();
    let mut chain = Chain::open(two_accounts(), Retention::default(), home.path()).unwrap();
    driver::next_block(&mut chain);
    let near = Balance::from_near(1);
    let (first, second, twin) =
        (with_nonce(&chain, 5, near), with_nonce(&chain, 6, near), with_nonce(&chain, 6, Balance::from_near(2)));
    assert_eq!(chain.submit_as(first.clone(), UNCHECKED), Ok(Submitted::New));
    assert_eq!(chain.submit_as(twin.clone(), UNCHECKED), Ok(Submitted::New));
    chain.submit(second.clone()).unwrap();
    let block = driver::next_block(&mut chain);
    let hashes: Vec<_> = block.transactions().map(|tx| tx.get_hash()).collect();
    assert_eq!(hashes, [second.get_hash(), first.get_hash(), twin.get_hash()]);
    assert_eq!(failure(&chain, &first), InvalidTxError::InvalidNonce { tx_nonce: 5, ak_nonce: 6 });
    assert_eq!(failure(&chain, &twin), InvalidTxError::InvalidNonce { tx_nonce: 6, ak_nonce: 6 });
    assert_eq!(alice_s_nonce(&chain), 6);

    // Nothing came of them but their outcomes, and a chain that is opened again has these.
    driver::finish(&mut chain, second.get_hash());
    let state = chain.state_at(chain.head().height).unwrap();
    assert_eq!(state.account(&driver::account("bob.near")).unwrap().amount(), Balance::from_near(101));
    let (head, recorded) = (chain.head().hash, chain.outcome(&first.get_hash()));
    drop(chain);
    let chain = Chain::open(two_accounts(), Retention::default(), home.path()).unwrap();
    assert_eq!((chain.head().hash, chain.outcome(&first.get_hash())), (head, recorded));
}

#[test]
fn the_same_bytes_may_land_after_they_failed_and_a_node_shows_either() {
    let mut shown = Vec::new();
    for timestamp in 0..16 {
        let mut genesis = two_accounts();
        genesis.timestamp_ns += timestamp;
        let mut chain = Chain::new(genesis).unwrap();
        driver::next_block(&mut chain);
        // Too large for block 2 to 4, and taken by an RPC node, which does not know the chunk's height.
        let nonce = 4_000_000;
        let early = with_nonce(&chain, nonce, Balance::from_near(1));
        chain.submit_as(early.clone(), UNCHECKED).unwrap();
        driver::next_block(&mut chain);
        let too_large = InvalidTxError::NonceTooLarge { tx_nonce: nonce, upper_bound: 2_000_000 };
        assert_eq!((failure(&chain, &early), alice_s_nonce(&chain)), (too_large, 0));
        let failed = chain.head();
        while chain.head().height < 4 {
            driver::next_block(&mut chain);
        }
        assert_eq!(chain.submit(early.clone()), Ok(Submitted::New));
        let landed = driver::next_block(&mut chain);
        assert_eq!((landed.height, alice_s_nonce(&chain)), (5, nonce));
        let (hash, places) = (early.get_hash(), [failed.hash, landed.hash]);
        assert_eq!(chain.outcomes(&hash).count(), 2);
        let record = chain.outcome(&hash).unwrap();
        assert_eq!(record.block_hash, *places.iter().min().unwrap());
        shown.push(record.height);
    }
    assert!(shown.contains(&2) && shown.contains(&5), "{shown:?}");
}

#[test]
fn each_reason_is_told_in_the_words_of_the_chunk() {
    let mut genesis = two_accounts();
    genesis.transaction_validity_period = 20;
    let mut chain = Chain::new(genesis).unwrap();
    driver::next_block(&mut chain);
    let spent = with_nonce(&chain, 5, Balance::from_near(70));
    let poor = with_nonce(&chain, 6, Balance::from_near(70));
    chain.submit(spent).unwrap();
    chain.submit_as(poor.clone(), UNCHECKED).unwrap();
    driver::next_block(&mut chain);
    assert!(matches!(failure(&chain, &poor), InvalidTxError::NotEnoughBalance { .. }));

    let expired = with_nonce(&chain, 7, Balance::from_near(1));
    chain.submit_as(expired.clone(), Handling::Unchecked { blocks: 30 }).unwrap();
    for _ in 0..31 {
        assert!(chain.outcome(&expired.get_hash()).is_none());
        driver::next_block(&mut chain);
    }
    assert_eq!(failure(&chain, &expired), InvalidTxError::Expired);

    let gone = with_nonce(&chain, 8, Balance::from_yoctonear(1));
    chain.submit_as(gone.clone(), Handling::Unchecked { blocks: 5 }).unwrap();
    let beneficiary_id = driver::account("bob.near");
    let delete = Action::DeleteAccount(near_primitives::action::DeleteAccountAction { beneficiary_id });
    driver::submit(&mut chain, "alice.near", "alice.near", vec![delete]).unwrap();
    for _ in 0..6 {
        driver::next_block(&mut chain);
    }
    assert_eq!(failure(&chain, &gone), InvalidTxError::InvalidSignerId { signer_id: "alice.near".to_owned() });
}

async fn answer(devnet: &Devnet, method: &str, params: Value) -> Value {
    serde_json::from_slice(&devnet.handle(request(method, params)).await.body).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_node_answers_a_failed_transaction_with_its_error_and_no_receipt() {
    let devnet = Devnet::start(Config { block_time: std::time::Duration::from_millis(20), ..config() }).await.unwrap();
    let yocto = Balance::from_yoctonear(1);
    devnet.set_faults(&json!([{"fault": "unchecked", "blocks": 1, "count": 1}])).unwrap();
    let overtaken = signed(&devnet, BENCH, 5, "test.near", pay(yocto)).await;
    let Transaction::V0(mut next) = overtaken.transaction.clone() else { unreachable!() };
    next.nonce = 6;
    let next = sign(Transaction::V0(next), &key(BENCH));
    call(&devnet, "broadcast_tx_async", json!([base64(&overtaken)])).await;
    let landed = call(&devnet, "send_tx", json!({"signed_tx_base64": base64(&next), "wait_until": "FINAL"})).await;
    assert!(landed["status"]["SuccessValue"].is_string(), "{landed}");

    let id = json!({"tx_hash": overtaken.get_hash(), "sender_account_id": BENCH, "wait_until": "FINAL"});
    let failed = call(&devnet, "EXPERIMENTAL_tx_status", id).await;
    let error = json!({"Failure": {"InvalidTxError": {"InvalidNonce": {"tx_nonce": 5, "ak_nonce": 6}}}});
    assert_eq!((&failed["status"], &failed["receipts_outcome"], &failed["receipts"]), (&error, &json!([]), &json!([])));
    let own = &failed["transaction_outcome"];
    assert_eq!(own["id"], json!(overtaken.get_hash()));
    let metadata = json!({"version": 1, "gas_profile": null});
    assert_eq!(
        own["outcome"],
        json!({"logs": [], "receipt_ids": [], "gas_burnt": 0, "tokens_burnt": "0", "executor_id": BENCH, "status": error,
            "metadata": metadata})
    );

    // It is in its block's chunk, and moved no key.
    let hash: CryptoHash = own["block_hash"].as_str().unwrap().parse().unwrap();
    let chunk = call(&devnet, "chunk", json!([[hash, 0]])).await;
    let is_in = chunk["transactions"].as_array().unwrap().iter().any(|tx| tx["hash"] == json!(overtaken.get_hash()));
    assert!(is_in, "{chunk}");
    let keys = json!({"block_id": hash, "changes_type": "all_access_key_changes", "account_ids": [BENCH]});
    let changes = call(&devnet, "EXPERIMENTAL_changes", keys).await;
    let causes: Vec<_> =
        changes["changes"].as_array().unwrap().iter().map(|change| &change["cause"]["tx_hash"]).collect();
    assert!(!causes.contains(&&json!(overtaken.get_hash())), "{changes}");

    // Sent again it is refused at admission, and the outcome that is there answers.
    let send = json!({"signed_tx_base64": base64(&overtaken), "wait_until": "FINAL"});
    assert_eq!(answer(&devnet, "send_tx", send).await["result"]["status"], error);
}
