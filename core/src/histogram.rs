//! Latencies as HDR histograms: of fixed size, merged, never averaged.

use hdrhistogram::Histogram as Hdr;
use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

mod coarse;
pub use coarse::Coarse;

/// The longest latency that is told apart, in microseconds: one hour. What is longer counts as this.
const HIGHEST_US: u64 = 3_600_000_000;
const SIGNIFICANT_DIGITS: u8 = 3;
/// A distribution is told to the `1 / 2^HALVINGS`-th of what is longest.
const HALVINGS: i32 = 27;

/// Latencies from 1 µs to 1 h with three significant digits. About 90 kB, whatever it holds.
#[derive(Clone)]
pub struct Histogram(Hdr<u32>);

/// What a histogram says, in milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Latency {
    /// Arithmetic mean.
    pub mean: f64,
    /// Median.
    pub p50: f64,
    /// 90th percentile.
    pub p90: f64,
    /// 95th percentile.
    pub p95: f64,
    /// 99th percentile.
    pub p99: f64,
    /// 99.9th percentile.
    pub p999: f64,
    /// Highest.
    pub max: f64,
}

/// A point of a distribution.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Percentile {
    /// Which, 0 to 100.
    pub percentile: f64,
    /// That many percent were no longer than this, in milliseconds.
    pub ms: f64,
}

impl Default for Histogram {
    fn default() -> Self {
        #[allow(clippy::expect_used)]
        Self(
            Hdr::new_with_bounds(1, HIGHEST_US, SIGNIFICANT_DIGITS)
                .expect("the bounds are constants that hdrhistogram takes"),
        )
    }
}

/// As pairs of a latency in microseconds and how often it was recorded: of what it holds, not of its size.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut histogram = Self::default();
        for (us, count) in Vec::<(u64, u32)>::deserialize(deserializer)? {
            histogram.0.saturating_record_n(us.clamp(1, HIGHEST_US), count);
        }
        Ok(histogram)
    }
}

impl Histogram {
    /// Adds one latency. Does not allocate.
    pub fn record_ns(&mut self, ns: u64) {
        self.0.saturating_record((ns / 1_000).clamp(1, HIGHEST_US));
    }

    /// Adds all that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        #[allow(clippy::expect_used)]
        self.0.add(&other.0).expect("all histograms have the same bounds");
    }

    /// What was recorded since it was `before`; nothing where it is not a later state of that.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        let mut since = self.clone();
        match since.0.subtract(&before.0) {
            Ok(()) => since,
            Err(_) => Self::default(),
        }
    }

    /// How many latencies it holds.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// How many lie above the bound before and up to each of `bounds`, which ascend and are in seconds; the last number is
    /// of those above them all. What three digits cannot tell apart from a bound counts as up to it.
    pub fn between(&self, bounds: &[f64]) -> Vec<u64> {
        let mut counts = vec![0; bounds.len() + 1];
        for step in self.0.iter_recorded() {
            let at_s = self.0.lowest_equivalent(step.value_iterated_to()) as f64 / 1e6;
            counts[bounds.partition_point(|bound| *bound < at_s)] += u64::from(step.count_at_value());
        }
        counts
    }

    /// The sum of all, in seconds, to three digits.
    pub fn sum_s(&self) -> f64 {
        self.0.mean() * self.0.len() as f64 / 1e6
    }

    /// The `percentile`-th percentile (0 to 100) in milliseconds; `None` without data.
    pub fn percentile_ms(&self, percentile: f64) -> Option<f64> {
        (!self.0.is_empty()).then(|| self.0.value_at_percentile(percentile) as f64 / 1_000.0)
    }

    /// The summary; `None` without data.
    pub fn summary(&self) -> Option<Latency> {
        if self.0.is_empty() {
            return None;
        }
        let at = |percentile| self.0.value_at_percentile(percentile) as f64 / 1_000.0;
        Some(Latency {
            mean: self.0.mean().round() / 1_000.0,
            p50: at(50.0),
            p90: at(90.0),
            p95: at(95.0),
            p99: at(99.0),
            p999: at(99.9),
            max: self.0.max() as f64 / 1_000.0,
        })
    }

    /// The distribution, as HDR histograms are iterated: from the shortest to the longest, with two steps wherever what is
    /// left halves, for as long as one latency is left. At most 55 points; empty without data.
    pub fn distribution(&self) -> Vec<Percentile> {
        let count = self.0.len();
        if count == 0 {
            return Vec::new();
        }
        let halvings = (0..HALVINGS).take_while(|halving| count >> halving > 0);
        let below = halvings.flat_map(|halving| {
            let left = 100.0 / 2f64.powi(halving);
            [100.0 - left, 100.0 - left * 0.75]
        });
        let at = |percentile| Percentile { percentile, ms: self.0.value_at_percentile(percentile) as f64 / 1_000.0 };
        below.map(at).chain([Percentile { percentile: 100.0, ms: self.0.max() as f64 / 1_000.0 }]).collect()
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram").field("count", &self.count()).field("summary", &self.summary()).finish()
    }
}

impl PartialEq for Histogram {
    fn eq(&self, other: &Self) -> bool {
        self.0 == other.0
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|ns| histogram.record_ns(*ns));
        histogram
    }

    #[test]
    fn without_data_there_is_no_summary() {
        assert_eq!(Histogram::default().summary(), None);
        assert_eq!(Histogram::default().percentile_ms(95.0), None);
        assert_eq!(Histogram::default().distribution(), []);
    }

    #[test]
    fn what_is_out_of_range_counts_at_the_ends() {
        let summary = of(&[0, u64::MAX]).summary().unwrap();
        assert_eq!(summary.p50, 0.001);
        assert!((summary.max - 3_600_000.0).abs() < 3_600.0);
    }

    #[test]
    fn a_distribution_has_two_steps_to_each_half_of_what_is_left() {
        let values: Vec<u64> = (1..=8).map(|ms| ms * 1_000_000).collect();
        let points = of(&values).distribution();
        let percentiles: Vec<f64> = points.iter().map(|point| point.percentile).collect();
        assert_eq!(percentiles, [0.0, 25.0, 50.0, 62.5, 75.0, 81.25, 87.5, 90.625, 100.0]);
        let rounded: Vec<f64> = points.iter().map(|point| point.ms.round()).collect();
        assert_eq!(rounded, [1.0, 2.0, 4.0, 5.0, 6.0, 7.0, 7.0, 8.0, 8.0]);
    }

    #[test]
    fn a_distribution_is_bounded_whatever_it_is_of() {
        let mut histogram = Histogram::default();
        (0..40).for_each(|_| histogram.0.saturating_record_n(1_000, u32::MAX));
        assert_eq!(histogram.distribution().len(), 55);
    }

    proptest! {
        #[test]
        fn a_distribution_goes_up_and_ends_with_the_longest(values in prop::collection::vec(0u64..60_000_000_000, 1..300)) {
            let histogram = of(&values);
            let points = histogram.distribution();
            prop_assert!(points.windows(2).all(|two| two[0].percentile < two[1].percentile && two[0].ms <= two[1].ms));
            let last = points.last().unwrap();
            prop_assert_eq!((last.percentile, last.ms), (100.0, histogram.summary().unwrap().max));
        }

        #[test]
        fn a_merged_histogram_is_that_of_all_values(
            one in prop::collection::vec(0u64..10_000_000_000, 0..200),
            two in prop::collection::vec(0u64..10_000_000_000, 0..200),
        ) {
            let mut merged = of(&one);
            merged.merge(&of(&two));
            prop_assert_eq!(merged, of(&[one, two].concat()));
        }

        #[test]
        fn what_was_recorded_since_is_what_came_after(
            one in prop::collection::vec(0u64..10_000_000_000, 0..200),
            two in prop::collection::vec(0u64..10_000_000_000, 0..200),
        ) {
            let (before, after) = (of(&one), of(&[one, two.clone()].concat()));
            let since = after.since(&before);
            prop_assert_eq!(&since, &of(&two));
            prop_assert_eq!(since.summary(), of(&two).summary());
        }

        #[test]
        fn between_bounds_lie_as_many_as_are_there(values in prop::collection::vec(0u64..90_000_000_000, 0..200)) {
            let bounds = [0.005, 0.25, 1.0, 8.0, 60.0];
            let counts = of(&values).between(&bounds);
            prop_assert_eq!(counts.iter().sum::<u64>(), values.len() as u64);
            for (index, bound) in bounds.iter().enumerate() {
                let up_to: u64 = counts[..=index].iter().sum();
                let surely = values.iter().filter(|ns| (**ns as f64) <= bound * 1e9 * 0.999).count() as u64;
                let perhaps = values.iter().filter(|ns| (**ns as f64) <= bound * 1e9 * 1.001).count() as u64;
                prop_assert!((surely..=perhaps).contains(&up_to), "up to {}: {} of {}..={}", bound, up_to, surely, perhaps);
            }
        }

        #[test]
        fn percentiles_are_right_to_three_digits(mut values in prop::collection::vec(1_000u64..60_000_000_000, 1..300)) {
            let summary = of(&values).summary().unwrap();
            values.sort_unstable();
            for (percentile, actual) in [(50.0, summary.p50), (90.0, summary.p90), (95.0, summary.p95), (99.0, summary.p99)] {
                let rank = (percentile / 100.0 * values.len() as f64).ceil() as usize;
                let exact = values[rank.max(1) - 1] as f64 / 1e6;
                prop_assert!((actual - exact).abs() <= exact * 0.001 + 0.001, "p{}: {} and {}", percentile, actual, exact);
            }
        }
    }
}
