//! Loads that reach the run over HTTP, as clients of the transfer API would send them.

use crate::harness::Folder;

#[test]
fn a_load_over_http_ends_in_the_same_audit_and_leaves_no_key_of_it_anywhere() {
    let folder = Folder::new();
    folder.write(
        "run.yaml",
        r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: over-http}
spec:
  network: {profile: devnet}
  account: {accountId: bench.near, keys: {count: 8}}
  token:
    contractId: ft.bench.near
    deploy: {totalSupply: "1000000"}
  receivers: {count: 20, prefix: user}
  load:
    via: http
    connections: 8
    timeout: 1m
    phases:
      - {name: hold, duration: 6, arrivalRate: 60}
"#,
    );
    let ended = folder.nearbench(&["--log", "debug", "run", "run.yaml"]);
    assert!(matches!(ended.code, 0 | 3), "{}", ended.stderr);
    let report = folder.report();
    let results = &report["results"];
    assert_eq!(results["offered"], 360);
    assert_eq!((&results["accepted"], &results["succeeded"]), (&results["sent"], &results["sent"]), "{results:#}");
    assert_eq!((&results["audit"]["matches"], &results["audit"]["transfersFound"]), (&true.into(), &results["sent"]));
    assert!(results["latencyMs"]["accept"]["p95"].as_f64().unwrap() > 0.0);
    assert!(!ended.stderr.contains("nbt_") && !ended.stdout.contains("nbt_") && !report.to_string().contains("nbt_"));
}
