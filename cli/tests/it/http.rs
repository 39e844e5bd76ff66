//! Loads that reach a run over HTTP: its own, as clients of the transfer API would send it, and that of others.

use crate::{
    fleet::{examine, is_alive, redis, signal, worker_pid},
    harness::{Client, Folder, free_ports},
};
use std::{
    fs,
    net::SocketAddr,
    thread::{self, JoinHandle},
    time::Duration,
};

fn manifest(load: &str, seconds: u32) -> String {
    format!(
        r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: over-http}}
spec:
  network: {{profile: devnet}}
  account: {{accountId: bench.near, keys: {{count: 8}}}}
  token:
    contractId: ft.bench.near
    deploy: {{totalSupply: "1000000"}}
  receivers: {{count: 20, prefix: user}}
  load:
    timeout: 1m
{load}
    phases:
      - {{name: hold, duration: {seconds}, arrivalRate: 60}}
"#
    )
}

#[test]
fn a_load_over_http_ends_in_the_same_audit_and_leaves_no_key_of_it_anywhere() {
    let folder = Folder::new();
    folder.write("run.yaml", &manifest("    via: http\n    connections: 8", 6));
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

#[test]
fn a_load_over_http_to_workers_one_of_which_is_killed_loses_nothing_and_pays_nothing_twice() {
    let (folder, redis) = (Folder::new(), redis());
    folder.write("run.yaml", &manifest("    via: http", 10));
    let url = redis.address();
    let (mut pids, mut said, mut deed) = (Vec::new(), String::new(), None);
    let arguments = ["--log", "info", "run", "run.yaml", "--workers", "3", "--redis-url", &url];
    let ended = folder.listened(&arguments, |line| {
        said += &format!("{line}\n");
        pids.extend(worker_pid(line));
        if line.contains("workers hold") {
            let killed = pids[0];
            deed = Some(thread::spawn(move || {
                thread::sleep(Duration::from_secs(3));
                signal("-KILL", killed);
            }));
        }
    });
    deed.expect("the workers were at work").join().unwrap();
    assert!(matches!(ended.code, 0 | 3), "{said}");
    let report = examine(&folder, &redis);
    assert_eq!(report["results"]["offered"], 600);
    assert_eq!(report["results"]["accepted"], report["results"]["sent"], "{said}");
    assert!(pids.len() == 4 && pids.iter().all(|pid| !is_alive(*pid)), "{pids:?}");
    assert!(!said.contains("nbt_") && !report.to_string().contains("nbt_"), "{said}");
}

/// Sends transfers to `addresses` by turns, each under a key of its own and every second one again, to another.
fn send(addresses: Vec<SocketAddr>, token: String, count: usize) -> JoinHandle<()> {
    thread::spawn(move || {
        let clients: Vec<_> = addresses.into_iter().map(|address| Client::new(address, &token)).collect();
        for n in 0..count {
            let (key, body) =
                (format!("order-{n}"), format!(r#"{{"receiver_id":"user-{}.bench.near","amount":"3"}}"#, n % 20));
            let client = &clients[n % clients.len()];
            let first = client.post_until_open("/v1/transfers", &key, &body);
            assert_eq!(first.0, 202, "{}", first.1);
            if n % 2 == 0 {
                let again = clients[(n + 1) % clients.len()].post("/v1/transfers", &key, &body);
                assert_eq!((again.0, &again.1["transfer_id"]), (200, &first.1["transfer_id"]), "{}", again.1);
            }
        }
        let other = r#"{"receiver_id":"user-0.bench.near","amount":"4"}"#;
        assert_eq!(clients[0].post("/v1/transfers", "order-0", other).0, 409);
        let stranger = Client::new(clients[0].address(), "nbt_stranger");
        assert_eq!(stranger.post("/v1/transfers", "order-0", other).0, 401);
    })
}

/// Makes a token for those who send.
fn token(folder: &Folder) -> String {
    let made = folder.nearbench(&["token", "shop", "--file", "tokens"]);
    assert_eq!(made.code, 0, "{made:?}");
    made.stdout.trim().to_owned()
}

fn of_others(folder: &Folder, ports: &[SocketAddr], more: &[&str]) -> String {
    let token = token(folder);
    let api = ports[0].to_string();
    let arguments = [&["--log", "info", "run", "run.yaml", "--api", &api, "--tokens", "tokens"], more].concat();
    let (mut said, mut sender) = (String::new(), None);
    let ended = folder.listened(&arguments, |line| {
        said += &format!("{line}\n");
        if line.contains("others send") {
            sender = Some(send(ports.to_vec(), token.clone(), 50));
        }
    });
    sender.expect("the API was told of").join().unwrap();
    assert!(matches!(ended.code, 0 | 3), "{said}");
    for text in [&said, &ended.stdout, &fs::read_to_string(folder.path().join("out/report.json")).unwrap()] {
        assert!(!text.contains(&token[4..]), "the token is told");
    }
    said
}

#[test]
fn what_others_send_is_measured_and_audited() {
    let (folder, ports) = (Folder::new(), free_ports(1));
    folder.write("run.yaml", &manifest("    via: external", 6));
    let said = of_others(&folder, &ports, &[]);
    let report = folder.report();
    let results = &report["results"];
    for count in ["offered", "sent", "accepted", "succeeded"] {
        assert_eq!(results[count], 50, "{count}: {said}");
    }
    assert_eq!(
        (&results["audit"]["matches"], &results["audit"]["transfersFound"]),
        (&true.into(), &50.into()),
        "{said}"
    );
}

#[test]
fn what_others_send_to_workers_is_measured_and_audited() {
    let (folder, redis, ports) = (Folder::new(), redis(), free_ports(2));
    folder.write("run.yaml", &manifest("    via: external", 8));
    let said = of_others(&folder, &ports, &["--workers", "2", "--redis-url", &redis.address()]);
    let report = examine(&folder, &redis);
    assert_eq!(report["results"]["accepted"], 50, "{said}");
    assert_eq!(report["results"]["offered"], report["results"]["sent"], "{said}");
}

#[test]
fn an_api_that_cannot_be_is_refused_before_anything_is_made() {
    let (folder, ports) = (Folder::new(), free_ports(1));
    folder.write("external.yaml", &manifest("    via: external", 5));
    folder.write("queue.yaml", &manifest("    via: queue", 5));
    folder.write("no-tokens", "nonsense");
    let taken = std::net::TcpListener::bind(ports[0]).unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (arguments, told) in [
        (&["external.yaml"][..], "--api"),
        (&["external.yaml", "--api", "0.0.0.0:1"], "without tokens"),
        (&["external.yaml", "--api", &taken], "cannot serve"),
        (
            &["external.yaml", "--api", "127.0.0.1:65535", "--workers", "2", "--redis-url", "redis://127.0.0.1:1"],
            "ports",
        ),
        (&["external.yaml", "--api", "127.0.0.1:1", "--tokens", "no-tokens"], "line 1"),
        (&["queue.yaml", "--api", "127.0.0.1:1"], "spec.load.via"),
    ] {
        let ended = folder.nearbench(&[&["run"], arguments].concat());
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(told), "{arguments:?}: {}", ended.stderr);
        assert!(!folder.path().join("out").exists(), "{arguments:?}: nothing was made");
    }
}
