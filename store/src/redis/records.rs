//! The records of a run in Redis: what the steps of `records.lua` are asked, and what their answers say.

use super::{
    PAGE, RedisStore, decimal, random_id,
    step::{Odd, Parts, Step},
    writer::Kind,
};
use crate::{
    Accepted, Census, Changed, Counts, Cursor, Depth, Filter, Page, Recent, Record, Records, StoreError, Submission,
    TransferRecord, Windows,
    codec::{self, Names},
    state::{FAILED, NO_PROOF},
};
use nearbench_core::{
    Hash, TransferId, TransferState,
    outcome::FailureKind,
    settle::{Fate, Settled},
};
use redis::Value;
use std::time::Duration;

/// Records in one step that reads them, at most.
const FOUND: usize = 250;
/// Into so many times the window of details is cut, and that of idempotency: the fewer, the more is kept beyond its window,
/// and the more, the more keys there are, or are asked for.
const LEAVES: u64 = 1440;
const SLICES: u64 = 7;

/// How long records are kept, and what times are cut into; milliseconds.
#[derive(Clone, Copy)]
pub(crate) struct Kept {
    idempotency: u64,
    details: u64,
    slice: u64,
    leaf: u64,
}

impl Kept {
    pub(crate) fn for_windows(windows: Windows) -> Self {
        let millis = |window: Duration| u64::try_from(window.as_millis()).unwrap_or(u64::MAX).clamp(1, 1 << 45);
        let details = millis(windows.details);
        let idempotency = millis(windows.idempotency).max(details);
        let leaf = details.div_ceil(LEAVES);
        Self { idempotency, details, slice: idempotency.div_ceil(SLICES).next_multiple_of(leaf), leaf }
    }

    pub(crate) fn args(self) -> [Vec<u8>; 4] {
        [self.idempotency, self.details, self.slice, self.leaf].map(decimal)
    }
}

/// The state in which an attempt's transfers of a fate are, and the number of what they failed of.
pub(crate) fn end(fate: Fate, settled: &Settled) -> (TransferState, u8) {
    let (state, error) = match fate {
        Fate::Finalized => (TransferState::Finalized, None),
        Fate::Failed => (TransferState::Failed, Some(settled.failure.as_ref().map_or(FAILED, FailureKind::label))),
        Fate::Requeue => (TransferState::Queued, None),
        Fate::NeedsReview => (TransferState::NeedsReview, Some(NO_PROOF)),
    };
    (state, codec::error_number(error))
}

fn read_accepted(list: impl Iterator<Item = Value>, at: u64, names: &mut Names) -> Result<Vec<Accepted>, Odd> {
    list.map(|answer| {
        let Value::BulkString(answer) = answer else { return Err(Odd) };
        match answer.split_first().ok_or(Odd)? {
            (b'N', _) => Ok(Accepted::New { at }),
            (b'C', _) => Ok(Accepted::Conflict),
            (b'F', _) => Ok(Accepted::Full),
            (b'O', _) => Ok(Accepted::OverCap),
            (b'R', told) => Ok(Accepted::Replayed(Box::new(codec::read_told(told, names).map_err(|_| Odd)?))),
            _ => Err(Odd),
        }
    })
    .collect()
}

fn read_records(list: impl Iterator<Item = Value>) -> Result<Vec<Option<Record>>, Odd> {
    let names = &mut Names::default();
    list.map(|told| match told {
        Value::BulkString(told) if told.is_empty() => Ok(None),
        Value::BulkString(told) => codec::read_told(&told, names).map(Some).map_err(|_| Odd),
        _ => Err(Odd),
    })
    .collect()
}

impl Records for RedisStore {
    async fn accept(&self, submissions: Vec<Submission>, max_depth: u64) -> Result<Vec<Accepted>, StoreError> {
        let (mut accepted, names) = (Vec::with_capacity(submissions.len()), &mut Names::default());
        // More than fit one step are several: each takes little of the server's time.
        for some in submissions.chunks(Kind::Accept.most()) {
            let args = some
                .iter()
                .flat_map(|Submission { transfer, digest, budget }| {
                    let (client, cap) = match budget {
                        Some(budget) => {
                            (budget.client.as_bytes().to_vec(), budget.daily_cap.0.to_string().into_bytes())
                        }
                        None => Default::default(),
                    };
                    let amount = transfer.amount.0.to_string().into_bytes();
                    [codec::element(transfer, true), digest.0.to_vec(), client, cap, amount]
                })
                .collect();
            let mut answers = self.add(Kind::Accept, some.len(), args, max_depth).await?;
            let mut read = || {
                let at = answers.number()?;
                read_accepted(answers.by_ref(), at, names)
            };
            let read = read().map_err(|Odd| self.core.odd())?;
            if read.len() != some.len() {
                return Err(self.core.odd());
            }
            accepted.extend(read);
        }
        Ok(accepted)
    }

    async fn find(&self, ids: &[TransferId]) -> Result<Vec<Option<Record>>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for some in ids.chunks(FOUND) {
            let step = Step { name: "find", args: some.iter().map(|id| id.0.to_vec()).collect() };
            let mut answer = self.core.prompt(self.patience, &step).await?;
            found.extend(answer.rest.list().and_then(read_records).map_err(|Odd| self.core.odd())?);
        }
        Ok(found)
    }

    async fn list(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> Result<Page, StoreError> {
        let args: [&[u8]; 5] = [
            &decimal(limit.min(FOUND) as u64),
            &before.map(|cursor| decimal(cursor.0)).unwrap_or_default(),
            &filter.receiver.as_ref().map(codec::payment_start).unwrap_or_default(),
            &filter.state.map(|state| decimal(state as u64)).unwrap_or_default(),
            filter.tx_hash.as_ref().map_or(&[], |hash| &hash.0),
        ];
        let mut answer = self.prompt("list", args).await?;
        let mut read = || {
            let next = answer.rest.bytes()?;
            let next = match &*next {
                b"" => None,
                next => Some(Cursor(std::str::from_utf8(next).map_err(|_| Odd)?.parse().map_err(|_| Odd)?)),
            };
            Ok(Page { records: read_records(answer.rest.list()?)?.into_iter().flatten().collect(), next })
        };
        read().map_err(|Odd| self.core.odd())
    }

    async fn transaction(&self, hash: Hash) -> Result<Vec<TransferId>, StoreError> {
        let mut answer = self.prompt("transaction", [&hash.0]).await?;
        let ids = answer.rest.bytes().map_err(|Odd| self.core.odd())?;
        codec::read_ids(&ids).map_err(|_| self.core.odd())
    }

    async fn cancel(&self, id: TransferId) -> Result<Changed, StoreError> {
        self.changed(Step::new("cancel", [&id.0, &random_id().to_be_bytes()])).await
    }

    async fn retry(&self, id: TransferId, now_ns: u64) -> Result<Changed, StoreError> {
        let record = TransferRecord { id, sequence: u64::MAX, phase: 0, intended_ns: now_ns, sent_ns: now_ns };
        let start = codec::element_start(&record, true);
        self.changed(Step::new("retry", [&id.0, &random_id().to_be_bytes(), &start])).await
    }

    async fn census(&self) -> Result<Census, StoreError> {
        let mut rest = self.prompt("census", []).await?.rest;
        let mut read = || {
            let (mut counts, mut list) = (Counts::default(), rest.list()?);
            for count in &mut counts.0 {
                *count = list.number()?;
            }
            let depth = Depth { queued: rest.number()?, claimed: rest.number()?, open: rest.number()? };
            let oldest_queued = std::str::from_utf8(&rest.bytes()?).map_err(|_| Odd)?.parse().ok();
            let now = rest.number()?;
            let (accepted, finalized, failed) = (rest.number()?, rest.number()?, rest.number()?);
            let mut recent = Recent { accepted, finalized, failed, ..Recent::default() };
            let mut list = rest.list()?;
            while list.len() > 0 {
                let (bucket, count) = (list.number()?, list.number()?);
                let bucket = recent.latencies.get_mut(bucket as usize).ok_or(Odd)?;
                *bucket += u32::try_from(count).unwrap_or(u32::MAX);
            }
            Ok(Census { counts, depth, oldest_queued, now, recent })
        };
        read().map_err(|Odd| self.core.odd())
    }
}

impl RedisStore {
    async fn changed(&self, step: Step) -> Result<Changed, StoreError> {
        let mut answer = self.durable(step, true).await?;
        let mut record = || {
            let told = answer.rest.bytes()?;
            codec::read_told(&told, &mut Names::default()).map(Box::new).map_err(|_| Odd)
        };
        match &*answer.status {
            b"OK" => record().map(Changed::Done).map_err(|Odd| self.core.odd()),
            b"REFUSED" => record().map(Changed::Refused).map_err(|Odd| self.core.odd()),
            b"UNKNOWN" => Ok(Changed::Unknown),
            b"RESTORED" => Err(self.core.restored()),
            _ => Err(self.core.odd()),
        }
    }

    /// Removes the records of a run that has any. Which keys they have, only the server knows.
    pub(crate) async fn forget_records(&self) -> Result<(), StoreError> {
        let counts = self.core.key(b"counts");
        if self.core.command_of_redis(self.patience, redis::cmd("EXISTS").arg(&counts)).await? == Value::Int(0) {
            return Ok(());
        }
        let mut pattern = Vec::new();
        for byte in &self.core.prefix {
            if b"*?[]^-\\".contains(byte) {
                pattern.push(b'\\');
            }
            pattern.push(*byte);
        }
        pattern.extend_from_slice(b"[rdt]:*");
        let mut cursor = b"0".to_vec();
        loop {
            let mut cmd = redis::cmd("SCAN");
            cmd.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(PAGE);
            let Value::Array(parts) = self.core.command_of_redis(self.patience, &cmd).await? else {
                return Err(self.core.odd());
            };
            let mut parts = parts.into_iter();
            let mut read = || Ok((parts.bytes()?, parts.list()?));
            let (next, keys) = read().map_err(|Odd| self.core.odd())?;
            let keys: Vec<_> =
                keys.filter_map(|key| if let Value::BulkString(key) = key { Some(key) } else { None }).collect();
            if !keys.is_empty() {
                self.core.command_of_redis(self.patience, redis::cmd("UNLINK").arg(keys)).await?;
            }
            if next == b"0" {
                break;
            }
            cursor = next;
        }
        let names = "live slices leaves spent counts";
        let keys: Vec<_> = names.split_whitespace().map(|name| self.core.key(name.as_bytes())).collect();
        self.core.command_of_redis(self.patience, redis::cmd("UNLINK").arg(keys)).await.map(drop)
    }
}
