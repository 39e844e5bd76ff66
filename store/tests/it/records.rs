//! What records promise beside their steps: their windows, their transactions, their budgets, and what stays in memory.

use crate::{
    conformance::{TTL, attempt, key, lease, settled, transfer, whole},
    disk::{Disk, Keep},
};
use nearbench_core::{
    Amount, Hash, TransferState,
    settle::{Fate, Settlement},
};
use nearbench_store::{
    Accepted, AttemptId, Budget, Changed, Digest, FileStore, Filter, MemoryStore, Records, Store, Submission, Windows,
};
use std::{sync::Arc, time::Duration};

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) fn submission(n: u64) -> Submission {
    Submission { transfer: transfer(n), digest: Digest([1; 16]), budget: None }
}

fn file() -> FileStore {
    FileStore::create_on(Disk::default(), "run.store").unwrap()
}

/// One attempt with all that is queued.
pub(crate) async fn signed(store: &impl Store, nonce: u64) -> AttemptId {
    store.acquire(&key(0), lease(0), TTL).await.unwrap();
    let claim = store.claim(&key(0), lease(0), &whole(1000), 1000).await.unwrap().unwrap();
    store.commit(&key(0), lease(0), Some(claim.id), attempt(nonce)).await.unwrap()
}

pub(crate) async fn transactions_are_found(store: &impl Records) {
    store.push(vec![transfer(0)], 10).await.unwrap();
    store.accept(vec![submission(1), submission(2)], 10).await.unwrap();
    let ids: Vec<_> = (0..3).map(|n| transfer(n).id).collect();
    let id = signed(store, 1).await;
    assert_eq!(store.transaction(attempt(1).hash).await.unwrap(), ids);
    store.settle(id, &settled(Settlement::All(Fate::Finalized))).await.unwrap();
    assert_eq!(store.transaction(attempt(1).hash).await.unwrap(), ids);
    assert_eq!(store.transaction(attempt(2).hash).await.unwrap(), []);
    store.push(vec![transfer(3)], 10).await.unwrap();
    let id = signed(store, 2).await;
    assert_eq!(store.transaction(attempt(2).hash).await.unwrap(), [], "it carries none with a record");
    store.settle(id, &settled(Settlement::All(Fate::Finalized))).await.unwrap();
    assert_eq!(store.transaction(attempt(2).hash).await.unwrap(), []);
    assert_eq!(store.find(&ids).await.unwrap().iter().flatten().count(), 2);
}

#[tokio::test]
async fn transactions_are_found_in_every_store() {
    transactions_are_found(&MemoryStore::default()).await;
    transactions_are_found(&file()).await;
}

/// Details go first, the rest later; what is not in a final state stays whatever its age, and goes with its end.
pub(crate) async fn windows_end(store: &impl Records, advance: impl AsyncFn(Duration)) {
    let ids: Vec<_> = (0..3).map(|n| transfer(n).id).collect();
    let new = |answer: &Accepted| matches!(answer, Accepted::New { .. });
    assert!(store.accept(vec![submission(0)], 10).await.unwrap().iter().all(new));
    let id = signed(store, 1).await;
    store.settle(id, &settled(Settlement::Poisoned { index: 0 })).await.unwrap();
    assert!(store.accept(vec![submission(1)], 10).await.unwrap().iter().all(new));

    advance(HOUR * 2).await;
    // Windows end as others come.
    store.accept(vec![submission(10)], 10).await.unwrap();
    let found = store.find(&ids).await.unwrap();
    assert!(found[0].as_ref().unwrap().details.is_none(), "{found:?}");
    assert!(found[1].as_ref().unwrap().details.is_some(), "it is queued");
    assert_eq!(store.transaction(attempt(1).hash).await.unwrap(), []);
    assert!(matches!(store.retry(ids[0], 0).await.unwrap(), Changed::Refused(_)), "nobody knows what it was");
    let replayed = store.accept(vec![submission(0)], 10).await.unwrap();
    assert!(matches!(&replayed[..], [Accepted::Replayed(record)] if record.state == TransferState::Failed));
    let page = store.list(&Filter::default(), None, 10).await.unwrap();
    assert!(page.records.iter().all(|record| record.details.is_some()));

    advance(HOUR * 9).await;
    store.accept(vec![submission(11)], 10).await.unwrap();
    let found = store.find(&ids).await.unwrap();
    assert_eq!(found[0], None);
    assert!(found[1].is_some(), "it is queued");
    let Changed::Done(record) = store.cancel(ids[1]).await.unwrap() else { panic!("it was queued") };
    assert_eq!(record.state, TransferState::Cancelled);
    assert_eq!(store.find(&ids).await.unwrap()[1], None, "its windows are over");
    assert!(store.accept(vec![submission(0), submission(1)], 10).await.unwrap().iter().all(new));
    let page = store.list(&Filter { state: Some(TransferState::Queued), ..Filter::default() }, None, 10).await.unwrap();
    let listed: Vec<_> = page.records.iter().map(|record| record.id).collect();
    assert_eq!(listed, [1, 0, 11].map(|n| transfer(n).id), "each at its last place");
}

pub(crate) const WINDOWS: Windows =
    Windows { idempotency: Duration::from_secs(10 * 3600), details: Duration::from_secs(3600) };

#[tokio::test(start_paused = true)]
async fn windows_end_in_every_store() {
    windows_end(&MemoryStore::default().keeping(WINDOWS), tokio::time::advance).await;
    windows_end(&file().keeping(WINDOWS), tokio::time::advance).await;
}

/// What came in and ended in the last minute, those without a record too, and how long it took those with one.
pub(crate) async fn the_last_minute_is_told(store: &impl Records, advance: impl AsyncFn(Duration)) {
    let second = Duration::from_secs(1);
    store.push(vec![transfer(0)], 10).await.unwrap();
    store.accept(vec![submission(1), submission(2), submission(1)], 10).await.unwrap();
    advance(second * 3).await;
    let id = signed(store, 1).await;
    store.settle(id, &settled(Settlement::All(Fate::Finalized))).await.unwrap();
    advance(second * 2).await;
    store.accept(vec![submission(3), submission(4)], 10).await.unwrap();
    let id = signed(store, 2).await;
    store.settle(id, &settled(Settlement::Poisoned { index: 1 })).await.unwrap();
    advance(second).await;
    let recent = store.census().await.unwrap().recent;
    assert_eq!((recent.accepted, recent.finalized, recent.failed), (5, 3, 1));
    let median = recent.latency_ms(50.0).unwrap();
    assert!((3000..3400).contains(&median), "{median}");
    advance(second * 58).await;
    let recent = store.census().await.unwrap().recent;
    assert_eq!((recent.accepted, recent.finalized, recent.failed), (2, 0, 1));
    advance(second * 60).await;
    store.push(vec![transfer(9)], 10).await.unwrap();
    let recent = store.census().await.unwrap().recent;
    assert_eq!((recent.accepted, recent.finalized, recent.failed), (0, 0, 0));
    assert_eq!(recent.latency_ms(50.0), None);
}

pub(crate) async fn budgets_are_kept(store: &impl Records) {
    let client: Arc<str> = "shop".into();
    let asked = |n: u64, amount: u128| {
        let mut submission = submission(n);
        submission.transfer.amount = Amount(amount);
        submission.budget = Some(Budget { client: client.clone(), daily_cap: Amount(100) });
        submission
    };
    let answers = store.accept(vec![asked(1, 60), asked(2, 41), asked(3, 40), asked(4, 1)], 10).await.unwrap();
    assert!(matches!(&answers[..], [Accepted::New { .. }, Accepted::OverCap, Accepted::New { .. }, Accepted::OverCap]));
    let replay = store.accept(vec![asked(3, 40)], 10).await.unwrap();
    assert!(matches!(&replay[..], [Accepted::Replayed(_)]), "it is paid for");
    assert_eq!(store.find(&[transfer(2).id]).await.unwrap(), [None], "and may be asked for tomorrow");
    // To the last unit, whatever the numbers.
    let asked = |n: u64, amount: u128, daily_cap: u128| {
        let mut submission = submission(n);
        submission.transfer.amount = Amount(amount);
        submission.budget = Some(Budget { client: "bank".into(), daily_cap: Amount(daily_cap) });
        submission
    };
    let (half, most) = (u128::MAX / 2, u128::MAX);
    for (n, amount, cap, fits) in [
        (11, half, half - 1, false),
        (12, half, half, true),
        (13, 1, half, false),
        (14, half, most, true),
        (15, 2, most, false),
        (16, 1, most, true),
        (17, 1, most, false),
        (18, 0, most, true),
    ] {
        let answers = store.accept(vec![asked(n, amount, cap)], 100).await.unwrap();
        assert_eq!(matches!(answers[..], [Accepted::New { .. }]), fits, "{n}: {answers:?}");
        assert_eq!(matches!(answers[..], [Accepted::OverCap]), !fits, "{n}: {answers:?}");
    }
}

/// Changes of one transfer that is put back again and again, without their times.
pub(crate) async fn events_of_many_attempts(store: &impl Records) -> Vec<(TransferState, Option<Hash>)> {
    store.accept(vec![submission(1)], 10).await.unwrap();
    for nonce in 1..=30 {
        let id = signed(store, nonce).await;
        if nonce % 3 > 0 {
            store.sent(&[id]).await.unwrap();
        }
        let end = if nonce % 5 == 0 { Settlement::Poisoned { index: 0 } } else { Settlement::All(Fate::Requeue) };
        store.settle(id, &settled(end)).await.unwrap();
        if nonce % 5 == 0 {
            assert!(matches!(store.retry(transfer(1).id, 0).await.unwrap(), Changed::Done(_)));
        }
    }
    let found = store.find(&[transfer(1).id]).await.unwrap().remove(0).unwrap();
    assert_eq!(found.attempts, 30);
    found.details.unwrap().events.iter().map(|event| (event.state, event.tx_hash)).collect()
}

#[tokio::test]
async fn the_first_and_the_last_events_are_kept_in_every_store() {
    let events = events_of_many_attempts(&MemoryStore::default()).await;
    assert_eq!(events.len(), 32);
    assert_eq!(events_of_many_attempts(&file()).await, events);
}

#[tokio::test(start_paused = true)]
async fn the_last_minute_is_told_in_every_store() {
    the_last_minute_is_told(&MemoryStore::default(), tokio::time::advance).await;
    the_last_minute_is_told(&file(), tokio::time::advance).await;
}

#[tokio::test]
async fn budgets_are_kept_in_every_store_and_through_a_crash() {
    budgets_are_kept(&MemoryStore::default()).await;
    let disk = Disk::default();
    let store = FileStore::create_on(disk.clone(), "run.store").unwrap();
    budgets_are_kept(&store).await;
    let store = FileStore::open_on(disk.after_crash(Keep::Nothing), "run.store").unwrap();
    let mut submission = submission(9);
    submission.budget = Some(Budget { client: "shop".into(), daily_cap: Amount(100) });
    assert_eq!(store.accept(vec![submission], 10).await.unwrap(), [Accepted::OverCap]);
}

#[tokio::test]
async fn the_census_counts_what_ended_through_a_crash() {
    let disk = Disk::default();
    let store = FileStore::create_on(disk.clone(), "run.store").unwrap();
    store.accept(vec![submission(1), submission(2), submission(3)], 10).await.unwrap();
    store.cancel(transfer(3).id).await.unwrap();
    let id = signed(&store, 1).await;
    store.settle(id, &settled(Settlement::All(Fate::Finalized))).await.unwrap();
    store.accept(vec![submission(4)], 10).await.unwrap();
    for store in [FileStore::open_on(disk.after_crash(Keep::Nothing), "run.store").unwrap(), store] {
        let census = store.census().await.unwrap();
        let counts: Vec<_> = census.counts.iter().map(|(_, count)| count).collect();
        assert_eq!(counts, [1, 0, 0, 2, 0, 1, 0]);
        assert_eq!(census.depth.queued, 1);
        assert!(census.oldest_queued.is_some_and(|at| at <= census.now));
    }
}
