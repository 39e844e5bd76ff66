//! Bringing back what the chain knows.

use super::{At, Server, fresh};
use crate::conformance::{TTL, attempt, key, lease, numbers, settled, transfer, whole};
use nearbench_core::{
    Hash,
    settle::{Executed, Fate, Proof, Settled, Settlement},
};
use nearbench_store::{
    Found, Imported, RECOVERY_TTL, Recall, Recovery, RedisOptions, RedisStore, ResultRow, Store, StoreError,
};
use std::time::Duration;

fn landed() -> Settled {
    let executed = Executed { receipt: Hash([1; 32]), block: Hash([2; 32]), block_unix_ns: 3, at_ns: 4 };
    Settled { settlement: Settlement::All(Fate::Finalized), proof: Proof::Executed(executed), failure: None, at_ns: 5 }
}

fn found(nonce: u64, numbers: &[u64]) -> Found {
    let transfers = numbers.iter().map(|n| transfer(*n).id).collect();
    Found { hash: attempt(nonce).hash, nonce, lane: key(0), settled: landed(), transfers }
}

#[tokio::test]
async fn what_landed_is_never_sent_again() {
    let mut server = Server::start(&[]);
    let store = RedisStore::create(&server.url(), RedisOptions::new(fresh())).await.unwrap();
    store.push((0..20).map(transfer).collect(), 100).await.unwrap();
    store.acquire(&key(0), lease(0), TTL).await.unwrap();
    let claim = store.claim(&key(0), lease(0), &whole(3), 3).await.unwrap().unwrap();
    let open = store.commit(&key(0), lease(0), Some(claim.id), attempt(1)).await.unwrap();
    server.ask(&["SAVE"]);
    // Lost: 0 to 2 died and were signed anew with 3 (nonce 2); 4 and 5 were signed (nonce 3); 30 came and was signed (4).
    server.kill();
    server.restart();
    store.acquire(&key(0), lease(0), TTL).await.unwrap();
    let stale = store.claim(&key(0), lease(0), &whole(3), 3).await;
    assert!(matches!(stale, Err(StoreError::Restored { .. })), "{stale:?}");

    let (healer, other) = (lease(8), lease(9));
    assert_eq!(store.recover(healer, RECOVERY_TTL).await, Ok(Recovery::Ours));
    assert!(matches!(store.recover(other, RECOVERY_TTL).await, Ok(Recovery::Others(_))));
    let refused = store.import(other, &[found(2, &[0])]).await;
    assert!(matches!(refused, Err(StoreError::LeaseLost(_))), "{refused:?}");
    assert!(matches!(store.recovered(other).await, Err(StoreError::LeaseLost(_))));

    // Another worker holds the lane, and loses it.
    let taken = store.seize(&key(0), healer, TTL, healer).await.unwrap();
    assert_eq!(numbers(&taken.open[0].2), [0, 1, 2]);
    assert!(matches!(store.renew(&key(0), lease(0), TTL).await, Err(StoreError::LeaseLost(_))));
    let lanes = store.lanes().await.unwrap();
    assert_eq!((lanes.len(), &lanes[0].lane, lanes[0].open.len()), (1, &key(0), 1));
    let fence = store.commit(&key(0), healer, None, attempt(9)).await.unwrap();
    store.settle(fence, &settled(Settlement::All(Fate::Finalized))).await.unwrap();

    let all = [found(2, &[0, 1, 2, 3]), found(3, &[4, 5]), found(4, &[30]), found(1, &[0, 1, 2])];
    let expected =
        [Imported::New { known: 4 }, Imported::New { known: 2 }, Imported::New { known: 0 }, Imported::Known];
    assert_eq!(store.import(healer, &all).await.unwrap(), expected);
    assert_eq!(store.import(healer, &all).await.unwrap(), [Imported::Known; 4], "asked again, nothing is done again");
    store.recovered(healer).await.unwrap();
    assert_eq!(store.recover(other, RECOVERY_TTL).await, Ok(Recovery::Whole));

    // The open attempt is dead: what landed otherwise does not come back.
    store.settle(open, &settled(Settlement::All(Fate::Requeue))).await.unwrap();
    // Nor does a client's retry of a transfer whose acceptance was lost.
    assert_eq!(store.push(vec![transfer(30), transfer(31)], 100).await, Ok(2));
    let left: Vec<_> = (6..20).chain([31]).collect();
    assert_eq!(numbers(&store.unsettled().await.unwrap()), left);
    store.acquire(&key(0), healer, TTL).await.unwrap();
    let claim = store.claim(&key(0), healer, &whole(50), 50).await.unwrap().unwrap();
    assert_eq!(numbers(&claim.transfers), left);
    assert_eq!(claim.nonce, 10, "above all that landed, and the fence");

    let mut records = Vec::new();
    store
        .results(&mut |row| {
            if let ResultRow::Settled { settled, transfers, .. } = row
                && settled == landed()
            {
                records.extend(transfers);
            }
        })
        .await
        .unwrap();
    let told: Vec<_> = records.iter().map(|record| (record.sequence, record.sent_ns > 0)).collect();
    // The last is told of by the client that came back with it.
    assert_eq!(told, [(0, false), (1, true), (2, true), (3, true), (4, true), (5, true), (30, true)]);
}

#[tokio::test]
async fn claims_end_with_the_recovery_and_a_failed_healer_is_followed() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = RedisStore::create(&server.url(), RedisOptions::new(fresh())).await.unwrap();
    store.push((0..9).map(transfer).collect(), 100).await.unwrap();
    store.acquire(&key(0), lease(0), TTL).await.unwrap();
    let claim = store.claim(&key(0), lease(0), &whole(3), 3).await.unwrap().unwrap();
    server.kill();
    server.restart();
    let committed = store.commit(&key(0), lease(0), Some(claim.id), attempt(claim.nonce)).await;
    assert!(matches!(committed, Err(StoreError::Restored { .. })), "{committed:?}");
    assert_eq!(store.recover(lease(8), Duration::from_millis(1)).await, Ok(Recovery::Ours));
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(store.recover(lease(9), RECOVERY_TTL).await, Ok(Recovery::Ours), "the first one died");
    store.recovered(lease(9)).await.unwrap();
    let committed = store.commit(&key(0), lease(0), Some(claim.id), attempt(claim.nonce)).await;
    assert_eq!(committed, Err(StoreError::ClaimLost(claim.id)));
    assert_eq!(numbers(&store.unsettled().await.unwrap()), (0..9).collect::<Vec<_>>());
}
