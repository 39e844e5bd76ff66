//! From a sent attempt to its settlement. In doubt it resends the same bytes, and it never concludes from a hint.

use crate::{
    engine::Shared,
    ids::{self, Ids},
    judge::{self, Judgement},
    lane::{Lane, Place},
};
use nearbench_core::{
    Height, Nonce, Transfer,
    backoff::Backoff,
    outcome::{Execution, FailureKind, Landed, Refusal, TxStatus},
    settle::{self, DeathCertificate, Executed, Fate, Proof, Settled, Settlement, Subject},
};
use nearbench_near::{SignedTx, chain::Wait, receipts::Payment, rpc::RpcError};
use nearbench_store::{Attempt, AttemptId, LaneKey, Store, StoreError};
use std::{sync::Arc, time::Duration};
use tokio::sync::watch;

/// Final blocks to wait for a block that should be among them, before asking for the outcome again.
const FORK_PATIENCE: u64 = 10;
/// Final blocks after which an attempt should have been seen in one, were it on its way.
const OVERDUE: Height = 10;
/// Final blocks after which an attempt that nobody knows, and that nothing under way will overtake, is fenced off.
const FENCE_PATIENCE: Height = 50;
/// Between two sendings of the same bytes.
pub(crate) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(250), Duration::from_secs(5));

/// An attempt that is stored and not settled.
pub(crate) struct Open {
    pub(crate) id: AttemptId,
    pub(crate) attempt: Attempt,
    pub(crate) transfers: Arc<[Transfer]>,
    /// It may never have reached an endpoint.
    pub(crate) resend_first: bool,
}

/// A line of the log about an attempt: what it is, then what there is to say.
macro_rules! log {
    ($level:ident, $open:expr, $($more:tt)*) => {
        tracing::$level!(
            tx_hash = %$open.attempt.hash,
            transfers = $open.transfers.len(),
            transfer_ids = %ids::few(&$open.transfers),
            $($more)*
        )
    };
}

/// What was proven of an attempt.
enum Evidence {
    /// It was executed in a final block.
    Landed(Landed, Executed),
    /// It can never be.
    Dead(DeathCertificate),
}

/// Confirms in a task of its own. `place` is given back as soon as the execution is seen: waiting for finality
/// occupies nothing on the chain. Gathering evidence can be broken off; settling cannot. Once the lane is gone, what has no
/// evidence yet is its next holder's.
pub(crate) fn spawn<S: Store>(shared: Arc<Shared<S>>, lane: Arc<Lane>, open: Open, place: Option<Place>) {
    let tracker = lane.tasks.clone();
    tracker.spawn(async move {
        let evidence = shared.abandon.run_until_cancelled(gather(&shared, &lane, &open, place));
        let Some(evidence) = lane.gone.run_until_cancelled(evidence).await else { return };
        lane.open().remove(open.attempt.nonce);
        match evidence {
            Some(Evidence::Landed(landed, executed)) => settle_landed(&shared, &lane, &open, &landed, executed).await,
            Some(Evidence::Dead(certificate)) => {
                log!(info, open, ?certificate, "never included; its transfers go back to the queue");
                settle(&shared, &open, Settlement::All(Fate::Requeue), Proof::Dead(certificate), None).await;
                if matches!(certificate, DeathCertificate::KeyGone { .. }) {
                    lane.halt(&shared, FailureKind::KeyGone);
                }
            }
            // The run ends without proof: a person decides.
            None => {
                log!(info, open, "there is no proof of its end: its transfers need a review");
                settle(&shared, &open, Settlement::All(Fate::NeedsReview), Proof::None, None).await;
            }
        }
        shared.progress.notify_one();
    });
}

async fn gather<S: Store>(shared: &Shared<S>, lane: &Lane, open: &Open, mut place: Option<Place>) -> Evidence {
    let mut resend = open.resend_first;
    loop {
        let landed = match execution(shared, lane, open, resend).await {
            Ok(landed) => landed,
            Err(certificate) => return Evidence::Dead(certificate),
        };
        let at_ns = shared.tally.now_ns();
        place.take();
        lane.open().remove(open.attempt.nonce);
        let block = match shared.finality.wait_for(landed.block, FORK_PATIENCE).await {
            Some(block) => Some(block),
            None => shared.finality.look_up(&shared.client, landed.block).await.unwrap_or_default(),
        };
        if let Some(block) = block {
            lane.passed.send_if_modified(|passed| {
                let higher = open.attempt.nonce > *passed;
                *passed = open.attempt.nonce.max(*passed);
                higher
            });
            let Landed { receipt, block: hash, .. } = landed;
            return Evidence::Landed(
                landed,
                Executed { receipt, block: hash, block_unix_ns: block.timestamp_ns, at_ns },
            );
        }
        log!(warn, open, block = %landed.block, "its block did not become final; asking again");
        resend = false;
    }
}

/// Waits for the execution, resending where nothing is known of the attempt; its death certificate once it is proven
/// dead.
async fn execution<S: Store>(
    shared: &Shared<S>,
    lane: &Lane,
    open: &Open,
    mut resend: bool,
) -> Result<Landed, DeathCertificate> {
    let Attempt { hash, .. } = open.attempt;
    let signed = SignedTx { hash, bytes: open.attempt.bytes.clone() };
    let mut backoff = BACKOFF;
    let mut doubt = Doubt::default();
    let mut passed = lane.passed.subscribe();
    let mut heed_passing = true;
    loop {
        // A higher nonce that lands first kills this one, so only the lowest open nonce is resent.
        let resend_now = resend && lane.open().is_lowest(open.attempt.nonce);
        let ask = async {
            match resend_now {
                true => shared.client.resend_and_learn(&signed, &lane.key.account).await,
                false => shared.client.tx_status(hash, &lane.key.account, Wait::ExecutedOptimistic).await,
            }
        };
        // A node waits for what it does not know for as long as for what is on its way.
        let answer = tokio::select! {
            answer = ask => answer,
            () = overtaken(&mut passed, open.attempt.nonce), if heed_passing => {
                heed_passing = false;
                shared.client.tx_status(hash, &lane.key.account, Wait::None).await
            }
            () = shared.finality.reaches(shared.finality.head().height + OVERDUE) => {
                shared.client.tx_status(hash, &lane.key.account, Wait::None).await
            }
        };
        match answer {
            Ok(TxStatus::Landed(landed)) => return Ok(landed),
            Ok(TxStatus::Pending) => (resend, doubt) = (false, Doubt::default()),
            Ok(TxStatus::Unknown) => {
                resend = true;
                if let Some(end) = doubt.resolve(shared, lane, open).await {
                    return end;
                }
            }
            Ok(TxStatus::Invalid(refusal)) => {
                note(shared, &refusal);
                // A refusal is a hint. What it hints at decides what to ask next: the outcome, or the key.
                resend = !matches!(refusal, Refusal::NonceTooLow { .. }) && !refusal.is_for_good();
                doubt.refused_for_good |= refusal.is_for_good();
                if let Some(end) = doubt.resolve(shared, lane, open).await {
                    return end;
                }
            }
            Err(error) => {
                unanswered(shared, open, &error);
                resend = true;
            }
        }
        tokio::time::sleep(backoff.step(shared.jitter())).await;
    }
}

/// Returns once a nonce above `nonce` is seen in a final block.
async fn overtaken(passed: &mut watch::Receiver<Nonce>, nonce: Nonce) {
    if passed.wait_for(|passed| *passed > nonce).await.is_err() {
        // The lane has ended, and says nothing more.
        std::future::pending().await
    }
}

/// An attempt that was sent and of which its endpoint knows nothing.
#[derive(Default)]
struct Doubt {
    /// The final height at which it began, or at which the lane was last asked for a fence.
    since: Option<Height>,
    refused_for_good: bool,
    /// Whether it was told that nobody can tell.
    told: bool,
}

impl Doubt {
    /// Looks for proof: its outcome, or its death certificate. Without either, sees to it that there will be some.
    async fn resolve<S: Store>(
        &mut self,
        shared: &Shared<S>,
        lane: &Lane,
        open: &Open,
    ) -> Option<Result<Landed, DeathCertificate>> {
        let Attempt { hash, nonce, base_height: base, expiry_height: expiry, .. } = open.attempt;
        let subject = Subject { hash, nonce, base, expiry };
        match judge::judge(&shared.client, &lane.key, &subject).await {
            Ok(Judgement::Dead(certificate)) => return Some(Err(certificate)),
            Ok(Judgement::Included(height)) => match outcome(shared, lane, open, height).await {
                Ok(Some(landed)) => return Some(Ok(landed)),
                Ok(None) => self.tell(open, "it is in a final block, and no endpoint knows its outcome"),
                Err(error) => unanswered(shared, open, &error),
            },
            Ok(Judgement::Listed(height)) => match outcome(shared, lane, open, height).await {
                Ok(Some(landed)) => return Some(Ok(landed)),
                Ok(None) => {
                    self.tell(open, "it stands in a final block, and no endpoint knows whether it was valid there")
                }
                Err(error) => unanswered(shared, open, &error),
            },
            Ok(Judgement::Unknowable) => {
                self.tell(open, "its key's past is collected everywhere, or contradicts itself")
            }
            Ok(Judgement::MayLand) => self.fence(shared, lane, nonce),
            Err(error) => unanswered(shared, open, &error),
        }
        None
    }

    /// Asks the lane for a fence where nothing else will move the key past an attempt that cannot, or does not, land.
    fn fence<S: Store>(&mut self, shared: &Shared<S>, lane: &Lane, nonce: u64) {
        let head = shared.finality.head().height;
        let since = *self.since.get_or_insert(head);
        let patience = if self.refused_for_good { 0 } else { FENCE_PATIENCE };
        if head >= since + patience && lane.open().is_highest(nonce) {
            lane.fence.notify_one();
            self.since = Some(head);
            self.refused_for_good = false;
        }
    }

    fn tell(&mut self, open: &Open, why: &str) {
        if !std::mem::replace(&mut self.told, true) {
            log!(warn, open, "{why}: an archival endpoint would tell; asking again");
        }
    }
}

/// The outcome of an attempt in a final block: under its hash, else by its receipt and the token's events. Under its hash
/// it may be collected, or hidden behind a failure of the same bytes in another chunk.
async fn outcome<S: Store>(
    shared: &Shared<S>,
    lane: &Lane,
    open: &Open,
    included: Height,
) -> Result<Option<Landed>, RpcError> {
    let LaneKey { account, public_key } = &lane.key;
    match shared.client.outcome_from_any(open.attempt.hash, account).await {
        Ok(TxStatus::Landed(landed)) => return Ok(Some(landed)),
        Ok(TxStatus::Pending) => return Ok(None),
        Ok(TxStatus::Unknown | TxStatus::Invalid(_)) => {}
        // Whoever does not answer may know the outcome; the others may have the receipt.
        Err(error) => unanswered(shared, open, &error),
    }
    let ids: Vec<_> = open.transfers.iter().map(|transfer| transfer.id).collect();
    let payment = Payment { account, public_key, token: &shared.token, ids: &ids };
    shared.client.executed(&payment, included).await
}

/// No answer. What the endpoint is to blame for is counted where it is asked.
fn unanswered<S: Store>(shared: &Shared<S>, open: &Open, error: &RpcError) {
    if !error.fault.is_endpoints() {
        shared.tally.mishap(error.fault.label());
    }
    log!(debug, open, %error, "no answer; trying again");
}

fn note<S: Store>(shared: &Shared<S>, refusal: &Refusal) {
    shared.tally.mishap(refusal.label());
    if matches!(refusal, Refusal::NonceTooLow { .. } | Refusal::NonceTooHigh { .. }) {
        shared.tally.nonce_conflict();
    }
}

async fn settle_landed<S: Store>(
    shared: &Arc<Shared<S>>,
    lane: &Lane,
    open: &Open,
    landed: &Landed,
    executed: Executed,
) {
    let ruling = settle::landed(&landed.execution, open.transfers.len());
    let failure = match &landed.execution {
        Execution::Failure { kind, .. } => Some(kind.clone()),
        Execution::Success => None,
    };
    settle(shared, open, ruling.settlement, Proof::Executed(executed), failure).await;
    if let Some(fault) = ruling.systemic {
        lane.halt(shared, fault);
    }
}

/// Ends the attempt in the store; the counts belong to whoever did.
async fn settle<S: Store>(
    shared: &Shared<S>,
    open: &Open,
    settlement: Settlement,
    proof: Proof,
    failure: Option<FailureKind>,
) {
    let settled = Settled { settlement, proof, failure, at_ns: shared.tally.now_ns() };
    match shared.step(shared.store.settle(open.id, &settled)).await {
        Ok(()) => {
            shared.tally.settled(&open.transfers, &settled);
            tell(open, &settled);
        }
        // The whole run hears of it, and says so once.
        Err(error @ StoreError::File { .. }) => log!(debug, open, %error, "not settled here"),
        Err(error) => log!(warn, open, %error, "not settled here"),
    }
}

/// Tells who follows a transfer what became of it, by the transaction that carried it.
fn tell(open: &Open, settled: &Settled) {
    if !tracing::enabled!(tracing::Level::DEBUG) {
        return;
    }
    for (fate, outcome) in [
        (Fate::Finalized, "succeeded"),
        (Fate::Failed, "failed"),
        (Fate::Requeue, "requeued"),
        (Fate::NeedsReview, "needs_review"),
    ] {
        let such = open.transfers.iter().enumerate().filter(|(index, _)| settled.settlement.fate(*index) == fate);
        let such = such.map(|(_, transfer)| transfer.id);
        let transfers = such.clone().count();
        if transfers > 0 {
            let reason = settled.failure.as_ref().map(FailureKind::label);
            tracing::debug!(
                tx_hash = %open.attempt.hash,
                transfers,
                transfer_ids = %Ids(such),
                outcome,
                reason,
                "settled"
            );
        }
    }
}
