//! Work on a chain that may be out of reach for a while: tried again before it is given up.

use crate::progress::Progress;
use nearbench_core::backoff::Backoff;
use rand::Rng;
use std::{fmt::Display, future::Future, time::Duration};

/// With what a single read waits, an endpoint may be gone for about half a minute.
const TRIES: usize = 6;
const PAUSES: Backoff = Backoff::new(Duration::from_secs(4), Duration::from_secs(16));

/// Does the work, and does it again from its beginning where it fails in a way that `may_pass`.
pub(crate) async fn patiently<T, E: Display, W: Future<Output = Result<T, E>>>(
    progress: &Progress,
    work: impl Fn() -> W,
    may_pass: impl Fn(&E) -> bool,
) -> Result<T, E> {
    let mut pauses = PAUSES;
    for _ in 1..TRIES {
        match work().await {
            Err(error) if may_pass(&error) => progress.step(&format!("trying again: {error}")),
            ended => return ended,
        }
        tokio::time::sleep(pauses.step(rand::rng().random())).await;
    }
    work().await
}
