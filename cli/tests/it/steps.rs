//! A run as steps, each a process of its own, as the operator's Jobs do it: killed in the middle, done twice, told to end, and
//! in the end every transfer counted and found on chain.

use crate::{
    fleet::{redis, signal},
    harness::{Chain, Folder, free_ports},
};
use nearbench_near::Signer;
use serde_json::{Value, json};
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// The paying account, and where it and its token are named.
const MANIFEST: &str = r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: steps}
spec:
  network: {profile: localnet, endpoints: [{url: "URL"}]}
  account:
    accountId: bench.test.near
    createFrom: {accountId: test.near, secretRef: {name: root}, initialBalance: "100 NEAR"}
    keys: {count: 4}
  token: {contractId: ft.bench.test.near, deploy: {totalSupply: "1000000", mint: "500"}}
  receivers: {count: 10, prefix: user}
  load:
    via: VIA
    generators: {replicas: 2}
    timeout: 2m
    phases: [{name: hold, duration: 12, arrivalRate: 20}]
"#;

/// What the operator would have made, as files.
fn prepare(chain: &Chain, folder: &Folder, redis: &str, via: &str) {
    chain.secret(folder, "root", &chain.root);
    folder.write("redis-url", redis);
    folder.write("run.yaml", &MANIFEST.replace("URL", &chain.url).replace("VIA", via));
    let plan = folder.nearbench(&["validate", "run.yaml", "--json"]);
    assert_eq!(plan.code, 0, "{plan:?}");
    folder.write("plan/plan.json", &plan.stdout);
    let keys: Vec<_> = (0..4).map(|_| Signer::generate("bench.test.near".parse().unwrap(), &mut rand::rng())).collect();
    let keys: Vec<_> =
        keys.iter().map(|key| json!({"public_key": key.public_key(), "private_key": key.secret().expose()})).collect();
    folder.write("own/nearbench-keys.json", &json!({"account_id": "bench.test.near", "keys": keys}).to_string());
    folder.write("own/nearbench-namespace", &hex::encode([7; 32]));
}

fn step<'a>(name: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let common = ["--plan", "plan", "--run-id", "steps-1", "--keys", "own", "--redis-url-file", "redis-url"];
    [&["step", name], &common[..], more].concat()
}

fn worker(folder: &Folder, more: &[&str]) -> Child {
    let common = ["--plan", "plan", "--run-id", "steps-1", "--keys", "own", "--redis-url-file", "redis-url"];
    let arguments = [&["worker"], &common[..], more].concat();
    folder.command(&arguments).stdin(Stdio::piped()).arg("--while-stdin").stderr(Stdio::null()).spawn().unwrap()
}

/// Starts a step, and returns it once it says a line that is such. Who asked waits for its end.
#[allow(clippy::zombie_processes)]
fn until(mut command: Command, is_such: impl Fn(&str) -> bool) -> (Child, BufReader<std::process::ChildStderr>) {
    let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut said = BufReader::new(child.stderr.take().unwrap());
    let mut all = String::new();
    loop {
        let mut line = String::new();
        assert!(said.read_line(&mut line).unwrap() > 0, "{all}");
        all += &line;
        if is_such(&line) {
            return (child, said);
        }
    }
}

fn some_succeeded(line: &str) -> bool {
    line.contains("hold ") && !line.contains("succeeded 0 ")
}

fn count(results: &Value, name: &str) -> u64 {
    results[name].as_u64().unwrap()
}

#[test]
fn steps_that_are_killed_and_done_again_lose_nothing_and_do_nothing_twice() {
    let (chain, folder, mut redis) = (Chain::start("localnet"), Folder::new(), redis());
    prepare(&chain, &folder, &redis.address(), "queue");

    let early = folder.nearbench(&step("load", &[]));
    assert!(early.code == 4 && early.stderr.contains("no such run"), "{early:?}");
    // Killed on its way, and done again, twice.
    let (mut killed, _said) = until(folder.command(&step("provision", &[])), |line| line.contains("done 1/"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    for _ in 0..2 {
        let provisioned = folder.nearbench(&step("provision", &[]));
        assert_eq!(provisioned.code, 0, "{provisioned:?}");
    }
    assert_eq!(chain.tokens("ft.bench.test.near", "bench.test.near"), 1_000_500, "minted once");
    assert_eq!(chain.keys("bench.test.near").len(), 5);

    let mut workers = [worker(&folder, &[]), worker(&folder, &[])];
    let other = {
        let command = folder.command(&step("load", &["--generator", "1"]));
        std::thread::spawn(move || until(command, some_succeeded))
    };
    // One generator is told to end and goes on; the other is killed, and goes on too. So does a worker that was not told.
    let (mut told, _said) = until(folder.command(&step("load", &["--generator", "0"])), |line| line.contains("hold "));
    signal("-TERM", told.id());
    assert_eq!(told.wait().unwrap().code(), Some(3));
    // Whoever goes on from there is killed, and its successor knows of what it added.
    let (mut killed, _said) =
        until(folder.command(&step("load", &["--generator", "0"])), |line| line.contains("hold "));
    std::thread::sleep(Duration::from_secs(1));
    killed.kill().unwrap();
    killed.wait().unwrap();
    let resumed = {
        let mut command = folder.command(&step("load", &["--generator", "0"]));
        std::thread::spawn(move || command.output().unwrap())
    };
    let (mut killed, _said) = other.join().unwrap();
    killed.kill().unwrap();
    killed.wait().unwrap();
    workers[0].kill().unwrap();
    workers[0].wait().unwrap();
    redis.kill();
    redis.restart();
    let again = folder.nearbench(&step("load", &["--generator", "1"]));
    assert_eq!(again.code, 0, "{again:?}");
    let resumed = resumed.join().unwrap();
    assert!(resumed.status.success(), "{resumed:?}");
    let once_more = folder.nearbench(&step("load", &["--generator", "1"]));
    assert!(once_more.code == 0 && once_more.stderr.contains("offered already"), "{once_more:?}");

    let (mut killed, _said) =
        until(folder.command(&step("conclude", &["--out", "out"])), |line| line.contains("Draining"));
    killed.kill().unwrap();
    killed.wait().unwrap();
    for _ in 0..2 {
        let concluded = folder.nearbench(&step("conclude", &["--out", "out"]));
        assert_eq!(concluded.code, 0, "{concluded:?}");
        let results = &folder.report()["results"];
        assert_eq!(count(results, "offered"), 240);
        assert!(count(results, "accepted") > 120 && count(results, "notSent") > 0, "{results:#}");
        assert_eq!(count(results, "succeeded"), count(results, "accepted"), "{results:#}");
        assert_eq!(results["audit"]["matches"], true, "{results:#}");
        assert_eq!(count(results, "restarts"), 4, "two generators, one of them twice, and a worker: {results:#}");
        assert_eq!(results["restartsByPart"], json!({"run": null, "workers": 1, "generators": 3}));
        let [endpoint] = &results["endpoints"].as_array().unwrap()[..] else { panic!("{results:#}") };
        assert_eq!((&endpoint["url"], endpoint["requests"].as_u64() > Some(0)), (&chain.url.as_str().into(), true));
    }
    for _ in 0..2 {
        let cleaned = folder.nearbench(&step("clean-up", &["--forget"]));
        assert!(cleaned.code == 0 || cleaned.stderr.contains("no such run"), "{cleaned:?}");
        assert_eq!(chain.keys("bench.test.near").len(), 1, "the master key is left");
        if redis.keys() == 0 {
            break;
        }
    }
    assert_eq!(redis.keys(), 0);
    drop(workers[1].stdin.take());
    workers[1].wait().unwrap();
}

#[test]
fn generators_reach_the_workers_over_http_with_the_token_of_the_load() {
    let (chain, folder, redis) = (Chain::start("localnet"), Folder::new(), redis());
    prepare(&chain, &folder, &redis.address(), "http");
    let token = folder.nearbench(&["token", "load", "--file", "tokens"]);
    folder.write("own/nearbench-token", &token.stdout);
    let address = free_ports(1)[0].to_string();
    assert_eq!(folder.nearbench(&step("provision", &[])).code, 0);
    let mut worker = worker(&folder, &["--listen", &address, "--tokens", "tokens"]);
    let refused = folder.nearbench(&step("load", &[]));
    assert!(refused.code == 2 && refused.stderr.contains("--api"), "{refused:?}");
    let generators: Vec<_> = ["0", "1"]
        .map(|n| {
            let mut command = folder.command(&step("load", &["--generator", n, "--api", &address]));
            std::thread::spawn(move || command.output().unwrap())
        })
        .into_iter()
        .map(|generator| generator.join().unwrap())
        .collect();
    assert!(generators.iter().all(|ended| ended.status.success()), "{generators:?}");
    let concluded = folder.nearbench(&step("conclude", &["--out", "out"]));
    assert_eq!(concluded.code, 0, "{concluded:?}");
    let results = &folder.report()["results"];
    assert_eq!((count(results, "offered"), count(results, "succeeded")), (240, 240), "{results:#}");
    assert!(results["latencyMs"]["accept"]["p95"].as_f64().unwrap() > 0.0, "{results:#}");
    assert_eq!(results["audit"]["matches"], true);
    drop(worker.stdin.take());
    worker.wait().unwrap();
}

#[test]
fn a_load_that_was_ended_before_it_began_is_reported_as_such() {
    let (chain, folder, redis) = (Chain::start("localnet"), Folder::new(), redis());
    prepare(&chain, &folder, &redis.address(), "queue");
    assert_eq!(folder.nearbench(&step("provision", &[])).code, 0);
    let whole = folder.nearbench(&step("conclude", &["--out", "out"]));
    assert!(whole.code == 4 && whole.stderr.contains("its load never began"), "{whole:?}");
    for _ in 0..2 {
        let concluded = folder.nearbench(&step("conclude", &["--out", "out", "--stopped-early"]));
        assert_eq!(concluded.code, 0, "{concluded:?}");
        let report = folder.report();
        assert_eq!(report["verdict"], "Inconclusive", "{report:#}");
        let results = &report["results"];
        assert_eq!((count(results, "sent"), count(results, "notSent")), (0, 240), "{results:#}");
        assert_eq!(results["audit"]["matches"], true, "{results:#}");
    }
}
