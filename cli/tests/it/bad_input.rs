//! What is typed wrong: one clear error, the right exit code, and nothing changed on chain.

use crate::harness::{Chain, Folder};
use nearbench_near::Signer;

/// A manifest that works against `chain`, with the account's key in the Secret `master`.
fn manifest(chain: &Chain) -> String {
    format!(
        r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: bad}}
spec:
  network: {{profile: localnet, endpoints: [{{url: "{}"}}]}}
  account: {{accountId: test.near, masterKeySecretRef: {{name: master}}, keys: {{count: 2}}}}
  token: {{contractId: ft.test.near, deploy: {{totalSupply: "1000000", mint: "500000"}}}}
  receivers: {{count: 3, prefix: user}}
  load: {{phases: [{{name: hold, duration: 1, arrivalRate: 5}}]}}
"#,
        chain.url
    )
}

/// A manifest that works on a chain of the run's own.
const OWN_CHAIN: &str = r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: bad}
spec:
  network: {profile: devnet}
  account: {accountId: bench.near, keys: {count: 2}}
  token: {contractId: ft.bench.near, deploy: {totalSupply: "1000000", mint: "500000"}}
  receivers: {count: 3, prefix: user}
  load: {phases: [{name: hold, duration: 1, arrivalRate: 5}]}
"#;

#[test]
fn what_the_manifest_says_wrong_is_told_with_its_path() {
    let folder = Folder::new();
    let good = OWN_CHAIN;
    for (from, to, told) in [
        ("arrivalRate: 5", "arivalRate: 5", &["spec.load.phases[0]", "arivalRate", "arrivalRate"][..]),
        ("arrivalRate: 5", "arrivalRate: 0", &["spec.load.phases[0].arrivalRate"]),
        ("arrivalRate: 5", "arrivalRate: -3", &["spec.load.phases[0].arrivalRate"]),
        ("arrivalRate: 5", "arrivalRate: 5, arrivalCount: 3", &["spec.load.phases[0]"]),
        ("mint: \"500000\"", "mint: \"1e3\"", &["spec.token.deploy.mint", "1e3"]),
        ("mint: \"500000\"", "mint: \"-1\"", &["spec.token.deploy.mint", "-1"]),
        (
            "mint: \"500000\"",
            "mint: \"340282366920938463463374607431768211456\"",
            &["spec.token.deploy.mint", "340282366920938463463374607431768211456"],
        ),
        ("accountId: bench.near", "accountId: Bench.near", &["spec.account.accountId", "Bench.near"]),
        ("count: 3, prefix: user", "accounts: [a.near, b.near, a.near]", &["spec.receivers.accounts[2]", "a.near"]),
        ("  load:", "  engine: {batch: {min: 9, max: 3}}\n  load:", &["spec.engine.batch"]),
        ("  load:", "  engine: {batch: {max: 0}}\n  load:", &["spec.engine.batch.max"]),
        ("keys: {count: 2}", "keys: {count: 0}", &["spec.account.keys.count"]),
        ("kind: BenchmarkRun", "kind: Benchmark", &["kind", "BenchmarkRun"]),
    ] {
        assert!(good.contains(from), "{from}");
        folder.write("run.yaml", &good.replace(from, to));
        for command in [&["validate", "run.yaml"][..], &["run", "run.yaml"]] {
            let ended = folder.nearbench(command);
            assert_eq!(ended.code, 2, "{command:?} with {to}: {ended:?}");
            for words in told {
                assert!(ended.stderr.contains(words), "{to} should tell {words:?}: {}", ended.stderr);
            }
        }
    }
    assert!(!folder.path().join("out").exists(), "nothing was made");
    folder.write("run.yaml", good);
    assert_eq!(folder.nearbench(&["validate", "run.yaml"]).code, 0);
    assert_eq!(folder.nearbench(&["run", "nowhere.yaml"]).code, 2);
}

#[test]
fn what_only_a_cluster_can_do_is_refused_and_not_ignored() {
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    let good = manifest(&chain)
        .replace("load: {phases: [", "load:\n    phases: [")
        .replace("arrivalRate: 5}]}", "arrivalRate: 5}]");
    for (added, told) in [
        ("  stop: true\n", "spec.stop"),
        ("  suspend: true\n", "spec.suspend"),
        ("    generators: {replicas: 2}\n", "spec.load.generators.replicas"),
    ] {
        folder.write("run.yaml", &format!("{good}{added}"));
        let valid = folder.nearbench(&["validate", "run.yaml"]);
        assert_eq!(valid.code, 0, "{added}: {valid:?}");
        assert!(valid.stdout.contains("refuses it here") && valid.stdout.contains(told), "{}", valid.stdout);
        let ended = folder.nearbench(&["run", "run.yaml"]);
        assert_eq!(ended.code, 2, "{added}: {ended:?}");
        assert!(ended.stderr.contains(told), "{}", ended.stderr);
    }
}

#[test]
fn a_key_that_is_not_the_accounts_changes_nothing() {
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    let stranger = Signer::generate("test.near".parse().unwrap(), &mut rand::rng());
    chain.secret(&folder, "master", &stranger);
    folder.write("run.yaml", &manifest(&chain));
    let before = chain.root_nonce("test.near");
    let ended = folder.nearbench(&["run", "run.yaml"]);
    assert!([2, 4].contains(&ended.code), "{ended:?}");
    for told in ["spec.account.masterKeySecretRef (secrets/master/", "test.near", stranger.public_key()] {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains(stranger.secret().expose()));
    assert_eq!(chain.root_nonce("test.near"), before);
}

#[test]
fn a_key_file_that_others_may_read_or_that_is_not_there_changes_nothing() {
    use std::os::unix::fs::PermissionsExt;
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    folder.write("run.yaml", &manifest(&chain));
    let ended = folder.nearbench(&["run", "run.yaml"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("secrets/master/nearbench-account.json"), "{}", ended.stderr);
    chain.secret(&folder, "master", &chain.root);
    let path = folder.path().join("secrets/master/nearbench-account.json");
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = folder.nearbench(&["run", "run.yaml"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("chmod 600"), "{}", ended.stderr);
}

#[test]
fn a_token_that_is_not_there_and_an_endpoint_of_another_chain_change_nothing() {
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    chain.secret(&folder, "master", &chain.root);
    let before = chain.root_nonce("test.near");
    let no_token = manifest(&chain).replace(", deploy: {totalSupply: \"1000000\", mint: \"500000\"}", "");
    folder.write("run.yaml", &no_token);
    let ended = folder.nearbench(&["run", "run.yaml"]);
    assert!([2, 4].contains(&ended.code), "{ended:?}");
    assert!(ended.stderr.contains("ft.test.near"), "{}", ended.stderr);

    folder.write("run.yaml", &manifest(&chain).replace("profile: localnet", "profile: testnet"));
    let ended = folder.nearbench(&["run", "run.yaml"]);
    assert!([2, 4].contains(&ended.code), "{ended:?}");
    assert!(ended.stderr.contains("testnet") && ended.stderr.contains("localnet"), "{}", ended.stderr);
    assert_eq!(chain.root_nonce("test.near"), before);
}

#[test]
fn an_endpoint_where_nobody_listens_is_named() {
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    chain.secret(&folder, "master", &chain.root);
    folder.write("run.yaml", &manifest(&chain).replace(&chain.url, "http://127.0.0.1:9"));
    let ended = folder.nearbench(&["run", "run.yaml"]);
    assert_eq!(ended.code, 4, "{ended:?}");
    assert!(ended.stderr.contains("127.0.0.1:9"), "{}", ended.stderr);
}

#[test]
fn validate_looks_into_the_secrets_that_are_there() {
    use std::os::unix::fs::PermissionsExt;
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    folder.write("run.yaml", &manifest(&chain));
    let absent = folder.nearbench(&["validate", "run.yaml"]);
    assert_eq!(absent.code, 0, "{absent:?}");
    assert!(absent.stderr.contains("secrets/master"), "a missing folder is worth a note: {}", absent.stderr);

    let file = "secrets/master/nearbench-account.json";
    let refused = |why: &str| {
        let ended = folder.nearbench(&["validate", "run.yaml"]);
        assert_eq!(ended.code, 2, "{ended:?}");
        for told in ["spec.account.masterKeySecretRef", file, why] {
            assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
        }
    };
    folder.write(file, "{");
    refused("not near-cli's");
    chain.secret(&folder, "master", &Signer::generate("other.near".parse().unwrap(), &mut rand::rng()));
    refused("other.near");
    chain.secret(&folder, "master", &chain.root);
    assert_eq!(folder.nearbench(&["validate", "run.yaml"]).code, 0);
    std::fs::set_permissions(folder.path().join(file), std::fs::Permissions::from_mode(0o644)).unwrap();
    refused("chmod 600");
}

#[test]
fn what_is_no_manifest_or_no_folder_is_told_with_the_way_out() {
    let folder = Folder::new();
    std::fs::write(folder.path().join("latin.yaml"), b"name: \xe9").unwrap();
    folder.write("open.yaml", "a: [1");
    folder.write("file", "");
    for (arguments, told) in [
        (&["validate", "latin.yaml"][..], "latin.yaml is not UTF-8 text"),
        (&["validate", "open.yaml"], "neither YAML nor JSON"),
        (&["validate", "."], ". is a folder: name the manifest in it"),
        (&["run", "quick.yaml", "--out", "file"], "--out file is a file: name a folder"),
    ] {
        folder.write("quick.yaml", OWN_CHAIN);
        let ended = folder.nearbench(arguments);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
}

#[test]
fn validate_prints_one_json_value_and_errors_are_json_where_logs_are() {
    let folder = Folder::new();
    folder.write("good.yaml", OWN_CHAIN);
    folder.write("bad.yaml", &OWN_CHAIN.replace("count: 2", "count: 0"));
    let json = |text: &str| serde_json::from_str::<serde_json::Value>(text).unwrap();
    let one = folder.nearbench(&["validate", "--json", "good.yaml"]);
    assert_eq!(json(&one.stdout)["name"], "bad");
    let ended = folder.nearbench(&["--log-format", "json", "validate", "--json", "good.yaml", "bad.yaml", "good.yaml"]);
    assert_eq!((ended.code, json(&ended.stdout).as_array().unwrap().len()), (2, 2));
    let error = json(&ended.stderr);
    assert_eq!(error["level"], "ERROR");
    assert!(error["message"].as_str().unwrap().contains("spec.account.keys.count"), "{error}");
}

#[test]
fn what_is_no_report_is_told_in_a_users_words() {
    let folder = Folder::new();
    folder.write("empty/other.json", "");
    let head = r#"{"apiVersion": "nearbench.dev/v1alpha1", "kind": "BenchmarkReport""#;
    for (text, told) in [
        ("{}", "it lacks apiVersion"),
        (head, "it ends in the middle"),
        (&format!("{head}}}"), "it lacks run: it is damaged"),
        (&format!("{head}, \"run\": {{}}}}"), "it lacks run.name: it is damaged"),
        (&format!("{head}, \"run\": 5}}"), "something unknown at run"),
        ("name: x", "it is not JSON"),
    ] {
        folder.write("report.json", text);
        let ended = folder.nearbench(&["report", "report.json"]);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains("report.json") && ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    let ended = folder.nearbench(&["report", "empty"]);
    assert!(ended.code == 2 && ended.stderr.contains("empty holds no report.json"), "{ended:?}");
}
