//! A file of submissions that wait for the store they were meant for: an embedded store whose queue is carried over.
//!
//! What the store they go to took over is removed here; what it refused ends here as failed, so that whoever asks learns
//! of it. Nothing here knows that store: who asks it says what became of each.

use super::{FileStore, Inner, OpenError, Pace, Shared};
use crate::{
    Accepted, Census, Digest, Filter, Page, Record, Records, StoreError, Submission, Windows,
    records::Cursor,
    state::{CAP_EXCEEDED, CONFLICT, NO_PROOF},
};
use nearbench_core::{Transfer, TransferId, TransferState};
use std::{
    fs::{self, DirBuilder, File},
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::Arc,
    time::Duration,
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

/// The state that something ends in here, and why; `None` where it is gone.
type End = Option<(TransferState, &'static str)>;

/// It waited so long that the store may have forgotten that it took it before.
const TOO_OLD: End = Some((TransferState::NeedsReview, NO_PROOF));

impl Moved {
    fn end(self) -> End {
        match self {
            Self::Over => None,
            Self::Conflict => Some((TransferState::Failed, CONFLICT)),
            Self::OverCap => Some((TransferState::Failed, CAP_EXCEEDED)),
        }
    }
}

/// A file of submissions.
pub struct SpoolFile {
    store: FileStore,
    max_age: Duration,
}

impl SpoolFile {
    /// Opens the spool of `run` in `folder`; makes both where they are not there (modes 0700 and 0600). `namespace` is what
    /// the transfers' ids are made in. What waits for longer than `max_age` is not carried over any more.
    ///
    /// # Errors
    /// The folder or the file cannot be made or opened, another process has it open, or it is another run's or
    /// namespace's.
    pub async fn open(folder: &Path, run: &str, namespace: &[u8; 32], max_age: Duration) -> Result<Self, SpoolError> {
        make(folder).map_err(|error| SpoolError::Folder {
            folder: folder.to_string_lossy().into(),
            cause: error.to_string(),
        })?;
        let path = folder.join(NAME);
        let store = if path.exists() { FileStore::open(&path)? } else { FileStore::create(&path)? };
        Self::of(store, run, namespace, max_age).await
    }

    /// The spool of `run` in a store.
    #[doc(hidden)]
    pub async fn of(store: FileStore, run: &str, namespace: &[u8; 32], max_age: Duration) -> Result<Self, SpoolError> {
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
        Ok(Self { store, max_age })
    }

    /// Takes those that are new, as [`Records::accept`] does, as long as no more than `entries` wait.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn accept(&self, submissions: Vec<Submission>, entries: u64) -> Result<Vec<Accepted>, StoreError> {
        let shared = self.shared();
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
        self.shared().step(|inner| Ok(inner.state.depth().queued))
    }

    /// Whether no submission waits here or had its end here.
    ///
    /// # Errors
    /// The file could not be written before.
    pub fn is_empty(&self) -> Result<bool, StoreError> {
        let counts = self.shared().step(|inner| Ok(inner.state.book.counts))?;
        Ok(counts.iter().all(|(_, count)| count == 0))
    }

    /// Those that wait longest, `most` of them, oldest first; none that is too old.
    ///
    /// # Errors
    /// The file could not be written before.
    pub fn oldest(&self, most: usize) -> Result<Vec<Submission>, StoreError> {
        self.shared().step(|inner| {
            let oldest = inner.state.unsettled().filter_map(|transfer| self.submitted(inner, transfer));
            Ok(oldest.take(most).collect())
        })
    }

    /// Those of `ids` that wait, each once; none that is too old.
    ///
    /// # Errors
    /// The file could not be written before.
    pub fn among(&self, ids: impl Iterator<Item = TransferId>) -> Result<Vec<Submission>, StoreError> {
        self.shared().step(|inner| {
            if !inner.state.has_work() {
                return Ok(Vec::new());
            }
            let mut ids: Vec<_> = ids.collect();
            ids.sort_unstable();
            ids.dedup();
            let waiting = ids.iter().filter_map(|id| inner.state.queued(*id));
            Ok(waiting.filter_map(|transfer| self.submitted(inner, transfer)).collect())
        })
    }

    /// Ends those that wait under these ids with these digests, as the store has confirmed that it holds or refuses them.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn end(&self, ends: &[(TransferId, Digest, Moved)]) -> Result<(), StoreError> {
        self.end_all(ends.iter().map(|(id, digest, moved)| (*id, *digest, moved.end()))).await
    }

    async fn end_all(&self, ends: impl Iterator<Item = (TransferId, Digest, End)>) -> Result<(), StoreError> {
        let shared = self.shared();
        let now = shared.clock.now();
        let end = |inner: &mut Inner| {
            for (id, digest, end) in ends {
                if inner.state.hand_over(id, digest, end, now) && inner.budgets.remove(&id).is_some() {
                    inner.state.journal.budgets.insert(id);
                }
            }
            Ok(())
        };
        shared.durable(Pace::AtOnce, end).await
    }

    /// Ends those that are too old; how many.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn give_up(&self) -> Result<usize, StoreError> {
        let old = self.shared().step(|inner| {
            let digest = |id| inner.state.book.entries.get(&id).map(|entry| entry.digest);
            let waiting = inner.state.unsettled().take_while(|transfer| self.is_too_old(inner, transfer.id));
            Ok(waiting.filter_map(|transfer| Some((transfer.id, digest(transfer.id)?, TOO_OLD))).collect::<Vec<_>>())
        })?;
        let count = old.len();
        if count > 0 {
            self.end_all(old.into_iter()).await?;
        }
        Ok(count)
    }

    fn shared(&self) -> &Arc<Shared> {
        &self.store.shared
    }

    fn is_too_old(&self, inner: &Inner, id: TransferId) -> bool {
        let now = self.shared().clock.now().unix_ms;
        inner.state.book.entries.get(&id).is_some_and(|entry| Windows::is_over(self.max_age, entry.created, now))
    }

    /// A transfer that waits, as it was submitted.
    fn submitted(&self, inner: &Inner, transfer: &Transfer) -> Option<Submission> {
        let digest = inner.state.book.entries.get(&transfer.id)?.digest;
        let budget = inner.budgets.get(&transfer.id).cloned();
        let submission = || Submission { transfer: transfer.clone(), digest, budget };
        (!self.is_too_old(inner, transfer.id)).then(submission)
    }

    /// As [`Records::find`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn find(&self, ids: &[TransferId]) -> Result<Vec<Option<Record>>, StoreError> {
        self.store.find(ids).await
    }

    /// As [`Records::list`].
    ///
    /// # Errors
    /// The file cannot be read.
    pub async fn list(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        self.store.list(filter, before, limit).await
    }

    /// As [`Records::census`].
    ///
    /// # Errors
    /// The file could not be written before.
    pub async fn census(&self) -> Result<Census, StoreError> {
        self.store.census().await
    }
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
