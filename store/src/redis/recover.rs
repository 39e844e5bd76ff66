//! What a worker needs to make a store whole again that may lack what it had confirmed: one of them at a time, it fences
//! the lanes, reads the chain, and brings back what the store does not know of.
//!
//! Meanwhile nobody pushes, claims or commits transfers; leases, fences and settlements go on. Claims end when a recovery
//! begins: nothing of them was stored. What was found on chain is left out of everything that comes back or in later.

use super::{
    Durability, PAGE, RedisStore, VERSION,
    connect::Live,
    decimal, lane_id, micros, read_lane, read_open, records,
    step::{Odd, Parts, Step},
};
use crate::codec::Names;
use crate::{Attempt, AttemptId, Lane, LaneKey, LeaseId, StoreError, TransferRecord, codec};
use nearbench_core::{
    Hash, Nonce, Transfer, TransferId,
    settle::{Fate, Settled, Settlement},
};
use redis::Value;
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// How long a recovery belongs to who began it; it renews by [`RedisStore::recover`].
pub const RECOVERY_TTL: Duration = Duration::from_secs(20);

/// Whose a recovery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recovery {
    /// There is nothing to recover.
    Whole,
    /// Ours, from now on for the time that was asked for.
    Ours,
    /// Another's, for this long unless it renews.
    Others(Duration),
}

/// A lane, whoever holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LaneStanding {
    /// Which.
    pub lane: LaneKey,
    /// The highest nonce that an attempt used, as far as the store knows.
    pub used: Nonce,
    /// The highest nonce that was reserved in it, as far as the store knows.
    pub high_water: Nonce,
    /// What is left of its holder's lease; zero where nobody holds it.
    pub held_for: Duration,
    /// Attempts that were stored and not settled, lowest nonce first.
    pub open: Vec<(AttemptId, Attempt, Arc<[Transfer]>)>,
}

/// A transaction found in a final block that the store may lack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its hash.
    pub hash: Hash,
    /// Its nonce.
    pub nonce: Nonce,
    /// Whose key signed it.
    pub lane: LaneKey,
    /// What became of its transfers, and the proof.
    pub settled: Settled,
    /// The transfers in it, in their order.
    pub transfers: Vec<TransferId>,
}

impl Found {
    /// Those that came to their end, and to which.
    fn ended(&self) -> impl Iterator<Item = (Fate, TransferId)> {
        let fates = (0..self.transfers.len()).map(|index| self.settled.settlement.fate(index));
        fates.zip(self.transfers.iter().copied()).filter(|(fate, _)| *fate != Fate::Requeue)
    }

    /// What `import` takes of it: the result, if the store knows every transfer; the elements of those in its queue; and of
    /// those that it does not know a result each, which waits for the record that comes with its next push.
    fn results(
        &self,
        known: &HashMap<TransferId, TransferRecord>,
        queued: &HashMap<TransferId, Vec<u8>>,
    ) -> Vec<Vec<u8>> {
        let Self { hash, nonce, settled, transfers, .. } = self;
        let records: Vec<_> = transfers.iter().filter_map(|id| known.get(id).copied()).collect();
        let whole = records.len() == transfers.len();
        let apart = |fate| Settled { settlement: Settlement::All(fate), ..settled.clone() };
        let mut rows = Vec::new();
        if whole {
            rows.push(codec::result(hash, *nonce, settled, &records));
        } else {
            let of_known = self.ended().filter_map(|(fate, id)| Some((fate, *known.get(&id)?)));
            rows.extend(of_known.map(|(fate, record)| codec::result(hash, *nonce, &apart(fate), &[record])));
        }
        let elements: Vec<_> = self.ended().filter_map(|(_, id)| queued.get(&id).cloned()).collect();
        let ended: Vec<_> = self
            .ended()
            .flat_map(|(fate, id)| {
                let (state, error) = records::end(fate, settled);
                [id.0.to_vec(), vec![state as u8, error]]
            })
            .collect();
        let ids = codec::ids(transfers.iter());
        let unknown = self.ended().filter(|(_, id)| !known.contains_key(id));
        let waiting = unknown.flat_map(|(fate, id)| [id.0.to_vec(), codec::result_start(hash, *nonce, &apart(fate))]);
        let count = |list: &Vec<Vec<u8>>| vec![decimal(list.len() as u64)];
        let ends = vec![decimal(ended.len() as u64 / 2)];
        [count(&rows), rows, count(&elements), elements, ends, ended, vec![ids], waiting.collect()].concat()
    }
}

/// What became of a [`Found`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// The store knew it: it is open, or was imported before.
    Known,
    /// It is among the results now; so many of its transfers the store knew.
    New {
        /// How many.
        known: usize,
    },
}

impl RedisStore {
    /// Whether the store may lack what it had confirmed.
    ///
    /// # Errors
    /// It cannot be reached.
    pub async fn is_restored(&self) -> Result<bool, StoreError> {
        let mut answer = self.prompt("open", []).await?;
        let mut read = || {
            answer.rest.bytes()?;
            answer.rest.bytes()?;
            answer.rest.number()
        };
        Ok(read().map_err(|Odd| self.core.odd())? == 0)
    }

    /// Begins a recovery, or renews ours.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn recover(&self, healer: LeaseId, ttl: Duration) -> Result<Recovery, StoreError> {
        // Those of the old primary may never come back, and a recovery cannot wait for them.
        let replicas = self.count_replicas().await?;
        let mut answer = self.prompt("recover", [&healer.0, &micros(ttl), &decimal(replicas.into())]).await?;
        match &*answer.status {
            b"OK" => {
                self.replicas.store(replicas, Ordering::SeqCst);
                Ok(Recovery::Ours)
            }
            b"WHOLE" => Ok(Recovery::Whole),
            b"HELD" => {
                let left = answer.rest.number().map_err(|Odd| self.core.odd())?;
                Ok(Recovery::Others(Duration::from_micros(left)))
            }
            _ => Err(self.core.odd()),
        }
    }

    /// Every lane that the store knows.
    ///
    /// # Errors
    /// The store cannot be reached.
    pub async fn lanes(&self) -> Result<Vec<LaneStanding>, StoreError> {
        let mut answer = self.prompt("list_lanes", []).await?;
        let names = &mut Names::default();
        let mut read = || {
            let lane = |value| {
                let Value::Array(parts) = value else { return Err(Odd) };
                let mut parts = parts.into_iter();
                Ok(LaneStanding {
                    lane: read_lane(&parts.bytes()?)?,
                    used: parts.number()?,
                    high_water: parts.number()?,
                    held_for: Duration::from_micros(parts.number()?),
                    open: read_open(parts.list()?, names)?,
                })
            };
            answer.rest.list()?.map(lane).collect::<Result<_, Odd>>()
        };
        read().map_err(|Odd| self.core.odd())
    }

    /// Takes a lane for the recovery that `healer` holds, whoever holds the lane.
    ///
    /// # Errors
    /// The recovery is not `healer`'s any more ([`StoreError::LeaseLost`]), or the store cannot be reached.
    pub async fn seize(
        &self,
        lane: &LaneKey,
        lease: LeaseId,
        ttl: Duration,
        healer: LeaseId,
    ) -> Result<Lane, StoreError> {
        self.take_lane(lane, lease, ttl, &healer.0).await.map_err(|error| match error {
            StoreError::Damaged { .. } => StoreError::LeaseLost("of the recovery".into()),
            other => other,
        })
    }

    /// Brings in what was found on chain: its results, its nonces, and that its transfers came to their end. They are
    /// taken out of the queue, their records tell it, and whatever puts them back later is not heeded. Asking again does nothing more.
    ///
    /// # Errors
    /// The recovery is not `healer`'s any more ([`StoreError::LeaseLost`]), or the store cannot be reached.
    pub async fn import(&self, healer: LeaseId, found: &[Found]) -> Result<Vec<Imported>, StoreError> {
        let all: HashSet<TransferId> = found.iter().flat_map(|found| &found.transfers).copied().collect();
        let over: Vec<TransferId> = found.iter().flat_map(Found::ended).map(|(_, id)| id).collect();
        // First of all: what goes back to the queue from now on is without them.
        for some in over.chunks(PAGE) {
            let args = [healer.0.to_vec()].into_iter().chain(some.iter().map(|id| id.0.to_vec())).collect();
            let answer = self.durable(Step { name: "note_imported", args }, true).await?;
            self.heals(&answer.status)?;
        }
        let mut known: HashMap<TransferId, TransferRecord> = HashMap::new();
        let mut queued: HashMap<TransferId, Vec<u8>> = HashMap::new();
        for lane in self.lanes().await? {
            let transfers = lane.open.iter().flat_map(|(_, _, transfers)| transfers.iter());
            known.extend(transfers.filter(|one| all.contains(&one.id)).map(|one| (one.id, one.into())));
        }
        self.queue_from_its_end(&mut |element| {
            let transfer = codec::read_element(&element, &mut Names::default()).map_err(|_| self.core.odd())?;
            if all.contains(&transfer.id) {
                known.insert(transfer.id, (&transfer).into());
                queued.insert(transfer.id, element);
            }
            Ok(())
        })
        .await?;
        let mut outcomes = Vec::with_capacity(found.len());
        for one in found {
            // Of a transfer that nobody here knows, the result waits until somebody pushes it.
            let head = [healer.0.to_vec(), lane_id(&one.lane), decimal(one.nonce), one.hash.0.to_vec()];
            let step = Step { name: "import", args: head.into_iter().chain(one.results(&known, &queued)).collect() };
            let answer = self.durable(step, true).await?;
            self.heals(&answer.status)?;
            outcomes.push(match &*answer.status {
                b"KNOWN" => Imported::Known,
                _ => Imported::New { known: one.transfers.iter().filter(|id| known.contains_key(id)).count() },
            });
        }
        Ok(outcomes)
    }

    /// Ends the recovery: all that the chain knows is in the store, and its replicas are counted anew.
    ///
    /// # Errors
    /// The recovery is not `healer`'s any more ([`StoreError::LeaseLost`]), or the store cannot be reached.
    pub async fn recovered(&self, healer: LeaseId) -> Result<(), StoreError> {
        let replicas = self.count_replicas().await?;
        let head = [healer.0.to_vec(), decimal(VERSION), decimal(replicas.into())];
        let args = head.into_iter().chain(self.kept.args()).collect();
        let answer = self.durable(Step { name: "recovered", args }, true).await?;
        self.heals(&answer.status)
    }

    async fn count_replicas(&self) -> Result<u32, StoreError> {
        let count = |live: Live, _| async move { self.core.prompt.replicas(&live).await };
        match self.durability {
            Durability::Replicated => self.core.insist(&self.core.prompt, self.patience, count).await,
            Durability::Local | Durability::Fsync => Ok(0),
        }
    }

    fn heals(&self, status: &[u8]) -> Result<(), StoreError> {
        match status {
            b"HEALER" => Err(StoreError::LeaseLost("of the recovery".into())),
            _ => Ok(()),
        }
    }

    /// Shows `visit` the queue, from its end: what is put back meanwhile comes to its head, and shifts nothing.
    async fn queue_from_its_end(
        &self,
        visit: &mut (dyn FnMut(Vec<u8>) -> Result<(), StoreError> + Send),
    ) -> Result<(), StoreError> {
        for from in (1..).step_by(PAGE) {
            let mut cmd = redis::cmd("LRANGE");
            cmd.arg(self.core.key(b"queue")).arg(-(from + PAGE as i64 - 1)).arg(-from);
            let Value::Array(elements) = self.core.command_of_redis(self.patience, &cmd).await? else {
                return Err(self.core.odd());
            };
            let last = elements.len() < PAGE;
            for element in elements {
                let Value::BulkString(element) = element else { return Err(self.core.odd()) };
                visit(element)?;
            }
            if last {
                break;
            }
        }
        Ok(())
    }
}
