//! What the endpoint pool adds to a request: a whole question to a transport that answers at once, through the client,
//! beside the same bytes written, handed over and read without it.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use bytes::Bytes;
use futures_util::future::BoxFuture;
use nearbench_core::{Hash, plan::Breaker};
use nearbench_near::{
    Client, Endpoint, SignedTx,
    transport::{Response, Transport, TransportError},
};
use std::{
    hint::black_box,
    sync::Arc,
    time::{Duration, Instant},
};

const REPETITIONS: usize = 7;
const REQUESTS: u64 = 200_000;
const BREAKER: Breaker = Breaker { timeout_ms: 5000, error_threshold_percentage: 50, reset_timeout_ms: 30_000 };
const ANSWER: &[u8] = br#"{"jsonrpc":"2.0","id":"nearbench","result":{"final_execution_status":"NONE"}}"#;

struct AtOnce;

impl Transport for AtOnce {
    fn call(&self, request: Bytes, _: Duration) -> BoxFuture<'_, Result<Response, TransportError>> {
        black_box(request);
        Box::pin(async { Ok(Response { status: 200, retry_after: None, body: Bytes::from_static(ANSWER) }) })
    }
}

/// Nanoseconds a round of `work` takes.
async fn time<F: Future<Output = ()>>(work: impl Fn() -> F) -> f64 {
    let start = Instant::now();
    for _ in 0..REQUESTS {
        work().await;
    }
    start.elapsed().as_nanos() as f64 / REQUESTS as f64
}

fn main() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let tx = SignedTx { hash: Hash([7; 32]), bytes: Bytes::from(vec![9; 320]) };
    println!("pool: nanoseconds of a send_tx to a transport that answers at once, {REPETITIONS} repetitions");
    for endpoints in [1, 3] {
        let all = (0..endpoints).map(|n| Endpoint {
            name: format!("endpoint-{n}").into(),
            priority: n,
            max_requests_per_second: None,
            transport: Arc::new(AtOnce),
        });
        let client = Client::new(all.collect(), &BREAKER);
        let mut rounds: Vec<(f64, f64)> = (0..REPETITIONS)
            .map(|_| {
                runtime.block_on(async {
                    let bare = time(|| async {
                        let request = serde_json::json!({"jsonrpc": "2.0", "id": "nearbench", "method": "send_tx"});
                        let answer = AtOnce.call(request.to_string().into(), Duration::ZERO).await.unwrap();
                        black_box(serde_json::from_slice::<serde::de::IgnoredAny>(&answer.body).unwrap());
                    });
                    let bare = bare.await;
                    (bare, time(|| async { client.send(&tx).await.unwrap() }).await)
                })
            })
            .collect();
        rounds.sort_by(|a, b| (a.1 - a.0).total_cmp(&(b.1 - b.0)));
        let more = |index: usize| rounds[index].1 - rounds[index].0;
        println!(
            "  {endpoints} endpoints: bare {:.0}, through the pool {:.0}; more: median {:.0} (from {:.0} to {:.0})",
            rounds[REPETITIONS / 2].0,
            rounds[REPETITIONS / 2].1,
            more(REPETITIONS / 2),
            more(0),
            more(REPETITIONS - 1)
        );
    }
}
