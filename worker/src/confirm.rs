//! From a sent attempt to its settlement. In doubt it resends the same bytes, and it never concludes from a hint.

use crate::{
    engine::Shared,
    lane::{Lane, Place},
};
use nearbench_core::{
    Transfer,
    backoff::Backoff,
    outcome::{Execution, FailureKind, Landed, Refusal, TxStatus},
    settle::{self, DeathCertificate, Executed, Fate, KeyLook, Look, Proof, Settled, Settlement, Subject},
};
use nearbench_near::{
    SignedTx,
    chain::{At, Wait},
};
use nearbench_store::{Attempt, AttemptId, Store};
use std::{sync::Arc, time::Duration};

/// Final blocks to wait for a block that should be among them, before asking for the outcome again.
const FORK_PATIENCE: u64 = 10;
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

/// What was proven of an attempt.
enum Evidence {
    /// It was executed in a final block.
    Landed(Landed, Executed),
    /// It can never be.
    Dead(DeathCertificate),
}

/// Confirms in a task of its own. `place` is given back as soon as the execution is seen: waiting for finality
/// occupies nothing on the chain. Gathering evidence can be broken off; settling cannot.
pub(crate) fn spawn<S: Store>(shared: Arc<Shared<S>>, lane: Arc<Lane>, open: Open, place: Place) {
    let tracker = shared.tasks.clone();
    tracker.spawn(async move {
        let evidence = shared.abandon.run_until_cancelled(gather(&shared, &lane, &open, place)).await;
        lane.open().remove(open.attempt.nonce);
        match evidence {
            Some(Evidence::Landed(landed, executed)) => settle_landed(&shared, &lane, &open, &landed, executed).await,
            Some(Evidence::Dead(certificate)) => {
                tracing::info!(hash = %open.attempt.hash, ?certificate, "never included; its transfers go back to the queue");
                settle(&shared, &open, Settlement::All(Fate::Requeue), Proof::Dead(certificate), None).await;
            }
            // The run ends without proof: a person decides.
            None => settle(&shared, &open, Settlement::All(Fate::NeedsReview), Proof::None, None).await,
        }
        shared.progress.notify_one();
    });
}

async fn gather<S: Store>(shared: &Shared<S>, lane: &Lane, open: &Open, place: Place) -> Evidence {
    let mut place = Some(place);
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
            let Landed { receipt, block: hash, .. } = landed;
            return Evidence::Landed(
                landed,
                Executed { receipt, block: hash, block_unix_ns: block.timestamp_ns, at_ns },
            );
        }
        tracing::warn!(hash = %open.attempt.hash, block = %landed.block, "its block did not become final; asking again");
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
    loop {
        // A higher nonce that lands first kills this one, so only the lowest open nonce is resent.
        let answer = if resend && lane.open().is_lowest(open.attempt.nonce) {
            shared.client.resend_and_learn(&signed, &lane.key.account).await
        } else {
            shared.client.tx_status(hash, &lane.key.account, Wait::ExecutedOptimistic).await
        };
        match answer {
            Ok(TxStatus::Landed(landed)) => return Ok(landed),
            Ok(TxStatus::Pending) => resend = false,
            Ok(TxStatus::Unknown) => {
                resend = true;
                if let Some(certificate) = death(shared, lane, open).await {
                    return Err(certificate);
                }
            }
            Ok(TxStatus::Invalid(refusal)) => {
                note(shared, &refusal);
                // A refusal is a hint. What it hints at decides what to ask next: the outcome, or the key.
                resend = !matches!(refusal, Refusal::NonceTooLow { .. });
                if let Some(certificate) = death(shared, lane, open).await {
                    return Err(certificate);
                }
            }
            Err(error) => {
                // What the endpoint is to blame for is counted where it is asked.
                if !error.fault.is_endpoints() {
                    shared.tally.recorder().error(error.fault.label());
                }
                tracing::debug!(%hash, %error, "no answer; trying again");
                resend = true;
            }
        }
        tokio::time::sleep(backoff.step(shared.jitter())).await;
    }
}

fn note<S: Store>(shared: &Shared<S>, refusal: &Refusal) {
    let mut recorder = shared.tally.recorder();
    recorder.error(refusal.label());
    if matches!(refusal, Refusal::NonceTooLow { .. } | Refusal::NonceTooHigh { .. }) {
        recorder.nonce_conflict();
    }
}

/// One look at the key at a final block past the expiry, and the rule.
async fn death<S: Store>(shared: &Shared<S>, lane: &Lane, open: &Open) -> Option<DeathCertificate> {
    let Attempt { hash, nonce, base_height: base, expiry_height: expiry, .. } = open.attempt;
    if shared.finality.head().height <= expiry {
        return None;
    }
    let read = shared.client.access_key(&lane.key.account, &lane.key.public_key, At::Final).await.ok()?;
    let key = KeyLook { height: read.height, nonce: read.value.map(|key| key.nonce) };
    match settle::look(&Subject { hash, nonce, base, expiry }, &key) {
        Look::Dead(certificate) => Some(certificate),
        Look::MayLand | Look::SearchThePast => None,
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
        shared.tally.recorder().error(fault.label());
        tracing::error!(lane = %lane.key.public_key, ?fault, "a fault that is no transfer's own; the lane stops");
        // Whoever set it first said it all.
        let _ = lane.fault.set(fault);
        lane.stop.cancel();
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
    match shared.store.settle(open.id, &settled).await {
        Ok(()) => shared.tally.settled(&open.transfers, &settled),
        Err(error) => tracing::warn!(hash = %open.attempt.hash, %error, "not settled here"),
    }
}
