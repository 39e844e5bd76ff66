//! The transfer API of a run's own, for a load that comes over HTTP.

use crate::exit::Failure;
use anyhow::Context;
use nearbench_core::{Plan, schedule::Schedule};
use nearbench_load::{CLIENT, Target};
use nearbench_store::Records;
use nearbench_worker::{Api, Grant, Scope, Settings, Stamp, Tally, Tokens};
use std::{net::SocketAddr, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// The key of the load to the API, and what the API knows of it.
pub(crate) fn key_of_the_load() -> Result<(Arc<str>, Tokens), Failure> {
    let grant =
        Grant { name: CLIENT.to_owned(), scopes: vec![Scope::Transfer], requests_per_second: None, daily_cap: None };
    let (token, line) = grant.token(rand::random()).map_err(Failure::run)?;
    let tokens = Tokens::parse(&line).map_err(Failure::run)?;
    Ok((format!("Bearer {}", token.expose()).into(), tokens))
}

/// Serves the API over `store` on loopback until `shutdown`; where.
pub(crate) async fn serve<S: Records>(
    store: Arc<S>,
    plan: &Plan,
    namespace: [u8; 32],
    tokens: Tokens,
    tally: Arc<Tally>,
    shutdown: CancellationToken,
) -> Result<SocketAddr, Failure> {
    let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot serve the transfer API");
    let listener = listener.map_err(Failure::run)?;
    let address = listener.local_addr().map_err(Failure::run)?;
    let schedule = Schedule::new(&plan.load.phases);
    let stamp = move |client: &str, key: Option<&str>| {
        let sent_ns = tally.now_ns();
        // Whoever else sends is not in the schedule.
        let number = key.filter(|_| client == CLIENT).and_then(|key| key.parse().ok());
        match number.and_then(|number| schedule.arrival(number)) {
            Some(arrival) => {
                let (sequence, phase) = (arrival.n, arrival.phase);
                Stamp { sequence, phase, intended_ns: arrival.intended_ns, sent_ns }
            }
            None => Stamp { sequence: u64::MAX, phase: 0, intended_ns: sent_ns, sent_ns },
        }
    };
    let settings = Settings {
        payer: Some(plan.account.account_id.clone()),
        tokens: Some(tokens),
        max_depth: plan.engine.max_queue_depth,
        max_connections: usize::MAX >> 4,
        stamp: Arc::new(stamp),
        ..Settings::new(namespace, plan.token.contract_id.clone())
    };
    let api = Api::new(store, settings);
    tokio::spawn(async move {
        if let Err(error) = nearbench_worker::serve(listener, api, shutdown).await {
            tracing::error!(%error, "the transfer API is not served any more");
        }
    });
    Ok(address)
}

/// How the load reaches the API.
pub(crate) fn target(plan: &Plan, workers: Vec<SocketAddr>, authorization: Arc<str>) -> Target {
    let timeout = Duration::from_millis(plan.load.timeout_ms);
    Target {
        workers,
        authorization,
        token: plan.token.contract_id.clone(),
        timeout,
        connections: plan.load.connections,
        max_sockets: plan.load.max_sockets,
        grace: timeout.min(GRACE),
    }
}

/// How long requests without an answer are asked again once the schedule has ended, at most.
const GRACE: Duration = Duration::from_secs(30);
