//! The embedded backend: a file, for one process at a time.
//!
//! The state machine of [`crate::state`] in memory, and behind it a [redb] file to which the rows that its steps changed
//! are written. `push`, `commit`, `settle`, `cancel_queued` and `put_meta` return once their change is on disk, and
//! `acquire` once all that it tells of is. Changes travel in groups: while one group is being written, the steps that
//! come meanwhile make up the next, and a row that came and went within a group is never written. Nothing waits to be
//! sent for a `push` or a `settle`, so a group of those alone lingers a moment for others to come along. A group is one
//! transaction with one fsync, and the state at the end of a step; after a crash the file holds every confirmed step,
//! and of the others a beginning, each of them whole.
//!
//! Claims and leases end with the process, since the file is locked by it: after a crash claimed transfers are back in
//! the queue at their places, and `acquire` succeeds at once. Results are on disk only; in memory is what is not
//! settled.
//!
//! When writing fails, the step and all later ones fail. What was not confirmed may be on disk or not; whoever opens
//! the file again finds which.

use crate::{
    Attempt, AttemptId, Claim, ClaimId, Depth, Lane, LaneKey, LeaseId, Recall, ResultRow, Store, StoreError,
    codec::{self, Malformed, Names},
    staged::{Shared as StagedStorage, Staged},
    state::{Journal, Open, State},
};
use bytes::Bytes;
use nearbench_core::{Account, Nonce, Transfer, plan::Batch, settle::Settled};
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase, ReadableTable, StorageBackend, TableDefinition, TableError,
    backends::FileBackend,
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

/// The version of the tables and of [`crate::codec`].
const VERSION: u64 = 2;

/// `version`, and `life`: how often the file was opened.
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");
/// The caller's named values.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const QUEUE: TableDefinition<i64, &[u8]> = TableDefinition::new("queue");
/// High-water marks by account and public key.
const LANES: TableDefinition<(&str, &str), u64> = TableDefinition::new("lanes");
const ATTEMPTS: TableDefinition<u64, &[u8]> = TableDefinition::new("attempts");
const RESULTS: TableDefinition<u64, &[u8]> = TableDefinition::new("results");

/// Ids given out in one life of the file lie apart from those of every other: what is stale stays so.
const IDS_A_LIFE: u64 = 1 << 40;

/// Memory for pages of the file. What is written is appended or near what was written last.
const CACHE: usize = 32 << 20;

/// How long a group lingers in which nobody is in a hurry: an fsync costs about what two hundred transfers do.
const LINGER: Duration = Duration::from_millis(25);

/// Withdrawn transfers in one row, at most.
const CANCELLED_ROW: usize = 1024;

/// Why a file was not created or opened. It is as it was before, or is not there.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Creating would overwrite something.
    #[error("{file}: there is a file already; resume the run that it belongs to, or name another")]
    Exists {
        /// The path.
        file: Arc<str>,
    },
    /// Nothing is there.
    #[error("{file}: there is no such file; check the path, or begin a new run")]
    Missing {
        /// The path.
        file: Arc<str>,
    },
    /// Another has it open.
    #[error("{file}: {holder} has it open, and only one at a time may; wait until it ends, or stop it")]
    Locked {
        /// The path.
        file: Arc<str>,
        /// `process 123`, or `another process` where its number is not known.
        holder: String,
    },
    /// It was written by another version of nearbench.
    #[error(
        "{file}: its format is version {found}, and this nearbench reads version {VERSION}; use the nearbench that wrote it"
    )]
    Version {
        /// The path.
        file: Arc<str>,
        /// What it says.
        found: u64,
    },
    /// It is something else, or not whole.
    #[error(
        "{file}: this is no whole store of nearbench ({cause}); restore it from a copy, or move it away and begin a new run"
    )]
    Damaged {
        /// The path.
        file: Arc<str>,
        /// What is wrong with it.
        cause: String,
    },
    /// The system refused.
    #[error("{file}: {cause}; check the folder, its permissions and the free space")]
    Io {
        /// The path.
        file: Arc<str>,
        /// What the system said.
        cause: String,
    },
}

/// A store in a file. It needs a tokio runtime to write in. Dropping it waits for the write under way.
pub struct FileStore {
    shared: Arc<Shared>,
}

struct Shared {
    /// The path, for errors.
    file: Arc<str>,
    database: Database,
    inner: Mutex<Inner>,
    writers: Arc<Writers>,
    /// Wakes one waiter for each batch of work; a waiter that leaves work behind wakes the next.
    work: Notify,
    /// Ends the lingering of a group.
    hurry: Condvar,
    linger: Duration,
}

/// Whether somebody has to wait for a step to be on disk before anything goes on.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pace {
    AtOnce,
    Soon,
}

/// How writing a group ended; `None` until it has.
type Outcome = Option<Result<(), StoreError>>;

struct Inner {
    state: State<Changes>,
    meta: BTreeMap<Box<str>, Bytes>,
    /// The group that collects, and the one that is being written.
    next: watch::Sender<Outcome>,
    under_way: watch::Receiver<Outcome>,
    /// Whether somebody writes; they look for a next group before they stop.
    writing: bool,
    /// Whether somebody waits for the group that collects to go on.
    hurried: bool,
    failure: Option<StoreError>,
    next_result: u64,
}

/// What the steps since the last group changed.
#[derive(Default)]
struct Changes {
    rows: BTreeSet<i64>,
    lanes: BTreeSet<LaneKey>,
    attempts: BTreeSet<AttemptId>,
    results: Vec<Ended>,
    meta: BTreeSet<Box<str>>,
}

/// A result that is not encoded yet.
enum Ended {
    Settled(Box<(Open, Settled)>),
    Cancelled(Vec<Transfer>),
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.rows.is_empty()
            && self.lanes.is_empty()
            && self.attempts.is_empty()
            && self.results.is_empty()
            && self.meta.is_empty()
    }
}

impl Journal for Changes {
    fn row_changed(&mut self, key: i64) {
        self.rows.insert(key);
    }

    fn row_gone(&mut self, key: i64, stored: bool) {
        if stored {
            self.rows.insert(key);
        } else {
            self.rows.remove(&key);
        }
    }

    fn lane_rose(&mut self, lane: &LaneKey) {
        if !self.lanes.contains(lane) {
            self.lanes.insert(lane.clone());
        }
    }

    fn attempt_opened(&mut self, id: AttemptId) {
        self.attempts.insert(id);
    }

    fn attempt_settled(&mut self, id: AttemptId, open: Open, settled: &Settled) {
        if open.stored {
            self.attempts.insert(id);
        } else {
            self.attempts.remove(&id);
        }
        self.results.push(Ended::Settled(Box::new((open, settled.clone()))));
    }

    fn cancelled(&mut self, transfers: &[Transfer]) {
        self.results.extend(transfers.chunks(CANCELLED_ROW).map(|chunk| Ended::Cancelled(chunk.to_vec())));
    }
}

/// One transaction's worth: new values, or `None` where a row is gone.
struct Group {
    rows: Vec<(i64, Option<Vec<u8>>)>,
    lanes: Vec<(Nonce, LaneKey)>,
    attempts: Vec<(AttemptId, Option<Open>)>,
    first_result: u64,
    results: Vec<Ended>,
    meta: Vec<(Box<str>, Bytes)>,
    outcome: watch::Sender<Outcome>,
}

impl Inner {
    /// Takes what has changed, as it is now: at the end of a step.
    fn take_group(&mut self) -> Option<Group> {
        if self.state.journal.is_empty() {
            return None;
        }
        self.hurried = false;
        let Changes { rows, lanes, attempts, results, meta } = std::mem::take(&mut self.state.journal);
        // Those who wait for the group hold receivers of the sender that goes with it.
        let outcome = std::mem::replace(&mut self.next, watch::Sender::new(None));
        self.under_way = outcome.subscribe();
        let first_result = self.next_result;
        self.next_result += results.len() as u64;
        let state = &mut self.state;
        Some(Group {
            rows: rows
                .into_iter()
                .map(|key| {
                    let row = state.row(key).map(|row| {
                        row.stored = true;
                        codec::queue_row(row.transfers())
                    });
                    (key, row)
                })
                .collect(),
            lanes: lanes.into_iter().map(|lane| (state.high_water(&lane), lane)).collect(),
            attempts: attempts
                .into_iter()
                .map(|id| {
                    let open = state.attempt(id).map(|open| {
                        open.stored = true;
                        open.clone()
                    });
                    (id, open)
                })
                .collect(),
            first_result,
            results,
            meta: meta
                .into_iter()
                .filter_map(|name| self.meta.get(&name).cloned().map(|value| (name, value)))
                .collect(),
            outcome,
        })
    }
}

impl Group {
    fn write(&self, database: &Database) -> Result<(), redb::Error> {
        let transaction = database.begin_write()?;
        if !self.rows.is_empty() {
            let mut table = transaction.open_table(QUEUE)?;
            for (key, row) in &self.rows {
                match row {
                    Some(row) => drop(table.insert(key, row.as_slice())?),
                    None => drop(table.remove(key)?),
                }
            }
        }
        if !self.lanes.is_empty() {
            let mut table = transaction.open_table(LANES)?;
            for (high_water, lane) in &self.lanes {
                table.insert((lane.account.as_str(), &*lane.public_key), high_water)?;
            }
        }
        if !self.attempts.is_empty() {
            let mut table = transaction.open_table(ATTEMPTS)?;
            for (id, open) in &self.attempts {
                match open {
                    Some(open) => drop(table.insert(id.0, codec::attempt(open).as_slice())?),
                    None => drop(table.remove(id.0)?),
                }
            }
        }
        if !self.results.is_empty() {
            let mut table = transaction.open_table(RESULTS)?;
            for (key, ended) in (self.first_result..).zip(&self.results) {
                let row = match ended {
                    Ended::Settled(both) => codec::settled(&both.0, &both.1),
                    Ended::Cancelled(transfers) => codec::cancelled(transfers),
                };
                table.insert(key, row.as_slice())?;
            }
        }
        if !self.meta.is_empty() {
            let mut table = transaction.open_table(META)?;
            for (name, value) in &self.meta {
                table.insert(&**name, &**value)?;
            }
        }
        transaction.commit()?;
        Ok(())
    }
}

/// How many writers there are.
#[derive(Default)]
struct Writers {
    count: Mutex<usize>,
    gone: Condvar,
}

impl Writers {
    fn count(&self) -> MutexGuard<'_, usize> {
        self.count.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to write. It ends also where the runtime drops the writer before it began, or the writer panics.
struct Writer {
    /// `None` while it is dropped, and before `writers` hears of it: whoever waits for that may open the file again.
    shared: Option<Arc<Shared>>,
    writers: Arc<Writers>,
    done: bool,
}

impl Writer {
    /// Writes groups until there is nothing to write.
    fn run(mut self) {
        let Some(shared) = self.shared.clone() else { return };
        loop {
            let lingered = shared.hurry.wait_timeout_while(shared.lock(), shared.linger, |inner| {
                !inner.hurried && !inner.state.journal.is_empty() && inner.failure.is_none()
            });
            let (mut inner, _) = lingered.unwrap_or_else(PoisonError::into_inner);
            let group = if inner.failure.is_none() { inner.take_group() } else { None };
            let Some(group) = group else {
                // Under the lock, so that no step finds a writer that has looked already.
                inner.writing = false;
                self.done = true;
                return;
            };
            drop(inner);
            let written = group.write(&shared.database).map_err(|error| shared.failed(&error));
            if let Err(failure) = &written {
                shared.fail(failure.clone());
            }
            group.outcome.send_replace(Some(written));
        }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.take()
            && !self.done
        {
            shared.lock().writing = false;
            if std::thread::panicking() {
                shared.fail(shared.failed(&"the writer panicked"));
            }
        }
        *self.writers.count() -= 1;
        self.writers.gone.notify_all();
    }
}

impl Drop for FileStore {
    fn drop(&mut self) {
        self.shared.lock().hurried = true;
        self.shared.hurry.notify_one();
        let mut count = self.shared.writers.count();
        while *count > 0 {
            count = self.shared.writers.gone.wait(count).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic elsewhere cannot leave a half-done step: every step checks first and then only moves values.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, cause: &dyn std::fmt::Display) -> StoreError {
        StoreError::File { file: self.file.clone(), cause: cause.to_string().into() }
    }

    /// Ends it all: nothing is taken or written any more.
    fn fail(&self, failure: StoreError) {
        let mut inner = self.lock();
        inner.next.send_replace(Some(Err(failure.clone())));
        inner.failure = Some(failure);
        drop(inner);
        self.work.notify_waiters();
    }

    /// Takes a step in memory.
    fn step<T>(&self, step: impl FnOnce(&mut Inner) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let mut inner = self.lock();
        if let Some(failure) = &inner.failure {
            return Err(failure.clone());
        }
        step(&mut inner)
    }

    /// Takes a step, and returns once it and everything before it is on disk: soon, or `Pace::AtOnce`.
    async fn durable<T>(
        self: &Arc<Self>,
        pace: Pace,
        step: impl FnOnce(&mut Inner) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let (value, mut covered) = self.step(|inner| {
            let value = step(inner)?;
            if inner.state.journal.is_empty() {
                return Ok((value, inner.under_way.clone()));
            }
            if pace == Pace::AtOnce && !inner.hurried {
                inner.hurried = true;
                self.hurry.notify_one();
            }
            if !inner.writing {
                inner.writing = true;
                *self.writers.count() += 1;
                let writer = Writer { shared: Some(self.clone()), writers: self.writers.clone(), done: false };
                tokio::task::spawn_blocking(move || writer.run());
            }
            Ok((value, inner.next.subscribe()))
        })?;
        match covered.wait_for(Option::is_some).await.as_deref() {
            Ok(Some(Err(failure))) => Err(failure.clone()),
            Ok(_) => Ok(value),
            Err(_) => {
                // It panicked. This may be seen before its end is: whoever hears of it finds the store ended.
                let failure = self.failed(&"its writer ended");
                self.fail(failure.clone());
                Err(failure)
            }
        }
    }
}

/// What the file holds, read back.
struct Contents {
    state: State<Changes>,
    meta: BTreeMap<Box<str>, Bytes>,
    life: u64,
    next_result: u64,
}

/// Why [`Contents`] could not be read.
#[derive(Debug, thiserror::Error)]
enum Unreadable {
    #[error("it is of version {0}")]
    Version(u64),
    #[error("it was not written by nearbench, or its creation was cut off")]
    Foreign,
    #[error(transparent)]
    Malformed(#[from] Malformed),
    #[error(transparent)]
    Storage(#[from] redb::Error),
}

/// For `?` on all that redb returns.
macro_rules! from_redb {
    ($target:ident: $($error:ident),*) => {
        $(impl From<redb::$error> for $target {
            fn from(error: redb::$error) -> Self {
                Self::Storage(error.into())
            }
        })*
    };
}

from_redb!(Unreadable: StorageError, TransactionError, TableError, DatabaseError);

impl Contents {
    fn read(database: &Database) -> Result<Self, Unreadable> {
        let transaction = database.begin_read()?;
        let about = transaction.open_table(ABOUT).map_err(|error| match error {
            TableError::Storage(error) => error.into(),
            _ => Unreadable::Foreign,
        })?;
        let number = |name| Ok::<_, Unreadable>(about.get(name)?.map(|value| value.value()));
        match number("version")? {
            Some(VERSION) => {}
            Some(other) => return Err(Unreadable::Version(other)),
            None => return Err(Unreadable::Foreign),
        }
        let life = number("life")?.unwrap_or_default() + 1;
        let mut state = State::new(life * IDS_A_LIFE);
        let mut names = Names::default();
        for row in transaction.open_table(QUEUE)?.iter()? {
            let (key, row) = row?;
            state.restore_row(key.value(), codec::read_queue_row(row.value(), &mut names)?);
        }
        for row in transaction.open_table(LANES)?.iter()? {
            let (lane, high_water) = row?;
            let (account, public_key) = lane.value();
            let account = Account::new(account).map_err(|_| Malformed("an account id is none"))?;
            state.restore_lane(LaneKey { account, public_key: public_key.into() }, high_water.value());
        }
        for row in transaction.open_table(ATTEMPTS)?.iter()? {
            let (id, row) = row?;
            let (id, open) = codec::read_attempt(id.value(), row.value(), &mut names)?;
            state.restore_attempt(id, open);
        }
        let next_result = transaction.open_table(RESULTS)?.last()?.map_or(0, |(key, _)| key.value() + 1);
        let meta = transaction
            .open_table(META)?
            .iter()?
            .map(|row| row.map(|(name, value)| (name.value().into(), Bytes::copy_from_slice(value.value()))))
            .collect::<Result<_, _>>()?;
        Ok(Self { state, meta, life, next_result })
    }
}

impl FileStore {
    /// Makes a new store at `path`, readable by its owner alone (mode 0600).
    ///
    /// # Errors
    /// There is a file already, or the system refuses.
    pub fn create(path: &Path) -> Result<Self, OpenError> {
        let file: Arc<str> = path.to_string_lossy().into();
        let system = |error: io::Error| OpenError::Io { file: file.clone(), cause: error.to_string() };
        let options = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).clone();
        let opened = options.open(path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => OpenError::Exists { file: file.clone() },
            _ => system(error),
        })?;
        let made = FileBackend::new(opened)
            .map_err(|error| refused(&file, error))
            .and_then(|storage| Self::create_in(storage, &file, LINGER))
            .and_then(|store| {
                // The file's name is on disk only once its folder is.
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
                File::open(folder).and_then(|folder| folder.sync_all()).map_err(system)?;
                Ok(store)
            });
        if made.is_err() {
            // It is ours and empty. Where it cannot be removed either, opening it says what it is.
            _ = fs::remove_file(path);
        }
        made
    }

    /// Opens the store at `path`, and repairs it where a crash left it open.
    ///
    /// # Errors
    /// It is not there, another process has it open, it is of another version, or it is no whole store: the file is not
    /// changed.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        let file: Arc<str> = path.to_string_lossy().into();
        let opened = OpenOptions::new().read(true).write(true).open(path).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => OpenError::Missing { file: file.clone() },
            _ => OpenError::Io { file: file.clone(), cause: error.to_string() },
        })?;
        let id = opened.metadata().map(|about| (about.dev(), about.ino())).ok();
        let storage = FileBackend::new(opened).map_err(|error| refused(&file, error))?;
        Self::open_in(storage, &file, LINGER).map_err(|error| match (error, id) {
            (OpenError::Locked { file, holder }, Some(id)) => {
                OpenError::Locked { file, holder: holder_of(id).unwrap_or(holder) }
            }
            (error, _) => error,
        })
    }

    /// Makes a new store on a storage that is empty, whose groups do not linger; `name` stands for it in errors.
    #[doc(hidden)]
    pub fn create_on(storage: impl StorageBackend, name: &str) -> Result<Self, OpenError> {
        Self::create_in(storage, name, Duration::ZERO)
    }

    /// Opens the store on a storage; its groups do not linger; `name` stands for it in errors.
    #[doc(hidden)]
    pub fn open_on(storage: impl StorageBackend, name: &str) -> Result<Self, OpenError> {
        Self::open_in(storage, name, Duration::ZERO)
    }

    fn create_in(storage: impl StorageBackend, name: &str, linger: Duration) -> Result<Self, OpenError> {
        let file: Arc<str> = name.into();
        let database =
            Builder::new().set_cache_size(CACHE).create_with_backend(storage).map_err(|error| refused(&file, error))?;
        let tables = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            transaction.open_table(META)?;
            transaction.open_table(QUEUE)?;
            transaction.open_table(LANES)?;
            transaction.open_table(ATTEMPTS)?;
            transaction.open_table(RESULTS)?;
            {
                let mut about = transaction.open_table(ABOUT)?;
                about.insert("version", VERSION)?;
                about.insert("life", 1)?;
            }
            Ok(transaction.commit()?)
        };
        tables().map_err(|error| OpenError::Io { file: file.clone(), cause: error.to_string() })?;
        let contents = Contents { state: State::new(IDS_A_LIFE), meta: BTreeMap::new(), life: 1, next_result: 0 };
        Ok(Self::new(file, database, contents, linger))
    }

    fn open_in(storage: impl StorageBackend, name: &str, linger: Duration) -> Result<Self, OpenError> {
        let file: Arc<str> = name.into();
        let system = |error: io::Error| OpenError::Io { file: file.clone(), cause: error.to_string() };
        let damaged =
            |cause: &dyn std::fmt::Display| OpenError::Damaged { file: file.clone(), cause: cause.to_string() };
        let staged = Staged::new(storage).map_err(system)?;
        if StagedStorage(staged.clone()).len().map_err(system)? == 0 {
            return Err(damaged(&"it is empty"));
        }
        // Every page is checked: a plain open would believe a file that was closed well, whatever became of it since.
        let database = Builder::new()
            .set_cache_size(CACHE)
            .set_check_integrity_on_open(true)
            .create_with_backend(StagedStorage(staged.clone()))
            .map_err(|error| refused(&file, error))?;
        let contents = Contents::read(&database).map_err(|error| match error {
            Unreadable::Version(found) => OpenError::Version { file: file.clone(), found },
            other => damaged(&other),
        })?;
        staged.go_on().map_err(system)?;
        let life = || -> Result<(), redb::Error> {
            let transaction = database.begin_write()?;
            transaction.open_table(ABOUT)?.insert("life", contents.life)?;
            Ok(transaction.commit()?)
        };
        life().map_err(|error| OpenError::Io { file: file.clone(), cause: error.to_string() })?;
        Ok(Self::new(file, database, contents, linger))
    }

    fn new(file: Arc<str>, database: Database, contents: Contents, linger: Duration) -> Self {
        let Contents { state, meta, next_result, .. } = contents;
        let inner = Inner {
            state,
            meta,
            next: watch::Sender::new(None),
            under_way: watch::Sender::new(Some(Ok(()))).subscribe(),
            writing: false,
            hurried: false,
            failure: None,
            next_result,
        };
        let (writers, work, hurry) = (Arc::default(), Notify::new(), Condvar::new());
        let inner = Mutex::new(inner);
        Self { shared: Arc::new(Shared { file, database, inner, writers, work, hurry, linger }) }
    }

    /// Stores small values of the caller's by name, all of them or none. What stood there before is replaced.
    ///
    /// # Errors
    /// The file cannot be written.
    pub async fn put_meta(&self, values: &[(&str, &[u8])]) -> Result<(), StoreError> {
        let put = |inner: &mut Inner| {
            for (name, value) in values {
                inner.meta.insert((*name).into(), Bytes::copy_from_slice(value));
                inner.state.journal.meta.insert((*name).into());
            }
            Ok(())
        };
        self.shared.durable(Pace::AtOnce, put).await
    }

    /// What [`Self::put_meta`] stored under `name`, also in an earlier process.
    pub fn meta(&self, name: &str) -> Option<Bytes> {
        self.shared.lock().meta.get(name).cloned()
    }
}

/// What redb says of a file that it does not open.
fn refused(file: &Arc<str>, error: DatabaseError) -> OpenError {
    let file = file.clone();
    match error {
        DatabaseError::DatabaseAlreadyOpen | DatabaseError::LockProtocolMismatch => {
            OpenError::Locked { file, holder: "another process".into() }
        }
        DatabaseError::Storage(redb::StorageError::Io(error))
            if !matches!(error.kind(), io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof) =>
        {
            OpenError::Io { file, cause: error.to_string() }
        }
        other => OpenError::Damaged { file, cause: other.to_string() },
    }
}

/// Who holds a lock of the file with this device and inode, as Linux tells it (proc(5), `/proc/locks`).
fn holder_of((device, inode): (u64, u64)) -> Option<String> {
    let (major, minor) = ((device >> 8) & 0xfff, (device & 0xff) | ((device >> 12) & 0xf_ff00));
    let file = format!("{major:02x}:{minor:02x}:{inode}");
    fs::read_to_string("/proc/locks").ok()?.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        let at = fields.iter().position(|field| *field == file)?;
        let process: u32 = fields.get(at.checked_sub(1)?)?.parse().ok()?;
        Some(if process == std::process::id() { "this process".to_owned() } else { format!("process {process}") })
    })
}

/// Of results, what is on disk.
impl Recall for FileStore {
    /// Reads the file as it goes, and blocks meanwhile.
    async fn results(&self, visit: &mut (dyn FnMut(ResultRow) + Send)) -> Result<(), StoreError> {
        let mut read = || -> Result<(), Unreadable> {
            for row in self.shared.database.begin_read()?.open_table(RESULTS)?.iter()? {
                visit(codec::read_result(row?.1.value())?);
            }
            Ok(())
        };
        read().map_err(|error| self.shared.failed(&error))
    }

    async fn unsettled(&self) -> Result<Vec<Transfer>, StoreError> {
        Ok(self.shared.lock().state.unsettled().cloned().collect())
    }
}

impl Store for FileStore {
    async fn push(&self, transfers: Vec<Transfer>, max_depth: u64) -> Result<usize, StoreError> {
        // What is claimed before it is on disk gets there with its attempt.
        let push = |inner: &mut Inner| {
            let taken = inner.state.push(transfers, max_depth);
            if taken > 0 {
                self.shared.work.notify_one();
            }
            Ok(taken)
        };
        self.shared.durable(Pace::Soon, push).await
    }

    async fn acquire(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<Lane, StoreError> {
        // Its open attempts may be sent: not before they are on disk.
        self.shared.durable(Pace::AtOnce, |inner| inner.state.acquire(lane, lease, ttl, Instant::now())).await
    }

    async fn renew(&self, lane: &LaneKey, lease: LeaseId, ttl: Duration) -> Result<(), StoreError> {
        self.shared.step(|inner| inner.state.renew(lane, lease, ttl, Instant::now()))
    }

    async fn release_lane(&self, lane: &LaneKey, lease: LeaseId) -> Result<(), StoreError> {
        self.shared.step(|inner| inner.state.release_lane(lane, lease, Instant::now()))
    }

    async fn claim(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        batch: &Batch,
        at_most: u32,
    ) -> Result<Option<Claim>, StoreError> {
        let (claim, more) = self.shared.step(|inner| {
            let claim = inner.state.claim(lane, lease, batch, at_most, Instant::now())?;
            Ok((claim, inner.state.has_work()))
        })?;
        if claim.is_some() && more {
            self.shared.work.notify_one();
        }
        Ok(claim)
    }

    async fn reserve(&self, lane: &LaneKey, lease: LeaseId, count: u32) -> Result<Nonce, StoreError> {
        self.shared.step(|inner| inner.state.reserve(lane, lease, count, Instant::now()))
    }

    async fn raise(&self, lane: &LaneKey, lease: LeaseId, floor: Nonce) -> Result<(), StoreError> {
        self.shared.step(|inner| inner.state.raise(lane, lease, floor, Instant::now()))
    }

    async fn release(&self, claim: ClaimId) -> Result<(), StoreError> {
        self.shared.step(|inner| inner.state.release(claim))?;
        self.shared.work.notify_one();
        Ok(())
    }

    async fn commit(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        claim: Option<ClaimId>,
        attempt: Attempt,
    ) -> Result<AttemptId, StoreError> {
        self.shared.durable(Pace::AtOnce, |inner| inner.state.commit(lane, lease, claim, attempt, Instant::now())).await
    }

    async fn settle(&self, attempt: AttemptId, settled: &Settled) -> Result<(), StoreError> {
        let settle = |inner: &mut Inner| {
            if inner.state.settle(attempt, settled)? {
                self.shared.work.notify_one();
            }
            Ok(())
        };
        self.shared.durable(Pace::Soon, settle).await
    }

    async fn cancel_queued(&self) -> Result<Vec<Transfer>, StoreError> {
        self.shared.durable(Pace::AtOnce, |inner| Ok(inner.state.cancel_queued())).await
    }

    async fn depth(&self) -> Result<Depth, StoreError> {
        self.shared.step(|inner| Ok(inner.state.depth()))
    }

    async fn wait_for_work(&self) {
        loop {
            let notified = self.shared.work.notified();
            // After a failure the caller learns of it by its next step.
            if self.shared.step(|inner| Ok(inner.state.has_work())) != Ok(false) {
                return;
            }
            notified.await;
        }
    }
}
