//! What stands in a step's way, each on a real server: the step waits as long as its patience says, and is done once.

use super::{At, Server, fresh};
use crate::conformance::{TTL, attempt, key, lease, numbers, settled, transfer, whole};
use nearbench_core::{
    Transfer,
    settle::{Fate, Settlement},
};
use nearbench_store::{Claim, Recall, RedisOptions, RedisStore, Store, StoreError};
use nearbench_testing::redis::{eventually, free_port};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(300);

async fn store(server: &Server) -> RedisStore {
    RedisStore::create(&server.url(), RedisOptions::new(fresh())).await.unwrap()
}

fn some(range: std::ops::Range<u64>) -> Vec<Transfer> {
    range.map(transfer).collect()
}

async fn claimed(store: &RedisStore) -> Claim {
    store.acquire(&key(0), lease(0), TTL).await.unwrap();
    store.claim(&key(0), lease(0), &whole(5), 5).await.unwrap().unwrap()
}

/// It gives up in time and says what it met; the store says so too.
async fn gives_up(store: &RedisStore, because: &str) {
    let error = store.with_patience(SHORT).push(some(90..91), 1000).await.unwrap_err();
    let StoreError::Unreachable { cause, .. } = &error else { panic!("{error}") };
    assert!(cause.contains(because), "{error}");
    assert!(store.trouble().is_some_and(|trouble| trouble.contains(because)), "{:?}", store.trouble());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_cut_lose_and_double_nothing() {
    let server = Server::start(&[]);
    let store = store(&server).await;
    let pushing = tokio::spawn({
        let store = store.clone();
        async move {
            for n in 0..200 {
                assert_eq!(store.push(some(n..n + 1), 1000).await, Ok(1));
            }
        }
    });
    while !pushing.is_finished() {
        server.ask(&["CLIENT", "KILL", "TYPE", "normal"]);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    pushing.await.unwrap();
    assert_eq!(numbers(&store.unsettled().await.unwrap()), (0..200).collect::<Vec<_>>());
    assert_eq!(store.trouble(), None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_is_carried_out_late_and_again_is_done_once() {
    let server = Server::start(&[]);
    let store = store(&server).await;
    store.push(some(0..5), 1000).await.unwrap();
    let claim = claimed(&store).await;
    server.signal("-STOP");
    let late = tokio::spawn({
        let store = store.clone();
        async move {
            let lane = key(0);
            let committed = store.commit(&lane, lease(0), Some(claim.id), attempt(1));
            let (pushed, committed) = tokio::join!(store.push(some(5..9), 1000), committed);
            assert_eq!(pushed, Ok(4));
            store.settle(committed.unwrap(), &settled(Settlement::All(Fate::Finalized))).await.unwrap();
        }
    });
    // The answer is given up, and the step waits in the server's sockets several times over.
    tokio::time::sleep(Duration::from_millis(4500)).await;
    server.signal("-CONT");
    late.await.unwrap();
    assert_eq!(numbers(&store.unsettled().await.unwrap()), [5, 6, 7, 8]);
    let mut results = 0;
    store.results(&mut |_| results += 1).await.unwrap();
    assert_eq!(results, 1);
}

#[tokio::test]
async fn a_server_that_is_gone_is_given_up_in_time_and_waited_for_without_end() {
    let mut server = Server::start(&["--appendonly", "yes"]);
    let store = store(&server).await;
    store.push(some(0..3), 1000).await.unwrap();
    server.kill();
    gives_up(&store, "127.0.0.1").await;
    let error = store.with_patience(SHORT).depth().await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.depth().await }
    });
    server.restart();
    assert_eq!(waiting.await.unwrap().unwrap().queued, 3);
}

#[tokio::test]
async fn a_server_that_loads_is_waited_for() {
    let mut server = Server::start(&[]);
    let store = store(&server).await;
    store.push(some(0..3), 1000).await.unwrap();
    let fill = "for n = 1, 400 do redis.call('SET', 'other' .. n, string.rep('x', 2000)) end";
    server.ask(&["EVAL", fill, "0"]);
    server.ask(&["SAVE"]);
    server.kill();
    server.restart_into_loading(&["--key-load-delay", "5000", "--loading-process-events-interval-bytes", "1024"]);
    assert_eq!(server.info("loading"), "1");
    let error = store.with_patience(SHORT * 4).depth().await.unwrap_err();
    assert!(error.to_string().contains("loading"), "{error}");
    assert_eq!(store.depth().await.unwrap().queued, 3);
}

#[tokio::test]
async fn a_primary_that_became_a_replica_takes_nothing() {
    let server = Server::start(&[]);
    let store = store(&server).await;
    store.push(some(0..3), 1000).await.unwrap();
    server.ask(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    let error = store.with_patience(SHORT).depth().await.unwrap_err();
    assert!(error.to_string().contains("replica"), "{error}");
    gives_up(&store, "replica").await;
    server.ask(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(store.depth().await.unwrap().queued, 3);
    // It might have lost something meanwhile.
    assert!(matches!(store.push(some(3..4), 1000).await, Err(StoreError::Restored { .. })));
}

#[tokio::test]
async fn a_replica_that_lost_its_primary_is_no_primary() {
    let server = Server::start(&["--replica-serve-stale-data", "no"]);
    let store = store(&server).await;
    server.ask(&["REPLICAOF", "127.0.0.1", &free_port().to_string()]);
    let masterdown = server.try_ask(&["GET", "x"]).unwrap_err();
    assert_eq!(masterdown.code(), Some("MASTERDOWN"));
    let error = store.with_patience(SHORT).depth().await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    server.ask(&["REPLICAOF", "NO", "ONE"]);
    store.depth().await.unwrap();
}

#[tokio::test]
async fn a_primary_that_misses_its_replicas_is_waited_for() {
    let server = Server::start(&[]);
    let store = store(&server).await;
    server.ask(&["CONFIG", "SET", "min-replicas-to-write", "1"]);
    gives_up(&store, "NOREPLICAS").await;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.push(some(0..2), 1000).await }
    });
    tokio::time::sleep(SHORT).await;
    assert!(!waiting.is_finished());
    server.ask(&["CONFIG", "SET", "min-replicas-to-write", "0"]);
    assert_eq!(waiting.await.unwrap(), Ok(2));
    assert_eq!(numbers(&store.unsettled().await.unwrap()), [0, 1], "what was given up is not done later");
}

#[tokio::test]
async fn a_full_server_takes_no_transfers_and_works_off_those_it_has() {
    let server = Server::start(&[]);
    let store = store(&server).await;
    store.push(some(0..5), 1000).await.unwrap();
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]);
    gives_up(&store, "OOM").await;
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.push(some(5..7), 1000).await }
    });
    let claim = claimed(&store).await;
    let id = store.commit(&key(0), lease(0), Some(claim.id), attempt(1)).await.unwrap();
    store.settle(id, &settled(Settlement::All(Fate::Finalized))).await.unwrap();
    assert!(!waiting.is_finished());
    server.ask(&["CONFIG", "SET", "maxmemory", "0"]);
    assert_eq!(waiting.await.unwrap(), Ok(2));
    assert_eq!(numbers(&store.unsettled().await.unwrap()), [5, 6]);
}

#[tokio::test]
async fn functions_that_are_flushed_are_loaded_again() {
    let server = Server::start(&[]);
    let store = store(&server).await;
    store.push(some(0..5), 1000).await.unwrap();
    server.ask(&["FUNCTION", "FLUSH"]);
    let claim = claimed(&store).await;
    server.ask(&["FUNCTION", "FLUSH"]);
    store.commit(&key(0), lease(0), Some(claim.id), attempt(1)).await.unwrap();
    server.ask(&["FUNCTION", "FLUSH"]);
    assert_eq!(store.depth().await.unwrap().open, 5);
}

#[tokio::test]
async fn who_waits_for_work_hears_of_it_from_another_process_also_after_its_connection_was_cut() {
    let server = Server::start(&[]);
    let options = RedisOptions::new(fresh());
    let here = RedisStore::create(&server.url(), options.clone()).await.unwrap();
    let there = RedisStore::open(&server.url(), options).await.unwrap();
    here.acquire(&key(0), lease(0), TTL).await.unwrap();
    for n in 0..3 {
        while here.claim(&key(0), lease(0), &whole(5), 5).await.unwrap().is_some() {}
        let waiting = tokio::spawn({
            let here = here.clone();
            async move { here.wait_for_work().await }
        });
        if n == 1 {
            server.ask(&["CLIENT", "KILL", "TYPE", "pubsub"]);
        }
        there.push(some(n..n + 1), 1000).await.unwrap();
        tokio::time::timeout(Duration::from_secs(20), waiting).await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_lease_that_ran_out_while_the_server_was_gone_is_refused() {
    let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
    let store = store(&server).await;
    store.acquire(&key(0), lease(0), Duration::from_millis(400)).await.unwrap();
    server.kill();
    server.restart();
    eventually("the lease is over", || store_time(&server));
    let renewed = store.renew(&key(0), lease(0), TTL).await;
    assert_eq!(renewed, Err(StoreError::LeaseLost(key(0).public_key)));
}

fn store_time(server: &Server) -> bool {
    std::thread::sleep(Duration::from_millis(450));
    server.try_ask(&["TIME"]).is_ok()
}
