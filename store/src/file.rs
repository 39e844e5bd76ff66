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
//! the queue at their places, and `acquire` succeeds at once. Results are on disk only, and so are the records of
//! transfers in a final state; in memory is what is not settled. A record is written when it is accepted and when an
//! attempt with it ends; that it is signed, its attempt's row says, and that it was sent, nothing does after a crash.
//!
//! When writing fails, the step and all later ones fail. What was not confirmed may be on disk or not; whoever opens
//! the file again finds which.

mod spool;

pub use spool::{Moved, SpoolError, SpoolFile};

use crate::{
    Accepted, Attempt, AttemptId, Budget, Census, Changed, Claim, ClaimId, Cursor, Depth, Filter, Lane, LaneKey,
    LeaseId, Page, Recall, Record, Records, ResultRow, Store, StoreError, Submission, Windows,
    book::{Clock, Entry},
    codec::{self, Malformed, Names},
    memory::LOOKS,
    records::{STATES, is_final},
    staged::{Shared as StagedStorage, Staged},
    state::{Journal, Open, State},
};
use bytes::Bytes;
use nearbench_core::{Account, Amount, Hash, Nonce, Transfer, TransferId, plan::Batch, quota::Spent, settle::Settled};
use redb::{
    Builder, Database, DatabaseError, ReadTransaction, ReadableDatabase, ReadableTable, StorageBackend,
    TableDefinition, TableError, WriteTransaction, backends::FileBackend,
};
use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
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

/// `version`; `life`: how often the file was opened; of each final state, how many records came into it; and the number
/// of the first record whose details are kept.
const ABOUT: TableDefinition<&str, u64> = TableDefinition::new("about");
/// The caller's named values.
const META: TableDefinition<&str, &[u8]> = TableDefinition::new("meta");
const QUEUE: TableDefinition<i64, &[u8]> = TableDefinition::new("queue");
/// High-water marks by account and public key.
const LANES: TableDefinition<(&str, &str), u64> = TableDefinition::new("lanes");
const ATTEMPTS: TableDefinition<u64, &[u8]> = TableDefinition::new("attempts");
const RESULTS: TableDefinition<u64, &[u8]> = TableDefinition::new("results");
/// Records by transfer id, and their details.
const RECORDS: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("records");
const DETAILS: TableDefinition<&[u8; 16], &[u8]> = TableDefinition::new("details");
/// When records were accepted and their ids, by the number of the first of them.
const BORN: TableDefinition<u64, &[u8]> = TableDefinition::new("born");
/// The transfers of settled transactions, by hash.
const TRANSACTIONS: TableDefinition<&[u8; 32], &[u8]> = TableDefinition::new("transactions");
/// What clients spent: the day, and how much on it.
const SPENT: TableDefinition<&str, (u32, u128)> = TableDefinition::new("spent");
/// The budgets that submissions count against which are carried over; in a spool only.
const BUDGETS: TableDefinition<&[u8; 16], (&str, u128)> = TableDefinition::new("budgets");

/// The row of [`ABOUT`] that says from where on details are kept.
const DETAILS_FROM: &str = "details_from";
/// Records in a row of [`BORN`], at most.
const BORN_ROW: usize = 1024;
/// Rows of [`BORN`] whose windows a group ends, at most: more than a group adds.
const EXPIRE: usize = 4;

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
    clock: Clock,
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
    /// Of queued submissions, in a spool.
    budgets: HashMap<TransferId, Budget>,
    /// The group that collects, and the one that is being written.
    next: watch::Sender<Outcome>,
    under_way: watch::Receiver<Outcome>,
    /// Whether somebody writes; they look for a next group before they stop.
    writing: bool,
    /// Whether somebody waits for the group that collects to go on.
    hurried: bool,
    failure: Option<StoreError>,
    next_result: u64,
    /// Records of the last group, which is written once there is a next: the final ones need not be here any more.
    written: Vec<TransferId>,
}

/// What the steps since the last group changed.
#[derive(Default)]
struct Changes {
    rows: BTreeSet<i64>,
    lanes: BTreeSet<LaneKey>,
    attempts: BTreeSet<AttemptId>,
    results: Vec<Ended>,
    meta: BTreeSet<Box<str>>,
    records: BTreeSet<TransferId>,
    births: Vec<(TransferId, u64)>,
    transactions: Vec<(Hash, Vec<TransferId>)>,
    spent: BTreeSet<Arc<str>>,
    budgets: BTreeSet<TransferId>,
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
            && self.records.is_empty()
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

    // The rest goes with a changed record.
    fn record_changed(&mut self, id: TransferId) {
        self.records.insert(id);
    }

    fn record_born(&mut self, id: TransferId, unix_ms: u64) {
        self.births.push((id, unix_ms));
    }

    fn recorded(&mut self, hash: Hash, transfers: &[Transfer]) {
        self.transactions.push((hash, transfers.iter().map(|transfer| transfer.id).collect()));
    }

    fn spent(&mut self, client: &Arc<str>) {
        if !self.spent.contains(client) {
            self.spent.insert(client.clone());
        }
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
    /// What goes with changed records, if there are any.
    records: Option<RecordGroup>,
    outcome: watch::Sender<Outcome>,
}

/// A record, and its details.
type RecordRow = (Vec<u8>, Option<Vec<u8>>);

struct RecordGroup {
    rows: Vec<(TransferId, Option<RecordRow>)>,
    first_birth: u64,
    births: Vec<(TransferId, u64)>,
    transactions: Vec<(Hash, Vec<TransferId>)>,
    spent: Vec<(Arc<str>, Spent)>,
    budgets: Vec<(TransferId, Option<Budget>)>,
    counts: [u64; STATES.len()],
    windows: Windows,
    unix_ms: u64,
}

impl Inner {
    /// Takes what has changed, as it is now: at the end of a step.
    fn take_group(&mut self, unix_ms: u64) -> Option<Group> {
        self.let_go();
        if self.state.journal.is_empty() {
            return None;
        }
        self.hurried = false;
        let Changes { rows, lanes, attempts, results, meta, records, births, transactions, spent, budgets } =
            std::mem::take(&mut self.state.journal);
        let book = &self.state.book;
        let record_rows = records.iter().map(|id| {
            let entry = book.entries.get(id);
            (*id, entry.map(|entry| (codec::record(entry), entry.details.as_deref().map(codec::details))))
        });
        let record_group = (!records.is_empty()).then(|| RecordGroup {
            rows: record_rows.collect(),
            first_birth: book.next_birth - births.len() as u64,
            births,
            transactions,
            spent: spent
                .into_iter()
                .filter_map(|name| book.spent.get(&name).map(|spent| (name.clone(), *spent)))
                .collect(),
            budgets: budgets.into_iter().map(|id| (id, self.budgets.get(&id).cloned())).collect(),
            counts: book.counts.0,
            windows: book.windows,
            unix_ms,
        });
        self.written = records.into_iter().collect();
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
            records: record_group,
            outcome,
        })
    }

    /// Drops the records of the last group that are in a final state: it is written. One that changed since is in the
    /// next.
    fn let_go(&mut self) {
        let State { journal, book, .. } = &mut self.state;
        for id in std::mem::take(&mut self.written) {
            if !journal.records.contains(&id) && book.entries.get(&id).is_some_and(|entry| is_final(entry.state)) {
                book.entries.remove(&id);
            }
        }
    }
}

impl RecordGroup {
    fn write(&self, transaction: &WriteTransaction) -> Result<(), redb::Error> {
        let mut records = transaction.open_table(RECORDS)?;
        let mut details = transaction.open_table(DETAILS)?;
        for (id, row) in &self.rows {
            match row {
                Some((record, _)) => drop(records.insert(&id.0, record.as_slice())?),
                None => drop(records.remove(&id.0)?),
            }
            match row {
                Some((_, Some(rest))) => drop(details.insert(&id.0, rest.as_slice())?),
                _ => drop(details.remove(&id.0)?),
            }
        }
        let mut born = transaction.open_table(BORN)?;
        for (number, births) in (self.first_birth..).step_by(BORN_ROW).zip(self.births.chunks(BORN_ROW)) {
            let ids: Vec<_> = births.iter().map(|(id, _)| *id).collect();
            let unix_ms = births.last().map_or(0, |(_, unix_ms)| *unix_ms);
            born.insert(number, codec::births(unix_ms, &ids).as_slice())?;
        }
        let mut transactions = transaction.open_table(TRANSACTIONS)?;
        for (hash, ids) in &self.transactions {
            transactions.insert(&hash.0, codec::ids(ids.iter()).as_slice())?;
        }
        let mut spent = transaction.open_table(SPENT)?;
        for (client, Spent { day, amount }) in &self.spent {
            spent.insert(&**client, (*day, amount.0))?;
        }
        if !self.budgets.is_empty() {
            let mut budgets = transaction.open_table(BUDGETS)?;
            for (id, budget) in &self.budgets {
                match budget {
                    Some(Budget { client, daily_cap }) => drop(budgets.insert(&id.0, (&**client, daily_cap.0))?),
                    None => drop(budgets.remove(&id.0)?),
                }
            }
        }
        let mut about = transaction.open_table(ABOUT)?;
        for (state, count) in STATES.into_iter().zip(self.counts).filter(|(state, _)| is_final(*state)) {
            about.insert(count_name(state as usize).as_str(), count)?;
        }

        // What is over, from the oldest on. What is not in a final state then is removed with its end.
        let over = |row: &[u8], window| match codec::read_births(row) {
            Ok((unix_ms, ids)) if Windows::is_over(window, unix_ms, self.unix_ms) => Some(ids),
            _ => None,
        };
        let mut from = about.get(DETAILS_FROM)?.map_or(0, |from| from.value());
        let mut ended = Vec::new();
        for row in born.range(from..)?.take(EXPIRE) {
            let (number, row) = row?;
            let Some(ids) = over(row.value(), self.windows.details) else { break };
            from = number.value() + ids.len() as u64;
            ended.extend((number.value()..).zip(ids));
        }
        for (birth, id) in &ended {
            if !records.get(&id.0)?.is_some_and(|row| codec::is_final_row(row.value(), *birth)) {
                continue;
            }
            let Some(row) = details.remove(&id.0)? else { continue };
            if let Ok(details) = codec::read_details(row.value(), &mut Names::default()) {
                for hash in details.events.iter().filter_map(|event| event.tx_hash) {
                    transactions.remove(&hash.0)?;
                }
            }
        }
        if !ended.is_empty() {
            about.insert(DETAILS_FROM, from)?;
        }
        for _ in 0..EXPIRE {
            let Some((number, ids)) = born
                .first()?
                .and_then(|(number, row)| over(row.value(), self.windows.idempotency).map(|ids| (number.value(), ids)))
            else {
                break;
            };
            if number >= from {
                break;
            }
            born.remove(number)?;
            for (birth, id) in (number..).zip(ids) {
                if records.get(&id.0)?.is_some_and(|row| codec::is_final_row(row.value(), birth)) {
                    records.remove(&id.0)?;
                }
            }
        }
        Ok(())
    }
}

/// The row of [`ABOUT`] that counts the records that came into a state.
fn count_name(state: usize) -> String {
    format!("count/{state}")
}

/// A record as it is on disk.
fn stored_record(
    transaction: &ReadTransaction,
    id: TransferId,
    names: &mut Names,
) -> Result<Option<Entry>, Unreadable> {
    let Some(record) = transaction.open_table(RECORDS)?.get(&id.0)? else { return Ok(None) };
    let details = transaction.open_table(DETAILS)?.get(&id.0)?;
    Ok(Some(codec::read_record(record.value(), details.as_ref().map(|details| details.value()), names)?))
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
        if let Some(records) = &self.records {
            records.write(&transaction)?;
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
            let group = if inner.failure.is_none() { inner.take_group(shared.clock.now().unix_ms) } else { None };
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

/// Records.
impl Shared {
    fn unreadable<T>(&self, read: Result<T, Unreadable>) -> Result<T, StoreError> {
        read.map_err(|error| self.failed(&error))
    }

    /// Takes a step for which the records of `ids` are here. Those that it leaves as they are go again.
    fn with_records<T>(
        &self,
        inner: &mut Inner,
        ids: impl Iterator<Item = TransferId>,
        step: impl FnOnce(&mut Inner) -> T,
    ) -> Result<T, StoreError> {
        let missing: Vec<_> = ids.filter(|id| !inner.state.book.entries.contains_key(id)).collect();
        let mut loaded = Vec::new();
        if !missing.is_empty() {
            let read = || -> Result<Vec<_>, Unreadable> {
                let transaction = self.database.begin_read()?;
                let names = &mut Names::default();
                let (records, details) = (transaction.open_table(RECORDS)?, transaction.open_table(DETAILS)?);
                let mut found = Vec::new();
                for id in missing {
                    let Some(record) = records.get(&id.0)? else { continue };
                    let rest = details.get(&id.0)?;
                    found
                        .push((id, codec::read_record(record.value(), rest.as_ref().map(|rest| rest.value()), names)?));
                }
                Ok(found)
            };
            for (id, entry) in self.unreadable(read())? {
                inner.state.book.entries.insert(id, entry);
                loaded.push(id);
            }
        }
        let value = step(inner);
        for id in loaded {
            if !inner.state.journal.records.contains(&id) {
                inner.state.book.entries.remove(&id);
            }
        }
        Ok(value)
    }

    fn list(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> Result<Page, Unreadable> {
        let transaction = self.database.begin_read()?;
        let names = &mut Names::default();
        let from = transaction.open_table(ABOUT)?.get(DETAILS_FROM)?.map_or(0, |from| from.value());
        let end = before.map_or(u64::MAX, |cursor| cursor.0);
        let mut page = Page::default();
        let mut looks = 0;
        for row in transaction.open_table(BORN)?.range(from..end.max(from))?.rev() {
            let (first, row) = row?;
            let (_, ids) = codec::read_births(row.value())?;
            for (birth, id) in (first.value()..end).zip(ids).collect::<Vec<_>>().into_iter().rev() {
                if page.records.len() == limit || looks == LOOKS {
                    page.next = Some(Cursor(birth + 1));
                    return Ok(page);
                }
                looks += 1;
                let here = self.lock().state.book.entries.get(&id).cloned();
                let entry = match here {
                    Some(entry) => Some(entry),
                    None => stored_record(&transaction, id, names)?,
                };
                let record = entry.filter(|entry| entry.birth == birth).map(|entry| entry.record(id));
                page.records.extend(record.filter(|record| filter.takes(record)));
            }
        }
        Ok(page)
    }
}

/// What the file holds, read back.
struct Contents {
    state: State<Changes>,
    meta: BTreeMap<Box<str>, Bytes>,
    budgets: HashMap<TransferId, Budget>,
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
        let number = |name: &str| Ok::<_, Unreadable>(about.get(name)?.map(|value| value.value()));
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
        let unsettled: Vec<_> = state.unsettled().map(|transfer| transfer.id).collect();
        for id in unsettled {
            if let Some(entry) = stored_record(&transaction, id, &mut names)? {
                state.restore_record(id, entry);
            }
        }
        for state_number in 0..STATES.len() {
            state.book.counts.0[state_number] = number(count_name(state_number).as_str())?.unwrap_or_default();
        }
        state.place_records();
        if let Some((number, row)) = transaction.open_table(BORN)?.last()? {
            state.book.next_birth = number.value() + codec::read_births(row.value())?.1.len() as u64;
        }
        for row in transaction.open_table(SPENT)?.iter()? {
            let (client, spent) = row?;
            let (day, amount) = spent.value();
            state.book.spent.insert(client.value().into(), Spent { day, amount: Amount(amount) });
        }
        let budgets = match transaction.open_table(BUDGETS) {
            Ok(table) => table
                .iter()?
                .map(|row| {
                    let (id, budget) = row?;
                    let (client, daily_cap) = budget.value();
                    Ok((TransferId(*id.value()), Budget { client: client.into(), daily_cap: Amount(daily_cap) }))
                })
                .collect::<Result<_, Unreadable>>()?,
            Err(TableError::TableDoesNotExist(_)) => HashMap::new(),
            Err(error) => return Err(error.into()),
        };
        Ok(Self { state, meta, budgets, life, next_result })
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
            transaction.open_table(RECORDS)?;
            transaction.open_table(DETAILS)?;
            transaction.open_table(BORN)?;
            transaction.open_table(TRANSACTIONS)?;
            transaction.open_table(SPENT)?;
            {
                let mut about = transaction.open_table(ABOUT)?;
                about.insert("version", VERSION)?;
                about.insert("life", 1)?;
            }
            Ok(transaction.commit()?)
        };
        tables().map_err(|error| OpenError::Io { file: file.clone(), cause: error.to_string() })?;
        let contents = Contents {
            state: State::new(IDS_A_LIFE),
            meta: BTreeMap::new(),
            budgets: HashMap::new(),
            life: 1,
            next_result: 0,
        };
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
        let Contents { state, meta, budgets, next_result, .. } = contents;
        let inner = Inner {
            state,
            meta,
            budgets,
            next: watch::Sender::new(None),
            under_way: watch::Sender::new(Some(Ok(()))).subscribe(),
            writing: false,
            hurried: false,
            failure: None,
            next_result,
            written: Vec::new(),
        };
        let (writers, work, hurry) = (Arc::default(), Notify::new(), Condvar::new());
        let inner = Mutex::new(inner);
        let clock = Clock::default();
        Self { shared: Arc::new(Shared { file, database, inner, writers, clock, work, hurry, linger }) }
    }

    /// Keeps records for these windows instead of the default ones.
    #[must_use]
    pub fn keeping(self, windows: Windows) -> Self {
        self.shared.lock().state.book.windows = windows;
        self
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
            let taken = inner.state.push(transfers, max_depth, self.shared.clock.now());
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
        let commit = |inner: &mut Inner| inner.state.commit(lane, lease, claim, attempt, self.shared.clock.now());
        self.shared.durable(Pace::AtOnce, commit).await
    }

    async fn sent(&self, attempts: &[AttemptId]) -> Result<(), StoreError> {
        self.shared.step(|inner| {
            inner.state.sent(attempts, self.shared.clock.now());
            Ok(())
        })
    }

    async fn settle(&self, attempt: AttemptId, settled: &Settled) -> Result<(), StoreError> {
        let settle = |inner: &mut Inner| {
            if inner.state.settle(attempt, settled, self.shared.clock.now())? {
                self.shared.work.notify_one();
            }
            Ok(())
        };
        self.shared.durable(Pace::Soon, settle).await
    }

    async fn cancel_queued(&self) -> Result<Vec<Transfer>, StoreError> {
        self.shared.durable(Pace::AtOnce, |inner| Ok(inner.state.cancel_queued(self.shared.clock.now()))).await
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

impl Records for FileStore {
    async fn accept(&self, submissions: Vec<Submission>, max_depth: u64) -> Result<Vec<Accepted>, StoreError> {
        let accept = |inner: &mut Inner| {
            let ids: Vec<_> = submissions.iter().map(|submission| submission.transfer.id).collect();
            let now = self.shared.clock.now();
            let accepted = self
                .shared
                .with_records(inner, ids.into_iter(), |inner| inner.state.accept(submissions, max_depth, now))?;
            if accepted.iter().any(|answer| matches!(answer, Accepted::New { .. })) {
                self.shared.work.notify_one();
            }
            Ok(accepted)
        };
        // What is replayed is on disk too before this returns, or on its way there in a group that is waited for.
        self.shared.durable(Pace::Soon, accept).await
    }

    async fn find(&self, ids: &[TransferId]) -> Result<Vec<Option<Record>>, StoreError> {
        let mut found =
            self.shared.step(|inner| Ok(ids.iter().map(|id| inner.state.book.record(*id)).collect::<Vec<_>>()))?;
        if found.iter().any(Option::is_none) {
            // What left the memory meanwhile is on disk.
            let mut read = || -> Result<(), Unreadable> {
                let transaction = self.shared.database.begin_read()?;
                let names = &mut Names::default();
                for (id, found) in ids.iter().zip(&mut found).filter(|(_, found)| found.is_none()) {
                    *found = stored_record(&transaction, *id, names)?.map(|entry| entry.record(*id));
                }
                Ok(())
            };
            self.shared.unreadable(read())?;
        }
        Ok(found)
    }

    async fn list(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        // What is numbered is on disk.
        self.shared.durable(Pace::AtOnce, |_| Ok(())).await?;
        let (shared, filter) = (self.shared.clone(), filter.clone());
        let list = tokio::task::spawn_blocking(move || shared.unreadable(shared.list(&filter, before, limit)));
        list.await.map_err(|error| self.shared.failed(&error))?
    }

    async fn transaction(&self, hash: Hash) -> Result<Vec<TransferId>, StoreError> {
        let settled = |inner: &mut Inner| {
            let unwritten = inner.state.journal.transactions.iter().find(|(settled, _)| *settled == hash);
            Ok(inner.state.transaction(hash).or_else(|| unwritten.map(|(_, ids)| ids.clone())))
        };
        if let Some(ids) = self.shared.durable(Pace::AtOnce, settled).await? {
            return Ok(ids);
        }
        let read = || -> Result<Vec<TransferId>, Unreadable> {
            let transaction = self.shared.database.begin_read()?;
            let ids = transaction.open_table(TRANSACTIONS)?.get(&hash.0)?;
            Ok(ids.map(|ids| codec::read_ids(ids.value())).transpose()?.unwrap_or_default())
        };
        self.shared.unreadable(read())
    }

    async fn cancel(&self, id: TransferId) -> Result<Changed, StoreError> {
        let now = self.shared.clock.now();
        let cancel =
            |inner: &mut Inner| self.shared.with_records(inner, [id].into_iter(), |inner| inner.state.cancel(id, now));
        self.shared.durable(Pace::AtOnce, cancel).await
    }

    async fn retry(&self, id: TransferId, now_ns: u64) -> Result<Changed, StoreError> {
        let now = self.shared.clock.now();
        let retry = |inner: &mut Inner| {
            self.shared.with_records(inner, [id].into_iter(), |inner| inner.state.retry(id, now_ns, now))
        };
        let changed = self.shared.durable(Pace::AtOnce, retry).await?;
        if matches!(changed, Changed::Done(_)) {
            self.shared.work.notify_one();
        }
        Ok(changed)
    }

    async fn census(&self) -> Result<Census, StoreError> {
        self.shared.step(|inner| Ok(inner.state.census(self.shared.clock.now())))
    }
}
