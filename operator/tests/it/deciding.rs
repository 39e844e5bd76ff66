//! What is done about a run, by what is there.

use crate::world::{World, at, container, job, job_over, pod, run};
use nearbench_core::lifecycle::Stage;
use nearbench_crds::{RunPhase, RunVerdict, Violation};
use nearbench_operator::decisions::{Act, Observed, conditions, decide, reasons};
use serde_json::json;
use std::{sync::Arc, time::Duration};

#[test]
fn the_plan_is_stored_and_told_before_the_job_is_made() {
    let mut world = World::new(run());
    let first = world.decide(0);
    assert!(matches!(first.acts[..], [Act::Store(_), Act::PlaceReport]), "{:?}", first.acts);
    assert_eq!((first.status.phase, first.again), (Some(RunPhase::Provisioning), Some(Duration::ZERO)));
    assert_eq!(first.status.plan_ref.unwrap().name, "quickstart-plan");
    assert_eq!(first.status.observed_generation, Some(3));
    assert_eq!(first.status.summary.unwrap().target, "202");
    let second = world.decide(1);
    assert!(matches!(second.acts[..], [Act::CarryOut(_)]), "{:?}", second.acts);
}

#[test]
fn an_operator_that_died_before_it_said_that_the_job_is_made_makes_the_same_again() {
    let mut world = World::new(run());
    world.decide(0);
    let told = world.observed.run.status.clone();
    let made = world.decide(1).acts;
    world.change(|run| run.status = told);
    assert_eq!(world.decide(2).acts, made);
}

#[test]
fn a_job_that_was_made_and_not_yet_told_of_is_not_made_again() {
    let mut world = World::new(run());
    world.decide(0);
    world.observed.job = Some(job(json!({"active": 1})));
    assert_eq!(world.decide(2).acts, [Act::PlaceReport]);
    world.observed.job = None;
    assert_eq!(world.decide(3).status.reason.as_deref(), Some(reasons::JOB_GONE));
}

#[test]
fn what_is_not_the_runs_own_is_waited_for_and_never_touched() {
    let mut world = World::new(run());
    world.observed.taken = vec!["Job quickstart".into()];
    let waiting = world.decide(0);
    assert_eq!((waiting.acts, waiting.status.plan_ref, waiting.status.verdict), (vec![], None, None));
    let (value, reason, message) = world.condition(conditions::ADMITTED).unwrap();
    assert_eq!((value.as_str(), reason.as_str()), ("False", reasons::NAME_TAKEN));
    assert!(message.starts_with("Job quickstart is there"), "{message}");
    world.observed.taken.clear();
    assert!(matches!(world.decide(5).acts[..], [Act::Store(_), Act::PlaceReport]));
    world.observed.taken = vec!["Pod quickstart-old".into()];
    assert_eq!(world.decide(6).acts, []);
    world.observed.taken.clear();
    assert!(matches!(world.decide(7).acts[..], [Act::CarryOut(_)]));
}

#[test]
fn a_report_without_a_place_gets_one() {
    let mut world = World::begun();
    world.observed.report_has_place = false;
    assert_eq!(world.decide(5).acts, [Act::PlaceReport]);
}

#[test]
fn a_pod_that_lost_its_job_works_off_what_it_accepted() {
    let mut world = World::begun();
    world.decide(2);
    world.observed.job = None;
    world.observed.pods = vec![pod(json!({"conditions": [{"type": "Ready", "status": "True"}]}))];
    let waiting = world.decide(5);
    assert_eq!((waiting.acts, waiting.status.verdict), (vec![], None));
    world.observed.pods.clear();
    assert_eq!(world.decide(9).status.verdict, Some(RunVerdict::Error));
}

#[test]
fn a_job_that_makes_no_pod_is_told() {
    let mut world = World::begun();
    world.decide(3);
    assert_eq!(world.condition(conditions::WORKERS_READY).unwrap().1, reasons::STARTING);
    world.decide(12);
    let (_, reason, message) = world.condition(conditions::WORKERS_READY).unwrap();
    assert_eq!(reason, reasons::NO_POD);
    assert!(message.contains("kubectl describe job quickstart"));
}

#[test]
fn a_pod_that_answers_no_more_is_not_ready() {
    let mut world = World::begun();
    world.observed.pods = vec![pod(json!({"conditions": [{"type": "Ready", "status": "True"}]}))];
    world.stands(Stage::Running, "sustain", 40);
    world.decide(10);
    world.observed.pods = vec![pod(json!({"conditions": [{"type": "Ready", "status": "False"}]}))];
    world.observed.standing = None;
    let status = world.decide(15).status;
    assert_eq!(world.condition(conditions::WORKERS_READY).unwrap().1, reasons::NOT_READY);
    assert_eq!(status.workers.unwrap().ready, 0);
    // All stages together may take less than this.
    let given_up = world.decide(4 * 3_600);
    assert_eq!((given_up.acts, given_up.status.verdict), (vec![Act::Stop("job".into())], Some(RunVerdict::Error)));
}

#[test]
fn a_pod_that_ended_with_a_report_is_no_trouble() {
    for exit in [1, 3] {
        let mut world = World::begun();
        let ended = json!({"terminated": {"exitCode": exit, "reason": "Error", "message": "peak memory 74 MiB"}});
        world.observed.pods = vec![pod(container(ended))];
        let status = world.decide(5).status;
        assert_eq!((status.reason.as_deref(), status.verdict), (Some(reasons::STARTING), None));
    }
}

#[test]
fn a_job_that_somebody_removed_is_not_made_again() {
    let mut world = World::begun();
    world.observed.job = None;
    let decision = world.decide(2);
    assert_eq!(decision.acts, []);
    assert_eq!(
        (decision.status.verdict, decision.status.reason.as_deref()),
        (Some(RunVerdict::Error), Some(reasons::JOB_GONE))
    );
}

#[test]
fn a_manifest_with_a_fault_waits_for_its_correction() {
    let violation = Violation { path: "spec.x".into(), message: "is wrong".into() };
    let mut world = World::new(run());
    world.observed = Observed::waiting(Arc::new(run()), Err(vec![violation]));
    let decision = world.decide(0);
    assert_eq!((decision.acts, decision.status.verdict), (vec![], None));
    assert_eq!(
        world.condition(conditions::ADMITTED).unwrap(),
        ("False".into(), reasons::INVALID_SPEC.into(), "spec.x: is wrong".into())
    );
    world.observed = Observed::waiting(world.observed.run.clone(), Ok(crate::world::plan(&run())));
    assert!(matches!(world.decide(1).acts[..], [Act::Store(_), Act::PlaceReport]));
}

#[test]
fn suspend_holds_a_run_and_stop_ends_it_before_it_begins() {
    let mut world = World::new(run());
    world.change(|run| run.spec.suspend = true);
    let held = world.decide(0);
    assert_eq!((held.acts, held.again, held.status.phase), (vec![], None, Some(RunPhase::Pending)));
    assert_eq!(held.status.plan_ref, None);
    world.change(|run| run.spec.stop = true);
    let ended = world.decide(1).status;
    assert_eq!((ended.phase, ended.verdict), (Some(RunPhase::Finished), Some(RunVerdict::Inconclusive)));
    assert_eq!(world.condition(conditions::COMPLETE).unwrap().0, "True");
}

#[test]
fn the_pods_stage_becomes_phase_progress_and_conditions() {
    let mut world = World::begun();
    world.observed.pods = vec![pod(json!({"conditions": [{"type": "Ready", "status": "True"}]}))];
    world.stands(Stage::Provisioning, "", 0);
    assert_eq!(world.decide(5).status.phase, Some(RunPhase::Provisioning));
    assert_eq!(world.condition(conditions::PROVISIONED), None);
    world.stands(Stage::Running, "sustain", 40);
    let status = world.decide(10).status;
    assert_eq!((status.phase, status.workers.unwrap().ready), (Some(RunPhase::Running), 1));
    let progress = status.progress.unwrap();
    assert_eq!((progress.phase.as_str(), progress.percent, progress.offered), ("sustain", 40, 200));
    assert_eq!(world.condition(conditions::KEYS_READY).unwrap().0, "True");
    assert_eq!(world.condition(conditions::LOAD_COMPLETED), None);
    world.stands(Stage::Auditing, "cooldown", 100);
    assert_eq!(world.decide(15).status.phase, Some(RunPhase::Auditing));
    assert_eq!(world.condition(conditions::WORKERS_READY).unwrap().1, reasons::READY);
}

#[test]
fn a_conditions_time_changes_only_with_its_value() {
    let mut world = World::begun();
    world.stands(Stage::Running, "sustain", 40);
    world.decide(10);
    let before = world.observed.run.status.clone().unwrap().conditions;
    world.stands(Stage::Running, "sustain", 50);
    world.decide(20);
    let after = world.observed.run.status.clone().unwrap().conditions;
    let times = |conditions: &[k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition]| {
        conditions.iter().map(|c| c.last_transition_time.clone()).collect::<Vec<_>>()
    };
    assert_eq!(times(&before), times(&after));
}

#[test]
fn what_keeps_a_pod_from_its_work_is_told_and_not_given_up_at_once() {
    let unschedulable = json!({"conditions": [{"type": "PodScheduled", "status": "False", "reason": "Unschedulable",
        "message": "0/1 nodes are available"}]});
    let no_image = container(json!({"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}}));
    for (status, reason) in [(unschedulable, "Unschedulable"), (no_image, "ErrImageNeverPull")] {
        let mut world = World::begun();
        world.observed.pods = vec![pod(status)];
        let decision = world.decide(10);
        assert_eq!((decision.acts, decision.status.verdict), (vec![], None));
        let (value, why, message) = world.condition(conditions::WORKERS_READY).unwrap();
        assert_eq!((value.as_str(), why.as_str(), message.is_empty()), ("False", reason, false));
        let given_up = world.decide(15 * 60 + 1);
        assert_eq!(given_up.acts, [Act::Stop("job".into())]);
        assert_eq!(given_up.status.verdict, Some(RunVerdict::Error));
        assert!(given_up.status.message.unwrap().starts_with("given up after 15 minutes"));
    }
}

#[test]
fn a_pod_that_begins_waits_for_nothing_worth_telling() {
    let mut world = World::begun();
    world.observed.pods = vec![pod(container(json!({"waiting": {"reason": "ContainerCreating"}})))];
    world.decide(5);
    assert_eq!(world.condition(conditions::WORKERS_READY).unwrap().1, reasons::STARTING);
}

#[test]
fn a_pod_that_ended_badly_says_why() {
    let table = [
        (json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}), "OOMKilled", "16Mi"),
        (
            json!({"terminated": {"exitCode": 4, "reason": "Error", "message": "==> Provisioning\nerror: no such account\n"}}),
            "CouldNotRun",
            "no such account",
        ),
        (json!({"terminated": {"exitCode": 2, "reason": "Error", "message": "error: bad"}}), "BadInput", "bad"),
        (
            json!({"terminated": {"exitCode": 137, "reason": "Error", "message": "12 % of the load"}}),
            "Error",
            "exit code 137: killed by signal 9",
        ),
    ];
    for (state, reason, part) in table {
        let mut world = World::begun();
        world.observed.pods = vec![pod(container(state))];
        world.observed.job = Some(job_over("Failed"));
        let status = world.decide(30).status;
        assert_eq!((status.verdict, status.reason.as_deref()), (Some(RunVerdict::Error), Some(reason)));
        assert!(status.message.as_ref().unwrap().contains(part), "{:?}", status.message);
        assert_eq!(world.condition(conditions::WORKERS_READY).unwrap().1, reason);
        assert_eq!(world.condition(conditions::COMPLETE).unwrap().0, "True");
    }
}

#[test]
fn a_pod_that_vanished_is_an_error_and_not_a_result() {
    let mut world = World::begun();
    world.observed.job = Some(job_over("Failed"));
    let status = world.decide(30).status;
    assert_eq!((status.verdict, status.reason.as_deref()), (Some(RunVerdict::Error), Some("BackoffLimitExceeded")));
}

#[test]
fn stop_ends_the_pod_in_good_order_once() {
    let mut world = World::begun();
    world.change(|run| run.spec.stop = true);
    assert_eq!(world.decide(10).acts, [Act::Stop("job".into())]);
    let mut suspended = job(json!({"active": 1}));
    suspended.spec.as_mut().unwrap().suspend = Some(true);
    world.observed.job = Some(suspended.clone());
    let waiting = world.decide(15);
    assert_eq!((waiting.acts, waiting.status.verdict), (vec![], None));
    suspended.status =
        serde_json::from_value(json!({"conditions": [{"type": "Suspended", "status": "True"}]})).unwrap();
    world.observed.job = Some(suspended);
    let ended = world.decide(20).status;
    assert_eq!((ended.verdict, ended.reason.as_deref()), (Some(RunVerdict::Inconclusive), Some(reasons::STOPPED)));
}

#[test]
fn a_plan_that_is_gone_takes_nothing_from_a_pod_that_came_to_its_end() {
    let mut world = World::begun();
    world.observed.plan = Err(Vec::new());
    world.observed.pods = vec![pod(container(json!({"terminated": {"exitCode": 137, "reason": "OOMKilled"}})))];
    world.observed.job = Some(job_over("Failed"));
    assert_eq!(world.decide(10).status.reason.as_deref(), Some(reasons::OOM_KILLED));
}

#[test]
fn a_plan_that_is_gone_ends_the_run() {
    let mut world = World::begun();
    world.observed.plan = Err(Vec::new());
    let decision = world.decide(10);
    assert_eq!(decision.acts, [Act::Stop("job".into())]);
    assert_eq!(decision.status.reason.as_deref(), Some(reasons::PLAN_GONE));
}

#[test]
fn a_finished_run_is_removed_when_its_time_is_over_and_not_by_default() {
    let mut world = World::new(run());
    world.change(|run| run.spec.stop = true);
    world.decide(0);
    assert_eq!(world.decide(1_000_000).acts, []);
    world.change(|run| run.spec.ttl_seconds_after_finished = Some(60));
    let waits = decide(&world.observed, at(10));
    assert_eq!((waits.acts, waits.again), (vec![], Some(Duration::from_secs(51))));
    assert_eq!(decide(&world.observed, at(60)).acts, [Act::Delete]);
}

#[test]
fn a_run_that_is_being_deleted_is_left_alone() {
    let mut world = World::begun();
    world.change(|run| {
        run.metadata.deletion_timestamp = Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(5)));
    });
    let before = world.observed.run.status.clone().unwrap();
    let decision = world.decide(10);
    assert_eq!((decision.acts, decision.status), (vec![], before));
}
