//! The objects of a run with workers.

use crate::world::{
    fleet::{kit, made, on_devnet, on_testnet},
    plan,
};
use expect_test::expect_file;
use k8s_openapi::{
    ByteString,
    api::{apps::v1::Deployment, batch::v1::Job, core::v1::PodTemplateSpec},
};
use kube::ResourceExt;
use nearbench_core::{Plan, plan::Store};
use nearbench_crds::BenchmarkRun;
use nearbench_operator::{
    Kit,
    decisions::{Children, Ground, Part, children, ground, plan_for, secret, step, workers},
};
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const STEPS: [Part; 4] = [Part::Provision, Part::Load, Part::Audit, Part::CleanUp];

/// Everything of one run.
struct Built {
    run: BenchmarkRun,
    plan: Plan,
    /// The name of its Secret.
    secret: String,
    ground: Ground,
    workers: Deployment,
    steps: BTreeMap<Part, Job>,
}

fn build(run: BenchmarkRun) -> Built {
    build_with(run, &kit())
}

fn build_with(run: BenchmarkRun, kit: &Kit) -> Built {
    let plan = plan(&run);
    let made = made(&plan, 1);
    let name = secret(&run, &plan, &made).name_any();
    let plan = plan_for(&run, plan, &name);
    Built {
        ground: ground(&run, &plan, &name, kit),
        workers: workers(&run, &plan, &name, kit),
        steps: STEPS.map(|part| (part, step(&run, &plan, &name, kit, part, false))).into(),
        secret: name,
        run,
        plan,
    }
}

impl Built {
    /// Every pod that is ever made for the run, by its label.
    fn pods(&self) -> BTreeMap<String, PodTemplateSpec> {
        let stateful = self.ground.stateful.iter().map(|set| set.spec.clone().unwrap().template);
        let workers = self.workers.spec.clone().unwrap().template;
        let steps = self.steps.values().map(|job| job.spec.clone().unwrap().template);
        let all = stateful.chain([workers]).chain(steps);
        all.map(|template| (label(&template, "app.kubernetes.io/component"), template)).collect()
    }

    fn args(&self, part: Part) -> Vec<String> {
        let template = &self.steps[&part].spec.as_ref().unwrap().template;
        template.spec.as_ref().unwrap().containers[0].args.clone().unwrap()
    }

    /// The names of everything.
    fn names(&self) -> Vec<String> {
        let Ground { stateful, services, network_policies, disruption_budgets } = &self.ground;
        let mut names: Vec<_> = stateful.iter().map(ResourceExt::name_any).collect();
        names.extend(services.iter().map(ResourceExt::name_any));
        names.extend(network_policies.iter().map(ResourceExt::name_any));
        names.extend(disruption_budgets.iter().map(ResourceExt::name_any));
        names.extend(self.steps.values().map(ResourceExt::name_any));
        names.push(self.workers.name_any());
        names
    }
}

fn label(template: &PodTemplateSpec, key: &str) -> String {
    template.metadata.as_ref().unwrap().labels.as_ref().unwrap()[key].clone()
}

/// `SECRET: key key` for everything that a pod sees of Secrets.
fn seen(template: &PodTemplateSpec) -> BTreeSet<String> {
    let mut all: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    let mut add = |name: &Option<String>, items: &Option<Vec<k8s_openapi::api::core::v1::KeyToPath>>| {
        let keys = items.as_ref().expect("all of a Secret").iter().map(|item| item.key.clone());
        all.entry(name.clone().unwrap()).or_default().extend(keys);
    };
    let spec = template.spec.as_ref().unwrap();
    for volume in spec.volumes.iter().flatten() {
        if let Some(secret) = &volume.secret {
            add(&secret.secret_name, &secret.items);
        }
        for source in volume.projected.iter().flat_map(|projected| projected.sources.iter().flatten()) {
            let secret = source.secret.as_ref().unwrap();
            add(&Some(secret.name.clone()), &secret.items);
        }
    }
    let line = |(name, keys): (String, BTreeSet<String>)| {
        let keys: Vec<_> = keys.iter().map(|key| key.trim_start_matches("nearbench-").to_owned()).collect();
        format!("{name}: {}", keys.join(" "))
    };
    all.into_iter().map(line).collect()
}

fn yaml(objects: &[impl Serialize]) -> Vec<String> {
    objects.iter().map(|object| serde_saphyr::to_string(object).unwrap()).collect()
}

#[test]
fn the_objects_of_a_fleet_on_its_own_chain_are_the_committed_ones() {
    let Built { run, plan, ground, workers, steps, .. } = build(on_devnet());
    let Children { service_account, role, role_binding, job: _ } = children(&run, &plan, &kit());
    let mut secret = secret(&run, &plan, &made(&plan, 1));
    // Which keys it has, and nothing of them.
    for ByteString(bytes) in secret.data.as_mut().unwrap().values_mut() {
        assert!(!bytes.is_empty());
        bytes.clear();
    }
    let built = [
        yaml(&[secret]),
        yaml(&[service_account]),
        yaml(&[role]),
        yaml(&[role_binding]),
        yaml(&ground.network_policies),
        yaml(&ground.services),
        yaml(&ground.disruption_budgets),
        yaml(&ground.stateful),
        yaml(&[workers]),
        yaml(&steps.into_values().collect::<Vec<_>>()),
    ];
    expect_file!["../fleet.yaml"].assert_eq(&built.concat().join("---\n"));
}

fn check_seen(built: &Built, expected: &[(&str, &[&str])]) {
    let pods = built.pods();
    let found: Vec<_> = pods.keys().map(String::as_str).collect();
    let mut wanted: Vec<_> = expected.iter().map(|(part, _)| *part).collect();
    wanted.sort_unstable();
    assert_eq!(found, wanted);
    for (part, secrets) in expected {
        let wanted: BTreeSet<_> = secrets.iter().map(|line| line.replace("OWN", &built.secret)).collect();
        assert_eq!(seen(&pods[*part]), wanted, "{part}");
    }
}

#[test]
fn each_part_sees_of_each_secret_what_it_needs_and_no_more() {
    check_seen(
        &build(on_testnet()),
        &[
            ("redis", &["OWN: redis.conf"]),
            ("worker", &["OWN: keys.json namespace redis-url tokens", "rpc: rpc-auth"]),
            ("provision", &["OWN: keys.json redis-url", "funder: account.json", "rpc: rpc-auth"]),
            ("load", &["OWN: namespace redis-url token"]),
            ("audit", &["OWN: namespace redis-url", "rpc: rpc-auth"]),
            ("cleanup", &["OWN: keys.json redis-url", "funder: account.json", "rpc: rpc-auth"]),
        ],
    );
    check_seen(
        &build(on_devnet()),
        &[
            ("devnet", &["OWN: account.json"]),
            ("redis", &["OWN: redis.conf"]),
            ("worker", &["OWN: keys.json namespace redis-url tokens"]),
            ("provision", &["OWN: account.json keys.json redis-url"]),
            ("load", &["OWN: namespace redis-url token"]),
            ("audit", &["OWN: namespace redis-url"]),
            ("cleanup", &["OWN: account.json keys.json redis-url"]),
        ],
    );
}

#[test]
fn a_secret_that_holds_everything_shows_to_each_part_its_own() {
    let mut run = on_testnet();
    run.spec.network.endpoints[0].auth_secret_ref.as_mut().unwrap().name = "near".into();
    run.spec.account.create_from.as_mut().unwrap().secret_ref.as_mut().unwrap().name = "near".into();
    run.spec.store = serde_json::from_value(json!({"redis": {"secretRef": {"name": "near"}}})).unwrap();
    check_seen(
        &build(run),
        &[
            ("worker", &["OWN: keys.json namespace tokens", "near: redis-url rpc-auth"]),
            ("provision", &["OWN: keys.json", "near: account.json redis-url rpc-auth"]),
            ("load", &["OWN: namespace token", "near: redis-url"]),
            ("audit", &["OWN: namespace", "near: redis-url rpc-auth"]),
            ("cleanup", &["OWN: keys.json", "near: account.json redis-url rpc-auth"]),
        ],
    );
}

#[test]
fn prepared_keys_are_read_where_they_are() {
    let mut run = on_testnet();
    run.spec.account.create_from = None;
    run.spec.account.keys = serde_json::from_value(json!({"secretRef": {"name": "lanes"}})).unwrap();
    run.spec.token.deploy = None;
    run.spec.receivers = serde_json::from_value(json!({"accounts": ["bob.testnet"]})).unwrap();
    let built = build(run);
    check_seen(
        &built,
        &[
            ("redis", &["OWN: redis.conf"]),
            ("worker", &["OWN: namespace redis-url tokens", "lanes: keys.json", "rpc: rpc-auth"]),
            ("provision", &["OWN: redis-url", "lanes: keys.json", "rpc: rpc-auth"]),
            ("load", &["OWN: namespace redis-url token"]),
            ("audit", &["OWN: namespace redis-url", "rpc: rpc-auth"]),
            ("cleanup", &["OWN: redis-url", "rpc: rpc-auth"]),
        ],
    );
    let data = secret(&built.run, &built.plan, &made(&built.plan, 1)).data.unwrap();
    assert!(
        !data.contains_key("nearbench-keys.json") && !data.contains_key("nearbench-account.json"),
        "{:?}",
        data.keys()
    );
}

#[test]
fn only_who_delivers_the_report_may_speak_to_the_api_server() {
    for (part, template) in build(on_devnet()).pods() {
        let spec = template.spec.unwrap();
        assert_eq!(spec.automount_service_account_token, Some(part == "audit"), "{part}");
        // Nobody is told where other Services are.
        assert_eq!(spec.enable_service_links, Some(false), "{part}");
    }
}

#[test]
fn every_pod_of_nearbench_logs_as_the_operator_does() {
    let arguments = |template: PodTemplateSpec| template.spec.unwrap().containers[0].args.clone().unwrap_or_default();
    for json_logs in [false, true] {
        let kit = Kit { json_logs, ..kit() };
        let Children { job, .. } = children(&on_devnet(), &plan(&on_devnet()), &kit);
        let solo = ("run".to_owned(), job.spec.unwrap().template);
        let pods = build_with(on_devnet(), &kit).pods().into_iter().chain([solo]);
        for (part, template) in pods.filter(|(part, _)| part != "redis") {
            let arguments = arguments(template);
            assert_eq!(
                arguments.starts_with(&["--log-format".to_owned(), "json".to_owned()]),
                json_logs,
                "{part}: {arguments:?}"
            );
        }
    }
}

#[test]
fn every_pod_meets_the_restricted_pod_security_standard() {
    for volumes in [None, kit().volumes] {
        let built = build_with(on_devnet(), &Kit { volumes, ..kit() });
        for (part, template) in built.pods() {
            let spec = serde_json::to_value(template.spec.unwrap()).unwrap();
            check_restricted(&part, &spec);
        }
    }
    let Children { job, .. } = children(&on_devnet(), &plan(&on_devnet()), &kit());
    let spec = job.spec.unwrap().template.spec.unwrap();
    check_restricted("run", &serde_json::to_value(spec).unwrap());
}

/// <https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted>
fn check_restricted(part: &str, spec: &Value) {
    const VOLUMES: [&str; 8] =
        ["configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"];
    for shared in ["hostNetwork", "hostPID", "hostIPC", "hostUsers"] {
        assert_eq!(spec[shared], Value::Null, "{part}: {shared}");
    }
    for volume in spec["volumes"].as_array().into_iter().flatten() {
        let kinds = volume.as_object().unwrap().keys().filter(|key| *key != "name");
        for kind in kinds {
            assert!(VOLUMES.contains(&kind.as_str()), "{part}: {volume}");
        }
    }
    let pod = &spec["securityContext"];
    assert_eq!(pod["runAsNonRoot"], true, "{part}");
    assert!(pod["runAsUser"].as_i64().unwrap() > 0, "{part}");
    assert_eq!(pod["seccompProfile"]["type"], "RuntimeDefault", "{part}");
    assert_eq!(
        (&pod["sysctls"], &spec["initContainers"], &spec["ephemeralContainers"]),
        (&Value::Null, &Value::Null, &Value::Null)
    );
    let containers = spec["containers"].as_array().unwrap();
    assert_eq!(containers.len(), 1, "{part}");
    for container in containers {
        let context = &container["securityContext"];
        assert_eq!(context["allowPrivilegeEscalation"], false, "{part}");
        assert_eq!(context["readOnlyRootFilesystem"], true, "{part}");
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}), "{part}");
        for looser in ["privileged", "procMount", "runAsUser", "runAsNonRoot", "seccompProfile"] {
            assert_eq!(context[looser], Value::Null, "{part}: {looser}");
        }
        for port in container["ports"].as_array().into_iter().flatten() {
            assert_eq!(port["hostPort"], Value::Null, "{part}");
        }
    }
}

/// What a Service may be called: RFC 1035.
fn is_label(name: &str) -> bool {
    let inside = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_lowercase())
        && !name.ends_with('-')
        && name.chars().all(inside)
}

#[test]
fn children_of_any_run_have_names_that_are_such_and_no_other_runs() {
    let long = "a".repeat(63);
    let dashed = format!("{}.-{}", "b".repeat(29), "b".repeat(5)).replace(".-", "-b.");
    let runs = [
        "x",
        "quickstart",
        "a.b",
        "a-b",
        "a.b.c",
        "7-days",
        "7.days",
        &"c".repeat(40),
        &"c".repeat(41),
        &long,
        &format!("{}b", &long[1..]),
        &dashed,
        &format!("9{}", "d".repeat(62)),
    ];
    let mut all = BTreeSet::new();
    for name in runs {
        let mut run = on_devnet();
        run.metadata.name = Some(name.to_owned());
        let built = build(run);
        for child in built.names() {
            assert!(is_label(&child), "{name}: {child}");
        }
        // A pod of an indexed Job has its name and its number for a host name, and one of a StatefulSet a revision in a label.
        for job in built.steps.values() {
            assert!(job.name_any().len() + "-255".len() <= 63, "{}", job.name_any());
        }
        for set in &built.ground.stateful {
            assert!(set.name_any().len() + "-0123456789".len() <= 63, "{}", set.name_any());
        }
        let own: BTreeSet<_> = built.names().into_iter().collect();
        for child in own {
            assert!(all.insert(child.clone()), "{name}: {child} is another run's too");
        }
    }
}

#[test]
fn a_users_labels_and_annotations_do_not_hide_a_pod_from_its_run() {
    let mut run = on_devnet();
    for pods in [&mut run.spec.workers, &mut run.spec.load.generators] {
        pods.labels.insert("nearbench.dev/run".into(), "other".into());
        pods.labels.insert("nearbench.dev/run-uid".into(), "other".into());
        pods.labels.insert("app.kubernetes.io/component".into(), "redis".into());
        pods.labels.insert("team".into(), "a".into());
        pods.annotations.insert("note".into(), "b".into());
    }
    let built = build(run);
    assert_eq!(built.pods().len(), 7, "each has a label of its own");
    for (part, template) in built.pods() {
        assert_eq!(label(&template, "nearbench.dev/run"), "quickstart");
        assert_eq!(label(&template, "nearbench.dev/run-uid"), built.run.uid().unwrap());
        if !["redis", "devnet"].contains(&part.as_str()) {
            assert_eq!(label(&template, "team"), "a", "{part}");
            assert_eq!(template.annotations()["note"], "b", "{part}");
        }
    }
    let chosen = built.workers.spec.unwrap();
    let pod = chosen.template.metadata.unwrap().labels.unwrap();
    for (key, value) in chosen.selector.match_labels.unwrap() {
        assert_eq!(pod[&key], value);
    }
}

#[test]
fn generators_are_placed_as_they_want_and_the_rest_as_the_workers() {
    let mut run = on_testnet();
    run.spec.workers.node_selector.insert("pool".into(), "workers".into());
    run.spec.load.generators.node_selector.insert("pool".into(), "load".into());
    run.spec.load.generators.replicas = 3;
    let built = build(run);
    for (part, template) in built.pods() {
        let pool = &template.spec.unwrap().node_selector.unwrap()["pool"];
        assert_eq!(pool, if part == "load" { "load" } else { "workers" }, "{part}");
    }
    let load = built.steps[&Part::Load].spec.as_ref().unwrap();
    assert_eq!((load.completions, load.parallelism), (Some(3), Some(3)));
}

trait Annotated {
    fn annotations(&self) -> &BTreeMap<String, String>;
}

impl Annotated for PodTemplateSpec {
    fn annotations(&self) -> &BTreeMap<String, String> {
        self.metadata.as_ref().unwrap().annotations.as_ref().unwrap()
    }
}

#[test]
fn a_chain_of_the_runs_own_is_reached_through_its_service_with_the_key_in_the_runs_secret() {
    let run = on_devnet();
    let resolved = plan(&run);
    let ready = plan_for(&run, resolved.clone(), "quickstart-1");
    assert_eq!(ready.network.endpoints[0].url, "http://quickstart-devnet.bench.svc:3030");
    assert_eq!(ready.account.create_from.as_ref().unwrap().secret.as_deref(), Some("quickstart-1"));
    assert_eq!(ready.account.master_key_secret, None);
    let back = Plan { network: resolved.network.clone(), account: resolved.account.clone(), ..ready };
    assert_eq!(back, resolved, "nothing else is changed");

    let mut owned = on_devnet();
    owned.spec.account.create_from = None;
    let ready = plan_for(&owned, plan(&owned), "quickstart-1");
    assert_eq!(ready.account.master_key_secret.as_deref(), Some("quickstart-1"));

    let elsewhere = on_testnet();
    assert_eq!(plan_for(&elsewhere, plan(&elsewhere), "case-1"), plan(&elsewhere));
}

#[test]
fn a_redis_that_is_there_is_used_and_rid_of_the_run_at_the_end() {
    let mut run = on_testnet();
    run.spec.store = serde_json::from_value(json!({"redis": {"secretRef": {"name": "shared"}}})).unwrap();
    let built = build(run);
    assert_eq!(built.plan.store, Store::Redis { secret: "shared".into() });
    assert_eq!(built.ground.stateful, []);
    let data = secret(&built.run, &built.plan, &made(&built.plan, 1)).data.unwrap();
    assert!(!data.contains_key("nearbench-redis-url") && !data.contains_key("redis.conf"));
    assert!(built.args(Part::CleanUp).contains(&"--forget".to_owned()));
    assert!(!build(on_testnet()).args(Part::CleanUp).contains(&"--forget".to_owned()), "it goes as a whole");
    // One Redis may know many runs, and runs of one name.
    let id = format!("case-{}", built.run.uid().unwrap());
    for part in STEPS {
        let args = built.args(part);
        let place = args.iter().position(|arg| arg == "--run-id").unwrap();
        assert_eq!(args[place + 1], id, "{part:?}");
    }
}

#[test]
fn a_load_over_http_is_told_where_the_api_is() {
    let api =
        |built: &Built, part| built.args(part).windows(2).find(|pair| pair[0] == "--api").map(|pair| pair[1].clone());
    let mut run = on_testnet();
    run.spec.load = serde_json::from_value(
        json!({"via": "http", "phases": [{"name": "sustain", "duration": 60, "arrivalRate": 5}]}),
    )
    .unwrap();
    let built = build(run);
    assert_eq!(api(&built, Part::Load).unwrap(), "case-worker.bench.svc:3001");
    assert!([Part::Provision, Part::Audit, Part::CleanUp].iter().all(|part| api(&built, *part).is_none()));
    assert_eq!(api(&build(on_testnet()), Part::Load), None, "straight into the queue");
}

#[test]
fn data_outlives_its_pod_where_there_are_volumes_and_goes_with_the_run() {
    for set in build(on_devnet()).ground.stateful {
        let spec = set.spec.unwrap();
        assert_eq!(spec.volume_claim_templates.unwrap().len(), 1);
        assert_eq!(spec.persistent_volume_claim_retention_policy.unwrap().when_deleted.as_deref(), Some("Delete"));
    }
    for set in build_with(on_devnet(), &Kit { volumes: None, ..kit() }).ground.stateful {
        let spec = set.spec.unwrap();
        assert_eq!(spec.volume_claim_templates, None);
        let volumes = spec.template.spec.unwrap().volumes.unwrap();
        assert!(volumes.iter().any(|volume| volume.name == "data" && volume.empty_dir.is_some()));
    }
}

#[test]
fn everything_goes_with_its_run() {
    let built = build(on_devnet());
    let Ground { stateful, services, network_policies, disruption_budgets } = &built.ground;
    let mut owners: Vec<_> = stateful.iter().map(|object| object.owner_references().to_vec()).collect();
    owners.extend(services.iter().map(|object| object.owner_references().to_vec()));
    owners.extend(network_policies.iter().map(|object| object.owner_references().to_vec()));
    owners.extend(disruption_budgets.iter().map(|object| object.owner_references().to_vec()));
    owners.extend(built.steps.values().map(|object| object.owner_references().to_vec()));
    owners.push(built.workers.owner_references().to_vec());
    owners.push(secret(&built.run, &built.plan, &made(&built.plan, 1)).owner_references().to_vec());
    for owner in owners {
        assert_eq!((owner.len(), Some(&owner[0].uid)), (1, built.run.uid().as_ref()));
        assert_eq!((owner[0].controller, owner[0].block_owner_deletion), (Some(true), None));
    }
}
