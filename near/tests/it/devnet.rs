//! Against a chain in the same process, with the real token: provisioning, transfers, audit.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use nearbench_core::{
    Account, Amount, Near, TGAS, Transfer, TransferId, TransferState,
    amount::NEAR,
    audit::{Audit, Expected},
    outcome::{Execution, FailureKind, TxStatus},
    plan::{Breaker, Deploy},
};
use nearbench_devnet::{AccountConfig, Config, Devnet};
use nearbench_near::{
    Client, Endpoint, Signer,
    audit::{Scope, audit},
    chain::{At, Wait},
    provision::{Desired, Lane, Progress, ProvisionError, Provisioned, provision, remove_keys},
    transaction::sign_transfers,
    transport::{Response, Transport, TransportError},
};
use rand::{SeedableRng, rngs::StdRng};
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio_util::sync::CancellationToken;

const WASM: &[u8] = include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/../contracts/ft/res/ft.wasm"));

pub(crate) struct InProcess(pub(crate) Devnet);

impl Transport for InProcess {
    fn call(&self, request: Bytes, _timeout: Duration) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let answer = self.0.handle(request).await;
            Ok(Response { status: answer.status, retry_after: None, body: answer.body })
        })
    }
}

pub(crate) fn account(id: &str) -> Account {
    Account::new(id).unwrap()
}

/// A chain with fast blocks, whose genesis knows `root.near`.
pub(crate) struct Stage {
    pub(crate) client: Client,
    pub(crate) root: Signer,
    pub(crate) master: Signer,
    pub(crate) lanes: Vec<Signer>,
    pub(crate) devnet: Devnet,
}

pub(crate) async fn stage() -> Stage {
    let mut rng = StdRng::seed_from_u64(3);
    let root = Signer::generate(account("root.near"), &mut rng);
    let bench = account("bench.root.near");
    let master = Signer::generate(bench.clone(), &mut rng);
    let lanes = (0..3).map(|_| Signer::generate(bench.clone(), &mut rng)).collect();
    let config = Config {
        block_time: Duration::from_millis(50),
        accounts: vec![AccountConfig {
            account_id: "root.near".to_owned(),
            balance: 1000 * NEAR,
            public_keys: vec![root.public_key().to_owned()],
        }],
        ..Config::default()
    };
    let devnet = Devnet::start(config).await.unwrap();
    Stage { client: client(InProcess(devnet.clone())), root, master, lanes, devnet }
}

/// A client of one endpoint.
pub(crate) fn client(transport: impl Transport) -> Client {
    let breaker = Breaker { timeout_ms: 30_000, error_threshold_percentage: 50, reset_timeout_ms: 30_000 };
    let transport = Arc::new(transport);
    Client::new(
        vec![Endpoint { name: "devnet".into(), priority: 0, max_requests_per_second: None, transport }],
        &breaker,
    )
}

impl Stage {
    pub(crate) fn desired(&self) -> Desired {
        Desired {
            chain_id: "devnet".to_owned(),
            account: account("bench.root.near"),
            create_from: Some((self.root.clone(), Near(100 * NEAR))),
            master: Some(self.master.clone()),
            lane_keys: self.lanes.iter().map(|signer| signer.public_key().to_owned()).collect(),
            token: account("ft.bench.root.near"),
            deploy: Some((Deploy { total_supply: Amount(1_000_000), mint: Amount(500) }, Bytes::from_static(WASM))),
            receivers: (0..60).map(|i| account(&format!("user-{i}.bench.root.near"))).collect(),
            min_balance: Near(20 * NEAR),
            tokens_needed: Amount(1_000_500),
        }
    }

    /// Provisions, and tells the steps taken.
    pub(crate) async fn provision(&self, desired: &Desired) -> (Result<Provisioned, ProvisionError>, Vec<String>) {
        let steps = Mutex::new(Vec::new());
        let progress = |progress: Progress<'_>| {
            if let Progress::Done { step, number, of } = progress {
                steps.lock().unwrap().push(format!("{number}/{of} {step}"));
            }
        };
        let result = provision(&self.client, desired, None, &CancellationToken::new(), &progress).await;
        (result.map(|provisioned| provisioned.expect("nobody stops it")), steps.into_inner().unwrap())
    }

    async fn head(&self) -> u64 {
        self.client.status().await.unwrap().head
    }
}

pub(crate) fn transfer(n: u8, receiver: &Account) -> Transfer {
    Transfer {
        id: TransferId([n; 16]),
        receiver: receiver.clone(),
        amount: Amount(u128::from(n)),
        memo: None,
        sequence: 0,
        phase: 0,
        intended_ns: 0,
        sent_ns: 0,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_chain_is_provisioned_once_used_and_audited() {
    let stage = stage().await;
    let desired = stage.desired();
    let (provisioned, steps) = stage.provision(&desired).await;
    let before = provisioned.unwrap();
    let expected = [
        "1/5 creating the account",
        "2/5 adding 3 access keys",
        "3/5 deploying the token with ",
        "4/5 registering receivers at the token, 50/60",
        "5/5 registering receivers at the token, 60/60",
    ];
    assert!(steps.len() == 5 && expected.iter().zip(&steps).all(|(head, step)| step.starts_with(head)), "{steps:?}");
    assert_eq!(before.balances.sender, Amount(1_000_500));
    assert_eq!(before.balances.total_supply, Amount(1_000_500));
    assert_eq!(before.balances.receivers, vec![Amount(0); 60]);
    assert_eq!((before.lanes.len(), before.limits.max_actions), (3, 100));

    let (again, steps) = stage.provision(&desired).await;
    let again = again.unwrap();
    assert!(steps.is_empty(), "what is there is not done twice: {steps:?}");
    assert_eq!((&again.lanes, &again.balances), (&before.lanes, &before.balances));

    // Two batches that succeed, one that fails as a whole for its second transfer, whose first is sent anew.
    let sender = &desired.account;
    let batches: [Vec<Transfer>; 4] = [
        (1..=3).map(|n| transfer(n, &desired.receivers[0])).collect(),
        (4..=6).map(|n| transfer(n, &desired.receivers[usize::from(n)])).collect(),
        vec![transfer(7, &desired.receivers[1]), transfer(8, &account("stranger.near"))],
        vec![transfer(7, &desired.receivers[1])],
    ];
    let base = stage.client.block(At::Final).await.unwrap().at;
    for (n, batch) in batches.iter().enumerate() {
        let lane = n % 3;
        let Lane { nonce, .. } = before.lanes[lane];
        let nonce = nonce + 1 + n as u64;
        let tx = sign_transfers(&stage.lanes[lane], &desired.token, batch, 5 * TGAS, nonce, &base);
        stage.client.send(&tx).await.unwrap();
        let learned = stage.client.resend_and_learn(&tx, sender).await.unwrap();
        let TxStatus::Landed(landed) = learned else { panic!("batch {n} did not land: {learned:?}") };
        let expected = match n {
            2 => Execution::Failure { index: Some(1), kind: FailureKind::Unregistered },
            _ => Execution::Success,
        };
        assert_eq!(landed.execution, expected, "batch {n}");
        let TxStatus::Landed(last) = stage.client.tx_status(tx.hash, sender, Wait::Final).await.unwrap() else {
            panic!("batch {n} is not final")
        };
        assert_eq!((last.receipt, last.block), (landed.receipt, landed.block));
        let block = stage.client.block(At::Hash(last.block)).await.unwrap();
        assert!(block.at.height > before.height);
    }

    let all: Vec<Transfer> = batches.concat();
    let report = |id: TransferId| {
        let transfer = all.iter().find(|transfer| transfer.id == id)?;
        let state = if transfer.amount == Amount(8) { TransferState::Failed } else { TransferState::Finalized };
        Some(Expected { receiver: transfer.receiver.clone(), amount: transfer.amount, state })
    };
    let scope = Scope {
        account: sender,
        public_keys: &desired.lane_keys,
        token: &desired.token,
        receivers: &desired.receivers,
        from: before.height,
        before: &before.balances,
        until: before.height,
    };
    let honest = Audit { matches: true, transfers_found: 7, receivers: 60, supply_conserved: true, ..Audit::default() };
    assert_eq!(audit(&stage.client, &scope, &report, 7, &|_, _| {}).await.unwrap(), honest);
    let boast = audit(&stage.client, &scope, &report, 8, &|_, _| {}).await.unwrap();
    assert_eq!(boast, Audit { matches: false, missing: 1, ..honest });
    let forgetful = |id| report(id).filter(|_| id != TransferId([5; 16]));
    let forgot = audit(&stage.client, &scope, &forgetful, 6, &|_, _| {}).await.unwrap();
    assert_eq!(forgot, Audit { matches: false, foreign: 1, wrong_balances: 1, transfers_found: 6, ..honest });

    remove_keys(&stage.client, &stage.master, &desired.lane_keys, &|_| {}).await.unwrap();
    for key in &desired.lane_keys {
        assert_eq!(stage.client.access_key(sender, key, At::Final).await.unwrap().value, None);
    }
    remove_keys(&stage.client, &stage.master, &desired.lane_keys, &|_| {}).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stopped_provisioning_knows_the_end_of_all_that_it_sent() {
    let stage = stage().await;
    let desired = stage.desired();
    let stop = CancellationToken::new();
    // Somebody stops it while the keys and the token, sent together, are under way.
    let progress = |progress: Progress<'_>| {
        if let Progress::Done { number: 2, .. } = progress {
            stop.cancel();
        }
    };
    assert_eq!(provision(&stage.client, &desired, None, &stop, &progress).await.unwrap(), None);
    let key = stage.client.access_key(&desired.account, &desired.lane_keys[0], At::Final).await.unwrap();
    let token = stage.client.account(&desired.token, At::Final).await.unwrap();
    assert!(key.value.is_some() && token.value.is_some_and(|account| account.has_code));
    let (_, steps) = stage.provision(&desired).await;
    assert_eq!(steps.len(), 2, "only the receivers are left to do: {steps:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_work_is_refused_before_anything_changes() {
    let stage = stage().await;
    let good = stage.desired();
    let stranger = Signer::generate(account("root.near"), &mut StdRng::seed_from_u64(9));
    let initial = Near(100 * NEAR);
    let cases: Vec<(&str, Desired)> = vec![
        ("devnet is on chain", Desired { chain_id: "testnet".to_owned(), ..good.clone() }),
        ("account.accountId", Desired { create_from: None, ..good.clone() }),
        ("account.createFrom.secretRef", Desired { create_from: Some((stranger, initial)), ..good.clone() }),
        (
            "account.createFrom.initialBalance",
            Desired { create_from: Some((stage.root.clone(), Near(NEAR))), ..good.clone() },
        ),
        (
            "account.createFrom.initialBalance",
            Desired { create_from: Some((stage.root.clone(), Near(1000 * NEAR))), ..good.clone() },
        ),
        ("account.createFrom.accountId", Desired { account: account("bench.other.near"), ..good.clone() }),
        ("account.masterKeySecretRef", Desired { master: None, ..good.clone() }),
        ("account.keys", Desired { lane_keys: vec!["ed25519:short".to_owned()], ..good.clone() }),
        ("token.contractId", Desired { deploy: None, ..good.clone() }),
        ("token.contractId", Desired { token: account("ft.root.near"), ..good.clone() }),
        ("token.contractId", Desired { token: account("root.near"), ..good.clone() }),
        ("token: ", Desired { tokens_needed: Amount(1_000_501), ..good.clone() }),
    ];
    for (field, desired) in cases {
        let (result, steps) = stage.provision(&desired).await;
        let error = result.unwrap_err().to_string();
        assert!(error.contains(field), "{field} is not named: {error}");
        assert!(steps.is_empty());
    }
    // Whatever was sent would be in a block by then.
    while stage.head().await < 3 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let bench = stage.client.account(&good.account, At::Final).await.unwrap();
    assert_eq!(bench.value, None, "nothing was created");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_function_call_key_is_refused_because_it_cannot_sign_a_transfer() {
    let stage = stage().await;
    let mut desired = stage.desired();
    stage.provision(&desired).await.0.unwrap();
    let limited = Signer::generate(account("bench.root.near"), &mut StdRng::seed_from_u64(4));
    add_function_call_key(&stage, &limited).await;
    // A prepared key, and nobody who could add another.
    desired.lane_keys = vec![limited.public_key().to_owned()];
    desired.master = None;
    let error = stage.provision(&desired).await.0.unwrap_err().to_string();
    assert!(error.contains(limited.public_key()) && error.contains("ft_transfer"), "{error}");
    let nonce = |key: Option<nearbench_near::chain::AccessKey>| key.map(|key| key.nonce);
    let seen = stage.client.access_key(limited.account(), limited.public_key(), At::Final).await.unwrap().value;
    assert_eq!(nonce(seen).unwrap() % 1_000_000, 0, "nothing was signed with it");
}

/// Lets the master key add `key` for calls of the token alone.
async fn add_function_call_key(stage: &Stage, key: &Signer) {
    use near_primitives::{
        account::{AccessKey, AccessKeyPermission, FunctionCallPermission},
        action::{Action, AddKeyAction},
        transaction::{SignedTransaction, Transaction, TransactionV0},
    };
    let master = &stage.master;
    let base = stage.client.block(At::Final).await.unwrap().at;
    let own = stage.client.access_key(master.account(), master.public_key(), At::Final).await.unwrap();
    let permission = AccessKeyPermission::FunctionCall(FunctionCallPermission {
        allowance: None,
        receiver_id: "ft.bench.root.near".to_owned(),
        method_names: vec!["ft_transfer".to_owned()],
    });
    let transaction = Transaction::V0(TransactionV0 {
        signer_id: master.account().parse().unwrap(),
        public_key: master.public_key().parse().unwrap(),
        nonce: own.value.unwrap().nonce + 1,
        receiver_id: master.account().parse().unwrap(),
        block_hash: near_primitives::hash::CryptoHash(base.hash.0),
        actions: vec![Action::AddKey(Box::new(AddKeyAction {
            public_key: key.public_key().parse().unwrap(),
            access_key: AccessKey { nonce: 0, permission },
        }))],
    });
    let secret: near_crypto::SecretKey = master.secret().expose().parse().unwrap();
    let (hash, _) = transaction.get_hash_and_size();
    let signed = SignedTransaction::new(secret.sign(hash.as_ref()), transaction);
    let bytes = Bytes::from(borsh::to_vec(&signed).unwrap());
    let sent = nearbench_near::SignedTx { hash: nearbench_core::Hash(hash.0), bytes };
    stage.client.send(&sent).await.unwrap();
    let status = stage.client.tx_status(sent.hash, master.account(), Wait::Final).await.unwrap();
    assert!(matches!(status, TxStatus::Landed(landed) if landed.execution == Execution::Success));
}
