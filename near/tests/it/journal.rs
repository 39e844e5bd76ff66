//! Provisionings that are broken off around the moment at which something is sent, and those that go on with their journal.

use crate::devnet::{InProcess, Stage, client, stage};
use base64::{Engine, engine::general_purpose::STANDARD};
use borsh::BorshDeserialize;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use near_primitives::transaction::SignedTransaction;
use nearbench_core::{Account, Hash, Near, amount::NEAR};
use nearbench_near::{
    Client,
    chain::{At, Wait},
    provision::{Desired, Journal, JournalError, Progress, ProvisionError, Provisioned, provision},
    transaction::sign_fence,
    transport::{Response, Transport, TransportError},
};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

const CREATE: &str = "create-account";
const DEPLOY: &str = "deploy-token";

/// When a provisioning is broken off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cut {
    /// The step's bytes are stored, and nothing of its round is sent.
    Stored(&'static str),
    /// The step's bytes are sent, and nobody hears what came of them.
    Sent(&'static str),
}

/// A journal in memory, and the place at which whoever works with it is stopped.
#[derive(Default)]
struct Memory {
    entries: Mutex<HashMap<String, Bytes>>,
    cut: Mutex<Option<Cut>>,
    reached: Notify,
}

impl Memory {
    async fn stop_at(&self, cut: Cut) {
        if *self.cut.lock().unwrap() == Some(cut) {
            self.reached.notify_one();
            std::future::pending::<()>().await;
        }
    }

    /// The stored transaction, without the height before it.
    fn bytes(&self, step: &str) -> Option<Bytes> {
        self.entries.lock().unwrap().get(step).map(|entry| entry.slice(8..))
    }

    fn hash(&self, step: &str) -> Hash {
        Hash(SignedTransaction::try_from_slice(&self.bytes(step).unwrap()).unwrap().get_hash().0)
    }

    /// Damages what is stored.
    fn change(&self, step: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let mut entries = self.entries.lock().unwrap();
        let mut entry = entries[step].to_vec();
        change(&mut entry);
        entries.insert(step.to_owned(), entry.into());
    }
}

impl Journal for Memory {
    fn load<'a>(&'a self, step: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, JournalError>> {
        Box::pin(async move { Ok(self.entries.lock().unwrap().get(step).cloned()) })
    }

    fn store<'a>(&'a self, step: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), JournalError>> {
        Box::pin(async move {
            self.entries.lock().unwrap().insert(step.to_owned(), bytes);
            let step = if step == CREATE { CREATE } else { DEPLOY };
            self.stop_at(Cut::Stored(step)).await;
            Ok(())
        })
    }
}

/// The chain, reached with a journal at hand.
struct Watched(InProcess, Arc<Memory>);

impl Transport for Watched {
    fn call(&self, request: Bytes, timeout: Duration) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let text = String::from_utf8(request.to_vec()).unwrap();
            let answer = self.0.call(request, timeout).await;
            for step in [CREATE, DEPLOY] {
                let sent = self.1.bytes(step).is_some_and(|bytes| text.contains(&STANDARD.encode(bytes)));
                if sent && text.contains("send_tx") {
                    self.1.stop_at(Cut::Sent(step)).await;
                }
            }
            answer
        })
    }
}

struct Broken {
    stage: Stage,
    client: Client,
    journal: Arc<Memory>,
}

impl Broken {
    async fn new() -> Self {
        let (stage, journal) = (stage().await, Arc::new(Memory::default()));
        let client = client(Watched(InProcess(stage.devnet.clone()), journal.clone()));
        Self { stage, client, journal }
    }

    /// Provisions until `cut`.
    async fn until(&self, cut: Cut) {
        *self.journal.cut.lock().unwrap() = Some(cut);
        let (desired, stop) = (self.stage.desired(), CancellationToken::new());
        tokio::select! {
            ended = provision(&self.client, &desired, Some(&*self.journal), &stop, &|_| {}) => panic!("{cut:?}: {ended:?}"),
            () = self.journal.reached.notified() => {}
        }
        *self.journal.cut.lock().unwrap() = None;
    }

    async fn provision(&self) -> Result<Option<Provisioned>, ProvisionError> {
        let desired = self.stage.desired();
        provision(&self.client, &desired, Some(&*self.journal), &CancellationToken::new(), &|_| {}).await
    }

    /// Goes on until the account is there.
    async fn create(&self, desired: &Desired) {
        let stop = CancellationToken::new();
        let first = |progress: Progress<'_>| {
            if matches!(progress, Progress::Done { .. }) {
                stop.cancel();
            }
        };
        let ended = provision(&self.client, desired, Some(&*self.journal), &stop, &first).await;
        assert_eq!(ended.unwrap(), None);
    }

    /// Waits for so many more final blocks: what was sent before is in one, and what is signed then has another base.
    async fn pass(&self, blocks: u64) {
        let height = async || self.client.block(At::Final).await.unwrap().at.height;
        let before = height().await;
        while height().await < before + blocks {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Every transaction that `account` signed, in final blocks.
    async fn signed(&self, account: &Account) -> Vec<Hash> {
        let mut all = Vec::new();
        let mut hash = self.client.block(At::Final).await.unwrap().at.hash;
        loop {
            let (block, hashes) = self.client.signed_in(account, hash).await.unwrap().unwrap();
            all.extend(hashes);
            if block.height <= 1 {
                return all;
            }
            hash = block.prev_hash;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provisioning_that_was_broken_off_is_gone_on_with_by_the_same_bytes() {
    for cut in [Cut::Stored, Cut::Sent] {
        let broken = Broken::new().await;
        let (root, payer) = (broken.stage.root.account(), broken.stage.master.account());
        broken.until(cut(CREATE)).await;
        let create = broken.journal.hash(CREATE);
        broken.until(cut(DEPLOY)).await;
        let deploy = broken.journal.hash(DEPLOY);
        assert!(broken.provision().await.unwrap().is_some());

        assert_eq!(broken.signed(root).await, [create], "{:?}", cut(CREATE));
        // The deployment, the keys and two groups of receivers.
        let signed = broken.signed(payer).await;
        assert_eq!(signed.iter().filter(|hash| **hash == deploy).count(), 1, "{:?}", cut(DEPLOY));
        assert_eq!(signed.len(), 4, "{:?}: {signed:?}", cut(DEPLOY));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_cannot_land_or_are_of_another_plan_are_signed_anew() {
    type Damage = fn(&mut Vec<u8>);
    let cases: [(&str, Damage, Near); 3] = [
        ("expired", |entry| entry[..8].fill(0), Near(100 * NEAR)),
        ("damaged", |entry| entry.truncate(40), Near(100 * NEAR)),
        ("of another plan", |_| {}, Near(101 * NEAR)),
    ];
    for (case, damage, initial) in cases {
        let broken = Broken::new().await;
        broken.until(Cut::Stored(CREATE)).await;
        let before = broken.journal.hash(CREATE);
        broken.journal.change(CREATE, damage);
        broken.pass(1).await;
        let mut desired = broken.stage.desired();
        desired.create_from = Some((broken.stage.root.clone(), initial));
        broken.create(&desired).await;
        let after = broken.journal.hash(CREATE);
        assert_ne!(before, after, "{case}");
        assert_eq!(broken.signed(broken.stage.root.account()).await, [after], "{case}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_another_transaction_overtook_are_signed_anew() {
    let broken = Broken::new().await;
    broken.until(Cut::Stored(CREATE)).await;
    let before = broken.journal.hash(CREATE);
    let root = &broken.stage.root;
    let base = broken.client.block(At::Final).await.unwrap().at;
    let key = broken.client.access_key(root.account(), root.public_key(), At::Final).await.unwrap().value.unwrap();
    let fence = sign_fence(root, key.nonce + 1, &base);
    broken.client.send(&fence).await.unwrap();
    broken.client.tx_status(fence.hash, root.account(), Wait::Final).await.unwrap();

    broken.create(&broken.stage.desired()).await;
    let after = broken.journal.hash(CREATE);
    assert_ne!(before, after);
    assert_eq!(broken.signed(root.account()).await, [after, fence.hash], "the latest first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_sent_that_a_journal_did_not_keep() {
    struct Full;
    impl Journal for Full {
        fn load<'a>(&'a self, _: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, JournalError>> {
            Box::pin(async { Ok(None) })
        }
        fn store<'a>(&'a self, _: &'a str, _: Bytes) -> BoxFuture<'a, Result<(), JournalError>> {
            Box::pin(async { Err("the disk is full".into()) })
        }
    }
    let broken = Broken::new().await;
    let (desired, stop) = (broken.stage.desired(), CancellationToken::new());
    let error = provision(&broken.client, &desired, Some(&Full), &stop, &|_| {}).await.unwrap_err().to_string();
    assert!(error.contains("creating the account") && error.contains("the disk is full"), "{error}");
    broken.pass(5).await;
    assert_eq!(broken.signed(broken.stage.root.account()).await, []);
}
