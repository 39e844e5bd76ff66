//! A Redis that comes back with an older state than it had confirmed: what it forgot was paid, and is not paid again.

use crate::{
    hand::{Hand, PATIENCE, examine, until},
    world::World,
};
use nearbench_core::Transfer;
use nearbench_store::{Durability, Recall, RedisOptions, RedisStore, RedisUrl, ResultRow, Store, StoreError};
use nearbench_testing::redis::RedisServer;
use nearbench_worker::{
    Finality,
    recover::{Ground, Recovered, recover},
};
use std::{fs, sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

async fn store(server: &RedisServer) -> Arc<RedisStore> {
    let url = RedisUrl::parse(&server.address()).unwrap();
    let options = RedisOptions::new("rollback").durability(Durability::Local);
    match RedisStore::create(&url, options.clone()).await {
        Ok(store) => Arc::new(store),
        Err(_) => Arc::new(RedisStore::open(&url, options).await.unwrap()),
    }
}

async fn recovered(world: &World, store: &RedisStore) -> Option<Recovered> {
    let stop = CancellationToken::new();
    let finality = Finality::follow(world.client.clone(), stop.clone()).await.unwrap();
    let start = Instant::now();
    let ground = Ground {
        client: &world.client,
        finality: &finality,
        token: world.token(),
        lanes: &world.lanes,
        from: world.opened(),
        now_ns: &|| start.elapsed().as_nanos() as u64,
    };
    let recovered = recover(store, &ground).await.unwrap();
    stop.cancel();
    recovered
}

/// How many transfers the store's results say came to their end.
async fn ended(store: &RedisStore) -> usize {
    let mut ended = 0;
    store
        .results(&mut |row| {
            if let ResultRow::Settled { transfers, .. } = row {
                ended += transfers.len()
            }
        })
        .await
        .unwrap();
    ended
}

/// Lets a worker carry `first`, keeps a copy of what Redis knows in the midst of it, lets it carry `then` too, and puts the
/// copy in place of what Redis knew in the end.
async fn rolled_back(world: &World, server: &mut RedisServer, first: &[Transfer], then: &[Transfer]) {
    let before = store(server).await;
    let mut hand = Hand::hire(world, &before).await;
    before.push(first.to_vec(), u64::MAX).await.unwrap();
    let began = Instant::now();
    while before.depth().await.unwrap().open == 0 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    server.ask(&["SAVE"]);
    let dump = server.folder().join("dump.rdb");
    let copy = fs::read(&dump).unwrap();
    before.push(then.to_vec(), u64::MAX).await.unwrap();
    let began = Instant::now();
    while before.depth().await.unwrap().unsettled() > 0 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(ended(&before).await, first.len() + then.len());
    hand.dies();
    drop(before);
    server.kill();
    fs::write(&dump, copy).unwrap();
    server.restart();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restored_store_forgot_is_found_on_chain_and_not_paid_again() {
    let world = World::new(3, 1_000_000).await;
    let mut server = RedisServer::start(&[]);
    let transfers = world.transfers(120, |_| None);
    let (first, then) = transfers.split_at(80);
    rolled_back(&world, &mut server, first, then).await;

    let store = store(&server).await;
    let lost = transfers.len() - ended(&store).await;
    assert!(lost > then.len(), "the copy was made before most had ended: {lost}");
    // Nobody goes on with it as it is.
    let error = store.push(then.to_vec(), u64::MAX).await.unwrap_err();
    assert!(matches!(error, StoreError::Restored { .. }), "{error}");
    let mut hand = Hand::hire(&world, &store).await;
    let found = recovered(&world, &store).await.unwrap();
    assert!(found.transactions > 0 && found.transfers > then.len() as u64, "{found:?}");
    assert_eq!(recovered(&world, &store).await, None, "there is nothing left to do");

    // The client has no answer that it trusts, and sends again what was lost with its push.
    store.push(then.to_vec(), u64::MAX).await.unwrap();
    until("one holds all", || hand.lanes() == 3).await;
    examine(&world, &*store, &transfers).await;
    hand.leaves();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_its_way_when_the_store_was_restored_lands_once_or_never() {
    let world = World::new(3, 1_000_000).await;
    let mut server = RedisServer::start(&[]);
    let transfers = world.transfers(60, |_| None);
    let before = store(&server).await;
    server.ask(&["SAVE"]);
    let empty = fs::read(server.folder().join("dump.rdb")).unwrap();
    before.push(transfers.clone(), u64::MAX).await.unwrap();
    let mut hand = Hand::hire(&world, &before).await;
    let began = Instant::now();
    while before.depth().await.unwrap().open < 12 {
        assert!(began.elapsed() < PATIENCE);
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Some are signed and sent, none is final, and Redis forgets everything.
    server.kill();
    fs::write(server.folder().join("dump.rdb"), empty).unwrap();
    hand.dies();
    drop(before);
    server.restart();

    let store = store(&server).await;
    let found = recovered(&world, &store).await.unwrap();
    store.push(transfers.clone(), u64::MAX).await.unwrap();
    let queued = store.depth().await.unwrap().queued;
    assert_eq!(queued + found.transfers, transfers.len() as u64, "what landed is not queued again: {found:?}");
    let mut hand = Hand::hire(&world, &store).await;
    examine(&world, &*store, &transfers).await;
    hand.leaves();
}
