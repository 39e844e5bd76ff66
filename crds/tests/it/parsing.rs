//! Text to manifest: what is refused, and what is said.

use crate::{GOOD, changed};
use nearbench_crds::parse;

fn faults(text: &str) -> Vec<String> {
    parse(text).map(|_| Vec::new()).unwrap_or_else(|error| error.0.iter().map(ToString::to_string).collect())
}

#[test]
fn yaml_and_json_say_the_same() {
    let run = parse(GOOD).unwrap();
    assert_eq!(parse(&serde_json::to_string(&run).unwrap()).unwrap(), run);
}

#[test]
fn every_fault_names_its_field_and_the_way_out() {
    let table = [
        (
            "arrivalRate: 202",
            "arivalRate: 202",
            "spec.load.phases[1].arivalRate: unknown field; did you mean arrivalRate?",
        ),
        ("ensure:", "ensures:", "spec.ensures: unknown field; did you mean ensure?"),
        ("kind: BenchmarkRun", "kind: BenchmarkRan", "kind: must be BenchmarkRun, and is \"BenchmarkRan\""),
        ("kind: BenchmarkRun\n", "", "kind: is missing: write kind: BenchmarkRun"),
        ("v1alpha1", "v1", "apiVersion: must be nearbench.dev/v1alpha1, and is \"nearbench.dev/v1\""),
        ("{name: good}", "{nane: good}", "metadata.name: is missing: give the run a name"),
        (
            "{name: good}",
            "{name: Good_1}",
            "metadata.name: must be text of 1 to 63 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit, and is \"Good_1\"",
        ),
        ("\nspec:", "\nspecs: {}\nspec:", "specs: unknown field; did you mean spec?"),
        (
            "profile: testnet",
            "profile: tesnet",
            "spec.network.profile: \"tesnet\" is not known; did you mean testnet? use one of devnet, sandbox, localnet, testnet, mainnet",
        ),
        (
            "count: 12",
            "count: twelve",
            "spec.account.keys.count: must be a number, and is a text: write it without quotes",
        ),
        (
            "count: 12",
            "count: 1.5",
            "spec.account.keys.count: must be a whole number, and is a number with a point or exponent",
        ),
        ("count: 12", "count: 0", "spec.account.keys.count: must be at least 1, and is 0"),
        ("count: 12", "count: 12, count: 13", "spec.account.keys.count: is written twice: keep one of them"),
        ("mint: '5'", "mint: 5", "spec.token.deploy.mint: must be a text, and is a number: put it in quotes"),
        (
            "mint: '5'",
            "mint: 1e3",
            "spec.token.deploy.mint: must be whole token units as decimal digits in quotes, such as \"1000000\" (no sign, point, exponent or unit), and is a number with a point or exponent",
        ),
        (
            "mint: '5'",
            "mint: '1e3'",
            "spec.token.deploy.mint: \"1e3\" is not whole token units as decimal digits in quotes, such as \"1000000\" (no sign, point, exponent or unit)",
        ),
        (
            "mint: '5'",
            "mint: '-1'",
            "spec.token.deploy.mint: \"-1\" is not whole token units as decimal digits in quotes, such as \"1000000\" (no sign, point, exponent or unit)",
        ),
        ("mint: '5'", "mint: ", "spec.token.deploy.mint: is empty: give it a value, or leave the field out"),
        (
            "100 NEAR",
            "100",
            "spec.account.createFrom.initialBalance: must be an amount of NEAR with its unit, such as \"100 NEAR\" or \"0.5 NEAR\", and is a number",
        ),
        (
            "100 NEAR",
            "100 near",
            "spec.account.createFrom.initialBalance: \"100 near\" is not an amount of NEAR with its unit, such as \"100 NEAR\" or \"0.5 NEAR\"",
        ),
        (
            "arrivalRate: 202",
            "arrivalRate: .nan",
            "spec.load.phases[1].arrivalRate: must be a finite number, and is NaN",
        ),
        (
            "arrivalRate: 202",
            "arrivalRate: -.inf",
            "spec.load.phases[1].arrivalRate: must be a finite number, and is -inf",
        ),
        ("duration: 600", "duration: 9999999999", "spec.load.phases[1].duration: 9999999999 is too large"),
        (
            "  load:",
            "  load:\n    timeout: 60",
            "spec.load.timeout: must be a length of time with its unit, such as 500ms, 90s, 5m or 1h30m, and is a number",
        ),
        (
            "https://rpc.testnet.near.org",
            "rpc.testnet.near.org",
            "spec.network.endpoints[0].url: \"rpc.testnet.near.org\" is not an address that begins with http:// or https://",
        ),
        ("arrivalRate: 202", "arrivalRate: -1", "spec.load.phases[1].arrivalRate: must be at least 0, and is -1"),
        (
            "duration: 600",
            "duration: true",
            "spec.load.phases[1].duration: must be a whole number or a text, and is true or false",
        ),
        (
            "accountId: bench.alice.testnet",
            "accountId: Bench",
            "spec.account.accountId: \"Bench\" is not a NEAR account id: 2 to 64 of a-z, 0-9, '-', '_' and '.', such as bench.testnet",
        ),
        ("  receivers: {count: 3, prefix: user}\n", "", "spec.receivers: is missing: The accounts that receive"),
        (
            "metric: tps.mean",
            "metric: tps.men",
            "spec.ensure.thresholds[0].metric: \"tps.men\" is not known; did you mean tps.mean? use one of",
        ),
        ("min: '200'", "min: 200", "spec.ensure.thresholds[0].min: must be a text, and is a number: put it in quotes"),
    ];
    for (from, to, expected) in table {
        let faults = faults(&changed(from, to));
        assert!(faults.len() == 1 && faults[0].starts_with(expected), "{to:?}: {faults:#?}");
    }
}

#[test]
fn all_faults_are_found_at_once() {
    let text = changed("count: 12", "count: 0")
        .replace("arrivalRate: 202", "arivalRate: 202")
        .replace("min: '200'", "min: 200");
    assert_eq!(faults(&text).len(), 3);
}

#[test]
fn a_text_that_is_no_single_map_is_refused() {
    assert!(faults("")[0].contains("here are 0"));
    assert!(faults(&format!("{GOOD}---\n{GOOD}"))[0].contains("here are 2"));
    assert!(faults("- 1")[0].contains("a manifest is a map"));
    let broken = &faults("a: [1")[0];
    assert!(broken.contains("neither YAML nor JSON") && broken.contains("line 1"), "{broken}");
}

#[test]
fn a_doubled_field_is_found_at_any_depth() {
    assert_eq!(
        faults(&changed("  store:", "  receivers: {count: 4}\n  store:")),
        ["spec.receivers: is written twice: keep one of them"]
    );
}

#[test]
fn no_message_shows_what_could_be_a_secret() {
    let key = "ed25519:3D4YudUQRE39Lc4JHghuB5WM8kbgDDa34mnrEP5DdTApVH81af3e7dWgNPEaiQfdJnZq1CNPp5im4Rg5b733oiMP";
    for (from, to) in [
        ("{name: funder}", format!("{{name: '{key}'}}")),
        ("{name: funder}", format!("{{key: '{key}'}}")),
        ("accountId: bench.alice.testnet", format!("accountId: '{key}'")),
        ("name: sustain", format!("name: '{key}'")),
        ("https://rpc.testnet.near.org", format!("https://user:{key}@rpc.testnet.near.org")),
        ("https://rpc.testnet.near.org", format!("https://rpc.testnet.near.org/?key={key}")),
        ("{name: funder}", format!("{{'{key}': key}}")),
        ("kind: BenchmarkRun", format!("kind: '{key}'")),
    ] {
        let said = match parse(&changed(from, &to)) {
            Ok(run) => format!("{:?}", crate::resolved_on(&run, false).expect_err("a key is in the manifest")),
            Err(error) => error.to_string(),
        };
        assert!(!said.contains("3D4Yud"), "{said}");
    }
}

#[test]
fn a_fleet_may_say_where_its_pods_go() {
    let text = changed(
        "  load:",
        "  workers:
    replicas: 4
    resources: {requests: {cpu: '1', memory: 256Mi}}
    nodeSelector: {disk: ssd}
    tolerations: [{key: bench, operator: Exists}]
    topologySpreadConstraints: [{maxSkew: 1, topologyKey: zone, whenUnsatisfiable: ScheduleAnyway}]
    priorityClassName: high
    imagePullSecrets: [{name: registry}]
    labels: {team: a}
    annotations: {note: b}
    affinity: {nodeAffinity: {}}
  load:",
    );
    assert_eq!(faults(&text), Vec::<String>::new());
    let misspelt = text.replace("operator: Exists", "operater: Exists");
    assert_eq!(faults(&misspelt), ["spec.workers.tolerations[0].operater: unknown field; did you mean operator?"]);
}
