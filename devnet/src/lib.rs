//! devnet: a NEAR chain in one process, with nearcore's JSON-RPC.
//!
//! [`Devnet`] is all that a caller needs, in plain types: a chain that starts from a [`Config`], makes blocks by
//! itself, and answers JSON-RPC requests, over HTTP or without it. It stands on nearcore's published crates alone
//! and shares no code with nearbench's own client, so that a mistake there cannot hide here.
//!
//! ```text
//! HTTP ─ http ─┐
//!              ├─ rpc ─ node (time, lock, waiting) ─ chain (rules, no I/O but its log)
//! Devnet::handle ┘
//! ```
//!
//! # Collection
//!
//! With [`Config::keep_epochs`] a node collects what is older, with nearcore's answers: `tx` says UNKNOWN_TRANSACTION,
//! `light_client_proof` UNKNOWN_TRANSACTION_OR_RECEIPT, `block` and `EXPERIMENTAL_changes` UNKNOWN_BLOCK, `chunk`
//! UNKNOWN_CHUNK, `query` GARBAGE_COLLECTED_BLOCK, for a state by hash as by height. Headers stay: a base block that is
//! too old is Expired, and `gas_price` still answers. An endpoint of [`Config::archival`] answers from everything. What
//! nobody can read is dropped from memory; the log keeps it, so that the chain can be executed again. Of a loaded chain
//! that keeps everything the oldest states are dropped too, after 1024 blocks at the soonest.
//!
//! # State by hand
//!
//! `sandbox_patch_state` takes records of the kinds Account, AccessKey, Contract and Data, as nearcore's sandbox does, and
//! answers when the next block has them; `sandbox_fast_forward` makes blocks without waiting for their time. Both are
//! part of the chain.
//!
//! # Faults
//!
//! A chain that serves can be made to fail at run time. `POST /faults` puts rules in force instead of those that are,
//! `GET /faults` answers them with how often each was asked and has hit, `DELETE /faults` ends them all; a stall under
//! way ends with the rules. The body is `{"seed": 7, "rules": [...]}`, or the list of rules alone (seed 0). A rule
//! that is wrong is refused with status 400 and `{"error": "rules[0].probability is 2: ..."}`, and nothing changes.
//!
//! ```json
//! {"seed": 7, "rules": [
//!   {"fault": "tooManyRequests", "retryAfterSeconds": 2, "method": "send_tx", "probability": 0.1},
//!   {"fault": "behind", "blocks": 5, "endpoint": "b", "every": 2}]}
//! ```
//!
//! | `fault` | takes | what happens |
//! |---|---|---|
//! | `latency` | `milliseconds` | the request is seen that much later |
//! | `tooManyRequests` | `retryAfterSeconds` (1; 0: no header) | refused with 429 and Retry-After |
//! | `serverError` | `status` (503) | refused with that status, 500 to 599 |
//! | `reset` | `accepted` (false) | the connection is reset, before the request is seen or after it was done |
//! | `timeout` | `milliseconds` (10000) | done, then answered 408 TIMEOUT_ERROR |
//! | `truncate`, `garbage` | | done; half of the answer's body, or one that is no JSON |
//! | `otherAnswer` | | done; a result that the same method gave to an earlier request |
//! | `behind` | `blocks` | answered as by a node that many blocks behind; with `"every": 2` one URL over two nodes |
//! | `drop` | | a transaction is answered as valid and forgotten, as by a full pool |
//! | `holdBack` | `blocks` | a transaction reaches the pool that much later: its key's later ones overtake it |
//! | `unchecked` | `blocks` (0) | a transaction is in the next chunk or that much later, last; if invalid by then it is `Failure(InvalidTxError)` there |
//! | `shardCongested` | | a transaction is refused with ShardCongested |
//! | `stall` | `milliseconds` | the next block comes that much later |
//! | `emptyPool` | | before the next block the pool forgets all that waits in it |
//!
//! Every rule takes `probability` (1), `every` (1: each nth time) and `count` (at most that many times). All but the
//! last two, which are asked once a block, take `method` and `endpoint`: `POST /endpoints/NAME` is the same chain under
//! a name, so that one chain is several endpoints that fail apart. Chance follows from the seed, the rule's place and
//! how often it was asked. The first rule that refuses or spoils a request decides; latencies add up. Faults are not
//! part of the chain: one that is opened again has none.

pub mod block;
pub mod chain;
mod config;
pub mod faults;
pub mod genesis;
pub mod history;
mod home;
mod http;
mod node;
pub mod patch;
pub mod pool;
mod rpc;
pub mod runtime;
pub mod state;

pub use chain::Resumed;
pub use config::{AccountConfig, Config, ConfigError};
pub use faults::FaultsError;
pub use home::{Difference, HomeError, PARAMETERS_NAME};

use bytes::Bytes;
use chain::{Chain, ChainError};
use faults::Faults;
use node::Node;
use std::{
    future::Future,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};
use tokio::net::TcpListener;
use tokio_util::{
    sync::{CancellationToken, DropGuard},
    task::TaskTracker,
};

/// A running chain. Clones are the same chain; it stops when told to, or with its last clone.
#[derive(Clone)]
pub struct Devnet {
    running: Arc<Running>,
}

struct Running {
    node: Arc<Node>,
    tasks: TaskTracker,
    stop: CancellationToken,
    _stop_when_dropped: DropGuard,
}

/// What a request is answered, over HTTP or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The media type of the body.
    pub content_type: &'static str,
    /// The body.
    pub body: Bytes,
}

/// Why a chain does not start or serve.
#[derive(Debug, thiserror::Error)]
pub enum DevnetError {
    /// A field of the configuration is wrong.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder cannot be used, or its chain was made with another configuration.
    #[error(transparent)]
    Home(#[from] HomeError),
    /// The chain cannot be made, or not be restored from its folder.
    #[error(transparent)]
    Chain(#[from] ChainError),
    /// Opening the chain was aborted.
    #[error("opening the chain was aborted: {0}")]
    Aborted(#[from] tokio::task::JoinError),
    /// The socket failed.
    #[error("serving failed: {0}")]
    Serve(#[from] std::io::Error),
}

impl Devnet {
    /// Starts a chain, or goes on with the one in `config.home`: its genesis block is there when this returns, and the
    /// next follow every `block_time`. On failure a folder that was not there is not there either.
    ///
    /// # Errors
    /// Names the field of `config` that is wrong, or why the chain in `config.home` cannot be restored, such as parameters
    /// that it was not made with.
    pub async fn start(config: Config) -> Result<Self, DevnetError> {
        let now_ns = nanoseconds(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default());
        let block_time = config.block_time;
        let genesis = config.genesis()?;
        let archival = config.archival.iter().cloned().collect();
        let chain = tokio::task::spawn_blocking(move || match &config.home {
            Some(home) => home::open(home, &config.parameters(), genesis, config.retention()),
            None => Ok(Chain::with_retention(genesis, config.retention())?),
        })
        .await??;

        let (node, hurried) = Node::new(chain, archival, block_time, now_ns);
        let node = Arc::new(node);
        let stop = CancellationToken::new();
        let tasks = TaskTracker::new();
        let production = node::produce(node.clone(), hurried, stop.clone());
        tasks.spawn(async move {
            if let Err(error) = production.await {
                tracing::error!(%error, "no more blocks are made");
            }
        });
        tasks.close();
        let _stop_when_dropped = stop.clone().drop_guard();
        Ok(Self { running: Arc::new(Running { node, tasks, stop, _stop_when_dropped }) })
    }

    /// Answers the body of a JSON-RPC request, as a POST to `/` would be. Of the faults in force it meets those at the
    /// node; there is no connection that could fail.
    pub async fn handle(&self, request: Bytes) -> Answer {
        self.handle_at("", request).await
    }

    /// The same, as a POST to `/endpoints/NAME` would be.
    pub async fn handle_at(&self, endpoint: &str, request: Bytes) -> Answer {
        let message = rpc::parse(&request);
        let befalls = self.node().faults().of_request(endpoint, rpc::method(&message), false);
        rpc::answer(self.node(), endpoint, message, &befalls.at_node).await
    }

    /// Puts these faults in force instead of those that are; what a POST to `/faults` takes.
    ///
    /// # Errors
    /// Names the field that is wrong; then nothing was changed.
    pub fn set_faults(&self, rules: &serde_json::Value) -> Result<(), FaultsError> {
        self.node().set_faults(Faults::read(rules, &rpc::METHODS)?);
        Ok(())
    }

    /// The faults in force: what a GET of `/faults` answers.
    pub fn faults(&self) -> serde_json::Value {
        self.node().faults().to_json()
    }

    /// Nothing fails any more.
    pub fn clear_faults(&self) {
        self.node().set_faults(Faults::default());
    }

    /// Serves HTTP on `listener` until `shutdown` is ready and the requests under way are answered.
    ///
    /// # Errors
    /// The socket failed.
    pub async fn serve(
        &self,
        listener: TcpListener,
        shutdown: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), DevnetError> {
        Ok(http::serve(self.clone(), listener, shutdown).await?)
    }

    /// Makes no more blocks, and returns when the last is complete. Requests are still answered.
    pub async fn stop(&self) {
        self.running.stop.cancel();
        self.running.tasks.wait().await;
    }

    /// Height of the latest block.
    pub fn height(&self) -> u64 {
        self.node().chain().head().height
    }

    /// What was found in the home at the start; `None` where the chain is a new one.
    pub fn resumed(&self) -> Option<Resumed> {
        self.node().chain().resumed()
    }

    fn node(&self) -> &Node {
        &self.running.node
    }
}

fn nanoseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
