//! Whose turn it is: at most so many runs are under way at once, and those that wait go in the order in which they were made.

use crate::{decide::Turn, names::reasons};
use jiff::Timestamp;
use kube::ResourceExt;
use nearbench_crds::{BenchmarkRun, RunPhase};
use std::{
    collections::HashSet,
    sync::{Arc, Mutex, PoisonError},
};

/// The runs that were let through and are not yet seen to have begun.
pub(crate) struct Queue {
    /// At most so many at once; 0: no bound.
    limit: u32,
    admitted: Mutex<HashSet<String>>,
}

impl Queue {
    pub(crate) fn new(limit: u32) -> Self {
        Self { limit, admitted: Mutex::default() }
    }

    /// Whether `run` may begin, by what is known of `all`. Several may ask at once: a place is given once.
    pub(crate) fn turn(&self, run: &BenchmarkRun, all: &[Arc<BenchmarkRun>]) -> Turn {
        if self.limit == 0 {
            return Turn::Now;
        }
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        let uid = run.uid().unwrap_or_default();
        admitted.retain(|uid| all.iter().any(|run| run.uid().as_ref() == Some(uid) && !has_begun(run)));
        let others = admitted.iter().filter(|other| **other != uid).count();
        let under_way = all.iter().filter(|run| is_under_way(run)).count();
        let before = all.iter().filter(|other| waits(other) && place(other) < place(run)).count();
        if under_way + others + before < self.limit as usize {
            admitted.insert(uid);
            return Turn::Now;
        }
        Turn::Queued { limit: self.limit }
    }

    /// The run does not begin after all.
    pub(crate) fn give_back(&self, run: &BenchmarkRun) {
        let mut admitted = self.admitted.lock().unwrap_or_else(PoisonError::into_inner);
        admitted.remove(&run.uid().unwrap_or_default());
    }
}

fn has_begun(run: &BenchmarkRun) -> bool {
    run.status.as_ref().is_some_and(|status| status.plan_ref.is_some() || status.phase == Some(RunPhase::Finished))
}

/// Whether a run takes a place.
pub(crate) fn is_under_way(run: &BenchmarkRun) -> bool {
    run.status.as_ref().is_some_and(|s| s.plan_ref.is_some() && s.phase != Some(RunPhase::Finished))
}

/// Whether all that a run waits for is its turn: one that cannot begin holds up nobody.
fn waits(run: &BenchmarkRun) -> bool {
    let status = run.status.as_ref();
    run.metadata.deletion_timestamp.is_none()
        && status.is_some_and(|s| s.plan_ref.is_none() && s.reason.as_deref() == Some(reasons::QUEUED))
}

fn place(run: &BenchmarkRun) -> (Option<Timestamp>, Option<String>) {
    (run.creation_timestamp().map(|time| time.0), run.uid())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use serde_json::{Value, json};

    fn run(n: i64, status: &Value) -> Arc<BenchmarkRun> {
        let text = include_str!("../../examples/quickstart.yaml");
        let mut run = nearbench_crds::parse(text).unwrap();
        run.metadata.uid = Some(format!("uid-{n}"));
        run.metadata.creation_timestamp = Some(
            serde_json::from_value(json!(Timestamp::from_second(1_700_000_000 + n).unwrap().to_string())).unwrap(),
        );
        run.status = Some(serde_json::from_value(status.clone()).unwrap());
        Arc::new(run)
    }

    fn begun(n: i64) -> Arc<BenchmarkRun> {
        run(n, &json!({"planRef": {"name": "p"}, "phase": "Running"}))
    }

    fn queued(n: i64) -> Arc<BenchmarkRun> {
        run(n, &json!({"phase": "Pending", "reason": "Queued"}))
    }

    #[test]
    fn as_many_as_may_be_go_in_their_order_and_the_others_wait() {
        let queue = Queue::new(2);
        let all = [begun(1), queued(4), queued(3)];
        assert_eq!(queue.turn(&all[1], &all), Turn::Queued { limit: 2 }, "an older one waits");
        assert_eq!(queue.turn(&all[2], &all), Turn::Now);
        assert_eq!(queue.turn(&all[2], &all), Turn::Now, "it has its place");
        let late = [begun(1), run(4, &json!({})), run(3, &json!({}))];
        assert_eq!(queue.turn(&late[1], &late), Turn::Queued { limit: 2 }, "let through, and not seen to begin yet");
        queue.give_back(&all[2]);
        assert_eq!(queue.turn(&late[1], &late), Turn::Now);
    }

    #[test]
    fn one_that_is_over_or_cannot_begin_holds_up_nobody() {
        let queue = Queue::new(1);
        let over = run(1, &json!({"planRef": {"name": "p"}, "phase": "Finished"}));
        let odd = run(2, &json!({"phase": "Pending", "reason": "InvalidSpec"}));
        let all = [over, odd, queued(3)];
        assert_eq!(queue.turn(&all[2], &all), Turn::Now);
        assert_eq!(Queue::new(0).turn(&all[1], &[begun(7), begun(8)]), Turn::Now, "no bound");
    }
}
