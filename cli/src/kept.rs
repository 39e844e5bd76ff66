//! What a run keeps in its folder until it has ended, so that `--resume` can finish it: its store, and with a chain of
//! its own that chain and its keys.

use crate::{
    exit::Failure,
    findings::Books,
    fleet::{self, Asked, Shared},
};
use anyhow::{Context, anyhow};
use nearbench_core::{
    Account, Hash, Height, Nonce, Plan, TransferId, audit::Balances, plan::ChainLimits, settle::Fate,
};
use nearbench_near::{
    Signer,
    keyfile::{self, ACCOUNT_FILE, KEYS_FILE},
};
use nearbench_store::{FileStore, OpenError, Recall, ResultRow, StoreError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

/// The store's file in a run's folder.
pub(crate) const STORE_FILE: &str = "store.redb";
/// The folder of a chain of the run's own.
const CHAIN_FOLDER: &str = "chain";
/// The chain itself, in that folder.
const HOME_FOLDER: &str = "home";

/// How long a Redis that does not answer is waited for when a run is over.
const FAREWELL: Duration = Duration::from_secs(10);

/// Names of the values that a run stores beside its transfers.
const PLAN: &str = "plan";
const OPENING: &str = "opening";
const RESUMES: &str = "resumes";
const FLEET: &str = "fleet";

/// What was known when the load began.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Opening {
    /// When the run began.
    pub(crate) run_started: String,
    /// When the load's schedule began, in nanoseconds since the Unix epoch.
    pub(crate) start_unix_ns: u64,
    /// The secret that transfer ids are derived with.
    pub(crate) namespace: [u8; 32],
    /// The public keys that transfers are signed with, in their order.
    pub(crate) public_keys: Vec<String>,
    /// The chain's limits.
    pub(crate) limits: ChainLimits,
    /// The final block before the load.
    pub(crate) height: Height,
    /// Token balances there.
    pub(crate) balances: Balances,
}

/// A transaction of which nobody could tell whether it moved its transfers' tokens.
#[derive(Debug, Serialize)]
pub(crate) struct WithoutProof {
    transaction: Hash,
    nonce: Nonce,
    /// The ids at the head of their memos on chain.
    transfers: Vec<TransferId>,
}

/// A run's folder while the run is not over.
pub(crate) struct Kept {
    folder: PathBuf,
    /// Holds the transfers of a run in one process, and what there is to know of any.
    pub(crate) store: Arc<FileStore>,
    /// Holds the transfers of a run with worker processes.
    pub(crate) shared: Option<Shared>,
    /// Set when the load had begun before this process did.
    pub(crate) opening: Option<Opening>,
    /// How often the run was resumed.
    pub(crate) resumes: u64,
}

impl Kept {
    /// Begins a run in `folder`, where no other may be under way. One that never began its load is forgotten: nothing was
    /// accepted.
    pub(crate) async fn begin(folder: &Path, plan: &Plan) -> Result<Self, Failure> {
        let path = folder.join(STORE_FILE);
        match FileStore::open(&path) {
            Ok(store) if store.meta(OPENING).is_some() => return Err(unfinished(folder, &store).await),
            Ok(store) => {
                drop(store);
                remove(&path)?;
            }
            Err(OpenError::Missing { .. }) => {}
            Err(error) => return Err(Failure::input(error)),
        }
        // Whatever chain is there belonged to a run that is over, or that nothing was offered in.
        fleet::forget(folder)?;
        match fs::remove_dir_all(folder.join(CHAIN_FOLDER)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(Failure::run(anyhow!("cannot remove {}: {error}", folder.join(CHAIN_FOLDER).display())));
            }
            _ => {}
        }
        let store = FileStore::create(&path).map_err(Failure::run)?;
        let text = serde_json::to_vec(plan).map_err(Failure::run)?;
        store.put_meta(&[(PLAN, &text)]).await.map_err(Failure::run)?;
        Ok(Self { folder: folder.to_owned(), store: Arc::new(store), shared: None, opening: None, resumes: 0 })
    }

    /// Goes on with the run in `folder`, and says what its plan is.
    pub(crate) async fn resume(folder: &Path) -> Result<(Self, Plan), Failure> {
        let path = folder.join(STORE_FILE);
        let nothing = || {
            let folder = folder.display();
            Failure::input(anyhow!(
                "--resume: {folder} holds no run that is under way: it ended, or never began; begin one with `nearbench run \
                 FILE --out {folder}`, or name another folder with --out"
            ))
        };
        let store = FileStore::open(&path).map_err(|error| match error {
            OpenError::Missing { .. } => nothing(),
            error => Failure::input(error),
        })?;
        let Some(plan) = read(&store, &path, PLAN)? else { return Err(nothing()) };
        let opening = read(&store, &path, OPENING)?;
        let resumes = read::<u64>(&store, &path, RESUMES)?.unwrap_or(0) + 1;
        let text = resumes.to_string();
        store.put_meta(&[(RESUMES, text.as_bytes())]).await.map_err(Failure::run)?;
        Ok((Self { folder: folder.to_owned(), store: Arc::new(store), shared: None, opening, resumes }, plan))
    }

    /// The fleet that an earlier process of this run had.
    pub(crate) fn fleet(&self) -> Result<Option<Asked>, Failure> {
        read(&self.store, &self.folder.join(STORE_FILE), FLEET)
    }

    /// The run has worker processes: its transfers are in the store that they share.
    pub(crate) async fn share(&mut self, asked: Asked, plan: &Plan) -> Result<(), Failure> {
        let text = serde_json::to_vec(&asked).map_err(Failure::run)?;
        self.store.put_meta(&[(FLEET, &text)]).await.map_err(Failure::run)?;
        self.shared = Some(Shared::open(asked, plan, self.opening.is_some()).await?);
        Ok(())
    }

    /// The run's folder.
    pub(crate) fn folder(&self) -> &Path {
        &self.folder
    }

    /// The store that holds the run's transfers.
    pub(crate) fn books(&self) -> Books<'_> {
        match &self.shared {
            Some(shared) => Books::Shared(&shared.store),
            None => Books::Own(&self.store),
        }
    }

    /// How many accepted transfers have no end.
    pub(crate) async fn unsettled(&self) -> Result<usize, StoreError> {
        match &self.shared {
            Some(shared) => Ok(shared.store.unsettled().await?.len()),
            None => Ok(self.store.unsettled().await?.len()),
        }
    }

    /// Stores what has to be known to finish the load. To be called before the first transfer is offered.
    pub(crate) async fn open_load(&self, opening: &Opening) -> Result<(), Failure> {
        let text = serde_json::to_vec(opening).map_err(Failure::run)?;
        self.store.put_meta(&[(OPENING, &text)]).await.map_err(Failure::run)?;
        if let Some(shared) = &self.shared {
            let start = opening.start_unix_ns.to_string();
            shared.store.put_meta(&[(fleet::START, start.as_bytes())]).await.map_err(Failure::run)?;
        }
        Ok(())
    }

    /// Whether transfers may have been accepted.
    pub(crate) fn load_began(&self) -> bool {
        self.store.meta(OPENING).is_some()
    }

    /// The transactions that ended without proof either way, for a person to look into.
    pub(crate) async fn without_proof(&self) -> Result<Vec<WithoutProof>, Failure> {
        let mut found = Vec::new();
        let visit = &mut |row| {
            let ResultRow::Settled { hash, nonce, settled, transfers } = row else { return };
            let open = |index: &usize| settled.settlement.fate(*index) == Fate::NeedsReview;
            let transfers: Vec<_> = (0..transfers.len()).filter(open).map(|index| transfers[index].id).collect();
            if !transfers.is_empty() {
                found.push(WithoutProof { transaction: hash, nonce, transfers });
            }
        };
        match &self.shared {
            Some(shared) => shared.store.results(visit).await,
            None => self.store.results(visit).await,
        }
        .map_err(Failure::run)?;
        Ok(found)
    }

    /// The home of a chain of the run's own, and the keys on it: `funder`'s, and `lanes` of `account`'s. Made at the first
    /// call, and found again.
    pub(crate) fn own_chain(&self, funder: &Account, account: &Account, lanes: u32) -> Result<OwnChain, Failure> {
        let folder = self.folder.join(CHAIN_FOLDER);
        fs::create_dir_all(&folder)
            .with_context(|| format!("cannot make {}", folder.display()))
            .map_err(Failure::run)?;
        let (funder_file, lanes_file) = (folder.join(ACCOUNT_FILE), folder.join(KEYS_FILE));
        // A process that ended before it wrote both had put nothing on the chain.
        let kept = keyfile::read_account(&funder_file, funder).and_then(|funder| {
            let lanes = keyfile::read_keys(&lanes_file, account)?;
            Ok((funder, lanes))
        });
        let (funder, lanes) = match kept {
            Ok(kept) => kept,
            Err(error) if self.load_began() => return Err(Failure::run(error)),
            Err(_) => {
                for file in [&funder_file, &lanes_file] {
                    // What is not there needs no removing; what cannot be removed cannot be written either, which is told.
                    let _ = fs::remove_file(file);
                }
                let funder = Signer::generate(funder.clone(), &mut rand::rng());
                let lanes: Vec<_> = (0..lanes).map(|_| Signer::generate(account.clone(), &mut rand::rng())).collect();
                keyfile::write_account(&funder_file, &funder).map_err(Failure::run)?;
                keyfile::write_keys(&lanes_file, &lanes).map_err(Failure::run)?;
                (funder, lanes)
            }
        };
        Ok(OwnChain { home: folder.join(HOME_FOLDER), funder, lanes })
    }

    /// The run is over: what it kept is removed, the chain of its own included.
    pub(crate) async fn forget(self) {
        let Self { folder, store, shared, .. } = self;
        if let Some(shared) = shared
            && let Err(error) = shared.store.with_patience(FAREWELL).forget().await
        {
            tracing::warn!(%error, "the keys of a run that is over are left in Redis");
        }
        drop(store);
        // The store first: without it, what else is left belongs to a run that is over.
        let left = remove(&folder.join(STORE_FILE)).err();
        if let Some(left) = left {
            tracing::warn!(error = %left.error, "a run that is over is left behind");
        }
        if let Err(left) = fleet::forget(&folder) {
            tracing::warn!(error = %left.error, "what the workers of a run that is over read is left behind");
        }
        if let Err(error) = fs::remove_dir_all(folder.join(CHAIN_FOLDER))
            && error.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(%error, "the chain of a run that is over is left behind");
        }
    }
}

/// Where a chain of the run's own is kept, and its keys.
pub(crate) struct OwnChain {
    pub(crate) home: PathBuf,
    pub(crate) funder: Signer,
    pub(crate) lanes: Vec<Signer>,
}

/// How to go on with a run in `folder`.
pub(crate) fn way_out(folder: &Path) -> String {
    format!("`nearbench run --resume --out {}` finishes it", folder.display())
}

async fn unfinished(folder: &Path, store: &FileStore) -> Failure {
    if store.meta(FLEET).is_some() {
        let name = folder.display();
        return Failure::input(anyhow!(
            "{name} holds a run with workers that did not come to its report: {}; or name another folder with --out",
            way_out(folder)
        ));
    }
    let waiting = match store.unsettled().await {
        Ok(unsettled) => unsettled.len(),
        Err(error) => return Failure::run(error),
    };
    let folder_name = folder.display();
    let what = match waiting {
        0 => "a run that did not come to its report".to_owned(),
        1 => "a run with 1 accepted transfer that has no end yet".to_owned(),
        _ => format!("a run with {waiting} accepted transfers that have no end yet"),
    };
    Failure::input(anyhow!("{folder_name} holds {what}: {}; or name another folder with --out", way_out(folder)))
}

fn read<T: DeserializeOwned>(store: &FileStore, path: &Path, name: &str) -> Result<Option<T>, Failure> {
    let Some(text) = store.meta(name) else { return Ok(None) };
    serde_json::from_slice(&text)
        .map(Some)
        .with_context(|| {
            format!("{}: its {name} is not what this nearbench writes; use the one that wrote it", path.display())
        })
        .map_err(Failure::input)
}

fn remove(path: &Path) -> Result<(), Failure> {
    fs::remove_file(path).with_context(|| format!("cannot remove {}", path.display())).map_err(Failure::run)
}
