//! The objects that carry a run out, as values. Nothing is applied here.
//!
//! One pod is all: it runs `nearbench run` on the plan, may write the run's report and nothing else, and meets the
//! restricted Pod Security Standard.

use crate::{
    document::{self, DocumentError, Packed},
    names::{self, RUN_LABEL, STANDING_PATH, STANDING_PORT, UID_LABEL},
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

/// The image that runs are carried out with: that of the operator itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// Its reference.
    pub reference: String,
    /// `Always`, `IfNotPresent` or `Never`.
    pub pull_policy: String,
}

/// The user of the image; no user of the node.
const USER: i64 = 65_532;
const PLAN_DIR: &str = "/etc/nearbench/plan";
const SECRETS_DIR: &str = "/etc/nearbench/secrets";
const SCRATCH_DIR: &str = "/tmp";
/// The keys under which a run's Secrets may hold something for it. Others are not mounted, so that no other Secret can
/// be sent anywhere by naming it.
const SECRET_KEYS: [&str; 4] =
    ["nearbench-account.json", "nearbench-keys.json", "nearbench-rpc-auth", "nearbench-redis-url"];

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
        metadata: metadata(run, names::plan(&run.name_any())),
        data: (!data.is_empty()).then_some(data),
        binary_data: (!binary_data.is_empty()).then_some(binary_data),
        ..ConfigMap::default()
    })
}

/// The place for a run's report: the operator makes it, and the run's pod fills it.
pub(crate) fn place_for_report(run: &BenchmarkRun) -> ConfigMap {
    ConfigMap { metadata: metadata(run, names::report(&run.name_any())), ..ConfigMap::default() }
}

/// What carries `run` out, by its plan.
pub fn children(run: &BenchmarkRun, plan: &Plan, image: &Image) -> Children {
    let name = run.name_any();
    let namespace = run.namespace();
    let identity = names::identity(&name);
    Children {
        service_account: ServiceAccount { metadata: metadata(run, identity.clone()), ..ServiceAccount::default() },
        role: Role {
            metadata: metadata(run, identity.clone()),
            rules: Some(vec![PolicyRule {
                api_groups: Some(vec![String::new()]),
                resources: Some(vec!["configmaps".into()]),
                resource_names: Some(vec![names::report(&name)]),
                verbs: vec!["patch".into()],
                ..PolicyRule::default()
            }]),
        },
        role_binding: RoleBinding {
            metadata: metadata(run, identity.clone()),
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
        job: job(run, plan, image, identity),
    }
}

fn metadata(run: &BenchmarkRun, name: String) -> ObjectMeta {
    ObjectMeta {
        name: Some(name),
        namespace: run.namespace(),
        labels: Some(labels(run)),
        owner_references: run.controller_owner_ref(&()).map(|owner| {
            // Whoever deletes a run in the foreground need not wait for it.
            vec![OwnerReference { block_owner_deletion: None, ..owner }]
        }),
        ..ObjectMeta::default()
    }
}

fn labels(run: &BenchmarkRun) -> BTreeMap<String, String> {
    let labels = [
        ("app.kubernetes.io/name", "nearbench".to_owned()),
        ("app.kubernetes.io/component", "run".to_owned()),
        ("app.kubernetes.io/managed-by", names::MANAGER.to_owned()),
        (RUN_LABEL, run.name_any()),
    ];
    labels.map(|(key, value)| (key.to_owned(), value)).into()
}

fn pod_labels(run: &BenchmarkRun) -> BTreeMap<String, String> {
    let mut labels = labels(run);
    labels.insert(UID_LABEL.to_owned(), run.uid().unwrap_or_default());
    labels
}

/// The label selector that finds the pods of `run`, as text.
pub(crate) fn selector(run: &str) -> String {
    format!("{RUN_LABEL}={run}")
}

fn job(run: &BenchmarkRun, plan: &Plan, image: &Image, identity: String) -> Job {
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
        metadata: metadata(run, run.name_any()),
        spec: Some(JobSpec {
            // A second pod would sign from the start again, and could pay twice what the first one sent.
            backoff_limit: Some(0),
            completions: Some(1),
            parallelism: Some(1),
            pod_replacement_policy: Some("Failed".into()),
            template: PodTemplateSpec {
                metadata: Some(ObjectMeta {
                    labels: Some(own_labels.into_iter().chain(pod_labels(run)).collect()),
                    annotations: some(annotations),
                    ..ObjectMeta::default()
                }),
                spec: Some(PodSpec {
                    affinity,
                    containers: vec![container(run, plan, image)],
                    image_pull_secrets: some(image_pull_secrets),
                    node_selector: some(node_selector),
                    priority_class_name,
                    restart_policy: Some("Never".into()),
                    security_context: Some(PodSecurityContext {
                        fs_group: Some(USER),
                        run_as_group: Some(USER),
                        run_as_non_root: Some(true),
                        run_as_user: Some(USER),
                        seccomp_profile: Some(SeccompProfile {
                            type_: "RuntimeDefault".into(),
                            ..SeccompProfile::default()
                        }),
                        ..PodSecurityContext::default()
                    }),
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

fn container(run: &BenchmarkRun, plan: &Plan, image: &Image) -> Container {
    let mount = |name: &str, path: String, read_only| VolumeMount {
        name: name.into(),
        mount_path: path,
        read_only: Some(read_only),
        ..VolumeMount::default()
    };
    let mut mounts = vec![mount("plan", PLAN_DIR.into(), true), mount("scratch", SCRATCH_DIR.into(), false)];
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
        image: Some(image.reference.clone()),
        image_pull_policy: Some(image.pull_policy.clone()),
        args: Some(args.map(str::to_owned).to_vec()),
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
        security_context: Some(SecurityContext {
            allow_privilege_escalation: Some(false),
            capabilities: Some(Capabilities { drop: Some(vec!["ALL".into()]), ..Capabilities::default() }),
            read_only_root_filesystem: Some(true),
            ..SecurityContext::default()
        }),
        // The end of the log says why a run could not be carried out.
        termination_message_policy: Some("FallbackToLogsOnError".into()),
        volume_mounts: Some(mounts),
        ..Container::default()
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
    let mut volumes = vec![
        Volume {
            name: "plan".into(),
            config_map: Some(ConfigMapVolumeSource {
                name: names::plan(&run.name_any()),
                ..ConfigMapVolumeSource::default()
            }),
            ..Volume::default()
        },
        Volume { name: "scratch".into(), empty_dir: Some(EmptyDirVolumeSource::default()), ..Volume::default() },
    ];
    let keys = || {
        let key = |key: &str| KeyToPath { key: key.into(), path: key.into(), mode: None };
        SECRET_KEYS.map(key).to_vec()
    };
    volumes.extend(secrets(plan).into_iter().enumerate().map(|(n, secret)| Volume {
        name: secret_volume(n),
        secret: Some(SecretVolumeSource {
            secret_name: Some(secret),
            items: Some(keys()),
            default_mode: Some(0o400),
            // Where something is missing the run itself says what, and by which field; a volume would wait for ever.
            optional: Some(true),
        }),
        ..Volume::default()
    }));
    volumes
}

fn secret_volume(n: usize) -> String {
    format!("secret-{n}")
}

/// The names of the Secrets that the plan needs.
fn secrets(plan: &Plan) -> BTreeSet<String> {
    let account = &plan.account;
    let prepared = match &account.keys {
        Keys::Prepared { secret } => Some(secret),
        Keys::Generate { .. } => None,
    };
    let redis = match &plan.store {
        Store::Redis { secret } => Some(secret),
        Store::Own => None,
    };
    let funder = account.create_from.as_ref().and_then(|from| from.secret.as_ref());
    let endpoints = plan.network.endpoints.iter().filter_map(|endpoint| endpoint.auth_secret.as_ref());
    [account.master_key_secret.as_ref(), funder, prepared, redis]
        .into_iter()
        .flatten()
        .chain(endpoints)
        .cloned()
        .collect()
}

/// Server-side apply takes an absent list, and an empty one differently.
fn some<T: IntoIterator + Default + PartialEq>(values: T) -> Option<T> {
    (values != T::default()).then_some(values)
}
