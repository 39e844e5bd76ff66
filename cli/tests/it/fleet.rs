//! Runs with worker processes on a real Redis: workers that are killed, that are held up past their leases and wake, and a
//! run that is killed with its workers, each ending in an audit that matches.

use crate::{
    harness::{Chain, Folder},
    kills,
};
use nearbench_testing::redis::{RedisServer, eventually};
use rand::{SeedableRng, rngs::StdRng};
use serde_json::{Value, json};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

/// Longer than any of these takes.
const PATIENCE: Duration = Duration::from_secs(120);

/// A Redis that survives its own end, as one in production would.
pub(crate) fn redis() -> RedisServer {
    RedisServer::start(&["--appendonly", "yes"])
}

pub(crate) fn signal(name: &str, pid: u32) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

pub(crate) fn is_alive(pid: u32) -> bool {
    // One that ended and was not waited for is a zombie.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

/// The process of a worker that the log tells of.
pub(crate) fn worker_pid(line: &str) -> Option<u32> {
    let (_, rest) = line.contains("worker started").then(|| line.split_once("pid="))??;
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().ok()
}

fn manifest(network: &str, payer: &str, account: &str, more: &str, seconds: u32) -> String {
    format!(
        r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: fleet}}
spec:
  network: {network}
  account: {{accountId: {payer}, {account}keys: {{count: 8}}}}
  token:
    contractId: ft.{payer}
    deploy: {{totalSupply: "1000000"}}
  receivers: {{count: 20, prefix: user}}
{more}  load:
    timeout: 2m
    phases:
      - {{name: hold, duration: {seconds}, arrivalRate: 50}}
"#
    )
}

fn on(chain: &Chain, folder: &Folder, more: &str, seconds: u32) {
    chain.secret(folder, "root", &chain.root);
    let network = format!("{{profile: localnet, endpoints: [{{url: \"{}\"}}]}}", chain.url);
    let account = "createFrom: {accountId: test.near, secretRef: {name: root}, initialBalance: \"100 NEAR\"}, ";
    folder.write("run.yaml", &manifest(&network, "bench.test.near", account, more, seconds));
}

/// Every transfer that was accepted moved its tokens once, and nothing is left behind.
pub(crate) fn examine(folder: &Folder, redis: &RedisServer) -> Value {
    let report = folder.report();
    let results = &report["results"];
    let count = |name: &str| results[name].as_u64().unwrap();
    assert!(count("accepted") > 0, "{results:#}");
    assert_eq!(count("succeeded"), count("accepted"), "{results:#}");
    assert_eq!(results["audit"]["matches"], true, "{results:#}");
    assert_eq!(results["audit"]["transfersFound"], results["succeeded"]);
    assert_eq!(folder.left(), ["report.html", "report.json"]);
    assert_eq!(redis.keys(), 0, "keys are left in Redis");
    report
}

#[test]
fn workers_that_are_killed_or_held_up_past_their_leases_lose_nothing_and_pay_nothing_twice() {
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    let redis = redis();
    on(&chain, &folder, "", 26);
    let mut pids = Vec::new();
    let mut deeds = None;
    let url = redis.address();
    let arguments = ["--log", "info", "run", "run.yaml", "--workers", "4", "--redis-url", &url];
    let mut said = String::new();
    let ended = folder.listened(&arguments, |line| {
        said += &format!("{line}\n");
        pids.extend(worker_pid(line));
        if line.contains("workers hold") {
            let (killed, stopped) = (pids[0], pids[1]);
            deeds = Some(thread::spawn(move || {
                thread::sleep(Duration::from_secs(2));
                signal("-KILL", killed);
                thread::sleep(Duration::from_secs(1));
                signal("-STOP", stopped);
                thread::sleep(Duration::from_secs(18));
                signal("-CONT", stopped);
            }));
        }
    });
    deeds.expect("the workers were at work").join().unwrap();
    assert!(matches!(ended.code, 0 | 3), "{said}");
    let report = examine(&folder, &redis);
    assert_eq!(report["results"]["restarts"], 1, "{said}");
    assert_eq!(report["results"]["restartsByPart"], json!({"run": 0, "workers": 1, "generators": null}));
    assert_eq!(report["plan"]["workers"], 4);
    assert_eq!(report["results"]["offered"], 1300);
    assert!(pids.len() == 5 && pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    assert_eq!(chain.keys("bench.test.near").len(), 1, "the run's keys are removed");
}

#[test]
fn a_redis_that_is_killed_and_comes_back_loses_nothing_and_nothing_is_paid_twice() {
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    let redis = Arc::new(Mutex::new(redis()));
    on(&chain, &folder, "", 24);
    let url = redis.lock().unwrap().address();
    let arguments = ["--log", "info", "run", "run.yaml", "--workers", "4", "--redis-url", &url];
    let (mut said, mut deeds) = (String::new(), None);
    let ended = folder.listened(&arguments, |line| {
        said += &format!("{line}\n");
        if line.contains("workers hold") {
            let redis = redis.clone();
            deeds = Some(thread::spawn(move || {
                thread::sleep(Duration::from_secs(3));
                let mut redis = redis.lock().unwrap();
                redis.kill();
                thread::sleep(Duration::from_secs(2));
                redis.restart();
            }));
        }
    });
    deeds.expect("the workers were at work").join().unwrap();
    assert!(matches!(ended.code, 0 | 3), "{said}");
    assert!(said.contains("the store is whole again"), "{said}");
    let report = examine(&folder, &redis.lock().unwrap());
    assert_eq!(report["results"]["accepted"], 1200, "{said}");
}

#[test]
fn a_chain_that_fails_in_every_way_and_a_worker_that_is_killed_lose_nothing_and_nothing_is_paid_twice() {
    let (chain, folder) = (Chain::with_blocks_every("localnet", Duration::from_millis(400)), Folder::new());
    let redis = redis();
    on(&chain, &folder, "", 24);
    let url = redis.address();
    let rules = kills::every_fault(&mut StdRng::seed_from_u64(6));
    let arguments = ["--log", "info", "run", "run.yaml", "--workers", "4", "--redis-url", &url];
    let (mut pids, mut said, mut deeds) = (Vec::new(), String::new(), None);
    let ended = folder.listened(&arguments, |line| {
        said += &format!("{line}\n");
        pids.extend(worker_pid(line));
        if line.contains("workers hold") {
            chain.fail(&json!({"seed": 6, "rules": rules}));
            let killed = pids[0];
            deeds = Some(thread::spawn(move || {
                thread::sleep(Duration::from_secs(5));
                signal("-KILL", killed);
            }));
        }
        // A chain that fails without end may leave something without proof, as it should. What the load left is to end.
        if line.contains("==> Draining") {
            chain.fail(&json!({"rules": []}));
        }
    });
    deeds.expect("the workers were at work").join().unwrap();
    assert!(matches!(ended.code, 0 | 1 | 3), "{said}");
    let report = examine(&folder, &redis);
    assert_eq!(report["results"]["unknown"], 0, "{said}");
    assert_eq!(report["results"]["restarts"], 1, "{said}");
}

/// Whatever a sentinel needs to watch `primary`, in a folder of its own: it writes there too.
fn sentinel(primary: &RedisServer, password: &str) -> RedisServer {
    let folder = tempfile::tempdir().unwrap();
    let conf = folder.path().join("sentinel.conf");
    let port = primary.port;
    let text = format!(
        "sentinel monitor payments 127.0.0.1 {port} 1\nsentinel down-after-milliseconds payments 1000\n\
         sentinel failover-timeout payments 5000\nsentinel auth-pass payments {password}\n"
    );
    fs::write(&conf, text).unwrap();
    RedisServer::start_sentinel(folder, &conf)
}

#[test]
fn a_failover_by_sentinel_loses_nothing_pays_nothing_twice_and_no_secret_is_told() {
    const PASSWORD: &str = "correct-horse-battery";
    let (chain, folder) = (Chain::start("localnet"), Folder::new());
    let mut primary = redis();
    let mut replica = primary.replica(&["--appendonly", "yes"]);
    for server in [&mut primary, &mut replica] {
        server.ask(&["CONFIG", "SET", "masterauth", PASSWORD]);
        server.ask(&["CONFIG", "SET", "requirepass", PASSWORD]);
        server.log_in("default", PASSWORD);
    }
    let sentinel = sentinel(&primary, PASSWORD);
    eventually("the sentinel knows the replica", || {
        format!("{:?}", sentinel.ask(&["SENTINEL", "REPLICAS", "payments"])).contains(&replica.port.to_string())
    });
    on(&chain, &folder, "", 24);
    let url = format!("redis+sentinel://:{PASSWORD}@127.0.0.1:{}/payments", sentinel.port);
    folder.write("redis-url", &url);
    let arguments = ["--log", "debug", "run", "run.yaml", "--workers", "4", "--redis-url-file", "redis-url"];
    let (mut said, mut primary) = (String::new(), Some(primary));
    let ended = folder.listened(&arguments, |line| {
        said += &format!("{line}\n");
        if line.contains("succeeded") && !line.contains("succeeded 0") {
            // For good: what was its, is the replica's.
            primary.take();
        }
    });
    assert!(primary.is_none(), "the primary was killed: {said}");
    let told: Vec<_> = said.lines().filter(|line| !line.contains(" DEBUG ") && !line.contains(" TRACE ")).collect();
    let told = told.join("\n");
    assert!(matches!(ended.code, 0 | 3), "{told}");
    assert!(said.contains("the store is whole again"), "{told}");
    let report = examine(&folder, &replica);
    assert_eq!(report["results"]["accepted"], report["results"]["sent"], "{told}");
    for secret in [PASSWORD, chain.root.secret().expose()] {
        let secret = secret.trim_start_matches("ed25519:");
        assert!(
            ![&said, &ended.stdout, &report.to_string()].iter().any(|text| text.contains(secret)),
            "a secret is told"
        );
    }
}

#[test]
fn a_run_that_is_killed_takes_its_workers_with_it_and_is_resumed_with_new_ones() {
    let folder = Folder::new();
    let redis = redis();
    let more = "  store: {redis: {secretRef: {name: redis}}}\n  workers: {replicas: 2}\n";
    folder.write("secrets/redis/nearbench-redis-url", &redis.address());
    folder.write("run.yaml", &manifest("{profile: devnet}", "bench.near", "", more, 10));
    let mut child = folder
        .command(&["--log", "info", "run", "run.yaml"])
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut pids, mut said) = (Vec::new(), String::new());
    for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
        pids.extend(worker_pid(&line));
        said += &format!("{line}\n");
        if line.contains("workers hold") {
            thread::sleep(Duration::from_secs(3));
            child.kill().unwrap();
            break;
        }
    }
    assert!(!child.wait().unwrap().success(), "{said}");
    assert_eq!(pids.len(), 2, "{said}");
    let began = Instant::now();
    while pids.iter().any(|pid| is_alive(*pid)) {
        assert!(began.elapsed() < PATIENCE, "the workers outlive their run");
        thread::sleep(Duration::from_millis(50));
    }
    let again = folder.nearbench(&["run", "run.yaml"]);
    assert!(again.code == 2 && again.stderr.contains("--resume"), "{again:?}");
    let ended = folder.nearbench(&["run", "--resume"]);
    assert!(matches!(ended.code, 0 | 1 | 3), "{ended:?}");
    let report = examine(&folder, &redis);
    assert_eq!(report["results"]["restarts"], 1, "{ended:?}");
}

#[test]
fn a_fleet_that_cannot_be_is_refused_before_anything_is_made() {
    let folder = Folder::new();
    folder.write("run.yaml", &manifest("{profile: devnet}", "bench.near", "", "", 5));
    folder.write("open", "redis://127.0.0.1:1");
    fs::set_permissions(folder.path().join("open"), std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    for (arguments, told) in [
        (&["--workers", "4"][..], "--redis-url"),
        (&["--redis-url", "redis://user:hidden@127.0.0.1:1"], "--redis-url-file"),
        (&["--redis-url", "http://127.0.0.1:1"], "scheme"),
        (&["--redis-url-file", "open"], "chmod 600"),
        (&["--redis-url-file", "nowhere"], "nowhere"),
        (&["--workers", "0", "--redis-url", "redis://127.0.0.1:1"], "--workers"),
    ] {
        let ended = folder.nearbench(&[&["run", "run.yaml"], arguments].concat());
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(told) && !ended.stderr.contains("hidden"), "{arguments:?}: {}", ended.stderr);
        assert!(!folder.path().join("out").exists(), "{arguments:?}: nothing was made");
    }
    let more = "  store: {redis: {secretRef: {name: redis}}}\n";
    folder.write("run.yaml", &manifest("{profile: devnet}", "bench.near", "", more, 5));
    let ended = folder.nearbench(&["run", "run.yaml"]);
    assert_eq!(ended.code, 2, "{ended:?}");
    assert!(ended.stderr.contains("spec.store.redis.secretRef"), "{}", ended.stderr);
}
