//! What is known of one endpoint: whether it may be asked, when it is its turn, and how far its head has come.
//!
//! Values with time as an argument. Asking is [`crate::pool`]'s business.

use nearbench_core::{
    Height,
    backoff::{self, Backoff},
    breaker::{Breaker, Change, Openings, Permit, State},
    plan,
    turns::Turns,
};
use std::{fmt, sync::Arc, time::Duration};

/// An endpoint whose head is more than so many blocks behind the best one's is set aside: some 6 s, more than two
/// answers to one round of questions can lie apart on a healthy endpoint, and far less than a transaction stays valid.
pub(crate) const MAX_HEAD_LAG: Height = 10;
/// An endpoint whose head has not moved for so long is set aside, if another's has: no chain pauses for that long
/// between epochs. It also unmasks a head that lies: one far ahead stands still.
pub(crate) const MAX_HEAD_AGE: Duration = Duration::from_secs(15);

/// The waits of an endpoint that says 429 or 503 and not for how long.
const FIRST_REST: Duration = Duration::from_millis(500);
const MAX_REST: Duration = Duration::from_secs(10);

pub(crate) struct Health {
    breaker: Breaker,
    turns: Turns,
    /// It asked to be left alone until then.
    rest_until_ns: u64,
    rest: Backoff,
    head: Head,
    behind: Option<Behind>,
    /// Of its last answer about its head.
    latency_ns: u64,
}

/// What an endpoint says of its chain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Head {
    /// The last height that it told.
    height: Height,
    highest: Height,
    /// Since when nothing was higher.
    since_ns: u64,
    /// The chain, if it is another than the run's.
    other_chain: Option<Arc<str>>,
}

/// Why an endpoint's answers are out of date.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Behind {
    OtherChain(Arc<str>),
    Stalled { height: Height },
    Lags { blocks: Height },
}

impl fmt::Display for Behind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherChain(chain) => write!(f, "it is on chain {chain:?}"),
            Self::Stalled { height: 0 } => write!(f, "it has told no head for {} s", MAX_HEAD_AGE.as_secs()),
            Self::Stalled { height } => {
                write!(f, "its head has stood still at {height} for {} s", MAX_HEAD_AGE.as_secs())
            }
            Self::Lags { blocks } => write!(f, "its head is {blocks} blocks behind the best one"),
        }
    }
}

/// Why an endpoint is not asked now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Aside {
    pub(crate) reason: &'static str,
    /// When to ask again, where that is known.
    pub(crate) until_ns: Option<u64>,
}

/// When one may ask an endpoint.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Entry {
    /// At once, with this leave.
    Now(Permit),
    /// At this time, with leave that is asked for then.
    At(u64),
}

/// How good a choice an endpoint is now: the lowest is the best.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Rank {
    aside: bool,
    behind: bool,
    priority: u32,
    wait_ns: u64,
    latency_ns: u64,
}

impl Rank {
    /// Whether it can be asked, and says what is true now.
    pub(crate) fn is_usable(&self) -> bool {
        !self.aside && !self.behind
    }
}

impl Health {
    pub(crate) fn new(breaker: &plan::Breaker, rate: Option<u32>) -> Self {
        Self {
            breaker: Breaker::new(breaker),
            turns: Turns::new(rate),
            rest_until_ns: 0,
            rest: Backoff::new(FIRST_REST, MAX_REST),
            head: Head::default(),
            behind: None,
            latency_ns: 0,
        }
    }

    /// How good a choice it is at `now_ns`; turns further off than `patience_ns` are none.
    pub(crate) fn rank(&self, priority: u32, now_ns: u64, patience_ns: u64) -> Rank {
        let wait_ns = self.turns.next(now_ns) - now_ns;
        Rank {
            aside: self.aside(now_ns).is_some() || wait_ns > patience_ns,
            behind: self.behind.is_some(),
            priority,
            wait_ns,
            latency_ns: self.latency_ns,
        }
    }

    /// Why it is not asked at `now_ns`, if it is not.
    pub(crate) fn aside(&self, now_ns: u64) -> Option<Aside> {
        match self.breaker.check(now_ns) {
            Err(until_ns) => Some(Aside { reason: "too many of its answers failed (engine.breaker)", until_ns }),
            Ok(()) if now_ns < self.rest_until_ns => {
                Some(Aside { reason: "it asked to be left alone", until_ns: Some(self.rest_until_ns) })
            }
            Ok(()) => None,
        }
    }

    /// Whether its breaker lets requests through, and when it did not.
    pub(crate) fn breaker(&self, now_ns: u64) -> (State, Openings) {
        (self.breaker.state(now_ns), *self.breaker.openings())
    }

    /// Until when it wants to be left alone, if it does and nothing else is the matter.
    pub(crate) fn rests_until(&self, now_ns: u64) -> Option<u64> {
        let rests = now_ns < self.rest_until_ns && self.behind.is_none() && self.breaker.check(now_ns).is_ok();
        rests.then_some(self.rest_until_ns)
    }

    /// Takes a turn within `patience_ns`: when it is.
    pub(crate) fn turn(&mut self, now_ns: u64, patience_ns: u64) -> Result<u64, Aside> {
        if let Some(aside) = self.aside(now_ns) {
            return Err(aside);
        }
        let at_ns = self.turns.next(now_ns);
        if at_ns - now_ns > patience_ns {
            let reason = "more requests wait for it than maxRequestsPerSecond lets through";
            return Err(Aside { reason, until_ns: Some(at_ns) });
        }
        Ok(self.turns.take(now_ns))
    }

    /// Takes a turn within `patience_ns`, and leave to ask where it is now.
    pub(crate) fn enter(&mut self, now_ns: u64, patience_ns: u64) -> Result<Entry, Aside> {
        match self.turn(now_ns, patience_ns)? {
            at_ns if at_ns > now_ns => Ok(Entry::At(at_ns)),
            _ => self.permit(now_ns).map(Entry::Now),
        }
    }

    /// Leave to ask at `now_ns`, when it is one's turn.
    pub(crate) fn permit(&mut self, now_ns: u64) -> Result<Permit, Aside> {
        match self.aside(now_ns) {
            Some(aside) => Err(aside),
            None => self.breaker.permit(now_ns).ok_or(Aside { reason: "it is being tried", until_ns: None }),
        }
    }

    /// It answered as a node does, whatever it said of the question.
    pub(crate) fn answered(&mut self, permit: Permit, now_ns: u64) -> Option<Change> {
        self.rest.reset();
        self.breaker.succeeded(permit, now_ns)
    }

    /// It failed.
    pub(crate) fn failed(&mut self, permit: Permit, now_ns: u64) -> Option<Change> {
        self.breaker.failed(permit, now_ns)
    }

    /// It failed by refusing, and perhaps said for how long; `random` is in 0..1.
    pub(crate) fn refused(
        &mut self,
        permit: Permit,
        asked: Option<Duration>,
        now_ns: u64,
        random: f64,
    ) -> Option<Change> {
        let rest = match asked {
            Some(asked) => backoff::retry_after(asked),
            // Those that were under way together are one refusal, not steps of the backoff each.
            None if now_ns < self.rest_until_ns => Duration::ZERO,
            None => self.rest.step(random),
        };
        self.rest_until_ns = self.rest_until_ns.max(now_ns.saturating_add(nanos(rest)));
        self.breaker.failed(permit, now_ns)
    }

    pub(crate) fn withdrawn(&mut self, permit: Permit, now_ns: u64) {
        self.breaker.withdrawn(permit, now_ns);
    }

    /// It told its head.
    pub(crate) fn told(&mut self, height: Height, other_chain: Option<Arc<str>>, latency_ns: u64, now_ns: u64) {
        self.latency_ns = latency_ns;
        self.head.height = height;
        self.head.other_chain = other_chain;
        if height > self.head.highest {
            self.head.highest = height;
            self.head.since_ns = now_ns;
        }
    }

    pub(crate) fn head(&self) -> &Head {
        &self.head
    }

    /// Takes over how its head was judged; whether that is news.
    pub(crate) fn judged(&mut self, behind: Option<Behind>) -> Option<Judged> {
        let news = match (&self.behind, &behind) {
            (None, Some(reason)) => Some(Judged::SetAside(reason.to_string())),
            (Some(_), None) => Some(Judged::Back),
            _ => None,
        };
        self.behind = behind;
        news
    }
}

/// What a judgement of a head changed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    SetAside(String),
    Back,
}

/// Whose head is out of date at `now_ns`, among endpoints of one chain. If no head moves, the chain stands, and that is
/// nobody's fault.
pub(crate) fn judge(heads: &[Head], now_ns: u64) -> Vec<Option<Behind>> {
    let moves = |head: &Head| {
        head.other_chain.is_none() && head.highest > 0 && now_ns.saturating_sub(head.since_ns) <= nanos(MAX_HEAD_AGE)
    };
    let best = heads.iter().filter(|head| moves(head)).map(|head| head.height).max();
    let judge = |head: &Head| {
        if let Some(chain) = &head.other_chain {
            return Some(Behind::OtherChain(chain.clone()));
        }
        let best = best?;
        if now_ns.saturating_sub(head.since_ns) > nanos(MAX_HEAD_AGE) {
            return Some(Behind::Stalled { height: head.height });
        }
        let blocks = best.saturating_sub(head.height);
        (head.highest > 0 && blocks > MAX_HEAD_LAG).then_some(Behind::Lags { blocks })
    };
    heads.iter().map(judge).collect()
}

pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const BREAKER: plan::Breaker =
        plan::Breaker { timeout_ms: 5000, error_threshold_percentage: 50, reset_timeout_ms: 30_000 };

    fn head(height: Height, since_ns: u64) -> Head {
        Head { height, highest: height, since_ns, other_chain: None }
    }

    #[test]
    fn heads_are_judged_by_the_best_one_that_moves() {
        let now = 100 * SECOND;
        let judged = |heads: &[Head]| judge(heads, now);
        assert_eq!(judged(&[head(100, now), head(90, now)]), [None, None], "as far behind as it may be");
        assert_eq!(judged(&[head(100, now), head(89, now)]), [None, Some(Behind::Lags { blocks: 11 })]);
        let old = now - 15 * SECOND - 1;
        assert_eq!(judged(&[head(100, now), head(100, old)]), [None, Some(Behind::Stalled { height: 100 })]);
        assert_eq!(judged(&[head(100, old), head(90, old)]), [None, None], "the chain stands");
        assert_eq!(
            judged(&[head(100, now), head(u64::MAX, old)]),
            [None, Some(Behind::Stalled { height: u64::MAX })],
            "a head that lies does not disqualify the others for long"
        );
        assert_eq!(judged(&[head(100, now), Head::default()])[1], Some(Behind::Stalled { height: 0 }));
        let other = Head { other_chain: Some("testnet".into()), ..head(900, now) };
        assert_eq!(judged(&[head(100, now), other]), [None, Some(Behind::OtherChain("testnet".into()))]);
    }

    #[test]
    fn it_rests_for_as_long_as_it_asks_and_longer_each_time_when_it_does_not_say() {
        let mut health = Health::new(&BREAKER, None);
        let rests = |health: &mut Health, asked: Option<u64>, now: u64| {
            let permit = health.permit(now).unwrap();
            health.refused(permit, asked.map(Duration::from_secs), now, 1.0);
            health.aside(now).unwrap().until_ns.unwrap() - now
        };
        assert_eq!(rests(&mut health, Some(7), 0), 7 * SECOND);
        assert_eq!(rests(&mut health, Some(100_000), 7 * SECOND), 60 * SECOND);
        assert_eq!(rests(&mut health, None, 100 * SECOND), SECOND / 2);
        assert_eq!(rests(&mut health, None, 200 * SECOND), SECOND);
        let permit = health.permit(300 * SECOND).unwrap();
        health.answered(permit, 300 * SECOND);
        assert_eq!(rests(&mut health, None, 400 * SECOND), SECOND / 2);
    }

    #[test]
    fn the_best_choice_can_be_asked_is_up_to_date_preferred_first_in_turn_and_quick() {
        let fresh = |rate| Health::new(&BREAKER, rate);
        let rank = |health: &Health, priority| health.rank(priority, 0, SECOND);
        let (mut resting, mut lagging, mut busy, mut slow) = (fresh(None), fresh(None), fresh(Some(10)), fresh(None));
        let permit = resting.permit(0).unwrap();
        resting.refused(permit, Some(Duration::from_secs(1)), 0, 1.0);
        lagging.judged(Some(Behind::Lags { blocks: 11 }));
        busy.turn(0, SECOND).unwrap();
        slow.told(1, None, SECOND, 0);
        let mut swamped = busy.clone_turns_until(0, SECOND);
        assert!(swamped.turn(0, SECOND).is_err(), "nobody waits longer than its patience");
        let ranks = [
            rank(&fresh(None), 0),
            rank(&slow, 0),
            rank(&busy, 0),
            rank(&fresh(None), 1),
            rank(&lagging, 0),
            rank(&resting, 0),
        ];
        assert!(ranks.is_sorted_by(|a, b| a < b), "{ranks:?}");
        assert!(!rank(&swamped, 0).is_usable() && !ranks[4].is_usable() && ranks[3].is_usable());
    }

    impl Health {
        /// One like it whose turns are taken as far as `patience_ns`.
        fn clone_turns_until(&self, now_ns: u64, patience_ns: u64) -> Self {
            let mut other = Self::new(&BREAKER, None);
            other.turns = self.turns.clone();
            while other.turn(now_ns, patience_ns).is_ok() {}
            other
        }
    }
}
