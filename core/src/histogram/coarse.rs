//! Latencies told to 3 %: small enough to be sent about every second.

use super::{HIGHEST_US, Histogram, Latency};
use hdrhistogram::Histogram as Hdr;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;

const SIGNIFICANT_DIGITS: u8 = 1;

/// Latencies from 1 µs to 1 h, each told to some 3 %: as JSON less than 8 kB, whatever it holds.
#[derive(Clone, PartialEq)]
pub struct Coarse(Hdr<u64>);

impl Default for Coarse {
    fn default() -> Self {
        #[allow(clippy::expect_used)]
        Self(
            Hdr::new_with_bounds(1, HIGHEST_US, SIGNIFICANT_DIGITS)
                .expect("the bounds are constants that hdrhistogram takes"),
        )
    }
}

/// As pairs of a latency in microseconds and how often it was recorded.
impl Serialize for Coarse {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Coarse {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut coarse = Self::default();
        for (us, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            coarse.0.saturating_record_n(us.clamp(1, HIGHEST_US), count);
        }
        Ok(coarse)
    }
}

impl From<&Histogram> for Coarse {
    fn from(histogram: &Histogram) -> Self {
        let mut coarse = Self::default();
        for step in histogram.0.iter_recorded() {
            // The lowest is in the same step of both, whatever was recorded.
            let us = histogram.0.lowest_equivalent(step.value_iterated_to());
            coarse.0.saturating_record_n(us.clamp(1, HIGHEST_US), u64::from(step.count_at_value()));
        }
        coarse
    }
}

impl Coarse {
    /// Adds one latency. Does not allocate.
    pub fn record_ns(&mut self, ns: u64) {
        self.0.saturating_record((ns / 1_000).clamp(1, HIGHEST_US));
    }

    /// Adds all that `other` holds.
    pub fn merge(&mut self, other: &Self) {
        #[allow(clippy::expect_used)]
        self.0.add(&other.0).expect("all have the same bounds");
    }

    /// What came since `earlier`, which was a copy of this.
    pub fn since(&self, earlier: &Self) -> Self {
        let mut rest = Self::default();
        for step in self.0.iter_recorded() {
            let us = step.value_iterated_to();
            let count = step.count_at_value().saturating_sub(earlier.0.count_at(us));
            // To record nothing is not to do nothing: the longest would be that.
            if count > 0 {
                rest.0.saturating_record_n(us.min(HIGHEST_US), count);
            }
        }
        rest
    }

    /// The summary; `None` without data.
    pub fn summary(&self) -> Option<Latency> {
        if self.0.is_empty() {
            return None;
        }
        // The middle of a step is as far from either end.
        let middle = |us: u64| self.0.median_equivalent(us) as f64 / 1_000.0;
        let at = |percentile| middle(self.0.value_at_percentile(percentile));
        Some(Latency {
            mean: self.0.mean().round() / 1_000.0,
            p50: at(50.0),
            p90: at(90.0),
            p95: at(95.0),
            p99: at(99.0),
            p999: at(99.9),
            max: middle(self.0.max()),
        })
    }
}

impl fmt::Debug for Coarse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Coarse").field("count", &self.0.len()).field("summary", &self.summary()).finish()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    fn of(values: &[u64]) -> Coarse {
        let mut coarse = Coarse::default();
        values.iter().for_each(|ns| coarse.record_ns(*ns));
        coarse
    }

    fn latencies() -> impl Strategy<Value = Vec<u64>> {
        prop::collection::vec(0u64..60_000_000_000, 0..200)
    }

    #[test]
    fn it_stays_small_whatever_it_holds() {
        let mut all = Coarse::default();
        let mut us = 1.0;
        while us < HIGHEST_US as f64 {
            all.0.saturating_record_n(us as u64, 1_000_000);
            us *= 1.01;
        }
        let text = serde_json::to_string(&all).unwrap();
        assert!((6_000..8_000).contains(&text.len()), "{}", text.len());
        assert_eq!(serde_json::from_str::<Coarse>(&text).unwrap(), all);
        assert_eq!(Coarse::default().summary(), None);
    }

    proptest! {
        #[test]
        fn what_is_merged_and_what_is_taken_off_is_that_of_the_values(one in latencies(), two in latencies()) {
            let mut merged = of(&one);
            merged.merge(&of(&two));
            prop_assert_eq!(&merged, &of(&[one.clone(), two.clone()].concat()));
            prop_assert_eq!(merged.since(&of(&one)), of(&two));
        }

        #[test]
        fn a_histogram_and_its_values_are_the_same(values in latencies()) {
            let mut histogram = Histogram::default();
            values.iter().for_each(|ns| histogram.record_ns(*ns));
            prop_assert_eq!(Coarse::from(&histogram), of(&values));
        }

        #[test]
        fn every_number_is_right_to_a_few_percent(mut values in prop::collection::vec(1_000u64..60_000_000_000, 1..200)) {
            let summary = of(&values).summary().unwrap();
            values.sort_unstable();
            let near = |told: f64, exact: f64| (told - exact).abs() <= exact * 0.035 + 0.001;
            for (percentile, told) in [(50.0, summary.p50), (95.0, summary.p95), (99.0, summary.p99), (100.0, summary.max)] {
                let rank = (percentile / 100.0 * values.len() as f64).ceil() as usize;
                let exact = values[rank.max(1) - 1] as f64 / 1e6;
                prop_assert!(near(told, exact), "p{}: {} and {}", percentile, told, exact);
            }
            let mean = values.iter().sum::<u64>() as f64 / values.len() as f64 / 1e6;
            prop_assert!(near(summary.mean, mean), "{} and {}", summary.mean, mean);
        }
    }
}
