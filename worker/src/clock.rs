//! What a lane's task does with its time. A value with time as an argument.

use nearbench_core::evidence::LaneTime;

/// What a lane does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Doing {
    /// It has room for more, and nothing to sign.
    Idle,
    /// It waits for the store.
    Store,
    /// It signs, sends, or has no room.
    #[default]
    Other,
    /// It is not worked any more.
    Ended,
}

/// The clock of one lane, from its taking on.
#[derive(Debug, Default)]
pub(crate) struct Clock {
    doing: Doing,
    since_ns: u64,
    spent: LaneTime,
}

impl Clock {
    /// From `now_ns` on it does something else.
    pub(crate) fn turn(&mut self, doing: Doing, now_ns: u64) {
        self.spent = self.read(now_ns);
        (self.doing, self.since_ns) = (doing, now_ns);
    }

    /// What it did up to `now_ns`.
    pub(crate) fn read(&self, now_ns: u64) -> LaneTime {
        let mut spent = self.spent;
        let here_ns = now_ns.saturating_sub(self.since_ns);
        spent.total_ns += if self.doing == Doing::Ended { 0 } else { here_ns };
        match self.doing {
            Doing::Idle => spent.idle_ns += here_ns,
            Doing::Store => spent.store_ns += here_ns,
            Doing::Other | Doing::Ended => {}
        }
        spent
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_is_counted_once_and_what_goes_on_is_counted_too() {
        let mut clock = Clock::default();
        for (doing, now_ns) in [(Doing::Idle, 5), (Doing::Other, 25), (Doing::Store, 30), (Doing::Idle, 37)] {
            clock.turn(doing, now_ns);
        }
        let spent = |total_ns, idle_ns, store_ns| LaneTime { total_ns, idle_ns, store_ns };
        assert_eq!(clock.read(37), spent(37, 20, 7));
        assert_eq!(clock.read(100), spent(100, 83, 7), "it is idle still");
        clock.turn(Doing::Ended, 100);
        assert_eq!(clock.read(900), spent(100, 83, 7));
    }
}
