//! The records of a store in Redis: what `records.lua` keeps, read.

use super::{
    PAGE, RedisStore, decimal, random_id,
    step::{Answer, Odd, Parts, Step},
};
use crate::{
    Accepted, Census, Changed, Counts, Cursor, Depth, Details, Event, Filter, Page, Record, Records, StoreError,
    Submission,
    codec::{self, Names},
    memory::LOOKS,
    recent::Recent,
    records::{STATES, is_final},
};
use nearbench_core::{Hash, Transfer, TransferId, TransferState};
use redis::Value;

/// Submissions in one step, at most.
const MOST: usize = 1000;
/// Bytes of an event.
const EVENT_BYTES: usize = 38;

/// Bytes of fixed length, one part after another; numbers are big-endian.
struct Packed<'a>(&'a [u8]);

impl<'a> Packed<'a> {
    fn bytes(&mut self, count: usize) -> Result<&'a [u8], Odd> {
        let (head, rest) = self.0.split_at_checked(count).ok_or(Odd)?;
        self.0 = rest;
        Ok(head)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], Odd> {
        self.bytes(N)?.try_into().map_err(|_| Odd)
    }

    fn number(&mut self, bytes: usize) -> Result<u64, Odd> {
        Ok(self.bytes(bytes)?.iter().fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn hash(&mut self) -> Result<Option<Hash>, Odd> {
        let hash = self.array()?;
        Ok((hash != [0; 32]).then_some(Hash(hash)))
    }
}

fn state(number: u64) -> Result<TransferState, Odd> {
    STATES.get(number as usize).copied().ok_or(Odd)
}

/// An entry, without its details. `epoch` is when the store began, in Unix milliseconds.
fn read_entry(id: TransferId, text: &[u8], epoch: u64) -> Result<Record, Odd> {
    let mut entry = Packed(text);
    // The digest is the library's to compare.
    entry.bytes(16)?;
    let status = entry.number(1)?;
    let attempts = entry.number(1)? as u32;
    let created = epoch + entry.number(5)?;
    let updated = created + entry.number(4)?;
    // Its birth.
    entry.number(5)?;
    let state = state(status / 32)?;
    Ok(Record {
        id,
        state,
        tx_hash: entry.hash()?,
        attempts,
        error: codec::error_of(status % 32).map_err(|_| Odd)?,
        created,
        updated,
        finalized: is_final(state).then_some(updated),
        details: None,
    })
}

/// What is kept of a transfer behind its entry.
fn read_details(text: &[u8], epoch: u64, names: &mut Names) -> Result<Details, Odd> {
    let mut details = Packed(text);
    let length = details.number(2)? as usize;
    let Transfer { receiver, amount, memo, .. } =
        codec::read_element(details.bytes(length)?, names).map_err(|_| Odd)?;
    let event = |bytes| {
        let mut event = Packed(bytes);
        Ok(Event { state: state(event.number(1)?)?, at: epoch + event.number(5)?, tx_hash: event.hash()? })
    };
    let events = details.0.chunks(EVENT_BYTES).map(event).collect::<Result<_, Odd>>()?;
    Ok(Details { receiver, amount, memo, events })
}

/// A record as the library gives it: an entry and details, either of which may be empty; or nothing.
fn read_record(value: Value, id: TransferId, epoch: u64, names: &mut Names) -> Result<Option<Record>, Odd> {
    let Value::Array(parts) = value else { return Ok(None) };
    let mut parts = parts.into_iter();
    let mut record = read_entry(id, &parts.bytes()?, epoch)?;
    let details = parts.bytes()?;
    if !details.is_empty() {
        record.details = Some(Box::new(read_details(&details, epoch, names)?));
    }
    Ok(Some(record))
}

/// Pairs of a hash, as numbers.
fn numbers(list: impl Iterator<Item = Value>) -> Result<Vec<u64>, Odd> {
    let mut list = list.collect::<Vec<_>>().into_iter();
    let mut all = Vec::with_capacity(list.len());
    while list.len() > 0 {
        all.push(list.number()?);
    }
    Ok(all)
}

impl RedisStore {
    /// Removes the records that have an end.
    pub(super) async fn forget_ended(&self) -> Result<(), StoreError> {
        let mut cursor = b"0".to_vec();
        loop {
            let mut cmd = redis::cmd("SCAN");
            // A cluster's node has the run's only slot, and others' keys.
            let pattern = [escaped(&self.core.key(b"ended:")), b"*".to_vec()].concat();
            cmd.arg(&cursor).arg("MATCH").arg(pattern).arg("COUNT").arg(PAGE);
            let Value::Array(parts) = self.core.command_of_redis(self.patience, &cmd).await? else {
                return Err(self.core.odd());
            };
            let mut parts = parts.into_iter();
            let mut read = || Ok((parts.bytes()?, parts.list()?));
            let (next, keys) = read().map_err(|Odd| self.core.odd())?;
            let keys: Vec<_> = keys.collect();
            if !keys.is_empty() {
                let mut unlink = redis::cmd("UNLINK");
                for key in keys {
                    let Value::BulkString(key) = key else { return Err(self.core.odd()) };
                    unlink.arg(key);
                }
                self.command(&unlink).await?;
            }
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }

    async fn command(&self, cmd: &redis::Cmd) -> Result<Value, StoreError> {
        self.core.command_of_redis(self.patience, cmd).await
    }

    async fn accept_some(&self, submissions: &[Submission], max_depth: u64) -> Result<Vec<Accepted>, StoreError> {
        let head = [random_id().to_be_bytes().to_vec(), decimal(max_depth.min(1 << 53))];
        let args = submissions.iter().flat_map(|submission| {
            let Submission { transfer, digest, budget } = submission;
            let (client, cap) = match budget {
                Some(budget) => (budget.client.as_bytes().to_vec(), budget.daily_cap.0),
                None => (Vec::new(), 0),
            };
            let [cap, amount] = [cap, transfer.amount.0].map(|amount| amount.to_string().into_bytes());
            [codec::submitted_element(transfer), digest.0.to_vec(), client, cap, amount]
        });
        let step = Step { name: "accept", args: head.into_iter().chain(args).collect() };
        let mut answer = self.durable(step, true).await?;
        if answer.status == b"RESTORED" {
            return Err(self.core.restored());
        }
        let names = &mut Names::default();
        let mut read = || {
            let (epoch, at, letters) = (answer.rest.number()?, answer.rest.number()?, answer.rest.bytes()?);
            let mut replayed = answer.rest.list()?;
            let one = |(letter, submission): (&u8, &Submission)| {
                Ok(match letter {
                    b'N' => Accepted::New { at },
                    b'C' => Accepted::Conflict,
                    b'F' => Accepted::Full,
                    b'O' => Accepted::OverCap,
                    _ => {
                        let record = replayed.next().ok_or(Odd)?;
                        let record = read_record(record, submission.transfer.id, epoch, names)?;
                        Accepted::Replayed(Box::new(record.ok_or(Odd)?))
                    }
                })
            };
            letters.iter().zip(submissions).map(one).collect::<Result<Vec<_>, Odd>>()
        };
        read().map_err(|Odd| self.core.odd())
    }

    /// What became of a wish to change a transfer: how it stood when it was done, and how it stands.
    fn changed(&self, id: TransferId, mut answer: Answer) -> Result<Changed, StoreError> {
        match &*answer.status {
            b"UNKNOWN" => return Ok(Changed::Unknown),
            b"RESTORED" => return Err(self.core.restored()),
            _ => {}
        }
        let names = &mut Names::default();
        let mut read = || {
            let (epoch, mut records) = (answer.rest.number()?, answer.rest.list()?);
            let mut one = || read_record(records.next().ok_or(Odd)?, id, epoch, names);
            let (then, now) = (one()?, one()?);
            Ok(now.or(then))
        };
        let Some(record) = read().map_err(|Odd| self.core.odd())?.map(Box::new) else { return Ok(Changed::Unknown) };
        Ok(if answer.status == b"OK" { Changed::Done(record) } else { Changed::Refused(record) })
    }

    async fn find_some(&self, ids: &[TransferId]) -> Result<Vec<Option<Record>>, StoreError> {
        let step = Step { name: "find", args: ids.iter().map(|id| id.0.to_vec()).collect() };
        let mut answer = self.core.prompt(self.patience, &step).await?;
        let names = &mut Names::default();
        let mut read = || {
            let epoch = answer.rest.number()?;
            let records = answer.rest.list()?.zip(ids);
            records.map(|(record, id)| read_record(record, *id, epoch, names)).collect::<Result<Vec<_>, Odd>>()
        };
        read().map_err(|Odd| self.core.odd())
    }

    /// A page of the library: each birth and its record, and where to go on.
    async fn page(
        &self,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<(Vec<(u64, Record)>, Option<Cursor>), StoreError> {
        let from = before.map_or_else(Vec::new, |Cursor(before)| decimal(before));
        let mut answer = self.prompt("list", [&from, &decimal(limit as u64)]).await?;
        let names = &mut Names::default();
        let mut read = || {
            let epoch = answer.rest.number()?;
            let one = |value| {
                let Value::Array(parts) = value else { return Err(Odd) };
                let mut parts = parts.into_iter();
                let (birth, id) = (parts.number()?, TransferId(parts.bytes()?.try_into().map_err(|_| Odd)?));
                let record = read_record(Value::Array(parts.collect()), id, epoch, names)?;
                Ok((birth, record.ok_or(Odd)?))
            };
            let records = answer.rest.list()?.map(one).collect::<Result<_, Odd>>()?;
            let next = match answer.rest.next() {
                Some(Value::Int(next)) => Some(Cursor(next as u64)),
                _ => None,
            };
            Ok((records, next))
        };
        read().map_err(|Odd| self.core.odd())
    }
}

/// A key in a pattern that it alone matches.
fn escaped(key: &[u8]) -> Vec<u8> {
    key.iter().flat_map(|byte| if b"*?[]\\".contains(byte) { vec![b'\\', *byte] } else { vec![*byte] }).collect()
}

impl Records for RedisStore {
    async fn accept(&self, submissions: Vec<Submission>, max_depth: u64) -> Result<Vec<Accepted>, StoreError> {
        let mut accepted = Vec::with_capacity(submissions.len());
        // More than fit one step are several: each takes little of the server's time.
        for some in submissions.chunks(MOST) {
            accepted.extend(self.accept_some(some, max_depth).await?);
        }
        Ok(accepted)
    }

    async fn find(&self, ids: &[TransferId]) -> Result<Vec<Option<Record>>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(PAGE) {
            found.extend(self.find_some(some).await?);
        }
        Ok(found)
    }

    /// Read in pages, so each is of its own moment where others go on meanwhile.
    async fn list(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        let (mut records, mut before) = (Vec::new(), before);
        for _ in 0..LOOKS.div_ceil(PAGE) {
            let (page, next) = self.page(before, limit.clamp(1, PAGE)).await?;
            for (birth, record) in page {
                if filter.takes(&record) {
                    records.push(record);
                    if records.len() == limit {
                        let next = if birth == 0 { None } else { Some(Cursor(birth)) };
                        return Ok(Page { records, next });
                    }
                }
            }
            before = next;
            if next.is_none() {
                break;
            }
        }
        Ok(Page { records, next: before })
    }

    async fn transaction(&self, hash: Hash) -> Result<Vec<TransferId>, StoreError> {
        let mut answer = self.prompt("transaction", [&hash.0[..]]).await?;
        let ids = answer.rest.bytes().map_err(|Odd| self.core.odd())?;
        ids.chunks(16).map(|id| id.try_into().map(TransferId).map_err(|_| self.core.odd())).collect()
    }

    async fn cancel(&self, id: TransferId) -> Result<Changed, StoreError> {
        let step = Step::new("cancel", [&random_id().to_be_bytes()[..], &id.0]);
        self.changed(id, self.durable(step, true).await?)
    }

    async fn retry(&self, id: TransferId, now_ns: u64) -> Result<Changed, StoreError> {
        let Some(record) = self.find_some(&[id]).await?.into_iter().next().flatten() else {
            return Ok(Changed::Unknown);
        };
        let Some(details) = record.details.as_deref().filter(|_| record.state == TransferState::Failed) else {
            return Ok(Changed::Refused(Box::new(record)));
        };
        let transfer = Transfer {
            id,
            receiver: details.receiver.clone(),
            amount: details.amount,
            memo: details.memo.clone(),
            sequence: u64::MAX,
            phase: 0,
            intended_ns: now_ns,
            sent_ns: now_ns,
        };
        let element = codec::submitted_element(&transfer);
        let step = Step::new("retry", [&random_id().to_be_bytes()[..], &id.0, &element]);
        self.changed(id, self.durable(step, true).await?)
    }

    async fn census(&self) -> Result<Census, StoreError> {
        let mut answer = self.prompt("census", []).await?;
        let mut read = || {
            let mut counts = Counts::default();
            for pair in numbers(answer.rest.list()?)?.chunks(2) {
                let &[state, count] = pair else { return Err(Odd) };
                *counts.0.get_mut(state as usize).ok_or(Odd)? = count;
            }
            let depth =
                Depth { queued: answer.rest.number()?, claimed: answer.rest.number()?, open: answer.rest.number()? };
            let oldest_queued = match answer.rest.next() {
                Some(Value::Int(created)) => Some(created as u64),
                _ => None,
            };
            let now = answer.rest.number()?;
            let sums = numbers(answer.rest.list()?)?;
            let &[accepted, finalized, failed] = &sums[..] else { return Err(Odd) };
            let mut recent = Recent { accepted, finalized, failed, ..Recent::default() };
            for pair in numbers(answer.rest.list()?)?.chunks(2) {
                let &[bucket, count] = pair else { return Err(Odd) };
                *recent.latencies.get_mut(bucket as usize).ok_or(Odd)? += count as u32;
            }
            Ok(Census { counts, depth, oldest_queued, now, recent })
        };
        read().map_err(|Odd| self.core.odd())
    }
}
