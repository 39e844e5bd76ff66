//! The alerts on a real run: a real Prometheus scrapes the run and its workers, and their endpoint fails for a while.

use crate::{
    fleet::{examine, redis, signal},
    harness::{Chain, Folder, free_ports},
};
use nearbench_testing::prometheus::Prometheus;
use serde_json::{Value, json};
use std::{
    fs::{self, File},
    process::{Child, Stdio},
};

/// The rules as users have them, with the chart's own thresholds.
const RULES: &str = include_str!("../../../docs/alerts.yaml");
/// The dashboard as Grafana has it.
const DASHBOARD: &str = include_str!("../../../charts/nearbench/files/dashboard.json");
/// What the operator tells, and workers that keep a spool: none of them is here. And errors that transfers meet: an endpoint's
/// failure is none.
const OF_OTHERS: [&str; 4] =
    ["nearbench_run_", "nearbench_operator_", "nearbench_spooled_transfers", "nearbench_errors_total"];
/// What lasts a minute in the rules lasts three seconds here.
const FASTER: u64 = 20;
/// The load is stopped once everything was seen.
const RUN: &str = r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: watched}
spec:
  network: {profile: localnet, endpoints: [{url: "URL"}]}
  account:
    accountId: bench.test.near
    createFrom: {accountId: test.near, secretRef: {name: root}, initialBalance: "100 NEAR"}
    keys: {count: 4}
  token: {contractId: ft.bench.test.near, deploy: {totalSupply: "1000000"}}
  receivers: {count: 5, prefix: user}
  load:
    timeout: 5m
    phases: [{name: steady, duration: 1h, arrivalRate: 20}]
  engine: {breaker: {resetTimeout: 1s}}
"#;

/// The rules word for word, but for their durations: what is in brackets, and after `for:` and `interval:`.
fn sooner(rules: &str) -> String {
    let mut text = String::new();
    for line in rules.lines() {
        let (before, rest) = match line.trim_start().split_once(": ") {
            Some(("for" | "interval", duration)) => (line.strip_suffix(duration).unwrap(), sooner_still(duration)),
            _ => ("", line.split_inclusive('[').map(window).collect()),
        };
        text += &format!("{before}{rest}\n");
    }
    text
}

/// What follows an opening bracket, up to the next one.
fn window(part: &str) -> String {
    match part.split_once(']') {
        Some((duration, rest)) => format!("{}]{rest}", sooner_still(duration)),
        None => part.to_owned(),
    }
}

fn sooner_still(duration: &str) -> String {
    let (count, unit) = duration.split_at(duration.len() - 1);
    let unit_ms = ["s", "m", "h", "d"].iter().position(|known| *known == unit).map(|n| [1, 60, 3600, 86400][n] * 1000);
    let ms = count.parse::<u64>().unwrap() * unit_ms.unwrap() / FASTER;
    format!("{ms}ms")
}

/// What the dashboard asks of runs and their workers, every run of every namespace being chosen.
fn expressions() -> Vec<String> {
    fn collect(value: &Value, found: &mut Vec<String>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("expr").and_then(Value::as_str).map(str::to_owned));
                fields.values().for_each(|value| collect(value, found));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, found)),
            _ => {}
        }
    }
    let mut found = Vec::new();
    collect(&serde_json::from_str(DASHBOARD).unwrap(), &mut found);
    found.retain(|expression| !OF_OTHERS.iter().any(|theirs| expression.contains(theirs)));
    let chosen = |expression: String| {
        let chosen = expression.replace("$namespace", ".*").replace("$run", ".*").replace("$__rate_interval", "1m");
        assert!(!chosen.contains('$'), "{chosen}");
        chosen
    };
    found.into_iter().map(chosen).collect()
}

/// A run under way, which ends with the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

/// The alert of this name, if it fires.
fn firing(prometheus: &Prometheus, name: &str) -> Option<Value> {
    let is_it = |alert: &Value| alert["labels"]["alertname"] == name && alert["state"] == "firing";
    prometheus.alerts().into_iter().find(is_it)
}

/// The value of an expression that comes to one sample or none.
fn value(prometheus: &Prometheus, expression: &str) -> Option<f64> {
    prometheus.query(expression).first().map(|(_, value)| *value)
}

/// Whether the run and its workers answer, and Prometheus could read what they answered.
fn all_are_read(prometheus: &Prometheus) -> bool {
    let targets = prometheus.targets();
    assert_eq!(targets.len(), 3, "{targets:#?}");
    targets.iter().all(|target| target["health"] == "up" && target["lastError"] == "")
        && value(prometheus, "min(scrape_samples_scraped)").is_some_and(|samples| samples > 10.0)
}

#[test]
fn an_endpoint_that_fails_raises_its_alert_and_the_alert_ends_with_the_fault() {
    let (chain, folder, redis, ports) = (Chain::start("localnet"), Folder::new(), redis(), free_ports(3));
    chain.secret(&folder, "root", &chain.root);
    folder.write("run.yaml", &RUN.replace("URL", &chain.url));
    let (address, url) = (ports[0].to_string(), redis.address());
    let arguments =
        ["--log", "info", "run", "run.yaml", "--workers", "2", "--redis-url", &url, "--metrics-addr", &address];
    let log = File::create(folder.path().join("log")).unwrap();
    let run = folder.command(&arguments).stdout(Stdio::null()).stderr(log).spawn().unwrap();
    let mut run = Running(run);
    // As where they are scraped in a cluster.
    let mut prometheus = Prometheus::start(&ports, &json!({"namespace": "bench"}), &sooner(RULES));

    let succeeded = "sum(nearbench_transfers_total{state=\"succeeded\"})";
    prometheus.until("transfers succeed, and all is scraped", |prometheus| {
        value(prometheus, succeeded).is_some_and(|count| count > 100.0) && all_are_read(prometheus)
    });
    assert_eq!(firing(&prometheus, "NearbenchBreakerOpen"), None);

    chain.fail(&json!([{"fault": "serverError"}]));
    // The cause, and its effect.
    let (mut cause, mut effect) = (None, None);
    prometheus.until("both alerts fire", |prometheus| {
        cause = cause.take().or_else(|| firing(prometheus, "NearbenchBreakerOpen"));
        effect = effect.take().or_else(|| firing(prometheus, "NearbenchTpsLow"));
        cause.is_some() && effect.is_some()
    });
    let (cause, effect) = (cause.unwrap(), effect.unwrap());
    assert_eq!(
        cause["labels"],
        json!({"alertname": "NearbenchBreakerOpen", "severity": "warning", "namespace": "bench", "run": "watched",
            "endpoint": chain.url})
    );
    assert_eq!(cause["annotations"]["summary"], format!("Run watched sets endpoint {} aside", chain.url));
    assert_eq!(
        effect["labels"],
        json!({"alertname": "NearbenchTpsLow", "severity": "warning", "namespace": "bench", "run": "watched"})
    );
    assert!(all_are_read(&prometheus), "{:#?}", prometheus.targets());

    chain.heal();
    prometheus.until("neither alert fires, and the run goes on", |prometheus| {
        let quiet = ["NearbenchBreakerOpen", "NearbenchTpsLow"].iter().all(|name| firing(prometheus, name).is_none());
        // An alert also ends with the processes that it is about: these are there, and say that all is well.
        quiet && all_are_read(prometheus) && value(prometheus, "max(nearbench_breaker_state)") == Some(0.0)
    });
    // What Grafana would draw of this run just now.
    let asked = expressions();
    assert!(asked.len() > 30, "{asked:?}");
    for expression in &asked {
        prometheus.until(&format!("the dashboard has data of {expression}"), |prometheus| {
            let data = prometheus.query(expression);
            !data.is_empty() && data.iter().all(|(_, value)| !value.is_nan())
        });
    }
    let critical = prometheus.query("max_over_time(ALERTS{alertstate=\"firing\", severity=\"critical\"}[1h])");
    assert_eq!(critical, [], "nothing was lost");

    signal("-INT", run.0.id());
    let code = run.0.wait().unwrap().code();
    let said = fs::read_to_string(folder.path().join("log")).unwrap();
    assert_eq!(code, Some(3), "it was stopped: {said}");
    examine(&folder, &redis);
}
