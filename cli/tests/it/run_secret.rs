//! The Secret that the operator makes for a run with workers, as those read it who do: the operator knows none of them.

use crate::harness::Folder;
use jiff::Timestamp;
use nearbench_core::Plan;
use nearbench_crds::{BenchmarkRun, Resolve};
use nearbench_near::{
    Signer,
    keyfile::{self, ACCOUNT_FILE, KEYS_FILE},
};
use nearbench_operator::{
    FINALIZER,
    decisions::{Act, Made, Observed, decide, secret},
};
use nearbench_store::RedisUrl;
use nearbench_worker::{Grant, Scope, Tokens};
use serde_json::Value;
use std::{collections::BTreeMap, fs, sync::Arc};

/// The quickstart, on a chain and with a Redis of its own.
fn run() -> (BenchmarkRun, Plan) {
    let mut run = nearbench_crds::parse(include_str!("../../../examples/quickstart.yaml")).unwrap();
    run.metadata.namespace = Some("bench".into());
    run.metadata.uid = Some("8b5e6f7a-0000-4000-8000-000000000001".into());
    let plan = nearbench_crds::plan(&run, &Resolve { on_devnet: false, config_map: &|_| None }).unwrap();
    (run, plan)
}

/// What the Secret holds, also as files, as a pod sees them.
fn contents(run: &BenchmarkRun, plan: &Plan, made: &Made) -> (Folder, BTreeMap<String, String>) {
    let folder = Folder::new();
    let data = secret(run, plan, made).data.unwrap();
    let texts: BTreeMap<_, _> =
        data.into_iter().map(|(key, bytes)| (key, String::from_utf8(bytes.0).unwrap())).collect();
    for (key, text) in &texts {
        folder.write(key, text);
    }
    (folder, texts)
}

#[test]
fn its_keys_are_read_back_and_are_those_that_the_status_names() {
    let (mut run, plan) = run();
    let made = Made::for_plan(&plan, rand::random);
    let (folder, _) = contents(&run, &plan, &made);
    let account = "bench.test.near".parse().unwrap();
    let keys = keyfile::read_keys(&folder.path().join(KEYS_FILE), &account).unwrap();
    assert_eq!(keys.len(), 12);
    let owner = keyfile::read_account(&folder.path().join(ACCOUNT_FILE), &"test.near".parse().unwrap()).unwrap();
    assert!(keys.iter().all(|key| key.public_key() != owner.public_key()));

    run.metadata.finalizers = Some(vec![FINALIZER.into()]);
    let mut observed = Observed::waiting(Arc::new(run), Ok(plan));
    observed.made = Some(made);
    let status = decide(&observed, Timestamp::UNIX_EPOCH).status;
    assert_eq!(status.public_keys, keys.iter().map(Signer::public_key).collect::<Vec<_>>());
}

#[test]
fn its_tokens_are_known_to_the_workers_as_if_nearbench_token_had_made_them() {
    let (run, plan) = run();
    let made = Made::for_plan(&plan, rand::random);
    let (folder, texts) = contents(&run, &plan, &made);
    let tokens = Tokens::read(&folder.path().join("nearbench-tokens")).unwrap();
    assert_eq!(format!("{tokens:?}"), r#"["load", "client"]"#);
    let lines: Vec<Value> = texts["nearbench-tokens"].lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let table = [
        ("nearbench-token", "load", vec![Scope::Transfer]),
        ("nearbench-client-token", "client", vec![Scope::Transfer, Scope::Read]),
    ];
    for ((key, name, scopes), line) in table.into_iter().zip(&lines) {
        let mut random = [0; 32];
        hex::decode_to_slice(texts[key].strip_prefix("nbt_").unwrap(), &mut random).unwrap();
        let grant = Grant { name: name.into(), scopes, requests_per_second: None, daily_cap: None };
        let (token, same) = grant.token(random).unwrap();
        assert_eq!(token.expose(), texts[key]);
        assert_eq!(&serde_json::from_str::<Value>(&same).unwrap(), line);
    }
}

#[test]
fn its_redis_asks_for_the_password_that_its_url_has() {
    let (run, plan) = run();
    let (_, texts) = contents(&run, &plan, &Made::for_plan(&plan, rand::random));
    let url = &texts["nearbench-redis-url"];
    RedisUrl::parse(url).unwrap();
    let password = url.strip_prefix("redis://:").unwrap().strip_suffix("@quickstart-redis.bench.svc:6379").unwrap();
    assert_eq!(password.len(), 64);
    let conf = &texts["redis.conf"];
    assert!(conf.lines().any(|line| line == format!("requirepass {password}")));
    for must in ["appendonly yes", "maxmemory-policy noeviction", "dir /data"] {
        assert!(conf.lines().any(|line| line == must), "{must}");
    }
    let mut namespace = [0; 32];
    hex::decode_to_slice(&texts["nearbench-namespace"], &mut namespace).unwrap();
}

/// Everything in the Secret that nobody may see.
fn hidden(texts: &BTreeMap<String, String>) -> Vec<String> {
    let keys: Value = serde_json::from_str(&texts[KEYS_FILE]).unwrap();
    let owner: Value = serde_json::from_str(&texts[ACCOUNT_FILE]).unwrap();
    let private = keys["keys"].as_array().unwrap().iter().chain([&owner]);
    let mut hidden: Vec<_> = private.map(|key| key["private_key"].as_str().unwrap().to_owned()).collect();
    hidden.extend(["nearbench-namespace", "nearbench-token", "nearbench-client-token"].map(|key| texts[key].clone()));
    hidden.push(texts["nearbench-redis-url"].clone());
    hidden.push(texts["redis.conf"].rsplit_once("requirepass ").unwrap().1.trim().to_owned());
    hidden
}

#[test]
fn nothing_of_it_shows_where_it_is_decided_on() {
    let (mut run, plan) = run();
    let made = Made::for_plan(&plan, rand::random);
    let (_, texts) = contents(&run, &plan, &made);
    run.metadata.finalizers = Some(vec![FINALIZER.into()]);
    let mut observed = Observed::waiting(Arc::new(run), Ok(plan));
    observed.made = Some(made.clone());
    let decision = decide(&observed, Timestamp::UNIX_EPOCH);
    assert!(decision.acts.iter().any(|act| matches!(act, Act::Conceal(..))));
    let shown = format!("{made:?} {observed:?} {decision:?} {}", serde_json::to_string(&decision.status).unwrap());
    let hidden = hidden(&texts);
    assert_eq!(hidden.len(), 18);
    for secret in hidden {
        let bare = secret.trim_start_matches("ed25519:").trim_start_matches("nbt_");
        assert!(!shown.contains(bare), "{shown}");
    }
}

#[test]
fn no_two_runs_share_anything_of_it() {
    let (run, plan) = run();
    let [one, other] = [(); 2].map(|()| {
        let made = Made::for_plan(&plan, rand::random);
        (secret(&run, &plan, &made).metadata.name.unwrap(), hidden(&contents(&run, &plan, &made).1))
    });
    assert_ne!(one.0, other.0);
    assert!(one.0.starts_with("quickstart-") && one.0.len() == "quickstart-".len() + 10);
    assert!(one.1.iter().all(|secret| !other.1.contains(secret)));
}

/// A pod reads its part of the Secret under the names that the processes look for.
#[test]
fn its_files_are_called_as_they_are_looked_for() {
    let (run, plan) = run();
    let (folder, _) = contents(&run, &plan, &Made::for_plan(&plan, rand::random));
    let mut names: Vec<_> =
        fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort_unstable();
    assert_eq!(
        names,
        [
            "nearbench-account.json",
            "nearbench-client-token",
            "nearbench-keys.json",
            "nearbench-namespace",
            "nearbench-redis-url",
            "nearbench-token",
            "nearbench-tokens",
            "redis.conf",
        ]
    );
}
