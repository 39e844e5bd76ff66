//! Any plausible world: whatever Jobs and pods do and people want, and however often an operator dies before it writes the
//! status, nothing is done too early, and a world that behaves at last brings every run to its end.

use crate::world::fleet::{Cluster, has_ended, is_over, is_suspended, on_devnet, on_testnet, part_of, ready};
use kube::ResourceExt;
use nearbench_core::{lifecycle::Stage, plan::Cleanup, verdict::Verdict};
use nearbench_crds::Frozen;
use nearbench_operator::decisions::{Act, Decision, Part, Turn, conditions};
use proptest::prelude::*;

/// What happens between two looks.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// The operator dies after it acted.
    Dies,
    /// What should happen does.
    Behaves,
    /// A step's Job comes to its end.
    Ends {
        part: Part,
        well: bool,
    },
    /// Pods of a part are there, or not.
    Pods {
        part: Part,
        count: usize,
        are_ready: bool,
    },
    /// A report is there.
    Reports(Verdict),
    /// A step's pod says how far it is.
    Stands(Stage),
    /// Somebody removes the Job of a step, or the workers.
    Removed(Part),
    /// Somebody changes the manifest.
    Suspends(bool),
    Stops,
    Deletes,
    Scales(u32),
    Replans,
    Cleanup(Cleanup),
    /// Another run has the account.
    Waits(bool),
    /// Time passes, in seconds.
    Passes(i64),
}

fn happening() -> impl Strategy<Value = Happening> {
    let steps = prop::sample::select(vec![Part::Provision, Part::Load, Part::Audit, Part::CleanUp]);
    let parts = prop::sample::select(vec![Part::Worker, Part::Provision, Part::Load, Part::Audit, Part::CleanUp]);
    let verdicts = prop::sample::select(vec![Verdict::Passed, Verdict::Failed, Verdict::Inconclusive]);
    let stages = prop::sample::select(vec![
        Stage::Provisioning,
        Stage::Running,
        Stage::Draining,
        Stage::Auditing,
        Stage::Reporting,
    ]);
    let cleanups = prop::sample::select(vec![Cleanup::Always, Cleanup::OnSuccess, Cleanup::Never]);
    prop_oneof![
        4 => Just(Happening::Dies),
        8 => Just(Happening::Behaves),
        3 => (steps, prop::bool::weighted(0.7)).prop_map(|(part, well)| Happening::Ends { part, well }),
        4 => (parts.clone(), 0usize..4, any::<bool>()).prop_map(|(part, count, are_ready)| Happening::Pods { part, count, are_ready }),
        1 => verdicts.prop_map(Happening::Reports),
        1 => stages.prop_map(Happening::Stands),
        1 => parts.prop_map(Happening::Removed),
        1 => any::<bool>().prop_map(Happening::Suspends),
        1 => Just(Happening::Stops),
        1 => Just(Happening::Deletes),
        1 => (0u32..5).prop_map(Happening::Scales),
        1 => Just(Happening::Replans),
        1 => cleanups.prop_map(Happening::Cleanup),
        1 => any::<bool>().prop_map(Happening::Waits),
        3 => prop_oneof![1i64..30, 30i64..1_500].prop_map(Happening::Passes),
    ]
}

/// As a cluster does whose nodes have room and whose chain answers.
fn behave(cluster: &mut Cluster) {
    let replicas = cluster.workers.as_ref().map_or(0, |workers| workers.spec.as_ref().unwrap().replicas.unwrap_or(1));
    cluster.workers_ready(replicas as usize);
    cluster.standing = None;
    let open: Vec<_> = cluster
        .steps
        .iter()
        .filter(|(_, job)| !has_ended(job, "Complete") && !has_ended(job, "Failed"))
        .map(|(part, job)| (*part, is_suspended(job)))
        .collect();
    for (part, is_suspended) in open {
        if is_suspended {
            cluster.without_pods(part);
        } else if cluster.pods.iter().any(|pod| part_of(pod) == part) {
            if part == Part::Audit {
                cluster.deliver(Verdict::Passed);
            }
            cluster.step_ended(part, "Complete");
        } else {
            cluster.pod(part, ready());
        }
    }
    // A pod goes with its Job.
    let there: Vec<_> = cluster.steps.keys().copied().collect();
    cluster.pods.retain(|pod| part_of(pod) == Part::Worker || there.contains(&part_of(pod)));
}

fn happen(cluster: &mut Cluster, happening: Happening) {
    match happening {
        Happening::Dies => {}
        Happening::Behaves => behave(cluster),
        Happening::Ends { part, well } => {
            // One that was told to end makes no pods, and comes to no end of its own.
            if cluster.steps.get(&part).is_some_and(|job| !is_suspended(job)) {
                cluster.step_ended(part, if well { "Complete" } else { "Failed" });
            }
        }
        Happening::Pods { part, count, are_ready } => {
            let has_maker = if part == Part::Worker {
                cluster.workers.is_some()
            } else {
                cluster
                    .steps
                    .get(&part)
                    .is_some_and(|job| !is_suspended(job) && !has_ended(job, "Complete") && !has_ended(job, "Failed"))
            };
            if has_maker {
                cluster.without_pods(part);
                for _ in 0..count {
                    cluster.pod(part, if are_ready { ready() } else { serde_json::json!({"phase": "Pending"}) });
                }
            }
        }
        Happening::Reports(verdict) => {
            if cluster.has_place && cluster.steps.contains_key(&Part::Audit) {
                cluster.deliver(verdict);
            }
        }
        Happening::Stands(stage) => {
            cluster.stands(stage, "sustain", 50);
        }
        Happening::Removed(Part::Worker) => cluster.workers = None,
        Happening::Removed(part) => drop(cluster.steps.remove(&part)),
        Happening::Suspends(suspend) => cluster.run.spec.suspend = suspend,
        Happening::Stops => cluster.run.spec.stop = true,
        Happening::Deletes => {
            if !cluster.is_deleted() {
                cluster.delete();
            }
            cluster.is_gone = cluster.run.finalizers().is_empty();
        }
        Happening::Scales(replicas) => cluster.run.spec.workers.replicas = replicas,
        // Only what the API server still lets through.
        Happening::Replans => {
            if cluster.status().frozen != Some(Frozen::Everything) {
                cluster.run.spec.engine.concurrency += 1;
            }
        }
        Happening::Cleanup(cleanup) => cluster.run.spec.cleanup = cleanup,
        Happening::Waits(waits) => {
            cluster.turn = if waits { Turn::AccountBusy { by: "another run".into() } } else { Turn::Now };
        }
        Happening::Passes(seconds) => drop(cluster.wait(seconds)),
    }
}

/// What must hold of every decision, by what was there before it.
fn check(before: &Cluster, decision: &Decision) -> Result<(), TestCaseError> {
    let status = before.status();
    let is_finished = before.is_finished();
    for act in &decision.acts {
        if is_finished {
            prop_assert!(matches!(act, Act::LetGo | Act::Delete | Act::Release), "{act:?} for a run that is over");
        }
        match act {
            Act::Conceal(..) => {
                prop_assert!(status.secret_ref.is_none(), "a second Secret");
                prop_assert!(!before.run.finalizers().is_empty(), "keys of a run that nothing holds");
            }
            Act::Found(_) | Act::Staff(_) | Act::Begin { .. } => {
                prop_assert!(
                    status.secret_ref.is_some() && status.plan_ref.is_some(),
                    "{act:?} and the status names nothing"
                );
            }
            _ => {}
        }
        match act {
            Act::Begin { part: Part::Load, plan, .. } => {
                prop_assert_eq!(status.frozen, Some(Frozen::Everything));
                prop_assert_eq!(before.condition(conditions::PROVISIONED).map(|told| told.0), Some("True".to_owned()));
                prop_assert_eq!(Some(&**plan), before.stored.as_ref());
            }
            Act::Begin { part: Part::CleanUp, .. } => {
                let signing = [Part::Worker, Part::Provision, Part::Load];
                let still = before.pods.iter().any(|pod| signing.contains(&part_of(pod)) && !is_over(pod));
                prop_assert!(!still, "keys go while somebody signs with them");
            }
            Act::Store(_) => prop_assert_ne!(status.frozen, Some(Frozen::Everything)),
            Act::LetGo
                if !is_finished && status.secret_ref.is_some() && !before.run.spec.network.endpoints.is_empty() =>
            {
                let is_clean = before.steps.get(&Part::CleanUp).is_some_and(|job| has_ended(job, "Complete"));
                let tells = decision.acts.iter().any(|act| matches!(act, Act::TellKeys(_)));
                prop_assert!(is_clean || tells, "let go, and nobody knows of its keys");
            }
            _ => {}
        }
    }
    let reached_load = status.frozen == Some(Frozen::Everything);
    prop_assert!(!reached_load || decision.status.frozen == status.frozen, "what is frozen stays so");
    prop_assert!(status.secret_ref.is_none() || decision.status.secret_ref == status.secret_ref);
    prop_assert!(status.public_keys.is_empty() || decision.status.public_keys == status.public_keys);
    Ok(())
}

fn is_at_its_end(cluster: &Cluster) -> bool {
    cluster.is_gone || cluster.is_finished() && cluster.run.finalizers().is_empty()
}

fn look(cluster: &mut Cluster, dies: bool) -> Result<(), TestCaseError> {
    let before = cluster.clone();
    let decision = cluster.look_without_a_word();
    check(&before, &decision)?;
    if !dies {
        cluster.tell(&decision);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_run_comes_to_its_end_and_does_nothing_too_early(
        own_chain in prop::bool::weighted(0.3),
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let mut cluster = Cluster::new(if own_chain { on_devnet() } else { on_testnet() });
        for happening in happenings {
            happen(&mut cluster, happening);
            if cluster.is_gone {
                return Ok(());
            }
            look(&mut cluster, matches!(happening, Happening::Dies))?;
        }
        // From now on the world behaves.
        cluster.turn = Turn::Now;
        cluster.run.spec.suspend = false;
        cluster.run.spec.workers.replicas = cluster.run.spec.workers.replicas.max(1);
        let mut looks = 0;
        while !is_at_its_end(&cluster) {
            look(&mut cluster, false)?;
            behave(&mut cluster);
            cluster.wait(5);
            looks += 1;
            prop_assert!(looks < 100, "{:#?}", cluster.status());
        }
        if cluster.is_finished() && !cluster.is_deleted() {
            prop_assert!(cluster.status().verdict.is_some());
            prop_assert_eq!(cluster.condition(conditions::COMPLETE).map(|told| told.0), Some("True".to_owned()));
            let before = cluster.run.status.clone();
            look(&mut cluster, false)?;
            prop_assert_eq!(&cluster.run.status, &before, "a run that is over changes no more");
        }
    }
}
