//! The driver: turns a schedule into arrivals, open loop.
//!
//! Transfer n is due at `start + intended(n)` whatever became of the ones before it. When the driver falls behind it
//! sends at once what is due and records by how much it was late; it never skips and never slows down to match.
//! It knows no chain and waits for no result.

mod http;
pub use http::{Target, drive_http};

use nearbench_core::{Account, Amount, Transfer, TransferId, measure::Recorder, schedule::Arrival};
use nearbench_store::{Store, StoreError};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// The client that the load is: a transfer's id comes of it and of the key that it is sent under, its number, whichever way
/// it is sent.
pub const CLIENT: &str = "load";

/// What each arrival asks for.
#[derive(Clone)]
pub struct Offer {
    /// The secret that ids are derived with.
    pub namespace: [u8; 32],
    /// Transfer n goes to `receivers[n % len]`.
    pub receivers: Arc<[Account]>,
    /// Smallest units that each moves.
    pub amount: Amount,
    /// Transfers in the queue above which an arrival is refused.
    pub max_queue_depth: u64,
    /// Of each phase: transfers under way above which an arrival is not sent (Artillery's `maxVusers`).
    pub max_under_way: Arc<[Option<u32>]>,
}

impl Offer {
    /// The id of transfer `n`.
    pub fn id(&self, n: u64) -> TransferId {
        TransferId::derive(&self.namespace, format!("{CLIENT}\0{n}").as_bytes())
    }

    /// The receiver of transfer `n`.
    pub fn receiver(&self, n: u64) -> &Account {
        &self.receivers[(n % self.receivers.len() as u64) as usize]
    }

    /// Leaves out what would exceed its phase's bound: it is never sent, and counted as such.
    fn drop_beyond_bounds(&self, due: &mut Vec<Arrival>, recorder: &Mutex<Recorder>) {
        let bound = |arrival: &Arrival| self.max_under_way.get(usize::from(arrival.phase)).copied().flatten();
        if due.iter().all(|arrival| bound(arrival).is_none()) {
            return;
        }
        let counts = recorder.lock().unwrap_or_else(PoisonError::into_inner).counts();
        let mut under_way = counts.accepted.saturating_sub(counts.ended());
        due.retain(|arrival| {
            let fits = bound(arrival).is_none_or(|bound| under_way < u64::from(bound));
            under_way += u64::from(fits);
            fits
        });
    }

    fn transfer(&self, arrival: &Arrival, now_ns: u64) -> Transfer {
        Transfer {
            id: self.id(arrival.n),
            receiver: self.receiver(arrival.n).clone(),
            amount: self.amount,
            memo: None,
            sequence: arrival.n,
            phase: arrival.phase,
            intended_ns: arrival.intended_ns,
            sent_ns: now_ns,
        }
    }
}

/// Arrivals handed to the queue in one step, at most. A driver that fell far behind still returns to its clock.
const MAX_STEP: usize = 4096;

/// Before a store that was restored is asked again.
const RESTORED_PAUSE: Duration = Duration::from_millis(250);

/// Puts every arrival into the queue when it is due, until the schedule ends or `stop` is cancelled.
///
/// # Errors
/// The store's, when it cannot take transfers at all; a full queue is a refusal, which is counted.
pub async fn drive<S: Store>(
    store: &S,
    arrivals: impl Iterator<Item = Arrival>,
    offer: &Offer,
    start: Instant,
    recorder: &Mutex<Recorder>,
    stop: &CancellationToken,
) -> Result<(), StoreError> {
    let mut arrivals = arrivals.peekable();
    let mut due: Vec<Arrival> = Vec::new();
    while let Some(next) = arrivals.peek() {
        let at = start + Duration::from_nanos(next.intended_ns);
        if Instant::now() < at {
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = stop.cancelled() => return Ok(()),
            }
        } else if stop.is_cancelled() {
            return Ok(());
        }
        let now_ns = nanos_since(start);
        due.clear();
        while let Some(arrival) = arrivals.next_if(|arrival| arrival.intended_ns <= now_ns) {
            due.push(arrival);
            if due.len() == MAX_STEP {
                break;
            }
        }
        offer.drop_beyond_bounds(&mut due, recorder);
        let transfers = due.iter().map(|arrival| offer.transfer(arrival, now_ns)).collect();
        let accepted = pushed(store, transfers, offer.max_queue_depth).await?;
        let accepted_ns = nanos_since(start);
        let mut recorder = recorder.lock().unwrap_or_else(PoisonError::into_inner);
        for (index, arrival) in due.iter().enumerate() {
            recorder.sent(arrival.phase, arrival.intended_ns, now_ns);
            if index < accepted {
                recorder.accepted(arrival.phase, arrival.intended_ns, accepted_ns);
            } else {
                recorder.rejected(arrival.phase, arrival.intended_ns);
            }
        }
    }
    Ok(())
}

/// Puts transfers into the queue, however long it takes: a store that was restored takes none until a worker has brought back
/// what the chain knows.
async fn pushed<S: Store>(store: &S, transfers: Vec<Transfer>, max_depth: u64) -> Result<usize, StoreError> {
    loop {
        match store.push(transfers.clone(), max_depth).await {
            Err(StoreError::Restored { .. }) => tokio::time::sleep(RESTORED_PAUSE).await,
            pushed => return pushed,
        }
    }
}

/// Nanoseconds from `start` to now; 0 before it.
fn nanos_since(start: Instant) -> u64 {
    u64::try_from(Instant::now().saturating_duration_since(start).as_nanos()).unwrap_or(u64::MAX)
}
