//! What each durability survives. Every failover stalls replication first: where nothing could be lost, nothing is shown.

use super::{At, Server, fresh};
use crate::conformance::{TTL, key, lease, numbers, transfer, whole};
use nearbench_core::Transfer;
use nearbench_store::{
    Durability, RECOVERY_TTL, Recall, Recovery, RedisError, RedisOptions, RedisStore, RedisUrl, Store, StoreError,
};
use nearbench_testing::redis::{eventually, free_port};
use std::time::Duration;

const SHORT: Duration = Duration::from_millis(1500);

fn some(range: std::ops::Range<u64>) -> Vec<Transfer> {
    range.map(transfer).collect()
}

/// A primary with a replica, and a store that knows both.
async fn pair(durability: Durability) -> (Server, Server, RedisStore) {
    let primary = Server::start(&[]);
    let replica = primary.replica(&[]);
    let url = RedisUrl::parse(&format!("redis://127.0.0.1:{},127.0.0.1:{}", primary.port, replica.port)).unwrap();
    let store = RedisStore::create(&url, RedisOptions::new(fresh()).durability(durability)).await.unwrap();
    assert_eq!(store.push(some(0..5), 1000).await, Ok(5));
    eventually("the replica has it all", || primary.info("master_repl_offset") == replica.info("slave_repl_offset"));
    (primary, replica, store)
}

/// Nothing is taken or given out.
async fn is_restored(store: &RedisStore) {
    assert!(matches!(store.push(some(50..51), 1000).await, Err(StoreError::Restored { .. })));
    let claimed = store.claim(&key(0), lease(0), &whole(5), 5).await;
    assert!(matches!(claimed, Err(StoreError::Restored { .. })), "{claimed:?}");
    assert_eq!(store.is_restored().await, Ok(true));
}

async fn recover(store: &RedisStore) {
    assert_eq!(store.recover(lease(9), RECOVERY_TTL).await, Ok(Recovery::Ours));
    store.recovered(lease(9)).await.unwrap();
    assert_eq!(store.is_restored().await, Ok(false));
}

#[tokio::test]
async fn what_is_local_is_lost_in_a_failover_and_the_loss_is_seen() {
    let (mut primary, replica, store) = pair(Durability::Local).await;
    replica.ask(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(store.push(some(5..9), 1000).await, Ok(4));
    primary.kill();
    is_restored(&store).await;
    assert_eq!(numbers(&store.unsettled().await.unwrap()), [0, 1, 2, 3, 4], "the acknowledged 5 to 8 were lost");
    recover(&store).await;
    assert_eq!(store.push(some(5..9), 1000).await, Ok(4));
    assert_eq!(numbers(&store.unsettled().await.unwrap()), (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_a_stalled_replica_lacks_is_not_confirmed_and_goes_on_when_it_has_it() {
    let (mut primary, replica, store) = pair(Durability::Replicated).await;
    assert_eq!(store.replicas(), 1);
    replica.signal("-STOP");
    let error = store.with_patience(SHORT).push(some(5..7), 1000).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    assert!(error.to_string().contains("replicas"), "{error}");
    // Leases do not wait for replicas.
    let brief = store.with_patience(SHORT);
    let depth = brief.depth().await.unwrap();
    assert_eq!(depth.queued, 7, "the primary has what it did not confirm");
    let waiting = tokio::spawn({
        let store = store.clone();
        async move { store.push(some(7..9), 1000).await }
    });
    tokio::time::sleep(SHORT).await;
    assert!(!waiting.is_finished());
    replica.signal("-CONT");
    assert_eq!(waiting.await.unwrap(), Ok(2));
    // What was confirmed survives.
    primary.kill();
    replica.ask(&["REPLICAOF", "NO", "ONE"]);
    is_restored(&store).await;
    assert_eq!(numbers(&store.unsettled().await.unwrap()), (0..9).collect::<Vec<_>>());
}

#[tokio::test]
async fn what_is_not_replicated_is_lost_and_was_not_confirmed() {
    let (mut primary, replica, store) = pair(Durability::Replicated).await;
    replica.ask(&["REPLICAOF", "NO", "ONE"]);
    let error = store.with_patience(SHORT).push(some(5..9), 1000).await.unwrap_err();
    assert!(matches!(error, StoreError::Unreachable { .. }), "{error}");
    primary.kill();
    eventually("it is at the other", || replica.info("role") == "master");
    let store = RedisStore::open(
        &RedisUrl::parse(&format!("redis://127.0.0.1:{}", replica.port)).unwrap(),
        RedisOptions::new(store.name().rsplit(' ').next().unwrap()),
    )
    .await
    .unwrap();
    is_restored(&store).await;
    assert_eq!(numbers(&store.unsettled().await.unwrap()), [0, 1, 2, 3, 4]);
    recover(&store).await;
    assert_eq!(store.replicas(), 0, "counted anew");
}

#[tokio::test]
async fn a_primary_that_comes_back_with_another_history_is_seen_by_who_never_saw_the_first() {
    let (primary, replica, store) = pair(Durability::Local).await;
    let run = store.name().rsplit(' ').next().unwrap().to_owned();
    replica.ask(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(store.push(some(5..9), 1000).await, Ok(4));
    drop(store);
    // Demoted and promoted again: the same process, without what only it had.
    primary.ask(&["REPLICAOF", "127.0.0.1", &replica.port.to_string()]);
    eventually("it follows", || primary.info("master_link_status") == "up");
    primary.ask(&["REPLICAOF", "NO", "ONE"]);
    let store = RedisStore::open(&primary.url(), RedisOptions::new(run)).await.unwrap();
    is_restored(&store).await;
    assert_eq!(store.depth().await.unwrap().queued, 5);
}

#[tokio::test]
async fn a_snapshot_loses_what_came_after_it() {
    let mut server = Server::start(&[]);
    let store = RedisStore::create(&server.url(), RedisOptions::new(fresh())).await.unwrap();
    store.push(some(0..5), 1000).await.unwrap();
    server.ask(&["SAVE"]);
    store.push(some(5..9), 1000).await.unwrap();
    server.kill();
    server.restart();
    is_restored(&store).await;
    assert_eq!(store.depth().await.unwrap().queued, 5, "the acknowledged 5 to 8 were lost");
}

#[tokio::test]
async fn an_append_only_file_loses_nothing_to_the_death_of_the_process() {
    for fsync in ["everysec", "always"] {
        let mut server = Server::start(&["--appendonly", "yes", "--appendfsync", fsync]);
        let store = RedisStore::create(&server.url(), RedisOptions::new(fresh())).await.unwrap();
        store.push(some(0..500), 1000).await.unwrap();
        if fsync == "everysec" {
            // It is written before it is confirmed, unless an fsync is under way; then up to two seconds are at risk.
            eventually("it is written", || server.info("aof_buffer_length") == "0");
        }
        server.kill();
        server.restart();
        is_restored(&store).await;
        assert_eq!(store.depth().await.unwrap().queued, 500);
        recover(&store).await;
        store.acquire(&key(0), lease(0), TTL).await.unwrap();
        assert!(store.claim(&key(0), lease(0), &whole(5), 5).await.unwrap().is_some());
    }
}

#[tokio::test]
async fn a_copy_that_is_put_back_under_a_running_server_is_seen_by_the_sequence() {
    let server = Server::start(&["--enable-debug-command", "yes"]);
    let options = RedisOptions::new(fresh());
    let store = RedisStore::create(&server.url(), options.clone()).await.unwrap();
    let other = RedisStore::open(&server.url(), options).await.unwrap();
    store.push(some(0..5), 1000).await.unwrap();
    server.ask(&["SAVE"]);
    let before = (server.info("run_id"), server.info("master_replid"));
    store.push(some(5..9), 1000).await.unwrap();
    server.ask(&["DEBUG", "RELOAD", "NOSAVE"]);
    assert_eq!((server.info("run_id"), server.info("master_replid")), before, "nothing else tells");
    // It is done before the gap is seen, as it would be a moment earlier; nothing is signed.
    assert_eq!(store.push(some(9..10), 1000).await, Ok(1));
    is_restored(&other).await;
    is_restored(&store).await;
    assert_eq!(other.depth().await.unwrap().queued, 6, "the acknowledged 5 to 8 were lost");
    recover(&other).await;
    assert_eq!(store.push(some(5..9), 1000).await, Ok(4));
}

#[tokio::test]
async fn keys_that_somebody_removed_are_seen() {
    let server = Server::start(&[]);
    let store = RedisStore::create(&server.url(), RedisOptions::new(fresh())).await.unwrap();
    store.push(some(0..5), 1000).await.unwrap();
    server.ask(&["FLUSHALL"]);
    assert!(matches!(store.push(some(5..9), 1000).await, Err(StoreError::Restored { .. })));
}

#[tokio::test]
async fn fsync_needs_a_server_that_can() {
    let server = Server::start(&[]);
    let options = RedisOptions::new(fresh()).durability(Durability::Fsync);
    match RedisStore::create(&server.url(), options).await {
        Ok(store) => assert_eq!(store.push(some(0..2), 10).await, Ok(2)),
        Err(error) => assert!(matches!(error, RedisError::TooOld { needed: "7.2", .. }), "{error}"),
    }
}

#[tokio::test]
async fn a_replica_that_may_not_lead_is_not_waited_for() {
    let primary = Server::start(&[]);
    let _replica = primary.replica(&["--replica-priority", "0"]);
    let store = RedisStore::create(&primary.url(), RedisOptions::new(fresh())).await.unwrap();
    assert_eq!(store.replicas(), 0);
}

#[tokio::test]
async fn sentinels_lead_to_the_new_primary() {
    let mut primary = Server::start(&[]);
    let replica = primary.replica(&[]);
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("sentinel.conf");
    let text = format!(
        "sentinel monitor theirs 127.0.0.1 {} 1\nsentinel down-after-milliseconds theirs 300\n\
         sentinel failover-timeout theirs 3000\n",
        primary.port
    );
    std::fs::write(&conf, text).unwrap();
    let sentinel = Server::start_sentinel(folder, &conf);
    eventually("it knows the replica", || {
        format!("{:?}", sentinel.ask(&["SENTINEL", "REPLICAS", "theirs"])).contains(&replica.port.to_string())
    });
    // One of them does not answer.
    let url = format!("redis+sentinel://127.0.0.1:{},127.0.0.1:{}/theirs", free_port(), sentinel.port);
    let url = RedisUrl::parse(&url).unwrap();
    let store = RedisStore::create(&url, RedisOptions::new(fresh())).await.unwrap();
    assert_eq!(store.push(some(0..5), 1000).await, Ok(5));
    primary.kill();
    is_restored(&store).await;
    assert_eq!(store.depth().await.unwrap().queued, 5);
    assert_eq!(replica.info("role"), "master");
    let unknown = RedisUrl::parse(&format!("redis+sentinel://127.0.0.1:{}/other", sentinel.port)).unwrap();
    let error = RedisStore::create(&unknown, RedisOptions::new(fresh())).await.err().unwrap();
    assert!(error.to_string().contains("other"), "{error}");
}
