//! The series of a run that is followed from elsewhere: made of how it stood from moment to moment, where a report's is made
//! of what was recorded.

use crate::standing::Standing;
use serde::Serialize;

/// A history has at most so many points; one that would have more has each two of them as one.
pub const MOST_POINTS: usize = 1_000;
/// Between two points, at first.
const LEAST_STEP_MS: u64 = 1_000;

/// What a run did between two moments. The names are those of a report's series; all but times, latencies and depth are
/// events a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Point {
    /// When it ended, in seconds since the load's start.
    pub second: f64,
    /// How long it was, in seconds.
    #[serde(skip)]
    pub length_s: f64,
    /// Transfers meant to arrive.
    pub offered: f64,
    /// Accepted.
    pub accepted: f64,
    /// Rejected.
    pub rejected: f64,
    /// Became final as succeeded.
    pub succeeded: f64,
    /// Failed.
    pub failed: f64,
    /// Transactions that were executed.
    pub transactions: f64,
    /// The mean settle latency over the ten seconds before its end, in milliseconds.
    pub settle_mean_ms: Option<f64>,
    /// The longest.
    pub settle_max_ms: Option<f64>,
    /// The queue at its end.
    pub queue_depth: u64,
}

/// What was seen of a run so far.
#[derive(Clone, Debug, Default)]
pub struct History {
    points: Vec<Point>,
    last: Option<Standing>,
    step_ms: u64,
}

impl History {
    /// Its points, from the earliest to the latest.
    pub fn points(&self) -> &[Point] {
        &self.points
    }

    /// Adds how the run stands now. A moment too soon after the last one, or before it, changes nothing.
    pub fn add(&mut self, now: &Standing) {
        if now.phase.is_empty() {
            return;
        }
        let step_ms = self.step_ms.max(LEAST_STEP_MS);
        let Some(last) = &self.last else {
            self.last = Some(now.clone());
            return;
        };
        if now.figures.elapsed_ms < last.figures.elapsed_ms + step_ms {
            return;
        }
        self.points.push(between(last, now));
        self.last = Some(now.clone());
        if self.points.len() > MOST_POINTS {
            self.points = self.points.chunks(2).map(fold).collect();
            self.step_ms = step_ms * 2;
        }
    }
}

fn between(last: &Standing, now: &Standing) -> Point {
    let (before, after) = (&last.figures, &now.figures);
    let length_s = (after.elapsed_ms - before.elapsed_ms) as f64 / 1_000.0;
    // What workers tell may go back for a moment, when one of them begins anew.
    let rate = |before: u64, after: u64| (after.saturating_sub(before) as f64 / length_s * 1_000.0).round() / 1_000.0;
    Point {
        second: after.elapsed_ms as f64 / 1_000.0,
        length_s,
        offered: rate(last.offered, now.offered),
        accepted: rate(before.accepted, after.accepted),
        rejected: rate(before.rejected, after.rejected),
        succeeded: rate(last.succeeded, now.succeeded),
        failed: rate(before.failed, after.failed),
        transactions: rate(before.transactions, after.transactions),
        settle_mean_ms: after.settle_mean_ms,
        settle_max_ms: after.settle_max_ms,
        queue_depth: after.queue_depth,
    }
}

/// Points that follow one another, as one.
fn fold(points: &[Point]) -> Point {
    let length_s: f64 = points.iter().map(|point| point.length_s).sum();
    let rate = |of: fn(&Point) -> f64| points.iter().map(|point| of(point) * point.length_s).sum::<f64>() / length_s;
    let highest = |of: fn(&Point) -> Option<f64>| points.iter().filter_map(of).reduce(f64::max);
    let known = points.iter().filter_map(|point| point.settle_mean_ms);
    let means = known.clone().count();
    Point {
        second: points.last().map_or(0.0, |point| point.second),
        length_s,
        offered: rate(|point| point.offered),
        accepted: rate(|point| point.accepted),
        rejected: rate(|point| point.rejected),
        succeeded: rate(|point| point.succeeded),
        failed: rate(|point| point.failed),
        transactions: rate(|point| point.transactions),
        settle_mean_ms: (means > 0).then(|| known.sum::<f64>() / means as f64),
        settle_max_ms: highest(|point| point.settle_max_ms),
        queue_depth: points.iter().map(|point| point.queue_depth).max().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{lifecycle::Stage, standing::Figures};
    use proptest::prelude::*;

    fn at(elapsed_ms: u64, offered: u64) -> Standing {
        let figures = Figures { elapsed_ms, accepted: offered, queue_depth: offered % 7, ..Figures::default() };
        Standing {
            phase: "steady".to_owned(),
            offered,
            succeeded: offered / 2,
            figures,
            ..Standing::at(Stage::Running)
        }
    }

    #[test]
    fn before_the_load_there_is_nothing_to_see() {
        let mut history = History::default();
        history.add(&Standing::at(Stage::Provisioning));
        history.add(&at(0, 0));
        assert_eq!(history.points(), []);
    }

    #[test]
    fn who_comes_late_sees_the_run_from_then_on() {
        let mut history = History::default();
        history.add(&at(60_000, 6_000));
        history.add(&at(60_900, 6_090));
        assert_eq!(history.points(), [], "too soon");
        history.add(&at(62_000, 6_200));
        let point = history.points()[0];
        assert_eq!((point.second, point.offered, point.succeeded, point.queue_depth), (62.0, 100.0, 50.0, 6_200 % 7));
        // A worker that begins anew has counted less for a moment.
        history.add(&at(64_000, 6_100));
        assert_eq!(history.points()[1].offered, 0.0);
    }

    proptest! {
        #[test]
        fn however_long_a_run_is_its_points_are_bounded_in_order_and_add_up(
            steps in prop::collection::vec((1u64..5_000, 0u64..1_000), 1..4_000),
        ) {
            let mut history = History::default();
            let (mut elapsed_ms, mut offered) = (0, 0);
            history.add(&at(0, 0));
            for (ms, more) in steps {
                elapsed_ms += ms;
                offered += more;
                history.add(&at(elapsed_ms, offered));
            }
            let points = history.points();
            prop_assert!(points.len() <= MOST_POINTS);
            prop_assert!(points.windows(2).all(|two| two[0].second < two[1].second));
            let last = history.last.as_ref().map_or(0, |last| last.offered);
            let seen: f64 = points.iter().map(|point| point.offered * point.length_s).sum();
            // Each rate is rounded to a thousandth.
            prop_assert!((seen - last as f64).abs() <= 0.001 * elapsed_ms as f64 / 1_000.0 + 0.001, "{} and {}", seen, last);
        }
    }
}
