//! A series with fewer points: neighbouring seconds become one, and nothing that was counted is lost.

use super::{BenchmarkReport, SeriesPoint};

/// Points of a series that goes where room is scarce, at most.
pub const MOST_POINTS: u32 = 1_000;

impl BenchmarkReport {
    /// The same report with at most [`MOST_POINTS`] points in its series; one that has no more stays as it is.
    pub fn thinned(mut self) -> Self {
        let results = &mut self.results;
        let step = results.series_step_seconds.max(1);
        let end = results.series.last().map_or(0, |point| point.second / step + 1);
        let step = step * end.div_ceil(MOST_POINTS).max(1);
        (results.series, results.series_step_seconds) = (folded(&results.series, step), step);
        self
    }
}

/// The same series by `step` seconds, which are a multiple of what its points stand for. Of a point of an earlier version, which
/// does not tell how many transfers its mean is of, every second counts alike.
pub fn folded(series: &[SeriesPoint], step: u32) -> Vec<SeriesPoint> {
    let step = step.max(1);
    let mut folded: Vec<SeriesPoint> = Vec::with_capacity(series.len());
    // What the mean of the last one is of.
    let mut weight = 0.0;
    for point in series {
        let first = point.second - point.second % step;
        let own = point.settle_mean_ms.map_or(0.0, |_| f64::from(point.settled.max(1)));
        match folded.last_mut().filter(|last| last.second == first) {
            Some(last) => {
                add(last, point, weight, own);
                weight += own;
            }
            None => {
                folded.push(SeriesPoint { second: first, ..*point });
                weight = own;
            }
        }
    }
    folded
}

/// Adds a point, whose mean is of so many transfers as its weight says.
fn add(to: &mut SeriesPoint, point: &SeriesPoint, weight: f64, own: f64) {
    to.offered += point.offered;
    for (sum, more) in [
        (&mut to.sent, point.sent),
        (&mut to.accepted, point.accepted),
        (&mut to.rejected, point.rejected),
        (&mut to.succeeded, point.succeeded),
        (&mut to.failed, point.failed),
        (&mut to.transactions, point.transactions),
        (&mut to.settled, point.settled),
    ] {
        *sum = sum.saturating_add(more);
    }
    to.settle_mean_ms = match (to.settle_mean_ms, point.settle_mean_ms) {
        (Some(mean), Some(other)) => Some((mean * weight + other * own) / (weight + own)),
        (mean, other) => mean.or(other),
    };
    to.settle_max_ms = match (to.settle_max_ms, point.settle_max_ms) {
        (Some(most), Some(other)) => Some(most.max(other)),
        (most, other) => most.or(other),
    };
    to.queue_depth = to.queue_depth.max(point.queue_depth);
}
