//! Runs that are killed, in the middle of anything and again while they are resumed, and their chain with them or apart
//! from them, behind an endpoint that fails in every way: no transfer is lost, and none is paid twice.
//!
//! A scenario follows from its seed. `NEARBENCH_KILLS=50` runs the seeds 0 to 49, `NEARBENCH_KILL_SEED=17` that one
//! alone; without either a few are run. Each leaves a history, which is printed, and on failure its folder too.
#![allow(clippy::print_stdout)]

use crate::harness::{Folder, names};
use nearbench_core::settle::{DeathCertificate, Fate, Proof};
use nearbench_store::{FileStore, Recall, ResultRow, Store};
use rand::{Rng, SeedableRng, rngs::StdRng, seq::IndexedRandom};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    env,
    fmt::Write as _,
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Child, ExitStatus, Stdio},
    sync::{
        atomic::{AtomicU64, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};

const DEFAULT_KILLS: u64 = 2;
/// Scenarios under way at once.
const AT_ONCE: usize = 2;
/// Transfers a second.
const RATE: u64 = 200;
/// A process that lasts longer hangs.
const PATIENCE: Duration = Duration::from_secs(600);
/// Processes of one run, at most: more than it is killed, since one whose chain is down may give up.
const MOST_PROCESSES: usize = 12;

#[test]
fn killed_runs_lose_nothing_and_pay_nothing_twice() {
    let number = |name: &str| env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
    let seeds: Vec<u64> = match number("NEARBENCH_KILL_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("NEARBENCH_KILLS").unwrap_or(DEFAULT_KILLS)).collect(),
    };
    let (next, failed) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE.min(seeds.len()) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::Relaxed) as usize) {
                    let history = Course::begin(Scenario::of(*seed)).run();
                    failed.fetch_add(u64::from(history.contains("FAILED")), Ordering::Relaxed);
                    println!("{history}");
                }
            });
        }
    });
    let failed = failed.into_inner();
    assert_eq!(failed, 0, "{failed} of {} scenarios failed: see FAILED in their histories", seeds.len());
}

/// A process to be killed: so long after it entered a stage.
#[derive(Clone, Debug)]
struct Kill {
    stage: &'static str,
    after: Duration,
    chain: ChainKill,
}

/// What becomes of the chain's process when the run's is killed.
#[derive(Clone, Debug)]
enum ChainKill {
    Lives,
    /// It is killed with it, and back so much later.
    Together {
        down: Duration,
    },
    /// It is killed so long before it, and back so much later.
    Before {
        by: Duration,
        down: Duration,
    },
}

#[derive(Clone, Debug)]
struct Scenario {
    seed: u64,
    /// Of the load.
    seconds: u64,
    own_chain: bool,
    block_ms: u64,
    faults: Value,
    /// Whether the endpoint fails in provisioning already.
    faults_from_start: bool,
    kills: Vec<Kill>,
}

impl Scenario {
    fn of(seed: u64) -> Self {
        let rng = &mut StdRng::seed_from_u64(seed);
        let ms = |rng: &mut StdRng, range: std::ops::Range<u64>| Duration::from_millis(rng.random_range(range));
        let seconds = rng.random_range(10..=20);
        let own_chain = rng.random_bool(0.25);
        let kills_chain = !own_chain && rng.random_bool(0.67);
        let kills = (0..rng.random_range(1..=4))
            .map(|number| {
                let load_ms = seconds * 1000;
                let (stage, until_ms) = match rng.random_range(0..100) {
                    0..50 => ("Load", load_ms + 500),
                    50..65 => ("Draining", 2_500),
                    65..75 => ("Auditing", 800),
                    75..83 => ("Cleaning up", 1_500),
                    _ if number == 0 => ("Provisioning", 2_500),
                    _ => ("Resuming", 1_500),
                };
                let chain = match rng.random_range(0..3) {
                    _ if !kills_chain => ChainKill::Lives,
                    0 => ChainKill::Lives,
                    1 => ChainKill::Together { down: ms(rng, 0..4_000) },
                    _ => ChainKill::Before { by: ms(rng, 0..3_000), down: ms(rng, 0..4_000) },
                };
                Kill { stage, after: ms(rng, 0..until_ms), chain }
            })
            .collect();
        Self {
            seed,
            seconds,
            own_chain,
            // A chain much faster than NEAR outruns an audit that reads it through an endpoint as bad as these.
            block_ms: *[250, 400, 600].choose(rng).unwrap(),
            faults: faults(rng),
            faults_from_start: rng.random_bool(0.5),
            kills,
        }
    }

    fn manifest(&self, port: u16) -> String {
        let Self { seconds, .. } = self;
        let (network, payer, from) = if self.own_chain {
            ("{profile: devnet}".to_owned(), "bench.near", "")
        } else {
            let from = "createFrom: {accountId: test.near, secretRef: {name: root}, initialBalance: \"100 NEAR\"}, ";
            (
                format!("{{profile: localnet, endpoints: [{{url: \"http://127.0.0.1:{port}\"}}]}}"),
                "bench.test.near",
                from,
            )
        };
        // Nothing is to end for want of time: what is unknown here was lost.
        format!(
            r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {{name: killed}}
spec:
  network: {network}
  account: {{accountId: {payer}, {from}keys: {{count: 12}}}}
  token:
    contractId: ft.{payer}
    deploy: {{totalSupply: "1000000"}}
  receivers: {{count: 20, prefix: user}}
  engine: {{breaker: {{timeout: 3s, resetTimeout: 1s}}}}
  load:
    timeout: 4m
    phases:
      - {{name: hold, duration: {seconds}, arrivalRate: {RATE}}}
"#
        )
    }
}

/// What providers and nodes do, each of it or not, now and then.
fn faults(rng: &mut StdRng) -> Value {
    let chosen: Vec<Value> = every_fault(rng).into_iter().filter(|_| rng.random_bool(0.45)).collect();
    json!({"seed": rng.random_range(0..1000), "rules": chosen})
}

/// A rule of each fault, as hard as a run withstands.
pub(crate) fn every_fault(rng: &mut StdRng) -> Vec<Value> {
    let some = |rng: &mut StdRng, most: f64| (rng.random_range(0.1..1.0) * most * 1000.0).ceil() / 1000.0;
    vec![
        json!({"fault": "latency", "milliseconds": rng.random_range(20..400), "probability": some(rng, 0.3)}),
        // An endpoint that asks for rest gets it, so that a few are a large part of the time.
        json!({"fault": "tooManyRequests", "retryAfterSeconds": rng.random_range(0..2), "probability": some(rng, 0.005)}),
        json!({"fault": "serverError", "status": 502, "probability": some(rng, 0.06)}),
        json!({"fault": "reset", "probability": some(rng, 0.06)}),
        json!({"fault": "reset", "accepted": true, "probability": some(rng, 0.06)}),
        json!({"fault": "timeout", "milliseconds": rng.random_range(200..2000), "probability": some(rng, 0.02)}),
        json!({"fault": "truncate", "probability": some(rng, 0.04)}),
        json!({"fault": "garbage", "probability": some(rng, 0.04)}),
        json!({"fault": "otherAnswer", "method": "tx", "probability": some(rng, 0.04)}),
        json!({"fault": "otherAnswer", "method": "send_tx", "probability": some(rng, 0.04)}),
        json!({"fault": "behind", "blocks": rng.random_range(1..6), "probability": some(rng, 0.1)}),
        json!({"fault": "drop", "probability": some(rng, 0.06)}),
        json!({"fault": "holdBack", "blocks": rng.random_range(1..5), "probability": some(rng, 0.06)}),
        json!({"fault": "shardCongested", "probability": some(rng, 0.05)}),
        json!({"fault": "stall", "milliseconds": rng.random_range(300..3000), "probability": some(rng, 0.04)}),
        json!({"fault": "emptyPool", "probability": some(rng, 0.05)}),
    ]
}

/// The chain's process, on the same home and port whenever it is started.
struct Node {
    port: u16,
    block_ms: u64,
    child: Option<Child>,
}

impl Node {
    fn start(&mut self, folder: &Folder, faults: Option<&Value>) -> Result<(), String> {
        let (address, block_time) = (format!("127.0.0.1:{}", self.port), format!("{}ms", self.block_ms));
        let flags = ["devnet", "--rpc-addr", &address, "--home", "home", "--chain-id", "localnet"];
        let mut command = folder.command(&flags);
        command.args(["--block-time", &block_time, "--secret", "secrets/root"]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
        let (mut said, mut stdout) = (String::new(), BufReader::new(child.stdout.take().unwrap()));
        while !said.contains("its key is in") {
            if stdout.read_line(&mut said).unwrap_or(0) == 0 {
                let mut stderr = String::new();
                _ = child.stderr.take().unwrap().read_to_string(&mut stderr);
                _ = child.wait();
                return Err(format!("the chain does not start: {said}{stderr}"));
            }
        }
        self.child = Some(child);
        faults.map_or(Ok(()), |faults| self.fail(faults))
    }

    fn fail(&self, faults: &Value) -> Result<(), String> {
        let answer = self.post("/faults", faults)?;
        if answer["rules"].is_array() { Ok(()) } else { Err(format!("POST /faults: {answer}")) }
    }

    fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            _ = child.kill();
            _ = child.wait();
        }
    }

    fn post(&self, path: &str, body: &Value) -> Result<Value, String> {
        let body = body.to_string();
        let ask = || -> std::io::Result<String> {
            let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
            write!(
                stream,
                "POST {path} HTTP/1.1\r\nHost: devnet\r\nContent-Type: application/json\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            )?;
            let mut answer = String::new();
            stream.read_to_string(&mut answer)?;
            Ok(answer)
        };
        let answer = ask().map_err(|error| format!("POST {path}: {error}"))?;
        let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body);
        serde_json::from_str(body).map_err(|error| format!("POST {path}: {error} in {answer}"))
    }

    /// Tokens that left `sender`, as the token itself says, asked without nearbench's client.
    fn moved(&self, sender: &str) -> Result<u64, String> {
        let number = |method: &str, args: Value| -> Result<u64, String> {
            let args = base64(args.to_string().as_bytes());
            let params = json!({"request_type": "call_function", "finality": "final",
                "account_id": format!("ft.{sender}"), "method_name": method, "args_base64": args});
            let request = json!({"jsonrpc": "2.0", "id": 1, "method": "query", "params": params});
            let answer = self.post("/", &request)?;
            let bytes = answer["result"]["result"].as_array().ok_or_else(|| format!("{method}: {answer}"))?;
            let text: String = bytes.iter().filter_map(Value::as_u64).map(|byte| byte as u8 as char).collect();
            text.trim_matches('"').parse().map_err(|error| format!("{method}: {error} in {text}"))
        };
        let (supply, left) =
            (number("ft_total_supply", json!({}))?, number("ft_balance_of", json!({"account_id": sender}))?);
        Ok(supply - left)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn base64(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let digits = bytes.chunks(3).map(|chunk| {
        let bits = chunk.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - chunk.len()));
        let digit = |place: usize| match place <= chunk.len() {
            true => DIGITS[(bits >> (18 - 6 * place)) as usize & 63] as char,
            false => '=',
        };
        [digit(0), digit(1), digit(2), digit(3)]
    });
    digits.flatten().collect()
}

/// A scenario under way.
struct Course {
    scenario: Scenario,
    folder: Folder,
    node: Node,
    /// When the chain's process is to be started again.
    node_back: Option<Instant>,
    faults_in_force: bool,
    began: Instant,
    history: String,
    /// Death certificates that the processes told of.
    certificates: BTreeMap<String, u64>,
    kills: usize,
}

/// How a process ended.
enum End {
    Killed,
    Exited(i32, Vec<String>),
}

impl Course {
    fn begin(scenario: Scenario) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let node = Node { port, block_ms: scenario.block_ms, child: None };
        let (history, certificates) = (String::new(), BTreeMap::new());
        let (folder, began) = (Folder::new(), Instant::now());
        let faults_in_force = false;
        Self { scenario, folder, node, node_back: None, faults_in_force, began, history, certificates, kills: 0 }
    }

    fn note(&mut self, text: &str) {
        _ = writeln!(self.history, "{:8.2} s  {text}", self.began.elapsed().as_secs_f64());
    }

    /// The history; it says FAILED where something is wrong.
    fn run(mut self) -> String {
        let Scenario { seed, seconds, own_chain, block_ms, .. } = self.scenario;
        let chain =
            if own_chain { "a chain of its own".to_owned() } else { format!("a chain process, {block_ms} ms blocks") };
        _ = writeln!(self.history, "seed {seed}: {RATE} transfers/s for {seconds} s on {chain}");
        if !own_chain {
            for rule in self.scenario.faults["rules"].as_array().unwrap() {
                _ = writeln!(self.history, "            {rule}");
            }
        }
        if let Err(wrong) = self.carry_out() {
            self.note(&format!("FAILED: {wrong}"));
            let Self { folder, history, .. } = self;
            let kept = folder.keep();
            return format!(
                "{history}            NEARBENCH_KILL_SEED={seed} repeats it; its folder is {}\n",
                kept.display()
            );
        }
        self.history
    }

    fn out(&self) -> PathBuf {
        self.folder.path().join("out")
    }

    fn carry_out(&mut self) -> Result<(), String> {
        let manifest = self.scenario.manifest(self.node.port);
        self.folder.write("run.yaml", &manifest);
        if !self.scenario.own_chain {
            self.faults_in_force = self.scenario.faults_from_start;
            let faults = self.faults_in_force.then_some(&self.scenario.faults);
            self.node.start(&self.folder, faults)?;
        }
        let mut kills = self.scenario.kills.clone().into_iter();
        for _ in 0..MOST_PROCESSES {
            let resumes = self.out().join("store.redb").exists();
            let arguments: &[&str] = match resumes {
                true => &["--log", "info", "run", "--resume"],
                false => &["--log", "info", "run", "run.yaml"],
            };
            match self.process(arguments, kills.next())? {
                End::Killed => self.look_at_the_store(),
                End::Exited(0 | 1 | 3, _) => return self.examine(),
                // Its end came after all was done but to remove what is left of it.
                End::Exited(2, said) if resumes && told(&said, "holds no run that is under way") => {
                    self.note("there is nothing to resume");
                    if self.out().join("report.json").exists() {
                        return self.examine();
                    }
                    fs::remove_file(self.out().join("store.redb")).map_err(|error| error.to_string())?;
                }
                // A chain that is down, or an endpoint that fails, may keep a run from going on; not for good.
                End::Exited(4, _) => {
                    self.look_at_the_store();
                    self.node_up()?;
                }
                End::Exited(code, said) => return Err(format!("exit code {code}: {}", said.join("\n"))),
            }
        }
        Err(format!("no end after {MOST_PROCESSES} processes"))
    }

    /// Starts nearbench, and kills it if that is to be; what is to happen to the chain happens meanwhile.
    fn process(&mut self, arguments: &[&str], kill: Option<Kill>) -> Result<End, String> {
        self.note(&format!("$ nearbench {}", arguments.join(" ")));
        let mut command = self.folder.command(arguments);
        let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().map_err(|e| e.to_string())?;
        let (heard, lines) = mpsc::channel();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        thread::spawn(move || stderr.lines().map_while(Result::ok).try_for_each(|line| heard.send(line)));
        let deadline = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        let (mut kill_at, mut node_kill_at) = (None, None);
        loop {
            let wakes = [Some(deadline), kill_at, node_kill_at.map(|(at, _)| at), self.node_back];
            let wake = wakes.into_iter().flatten().min().unwrap_or(deadline);
            let line = match lines.recv_timeout(wake.saturating_duration_since(Instant::now())) {
                Ok(line) => Some(line),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = child.wait().map_err(|error| error.to_string())?;
                    return self.ended(ended, said);
                }
            };
            if let Some(line) = line {
                self.hear(&line)?;
                if let Some(Kill { stage, after, chain }) = &kill
                    && kill_at.is_none()
                    && line.contains(&format!("==> {stage}"))
                {
                    let at = Instant::now() + *after;
                    kill_at = Some(at);
                    if let ChainKill::Before { by, down } = chain {
                        node_kill_at = Some((at.checked_sub(*by).unwrap_or(at), *down));
                    }
                }
                said.push(line);
            }
            let now = Instant::now();
            if let Some((at, down)) = node_kill_at
                && now >= at
            {
                self.kill_node(down);
                node_kill_at = None;
            }
            if self.node_back.is_some_and(|at| now >= at) {
                self.node_up()?;
            }
            if kill_at.is_some_and(|at| now >= at) {
                _ = child.kill();
                _ = child.wait();
                self.kills += 1;
                let stage =
                    said.iter().rev().find_map(|line| line.strip_prefix("==> ")).unwrap_or("its start").to_owned();
                lines.into_iter().try_for_each(|line| self.hear(&line))?;
                self.note(&format!("kill -9 nearbench, in {stage}"));
                if let Some(Kill { chain: ChainKill::Together { down }, .. }) = kill {
                    self.kill_node(down);
                }
                return Ok(End::Killed);
            }
            if now >= deadline {
                _ = child.kill();
                _ = child.wait();
                let last = said.iter().rev().take(20).rev().cloned().collect::<Vec<_>>().join("\n");
                return Err(format!("it hangs: no end after {PATIENCE:?}; its last lines:\n{last}"));
            }
        }
    }

    fn hear(&mut self, line: &str) -> Result<(), String> {
        if let Some(stage) = line.strip_prefix("==> ") {
            self.note(&format!("  {stage}"));
        }
        if line.contains("transfers were accepted before") {
            self.note(&format!("  it says: {}", line.trim()));
        }
        if line.contains("trying again: ") || line.starts_with("error: ") {
            self.note(&format!("  it says: {}", line.trim()));
        }
        if let Some((_, certificate)) = line.split_once("certificate=") {
            let kind = certificate.split([' ', '{']).next().unwrap_or_default();
            *self.certificates.entry(kind.to_owned()).or_default() += 1;
        }
        if line.contains("==> Load") && !self.faults_in_force && !self.scenario.own_chain {
            self.faults_in_force = true;
            if self.node.child.is_some() {
                self.node.fail(&self.scenario.faults)?;
            }
        }
        Ok(())
    }

    fn ended(&mut self, status: ExitStatus, said: Vec<String>) -> Result<End, String> {
        let code = status.code().ok_or_else(|| format!("it ended by itself, with {status}"))?;
        self.note(&format!("it ended with exit code {code}"));
        Ok(End::Exited(code, said))
    }

    fn kill_node(&mut self, down: Duration) {
        if self.node.child.is_some() {
            self.node.kill();
            self.kills += 1;
            self.node_back = Some(Instant::now() + down);
            self.note(&format!("kill -9 the chain, for {:.1} s", down.as_secs_f64()));
        }
    }

    fn node_up(&mut self) -> Result<(), String> {
        self.node_back = None;
        if self.scenario.own_chain || self.node.child.is_some() {
            return Ok(());
        }
        let faults = self.faults_in_force.then_some(&self.scenario.faults);
        self.node.start(&self.folder, faults)?;
        self.note("the chain is back on its home and port, its faults in force");
        Ok(())
    }

    /// Reads a copy of what the killed process left, so that the next one finds it as it was left.
    fn look_at_the_store(&mut self) {
        let file = self.out().join("store.redb");
        if !file.exists() {
            return self.note("  left no store");
        }
        let copy = tempfile::tempdir().unwrap();
        let path = copy.path().join("copy.redb");
        let text = fs::copy(&file, &path)
            .map_err(|error| error.to_string())
            .and_then(|_| stored(&path))
            .unwrap_or_else(|error| format!("the store cannot be read: {error}"));
        self.note(&format!("  left in its store: {text}"));
    }

    /// Looks at the end: the report, the folder, the token itself.
    fn examine(&mut self) -> Result<(), String> {
        let text =
            fs::read_to_string(self.out().join("report.json")).map_err(|error| format!("report.json: {error}"))?;
        let report: Value = serde_json::from_str(&text).map_err(|error| format!("report.json: {error}"))?;
        let results = &report["results"];
        let count = |name: &str| results[name].as_u64().ok_or_else(|| format!("{name} in {results:#}"));
        let (sent, accepted, rejected) = (count("sent")?, count("accepted")?, count("rejected")?);
        let (succeeded, unknown) = (count("succeeded")?, count("unknown")?);
        let offered = count("offered")?;
        self.note(&format!(
            "report: {offered} offered, {sent} sent, {accepted} accepted, {succeeded} succeeded, {} failed, {} cancelled, \
             {} expired, {unknown} unknown, {} times resumed",
            count("failed")?, count("cancelled")?, count("expired")?, count("restarts")?,
        ));
        let audit = &results["audit"];
        self.note(&format!("audit: {audit}"));
        if !self.certificates.is_empty() {
            let told: Vec<String> = self.certificates.iter().map(|(kind, times)| format!("{times} {kind}")).collect();
            self.note(&format!("attempts proven dead, their transfers signed anew: {}", told.join(", ")));
        }
        let mut wrong = Vec::new();
        let mut hold = |holds: bool, what: &str| {
            if !holds {
                wrong.push(what.to_owned());
            }
        };
        let ends = ["succeeded", "failed", "cancelled", "expired", "unknown"].map(count);
        let ended: u64 = ends.into_iter().collect::<Result<Vec<_>, _>>()?.into_iter().sum();
        hold(offered == self.scenario.seconds * RATE, "offered is not what the schedule says");
        hold(sent <= offered && sent == accepted + rejected, "sent is not accepted and rejected");
        hold(accepted == ended, "accepted is not the sum of the ends");
        hold(unknown == 0, "some are unknown");
        hold(succeeded == accepted, "not all that was accepted succeeded");
        hold(accepted > 0, "nothing was accepted");
        hold(audit["matches"] == true && audit["transfersFound"] == succeeded, "the audit does not match");
        let left = names(&self.out());
        hold(left == ["report.html", "report.json"], &format!("in the folder is left {left:?}"));
        if !self.scenario.own_chain {
            self.node_up()?;
            self.node.fail(&json!([]))?;
            let moved = self.node.moved("bench.test.near")?;
            self.note(&format!("the token says that {moved} left the account"));
            hold(moved == succeeded, "the token says otherwise");
        }
        self.note(&format!(
            "{} kills, {}",
            self.kills,
            if wrong.is_empty() { "all is well" } else { "not all is well" }
        ));
        if wrong.is_empty() { Ok(()) } else { Err(wrong.join("; ")) }
    }
}

fn told(said: &[String], words: &str) -> bool {
    said.iter().any(|line| line.contains(words))
}

/// What a store's file holds.
fn stored(path: &Path) -> Result<String, String> {
    let store = FileStore::open(path).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread().build().map_err(|error| error.to_string())?;
    let depth = runtime.block_on(store.depth()).map_err(|error| error.to_string())?;
    let mut executed = 0;
    let mut ends = BTreeMap::<&str, usize>::new();
    let mut count = |row| match row {
        ResultRow::Settled { settled, transfers, .. } => {
            let kind = match settled.proof {
                Proof::Executed(_) => {
                    executed +=
                        (0..transfers.len()).filter(|index| settled.settlement.fate(*index) == Fate::Finalized).count();
                    return;
                }
                Proof::Dead(DeathCertificate::Expired { .. }) => "put back as Expired",
                Proof::Dead(DeathCertificate::Overtaken { .. }) => "put back as Overtaken",
                Proof::Dead(DeathCertificate::KeyGone { .. }) => "put back as KeyGone",
                Proof::Dead(DeathCertificate::Absent { .. }) => "put back as Absent",
                Proof::None => "without proof",
            };
            *ends.entry(kind).or_default() += transfers.len();
        }
        ResultRow::Cancelled { transfers } => *ends.entry("withdrawn").or_default() += transfers.len(),
    };
    runtime.block_on(store.results(&mut count)).map_err(|error| error.to_string())?;
    let began = if store.meta("opening").is_some() { "" } else { "its load had not begun; " };
    let mut text = format!(
        "{began}{executed} transfers finalized, {} in open attempts, {} in the queue",
        depth.open, depth.queued
    );
    for (kind, transfers) in ends {
        _ = write!(text, ", {transfers} {kind}");
    }
    Ok(text)
}
