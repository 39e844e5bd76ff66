//! The store in Redis, on real servers.

mod failovers;
mod faults;
mod records;
mod recovery;
mod settings;

use crate::{
    conformance::{Backend, Crash, lease},
    disk::Keep,
};
use nearbench_core::Transfer;
use nearbench_store::{RECOVERY_TTL, Recall, Recovery, RedisOptions, RedisStore, RedisUrl, ResultRow};
pub(crate) use nearbench_testing::redis::RedisServer as Server;
use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::Duration,
};

/// Where a server is, as the store wants to know it.
pub(crate) trait At {
    fn url(&self) -> RedisUrl;
}

impl At for Server {
    fn url(&self) -> RedisUrl {
        RedisUrl::parse(&self.address()).unwrap()
    }
}

/// A name that no other run has.
pub(crate) fn fresh() -> String {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("run-{}", NEXT.fetch_add(1, SeqCst))
}

/// Several clients of one run.
pub(crate) struct InRedis {
    clients: Vec<RedisStore>,
    url: RedisUrl,
    options: RedisOptions,
    clock: Arc<AtomicU64>,
    /// Set: it is killed at each crash.
    server: Option<Server>,
}

impl InRedis {
    pub(crate) async fn on(server: &Server) -> Self {
        Self::at(server.url(), None).await
    }

    pub(crate) async fn that_is_killed() -> Self {
        let server = Server::start(&["--appendonly", "yes", "--appendfsync", "always"]);
        Self::at(server.url(), Some(server)).await
    }

    async fn at(url: RedisUrl, server: Option<Server>) -> Self {
        let clock = Arc::new(AtomicU64::new(1_000_000));
        let visibility = Duration::from_secs(Self::VISIBILITY);
        let options = RedisOptions::new(fresh()).visibility(visibility).clock(clock.clone());
        let first = RedisStore::create(&url, options.clone()).await.unwrap();
        let mut made = Self { clients: vec![first], url, options, clock, server };
        made.connect(1).await;
        made
    }

    /// Clients like processes that begin anew; `kept` of the old ones stay.
    async fn connect(&mut self, kept: usize) {
        self.clients.truncate(kept);
        while self.clients.len() < 3 {
            self.clients.push(RedisStore::open(&self.url, self.options.clone()).await.unwrap());
        }
    }
}

impl Backend for InRedis {
    type Store = RedisStore;
    type Records = RedisStore;
    const SHARED: bool = true;
    const VISIBILITY: u64 = 15;

    fn store(&self, worker: u8) -> &RedisStore {
        &self.clients[worker as usize]
    }

    fn records(&self) -> Option<&RedisStore> {
        Some(&self.clients[1])
    }

    async fn kept(&self) -> Option<(Vec<ResultRow>, Vec<Transfer>)> {
        let mut results = Vec::new();
        self.clients[1].results(&mut |row| results.push(row)).await.unwrap();
        Some((results, self.clients[2].unsettled().await.unwrap()))
    }

    async fn crash(&mut self, _: Keep) -> Crash {
        let Some(server) = &mut self.server else {
            self.connect(0).await;
            return Crash::Everything;
        };
        server.kill();
        server.restart();
        // One goes on over the connection that it lost, the others begin anew.
        self.connect(1).await;
        let healer = lease(9);
        assert_eq!(self.clients[1].recover(healer, RECOVERY_TTL).await, Ok(Recovery::Ours));
        self.clients[1].recovered(healer).await.unwrap();
        Crash::AllButClaims
    }

    async fn advance(&self, time: Duration) {
        self.clock.fetch_add(time.as_micros() as u64, SeqCst);
    }
}
