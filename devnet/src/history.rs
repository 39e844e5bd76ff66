//! Every block with its outcomes: the recent ones in memory, all of them in one append-only log, by id as long as they
//! are not collected.
//!
//! The log is a header (magic, version, hash of the genesis) and a record a block: length and CRC-32 of the body, both
//! little-endian `u32`, then the body in borsh. In memory older blocks leave 16 bytes an id until they are collected, and
//! 56 a block for ever. What a block means is not known here.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use borsh::{BorshDeserialize, BorshSerialize};
use near_primitives::hash::CryptoHash;
use near_primitives::receipt::Receipt;
use near_primitives::transaction::{ExecutionOutcomeWithId, SignedTransaction};

use crate::block::{Block, OutcomeRecord};
use crate::patch;

/// Name of the log in a chain's folder.
pub const LOG_NAME: &str = "chain.log";

const MAGIC: [u8; 8] = *b"nbdevnet";
/// 2 had neither transactions that are invalid in their chunk nor a state patched by hand; it is not read.
const VERSION: u32 = 3;
const HEADER_BYTES: u64 = 44;
const RECORD_HEADER_BYTES: u64 = 8;

/// Bytes of blocks kept in memory, and how many blocks at least and at most.
const RECENT_BYTES: u64 = 32 << 20;
const RECENT_AT_LEAST: usize = 8;
const RECENT_AT_MOST: usize = 1024;
/// Older blocks kept after a read, for whoever walks through them.
const READ_KEPT: usize = 8;

/// Why a log cannot be used. Nothing was changed.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The file system refused.
    #[error("{path}: {error}")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        error: std::io::Error,
    },
    /// Another process has the chain open.
    #[error("{0} is in use by another process; stop that one, or give another folder")]
    InUse(PathBuf),
    /// The file is not a log of a chain.
    #[error("{0} is not the log of a devnet chain; give another folder")]
    NotALog(PathBuf),
    /// The log is of another format.
    #[error(
        "{path} has format {found}, this program reads format {VERSION}; use the program that wrote it, or give another folder"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u32,
    },
    /// The log belongs to a chain of another genesis.
    #[error(
        "{path} records the chain of genesis {found}, not {expected}, and nothing beside it says what differs: it was \
         made with other parameters or by another version of this program; give those, or another folder"
    )]
    Genesis {
        /// The file.
        path: PathBuf,
        /// Hash of the genesis it was made with.
        found: CryptoHash,
        /// Hash of the genesis given now.
        expected: CryptoHash,
    },
    /// A record that is not the last one is damaged.
    #[error("{path} is damaged at byte {offset} (block {height}); restore it from a copy, or give another folder")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// Where the damaged record begins.
        offset: u64,
        /// The block it should hold.
        height: u64,
    },
}

/// What is recorded of a block.
#[derive(Clone, Debug, PartialEq, Eq, BorshSerialize, BorshDeserialize)]
pub(crate) struct Body {
    pub(crate) block: Block,
    pub(crate) outcomes: Vec<ExecutionOutcomeWithId>,
    /// Receipts executed in the block that had not arrived with it.
    pub(crate) other_executed: Vec<Receipt>,
    /// What was put into the state by hand before its chunks.
    pub(crate) patch: Vec<patch::Write>,
}

/// A block in memory, with its outcomes and receipts by id.
pub(crate) struct Record {
    pub(crate) block: Arc<Block>,
    outcomes: HashMap<CryptoHash, Arc<OutcomeRecord>>,
    transactions: HashMap<CryptoHash, Arc<SignedTransaction>>,
    other_executed: HashMap<CryptoHash, Arc<Receipt>>,
    /// What was put into the state by hand before its chunks.
    pub(crate) patch: Vec<patch::Write>,
    bytes: u64,
}

impl Record {
    fn new(body: Body, bytes: u64) -> Self {
        let Body { block, outcomes, other_executed, patch } = body;
        let (height, block_hash) = (block.height, block.hash);
        let by_id =
            |outcome: ExecutionOutcomeWithId| (outcome.id, Arc::new(OutcomeRecord { outcome, height, block_hash }));
        let by_hash = |transaction: &Arc<SignedTransaction>| (*transaction.hash(), Arc::clone(transaction));
        Self {
            outcomes: outcomes.into_iter().map(by_id).collect(),
            transactions: block.transactions().map(by_hash).collect(),
            other_executed: other_executed
                .into_iter()
                .map(|receipt| (*receipt.receipt_id(), Arc::new(receipt)))
                .collect(),
            block: Arc::new(block),
            patch,
            bytes,
        }
    }

    pub(crate) fn outcome(&self, id: &CryptoHash) -> Option<Arc<OutcomeRecord>> {
        self.outcomes.get(id).cloned()
    }

    pub(crate) fn transaction(&self, hash: &CryptoHash) -> Option<Arc<SignedTransaction>> {
        self.transactions.get(hash).cloned()
    }

    pub(crate) fn receipt(&self, id: &CryptoHash) -> Option<Arc<Receipt>> {
        self.other_executed.get(id).cloned().or_else(|| {
            self.block.receipts().find(|receipt| receipt.receipt_id() == id).map(|receipt| Arc::new(receipt.clone()))
        })
    }
}

/// Heights by the first eight bytes of an id; two ids that share them stand one behind the other.
#[derive(Default)]
struct Index(HashMap<u64, u32>);

impl Index {
    fn place(id: &CryptoHash) -> u64 {
        id.as_bytes().iter().take(8).fold(0, |place, &byte| place << 8 | u64::from(byte))
    }

    fn insert(&mut self, id: &CryptoHash, height: u32) {
        let mut place = Self::place(id);
        while self.0.contains_key(&place) {
            place = place.wrapping_add(1);
        }
        self.0.insert(place, height);
    }

    /// Heights that may hold `id`.
    fn candidates(&self, id: &CryptoHash) -> impl Iterator<Item = u64> + use<'_> {
        let first = Self::place(id);
        (0..).map_while(move |step| self.0.get(&first.wrapping_add(step)).map(|&height| u64::from(height)))
    }
}

/// All blocks of a chain.
pub(crate) struct History {
    log: File,
    path: PathBuf,
    /// Whether a record must be on disk before it counts.
    durable: bool,
    /// Where the next record goes.
    end: u64,
    /// Bytes of a record that was never finished and is cut off.
    cut_off: u64,
    offsets: Vec<u64>,
    hashes: Vec<CryptoHash>,
    /// Blocks by their hashes; a transaction's base is looked for however old it is.
    blocks: Index,
    /// All other ids, by segment.
    ids: BTreeMap<u64, Index>,
    /// Blocks of a segment: what is collected is dropped by segments, each of which ends one block before its multiple.
    segment: Option<u64>,
    recent: VecDeque<Arc<Record>>,
    recent_bytes: u64,
    read: Mutex<VecDeque<Arc<Record>>>,
}

impl History {
    /// An empty history in a temporary file without a name.
    pub(crate) fn anonymous(segment: Option<u64>) -> Result<Self, HistoryError> {
        let path = std::env::temp_dir();
        let log = tempfile::tempfile().map_err(|error| HistoryError::Io { path: path.clone(), error })?;
        Ok(Self::new(log, path, false, segment))
    }

    fn new(log: File, path: PathBuf, durable: bool, segment: Option<u64>) -> Self {
        Self {
            log,
            path,
            durable,
            end: 0,
            cut_off: 0,
            offsets: Vec::new(),
            hashes: Vec::new(),
            blocks: Index::default(),
            ids: BTreeMap::new(),
            segment,
            recent: VecDeque::new(),
            recent_bytes: 0,
            read: Mutex::default(),
        }
    }

    /// The log in `home`, which is made if it is not there; then [`Self::next_recorded`] gives what it holds.
    pub(crate) fn open(home: &Path, genesis: CryptoHash, segment: Option<u64>) -> Result<Self, HistoryError> {
        let path = home.join(LOG_NAME);
        let io = |error| HistoryError::Io { path: path.clone(), error };
        std::fs::create_dir_all(home).map_err(io)?;
        let options = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(&path);
        let mut log = options.map_err(io)?;
        match log.try_lock() {
            Ok(()) => {}
            Err(std::fs::TryLockError::WouldBlock) => return Err(HistoryError::InUse(path)),
            Err(std::fs::TryLockError::Error(error)) => return Err(io(error)),
        }
        let mut header = Vec::new();
        Read::by_ref(&mut log).take(HEADER_BYTES).read_to_end(&mut header).map_err(io)?;
        let expected = borsh::to_vec(&(MAGIC, VERSION, genesis)).expect("writing to memory does not fail");
        if header.len() < expected.len() && expected.starts_with(&header) {
            // New, or its maker died while it wrote the header.
            log.seek(SeekFrom::Start(0)).map_err(io)?;
            log.write_all(&expected).map_err(io)?;
            log.sync_all().map_err(io)?;
            File::open(home).and_then(|folder| folder.sync_all()).map_err(io)?;
        } else if header != expected {
            let Ok((magic, found, of)) = <([u8; 8], u32, CryptoHash)>::try_from_slice(&header) else {
                return Err(HistoryError::NotALog(path));
            };
            return Err(match (magic == MAGIC, found == VERSION) {
                (false, _) => HistoryError::NotALog(path),
                (true, false) => HistoryError::Version { path, found },
                (true, true) => HistoryError::Genesis { path, found: of, expected: genesis },
            });
        }
        let mut history = Self::new(log, path, true, segment);
        history.end = HEADER_BYTES;
        Ok(history)
    }

    /// The next record of an opened log. At its end what is left of a record that was never finished is cut off.
    pub(crate) fn next_recorded(&mut self) -> Result<Option<Body>, HistoryError> {
        let length = self.log.metadata().map_err(|error| self.io(error))?.len();
        let left = length.saturating_sub(self.end);
        if left == 0 {
            return Ok(None);
        }
        let mut header = [0; RECORD_HEADER_BYTES as usize];
        let mut body = None;
        let mut reaches_end = left < RECORD_HEADER_BYTES;
        if !reaches_end {
            self.log.read_exact_at(&mut header, self.end).map_err(|error| self.io(error))?;
            let (bytes, checksum) = split(header);
            reaches_end = u64::from(bytes) >= left - RECORD_HEADER_BYTES;
            if u64::from(bytes) <= left - RECORD_HEADER_BYTES {
                let mut raw = vec![0; bytes as usize];
                let at = self.end + RECORD_HEADER_BYTES;
                self.log.read_exact_at(&mut raw, at).map_err(|error| self.io(error))?;
                body = (crc32fast::hash(&raw) == checksum).then(|| Body::try_from_slice(&raw).ok()).flatten();
            }
        }
        match body {
            Some(body) => Ok(Some(body)),
            None if reaches_end => {
                self.cut_off = left;
                self.log.set_len(self.end).and_then(|()| self.log.sync_all()).map_err(|error| self.io(error))?;
                Ok(None)
            }
            None => Err(HistoryError::Damaged {
                path: self.path.clone(),
                offset: self.end,
                height: self.offsets.len() as u64,
            }),
        }
    }

    /// Bytes that were cut off because their record was never finished.
    pub(crate) fn cut_off(&self) -> u64 {
        self.cut_off
    }

    fn io(&self, error: std::io::Error) -> HistoryError {
        HistoryError::Io { path: self.path.clone(), error }
    }

    /// Takes the next block in. `recorded` says that the log holds it already.
    pub(crate) fn push(&mut self, body: Body, recorded: bool) -> Result<(), HistoryError> {
        let raw = borsh::to_vec(&body).expect("writing to memory does not fail");
        let bytes = u32::try_from(raw.len()).expect("a chunk's inputs are limited to some megabytes");
        if !recorded {
            let mut record = Vec::with_capacity(raw.len() + RECORD_HEADER_BYTES as usize);
            record.extend_from_slice(&bytes.to_le_bytes());
            record.extend_from_slice(&crc32fast::hash(&raw).to_le_bytes());
            record.extend_from_slice(&raw);
            self.log.write_all_at(&record, self.end).map_err(|error| self.io(error))?;
            if self.durable {
                self.log.sync_data().map_err(|error| self.io(error))?;
            }
        }
        self.offsets.push(self.end);
        self.end += RECORD_HEADER_BYTES + u64::from(bytes);

        let height = u32::try_from(body.block.height).expect("2^32 blocks take decades");
        self.hashes.push(body.block.hash);
        let chunks = body.block.chunks.iter().map(|chunk| &chunk.hash);
        let data = body.block.receipts().map(Receipt::receipt_id);
        let outcomes = body.outcomes.iter().map(|outcome| &outcome.id);
        let executed: std::collections::HashSet<_> = outcomes.clone().collect();
        // An outcome has the id of its receipt or transaction; what has none yet is found by its own.
        let others = data.filter(|id| !executed.contains(id));
        self.blocks.insert(&body.block.hash, height);
        let ids = self.ids.entry(segment_of(self.segment, body.block.height)).or_default();
        for id in chunks.chain(outcomes).chain(others) {
            ids.insert(id, height);
        }
        let record = Arc::new(Record::new(body, u64::from(bytes)));
        self.recent_bytes += record.bytes;
        self.recent.push_back(record);
        while self.recent.len() > RECENT_AT_LEAST
            && (self.recent.len() > RECENT_AT_MOST || self.recent_bytes > RECENT_BYTES)
        {
            let Some(old) = self.recent.pop_front() else {
                break;
            };
            self.recent_bytes -= old.bytes;
        }
        Ok(())
    }

    /// Forgets all ids, and what is in memory, of the blocks below a height. The log and the blocks' hashes stay.
    pub(crate) fn collect_below(&mut self, height: u64) {
        self.ids = self.ids.split_off(&segment_of(self.segment, height));
        while self.recent.len() > 1 && self.recent.front().is_some_and(|record| record.block.height < height) {
            if let Some(old) = self.recent.pop_front() {
                self.recent_bytes -= old.bytes;
            }
        }
        let read = self.read.get_mut().unwrap_or_else(PoisonError::into_inner);
        read.retain(|record| record.block.height >= height);
    }

    /// The latest record; there is one from genesis on.
    pub(crate) fn latest(&self) -> &Arc<Record> {
        self.recent.back().expect("a chain has its genesis")
    }

    /// The record of a height. `None` above the head; an older one is read from the log.
    ///
    /// # Panics
    /// Where the log cannot be read or is not what was written.
    pub(crate) fn at(&self, height: u64) -> Option<Arc<Record>> {
        let &offset = self.offsets.get(usize::try_from(height).ok()?)?;
        let first = self.offsets.len() - self.recent.len();
        if let Some(position) = (height as usize).checked_sub(first) {
            return self.recent.get(position).cloned();
        }
        let mut read = self.read.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(position) = read.iter().position(|record| record.block.height == height) {
            let record = read.remove(position)?;
            read.push_back(Arc::clone(&record));
            return Some(record);
        }
        let mut header = [0; RECORD_HEADER_BYTES as usize];
        let mut raw = Vec::new();
        let body = self.log.read_exact_at(&mut header, offset).and_then(|()| {
            let (bytes, checksum) = split(header);
            raw.resize(bytes as usize, 0);
            self.log.read_exact_at(&mut raw, offset + RECORD_HEADER_BYTES)?;
            if crc32fast::hash(&raw) != checksum {
                return Err(std::io::Error::new(std::io::ErrorKind::InvalidData, "checksum mismatch"));
            }
            Body::try_from_slice(&raw)
        });
        let body = body.unwrap_or_else(|error| panic!("{}: block {height}: {error}", self.path.display()));
        let record = Arc::new(Record::new(body, raw.len() as u64));
        read.push_back(Arc::clone(&record));
        if read.len() > READ_KEPT {
            read.pop_front();
        }
        Some(record)
    }

    /// The height of a block.
    pub(crate) fn height_of(&self, block: &CryptoHash) -> Option<u64> {
        self.blocks.candidates(block).find(|&height| self.hash_at(height) == Some(*block))
    }

    /// The hash of a block.
    pub(crate) fn hash_at(&self, height: u64) -> Option<CryptoHash> {
        self.hashes.get(usize::try_from(height).ok()?).copied()
    }

    /// Finds what `pick` takes of the record that holds an id.
    pub(crate) fn find<T>(&self, id: &CryptoHash, pick: impl Fn(&Record) -> Option<T>) -> Option<T> {
        self.find_all(id, pick).next()
    }

    /// The same of every record that holds it.
    pub(crate) fn find_all<T>(&self, id: &CryptoHash, pick: impl Fn(&Record) -> Option<T>) -> impl Iterator<Item = T> {
        let heights = self.ids.values().rev().flat_map(|ids| ids.candidates(id));
        heights.filter_map(move |height| pick(self.at(height)?.as_ref()))
    }
}

/// The segment of a height; the first is one block shorter, so that each ends where a collection does.
fn segment_of(segment: Option<u64>, height: u64) -> u64 {
    segment.map_or(0, |blocks| height.saturating_add(1) / blocks)
}

/// Whether the log in `home`, if there is one, has the format of this program. Nothing is changed.
pub(crate) fn check_format(home: &Path) -> Result<(), HistoryError> {
    let path = home.join(LOG_NAME);
    let mut header = Vec::new();
    // What else may be wrong with it is said when it is opened.
    let read = File::open(&path).and_then(|log| log.take(HEADER_BYTES).read_to_end(&mut header));
    match <([u8; 8], u32, CryptoHash)>::try_from_slice(&header) {
        Ok((MAGIC, found, _)) if read.is_ok() && found != VERSION => Err(HistoryError::Version { path, found }),
        _ => Ok(()),
    }
}

fn split(header: [u8; RECORD_HEADER_BYTES as usize]) -> (u32, u32) {
    let [a, b, c, d, e, f, g, h] = header;
    (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]))
}
