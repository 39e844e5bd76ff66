//! A chain behind a pool of endpoints: typed reads, and sending.
//!
//! Reads go to the preferred endpoint and on to the next when one fails. Sends stay on one endpoint until it fails, because
//! transactions of one key that travel over two may overtake each other and die. Which endpoint is asked is decided in
//! [`Client::order`] and [`Client::failed`] alone.

use crate::{
    rpc::{self, Fault, RpcError},
    transaction::SignedTx,
    transport::Transport,
    views::{self, ActionView},
};
use bytes::Bytes;
use nearbench_core::{
    Account, Hash, Height, Near, Nonce,
    outcome::{BlockRef, Refusal, TxStatus},
    plan::ChainLimits,
};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A node answers a waiting request after at most this (nearcore, `polling_config.polling_timeout`).
const NODE_WAIT: Duration = Duration::from_secs(10);

/// A way to the chain.
#[derive(Clone)]
pub struct Endpoint {
    /// How errors and metrics call it. Holds no secret.
    pub name: Arc<str>,
    /// Lower is preferred.
    pub priority: u32,
    /// The way itself.
    pub transport: Arc<dyn Transport>,
}

/// A chain. Cheap to clone; clones share connections and the endpoint in use.
#[derive(Clone)]
pub struct Client(Arc<Pool>);

struct Pool {
    /// By priority.
    endpoints: Vec<Endpoint>,
    timeout: Duration,
    /// The endpoint that sends go to.
    pinned: AtomicUsize,
}

/// Which block to read at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// The last final block.
    Final,
    /// The head.
    Optimistic,
    /// The canonical block of this height.
    Height(Height),
    /// This block.
    Hash(Hash),
}

/// How long a node may wait before it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Not at all.
    None,
    /// Until the receipt is executed in the head's chain, at most 10 s.
    ExecutedOptimistic,
    /// Until all receipts are executed in final blocks, at most 10 s.
    Final,
}

/// What a node says of itself and its chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeStatus {
    /// The chain's id.
    pub chain_id: String,
    /// The protocol in force.
    pub protocol_version: u32,
    /// The node's version and build.
    pub version: String,
    /// The head's height.
    pub head: Height,
    /// Whether it is still catching up.
    pub syncing: bool,
}

/// A block and the chunks that are new in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Block {
    /// The block.
    pub at: BlockRef,
    /// Hashes of the chunks included at this height. A shard whose producer missed its turn has none.
    pub chunks: Vec<Hash>,
}

/// A transaction as it stands in a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ChunkTransaction {
    /// Its hash.
    pub hash: Hash,
    /// Who signed.
    pub signer: String,
    /// With which key.
    pub public_key: String,
    /// The key's nonce.
    pub nonce: Nonce,
    /// Whom it is sent to.
    pub receiver: String,
    /// Its actions, in order.
    pub actions: Vec<ChunkAction>,
}

/// An action of a transaction in a chunk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ChunkAction {
    /// A function call.
    Call {
        /// The method.
        method: String,
        /// Its arguments.
        args: Vec<u8>,
    },
    /// Anything else.
    Other,
}

/// A state read at a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// The block's height.
    pub height: Height,
    /// The block's hash.
    pub block: Hash,
    /// What was there.
    pub value: T,
}

/// An access key on chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessKey {
    /// The last nonce used.
    pub nonce: Nonce,
    /// What it may sign.
    pub permission: Permission,
}

/// What an access key may sign.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Permission {
    /// Everything.
    FullAccess,
    /// Calls of one contract, without a deposit: no `ft_transfer`.
    FunctionCall {
        /// The contract.
        receiver: String,
    },
    /// Something else, such as a gas key, by its name.
    Other(String),
}

/// An account on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AccountState {
    /// Its balance.
    pub balance: Near,
    /// Bytes of state, paid for by locking part of the balance.
    pub storage_bytes: u64,
    /// Whether a contract is deployed there.
    pub has_code: bool,
}

/// Why a view call brought no value.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ViewError {
    /// The contract is missing, lacks the method or refused.
    #[error("{contract}.{method}: {reason}")]
    Contract {
        /// The contract's account.
        contract: Account,
        /// The method.
        method: String,
        /// What the node says.
        reason: String,
    },
    /// The chain could not be asked.
    #[error(transparent)]
    Rpc(#[from] RpcError),
}

/// Why a transaction was not taken.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum SendError {
    /// The node refused it. A hint, never evidence: the same bytes may have landed before.
    #[error("refused: {0:?}")]
    Refused(Refusal),
    /// Nobody knows whether it was taken.
    #[error(transparent)]
    Unanswered(#[from] RpcError),
}

impl SendError {
    /// A bounded name for counts of errors by type.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Refused(refusal) => refusal.label(),
            Self::Unanswered(error) => error.fault.label(),
        }
    }
}

/// A chain other than the expected one, or none.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum ChainIdError {
    /// Another chain.
    #[error(
        "{endpoint} is on chain {found:?}, not {wanted:?}: use an endpoint of {wanted:?}, or set network.profile to the chain that is meant"
    )]
    Other {
        /// The endpoint.
        endpoint: Arc<str>,
        /// Its chain.
        found: String,
        /// The expected one.
        wanted: String,
    },
    /// No endpoint answered.
    #[error(transparent)]
    Unanswered(#[from] RpcError),
}

impl Client {
    /// A client of these endpoints; each request takes at most `timeout` (waiting ones the node's own bound more).
    pub fn new(mut endpoints: Vec<Endpoint>, timeout: Duration) -> Self {
        endpoints.sort_by_key(|endpoint| endpoint.priority);
        Self(Arc::new(Pool {
            endpoints,
            timeout,
            pinned: AtomicUsize::new(0),
        }))
    }

    /// The endpoints' indices in the order in which a read tries them.
    fn order(&self) -> impl Iterator<Item = usize> + use<> {
        0..self.0.endpoints.len()
    }

    /// Notes that a send on this endpoint failed: the next one takes over.
    fn failed(&self, endpoint: usize) {
        let next = (endpoint + 1) % self.0.endpoints.len().max(1);
        let _ = self
            .0
            .pinned
            .compare_exchange(endpoint, next, Ordering::AcqRel, Ordering::Acquire);
    }

    async fn call_on<T: DeserializeOwned>(
        &self,
        endpoint: usize,
        method: &'static str,
        request: Bytes,
        timeout: Duration,
    ) -> Result<T, RpcError> {
        let Some(Endpoint {
            name, transport, ..
        }) = self.0.endpoints.get(endpoint)
        else {
            return Err(RpcError {
                endpoint: "none".into(),
                method,
                fault: Fault::NoEndpoint,
            });
        };
        let result = match transport.call(request, timeout).await {
            Ok(response) => rpc::read(&response),
            Err(error) => Err(Fault::Transport(error)),
        };
        result.map_err(|fault| RpcError {
            endpoint: name.clone(),
            method,
            fault,
        })
    }

    /// Asks the endpoints in their order until one answers; the first one's error if none does.
    async fn read<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, RpcError> {
        let request = rpc::request(method, params);
        let mut first = None;
        for endpoint in self.order() {
            match self
                .call_on(endpoint, method, request.clone(), timeout)
                .await
            {
                Err(error) if error.fault.is_endpoints() => {
                    tracing::debug!(%error, "endpoint failed");
                    first.get_or_insert(error);
                }
                answer => return answer,
            }
        }
        Err(first.unwrap_or(RpcError {
            endpoint: "none".into(),
            method,
            fault: Fault::NoEndpoint,
        }))
    }

    async fn send_on_pinned<T: DeserializeOwned>(
        &self,
        request: Bytes,
        timeout: Duration,
    ) -> Result<T, RpcError> {
        let endpoint = self.0.pinned.load(Ordering::Acquire);
        let answer = self.call_on(endpoint, "send_tx", request, timeout).await;
        if let Err(error) = &answer
            && error.fault.is_endpoints()
        {
            tracing::debug!(%error, "endpoint failed");
            self.failed(endpoint);
        }
        answer
    }

    /// What the preferred endpoint says of itself.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn status(&self) -> Result<NodeStatus, RpcError> {
        self.read::<views::StatusView>("status", &json!([]), self.0.timeout)
            .await
            .map(node_status)
    }

    /// Checks every endpoint that answers; none may be on another chain, and one has to answer.
    ///
    /// # Errors
    /// Names the endpoint and both chains.
    pub async fn check_chain_id(&self, wanted: &str) -> Result<NodeStatus, ChainIdError> {
        let request = rpc::request("status", &json!([]));
        let (mut first, mut error) = (None, None);
        for endpoint in self.order() {
            match self
                .call_on(endpoint, "status", request.clone(), self.0.timeout)
                .await
                .map(node_status)
            {
                Ok(status) if status.chain_id != wanted => {
                    return Err(ChainIdError::Other {
                        endpoint: self.0.endpoints[endpoint].name.clone(),
                        found: status.chain_id,
                        wanted: wanted.to_owned(),
                    });
                }
                Ok(status) => _ = first.get_or_insert(status),
                Err(e) => _ = error.get_or_insert(e),
            }
        }
        first.ok_or_else(|| {
            let none = RpcError {
                endpoint: "none".into(),
                method: "status",
                fault: Fault::NoEndpoint,
            };
            ChainIdError::Unanswered(error.unwrap_or(none))
        })
    }

    /// A block and its new chunks.
    ///
    /// # Errors
    /// When it is unknown or collected, or no endpoint answers.
    pub async fn block(&self, at: At) -> Result<Block, RpcError> {
        let block: views::BlockView = self.read("block", &at.params(), self.0.timeout).await?;
        let at = block.header.block_ref();
        let new = block
            .chunks
            .iter()
            .filter(|chunk| chunk.height_included == at.height);
        Ok(Block {
            at,
            chunks: new.map(|chunk| chunk.chunk_hash).collect(),
        })
    }

    /// The transactions of a chunk, in order.
    ///
    /// # Errors
    /// When it is unknown or collected, or no endpoint answers.
    pub async fn chunk(&self, hash: Hash) -> Result<Vec<ChunkTransaction>, RpcError> {
        let chunk: views::ChunkView = self
            .read("chunk", &json!({ "chunk_id": hash }), self.0.timeout)
            .await?;
        Ok(chunk
            .transactions
            .into_iter()
            .map(chunk_transaction)
            .collect())
    }

    /// An access key; `None` where the account has no such key (or does not exist).
    ///
    /// # Errors
    /// When the block is unknown or collected, or no endpoint answers.
    pub async fn access_key(
        &self,
        account: &Account,
        public_key: &str,
        at: At,
    ) -> Result<Read<Option<AccessKey>>, RpcError> {
        let params = at.query(json!({ "request_type": "view_access_key", "account_id": account, "public_key": public_key }));
        match self
            .read::<views::KeyView>("query", &params, self.0.timeout)
            .await
        {
            Ok(view) => {
                let value = match (view.nonce, view.permission) {
                    (Some(nonce), Some(permission)) => Some(AccessKey {
                        nonce,
                        permission: read_permission(&permission),
                    }),
                    _ if view
                        .error
                        .as_deref()
                        .is_some_and(|text| text.contains("does not exist while viewing")) =>
                    {
                        None
                    }
                    _ => {
                        let reason = format!("neither a key nor its absence: {:?}", view.error);
                        return Err(self.malformed("query", reason));
                    }
                };
                Ok(Read {
                    height: view.block_height,
                    block: view.block_hash,
                    value,
                })
            }
            Err(error) => absent(error, &["UNKNOWN_ACCESS_KEY", "UNKNOWN_ACCOUNT"]),
        }
    }

    /// An account; `None` where it does not exist.
    ///
    /// # Errors
    /// When the block is unknown or collected, or no endpoint answers.
    pub async fn account(
        &self,
        account: &Account,
        at: At,
    ) -> Result<Read<Option<AccountState>>, RpcError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            block_height: Height,
            block_hash: Hash,
            #[serde(flatten)]
            account: views::AccountView,
        }
        let params = at.query(json!({ "request_type": "view_account", "account_id": account }));
        match self.read::<Answer>("query", &params, self.0.timeout).await {
            Ok(Answer {
                block_height,
                block_hash,
                account,
            }) => {
                let balance = account
                    .amount
                    .parse()
                    .map_err(|_| self.malformed("query", "amount is no number".to_owned()))?;
                let has_code = account.code_hash != Hash::default()
                    || account.global_contract_hash.is_some()
                    || account.global_contract_account_id.is_some();
                let state = AccountState {
                    balance: Near(balance),
                    storage_bytes: account.storage_usage,
                    has_code,
                };
                Ok(Read {
                    height: block_height,
                    block: block_hash,
                    value: Some(state),
                })
            }
            Err(error) => absent(error, &["UNKNOWN_ACCOUNT"]),
        }
    }

    /// Calls a view method with JSON arguments; the bytes that it returns.
    ///
    /// # Errors
    /// When there is no such contract or method, it refuses, or no endpoint answers.
    pub async fn view(
        &self,
        contract: &Account,
        method: &str,
        args: &Value,
        at: At,
    ) -> Result<Vec<u8>, ViewError> {
        let args =
            base64::Engine::encode(&base64::engine::general_purpose::STANDARD, args.to_string());
        let params = at.query(json!({
            "request_type": "call_function", "account_id": contract, "method_name": method, "args_base64": args,
        }));
        let refused = |reason: String| ViewError::Contract {
            contract: contract.clone(),
            method: method.to_owned(),
            reason,
        };
        match self
            .read::<views::CallResultView>("query", &params, self.0.timeout)
            .await
        {
            Ok(views::CallResultView {
                result: Some(bytes),
                error: None,
            }) => Ok(bytes),
            Ok(views::CallResultView {
                error: Some(reason),
                ..
            }) => Err(refused(reason)),
            Ok(_) => Err(self
                .malformed("query", "neither result nor error".to_owned())
                .into()),
            Err(error) => {
                let causes = [
                    "NO_CONTRACT_CODE",
                    "CONTRACT_EXECUTION_ERROR",
                    "UNKNOWN_ACCOUNT",
                ];
                Err(match error.fault.caused_by(&causes) {
                    Some(node) => refused(node.to_string()),
                    None => error.into(),
                })
            }
        }
    }

    /// The limits in force at the last final block.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn limits(&self) -> Result<ChainLimits, RpcError> {
        let config = self.config().await?;
        let limits = &config.runtime_config.wasm_config.limit_config;
        Ok(ChainLimits {
            protocol_version: config.protocol_version,
            max_actions: limits.max_actions_per_receipt,
            max_total_prepaid_gas: limits.max_total_prepaid_gas,
            max_transaction_size: limits.max_transaction_size,
            chunk_gas_limit: config.gas_limit,
            transaction_validity_period: config.transaction_validity_period,
        })
    }

    /// What a byte of state locks of an account's balance.
    pub(crate) async fn storage_price(&self) -> Result<Near, RpcError> {
        let config = self.config().await?;
        self.near(
            &config.runtime_config.storage_amount_per_byte,
            "EXPERIMENTAL_protocol_config",
        )
    }

    async fn config(&self) -> Result<views::ConfigView, RpcError> {
        self.read(
            "EXPERIMENTAL_protocol_config",
            &json!({ "finality": "final" }),
            self.0.timeout,
        )
        .await
    }

    /// What a unit of gas costs at the head, in yoctoNEAR.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn gas_price(&self) -> Result<Near, RpcError> {
        let view: views::GasPriceView = self
            .read("gas_price", &json!([null]), self.0.timeout)
            .await?;
        self.near(&view.gas_price, "gas_price")
    }

    fn near(&self, text: &str, method: &'static str) -> Result<Near, RpcError> {
        text.parse()
            .map(Near)
            .map_err(|_| self.malformed(method, format!("{text:?} is no amount")))
    }

    fn malformed(&self, method: &'static str, reason: String) -> RpcError {
        let endpoint = self
            .0
            .endpoints
            .first()
            .map_or_else(|| "none".into(), |endpoint| endpoint.name.clone());
        RpcError {
            endpoint,
            method,
            fault: Fault::Malformed(reason),
        }
    }

    /// Hands a transaction to the endpoint in use, which answers at once and checks nothing.
    ///
    /// # Errors
    /// When the endpoint did not answer; it may have the transaction all the same.
    pub async fn send(&self, tx: &SignedTx) -> Result<(), SendError> {
        let request = send_request(tx, Wait::None);
        match self
            .send_on_pinned::<serde::de::IgnoredAny>(request, self.0.timeout)
            .await
        {
            Ok(_) => Ok(()),
            Err(error) => match refusal(&error.fault) {
                Some(refusal) => Err(SendError::Refused(refusal)),
                None => Err(error.into()),
            },
        }
    }

    /// Hands over the same bytes again and waits until they are executed, at most some 10 s. The answer is about the bytes:
    /// what executed before is found, and a refusal is a value (a hint).
    ///
    /// # Errors
    /// When the endpoint did not answer.
    pub async fn resend_and_learn(
        &self,
        tx: &SignedTx,
        sender: &Account,
    ) -> Result<TxStatus, RpcError> {
        let request = send_request(tx, Wait::ExecutedOptimistic);
        let answer = self
            .send_on_pinned::<views::TxView>(request, self.0.timeout + NODE_WAIT)
            .await;
        tx_answer(answer.map(|view| view.status(sender)))
    }

    /// What became of a transaction that `sender` signed. With [`Wait::Final`], `Landed` means that all its receipts are in
    /// final blocks.
    ///
    /// # Errors
    /// When no endpoint answers. A transaction that is not known is a value.
    pub async fn tx_status(
        &self,
        hash: Hash,
        sender: &Account,
        wait: Wait,
    ) -> Result<TxStatus, RpcError> {
        tx_answer(
            self.tx_view(hash, sender, wait)
                .await
                .map(|view| view.status(sender)),
        )
    }

    pub(crate) async fn tx_view(
        &self,
        hash: Hash,
        sender: &Account,
        wait: Wait,
    ) -> Result<views::TxView, RpcError> {
        let params =
            json!({ "tx_hash": hash, "sender_account_id": sender, "wait_until": wait.as_str() });
        let timeout = if wait == Wait::None {
            self.0.timeout
        } else {
            self.0.timeout + NODE_WAIT
        };
        self.read("tx", &params, timeout).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list()
            .entries(self.0.endpoints.iter().map(|endpoint| &endpoint.name))
            .finish()
    }
}

impl At {
    fn params(self) -> Value {
        match self {
            Self::Final => json!({ "finality": "final" }),
            Self::Optimistic => json!({ "finality": "optimistic" }),
            Self::Height(height) => json!({ "block_id": height }),
            Self::Hash(hash) => json!({ "block_id": hash }),
        }
    }

    fn query(self, mut params: Value) -> Value {
        if let (Value::Object(params), Value::Object(at)) = (&mut params, self.params()) {
            params.extend(at);
        }
        params
    }
}

impl Wait {
    fn as_str(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::ExecutedOptimistic => "EXECUTED_OPTIMISTIC",
            Self::Final => "FINAL",
        }
    }
}

/// The bytes of a `send_tx`: a template around the transaction's base64.
fn send_request(tx: &SignedTx, wait: Wait) -> Bytes {
    const HEAD: &[u8] =
        br#"{"jsonrpc":"2.0","id":"nearbench","method":"send_tx","params":{"signed_tx_base64":""#;
    const MIDDLE: &[u8] = br#"","wait_until":""#;
    let mut body =
        Vec::with_capacity(HEAD.len() + tx.bytes.len().div_ceil(3) * 4 + MIDDLE.len() + 32);
    body.extend_from_slice(HEAD);
    tx.write_base64(&mut body);
    body.extend_from_slice(MIDDLE);
    body.extend_from_slice(wait.as_str().as_bytes());
    body.extend_from_slice(br#""}}"#);
    body.into()
}

/// The refusal in an error, if the node refused the transaction.
fn refusal(fault: &Fault) -> Option<Refusal> {
    if let Some(error) = fault.caused_by(&["INVALID_TRANSACTION"]) {
        return Some(match crate::outcome::read(&error.data, "") {
            crate::outcome::Failure::Refused(refusal) => refusal,
            crate::outcome::Failure::Action(_) => Refusal::Node(error.to_string()),
        });
    }
    fault
        .caused_by(&["PARSE_ERROR"])
        .map(|error| Refusal::Malformed(error.to_string()))
}

/// Waits that ran out, unknown transactions and refusals are answers.
fn tx_answer(answer: Result<TxStatus, RpcError>) -> Result<TxStatus, RpcError> {
    let error = match answer {
        Ok(status) => return Ok(status),
        Err(error) => error,
    };
    if error.fault.caused_by(&["UNKNOWN_TRANSACTION"]).is_some() {
        return Ok(TxStatus::Unknown);
    }
    if let Some(timeout) = error.fault.caused_by(&["TIMEOUT_ERROR"]) {
        // Protocol 88's nodes say what they had seen; older ones leave it open.
        return Ok(if timeout.info.to_string().contains("PENDING") {
            TxStatus::Pending
        } else {
            TxStatus::Unknown
        });
    }
    match refusal(&error.fault) {
        Some(refusal) => Ok(TxStatus::Invalid(refusal)),
        None => Err(error),
    }
}

/// The absence of a state as a value, where the node's error names the block at which it looked.
fn absent<T>(error: RpcError, causes: &[&str]) -> Result<Read<Option<T>>, RpcError> {
    let place = error.fault.caused_by(causes).and_then(|node| {
        let height = node.info.get("block_height")?.as_u64()?;
        let block = node.info.get("block_hash")?.as_str()?.parse().ok()?;
        Some((height, block))
    });
    match place {
        Some((height, block)) => Ok(Read {
            height,
            block,
            value: None,
        }),
        None => Err(error),
    }
}

fn node_status(view: views::StatusView) -> NodeStatus {
    NodeStatus {
        chain_id: view.chain_id,
        protocol_version: view.protocol_version,
        version: if view.version.build.is_empty() {
            view.version.version
        } else {
            format!("{} ({})", view.version.version, view.version.build)
        },
        head: view.sync_info.latest_block_height,
        syncing: view.sync_info.syncing,
    }
}

fn chunk_transaction(view: views::TransactionView) -> ChunkTransaction {
    let actions = view.actions.into_iter().map(|action| match action {
        ActionView::Call { call } => ChunkAction::Call {
            method: call.method_name,
            args: call.args,
        },
        ActionView::Other(_) => ChunkAction::Other,
    });
    ChunkTransaction {
        hash: view.hash,
        signer: view.signer_id,
        public_key: view.public_key,
        nonce: view.nonce,
        receiver: view.receiver_id,
        actions: actions.collect(),
    }
}

/// A permission as JSON: `"FullAccess"` or `{"FunctionCall": {…}}`.
fn read_permission(permission: &Value) -> Permission {
    match permission {
        Value::String(name) if name == "FullAccess" => Permission::FullAccess,
        Value::Object(map) => match map.iter().next() {
            Some((name, details)) if name == "FunctionCall" => Permission::FunctionCall {
                receiver: details
                    .get("receiver_id")
                    .and_then(Value::as_str)
                    .unwrap_or_default()
                    .to_owned(),
            },
            Some((name, _)) => Permission::Other(name.clone()),
            None => Permission::Other("{}".to_owned()),
        },
        other => Permission::Other(other.to_string()),
    }
}
