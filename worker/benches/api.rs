//! What the API does beside what HTTP costs at the least, as a ratio measured in one run: accepted requests per second of
//! this process's CPU time, system calls included, beside those of a bare axum handler that reads the same JSON and answers
//! 202 with no body. The load comes from another process, over connections that are kept open.
#![allow(clippy::unwrap_used, clippy::print_stdout, missing_docs)]

use axum::{Json, Router, http::StatusCode, routing::post};
use nearbench_store::{FileStore, MemoryStore, Records};
use nearbench_worker::{Api, Grant, Scope, Settings, Tokens, serve};
use serde::Deserialize;
use std::{
    net::SocketAddr,
    process::{Command, Stdio},
    sync::Arc,
};
use tempfile::TempDir;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    runtime::{Builder, Runtime},
};
use tokio_util::sync::CancellationToken;

const REPETITIONS: usize = 7;
const CONNECTIONS: u64 = 64;
const REQUESTS: u64 = 64_000;
/// The first argument of the process that makes the load.
const LOAD: &str = "--load";

/// What is asked: as a client would, each with a key of its own.
fn request(token: &str, n: u64) -> String {
    let body =
        format!(r#"{{"receiver_id":"user-{}.ft-benchmark.testnet","amount":"1000000","memo":"invoice {n}"}}"#, n % 100);
    format!(
        "POST /v1/transfers HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {token}\r\nidempotency-key: order-{n}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Asks until all are answered, and dies of an answer that is no 202.
fn load(address: SocketAddr, token: &str) {
    let ask = |connection: u64| {
        let token = token.to_owned();
        async move {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            let mut answer = vec![0; 4096];
            for n in (connection..REQUESTS).step_by(CONNECTIONS as usize) {
                stream.write_all(request(&token, n).as_bytes()).await.unwrap();
                let mut length = 0;
                loop {
                    let read = stream.read(&mut answer[length..]).await.unwrap();
                    assert!(read > 0, "the connection ended");
                    length += read;
                    if is_whole(&answer[..length]) {
                        break;
                    }
                }
                assert!(answer.starts_with(b"HTTP/1.1 202"), "{}", String::from_utf8_lossy(&answer[..length]));
            }
        }
    };
    let runtime = Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(futures_util::future::join_all((0..CONNECTIONS).map(ask)));
}

fn is_whole(answer: &[u8]) -> bool {
    let text = std::str::from_utf8(answer).unwrap();
    let Some((head, body)) = text.split_once("\r\n\r\n") else { return false };
    let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
    body.len() == length.map_or(0, |length| length.parse().unwrap())
}

/// The CPU time of this process so far, in seconds (proc_pid_stat(5), fields 14 and 15).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let after_name = stat.rsplit(')').next().unwrap();
    let ticks: u64 = after_name.split_whitespace().skip(11).take(2).map(|field| field.parse::<u64>().unwrap()).sum();
    ticks as f64 / 100.0
}

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap()
}

/// Accepted requests per CPU-second while another process asks at `address`.
fn rate(address: SocketAddr, token: &str) -> f64 {
    let before = cpu_seconds();
    let mut asking = Command::new(std::env::current_exe().unwrap())
        .args([LOAD, &address.to_string(), token])
        .stdin(Stdio::null())
        .spawn()
        .unwrap();
    assert!(asking.wait().unwrap().success());
    REQUESTS as f64 / (cpu_seconds() - before)
}

#[derive(Deserialize)]
struct Body {
    #[allow(dead_code)]
    receiver_id: String,
    #[allow(dead_code)]
    amount: String,
    #[allow(dead_code)]
    memo: Option<String>,
}

fn bare(token: &str) -> f64 {
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let router = Router::new().route("/v1/transfers", post(|_: Json<Body>| async { StatusCode::ACCEPTED }));
    runtime.spawn(async move { axum::serve(listener, router).await.unwrap() });
    let rate = rate(address, token);
    runtime.shutdown_background();
    rate
}

fn api<S: Records>(token: &str, line: &str, store: S) -> f64 {
    let runtime = runtime();
    let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
    let address = listener.local_addr().unwrap();
    let tokens = Some(Tokens::parse(line).unwrap());
    let settings = Settings { tokens, ..Settings::new([7; 32], "ft.near".parse().unwrap()) };
    let shutdown = CancellationToken::new();
    let store = Arc::new(store);
    let service = runtime.block_on(async { Api::new(store.clone(), settings) });
    let served = runtime.spawn(serve(listener, service, shutdown.clone()));
    let rate = rate(address, token);
    assert_eq!(runtime.block_on(store.depth()).unwrap().queued, REQUESTS);
    shutdown.cancel();
    runtime.block_on(served).unwrap().unwrap();
    drop(store);
    rate
}

/// Median and spread.
fn spread(values: impl Iterator<Item = f64>, digits: usize) -> String {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = (values[0], values[values.len() - 1]);
    format!("{:.digits$} (from {low:.digits$} to {high:.digits$})", values[values.len() / 2])
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [LOAD, address, token] = &args.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        return load(address.parse().unwrap(), token);
    }
    let grant = Grant {
        name: "shop".into(),
        scopes: vec![Scope::Transfer],
        requests_per_second: Some(1_000_000),
        daily_cap: None,
    };
    let (token, line) = grant.token([5; 32]).unwrap();
    let token = token.expose();
    let folder = TempDir::new().unwrap();
    println!("api: {REPETITIONS} repetitions, median and spread, accepted requests per CPU-second");
    let rates: Vec<[f64; 3]> = (0..REPETITIONS)
        .map(|n| {
            let file = FileStore::create(&folder.path().join(n.to_string())).unwrap();
            [bare(token), api(token, &line, MemoryStore::default()), api(token, &line, file)]
        })
        .collect();
    println!("  bare axum handler           {}", spread(rates.iter().map(|rates| rates[0]), 0));
    println!("  API, store in memory        {}", spread(rates.iter().map(|rates| rates[1]), 0));
    println!("  API, store in a file        {}", spread(rates.iter().map(|rates| rates[2]), 0));
    println!("  in memory / bare            {}", spread(rates.iter().map(|rates| rates[1] / rates[0]), 2));
    println!("  in a file / bare            {}", spread(rates.iter().map(|rates| rates[2] / rates[0]), 2));
}
