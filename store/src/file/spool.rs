//! A file of submissions that wait for the store they were meant for: an embedded store whose queue is carried over.
//!
//! What the store they go to took over is removed here; what it refused ends here as failed, so that whoever asks learns
//! of it. Nothing here knows that store: who asks it says what became of each.

use super::{FileStore, Inner, OpenError, Pace};
use crate::{
    Accepted, Budget, Census, Digest, Filter, Page, Record, Records, StoreError, Submission,
    records::Cursor,
    state::{CAP_EXCEEDED, CONFLICT},
};
use nearbench_core::{TransferId, TransferState};
use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::Arc,
};

/// The file's name in its folder.
const NAME: &str = "spool.store";
/// Where the file says whose it is: the run's name, and a mark of the namespace that ids are made in.
const RUN: &str = "spool/run";
const NAMESPACE: &str = "spool/namespace";

/// Why a folder is no spool of this run's.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// There is no such folder, and none can be made.
    #[error("{folder}: {cause}; name a folder on a volume that outlives the process, and that it may write to")]
    Folder {
        /// The path.
        folder: Arc<str>,
        /// What the system said.
        cause: String,
    },
    /// The file cannot be made or opened.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// It holds submissions to another run.
    #[error(
        "{file}: this spool is of run {found:?}{}, not of {run:?}; start that run's worker with it until it is empty, or \
         name another folder", if *.found == *.run { " in another namespace of transfer ids" } else { "" }
    )]
    Foreign {
        /// The path.
        file: Arc<str>,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        run: String,
    },
    /// The file cannot be written.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What became of a submission in the store that it was meant for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moved {
    /// It is there, which answers for it from now on.
    Over,
    /// Another body was accepted there under its key: it failed.
    Conflict,
    /// The client's budget did not suffice: it failed.
    OverCap,
}

impl Moved {
    fn error(self) -> Option<&'static str> {
        match self {
            Self::Over => None,
            Self::Conflict => Some(CONFLICT),
            Self::OverCap => Some(CAP_EXCEEDED),
        }
    }
}

/// A file of submissions.
pub struct SpoolFile(FileStore);

impl SpoolFile {
    /// Opens the spool of `run` in `folder`; makes both where they are not there (modes 0700 and 0600). `namespace` is what
    /// the transfers' ids are made in.
    ///
    /// # Errors
    /// The folder or the file cannot be made or opened, another process has it open, or it is another run's or
    /// namespace's.
    pub async fn open(folder: &Path, run: &str, namespace: &[u8; 32]) -> Result<Self, SpoolError> {
        make(folder).map_err(|error| SpoolError::Folder {
            folder: folder.to_string_lossy().into(),
            cause: error.to_string(),
        })?;
        let path = folder.join(NAME);
        let store = if path.exists() { FileStore::open(&path)? } else { FileStore::create(&path)? };
        Self::of(store, run, namespace).await
    }

    /// The spool of `run` in a store.
    #[doc(hidden)]
    pub async fn of(store: FileStore, run: &str, namespace: &[u8; 32]) -> Result<Self, SpoolError> {
        // What ids are made with is a secret.
        let mark = TransferId::derive(namespace, NAMESPACE.as_bytes());
        match (store.meta(RUN), store.meta(NAMESPACE)) {
            // Nothing is taken before this is written.
            (None, _) => store.put_meta(&[(RUN, run.as_bytes()), (NAMESPACE, &mark.0)]).await?,
            (Some(name), id) if name == run.as_bytes() && id.as_deref() == Some(&mark.0) => {}
            (Some(name), _) => {
                let (file, run) = (store.shared.file.clone(), run.to_owned());
                return Err(SpoolError::Foreign { file, found: String::from_utf8_lossy(&name).into(), run });
            }
        }
        Ok(Self(store))
    }

    /// Takes those that are new, as [`Records::accept`] does, as long as no more than `entries` wait.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn accept(&self, submissions: Vec<Submission>, entries: u64) -> Result<Vec<Accepted>, StoreError> {
        let shared = &self.0.shared;
        let accept = |inner: &mut Inner| {
            let asked: Vec<_> = submissions.iter().map(|asked| (asked.transfer.id, asked.budget.clone())).collect();
            let (now, ids) = (shared.clock.now(), asked.iter().map(|(id, _)| *id));
            let answers = shared.with_records(inner, ids, |inner| inner.state.accept(submissions, entries, now))?;
            for ((id, budget), answer) in asked.into_iter().zip(&answers) {
                if let (Some(budget), Accepted::New { .. }) = (budget, answer) {
                    inner.budgets.insert(id, budget);
                    inner.state.journal.budgets.insert(id);
                }
            }
            Ok(answers)
        };
        shared.durable(Pace::Soon, accept).await
    }

    /// How many wait.
    ///
    /// # Errors
    /// The file could not be written before.
    pub fn waiting(&self) -> Result<u64, StoreError> {
        self.0.shared.step(|inner| Ok(inner.state.depth().queued))
    }

    /// Whether no submission waits here or failed.
    ///
    /// # Errors
    /// The file could not be written before.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        let counts = self.0.shared.step(|inner| Ok(inner.state.book.counts))?;
        Ok(counts.of(TransferState::Queued) == 0 && counts.of(TransferState::Failed) == 0)
    }

    /// Those that wait longest, `most` of them, oldest first.
    ///
    /// # Errors
    /// The file could not be written before.
    pub fn oldest(&self, most: usize) -> Result<Vec<Submission>, StoreError> {
        self.0.shared.step(|inner| {
            let oldest = inner.state.unsettled().take(most);
            Ok(oldest.filter_map(|transfer| submitted(inner, transfer)).collect())
        })
    }

    /// Those of `ids` that wait, each once.
    ///
    /// # Errors
    /// The file could not be written before.
    pub fn among(&self, ids: impl Iterator<Item = TransferId>) -> Result<Vec<Submission>, StoreError> {
        self.0.shared.step(|inner| {
            if !inner.state.has_work() {
                return Ok(Vec::new());
            }
            let mut ids: Vec<_> = ids.collect();
            ids.sort_unstable();
            ids.dedup();
            let waiting = ids.iter().filter_map(|id| inner.state.queued(*id));
            Ok(waiting.filter_map(|transfer| submitted(inner, transfer)).collect())
        })
    }

    /// Ends those that wait under these ids with these digests, as the store has confirmed that it holds or refuses them.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn end(&self, ends: &[(TransferId, Digest, Moved)]) -> Result<(), StoreError> {
        let shared = &self.0.shared;
        let now = shared.clock.now();
        let end = |inner: &mut Inner| {
            for (id, digest, moved) in ends {
                if inner.state.hand_over(*id, *digest, moved.error(), now) && inner.budgets.remove(id).is_some() {
                    inner.state.journal.budgets.insert(*id);
                }
            }
            Ok(())
        };
        shared.durable(Pace::AtOnce, end).await
    }

    /// As [`Records::find`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn find(&self, ids: &[TransferId]) -> Result<Vec<Option<Record>>, StoreError> {
        self.0.find(ids).await
    }

    /// As [`Records::list`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn list(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.0.list(filter, before, limit).await
    }

    /// As [`Records::census`].
    ///
    /// # Errors
    /// The file could not be written before.
    pub async fn census(&self) -> Result<Census, StoreError> {
        self.0.census().await
    }
}

/// A transfer that waits, as it was submitted.
fn submitted(inner: &Inner, transfer: &nearbench_core::Transfer) -> Option<Submission> {
    let digest = inner.state.book.entries.get(&transfer.id)?.digest;
    let budget: Option<Budget> = inner.budgets.get(&transfer.id).cloned();
    Some(Submission { transfer: transfer.clone(), digest, budget })
}

/// Makes a folder that only its owner may enter, if it is not there.
fn make(folder: &Path) -> io::Result<()> {
    if folder.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
    // Its name is on disk only once the folder above is.
    let above = fs::canonicalize(folder)?;
    above.parent().map_or(Ok(()), |above| File::open(above)?.sync_all())
}
