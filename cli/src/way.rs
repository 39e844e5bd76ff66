//! How the load goes from its schedule to those who carry it: the one place that knows every way.

use nearbench_core::schedule::{Arrival, Schedule};
use nearbench_load::{Offer, Target};
use nearbench_store::{FileStore, Recall, RedisStore, ResultRow, StoreError};
use nearbench_worker::Tally;
use std::{sync::Arc, time::Duration};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// What is left to be offered, and by whom.
#[derive(Clone, Copy)]
pub(crate) struct Due<'a> {
    pub(crate) schedule: &'a Schedule,
    /// This generator, and of how many.
    pub(crate) share: (u32, u32),
    /// What was due before, in nanoseconds since the load's start, is not sent.
    pub(crate) since_start_ns: u64,
}

/// How the load reaches those who carry it.
pub(crate) enum Way {
    /// Into the queue of this process.
    Own(Arc<FileStore>),
    /// Into the queue that worker processes share.
    Shared(Arc<RedisStore>),
    /// Over HTTP.
    Http(Target),
    /// Somebody else sends it.
    Others,
}

impl Way {
    /// Offers what is due. Returns those of which nobody said whether they were accepted.
    pub(crate) async fn drive(
        self,
        due: Due<'_>,
        offer: &Offer,
        start: Instant,
        tally: Arc<Tally>,
        cut: &CancellationToken,
    ) -> Result<Vec<Arrival>, StoreError> {
        let Due { schedule, share: (generator, generators), since_start_ns } = due;
        let arrivals = schedule.arrivals(generator, generators);
        let arrivals = arrivals.skip_while(|arrival| arrival.intended_ns < since_start_ns);
        match self {
            Self::Own(store) => nearbench_load::drive(&*store, arrivals, offer, start, &tally.recorder, cut).await?,
            Self::Shared(store) => nearbench_load::drive(&*store, arrivals, offer, start, &tally.recorder, cut).await?,
            Self::Http(target) => {
                return Ok(nearbench_load::drive_http(target, arrivals, offer, start, tally, cut).await);
            }
            Self::Others => {
                let end = start + Duration::from_nanos(schedule.duration_ns());
                // Whether it ended or was cut, there is nothing to say of it.
                let _ = cut.run_until_cancelled(tokio::time::sleep_until(end)).await;
            }
        }
        Ok(Vec::new())
    }
}

/// The latest moment that a run recorded, in nanoseconds since its load's start.
pub(crate) async fn latest_ns(store: &impl Recall) -> Result<u64, StoreError> {
    let mut latest_ns = store.unsettled().await?.iter().map(|transfer| transfer.sent_ns).max().unwrap_or(0);
    let mut look = |row| {
        latest_ns = latest_ns.max(match row {
            ResultRow::Settled { settled, .. } => settled.at_ns,
            ResultRow::Cancelled { transfers } => {
                transfers.iter().map(|transfer| transfer.sent_ns).max().unwrap_or_default()
            }
        });
    };
    store.results(&mut look).await?;
    Ok(latest_ns)
}
