//! `nearbench remove-keys`: it takes the named keys off, and nothing else whatever is wrong.

use crate::{devnet::Serving, harness::Folder};
use nearbench_near::Signer;

fn manifest(network: &str, account: &str) -> String {
    format!(
        r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: left}}
spec:
  network: {{profile: devnet{network}}}
  account: {{accountId: test.near{account}}}
  token: {{contractId: ft.test.near, deploy: {{totalSupply: "1000000", mint: "500000"}}}}
  receivers: {{count: 3, prefix: user}}
  load: {{phases: [{{name: hold, duration: 1, arrivalRate: 5}}]}}
"#
    )
}

fn stranger() -> Signer {
    Signer::generate("test.near".parse().unwrap(), &mut rand::rng())
}

#[test]
fn the_named_keys_are_taken_off_and_no_others() {
    let folder = Folder::new();
    let serving = Serving::start(&folder, &["--block-time", "50ms"]).unwrap();
    let url = serving.said().split_once("JSON-RPC on ").unwrap().1.lines().next().unwrap();
    let endpoint = format!(", endpoints: [{{url: \"{url}\"}}]");
    folder.write("run.yaml", &manifest(&endpoint, ", masterKeySecretRef: {name: devnet-root}, keys: {count: 3}"));
    let ended = folder.nearbench(&["provision", "run.yaml"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    let file = std::fs::read_to_string(folder.path().join("secrets/keys/nearbench-keys.json")).unwrap();
    let keys: serde_json::Value = serde_json::from_str(&file).unwrap();
    let keys: Vec<_> = keys["keys"].as_array().unwrap().iter().map(|key| key["public_key"].as_str().unwrap()).collect();
    assert_eq!(keys.len(), 3, "{file}");
    let foreign = stranger().public_key().to_owned();

    let remove = |keys: &[&str]| folder.nearbench(&[&["remove-keys", "run.yaml"], keys].concat());
    let first = remove(&[keys[0], &foreign, keys[0]]);
    assert_eq!((first.code, first.stdout), (0, format!("removed {}\nwas not there: {foreign}\n", keys[0])));
    let root = std::fs::read_to_string(folder.path().join("secrets/devnet-root/nearbench-account.json")).unwrap();
    let root: serde_json::Value = serde_json::from_str(&root).unwrap();
    let master = root["public_key"].as_str().unwrap();
    let refused = remove(&[keys[1], master]);
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("is the master key of test.near"), "{}", refused.stderr);
    // What was taken off is gone, and what was not named is there.
    let all = remove(&keys);
    let told = format!("removed {}\nremoved {}\nwas not there: {}\n", keys[1], keys[2], keys[0]);
    assert_eq!((all.code, all.stdout), (0, told));
    assert_eq!(serving.end("INT").code, 0);
}

#[test]
fn what_cannot_be_used_is_one_clear_error_that_repeats_no_secret() {
    let folder = Folder::new();
    let nowhere = ", endpoints: [{url: \"http://127.0.0.1:9\"}]";
    folder.write("own.yaml", &manifest("", ", keys: {count: 2}"));
    folder.write(
        "prepared.yaml",
        &manifest(nowhere, ", keys: {secretRef: {name: keys}}")
            .replace(", deploy: {totalSupply: \"1000000\", mint: \"500000\"}", ""),
    );
    folder.write("absent.yaml", &manifest(nowhere, ", masterKeySecretRef: {name: master}"));
    let signer = stranger();
    folder.write(
        "secrets/keys/nearbench-keys.json",
        &serde_json::json!({"account_id": "test.near", "keys": [{"public_key": signer.public_key(),
            "private_key": signer.secret().expose()}]})
        .to_string(),
    );
    let (key, secret) = (signer.public_key(), signer.secret());
    for (arguments, told) in [
        (&["own.yaml"][..], "KEY"),
        (&["own.yaml", "ed25519:short"], "KEY 1 of 1 is no public key"),
        (&["own.yaml", key, secret.expose()], "KEY 2 of 2 is no public key"),
        (&["nowhere.yaml", key], "nowhere.yaml"),
        (&["own.yaml", key], "spec.network.endpoints"),
        (&["prepared.yaml", key], "spec.account.masterKeySecretRef"),
        (&["absent.yaml", key], "secrets/master/nearbench-account.json"),
    ] {
        let ended = folder.nearbench(&[&["remove-keys"], arguments].concat());
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
        assert!(!ended.stderr.contains(secret.expose()), "{}", ended.stderr);
    }
}
