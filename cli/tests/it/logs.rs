//! Logs for machines: each line of each process of a run is an object that names the run, and a transfer can be followed
//! through them to its transaction.

use crate::{
    fleet::redis,
    harness::{Chain, Folder},
};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const RUN: &str = r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: followed}
spec:
  network: {profile: localnet, endpoints: [{url: "URL"}]}
  account:
    accountId: bench.test.near
    createFrom: {accountId: test.near, secretRef: {name: root}, initialBalance: "100 NEAR"}
    keys: {count: 2}
  token: {contractId: ft.bench.test.near, deploy: {totalSupply: "1000000"}}
  receivers: {count: 5, prefix: user}
  load: {maxSendLag: 1h, phases: [{name: steady, duration: 4, arrivalRate: 20}]}
  engine: {batch: {min: 1, max: 10, depthDivisor: 1}}
"#;

/// Each line, which is a flat object with what every line has.
fn lines(text: &str) -> Vec<Value> {
    let line = |line: &str| -> Value {
        let value: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for name in ["timestamp", "level", "target", "message"] {
            assert!(value[name].is_string(), "{name}: {line}");
        }
        let fields = value.as_object().unwrap().values();
        assert!(fields.into_iter().all(|field| !field.is_object() && !field.is_array()), "{line}");
        value
    };
    text.lines().map(line).collect()
}

/// The transaction that carried each transfer to its end.
fn settled(lines: &[Value]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for line in lines.iter().filter(|line| line["message"] == "settled" && line["outcome"] == "succeeded") {
        let ids: Vec<_> = line["transfer_ids"].as_str().unwrap().split(' ').collect();
        assert_eq!(line["transfers"], ids.len(), "{line}");
        let hash = line["tx_hash"].as_str().unwrap();
        for id in ids {
            assert_eq!(found.insert(id.to_owned(), hash.to_owned()), None, "{id} is settled twice");
        }
    }
    found
}

#[test]
fn a_transfer_is_followed_to_its_transaction_through_the_logs_of_a_run_and_its_workers() {
    let (chain, folder, redis) = (Chain::start("localnet"), Folder::new(), redis());
    chain.secret(&folder, "root", &chain.root);
    folder.write("run.yaml", &RUN.replace("URL", &chain.url));
    let url = redis.address();
    let log = ["--log-format", "json", "--log", "info,nearbench_worker=debug"];
    let ended = folder.nearbench(&[&log[..], &["run", "run.yaml", "--workers", "2", "--redis-url", &url]].concat());
    assert!(matches!(ended.code, 0 | 3), "{ended:?}");
    let lines = lines(&ended.stderr);
    assert!(lines.iter().all(|line| line["run"] == "followed"), "{}", ended.stderr);
    // Remarks for people are among them, and the workers' own.
    for told in ["Draining", "took the lane"] {
        assert!(lines.iter().any(|line| line["message"] == told), "{told}: {}", ended.stderr);
    }
    let settled = settled(&lines);
    assert_eq!(folder.report()["results"]["succeeded"], settled.len());
    for (id, hash) in &settled {
        let was_sent = |line: &&Value| {
            line["tx_hash"] == **hash && line["transfer_ids"].as_str().is_some_and(|ids| ids.contains(id.as_str()))
        };
        assert!(lines.iter().filter(was_sent).any(|line| line["message"] != "settled"), "{id} was sent in {hash}");
    }
    // As the chain knows it.
    let (id, hash) = settled.first_key_value().unwrap();
    let tx = chain.transaction(hash, "bench.test.near");
    let memos = tx["transaction"]["actions"].as_array().unwrap().iter().map(|action| {
        let args = STANDARD.decode(action["FunctionCall"]["args"].as_str().unwrap()).unwrap();
        serde_json::from_slice::<Value>(&args).unwrap()["memo"].clone()
    });
    assert!(memos.into_iter().any(|memo| memo == **id), "{id} is in {tx:#}");
    let secret = chain.root.secret();
    let secret = secret.expose().trim_start_matches("ed25519:");
    assert!(!ended.stderr.contains(secret), "a secret is told");
}

#[test]
fn what_a_process_of_a_run_cannot_do_is_told_as_a_line_of_the_run() {
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    folder.write("run.yaml", &RUN.replace("URL", &chain.url));
    let plan = folder.nearbench(&["validate", "run.yaml", "--json"]);
    folder.write("plan/plan.json", &plan.stdout);
    let part = ["--plan", "plan", "--keys", "nowhere", "--redis-url-file", "nowhere"];
    for command in
        [&["run", "run.yaml"][..], &[&["worker"], &part[..]].concat(), &[&["step", "load"], &part[..]].concat()]
    {
        let ended = folder.nearbench(&[&["--log-format", "json"], command].concat());
        assert_eq!(ended.code, 2, "{ended:?}");
        let lines = lines(&ended.stderr);
        assert!(lines.iter().all(|line| line["run"] == "followed"), "{}", ended.stderr);
        assert_eq!(lines.last().unwrap()["level"], "ERROR", "{}", ended.stderr);
    }
    // Before it is known which run it is, there is none to name.
    let ended = folder.nearbench(&["--log-format", "json", "run", "nowhere.yaml"]);
    let lines = lines(&ended.stderr);
    assert!(lines[0]["message"].as_str().unwrap().contains("nowhere.yaml") && lines[0]["run"] == json!(null));
}
