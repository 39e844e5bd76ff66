//! Which endpoint is asked, and what is made of answers that are none.

use crate::fake::{BREAKER, Fake, client, ok};
use bytes::Bytes;
use nearbench_core::Hash;
use nearbench_near::{
    Client, SignedTx,
    chain::{ChainIdError, SendError},
    rpc::Fault,
    transport::TransportError,
};
use std::time::Duration;

const STATUS: &str = r#"{"result":{"chain_id":"devnet","protocol_version":86,"version":{"version":"1","build":"b"},
    "sync_info":{"latest_block_height":7,"syncing":false}}}"#;
const SENT: &str = r#"{"result":{"final_execution_status":"NONE"}}"#;

fn tx() -> SignedTx {
    SignedTx { hash: Hash::default(), bytes: Bytes::from_static(b"bytes") }
}

#[tokio::test(start_paused = true)]
async fn a_read_goes_to_the_next_endpoint_only_when_the_first_is_to_blame() {
    let troubles = [
        Err(TransportError::Broken("reset".to_owned())),
        ok(429, "slow down"),
        ok(503, "<html>"),
        ok(200, "<html>"),
        ok(500, r#"{"error":{"cause":{"name":"INTERNAL_ERROR"},"data":"x"}}"#),
    ];
    for trouble in troubles {
        let (first, second) = (Fake::new(trouble), Fake::new(ok(200, STATUS)));
        assert_eq!(client(&[&first, &second]).status().await.unwrap().head, 7);
        assert_eq!((first.asked().len(), second.asked().len()), (1, 1));
        second.answers(Err(TransportError::Connect("refused".to_owned())));
        assert_eq!(
            &*client(&[&first, &second]).status().await.unwrap_err().endpoint,
            "endpoint-0",
            "the preferred one's error is told"
        );
    }
    let unknown = r#"{"error":{"cause":{"name":"UNKNOWN_BLOCK"},"data":"no such block"}}"#;
    let (first, second) = (Fake::new(ok(422, unknown)), Fake::new(ok(200, STATUS)));
    client(&[&first, &second]).block(nearbench_near::chain::At::Height(3)).await.unwrap_err();
    assert!(second.asked().is_empty());
}

#[tokio::test]
async fn sends_stay_on_one_endpoint_until_it_fails_and_then_stay_on_the_next() {
    let (first, second) = (Fake::new(ok(200, SENT)), Fake::new(ok(200, SENT)));
    let client = client(&[&first, &second]);
    for _ in 0..3 {
        client.send(&tx()).await.unwrap();
    }
    assert_eq!((first.asked().len(), second.asked().len()), (3, 0));
    first.answers(Err(TransportError::Connect("refused".to_owned())));
    assert!(matches!(client.send(&tx()).await, Err(SendError::Unanswered(_))), "one send goes to one endpoint");
    first.answers(ok(200, SENT));
    client.send(&tx()).await.unwrap();
    client.send(&tx()).await.unwrap();
    assert_eq!((first.asked().len(), second.asked().len()), (1, 2));
    let refused = r#"{"error":{"cause":{"name":"INVALID_TRANSACTION"},"data":{"TxExecutionError":{"InvalidTxError":"Expired"}}}}"#;
    second.answers(ok(200, refused));
    assert!(matches!(client.send(&tx()).await, Err(SendError::Refused(_))));
    client.send(&tx()).await.unwrap_err();
    assert_eq!((first.asked().len(), second.asked().len()), (0, 2), "a refusal is not the endpoint's fault");
}

#[tokio::test(start_paused = true)]
async fn sends_wait_for_an_endpoint_that_asks_for_a_moment_and_leave_one_that_asks_for_long() {
    let busy = |seconds| {
        ok(429, "slow down").map(|mut answer| {
            answer.retry_after = Some(Duration::from_secs(seconds));
            answer
        })
    };
    let (first, second) = (Fake::new(busy(2)), Fake::new(ok(200, SENT)));
    let client = client(&[&first, &second]);
    client.send(&tx()).await.unwrap_err();
    first.answers(ok(200, SENT));
    let began = tokio::time::Instant::now();
    client.send(&tx()).await.unwrap();
    assert_eq!((first.asked().len(), second.asked().len()), (2, 0), "they stay");
    assert!(began.elapsed() >= Duration::from_secs(2));
    first.answers(busy(60));
    client.send(&tx()).await.unwrap_err();
    first.answers(ok(200, SENT));
    client.send(&tx()).await.unwrap();
    tokio::time::advance(Duration::from_secs(100)).await;
    client.send(&tx()).await.unwrap();
    assert_eq!((first.asked().len(), second.asked().len()), (1, 2), "they leave, and do not come back by themselves");
    first.answers(Err(TransportError::Connect("refused".to_owned())));
    second.answers(Err(TransportError::Connect("refused".to_owned())));
    for _ in 0..40 {
        client.send(&tx()).await.unwrap_err();
    }
    second.answers(ok(200, SENT));
    assert!(client.send(&tx()).await.is_err(), "both are set aside");
    tokio::time::advance(Duration::from_secs(30)).await;
    // Whichever is tried first, it ends with the one that is well.
    while client.send(&tx()).await.is_err() {}
    second.asked();
    client.send(&tx()).await.unwrap();
    assert_eq!(second.asked().len(), 1);
}

#[tokio::test]
async fn an_endpoint_of_another_chain_is_found_even_behind_a_good_one() {
    let (good, bad) = (Fake::new(ok(200, STATUS)), Fake::new(ok(200, STATUS.replace("devnet", "testnet"))));
    client(&[&good]).check_chain_id("devnet").await.unwrap();
    let error = client(&[&good, &bad]).check_chain_id("devnet").await.unwrap_err();
    assert!(
        matches!(&error, ChainIdError::Other { endpoint, found, .. } if &**endpoint == "endpoint-1" && found == "testnet")
    );
    assert!(error.to_string().contains("testnet") && error.to_string().contains("devnet"));
    bad.answers(ok(503, ""));
    client(&[&good, &bad]).check_chain_id("devnet").await.unwrap();
    good.answers(ok(503, ""));
    assert!(matches!(client(&[&good, &bad]).check_chain_id("devnet").await, Err(ChainIdError::Unanswered(_))));
}

#[tokio::test]
async fn without_endpoints_every_call_says_so() {
    let none = Client::new(Vec::new(), &BREAKER);
    assert_eq!(none.status().await.unwrap_err().fault, Fault::NoEndpoint);
    assert!(none.send(&tx()).await.is_err());
}
