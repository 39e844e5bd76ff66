//! Where a run's store ends: a disk that is full, a file that is none, and what `--resume` refuses.

use crate::harness::{Chain, Ended, Folder};
use nearbench_store::FileStore;
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
};

const STORE: &str = "out/store.redb";

const OWN: &str = r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: bound}
spec:
  network: {profile: devnet}
  account: {accountId: bench.near, keys: {count: 3}}
  token:
    contractId: ft.bench.near
    deploy: {totalSupply: "1000000"}
  receivers: {count: 5, prefix: user}
  load:
    phases:
      - {name: hold, duration: 15, arrivalRate: 200}
"#;

fn assert_finished(folder: &Folder, ended: &Ended) {
    assert!([0, 1, 3].contains(&ended.code), "{ended:?}");
    let results = &folder.report()["results"];
    assert_eq!(results["audit"]["matches"], true, "{results:#}");
    assert_eq!(results["accepted"], results["succeeded"], "{results:#}");
    assert!(results["accepted"].as_u64().unwrap() > 0, "{results:#}");
    assert_eq!(folder.left(), ["report.html", "report.json"]);
}

#[test]
fn a_full_disk_ends_a_run_at_once_and_it_is_resumed() {
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    chain.secret(&folder, "root", &chain.root);
    let manifest = OWN
        .replace("{profile: devnet}", &format!("{{profile: localnet, endpoints: [{{url: \"{}\"}}]}}", chain.url))
        .replace(
            "accountId: bench.near, ",
            "accountId: bench.test.near, \
             createFrom: {accountId: test.near, secretRef: {name: root}, initialBalance: \"100 NEAR\"}, ",
        )
        .replace("ft.bench.near", "ft.bench.test.near");
    folder.write("run.yaml", &manifest);
    // Some 200 kB: the store begins with less, and soon needs more. A write beyond it fails as on a full disk.
    let limited = format!("trap '' XFSZ; ulimit -f 400; exec {} run run.yaml", env!("CARGO_BIN_EXE_nearbench"));
    let output = Command::new("sh").args(["-c", &limited]).current_dir(folder.path()).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(4), "{said}");
    assert_eq!(said.matches("free space").count(), 1, "one message: {said}");
    for words in ["store.redb", "free space", "nearbench run --resume --out out"] {
        assert!(said.contains(words), "{words:?}: {said}");
    }
    assert!(!said.contains("==> Cleaning up"), "its keys are needed still: {said}");
    assert!(!folder.path().join("out/report.json").exists());
    let ended = folder.nearbench(&["run", "--resume"]);
    assert_finished(&folder, &ended);
}

/// A run that was killed under load.
fn killed() -> Folder {
    let folder = Folder::new();
    folder.write("run.yaml", OWN);
    let mut command = folder.command(&["run", "run.yaml"]);
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
    let under_load = lines.filter(|line| line.contains("offered")).nth(1);
    assert!(under_load.is_some(), "it came to its load");
    child.kill().unwrap();
    child.wait().unwrap();
    folder
}

fn refused(folder: &Folder, arguments: &[&str], told: &[&str]) {
    let ended = folder.nearbench(arguments);
    assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
    for words in told {
        assert!(ended.stderr.contains(words), "{arguments:?} should tell {words:?}: {}", ended.stderr);
    }
}

#[test]
fn what_is_not_to_be_resumed_is_refused_and_left_as_it_is() {
    let folder = killed();
    let resume = ["run", "--resume"];
    refused(&folder, &["run", "run.yaml"], &["accepted transfer", "no end yet", "--resume --out out"]);
    folder.write("other.yaml", &OWN.replace("arrivalRate: 200", "arrivalRate: 201"));
    refused(&folder, &["run", "other.yaml", "--resume"], &["another plan", "leave the manifest out"]);
    let path = folder.path().join(STORE);
    let whole = fs::read(&path).unwrap();
    for (bytes, told) in
        [(&whole[..whole.len() / 2], "no whole store"), (&b"a letter"[..], "no whole store"), (b"", "empty")]
    {
        fs::write(&path, bytes).unwrap();
        refused(&folder, &resume, &["store.redb", told, "a copy"]);
        refused(&folder, &["run", "run.yaml"], &["store.redb", told, "a copy"]);
        assert!(fs::read(&path).unwrap() == bytes, "it is left as it is");
    }
    fs::write(&path, &whole).unwrap();
    {
        let _held = FileStore::open(&path).unwrap();
        let process = format!("process {}", std::process::id());
        let ended = folder.nearbench(&resume);
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains(&process) && ended.stderr.contains("has it open"), "{}", ended.stderr);
    }
    let ended = folder.nearbench(&["run", "run.yaml", "--resume"]);
    assert_finished(&folder, &ended);
    refused(&folder, &resume, &["holds no run that is under way", "nearbench run FILE --out out"]);
}
