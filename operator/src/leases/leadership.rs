//! Which of several operators works: the one that renews the lease.
//!
//! The rule is client-go's. Nobody compares wall clocks: a candidate takes the lease over once it saw it unchanged for
//! the lease's whole duration on its own clock. The leader counts from before it asked for the renewal, and for less
//! than that duration, so it knows that it does not lead before anybody else may, also when it was stopped meanwhile.

use super::conflict;
use crate::names::MANAGER;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{Api, Client, api::PostParams};
use std::time::Duration;
use tokio::{
    sync::watch,
    time::{Instant, MissedTickBehavior, interval, timeout},
};
use tokio_util::sync::CancellationToken;

/// Between two renewals, and between two looks of a candidate.
const PERIOD: Duration = Duration::from_secs(2);
/// A lease that nobody renewed for so long may be taken over.
const DURATION: Duration = Duration::from_secs(15);
/// For so long after a renewal its holder leads. What is under way then has until `DURATION` to end.
const DEADLINE: Duration = Duration::from_secs(10);
/// A look and a write take no longer, so that one that hangs leaves time for another before the deadline.
const PATIENCE: Duration = Duration::from_secs(4);

/// What to do about a lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Turn {
    /// It is nobody's, or its holder has gone: write oneself into it.
    Acquire,
    /// It is one's own: say that one is there.
    Renew,
    /// It is another's.
    Wait,
}

/// A lease as it was seen, and since when it has looked like that, on this process's clock.
#[derive(Clone, Debug, PartialEq)]
struct Sight {
    spec: Option<LeaseSpec>,
    since: Instant,
}

impl Sight {
    /// The next look, which found `spec`.
    fn next(before: Option<Self>, spec: Option<LeaseSpec>, now: Instant) -> Self {
        match before {
            Some(before) if before.spec == spec => before,
            _ => Self { spec, since: now },
        }
    }

    fn turn(&self, identity: &str, now: Instant) -> Turn {
        let Some(spec) = &self.spec else { return Turn::Acquire };
        match spec.holder_identity.as_deref().unwrap_or_default() {
            "" => Turn::Acquire,
            holder if holder == identity => Turn::Renew,
            _ if now.duration_since(self.since) >= duration(spec) => Turn::Acquire,
            _ => Turn::Wait,
        }
    }
}

/// For how long the holder asked to be believed.
fn duration(spec: &LeaseSpec) -> Duration {
    let seconds = spec.lease_duration_seconds.and_then(|seconds| u64::try_from(seconds).ok());
    seconds.map_or(DURATION, Duration::from_secs)
}

/// The lease once `identity` has taken its turn. The times are for people.
fn taken(before: Option<&LeaseSpec>, turn: Turn, identity: &str, now: Timestamp) -> LeaseSpec {
    let before = before.cloned().unwrap_or_default();
    let changes = before.lease_transitions.unwrap_or(0);
    let (acquired, transitions) = match turn {
        Turn::Acquire if before.holder_identity.is_some() => (None, changes.saturating_add(1)),
        _ => (before.acquire_time, changes),
    };
    LeaseSpec {
        holder_identity: Some(identity.to_owned()),
        lease_duration_seconds: Some(DURATION.as_secs() as i32),
        acquire_time: Some(acquired.unwrap_or(MicroTime(now))),
        renew_time: Some(MicroTime(now)),
        lease_transitions: Some(transitions),
        ..LeaseSpec::default()
    }
}

/// A candidate for leading, and what it knows of its own standing.
pub(crate) struct Leadership {
    leases: Api<Lease>,
    name: String,
    identity: String,
    /// Until when this process leads; `None`: it does not.
    until: watch::Sender<Option<Instant>>,
}

impl Leadership {
    /// A candidate for the lease `name`. No other process may have its `identity`, an earlier one of the same pod included.
    pub(crate) fn new(client: Client, namespace: &str, name: &str, identity: &str) -> Self {
        Self {
            leases: Api::namespaced(client, namespace),
            name: name.to_owned(),
            identity: identity.to_owned(),
            until: watch::Sender::new(None),
        }
    }

    /// Whether this process leads at `now`, as far as it knows itself. It asks nobody.
    pub(crate) fn is_leader(&self, now: Instant) -> bool {
        self.until.borrow().is_some_and(|until| now < until)
    }

    /// Takes the lease when it is free and renews it until `stop`, then gives it up. Whoever works as the leader has ended
    /// before `stop` is cancelled: the next one begins at once.
    pub(crate) async fn keep(&self, stop: CancellationToken) {
        let mut ticks = interval(PERIOD);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut sight = None;
        loop {
            tokio::select! {
                biased;
                () = stop.cancelled() => break,
                _ = ticks.tick() => {}
            }
            match timeout(PATIENCE, self.step(&mut sight)).await {
                Ok(Ok(())) => {}
                // Somebody was faster: the next look tells who.
                Ok(Err(error)) if conflict(&error).is_some() => {}
                Ok(Err(error)) => tracing::warn!(lease = self.name, %error, "cannot take or renew the leader's lease"),
                Err(_) => tracing::warn!(lease = self.name, "no answer about the leader's lease within {PATIENCE:?}"),
            }
        }
        self.until.send_replace(None);
        match timeout(PATIENCE, self.release()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                tracing::warn!(lease = self.name, %error, "cannot give the leader's lease up: it runs out")
            }
            Err(_) => tracing::warn!(lease = self.name, "no answer about the leader's lease: it runs out"),
        }
    }

    /// One look, and one write where there is one to make.
    async fn step(&self, sight: &mut Option<Sight>) -> Result<(), kube::Error> {
        let found = self.leases.get_opt(&self.name).await?;
        let began = Instant::now();
        let seen = Sight::next(sight.take(), found.as_ref().and_then(|lease| lease.spec.clone()), began);
        let turn = seen.turn(&self.identity, began);
        let seen = sight.insert(seen);
        if turn == Turn::Wait {
            self.stand(None);
            return Ok(());
        }
        let spec = taken(seen.spec.as_ref(), turn, &self.identity, Timestamp::now());
        self.write(found, spec).await?;
        self.stand(Some(began + DEADLINE));
        Ok(())
    }

    /// Writes the lease as long as it is the one that was looked at.
    async fn write(&self, found: Option<Lease>, spec: LeaseSpec) -> Result<(), kube::Error> {
        let by = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        match found {
            // Its metadata names the version.
            Some(lease) => self.leases.replace(&self.name, &by, &Lease { spec: Some(spec), ..lease }).await?,
            None => {
                let metadata = ObjectMeta { name: Some(self.name.clone()), ..ObjectMeta::default() };
                self.leases.create(&by, &Lease { metadata, spec: Some(spec) }).await?
            }
        };
        Ok(())
    }

    fn stand(&self, until: Option<Instant>) {
        let before = self.until.send_replace(until);
        if before.is_some() != until.is_some() {
            let leads = until.is_some();
            tracing::info!(lease = self.name, identity = self.identity, leads, "leadership changed");
        }
    }

    /// Leaves the lease to whoever comes next, if it is still one's own.
    async fn release(&self) -> Result<(), kube::Error> {
        let Some(lease) = self.leases.get_opt(&self.name).await? else { return Ok(()) };
        let Some(spec) = lease.spec.clone().filter(|spec| spec.holder_identity.as_ref() == Some(&self.identity)) else {
            return Ok(());
        };
        match self.write(Some(lease), LeaseSpec { holder_identity: Some(String::new()), ..spec }).await {
            Err(error) if conflict(&error).is_some() => Ok(()),
            written => written,
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::server::Server;
    use super::*;
    use std::sync::Arc;
    use tokio::time::{sleep, sleep_until};

    impl Leadership {
        /// Waits until this process leads.
        async fn gained(&self) {
            let leads = |until: &Option<Instant>| until.is_some_and(|until| Instant::now() < until);
            // It fails only once the sender is gone, which is `self`'s.
            let _ = self.until.subscribe().wait_for(leads).await;
        }

        /// Waits until this process does not lead, at the latest when what it renewed runs out.
        async fn lost(&self) {
            let mut standing = self.until.subscribe();
            loop {
                let until = *standing.borrow_and_update();
                let Some(until) = until.filter(|until| Instant::now() < *until) else { return };
                tokio::select! {
                    () = sleep_until(until) => {}
                    _ = standing.changed() => {}
                }
            }
        }
    }

    fn held_by(holder: &str, renewed: i64) -> Option<LeaseSpec> {
        Some(LeaseSpec {
            holder_identity: Some(holder.to_owned()),
            lease_duration_seconds: Some(15),
            renew_time: Some(MicroTime(Timestamp::from_second(renewed).unwrap())),
            ..LeaseSpec::default()
        })
    }

    fn after(start: Instant, seconds: u64) -> Instant {
        start + Duration::from_secs(seconds)
    }

    #[test]
    fn a_lease_of_nobody_is_taken_and_ones_own_is_renewed() {
        let now = Instant::now();
        let turn = |spec| Sight::next(None, spec, now).turn("me", now);
        assert_eq!(turn(None), Turn::Acquire);
        assert_eq!(turn(Some(LeaseSpec::default())), Turn::Acquire);
        assert_eq!(turn(held_by("", 0)), Turn::Acquire, "it was given up");
        assert_eq!(turn(held_by("me", 0)), Turn::Renew);
        assert_eq!(turn(held_by("other", 0)), Turn::Wait);
    }

    #[test]
    fn anothers_lease_is_taken_once_it_was_unchanged_for_its_duration_here() {
        let start = Instant::now();
        let first = Sight::next(None, held_by("other", 0), start);
        // It is renewed after 14 s: the time begins anew.
        let second = Sight::next(Some(first.clone()), held_by("other", 14), after(start, 14));
        assert_eq!(first.turn("me", after(start, 14)), Turn::Wait);
        assert_eq!(first.turn("me", after(start, 15)), Turn::Acquire);
        assert_eq!(second.turn("me", after(start, 28)), Turn::Wait);
        let third = Sight::next(Some(second), held_by("other", 14), after(start, 29));
        assert_eq!(third.turn("me", after(start, 29)), Turn::Acquire);
    }

    #[test]
    fn what_a_holders_clock_says_changes_nothing() {
        let start = Instant::now();
        // A year ahead and decades behind: both are waited for just as long, from when they were first seen.
        for renewed in [4_102_444_800, 0] {
            let sight = Sight::next(None, held_by("other", renewed), start);
            assert_eq!(sight.turn("me", after(start, 14)), Turn::Wait, "{renewed}");
            assert_eq!(sight.turn("me", after(start, 15)), Turn::Acquire, "{renewed}");
        }
        // One whose clock runs backwards lives.
        let sight = Sight::next(None, held_by("other", 100), start);
        let sight = Sight::next(Some(sight), held_by("other", 90), after(start, 10));
        assert_eq!(sight.turn("me", after(start, 20)), Turn::Wait);
    }

    #[test]
    fn a_holder_is_believed_for_as_long_as_it_asked() {
        let start = Instant::now();
        let asked = |seconds| Some(LeaseSpec { lease_duration_seconds: seconds, ..held_by("other", 0).unwrap() });
        for (seconds, expected) in [(Some(60), 60), (None, 15), (Some(-1), 15)] {
            let sight = Sight::next(None, asked(seconds), start);
            assert_eq!(sight.turn("me", after(start, expected - 1)), Turn::Wait, "{seconds:?}");
            assert_eq!(sight.turn("me", after(start, expected)), Turn::Acquire, "{seconds:?}");
        }
    }

    #[test]
    fn a_lease_tells_people_who_took_it_when_and_how_often_it_changed_hands() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let first = taken(None, Turn::Acquire, "a", at(1));
        assert_eq!((first.acquire_time.clone(), first.lease_transitions), (Some(MicroTime(at(1))), Some(0)));
        let renewed = taken(Some(&first), Turn::Renew, "a", at(3));
        assert_eq!(
            (renewed.acquire_time.clone(), renewed.renew_time.clone()),
            (first.acquire_time, Some(MicroTime(at(3))))
        );
        let second = taken(Some(&renewed), Turn::Acquire, "b", at(9));
        assert_eq!((second.acquire_time, second.lease_transitions), (Some(MicroTime(at(9))), Some(1)));
        assert_eq!(second.holder_identity.as_deref(), Some("b"));
    }

    /// A candidate at work, until its token is cancelled or its task is aborted.
    fn candidate(server: &Server, identity: &str) -> (Arc<Leadership>, CancellationToken, tokio::task::JoinHandle<()>) {
        let leadership = Arc::new(Leadership::new(server.client(), "system", "leader", identity));
        let (stop, working) = (CancellationToken::new(), leadership.clone());
        let task = tokio::spawn({
            let stop = stop.clone();
            async move { working.keep(stop).await }
        });
        (leadership, stop, task)
    }

    #[tokio::test(start_paused = true)]
    async fn of_two_candidates_one_leads_and_the_other_follows_at_once_when_it_stops() {
        let server = Server::new();
        let (first, stop_first, first_task) = candidate(&server, "first");
        first.gained().await;
        let (second, ..) = candidate(&server, "second");
        sleep(Duration::from_secs(60)).await;
        assert!(first.is_leader(Instant::now()) && !second.is_leader(Instant::now()));
        stop_first.cancel();
        first_task.await.unwrap();
        let stopped = Instant::now();
        assert!(!first.is_leader(stopped));
        second.gained().await;
        assert!(stopped.elapsed() <= PERIOD, "{:?}", stopped.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn of_many_that_begin_at_once_one_leads() {
        let server = Server::new();
        let candidates = ["a", "b", "c", "d"].map(|identity| candidate(&server, identity));
        sleep(Duration::from_secs(30)).await;
        let leading = candidates.iter().filter(|(candidate, ..)| candidate.is_leader(Instant::now()));
        assert_eq!(leading.count(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_that_wakes_knows_before_it_asks_that_it_does_not_lead() {
        let server = Server::new();
        let (first, _, task) = candidate(&server, "first");
        first.gained().await;
        let renewed = Instant::now();
        // It is stopped where it stands, as by SIGSTOP.
        task.abort();
        let (second, ..) = candidate(&server, "second");
        first.lost().await;
        assert!(renewed.elapsed() <= DEADLINE && !first.is_leader(Instant::now()));
        assert!(!second.is_leader(Instant::now()), "never two at once");
        second.gained().await;
        assert!(renewed.elapsed() >= DURATION, "{:?}", renewed.elapsed());
        // Awake again, it finds another's lease and waits.
        let (stop, woken) = (CancellationToken::new(), first.clone());
        tokio::spawn(async move { woken.keep(stop).await });
        sleep(Duration::from_secs(30)).await;
        assert!(second.is_leader(Instant::now()) && !first.is_leader(Instant::now()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_that_the_api_server_does_not_answer_stops_leading_and_leads_again() {
        let server = Server::new();
        let (leader, ..) = candidate(&server, "only");
        leader.gained().await;
        server.hang(true);
        leader.lost().await;
        server.hang(false);
        leader.gained().await;
        assert!(leader.is_leader(Instant::now()));
    }
}
