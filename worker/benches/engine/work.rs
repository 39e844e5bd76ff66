//! The engine at work: its queue is full from the start, and it is done when all is settled and counted.

use crate::{chain::Chain, rate::Rate};
use nearbench_core::{
    Account, Amount, Gas, TGAS, Transfer, TransferId,
    measure::Recorder,
    plan::{self, Arrivals, ChainLimits, Phase},
    schedule::Schedule,
};
use nearbench_near::{Client, Endpoint, Signer, http::HttpTransport};
use nearbench_store::Store;
use nearbench_worker::{Engine, Finality, Keys, LEASE, Setup, Tally};
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

pub(crate) const ACCOUNT: &str = "ft-benchmark.testnet";
pub(crate) const TOKEN: &str = "ft.ft-benchmark.testnet";
pub(crate) const GAS: Gas = 3 * TGAS;
/// Keys, as a run of this size would have.
pub(crate) const LANES: usize = 24;
const MAX_IN_FLIGHT_PER_KEY: u32 = 5;
const BREAKER: plan::Breaker =
    plan::Breaker { timeout_ms: 5000, error_threshold_percentage: 50, reset_timeout_ms: 30_000 };

/// The nth transfer.
pub(crate) fn transfer(n: u64) -> Transfer {
    Transfer {
        id: TransferId::derive(&[7; 32], &n.to_le_bytes()),
        receiver: Account::new(&format!("user-{}.ft-benchmark.testnet", n % 100)).unwrap(),
        amount: Amount(1),
        memo: None,
        sequence: n,
        phase: 0,
        intended_ns: 0,
        sent_ns: 0,
    }
}

/// What NEAR's own chain allows.
pub(crate) const LIMITS: ChainLimits = ChainLimits {
    protocol_version: 86,
    max_actions: 100,
    max_total_prepaid_gas: 1000 * TGAS,
    max_transaction_size: 1_572_864,
    chunk_gas_limit: 1000 * TGAS,
    transaction_validity_period: 86_400,
};

/// An engine that sends batches of `batch`, as long as so many wait.
pub(crate) fn engine(batch: u32) -> plan::Engine {
    plan::Engine {
        concurrency: 300,
        max_in_flight_per_key: MAX_IN_FLIGHT_PER_KEY,
        max_tps: 0,
        batch: plan::Batch { min: batch, max: batch, depth_divisor: 1 },
        breaker: BREAKER,
        gas_per_transfer: GAS,
        max_queue_depth: u64::MAX,
    }
}

/// The way to the stand-in on this port.
pub(crate) fn client(port: u16) -> Client {
    let transport = HttpTransport::new(&format!("http://127.0.0.1:{port}"), None).unwrap();
    let endpoint =
        Endpoint { name: "chain".into(), priority: 0, max_requests_per_second: None, transport: Arc::new(transport) };
    Client::new(vec![endpoint], &BREAKER)
}

/// Counts for so many transfers, from now on.
pub(crate) fn tally(transfers: u64) -> Arc<Tally> {
    let phase =
        Phase { name: "all".to_owned(), duration_ms: 1000, arrivals: Arrivals::Count(transfers), max_vusers: None };
    let recorder = Recorder::new(&Schedule::new(&[phase]));
    let unix_ns = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
    Arc::new(Tally::new(recorder, transfers, Instant::now(), unix_ns, u64::MAX))
}

/// The first `count` transfers.
pub(crate) fn transfers(count: u64) -> impl Iterator<Item = Transfer> {
    let named: Vec<Transfer> = (0..100).map(transfer).collect();
    (0..count).map(move |n| Transfer { receiver: named[n as usize % 100].receiver.clone(), ..transfer(n) })
}

/// Works off so many transfers in batches of `batch`, from the first claim to the last count. `begun` is told what there is to
/// look at meanwhile.
pub(crate) fn run<S: Store>(
    chain: &Chain,
    store: S,
    batch: u32,
    transfers: u64,
    begun: impl FnOnce(Arc<Tally>, Client, Arc<dyn Fn() -> Keys + Send + Sync>),
) -> Rate {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let client = client(chain.port);
        let stop = CancellationToken::new();
        let finality = Finality::follow(client.clone(), stop.clone()).await.unwrap();
        let store = Arc::new(store);
        assert_eq!(store.push(self::transfers(transfers).collect(), u64::MAX).await.unwrap() as u64, transfers);
        let tally = tally(transfers);
        let lanes = (0..LANES).map(|_| (Signer::generate(ACCOUNT.parse().unwrap(), &mut rand::rng()), 0)).collect();
        let setup = Setup {
            store,
            client: client.clone(),
            finality,
            tally: tally.clone(),
            lease: LEASE,
            lanes,
            token: TOKEN.parse().unwrap(),
            engine: engine(batch),
            limits: LIMITS,
        };
        let rate = Rate::of_async(transfers, async {
            let engine = Engine::start(setup).await.unwrap();
            begun(tally.clone(), client, engine.keys());
            let drained = engine.drain(Duration::from_secs(120)).await.unwrap();
            assert!(drained.complete, "{drained:?}");
        })
        .await;
        assert_eq!(tally.recorder().counts().succeeded, transfers);
        stop.cancel();
        rate
    })
}
