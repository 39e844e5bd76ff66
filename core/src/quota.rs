//! What a client may ask for: so many requests a second, and so many token units a day.
//!
//! Values with time as an argument.

use crate::Amount;
use std::time::Duration;

/// A rate that may be exceeded for a moment, as a place in time (GCRA): the state is one number, so that whoever keeps it
/// needs no lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Nanoseconds between two requests at this rate.
    interval: u64,
    /// How far ahead of the clock the place may run.
    slack: u64,
}

impl Rate {
    /// `per_second` on average, and as many at once as come in a second.
    pub fn new(per_second: u32) -> Self {
        let interval = 1_000_000_000 / u64::from(per_second.max(1));
        Self { interval, slack: 1_000_000_000 }
    }

    /// Takes `count` requests at `now` (nanoseconds since any fixed time): the new place, or how long to wait. Whoever
    /// has not used up what was due may take more than a second's worth, and then waits the longer.
    ///
    /// # Errors
    /// The time until the same may be asked again.
    pub fn take(self, place: u64, now: u64, count: u32) -> Result<u64, Duration> {
        let place = place.max(now);
        let ahead = place - now;
        match ahead.checked_sub(self.slack.saturating_sub(self.interval)) {
            Some(excess) if excess > 0 => Err(Duration::from_nanos(excess)),
            _ => Ok(place.saturating_add(self.interval.saturating_mul(count.into()))),
        }
    }
}

/// Milliseconds in a day, of UTC.
const DAY_MS: u64 = 86_400_000;

/// What a client has spent on one day.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    /// The day, counted from the Unix epoch.
    pub day: u32,
    /// How much on it.
    pub amount: Amount,
}

impl Spent {
    /// Spends `amount` at `now` (Unix milliseconds) within `cap` a day (UTC); `None` where it would go past it. A clock
    /// that goes back does not bring an earlier day's allowance back.
    pub fn spend(self, now: u64, amount: Amount, cap: Amount) -> Option<Self> {
        let today = u32::try_from(now / DAY_MS).unwrap_or(u32::MAX);
        let before = if today > self.day { Self { day: today, amount: Amount(0) } } else { self };
        let sum = before.amount.0.checked_add(amount.0).filter(|sum| *sum <= cap.0)?;
        Some(Self { amount: Amount(sum), ..before })
    }
}

/// How long until the next day begins.
pub fn until_tomorrow(now: u64) -> Duration {
    Duration::from_millis(DAY_MS - now % DAY_MS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// In any window, no more pass than the rate warrants and one burst; who asks for one at a time below the rate
        /// is never refused.
        #[test]
        fn a_rate_is_kept(per_second in 1u32..5_000, steps in prop::collection::vec((0u64..2_000_000_000, 1u32..4), 1..200)) {
            let rate = Rate::new(per_second);
            let (mut place, mut now, mut passed) = (0, 5_000_000_000, 0u64);
            let began = now;
            for (wait, count) in steps {
                now += wait;
                match rate.take(place, now, count) {
                    Ok(next) => {
                        place = next;
                        passed += u64::from(count);
                    }
                    Err(pause) => {
                        prop_assert!(rate.take(place, now + pause.as_nanos() as u64, count).is_ok(), "it said how long");
                    }
                }
                let due = (now - began) / rate.interval + u64::from(per_second) + 4;
                prop_assert!(passed <= due, "{} passed, and {} were due", passed, due);
            }
        }

        #[test]
        fn who_keeps_to_the_rate_is_never_refused(per_second in 1u32..5_000, count in 1u64..500) {
            let rate = Rate::new(per_second);
            let mut place = 0;
            for n in 0..count {
                let taken = rate.take(place, 7 + n * rate.interval, 1);
                prop_assert!(taken.is_ok());
                place = taken.unwrap_or_default();
            }
        }

        /// What is spent on a day stays within the cap, whatever the clock does, and only what went past it is refused.
        #[test]
        fn a_cap_is_kept(cap in 0u128..1_000, steps in prop::collection::vec((0u64..4 * DAY_MS, 0u128..400), 0..100)) {
            let mut spent = Spent::default();
            let mut by_day = std::collections::BTreeMap::<u32, u128>::new();
            for (now, amount) in steps {
                let day = spent.day.max((now / DAY_MS) as u32);
                let sum = by_day.entry(day).or_default();
                match spent.spend(now, Amount(amount), Amount(cap)) {
                    Some(next) => {
                        *sum += amount;
                        prop_assert_eq!(next, Spent { day, amount: Amount(*sum) });
                        prop_assert!(*sum <= cap);
                        spent = next;
                    }
                    None => prop_assert!(*sum + amount > cap),
                }
            }
        }
    }

    #[test]
    fn sums_that_do_not_fit_are_refused() {
        let spent = Spent { day: 1, amount: Amount(u128::MAX) };
        assert_eq!(spent.spend(DAY_MS, Amount(1), Amount(u128::MAX)), None);
    }

    #[test]
    fn the_day_ends_at_midnight() {
        assert_eq!(until_tomorrow(3 * DAY_MS), Duration::from_millis(DAY_MS));
        assert_eq!(until_tomorrow(4 * DAY_MS - 1), Duration::from_millis(1));
    }
}
