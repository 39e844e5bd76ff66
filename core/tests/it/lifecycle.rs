//! The life of a run.

use nearbench_core::{
    lifecycle::{Action, Deadlines, Event, Lifecycle, Stage},
    plan::Cleanup,
    verdict::Verdict,
};
use proptest::prelude::*;

const DEADLINES: Deadlines = Deadlines {
    provision_ms: 100,
    run_ms: 200,
    drain_ms: 300,
    audit_ms: 400,
    report_ms: 500,
    clean_up_ms: 600,
    active_ms: None,
};

/// A run and everything it was told to do.
struct Driven(Lifecycle, Vec<Action>);

impl Driven {
    fn new(cleanup: Cleanup) -> Self {
        Self(Lifecycle::new(DEADLINES, cleanup), Vec::new())
    }

    fn at(mut self, now_ms: u64, event: Event) -> Self {
        let (life, actions) = self.0.step(event, now_ms);
        self.1.extend(actions);
        self.0 = life;
        self
    }

    fn with(self, event: Event) -> Self {
        self.at(0, event)
    }

    fn running() -> Self {
        Self::new(Cleanup::Always).with(Event::Admitted).with(Event::Done(Stage::Provisioning))
    }

    fn reported(self, verdict: Verdict) -> Self {
        self.with(Event::Done(Stage::Draining)).with(Event::Done(Stage::Auditing)).with(Event::Reported(verdict))
    }
}

const REPORT: Action = Action::Report { stopped_early: false };
const REPORT_STOPPED: Action = Action::Report { stopped_early: true };

#[test]
fn a_run_goes_through_every_stage_in_order() {
    let run = Driven::running()
        .with(Event::Done(Stage::Running))
        .reported(Verdict::Passed)
        .with(Event::Done(Stage::CleaningUp));
    assert_eq!(run.1, [Action::Provision, Action::StartLoad, Action::Drain, Action::Audit, REPORT, Action::CleanUp]);
    assert_eq!((run.0.stage(), run.0.verdict(), run.0.failures().len()), (Stage::Finished, Some(Verdict::Passed), 0));
}

#[test]
fn a_stopped_run_is_drained_audited_and_reported_as_stopped() {
    let run = Driven::running().with(Event::StopRequested).with(Event::StopRequested).reported(Verdict::Inconclusive);
    assert_eq!(run.1[2..], [Action::StopLoad, Action::Drain, Action::Audit, REPORT_STOPPED, Action::CleanUp]);
}

#[test]
fn a_run_stopped_before_its_load_only_cleans_up() {
    let run = Driven::new(Cleanup::Always).with(Event::Admitted).with(Event::StopRequested);
    assert_eq!(run.1, [Action::Provision, Action::CleanUp]);
    assert!(run.0.stopped_early());
    let run = Driven::new(Cleanup::Always).with(Event::StopRequested);
    assert_eq!((run.0.stage(), run.1.len()), (Stage::Finished, 0));
}

#[test]
fn a_suspended_run_is_provisioned_and_waits() {
    let held = Driven::new(Cleanup::Always)
        .with(Event::Suspend(true))
        .with(Event::Admitted)
        .at(50, Event::Done(Stage::Provisioning));
    assert_eq!((held.0.stage(), held.0.deadline_ms()), (Stage::Held, None));
    let run = held.at(9_000, Event::Tick).at(9_000, Event::Suspend(false));
    assert_eq!((run.1, run.0.deadline_ms()), (vec![Action::Provision, Action::StartLoad], Some(9_200)));
}

#[test]
fn suspending_a_run_under_load_changes_nothing() {
    let run = Driven::running().with(Event::Suspend(true));
    assert_eq!(run.0.stage(), Stage::Running);
}

#[test]
fn a_failed_provisioning_is_cleaned_up_and_has_no_report() {
    let run =
        Driven::new(Cleanup::Always).with(Event::Admitted).with(Event::Failed(Stage::Provisioning, "no funds".into()));
    assert_eq!(run.1, [Action::Provision, Action::CleanUp]);
    assert_eq!((run.0.verdict(), run.0.failures()[0].reason.as_str()), (None, "no funds"));
}

#[test]
fn a_failed_load_is_still_drained_audited_and_reported() {
    let run = Driven::running().with(Event::Failed(Stage::Running, "no worker".into())).reported(Verdict::Inconclusive);
    assert_eq!(run.1[2..], [Action::StopLoad, Action::Drain, Action::Audit, REPORT_STOPPED, Action::CleanUp]);
    assert_eq!(run.0.failures()[0].stage, Stage::Running);
}

#[test]
fn every_stage_ends_at_its_deadline() {
    let mut run = Driven::running();
    let mut now_ms = 0;
    for (stage, within_ms) in [
        (Stage::Running, 200),
        (Stage::Draining, 300),
        (Stage::Auditing, 400),
        (Stage::Reporting, 500),
        (Stage::CleaningUp, 600),
    ] {
        assert_eq!((run.0.stage(), run.0.deadline_ms()), (stage, Some(now_ms + within_ms)));
        run = run.at(now_ms + within_ms - 1, Event::Tick);
        assert_eq!(run.0.stage(), stage);
        now_ms += within_ms;
        run = run.at(now_ms, Event::Tick);
    }
    assert_eq!((run.0.stage(), run.0.deadline_ms(), run.0.failures().len()), (Stage::Finished, None, 5));
}

#[test]
fn the_active_deadline_ends_the_load_and_spares_what_follows() {
    let deadlines = Deadlines { active_ms: Some(150), ..DEADLINES };
    let run = Driven(Lifecycle::new(deadlines, Cleanup::Never), Vec::new())
        .at(10, Event::Admitted)
        .at(20, Event::Done(Stage::Provisioning));
    assert_eq!(run.0.deadline_ms(), Some(160));
    let run = run.at(160, Event::Tick);
    assert_eq!((run.0.stage(), run.0.deadline_ms()), (Stage::Draining, Some(460)));
    assert_eq!(run.0.failures()[0].reason, "activeDeadlineSeconds is over");
}

#[test]
fn keys_are_removed_when_the_plan_says_so() {
    let end = |cleanup, verdict| {
        let run = Driven::new(cleanup)
            .with(Event::Admitted)
            .with(Event::Done(Stage::Provisioning))
            .with(Event::Done(Stage::Running));
        run.reported(verdict).0.stage()
    };
    assert_eq!(end(Cleanup::Always, Verdict::Failed), Stage::CleaningUp);
    assert_eq!(end(Cleanup::OnSuccess, Verdict::Passed), Stage::CleaningUp);
    assert_eq!(end(Cleanup::OnSuccess, Verdict::Failed), Stage::Finished);
    assert_eq!(end(Cleanup::Never, Verdict::Passed), Stage::Finished);
}

#[test]
fn a_driver_that_was_restarted_goes_on_where_the_run_stands() {
    let run = Driven::running();
    let text = serde_json::to_string(&run.0).unwrap();
    let restored: Lifecycle = serde_json::from_str(&text).unwrap();
    assert_eq!((&restored, restored.action()), (&run.0, Some(Action::StartLoad)));
}

fn events() -> impl Strategy<Value = Vec<(u64, Event)>> {
    let stages =
        [Stage::Provisioning, Stage::Running, Stage::Draining, Stage::Auditing, Stage::Reporting, Stage::CleaningUp];
    let event = prop_oneof![
        4 => prop::sample::select(stages.to_vec()).prop_map(Event::Done),
        1 => prop::sample::select(stages.to_vec()).prop_map(|stage| Event::Failed(stage, "reason".into())),
        1 => Just(Event::Admitted),
        1 => Just(Event::Reported(Verdict::Passed)),
        1 => Just(Event::StopRequested),
        1 => any::<bool>().prop_map(Event::Suspend),
        2 => Just(Event::Tick),
    ];
    prop::collection::vec((0u64..150, event), 0..40)
}

proptest! {
    #[test]
    fn whatever_happens_a_run_ends_and_does_nothing_twice_or_out_of_order(events in events()) {
        let mut run = Driven::new(Cleanup::Always).with(Event::Admitted);
        let mut now_ms = 0;
        for (later_ms, event) in events {
            now_ms += later_ms;
            run = run.at(now_ms, event);
        }
        run = run.at(now_ms, Event::Suspend(false));
        while let Some(deadline_ms) = run.0.deadline_ms() {
            run = run.at(deadline_ms.max(now_ms), Event::Tick);
        }
        prop_assert_eq!(run.0.stage(), Stage::Finished);
        let order = |action: &Action| match action {
            Action::Provision => 0,
            Action::StartLoad => 1,
            Action::StopLoad => 2,
            Action::Drain => 3,
            Action::Audit => 4,
            Action::Report { .. } => 5,
            Action::CleanUp => 6,
        };
        let done: Vec<u8> = run.1.iter().map(order).collect();
        prop_assert!(done.is_sorted_by(|a, b| a < b), "{:?}", run.1);
        prop_assert_eq!(done.last(), Some(&6));
        let started = done.contains(&1);
        prop_assert_eq!([3, 4, 5].map(|action| done.contains(&action)), [started; 3]);
    }
}
