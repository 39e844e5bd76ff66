//! When an endpoint is left alone because too much of what it was asked went wrong: a circuit breaker, after opossum.
//!
//! A value with time as an argument. What counts as a failure is its user's business.

use crate::plan;

/// Outcomes older than this no longer count (opossum's `rollingCountTimeout`).
pub const WINDOW_NS: u64 = 10_000_000_000;
/// So many outcomes at least before the share of failures says anything (opossum's `volumeThreshold`): one connection
/// that resets takes several requests with it.
pub const MIN_VOLUME: u64 = 10;

const BUCKETS: usize = 10;
const BUCKET_NS: u64 = WINDOW_NS / BUCKETS as u64;

/// A circuit breaker. Closed, it lets everything through and counts; open, nothing; half-open, one probe at a time.
#[derive(Clone, Debug)]
pub struct Breaker {
    threshold_percent: u64,
    reset_timeout_ns: u64,
    position: Position,
    window: [Bucket; BUCKETS],
    /// Counts the changes of state: what was permitted before the last one says nothing about the present.
    era: u64,
    openings: Openings,
}

/// For how long something was open and how often: stretches that begin one after the other, and may overlap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Openings {
    times: u64,
    /// Of all stretches together, each moment counted once.
    total_ns: u64,
    /// When the last of them ends.
    until_ns: u64,
}

impl Openings {
    /// It opens at `at_ns`, until `until_ns`.
    pub fn opened(&mut self, at_ns: u64, until_ns: u64) {
        self.times += 1;
        self.total_ns += until_ns.saturating_sub(at_ns.max(self.until_ns));
        self.until_ns = self.until_ns.max(until_ns);
    }

    /// How often it opened.
    pub fn times(&self) -> u64 {
        self.times
    }

    /// For how long it was open by `now_ns`, in nanoseconds.
    pub fn open_ns(&self, now_ns: u64) -> u64 {
        self.total_ns.saturating_sub(self.until_ns.saturating_sub(now_ns))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Position {
    Closed,
    Open {
        until_ns: u64,
    },
    /// The probe is under way.
    HalfOpen,
}

/// Whether requests are let through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// They are.
    Closed,
    /// One is, as a probe, or would be.
    HalfOpen,
    /// None is.
    Open,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    /// Which stretch of time it counts.
    number: u64,
    outcomes: u64,
    failures: u64,
}

/// Leave for one request. It is given back by exactly one of [`Breaker::succeeded`], [`Breaker::failed`] and
/// [`Breaker::withdrawn`].
#[derive(Debug, PartialEq, Eq)]
pub struct Permit {
    era: u64,
}

/// What an outcome changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Too much failed, or the probe did.
    Opened,
    /// The probe succeeded.
    Closed,
}

impl Breaker {
    /// A closed one.
    pub fn new(settings: &plan::Breaker) -> Self {
        Self {
            threshold_percent: u64::from(settings.error_threshold_percentage),
            reset_timeout_ns: settings.reset_timeout_ms.saturating_mul(1_000_000),
            position: Position::Closed,
            window: [Bucket::default(); BUCKETS],
            era: 0,
            openings: Openings::default(),
        }
    }

    /// Whether a request would be permitted at `now_ns`; if not, when to ask again, where that is known (a probe
    /// under way ends when it ends).
    ///
    /// # Errors
    /// When it is open, or its probe is under way.
    pub fn check(&self, now_ns: u64) -> Result<(), Option<u64>> {
        match self.position {
            Position::Open { until_ns } if now_ns < until_ns => Err(Some(until_ns)),
            Position::HalfOpen => Err(None),
            Position::Closed | Position::Open { .. } => Ok(()),
        }
    }

    /// Whether requests are let through at `now_ns`.
    pub fn state(&self, now_ns: u64) -> State {
        match self.position {
            Position::Closed => State::Closed,
            Position::Open { until_ns } if now_ns < until_ns => State::Open,
            Position::Open { .. } | Position::HalfOpen => State::HalfOpen,
        }
    }

    /// How often it opened, a probe that failed included, and for how long it let nothing through.
    pub fn openings(&self) -> &Openings {
        &self.openings
    }

    /// Leave for one request at `now_ns`. The first after the reset timeout is the probe.
    pub fn permit(&mut self, now_ns: u64) -> Option<Permit> {
        self.check(now_ns).ok()?;
        if matches!(self.position, Position::Open { .. }) {
            self.turn(Position::HalfOpen);
        }
        Some(Permit { era: self.era })
    }

    /// The request succeeded.
    pub fn succeeded(&mut self, permit: Permit, now_ns: u64) -> Option<Change> {
        if permit.era != self.era {
            return None;
        }
        match self.position {
            Position::HalfOpen => {
                self.window = [Bucket::default(); BUCKETS];
                self.turn(Position::Closed);
                Some(Change::Closed)
            }
            _ => {
                self.bucket(now_ns).outcomes += 1;
                None
            }
        }
    }

    /// The request failed.
    pub fn failed(&mut self, permit: Permit, now_ns: u64) -> Option<Change> {
        if permit.era != self.era {
            return None;
        }
        if self.position == Position::Closed {
            let bucket = self.bucket(now_ns);
            bucket.outcomes += 1;
            bucket.failures += 1;
            let (outcomes, failures) = self.counted(now_ns);
            // "At which" it opens, as opossum's manual says: above it, 100 % would never open anything.
            if outcomes < MIN_VOLUME || failures * 100 < outcomes * self.threshold_percent {
                return None;
            }
        }
        let until_ns = now_ns.saturating_add(self.reset_timeout_ns);
        self.openings.opened(now_ns, until_ns);
        self.turn(Position::Open { until_ns });
        Some(Change::Opened)
    }

    /// Nobody waits for the request any more. A probe's place is free for the next.
    pub fn withdrawn(&mut self, permit: Permit, now_ns: u64) {
        if permit.era == self.era && self.position == Position::HalfOpen {
            self.turn(Position::Open { until_ns: now_ns });
        }
    }

    fn turn(&mut self, position: Position) {
        self.position = position;
        self.era += 1;
    }

    fn bucket(&mut self, now_ns: u64) -> &mut Bucket {
        let number = now_ns / BUCKET_NS;
        let bucket = &mut self.window[(number % BUCKETS as u64) as usize];
        if bucket.number != number {
            *bucket = Bucket { number, ..Bucket::default() };
        }
        bucket
    }

    /// Outcomes and failures in the window that ends at `now_ns`.
    fn counted(&self, now_ns: u64) -> (u64, u64) {
        let last = now_ns / BUCKET_NS;
        self.window
            .iter()
            .filter(|bucket| bucket.number + BUCKETS as u64 > last)
            .fold((0, 0), |(outcomes, failures), bucket| (outcomes + bucket.outcomes, failures + bucket.failures))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    const SECOND: u64 = 1_000_000_000;

    fn breaker(percent: u32) -> Breaker {
        Breaker::new(&plan::Breaker { timeout_ms: 1, error_threshold_percentage: percent, reset_timeout_ms: 30_000 })
    }

    fn fail(breaker: &mut Breaker, now_ns: u64) -> Option<Change> {
        let permit = breaker.permit(now_ns).unwrap();
        breaker.failed(permit, now_ns)
    }

    fn succeed(breaker: &mut Breaker, now_ns: u64) -> Option<Change> {
        let permit = breaker.permit(now_ns).unwrap();
        breaker.succeeded(permit, now_ns)
    }

    fn opened(now_ns: u64) -> Breaker {
        let mut breaker = breaker(50);
        while fail(&mut breaker, now_ns).is_none() {}
        breaker
    }

    #[test]
    fn it_opens_at_the_threshold_and_not_below_the_volume() {
        for (percent, failures) in [(50, 5), (51, 6), (100, 10), (1, 1)] {
            let mut breaker = breaker(percent);
            for _ in 0..MIN_VOLUME - failures {
                assert_eq!(succeed(&mut breaker, 0), None);
            }
            for n in 1..=failures {
                assert_eq!(fail(&mut breaker, 0), (n == failures).then_some(Change::Opened), "{percent} % after {n}");
            }
            assert_eq!(breaker.check(0), Err(Some(30 * SECOND)));
        }
    }

    #[test]
    fn what_is_older_than_the_window_no_longer_counts() {
        let mut breaker = breaker(50);
        for _ in 1..MIN_VOLUME {
            assert_eq!(fail(&mut breaker, 0), None);
        }
        assert_eq!(fail(&mut breaker, WINDOW_NS), None);
        for n in 2..=MIN_VOLUME {
            assert_eq!(fail(&mut breaker, WINDOW_NS), (n == MIN_VOLUME).then_some(Change::Opened));
        }
    }

    #[test]
    fn after_the_reset_timeout_one_probe_decides() {
        let at = 30 * SECOND;
        let mut breaker = opened(0);
        assert_eq!(breaker.permit(at - 1), None);
        let probe = breaker.permit(at).unwrap();
        assert_eq!((breaker.permit(at), breaker.check(at)), (None, Err(None)), "exactly one");
        assert_eq!(breaker.failed(probe, at), Some(Change::Opened));
        assert_eq!(breaker.check(at), Err(Some(2 * at)));
        assert_eq!(succeed(&mut breaker, 2 * at), Some(Change::Closed));
        assert_eq!(fail(&mut breaker, 2 * at), None, "it starts to count anew");
        assert_eq!(
            (breaker.openings().times(), breaker.openings().open_ns(5 * at)),
            (2, 2 * at),
            "at 0, and by the probe"
        );
    }

    #[test]
    fn a_probe_that_nobody_waits_for_leaves_its_place() {
        let mut breaker = opened(0);
        let probe = breaker.permit(30 * SECOND).unwrap();
        breaker.withdrawn(probe, 30 * SECOND);
        assert!(breaker.permit(30 * SECOND).is_some());
    }

    #[test]
    fn requests_from_before_it_opened_decide_nothing() {
        let mut breaker = breaker(50);
        let old: Vec<_> = (0..3).map(|_| breaker.permit(0).unwrap()).collect();
        while fail(&mut breaker, 0).is_none() {}
        let probe = breaker.permit(30 * SECOND).unwrap();
        let mut old = old.into_iter();
        assert_eq!(breaker.succeeded(old.next().unwrap(), 30 * SECOND), None);
        assert_eq!(breaker.failed(old.next().unwrap(), 30 * SECOND), None);
        breaker.withdrawn(old.next().unwrap(), 30 * SECOND);
        assert_eq!(breaker.permit(30 * SECOND), None, "the probe is still under way");
        assert_eq!(breaker.succeeded(probe, 30 * SECOND), Some(Change::Closed));
    }

    proptest! {
        #[test]
        fn what_is_open_is_counted_once_however_stretches_overlap(
            mut stretches in proptest::collection::vec((0u64..100, 0u64..30), 0..20), now in 0u64..140,
        ) {
            stretches.sort_unstable();
            let begun = stretches.iter().filter(|(at, _)| *at <= now);
            let mut openings = Openings::default();
            begun.clone().for_each(|(at, long)| openings.opened(*at, at + long));
            let open = (0..now).filter(|moment| begun.clone().any(|(at, long)| (*at..at + long).contains(moment))).count();
            prop_assert_eq!((openings.open_ns(now), openings.times()), (open as u64, begun.count() as u64));
        }

        /// Whatever happens, in whatever order: half-open has one probe, open lets nothing through before its time,
        /// and nothing keeps it from being asked again for ever.
        #[test]
        fn no_history_lets_two_probes_through_or_locks_it(
            steps in proptest::collection::vec((0u8..4, any::<proptest::sample::Index>(), 0u64..20 * SECOND), 1..300),
        ) {
            let mut breaker = breaker(50);
            let (mut now, mut open_until, mut under_way): (u64, Option<u64>, Vec<(Permit, bool)>) = (0, None, Vec::new());
            for (step, which, passed) in steps {
                now += passed;
                if step == 0 || under_way.is_empty() {
                    if let Some(permit) = breaker.permit(now) {
                        let probe = open_until.is_some();
                        prop_assert!(open_until.is_none_or(|until| until <= now), "too early");
                        prop_assert!(!probe || !under_way.iter().any(|(_, probe)| *probe), "two probes");
                        under_way.push((permit, probe));
                    }
                    continue;
                }
                let (permit, probe) = under_way.swap_remove(which.index(under_way.len()));
                let change = match step {
                    1 => breaker.succeeded(permit, now),
                    2 => breaker.failed(permit, now),
                    _ => { breaker.withdrawn(permit, now); None }
                };
                match change {
                    Some(Change::Opened) => open_until = Some(now + 30 * SECOND),
                    Some(Change::Closed) => { prop_assert!(probe); open_until = None }
                    None => {}
                }
            }
            for (permit, _) in under_way {
                breaker.withdrawn(permit, now);
            }
            prop_assert!(breaker.permit(now + 30 * SECOND).is_some());
        }
    }
}
