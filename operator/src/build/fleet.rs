//! The objects of a run with worker processes: what it stands on, its workers, and a Job for each step.
//!
//! Each pod gets of the run's Secret only what its part needs. None but the auditor's may speak to the API server.

use super::{
    Kit, PLAN_DIR, RPC_AUTH, SCRATCH_DIR, SECRETS_DIR, Volumes, endpoints, item, masters, metadata, mount, plan_volume,
    pod_labels, restricted, restricted_pod, scratch_volume, some, users_secret, usual_resources,
};
use crate::{
    names::{self, API_PORT, PART_LABEL, PLAN_ANNOTATION, Part, RUN_LABEL, STANDING_PATH, STANDING_PORT, UID_LABEL},
    secret::{self, Made},
};
use k8s_openapi::{
    ByteString,
    api::{
        apps::v1::{
            Deployment, DeploymentSpec, StatefulSet, StatefulSetPersistentVolumeClaimRetentionPolicy, StatefulSetSpec,
        },
        batch::v1::{
            Job, JobSpec, PodFailurePolicy, PodFailurePolicyOnExitCodesRequirement,
            PodFailurePolicyOnPodConditionsPattern, PodFailurePolicyRule,
        },
        core::v1::{
            Container, ContainerPort, EmptyDirVolumeSource, HTTPGetAction, PersistentVolumeClaim,
            PersistentVolumeClaimSpec, PodSpec, PodTemplateSpec, Probe, ProjectedVolumeSource, ResourceRequirements,
            Secret, SecretProjection, Service, ServicePort, ServiceSpec, TCPSocketAction, Volume, VolumeProjection,
            VolumeResourceRequirements,
        },
        networking::v1::{
            IPBlock, NetworkPolicy, NetworkPolicyEgressRule, NetworkPolicyIngressRule, NetworkPolicyPeer,
            NetworkPolicyPort, NetworkPolicySpec,
        },
        policy::v1::{PodDisruptionBudget, PodDisruptionBudgetSpec},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{LabelSelector, ObjectMeta},
        util::intstr::IntOrString,
    },
};
use kube::ResourceExt;
use nearbench_core::{
    Account, Plan,
    plan::{Endpoint, Keys, Store, Via},
};
use nearbench_crds::{BenchmarkRun, Pods};
use sha2::{Digest, Sha256};
use std::collections::{BTreeMap, BTreeSet};

/// What the run's own Secret shows to its pods.
const OWN_DIR: &str = "/etc/nearbench/own";
const DATA_DIR: &str = "/data";
const REDIS_PORT: u16 = 6379;
const DEVNET_PORT: u16 = 3030;
/// A process that is told to end gives back what it holds.
const GRACE_S: i64 = 60;
/// Generators that die are replaced so often.
const GENERATOR_TRIES: i32 = 12;
/// For those that cannot be moved: what empties a node waits for them.
const NOT_TO_BE_EVICTED: [(&str, &str); 2] =
    [("cluster-autoscaler.kubernetes.io/safe-to-evict", "false"), ("karpenter.sh/do-not-disrupt", "true")];

/// What stands for as long as the run does, beside its workers.
#[derive(Clone, Debug, PartialEq)]
pub struct Ground {
    /// The run's own Redis, its own chain.
    pub stateful: Vec<StatefulSet>,
    /// The way to each, to the workers' API behind one address, and to each worker.
    pub services: Vec<Service>,
    /// Who may speak to whom.
    pub network_policies: Vec<NetworkPolicy>,
    /// What whoever empties a node must leave.
    pub disruption_budgets: Vec<PodDisruptionBudget>,
}

/// Whether the run brings up a chain of its own.
pub(crate) fn has_own_chain(run: &BenchmarkRun) -> bool {
    run.spec.network.endpoints.is_empty()
}

fn host(run: &BenchmarkRun, part: Part) -> String {
    format!("{}.{}.svc", names::child(&run.name_any(), part), run.namespace().unwrap_or_default())
}

/// Who owns everything on a chain of the run's own.
fn root(plan: &Plan) -> &Account {
    plan.account.create_from.as_ref().map_or(&plan.account.account_id, |from| &from.account_id)
}

/// The plan as the run's pods carry it out: a chain of the run's own is reached through its Service, and its key is in the
/// run's Secret.
pub fn plan_for(run: &BenchmarkRun, mut plan: Plan, secret: &str) -> Plan {
    if !has_own_chain(run) {
        return plan;
    }
    let url = format!("http://{}:{DEVNET_PORT}", host(run, Part::Devnet));
    plan.network.endpoints = vec![Endpoint { url, priority: 0, max_requests_per_second: None, auth_secret: None }];
    match &mut plan.account.create_from {
        Some(from) => from.secret = Some(secret.to_owned()),
        None => plan.account.master_key_secret = Some(secret.to_owned()),
    }
    plan
}

/// Under which name a Redis knows the run: one that no other run ever has.
fn id(run: &BenchmarkRun) -> String {
    format!("{}-{}", run.name_any(), run.uid().unwrap_or_default())
}

/// The name of the run's Secret: nobody can have taken it before.
pub(crate) fn secret_name(run: &str, made: &Made) -> String {
    format!("{run}-{}", made.suffix)
}

/// The run's Secret.
pub fn secret(run: &BenchmarkRun, plan: &Plan, made: &Made) -> Secret {
    let owner = has_own_chain(run).then(|| root(plan));
    let redis = (plan.store == Store::Own).then(|| host(run, Part::Redis));
    let data = made.data(&plan.account.account_id, redis.as_deref(), owner);
    Secret {
        metadata: metadata(run, Part::Run, secret_name(&run.name_any(), made)),
        // What is put on chain must not turn into other keys.
        immutable: Some(true),
        data: Some(data.into_iter().map(|(key, text)| (key, ByteString(text.into_bytes()))).collect()),
        ..Secret::default()
    }
}

/// What the run stands on.
pub fn ground(run: &BenchmarkRun, plan: &Plan, secret: &str, kit: &Kit) -> Ground {
    let mut ground = Ground {
        stateful: Vec::new(),
        services: vec![service(run, Part::Worker, API_PORT, false), service(run, Part::Worker, API_PORT, true)],
        network_policies: vec![metadata_is_out_of_reach(run)],
        disruption_budgets: vec![budget(run, Part::Worker, 1)],
    };
    let mut stateful = Vec::new();
    if plan.store == Store::Own {
        stateful.push((redis(run, secret, kit), Part::Redis, REDIS_PORT));
    }
    if has_own_chain(run) {
        stateful.push((devnet(run, plan, secret, kit), Part::Devnet, DEVNET_PORT));
    }
    for (set, part, port) in stateful {
        ground.stateful.push(set);
        ground.services.push(service(run, part, port, false));
        ground.network_policies.push(only_for_the_run(run, part));
        ground.disruption_budgets.push(budget(run, part, 0));
    }
    ground
}

/// The run's worker processes.
pub fn workers(run: &BenchmarkRun, plan: &Plan, secret: &str, kit: &Kit) -> Deployment {
    let pod = Pod { run, plan, secret, kit, part: Part::Worker, pods: &run.spec.workers };
    let listen = format!("0.0.0.0:{API_PORT}");
    let tokens = format!("{OWN_DIR}/{}", secret::TOKENS);
    let mut args = vec!["worker".to_owned()];
    args.extend(pod.common());
    args.extend(["--listen", &listen, "--tokens", &tokens].map(str::to_owned));
    let mut template = pod.template(args, credentials(plan));
    if let Some(spec) = &mut template.spec {
        spec.restart_policy = Some("Always".into());
        for container in &mut spec.containers {
            container.ports = Some(vec![port("api", API_PORT)]);
            container.readiness_probe = Some(http_probe("/ready", "api", 2));
            container.liveness_probe = Some(Probe { failure_threshold: Some(6), ..http_probe("/health", "api", 10) });
        }
    }
    Deployment {
        metadata: metadata(run, Part::Worker, names::child(&run.name_any(), Part::Worker)),
        spec: Some(DeploymentSpec {
            replicas: Some(i32::try_from(run.spec.workers.replicas).unwrap_or(i32::MAX)),
            selector: LabelSelector { match_labels: Some(chosen(run, Part::Worker)), ..LabelSelector::default() },
            template,
            ..DeploymentSpec::default()
        }),
        ..Deployment::default()
    }
}

/// The Job of one step. `stopped_early`: the load was cut short.
pub fn step(run: &BenchmarkRun, plan: &Plan, secret: &str, kit: &Kit, part: Part, stopped_early: bool) -> Job {
    let pods = if part == Part::Load { &run.spec.load.generators } else { &run.spec.workers };
    let pod = Pod { run, plan, secret, kit, part, pods };
    let (name, more, secrets): (_, Vec<String>, Vec<Needed>) = match part {
        Part::Provision => ("provision", Vec::new(), [keys_to_change(plan), credentials(plan)].concat()),
        Part::Load => {
            let api = format!("{}:{API_PORT}", host(run, Part::Worker));
            let api = (plan.load.via == Via::Http).then(|| vec!["--api".to_owned(), api]);
            ("load", api.unwrap_or_default(), Vec::new())
        }
        Part::Audit => {
            let report = ["--report-to".to_owned(), names::report(&run.name_any())];
            let stopped = stopped_early.then(|| "--stopped-early".to_owned());
            ("conclude", report.into_iter().chain(stopped).collect(), credentials(plan))
        }
        _ => {
            let outlives = matches!(plan.store, Store::Redis { .. });
            let forget = outlives.then(|| "--forget".to_owned());
            ("clean-up", forget.into_iter().collect(), [keys_to_change(plan), credentials(plan)].concat())
        }
    };
    let mut args = vec!["step".to_owned(), name.to_owned()];
    args.extend(pod.common());
    args.extend(more);
    args.extend(["--listen".to_owned(), format!("0.0.0.0:{STANDING_PORT}")]);
    let mut template = pod.template(args, secrets);
    if let Some(spec) = &mut template.spec {
        spec.restart_policy = Some("Never".into());
        spec.automount_service_account_token = Some(part == Part::Audit);
        for container in &mut spec.containers {
            container.ports = Some(vec![port("standing", STANDING_PORT)]);
            container.readiness_probe = Some(http_probe(STANDING_PATH, "standing", 2));
        }
    }
    let is_load = part == Part::Load;
    let processes = if is_load { i32::try_from(plan.load.generators).unwrap_or(1) } else { 1 };
    let mut metadata = metadata(run, part, names::child(&run.name_any(), part));
    metadata.annotations = Some([(PLAN_ANNOTATION.to_owned(), fingerprint(plan))].into());
    Job {
        metadata,
        spec: Some(JobSpec {
            // A generator that dies is replaced, and goes on where it was; the other steps are begun anew by the operator.
            backoff_limit: Some(if is_load { GENERATOR_TRIES } else { 0 }),
            completion_mode: Some("Indexed".into()),
            completions: Some(processes),
            parallelism: Some(processes),
            pod_failure_policy: is_load.then(failures_of_generators),
            pod_replacement_policy: Some("Failed".into()),
            template,
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

/// A Secret that the manifest names, and what of it a pod needs. One Secret may hold all, and not every pod may see all.
type Needed = (String, &'static str);

fn credentials(plan: &Plan) -> Vec<Needed> {
    endpoints(plan).map(|name| (name, RPC_AUTH)).collect()
}

fn keys_to_change(plan: &Plan) -> Vec<Needed> {
    masters(plan).map(|name| (name, secret::ACCOUNT)).collect()
}

/// What tells one plan from another.
pub(crate) fn fingerprint(plan: &Plan) -> String {
    let text = serde_json::to_vec(plan).unwrap_or_default();
    hex::encode(&Sha256::digest(text)[..8])
}

/// What a generator cannot use it never can; one that was evicted did not fail.
fn failures_of_generators() -> PodFailurePolicy {
    let evicted = PodFailurePolicyOnPodConditionsPattern { type_: "DisruptionTarget".into(), status: "True".into() };
    let bad_input =
        PodFailurePolicyOnExitCodesRequirement { container_name: None, operator: "In".into(), values: vec![2] };
    PodFailurePolicy {
        rules: vec![
            PodFailurePolicyRule {
                action: "Ignore".into(),
                on_pod_conditions: Some(vec![evicted]),
                ..PodFailurePolicyRule::default()
            },
            PodFailurePolicyRule {
                action: "FailJob".into(),
                on_exit_codes: Some(bad_input),
                ..PodFailurePolicyRule::default()
            },
        ],
    }
}

/// A pod of nearbench's own image.
struct Pod<'a> {
    run: &'a BenchmarkRun,
    plan: &'a Plan,
    /// The run's Secret.
    secret: &'a str,
    kit: &'a Kit,
    part: Part,
    pods: &'a Pods,
}

impl Pod<'_> {
    /// What every process of the run is told.
    fn common(&self) -> Vec<String> {
        let id = id(self.run);
        let redis = format!("{OWN_DIR}/{}", secret::REDIS_URL);
        let args = ["--plan", PLAN_DIR, "--run-id", &id, "--keys", OWN_DIR, "--secrets", SECRETS_DIR];
        [&args[..], &["--redis-url-file", &redis]].concat().into_iter().map(str::to_owned).collect()
    }

    /// What of the run's Secret, and of the user's beside it, this part needs.
    fn own(&self) -> Vec<VolumeProjection> {
        let mut items = match self.part {
            Part::Worker => vec![secret::NAMESPACE, secret::TOKENS],
            Part::Load => vec![secret::NAMESPACE, secret::TOKEN],
            Part::Audit => vec![secret::NAMESPACE],
            _ => Vec::new(),
        };
        let mut sources = Vec::new();
        match &self.plan.account.keys {
            Keys::Generate { .. } if ![Part::Load, Part::Audit].contains(&self.part) => items.push(secret::KEYS),
            Keys::Prepared { secret } if self.part == Part::Worker => {
                sources.push(projected(secret, &[secret::KEYS], true));
            }
            Keys::Generate { .. } | Keys::Prepared { .. } => {}
        }
        match &self.plan.store {
            Store::Own => items.push(secret::REDIS_URL),
            Store::Redis { secret } => sources.push(projected(secret, &[secret::REDIS_URL], true)),
        }
        if !items.is_empty() {
            // A run that is deleted after its Secret was says so; a volume would wait for ever.
            sources.push(projected(self.secret, &items, self.part == Part::CleanUp));
        }
        sources
    }

    fn template(&self, args: Vec<String>, mut needed: Vec<Needed>) -> PodTemplateSpec {
        let Self { run, plan, kit, part, pods, .. } = self;
        if let (Keys::Prepared { secret }, Part::Provision) = (&plan.account.keys, part) {
            needed.push((secret.clone(), secret::KEYS));
        }
        let mut secrets: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
        for (secret, key) in needed {
            secrets.entry(secret).or_default().insert(key);
        }
        let mut volumes = vec![plan_volume(run), scratch_volume(), own_volume(self.own())];
        let mut mounts =
            vec![mount("plan", PLAN_DIR, true), mount("scratch", SCRATCH_DIR, false), mount("own", OWN_DIR, true)];
        for (n, (secret, keys)) in secrets.into_iter().enumerate() {
            mounts.push(mount(&super::secret_volume(n), format!("{SECRETS_DIR}/{secret}"), true));
            volumes.push(users_secret(n, secret, &keys.into_iter().collect::<Vec<_>>()));
        }
        let container = Container {
            name: part.name().into(),
            image: Some(kit.image.clone()),
            image_pull_policy: Some(kit.pull_policy.clone()),
            args: Some([kit.log_arguments(), vec!["--log".to_owned(), "info".to_owned()], args].concat()),
            resources: Some(pods.resources.clone().unwrap_or_else(usual_resources)),
            security_context: Some(restricted()),
            // The end of the log says why a step could not be done.
            termination_message_policy: Some("FallbackToLogsOnError".into()),
            volume_mounts: Some(mounts),
            ..Container::default()
        };
        let mut template = template(run, *part, pods, container, volumes);
        if let Some(metadata) = &mut template.metadata {
            let port = if *part == Part::Worker { API_PORT } else { STANDING_PORT };
            let users = metadata.annotations.take().unwrap_or_default();
            metadata.annotations = Some(super::scraped(port).chain(users).collect());
        }
        template
    }
}

fn template(
    run: &BenchmarkRun,
    part: Part,
    pods: &Pods,
    container: Container,
    volumes: Vec<Volume>,
) -> PodTemplateSpec {
    let Pods {
        replicas: _,
        resources: _,
        node_selector,
        tolerations,
        affinity,
        topology_spread_constraints,
        priority_class_name,
        image_pull_secrets,
        labels,
        annotations,
    } = pods.clone();
    let kept = NOT_TO_BE_EVICTED.map(|(key, value)| (key.to_owned(), value.to_owned()));
    let kept = kept.into_iter().filter(|_| part != Part::Worker);
    PodTemplateSpec {
        metadata: Some(ObjectMeta {
            labels: Some(labels.into_iter().chain(pod_labels(run, part)).collect()),
            annotations: some(kept.chain(annotations).collect::<BTreeMap<_, _>>()),
            ..ObjectMeta::default()
        }),
        spec: Some(PodSpec {
            affinity,
            automount_service_account_token: Some(false),
            containers: vec![container],
            enable_service_links: Some(false),
            image_pull_secrets: some(image_pull_secrets),
            node_selector: some(node_selector),
            priority_class_name,
            security_context: Some(restricted_pod()),
            service_account_name: Some(names::identity(&run.name_any())),
            termination_grace_period_seconds: Some(GRACE_S),
            tolerations: some(tolerations),
            topology_spread_constraints: some(topology_spread_constraints),
            volumes: Some(volumes),
            ..PodSpec::default()
        }),
    }
}

fn own_volume(sources: Vec<VolumeProjection>) -> Volume {
    Volume {
        name: "own".into(),
        projected: Some(ProjectedVolumeSource { default_mode: Some(0o400), sources: Some(sources) }),
        ..Volume::default()
    }
}

fn projected(secret: &str, keys: &[&str], optional: bool) -> VolumeProjection {
    VolumeProjection {
        secret: Some(SecretProjection {
            name: secret.into(),
            items: Some(keys.iter().map(|key| item(key)).collect()),
            optional: Some(optional),
        }),
        ..VolumeProjection::default()
    }
}

fn redis(run: &BenchmarkRun, secret: &str, kit: &Kit) -> StatefulSet {
    let container = Container {
        name: Part::Redis.name().into(),
        image: Some(kit.redis_image.clone()),
        image_pull_policy: Some("IfNotPresent".into()),
        command: Some(vec!["redis-server".into(), format!("{OWN_DIR}/{}", secret::REDIS_CONF)]),
        ports: Some(vec![port("redis", REDIS_PORT)]),
        readiness_probe: Some(tcp_probe("redis")),
        resources: Some(requests("100m", "128Mi")),
        security_context: Some(restricted()),
        volume_mounts: Some(vec![mount("data", DATA_DIR, false), mount("own", OWN_DIR, true)]),
        ..Container::default()
    };
    let own = own_volume(vec![projected(secret, &[secret::REDIS_CONF], false)]);
    stateful(run, Part::Redis, container, vec![own], kit)
}

fn devnet(run: &BenchmarkRun, plan: &Plan, secret: &str, kit: &Kit) -> StatefulSet {
    let (listen, home) = (format!("0.0.0.0:{DEVNET_PORT}"), format!("{DATA_DIR}/home"));
    let args =
        ["devnet", "--rpc-addr", &listen, "--home", &home, "--account", root(plan).as_str(), "--secret", OWN_DIR];
    let container = Container {
        name: Part::Devnet.name().into(),
        image: Some(kit.image.clone()),
        image_pull_policy: Some(kit.pull_policy.clone()),
        args: Some([kit.log_arguments(), args.map(str::to_owned).to_vec()].concat()),
        ports: Some(vec![port("rpc", DEVNET_PORT)]),
        readiness_probe: Some(tcp_probe("rpc")),
        resources: Some(requests("250m", "256Mi")),
        security_context: Some(restricted()),
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(vec![
            mount("data", DATA_DIR, false),
            mount("own", OWN_DIR, true),
            mount("scratch", SCRATCH_DIR, false),
        ]),
        ..Container::default()
    };
    let own = own_volume(vec![projected(secret, &[secret::ACCOUNT], false)]);
    stateful(run, Part::Devnet, container, vec![own, scratch_volume()], kit)
}

fn stateful(run: &BenchmarkRun, part: Part, container: Container, mut volumes: Vec<Volume>, kit: &Kit) -> StatefulSet {
    let name = names::child(&run.name_any(), part);
    // Where a user's workers may run, what they stand on may too.
    let pods = Pods { labels: BTreeMap::new(), annotations: BTreeMap::new(), ..run.spec.workers.clone() };
    if kit.volumes.is_none() {
        let data = Some(EmptyDirVolumeSource::default());
        volumes.push(Volume { name: "data".into(), empty_dir: data, ..Volume::default() });
    }
    StatefulSet {
        metadata: metadata(run, part, name.clone()),
        spec: Some(StatefulSetSpec {
            persistent_volume_claim_retention_policy: Some(StatefulSetPersistentVolumeClaimRetentionPolicy {
                when_deleted: Some("Delete".into()),
                when_scaled: Some("Retain".into()),
            }),
            replicas: Some(1),
            selector: LabelSelector { match_labels: Some(chosen(run, part)), ..LabelSelector::default() },
            service_name: Some(name),
            template: template(run, part, &pods, container, volumes),
            volume_claim_templates: kit.volumes.as_ref().map(|volumes| vec![claim(volumes)]),
            ..StatefulSetSpec::default()
        }),
        ..StatefulSet::default()
    }
}

fn claim(Volumes { class, size }: &Volumes) -> PersistentVolumeClaim {
    PersistentVolumeClaim {
        metadata: ObjectMeta { name: Some("data".into()), ..ObjectMeta::default() },
        spec: Some(PersistentVolumeClaimSpec {
            access_modes: Some(vec!["ReadWriteOnce".into()]),
            resources: Some(VolumeResourceRequirements {
                requests: Some([("storage".to_owned(), Quantity(size.clone()))].into()),
                ..VolumeResourceRequirements::default()
            }),
            storage_class_name: class.clone(),
            ..PersistentVolumeClaimSpec::default()
        }),
        ..PersistentVolumeClaim::default()
    }
}

/// The labels that choose the pods of one part.
fn chosen(run: &BenchmarkRun, part: Part) -> BTreeMap<String, String> {
    let mut labels = all_of(run);
    labels.insert(PART_LABEL.to_owned(), part.name().to_owned());
    labels
}

/// The labels that choose all pods of the run.
fn all_of(run: &BenchmarkRun) -> BTreeMap<String, String> {
    [(RUN_LABEL.to_owned(), run.name_any()), (UID_LABEL.to_owned(), run.uid().unwrap_or_default())].into()
}

/// One address for all pods of a part, or, headless, a name that leads to each, whether it is ready or not: for whoever looks
/// at every one.
fn service(run: &BenchmarkRun, part: Part, port: u16, headless: bool) -> Service {
    let name = names::child(&run.name_any(), part);
    Service {
        metadata: metadata(run, part, if headless { format!("{name}s") } else { name }),
        spec: Some(ServiceSpec {
            cluster_ip: headless.then(|| "None".to_owned()),
            ports: Some(vec![ServicePort { port: port.into(), ..ServicePort::default() }]),
            publish_not_ready_addresses: headless.then_some(true),
            selector: Some(chosen(run, part)),
            ..ServiceSpec::default()
        }),
        ..Service::default()
    }
}

fn budget(run: &BenchmarkRun, part: Part, max_unavailable: i32) -> PodDisruptionBudget {
    PodDisruptionBudget {
        metadata: metadata(run, part, names::child(&run.name_any(), part)),
        spec: Some(PodDisruptionBudgetSpec {
            max_unavailable: Some(IntOrString::Int(max_unavailable)),
            selector: Some(LabelSelector { match_labels: Some(chosen(run, part)), ..LabelSelector::default() }),
            ..PodDisruptionBudgetSpec::default()
        }),
        ..PodDisruptionBudget::default()
    }
}

/// The run's Redis and chain are for its own pods alone.
fn only_for_the_run(run: &BenchmarkRun, part: Part) -> NetworkPolicy {
    let pods = |labels| LabelSelector { match_labels: Some(labels), ..LabelSelector::default() };
    NetworkPolicy {
        metadata: metadata(run, part, names::child(&run.name_any(), part)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(pods(chosen(run, part))),
            policy_types: Some(vec!["Ingress".into()]),
            ingress: Some(vec![NetworkPolicyIngressRule {
                from: Some(vec![NetworkPolicyPeer {
                    pod_selector: Some(pods(all_of(run))),
                    ..NetworkPolicyPeer::default()
                }]),
                ..NetworkPolicyIngressRule::default()
            }]),
            ..NetworkPolicySpec::default()
        }),
    }
}

/// Link-local addresses lead to the metadata of clouds, and a manifest may name any endpoint.
fn metadata_is_out_of_reach(run: &BenchmarkRun) -> NetworkPolicy {
    let block = |cidr: &str, except: &[&str]| NetworkPolicyPeer {
        ip_block: Some(IPBlock {
            cidr: cidr.into(),
            except: Some(except.iter().map(|cidr| (*cidr).to_owned()).collect()),
        }),
        ..NetworkPolicyPeer::default()
    };
    let names = |protocol: &str| NetworkPolicyPort {
        port: Some(IntOrString::Int(53)),
        protocol: Some(protocol.into()),
        ..NetworkPolicyPort::default()
    };
    let (v4, v6) = (block("0.0.0.0/0", &["169.254.0.0/16"]), block("::/0", &["fe80::/10", "fd00:ec2::254/128"]));
    NetworkPolicy {
        metadata: metadata(run, Part::Run, names::child(&run.name_any(), Part::Run)),
        spec: Some(NetworkPolicySpec {
            pod_selector: Some(LabelSelector { match_labels: Some(all_of(run)), ..LabelSelector::default() }),
            policy_types: Some(vec!["Egress".into()]),
            egress: Some(vec![
                NetworkPolicyEgressRule { to: Some(vec![v4, v6]), ..NetworkPolicyEgressRule::default() },
                // A node's own cache of names may have such an address.
                NetworkPolicyEgressRule {
                    ports: Some(vec![names("UDP"), names("TCP")]),
                    ..NetworkPolicyEgressRule::default()
                },
            ]),
            ..NetworkPolicySpec::default()
        }),
    }
}

fn port(name: &str, port: u16) -> ContainerPort {
    ContainerPort { name: Some(name.into()), container_port: port.into(), ..ContainerPort::default() }
}

fn http_probe(path: &str, port: &str, period_seconds: i32) -> Probe {
    Probe {
        http_get: Some(HTTPGetAction {
            path: Some(path.into()),
            port: IntOrString::String(port.into()),
            ..HTTPGetAction::default()
        }),
        period_seconds: Some(period_seconds),
        timeout_seconds: Some(5),
        ..Probe::default()
    }
}

fn tcp_probe(port: &str) -> Probe {
    Probe {
        tcp_socket: Some(TCPSocketAction { port: IntOrString::String(port.into()), ..TCPSocketAction::default() }),
        period_seconds: Some(2),
        ..Probe::default()
    }
}

fn requests(cpu: &str, memory: &str) -> ResourceRequirements {
    let requests = [("cpu", cpu), ("memory", memory)];
    ResourceRequirements {
        requests: Some(requests.map(|(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned()))).into()),
        ..ResourceRequirements::default()
    }
}
