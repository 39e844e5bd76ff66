//! Clients that wait for a transfer: one task looks for all of them together.

use nearbench_core::{TransferId, TransferState};
use nearbench_store::{Record, Records, is_final};
use std::{sync::Arc, time::Duration};
use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);
/// Records of one look's step, at most.
const MOST: usize = 1000;

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    Submitted,
    Final,
}

impl Until {
    pub(crate) fn is_reached(self, state: TransferState) -> bool {
        is_final(state) || (self == Self::Submitted && state == TransferState::Submitted)
    }
}

struct Waiting {
    id: TransferId,
    until: Until,
    deadline: Instant,
    answer: oneshot::Sender<Option<Record>>,
}

/// The way to the task that looks.
#[derive(Clone)]
pub(crate) struct Waits(mpsc::Sender<Waiting>);

impl Waits {
    /// Starts the task; it ends with the last of its handles.
    pub(crate) fn start<S: Records>(store: Arc<S>) -> Self {
        let (sender, receiver) = mpsc::channel(MOST);
        tokio::spawn(look(store, receiver));
        Self(sender)
    }

    /// The transfer once it is as far, or as it is at the deadline; `None` where it cannot be told.
    pub(crate) async fn wait(&self, id: TransferId, until: Until, timeout: Duration) -> Option<Record> {
        let (answer, receiver) = oneshot::channel();
        self.0.send(Waiting { id, until, deadline: Instant::now() + timeout, answer }).await.ok()?;
        receiver.await.ok().flatten()
    }
}

async fn look<S: Records>(store: Arc<S>, mut receiver: mpsc::Receiver<Waiting>) {
    let mut waiting = Vec::new();
    loop {
        if waiting.is_empty() {
            match receiver.recv().await {
                Some(next) => waiting.push(next),
                None => return,
            }
        }
        while let Ok(next) = receiver.try_recv() {
            waiting.push(next);
        }
        waiting.retain(|one: &Waiting| !one.answer.is_closed());
        let mut left = Vec::with_capacity(waiting.len());
        while !waiting.is_empty() {
            let some = waiting.split_off(waiting.len().saturating_sub(MOST));
            let ids: Vec<_> = some.iter().map(|one| one.id).collect();
            // A store that cannot be reached is asked again, until the deadline.
            let found = store.find(&ids).await.unwrap_or_else(|_| vec![None; ids.len()]);
            for (one, record) in some.into_iter().zip(found) {
                let reached = record.as_ref().is_some_and(|record| one.until.is_reached(record.state));
                if reached || Instant::now() >= one.deadline {
                    // Whoever left does not hear it.
                    let _ = one.answer.send(record);
                } else {
                    left.push(one);
                }
            }
        }
        waiting = left;
        if !waiting.is_empty() {
            let soonest = waiting.iter().map(|one| one.deadline).min().unwrap_or_else(Instant::now);
            tokio::time::sleep_until(soonest.min(Instant::now() + LOOK)).await;
        }
    }
}
