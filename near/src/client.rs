//! A chain behind a pool of endpoints: typed reads, and sending. Which endpoint is asked is [`crate::pool`]'s business.

use crate::{
    chain::{
        AccessKey, AccountState, At, Block, ChainIdError, ChunkTransaction, NodeStatus, Permission, Read, SendError,
        Shown, ViewError, Wait,
    },
    pool::{Endpoint, Pool, Reading, TIMED_OUT, Traffic},
    rpc::{self, Fault, RpcError},
    transaction::SignedTx,
    views,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use nearbench_core::{
    Account, Hash, Height, Near,
    outcome::{Refusal, TxStatus},
    plan::{self, ChainLimits},
};
use serde_json::{Value, json};
use std::{fmt, sync::Arc, time::Duration};

/// A node answers a waiting request after at most this (nearcore, `polling_config.polling_timeout`).
const NODE_WAIT: Duration = Duration::from_secs(10);

/// A chain. Cheap to clone; clones share connections and the endpoint in use.
#[derive(Clone)]
pub struct Client(pub(crate) Arc<Pool>);

impl Client {
    /// A client of these endpoints. Each request takes at most the breaker's timeout (waiting ones the node's own bound
    /// more); a read that no endpoint answers is tried again for as long.
    pub fn new(endpoints: Vec<Endpoint>, breaker: &plan::Breaker) -> Self {
        Self(Arc::new(Pool::new(endpoints, breaker)))
    }

    /// From now on compares the heads of the endpoints, and sets those aside that have fallen behind, for as long as a
    /// clone of this client lives. Asks each endpoint every 2 s; nothing to do for a single one.
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub fn watch(&self) {
        self.0.watch();
    }

    /// What was asked of the endpoints so far, by every clone.
    pub fn traffic(&self) -> Traffic {
        self.0.traffic()
    }

    /// How each endpoint does, the preferred one first.
    pub fn readings(&self) -> Vec<Reading> {
        self.0.readings()
    }

    /// For how long the breaker of at least one endpoint was open so far, in nanoseconds.
    pub fn open_ns(&self) -> u64 {
        self.0.open_ns()
    }

    /// What the preferred endpoint says of itself.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn status(&self) -> Result<NodeStatus, RpcError> {
        self.0.read::<views::StatusView>("status", &json!([]), self.0.timeout).await.map(NodeStatus::from)
    }

    /// Checks every endpoint that answers; none may be on another chain, and one has to answer.
    ///
    /// # Errors
    /// Names the endpoint and both chains.
    pub async fn check_chain_id(&self, wanted: &str) -> Result<NodeStatus, ChainIdError> {
        let pool = &self.0;
        // Known from the first check on: a client speaks to one chain.
        let _ = pool.chain_id.set(wanted.to_owned());
        let request = rpc::request("status", &json!([]));
        let mut first = None;
        for endpoint in 0..pool.len() {
            match pool.call::<views::StatusView>(endpoint, "status", request.clone(), pool.timeout).await {
                Ok(status) if status.chain_id != wanted => {
                    let (endpoint, found) = (pool.name(endpoint), rpc::bounded(&status.chain_id));
                    return Err(ChainIdError::Other { endpoint, found, wanted: wanted.to_owned() });
                }
                Ok(status) => _ = first.get_or_insert_with(|| NodeStatus::from(status)),
                Err(error) => tracing::debug!(%error, "endpoint failed"),
            }
        }
        if let Some(first) = first {
            return Ok(first);
        }
        // None of them at the first go: whichever answers before time is up.
        let status: views::StatusView = pool.read("status", &json!([]), pool.timeout).await?;
        if status.chain_id != wanted {
            let (endpoint, found) = ("the endpoint".into(), rpc::bounded(&status.chain_id));
            return Err(ChainIdError::Other { endpoint, found, wanted: wanted.to_owned() });
        }
        Ok(NodeStatus::from(status))
    }

    /// A block and its new chunks.
    ///
    /// # Errors
    /// When it is unknown or collected, or no endpoint answers.
    pub async fn block(&self, at: At) -> Result<Block, RpcError> {
        let fits = |view: &views::BlockView| view.is_at(at);
        self.0.read_fitting("block", &at.params(), self.0.timeout, TIMED_OUT, &fits).await.map(Block::from)
    }

    /// The transactions of a chunk, in order.
    ///
    /// # Errors
    /// When it is unknown or collected, or no endpoint answers.
    pub async fn chunk(&self, hash: Hash) -> Result<Vec<ChunkTransaction>, RpcError> {
        let (params, again) = (json!({ "chunk_id": hash }), &["TIMEOUT_ERROR", "UNKNOWN_CHUNK"]);
        let fits = |chunk: &views::ChunkView| chunk.header.chunk_hash == hash;
        let chunk = self.0.read_fitting("chunk", &params, self.0.timeout, again, &fits).await?;
        Ok(chunk.transactions.into_iter().map(ChunkTransaction::from).collect())
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
        let params = Self::key_params(account, public_key, at);
        let fits = |view: &views::KeyView| at.is(view.block_height, view.block_hash);
        Self::key_answer(self.0.read_fitting("query", &params, self.0.timeout, at.again(), &fits).await)
    }

    pub(crate) fn key_params(account: &Account, public_key: &str, at: At) -> Value {
        at.query(json!({ "request_type": "view_access_key", "account_id": account, "public_key": public_key }))
    }

    pub(crate) fn key_answer(answer: Result<views::KeyView, RpcError>) -> Result<Read<Option<AccessKey>>, RpcError> {
        match answer {
            Ok(view) => {
                let value =
                    view.key.map(|(nonce, permission)| AccessKey { nonce, permission: Permission::read(&permission) });
                Ok(Read { height: view.block_height, block: view.block_hash, value })
            }
            Err(error) => absent(error, &["UNKNOWN_ACCESS_KEY", "UNKNOWN_ACCOUNT"]),
        }
    }

    /// An account; `None` where it does not exist.
    ///
    /// # Errors
    /// When the block is unknown or collected, or no endpoint answers.
    pub async fn account(&self, account: &Account, at: At) -> Result<Read<Option<AccountState>>, RpcError> {
        #[derive(serde::Deserialize)]
        struct Answer {
            block_height: Height,
            block_hash: Hash,
            #[serde(flatten)]
            account: views::AccountView,
        }
        let params = at.query(json!({ "request_type": "view_account", "account_id": account }));
        let fits = |answer: &Answer| at.is(answer.block_height, answer.block_hash);
        match self.0.read_fitting("query", &params, self.0.timeout, at.again(), &fits).await {
            Ok(Answer { block_height, block_hash, account }) => {
                let has_code = account.code_hash != Hash::default()
                    || account.global_contract_hash.is_some()
                    || account.global_contract_account_id.is_some();
                let state =
                    AccountState { balance: Near(account.amount), storage_bytes: account.storage_usage, has_code };
                Ok(Read { height: block_height, block: block_hash, value: Some(state) })
            }
            Err(error) => absent(error, &["UNKNOWN_ACCOUNT"]),
        }
    }

    /// Calls a view method with JSON arguments; the bytes that it returns.
    ///
    /// # Errors
    /// When there is no such contract or method, it refuses, or no endpoint answers.
    pub async fn view(&self, contract: &Account, method: &str, args: &Value, at: At) -> Result<Vec<u8>, ViewError> {
        let args = STANDARD.encode(args.to_string());
        let params = at.query(json!({
            "request_type": "call_function", "account_id": contract, "method_name": method, "args_base64": args,
        }));
        let refused = |said: &str| ViewError::Contract {
            contract: contract.clone(),
            method: method.to_owned(),
            reason: why(said),
        };
        let fits = |view: &views::CallResultView| at.is(view.block_height, view.block_hash);
        match self.0.read_fitting("query", &params, self.0.timeout, at.again(), &fits).await {
            Ok(views::CallResultView { answer, .. }) => answer.map_err(|said| refused(&said)),
            Err(error) => {
                let causes = ["NO_CONTRACT_CODE", "CONTRACT_EXECUTION_ERROR", "UNKNOWN_ACCOUNT"];
                Err(match error.fault.caused_by(&causes) {
                    Some(node) => refused(&format!("{} {} {}", node.cause, node.info, node.data)),
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
        Ok(Near(self.config().await?.runtime_config.storage_amount_per_byte))
    }

    async fn config(&self) -> Result<views::ConfigView, RpcError> {
        self.0.read("EXPERIMENTAL_protocol_config", &json!({ "finality": "final" }), self.0.timeout).await
    }

    /// What a unit of gas costs at the head, in yoctoNEAR.
    ///
    /// # Errors
    /// When no endpoint answers.
    pub async fn gas_price(&self) -> Result<Near, RpcError> {
        let view: views::GasPriceView = self.0.read("gas_price", &json!([null]), self.0.timeout).await?;
        Ok(Near(view.gas_price))
    }

    /// Hands a transaction to the endpoint in use, which answers at once and checks nothing.
    ///
    /// # Errors
    /// When the endpoint did not answer; it may have the transaction all the same.
    pub async fn send(&self, tx: &SignedTx) -> Result<(), SendError> {
        let request = send_request(tx, Wait::None);
        match self.0.send::<serde::de::IgnoredAny>("send_tx", request, self.0.timeout).await {
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
    pub async fn resend_and_learn(&self, tx: &SignedTx, sender: &Account) -> Result<TxStatus, RpcError> {
        let request = send_request(tx, Wait::ExecutedOptimistic);
        let answer = self.0.send::<views::TxView>("send_tx", request, self.0.timeout + NODE_WAIT).await;
        tx_answer(answer.map(|view| view.status(tx.hash, sender)))
    }

    /// What became of a transaction that `sender` signed. With [`Wait::Final`], `Landed` means that all its receipts are in
    /// final blocks.
    ///
    /// # Errors
    /// When no endpoint answers. A transaction that is not known is a value.
    pub async fn tx_status(&self, hash: Hash, sender: &Account, wait: Wait) -> Result<TxStatus, RpcError> {
        tx_answer(self.tx_view(hash, sender, wait).await.map(|view| view.status(hash, sender)))
    }

    /// The same, with the block that the outcome is recorded in.
    pub(crate) async fn tx_shown(&self, hash: Hash, sender: &Account, wait: Wait) -> Result<Shown, RpcError> {
        shown(self.tx_view(hash, sender, wait).await, hash, sender)
    }

    pub(crate) async fn tx_view(&self, hash: Hash, sender: &Account, wait: Wait) -> Result<views::TxView, RpcError> {
        let params = json!({ "tx_hash": hash, "sender_account_id": sender, "wait_until": wait.as_str() });
        let timeout = if wait == Wait::None { self.0.timeout } else { self.0.timeout + NODE_WAIT };
        // A wait that ran out is an answer here.
        self.0.read_fitting("tx", &params, timeout, &[], &|_| true).await
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The bytes of a `send_tx`: a template around the transaction's base64.
fn send_request(tx: &SignedTx, wait: Wait) -> Bytes {
    const HEAD: &[u8] = br#"{"jsonrpc":"2.0","id":"nearbench","method":"send_tx","params":{"signed_tx_base64":""#;
    const MIDDLE: &[u8] = br#"","wait_until":""#;
    let mut body = Vec::with_capacity(HEAD.len() + tx.bytes.len().div_ceil(3) * 4 + MIDDLE.len() + 32);
    body.extend_from_slice(HEAD);
    tx.write_base64(&mut body);
    body.extend_from_slice(MIDDLE);
    body.extend_from_slice(wait.as_str().as_bytes());
    body.extend_from_slice(br#""}}"#);
    body.into()
}

/// Why a view failed, in our words: a contract's own could be anything.
fn why(said: &str) -> String {
    const KNOWN: [(&str, &str); 6] = [
        ("MethodNotFound", "it has no such method"),
        ("MethodResolveError", "it has no such method"),
        ("UNKNOWN_ACCOUNT", "there is no such account"),
        ("NO_CONTRACT_CODE", "no contract is deployed there"),
        ("CodeDoesNotExist", "no contract is deployed there"),
        ("panicked", "the contract panicked"),
    ];
    KNOWN.iter().find(|(word, _)| said.contains(word)).map_or("the contract refused it", |(_, why)| why).to_owned()
}

/// The refusal in an error, if the node refused the transaction.
fn refusal(fault: &Fault) -> Option<Refusal> {
    if let Some(error) = fault.caused_by(&["INVALID_TRANSACTION"]) {
        return Some(match crate::outcome::read(&error.data, "") {
            crate::outcome::Failure::Refused(refusal) => refusal,
            crate::outcome::Failure::Action(_) => Refusal::Node(error.to_string()),
        });
    }
    fault.caused_by(&["PARSE_ERROR"]).map(|error| Refusal::Malformed(error.to_string()))
}

/// What an answer to `tx` shows.
pub(crate) fn shown(answer: Result<views::TxView, RpcError>, hash: Hash, sender: &str) -> Result<Shown, RpcError> {
    let block = answer.as_ref().ok().and_then(|view| view.recorded_in(hash));
    Ok(Shown { status: tx_answer(answer.map(|view| view.status(hash, sender)))?, block })
}

/// Waits that ran out, unknown transactions and refusals are answers.
pub(crate) fn tx_answer(answer: Result<TxStatus, RpcError>) -> Result<TxStatus, RpcError> {
    let error = match answer {
        Ok(status) => return Ok(status),
        Err(error) => error,
    };
    if error.fault.caused_by(&["UNKNOWN_TRANSACTION"]).is_some() {
        return Ok(TxStatus::Unknown);
    }
    if let Some(timeout) = error.fault.caused_by(&["TIMEOUT_ERROR"]) {
        // Protocol 88's nodes say what they had seen; older ones leave it open.
        return Ok(if timeout.info.to_string().contains("PENDING") { TxStatus::Pending } else { TxStatus::Unknown });
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
        Some((height, block)) => Ok(Read { height, block, value: None }),
        None => Err(error),
    }
}
