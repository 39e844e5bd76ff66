//! `engine.maxTps`: how many transfers may be signed now. A value with time as an argument.

/// A token bucket that starts full.
#[derive(Debug)]
pub(crate) struct Pacer {
    /// Transfers a second; 0: no limit.
    rate: u32,
    /// Billionths of a transfer.
    tokens: u64,
    capacity: u64,
    last_ns: u64,
}

const TOKEN: u64 = 1_000_000_000;

impl Pacer {
    /// At most `rate` transfers a second, in bursts of `burst` at most.
    pub(crate) fn new(rate: u32, burst: u32) -> Self {
        let capacity = u64::from(burst.max(1)) * TOKEN;
        Self { rate, tokens: capacity, capacity, last_ns: 0 }
    }

    /// How many of `want` may be signed at `now_ns`; 0: ask again at the returned time.
    pub(crate) fn take(&mut self, want: u32, now_ns: u64) -> Result<u32, u64> {
        if self.rate == 0 {
            return Ok(want);
        }
        let elapsed = now_ns.saturating_sub(self.last_ns);
        self.last_ns = self.last_ns.max(now_ns);
        self.tokens = self.tokens.saturating_add(elapsed.saturating_mul(u64::from(self.rate))).min(self.capacity);
        match u32::try_from(self.tokens / TOKEN).unwrap_or(u32::MAX).min(want) {
            0 => Err(now_ns + (TOKEN - self.tokens).div_ceil(u64::from(self.rate))),
            taken => {
                self.tokens -= u64::from(taken) * TOKEN;
                Ok(taken)
            }
        }
    }

    /// Gives back what was taken and not used.
    pub(crate) fn give_back(&mut self, unused: u32) {
        self.tokens = (self.tokens + u64::from(unused) * TOKEN).min(self.capacity);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_never_exceeds_its_rate_beyond_one_burst_and_never_stalls() {
        let mut pacer = Pacer::new(60, 20);
        let (mut now, mut taken) = (0, 0);
        while now < 10 * TOKEN {
            match pacer.take(7, now) {
                Ok(n) => taken += n,
                Err(at) => {
                    assert!(at > now, "it must move on");
                    now = at;
                }
            }
        }
        assert!((600..=620).contains(&taken), "{taken}");
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(Pacer::new(0, 1).take(1_000_000, 0), Ok(1_000_000));
    }
}
