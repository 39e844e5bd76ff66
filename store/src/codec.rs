//! The bytes of the rows in a file and in Redis. By hand, because a transfer passes through here several times: integers
//! are LEB128, texts and lists carry their length, hashes and ids are raw. A change of any of it is a new version of both.

use crate::{
    Attempt, AttemptId, Details, Digest, Event, LaneKey, Record,
    book::Entry,
    records::{MAX_EVENTS, STATES, is_final},
    state::{CAP_EXCEEDED, CONFLICT, FAILED, NO_PROOF, Open},
};
use bytes::Bytes;
use nearbench_core::{
    Account, Amount, Hash, Memo, Nonce, Transfer, TransferId, TransferState,
    outcome::FailureKind,
    settle::{DeathCertificate, Executed, Fate, Proof, Settled, Settlement},
};
use std::{collections::HashMap, sync::Arc};

/// A final state that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ResultRow {
    /// An attempt that was settled.
    Settled {
        /// Its transaction's hash.
        hash: Hash,
        /// Its nonce.
        nonce: Nonce,
        /// The fate of its transfers, and what proves it.
        settled: Settled,
        /// Its transfers in their order, those too that went back to the queue; `settled` speaks of their indices.
        transfers: Vec<TransferRecord>,
    },
    /// Transfers that were withdrawn from the queue. One withdrawal may be several of these.
    Cancelled {
        /// Oldest first.
        transfers: Vec<TransferRecord>,
    },
}

/// What is kept of a transfer that is settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferRecord {
    /// Its identity.
    pub id: TransferId,
    /// Its number in the load's schedule.
    pub sequence: u64,
    /// The index of the load phase it arrived in.
    pub phase: u16,
    /// When it was meant to arrive, in nanoseconds since the load's start.
    pub intended_ns: u64,
    /// When it was handed over, in nanoseconds since the load's start.
    pub sent_ns: u64,
}

impl From<&Transfer> for TransferRecord {
    fn from(transfer: &Transfer) -> Self {
        let Transfer { id, sequence, phase, intended_ns, sent_ns, .. } = *transfer;
        Self { id, sequence, phase, intended_ns, sent_ns }
    }
}

/// A row that says what it cannot say: the store was changed by something else.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(crate) &'static str);

// Writing.

fn put_u64(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn put_u128(out: &mut Vec<u8>, value: u128) {
    match u64::try_from(value) {
        Ok(small) => {
            out.push(0);
            put_u64(out, small);
        }
        Err(_) => {
            out.push(1);
            out.extend_from_slice(&value.to_le_bytes());
        }
    }
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    put_u64(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn put_record(out: &mut Vec<u8>, record: &TransferRecord) {
    out.extend_from_slice(&record.id.0);
    put_u64(out, record.sequence);
    put_u64(out, record.phase.into());
    put_u64(out, record.intended_ns);
    // A small number where it was sent soon after; any number survives.
    put_u64(out, record.sent_ns.wrapping_sub(record.intended_ns));
}

fn put_transfers<'a>(out: &mut Vec<u8>, count: usize, transfers: impl Iterator<Item = &'a Transfer>) {
    out.reserve(16 + count * 96);
    put_u64(out, count as u64);
    for transfer in transfers {
        put_record(out, &transfer.into());
        put_payment(out, transfer);
    }
}

fn put_payment(out: &mut Vec<u8>, transfer: &Transfer) {
    put_bytes(out, transfer.receiver.as_bytes());
    put_u128(out, transfer.amount.0);
    put_bytes(out, transfer.memo.as_ref().map_or("", |memo| memo).as_bytes());
}

fn put_records<'a>(out: &mut Vec<u8>, transfers: impl ExactSizeIterator<Item = &'a Transfer>) {
    out.reserve(16 + transfers.len() * 48);
    put_u64(out, transfers.len() as u64);
    for transfer in transfers {
        put_record(out, &transfer.into());
    }
}

/// An element of a queue in Redis: the length of its record, the record, and the rest, so that the record can be cut out
/// without reading it. The highest bit of that length says whether a client submitted it.
pub(crate) fn element(transfer: &Transfer, submitted: bool) -> Vec<u8> {
    let mut out = element_start(&transfer.into(), submitted);
    put_payment(&mut out, transfer);
    out
}

/// An element without its payment.
pub(crate) fn element_start(record: &TransferRecord, submitted: bool) -> Vec<u8> {
    let mut out = Vec::with_capacity(96);
    out.push(0);
    put_record(&mut out, record);
    // An id and four numbers of at most ten bytes: below 128.
    out[0] = (out.len() - 1) as u8 | (u8::from(submitted) << 7);
    out
}

/// How the payment to a receiver begins.
pub(crate) fn payment_start(receiver: &Account) -> Vec<u8> {
    let mut out = Vec::with_capacity(65);
    put_bytes(&mut out, receiver.as_bytes());
    out
}

/// A row of the queue.
pub(crate) fn queue_row<'a>(transfers: impl Iterator<Item = &'a Transfer> + Clone) -> Vec<u8> {
    let mut out = Vec::new();
    put_transfers(&mut out, transfers.clone().count(), transfers);
    out
}

/// An open attempt.
pub(crate) fn attempt(open: &Open) -> Vec<u8> {
    let Open { lane, attempt, transfers, unix_ms, .. } = open;
    let mut out = Vec::with_capacity(256 + attempt.bytes.len() + transfers.len() * 96);
    put_bytes(&mut out, lane.account.as_bytes());
    put_bytes(&mut out, lane.public_key.as_bytes());
    out.extend_from_slice(&attempt.hash.0);
    put_u64(&mut out, attempt.nonce);
    put_u64(&mut out, attempt.base_height);
    put_u64(&mut out, attempt.expiry_height);
    put_u64(&mut out, *unix_ms);
    put_bytes(&mut out, &attempt.bytes);
    put_transfers(&mut out, transfers.len(), transfers.iter());
    out
}

fn put_fate(out: &mut Vec<u8>, fate: Fate) {
    out.push(match fate {
        Fate::Finalized => 0,
        Fate::Failed => 1,
        Fate::Requeue => 2,
        Fate::NeedsReview => 3,
    });
}

fn put_settled(out: &mut Vec<u8>, settled: &Settled) {
    match settled.settlement {
        Settlement::All(fate) => {
            out.push(0);
            put_fate(out, fate);
        }
        Settlement::Poisoned { index } => {
            out.push(1);
            put_u64(out, index as u64);
        }
    }
    match settled.proof {
        Proof::None => out.push(0),
        Proof::Executed(Executed { receipt, block, block_unix_ns, at_ns }) => {
            out.push(1);
            out.extend_from_slice(&receipt.0);
            out.extend_from_slice(&block.0);
            put_u64(out, block_unix_ns);
            put_u64(out, at_ns);
        }
        Proof::Dead(DeathCertificate::Expired { key_nonce, height }) => {
            out.push(2);
            put_u64(out, key_nonce);
            put_u64(out, height);
        }
        Proof::Dead(DeathCertificate::Overtaken { height, by }) => {
            out.push(3);
            put_u64(out, height);
            out.extend_from_slice(&by.0);
        }
        Proof::Dead(DeathCertificate::KeyGone { height }) => {
            out.push(4);
            put_u64(out, height);
        }
        Proof::Dead(DeathCertificate::Absent { to }) => {
            out.push(5);
            put_u64(out, to);
        }
    }
    let (kind, text) = match &settled.failure {
        None => (0, None),
        Some(FailureKind::Unregistered) => (1, None),
        Some(FailureKind::BadAmount) => (2, None),
        Some(FailureKind::SelfTransfer) => (3, None),
        Some(FailureKind::SenderBalance) => (4, None),
        Some(FailureKind::SenderUnregistered) => (5, None),
        Some(FailureKind::OutOfGas) => (6, None),
        Some(FailureKind::Contract(text)) => (7, Some(text)),
        Some(FailureKind::Panic(text)) => (8, Some(text)),
        Some(FailureKind::Action(text)) => (9, Some(text)),
        Some(FailureKind::KeyGone) => (10, None),
    };
    out.push(kind);
    if let Some(text) = text {
        put_bytes(out, text.as_bytes());
    }
    put_u64(out, settled.at_ns);
}

/// What heads the result of an attempt, behind its kind.
pub(crate) fn result_head(hash: &Hash, nonce: Nonce) -> Vec<u8> {
    let mut out = hash.0.to_vec();
    put_u64(&mut out, nonce);
    out
}

/// What follows it, before the transfers.
pub(crate) fn settlement(settled: &Settled) -> Vec<u8> {
    let mut out = Vec::with_capacity(128);
    put_settled(&mut out, settled);
    out
}

/// A result without its transfers.
pub(crate) fn result_start(hash: &Hash, nonce: Nonce, settled: &Settled) -> Vec<u8> {
    let mut out = vec![0];
    out.extend(result_head(hash, nonce));
    put_settled(&mut out, settled);
    out
}

/// A whole result.
pub(crate) fn result(hash: &Hash, nonce: Nonce, settled: &Settled, transfers: &[TransferRecord]) -> Vec<u8> {
    let mut out = result_start(hash, nonce, settled);
    put_u64(&mut out, transfers.len() as u64);
    transfers.iter().for_each(|transfer| put_record(&mut out, transfer));
    out
}

/// What an attempt is beside its hash and nonce.
pub(crate) fn attempt_rest(attempt: &Attempt) -> Vec<u8> {
    let mut out = Vec::with_capacity(24 + attempt.bytes.len());
    put_u64(&mut out, attempt.base_height);
    put_u64(&mut out, attempt.expiry_height);
    put_bytes(&mut out, &attempt.bytes);
    out
}

/// The result of a settled attempt.
pub(crate) fn settled(open: &Open, settled: &Settled) -> Vec<u8> {
    let mut out = Vec::with_capacity(192 + open.transfers.len() * 48);
    out.push(0);
    out.extend_from_slice(&open.attempt.hash.0);
    put_u64(&mut out, open.attempt.nonce);
    put_settled(&mut out, settled);
    put_records(&mut out, open.transfers.iter());
    out
}

/// The result of a withdrawal.
pub(crate) fn cancelled(transfers: &[Transfer]) -> Vec<u8> {
    let mut out = vec![1];
    put_records(&mut out, transfers.iter());
    out
}

/// What a record may have failed of; a number's meaning never changes.
const ERRORS: [&str; 14] = [
    FAILED,
    NO_PROOF,
    "unregistered",
    "bad_amount",
    "self_transfer",
    "sender_balance",
    "sender_unregistered",
    "out_of_gas",
    "contract",
    "panic",
    "action",
    "key_gone",
    CONFLICT,
    CAP_EXCEEDED,
];

/// The number of what a record failed of; 0 is nothing.
pub(crate) fn error_number(error: Option<&str>) -> u8 {
    error.map_or(0, |error| 1 + ERRORS.iter().position(|known| *known == error).unwrap_or(0) as u8)
}

fn put_hash(out: &mut Vec<u8>, hash: Option<Hash>) {
    out.push(hash.is_some().into());
    out.extend_from_slice(hash.as_ref().map_or(&[][..], |hash| &hash.0));
}

/// What makes a replay of a record safe: its first byte is its state. At most 82 bytes until the year 2527.
pub(crate) fn record(entry: &Entry) -> Vec<u8> {
    let Entry { digest, state, tx_hash, attempts, error, created, updated, birth, .. } = entry;
    let mut out = Vec::with_capacity(96);
    out.push(*state as u8);
    out.extend_from_slice(&digest.0);
    put_hash(&mut out, *tx_hash);
    put_u64(&mut out, (*attempts).into());
    put_u64(&mut out, error_number(*error).into());
    put_u64(&mut out, *created);
    put_u64(&mut out, updated.wrapping_sub(*created));
    put_u64(&mut out, *birth);
    out
}

/// The rest of a record.
pub(crate) fn details(details: &Details) -> Vec<u8> {
    let Details { receiver, amount, memo, events } = details;
    let mut out = Vec::with_capacity(96 + events.len() * 40);
    put_bytes(&mut out, receiver.as_bytes());
    put_u128(&mut out, amount.0);
    put_bytes(&mut out, memo.as_ref().map_or("", |memo| memo).as_bytes());
    put_u64(&mut out, events.len() as u64);
    for Event { state, at, tx_hash } in events {
        out.push(*state as u8);
        put_u64(&mut out, *at);
        put_hash(&mut out, *tx_hash);
    }
    out
}

/// Ids, one behind the other.
pub(crate) fn ids<'a>(ids: impl Iterator<Item = &'a TransferId>) -> Vec<u8> {
    ids.flat_map(|id| id.0).collect()
}

/// Records that were accepted at one time.
pub(crate) fn births(unix_ms: u64, born: &[TransferId]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + born.len() * 16);
    put_u64(&mut out, unix_ms);
    out.extend_from_slice(&ids(born.iter()));
    out
}

// Reading.

/// Account ids that were read, so that equal ones share their text.
#[derive(Default)]
pub(crate) struct Names(HashMap<String, Account>);

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], Malformed> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Malformed("a row ends too early"))?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.array::<1>()?[0])
    }

    fn u64(&mut self) -> Result<u64, Malformed> {
        let mut value = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if bits << shift >> shift != bits {
                break;
            }
            value |= bits << shift;
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed("a number has more than 64 bits"))
    }

    fn u128(&mut self) -> Result<u128, Malformed> {
        match self.u8()? {
            0 => Ok(self.u64()?.into()),
            1 => Ok(u128::from_le_bytes(self.array()?)),
            _ => Err(Malformed("an amount is of no known size")),
        }
    }

    fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let count = self.u64()?;
        self.take(usize::try_from(count).unwrap_or(usize::MAX))
    }

    fn text(&mut self) -> Result<&'a str, Malformed> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Malformed("a text is not UTF-8"))
    }

    fn hash(&mut self) -> Result<Hash, Malformed> {
        Ok(Hash(self.array()?))
    }

    fn account(&mut self, names: &mut Names) -> Result<Account, Malformed> {
        let text = self.text()?;
        if let Some(known) = names.0.get(text) {
            return Ok(known.clone());
        }
        let account = Account::new(text).map_err(|_| Malformed("an account id is none"))?;
        names.0.insert(text.to_owned(), account.clone());
        Ok(account)
    }

    fn record(&mut self) -> Result<TransferRecord, Malformed> {
        let id = TransferId(self.array()?);
        let sequence = self.u64()?;
        let phase = u16::try_from(self.u64()?).map_err(|_| Malformed("a phase has more than 16 bits"))?;
        let intended_ns = self.u64()?;
        let sent_ns = intended_ns.wrapping_add(self.u64()?);
        Ok(TransferRecord { id, sequence, phase, intended_ns, sent_ns })
    }

    fn memo(&mut self) -> Result<Option<Memo>, Malformed> {
        match self.text()? {
            "" => Ok(None),
            text => Memo::new(text).map(Some).map_err(|_| Malformed("a memo is none")),
        }
    }

    fn list<T>(&mut self, mut one: impl FnMut(&mut Self) -> Result<T, Malformed>) -> Result<Vec<T>, Malformed> {
        let count = self.u64()?;
        (0..count).map(|_| one(self)).collect()
    }

    fn transfer(&mut self, names: &mut Names) -> Result<Transfer, Malformed> {
        let TransferRecord { id, sequence, phase, intended_ns, sent_ns } = self.record()?;
        let receiver = self.account(names)?;
        let amount = Amount(self.u128()?);
        let memo = self.memo()?;
        Ok(Transfer { id, receiver, amount, memo, sequence, phase, intended_ns, sent_ns })
    }

    fn transfers(&mut self, names: &mut Names) -> Result<Vec<Transfer>, Malformed> {
        self.list(|input| input.transfer(names))
    }

    fn settled(&mut self) -> Result<Settled, Malformed> {
        let settlement = match self.u8()? {
            0 => Settlement::All(match self.u8()? {
                0 => Fate::Finalized,
                1 => Fate::Failed,
                2 => Fate::Requeue,
                3 => Fate::NeedsReview,
                _ => return Err(Malformed("a fate is unknown")),
            }),
            1 => Settlement::Poisoned { index: usize::try_from(self.u64()?).unwrap_or(usize::MAX) },
            _ => return Err(Malformed("a settlement is unknown")),
        };
        let proof = match self.u8()? {
            0 => Proof::None,
            1 => Proof::Executed(Executed {
                receipt: self.hash()?,
                block: self.hash()?,
                block_unix_ns: self.u64()?,
                at_ns: self.u64()?,
            }),
            2 => Proof::Dead(DeathCertificate::Expired { key_nonce: self.u64()?, height: self.u64()? }),
            3 => Proof::Dead(DeathCertificate::Overtaken { height: self.u64()?, by: self.hash()? }),
            4 => Proof::Dead(DeathCertificate::KeyGone { height: self.u64()? }),
            5 => Proof::Dead(DeathCertificate::Absent { to: self.u64()? }),
            _ => return Err(Malformed("a proof is unknown")),
        };
        let failure = match self.u8()? {
            0 => None,
            1 => Some(FailureKind::Unregistered),
            2 => Some(FailureKind::BadAmount),
            3 => Some(FailureKind::SelfTransfer),
            4 => Some(FailureKind::SenderBalance),
            5 => Some(FailureKind::SenderUnregistered),
            6 => Some(FailureKind::OutOfGas),
            7 => Some(FailureKind::Contract(self.text()?.to_owned())),
            8 => Some(FailureKind::Panic(self.text()?.to_owned())),
            9 => Some(FailureKind::Action(self.text()?.to_owned())),
            10 => Some(FailureKind::KeyGone),
            _ => return Err(Malformed("a failure is unknown")),
        };
        Ok(Settled { settlement, proof, failure, at_ns: self.u64()? })
    }

    fn state(&mut self) -> Result<TransferState, Malformed> {
        STATES.get(usize::from(self.u8()?)).copied().ok_or(Malformed("a state is unknown"))
    }

    /// A state, and what its byte says beside it.
    fn flagged_state(&mut self) -> Result<(u8, TransferState), Malformed> {
        let byte = self.u8()?;
        let state = STATES.get(usize::from(byte % 8)).copied().ok_or(Malformed("a state is unknown"))?;
        Ok((byte / 8, state))
    }

    fn u48(&mut self) -> Result<u64, Malformed> {
        let mut bytes = [0; 8];
        bytes[2..].copy_from_slice(self.take(6)?);
        Ok(u64::from_be_bytes(bytes))
    }

    fn maybe_hash(&mut self) -> Result<Option<Hash>, Malformed> {
        match self.u8()? {
            0 => Ok(None),
            1 => self.hash().map(Some),
            _ => Err(Malformed("a hash is neither there nor not")),
        }
    }

    fn ids(&mut self) -> Result<Vec<TransferId>, Malformed> {
        let (ids, rest) = std::mem::take(&mut self.0).as_chunks::<16>();
        self.0 = rest;
        Ok(ids.iter().map(|id| TransferId(*id)).collect())
    }

    fn end<T>(self, value: T) -> Result<T, Malformed> {
        if self.0.is_empty() { Ok(value) } else { Err(Malformed("a row goes on after its end")) }
    }
}

/// What [`queue_row`] wrote.
pub(crate) fn read_queue_row(row: &[u8], names: &mut Names) -> Result<Vec<Transfer>, Malformed> {
    let mut input = Input(row);
    let transfers = input.transfers(names)?;
    if transfers.len() > crate::state::ROW {
        return Err(Malformed("a row of the queue is too long"));
    }
    input.end(transfers)
}

/// What [`element`] wrote.
pub(crate) fn read_element(element: &[u8], names: &mut Names) -> Result<Transfer, Malformed> {
    let mut input = Input(element);
    input.u8()?;
    let transfer = input.transfer(names)?;
    input.end(transfer)
}

/// What [`result_head`] and [`attempt_rest`] wrote.
pub(crate) fn read_attempt_parts(head: &[u8], rest: &[u8]) -> Result<Attempt, Malformed> {
    let (mut head, mut rest) = (Input(head), Input(rest));
    let attempt = Attempt {
        hash: head.hash()?,
        nonce: head.u64()?,
        base_height: rest.u64()?,
        expiry_height: rest.u64()?,
        bytes: Bytes::copy_from_slice(rest.bytes()?),
    };
    head.end(())?;
    rest.end(attempt)
}

/// What [`attempt`] wrote.
pub(crate) fn read_attempt(id: u64, row: &[u8], names: &mut Names) -> Result<(AttemptId, Open), Malformed> {
    let mut input = Input(row);
    let lane = LaneKey { account: input.account(names)?, public_key: input.text()?.into() };
    let attempt = Attempt {
        hash: input.hash()?,
        nonce: input.u64()?,
        base_height: input.u64()?,
        expiry_height: input.u64()?,
        bytes: Bytes::new(),
    };
    let unix_ms = input.u64()?;
    let attempt = Attempt { bytes: Bytes::copy_from_slice(input.bytes()?), ..attempt };
    let transfers: Arc<[Transfer]> = input.transfers(names)?.into();
    input.end((AttemptId(id), Open { lane, attempt, transfers, unix_ms, stored: true }))
}

/// What [`settled`] and [`cancelled`] wrote.
pub(crate) fn read_result(row: &[u8]) -> Result<ResultRow, Malformed> {
    let mut input = Input(row);
    let result = match input.u8()? {
        0 => ResultRow::Settled {
            hash: input.hash()?,
            nonce: input.u64()?,
            settled: input.settled()?,
            transfers: input.list(Input::record)?,
        },
        1 => ResultRow::Cancelled { transfers: input.list(Input::record)? },
        _ => return Err(Malformed("a result is of no known kind")),
    };
    input.end(result)
}

/// Whether the record in this row is in a final state, and has this number.
pub(crate) fn is_final_row(row: &[u8], birth: u64) -> bool {
    let state = row.first().and_then(|state| STATES.get(usize::from(*state)));
    state.is_some_and(|state| is_final(*state))
        && read_record(row, None, &mut Names::default()).is_ok_and(|entry| entry.birth == birth)
}

/// What [`record`] and [`details`] wrote.
pub(crate) fn read_record(row: &[u8], rest: Option<&[u8]>, names: &mut Names) -> Result<Entry, Malformed> {
    let mut input = Input(row);
    let state = input.state()?;
    let digest = Digest(input.array()?);
    let tx_hash = input.maybe_hash()?;
    let attempts = u32::try_from(input.u64()?).map_err(|_| Malformed("a record has too many attempts"))?;
    let error = read_error(input.u64()?)?;
    let created = input.u64()?;
    let updated = created.wrapping_add(input.u64()?);
    let birth = input.u64()?;
    let details = rest.map(|rest| read_details(rest, names)).transpose()?.map(Box::new);
    input.end(Entry { digest, state, tx_hash, attempts, error, created, updated, birth, details, row: 0 })
}

/// What [`details`] wrote.
pub(crate) fn read_details(row: &[u8], names: &mut Names) -> Result<Details, Malformed> {
    let mut input = Input(row);
    let receiver = input.account(names)?;
    let amount = Amount(input.u128()?);
    let memo = input.memo()?;
    let events =
        input.list(|input| Ok(Event { state: input.state()?, at: input.u64()?, tx_hash: input.maybe_hash()? }))?;
    if events.len() > MAX_EVENTS {
        return Err(Malformed("a record has too many events"));
    }
    input.end(Details { receiver, amount, memo, events })
}

/// A record as the library of Redis tells of it: its id, numbers of fixed width, the digest, the hash if it has one, and then
/// the details if they are kept, the payment as an element ends and the events, which leave out the hash that was told last.
pub(crate) fn read_told(told: &[u8], names: &mut Names) -> Result<Record, Malformed> {
    let mut input = Input(told);
    let id = TransferId(input.array()?);
    let (has_hash, state) = input.flagged_state()?;
    let error = input.u8()?;
    let attempts = u32::from_be_bytes(input.array()?);
    let (created, updated) = (input.u48()?, input.u48()?);
    let _index = input.take(4)?;
    let count = input.u8()?;
    let size = u16::from_be_bytes(input.array()?);
    let _digest = input.take(16)?;
    let tx_hash = if has_hash == 1 { Some(input.hash()?) } else { None };
    let details = match size {
        0 => None,
        _ => {
            let (receiver, amount, memo) = (input.account(names)?, Amount(input.u128()?), input.memo()?);
            let mut last = None;
            let mut events = Vec::with_capacity(count.into());
            for _ in 0..count {
                let (kind, state) = input.flagged_state()?;
                let at = input.u48()?;
                let tx_hash = match kind {
                    0 => None,
                    1 => {
                        last = Some(input.hash()?);
                        last
                    }
                    _ => last,
                };
                events.push(Event { state, at, tx_hash });
            }
            Some(Box::new(Details { receiver, amount, memo, events }))
        }
    };
    let finalized = is_final(state).then_some(updated);
    let error = read_error(error.into())?;
    input.end(Record { id, state, tx_hash, attempts, error, created, updated, finalized, details })
}

fn read_error(number: u64) -> Result<Option<&'static str>, Malformed> {
    match number {
        0 => Ok(None),
        number => {
            let known = ERRORS.get(usize::try_from(number - 1).unwrap_or(usize::MAX));
            Ok(Some(*known.ok_or(Malformed("an error is unknown"))?))
        }
    }
}

/// What [`ids`] wrote.
pub(crate) fn read_ids(row: &[u8]) -> Result<Vec<TransferId>, Malformed> {
    let mut input = Input(row);
    let ids = input.ids()?;
    input.end(ids)
}

/// What [`births`] wrote.
pub(crate) fn read_births(row: &[u8]) -> Result<(u64, Vec<TransferId>), Malformed> {
    let mut input = Input(row);
    let at = input.u64()?;
    let ids = input.ids()?;
    input.end((at, ids))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn transfers() -> impl Strategy<Value = Vec<Transfer>> {
        let number = || prop_oneof![0u64..300, any::<u64>()];
        let amount = prop_oneof![any::<u64>().prop_map(u128::from), any::<u128>()];
        let memo = || prop::option::of("[ -~]{1,40}".prop_map(|text| Memo::new(&text).expect("valid")));
        let transfer = (any::<[u8; 16]>(), "[a-z]{2,60}", amount, memo(), number(), any::<u16>(), number(), number())
            .prop_map(|(id, receiver, amount, memo, sequence, phase, intended_ns, sent_ns)| Transfer {
                id: TransferId(id),
                receiver: Account::new(&receiver).expect("valid"),
                amount: Amount(amount),
                memo,
                sequence,
                phase,
                intended_ns,
                sent_ns,
            });
        prop::collection::vec(transfer, 0..20)
    }

    fn settleds() -> impl Strategy<Value = Settled> {
        let hash = || any::<[u8; 32]>().prop_map(Hash);
        let settlement = prop_oneof![
            Just(Settlement::All(Fate::Finalized)),
            Just(Settlement::All(Fate::Failed)),
            Just(Settlement::All(Fate::Requeue)),
            Just(Settlement::All(Fate::NeedsReview)),
            (0usize..200).prop_map(|index| Settlement::Poisoned { index }),
        ];
        let proof = prop_oneof![
            Just(Proof::None),
            (hash(), hash(), any::<u64>(), any::<u64>()).prop_map(|(receipt, block, block_unix_ns, at_ns)| {
                Proof::Executed(Executed { receipt, block, block_unix_ns, at_ns })
            }),
            any::<(u64, u64)>()
                .prop_map(|(key_nonce, height)| Proof::Dead(DeathCertificate::Expired { key_nonce, height })),
            (any::<u64>(), hash()).prop_map(|(height, by)| Proof::Dead(DeathCertificate::Overtaken { height, by })),
            any::<u64>().prop_map(|height| Proof::Dead(DeathCertificate::KeyGone { height })),
            any::<u64>().prop_map(|to| Proof::Dead(DeathCertificate::Absent { to })),
        ];
        let failure = prop_oneof![
            Just(None),
            Just(Some(FailureKind::Unregistered)),
            Just(Some(FailureKind::BadAmount)),
            Just(Some(FailureKind::SelfTransfer)),
            Just(Some(FailureKind::SenderBalance)),
            Just(Some(FailureKind::SenderUnregistered)),
            Just(Some(FailureKind::OutOfGas)),
            Just(Some(FailureKind::KeyGone)),
            ".*".prop_map(|text| Some(FailureKind::Contract(text))),
            ".*".prop_map(|text| Some(FailureKind::Panic(text))),
            ".*".prop_map(|text| Some(FailureKind::Action(text))),
        ];
        (settlement, proof, failure, any::<u64>()).prop_map(|(settlement, proof, failure, at_ns)| Settled {
            settlement,
            proof,
            failure,
            at_ns,
        })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(
            transfers in transfers(), settled in settleds(), numbers in any::<[u64; 4]>(), hash in any::<[u8; 32]>(),
            bytes in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            let names = &mut Names::default();
            prop_assert_eq!(&read_queue_row(&queue_row(transfers.iter()), names).expect("read"), &transfers);

            let open = Open {
                lane: LaneKey {
                    account: Account::new("bench.near").expect("valid"),
                    public_key: "ed25519:1".into(),
                },
                attempt: Attempt {
                    hash: Hash(hash),
                    bytes: bytes.into(),
                    nonce: numbers[0],
                    base_height: numbers[1],
                    expiry_height: numbers[2],
                },
                transfers: transfers.clone().into(),
                unix_ms: numbers[1],
                stored: false,
            };
            let row = attempt(&open);
            let (id, read) = read_attempt(numbers[3], &row, names).expect("read");
            prop_assert_eq!(id, AttemptId(numbers[3]));
            prop_assert_eq!((read.lane, read.attempt, read.transfers, read.unix_ms),
                (open.lane.clone(), open.attempt.clone(), open.transfers.clone(), open.unix_ms));

            let records: Vec<TransferRecord> = transfers.iter().map(Into::into).collect();
            let row = super::settled(&open, &settled);
            prop_assert_eq!(super::result(&Hash(hash), numbers[0], &settled, &records), row.clone());
            let result = ResultRow::Settled {
                hash: Hash(hash), nonce: numbers[0], settled, transfers: records.clone(),
            };
            prop_assert_eq!(read_result(&row).expect("read"), result);
            let parts = (result_head(&Hash(hash), numbers[0]), attempt_rest(&open.attempt));
            prop_assert_eq!(read_attempt_parts(&parts.0, &parts.1).expect("read"), open.attempt);
            for (transfer, submitted) in transfers.iter().zip([false, true].into_iter().cycle()) {
                let element = element(transfer, submitted);
                prop_assert_eq!(&read_element(&element, names).expect("read"), transfer);
                let mut record = Vec::new();
                put_record(&mut record, &transfer.into());
                prop_assert_eq!(element[0] >= 128, submitted);
                prop_assert_eq!(&element[1..=usize::from(element[0] & 127)], &record[..]);
                prop_assert!(element[1 + record.len()..].starts_with(&payment_start(&transfer.receiver)));
            }
            let cancelled = read_result(&cancelled(&transfers)).expect("read");
            prop_assert_eq!(cancelled, ResultRow::Cancelled { transfers: records });
        }

        #[test]
        fn records_are_read_back(
            transfers in transfers(), states in prop::collection::vec((0usize..7, any::<u64>(), any::<Option<[u8; 32]>>()), 1..32),
            error in prop::option::of(0usize..ERRORS.len()), attempts in any::<u32>(), times in any::<[u64; 3]>(),
        ) {
            let ids: Vec<TransferId> = transfers.iter().map(|transfer| transfer.id).collect();
            prop_assert_eq!(read_ids(&super::ids(ids.iter())).expect("read"), ids.clone());
            prop_assert_eq!(read_births(&births(times[0], &ids)).expect("read"), (times[0], ids));
            for transfer in transfers {
                let events: Vec<_> = states
                    .iter()
                    .map(|(state, at, hash)| Event { state: STATES[*state], at: *at, tx_hash: hash.map(Hash) })
                    .collect();
                let entry = Entry {
                    digest: Digest(transfer.id.0),
                    state: STATES[states[0].0],
                    tx_hash: states[0].2.map(Hash),
                    attempts,
                    error: error.map(|error| ERRORS[error]),
                    created: times[0],
                    updated: times[1],
                    birth: times[2],
                    details: Some(Box::new(Details {
                        receiver: transfer.receiver, amount: transfer.amount, memo: transfer.memo, events,
                    })),
                    row: 0,
                };
                let row = record(&entry);
                let rest = entry.details.as_deref().map(super::details);
                let names = &mut Names::default();
                prop_assert_eq!(read_record(&row, rest.as_deref(), names).expect("read"), entry.clone());
                prop_assert_eq!(is_final_row(&row, times[2]), is_final(entry.state));
                prop_assert!(!is_final_row(&row, times[2] ^ 1), "it is another's");
                prop_assert_eq!(read_record(&row, None, names).expect("read"), Entry { details: None, ..entry });
            }
        }

        /// Whatever a row was made into, reading it ends, and takes no more memory than the row's own size warrants.
        #[test]
        fn no_bytes_make_reading_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            _ = read_queue_row(&bytes, &mut Names::default());
            _ = read_attempt(1, &bytes, &mut Names::default());
            _ = read_result(&bytes);
            _ = read_record(&bytes, Some(&bytes), &mut Names::default());
            _ = read_details(&bytes, &mut Names::default());
            _ = read_births(&bytes);
            _ = read_ids(&bytes);
            _ = read_element(&bytes, &mut Names::default());
            _ = read_told(&bytes, &mut Names::default());
            _ = read_attempt_parts(&bytes, &bytes);
        }
    }
}
