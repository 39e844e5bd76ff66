//! Whole runs. Their counts and audits are asserted, never a latency, a TPS or a verdict of a busy machine.

use crate::{
    harness::{Chain, Folder},
    page,
};
use std::time::Duration;

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
    let file = std::fs::read_to_string(folder.path().join("out/report.json")).unwrap();
    assert_eq!(folder.nearbench(&["report", "out", "--json"]).stdout, file, "to the last digit");

    let page = std::fs::read_to_string(folder.path().join("out/report.html")).unwrap();
    assert_eq!(page::held(&page), report, "the page beside it holds it");
    let points = report["results"]["latencyDistribution"].as_array().unwrap();
    let longest = &report["results"]["latencyMs"]["settle"]["max"];
    assert_eq!(points.last().unwrap(), &serde_json::json!({"percentile": 100.0, "ms": longest}));
    let compared = folder.nearbench(&["compare", "out", "out/report.json"]);
    assert_eq!(compared.code, if ended.code == 3 { 3 } else { 0 }, "{compared:?}");
}

/// Writes `SMALL` as run.yaml, to be run through `chain`'s endpoint, with its account made by the root account.
fn through(chain: &Chain, folder: &Folder, receivers: u32) {
    chain.secret(folder, "root", &chain.root);
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
        .replace("ft.bench.near", "ft.bench.test.near")
        .replace("receivers: {count: 5,", &format!("receivers: {{count: {receivers},"));
    folder.write("run.yaml", &manifest);
}

#[test]
fn a_run_through_an_endpoint_makes_its_account_and_cleans_its_keys() {
    let chain = Chain::start("localnet");
    let folder = Folder::new();
    through(&chain, &folder, 5);
    let ended = folder.nearbench(&["run", "run.yaml", "--json"]);
    assert!([0, 1, 3].contains(&ended.code), "{ended:?}");
    let printed: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!(printed, folder.report());
    assert_counts(&printed, 175);
    // The account, the token and the receivers are there already: the second run goes on with them.
    let again = folder.nearbench(&["run", "run.yaml", "--json"]);
    assert!([0, 1, 3].contains(&again.code), "{again:?}");
    assert_counts(&folder.report(), 175);
    assert_eq!(folder.left(), ["report.html", "report.json"], "no key is left behind");
}

#[test]
fn a_run_through_an_endpoint_that_fails_in_every_way_moves_every_transfer_once() {
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    through(&chain, &folder, 5);
    // The only endpoint is not left alone for long, and a busy machine gets time to prove every end.
    let manifest = std::fs::read_to_string(folder.path().join("run.yaml")).unwrap();
    let patient = "  engine: {breaker: {resetTimeout: 1s}}\n  load:\n    timeout: 4m\n";
    folder.write("run.yaml", &manifest.replace("  load:\n", patient));
    let faults = serde_json::json!([
        {"fault": "latency", "milliseconds": 30, "every": 5},
        {"fault": "tooManyRequests", "every": 23},
        {"fault": "serverError", "every": 29},
        {"fault": "reset", "every": 19},
        {"fault": "reset", "accepted": true, "every": 17},
        {"fault": "timeout", "milliseconds": 100, "every": 31},
        {"fault": "truncate", "every": 13},
        {"fault": "garbage", "every": 37},
        {"fault": "stall", "milliseconds": 200, "every": 20},
    ]);
    let mut hits = Vec::new();
    let ended = folder.listened(&["run", "run.yaml"], |line| {
        if line.contains("==> Load") {
            chain.devnet.set_faults(&faults).unwrap();
        }
        if line.contains("==> Audit") {
            let rules = chain.devnet.faults()["rules"].take();
            hits = rules.as_array().unwrap().iter().map(|rule| rule["hit"].as_u64().unwrap()).collect();
            chain.devnet.clear_faults();
        }
    });
    assert!([0, 1, 3].contains(&ended.code), "{ended:?}");
    assert!(hits.len() == 9 && hits.iter().all(|hits| *hits > 0), "{hits:?}: {}", ended.stderr);
    let report = folder.report();
    assert_counts(&report, 175);
    assert_eq!(report["results"]["accepted"], report["results"]["succeeded"], "{:#}", report["results"]);
}

#[test]
fn an_interrupted_run_drains_and_reports_that_it_was_stopped() {
    let folder = Folder::new();
    folder.write("run.yaml", &SMALL.replace("duration: 3, arrivalRate: 40", "duration: 600, arrivalRate: 40"));
    // The first progress line of the load has counts in it.
    let ended = folder.interrupted(&["run", "run.yaml"], &["offered"], &|| true);
    assert_eq!(ended.code, 3, "{ended:?}");
    let report = folder.report();
    assert_eq!(report["verdict"], "Inconclusive");
    assert_eq!(report["results"]["audit"]["matches"], true);
    assert_eq!(report["results"]["accepted"], report["results"]["succeeded"]);
}

const PAYER: &str = "bench.test.near";

/// A chain on which a run has nothing to provision but its keys, slow enough to be interrupted meanwhile.
fn slow() -> (Chain, Folder) {
    let (chain, folder) = (Chain::with_blocks_every("localnet", Duration::from_millis(300)), Folder::new());
    through(&chain, &folder, 5);
    let ended = folder.nearbench(&["provision", "run.yaml"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    (chain, folder)
}

/// Interrupts a run while its keys are on their way: in a block, and not yet in a final one.
fn interrupted(chain: &Chain, folder: &Folder, marks: &[&str]) -> String {
    let before = chain.root_nonce(PAYER);
    let ended = folder.interrupted(&["run", "run.yaml"], marks, &|| chain.root_nonce(PAYER) > before);
    assert_eq!(ended.code, 3, "{ended:?}");
    assert!(ended.stderr.contains("stopping after the step under way; nothing was offered"), "{}", ended.stderr);
    assert!(!ended.stderr.contains("==> Load"), "{}", ended.stderr);
    ended.stderr
}

fn assert_no_key_is_left(chain: &Chain, folder: &Folder, before: &[String]) {
    assert_eq!(chain.keys(PAYER), before);
    assert!(!folder.path().join("out/nearbench-keys.json").exists());
}

fn assert_runs(folder: &Folder) {
    let ended = folder.nearbench(&["run", "run.yaml"]);
    assert!([0, 1, 3].contains(&ended.code), "{ended:?}");
    assert_counts(&folder.report(), 175);
}

#[test]
fn a_run_stopped_in_provisioning_waits_for_what_it_sent_and_removes_its_keys() {
    let (chain, folder) = slow();
    let before = chain.keys(PAYER);
    let told = interrupted(&chain, &folder, &["1 step to do"]);
    assert!(told.contains("done 1/1: adding 3 access keys"), "it waits for them: {told}");
    assert!(told.contains("done 1/1: removing 3 access keys"), "and takes them away: {told}");
    assert_no_key_is_left(&chain, &folder, &before);
    assert_runs(&folder);
    assert_no_key_is_left(&chain, &folder, &before);
}

#[test]
fn a_run_ended_at_once_in_provisioning_names_its_keys_and_the_next_one_removes_them() {
    let (chain, folder) = slow();
    let before = chain.keys(PAYER);
    let told = interrupted(&chain, &folder, &["1 step to do", "stopping"]);
    assert!(told.contains("out/nearbench-keys.json") && told.contains("run again with the same --out"), "{told}");
    assert!(folder.path().join("out/nearbench-keys.json").exists());
    assert_runs(&folder);
    assert_no_key_is_left(&chain, &folder, &before);
}

#[test]
fn a_run_interrupted_after_its_load_is_reported_as_a_whole_one() {
    let folder = Folder::new();
    folder.write("run.yaml", SMALL);
    let ended = folder.interrupted(&["run", "run.yaml"], &["==> Draining"], &|| true);
    assert!(ended.stderr.contains("the load is complete"), "{}", ended.stderr);
    let report = folder.report();
    assert_counts(&report, 175);
    assert!(!report["reasons"].to_string().contains("stopped"), "{}", report["reasons"]);
}

#[test]
fn provisioning_twice_ends_well_and_says_that_nothing_was_to_do() {
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    through(&chain, &folder, 5);
    for nothing in [false, true] {
        let ended = folder.nearbench(&["provision", "run.yaml"]);
        assert_eq!((ended.code, ended.stdout.contains("nothing was to do")), (0, nothing), "{ended:?}");
    }
}

#[test]
fn a_manifest_of_another_network_runs_on_devnet() {
    let folder = Folder::new();
    let manifest =
        SMALL.replace("{profile: devnet}", "{profile: testnet, endpoints: [{url: \"https://rpc.invalid\"}]}");
    let manifest = manifest
        .replace("bench.near", "bench.testnet")
        .replace("keys: {count: 3}", "masterKeySecretRef: {name: nowhere}, keys: {count: 3}")
        .replace("    deploy: {totalSupply: \"1000000\", mint: \"500000\"}\n", "");
    folder.write("run.yaml", &manifest);
    let ended = folder.nearbench(&["run", "run.yaml", "--on", "devnet"]);
    assert!([0, 1, 3].contains(&ended.code), "{ended:?}");
    assert!(ended.stderr.contains("nearbench's own stands in for ft.bench.testnet"), "{}", ended.stderr);
    assert_counts(&folder.report(), 175);
}
