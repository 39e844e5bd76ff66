//! Every way in which an attempt is proven dead, from what the chain does to what the store keeps of it.

use crate::world::{Fault, Make, World};
use nearbench_core::outcome::FailureKind;
use nearbench_near::provision::remove_keys;
use serde_json::json;
use std::time::Duration;

/// Longer than any of these runs takes; a run that needs it fails by its counts.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test(flavor = "multi_thread")]
async fn what_was_dropped_and_overtaken_is_proven_dead_and_signed_anew() {
    let world = World::new(1, 1_000_000).await;
    world.fail_chain(&json!([{"fault": "drop", "every": 2, "count": 3}]));
    let outcome = world.run(world.transfers(100, |_| None), 5, PATIENCE, true).await;
    assert_eq!((outcome.counts.succeeded, outcome.counts.ended()), (100, 100), "{:?}", outcome.counts);
    assert!(outcome.drained.complete && outcome.audit.unwrap().matches);
    assert_eq!(outcome.chain_faults, [3]);
    // Nothing else can have become of what was forgotten while later nonces landed.
    let dead = &outcome.deeds.dead;
    assert!(dead.get("overtaken").is_some_and(|times| *times >= 1), "{dead:?}");
    assert!(dead.keys().all(|certificate| ["overtaken", "absent"].contains(certificate)), "{dead:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_expired_before_it_was_included_is_proven_dead_and_signed_anew() {
    let world = World::made(Make { lanes: 1, validity_period: 15, ..Make::default() }).await;
    // The one attempt reaches the pool when it is too late, and nothing comes after it that could overtake it.
    world.fail_chain(&json!([{"fault": "drop", "count": 12}]));
    let outcome = world.run(world.transfers(4, |_| None), 4, PATIENCE, true).await;
    assert_eq!((outcome.counts.succeeded, outcome.counts.ended()), (4, 4), "{:?}", outcome.counts);
    assert!(outcome.drained.complete && outcome.audit.unwrap().matches);
    let dead = &outcome.deeds.dead;
    assert!(dead.get("expired").is_some_and(|times| *times >= 1), "{dead:?} {:?}", outcome.deeds);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_that_is_taken_away_stops_its_lane_and_loses_nothing() {
    let world = World::new(2, 1_000_000).await;
    // What one key signs never gets there, until the key is gone: then nothing of it can.
    let gone = world.lanes[0].public_key().to_owned();
    world.fail_chain(&json!([{"fault": "drop", "count": 6}]));
    let removal = async {
        while world.hits() != [6] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        remove_keys(&world.client, &world.master, &[gone], &|_| {}).await
    };
    let run = world.run(world.transfers(300, |_| None), 5, PATIENCE, true);
    let (outcome, removed) = tokio::join!(run, removal);
    removed.unwrap();
    let audit = outcome.audit.unwrap();
    assert_eq!((outcome.counts.succeeded, outcome.counts.ended()), (300, 300), "{:?}", outcome.counts);
    assert!(outcome.drained.complete && audit.matches, "{audit:?}");
    assert_eq!(outcome.drained.fault, None, "the other lane goes on");
    let dead = &outcome.deeds.dead;
    assert!(dead.get("key gone").is_some_and(|times| *times >= 1), "{dead:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_all_taken_away_stop_the_engine_and_what_they_signed_is_proven_dead() {
    let world = World::new(1, 1_000_000).await;
    let gone = [world.lanes[0].public_key().to_owned()];
    world.fail_chain(&json!([{"fault": "drop", "method": "send_tx"}]));
    // Its own transaction is not to be dropped: it waits until the lane's are, and the chain fails no more.
    let removal = async {
        while world.hits() < vec![5] {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        world.devnet.clear_faults();
        remove_keys(&world.client, &world.master, &gone, &|_| {}).await
    };
    let run = world.run(world.transfers(20, |_| None), 2, PATIENCE, true);
    let (outcome, removed) = tokio::join!(run, removal);
    removed.unwrap();
    let (counts, audit) = (outcome.counts, outcome.audit.unwrap());
    assert_eq!((counts.unknown, counts.failed, counts.ended()), (0, 0, 20), "{counts:?}");
    assert!(audit.matches && audit.transfers_found == counts.succeeded, "{audit:?}");
    assert_eq!(outcome.drained.fault, Some(FailureKind::KeyGone), "{:?}", outcome.deeds);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_attempt_that_nothing_overtakes_is_fenced_off() {
    let world = World::new(1, 1_000_000).await;
    // The endpoint says that it took the one attempt, and forgets it, however often it gets the same bytes.
    world.fail_chain(&json!([{"fault": "drop", "count": 30}]));
    let outcome = world.run(world.transfers(5, |_| None), 5, PATIENCE, true).await;
    assert_eq!((outcome.counts.succeeded, outcome.counts.ended()), (5, 5), "{:?}", outcome.counts);
    assert!(outcome.drained.complete && outcome.audit.unwrap().matches);
    assert!(outcome.deeds.resent > 0, "the same bytes first: {:?}", outcome.deeds);
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_that_are_refused_for_good_are_fenced_off_and_signed_anew() {
    let world = World::new(1, 1_000_000).await;
    let mut refused = 0;
    world.fail(move |method| {
        if method != "send_tx" || refused == 6 {
            return Fault::None;
        }
        refused += 1;
        Fault::Refused
    });
    let outcome = world.run(world.transfers(5, |_| None), 5, PATIENCE, true).await;
    assert_eq!((outcome.counts.succeeded, outcome.counts.ended()), (5, 5), "{:?}", outcome.counts);
    assert!(outcome.drained.complete && outcome.audit.unwrap().matches);
    let deeds = &outcome.deeds;
    assert!(deeds.errors.contains_key("malformed"), "{deeds:?}");
    // Where the same bytes are taken after all, the fence finds nothing to kill.
    assert!(deeds.fences > 0, "{deeds:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_collected_everywhere_is_left_to_a_person_and_never_signed_anew() {
    let make =
        Make { lanes: 1, validity_period: 40, collected_epochs: Some(20), knows_archive: false, ..Make::default() };
    let world = World::made(make).await;
    let (chain, began) = (world.devnet.clone(), world.devnet.height());
    // All of it lands; by the time that anybody looks, nobody who is asked knows.
    world.fail(move |method| match method {
        "tx" | "send_tx" => Fault::Unknown,
        "query" if chain.height() < began + 90 => Fault::Lost,
        _ => Fault::None,
    });
    let outcome = world.run(world.transfers(12, |_| None), 3, Duration::from_secs(25), true).await;
    let (counts, audit) = (outcome.counts, outcome.audit.unwrap());
    assert_eq!((counts.unknown, counts.succeeded, counts.ended()), (12, 0, 12), "{counts:?}");
    assert_eq!((outcome.drained.complete, outcome.drained.unknown), (false, 12));
    assert!(outcome.deeds.dead.is_empty(), "{:?}", outcome.deeds);
    // The archive, which only the audit asks, tells that each moved, and once.
    assert_eq!((audit.transfers_found, audit.doubled, audit.contradicted), (12, 0, 0), "{audit:?}");
}
