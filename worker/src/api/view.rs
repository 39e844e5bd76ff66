//! What clients read.

use super::{refusal::ErrorView, time::Time};
use crate::spool::Spooled;
use nearbench_core::{Account, TransferState};
use nearbench_store::Record;
use schemars::JsonSchema;
use serde::Serialize;
use std::collections::BTreeMap;

/// Where a transfer stands. The last four are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[schemars(rename = "Status")]
pub(crate) enum Status {
    Queued,
    Signed,
    Submitted,
    Finalized,
    Failed,
    Cancelled,
    NeedsReview,
}

impl From<TransferState> for Status {
    fn from(state: TransferState) -> Self {
        match state {
            TransferState::Queued => Self::Queued,
            TransferState::Signed => Self::Signed,
            TransferState::Submitted => Self::Submitted,
            TransferState::Finalized => Self::Finalized,
            TransferState::Failed => Self::Failed,
            TransferState::Cancelled => Self::Cancelled,
            TransferState::NeedsReview => Self::NeedsReview,
        }
    }
}

/// The state of this name.
pub(crate) fn state(name: &str) -> Option<TransferState> {
    use TransferState::{Cancelled, Failed, Finalized, NeedsReview, Queued, Signed, Submitted};
    [Queued, Signed, Submitted, Finalized, Failed, Cancelled, NeedsReview]
        .into_iter()
        .find(|state| state_name(*state) == name)
}

pub(crate) fn state_name(state: TransferState) -> &'static str {
    match state {
        TransferState::Queued => "queued",
        TransferState::Signed => "signed",
        TransferState::Submitted => "submitted",
        TransferState::Finalized => "finalized",
        TransferState::Failed => "failed",
        TransferState::Cancelled => "cancelled",
        TransferState::NeedsReview => "needs_review",
    }
}

/// A transfer.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Transfer")]
pub(crate) struct TransferView {
    /// At the head of the transfer's memo on chain.
    pub(crate) transfer_id: String,
    pub(crate) status: Status,
    /// This and amount and memo are null once details are no longer kept.
    pub(crate) receiver_id: Option<String>,
    pub(crate) amount: Option<String>,
    pub(crate) memo: Option<String>,
    pub(crate) token_id: String,
    /// The transaction that carries it, or carried it last.
    pub(crate) tx_hash: Option<String>,
    /// The same: a batch is a transaction.
    pub(crate) batch_id: Option<String>,
    /// How many transactions were signed with it.
    pub(crate) attempts: u32,
    pub(crate) error: Option<&'static str>,
    pub(crate) created_at: Time,
    pub(crate) updated_at: Time,
    pub(crate) finalized_at: Option<Time>,
    /// Oldest first; where one transfer is asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) events: Option<Vec<EventView>>,
}

/// A change of status.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Event")]
pub(crate) struct EventView {
    pub(crate) status: Status,
    pub(crate) at: Time,
    pub(crate) tx_hash: Option<String>,
}

impl TransferView {
    pub(crate) fn of(record: &Record, token: &Account) -> Self {
        let details = record.details.as_deref();
        let tx_hash = record.tx_hash.map(|hash| hash.to_string());
        Self {
            transfer_id: record.id.to_string(),
            status: record.state.into(),
            receiver_id: details.map(|details| details.receiver.to_string()),
            amount: details.map(|details| details.amount.to_string()),
            memo: details.and_then(|details| details.memo.as_ref()).map(|memo| memo.to_string()),
            token_id: token.to_string(),
            batch_id: tx_hash.clone(),
            tx_hash,
            attempts: record.attempts,
            error: record.error,
            created_at: Time(record.created),
            updated_at: Time(record.updated),
            finalized_at: record.finalized.map(Time),
            events: None,
        }
    }

    pub(crate) fn with_events(record: &Record, token: &Account) -> Self {
        let events = record.details.iter().flat_map(|details| &details.events).map(|event| EventView {
            status: event.state.into(),
            at: Time(event.at),
            tx_hash: event.tx_hash.map(|hash| hash.to_string()),
        });
        Self { events: Some(events.collect()), ..Self::of(record, token) }
    }
}

/// Transfers, newest first.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "TransferList")]
pub(crate) struct ListView {
    pub(crate) transfers: Vec<TransferView>,
    /// What to ask with for the next ones; a page may hold fewer than were asked for although there are more.
    pub(crate) next_cursor: Option<String>,
}

/// A transaction's transfers.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Transaction")]
pub(crate) struct TransactionView {
    pub(crate) tx_hash: String,
    pub(crate) transfers: Vec<TransferView>,
}

/// What became of a batch.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BatchResult")]
pub(crate) struct BatchView {
    pub(crate) accepted: usize,
    pub(crate) rejected: usize,
    /// In the order of the transfers.
    pub(crate) results: Vec<ResultView>,
}

/// What became of one of a batch: it has an id, or an error.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "BatchEntry")]
pub(crate) struct ResultView {
    pub(crate) index: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) transfer_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<Status>,
    /// It was accepted before.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) replayed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) error: Option<ErrorView>,
}

/// A transfer as older clients know it, and as `/v1` shows it.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "LegacyTransfer")]
pub(crate) struct LegacyView {
    pub(crate) success: bool,
    pub(crate) job_id: String,
    pub(crate) transaction_hash: Option<String>,
    #[serde(rename = "receiverId")]
    pub(crate) receiver: Option<String>,
    #[serde(rename = "batchId")]
    pub(crate) batch: Option<String>,
    pub(crate) submitted_at: Time,
    pub(crate) message: &'static str,
    #[serde(flatten)]
    pub(crate) transfer: TransferView,
}

impl From<TransferView> for LegacyView {
    fn from(transfer: TransferView) -> Self {
        let (success, message) = match transfer.status {
            Status::Finalized => (true, "the tokens moved"),
            Status::Failed | Status::Cancelled | Status::NeedsReview => {
                (false, "the tokens did not move, or nobody knows")
            }
            Status::Queued | Status::Signed | Status::Submitted => (true, "accepted"),
        };
        Self {
            success,
            job_id: transfer.transfer_id.clone(),
            transaction_hash: transfer.tx_hash.clone(),
            receiver: transfer.receiver_id.clone(),
            batch: transfer.batch_id.clone(),
            submitted_at: transfer.created_at,
            message,
            transfer,
        }
    }
}

/// Many transfers as older clients know them.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "LegacyBatch")]
pub(crate) struct LegacyBatchView {
    pub(crate) success: bool,
    /// Of those that were accepted.
    pub(crate) job_ids: Vec<String>,
    pub(crate) transaction_hash: Option<String>,
    /// How many were accepted.
    pub(crate) transfers: usize,
    pub(crate) batch_id: Option<String>,
    pub(crate) results: Vec<ResultView>,
    pub(crate) message: &'static str,
}

/// A transfer as older clients look it up.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "LegacyJob")]
pub(crate) struct JobView {
    pub(crate) success: bool,
    pub(crate) job: LegacyView,
}

/// How many keys of the account stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Keys")]
pub struct Keys {
    /// All.
    pub total: u64,
    /// Ready to sign.
    pub ready: u64,
    /// With attempts under way.
    pub in_flight: u64,
    /// Stopped by a fault.
    pub quarantined: u64,
}

/// How the transfers stand.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Jobs")]
pub(crate) struct JobsView {
    pub(crate) success: bool,
    /// By status: of the final ones ever, of the others those that stand there now.
    pub(crate) counts: BTreeMap<&'static str, u64>,
    pub(crate) uptime_ms: u64,
    pub(crate) timestamp: Time,
    /// Executed in a final block, a second, in the last minute.
    pub(crate) tps: f64,
    /// Accepted, a second, in the last minute.
    pub(crate) accepted_tps: f64,
    /// Of those that came to their end in the last minute, in percent.
    pub(crate) success_rate: Option<f64>,
    pub(crate) latency_ms: LatencyView,
    pub(crate) queue_depth: u64,
    pub(crate) oldest_queued_sec: Option<f64>,
    pub(crate) keys: Keys,
    /// Where there is a spool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spooled: Option<SpoolView>,
}

/// From acceptance to finality, of those that were finalized in the last minute.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Latency")]
pub(crate) struct LatencyView {
    pub(crate) p50: Option<u64>,
    pub(crate) p95: Option<u64>,
    pub(crate) p99: Option<u64>,
}

/// That the process answers.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Health")]
pub(crate) struct HealthView {
    pub(crate) status: &'static str,
}

/// Whether it can do its work.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Readiness")]
pub(crate) struct ReadyView {
    pub(crate) ready: bool,
    /// What it waits for.
    pub(crate) waiting_for: Vec<String>,
    /// Why no transfer is taken now though it works, such as before a load begins.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) closed: Option<&'static str>,
    /// Where there is a spool.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) spooled: Option<SpoolView>,
}

/// What this service took while the store was away, and the store does not have yet.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Spool")]
pub(crate) struct SpoolView {
    /// Transfers.
    pub(crate) waiting: u64,
    /// Since when the store is away; null while it is there.
    pub(crate) since: Option<Time>,
}

impl From<Spooled> for SpoolView {
    fn from(Spooled { waiting, since }: Spooled) -> Self {
        Self { waiting, since: since.map(Time) }
    }
}
