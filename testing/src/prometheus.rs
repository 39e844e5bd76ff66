//! A real Prometheus on a port and in a folder of its own, that scrapes what the test tells it and evaluates rules on it; it
//! ends with the test.

use crate::redis::free_port;
use serde_json::{Value, json};
use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// Between two scrapes of a target, and two evaluations of a rule that says nothing else.
const INTERVAL: &str = "250ms";
/// For how long something is waited for; nothing takes so long on a machine that is well.
const PATIENCE: Duration = Duration::from_secs(150);
const LOOK: Duration = Duration::from_millis(100);

/// A prometheus.
pub struct Prometheus {
    child: Child,
    port: u16,
    folder: TempDir,
}

impl Prometheus {
    /// Scrapes these, under these labels, and evaluates the rules of a file of this text.
    pub fn start(targets: &[SocketAddr], labels: &Value, rules: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let targets: Vec<_> = targets.iter().map(ToString::to_string).collect();
        // YAML is JSON, and more.
        let config = json!({
            "global": {"scrape_interval": INTERVAL, "scrape_timeout": INTERVAL, "evaluation_interval": INTERVAL},
            "rule_files": ["rules.yaml"],
            "scrape_configs": [{"job_name": "runs", "static_configs": [{"targets": targets, "labels": labels}]}],
        });
        fs::write(folder.path().join("prometheus.yaml"), config.to_string()).unwrap();
        fs::write(folder.path().join("rules.yaml"), rules).unwrap();
        let port = free_port();
        let child = Command::new("prometheus")
            .args(["--config.file=prometheus.yaml", "--storage.tsdb.path=data", "--log.level=warn"])
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .current_dir(folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(folder.path().join("log")).unwrap())
            .spawn()
            .expect("prometheus runs: install it with .ci/setup servers");
        let mut started = Self { child, port, folder };
        started.until("it is ready", |prometheus| prometheus.try_get("/-/ready").is_ok());
        started
    }

    /// Waits for `done`, and says what did not come about.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !done(self) {
            let well = Instant::now() < until && self.child.try_wait().unwrap().is_none();
            let log = || fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            assert!(well, "not within {PATIENCE:?}: {what}\n{:#}\n{}", json!(self.alerts()), log());
            thread::sleep(LOOK);
        }
    }

    /// What an expression comes to: labels and value of each sample.
    pub fn query(&self, expression: &str) -> Vec<(Value, f64)> {
        let encoded: String = expression.bytes().map(|byte| format!("%{byte:02X}")).collect();
        let data = self.ask(&format!("/api/v1/query?query={encoded}"));
        let samples = data["result"].as_array().unwrap().iter();
        samples
            .map(|sample| (sample["metric"].clone(), sample["value"][1].as_str().unwrap().parse().unwrap()))
            .collect()
    }

    /// The alerts that are pending or firing.
    pub fn alerts(&self) -> Vec<Value> {
        self.ask("/api/v1/alerts")["alerts"].as_array().unwrap().clone()
    }

    /// How the last scrape of each target went.
    pub fn targets(&self) -> Vec<Value> {
        self.ask("/api/v1/targets?state=active")["activeTargets"].as_array().unwrap().clone()
    }

    fn ask(&self, path: &str) -> Value {
        let answer: Value = serde_json::from_str(&self.try_get(path).unwrap()).unwrap();
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        answer["data"].clone()
    }

    fn try_get(&self, path: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        // Of HTTP/1.0, so that the body comes in one piece.
        write!(stream, "GET {path} HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let refused = || std::io::Error::other(format!("{path}: {answer}"));
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(refused)?;
        if head.split(' ').nth(1) == Some("200") { Ok(body.to_owned()) } else { Err(refused()) }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
