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
    schedule::Schedule,
    transfer::TransferState,
};
use nearbench_devnet::{AccountConfig, Config, Devnet};
use nearbench_near::{
    Client, Endpoint, Signer,
    audit::{Scope, audit},
    provision::{Desired, Provisioned, provision},
    transport::{Response, Transport, TransportError},
};
use nearbench_store::{MemoryStore, Store};
use nearbench_worker::{Drained, Engine, Finality, Setup, Tally};
use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

const TOKEN: &[u8] = include_bytes!("../../../contracts/ft/res/ft.wasm");

/// An endpoint that fails too much is tried again before long.
const BREAKER: plan::Breaker =
    plan::Breaker { timeout_ms: 5000, error_threshold_percentage: 50, reset_timeout_ms: 100 };

const UNKNOWN: &[u8] = br#"{"id":"nearbench","error":{"cause":{"name":"UNKNOWN_TRANSACTION","info":{}}}}"#;

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
    /// Does it; says that it knows no such transaction.
    Unknown,
}

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
            let broken = || TransportError::Broken("as told".to_owned());
            let answer = |status, body| Response { status, retry_after: None, body };
            match fault {
                Fault::Lost => return Err(broken()),
                Fault::Garbage => return Ok(answer(200, Bytes::from_static(b"{\"result\": <html>"))),
                Fault::Busy => return Ok(answer(429, Bytes::from_static(b"slow down"))),
                Fault::None | Fault::AnswerLost | Fault::Unknown => {}
            }
            let done = tokio::time::timeout(timeout, self.devnet.handle_at(self.name, request))
                .await
                .map_err(|_| TransportError::Timeout(timeout))?;
            match fault {
                Fault::AnswerLost => Err(broken()),
                Fault::Unknown => Ok(answer(200, Bytes::from_static(UNKNOWN))),
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
    devnet: Devnet,
    faults: Arc<Mutex<Faults>>,
    pub(crate) client: Client,
    /// Whom the audit asks.
    auditor: Client,
    /// How many blocks too early the first nonces are.
    pub(crate) ahead: u64,
    lanes: Vec<Signer>,
    account: Account,
    token: Account,
    receivers: Vec<Account>,
    provisioned: Provisioned,
}

/// What a run left behind.
pub(crate) struct Outcome {
    pub(crate) drained: Drained,
    pub(crate) counts: Counts,
    pub(crate) audit: Option<Audit>,
    /// How often each fault of the chain hit.
    pub(crate) chain_faults: Vec<u64>,
}

pub(crate) fn id(n: u64) -> TransferId {
    TransferId::derive(&[9; 32], &n.to_le_bytes())
}

impl World {
    /// A chain with fast blocks, `lanes` keys, four receivers and `tokens` to send.
    pub(crate) async fn new(lanes: usize, tokens: u128) -> Self {
        Self::behind(Vec::new(), lanes, tokens).await
    }

    /// The same, behind endpoints that are preferred to the chain's own.
    pub(crate) async fn behind(endpoints: Vec<Endpoint>, lanes: usize, tokens: u128) -> Self {
        Self::on(Config::default(), endpoints, lanes, tokens).await
    }

    /// The same, whose endpoint collects what is older than some seconds, with an archival one behind it.
    pub(crate) async fn collecting(lanes: usize, tokens: u128) -> Self {
        let config = Config {
            epoch_length: 20,
            transaction_validity_period: 40,
            keep_epochs: Some(3),
            archival: vec!["archive".to_owned()],
            ..Config::default()
        };
        Self::on(config, Vec::new(), lanes, tokens).await
    }

    async fn on(config: Config, mut endpoints: Vec<Endpoint>, lanes: usize, tokens: u128) -> Self {
        let account: Account = "bench.near".parse().unwrap();
        let master = Signer::generate(account.clone(), &mut rand::rng());
        let config = Config {
            block_time: Duration::from_millis(50),
            accounts: vec![AccountConfig {
                account_id: account.to_string(),
                balance: 10u128.pow(30),
                public_keys: vec![master.public_key().to_owned()],
            }],
            ..config
        };
        let archives = config.archival.len();
        let devnet = Devnet::start(config).await.unwrap();
        let faults: Arc<Mutex<Faults>> = Arc::new(Mutex::new(Box::new(|_| Fault::None)));
        let endpoint = |name, priority| {
            let transport = Arc::new(Faulty { devnet: devnet.clone(), name, faults: faults.clone() });
            Endpoint { name: name.into(), priority, max_requests_per_second: None, transport }
        };
        let own = [endpoint("devnet", 1), endpoint("archive", 2)].into_iter().take(1 + archives);
        endpoints.extend(own);
        let client = Client::new(endpoints, &BREAKER);
        let auditor = match archives {
            0 => client.clone(),
            _ => Client::new(vec![endpoint("archive", 1)], &BREAKER),
        };
        client.watch();
        let lanes: Vec<_> = (0..lanes).map(|_| Signer::generate(account.clone(), &mut rand::rng())).collect();
        let receivers: Vec<Account> = (0..4).map(|i| format!("user-{i}.near").parse().unwrap()).collect();
        let token: Account = "ft.bench.near".parse().unwrap();
        let desired = Desired {
            chain_id: "devnet".to_owned(),
            account: account.clone(),
            create_from: None,
            master: Some(master),
            lane_keys: lanes.iter().map(|lane| lane.public_key().to_owned()).collect(),
            token: token.clone(),
            deploy: Some((Deploy { total_supply: Amount(tokens), mint: Amount(0) }, Bytes::from_static(TOKEN))),
            receivers: receivers.clone(),
            min_balance: Near(0),
            tokens_needed: Amount(0),
        };
        let provisioned = provision(&client, &desired, &CancellationToken::new(), &|_| {}).await.unwrap().unwrap();
        Self { devnet, faults, client, auditor, ahead: 0, lanes, account, token, receivers, provisioned }
    }

    /// From now on the endpoint fails by this rule.
    pub(crate) fn fail(&self, rule: impl FnMut(&str) -> Fault + Send + 'static) {
        *self.faults.lock().unwrap() = Box::new(rule);
    }

    /// From now on the chain has these faults.
    pub(crate) fn fail_chain(&self, rules: &serde_json::Value) {
        self.devnet.set_faults(rules).unwrap();
    }

    /// What tells the chain's height.
    pub(crate) fn height(&self) -> impl Fn() -> u64 + Send + use<> {
        let devnet = self.devnet.clone();
        move || devnet.height()
    }

    fn hits(&self) -> Vec<u64> {
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
        let phases =
            [Phase { name: "all".to_owned(), duration_ms: 1000, arrivals: Arrivals::Count(total), max_vusers: None }];
        let stop = CancellationToken::new();
        let finality = Finality::follow(self.client.clone(), stop.clone()).await.unwrap();
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos() as u64;
        let recorder = Recorder::new(&Schedule::new(&phases));
        let tally = Arc::new(Tally::new(recorder, total, Instant::now(), unix, u64::MAX));
        let store = Arc::new(MemoryStore::default());
        for _ in &transfers {
            tally.recorder().sent(0, 0, 0);
            tally.recorder().accepted(0, 0, 0);
        }
        assert_eq!(store.push(transfers.clone(), u64::MAX).await.unwrap() as u64, total);
        let early = if self.ahead == 0 { 0 } else { (self.devnet.height() + self.ahead) * 1_000_000 };
        let nonces = self.provisioned.lanes.iter().map(|lane| lane.nonce.max(early));
        let engine = Engine::start(Setup {
            store,
            client: self.client.clone(),
            finality: finality.clone(),
            tally: tally.clone(),
            lanes: self.lanes.iter().cloned().zip(nonces).collect(),
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
        })
        .await
        .unwrap();
        let drained = engine.drain(patience).await.unwrap();
        stop.cancel();
        // The audit asks an endpoint that works.
        self.fail(|_| Fault::None);
        let chain_faults = self.hits();
        self.devnet.clear_faults();
        let counts = tally.recorder().counts();
        let audit = if audited { Some(self.audit(&transfers, &tally).await) } else { None };
        Outcome { drained, counts, audit, chain_faults }
    }

    async fn audit(&self, transfers: &[Transfer], tally: &Tally) -> Audit {
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
        };
        let succeeded = tally.recorder().counts().succeeded;
        audit(&self.auditor, &scope, &expected, succeeded, &|_, _| {}).await.unwrap()
    }
}
