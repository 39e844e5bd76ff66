//! Tells the store which attempts were handed to an endpoint: many at once, since it is for those who look on and nothing
//! waits for it.

use crate::engine::Shared;
use nearbench_store::{AttemptId, Store};
use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::sync::Notify;

/// How long an attempt waits for others to be told of with it.
const LINGER: Duration = Duration::from_millis(50);

/// Attempts that were sent, and that the store was not told of.
#[derive(Default)]
pub(crate) struct Sent {
    attempts: Mutex<Vec<AttemptId>>,
    some: Notify,
}

impl Sent {
    pub(crate) fn note(&self, attempt: AttemptId) {
        self.attempts.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
        self.some.notify_one();
    }
}

/// Tells it, until the engine ends.
pub(crate) async fn tell<S: Store>(shared: Arc<Shared<S>>) {
    let tell = async {
        loop {
            shared.sent.some.notified().await;
            tokio::time::sleep(LINGER).await;
            let attempts = std::mem::take(&mut *shared.sent.attempts.lock().unwrap_or_else(PoisonError::into_inner));
            if !attempts.is_empty()
                && let Err(error) = shared.store.sent(&attempts).await
            {
                tracing::debug!(%error, "the store does not know what was sent");
            }
        }
    };
    shared.abandon.run_until_cancelled(tell).await;
}
