//! The objects that carry a run out, as values. Nothing is applied here. What is here is what all have; those of a run with
//! worker processes are in `fleet`.
//!
//! Without workers one pod is all: it runs `nearbench run` on the plan, may write the run's report and nothing else, and meets the
//! restricted Pod Security Standard.

pub(crate) mod fleet;

use crate::{
    document::{self, DocumentError, Packed},
    names::{self, PART_LABEL, Part, RUN_LABEL, STANDING_PATH, STANDING_PORT, UID_LABEL},
    secret,
};
use k8s_openapi::{
    api::{
        batch::v1::{Job, JobSpec},
        core::v1::{
            Capabilities, ConfigMap, ConfigMapVolumeSource, Container, ContainerPort, EmptyDirVolumeSource,
            HTTPGetAction, KeyToPath, PodSecurityContext, PodSpec, PodTemplateSpec, Probe, ResourceRequirements,
            SeccompProfile, SecretVolumeSource, SecurityContext, ServiceAccount, Volume, VolumeMount,
        },
        rbac::v1::{PolicyRule, Role, RoleBinding, RoleRef, Subject},
    },
    apimachinery::pkg::{
        api::resource::Quantity,
        apis::meta::v1::{ObjectMeta, OwnerReference},
        util::intstr::IntOrString,
    },
};
use kube::{Resource, ResourceExt};
use nearbench_core::{
    Plan,
    lifecycle::Deadlines,
    plan::{Keys, Store},
};
use nearbench_crds::{BenchmarkRun, Pods};
use std::collections::{BTreeMap, BTreeSet};

/// What runs are carried out with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kit {
    /// The reference of the image: that of the operator itself.
    pub image: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
    /// The reference of an image with `redis-server` on its path, for the Redis of a run's own.
    pub redis_image: String,
    /// Where a run's own Redis and chain keep their data; `None`: with their pods.
    pub volumes: Option<Volumes>,
    /// Whether the pods of runs write each line of their logs as a JSON object.
    pub json_logs: bool,
}

impl Kit {
    /// What every pod of a run is told about its log, before its role.
    fn log_arguments(&self) -> Vec<String> {
        let format: &[&str] = if self.json_logs { &["--log-format", "json"] } else { &[] };
        format.iter().map(|argument| (*argument).to_owned()).collect()
    }
}

/// Volumes for data that outlives a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Volumes {
    /// Their storage class; `None`: the cluster's own choice.
    pub class: Option<String>,
    /// The size of each, as Kubernetes writes it.
    pub size: String,
}

/// The user of the image; no user of the node.
const USER: i64 = 65_532;
const PLAN_DIR: &str = "/etc/nearbench/plan";
const SECRETS_DIR: &str = "/etc/nearbench/secrets";
const SCRATCH_DIR: &str = "/tmp";
/// The keys under which a run's Secrets may hold something for it. Others are not mounted, so that no other Secret can
/// be sent anywhere by naming it.
const SECRET_KEYS: [&str; 4] = [secret::ACCOUNT, secret::KEYS, RPC_AUTH, secret::REDIS_URL];
/// The credentials for an endpoint.
const RPC_AUTH: &str = "nearbench-rpc-auth";

/// Everything that a run's pod needs, and its Job.
#[derive(Clone, Debug, PartialEq)]
pub struct Children {
    /// Who the pod is.
    pub service_account: ServiceAccount,
    /// What it may do.
    pub role: Role,
    /// That it may.
    pub role_binding: RoleBinding,
    /// The pod.
    pub job: Job,
}

/// The ConfigMap of a run's plan.
///
/// # Errors
/// When the plan is too large for one.
pub(crate) fn stored_plan(run: &BenchmarkRun, plan: &Plan) -> Result<ConfigMap, DocumentError> {
    let text = serde_json::to_string_pretty(plan).unwrap_or_default();
    let Packed { data, binary_data } = document::pack(document::PLAN, &text)?;
    Ok(ConfigMap {
        metadata: metadata(run, Part::Run, names::plan(&run.name_any())),
        data: (!data.is_empty()).then_some(data),
        binary_data: (!binary_data.is_empty()).then_some(binary_data),
        ..ConfigMap::default()
    })
}

/// The place for a run's report: the operator makes it, and the run's pod fills it.
pub(crate) fn place_for_report(run: &BenchmarkRun) -> ConfigMap {
    ConfigMap { metadata: metadata(run, Part::Run, names::report(&run.name_any())), ..ConfigMap::default() }
}

/// What carries `run` out, by its plan.
pub fn children(run: &BenchmarkRun, plan: &Plan, kit: &Kit) -> Children {
    let name = run.name_any();
    let namespace = run.namespace();
    let identity = names::identity(&name);
    Children {
        service_account: ServiceAccount {
            metadata: metadata(run, Part::Run, identity.clone()),
            ..ServiceAccount::default()
        },
        role: Role {
            metadata: metadata(run, Part::Run, identity.clone()),
            rules: Some(vec![PolicyRule {
                api_groups: Some(vec![String::new()]),
                resources: Some(vec!["configmaps".into()]),
                resource_names: Some(vec![names::report(&name)]),
                verbs: vec!["patch".into()],
                ..PolicyRule::default()
            }]),
        },
        role_binding: RoleBinding {
            metadata: metadata(run, Part::Run, identity.clone()),
            role_ref: RoleRef {
                api_group: "rbac.authorization.k8s.io".into(),
                kind: "Role".into(),
                name: identity.clone(),
            },
            subjects: Some(vec![Subject {
                kind: "ServiceAccount".into(),
                name: identity.clone(),
                namespace,
                ..Subject::default()
            }]),
        },
        job: job(run, plan, kit, identity),
    }
}

fn metadata(run: &BenchmarkRun, part: Part, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: run.namespace(),
        labels: Some(labels(run, part)),
        owner_references: run.controller_owner_ref(&()).map(|owner| {
            // Whoever deletes a run in the foreground need not wait for it.
            vec![OwnerReference { block_owner_deletion: None, ..owner }]
        }),
        ..ObjectMeta::default()
    }
}

fn labels(run: &BenchmarkRun, part: Part) -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/name", "nearbench".to_owned()),
        (PART_LABEL, part.name().to_owned()),
        ("app.kubernetes.io/managed-by", names::MANAGER.to_owned()),
        (RUN_LABEL, run.name_any()),
    ];
    labels.map(|(key, value)| (key.to_owned(), value)).into()
}

fn pod_labels(run: &BenchmarkRun, part: Part) -> BTreeMap<String, String> {
    let mut labels = labels(run, part);
    labels.insert(UID_LABEL.to_owned(), run.uid().unwrap_or_default());
    labels
}

/// By what a Prometheus without an operator finds whom to ask for `/metrics`.
fn scraped(port: u16) -> impl Iterator<Item = (String, String)> {
    let port = port.to_string();
    [("scrape", "true"), ("port", &port), ("path", "/metrics")]
        .map(|(name, value)| (format!("prometheus.io/{name}"), value.to_owned()))
        .into_iter()
}

/// The label selector that finds the pods of `run`, as text.
pub(crate) fn selector(run: &str) -> String {
    format!("{RUN_LABEL}={run}")
}

fn job(run: &BenchmarkRun, plan: &Plan, kit: &Kit, identity: String) -> Job {
    let Pods {
        replicas: _,
        resources: _,
        node_selector,
        tolerations,
        affinity,
        topology_spread_constraints,
        priority_class_name,
        image_pull_secrets,
        labels: own_labels,
        annotations,
    } = run.spec.workers.clone();
    let deadlines = Deadlines::of(plan);
    let grace_ms = deadlines.drain_ms + deadlines.audit_ms + deadlines.report_ms + deadlines.clean_up_ms;
    Job {
        metadata: metadata(run, Part::Run, run.name_any()),
        spec: Some(JobSpec {
            // A second pod would sign from the start again, and could pay twice what the first one sent.
            backoff_limit: Some(0),
            completions: Some(1),
            parallelism: Some(1),
            pod_replacement_policy: Some("Failed".into()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(own_labels.into_iter().chain(pod_labels(run, Part::Run)).collect()),
                    annotations: some(scraped(STANDING_PORT).chain(annotations).collect::<BTreeMap<_, _>>()),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    affinity,
                    containers: vec![container(run, plan, kit)],
                    image_pull_secrets: some(image_pull_secrets),
                    node_selector: some(node_selector),
                    priority_class_name,
                    restart_policy: Some("Never".into()),
                    security_context: Some(restricted_pod()),
                    service_account_name: Some(identity),
                    // A run that is stopped or deleted works off what it accepted, and takes its keys off the account.
                    termination_grace_period_seconds: Some(i64::try_from(grace_ms / 1_000).unwrap_or(i64::MAX)),
                    tolerations: some(tolerations),
                    topology_spread_constraints: some(topology_spread_constraints),
                    volumes: Some(volumes(run, plan)),
                    ..PodSpec::default()
                }),
            },
            ..JobSpec::default()
        }),
        ..Job::default()
    }
}

fn container(run: &BenchmarkRun, plan: &Plan, kit: &Kit) -> Container {
    let mut mounts = vec![mount("plan", PLAN_DIR, true), mount("scratch", SCRATCH_DIR, false)];
    for (n, secret) in secrets(plan).into_iter().enumerate() {
        mounts.push(mount(&secret_volume(n), format!("{SECRETS_DIR}/{secret}"), true));
    }
    let report = names::report(&run.name_any());
    let listen = format!("0.0.0.0:{STANDING_PORT}");
    let out = format!("{SCRATCH_DIR}/out");
    let args = [
        "run",
        "--plan",
        PLAN_DIR,
        "--secrets",
        SECRETS_DIR,
        "--out",
        &out,
        "--report-to",
        &report,
        "--listen",
        &listen,
    ];
    Container {
        name: "run".into(),
        image: Some(kit.image.clone()),
        image_pull_policy: Some(kit.pull_policy.clone()),
        args: Some([kit.log_arguments(), args.map(str::to_owned).to_vec()].concat()),
        ports: Some(vec![ContainerPort {
            name: Some("standing".into()),
            container_port: i32::from(STANDING_PORT),
            ..ContainerPort::default()
        }]),
        readiness_probe: Some(Probe {
            http_get: Some(HTTPGetAction {
                path: Some(STANDING_PATH.into()),
                port: IntOrString::String("standing".into()),
                ..HTTPGetAction::default()
            }),
            period_seconds: Some(2),
            ..Probe::default()
        }),
        resources: Some(run.spec.workers.resources.clone().unwrap_or_else(usual_resources)),
        security_context: Some(restricted()),
        // The end of the log says why a run could not be carried out.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(mounts),
        ..Container::default()
    }
}

/// What the restricted Pod Security Standard asks of a pod.
fn restricted_pod() -> PodSecurityContext {
    PodSecurityContext {
        fs_group: Some(USER),
        run_as_group: Some(USER),
        run_as_non_root: Some(true),
        run_as_user: Some(USER),
        seccomp_profile: Some(SeccompProfile { type_: "RuntimeDefault".into(), ..SeccompProfile::default() }),
        ..PodSecurityContext::default()
    }
}

/// And of a container.
fn restricted() -> SecurityContext {
    SecurityContext {
        allow_privilege_escalation: Some(false),
        capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
        read_only_root_filesystem: Some(true),
        ..SecurityContext::default()
    }
}

/// What a run needs that says nothing. No limits: a throttled run would be inconclusive.
fn usual_resources() -> ResourceRequirements {
    let requests = [("cpu", "250m"), ("memory", "256Mi")];
    ResourceRequirements {
        requests: Some(requests.map(|(name, quantity)| (name.to_owned(), Quantity(quantity.to_owned()))).into()),
        ..ResourceRequirements::default()
    }
}

fn volumes(run: &BenchmarkRun, plan: &Plan) -> Vec<Volume> {
    let mut volumes = vec![plan_volume(run), scratch_volume()];
    volumes.extend(secrets(plan).into_iter().enumerate().map(|(n, name)| users_secret(n, name, &SECRET_KEYS)));
    volumes
}

fn plan_volume(run: &BenchmarkRun) -> Volume {
    Volume {
        name: "plan".into(),
        config_map: Some(ConfigMapVolumeSource {
            name: names::plan(&run.name_any()),
            ..ConfigMapVolumeSource::default()
        }),
        ..Volume::default()
    }
}

fn scratch_volume() -> Volume {
    Volume { name: "scratch".into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() }
}

/// A Secret that the manifest names: of it only what is meant for nearbench, and for this pod.
fn users_secret(n: usize, name: String, keys: &[&str]) -> Volume {
    Volume {
        name: secret_volume(n),
        secret: Some(SecretVolumeSource {
            secret_name: Some(name),
            items: Some(keys.iter().map(|key| item(key)).collect()),
            default_mode: Some(0o400),
            // Where something is missing the run itself says what, and by which field; a volume would wait for ever.
            optional: Some(true),
        }),
        ..Volume::default()
    }
}

fn item(key: &str) -> KeyToPath {
    KeyToPath { key: key.into(), path: key.into(), mode: None }
}

fn mount(name: &str, path: impl Into<String>, read_only: bool) -> VolumeMount {
    VolumeMount { name: name.into(), mount_path: path.into(), read_only: Some(read_only), ..VolumeMount::default() }
}

fn secret_volume(n: usize) -> String {
    format!("secret-{n}")
}

/// The names of the Secrets that the plan needs.
fn secrets(plan: &Plan) -> BTreeSet<String> {
    let prepared = match &plan.account.keys {
        Keys::Prepared { secret } => Some(secret),
        Keys::Generate { .. } => None,
    };
    let redis = match &plan.store {
        Store::Redis { secret } => Some(secret),
        Store::Own => None,
    };
    let others = [prepared, redis].into_iter().flatten().cloned();
    masters(plan).chain(endpoints(plan)).chain(others).collect()
}

/// Those with keys that may change the account.
fn masters(plan: &Plan) -> impl Iterator<Item = String> {
    let account = &plan.account;
    let funder = account.create_from.as_ref().and_then(|from| from.secret.as_ref());
    [account.master_key_secret.as_ref(), funder].into_iter().flatten().cloned()
}

/// Those with credentials for endpoints.
fn endpoints(plan: &Plan) -> impl Iterator<Item = String> {
    plan.network.endpoints.iter().filter_map(|endpoint| endpoint.auth_secret.clone())
}

/// Server-side apply takes an absent list, and an empty one differently.
fn some<T: IntoIterator + Default + PartialEq>(values: T) -> Option<T> {
    (values != T::default()).then_some(values)
}
