//! How a store is reached, and what it refuses.

use super::{At, Server, fresh};
use crate::conformance::{TTL, key, lease, transfer, whole};
use nearbench_store::{
    Fleet, Order, Recall, RedisError, RedisOptions, RedisStore, RedisUrl, Store, StoreError, WorkerId,
};
use nearbench_testing::redis::{eventually, free_port};
use redis::Value;
use std::time::Duration;

const CA: &[u8] = include_bytes!("tls/ca.crt");
const PASSWORD: &str = "se same/@:1";
const ENCODED: &str = "se%20same%2F%40%3A1";

/// It takes what a run does.
async fn works(url: &RedisUrl) {
    let store = RedisStore::create(url, RedisOptions::new(fresh())).await.unwrap();
    assert_eq!(store.push((0..5).map(transfer).collect(), 100).await, Ok(5));
    store.acquire(&key(0), lease(0), TTL).await.unwrap();
    assert!(store.claim(&key(0), lease(0), &whole(3), 3).await.unwrap().is_some());
    assert_eq!(store.unsettled().await.unwrap().len(), 5);
    store.put_meta(&[("plan", b"{}")]).await.unwrap();
    assert_eq!(store.meta("plan").await.unwrap().as_deref(), Some(&b"{}"[..]));
    assert_eq!(store.meta("other").await, Ok(None));
    store.forget().await.unwrap();
}

async fn refusal(url: &RedisUrl) -> RedisError {
    RedisStore::create(url, RedisOptions::new(fresh())).await.err().expect("it is refused")
}

#[tokio::test]
async fn a_user_with_few_rights_is_enough() {
    let mut server = Server::start(&[]);
    let password = format!(">{PASSWORD}");
    let rights = "~{nearbench:* &{nearbench:* +@read +@write +@connection +@scripting +@pubsub +info +time +wait";
    let words = ["ACL", "SETUSER", "bench", "on", &password].into_iter().chain(rights.split(' '));
    server.ask(&words.collect::<Vec<_>>());
    server.ask(&["ACL", "SETUSER", "admin", "on", ">admin", "~*", "&*", "+@all"]);
    server.ask(&["ACL", "SETUSER", "default", "off"]);
    server.log_in("admin", "admin");
    let at = |credentials: &str| RedisUrl::parse(&format!("redis://{credentials}@127.0.0.1:{}", server.port)).unwrap();
    works(&at(&format!("bench:{ENCODED}"))).await;
    for credentials in [format!("other:{ENCODED}"), format!(":{ENCODED}"), format!("bench:{ENCODED}x")] {
        let error = refusal(&at(&credentials)).await;
        assert!(matches!(error, RedisError::Refused { .. }), "{error}");
        for text in [error.to_string(), format!("{error:?}"), format!("{:?}", at(&credentials))] {
            assert!(!text.contains(PASSWORD) && !text.contains(ENCODED), "{text}");
        }
    }
    server.ask(&["ACL", "SETUSER", "bench", "-fcall"]);
    let error = refusal(&at(&format!("bench:{ENCODED}"))).await;
    assert!(error.to_string().contains("fcall"), "{error}");
}

#[tokio::test]
async fn tls_needs_the_ca_that_signed() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = folder.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path.to_string_lossy().into_owned()
    };
    let (cert, private, ca) = (
        file("server.crt", include_bytes!("tls/server.crt")),
        file("server.key", include_bytes!("tls/server.key")),
        file("ca.crt", CA),
    );
    let port = free_port().to_string();
    let _server = Server::start(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &private,
        "--tls-ca-cert-file",
        &ca,
        "--tls-auth-clients",
        "no",
    ]);
    let url = RedisUrl::parse(&format!("rediss://127.0.0.1:{port}")).unwrap();
    works(&url.clone().with_ca(CA).unwrap()).await;
    let error = refusal(&url).await;
    assert!(error.to_string().contains("certificate"), "{error}");
}

#[tokio::test]
async fn the_owner_of_the_slot_is_followed_in_a_cluster() {
    let node = || Server::start(&["--cluster-enabled", "yes", "--cluster-port", &free_port().to_string()]);
    let (first, second) = (node(), node());
    first.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
    let bus = first.info_of(&["CONFIG", "GET", "cluster-port"]);
    second.ask(&["CLUSTER", "MEET", "127.0.0.1", &first.port.to_string(), &bus]);
    eventually("both see all slots served", || {
        [&first, &second].iter().all(|node| {
            let info: String = redis::from_redis_value(node.ask(&["CLUSTER", "INFO"])).unwrap();
            info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:2")
        })
    });
    works(&second.url()).await;
    let url = RedisUrl::parse(&format!("redis://127.0.0.1:{},127.0.0.1:{}", second.port, first.port)).unwrap();
    let store = RedisStore::create(&url, RedisOptions::new(fresh())).await.unwrap();
    store.push((0..5).map(transfer).collect(), 100).await.unwrap();
    // All keys of a run are in one slot.
    assert_eq!(first.ask(&["DBSIZE"]), first.ask(&["DBSIZE"]));
    let prefix = store.name().rsplit(' ').next().unwrap().to_owned();
    let Value::Int(slot) = first.ask(&["CLUSTER", "KEYSLOT", &format!("{{nearbench:{prefix}}}:queue")]) else {
        panic!()
    };
    let Value::Int(count) = first.ask(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]) else { panic!() };
    assert_eq!(first.ask(&["DBSIZE"]), Value::Int(count));
}

#[tokio::test]
async fn a_server_that_may_throw_keys_away_is_refused() {
    let server = Server::start(&["--maxmemory-policy", "allkeys-lru"]);
    let error = refusal(&server.url()).await;
    assert!(matches!(&error, RedisError::Policy { found, .. } if &**found == "allkeys-lru"), "{error}");
    assert!(error.to_string().contains("CONFIG SET maxmemory-policy noeviction"), "{error}");
}

#[tokio::test]
async fn what_is_no_redis_is_said() {
    let nobody = RedisUrl::parse(&format!("redis://127.0.0.1:{}", free_port())).unwrap();
    let error = refusal(&nobody).await;
    assert!(matches!(error, RedisError::Refused { .. }), "{error}");
}

#[tokio::test]
async fn runs_are_made_once_opened_and_forgotten() {
    let server = Server::start(&[]);
    let options = RedisOptions::new(fresh());
    let missing = RedisStore::open(&server.url(), options.clone()).await.err().unwrap();
    assert!(matches!(missing, RedisError::Missing { .. }), "{missing}");
    let store = RedisStore::create(&server.url(), options.clone()).await.unwrap();
    let exists = RedisStore::create(&server.url(), options.clone()).await.err().unwrap();
    assert!(matches!(exists, RedisError::Exists { .. }), "{exists}");
    let neighbour = RedisStore::create(&server.url(), RedisOptions::new(fresh())).await.unwrap();
    neighbour.push(vec![transfer(1)], 10).await.unwrap();
    let keys = server.ask(&["DBSIZE"]);
    store.push((0..5000).map(transfer).collect(), 10_000).await.unwrap();
    store.acquire(&key(0), lease(0), TTL).await.unwrap();
    store.claim(&key(0), lease(0), &whole(5), 5).await.unwrap();
    store.beat(WorkerId([1; 16]), TTL, b"x".as_slice().into()).await.unwrap();
    store.put_meta(&[("plan", b"{}")]).await.unwrap();
    store.forget().await.unwrap();
    let Value::Int(before) = keys else { panic!() };
    assert_eq!(
        server.ask(&["DBSIZE"]),
        Value::Int(before - 1),
        "its `about` is gone too, the neighbour's keys are not"
    );
    assert_eq!(neighbour.depth().await.unwrap().queued, 1);
    RedisStore::create(&server.url(), options).await.unwrap();
}

#[tokio::test]
async fn a_fleet_hears_of_each_other() {
    let server = Server::start(&[]);
    let options = RedisOptions::new(fresh());
    let here = RedisStore::create(&server.url(), options.clone()).await.unwrap();
    let there = RedisStore::open(&server.url(), options).await.unwrap();
    let (first, second) = (WorkerId([1; 16]), WorkerId([2; 16]));
    here.acquire(&key(1), lease(1), TTL).await.unwrap();
    here.beat(first, TTL, b"one".as_slice().into()).await.unwrap();
    there.order(Order::Abandon).await.unwrap();
    let mut standing = there.beat(second, Duration::from_millis(1), b"two".as_slice().into()).await.unwrap();
    standing.workers.sort_by_key(|worker| worker.0);
    assert_eq!((standing.order, standing.workers), (Order::Abandon, vec![first, second]));
    assert!(matches!(&*standing.leases, [(lane, left)] if *lane == key(1) && *left <= TTL), "{:?}", standing.leases);
    tokio::time::sleep(Duration::from_millis(5)).await;
    assert_eq!(here.beat(first, TTL, b"three".as_slice().into()).await.unwrap().workers, [first]);
    here.leave(first).await.unwrap();
    let mut measured = here.measured().await.unwrap();
    measured.sort_by_key(|(worker, _)| worker.0);
    assert_eq!(measured, [(first, b"three".as_slice().into()), (second, b"two".as_slice().into())]);
}

#[tokio::test]
async fn nonces_are_seeded_raised_and_reset() {
    let server = Server::start(&[]);
    let store = RedisStore::create(&server.url(), RedisOptions::new(fresh())).await.unwrap();
    let high = 9_007_199_254_740_993_u64;
    store.seed(&[(key(0), high), (key(1), 7)]).await.unwrap();
    assert_eq!(store.acquire(&key(0), lease(0), TTL).await.unwrap().high_water, high, "beyond what a double holds");
    assert_eq!(store.reserve(&key(0), lease(0), 2).await, Ok(high + 1));
    store.seed(&[(key(0), u64::MAX >> 1)]).await.unwrap();
    assert_eq!(store.reserve(&key(0), lease(0), 1).await, Ok(high + 3), "somebody holds it");
    let held = store.reset(&key(0), 5).await;
    assert!(matches!(held, Err(StoreError::Held { .. })), "{held:?}");
    assert_eq!(store.reset(&key(1), 5).await, Ok(true));
    assert_eq!(store.acquire(&key(1), lease(0), TTL).await.unwrap().high_water, 5);
    store.commit(&key(1), lease(0), None, crate::conformance::attempt(6)).await.unwrap();
    store.release_lane(&key(1), lease(0)).await.unwrap();
    assert_eq!(store.reset(&key(1), 5).await, Ok(false), "an attempt is open");
}
