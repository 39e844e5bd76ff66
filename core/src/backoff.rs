//! How long to wait before trying again: exponential backoff with full jitter, and what an endpoint asks for itself.
//!
//! Values with randomness as an argument.

use std::time::Duration;

/// An endpoint is not left alone for longer than this, whatever its `Retry-After` says: a quota that is used up until
/// midnight is tried again, and a date far off, by mistake or malice, does not end a run.
pub const MAX_RETRY_AFTER: Duration = Duration::from_secs(60);

/// Exponential backoff: the bound doubles with every step, and the wait is drawn from all of it, so that many who
/// failed together do not come back together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    first: Duration,
    bound: Duration,
    max: Duration,
}

impl Backoff {
    /// Waits below `first` at first, and below `max` at last.
    pub const fn new(first: Duration, max: Duration) -> Self {
        Self { first, bound: first, max }
    }

    /// The next wait; `random` is in 0..1.
    pub fn step(&mut self, random: f64) -> Duration {
        let bound = self.bound.min(self.max);
        self.bound = self.bound.saturating_mul(2).min(self.max);
        bound.mul_f64(random.clamp(0.0, 1.0))
    }

    /// Begins anew, after a success.
    pub fn reset(&mut self) {
        self.bound = self.first;
    }
}

/// How long an endpoint is left alone that asks for `asked`.
pub fn retry_after(asked: Duration) -> Duration {
    asked.min(MAX_RETRY_AFTER)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn its_bound_doubles_up_to_the_most_and_begins_anew() {
        let ms = Duration::from_millis;
        let mut backoff = Backoff::new(ms(250), ms(1500));
        let waits: Vec<_> = (0..5).map(|_| backoff.step(1.0)).collect();
        assert_eq!(waits, [ms(250), ms(500), ms(1000), ms(1500), ms(1500)]);
        backoff.reset();
        assert_eq!((backoff.step(0.5), backoff.step(0.0)), (ms(125), Duration::ZERO));
    }

    #[test]
    fn no_retry_after_ends_a_run() {
        assert_eq!(retry_after(Duration::from_secs(7)), Duration::from_secs(7));
        assert_eq!(retry_after(Duration::from_secs(u64::MAX)), MAX_RETRY_AFTER);
    }

    proptest! {
        #[test]
        fn every_wait_lies_below_its_bound(first in 1u64..10_000, max in 1u64..100_000, random in proptest::collection::vec(0.0..1.0f64, 1..80)) {
            let (first, max) = (Duration::from_millis(first), Duration::from_millis(max));
            let mut backoff = Backoff::new(first, max);
            for (n, random) in random.into_iter().enumerate() {
                let bound = first.saturating_mul(1u32.checked_shl(n as u32).unwrap_or(u32::MAX)).min(max);
                let wait = backoff.step(random);
                prop_assert!(wait <= bound, "{wait:?} of {bound:?}");
                prop_assert!(wait >= bound.mul_f64(random * 0.999));
            }
        }
    }
}
