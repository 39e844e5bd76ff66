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

pub mod block;
pub mod chain;
mod config;
pub mod genesis;
pub mod history;
mod home;
mod http;
mod node;
pub mod pool;
mod rpc;
pub mod runtime;
pub mod state;

pub use chain::Resumed;
pub use config::{AccountConfig, Config, ConfigError};
pub use home::{Difference, HomeError, PARAMETERS_NAME};

use bytes::Bytes;
use chain::{Chain, ChainError};
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
        let chain = tokio::task::spawn_blocking(move || match &config.home {
            Some(home) => home::open(home, &config.parameters(), genesis),
            None => Ok(Chain::new(genesis)?),
        })
        .await??;

        let (node, hurried) = Node::new(chain, block_time, now_ns);
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

    /// Answers the body of a JSON-RPC request, as a POST to `/` would be.
    pub async fn handle(&self, request: Bytes) -> Answer {
        rpc::answer(self.node(), &request).await
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
