//! The service of compose.yaml without its containers: its manifest, its nginx configuration, four workers and a Redis, all
//! real.

use crate::{
    fleet::{redis, signal},
    harness::{Chain, Client, Folder, free_ports},
};
use serde_json::Value;
use std::{
    fs,
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

const PATIENCE: Duration = Duration::from_secs(120);
const TRANSFERS: usize = 120;

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        // In order: nginx ends its own processes then. It may have ended by itself.
        let _ = Command::new("kill").arg(self.0.id().to_string()).stderr(Stdio::null()).status();
        let _ = self.0.wait();
    }
}

fn committed(file: &str) -> String {
    fs::read_to_string(Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../compose")).join(file)).unwrap()
}

/// The nginx of the service, with the workers and itself on ports of this machine.
fn nginx(folder: &Folder, workers: &[SocketAddr], own: SocketAddr) -> Process {
    let mut conf = committed("nginx.conf");
    for (number, worker) in (1..).zip(workers) {
        let named = format!("api-{number}:{}", 3000 + number);
        assert!(conf.contains(&named), "{named} is in nginx.conf");
        conf = conf.replace(&named, &worker.to_string());
    }
    conf = conf.replace("listen 8000;", &format!("listen {own};"));
    // What it keeps while it works is in the test's folder.
    let kept =
        ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(|part| format!("{part}_temp_path nginx-{part};"));
    conf = conf.replace("http {", &format!("http {{ {}", kept.concat()));
    folder.write("nginx.conf", &conf);
    let child = Command::new("nginx")
        .env("PATH", format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default()))
        .arg("-p")
        .arg(folder.path())
        .args(["-c", "nginx.conf", "-e", "stderr", "-g", "daemon off; pid nginx.pid;"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nginx runs: .ci/setup servers installs it");
    Process(child)
}

fn worker(folder: &Folder, address: SocketAddr) -> Process {
    let (listen, spool) = (address.to_string(), format!("spool-{}", address.port()));
    let arguments = ["worker", "--plan", "fleet/plan", "--keys", "fleet/keys", "--redis-url-file", "redis-url"];
    let mut command = folder.command(&arguments);
    command
        .args(["--tokens", "tokens", "--listen", &listen, "--spool", &spool])
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Process(command.spawn().unwrap())
}

fn finalized(client: &Client) -> usize {
    let (status, page) = client.get("/v1/transfers?status=finalized&limit=1000");
    if status == 200 { page["transfers"].as_array().unwrap().len() } else { 0 }
}

#[test]
fn four_workers_behind_nginx_take_every_transfer_though_one_dies_and_then_redis() {
    let (chain, folder, mut redis) = (Chain::start("devnet"), Folder::new(), redis());
    chain.secret(&folder, "root", &chain.root);
    folder.write("redis-url", &redis.address());
    folder.write("manifest.yaml", &committed("manifest.yaml").replace("http://chain:3030", &chain.url));
    let provision = ["provision", "manifest.yaml", "--keys", "fleet/keys", "--plan", "fleet/plan"];
    let provision = [&provision[..], &["--redis-url-file", "redis-url"]].concat();
    let before = chain.root_nonce("test.near");
    folder.write("nowhere", "redis://127.0.0.1:1");
    let lost = folder.nearbench(&[&provision[..provision.len() - 1], &["nowhere"]].concat());
    assert!(lost.code == 2 && lost.stderr.contains("127.0.0.1:1"), "{lost:?}");
    assert_eq!(chain.root_nonce("test.near"), before, "nothing changed on chain");
    for _ in 0..2 {
        // Once more changes nothing.
        let ended = folder.nearbench(&provision);
        assert_eq!(ended.code, 0, "{ended:?}");
    }
    let made = folder.nearbench(&["token", "shop", "--file", "tokens"]);
    assert_eq!(made.code, 0, "{made:?}");

    let ports = free_ports(5);
    let (own, addresses) = ports.split_last().unwrap();
    let mut workers: Vec<_> = addresses.iter().map(|address| worker(&folder, *address)).collect();
    let _nginx = nginx(&folder, addresses, *own);
    let client = Client::new(*own, made.stdout.trim());
    let before = chain.tokens("ft.bench.test.near", "bench.test.near");
    let mut ids = Vec::new();
    let mut submit = |n: usize| {
        let body = format!(r#"{{"receiver_id":"user-{}.bench.test.near","amount":"3"}}"#, n % 100);
        let (status, answer) = client.post_until_open("/v1/transfers", &format!("order-{n}"), &body);
        assert!([200, 202].contains(&status), "{status}: {answer}");
        ids.push(answer["transfer_id"].as_str().unwrap().to_owned());
    };
    (0..40).for_each(&mut submit);
    signal("-KILL", workers[0].0.id());
    workers[0] = worker(&folder, addresses[0]);
    (40..80).for_each(&mut submit);
    redis.kill();
    // Nobody waits for Redis: what comes meanwhile is spooled.
    (80..100).for_each(&mut submit);
    redis.restart();
    (100..TRANSFERS).for_each(&mut submit);

    let began = Instant::now();
    while finalized(&client) < TRANSFERS {
        assert!(began.elapsed() < PATIENCE, "{} of {TRANSFERS} are finalized", finalized(&client));
        thread::sleep(Duration::from_millis(200));
    }
    let (status, one) = client.get(&format!("/v1/transfers/{}", ids[0]));
    assert_eq!((status, &one["status"]), (200, &Value::from("finalized")), "{one}");
    let after = chain.tokens("ft.bench.test.near", "bench.test.near");
    assert_eq!(before - after, 3 * TRANSFERS as u128, "each was paid once");

    for worker in &mut workers {
        signal("-TERM", worker.0.id());
        assert_eq!(worker.0.wait().unwrap().code(), Some(0), "it ends in order");
    }
}
