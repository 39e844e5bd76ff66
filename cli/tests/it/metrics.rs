//! What Prometheus is told while a run is under way, as its own tool reads it.

use crate::{
    fleet::redis,
    harness::{Folder, free_ports},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    io::{Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    process::{Command, Stdio},
};

const RUN: &str = r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: told}
spec:
  network: {profile: devnet}
  account: {accountId: bench.near, keys: {count: 4}}
  token: {contractId: ft.bench.near, deploy: {}}
  receivers: {count: 5, prefix: user}
  load: {maxSendLag: 1h, phases: [{name: steady, duration: 5, arrivalRate: 20}]}
"#;

/// `/metrics`, checked.
fn metrics(address: SocketAddr) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, text) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200") && head.contains("text/plain; version=0.0.4"), "{head}");
    let mut tool = Command::new("promtool");
    tool.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut checking = tool.spawn().unwrap();
    checking.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let checked = checking.wait_with_output().unwrap();
    assert!(checked.status.success(), "{}\n{text}", String::from_utf8_lossy(&checked.stderr));
    text.to_owned()
}

/// A sample, by its name and labels.
fn sample(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap())
}

fn transfers(text: &str, state: &str) -> Option<f64> {
    sample(text, &format!("nearbench_transfers_total{{run=\"told\",state=\"{state}\"}}"))
}

#[test]
fn a_run_in_one_process_tells_prometheus_all_of_it() {
    let (folder, ports) = (Folder::new(), free_ports(1));
    folder.write("run.yaml", RUN);
    let mut told = None;
    let ended = folder.listened(&["run", "run.yaml", "--metrics-addr", &ports[0].to_string()], |line| {
        if line.contains("Draining") {
            told = Some(metrics(ports[0]));
        }
    });
    assert!(matches!(ended.code, 0 | 3), "{ended:?}");
    let text = told.expect("it drained");
    let results = &folder.report()["results"];
    for state in ["offered", "accepted"] {
        assert_eq!(transfers(&text, state), results[state].as_f64(), "{text}");
    }
    let succeeded = transfers(&text, "succeeded").unwrap();
    assert!(succeeded > 0.0 && Some(succeeded) <= results["succeeded"].as_f64());
    assert_eq!(sample(&text, "nearbench_settle_latency_seconds_count{run=\"told\"}"), Some(succeeded));
    assert_eq!(sample(&text, "nearbench_batch_size_sum{run=\"told\"}"), Some(succeeded));
    // Every histogram ends with all of it: quantiles are not told otherwise.
    for histogram in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" histogram")) {
        let last = text.lines().rfind(|line| line.starts_with(&format!("{histogram}_bucket{{"))).unwrap();
        assert!(last.contains("le=\"+Inf\""), "{last}");
    }
    assert_eq!(sample(&text, "nearbench_lanes{run=\"told\",state=\"held\"}"), Some(4.0));
    assert!(sample(&text, "nearbench_account_balance_near{run=\"told\",account=\"bench.near\"}").unwrap() > 1.0);
    // No phase is under way any more.
    assert!(!text.contains("nearbench_target_tps{"), "{text}");
}

/// The names of all metrics, and of their labels where there is a sample.
fn shapes(text: &str) -> BTreeMap<String, BTreeSet<String>> {
    let names = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    let bare = |name: &str| name.trim_end_matches("_total").to_owned();
    let mut shapes: BTreeMap<_, BTreeSet<String>> = names.map(|name| (bare(name), BTreeSet::new())).collect();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, rest) = line.split_once('{').unwrap();
        let part = |suffix: &str| name.strip_suffix(suffix).map(str::to_owned);
        let family =
            ["_total", "_bucket", "_sum", "_count"].iter().find_map(|suffix| part(suffix)).unwrap_or(name.to_owned());
        let labels = rest.split('=').rev().skip(1).filter_map(|before| before.rsplit(['{', ',', '"']).next());
        shapes.get_mut(&family).unwrap().extend(labels.map(str::to_owned));
    }
    shapes
}

/// The dashboard and the alerts are tested on pages that this is like.
fn is_as_the_charts_tests_have_it(told: &[String], page: &str) {
    let told = told.iter().map(|text| shapes(text)).fold(BTreeMap::<_, BTreeSet<_>>::new(), |mut all, of_one| {
        of_one.into_iter().for_each(|(name, labels)| all.entry(name).or_default().extend(labels));
        all
    });
    for (name, labels) in shapes(page) {
        // A worker without a spool has none to tell of.
        if name != "nearbench_spooled_transfers" {
            let known = told.get(&name).unwrap_or_else(|| panic!("{name} is told by nobody"));
            assert!(known.is_empty() || *known == labels, "{name}: {known:?} and {labels:?}");
        }
    }
}

#[test]
fn a_metrics_address_that_cannot_be_is_refused_before_anything_is_made() {
    let folder = Folder::new();
    folder.write("run.yaml", RUN);
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let fleet = ["--workers", "2", "--redis-url", "redis://127.0.0.1:1"];
    for (address, more, told) in
        [(&*taken, &[][..], "cannot serve there"), ("127.0.0.1:65534", &fleet, "2 ports after it")]
    {
        let ended = folder.nearbench(&[&["run", "run.yaml", "--metrics-addr", address], more].concat());
        assert_eq!(ended.code, 2, "{ended:?}");
        assert!(ended.stderr.contains("--metrics-addr") && ended.stderr.contains(told), "{}", ended.stderr);
        assert!(!folder.path().join("out").exists());
    }
}

#[test]
fn a_run_and_its_workers_tell_each_what_it_counts() {
    let (folder, redis, ports) = (Folder::new(), redis(), free_ports(3));
    folder.write("run.yaml", RUN);
    let (address, url) = (ports[0].to_string(), redis.address());
    let (mut told, mut under_load) = (Vec::new(), Vec::new());
    let arguments = ["run", "run.yaml", "--workers", "2", "--redis-url", &url, "--metrics-addr", &address];
    let ended = folder.listened(&arguments, |line| {
        // The last line may come when it is over.
        if line.contains("load ends in") && !line.contains("load ends in 0s") {
            under_load = ports.iter().map(|port| metrics(*port)).collect();
        }
        if line.contains("Draining") {
            told = ports.iter().map(|port| metrics(*port)).collect();
        }
    });
    assert!(matches!(ended.code, 0 | 3), "{ended:?}");
    let [run, workers @ ..] = &told[..] else { panic!("it drained: {ended:?}") };
    let results = &folder.report()["results"];
    assert_eq!(transfers(run, "accepted"), results["accepted"].as_f64());
    assert_eq!(transfers(run, "succeeded"), None, "who sends does not count what became of it");
    assert_eq!(workers.len(), 2);
    let of_all = |series: &str| workers.iter().map(|text| sample(text, series).unwrap()).sum::<f64>();
    let succeeded = of_all("nearbench_transfers_total{run=\"told\",state=\"succeeded\"}");
    assert!(succeeded > 0.0 && Some(succeeded) <= results["succeeded"].as_f64());
    assert_eq!(of_all("nearbench_lanes{run=\"told\",state=\"held\"}"), 4.0);
    assert_eq!(of_all("nearbench_store_up{run=\"told\"}"), 2.0);
    assert!(workers.iter().all(|text| transfers(text, "accepted").is_none()));
    assert_eq!(sample(&under_load[0], "nearbench_target_tps{run=\"told\",phase=\"steady\"}"), Some(20.0));
    is_as_the_charts_tests_have_it(&under_load[1..], include_str!("../../../charts/tests/fixtures/worker.prom"));
    is_as_the_charts_tests_have_it(&under_load[..1], include_str!("../../../charts/tests/fixtures/generator.prom"));
}
