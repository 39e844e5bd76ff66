//! Whole runs. Their counts and audits are asserted, never a latency, a TPS or a verdict of a busy machine.

use crate::harness::{Chain, Folder};
use std::{io::BufRead, process::Stdio};

const SMALL: &str = r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: small}
spec:
  network: {profile: devnet}
  account: {accountId: bench.near, keys: {count: 3}}
  token:
    contractId: ft.bench.near
    deploy: {totalSupply: "1000000", mint: "500000"}
  receivers: {count: 5, prefix: user}
  load:
    phases:
      - {name: ramp, duration: 2, arrivalRate: 5, rampTo: 40}
      - {name: hold, duration: 3, arrivalRate: 40}
      - {pause: 1}
      - {name: rest, duration: 2, arrivalCount: 10}
"#;

fn assert_counts(report: &serde_json::Value, offered: u64) {
    let results = &report["results"];
    let count = |name: &str| results[name].as_u64().unwrap_or_else(|| panic!("{name} in {results:#}"));
    assert_eq!(count("offered"), offered);
    assert_eq!(count("sent"), count("accepted") + count("rejected"));
    let ends = ["succeeded", "failed", "cancelled", "expired", "unknown"].map(count);
    assert_eq!(count("accepted"), ends.iter().sum::<u64>());
    assert_eq!(results["audit"]["matches"], true, "{:#}", results["audit"]);
    assert_eq!(results["audit"]["transfersFound"].as_u64().unwrap(), count("succeeded"));
}

#[test]
fn a_small_run_on_a_chain_of_its_own_moves_every_transfer_once() {
    let folder = Folder::new();
    folder.write("run.yaml", SMALL);
    let ended = folder.nearbench(&["run", "run.yaml"]);
    assert!([0, 1, 3].contains(&ended.code), "{ended:?}");
    let report = folder.report();
    // Ramp: 5 + 40; hold: 120; rest: 10.
    assert_counts(&report, 45 + 120 + 10);
    assert_eq!(report["results"]["succeeded"], report["results"]["offered"]);
    assert!(ended.stdout.contains("small"), "{}", ended.stdout);

    let printed = folder.nearbench(&["report", "out"]);
    assert_eq!((printed.code, &printed.stdout), (0, &ended.stdout), "a report reads as the run printed it");
}

#[test]
fn a_run_through_an_endpoint_makes_its_account_and_cleans_its_keys() {
    let chain = Chain::start("localnet");
    let folder = Folder::new();
    chain.secret(&folder, "root", &chain.root);
    let manifest = SMALL
        .replace(
            "network: {profile: devnet}",
            &format!("network: {{profile: localnet, endpoints: [{{url: \"{}\"}}]}}", chain.url),
        )
        .replace(
            "accountId: bench.near, ",
            "accountId: bench.test.near, \
             createFrom: {accountId: test.near, secretRef: {name: root}, initialBalance: \"100 NEAR\"}, ",
        )
        .replace("ft.bench.near", "ft.bench.test.near");
    folder.write("run.yaml", &manifest);
    let ended = folder.nearbench(&["run", "run.yaml", "--json"]);
    assert!([0, 1, 3].contains(&ended.code), "{ended:?}");
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(printed, folder.report());
    assert_counts(&printed, 175);
    // The account, the token and the receivers are there already: the second run goes on with them.
    let again = folder.nearbench(&["run", "run.yaml", "--json"]);
    assert!([0, 1, 3].contains(&again.code), "{again:?}");
    assert_counts(&folder.report(), 175);
    let left = std::fs::read_dir(folder.path().join("out")).unwrap().map(|entry| entry.unwrap().file_name());
    assert_eq!(left.collect::<Vec<_>>(), ["report.json"], "no key is left behind");
}

#[test]
fn an_interrupted_run_drains_and_reports_that_it_was_stopped() {
    let folder = Folder::new();
    folder.write("run.yaml", &SMALL.replace("duration: 3, arrivalRate: 40", "duration: 600, arrivalRate: 40"));
    let mut running =
        folder.command(&["run", "run.yaml"]).stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let lines = std::io::BufReader::new(running.stderr.take().unwrap()).lines();
    let mut interrupted = false;
    // The first progress line of the load has counts in it.
    for line in lines.map_while(Result::ok) {
        if !interrupted && line.contains("offered") {
            interrupted = true;
            let kill = std::process::Command::new("kill").args(["-INT", &running.id().to_string()]).status();
            assert!(kill.unwrap().success());
        }
    }
    assert!(interrupted);
    assert_eq!(running.wait().unwrap().code(), Some(3));
    let report = folder.report();
    assert_eq!(report["verdict"], "Inconclusive");
    assert_eq!(report["results"]["audit"]["matches"], true);
    assert_eq!(report["results"]["accepted"], report["results"]["succeeded"]);
}

#[test]
fn a_manifest_of_another_network_runs_on_devnet() {
    let folder = Folder::new();
    let manifest =
        SMALL.replace("{profile: devnet}", "{profile: testnet, endpoints: [{url: \"https://rpc.invalid\"}]}");
    let manifest = manifest
        .replace("bench.near", "bench.testnet")
        .replace("keys: {count: 3}", "masterKeySecretRef: {name: nowhere}, keys: {count: 3}");
    folder.write("run.yaml", &manifest);
    let ended = folder.nearbench(&["run", "run.yaml", "--on", "devnet"]);
    assert!([0, 1, 3].contains(&ended.code), "{ended:?}");
    assert_counts(&folder.report(), 175);
}
