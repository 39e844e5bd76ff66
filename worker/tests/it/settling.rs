//! Every accepted transfer ends in one state, and its tokens move once or not at all.

use crate::world::{Fault, Make, World, dead};
use nearbench_core::outcome::FailureKind;
use nearbench_near::chain::At;
use serde_json::json;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

/// Longer than any of these runs takes; a run that needs it fails by its counts.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn tokens_move_once_through_an_endpoint_that_loses_requests_and_answers() {
    let world = World::new(3, 1_000_000).await;
    let mut n = 0u64;
    world.fail(move |method| {
        n += 1;
        match (method, n % 11) {
            ("send_tx", 1 | 4) => Fault::Lost,
            ("send_tx", 2 | 7) => Fault::AnswerLost,
            ("send_tx", 9) => Fault::Busy,
            ("tx", 3 | 8) => Fault::AnswerLost,
            ("tx" | "block", 5) => Fault::Garbage,
            _ => Fault::None,
        }
    });
    let transfers = world.transfers(200, |_| None);
    let outcome = world.run(transfers, 7, PATIENCE, true).await;
    assert_eq!((outcome.counts.succeeded, outcome.counts.ended()), (200, 200), "{:?}", outcome.counts);
    assert!(outcome.drained.complete && outcome.audit.unwrap().matches);
}

#[tokio::test(flavor = "multi_thread")]
async fn tokens_move_once_where_the_preferred_endpoint_is_dead_and_the_other_has_too_much_to_do() {
    let world = World::behind(vec![dead()], 3, 1_000_000).await;
    let mut n = 0u64;
    world.fail(move |_| {
        n += 1;
        if n.is_multiple_of(9) { Fault::Busy } else { Fault::None }
    });
    let outcome = world.run(world.transfers(120, |_| None), 7, PATIENCE, true).await;
    assert_eq!((outcome.counts.succeeded, outcome.counts.ended()), (120, 120), "{:?}", outcome.counts);
    assert!(outcome.drained.complete && outcome.audit.unwrap().matches);
    let errors = world.client.traffic().errors;
    assert_eq!(errors.keys().collect::<Vec<_>>(), [&"connect", &"http_429"], "{errors:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transfer_that_fails_by_its_own_fault_takes_none_of_its_batch_with_it() {
    let world = World::new(2, 1_000_000).await;
    let own = |n| match n {
        3 | 17 => Some("nobody.near"),
        25 => Some("bench.near"),
        _ => None,
    };
    let outcome = world.run(world.transfers(40, own), 10, PATIENCE, true).await;
    assert_eq!((outcome.counts.succeeded, outcome.counts.failed), (37, 3), "{:?}", outcome.counts);
    let audit = outcome.audit.unwrap();
    assert!(audit.matches, "{audit:?}");
    assert_eq!(audit.transfers_found, 37);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_fault_that_is_everybodys_fails_nobody_and_stops_the_engine() {
    let world = World::new(2, 25).await;
    let outcome = world.run(world.transfers(40, |_| None), 10, PATIENCE, true).await;
    let counts = outcome.counts;
    assert_eq!(outcome.drained.fault, Some(FailureKind::SenderBalance));
    assert_eq!((counts.failed, counts.unknown), (0, 0), "{counts:?}");
    assert_eq!((counts.succeeded % 10, counts.succeeded + counts.cancelled), (0, 40), "{counts:?}");
    assert!(counts.succeeded <= 25 && outcome.audit.unwrap().matches);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_proof_when_time_runs_out_is_unknown_and_never_called_failed() {
    let world = World::new(1, 1_000_000).await;
    // What is sent arrives, and nobody ever hears of it.
    world.fail(|method| match method {
        "send_tx" => Fault::AnswerLost,
        "tx" => Fault::Lost,
        _ => Fault::None,
    });
    let outcome = world.run(world.transfers(12, |_| None), 3, Duration::from_secs(1), false).await;
    let counts = outcome.counts;
    // The one attempt that went out has no proof; what was never signed is withdrawn.
    assert_eq!((counts.unknown, counts.cancelled, counts.ended()), (3, 9, 12), "{counts:?}");
    assert_eq!((outcome.drained.unknown, outcome.drained.cancelled, outcome.drained.complete), (3, 9, false));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_chain_drops_reorders_and_stalls_is_paid_once() {
    let world = World::new(3, 1_000_000).await;
    world.fail_chain(&json!({"seed": 5, "rules": [
        {"fault": "drop", "every": 9},
        {"fault": "holdBack", "blocks": 2, "every": 7},
        {"fault": "shardCongested", "every": 5},
        {"fault": "emptyPool", "every": 9},
        {"fault": "stall", "milliseconds": 120, "every": 10},
        {"fault": "behind", "blocks": 3, "every": 4},
    ]}));
    let outcome = world.run(world.transfers(200, |_| None), 5, PATIENCE, true).await;
    let (counts, audit) = (outcome.counts, outcome.audit.unwrap());
    assert!(outcome.chain_faults.iter().all(|hits| *hits > 0), "{:?}", outcome.chain_faults);
    // What was dropped and then overtaken is proven to be, and signed anew.
    assert_eq!((counts.succeeded, counts.ended()), (200, 200), "{counts:?}");
    assert!(outcome.drained.complete && audit.matches, "{audit:?}");
}

/// Counts the proofs of a receipt's outcome that were asked for.
fn counting_proofs(mut rule: impl FnMut(&str) -> Fault + Send) -> (Arc<AtomicU64>, impl FnMut(&str) -> Fault + Send) {
    let proofs = Arc::new(AtomicU64::new(0));
    let counted = proofs.clone();
    let counting = move |method: &str| {
        counted.fetch_add(u64::from(method == "EXPERIMENTAL_light_client_proof"), Ordering::SeqCst);
        rule(method)
    };
    (proofs, counting)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_tells_by_its_hash_once_it_is_collected_is_told_by_the_tokens_events_at_an_archival_endpoint() {
    let make = Make { lanes: 1, validity_period: 40, collected_epochs: Some(20), ..Make::default() };
    let world = World::made(make).await;
    let (chain, began) = (world.devnet.clone(), world.devnet.height());
    // By the time that anybody looks at its key, the blocks of its life are collected.
    let (proofs, rule) = counting_proofs(move |method| match method {
        "tx" | "send_tx" => Fault::Unknown,
        "query" if chain.height() < began + 90 => Fault::Lost,
        _ => Fault::None,
    });
    world.fail(rule);
    let outcome = world.run(world.transfers(12, |_| None), 3, PATIENCE, true).await;
    let counts = outcome.counts;
    assert_eq!((counts.succeeded, counts.ended()), (12, 12), "{counts:?}");
    assert!(outcome.drained.complete && proofs.load(Ordering::SeqCst) >= 4);
    let collected = world.client.block(At::Height(began)).await.unwrap_err();
    assert!(collected.to_string().contains("UNKNOWN_BLOCK"), "{collected}");
    let audit = outcome.audit.unwrap();
    assert!(audit.matches && audit.transfers_found == 12, "{audit:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_landed_behind_a_failure_of_the_same_bytes_is_found_to_have_succeeded() {
    let mut world = World::new(8, 1_000_000).await;
    // Recorded as invalid, their nonces too large yet; what is sent again lands when they are not. Each in a block of its
    // own: which of the two is shown, the blocks' hashes decide.
    world.ahead = 30;
    let unchecked = |blocks| json!({"fault": "unchecked", "method": "send_tx", "blocks": blocks, "count": 1});
    world.fail_chain(&(0..16).map(unchecked).collect());
    let (proofs, rule) = counting_proofs(|_| Fault::None);
    world.fail(rule);
    let outcome = world.run(world.transfers(32, |_| None), 2, PATIENCE, true).await;
    let (counts, audit) = (outcome.counts, outcome.audit.unwrap());
    assert_eq!(outcome.chain_faults, [1; 16]);
    assert_eq!((counts.succeeded, counts.ended()), (32, 32), "{counts:?}");
    assert!(outcome.drained.complete && audit.matches, "{audit:?}");
    assert!(proofs.load(Ordering::SeqCst) > 0, "each success is hidden with a chance of one half");
}
