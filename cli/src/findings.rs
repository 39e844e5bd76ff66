//! What a load that is over comes to: every transfer is looked for on chain, and all of it becomes a report.

use crate::{chain::Chain, environment, exit::Failure, patience::patiently, progress::Progress};
use anyhow::Context;
use jiff::Timestamp;
use nearbench_core::{
    Height, Plan, TransferId,
    audit::{Audit, Expected},
    ensure,
    evidence::Evidence,
    ledger::{Final, Ledger},
    plan::Via,
    report::{self, BenchmarkReport, EndpointResults, Observed, Restarts, Results, Signals},
    schedule::{Arrival, Schedule},
    settle::Fate,
    transfer::TransferState,
    verdict::{self, Conduct},
};
use nearbench_load::Offer;
use nearbench_near::{
    audit::{self, AuditError, Scope},
    chain::Block,
    provision::Provisioned,
};
use nearbench_store::{Details, FileStore, Recall, Records, RedisStore, ResultRow, StoreError};
use nearbench_worker::Tally;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

/// Records that are read at once.
const RECORDS: usize = 1000;

/// A load whose transfers all ended, or were given up.
pub(crate) struct Outcome {
    pub(crate) tally: Arc<Tally>,
    pub(crate) offer: Offer,
    pub(crate) started: Timestamp,
    pub(crate) block_time: Duration,
    pub(crate) polling_error: Duration,
    /// Where the time of those went who carried the load, while it lasted.
    pub(crate) evidence: Evidence,
    pub(crate) throttled_ms: Option<u64>,
    pub(crate) steal_percent: Option<f64>,
    /// The highest block seen final.
    pub(crate) until: Height,
    /// Processes that were started again.
    pub(crate) restarts: Restarts,
    /// How far apart the clocks of several generators were.
    pub(crate) clocks_apart_ms: u64,
    /// Sent over HTTP, and nobody said whether they were accepted.
    pub(crate) unanswered: Vec<Arrival>,
}

/// The store that holds a run's transfers.
#[derive(Clone, Copy)]
pub(crate) enum Books<'a> {
    /// Of this process.
    Own(&'a FileStore),
    /// Of worker processes.
    Shared(&'a RedisStore),
}

impl Books<'_> {
    /// Counts those that were accepted though nobody told the load so: the store has them.
    pub(crate) async fn find_accepted(self, plan: &Plan, outcome: &Outcome) -> Result<(), StoreError> {
        match self {
            Self::Own(store) => find_accepted(plan, outcome, store).await,
            Self::Shared(store) => find_accepted(plan, outcome, store).await,
        }
    }

    async fn asked_by_others(self) -> Result<HashMap<TransferId, Expected>, StoreError> {
        match self {
            Self::Own(store) => asked_by_others(store).await,
            Self::Shared(store) => asked_by_others(store).await,
        }
    }
}

/// What there is to find out with.
#[derive(Clone, Copy)]
pub(crate) struct Findings<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) chain: &'a Chain,
    pub(crate) provisioned: &'a Provisioned,
    pub(crate) books: Books<'a>,
}

/// What the walk over the run's blocks brought.
#[derive(Clone, Copy)]
pub(crate) struct Audited {
    audit: Audit,
    /// Of the chunks' gas in the longest phase: burnt, in percent.
    chunk_fill: Option<f64>,
}

/// How full the chunks of a stretch of time were.
struct ChunkFill {
    /// In nanoseconds since the Unix epoch, by the blocks' own time.
    from_ns: i128,
    to_ns: i128,
    used: u128,
    limit: u128,
}

impl ChunkFill {
    /// Of the longest phase of a load that started at `started`.
    fn during(schedule: &Schedule, started: Timestamp) -> Self {
        let (from, to) = schedule.phase_bounds().nth(schedule.longest_phase()).unwrap_or_default();
        let start_ns = started.as_nanosecond();
        Self { from_ns: start_ns + i128::from(from), to_ns: start_ns + i128::from(to), used: 0, limit: 0 }
    }

    fn count(&mut self, block: &Block) {
        if (self.from_ns..self.to_ns).contains(&i128::from(block.at.timestamp_ns)) {
            self.used += u128::from(block.gas_used);
            self.limit += u128::from(block.gas_limit);
        }
    }

    fn percent(&self) -> Option<f64> {
        (self.limit > 0).then(|| self.used as f64 * 100.0 / self.limit as f64)
    }
}

impl Findings<'_> {
    /// Looks for every transfer on chain.
    pub(crate) async fn audit(&self, measured: &Outcome, progress: &Progress) -> Result<Audited, Failure> {
        let Self { plan, chain, provisioned, books, .. } = self;
        let ledger = measured.tally.ledger().clone();
        let others = match plan.load.via {
            Via::External => books.asked_by_others().await.map_err(Failure::run)?,
            Via::Queue | Via::Http => HashMap::new(),
        };
        let numbers: HashMap<_, _> = match plan.load.via {
            Via::External => HashMap::new(),
            Via::Queue | Via::Http => (0..ledger.total()).map(|n| (measured.offer.id(n), n)).collect(),
        };
        let expected = |id| match numbers.get(&id) {
            Some(n) => Some(expected(&measured.offer, &ledger, *n)),
            None => others.get(&id).cloned(),
        };
        let public_keys = provisioned.public_keys();
        let scope = Scope {
            account: &plan.account.account_id,
            public_keys: &public_keys,
            token: &plan.token.contract_id,
            receivers: &plan.receivers,
            from: provisioned.height,
            before: &provisioned.balances,
            until: measured.until,
        };
        let succeeded = measured.tally.recorder().counts().succeeded;
        let walk = || async {
            let chunks = Mutex::new(ChunkFill::during(&Schedule::new(&plan.load.phases), measured.started));
            let walked = |block: &Block, last| {
                chunks.lock().unwrap_or_else(PoisonError::into_inner).count(block);
                progress.audit(block.at.height, last);
            };
            let audit = audit::audit(&chain.client, &scope, &expected, succeeded, &walked).await?;
            Ok((audit, chunks.into_inner().unwrap_or_else(PoisonError::into_inner).percent()))
        };
        let (audit, chunk_fill) = patiently(progress, walk, |error| !matches!(error, AuditError::Endless))
            .await
            .context("the audit could not be done")
            .map_err(Failure::run)?;
        Ok(Audited { audit, chunk_fill })
    }

    /// Turns what was measured into a report.
    pub(crate) async fn report(
        &self,
        measured: &Outcome,
        audited: Option<Audited>,
        stopped_early: bool,
        run_started: &str,
    ) -> Result<BenchmarkReport, Failure> {
        let Self { plan, chain, provisioned, .. } = self;
        let node = chain.client.status().await.map_err(Failure::run)?;
        let block_time_ms = measured.block_time.as_secs_f64() * 1000.0;
        let observed = Observed {
            block_time_ms,
            restarts: measured.restarts,
            max_send_lag_ms: plan.load.max_send_lag_ms,
            signals: Signals::from(&measured.evidence),
            chunk_fill: audited.and_then(|audited| audited.chunk_fill),
            endpoints: EndpointResults::of(plan, &measured.evidence),
            audit: audited.map(|audited| audited.audit),
        };
        let names = plan.load.phases.iter().map(|phase| phase.name.as_str());
        let results = Results::new(&measured.tally.recorder(), names, &observed).map_err(Failure::run)?;
        let checks = ensure::evaluate(&plan.ensure, &results);
        let conduct = Conduct {
            stopped_early,
            max_send_lag_ms: plan.load.max_send_lag_ms,
            throttled_ms: measured.throttled_ms,
            load_ms: Schedule::new(&plan.load.phases).duration_ns() / 1_000_000,
            clocks_apart_ms: measured.clocks_apart_ms,
        };
        let judgement = verdict::judge(&results, &checks, &conduct);
        Ok(BenchmarkReport {
            api_version: report::API_VERSION.to_owned(),
            kind: report::KIND.to_owned(),
            run: report::Run {
                name: plan.name.clone(),
                start_time: run_started.to_owned(),
                load_start_time: Some(measured.started.to_string()),
                completion_time: Timestamp::now().to_string(),
            },
            environment: report::Environment {
                nearbench_version: env!("CARGO_PKG_VERSION").to_owned(),
                chain: report::Chain {
                    software: chain.software(&node.version).to_owned(),
                    version: node.version,
                    chain_id: node.chain_id,
                    protocol_version: node.protocol_version,
                    limits: provisioned.limits,
                    block_time_ms,
                },
                machine: environment::machine(),
                throttled_ms: measured.throttled_ms,
                steal_percent: measured.steal_percent,
                polling_error_ms: measured.polling_error.as_secs_f64() * 1000.0,
                peak_rss_bytes: environment::peak_rss_bytes(),
            },
            plan: Plan::clone(plan),
            results,
            ensure: checks,
            verdict: judgement.verdict,
            reasons: judgement.reasons,
        })
    }
}

async fn find_accepted(plan: &Plan, outcome: &Outcome, store: &impl Recall) -> Result<(), StoreError> {
    if plan.load.via == Via::External {
        return outcome.tally.recall_accepted(store).await;
    }
    if outcome.unanswered.is_empty() {
        return Ok(());
    }
    let mut open: HashMap<_, _> =
        outcome.unanswered.iter().map(|arrival| (outcome.offer.id(arrival.n), arrival.phase)).collect();
    let tally = &outcome.tally;
    let mut found = |id| {
        if let Some(phase) = open.remove(&id) {
            tally.recorder().accepted_without_answer(phase);
        }
    };
    store.unsettled().await?.into_iter().for_each(|transfer| found(transfer.id));
    store
        .results(&mut |row| match row {
            ResultRow::Settled { transfers, .. } | ResultRow::Cancelled { transfers } => {
                transfers.into_iter().for_each(|transfer| found(transfer.id));
            }
        })
        .await
}

/// What became of all that others sent: of whom the plan says nothing.
async fn asked_by_others<S: Recall + Records>(store: &S) -> Result<HashMap<TransferId, Expected>, StoreError> {
    let mut ends: HashMap<TransferId, TransferState> = HashMap::new();
    store
        .results(&mut |row| match row {
            ResultRow::Settled { settled, transfers, .. } => {
                for (index, transfer) in transfers.iter().enumerate() {
                    let state = match settled.settlement.fate(index) {
                        Fate::Requeue => continue,
                        Fate::Finalized => TransferState::Finalized,
                        Fate::Failed => TransferState::Failed,
                        Fate::NeedsReview => TransferState::NeedsReview,
                    };
                    ends.insert(transfer.id, state);
                }
            }
            ResultRow::Cancelled { transfers } => {
                ends.extend(transfers.iter().map(|transfer| (transfer.id, TransferState::Cancelled)));
            }
        })
        .await?;
    let ids: Vec<_> = ends.keys().copied().collect();
    let mut expected = HashMap::with_capacity(ids.len());
    for some in ids.chunks(RECORDS) {
        for record in store.find(some).await?.into_iter().flatten() {
            let (Some(details), Some(state)) = (record.details, ends.get(&record.id)) else { continue };
            let Details { receiver, amount, .. } = *details;
            expected.insert(record.id, Expected { receiver, amount, state: *state });
        }
    }
    Ok(expected)
}

/// What transfer `n` must be on chain.
fn expected(offer: &Offer, ledger: &Ledger, n: u64) -> Expected {
    Expected {
        receiver: offer.receiver(n).clone(),
        amount: offer.amount,
        state: match ledger.get(n) {
            Final::Succeeded => TransferState::Finalized,
            Final::Failed => TransferState::Failed,
            Final::Open => TransferState::NeedsReview,
        },
    }
}
