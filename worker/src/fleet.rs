//! A worker among others: it says every second that it lives, takes and gives back lanes so that all have their share, and
//! does what all are told. What it measured it leaves in the store, for whoever makes the report.

use crate::{engine::Engine, tally::Tally};
use bytes::Bytes;
use futures_util::future::join_all;
use nearbench_core::{
    Height,
    evidence::{DuringLoad, Evidence, Moment},
    fleet::{self, Moves, View},
    histogram::Histogram,
    outcome::FailureKind,
};
use nearbench_near::{Client, Signer, chain::At, rpc::RpcError};
use nearbench_store::{Fleet, LaneKey, Order, Standing, StoreError, WorkerId};
use serde::{Deserialize, Serialize};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Between two beats.
pub const BEAT: Duration = Duration::from_secs(1);
/// How long a worker that says nothing counts as alive: its lanes are shared out anew once their leases have ended too.
const SILENCE: Duration = Duration::from_secs(5);
/// How long a lane of a fleet is its holder's without a word: others wait for it.
pub const LEASE: Duration = Duration::from_secs(15);
/// How long attempts under way have to end before their lane goes to another.
const HANDOVER: Duration = Duration::from_secs(8);

/// One worker's part.
pub struct Member<S> {
    id: WorkerId,
    store: Arc<S>,
    client: Client,
    tally: Arc<Tally>,
    engine: Arc<Engine<S>>,
    /// Every lane of the fleet, in one order for all.
    keys: Vec<LaneKey>,
    signers: HashMap<LaneKey, Signer>,
    /// Lanes that are being given back.
    leaving: Arc<Mutex<BTreeSet<LaneKey>>>,
    tasks: TaskTracker,
    state: watch::Sender<State>,
    /// When the store last answered.
    heard: Option<Instant>,
    during_load: DuringLoad,
    /// What was to be done when that was heard last.
    order: Order,
}

/// How a worker stands.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// When the store last answered a beat, as a Unix time in milliseconds.
    pub heard_unix_ms: Option<u64>,
    /// What is to be done.
    pub order: Order,
    /// Workers alive, this one among them.
    pub workers: usize,
    /// Lanes that this one holds.
    pub lanes: usize,
}

/// What a worker measured since its process began, beyond what its results in the store say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Measured {
    /// When, as a Unix time in milliseconds.
    pub unix_ms: u64,
    /// Lanes held.
    pub lanes: u64,
    /// The highest block seen final.
    pub final_height: Height,
    /// What stopped lanes for good, by public key.
    pub faults: BTreeMap<String, FailureKind>,
    /// What went wrong and ended no transfer, by label, the endpoints' failures included.
    pub errors: BTreeMap<String, u64>,
    /// Transactions that a node refused because of their nonce.
    pub nonce_conflicts: u64,
    /// Where its time went during the load.
    pub evidence: Evidence,
    /// Of each phase: transfers that clients were told to ask for again later.
    pub turned_away: Vec<u64>,
    /// Transfers that it saw succeed.
    pub succeeded: u64,
    /// Transfers that it saw fail.
    pub failed: u64,
    /// Transactions that it saw executed.
    pub transactions: u64,
    /// Its settle latencies.
    pub settle: Histogram,
    /// The most memory that the process held, in bytes.
    pub peak_rss_bytes: Option<u64>,
}

impl Measured {
    /// As bytes for the store.
    pub fn to_bytes(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_default().into()
    }

    /// From the store; nothing measured where it is not what this version writes.
    pub fn from_bytes(bytes: &[u8]) -> Self {
        serde_json::from_slice(bytes).unwrap_or_default()
    }

    /// Adds what another process measured.
    pub fn merge(&mut self, other: &Self) {
        self.unix_ms = self.unix_ms.max(other.unix_ms);
        self.lanes += other.lanes;
        self.final_height = self.final_height.max(other.final_height);
        self.faults.extend(other.faults.clone());
        for (label, times) in &other.errors {
            *self.errors.entry(label.clone()).or_default() += times;
        }
        self.nonce_conflicts += other.nonce_conflicts;
        self.evidence.merge(&other.evidence);
        self.turned_away.resize(self.turned_away.len().max(other.turned_away.len()), 0);
        self.turned_away.iter_mut().zip(&other.turned_away).for_each(|(mine, theirs)| *mine += theirs);
        self.succeeded += other.succeeded;
        self.failed += other.failed;
        self.transactions += other.transactions;
        self.settle.merge(&other.settle);
        self.peak_rss_bytes = self.peak_rss_bytes.max(other.peak_rss_bytes);
    }
}

impl<S: Fleet> Member<S> {
    /// A worker that holds no lane yet. `engine` works for `store` and counts in `tally`; `signers` are all the lanes of the
    /// fleet.
    pub fn new(
        store: Arc<S>,
        client: Client,
        tally: Arc<Tally>,
        engine: Arc<Engine<S>>,
        signers: impl IntoIterator<Item = Signer>,
    ) -> Self {
        let signers: HashMap<_, _> =
            signers.into_iter().map(|signer| (crate::engine::key_of(&signer), signer)).collect();
        let mut keys: Vec<_> = signers.keys().cloned().collect();
        keys.sort();
        let (leaving, tasks, state) = (Arc::default(), TaskTracker::new(), watch::Sender::default());
        let id = WorkerId(rand::random());
        Self {
            id,
            store,
            client,
            tally,
            engine,
            keys,
            signers,
            leaving,
            tasks,
            state,
            heard: None,
            during_load: DuringLoad::default(),
            order: Order::default(),
        }
    }

    /// How it stands, from now on.
    pub fn follow(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    /// Takes part until `stop` is cancelled; then gives all lanes back in order, and takes itself off the list. `machine` adds
    /// what the process knows of itself to what was measured.
    ///
    /// # Errors
    /// The store's, where it can never be used again.
    pub async fn take_part(
        mut self,
        stop: &CancellationToken,
        machine: impl Fn(&mut Measured) + Send,
    ) -> Result<(), StoreError> {
        let mut tick = tokio::time::interval(BEAT);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = tick.tick() => {}
                () = stop.cancelled() => break,
            }
            let measured = self.measured(&machine);
            let beat = self.store.beat(self.id, SILENCE, measured.to_bytes());
            let standing = tokio::select! {
                standing = beat => standing,
                () = stop.cancelled() => break,
            };
            match standing {
                Ok(standing) => self.obey(&standing).await,
                Err(error @ StoreError::File { .. }) => return Err(error),
                Err(error) => tracing::warn!(%error, "the store was not heard; trying again"),
            }
        }
        self.end(&machine).await;
        Ok(())
    }

    async fn obey(&mut self, standing: &Standing) {
        // What is not ours any more is let go of first, so that it can be taken anew.
        for key in self.engine.broken() {
            self.give_back(key, Duration::ZERO);
        }
        self.order = standing.order;
        if standing.order == Order::Abandon {
            self.engine.abandon();
        }
        let leaving = self.leaving.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mine: BTreeSet<_> = self.engine.lanes().into_iter().filter(|key| !leaving.contains(key)).collect();
        let held: BTreeSet<_> = standing.leases.iter().map(|(key, _)| key.clone()).chain(leaving).collect();
        // One who was silent for long, and just came back, is on the list by now.
        let mut workers = standing.workers.clone();
        workers.sort();
        let rank = workers.iter().position(|id| *id == self.id).unwrap_or(workers.len());
        // After a silence the others may not be on the list yet: whoever took all that is free then would give it back next.
        let fresh = self.heard.replace(Instant::now()).is_some_and(|heard| heard.elapsed() < SILENCE);
        let view = View { lanes: &self.keys, held: &held, mine: &mine, workers: workers.len().max(rank + 1), rank };
        let Moves { take, give_back } = if fresh { fleet::moves(&view) } else { Moves::default() };
        for key in give_back {
            tracing::info!(lane = %key.public_key, "giving the lane back: it is another's share now");
            self.give_back(key, HANDOVER);
        }
        join_all(take.iter().map(|key| self.take(key))).await;
        self.state.send_replace(State {
            heard_unix_ms: Some(unix_ms()),
            order: standing.order,
            workers: workers.len(),
            lanes: self.engine.lanes().len(),
        });
    }

    async fn take(&self, key: &LaneKey) {
        let Some(signer) = self.signers.get(key) else { return };
        let nonce = match self.key_nonce(key).await {
            Ok(nonce) => nonce,
            Err(error) => {
                tracing::warn!(lane = %key.public_key, %error, "the lane is not taken: its key cannot be read");
                return;
            }
        };
        match self.engine.take(signer.clone(), nonce).await {
            Ok(()) => tracing::info!(lane = %key.public_key, "took the lane"),
            Err(error @ StoreError::Held { .. }) => tracing::debug!(%error, "another was quicker"),
            Err(error) => tracing::warn!(lane = %key.public_key, %error, "the lane is not taken"),
        }
    }

    /// The nonce that the chain has seen of the lane's key. A key that was taken off the account has none: its attempts show
    /// what that means.
    async fn key_nonce(&self, key: &LaneKey) -> Result<u64, RpcError> {
        let read = self.client.access_key(&key.account, &key.public_key, At::Final).await?;
        Ok(read.value.map_or(0, |key| key.nonce))
    }

    fn give_back(&self, key: LaneKey, patience: Duration) {
        let (engine, leaving) = (self.engine.clone(), self.leaving.clone());
        if !leaving.lock().unwrap_or_else(PoisonError::into_inner).insert(key.clone()) {
            return;
        }
        self.tasks.spawn(async move {
            engine.give_back(&key, patience).await;
            leaving.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        });
    }

    /// Gives everything back.
    async fn end(&mut self, machine: &impl Fn(&mut Measured)) {
        for key in self.engine.lanes().into_iter().chain(self.engine.broken()) {
            self.give_back(key, HANDOVER);
        }
        self.tasks.close();
        self.tasks.wait().await;
        self.state.send_modify(|state| state.lanes = 0);
        let measured = self.measured(machine).to_bytes();
        let farewell = async {
            self.store.beat(self.id, SILENCE, measured).await?;
            self.store.leave(self.id).await
        };
        match tokio::time::timeout(SILENCE, farewell).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the others hear of the end by silence"),
            Err(_) => tracing::warn!("the store does not answer: the others hear of the end by silence"),
        }
    }

    fn measured(&mut self, machine: &impl Fn(&mut Measured)) -> Measured {
        let (live, settle) = {
            let recorder = self.tally.recorder();
            (recorder.live(self.tally.now_ns()), recorder.settle())
        };
        self.engine.look();
        let moment = self.moment();
        let evidence = self.during_load.look(moment, self.engine.evidence()).clone();
        let (mishaps, traffic) = (self.tally.mishaps(), self.client.traffic());
        let mut errors: BTreeMap<String, u64> = BTreeMap::new();
        for (label, times) in mishaps.errors.iter().chain(&traffic.errors) {
            *errors.entry((*label).to_owned()).or_default() += times;
        }
        let faults = self.engine.faults().into_iter();
        let mut measured = Measured {
            unix_ms: unix_ms(),
            lanes: self.engine.lanes().len() as u64,
            final_height: self.engine.head(),
            faults: faults.map(|(key, fault)| (key.public_key.to_string(), fault)).collect(),
            errors,
            nonce_conflicts: mishaps.nonce_conflicts,
            evidence,
            turned_away: self.tally.recorder().turned_away().collect(),
            succeeded: live.succeeded,
            failed: live.failed,
            transactions: live.transactions,
            settle,
            peak_rss_bytes: None,
        };
        machine(&mut measured);
        measured
    }

    /// Where the load stands, as far as this worker knows.
    fn moment(&self) -> Moment {
        let duration_ns = self.tally.recorder().schedule().duration_ns();
        match self.tally.start_unix_ns() {
            Some(start_unix_ns) if start_unix_ns / 1_000_000 <= unix_ms() => {
                let over = self.tally.now_ns() >= duration_ns || self.order != Order::Work;
                if over { Moment::After } else { Moment::During }
            }
            _ => Moment::Before,
        }
    }
}

fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
