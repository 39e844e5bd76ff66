//! A run that is watched while it goes on, as a browser watches it.

use crate::{
    fleet::redis,
    harness::{Folder, free_ports},
};
use serde_json::Value;
use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    thread::{self, JoinHandle},
};

const RUN: &str = r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: watched}
spec:
  network: {profile: devnet}
  account: {accountId: bench.near, keys: {count: 4}}
  token: {contractId: ft.bench.near, deploy: {}}
  receivers: {count: 5, prefix: user}
  load: {maxSendLag: 1h, phases: [{name: steady, duration: 6, arrivalRate: 20}]}
"#;

fn ask(address: SocketAddr, path: &str, host: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn answer(address: SocketAddr, path: &str, host: &str) -> String {
    let mut text = String::new();
    ask(address, path, host).read_to_string(&mut text).unwrap();
    text
}

/// Every event until there are no more: its name and its data.
fn events(address: SocketAddr) -> JoinHandle<Vec<(String, Value)>> {
    let stream = ask(address, "/events", "localhost");
    thread::spawn(move || {
        let (mut events, mut name) = (Vec::new(), String::new());
        for line in BufReader::new(stream).lines().map_while(Result::ok) {
            if let Some(event) = line.strip_prefix("event: ") {
                event.clone_into(&mut name);
            } else if let Some(data) = line.strip_prefix("data: ") {
                events.push((name.clone(), serde_json::from_str(data).unwrap()));
            }
        }
        events
    })
}

/// Watches a run to its end; what was seen of it, and its report.
fn watched(more: &[&str]) -> (Vec<(String, Value)>, Value) {
    let (folder, port) = (Folder::new(), free_ports(1)[0]);
    folder.write("run.yaml", RUN);
    let ui = format!("--ui={}", port.port());
    let (mut seen, mut shown) = (None, false);
    let ended = folder.listened(&[&["run", "run.yaml", &ui], more].concat(), |line| {
        if line.contains(&format!("it is shown at http://{port}/")) {
            shown = true;
            seen = Some(events(port));
            let page = answer(port, "/", "127.0.0.1:7400");
            assert!(page.starts_with("HTTP/1.1 200") && page.contains("connect-src 'self'"), "{page}");
            for path in ["/", "/events"] {
                let foreign = answer(port, path, "bench.example.com:80");
                assert!(foreign.starts_with("HTTP/1.1 403") && foreign.contains("http://127.0.0.1:PORT/"), "{foreign}");
            }
        }
    });
    assert!(shown && matches!(ended.code, 0 | 3), "{ended:?}");
    (seen.unwrap().join().unwrap(), folder.report())
}

/// What every run that is watched shows.
fn is_whole(events: &[(String, Value)], report: &Value) {
    let (last, views) = events.split_last().unwrap();
    assert_eq!(last, &("report".to_owned(), report.clone()), "the report comes last");
    assert!(views.iter().all(|(name, _)| name == "view"));
    let views: Vec<_> = views.iter().map(|(_, view)| view).collect();
    let stages: Vec<_> = views.iter().map(|view| view["stage"].as_str().unwrap()).collect();
    assert!(stages.contains(&"Provisioning") && stages.contains(&"Running"), "{stages:?}");
    assert!(views.iter().all(|view| view["name"] == "watched" && view["target"] == 20.0));
    let most = |field: &str| views.iter().filter_map(|view| view[field].as_u64()).max().unwrap();
    let results = &report["results"];
    assert_eq!(Some(most("offered")), results["offered"].as_u64());
    assert!(most("succeeded") > 0 && Some(most("succeeded")) <= results["succeeded"].as_u64());
    let last = views.last().unwrap();
    let series = last["series"].as_array().unwrap();
    assert!(series.len() >= 3, "{last}");
    let all = |field: &str| series.iter().map(|point| point[field].as_f64().unwrap()).sum::<f64>();
    for field in ["offered", "accepted", "succeeded", "transactions"] {
        assert!(all(field) > 0.0, "{field}: {last}");
    }
    assert!(series.iter().any(|point| point["settleMeanMs"].as_f64() <= point["settleMaxMs"].as_f64()), "{last}");
    assert!(last["settle"]["p95"].as_f64().unwrap() > 0.0);
}

#[test]
fn a_run_in_one_process_is_shown_to_its_report() {
    let (events, report) = watched(&[]);
    is_whole(&events, &report);
}

#[test]
fn a_run_with_workers_is_shown_as_they_tell_it() {
    let redis = redis();
    let (events, report) = watched(&["--workers", "2", "--redis-url", &redis.address()]);
    is_whole(&events, &report);
}

#[test]
fn a_page_that_cannot_be_served_is_told_before_anything_is_made() {
    let (folder, taken) = (Folder::new(), TcpListener::bind("127.0.0.1:0").unwrap());
    folder.write("run.yaml", RUN);
    let port = taken.local_addr().unwrap().port();
    let ended = folder.nearbench(&["run", "run.yaml", &format!("--ui={port}")]);
    assert_eq!(ended.code, 2);
    assert!(ended.stderr.starts_with(&format!("error: --ui {port}: cannot serve on 127.0.0.1:{port}")), "{ended:?}");
    assert!(!folder.path().join("out").exists());
}
