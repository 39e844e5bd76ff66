//! Records in a Redis that several workers share: what other stores promise too, and what only this one must.

use super::{At, Server, fresh};
use crate::{
    conformance::{TTL, attempt, key, lease, numbers, settled, transfer, whole},
    records::{
        WINDOWS, budgets_are_kept, events_of_many_attempts, signed, submission, the_last_minute_is_told,
        transactions_are_found, windows_end,
    },
};
use futures_util::future::join_all;
use nearbench_core::{
    Hash, TransferId, TransferState,
    settle::{Executed, Fate, Proof, Settled, Settlement},
};
use nearbench_store::{
    Accepted, Changed, Digest, Filter, Found, MemoryStore, RECOVERY_TTL, Recall, Record, Records, Recovery,
    RedisOptions, RedisStore, Store, StoreError, Windows,
};
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

const HOUR: Duration = Duration::from_secs(3600);

async fn store(server: &Server) -> RedisStore {
    RedisStore::create(&server.url(), RedisOptions::new(fresh())).await.unwrap()
}

fn id(n: u64) -> TransferId {
    transfer(n).id
}

fn is_new(answer: &Accepted) -> bool {
    matches!(answer, Accepted::New { .. })
}

async fn record(store: &RedisStore, n: u64) -> Record {
    store.find(&[id(n)]).await.unwrap().remove(0).unwrap()
}

#[tokio::test]
async fn they_are_as_in_every_store() {
    let server = Server::start(&[]);
    transactions_are_found(&store(&server).await).await;
    budgets_are_kept(&store(&server).await).await;
    let events = events_of_many_attempts(&MemoryStore::default()).await;
    assert_eq!(events_of_many_attempts(&store(&server).await).await, events);
}

#[tokio::test]
async fn their_windows_end_and_so_does_the_last_minute() {
    let server = Server::start(&[]);
    // A day that is over, so that no key expires by the server's own time before the test is.
    let clock = Arc::new(AtomicU64::new(86_400_000_000));
    let options = RedisOptions::new(fresh()).keeping(WINDOWS).clock(clock.clone());
    let store = RedisStore::create(&server.url(), options).await.unwrap();
    let advance = async |time: Duration| _ = clock.fetch_add(time.as_micros() as u64, SeqCst);
    windows_end(&store, advance).await;
    let options = RedisOptions::new(fresh()).clock(clock.clone());
    let store = RedisStore::create(&server.url(), options).await.unwrap();
    the_last_minute_is_told(&store, advance).await;
}

/// Whoever opens the store with other windows, what was accepted is found, for as long as they say.
#[tokio::test]
async fn windows_may_be_set_anew() {
    let server = Server::start(&[]);
    let clock = Arc::new(AtomicU64::new(86_400_000_000));
    let options = RedisOptions::new(fresh()).clock(clock.clone());
    let first = RedisStore::create(&server.url(), options.clone().keeping(WINDOWS)).await.unwrap();
    assert!(first.accept(vec![submission(1)], 10).await.unwrap().iter().all(is_new));
    let attempt = signed(&first, 1).await;
    first.settle(attempt, &settled(Settlement::All(Fate::Finalized))).await.unwrap();
    clock.fetch_add((HOUR * 9).as_micros() as u64, SeqCst);
    let longer = Windows { idempotency: HOUR * 30, details: HOUR * 10 };
    let second = RedisStore::open(&server.url(), options.keeping(longer)).await.unwrap();
    assert_eq!(record(&first, 1).await.state, TransferState::Finalized);
    clock.fetch_add((HOUR * 20).as_micros() as u64, SeqCst);
    assert_eq!(record(&first, 1).await.state, TransferState::Finalized);
    assert!(matches!(&second.accept(vec![submission(1)], 10).await.unwrap()[..], [Accepted::Replayed(_)]));
    clock.fetch_add((HOUR * 2).as_micros() as u64, SeqCst);
    assert_eq!(second.find(&[id(1)]).await.unwrap(), [None]);
}

/// The keys of what is over are gone by themselves, without a step that looks for them.
#[tokio::test]
async fn keys_of_what_is_over_expire() {
    let server = Server::start(&[]);
    let windows = Windows { idempotency: Duration::from_millis(700), details: Duration::from_millis(300) };
    let store = RedisStore::create(&server.url(), RedisOptions::new(fresh()).keeping(windows)).await.unwrap();
    store.accept((0..50).map(submission).collect(), 100).await.unwrap();
    let attempt = signed(&store, 1).await;
    store.settle(attempt, &settled(Settlement::All(Fate::Finalized))).await.unwrap();
    let volatile = || server.info("db0").split(',').any(|field| field.starts_with("expires=") && field != "expires=0");
    assert!(volatile(), "{}", server.info("db0"));
    nearbench_testing::redis::eventually("they are gone", || !volatile());
    assert_eq!(store.census().await.unwrap().counts.of(TransferState::Finalized), 50);
}

#[tokio::test]
async fn of_many_workers_that_accept_the_same_one_takes_it() {
    let server = Server::start(&[]);
    let options = RedisOptions::new(fresh());
    let mut workers = vec![RedisStore::create(&server.url(), options.clone()).await.unwrap()];
    while workers.len() < 4 {
        workers.push(RedisStore::open(&server.url(), options.clone()).await.unwrap());
    }
    // Each says it in several calls at once too.
    let all = workers.iter().flat_map(|worker| (0..3).map(move |_| worker));
    let answers = join_all(all.map(|worker| worker.accept((0..50).map(submission).collect(), 1000))).await;
    for n in 0..50 {
        let of_one: Vec<_> = answers.iter().map(|answers| &answers.as_ref().unwrap()[n]).collect();
        assert_eq!(of_one.iter().filter(|answer| is_new(answer)).count(), 1, "{of_one:?}");
        assert!(of_one.iter().all(|answer| is_new(answer) || matches!(answer, Accepted::Replayed(_))), "{of_one:?}");
    }
    assert_eq!(workers[1].depth().await.unwrap().queued, 50);
    let other = |n| nearbench_store::Submission { digest: Digest([9; 16]), ..submission(n) };
    assert_eq!(workers[2].accept(vec![other(7)], 1000).await.unwrap(), [Accepted::Conflict]);
    assert_eq!(workers[3].accept(vec![submission(50), submission(7)], 50).await.unwrap()[0], Accepted::Full);
    let census = workers[3].census().await.unwrap();
    assert_eq!((census.depth.queued, census.counts.of(TransferState::Queued)), (50, 50));
    assert!(census.oldest_queued.is_some_and(|at| at <= census.now));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_asked_again_after_a_lost_answer_is_told_what_it_would_have_been() {
    let server = Server::start(&[]);
    let store = store(&server).await;
    let asking = tokio::spawn({
        let store = store.clone();
        async move {
            for n in 0..100 {
                let (one, two) = (vec![submission(2 * n)], vec![submission(2 * n + 1)]);
                let (one, two) = tokio::join!(store.accept(one, 1000), store.accept(two, 1000));
                let both = [one.unwrap(), two.unwrap()].concat();
                assert!(both.iter().all(is_new), "{both:?}");
                if n % 3 == 0 {
                    let cancelled = store.cancel(id(2 * n)).await.unwrap();
                    assert!(matches!(cancelled, Changed::Done(_)), "{cancelled:?}");
                }
            }
        }
    });
    while !asking.is_finished() {
        server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    asking.await.unwrap();
    let left: Vec<_> = (0..200).filter(|n| n % 6 > 0).collect();
    assert_eq!(numbers(&store.unsettled().await.unwrap()), left);
    let census = store.census().await.unwrap();
    assert_eq!(census.counts.of(TransferState::Queued), left.len() as u64);
    assert_eq!(census.counts.of(TransferState::Cancelled), 34);
}

fn found(nonce: u64, transfers: &[u64], fate: Fate) -> Found {
    let executed = Executed { receipt: Hash([1; 32]), block: Hash([2; 32]), block_unix_ns: 3, at_ns: 4 };
    let settled =
        Settled { settlement: Settlement::All(fate), proof: Proof::Executed(executed), failure: None, at_ns: 5 };
    let transfers = transfers.iter().map(|n| id(*n)).collect();
    Found { hash: attempt(nonce).hash, nonce, lane: key(0), settled, transfers }
}

#[tokio::test]
async fn what_a_store_forgot_and_the_chain_knows_is_accepted_as_paid() {
    let mut server = Server::start(&[]);
    let store = store(&server).await;
    store.accept((0..6).map(submission).collect(), 100).await.unwrap();
    // 0 and 1 are signed (nonce 1).
    store.acquire(&key(0), lease(0), TTL).await.unwrap();
    let claim = store.claim(&key(0), lease(0), &whole(2), 2).await.unwrap().unwrap();
    let open = store.commit(&key(0), lease(0), Some(claim.id), attempt(1)).await.unwrap();
    server.ask(&["SAVE"]);
    // Lost: nonce 1 died, and 0, 1 and 2 went with nonce 2; 3 failed with nonce 3; 8 and 9 came and went with nonce 4.
    server.kill();
    server.restart();
    for refused in [store.accept(vec![submission(8)], 100).await.err(), store.cancel(id(4)).await.err()] {
        assert!(matches!(refused, Some(StoreError::Restored { .. })), "{refused:?}");
    }
    assert_eq!(record(&store, 4).await.state, TransferState::Queued, "it may be read");

    let healer = lease(8);
    assert_eq!(store.recover(healer, RECOVERY_TTL).await, Ok(Recovery::Ours));
    let all = [
        found(2, &[0, 1, 2], Fate::Finalized),
        found(3, &[3], Fate::Failed),
        found(4, &[8, 9], Fate::Finalized),
        found(1, &[0, 1], Fate::Finalized),
    ];
    // The open one is left to its settlement.
    store.import(healer, &all[..3]).await.unwrap();
    store.recovered(healer).await.unwrap();

    for n in 0..3 {
        let record = record(&store, n).await;
        assert_eq!((record.state, record.tx_hash), (TransferState::Finalized, Some(attempt(2).hash)), "{n}");
        let last = *record.details.unwrap().events.last().unwrap();
        assert_eq!((last.state, last.tx_hash), (TransferState::Finalized, Some(attempt(2).hash)), "{n}");
    }
    assert_eq!(record(&store, 3).await.state, TransferState::Failed);
    let retried = store.retry(id(3), 0).await.unwrap();
    assert!(matches!(retried, Changed::Refused(_)), "what comes back of it would be dropped: {retried:?}");
    store.settle(open, &settled(Settlement::All(Fate::Requeue))).await.unwrap();
    assert_eq!(record(&store, 0).await.state, TransferState::Finalized, "the dead attempt takes nothing back");

    let answers = store.accept(vec![submission(8), submission(2), submission(10)], 100).await.unwrap();
    let [Accepted::Replayed(eighth), Accepted::Replayed(second), Accepted::New { .. }] = &answers[..] else {
        panic!("{answers:?}")
    };
    assert_eq!((eighth.state, eighth.tx_hash), (TransferState::Finalized, Some(attempt(4).hash)));
    assert_eq!(second.state, TransferState::Finalized);
    assert_eq!(record(&store, 8).await, **eighth);
    assert!(matches!(&store.accept(vec![submission(8)], 100).await.unwrap()[..], [Accepted::Replayed(_)]));
    assert_eq!(numbers(&store.unsettled().await.unwrap()), [4, 5, 10]);
    assert_eq!(store.transaction(attempt(2).hash).await.unwrap(), [0, 1, 2].map(id));
    let counts: Vec<_> = store.census().await.unwrap().counts.iter().map(|(_, count)| count).collect();
    assert_eq!(counts, [3, 0, 0, 4, 1, 0, 0]);
}

#[tokio::test]
async fn all_of_them_are_forgotten_with_the_run() {
    let server = Server::start(&[]);
    let neighbour = store(&server).await;
    neighbour.accept((0..10).map(submission).collect(), 100).await.unwrap();
    let keys = server.keys();
    // A name that means something in a pattern.
    let store = RedisStore::create(&server.url(), RedisOptions::new(format!("{}-[*]?", fresh()))).await.unwrap();
    store.accept((0..500).map(submission).collect(), 1000).await.unwrap();
    let id = signed(&store, 1).await;
    store.settle(id, &settled(Settlement::All(Fate::Finalized))).await.unwrap();
    store.accept(vec![submission(600)], 1000).await.unwrap();
    store.forget().await.unwrap();
    assert_eq!(server.keys(), keys);
    assert_eq!(record(&neighbour, 3).await.state, TransferState::Queued);
}

/// Pages go on behind what a step looks at, and whatever filter they have.
#[tokio::test]
async fn pages_hold_what_is_asked_for_however_many_there_are() {
    let server = Server::start(&[]);
    let store = store(&server).await;
    store.accept((0..1500).map(submission).collect(), 10_000).await.unwrap();
    store.cancel(id(3)).await.unwrap();
    let filter = Filter { state: Some(TransferState::Cancelled), ..Filter::default() };
    let (mut before, mut listed, mut pages) = (None, Vec::new(), 0);
    loop {
        let page = store.list(&filter, before, 10).await.unwrap();
        listed.extend(page.records.iter().map(|record| record.id));
        pages += 1;
        before = page.next;
        if before.is_none() {
            break;
        }
    }
    assert_eq!(listed, [id(3)]);
    assert!(pages > 1, "no step is long");
}

/// What a final record takes in its bucket, by the server's own account; it has a transaction.
#[tokio::test]
async fn a_record_that_is_over_takes_at_most_a_hundred_bytes() {
    let server = Server::start(&[]);
    let store = store(&server).await;
    const COUNT: u64 = 20_000;
    for nonce in 0..COUNT / 1000 {
        let one = |_| {
            let mut submission = submission(1);
            submission.transfer.id = TransferId(rand::random());
            submission
        };
        assert!(store.accept((0..1000).map(one).collect(), 10_000).await.unwrap().iter().all(is_new));
        let id = signed(&store, nonce + 1).await;
        store.settle(id, &settled(Settlement::All(Fate::Finalized))).await.unwrap();
    }
    let sum = "local sum, count, cursor = 0, 0, '0' \
               repeat local page = redis.call('SCAN', cursor, 'MATCH', '*}:r:*', 'COUNT', 1000) cursor = page[1] \
               for _, key in ipairs(page[2]) do sum = sum + redis.call('MEMORY', 'USAGE', key, 'SAMPLES', 0) \
               count = count + redis.call('HLEN', key) end until cursor == '0' return {sum, count}";
    let (sum, count): (u64, u64) = redis::from_redis_value(server.ask(&["EVAL", sum, "0"])).unwrap();
    assert_eq!(count, COUNT);
    assert!(sum <= 100 * count, "{} bytes a record", sum as f64 / count as f64);
}
