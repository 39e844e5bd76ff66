//! A run with workers and its surroundings, that live on from look to look: what is decided is done to them, as an API
//! server would.

use super::{at, plan};
use k8s_openapi::{
    api::{
        apps::v1::{Deployment, StatefulSet},
        batch::v1::Job,
        core::v1::Pod,
    },
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::ResourceExt;
use nearbench_core::{
    Plan, TGAS,
    lifecycle::Stage,
    measure::Recorder,
    plan::ChainLimits,
    report::{API_VERSION, BenchmarkReport, Chain, Environment, KIND, Machine, Results, Run},
    schedule::Schedule,
    standing::Standing,
    verdict::Verdict,
};
use nearbench_crds::{BenchmarkRun, BenchmarkRunStatus, Frozen, RunPhase};
use nearbench_operator::{
    DocumentError, FINALIZER, Kit, Volumes,
    decisions::{Act, Decision, Fleet, Ground, Made, Observed, Part, Turn, decide, ground, secret, step, workers},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::Arc};

/// Keys on a chain that others use too, and a Redis of the run's own.
pub(crate) fn on_testnet() -> BenchmarkRun {
    with_workers(include_str!("../../../../crds/tests/manifests/base.yaml"))
}

/// A chain and a Redis of the run's own.
pub(crate) fn on_devnet() -> BenchmarkRun {
    with_workers(include_str!("../../../../examples/quickstart.yaml"))
}

fn with_workers(manifest: &str) -> BenchmarkRun {
    let mut run = nearbench_crds::parse(manifest).unwrap();
    run.metadata.namespace = Some("bench".into());
    run.metadata.uid = Some("8b5e6f7a-0000-4000-8000-000000000001".into());
    run.spec.workers.replicas = 2;
    run
}

pub(crate) fn kit() -> Kit {
    Kit {
        json_logs: false,
        image: "nearbench:0.1.0".into(),
        pull_policy: "IfNotPresent".into(),
        redis_image: "redis:7.2".into(),
        volumes: Some(Volumes { class: None, size: "1Gi".into() }),
    }
}

/// What an operator makes up; `from` makes it another one.
pub(crate) fn made(plan: &Plan, from: u64) -> Made {
    let mut n = from;
    Made::for_plan(plan, || {
        let mut bytes = [7; 32];
        bytes[..8].copy_from_slice(&n.to_le_bytes());
        n += 1;
        bytes
    })
}

/// A report of `plan` in which nothing happened.
pub(crate) fn report(plan: &Plan, verdict: Verdict) -> BenchmarkReport {
    let observed =
        nearbench_core::report::Observed { block_time_ms: 600.0, max_send_lag_ms: 1_000, ..Default::default() };
    let record = Recorder::new(&Schedule::new(&plan.load.phases));
    let names = plan.load.phases.iter().map(|phase| phase.name.as_str());
    BenchmarkReport {
        api_version: API_VERSION.into(),
        kind: KIND.into(),
        run: Run {
            name: plan.name.clone(),
            start_time: at(0).to_string(),
            load_start_time: None,
            completion_time: at(1).to_string(),
        },
        environment: Environment {
            nearbench_version: "0.1.0".into(),
            chain: Chain {
                software: "neard".into(),
                version: "1".into(),
                chain_id: "testnet".into(),
                protocol_version: 86,
                limits: ChainLimits {
                    protocol_version: 86,
                    max_actions: 100,
                    max_total_prepaid_gas: 1_000 * TGAS,
                    max_transaction_size: 1_572_864,
                    chunk_gas_limit: 1_000 * TGAS,
                    transaction_validity_period: 100,
                },
                block_time_ms: 600.0,
            },
            machine: Machine { cpus: 2, memory_bytes: 1 << 33, os: "linux".into(), cpu_model: "cpu".into() },
            throttled_ms: None,
            steal_percent: None,
            polling_error_ms: 50.0,
            peak_rss_bytes: None,
        },
        plan: plan.clone(),
        results: Results::new(&record, names, &observed).unwrap(),
        ensure: Vec::new(),
        verdict,
        reasons: Vec::new(),
    }
}

/// Acts in short.
pub(crate) fn words(acts: &[Act]) -> Vec<String> {
    let word = |act: &Act| match act {
        Act::Store(_) => "Store".to_owned(),
        Act::CarryOut(_) => "CarryOut".to_owned(),
        Act::Stop(_) => "Stop".to_owned(),
        Act::Conceal(..) => "Conceal".to_owned(),
        Act::Found(_) => "Found".to_owned(),
        Act::Staff(_) => "Staff".to_owned(),
        Act::Begin { part, .. } => format!("Begin({part:?})"),
        Act::EndStep(part) => format!("EndStep({part:?})"),
        Act::DropStep(part, _) => format!("DropStep({part:?})"),
        Act::TellKeys(_) => "TellKeys".to_owned(),
        Act::PlaceReport | Act::Hold | Act::LetGo | Act::Dismiss | Act::TakeDown | Act::Release | Act::Delete => {
            format!("{act:?}")
        }
    };
    acts.iter().map(word).collect()
}

/// As labels have it.
fn component(part: Part) -> &'static str {
    match part {
        Part::Run => "run",
        Part::Devnet => "devnet",
        Part::Redis => "redis",
        Part::Worker => "worker",
        Part::Provision => "provision",
        Part::Load => "load",
        Part::Audit => "audit",
        Part::CleanUp => "cleanup",
    }
}

pub(crate) fn part_of(pod: &Pod) -> Part {
    let label = &pod.labels()["app.kubernetes.io/component"];
    let all =
        [Part::Run, Part::Devnet, Part::Redis, Part::Worker, Part::Provision, Part::Load, Part::Audit, Part::CleanUp];
    all.into_iter().find(|part| component(*part) == label).unwrap()
}

pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

pub(crate) fn ready() -> Value {
    json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
}

/// Whether a Job ended in this way.
pub(crate) fn has_ended(job: &Job, how: &str) -> bool {
    let conditions = job.status.iter().flat_map(|status| status.conditions.iter().flatten());
    conditions.into_iter().any(|condition| condition.type_ == how)
}

pub(crate) fn is_suspended(job: &Job) -> bool {
    job.spec.as_ref().and_then(|spec| spec.suspend).unwrap_or(false)
}

/// A run, and what is there of it.
#[derive(Clone, Debug)]
pub(crate) struct Cluster {
    pub(crate) run: BenchmarkRun,
    /// In seconds.
    pub(crate) clock: i64,
    /// The ConfigMap of the plan.
    pub(crate) stored: Option<Plan>,
    pub(crate) has_place: bool,
    pub(crate) steps: BTreeMap<Part, Job>,
    pub(crate) workers: Option<Deployment>,
    pub(crate) stateful: Vec<StatefulSet>,
    pub(crate) pods: Vec<Pod>,
    pub(crate) report: Option<BenchmarkReport>,
    pub(crate) is_damaged: bool,
    pub(crate) standing: Option<Standing>,
    pub(crate) turn: Turn,
    pub(crate) refused: Option<String>,
    /// The Secrets that were made.
    pub(crate) secrets: Vec<String>,
    /// What was told of keys.
    pub(crate) told: Vec<String>,
    pub(crate) is_gone: bool,
    made: u64,
}

impl Cluster {
    pub(crate) fn new(run: BenchmarkRun) -> Self {
        Self {
            run,
            clock: 0,
            stored: None,
            has_place: false,
            steps: BTreeMap::new(),
            workers: None,
            stateful: Vec::new(),
            pods: Vec::new(),
            report: None,
            is_damaged: false,
            standing: None,
            turn: Turn::Now,
            refused: None,
            secrets: Vec::new(),
            told: Vec::new(),
            is_gone: false,
            made: 0,
        }
    }

    pub(crate) fn status(&self) -> BenchmarkRunStatus {
        self.run.status.clone().unwrap_or_default()
    }

    pub(crate) fn stage(&self) -> Option<Stage> {
        self.status().lifecycle.map(|life| life.stage())
    }

    pub(crate) fn is_finished(&self) -> bool {
        self.status().phase == Some(RunPhase::Finished)
    }

    pub(crate) fn is_deleted(&self) -> bool {
        self.run.metadata.deletion_timestamp.is_some()
    }

    pub(crate) fn condition(&self, type_: &str) -> Option<(String, String, String)> {
        let status = self.status();
        let found = status.conditions.iter().find(|condition| condition.type_ == type_)?;
        Some((found.status.clone(), found.reason.clone(), found.message.clone()))
    }

    /// What an operator observes, as `observe.rs` does.
    pub(crate) fn observed(&self) -> Observed {
        let status = self.status();
        let begun = status.plan_ref.is_some();
        let is_open = status.frozen == Some(Frozen::Identity);
        let resolve = || {
            let resolve = nearbench_crds::Resolve { on_devnet: false, config_map: &|_| None };
            nearbench_crds::plan(&self.run, &resolve)
        };
        let plan = if begun { self.stored.clone().ok_or_else(Vec::new) } else { resolve() };
        let mut observed = Observed::waiting(Arc::new(self.run.clone()), plan);
        observed.wanted = (begun && is_open).then(resolve);
        observed.report_has_place = self.has_place;
        observed.report = match self.is_damaged {
            true => Err(DocumentError::Damaged {
                config_map: "case-report".into(),
                name: "report.json".into(),
                reason: "it is cut".into(),
            }),
            false => Ok(self.report.clone()),
        };
        observed.pods = self.pods.clone();
        observed.standing = self.standing.clone();
        observed.turn = self.turn.clone();
        observed.refused = self.refused.clone();
        if status.lifecycle.is_some() {
            observed.fleet =
                Fleet { steps: self.steps.clone(), workers: self.workers.clone(), stateful: self.stateful.clone() };
        }
        let waits = !begun && !self.is_finished() && !self.is_deleted() && !self.run.spec.stop;
        if let Some(plan) = observed.plan.as_ref().ok().filter(|_| waits && self.turn == Turn::Now) {
            observed.made = Some(made(plan, self.made));
        }
        observed
    }

    /// Decides and does it; the status is written. What was done, in short.
    pub(crate) fn look(&mut self) -> Vec<String> {
        let decision = self.look_without_a_word();
        self.tell(&decision);
        words(&decision.acts)
    }

    /// Decides and does it, and dies before it writes the status.
    pub(crate) fn look_without_a_word(&mut self) -> Decision {
        self.clock += 1;
        let decision = decide(&self.observed(), at(self.clock));
        for act in &decision.acts {
            self.carry_out(act);
        }
        self.made += 1_000;
        decision
    }

    /// Writes a status as the controller does: what changed the run itself is looked at again first.
    pub(crate) fn tell(&mut self, decision: &Decision) {
        if !decision.acts.iter().any(|act| matches!(act, Act::Delete | Act::Hold | Act::LetGo)) {
            self.run.status = Some(decision.status.clone());
        }
    }

    pub(crate) fn wait(&mut self, seconds: i64) -> &mut Self {
        self.clock += seconds;
        self
    }

    fn carry_out(&mut self, act: &Act) {
        let named = self.status().secret_ref.map_or(String::new(), |secret| secret.name);
        match act {
            Act::Store(plan) => self.stored = Some((**plan).clone()),
            Act::PlaceReport => self.has_place = true,
            Act::Hold => self.run.metadata.finalizers.get_or_insert_default().push(FINALIZER.into()),
            Act::LetGo => {
                self.run.metadata.finalizers.get_or_insert_default().clear();
                self.is_gone = self.is_deleted();
            }
            Act::Conceal(plan, made) => self.secrets.push(secret(&self.run, plan, made).name_any()),
            Act::Found(plan) => {
                let Ground { stateful, .. } = ground(&self.run, plan, &named, &kit());
                self.stateful = stateful;
            }
            Act::Staff(plan) => {
                let made = self.workers.as_ref().and_then(|there| there.metadata.creation_timestamp.clone());
                let mut there = workers(&self.run, plan, &named, &kit());
                there.metadata.creation_timestamp = Some(made.unwrap_or_else(|| Time(at(self.clock))));
                self.workers = Some(there);
            }
            Act::Begin { part, plan, stopped_early } => {
                let mut job = step(&self.run, plan, &named, &kit(), *part, *stopped_early);
                job.metadata.creation_timestamp = Some(Time(at(self.clock)));
                job.metadata.uid = Some(format!("{part:?}-{}", self.clock));
                self.steps.entry(*part).or_insert(job);
            }
            Act::EndStep(part) => {
                if let Some(job) = self.steps.get_mut(part) {
                    job.spec.as_mut().unwrap().suspend = Some(true);
                }
            }
            Act::DropStep(part, uid) => {
                if self.steps.get(part).is_some_and(|job| job.uid().as_ref() == Some(uid)) {
                    self.steps.remove(part);
                    self.pods.retain(|pod| part_of(pod) != *part);
                }
            }
            Act::Dismiss => self.workers = None,
            Act::TakeDown => self.stateful.clear(),
            Act::TellKeys(note) => self.told.push(note.clone()),
            Act::Delete => self.is_gone = true,
            Act::Release | Act::CarryOut(_) | Act::Stop(_) => {}
        }
    }

    /// A pod of a part, beside those that are there.
    pub(crate) fn pod(&mut self, part: Part, status: Value) -> &mut Self {
        let name = format!("{}-{}", component(part), self.pods.len());
        let labels = json!({"app.kubernetes.io/component": component(part)});
        let spec = json!({"containers": [{"name": component(part)}]});
        let pod = json!({"metadata": {"name": name, "labels": labels}, "spec": spec, "status": status});
        self.pods.push(serde_json::from_value(pod).unwrap());
        self
    }

    /// The only pod of a part, ended as a container does with this code and these last words.
    pub(crate) fn pod_ended(&mut self, part: Part, exit: i32, said: &str) -> &mut Self {
        self.without_pods(part);
        let state = json!({"terminated": {"exitCode": exit, "reason": "Error", "message": said}});
        let mut status = super::container(state);
        status["phase"] = if exit == 0 { "Succeeded" } else { "Failed" }.into();
        self.pod(part, status)
    }

    pub(crate) fn without_pods(&mut self, part: Part) -> &mut Self {
        self.pods.retain(|pod| part_of(pod) != part);
        self
    }

    /// So many workers, all ready.
    pub(crate) fn workers_ready(&mut self, count: usize) -> &mut Self {
        self.without_pods(Part::Worker);
        for _ in 0..count {
            self.pod(Part::Worker, ready());
        }
        self
    }

    /// A step comes to its end, and its pods with it.
    pub(crate) fn step_ended(&mut self, part: Part, how: &str) -> &mut Self {
        let at = at(self.clock).to_string();
        let conditions = json!([{"type": how, "status": "True", "lastTransitionTime": at, "reason": "Ended"}]);
        let job = self.steps.get_mut(&part).unwrap();
        job.status = serde_json::from_value(json!({"conditions": conditions})).unwrap();
        for pod in self.pods.iter_mut().filter(|pod| part_of(pod) == part && !is_over(pod)) {
            let phase = if how == "Complete" { "Succeeded" } else { "Failed" };
            pod.status = serde_json::from_value(json!({"phase": phase})).unwrap();
        }
        self
    }

    pub(crate) fn stands(&mut self, stage: Stage, phase: &str, percent: u32) -> &mut Self {
        self.standing =
            Some(Standing { phase: phase.into(), percent, offered: 200, succeeded: 150, ..Standing::at(stage) });
        self
    }

    pub(crate) fn deliver(&mut self, verdict: Verdict) -> &mut Self {
        self.report = Some(report(&plan(&self.run), verdict));
        self
    }

    pub(crate) fn delete(&mut self) -> &mut Self {
        self.run.metadata.deletion_timestamp = Some(Time(at(self.clock)));
        self
    }

    /// Held, and begun: the status names what was made.
    pub(crate) fn begun(run: BenchmarkRun) -> Self {
        let mut cluster = Self::new(run);
        cluster.look();
        cluster.look();
        assert_eq!(cluster.stage(), Some(Stage::Provisioning));
        cluster
    }

    /// Its chain is being made ready.
    pub(crate) fn provisioning(run: BenchmarkRun) -> Self {
        let mut cluster = Self::begun(run);
        cluster.look();
        cluster.pod(Part::Provision, ready());
        cluster
    }

    /// All is ready but its workers.
    pub(crate) fn provisioned(run: BenchmarkRun) -> Self {
        let mut cluster = Self::provisioning(run);
        cluster.step_ended(Part::Provision, "Complete");
        cluster.look();
        assert_eq!(cluster.stage(), Some(Stage::Held));
        cluster
    }

    /// Its workers are ready, and its load may begin.
    pub(crate) fn staffed(run: BenchmarkRun) -> Self {
        let mut cluster = Self::provisioned(run);
        cluster.look();
        let replicas = cluster.run.spec.workers.replicas as usize;
        cluster.workers_ready(replicas);
        cluster.look();
        assert_eq!(cluster.stage(), Some(Stage::Running));
        cluster
    }

    /// Its generators are at work.
    pub(crate) fn loading(run: BenchmarkRun) -> Self {
        let mut cluster = Self::staffed(run);
        cluster.look();
        cluster.pod(Part::Load, ready()).stands(Stage::Running, "sustain", 40);
        cluster.look();
        cluster
    }

    /// Its load is over, and what was accepted is worked off.
    pub(crate) fn draining(run: BenchmarkRun) -> Self {
        let mut cluster = Self::loading(run);
        cluster.step_ended(Part::Load, "Complete").standing = None;
        cluster.look();
        assert_eq!(cluster.stage(), Some(Stage::Draining));
        cluster.look();
        cluster.pod(Part::Audit, ready()).stands(Stage::Draining, "", 100);
        cluster
    }

    /// Its report says this; its keys go next, where they go.
    pub(crate) fn reported(run: BenchmarkRun, verdict: Verdict) -> Self {
        let mut cluster = Self::draining(run);
        cluster.deliver(verdict).step_ended(Part::Audit, "Complete").standing = None;
        cluster.look();
        cluster
    }
}
