//! What the last minute brought: counts a second, and latencies. Its size is fixed, and so is what an entry costs.

/// Seconds that are looked back upon.
const SECONDS: u64 = 60;
/// Seconds that share a histogram.
const SLOT: u64 = 10;
/// Buckets to each doubling: what is read off is at most 9 % too high.
const TO_A_DOUBLING: u32 = 8;
/// Up to 2^20 ms, some 17 minutes, and beyond.
pub(crate) const BUCKETS: usize = 20 * TO_A_DOUBLING as usize + 1;

/// The bucket of a latency.
pub(crate) fn bucket(ms: u64) -> usize {
    let ms = ms.max(1);
    let octave = ms.ilog2();
    // The three bits below the highest.
    let within = if octave >= 3 { (ms >> (octave - 3)) & 7 } else { (ms << (3 - octave)) & 7 };
    (octave as usize * TO_A_DOUBLING as usize + within as usize).min(BUCKETS - 1)
}

/// The highest latency of a bucket, in milliseconds.
fn top(bucket: usize) -> u64 {
    let (octave, within) = (bucket as u32 / TO_A_DOUBLING, bucket as u64 % u64::from(TO_A_DOUBLING));
    ((((9 + within) << octave) + 7) >> 3) - 1
}

/// What happened in the last minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recent {
    /// Taken into the queue.
    pub accepted: u64,
    /// Executed in a final block.
    pub finalized: u64,
    /// Failed for their own fault.
    pub failed: u64,
    pub(crate) latencies: Box<[u32; BUCKETS]>,
}

impl Default for Recent {
    fn default() -> Self {
        Self { accepted: 0, finalized: 0, failed: 0, latencies: Box::new([0; BUCKETS]) }
    }
}

impl Recent {
    /// The latency from acceptance to finality, in milliseconds, that so many in a hundred stayed within; `None` where
    /// nothing came to its end.
    pub fn latency_ms(&self, percent: f64) -> Option<u64> {
        let total: u64 = self.latencies.iter().map(|count| u64::from(*count)).sum();
        let rank = ((total as f64 * percent / 100.0).ceil() as u64).max(1);
        let mut seen = 0;
        let reached = |count: &u32| {
            seen += u64::from(*count);
            seen >= rank
        };
        self.latencies.iter().position(reached).map(top)
    }
}

#[derive(Clone, Copy, Default)]
struct Second {
    at: u64,
    accepted: u64,
    finalized: u64,
    failed: u64,
}

/// The last minute, as it goes on.
pub(crate) struct Minute {
    seconds: [Second; SECONDS as usize],
    slots: Vec<(u64, Box<[u32; BUCKETS]>)>,
}

impl Default for Minute {
    fn default() -> Self {
        Self { seconds: [Second::default(); SECONDS as usize], slots: Vec::new() }
    }
}

impl Minute {
    fn second(&mut self, now_ms: u64) -> &mut Second {
        let at = now_ms / 1000;
        let second = &mut self.seconds[(at % SECONDS) as usize];
        if second.at != at {
            *second = Second { at, ..Second::default() };
        }
        second
    }

    pub(crate) fn accepted(&mut self, now_ms: u64, count: u64) {
        self.second(now_ms).accepted += count;
    }

    pub(crate) fn ended(&mut self, now_ms: u64, finalized: u64, failed: u64) {
        let second = self.second(now_ms);
        second.finalized += finalized;
        second.failed += failed;
    }

    pub(crate) fn latency(&mut self, now_ms: u64, ms: u64) {
        let at = now_ms / 1000 / SLOT;
        if self.slots.is_empty() {
            self.slots = (0..SECONDS / SLOT).map(|_| (0, Box::new([0; BUCKETS]))).collect();
        }
        let slot = &mut self.slots[(at % (SECONDS / SLOT)) as usize];
        if slot.0 != at {
            slot.0 = at;
            slot.1.fill(0);
        }
        slot.1[bucket(ms)] += 1;
    }

    pub(crate) fn look(&self, now_ms: u64) -> Recent {
        let now = now_ms / 1000;
        let mut recent = Recent::default();
        // The second under way is not over.
        for second in self.seconds.iter().filter(|second| second.at + SECONDS >= now && second.at < now.max(1)) {
            recent.accepted += second.accepted;
            recent.finalized += second.finalized;
            recent.failed += second.failed;
        }
        for (_, slot) in self.slots.iter().filter(|slot| slot.0 + SECONDS / SLOT > now / SLOT) {
            for (sum, count) in recent.latencies.iter_mut().zip(slot.iter()) {
                *sum += count;
            }
        }
        recent
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_minute_forgets() {
        let mut minute = Minute::default();
        for second in 0..100u64 {
            minute.accepted(second * 1000, 2);
            minute.ended(second * 1000, 1, 0);
        }
        let recent = minute.look(100_000);
        assert_eq!((recent.accepted, recent.finalized), (120, 60));
        assert_eq!(minute.look(100_000 + 61_000).accepted, 0);
    }

    #[test]
    fn nothing_has_no_latency() {
        assert_eq!(Recent::default().latency_ms(50.0), None);
    }

    proptest! {
        #[test]
        fn what_is_read_off_is_near(mut values in prop::collection::vec(1u64..1_000_000, 1..200), percent in 1f64..100.0) {
            let mut minute = Minute::default();
            values.iter().for_each(|ms| minute.latency(5_000_000, *ms));
            values.sort_unstable();
            let rank = ((values.len() as f64 * percent / 100.0).ceil() as usize).max(1);
            let exact = values[rank - 1];
            let read = minute.look(5_000_000).latency_ms(percent).unwrap_or_default();
            prop_assert!(read >= exact && read as f64 <= exact as f64 * 1.126 + 1.0, "{} for {}", read, exact);
        }
    }
}
