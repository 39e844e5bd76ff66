//! The transfer API over real sockets: what is promised of it, every status that it documents, and clients that misbehave.

use nearbench_core::{
    Account, Amount, Hash, TransferId, TransferState,
    outcome::FailureKind,
    plan::Batch,
    settle::{Executed, Fate, Proof, Settled, Settlement},
};
use nearbench_store::{
    Attempt, AttemptId, BackendError, FileBackend, FileStore, LaneKey, LeaseId, MemoryStore, Records, StorageBackend,
    Store,
};
use nearbench_worker::{Api, Grant, Scope, Settings, Tokens, openapi, serve};
use proptest::{prelude::*, test_runner::TestRunner};
use serde_json::{Value, json};
use std::{
    collections::BTreeSet,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
    task::JoinHandle,
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;

/// Longer than anything here takes, even on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}{}", self.head, self.text))
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let line = self.head.lines().find(|line| line.to_ascii_lowercase().starts_with(&format!("{name}:")))?;
        Some(line[name.len() + 1..].trim())
    }

    pub(crate) fn code(&self) -> String {
        let body = self.json();
        assert!(body["error"].is_string() && body["details"].is_object(), "{body}");
        body["code"].as_str().unwrap().to_owned()
    }
}

/// A service on a port of its own.
pub(crate) struct Service<S> {
    address: SocketAddr,
    pub(crate) store: Arc<S>,
    shutdown: CancellationToken,
    ended: JoinHandle<()>,
    /// Method, path and status of every answer.
    seen: Mutex<BTreeSet<(String, String, u16)>>,
}

pub(crate) fn settings() -> Settings {
    Settings::new([7; 32], "ft.near".parse().unwrap())
}

impl<S: Records> Service<S> {
    async fn start(store: S, settings: Settings) -> Self {
        Self::over(Arc::new(store), settings).await
    }

    pub(crate) async fn over(store: Arc<S>, settings: Settings) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let (api, token) = (Api::new(store.clone(), settings), shutdown.clone());
        let ended = tokio::spawn(async move { serve(listener, api, token).await.unwrap() });
        Self { address, store, shutdown, ended, seen: Mutex::default() }
    }

    /// Sends bytes as they are, and reads to the end.
    async fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        read(&mut stream).await
    }

    pub(crate) async fn ask(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut head = format!("{} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n", method.to_uppercase());
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if !body.is_empty() {
            head += &format!("content-length: {}\r\n", body.len());
        }
        let answer = self.raw(format!("{head}\r\n{body}").as_bytes()).await;
        let path = path.split('?').next().unwrap();
        self.seen.lock().unwrap().insert((method.to_owned(), path.to_owned(), answer.status));
        if path != "/metrics" {
            assert_eq!(answer.header("content-type"), Some("application/json"), "{method} {path}: {}", answer.head);
            answer.json();
        }
        answer
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask("get", path, &[], "").await
    }

    pub(crate) async fn post(&self, path: &str, key: &str, body: &str) -> Answer {
        self.ask("post", path, &[JSON, ("idempotency-key", key)], body).await
    }

    pub(crate) async fn end(self) {
        self.shutdown.cancel();
        timeout(PATIENCE, self.ended).await.unwrap().unwrap();
    }
}

pub(crate) const JSON: (&str, &str) = ("content-type", "application/json");

async fn read(stream: &mut TcpStream) -> Answer {
    let mut bytes = Vec::new();
    let whole = async {
        let mut buffer = [0; 4096];
        // A reset after the answer is the end as well.
        while let Ok(count @ 1..) = stream.read(&mut buffer).await {
            bytes.extend_from_slice(&buffer[..count]);
        }
    };
    timeout(PATIENCE, whole).await.unwrap();
    let text = String::from_utf8(bytes).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {text:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), text: body.to_owned() }
}

pub(crate) const BOB: &str = r#"{"receiver_id":"bob.near","amount":"5","memo":"for bob"}"#;

fn lane() -> LaneKey {
    LaneKey { account: Account::new("bench.near").unwrap(), public_key: "ed25519:1".into() }
}

/// Signs what is queued.
pub(crate) async fn sign(store: &impl Store, hash: u8) -> AttemptId {
    store.acquire(&lane(), LeaseId([1; 16]), PATIENCE).await.unwrap();
    let all = Batch { min: 100, max: 100, depth_divisor: 1 };
    let claim = store.claim(&lane(), LeaseId([1; 16]), &all, 100).await.unwrap().unwrap();
    let attempt = Attempt {
        hash: Hash([hash; 32]),
        bytes: bytes::Bytes::new(),
        nonce: claim.nonce,
        base_height: 1,
        expiry_height: 2,
    };
    store.commit(&lane(), LeaseId([1; 16]), Some(claim.id), attempt).await.unwrap()
}

pub(crate) async fn settle(
    store: &impl Store,
    attempt: AttemptId,
    settlement: Settlement,
    failure: Option<FailureKind>,
) {
    let executed = Executed { receipt: Hash([1; 32]), block: Hash([2; 32]), block_unix_ns: 1, at_ns: 1 };
    let settled = Settled { settlement, proof: Proof::Executed(executed), failure, at_ns: 2 };
    store.settle(attempt, &settled).await.unwrap();
}

pub(crate) const FINALIZED: Settlement = Settlement::All(Fate::Finalized);

#[tokio::test]
async fn a_transfer_is_followed_from_its_acceptance_to_its_end() {
    let service = Service::start(MemoryStore::default(), settings()).await;
    let accepted = service.post("/v1/transfers", "k1", BOB).await;
    assert_eq!(accepted.status, 202, "{}", accepted.text);
    let view = accepted.json();
    let id = view["transfer_id"].as_str().unwrap().to_owned();
    assert_eq!(id, TransferId::derive(&[7; 32], b"anonymous\0k1").to_string());
    let location = accepted.header("location").unwrap().to_owned();
    assert_eq!(location, format!("/v1/transfers/{id}"));
    for (field, value) in [
        ("status", json!("queued")),
        ("receiver_id", json!("bob.near")),
        ("amount", json!("5")),
        ("memo", json!("for bob")),
        ("token_id", json!("ft.near")),
        ("tx_hash", json!(null)),
        ("batch_id", json!(null)),
        ("attempts", json!(0)),
        ("error", json!(null)),
        ("finalized_at", json!(null)),
    ] {
        assert_eq!(view[field], value, "{field}");
    }
    // The same again, otherwise written, is a replay; another body a conflict.
    let again = r#"{ "amount": "5", "memo": "for bob", "receiverId": "bob.near", "tokenId": "ft.near" }"#;
    let replay = service.ask("post", "/v1/transfers", &[JSON, ("x-idempotency-key", "k1")], again).await;
    assert_eq!((replay.status, replay.header("idempotent-replayed")), (200, Some("true")));
    assert_eq!(replay.json(), view);
    let other = service.post("/v1/transfers", "k1", &BOB.replace("\"5\"", "\"6\"")).await;
    assert_eq!((other.status, other.code().as_str()), (409, "idempotency_conflict"));
    assert_eq!(service.store.depth().await.unwrap().queued, 1);

    let attempt = sign(&*service.store, 9).await;
    assert_eq!(service.get(&location).await.json()["status"], "signed");
    service.store.sent(&[attempt]).await.unwrap();
    let submitted = service.post("/v1/transfers?wait=submitted", "k1", BOB).await;
    assert_eq!((submitted.status, &submitted.json()["status"]), (200, &json!("submitted")));
    let late = service.post("/v1/transfers?wait=final&timeout_ms=60", "k1", BOB).await;
    assert_eq!((late.status, &late.json()["status"]), (200, &json!("submitted")), "it is a replay still");
    let waits = service.post("/v1/transfers?wait=final", "k1", BOB);
    let settles = async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        settle(&*service.store, attempt, FINALIZED, None).await;
    };
    let (waited, ()) = tokio::join!(waits, settles);
    assert_eq!(waited.json()["status"], "finalized");

    let view = service.get(&location).await.json();
    let hash = Hash([9; 32]).to_string();
    assert_eq!((&view["tx_hash"], &view["attempts"]), (&json!(hash), &json!(1)));
    let states: Vec<_> = view["events"].as_array().unwrap().iter().map(|event| event["status"].clone()).collect();
    assert_eq!(states, ["queued", "signed", "submitted", "finalized"]);
    assert_eq!(view["finalized_at"], view["updated_at"]);
    let transaction = service.get(&format!("/v1/transactions/{hash}")).await.json();
    assert_eq!(transaction["transfers"][0]["transfer_id"], json!(id));
    let job = service.get(&format!("/transfer/{id}")).await.json();
    assert_eq!((&job["job"]["jobId"], &job["job"]["transactionHash"]), (&json!(id), &json!(hash)));

    let jobs = service.get("/metrics/jobs").await.json();
    assert_eq!((&jobs["counts"]["finalized"], &jobs["queueDepth"]), (&json!(1), &json!(0)));
    assert!(jobs["tps"].is_number() && jobs["latencyMs"]["p95"].is_number() && jobs["keys"]["total"].is_number());
    service.end().await;
}

#[tokio::test]
async fn waiting_ends_with_a_202() {
    let service = Service::start(MemoryStore::default(), settings()).await;
    let answer = service.post("/v1/transfers?wait=final&timeout_ms=50", "k", BOB).await;
    assert_eq!((answer.status, &answer.json()["status"]), (202, &json!("queued")));
    service.end().await;
}

#[tokio::test]
async fn transfers_are_cancelled_and_tried_again() {
    let service = Service::start(MemoryStore::default(), settings()).await;
    let submit = async |key: &str| {
        service.post("/v1/transfers", key, BOB).await.json()["transfer_id"].as_str().unwrap().to_owned()
    };
    let first = submit("1").await;
    let cancelled = service.ask("post", &format!("/v1/transfers/{first}/cancel"), &[], "").await;
    assert_eq!((cancelled.status, &cancelled.json()["status"]), (200, &json!("cancelled")));
    let again = service.ask("post", &format!("/v1/transfers/{first}/cancel"), &[], "").await;
    assert_eq!((again.status, &again.json()["details"]["status"]), (409, &json!("cancelled")));
    let second = submit("2").await;
    let attempt = sign(&*service.store, 3).await;
    let retry = async || service.ask("post", &format!("/v1/transfers/{second}/retry"), &[], "").await;
    assert_eq!(retry().await.code(), "wrong_state");
    let failed = Settlement::Poisoned { index: 0 };
    settle(&*service.store, attempt, failed, Some(FailureKind::Unregistered)).await;
    let view = service.get(&format!("/v1/transfers/{second}")).await.json();
    assert_eq!((&view["status"], &view["error"]), (&json!("failed"), &json!("unregistered")));
    let retried = retry().await;
    assert_eq!((retried.status, &retried.json()["status"]), (202, &json!("queued")));
    assert_eq!(service.store.depth().await.unwrap().queued, 1);
    service.end().await;
}

#[tokio::test]
async fn batches_and_lists() {
    let service = Service::start(MemoryStore::default(), Settings { max_depth: 6, ..settings() }).await;
    let entry = |n: u32, amount: &str| json!({"receiverId": format!("user-{}.near", n % 2), "amount": amount, "idempotencyKey": format!("k{n}")});
    let transfers = json!({"transfers": [
        entry(1, "1"), entry(2, "-2"), entry(3, "3"), entry(1, "1"), entry(3, "4"),
        {"receiver_id": "bob.near", "amount": "5"}, entry(6, "6"), entry(7, "7"), entry(8, "8"),
    ]});
    let answer = service.ask("post", "/v1/transfers/batch", &[JSON], &transfers.to_string()).await;
    let view = answer.json();
    assert_eq!((answer.status, &view["accepted"], &view["rejected"]), (202, &json!(6), &json!(3)), "{view}");
    let codes: Vec<_> = view["results"].as_array().unwrap().iter().map(|r| r["error"]["code"].as_str()).collect();
    let refused = |code| Some(code);
    assert_eq!(
        codes,
        [
            None,
            refused("bad_amount"),
            None,
            None,
            refused("idempotency_conflict"),
            refused("idempotency_key_missing"),
            None,
            None,
            None,
        ]
    );
    assert_eq!(view["results"][3]["replayed"], true);
    let full = json!({"transfers": [entry(20, "1"), entry(21, "1"), entry(22, "1")]}).to_string();
    let answer = service.ask("post", "/v1/transfers/batch", &[JSON], &full).await;
    assert_eq!(answer.json()["accepted"], 1);
    let answer = service.ask("post", "/v1/transfers/batch", &[JSON], &full.replace("\"k2", "\"l2")).await;
    assert_eq!((answer.status, answer.header("retry-after")), (503, Some("5")));

    let ids = |list: &Value| -> Vec<Value> {
        list["transfers"].as_array().unwrap().iter().map(|transfer| transfer["amount"].clone()).collect()
    };
    let first = service.get("/v1/transfers?limit=4").await.json();
    assert_eq!(ids(&first), ["1", "8", "7", "6"]);
    let cursor = first["next_cursor"].as_str().unwrap();
    let rest = service.get(&format!("/v1/transfers?limit=4&cursor={cursor}")).await.json();
    assert_eq!((ids(&rest), &rest["next_cursor"]), (vec![json!("3"), json!("1")], &json!(null)));
    let by_receiver = service.get("/v1/transfers?receiver_id=user-0.near").await.json();
    assert_eq!(ids(&by_receiver), ["1", "8", "6"]);
    assert_eq!(ids(&service.get("/v1/transfers?status=finalized").await.json()), Vec::<Value>::new());
    assert_eq!(ids(&service.get("/v1/transfers?idempotency_key=k7").await.json()), ["7"]);
    let attempt = sign(&*service.store, 4).await;
    settle(&*service.store, attempt, FINALIZED, None).await;
    let by_hash = service.get(&format!("/v1/transfers?tx_hash={}&status=finalized", Hash([4; 32]))).await.json();
    assert_eq!(ids(&by_hash), ["1", "3", "6", "7", "8", "1"], "in the transaction's order");
    service.end().await;
}

#[tokio::test]
async fn older_clients_find_what_they_know() {
    let service = Service::start(MemoryStore::default(), settings()).await;
    let native = r#"{"receiverId":"bob.near","amount":"5"}"#;
    let refused = service.ask("post", "/send-ft", &[JSON], native).await;
    assert_eq!((refused.status, refused.code().as_str()), (400, "idempotency_key_missing"));
    for path in ["/send-ft", "/transfer", "/v1/transfer"] {
        let answer = service.post(path, path, native).await;
        let view = answer.json();
        assert_eq!(answer.status, 202);
        assert_eq!((&view["success"], &view["jobId"]), (&json!(true), &view["transfer_id"]));
        assert_eq!(
            (&view["receiverId"], &view["transactionHash"], &view["tx_hash"]),
            (&json!("bob.near"), &json!(null), &json!(null))
        );
    }
    let many = r#"{"transfers":[{"receiverId":"a.near","amount":"1"},{"receiverId":"b.near","amount":"0"}]}"#;
    let view = service.post("/send-ft", "many", many).await.json();
    assert_eq!((&view["success"], view["jobIds"].as_array().unwrap().len()), (&json!(false), 1));
    let again = service.post("/send-ft", "many", many).await.json();
    assert_eq!((&again["results"][0]["replayed"], &again["jobIds"]), (&json!(true), &view["jobIds"]));
    service.end().await;

    let service = Service::start(MemoryStore::default(), Settings { legacy_without_key: true, ..settings() }).await;
    let (one, other) = (
        service.ask("post", "/send-ft", &[JSON], native).await,
        service.ask("post", "/send-ft", &[JSON], native).await,
    );
    assert_ne!(one.json()["jobId"], other.json()["jobId"], "nobody can tell whether it is a replay");
    let strict = service.ask("post", "/v1/transfers", &[JSON], native).await;
    assert_eq!(strict.code(), "idempotency_key_missing");
    service.end().await;
}

/// A file whose disk fails when it is told to.
#[derive(Debug)]
struct Failing(FileBackend, Arc<AtomicBool>);

impl Failing {
    fn fails(&self) -> io::Result<()> {
        if self.1.load(Relaxed) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

impl StorageBackend for Failing {
    fn len(&self) -> io::Result<u64> {
        self.0.len()
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.0.read(offset, out)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.0.set_len(len)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.fails().and_then(|()| self.0.sync_data())
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.fails().and_then(|()| self.0.write(offset, data))
    }

    fn close(&self) -> io::Result<()> {
        self.0.close()
    }

    fn try_lock_range(&self, start: std::ops::Bound<u64>, end: std::ops::Bound<u64>) -> Result<bool, BackendError> {
        self.0.try_lock_range(start, end)
    }
}

pub(crate) fn token(
    name: &str,
    scopes: &[Scope],
    requests_per_second: Option<u32>,
    cap: Option<u128>,
) -> (String, String) {
    let mut random = [0; 32];
    random[..name.len()].copy_from_slice(name.as_bytes());
    let grant =
        Grant { name: name.to_owned(), scopes: scopes.to_vec(), requests_per_second, daily_cap: cap.map(Amount) };
    let (token, line) = grant.token(random).unwrap();
    (format!("Bearer {}", token.expose()), line)
}

/// Asks for everything that can go wrong, at every route, and compares what came with what is documented.
#[tokio::test]
async fn every_status_that_is_given_is_documented_and_the_other_way_round() {
    let all = token("all", &[Scope::Transfer, Scope::Read, Scope::Admin], None, None);
    let none = token("reader", &[Scope::Read], None, None);
    let submitter = token("submitter", &[Scope::Transfer], None, None);
    let poor = token("poor", &[Scope::Transfer], None, Some(100));
    let slow = token("slow", &[Scope::Transfer, Scope::Read, Scope::Admin], Some(1), None);
    let lines = [&all, &none, &submitter, &poor, &slow].map(|(_, line)| line.as_str()).join("\n");
    let disk = Arc::new(AtomicBool::new(false));
    let file = tempfile::NamedTempFile::new().unwrap();
    let backend = FileBackend::new(file.reopen().unwrap()).unwrap();
    let store = FileStore::create_on(Failing(backend, disk.clone()), "run.store").unwrap();
    let waiting = Arc::new(AtomicBool::new(false));
    let waits = waiting.clone();
    let settings = Settings {
        tokens: Some(Tokens::parse(&lines).unwrap()),
        max_depth: 8,
        body_timeout: Duration::from_millis(200),
        waiting_for: Arc::new(move || Vec::from_iter(waits.load(Relaxed).then(|| "the chain".to_owned()))),
        metrics: Arc::new(|accept| ("text/x-asked", accept.unwrap_or_default().to_owned())),
        ..settings()
    };
    let service = Service::start(store, settings).await;
    let auth = |token: &'static str| ("authorization", token);
    // For the length of the test.
    let leak = |text: &String| -> &'static str { text.clone().leak() };
    let (all, none, submitter, poor, slow) =
        (leak(&all.0), leak(&none.0), leak(&submitter.0), leak(&poor.0), leak(&slow.0));

    // Some to look at: one that failed, one that is queued, one in a transaction.
    let failed = service.ask("post", "/v1/transfers", &[JSON, auth(all), ("idempotency-key", "f")], BOB).await;
    let attempt = sign(&*service.store, 5).await;
    settle(&*service.store, attempt, Settlement::Poisoned { index: 0 }, None).await;
    let failed = failed.json()["transfer_id"].as_str().unwrap().to_owned();
    let hash = Hash([5; 32]).to_string();
    let submits = ["/v1/transfers", "/v1/transfer", "/transfer", "/send-ft"];

    for path in submits {
        let ask = |key: &'static str, token: &'static str, body: &'static str| {
            let service = &service;
            async move { service.ask("post", path, &[JSON, auth(token), ("idempotency-key", key)], body).await }
        };
        let key: &'static str = path;
        assert_eq!(ask(key, all, BOB).await.status, 202);
        assert_eq!(ask(key, all, BOB).await.status, 200);
        for (status, key, token, body) in [
            (400, "k", all, "{"),
            (400, "k", all, r#"{"receiver_id":"bob.near","amount":"5","amount":"5"}"#),
            (401, "k", "Bearer nbt_wrong", BOB),
            (403, "k", none, BOB),
            (403, "k", poor, r#"{"receiver_id":"bob.near","amount":"101"}"#),
            (409, key, all, r#"{"receiver_id":"eve.near","amount":"5"}"#),
            (422, "k", all, r#"{"receiver_id":"bob.near","amount":"1e3"}"#),
            (422, "k", all, r#"{"receiver_id":"B","amount":"1"}"#),
        ] {
            assert_eq!(ask(key, token, body).await.status, status, "{path}: {body}");
        }
        let long = format!("{BOB}{}", " ".repeat(20_000));
        let headers = [JSON, auth(all), ("idempotency-key", "k")];
        assert_eq!(service.ask("post", path, &headers, &long).await.status, 413);
        assert_eq!(service.ask("post", path, &headers[1..], BOB).await.status, 415);
        assert_eq!(service.ask("post", path, &[JSON, auth(all)], BOB).await.status, 400);
        assert_eq!(service.ask("post", &format!("{path}?wait=never"), &headers, BOB).await.status, 400);
        // A body that does not come.
        let half = [headers[0], headers[1], headers[2], ("content-length", "50")];
        assert_eq!(service.ask("post", path, &half, "").await.status, 408);
    }
    let batch = r#"{"transfers":[{"receiver_id":"a.near","amount":"1","idempotency_key":"b1"}]}"#;
    let many: Vec<_> =
        (0..1001).map(|n| json!({"receiver_id": "a.near", "amount": "1", "idempotency_key": format!("{n}")})).collect();
    let path = "/v1/transfers/batch";
    assert_eq!(service.ask("post", path, &[JSON, auth(all)], batch).await.status, 202);
    for (status, token, body) in [
        (400, all, "[]".to_owned()),
        (400, all, r#"{"transfers":[]}"#.to_owned()),
        (401, "Bearer", batch.to_owned()),
        (403, none, batch.to_owned()),
        (413, all, json!({"transfers": many}).to_string()),
        (413, all, " ".repeat(2_000_000)),
    ] {
        assert_eq!(service.ask("post", path, &[JSON, auth(token)], &body).await.status, status);
    }
    assert_eq!(service.ask("post", path, &[auth(all)], batch).await.status, 415);
    assert_eq!(service.ask("post", path, &[JSON, auth(all), ("content-length", "50")], "").await.status, 408);

    let unknown = "0".repeat(32);
    let (get, post) = ("get", "post");
    let reads = [
        (get, format!("/v1/transfers/{failed}"), format!("/v1/transfers/{unknown}")),
        (get, format!("/v1/transactions/{hash}"), format!("/v1/transactions/{}", Hash([6; 32]))),
        (get, format!("/transfer/{failed}"), "/transfer/nonsense".to_owned()),
        (post, format!("/v1/transfers/{failed}/retry"), format!("/v1/transfers/{unknown}/retry")),
        (post, format!("/v1/transfers/{failed}/cancel"), format!("/v1/transfers/{unknown}/cancel")),
        (get, "/v1/transfers".to_owned(), String::new()),
    ];
    for (method, path, missing) in &reads {
        let refused = if path.ends_with("cancel") { none } else { submitter };
        let answer = service.ask(method, path, &[auth(all)], "").await;
        assert!((200..=202).contains(&answer.status), "{path}: {}", answer.text);
        assert_eq!(service.ask(method, path, &[], "").await.status, 401);
        assert_eq!(service.ask(method, path, &[auth(refused)], "").await.status, 403, "{path}");
        if !missing.is_empty() {
            assert_eq!(service.ask(method, missing, &[auth(all)], "").await.status, 404);
        }
    }
    for change in ["retry", "cancel"] {
        let path = format!("/v1/transfers/{failed}/{change}");
        assert_eq!(service.ask(post, &path, &[auth(all)], "").await.status, 409);
    }
    for bad in
        ["status=x", "limit=0", "limit=1001", "cursor=x", "receiver_id=X", "tx_hash=0", "more=1", "limit=1&limit=1"]
    {
        let answer = service.ask(get, &format!("/v1/transfers?{bad}"), &[auth(all)], "").await;
        assert_eq!((answer.status, answer.code().as_str()), (400, "bad_query"), "{bad}");
    }
    for path in ["/health", "/ready", "/metrics/jobs", "/openapi.json"] {
        assert_eq!(service.get(path).await.status, 200);
    }
    waiting.store(true, Relaxed);
    let ready = service.get("/ready").await;
    assert_eq!((ready.status, ready.json()["waiting_for"].clone()), (503, json!(["the chain"])));

    // Too fast, each.
    for path in submits {
        loop {
            let answer = service.ask(post, path, &[JSON, auth(slow), ("idempotency-key", "s")], "{").await;
            if answer.status == 429 {
                assert!(answer.header("retry-after").is_some());
                break;
            }
        }
    }
    while service.ask(post, "/v1/transfers/batch", &[JSON, auth(slow)], batch).await.status != 429 {}
    for (method, path, _) in &reads {
        while service.ask(method, path, &[auth(slow)], "").await.status != 429 {}
    }
    // Too many.
    for n in 0..8 {
        service.ask(post, "/v1/transfers", &[JSON, auth(all), ("idempotency-key", &format!("n{n}"))], BOB).await;
    }
    for path in submits {
        let answer = service.ask(post, path, &[JSON, auth(all), ("idempotency-key", "full")], BOB).await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "backlog_full"));
        assert!(answer.header("retry-after").is_some());
    }
    let answer = service.ask(post, "/v1/transfers/batch", &[JSON, auth(all)], &batch.replace("b1", "b2")).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "backlog_full"));
    assert!(service.store.depth().await.unwrap().queued <= 8);

    // No store.
    disk.store(true, Relaxed);
    service.store.put_meta(&[("x", b"y")]).await.unwrap_err();
    for (method, path, _) in &reads {
        let answer = service.ask(method, path, &[auth(all)], "").await;
        assert_eq!((answer.status, answer.code().as_str()), (503, "store_unavailable"), "{path}");
        assert!(!answer.text.contains("run.store"), "{}", answer.text);
    }
    assert_eq!(service.get("/metrics/jobs").await.status, 503);
    let answer = service.ask(post, "/v1/transfers", &[JSON, auth(all), ("idempotency-key", "late")], BOB).await;
    assert_eq!((answer.status, answer.code().as_str()), (503, "store_unavailable"));

    // What the process counts, for whoever scrapes it: it needs no store.
    let accept = [("accept", "application/openmetrics-text")];
    let answer = service.ask("get", "/metrics", &accept, "").await;
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/x-asked")));
    assert_eq!(answer.text, "application/openmetrics-text");

    // What is not there.
    assert_eq!(service.get("/v2").await.code(), "not_found");
    assert_eq!(service.ask("delete", "/v1/transfers", &[], "").await.code(), "method_not_allowed");

    let document = openapi();
    let mut documented = BTreeSet::new();
    for (path, operations) in document["paths"].as_object().unwrap() {
        for (method, operation) in operations.as_object().unwrap() {
            for status in operation["responses"].as_object().unwrap().keys() {
                documented.insert((method.clone(), path.clone(), status.parse::<u16>().unwrap()));
            }
        }
    }
    let template = |path: &str| {
        let fits = |template: &&String| {
            let parts = |text: &str| text.split('/').map(str::to_owned).collect::<Vec<_>>();
            let (parts, other) = (parts(template), parts(path));
            parts.len() == other.len() && parts.iter().zip(&other).all(|(a, b)| a == b || a.starts_with('{'))
        };
        let paths: Vec<_> = document["paths"].as_object().unwrap().keys().filter(fits).cloned().collect();
        paths.iter().find(|exact| *exact == path).or(paths.first()).cloned()
    };
    let seen: BTreeSet<_> = service
        .seen
        .lock()
        .unwrap()
        .iter()
        .filter(|(.., status)| *status != 405)
        .filter_map(|(method, path, status)| Some((method.clone(), template(path)?, *status)))
        .collect();
    assert_eq!(
        seen.difference(&documented).collect::<Vec<_>>(),
        Vec::<&(String, String, u16)>::new(),
        "not documented"
    );
    assert_eq!(documented.difference(&seen).collect::<Vec<_>>(), Vec::<&(String, String, u16)>::new(), "not given");
    service.end().await;
}

#[test]
fn the_document_refers_to_what_is_in_it() {
    fn look(value: &Value, document: &Value) {
        match value {
            Value::Object(fields) => {
                if let Some(Value::String(to)) = fields.get("$ref") {
                    let found = document.pointer(to.strip_prefix('#').unwrap());
                    assert!(found.is_some(), "{to}");
                }
                fields.values().for_each(|value| look(value, document));
            }
            Value::Array(values) => values.iter().for_each(|value| look(value, document)),
            _ => {}
        }
    }
    let document = openapi();
    assert_eq!(document["openapi"], "3.1.0");
    look(&document, &document);
}

#[tokio::test]
async fn without_tokens_only_this_machine_is_listened_to_and_answered() {
    let listener = TcpListener::bind("0.0.0.0:0").await.unwrap();
    let api = Api::new(Arc::new(MemoryStore::default()), settings());
    let error = serve(listener, api, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains("0.0.0.0") && error.contains("token"), "{error}");

    let service = Service::start(MemoryStore::default(), settings()).await;
    let request = format!(
        "POST /v1/transfers HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\nidempotency-key: k\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BOB}",
        BOB.len()
    );
    let answer = service.raw(request.as_bytes()).await;
    assert_eq!((answer.status, answer.code().as_str()), (403, "host_refused"));
    service.end().await;
}

#[tokio::test]
async fn who_closes_their_side_is_answered_and_who_is_slow_is_let_go() {
    let settings = Settings { head_timeout: Duration::from_millis(300), ..settings() };
    let service = Service::start(MemoryStore::default(), settings).await;
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    let request = format!(
        "POST /v1/transfers HTTP/1.1\r\nhost: localhost\r\nidempotency-key: k\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BOB}",
        BOB.len()
    );
    stream.write_all(request.as_bytes()).await.unwrap();
    stream.shutdown().await.unwrap();
    assert_eq!(read(&mut stream).await.status, 202);

    // Half a head, then nothing; and a body that is cut off.
    let mut slow = TcpStream::connect(service.address).await.unwrap();
    slow.write_all(b"POST /v1/transfers HTTP/1.1\r\nhost: loc").await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, slow.read_to_end(&mut rest)).await.unwrap().unwrap();
    let mut cut = TcpStream::connect(service.address).await.unwrap();
    cut.write_all(&request.as_bytes()[..request.len() - 5]).await.unwrap();
    cut.shutdown().await.unwrap();
    let mut rest = Vec::new();
    timeout(PATIENCE, cut.read_to_end(&mut rest)).await.unwrap().unwrap();
    assert!(rest.starts_with(b"HTTP/1.1 400"), "nothing is done by halves: {}", String::from_utf8_lossy(&rest));
    let long = format!("GET /health HTTP/1.1\r\nx: {}\r\n\r\n", "x".repeat(20_000));
    // What is not read may cost the answer.
    assert!(matches!(raw_status(&service, long.as_bytes()).await, Some(431) | None));
    // What is no HTTP is let go.
    assert!(matches!(raw_status(&service, b"\x16\x03\x01\x02\x00garbage\r\n\r\n").await, Some(400) | None));
    assert_eq!(service.store.depth().await.unwrap().queued, 1);
    service.end().await;
}

async fn raw_status<S>(service: &Service<S>, bytes: &[u8]) -> Option<u16> {
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    // It may be refused before all of it is sent.
    let _ = stream.write_all(bytes).await;
    let mut head = [0; 12];
    timeout(PATIENCE, stream.read_exact(&mut head)).await.unwrap().ok()?;
    std::str::from_utf8(&head).ok()?.split(' ').nth(1)?.parse().ok()
}

/// Bytes of memory that this process holds.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() * 1024
}

/// How many files this process may have open.
fn open_files() -> usize {
    let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    line.split_whitespace().nth(3).unwrap().parse().unwrap_or(usize::MAX)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_connections_are_bounded() {
    let service = Service::start(MemoryStore::default(), Settings { max_connections: 100, ..settings() }).await;
    // Each has two ends here.
    let count = 10_000.min(open_files().saturating_sub(500) / 2);
    let before = resident();
    let mut held = Vec::with_capacity(count);
    for n in 0..count {
        let Ok(mut stream) = TcpStream::connect(service.address).await else { continue };
        if n % 2 == 0 {
            let _ = stream.write_all(b"POST /v1/transfers HTTP/1.1\r\nhost: loc").await;
        }
        held.push(stream);
    }
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more for {} connections", held.len());
    // Past the most, one is told so, or let go.
    let request = b"GET /health HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    assert!(matches!(raw_status(&service, request).await, Some(503) | None));
    drop(held);
    let until = Instant::now() + PATIENCE;
    while raw_status(&service, request).await != Some(200) {
        assert!(Instant::now() < until, "the places are not given back");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    service.end().await;
}

#[tokio::test]
async fn a_request_under_way_is_answered_before_the_end() {
    let service = Service::start(MemoryStore::default(), settings()).await;
    let asked = format!(
        "POST /v1/transfers?wait=final&timeout_ms=300 HTTP/1.1\r\nhost: localhost\r\nidempotency-key: k\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BOB}",
        BOB.len()
    );
    let mut stream = TcpStream::connect(service.address).await.unwrap();
    stream.write_all(asked.as_bytes()).await.unwrap();
    while service.store.depth().await.unwrap().queued == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let address = service.address;
    service.end().await;
    assert_eq!(read(&mut stream).await.status, 202);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn what_is_accepted_is_in_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.store");
    let service = Service::start(FileStore::create(&path).unwrap(), settings()).await;
    let asked = (0..50).map(|n| {
        let service = &service;
        async move { service.post("/v1/transfers", &format!("k{n}"), BOB).await.status }
    });
    let answers = futures_util::future::join_all(asked).await;
    assert_eq!(answers, [202; 50]);
    let store = service.store.clone();
    service.end().await;
    // The tasks that requests share end with the API.
    let until = Instant::now() + PATIENCE;
    while Arc::strong_count(&store) > 1 {
        assert!(Instant::now() < until);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    drop(store);
    let service = Service::start(FileStore::open(&path).unwrap(), settings()).await;
    let replay = service.post("/v1/transfers", "k7", BOB).await;
    assert_eq!((replay.status, &replay.json()["status"]), (200, &json!("queued")));
    let census = service.store.census().await.unwrap();
    assert_eq!((census.counts.of(TransferState::Queued), census.depth.queued), (50, 50));
    service.end().await;
}

/// Whatever is sent, an answer of the documented kinds comes back, and the service goes on.
#[test]
fn any_request_is_answered() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let service = runtime.block_on(Service::start(MemoryStore::default(), settings()));
    let path = prop_oneof![
        Just("/v1/transfers".to_owned()),
        Just("/v1/transfers/batch".to_owned()),
        Just("/send-ft".to_owned()),
        "/v1/transfers/[0-9a-f%]{0,34}",
        "/v1/transactions/[0-9A-Za-z]{0,50}",
        r"/v1/transfers\?[a-z_=&%0-9]{0,30}",
        "/[a-z0-9/%.?=]{0,30}",
    ];
    let method = prop_oneof![Just("get"), Just("post"), Just("put"), Just("options"), Just("head")];
    let value = || {
        prop_oneof![Just("\"5\""), Just("5"), Just("1e999"), Just("null"), Just("\"bob.near\""), Just("[]"), Just("{}")]
    };
    let name = || prop_oneof![Just("receiver_id"), Just("amount"), Just("memo"), Just("transfers"), Just("x")];
    let body = prop_oneof![
        prop::collection::vec((name(), value()), 0..4).prop_map(|fields| {
            let fields: Vec<_> = fields.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
            format!("{{{}}}", fields.join(","))
        }),
        "\\PC{0,60}",
        Just("[".repeat(5000)),
    ];
    let cases = ProptestConfig { cases: 200, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(cases)
        .run(&(method, path, "[ -~]{0,20}", body), |(method, path, key, body)| {
            let request = format!(
                "{} {path} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\nidempotency-key: {key}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
                method.to_uppercase(),
                body.len()
            );
            let answer = runtime.block_on(service.raw(request.as_bytes()));
            prop_assert!((200..500).contains(&answer.status), "{request}: {} {}", answer.status, answer.text);
            if answer.status >= 400 && method != "head" && !answer.text.is_empty() {
                answer.code();
            }
            Ok(())
        })
        .unwrap();
    runtime.block_on(service.end());
}
