//! Which blocks are final: one follower for all attempts, so that finality costs no request per attempt.

use nearbench_core::{Hash, Height, outcome::BlockRef};
use nearbench_near::{Client, chain::At, rpc::RpcError};
use std::{
    collections::{HashMap, VecDeque},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::{sync::watch, time::Instant};
use tokio_util::sync::CancellationToken;

/// Final blocks remembered, newest last: an attempt asks about a block within seconds of its execution.
const REMEMBERED: usize = 1024;
/// Between two looks at the chain, at least and at most.
const MIN_POLL: Duration = Duration::from_millis(25);
const MAX_POLL: Duration = Duration::from_secs(1);

/// Why the follower cannot start.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the final block: {0}")]
pub struct FinalityError(#[from] RpcError);

/// The final chain, as far as this worker saw it. A cheap clone.
#[derive(Clone)]
pub struct Finality {
    seen: Arc<Mutex<Seen>>,
    head: watch::Receiver<BlockRef>,
}

struct Seen {
    by_hash: HashMap<Hash, BlockRef>,
    order: VecDeque<Hash>,
    /// Between two new final blocks, as observed.
    interval: Duration,
}

impl Seen {
    fn insert(&mut self, block: BlockRef) {
        if self.by_hash.insert(block.hash, block).is_none() {
            self.order.push_back(block.hash);
        }
        while self.order.len() > REMEMBERED {
            if let Some(old) = self.order.pop_front() {
                self.by_hash.remove(&old);
            }
        }
    }
}

impl Finality {
    /// Reads the final block once and then follows it until `stop` is cancelled.
    ///
    /// # Errors
    /// When the first final block cannot be read.
    pub async fn follow(client: Client, stop: CancellationToken) -> Result<Self, FinalityError> {
        let first = client.block(At::Final).await?.at;
        let mut seen = Seen { by_hash: HashMap::new(), order: VecDeque::new(), interval: Duration::from_millis(600) };
        seen.insert(first);
        let seen = Arc::new(Mutex::new(seen));
        let (sender, head) = watch::channel(first);
        tokio::spawn(stop.run_until_cancelled_owned(follow(client, seen.clone(), sender)));
        Ok(Self { seen, head })
    }

    /// The newest final block.
    pub fn head(&self) -> BlockRef {
        *self.head.borrow()
    }

    /// Between two final blocks, as observed lately.
    pub fn block_interval(&self) -> Duration {
        self.lock().interval
    }

    /// The mean error that polling adds to a settle latency: half the time between two looks near a new block.
    pub fn polling_error(&self) -> Duration {
        poll_interval(self.lock().interval) / 2
    }

    /// Returns once a block of at least this height is final.
    pub(crate) async fn reaches(&self, height: Height) {
        if self.head.clone().wait_for(|head| head.height >= height).await.is_err() {
            // Nobody follows the chain any more.
            std::future::pending().await
        }
    }

    /// Waits until the block `hash` is final. `None` when the final chain grew `patience` blocks past this moment
    /// without it: it is on a fork, or not on this chain at all.
    pub(crate) async fn wait_for(&self, hash: Hash, patience: Height) -> Option<BlockRef> {
        let mut head = self.head.clone();
        let give_up = head.borrow_and_update().height + patience;
        loop {
            if let Some(block) = self.lock().by_hash.get(&hash) {
                return Some(*block);
            }
            if head.borrow_and_update().height >= give_up || head.changed().await.is_err() {
                return None;
            }
        }
    }

    /// Looks a block up that the follower may have missed in a long outage, at whoever still has it; `None` where it is not
    /// final, or not canonical.
    ///
    /// # Errors
    /// When nobody has it, or an endpoint that might have it does not answer.
    pub(crate) async fn look_up(&self, client: &Client, hash: Hash) -> Result<Option<BlockRef>, RpcError> {
        let block = client.block_from_any(At::Hash(hash)).await?.at;
        if block.height > self.head().height {
            return Ok(None);
        }
        let canonical = client.block_from_any(At::Height(block.height)).await?.at;
        Ok((canonical.hash == hash).then_some(block))
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// How often to look once a new block is due.
fn poll_interval(block_interval: Duration) -> Duration {
    (block_interval / 12).clamp(MIN_POLL, MAX_POLL)
}

async fn follow(client: Client, seen: Arc<Mutex<Seen>>, sender: watch::Sender<BlockRef>) {
    let mut changed_at = Instant::now();
    let mut wait = Duration::ZERO;
    loop {
        tokio::time::sleep(wait).await;
        let known = *sender.borrow();
        let blocks = newer(&client, known).await;
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        wait = poll_interval(seen.interval);
        let Some(&newest) = blocks.first() else { continue };
        let passed = u32::try_from(newest.height - known.height).unwrap_or(u32::MAX).max(1);
        let observed = changed_at.elapsed() / passed;
        changed_at = Instant::now();
        seen.interval = (seen.interval * 3 + observed.clamp(MIN_POLL, MAX_POLL * 4)) / 4;
        for block in blocks.into_iter().rev() {
            seen.insert(block);
        }
        // Nothing can be new before most of an interval has passed.
        wait = seen.interval.mul_f64(0.8);
        drop(seen);
        sender.send_replace(newest);
    }
}

/// The final blocks above `known`, newest first, as far back as is remembered.
async fn newer(client: &Client, known: BlockRef) -> Vec<BlockRef> {
    let head = insist(client, At::Final).await;
    if head.height <= known.height {
        return Vec::new();
    }
    let mut blocks = vec![head];
    let mut oldest = head;
    while oldest.prev_hash != known.hash && oldest.height > known.height + 1 && blocks.len() < REMEMBERED {
        oldest = insist(client, At::Hash(oldest.prev_hash)).await;
        blocks.push(oldest);
    }
    blocks
}

/// Reads a block, however often it takes: without final blocks nothing can be settled.
async fn insist(client: &Client, at: At) -> BlockRef {
    let mut wait = MIN_POLL;
    loop {
        match client.block(at).await {
            Ok(block) => return block.at,
            Err(error) => tracing::warn!(%error, "cannot read a final block; trying again"),
        }
        tokio::time::sleep(wait).await;
        wait = (wait * 2).min(MAX_POLL);
    }
}
