//! The endpoints of a chain, and which of them is asked.
//!
//! Reads go to the best endpoint of the moment and on to the next when one fails, and are tried again with backoff.
//! Sends stay on one endpoint until it fails or is set aside, because transactions of one key that travel over two may
//! overtake each other and die; for the same reason they do not move back by themselves. An endpoint that only asks to be
//! left alone for a moment keeps its sends waiting. What requests and answers mean is not its business.

use crate::{
    health::{self, Aside, Entry, Health, Judged, Rank, nanos},
    rpc::{self, Fault, RpcError},
    transport::{Transport, TransportError},
    views,
};
use bytes::Bytes;
use futures_util::future::join_all;
use nearbench_core::{
    backoff::Backoff,
    breaker::{Change, Openings, Permit, State},
    evidence::{self, Endings},
    histogram::{Coarse, Histogram},
    plan,
};
use rand::Rng;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::time::Instant;

/// Between two questions to every endpoint for its head.
const HEAD_INTERVAL: Duration = Duration::from_secs(2);
/// What a node says that could not answer a read in its own time.
pub(crate) const TIMED_OUT: &[&str] = &["TIMEOUT_ERROR"];
/// Between two rounds of a read through all endpoints.
const ROUNDS: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

/// A way to the chain.
#[derive(Clone)]
pub struct Endpoint {
    /// How errors and metrics call it. Holds no secret.
    pub name: Arc<str>,
    /// Lower is preferred.
    pub priority: u32,
    /// At most so many requests a second; `None`: no limit.
    pub max_requests_per_second: Option<u32>,
    /// The way itself.
    pub transport: Arc<dyn Transport>,
}

/// What was asked of the endpoints so far, and how it failed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Requests that ended.
    pub requests: u64,
    /// Those for whose failure the endpoint is to blame, by [`Fault::label`].
    pub errors: BTreeMap<&'static str, u64>,
}

impl Traffic {
    /// What came since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |label| earlier.errors.get(label).copied().unwrap_or_default();
        let errors = self.errors.iter().map(|(label, count)| (*label, count.saturating_sub(before(label))));
        Self {
            requests: self.requests.saturating_sub(earlier.requests),
            errors: errors.filter(|(_, count)| *count > 0).collect(),
        }
    }
}

/// How one endpoint does, for whoever watches.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Its name.
    pub name: Arc<str>,
    /// Whether its breaker lets requests through.
    pub breaker: State,
    /// For how long it let nothing through so far, in nanoseconds.
    pub open_ns: u64,
    /// How often it opened, a probe that failed included.
    pub times_opened: u64,
    /// Requests that ended, by method and how.
    pub requests: BTreeMap<(&'static str, Ending), u64>,
    /// How long they took, waiting for their turn left out.
    pub latency: Histogram,
}

impl Reading {
    /// What it did, for a report.
    pub fn served(&self) -> evidence::Served {
        let mut endings = Endings::default();
        for ((_, ending), times) in &self.requests {
            *match ending {
                Ending::Ok => &mut endings.ok,
                Ending::Error => &mut endings.error,
                Ending::Refused => &mut endings.refused,
                Ending::Timeout => &mut endings.timeout,
                Ending::Failed => &mut endings.failed,
            } += times;
        }
        let (open_ns, times_opened) = (self.open_ns, self.times_opened);
        evidence::Served { endings, latency: Coarse::from(&self.latency), open_ns, times_opened }
    }
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ending {
    /// With an answer.
    Ok,
    /// With the node's no, which is not the endpoint's fault.
    Error,
    /// The endpoint asked for fewer requests (429).
    Refused,
    /// It did not answer in time.
    Timeout,
    /// Another fault of the endpoint: 5xx, a lost connection, nonsense.
    Failed,
}

impl Ending {
    fn of(fault: Option<&Fault>) -> Self {
        match fault {
            None => Self::Ok,
            Some(Fault::Status { status: 429, .. }) => Self::Refused,
            Some(Fault::Transport(TransportError::Timeout(_))) => Self::Timeout,
            Some(fault) if fault.is_endpoints() => Self::Failed,
            Some(_) => Self::Error,
        }
    }

    /// Its name in metrics.
    pub fn label(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Error => "error",
            Self::Refused => "refused",
            Self::Timeout => "timeout",
            Self::Failed => "failed",
        }
    }
}

pub(crate) struct Pool {
    /// By priority.
    members: Vec<Member>,
    /// What a request that does not wait may take.
    pub(crate) timeout: Duration,
    /// The endpoint that sends go to.
    pinned: AtomicUsize,
    /// The chain that every endpoint has to be on, once that is known.
    pub(crate) chain_id: OnceLock<String>,
    /// What times are counted from.
    origin: Instant,
    requests: AtomicU64,
    errors: Mutex<BTreeMap<&'static str, u64>>,
    /// How long a breaker stays open.
    reset_timeout_ns: u64,
    /// When any breaker was open.
    openings: Mutex<Openings>,
}

struct Member {
    endpoint: Endpoint,
    health: Mutex<Health>,
    served: Mutex<Served>,
}

/// What was asked of an endpoint.
#[derive(Default)]
struct Served {
    requests: BTreeMap<(&'static str, Ending), u64>,
    latency: Histogram,
}

impl Member {
    fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn served(&self) -> MutexGuard<'_, Served> {
        self.served.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tell(&self, change: Option<Change>, fault: Option<&Fault>) {
        let endpoint = &*self.endpoint.name;
        match (change, fault) {
            (Some(Change::Opened), Some(fault)) => {
                tracing::info!(endpoint, reason = %fault, "endpoint set aside: too many of its answers failed");
            }
            (Some(_), _) => tracing::info!(endpoint, "endpoint is back: it answers again"),
            (None, _) => {}
        }
    }
}

/// A request under way. Dropped without an outcome, it gives its leave back.
struct UnderWay<'a> {
    pool: &'a Pool,
    member: &'a Member,
    permit: Option<Permit>,
    method: &'static str,
    began: Instant,
}

impl UnderWay<'_> {
    fn ended(mut self, fault: Option<&Fault>) {
        let Some(permit) = self.permit.take() else { return };
        let now_ns = self.pool.now_ns();
        self.pool.requests.fetch_add(1, Ordering::Relaxed);
        let mut served = self.member.served();
        *served.requests.entry((self.method, Ending::of(fault))).or_default() += 1;
        served.latency.record_ns(nanos(self.began.elapsed()));
        drop(served);
        let change = match fault.filter(|fault| fault.is_endpoints()) {
            None => self.member.health().answered(permit, now_ns),
            Some(fault) => {
                let mut errors = self.pool.errors.lock().unwrap_or_else(PoisonError::into_inner);
                *errors.entry(fault.label()).or_default() += 1;
                drop(errors);
                let mut health = self.member.health();
                match fault {
                    Fault::Status { retry_after, status, .. } if *status == 429 || retry_after.is_some() => {
                        health.refused(permit, *retry_after, now_ns, rand::rng().random())
                    }
                    _ => health.failed(permit, now_ns),
                }
            }
        };
        if change == Some(Change::Opened) {
            self.pool.openings().opened(now_ns, now_ns.saturating_add(self.pool.reset_timeout_ns));
        }
        self.member.tell(change, fault);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        if let Some(permit) = self.permit.take() {
            self.member.health().withdrawn(permit, self.pool.now_ns());
        }
    }
}

impl Pool {
    pub(crate) fn new(mut endpoints: Vec<Endpoint>, breaker: &plan::Breaker) -> Self {
        endpoints.sort_by_key(|endpoint| endpoint.priority);
        let members = endpoints.into_iter().map(|endpoint| {
            let health = Mutex::new(Health::new(breaker, endpoint.max_requests_per_second));
            Member { endpoint, health, served: Mutex::default() }
        });
        Self {
            members: members.collect(),
            timeout: Duration::from_millis(breaker.timeout_ms),
            pinned: AtomicUsize::new(0),
            chain_id: OnceLock::new(),
            origin: Instant::now(),
            requests: AtomicU64::new(0),
            errors: Mutex::default(),
            reset_timeout_ns: nanos(Duration::from_millis(breaker.reset_timeout_ms)),
            openings: Mutex::default(),
        }
    }

    fn openings(&self) -> MutexGuard<'_, Openings> {
        self.openings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For how long the breaker of at least one endpoint was open so far, in nanoseconds.
    pub(crate) fn open_ns(&self) -> u64 {
        self.openings().open_ns(self.now_ns())
    }

    fn now_ns(&self) -> u64 {
        nanos(self.origin.elapsed())
    }

    /// How many endpoints there are.
    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    /// An endpoint's name.
    pub(crate) fn name(&self, endpoint: usize) -> Arc<str> {
        self.members.get(endpoint).map_or_else(|| "no endpoint".into(), |member| member.endpoint.name.clone())
    }

    pub(crate) fn error(&self, endpoint: usize, method: &'static str, fault: Fault) -> RpcError {
        RpcError { endpoint: self.name(endpoint), method, fault }
    }

    pub(crate) fn traffic(&self) -> Traffic {
        Traffic {
            requests: self.requests.load(Ordering::Relaxed),
            errors: self.errors.lock().unwrap_or_else(PoisonError::into_inner).clone(),
        }
    }

    /// How each endpoint does, by priority.
    pub(crate) fn readings(&self) -> Vec<Reading> {
        let now_ns = self.now_ns();
        let read = |member: &Member| {
            let (breaker, openings) = member.health().breaker(now_ns);
            let (open_ns, times_opened) = (openings.open_ns(now_ns), openings.times());
            let served = member.served();
            let (requests, latency) = (served.requests.clone(), served.latency.clone());
            Reading { name: member.endpoint.name.clone(), breaker, open_ns, times_opened, requests, latency }
        };
        self.members.iter().map(read).collect()
    }

    /// The best choice at this moment among the endpoints that `may` be chosen.
    fn best(&self, patience: Duration, may: impl Fn(usize) -> bool) -> Option<(Rank, usize)> {
        let now_ns = self.now_ns();
        let candidates = self.members.iter().enumerate().filter(|(endpoint, _)| may(*endpoint));
        candidates
            .map(|(endpoint, member)| {
                (member.health().rank(member.endpoint.priority, now_ns, nanos(patience)), endpoint)
            })
            .min()
    }

    /// The best choice among the endpoints that were not tried. A single one needs no comparison.
    fn untried(&self, patience: Duration, tried: &[usize]) -> Option<usize> {
        if self.members.len() == 1 && tried.is_empty() {
            return Some(0);
        }
        self.best(patience, |endpoint| !tried.contains(&endpoint)).map(|(_, endpoint)| endpoint)
    }

    /// Asks one endpoint, when it is its turn.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        endpoint: usize,
        method: &'static str,
        request: Bytes,
        timeout: Duration,
    ) -> Result<T, RpcError> {
        let result = match self.members.get(endpoint) {
            None => Err(Fault::NoEndpoint),
            Some(member) => self.call_member(member, method, request, timeout).await,
        };
        result.map_err(|fault| self.error(endpoint, method, fault))
    }

    async fn call_member<T: DeserializeOwned>(
        &self,
        member: &Member,
        method: &'static str,
        request: Bytes,
        timeout: Duration,
    ) -> Result<T, Fault> {
        let now_ns = self.now_ns();
        let aside = |aside: Aside| Fault::SetAside {
            reason: aside.reason,
            wait: aside.until_ns.map(|until_ns| Duration::from_nanos(until_ns.saturating_sub(now_ns))),
        };
        let entered = member.health().enter(now_ns, nanos(timeout)).map_err(aside)?;
        let permit = match entered {
            Entry::Now(permit) => permit,
            Entry::At(at_ns) => {
                tokio::time::sleep_until(self.origin + Duration::from_nanos(at_ns)).await;
                member.health().permit(self.now_ns().max(at_ns)).map_err(aside)?
            }
        };
        let under_way = UnderWay { pool: self, member, permit: Some(permit), method, began: Instant::now() };
        let result = match member.endpoint.transport.call(request, timeout).await {
            Ok(response) => rpc::read(&response),
            Err(error) => Err(Fault::Transport(error)),
        };
        under_way.ended(result.as_ref().err());
        result
    }

    /// Asks the endpoints, the best first, until one answers; and again with backoff, for as long as one request may
    /// take. The first one's error if none does.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, RpcError> {
        self.read_fitting(method, params, timeout, TIMED_OUT, &|_| true).await
    }

    /// The same, of an answer that fits the question; an endpoint's that does not is as good as none. What a node answers
    /// with one of the causes `again`, it or another may know a moment later.
    pub(crate) async fn read_fitting<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &impl Serialize,
        timeout: Duration,
        again_for: &[&str],
        fits: &(dyn Fn(&T) -> bool + Sync),
    ) -> Result<T, RpcError> {
        let request = rpc::request(method, params);
        let give_up = Instant::now() + self.timeout;
        let mut rounds = ROUNDS;
        let mut first: Option<RpcError> = None;
        loop {
            let mut tried = Vec::new();
            let mut again = None;
            while let Some(endpoint) = self.untried(timeout, &tried) {
                tried.push(endpoint);
                let answer = self.call(endpoint, method, request.clone(), timeout).await;
                match self.fitting(endpoint, method, answer, fits) {
                    Err(error) if error.fault.is_endpoints() || error.fault.caused_by(again_for).is_some() => {
                        tracing::debug!(%error, "endpoint failed");
                        if let Some(wait) = error.fault.asks_to_wait() {
                            again = Some(again.map_or(wait, |again: Duration| again.min(wait)));
                        } else {
                            again = Some(Duration::ZERO);
                        }
                        // What went wrong tells more than that nobody was asked.
                        if first.as_ref().is_none_or(|first| matches!(first.fault, Fault::SetAside { .. })) {
                            first = Some(error);
                        }
                    }
                    answer => return answer,
                }
            }
            let error = first.take().unwrap_or_else(|| self.error(0, method, Fault::NoEndpoint));
            let wait = rounds.step(rand::rng().random()).max(again.unwrap_or_default());
            if tried.is_empty() || Instant::now() + wait > give_up {
                return Err(error);
            }
            first = Some(error);
            tokio::time::sleep(wait).await;
        }
    }

    /// Asks the endpoints in turn, the best first, until one has what is asked for: a node that answers with one of
    /// `causes` has it not. If none has it, the answer with the first of the causes; an endpoint that did not answer
    /// might have had it, and its error goes first.
    pub(crate) async fn read_from_any<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &impl Serialize,
        causes: &[&str],
        fits: &(dyn Fn(&T) -> bool + Sync),
    ) -> Result<T, RpcError> {
        let request = rpc::request(method, params);
        let rank = |error: &RpcError| causes.iter().position(|cause| error.fault.caused_by(&[cause]).is_some());
        let mut tried = Vec::new();
        let mut first: Option<RpcError> = None;
        while let Some(endpoint) = self.untried(self.timeout, &tried) {
            tried.push(endpoint);
            let answer = self.call(endpoint, method, request.clone(), self.timeout).await;
            match self.fitting(endpoint, method, answer, fits) {
                Err(error) if error.fault.is_endpoints() || rank(&error).is_some() => {
                    if first.as_ref().is_none_or(|first| rank(&error) < rank(first)) {
                        first = Some(error);
                    }
                }
                answer => return answer,
            }
        }
        Err(first.unwrap_or_else(|| self.error(0, method, Fault::NoEndpoint)))
    }

    /// The answer, if it is to what was asked.
    fn fitting<T>(
        &self,
        endpoint: usize,
        method: &'static str,
        answer: Result<T, RpcError>,
        fits: &(dyn Fn(&T) -> bool + Sync),
    ) -> Result<T, RpcError> {
        match answer {
            Ok(answer) if !fits(&answer) => {
                let fault = Fault::Malformed("it is about something else than was asked");
                let mut errors = self.errors.lock().unwrap_or_else(PoisonError::into_inner);
                *errors.entry(fault.label()).or_default() += 1;
                Err(self.error(endpoint, method, fault))
            }
            answer => answer,
        }
    }

    /// The endpoint that sends go to now. It is another than before where that one is set aside and another is not.
    fn pinned(&self) -> usize {
        let pinned = self.pinned.load(Ordering::Acquire);
        let Some(member) = self.members.get(pinned) else { return pinned };
        if self.members.len() == 1 {
            return pinned;
        }
        let now_ns = self.now_ns();
        let health = member.health();
        let rests = health.rests_until(now_ns);
        let usable = health.rank(member.endpoint.priority, now_ns, nanos(self.timeout)).is_usable();
        drop(health);
        match rests {
            Some(until_ns) if until_ns - now_ns <= nanos(self.timeout) => pinned,
            _ if usable => pinned,
            _ => self.move_pin(pinned),
        }
    }

    /// Moves the sends from this endpoint to the best other one that is usable, if there is one; where they go now.
    fn move_pin(&self, from: usize) -> usize {
        match self.best(self.timeout, |endpoint| endpoint != from) {
            Some((rank, to)) if rank.is_usable() => {
                // Of several sends that failed on it, one moves the pin.
                match self.pinned.compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire) {
                    Ok(_) => {
                        tracing::info!(from = &*self.name(from), to = &*self.name(to), "sends go to another endpoint");
                        to
                    }
                    Err(moved) => moved,
                }
            }
            _ => from,
        }
    }

    /// Sends to the endpoint in use; waits where it asked for a moment's rest.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: &'static str,
        request: Bytes,
        timeout: Duration,
    ) -> Result<T, RpcError> {
        let endpoint = self.pinned();
        if let Some(member) = self.members.get(endpoint) {
            let now_ns = self.now_ns();
            let rests = member.health().rests_until(now_ns);
            if let Some(until_ns) = rests.filter(|until_ns| until_ns - now_ns <= nanos(self.timeout)) {
                tokio::time::sleep_until(self.origin + Duration::from_nanos(until_ns)).await;
            }
        }
        let answer = self.call(endpoint, method, request, timeout).await;
        if let Err(error) = &answer
            && error.fault.is_endpoints()
        {
            tracing::debug!(%error, "endpoint failed");
            if error.fault.asks_to_wait().is_none() {
                self.move_pin(endpoint);
            }
        }
        answer
    }

    /// Asks every endpoint for its head, and judges them by each other.
    async fn look(&self) {
        let request = rpc::request("status", &serde_json::json!([]));
        let wanted = self.chain_id.get();
        join_all(self.members.iter().map(|member| async {
            let asked = Instant::now();
            let answer = self.call_member::<views::StatusView>(member, "status", request.clone(), self.timeout).await;
            let Ok(status) = answer else { return };
            let other = wanted.filter(|wanted| **wanted != status.chain_id).map(|_| status.chain_id.as_str().into());
            let (height, latency_ns) = (status.sync_info.latest_block_height, nanos(asked.elapsed()));
            member.health().told(height, other, latency_ns, self.now_ns());
        }))
        .await;
        let heads: Vec<_> = self.members.iter().map(|member| member.health().head().clone()).collect();
        for (member, behind) in self.members.iter().zip(health::judge(&heads, self.now_ns())) {
            let endpoint = &*member.endpoint.name;
            let judged = member.health().judged(behind);
            match judged {
                Some(Judged::SetAside(reason)) => tracing::info!(endpoint, reason, "endpoint set aside"),
                Some(Judged::Back) => tracing::info!(endpoint, "endpoint is back: its head is up to date"),
                None => {}
            }
        }
    }

    /// Looks at the heads for as long as the pool lives. One endpoint has nothing to be compared with.
    pub(crate) fn watch(self: &Arc<Self>) {
        if self.members.len() < 2 {
            return;
        }
        let pool = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(pool) = pool.upgrade() {
                pool.look().await;
                drop(pool);
                tokio::time::sleep(HEAD_INTERVAL).await;
            }
        });
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.members.iter().map(|member| &member.endpoint.name)).finish()
    }
}
