//! The objects that carry a run out.

mod fleet;

use crate::world::{plan, run};
use expect_test::expect_file;
use nearbench_operator::{
    Kit,
    decisions::{Children, children},
};

fn kit() -> Kit {
    Kit {
        json_logs: false,
        image: "nearbench:0.1.0".into(),
        pull_policy: "IfNotPresent".into(),
        redis_image: "redis:7.2".into(),
        volumes: None,
    }
}

#[test]
fn the_quickstarts_objects_are_the_committed_ones() {
    let run = run();
    let Children { service_account, role, role_binding, job } = children(&run, &plan(&run), &kit());
    let parts = [
        serde_saphyr::to_string(&service_account),
        serde_saphyr::to_string(&role),
        serde_saphyr::to_string(&role_binding),
        serde_saphyr::to_string(&job),
    ];
    let built = parts.map(Result::unwrap).join("---\n");
    expect_file!["quickstart.yaml"].assert_eq(&built);
}

#[test]
fn only_secrets_of_the_plan_are_mounted_and_only_their_known_keys() {
    let text = include_str!("../../../crds/tests/manifests/base.yaml");
    let run = nearbench_crds::parse(text).unwrap();
    let pod = children(&run, &plan(&run), &kit()).job.spec.unwrap().template.spec.unwrap();
    let secrets: Vec<_> = pod.volumes.unwrap().into_iter().filter_map(|volume| volume.secret).collect();
    let names: Vec<_> = secrets.iter().map(|secret| secret.secret_name.as_deref().unwrap()).collect();
    assert_eq!(names, ["funder", "rpc"]);
    for secret in secrets {
        assert!(secret.items.unwrap().iter().all(|item| item.key.starts_with("nearbench-")));
    }
    let mounts = pod.containers[0].volume_mounts.clone().unwrap();
    assert!(
        mounts.iter().any(|mount| mount.mount_path == "/etc/nearbench/secrets/funder" && mount.read_only == Some(true))
    );
}

#[test]
fn a_users_labels_do_not_hide_a_pod_from_its_run() {
    let mut run = run();
    run.spec.workers.labels.insert("nearbench.dev/run".into(), "other".into());
    run.spec.workers.labels.insert("team".into(), "a".into());
    let pod = children(&run, &plan(&run), &kit()).job.spec.unwrap().template.metadata.unwrap();
    let labels = pod.labels.unwrap();
    assert_eq!((labels["nearbench.dev/run"].as_str(), labels["team"].as_str()), ("quickstart", "a"));
}
