//! The shell around the chain that owns time: it publishes blocks on schedule and wakes whoever waits for one.
//!
//! Block h + 1 is made in three steps. A fifth of a block time after block h its chunks are fixed from the pools and
//! executed at once, on a blocking thread and off the lock; their results appear with the block when the schedule
//! says so. Time is tokio's, so that a test may pause it. What blocks contain is decided in
//! [`crate::chain`], which blocks stall in [`crate::faults`]; nothing is decided here but when.

use crate::{
    block::Block,
    chain::{Chain, ChainError},
    faults::Faults,
    genesis::Genesis,
    patch::PatchError,
};
use near_parameters::{RuntimeConfig, RuntimeConfigStore};
use near_primitives::state_record::StateRecord;
use std::{
    collections::HashSet,
    net::SocketAddr,
    sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError},
    time::Duration,
};
use tokio::{
    sync::{mpsc, watch},
    task::JoinError,
    time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until},
};
use tokio_util::sync::CancellationToken;

/// The chunks of the next block are fixed this part of a block time after the latest block. Measured on a real node:
/// a transaction sent right after a block is INCLUDED 0.12 s later with blocks of 600 ms.
const FIX_AFTER: f64 = 0.2;

/// A chain with its clock, and what of it never changes.
pub(crate) struct Node {
    chain: Mutex<Chain>,
    genesis: Genesis,
    runtime_config: Arc<RuntimeConfig>,
    /// Endpoints that answer from everything.
    archival: HashSet<String>,
    address: OnceLock<SocketAddr>,
    clock: Clock,
    block_time: Duration,
    /// Counts what waiters wait for: contents fixed and blocks published.
    progress: watch::Sender<u64>,
    hurry: mpsc::UnboundedSender<u64>,
    faults: Mutex<Faults>,
    /// Counts how often the faults were set.
    faults_set: watch::Sender<u64>,
}

/// Tokio's time as time since the Unix epoch.
struct Clock {
    started: Instant,
    started_ns: u64,
}

impl Clock {
    fn now_ns(&self) -> u64 {
        self.started_ns.saturating_add(u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX))
    }
}

/// Why no more blocks are made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ProductionError {
    #[error(transparent)]
    Chain(#[from] ChainError),
    #[error("executing a block's chunks failed: {0}")]
    Execution(#[from] JoinError),
}

impl Node {
    /// A node whose clock reads `now_ns` (nanoseconds since the Unix epoch), or the head's time if that is later;
    /// and the blocks that it is asked to hurry, for [`produce`]. The endpoints `archival` answer from everything.
    pub(crate) fn new(
        chain: Chain,
        archival: HashSet<String>,
        block_time: Duration,
        now_ns: u64,
    ) -> (Self, mpsc::UnboundedReceiver<u64>) {
        let started_ns = now_ns.max(chain.head().timestamp_ns.saturating_add(1));
        let (hurry, hurried) = mpsc::unbounded_channel();
        let genesis = chain.genesis().clone();
        let configs = RuntimeConfigStore::for_chain_id("localnet");
        let node = Self {
            runtime_config: configs.get_config(genesis.protocol_version).clone(),
            genesis,
            chain: Mutex::new(chain),
            archival,
            address: OnceLock::new(),
            clock: Clock { started: Instant::now(), started_ns },
            block_time,
            progress: watch::Sender::new(0),
            hurry,
            faults: Mutex::default(),
            faults_set: watch::Sender::new(0),
        };
        (node, hurried)
    }

    /// The chain, locked. Hold it for a look or a submission, never across an await or an execution.
    pub(crate) fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The faults in force, locked; for a question, never across an await.
    pub(crate) fn faults(&self) -> MutexGuard<'_, Faults> {
        self.faults.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on these faults are in force. A stall under way ends.
    pub(crate) fn set_faults(&self, faults: Faults) {
        *self.faults() = faults;
        self.faults_set.send_modify(|count| *count += 1);
    }

    /// What the chain started from.
    pub(crate) fn genesis(&self) -> &Genesis {
        &self.genesis
    }

    /// The parameters that the chain executes with.
    pub(crate) fn runtime_config(&self) -> &Arc<RuntimeConfig> {
        &self.runtime_config
    }

    /// Whether an endpoint answers from what the others have collected.
    pub(crate) fn is_archival(&self, endpoint: &str) -> bool {
        self.archival.contains(endpoint)
    }

    /// The first height of a block's epoch.
    pub(crate) fn epoch_start(&self, block: &Block) -> u64 {
        block.epoch_height.saturating_mul(self.genesis.epoch_length)
    }

    /// Where the node was first served over HTTP.
    pub(crate) fn address(&self) -> Option<&SocketAddr> {
        self.address.get()
    }

    /// The node is served at `address`; only the first counts.
    pub(crate) fn served_at(&self, address: SocketAddr) {
        self.address.get_or_init(|| address);
    }

    /// Changes when the chunks of a block are fixed and when it is published.
    pub(crate) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// Time since the node started.
    pub(crate) fn uptime(&self) -> Duration {
        self.clock.started.elapsed()
    }

    /// Time since the latest block, or since the start if that is later.
    pub(crate) fn since_head(&self) -> Duration {
        let since_block = Duration::from_nanos(self.clock.now_ns().saturating_sub(self.chain().head().timestamp_ns));
        since_block.min(self.uptime())
    }

    /// Between two blocks.
    pub(crate) fn block_time(&self) -> Duration {
        self.block_time
    }

    /// Puts records into the state, and returns when a block has them.
    pub(crate) async fn patch(&self, records: Vec<StateRecord>) -> Result<(), PatchError> {
        let mut progress = self.progress();
        let height = self.chain().patch(records)?;
        while self.chain().head().height < height && progress.changed().await.is_ok() {}
        Ok(())
    }

    /// Publishes this many blocks without waiting for their time, and returns when they are there.
    pub(crate) async fn fast_forward(&self, blocks: u64) {
        let mut progress = self.progress();
        let target = self.chain().head().height.saturating_add(blocks);
        if self.hurry.send(blocks).is_err() {
            return;
        }
        while self.chain().head().height < target && progress.changed().await.is_ok() {}
    }
}

/// Makes blocks until `stop`. Each is due at a whole number of block times after the start: being late never moves
/// those that follow, and blocks missed in a stall are not made up for.
pub(crate) async fn produce(
    node: Arc<Node>,
    mut hurried: mpsc::UnboundedReceiver<u64>,
    stop: CancellationToken,
) -> Result<(), ProductionError> {
    let mut due = interval_at(Instant::now() + node.block_time, node.block_time);
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let fix_after = node.block_time.mul_f64(FIX_AFTER);
    let mut hurry = 0_u64;
    loop {
        let fixed_at = Instant::now() + fix_after;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(blocks) = hurried.recv(), if hurry == 0 => hurry = blocks,
            () = sleep_until(fixed_at), if hurry == 0 => {}
            () = std::future::ready(()), if hurry > 0 => {}
        }
        // What is hurried does not stall.
        if hurry == 0 {
            let mut faults_set = node.faults_set.subscribe();
            let befalls = node.faults().of_block();
            if !befalls.stall.is_zero() {
                tokio::select! {
                    () = stop.cancelled() => return Ok(()),
                    () = sleep(befalls.stall) => {}
                    _ = faults_set.changed() => {}
                }
            }
            if befalls.empties_pool {
                node.chain().empty_pools();
            }
        }
        let job = node.chain().fix_chunks();
        node.progress.send_modify(|count| *count += 1);
        let executed = tokio::task::spawn_blocking(move || job.execute()).await?;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(blocks) = hurried.recv(), if hurry == 0 => hurry = blocks,
            _ = due.tick(), if hurry == 0 => {}
            () = std::future::ready(()), if hurry > 0 => {}
        }
        let publisher = node.clone();
        tokio::task::spawn_blocking(move || publisher.chain().publish(executed, publisher.clock.now_ns())).await??;
        hurry = hurry.saturating_sub(1);
        if hurry > 0 {
            due.reset();
        }
        node.progress.send_modify(|count| *count += 1);
    }
}
