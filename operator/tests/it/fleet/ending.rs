//! How a run with workers ends: stopped, out of time, failed, deleted.

use super::{MINUTE, said, told};
use crate::world::fleet::{Cluster, on_devnet, on_testnet, ready, words};
use nearbench_core::{lifecycle::Stage, plan::Cleanup, verdict::Verdict};
use nearbench_crds::{BenchmarkRun, RunVerdict};
use nearbench_operator::decisions::{Act, Part, conditions, reasons};
use serde_json::json;

/// The keys are taken off, and the run is over.
fn cleaned(cluster: &mut Cluster) {
    for _ in 0..20 {
        if cluster.is_finished() {
            return;
        }
        cluster.look();
        if cluster.workers.is_none() {
            cluster.without_pods(Part::Worker);
        }
        for part in [Part::Provision, Part::Load] {
            if cluster.steps.get(&part).is_some_and(crate::world::fleet::is_suspended) {
                cluster.without_pods(part);
            }
        }
        if cluster.steps.contains_key(&Part::CleanUp) {
            cluster.step_ended(Part::CleanUp, "Complete");
        }
    }
    panic!("{:?}", cluster.status());
}

fn verdict(cluster: &Cluster) -> (Option<RunVerdict>, String, String) {
    let status = cluster.status();
    (status.verdict, status.reason.unwrap_or_default(), status.message.unwrap_or_default())
}

fn stopped(mut cluster: Cluster) -> Cluster {
    cluster.run.spec.stop = true;
    cluster
}

#[test]
fn a_run_that_is_stopped_before_anything_was_made_for_it_is_over() {
    for mut cluster in [Cluster::new(on_testnet()), stopped(Cluster::new(on_testnet()))] {
        cluster = stopped(cluster);
        assert_eq!(cluster.look(), [""; 0]);
        assert_eq!((verdict(&cluster).0, cluster.secrets.len()), (Some(RunVerdict::Inconclusive), 0));
    }
    let mut held = Cluster::new(on_testnet());
    held.look();
    held = stopped(held);
    assert_eq!((held.look(), held.is_finished()), (vec![], true));
    assert_eq!(held.look(), ["LetGo"]);
}

#[test]
fn a_run_that_is_stopped_before_its_load_is_cleaned_up_and_inconclusive() {
    for cluster in
        [Cluster::begun(on_testnet()), Cluster::provisioning(on_testnet()), Cluster::provisioned(on_testnet())]
    {
        let mut cluster = stopped(cluster);
        cluster.look();
        assert_eq!(cluster.stage(), Some(Stage::CleaningUp));
        cleaned(&mut cluster);
        let (verdict, reason, message) = verdict(&cluster);
        assert_eq!((verdict, reason.as_str()), (Some(RunVerdict::Inconclusive), reasons::STOPPED));
        assert_eq!(message, "stopped before its load; nothing was offered");
        assert!(!cluster.steps.contains_key(&Part::Load) && !cluster.steps.contains_key(&Part::Audit));
    }
}

#[test]
fn keys_are_not_taken_off_while_provisioning_may_still_add_them() {
    let mut late = Cluster::provisioning(on_testnet());
    late.wait(15 * MINUTE);
    for mut cluster in [stopped(Cluster::provisioning(on_testnet())), late] {
        assert_eq!(cluster.look(), ["EndStep(Provision)"]);
        for _ in 0..3 {
            assert_eq!((cluster.look(), cluster.stage()), (vec![], Some(Stage::CleaningUp)));
        }
        cluster.without_pods(Part::Provision);
        assert_eq!(cluster.look(), ["Begin(CleanUp)"]);
    }
}

#[test]
fn what_makes_a_chain_of_the_runs_own_ready_is_ended_with_the_run() {
    let mut cluster = stopped(Cluster::provisioning(on_devnet()));
    assert_eq!(cluster.look(), ["EndStep(Provision)"]);
    cluster.without_pods(Part::Provision);
    assert_eq!(cluster.look(), ["TakeDown"]);
    assert_eq!(verdict(&cluster).0, Some(RunVerdict::Inconclusive));
}

#[test]
fn a_load_that_is_stopped_ends_in_order_and_is_reported() {
    let mut cluster = stopped(Cluster::loading(on_testnet()));
    let lost = cluster.look_without_a_word();
    assert_eq!(words(&lost.acts), ["EndStep(Load)"]);
    assert_eq!((cluster.look(), cluster.stage()), (vec![], Some(Stage::Draining)), "it was told already");
    assert_eq!(cluster.status().reason.as_deref(), Some(reasons::STOPPED));
    assert_eq!(cluster.look(), [""; 0], "its generators leave an account first");
    cluster.without_pods(Part::Load);
    let begun = cluster.look_without_a_word();
    assert!(matches!(begun.acts[..], [Act::Begin { part: Part::Audit, stopped_early: true, .. }]), "{:?}", begun.acts);
    let args =
        cluster.steps[&Part::Audit].spec.as_ref().unwrap().template.spec.as_ref().unwrap().containers[0].args.clone();
    assert!(args.unwrap().contains(&"--stopped-early".to_owned()));
    cluster.look();
    cluster.step_ended(Part::Audit, "Complete").deliver(Verdict::Inconclusive).look();
    cleaned(&mut cluster);
    assert_eq!(verdict(&cluster).0, Some(RunVerdict::Inconclusive));
}

#[test]
fn a_run_that_is_stopped_between_its_workers_and_its_load_reports_that_nothing_was_offered() {
    let mut cluster = stopped(Cluster::staffed(on_testnet()));
    let begun = cluster.look_without_a_word();
    assert!(matches!(begun.acts[..], [Act::Begin { part: Part::Audit, stopped_early: true, .. }]), "{:?}", begun.acts);
}

#[test]
fn workers_that_the_cleanup_did_not_get_to_go_at_the_end() {
    let mut cluster = Cluster::reported(on_testnet(), Verdict::Passed);
    cluster.look();
    // Somebody brought them back.
    cluster.workers = Cluster::loading(on_testnet()).workers;
    cluster.wait(60 * MINUTE);
    let acts = cluster.look();
    assert!(cluster.is_finished() && acts[..2] == ["Dismiss", "TakeDown"], "{acts:?}");
}

#[test]
fn stopping_a_run_whose_load_is_over_changes_nothing() {
    for cluster in [Cluster::draining(on_testnet()), Cluster::reported(on_testnet(), Verdict::Passed)] {
        let mut same = cluster.clone();
        let mut cluster = stopped(cluster);
        for _ in 0..3 {
            assert_eq!((cluster.look(), cluster.stage()), (same.look(), same.stage()));
        }
    }
    let mut over = Cluster::reported(on_testnet(), Verdict::Passed);
    cleaned(&mut over);
    let before = verdict(&over);
    let mut over = stopped(over);
    assert_eq!(over.look(), ["LetGo"]);
    assert_eq!((over.look(), verdict(&over)), (vec![], before));
}

#[test]
fn provisioning_that_takes_too_long_is_given_up_with_what_stood_in_its_way() {
    for run in [on_testnet(), on_devnet()] {
        let mut cluster = Cluster::provisioning(run);
        cluster.pod_ended(Part::Provision, 4, "error: no such account\n").step_ended(Part::Provision, "Failed");
        cluster.look();
        cluster.wait(14 * MINUTE).look();
        assert_eq!(cluster.stage(), Some(Stage::Provisioning));
        cluster.wait(MINUTE);
        cleaned(&mut cluster);
        let (verdict, reason, message) = verdict(&cluster);
        assert_eq!((verdict, reason.as_str()), (Some(RunVerdict::Error), "CouldNotRun"));
        assert!(message.starts_with("Provisioning: not done within 900 s"), "{message}");
        assert!(message.contains("no such account"), "{message}");
    }
}

#[test]
fn provisioning_that_only_takes_too_long_says_so() {
    for run in [on_testnet(), on_devnet()] {
        let mut cluster = Cluster::provisioning(run);
        cluster.look();
        cluster.wait(15 * MINUTE);
        cleaned(&mut cluster);
        let (verdict, reason, message) = verdict(&cluster);
        assert_eq!((verdict, reason.as_str()), (Some(RunVerdict::Error), reasons::DEADLINE_EXCEEDED));
        assert_eq!(message, "Provisioning: not done within 900 s");
    }
}

#[test]
fn a_run_that_no_worker_came_for_says_why() {
    let mut cluster = Cluster::provisioned(on_testnet());
    cluster.look();
    let unschedulable = json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False",
        "reason": "Unschedulable", "message": "0/1 nodes are available"}]});
    cluster.pod(Part::Worker, unschedulable).look();
    cluster.wait(15 * MINUTE);
    cleaned(&mut cluster);
    let (verdict, reason, message) = verdict(&cluster);
    assert_eq!((verdict, reason.as_str()), (Some(RunVerdict::Error), "Unschedulable"));
    assert!(message.contains("given up after 15 minutes: worker: 0/1 nodes are available"), "{message}");
}

fn hurried(seconds: u32) -> BenchmarkRun {
    let mut run = on_testnet();
    run.spec.active_deadline_seconds = Some(seconds);
    run
}

#[test]
fn a_run_that_is_out_of_time_before_its_load_is_over_with_that_reason() {
    let mut suspended = hurried(1_500);
    suspended.spec.suspend = true;
    let mut held = Cluster::provisioned(suspended);
    held.look();
    let mut provisioning = Cluster::provisioning(hurried(800));
    provisioning.look();
    for (mut cluster, stage) in [(provisioning, "Provisioning"), (held, "Held")] {
        cluster.wait(25 * MINUTE);
        cleaned(&mut cluster);
        let (verdict, reason, message) = verdict(&cluster);
        assert_eq!((verdict, reason.as_str()), (Some(RunVerdict::Error), reasons::DEADLINE_EXCEEDED));
        assert_eq!(message, format!("{stage}: activeDeadlineSeconds is over"));
    }
}

#[test]
fn a_load_that_is_out_of_time_is_worked_off_and_reported() {
    let mut cluster = Cluster::loading(hurried(1_500));
    cluster.wait(25 * MINUTE);
    assert_eq!(cluster.look(), ["EndStep(Load)"]);
    assert_eq!(cluster.stage(), Some(Stage::Draining));
    cluster.without_pods(Part::Load);
    assert_eq!(cluster.look(), ["Begin(Audit)"]);
    cluster.step_ended(Part::Audit, "Complete").deliver(Verdict::Inconclusive).look();
    cleaned(&mut cluster);
    assert_eq!(verdict(&cluster).0, Some(RunVerdict::Inconclusive));
}

#[test]
fn what_never_comes_to_its_end_is_ended_by_its_stages_time() {
    let mut cluster = Cluster::loading(on_testnet());
    for stage in [Stage::Running, Stage::Draining, Stage::Auditing, Stage::Reporting, Stage::CleaningUp] {
        assert_eq!(cluster.stage(), Some(stage));
        cluster.wait(60 * MINUTE).look();
        cluster.without_pods(Part::Load);
    }
    assert!(cluster.is_finished());
    let (verdict, reason, message) = verdict(&cluster);
    assert_eq!((verdict, reason.as_str()), (Some(RunVerdict::Error), reasons::DEADLINE_EXCEEDED));
    assert!(message.starts_with("Running: not done within"), "{message}");
}

#[test]
fn a_report_that_is_damaged_or_missing_is_an_error_with_its_own_reason() {
    for (is_damaged, reason) in [(true, reasons::REPORT_UNREADABLE), (false, reasons::NO_REPORT)] {
        let mut cluster = Cluster::draining(on_testnet());
        cluster.is_damaged = is_damaged;
        cluster.look();
        cluster.step_ended(Part::Audit, "Complete").look();
        assert_eq!(cluster.stage(), Some(Stage::CleaningUp));
        assert_eq!(told(&cluster, conditions::AUDITED), said("False", reason));
        cleaned(&mut cluster);
        let (verdict, why, message) = verdict(&cluster);
        assert_eq!((verdict, why.as_str()), (Some(RunVerdict::Error), reason));
        assert!(message.starts_with("Reporting: "), "{message}");
    }
}

#[test]
fn an_audit_that_failed_is_done_again() {
    let mut cluster = Cluster::draining(on_testnet());
    cluster.pod_ended(Part::Audit, 4, "error: rpc.example.org answers 503\n").step_ended(Part::Audit, "Failed");
    cluster.standing = None;
    assert_eq!(cluster.look(), [""; 0]);
    let (_, reason, message) = cluster.condition(conditions::AUDITED).unwrap();
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("CouldNotRun", "audit: rpc.example.org answers 503; it is tried again")
    );
    assert_eq!([cluster.wait(5).look(), cluster.look()].concat(), ["DropStep(Audit)", "Begin(Audit)"]);
}

#[test]
fn the_cleanup_that_is_wanted_is_done_and_what_is_not_stays() {
    let table = [
        (Cleanup::Always, Verdict::Passed, true),
        (Cleanup::Always, Verdict::Failed, true),
        (Cleanup::OnSuccess, Verdict::Passed, true),
        (Cleanup::OnSuccess, Verdict::Failed, false),
        (Cleanup::OnSuccess, Verdict::Inconclusive, false),
        (Cleanup::Never, Verdict::Passed, false),
    ];
    for (cleanup, verdict, is_cleaned) in table {
        let mut run = on_testnet();
        run.spec.cleanup = cleanup;
        let mut cluster = Cluster::reported(run, verdict);
        cleaned(&mut cluster);
        let stays =
            (cluster.workers.is_some(), !cluster.stateful.is_empty(), cluster.steps.contains_key(&Part::CleanUp));
        assert_eq!(stays, (!is_cleaned, !is_cleaned, is_cleaned), "{cleanup:?} {verdict:?}");
        assert_eq!(cluster.look(), ["LetGo"], "either way its keys are where they are to be");
    }
}

#[test]
fn what_becomes_of_the_keys_can_be_changed_until_the_end() {
    let mut run = on_testnet();
    run.spec.cleanup = Cleanup::Never;
    let mut cluster = Cluster::draining(run);
    cluster.run.spec.cleanup = Cleanup::Always;
    cluster.deliver(Verdict::Failed).step_ended(Part::Audit, "Complete").look();
    assert_eq!(cluster.stage(), Some(Stage::CleaningUp));
}

#[test]
fn a_cleanup_that_failed_takes_nothing_from_the_verdict_and_is_told() {
    let give_up = |cluster: &mut Cluster| {
        cluster.look();
        cluster.without_pods(Part::Worker).look();
        cluster.pod_ended(Part::CleanUp, 4, "error: no endpoint answers\n").step_ended(Part::CleanUp, "Failed");
        cluster.look();
        assert_eq!(told(cluster, conditions::KEYS_READY), said("False", "CouldNotRun"));
        cluster.wait(60 * MINUTE);
        let acts = cluster.look();
        assert!(cluster.is_finished() && acts.contains(&"TellKeys".to_owned()), "{acts:?}");
        assert!(cluster.told[0].contains("no endpoint answers"), "{:?}", cluster.told);
    };
    let mut passed = Cluster::reported(on_testnet(), Verdict::Passed);
    give_up(&mut passed);
    assert_eq!(verdict(&passed).0, Some(RunVerdict::Passed));
    let mut stopped = stopped(Cluster::provisioned(on_testnet()));
    give_up(&mut stopped);
    assert_eq!((verdict(&stopped).0, verdict(&stopped).1.as_str()), (Some(RunVerdict::Inconclusive), reasons::STOPPED));
    let mut late = Cluster::provisioning(on_testnet());
    late.pod_ended(Part::Provision, 4, "error: no such account\n").step_ended(Part::Provision, "Failed").look();
    late.wait(15 * MINUTE);
    give_up(&mut late);
    let (verdict, reason, message) = verdict(&late);
    assert_eq!((verdict, reason.as_str()), (Some(RunVerdict::Error), "CouldNotRun"));
    assert!(message.contains("no such account") && !message.contains("endpoint"), "{message}");
}

#[test]
fn a_run_with_workers_whose_plan_is_gone_signs_no_more_and_tells_of_its_keys() {
    let mut cluster = Cluster::loading(on_testnet());
    cluster.stored = None;
    assert_eq!(cluster.look(), ["EndStep(Load)", "Dismiss", "TellKeys", "Release"]);
    assert_eq!(verdict(&cluster).1, reasons::PLAN_GONE);
}

fn deleted(mut cluster: Cluster) -> Cluster {
    cluster.delete();
    cluster
}

#[test]
fn a_run_that_is_deleted_before_the_status_names_its_keys_is_let_go() {
    for held in [false, true] {
        let mut cluster = Cluster::new(on_testnet());
        if held {
            cluster.look();
            // Its Secret was made, and nothing with it.
            cluster.look_without_a_word();
        }
        let mut cluster = deleted(cluster);
        let acts = cluster.look();
        assert_eq!(acts, if held { vec!["Release", "LetGo"] } else { vec![] });
    }
}

#[test]
fn a_run_that_is_deleted_ends_its_processes_first_and_then_takes_its_keys_off() {
    let table = [
        (Cluster::begun(on_testnet()), vec![]),
        (Cluster::provisioning(on_testnet()), vec!["EndStep(Provision)"]),
        (Cluster::provisioned(on_testnet()), vec![]),
        (Cluster::staffed(on_testnet()), vec!["Dismiss"]),
        (Cluster::loading(on_testnet()), vec!["EndStep(Load)", "Dismiss"]),
        (Cluster::draining(on_testnet()), vec!["EndStep(Audit)", "Dismiss"]),
        (Cluster::reported(on_testnet(), Verdict::Passed), vec!["Dismiss"]),
    ];
    for (cluster, first) in table {
        let stage = cluster.stage();
        let mut cluster = deleted(cluster);
        let has_pods = cluster.pods.iter().any(|pod| !crate::world::fleet::is_over(pod));
        let mut acts = cluster.look();
        if has_pods {
            assert_eq!(acts, first, "{stage:?}");
            assert_eq!(cluster.look(), [""; 0], "{stage:?}: they were told");
            cluster.pods.clear();
            acts = cluster.look();
        }
        assert_eq!(acts.last().unwrap(), "Begin(CleanUp)", "{stage:?}");
        assert_eq!((cluster.look(), cluster.is_gone), (vec![], false));
        cluster.pod(Part::CleanUp, ready()).step_ended(Part::CleanUp, "Complete");
        assert_eq!(cluster.look(), ["Release", "LetGo"], "{stage:?}");
        assert!(cluster.is_gone && cluster.told.is_empty());
    }
}

#[test]
fn a_run_on_its_own_chain_is_let_go_at_once() {
    let mut cluster = deleted(Cluster::loading(on_devnet()));
    assert_eq!(cluster.look(), ["EndStep(Load)", "Dismiss", "LetGo"]);
    assert!(cluster.is_gone && cluster.told.is_empty());
}

#[test]
fn a_run_that_is_over_is_let_go_at_once() {
    let mut cluster = Cluster::reported(on_testnet(), Verdict::Passed);
    cleaned(&mut cluster);
    let mut cluster = deleted(cluster);
    assert_eq!(cluster.look(), ["Release", "LetGo"]);
}

#[test]
fn a_cleanup_that_failed_is_begun_anew_while_there_is_time_and_then_the_keys_are_told() {
    let mut cluster = deleted(Cluster::provisioned(on_testnet()));
    cluster.look();
    cluster.pod_ended(Part::CleanUp, 4, "error: rpc.example.org answers 503\n").step_ended(Part::CleanUp, "Failed");
    assert_eq!(cluster.look(), ["DropStep(CleanUp)"]);
    assert_eq!(cluster.status().message.as_deref(), Some("rpc.example.org answers 503"));
    cluster.without_pods(Part::CleanUp);
    assert_eq!(cluster.look(), ["Begin(CleanUp)"]);
    cluster.wait(5 * MINUTE);
    assert_eq!(cluster.look(), ["TellKeys", "Release", "LetGo"]);
    let note = &cluster.told[0];
    assert!(note.starts_with("not done within 5 minutes: "), "{note}");
    let keys = cluster.status().public_keys;
    assert!(note.contains("bench.alice.testnet") && keys[..8].iter().all(|key| note.contains(key)), "{note}");
    assert!(note.contains("and 4 more") && !note.contains(&keys[8]), "{note}");
}

#[test]
fn a_run_whose_secrets_went_first_tells_of_its_keys() {
    let mut cluster = deleted(Cluster::provisioned(on_testnet()));
    cluster.look();
    let error = "error: cannot read /etc/nearbench/own/nearbench-keys.json: No such file or directory\n";
    cluster.pod_ended(Part::CleanUp, 2, error).step_ended(Part::CleanUp, "Failed");
    assert_eq!(cluster.look(), ["TellKeys", "Release", "LetGo"]);
    assert!(cluster.told[0].contains("nearbench-keys.json"), "{:?}", cluster.told);
}

#[test]
fn a_run_whose_namespace_takes_nothing_new_tells_of_its_keys() {
    let mut cluster = deleted(Cluster::provisioned(on_testnet()));
    cluster.refused = Some("namespace bench is being terminated".into());
    assert_eq!(cluster.look(), ["TellKeys", "Release", "LetGo"]);
    assert!(cluster.told[0].starts_with("namespace bench is being terminated: access keys of bench.alice.testnet"));
}

#[test]
fn a_run_that_is_deleted_without_its_plan_tells_of_its_keys() {
    let mut cluster = deleted(Cluster::loading(on_testnet()));
    cluster.stored = None;
    assert_eq!(cluster.look(), ["TellKeys", "Release", "LetGo"]);
}

#[test]
fn prepared_keys_are_nobodys_to_remove() {
    let mut run = on_testnet();
    run.spec.account.create_from = None;
    run.spec.account.keys = serde_json::from_value(json!({"secretRef": {"name": "lanes"}})).unwrap();
    run.spec.token.deploy = None;
    run.spec.receivers = serde_json::from_value(json!({"accounts": ["bob.testnet"]})).unwrap();
    let mut cluster = deleted(Cluster::loading(run));
    assert_eq!(cluster.look(), ["EndStep(Load)", "Dismiss", "Release", "LetGo"]);
    assert!(cluster.told.is_empty() && cluster.status().public_keys.is_empty());
}
