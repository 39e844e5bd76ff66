//! A devnet with a token and lanes, behind a transport that fails as it is told to.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use nearbench_core::{
    Account, Amount, Near, TGAS, Transfer, TransferId,
    audit::{Audit, Expected},
    counts::Counts,
    ledger::Final,
    measure::Recorder,
    plan::{self, Arrivals, Deploy, Phase},
    report::{Observed, Results},
    schedule::Schedule,
    settle::{DeathCertificate, Proof},
    transfer::TransferState,
};
use nearbench_devnet::{AccountConfig, Config, Devnet};
use nearbench_near::{
    Client, Endpoint, Signer,
    audit::{Scope, audit},
    http::HttpTransport,
    provision::{Desired, Provisioned, provision},
    transport::{Response, Transport, TransportError},
};
use nearbench_store::{FileStore, Recall, ResultRow, Store};
use nearbench_worker::{Drained, Engine, Finality, LEASE, Setup, Tally};
use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

const TOKEN: &[u8] = include_bytes!("../../../contracts/ft/res/ft.wasm");

/// The name of the archival endpoint.
const ARCHIVE: &str = "archive";

/// An endpoint that fails too much is tried again before long.
const BREAKER: plan::Breaker =
    plan::Breaker { timeout_ms: 5000, error_threshold_percentage: 50, reset_timeout_ms: 100 };

/// What an endpoint does with a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// Answers it.
    None,
    /// Never gets it.
    Lost,
    /// Does it; the answer is lost.
    AnswerLost,
    /// Answers what no node answers.
    Garbage,
    /// Asks to be left alone.
    Busy,
    /// Answers that the bytes are no transaction.
    Refused,
    /// Does it; where the outcome is asked for, answers that it knows no such transaction.
    Unknown,
}

/// How nearcore refuses bytes that it cannot read.
const REFUSAL: &[u8] =
    br#"{"jsonrpc": "2.0", "id": "nearbench", "error": {"name": "REQUEST_VALIDATION_ERROR", "code": -32700,
    "cause": {"name": "PARSE_ERROR", "info": {"error_message": "no transaction"}}, "message": "Parse error",
    "data": "no transaction"}}"#;

/// How nearcore says that it does not know a transaction.
const UNKNOWN: &[u8] = br#"{"jsonrpc": "2.0", "id": "nearbench", "error": {"name": "HANDLER_ERROR", "code": -32000,
    "cause": {"name": "UNKNOWN_TRANSACTION", "info": {}}, "message": "Server error", "data": "it does not exist"}}"#;

type Faults = Box<dyn FnMut(&str) -> Fault + Send>;

/// The chain in this process, as an endpoint that fails by a rule on methods.
struct Faulty {
    devnet: Devnet,
    /// The name of its endpoint.
    name: &'static str,
    faults: Arc<Mutex<Faults>>,
}

impl Transport for Faulty {
    fn call(&self, request: Bytes, timeout: Duration) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let json: serde_json::Value = serde_json::from_slice(&request).unwrap();
            let fault = (self.faults.lock().unwrap())(json["method"].as_str().unwrap());
            let asks_for_outcome = json["method"] == "tx" || json["params"]["wait_until"] != "NONE";
            let broken = || TransportError::Broken("as told".to_owned());
            let answer = |status, body| Response { status, retry_after: None, body };
            match fault {
                Fault::Lost => return Err(broken()),
                Fault::Garbage => return Ok(answer(200, Bytes::from_static(b"{\"result\": <html>"))),
                Fault::Busy => return Ok(answer(429, Bytes::from_static(b"slow down"))),
                Fault::Refused => return Ok(answer(400, Bytes::from_static(REFUSAL))),
                Fault::None | Fault::AnswerLost | Fault::Unknown => {}
            }
            let done = tokio::time::timeout(timeout, self.devnet.handle_at(self.name, request))
                .await
                .map_err(|_| TransportError::Timeout(timeout))?;
            match fault {
                Fault::AnswerLost => Err(broken()),
                Fault::Unknown if asks_for_outcome => Ok(answer(200, Bytes::from_static(UNKNOWN))),
                _ => Ok(answer(done.status, done.body)),
            }
        })
    }
}

/// An endpoint that nobody is behind.
pub(crate) fn dead() -> Endpoint {
    struct Dead;
    impl Transport for Dead {
        fn call(&self, _: Bytes, _: Duration) -> BoxFuture<'_, Result<Response, TransportError>> {
            Box::pin(async { Err(TransportError::Connect("nobody there".to_owned())) })
        }
    }
    Endpoint { name: "dead".into(), priority: 0, max_requests_per_second: None, transport: Arc::new(Dead) }
}

pub(crate) struct World {
    pub(crate) devnet: Devnet,
    faults: Arc<Mutex<Faults>>,
    resent: Arc<AtomicU64>,
    pub(crate) client: Client,
    /// Whom the audit asks.
    auditor: Client,
    /// How many blocks too early the first nonces are.
    pub(crate) ahead: u64,
    pub(crate) master: Signer,
    pub(crate) lanes: Vec<Signer>,
    account: Account,
    token: Account,
    receivers: Vec<Account>,
    provisioned: Provisioned,
}

/// What a world is made of.
pub(crate) struct Make {
    /// Preferred to the chain's own.
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) lanes: usize,
    pub(crate) tokens: u128,
    /// Whether the chain's own endpoint is reached over HTTP; it then fails by the chain's faults alone.
    pub(crate) over_http: bool,
    /// Blocks for which a transaction may be included.
    pub(crate) validity_period: u64,
    /// Blocks of an epoch, of which the chain's own endpoint then keeps three; an archival one is behind it, and audited
    /// through. `None`: nothing is collected.
    pub(crate) collected_epochs: Option<u64>,
    /// Whether the engine may ask the archival one.
    pub(crate) knows_archive: bool,
}

impl Default for Make {
    fn default() -> Self {
        let Config { transaction_validity_period: validity_period, .. } = Config::default();
        Self {
            endpoints: Vec::new(),
            lanes: 3,
            tokens: 1_000_000,
            over_http: false,
            validity_period,
            collected_epochs: None,
            knows_archive: true,
        }
    }
}

/// Counts what is sent a second time, asking for its outcome.
struct Counting<T> {
    inner: T,
    resent: Arc<AtomicU64>,
}

impl<T: Transport> Transport for Counting<T> {
    fn call(&self, request: Bytes, timeout: Duration) -> BoxFuture<'_, Result<Response, TransportError>> {
        let has = |words: &[u8]| request.windows(words.len()).any(|window| window == words);
        if has(b"\"send_tx\"") && has(b"EXECUTED_OPTIMISTIC") {
            self.resent.fetch_add(1, Ordering::Relaxed);
        }
        self.inner.call(request, timeout)
    }
}

/// What an engine did about what befell it.
#[derive(Debug, Default)]
pub(crate) struct Deeds {
    /// What went wrong, by its label.
    pub(crate) errors: BTreeMap<String, u64>,
    /// Transactions whose bytes were sent again.
    pub(crate) resent: u64,
    /// Transactions that were proven dead, by the certificate; their transfers were signed anew.
    pub(crate) dead: BTreeMap<&'static str, u64>,
    /// Transactions that only moved a nonce on.
    pub(crate) fences: u64,
    /// From the first transfer's arrival to the last one's end.
    pub(crate) took: Duration,
}

/// What a run left behind.
pub(crate) struct Outcome {
    pub(crate) drained: Drained,
    pub(crate) counts: Counts,
    pub(crate) audit: Option<Audit>,
    /// How often each fault of the chain hit.
    pub(crate) chain_faults: Vec<u64>,
    pub(crate) deeds: Deeds,
}

impl Deeds {
    fn saw(&mut self, row: &ResultRow) {
        let ResultRow::Settled { settled, transfers, .. } = row else { return };
        let certificate = match settled.proof {
            Proof::Dead(DeathCertificate::Expired { .. }) => "expired",
            Proof::Dead(DeathCertificate::Overtaken { .. }) => "overtaken",
            Proof::Dead(DeathCertificate::KeyGone { .. }) => "key gone",
            Proof::Dead(DeathCertificate::Absent { .. }) => "absent",
            Proof::Executed(_) | Proof::None => {
                self.fences += u64::from(transfers.is_empty());
                return;
            }
        };
        *self.dead.entry(certificate).or_default() += 1;
    }
}

pub(crate) fn id(n: u64) -> TransferId {
    TransferId::derive(&[9; 32], &n.to_le_bytes())
}

impl World {
    /// A chain with fast blocks, `lanes` keys, four receivers and `tokens` to send.
    pub(crate) async fn new(lanes: usize, tokens: u128) -> Self {
        Self::made(Make { lanes, tokens, ..Make::default() }).await
    }

    /// The same, behind endpoints that are preferred to the chain's own.
    pub(crate) async fn behind(endpoints: Vec<Endpoint>, lanes: usize, tokens: u128) -> Self {
        Self::made(Make { endpoints, lanes, tokens, ..Make::default() }).await
    }

    pub(crate) async fn made(make: Make) -> Self {
        let Make { mut endpoints, lanes, tokens, over_http, validity_period, collected_epochs, knows_archive } = make;
        let archive = collected_epochs.map(|_| ARCHIVE.to_owned());
        let account: Account = "bench.near".parse().unwrap();
        let master = Signer::generate(account.clone(), &mut rand::rng());
        let devnet = Devnet::start(Config {
            block_time: Duration::from_millis(50),
            accounts: vec![AccountConfig {
                account_id: account.to_string(),
                balance: 10u128.pow(30),
                public_keys: vec![master.public_key().to_owned()],
            }],
            transaction_validity_period: validity_period,
            epoch_length: collected_epochs.unwrap_or(Config::default().epoch_length),
            keep_epochs: collected_epochs.map(|_| 3),
            archival: archive.into_iter().collect(),
            ..Config::default()
        })
        .await
        .unwrap();
        let resent = Arc::new(AtomicU64::new(0));
        let faults: Arc<Mutex<Faults>> = Arc::new(Mutex::new(Box::new(|_| Fault::None)));
        let faulty = |name| Faulty { devnet: devnet.clone(), name, faults: faults.clone() };
        let transport: Arc<dyn Transport> = if over_http {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let serving = devnet.clone();
            tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
            Arc::new(Counting { inner: HttpTransport::new(&url, None).unwrap(), resent: resent.clone() })
        } else {
            Arc::new(Counting { inner: faulty(""), resent: resent.clone() })
        };
        let endpoint = Endpoint { name: "devnet".into(), priority: 1, max_requests_per_second: None, transport };
        endpoints.push(endpoint);
        let archive = collected_epochs.map(|_| Endpoint {
            name: ARCHIVE.into(),
            priority: 2,
            max_requests_per_second: None,
            transport: Arc::new(faulty(ARCHIVE)),
        });
        endpoints.extend(archive.clone().filter(|_| knows_archive));
        let client = Client::new(endpoints, &BREAKER);
        let auditor = archive.map_or_else(|| client.clone(), |archive| Client::new(vec![archive], &BREAKER));
        client.watch();
        let lanes: Vec<_> = (0..lanes).map(|_| Signer::generate(account.clone(), &mut rand::rng())).collect();
        let receivers: Vec<Account> = (0..4).map(|i| format!("user-{i}.near").parse().unwrap()).collect();
        let token: Account = "ft.bench.near".parse().unwrap();
        let desired = Desired {
            chain_id: "devnet".to_owned(),
            account: account.clone(),
            create_from: None,
            master: Some(master.clone()),
            lane_keys: lanes.iter().map(|lane| lane.public_key().to_owned()).collect(),
            token: token.clone(),
            deploy: Some((Deploy { total_supply: Amount(tokens), mint: Amount(0) }, Bytes::from_static(TOKEN))),
            receivers: receivers.clone(),
            min_balance: Near(0),
            tokens_needed: Amount(0),
        };
        let provisioned =
            provision(&client, &desired, None, &CancellationToken::new(), &|_| {}).await.unwrap().unwrap();
        Self {
            devnet,
            faults,
            resent,
            client,
            auditor,
            ahead: 0,
            master,
            lanes,
            account,
            token,
            receivers,
            provisioned,
        }
    }

    /// From now on the endpoint fails by this rule.
    pub(crate) fn fail(&self, rule: impl FnMut(&str) -> Fault + Send + 'static) {
        *self.faults.lock().unwrap() = Box::new(rule);
    }

    /// From now on the chain has these faults.
    pub(crate) fn fail_chain(&self, rules: &serde_json::Value) {
        self.devnet.set_faults(rules).unwrap();
    }

    /// How often each fault of the chain hit.
    pub(crate) fn hits(&self) -> Vec<u64> {
        let faults = self.devnet.faults();
        faults["rules"].as_array().unwrap().iter().map(|rule| rule["hit"].as_u64().unwrap()).collect()
    }

    /// `count` transfers of one unit; `receiver` may replace whom the nth goes to.
    pub(crate) fn transfers(&self, count: u64, receiver: impl Fn(u64) -> Option<&'static str>) -> Vec<Transfer> {
        (0..count)
            .map(|n| Transfer {
                id: id(n),
                receiver: receiver(n)
                    .map_or_else(|| self.receivers[n as usize % 4].clone(), |name| name.parse().unwrap()),
                amount: Amount(1),
                memo: None,
                sequence: n,
                phase: 0,
                intended_ns: 0,
                sent_ns: 0,
            })
            .collect()
    }

    /// Pushes the transfers, lets the engine work for `patience`, and audits when `audited`.
    pub(crate) async fn run(&self, transfers: Vec<Transfer>, batch: u32, patience: Duration, audited: bool) -> Outcome {
        let total = transfers.len() as u64;
        let stop = CancellationToken::new();
        let finality = Finality::follow(self.client.clone(), stop.clone()).await.unwrap();
        let tally = Self::tally(total);
        let folder = tempfile::tempdir().unwrap();
        let store = Arc::new(FileStore::create(&folder.path().join("store.redb")).unwrap());
        let (resent, traffic) = (self.resent.load(Ordering::Relaxed), self.client.traffic());
        for _ in &transfers {
            tally.recorder().sent(0, 0, 0);
            tally.recorder().accepted(0, 0, 0);
        }
        assert_eq!(store.push(transfers.clone(), u64::MAX).await.unwrap() as u64, total);
        let early = if self.ahead == 0 { 0 } else { (self.devnet.height() + self.ahead) * 1_000_000 };
        let nonces = self.provisioned.lanes.iter().map(|lane| lane.nonce.max(early));
        let lanes = self.lanes.iter().cloned().zip(nonces).collect();
        let setup = Setup { lanes, lease: LEASE, ..self.setup(store.clone(), finality.clone(), tally.clone(), batch) };
        let engine = Engine::start(setup).await.unwrap();
        let drained = engine.drain(patience).await.unwrap();
        stop.cancel();
        let mut deeds = Deeds {
            resent: self.resent.load(Ordering::Relaxed) - resent,
            took: Duration::from_nanos(tally.now_ns()),
            ..Deeds::default()
        };
        let asked = self.client.traffic().since(&traffic).errors;
        deeds.errors.extend(asked.into_iter().map(|(label, times)| (label.to_owned(), times)));
        let observed = Observed { block_time_ms: 50.0, max_send_lag_ms: 1000, audit: None, ..Default::default() };
        let results = Results::new(&tally.recorder(), ["all"], &observed).unwrap();
        deeds.errors.extend(results.errors);
        store.results(&mut |row| deeds.saw(&row)).await.unwrap();
        // The audit asks an endpoint that works.
        self.fail(|_| Fault::None);
        let chain_faults = self.hits();
        self.devnet.clear_faults();
        let counts = tally.recorder().counts();
        let audit = if audited { Some(self.audit(&transfers, &tally).await) } else { None };
        Outcome { drained, counts, audit, chain_faults, deeds }
    }

    /// An engine without lanes.
    pub(crate) fn setup<S>(&self, store: Arc<S>, finality: Finality, tally: Arc<Tally>, batch: u32) -> Setup<S> {
        Setup {
            store,
            client: self.client.clone(),
            finality,
            tally,
            lanes: Vec::new(),
            lease: LEASE,
            token: self.token.clone(),
            engine: plan::Engine {
                concurrency: 300,
                max_in_flight_per_key: 5,
                max_tps: 0,
                batch: plan::Batch { min: batch, max: batch, depth_divisor: 1 },
                breaker: BREAKER,
                gas_per_transfer: 3 * TGAS,
                max_queue_depth: u64::MAX,
            },
            limits: self.provisioned.limits,
        }
    }

    /// The token that is paid with.
    pub(crate) fn token(&self) -> &Account {
        &self.token
    }

    /// A height at which no lane had signed a transfer.
    pub(crate) fn opened(&self) -> u64 {
        self.provisioned.height
    }

    /// A tally for `total` transfers that are all there at once.
    pub(crate) fn tally(total: u64) -> Arc<Tally> {
        let phases =
            [Phase { name: "all".to_owned(), duration_ms: 60_000, arrivals: Arrivals::Count(total), max_vusers: None }];
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        Arc::new(Tally::new(Recorder::new(&Schedule::new(&phases)), total, Instant::now(), unix, u64::MAX))
    }

    pub(crate) async fn audit(&self, transfers: &[Transfer], tally: &Tally) -> Audit {
        let ledger = tally.ledger().clone();
        let expected = |wanted: TransferId| {
            let transfer = transfers.iter().find(|transfer| transfer.id == wanted)?;
            Some(Expected {
                receiver: transfer.receiver.clone(),
                amount: transfer.amount,
                state: match ledger.get(transfer.sequence) {
                    Final::Succeeded => TransferState::Finalized,
                    Final::Failed => TransferState::Failed,
                    Final::Open => TransferState::NeedsReview,
                },
            })
        };
        let public_keys: Vec<_> = self.lanes.iter().map(|lane| lane.public_key().to_owned()).collect();
        let scope = Scope {
            account: &self.account,
            public_keys: &public_keys,
            token: &self.token,
            receivers: &self.receivers,
            from: self.provisioned.height,
            before: &self.provisioned.balances,
            until: self.provisioned.height,
        };
        let succeeded = tally.recorder().counts().succeeded;
        audit(&self.auditor, &scope, &expected, succeeded, &|_, _| {}).await.unwrap()
    }
}
