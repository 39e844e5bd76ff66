//! What is done about a run with workers, by what is there.

mod ending;
mod walking;

use crate::world::{
    at,
    fleet::{Cluster, on_devnet, on_testnet, ready, words},
    plan,
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt;
use nearbench_core::{lifecycle::Stage, verdict::Verdict};
use nearbench_crds::{Frozen, RunPhase, RunVerdict};
use nearbench_operator::{
    FINALIZER,
    decisions::{Act, Part, Turn, conditions, plan_for, reasons},
};
use serde_json::json;

const MINUTE: i64 = 60;

/// What `type_` says: value, reason.
fn told(cluster: &Cluster, type_: &str) -> Option<(String, String)> {
    cluster.condition(type_).map(|(value, reason, _)| (value, reason))
}

fn said(value: &str, reason: &str) -> Option<(String, String)> {
    Some((value.to_owned(), reason.to_owned()))
}

#[test]
fn a_run_is_held_before_anything_is_made_for_it() {
    let mut cluster = Cluster::new(on_testnet());
    let first = cluster.look_without_a_word();
    assert_eq!(first.acts, [Act::Hold]);
    assert_eq!((&first.status.plan_ref, &first.status.secret_ref), (&None, &None));
    cluster.run.metadata.finalizers = None;
    assert_eq!(cluster.look(), ["Hold"], "somebody took the finalizer off");
    assert_eq!(cluster.run.finalizers(), [FINALIZER]);
    assert_eq!(cluster.secrets, [""; 0]);
}

#[test]
fn plan_report_and_secret_are_made_before_the_status_names_them() {
    let mut cluster = Cluster::begun(on_testnet());
    let status = cluster.status();
    assert_eq!(status.secret_ref.unwrap().name, cluster.secrets[0]);
    assert_eq!(
        (status.plan_ref.unwrap().name, status.report_ref.unwrap().name),
        ("case-plan".into(), "case-report".into())
    );
    assert_eq!((status.public_keys.len(), status.frozen), (12, Some(Frozen::Identity)));
    assert!(status.public_keys.iter().all(|key| key.starts_with("ed25519:")));
    assert_eq!((status.phase, status.summary.unwrap().target.as_str()), (Some(RunPhase::Provisioning), "202"));
    assert_eq!(cluster.look(), ["Found", "Begin(Provision)"]);
}

#[test]
fn an_operator_that_died_after_the_secret_was_made_makes_another_one_and_uses_that_alone() {
    let mut cluster = Cluster::new(on_devnet());
    cluster.look();
    let lost = cluster.look_without_a_word();
    assert_eq!(words(&lost.acts), ["Store", "PlaceReport", "Conceal"]);
    cluster.look();
    let status = cluster.status();
    let [unused, used] = &cluster.secrets.clone()[..] else { panic!("{:?}", cluster.secrets) };
    assert_ne!(unused, used);
    assert_eq!(&status.secret_ref.as_ref().unwrap().name, used);
    assert_ne!(status.public_keys, lost.status.public_keys);
    // The key of the chain's owner is in the Secret that the plan names.
    let plan = cluster.stored.clone().unwrap();
    assert_eq!(plan.account.create_from.unwrap().secret.as_ref(), Some(used));
    cluster.look();
    let text = serde_json::to_string(&(&cluster.steps[&Part::Provision], &cluster.stateful)).unwrap();
    assert!(text.contains(used) && !text.contains(unused), "{text}");
}

#[test]
fn each_stage_does_its_own_and_comes_after_the_one_before() {
    use RunPhase::{Auditing, CleaningUp, Draining, Finished, Pending, Provisioning, Running};
    let mut cluster = Cluster::new(on_testnet());
    let acts = |cluster: &mut Cluster| (cluster.look(), cluster.stage(), cluster.status().phase.unwrap_or(Pending));
    let mut all = Vec::new();
    all.extend([acts(&mut cluster), acts(&mut cluster), acts(&mut cluster)]);
    cluster.pod(Part::Provision, ready());
    all.push(acts(&mut cluster));
    cluster.step_ended(Part::Provision, "Complete");
    all.extend([acts(&mut cluster), acts(&mut cluster), acts(&mut cluster)]);
    cluster.workers_ready(2);
    all.extend([acts(&mut cluster), acts(&mut cluster)]);
    cluster.pod(Part::Load, ready()).step_ended(Part::Load, "Complete");
    all.extend([acts(&mut cluster), acts(&mut cluster)]);
    cluster.pod(Part::Audit, ready()).stands(Stage::Auditing, "", 100);
    all.push(acts(&mut cluster));
    cluster.standing = None;
    cluster.step_ended(Part::Audit, "Complete").deliver(Verdict::Passed);
    all.extend([acts(&mut cluster), acts(&mut cluster), acts(&mut cluster)]);
    cluster.without_pods(Part::Worker);
    all.push(acts(&mut cluster));
    cluster.pod(Part::CleanUp, ready()).step_ended(Part::CleanUp, "Complete");
    all.extend([acts(&mut cluster), acts(&mut cluster)]);
    let row = |acts: &[&str], stage, phase| (acts.iter().map(|act| (*act).to_owned()).collect(), stage, phase);
    let expected: Vec<(Vec<String>, Option<Stage>, RunPhase)> = vec![
        row(&["Hold"], None, Pending),
        row(&["Store", "PlaceReport", "Conceal"], Some(Stage::Provisioning), Provisioning),
        row(&["Found", "Begin(Provision)"], Some(Stage::Provisioning), Provisioning),
        row(&[], Some(Stage::Provisioning), Provisioning),
        row(&[], Some(Stage::Held), Provisioning),
        row(&["Staff"], Some(Stage::Held), Provisioning),
        row(&[], Some(Stage::Held), Provisioning),
        row(&[], Some(Stage::Running), Running),
        row(&["Begin(Load)"], Some(Stage::Running), Running),
        row(&[], Some(Stage::Draining), Draining),
        row(&["Begin(Audit)"], Some(Stage::Draining), Draining),
        row(&[], Some(Stage::Auditing), Auditing),
        row(&[], Some(Stage::CleaningUp), CleaningUp),
        row(&["Dismiss"], Some(Stage::CleaningUp), CleaningUp),
        row(&[], Some(Stage::CleaningUp), CleaningUp),
        row(&["Begin(CleanUp)"], Some(Stage::CleaningUp), CleaningUp),
        row(&["TakeDown", "Release"], Some(Stage::Finished), Finished),
        row(&["LetGo"], Some(Stage::Finished), Finished),
    ];
    for (n, (done, wanted)) in all.iter().zip(&expected).enumerate() {
        assert_eq!(done, wanted, "look {n}");
    }
    assert_eq!(all.len(), expected.len());
    let status = cluster.status();
    assert_eq!((status.verdict, status.reason.as_deref()), (Some(RunVerdict::Passed), Some(reasons::PASSED)));
    assert_eq!(told(&cluster, conditions::KEYS_READY), said("False", reasons::DONE));
    assert_eq!(told(&cluster, conditions::COMPLETE), said("True", reasons::PASSED));
}

#[test]
fn the_load_begins_only_once_the_status_says_that_nothing_can_change() {
    let mut cluster = Cluster::provisioned(on_testnet());
    cluster.look();
    cluster.workers_ready(2);
    let lost = cluster.look_without_a_word();
    assert_eq!((lost.acts, lost.status.frozen), (vec![], Some(Frozen::Everything)));
    assert_eq!((cluster.look(), cluster.status().frozen), (vec![], Some(Frozen::Everything)));
    assert_eq!(cluster.look(), ["Begin(Load)"]);
}

#[test]
fn an_operator_that_dies_before_every_word_brings_a_run_to_the_same_end() {
    let mut cluster = Cluster::new(on_testnet());
    let look = |cluster: &mut Cluster| {
        cluster.look_without_a_word();
        cluster.look_without_a_word();
        cluster.look();
    };
    look(&mut cluster);
    look(&mut cluster);
    for stage in [Stage::Provisioning, Stage::Held, Stage::Running, Stage::Draining, Stage::CleaningUp] {
        assert_eq!(cluster.stage(), Some(stage));
        look(&mut cluster);
        match stage {
            Stage::Provisioning => cluster.pod(Part::Provision, ready()).step_ended(Part::Provision, "Complete"),
            Stage::Held => cluster.workers_ready(2),
            Stage::Running => cluster.pod(Part::Load, ready()).step_ended(Part::Load, "Complete"),
            Stage::Draining => {
                cluster.pod(Part::Audit, ready()).step_ended(Part::Audit, "Complete").deliver(Verdict::Passed)
            }
            _ => {
                cluster.without_pods(Part::Worker);
                look(&mut cluster);
                cluster.pod(Part::CleanUp, ready()).step_ended(Part::CleanUp, "Complete")
            }
        };
        look(&mut cluster);
    }
    assert_eq!(cluster.status().verdict, Some(RunVerdict::Passed));
    assert_eq!(cluster.look(), ["LetGo"]);
    let uids: Vec<_> = cluster.steps.values().map(|job| job.uid().unwrap()).collect();
    assert_eq!(uids.len(), 4, "one of each: {uids:?}");
}

#[test]
fn what_the_end_takes_down_is_taken_down_again_where_the_end_was_not_told() {
    let mut cluster = Cluster::reported(on_devnet(), Verdict::Passed);
    cluster.look();
    cluster.without_pods(Part::Worker);
    let lost = cluster.look_without_a_word();
    assert_eq!(words(&lost.acts), ["TakeDown"], "a chain of its own is nobody else's");
    assert_eq!(cluster.look(), ["TakeDown"]);
    assert!(cluster.is_finished());
}

#[test]
fn a_chain_of_the_runs_own_needs_no_cleanup() {
    let mut cluster = Cluster::reported(on_devnet(), Verdict::Passed);
    assert_eq!(cluster.look(), ["Dismiss"]);
    cluster.without_pods(Part::Worker);
    assert_eq!(cluster.look(), ["TakeDown"]);
    assert!(!cluster.steps.contains_key(&Part::CleanUp));
    assert_eq!(cluster.status().verdict, Some(RunVerdict::Passed));
}

#[test]
fn a_redis_of_others_is_rid_of_what_a_run_on_its_own_chain_left() {
    let mut run = on_devnet();
    run.spec.store = serde_json::from_value(json!({"redis": {"secretRef": {"name": "shared"}}})).unwrap();
    let mut cluster = Cluster::reported(run, Verdict::Passed);
    cluster.look();
    cluster.without_pods(Part::Worker);
    assert_eq!(cluster.look(), ["Begin(CleanUp)"]);
}

#[test]
fn provisioning_that_failed_is_begun_anew_and_says_why_until_it_is_past_it() {
    let mut cluster = Cluster::provisioning(on_testnet());
    cluster.pod_ended(Part::Provision, 4, "error: no such account\n").step_ended(Part::Provision, "Failed");
    assert_eq!(cluster.look(), [""; 0], "not at once");
    let (value, reason, message) = cluster.condition(conditions::PROVISIONED).unwrap();
    assert_eq!((value.as_str(), reason.as_str()), ("False", "CouldNotRun"));
    assert_eq!(message, "provision: no such account; it is tried again");
    assert_eq!(cluster.status().message.unwrap(), message);
    assert_eq!(cluster.wait(5).look(), ["DropStep(Provision)"]);
    assert_eq!(cluster.look(), ["Begin(Provision)"]);
    cluster.pod(Part::Provision, ready());
    for _ in 0..3 {
        assert_eq!(cluster.look(), [""; 0]);
        assert_eq!(told(&cluster, conditions::PROVISIONED), said("False", "CouldNotRun"));
    }
    cluster.step_ended(Part::Provision, "Complete");
    cluster.look();
    assert_eq!(told(&cluster, conditions::PROVISIONED), said("True", reasons::DONE));
    assert_eq!(cluster.stage(), Some(Stage::Held));
}

#[test]
fn a_step_is_not_begun_beside_a_pod_of_the_one_before() {
    let mut cluster = Cluster::provisioning(on_testnet());
    cluster.steps.clear();
    assert_eq!(cluster.look(), [""; 0], "its Job was removed, its pod ends");
    cluster.without_pods(Part::Provision);
    assert_eq!(cluster.look(), ["Begin(Provision)"]);
}

#[test]
fn what_a_step_says_stands_in_its_way_is_told_and_so_is_that_it_is_over() {
    let mut cluster = Cluster::provisioning(on_testnet());
    cluster.stands(Stage::Provisioning, "", 0);
    cluster.standing.as_mut().unwrap().trouble = Some("rpc.example.org answers 503".into());
    cluster.look();
    let (_, reason, message) = cluster.condition(conditions::PROVISIONED).unwrap();
    assert_eq!((reason.as_str(), message.as_str()), (reasons::TROUBLE, "rpc.example.org answers 503"));
    cluster.stands(Stage::Provisioning, "", 0).look();
    assert_eq!(told(&cluster, conditions::PROVISIONED), said("False", reasons::UNDER_WAY));
}

#[test]
fn a_job_that_makes_no_pod_and_a_redis_without_a_place_are_told() {
    let mut cluster = Cluster::begun(on_testnet());
    cluster.look();
    cluster.wait(15).look();
    let (_, reason, message) = cluster.condition(conditions::PROVISIONED).unwrap();
    assert_eq!(reason, reasons::NO_POD);
    assert!(message.contains("kubectl describe job case-provision"), "{message}");
    let unschedulable = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes are available"}]});
    cluster.pod(Part::Provision, ready()).pod(Part::Redis, unschedulable).look();
    let (_, reason, message) = cluster.condition(conditions::PROVISIONED).unwrap();
    assert_eq!((reason.as_str(), message.as_str()), ("Unschedulable", "redis: 0/1 nodes are available"));
}

#[test]
fn a_plan_that_is_changed_while_its_chain_is_made_ready_is_made_ready_anew() {
    let mut cluster = Cluster::provisioning(on_testnet());
    cluster.run.spec.engine.concurrency += 1;
    assert_eq!(cluster.look(), ["Store", "DropStep(Provision)"]);
    assert_eq!(cluster.stage(), Some(Stage::Provisioning));
    assert_eq!(cluster.stored.as_ref().unwrap().engine.concurrency, cluster.run.spec.engine.concurrency);
    assert_eq!(cluster.look(), ["Begin(Provision)"]);
    assert_eq!(cluster.secrets.len(), 1, "the keys stay");
    // Its end is that of the new one.
    cluster.pod(Part::Provision, ready()).step_ended(Part::Provision, "Complete");
    cluster.look();
    assert_eq!(cluster.stage(), Some(Stage::Held));
}

#[test]
fn a_plan_that_is_changed_while_the_run_is_held_is_made_ready_anew_for_other_workers() {
    let mut cluster = Cluster::provisioned(on_testnet());
    cluster.look();
    cluster.run.spec.load.phases.pop();
    cluster.run.spec.ensure.thresholds.clear();
    assert_eq!(cluster.look(), ["Store", "DropStep(Provision)", "Dismiss"]);
    assert_eq!(cluster.stage(), Some(Stage::Provisioning));
    assert_ne!(cluster.status().summary.unwrap().target, "202");
    assert_eq!(cluster.look(), ["Begin(Provision)"]);
    assert_eq!(told(&cluster, conditions::PROVISIONED), said("False", reasons::UNDER_WAY));
    cluster.pod(Part::Provision, ready()).step_ended(Part::Provision, "Complete");
    cluster.look();
    assert_eq!(cluster.look(), ["Staff"]);
}

#[test]
fn a_plan_that_was_stored_and_not_told_of_is_made_ready_all_the_same() {
    let mut cluster = Cluster::provisioned(on_testnet());
    cluster.look();
    cluster.run.spec.engine.concurrency += 1;
    // The operator dies when the plan is stored, and before anything else is.
    let plan = plan(&cluster.run);
    cluster.stored = Some(plan_for(&cluster.run, plan, &cluster.secrets[0]));
    cluster.workers_ready(2);
    cluster.look();
    assert_eq!(cluster.stage(), Some(Stage::Provisioning));
    assert_eq!(cluster.workers, None, "they have read the earlier plan");
    let acts: Vec<_> = (0..3).flat_map(|_| cluster.look()).collect();
    assert!(acts.contains(&"Begin(Provision)".to_owned()), "{acts:?}");
}

#[test]
fn a_step_that_was_made_for_an_earlier_plan_says_nothing_of_this_one() {
    let mut cluster = Cluster::provisioning(on_testnet());
    cluster.step_ended(Part::Provision, "Complete");
    cluster.run.spec.engine.concurrency += 1;
    let plan = plan(&cluster.run);
    cluster.stored = Some(plan_for(&cluster.run, plan, &cluster.secrets[0]));
    assert_eq!(cluster.look(), ["DropStep(Provision)"]);
    assert_eq!((cluster.look(), cluster.stage()), (vec!["Begin(Provision)".to_owned()], Some(Stage::Provisioning)));
}

#[test]
fn a_manifest_that_was_broken_before_the_load_is_told_and_can_be_mended_or_stopped() {
    let mut cluster = Cluster::provisioning(on_testnet());
    let before = cluster.run.spec.clone();
    cluster.run.spec.token.deploy.as_mut().unwrap().total_supply = "1".into();
    assert_eq!(cluster.look(), [""; 0]);
    assert_eq!(told(&cluster, conditions::ADMITTED), said("False", reasons::INVALID_SPEC));
    let mut mended = cluster.clone();
    mended.run.spec = before;
    mended.look();
    assert_eq!(told(&mended, conditions::ADMITTED), said("True", reasons::VALID));
    assert_eq!(mended.stage(), Some(Stage::Provisioning));
    let mut late = cluster.clone();
    late.wait(15 * MINUTE).look();
    assert_eq!(late.stage(), Some(Stage::CleaningUp), "its time goes on");
    cluster.run.spec.stop = true;
    cluster.look();
    assert_eq!(cluster.stage(), Some(Stage::CleaningUp));
}

#[test]
fn nothing_changes_after_the_load_began() {
    for mut cluster in [Cluster::staffed(on_testnet()), Cluster::loading(on_testnet()), Cluster::draining(on_testnet())]
    {
        let stored = cluster.stored.clone();
        let mut same = cluster.clone();
        cluster.run.spec.engine.concurrency += 1;
        cluster.run.spec.load.phases.pop();
        cluster.run.spec.suspend = true;
        assert_eq!((cluster.look(), cluster.stage()), (same.look(), same.stage()));
        assert_eq!(cluster.stored, stored);
    }
}

#[test]
fn how_many_workers_there_are_is_no_part_of_the_plan() {
    let mut held = Cluster::provisioned(on_testnet());
    held.look();
    for mut cluster in [held, Cluster::loading(on_testnet()), Cluster::draining(on_testnet())] {
        let (stage, stored) = (cluster.stage(), cluster.stored.clone());
        cluster.run.spec.workers.replicas = 5;
        assert_eq!(cluster.look(), ["Staff"]);
        let workers = cluster.workers.as_ref().unwrap().spec.as_ref().unwrap();
        assert_eq!((workers.replicas, cluster.stage()), (Some(5), stage));
        assert_eq!(cluster.look(), [""; 0]);
        assert_eq!(cluster.stored, stored);
    }
}

#[test]
fn workers_are_counted_with_how_one_finds_them() {
    let mut cluster = Cluster::loading(on_testnet());
    cluster.workers_ready(1);
    let mut restarted = ready();
    restarted["conditions"][0]["status"] = "False".into();
    restarted["containerStatuses"] =
        json!([{"name": "worker", "image": "i", "imageID": "", "ready": false, "restartCount": 3}]);
    cluster.pod(Part::Worker, restarted).look();
    let workers = cluster.status().workers.unwrap();
    assert_eq!((workers.replicas, workers.ready, workers.restarts), (2, 1, 3));
    assert_eq!(workers.selector, "nearbench.dev/run=case,app.kubernetes.io/component=worker");
    // A pod that is gone takes nothing from what was counted.
    cluster.workers_ready(2).look();
    assert_eq!(cluster.status().workers.unwrap().restarts, 3);
}

#[test]
fn suspend_holds_a_run_until_its_load_and_no_longer() {
    let mut run = on_testnet();
    run.spec.suspend = true;
    let mut cluster = Cluster::provisioned(run);
    for _ in 0..3 {
        assert_eq!(cluster.wait(60 * MINUTE).look(), [""; 0]);
        assert_eq!(
            (cluster.stage(), cluster.status().reason.as_deref()),
            (Some(Stage::Held), Some(reasons::SUSPENDED))
        );
    }
    cluster.run.spec.suspend = false;
    assert_eq!(cluster.look(), ["Staff"]);
    cluster.workers_ready(2);
    cluster.run.spec.suspend = true;
    assert_eq!((cluster.look(), cluster.stage()), (vec![], Some(Stage::Held)), "its workers are there");
    cluster.run.spec.suspend = false;
    cluster.look();
    assert_eq!(cluster.stage(), Some(Stage::Running));
    cluster.run.spec.suspend = true;
    assert_eq!((cluster.look(), cluster.stage()), (vec!["Begin(Load)".to_owned()], Some(Stage::Running)));
}

#[test]
fn workers_that_are_not_there_are_told_with_the_reason_and_not_waited_for_without_end() {
    let mut cluster = Cluster::provisioned(on_testnet());
    cluster.look();
    let no_image = json!({"waiting": {"reason": "ErrImageNeverPull", "message": "not present"}});
    cluster.pod(Part::Worker, ready()).pod(Part::Worker, crate::world::container(no_image));
    assert_eq!((cluster.look(), cluster.stage()), (vec![], Some(Stage::Held)));
    let (value, reason, message) = cluster.condition(conditions::WORKERS_READY).unwrap();
    assert_eq!(
        (value.as_str(), reason.as_str(), message.as_str()),
        ("False", "ErrImageNeverPull", "worker: not present")
    );
    assert_eq!(cluster.status().reason.as_deref(), Some("ErrImageNeverPull"));
    // One is enough in the end, and none is not.
    let mut some = cluster.clone();
    some.wait(90).look();
    assert_eq!(some.stage(), Some(Stage::Running));
    cluster.pods.remove(1);
    cluster.wait(90).look();
    assert_eq!(cluster.stage(), Some(Stage::Held));
    cluster.wait(15 * MINUTE).look();
    assert_eq!(cluster.stage(), Some(Stage::CleaningUp));
}

#[test]
fn a_worker_that_is_ending_is_not_ready() {
    let mut cluster = Cluster::provisioned(on_testnet());
    cluster.look();
    cluster.workers_ready(2);
    cluster.pods.last_mut().unwrap().metadata.deletion_timestamp = Some(Time(at(0)));
    cluster.look();
    assert_eq!((cluster.status().workers.unwrap().ready, cluster.stage()), (1, Some(Stage::Held)));
}

#[test]
fn workers_that_somebody_removed_come_back_under_load() {
    let mut cluster = Cluster::loading(on_testnet());
    cluster.workers = None;
    assert_eq!(cluster.look(), ["Staff"]);
    cluster.stateful.clear();
    assert_eq!(cluster.look(), [""; 0]);
}

#[test]
fn the_load_is_seen_as_it_goes() {
    let mut cluster = Cluster::loading(on_testnet());
    let progress = cluster.status().progress.unwrap();
    assert_eq!((progress.phase.as_str(), progress.percent, progress.offered), ("sustain", 40, 200));
    assert!(cluster.status().message.unwrap().starts_with("sustain, 40 %"));
    cluster.standing.as_mut().unwrap().trouble = Some("workers hold 3 of 12 lanes".into());
    cluster.look();
    assert_eq!(told(&cluster, conditions::LOAD_COMPLETED), said("False", reasons::TROUBLE));
    cluster.standing.as_mut().unwrap().trouble = None;
    cluster.look();
    assert_eq!(told(&cluster, conditions::LOAD_COMPLETED), said("False", reasons::UNDER_WAY));
}

#[test]
fn a_load_that_failed_is_worked_off_audited_and_reported() {
    let mut cluster = Cluster::loading(on_testnet());
    cluster.pod_ended(Part::Load, 4, "error: given up: workers hold 0 of 12 lanes\n").step_ended(Part::Load, "Failed");
    cluster.standing = None;
    cluster.look();
    assert_eq!(cluster.stage(), Some(Stage::Draining));
    assert_eq!(told(&cluster, conditions::LOAD_COMPLETED), said("False", "CouldNotRun"));
    let audit = cluster.look_without_a_word();
    assert!(matches!(audit.acts[..], [Act::Begin { part: Part::Audit, stopped_early: true, .. }]), "{:?}", audit.acts);
    cluster.look();
    cluster.pod(Part::Audit, ready()).step_ended(Part::Audit, "Complete").deliver(Verdict::Inconclusive).look();
    assert_eq!(cluster.stage(), Some(Stage::CleaningUp));
}

#[test]
fn what_waits_for_its_turn_says_for_whose() {
    let mut cluster = Cluster::new(on_testnet());
    cluster.turn = Turn::Queued { limit: 3 };
    assert_eq!(cluster.look(), [""; 0]);
    assert_eq!(told(&cluster, conditions::ADMITTED), said("True", reasons::QUEUED));
    assert!(cluster.status().message.unwrap().contains("maxConcurrentRuns"));
    cluster.turn = Turn::AccountBusy { by: "run other in namespace bench uses it".into() };
    assert_eq!(cluster.look(), [""; 0]);
    assert_eq!(told(&cluster, conditions::ADMITTED), said("True", reasons::ACCOUNT_BUSY));
    assert_eq!((cluster.status().plan_ref, cluster.run.finalizers().len()), (None, 0));
    cluster.turn = Turn::Now;
    assert_eq!([cluster.look(), cluster.look()].concat(), ["Hold", "Store", "PlaceReport", "Conceal"]);
}

#[test]
fn the_turn_of_one_that_begins_is_looked_at_once_more_after_it_is_held() {
    let mut cluster = Cluster::new(on_testnet());
    cluster.look();
    cluster.turn = Turn::AccountBusy { by: "run other uses it".into() };
    assert_eq!((cluster.look(), cluster.status().secret_ref), (vec![], None));
}

#[test]
fn a_report_without_a_place_gets_one_at_every_stage() {
    for mut cluster in [Cluster::begun(on_testnet()), Cluster::loading(on_testnet()), Cluster::draining(on_testnet())] {
        cluster.has_place = false;
        assert_eq!(cluster.look()[0], "PlaceReport");
    }
}
