//! What a process of a run tells Prometheus. Every number is read off what the process counts anyway, at the moment that
//! it is asked for: nothing is counted for this alone, and nothing of it is in a transfer's way.
//!
//! A run's numbers are sums over its processes, so each tells only what it counts itself: who sends tells what was offered,
//! sent, rejected and accepted, who carries tells what became of it. Labels are bounded by the plan.

use crate::{environment, exit::Failure};
use anyhow::{Context, anyhow};
use axum::{
    Router,
    http::{HeaderMap, header},
    response::IntoResponse,
    routing::get,
};
use nearbench_core::{
    Plan,
    breaker::State,
    exposition,
    histogram::Histogram,
    measure::{BATCH_BOUNDS, Recorder},
    plan::{Arrivals, Phase},
};
use nearbench_near::{Client, chain::At};
use nearbench_store::RedisStore;
use nearbench_worker::{Keys, Spooled, Tally};
use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric, text::encode},
    metrics::{MetricType, counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};
use std::{
    borrow::Cow,
    fmt,
    net::SocketAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::net::TcpListener;

/// Between two looks at the payer's balance.
const BALANCE_EVERY: Duration = Duration::from_secs(15);
/// Upper bounds of latencies, in seconds.
const LATENCY_BOUNDS: [f64; 23] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 0.75, 1.0, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0,
    30.0, 45.0, 60.0,
];
const YOCTO_PER_NEAR: f64 = 1e24;

/// What a process has to tell of. What is not there is not told.
pub(crate) struct Sources {
    pub(crate) tally: Arc<Tally>,
    /// Of how many generators this process is one, where it sends.
    pub(crate) sends: Option<u32>,
    /// Whether it carries transfers to the chain.
    pub(crate) carries: bool,
    pub(crate) client: Option<Client>,
    pub(crate) keys: Option<Arc<dyn Fn() -> Keys + Send + Sync>>,
    pub(crate) store: Option<RedisStore>,
    pub(crate) spooled: Option<Arc<dyn Fn() -> Spooled + Send + Sync>>,
    /// Whether the API takes what others send, in place of the run's own load.
    pub(crate) takes: bool,
}

impl Sources {
    /// A process that counts here, and has nothing else to tell yet.
    pub(crate) fn of(tally: Arc<Tally>) -> Self {
        Self { tally, sends: None, carries: false, takes: false, client: None, keys: None, store: None, spooled: None }
    }
}

/// What a process tells Prometheus, from its start on.
#[derive(Clone)]
pub(crate) struct Metrics(Arc<Told>);

struct Told {
    run: String,
    /// Each phase's name and, where it is steady, its rate.
    phases: Vec<(String, Option<f64>)>,
    account: String,
    min_balance_near: f64,
    sources: OnceLock<Sources>,
    /// New transfers that the API took.
    taken: Arc<AtomicU64>,
    /// The payer's last known balance in NEAR, as the bits of a number; none before the first look.
    balance: OnceLock<AtomicU64>,
}

impl Metrics {
    /// Of a process of the run of `plan`; what it counts is told once it is known where.
    pub(crate) fn of(plan: &Plan) -> Self {
        Self(Arc::new(Told {
            run: plan.name.clone(),
            phases: plan.load.phases.iter().map(|phase| (phase.name.clone(), steady(phase))).collect(),
            account: plan.account.account_id.to_string(),
            min_balance_near: plan.account.min_balance.0 as f64 / YOCTO_PER_NEAR,
            sources: OnceLock::new(),
            taken: Arc::default(),
            balance: OnceLock::new(),
        }))
    }

    /// From now on it tells of these. Said once.
    pub(crate) fn tell_of(&self, sources: Sources) {
        // Whoever said it first said it for the whole process.
        let _ = self.0.sources.set(sources);
    }

    /// Counts the new transfers that the API takes.
    pub(crate) fn taken(&self) -> Arc<AtomicU64> {
        self.0.taken.clone()
    }

    /// Looks at the payer's balance now and then, for as long as the process lasts.
    pub(crate) fn watch_balance(&self, client: Client, plan: &Plan) {
        let (told, account) = (Arc::downgrade(&self.0), plan.account.account_id.clone());
        tokio::spawn(async move {
            while let Some(told) = told.upgrade() {
                match client.account(&account, At::Final).await {
                    Ok(read) => {
                        let near = read.value.map_or(0.0, |state| state.balance.0 as f64 / YOCTO_PER_NEAR);
                        told.balance.get_or_init(AtomicU64::default).store(near.to_bits(), Ordering::Relaxed);
                    }
                    Err(error) => tracing::debug!(%error, "the payer's balance is not known just now"),
                }
                drop(told);
                tokio::time::sleep(BALANCE_EVERY).await;
            }
        });
    }

    /// All of it, in the format that an `Accept` header asks for, and its media type.
    pub(crate) fn answer(&self, accept: Option<&str>) -> (&'static str, String) {
        let mut registry = Registry::with_labels([(Cow::Borrowed("run"), Cow::Owned(self.0.run.clone()))].into_iter());
        registry.register_collector(Box::new(self.clone()));
        let mut text = String::new();
        // Writing to a String cannot fail.
        let _ = encode(&mut text, &registry);
        exposition::negotiate(accept, text)
    }

    /// Its route.
    pub(crate) fn router(&self) -> Router {
        let metrics = self.clone();
        let answer = async move |headers: HeaderMap| {
            let (kind, text) = metrics.answer(headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok()));
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        };
        Router::new().route("/metrics", get(answer))
    }

    /// Serves `http://ADDRESS/metrics` for as long as the process lasts.
    pub(crate) async fn serve(&self, address: SocketAddr) -> Result<(), Failure> {
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("--metrics-addr {address}: cannot serve there"))
            .map_err(Failure::input)?;
        let router = self.router();
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::warn!(%error, "metrics are not served any more");
            }
        });
        Ok(())
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Metrics").field("run", &self.0.run).finish_non_exhaustive()
    }
}

/// Where a run of so many worker processes serves its metrics: its own first, each worker's on the ports that follow.
/// Nothing is made; that all can be served is checked.
pub(crate) fn addresses(first: SocketAddr, workers: u32) -> Result<Vec<SocketAddr>, Failure> {
    let (ip, port) = (first.ip(), u32::from(first.port()));
    let ports = (port..=port + workers).map(|port| u16::try_from(port).ok());
    let addresses: Option<Vec<_>> = ports.map(|port| Some(SocketAddr::new(ip, port?))).collect();
    let addresses = addresses.ok_or_else(|| {
        Failure::input(anyhow!("--metrics-addr {first}: there are no {workers} ports after it, one for each worker"))
    })?;
    for address in &addresses {
        std::net::TcpListener::bind(address)
            .with_context(|| format!("--metrics-addr {address}: cannot serve there"))
            .map_err(Failure::input)?;
    }
    Ok(addresses)
}

/// The labels of a sample beside the run's.
type Labels<'a, const N: usize> = [(&'static str, &'a str); N];

/// Writes metrics one after the other.
struct Writer<'a>(DescriptorEncoder<'a>);

impl Writer<'_> {
    fn counters<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, u64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in samples {
            ConstCounter::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn gauges<'l, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, f64)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in samples {
            ConstGauge::new(value).encode(family.encode_family(&labels)?)?;
        }
        Ok(())
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.counters(name, help, [([], value)])
    }

    fn gauge(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.gauges(name, help, [([], value)])
    }

    fn latencies<'l, 'h, const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        samples: impl IntoIterator<Item = (Labels<'l, N>, &'h Histogram)>,
    ) -> fmt::Result {
        let mut family = self.0.encode_descriptor(name, help, None, MetricType::Histogram)?;
        for (labels, latencies) in samples {
            let buckets = buckets(LATENCY_BOUNDS, latencies.between(&LATENCY_BOUNDS));
            let mut sample = family.encode_family(&labels)?;
            sample.encode_histogram::<Labels<'_, 0>>(latencies.sum_s(), latencies.count(), &buckets, None)?;
        }
        Ok(())
    }
}

fn buckets(bounds: impl IntoIterator<Item = f64>, counts: impl IntoIterator<Item = u64>) -> Vec<(f64, u64)> {
    // Without a bucket up to infinity Prometheus has no quantile to tell.
    bounds.into_iter().chain([f64::INFINITY]).zip(counts).collect()
}

impl Collector for Metrics {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut to = Writer(encoder);
        process(&mut to)?;
        let Told { phases, account, min_balance_near, sources, balance, taken, .. } = &*self.0;
        if let Some(balance) = balance.get() {
            let near = f64::from_bits(balance.load(Ordering::Relaxed));
            to.gauges("nearbench_account_balance_near", "What the payer has", [([("account", &**account)], near)])?;
            let help = "What the payer is to have at least (spec.account.minBalance)";
            to.gauges("nearbench_account_min_balance_near", help, [([("account", &**account)], *min_balance_near)])?;
        }
        let Some(sources) = sources.get() else { return Ok(()) };
        load(&mut to, sources, phases, taken.load(Ordering::Relaxed))?;
        carrying(&mut to, sources)
    }
}

/// The process itself, under the names that Prometheus' own clients have.
fn process(to: &mut Writer<'_>) -> fmt::Result {
    let usage = environment::usage();
    if let Some(seconds) = usage.cpu_seconds {
        let help = "User and system CPU time";
        let mut metric = to.0.encode_descriptor("process_cpu_seconds", help, None, MetricType::Counter)?;
        ConstCounter::new(seconds).encode(metric.encode_family(&Labels::<0>::default())?)?;
    }
    if let Some(bytes) = usage.resident_bytes {
        to.gauge("process_resident_memory_bytes", "Resident memory", bytes as f64)?;
    }
    if let Some(unix_s) = usage.started_unix_s {
        to.gauge("process_start_time_seconds", "When the process began, as a Unix time", unix_s)?;
    }
    Ok(())
}

fn steady(phase: &Phase) -> Option<f64> {
    match phase.arrivals {
        Arrivals::Rate(rate) => Some(rate),
        Arrivals::Ramp { .. } | Arrivals::Count(_) | Arrivals::Pause => None,
    }
}

/// How the load stands.
fn load(to: &mut Writer<'_>, sources: &Sources, phases: &[(String, Option<f64>)], taken: u64) -> fmt::Result {
    let Sources { tally, sends, carries, takes, .. } = sources;
    let (now_ns, began) = (tally.now_ns(), tally.start_unix_ns().is_some());
    // Copied under the lock, and written without it.
    let recorder: Recorder = tally.recorder().clone();
    let (counts, live, latencies) = (recorder.counts(), recorder.live(now_ns), recorder.latencies());
    let mut states = Vec::new();
    if sends.is_some() {
        let offered = if began { live.offered } else { 0 };
        states.extend([("offered", offered), ("sent", counts.sent)]);
        states.extend([("rejected", counts.rejected), ("accepted", counts.accepted)]);
    } else if *takes {
        let (rejected, sent) = (counts.rejected, taken + counts.rejected);
        states.extend([("offered", sent), ("sent", sent), ("rejected", rejected), ("accepted", taken)]);
    }
    if *carries {
        states.extend([("succeeded", counts.succeeded), ("failed", counts.failed), ("cancelled", counts.cancelled)]);
        states.extend([("expired", counts.expired), ("needs_review", counts.unknown)]);
    }
    let help = "Transfers: those who send count offered to accepted, those who carry what became of them";
    to.counters("nearbench_transfers", help, states.into_iter().map(|(state, count)| ([("state", state)], count)))?;
    let under_way = recorder.schedule().under_way(now_ns).filter(|_| began);
    if let Some((name, rate)) = under_way.and_then(|phase| phases.get(phase)) {
        to.gauges("nearbench_phase", "1 for the phase under way", [([("phase", &**name)], 1.0)])?;
        let help = "Transfers a second that the steady phase under way asks for";
        to.gauges("nearbench_target_tps", help, rate.map(|rate| ([("phase", &**name)], rate)))?;
    }
    if let Some(generators) = sends {
        let behind_ns = if began { recorder.behind_ns(now_ns, *generators) } else { 0 };
        let help = "For how long the next arrival of this generator is due";
        to.gauge("nearbench_generator_behind_seconds", help, behind_ns as f64 / 1e9)?;
        let help = "From the intended arrival to the actual sending";
        to.latencies("nearbench_send_lag_seconds", help, [([], &latencies.send_lag)])?;
        let help = "From the intended arrival to the acceptance";
        to.latencies("nearbench_accept_latency_seconds", help, [([], &latencies.accept)])?;
    }
    to.gauge("nearbench_queue_depth", "Transfers that wait in the run's queue", live.queue_depth as f64)?;
    let errors = recorder.error_counts().iter().map(|(label, times)| ([("type", &**label)], *times));
    let help =
        "Errors that transfers met, by type, whether or not they were put right; endpoints' are nearbench_rpc_requests";
    to.counters("nearbench_errors", help, errors)?;
    if !*carries {
        return Ok(());
    }
    let help = "From the intended arrival to a final block";
    to.latencies("nearbench_settle_latency_seconds", help, [([], &latencies.settle)])?;
    let help = "From the intended arrival to the execution";
    to.latencies("nearbench_execution_latency_seconds", help, [([], &latencies.execution)])?;
    let help = "Transfers that became final a second, over the last ten seconds";
    to.gauge("nearbench_tps", help, live.lately.tps)?;
    let batches = recorder.batches();
    let mut metric = to.0.encode_descriptor(
        "nearbench_batch_size",
        "Transfers in an executed transaction",
        None,
        MetricType::Histogram,
    )?;
    let sizes = buckets(BATCH_BOUNDS.map(f64::from), batches.sizes);
    metric.encode_histogram::<Labels<'_, 0>>(batches.transfers as f64, batches.transactions, &sizes, None)?;
    to.counter("nearbench_transactions", "Transactions that were executed", batches.transactions)?;
    let help = "Transactions that a node refused because of their nonce";
    to.counter("nearbench_nonce_conflicts", help, recorder.nonce_conflict_count())
}

/// How what transfers are carried with stands: endpoints, keys, the store.
fn carrying(to: &mut Writer<'_>, sources: &Sources) -> fmt::Result {
    let Sources { client, keys, store, spooled, .. } = sources;
    if let Some(client) = client {
        let readings = client.readings();
        let requests = readings.iter().flat_map(|endpoint| {
            endpoint.requests.iter().map(|((method, ending), times)| {
                ([("endpoint", &*endpoint.name), ("method", method), ("outcome", ending.label())], *times)
            })
        });
        to.counters("nearbench_rpc_requests", "Requests to endpoints that ended, by how", requests)?;
        let latencies = readings.iter().map(|endpoint| ([("endpoint", &*endpoint.name)], &endpoint.latency));
        to.latencies("nearbench_rpc_latency_seconds", "How long requests to endpoints took", latencies)?;
        let breakers = readings.iter().map(|endpoint| {
            let state = match endpoint.breaker {
                State::Closed => 0.0,
                State::HalfOpen => 1.0,
                State::Open => 2.0,
            };
            ([("endpoint", &*endpoint.name)], state)
        });
        to.gauges("nearbench_breaker_state", "0: closed, 1: half-open, 2: open, nothing is let through", breakers)?;
    }
    if let Some(keys) = keys {
        let Keys { ready, in_flight, quarantined, .. } = keys();
        let lanes = [("held", ready + quarantined), ("busy", in_flight), ("quarantined", quarantined)];
        let lanes = lanes.map(|(state, count)| ([("state", state)], count as f64));
        to.gauges(
            "nearbench_lanes",
            "Lanes of this process: all, those with attempts under way, those stopped",
            lanes,
        )?;
    }
    if let Some(store) = store {
        let up = f64::from(u8::from(store.trouble().is_none()));
        to.gauge("nearbench_store_up", "Whether the run's store does what it is asked", up)?;
        let activity = store.activity();
        let steps = activity.steps.iter().map(|(step, times)| ([("op", *step)], *times));
        to.counters("nearbench_store_operations", "Steps that the run's store was asked for", steps)?;
        to.counter("nearbench_store_failures", "How often the run's store could not be used", activity.failures)?;
    }
    if let Some(spooled) = spooled {
        let waiting = spooled().waiting as f64;
        to.gauge("nearbench_spooled_transfers", "Accepted while the store was away, and not in it yet", waiting)?;
    }
    Ok(())
}
