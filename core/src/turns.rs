//! At most so many requests a second: a token bucket that hands out turns.
//!
//! A value with time as an argument. A request takes its turn at once, also one that lies ahead, and waits for it: so
//! those who wait are served in order, and none wakes up in vain.

const SECOND_NS: u64 = 1_000_000_000;

/// Turns at a bounded rate. The bucket holds one token: a provider that counts by the second never sees a burst.
#[derive(Clone, Debug)]
pub struct Turns {
    /// Between two turns; 0: no bound.
    interval_ns: u64,
    /// When the next turn is.
    next_ns: u64,
}

impl Turns {
    /// At most `rate` turns a second; `None`: no bound.
    pub fn new(rate: Option<u32>) -> Self {
        let interval_ns = rate.map_or(0, |rate| SECOND_NS.div_ceil(u64::from(rate.max(1))));
        Self { interval_ns, next_ns: 0 }
    }

    /// When a turn that is taken now would be; never before `now_ns`.
    pub fn next(&self, now_ns: u64) -> u64 {
        self.next_ns.max(now_ns)
    }

    /// Takes that turn.
    pub fn take(&mut self, now_ns: u64) -> u64 {
        let at_ns = self.next(now_ns);
        self.next_ns = at_ns + self.interval_ns;
        at_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn without_a_rate_it_is_always_ones_turn() {
        let mut turns = Turns::new(None);
        assert_eq!([turns.take(5), turns.take(5), turns.take(4)], [5, 5, 5]);
    }

    proptest! {
        #[test]
        fn no_second_has_more_turns_than_the_rate_and_none_is_left_unused(
            rate in 1u32..5_000, asked in proptest::collection::vec(0..SECOND_NS / 100, 1..500),
        ) {
            let (mut turns, mut now) = (Turns::new(Some(rate)), 0);
            let mut taken = Vec::new();
            for passed in asked {
                now += passed;
                let at = turns.take(now);
                prop_assert!(at >= now);
                let idle = taken.last().is_none_or(|last| now >= last + SECOND_NS.div_ceil(u64::from(rate)));
                prop_assert_eq!(at == now, idle, "who need not wait does not");
                taken.push(at);
            }
            for window in taken.windows(rate as usize + 1) {
                prop_assert!(window[rate as usize] - window[0] >= SECOND_NS);
            }
        }
    }
}
