//! The parts of nearcore's answers that nearbench reads (nearcore, `core/primitives/src/views.rs`). Other fields are ignored,
//! so that nodes older and newer than our nearcore crates can be read.

use crate::{
    chain::At,
    outcome::{self, Failure},
};
use base64::Engine;
use nearbench_core::{
    Gas, Hash, Height, Nonce,
    outcome::{BlockRef, Execution, Landed, TxStatus},
    settle::KeyChange,
};
use serde::{Deserialize, Deserializer, de::IgnoredAny};
use serde_json::Value;

/// A u64 that comes as a number or as text: JavaScript in between cannot hold numbers above 2^53.
fn wide<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Wide {
        Number(u64),
        Text(String),
    }
    match Wide::deserialize(deserializer)? {
        Wide::Number(number) => Ok(number),
        Wide::Text(text) => text.parse().map_err(serde::de::Error::custom),
    }
}

/// A balance: decimal text.
fn balance<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u128, D::Error> {
    std::borrow::Cow::<'de, str>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
}

#[derive(Deserialize)]
pub(crate) struct StatusView {
    pub(crate) version: VersionView,
    pub(crate) chain_id: String,
    pub(crate) protocol_version: u32,
    pub(crate) sync_info: SyncView,
}

#[derive(Deserialize)]
pub(crate) struct VersionView {
    pub(crate) version: String,
    #[serde(default)]
    pub(crate) build: String,
}

#[derive(Deserialize)]
pub(crate) struct SyncView {
    pub(crate) latest_block_height: Height,
    pub(crate) syncing: bool,
}

#[derive(Deserialize)]
pub(crate) struct BlockView {
    pub(crate) header: HeaderView,
    pub(crate) chunks: Vec<ChunkHeaderView>,
}

#[derive(Deserialize)]
pub(crate) struct HeaderView {
    height: Height,
    hash: Hash,
    prev_hash: Hash,
    #[serde(deserialize_with = "wide")]
    timestamp_nanosec: u64,
}

#[derive(Deserialize)]
pub(crate) struct ChunkHeaderView {
    /// Burnt by the chunk before it of its shard.
    #[serde(deserialize_with = "wide")]
    pub(crate) gas_used: Gas,
    #[serde(deserialize_with = "wide")]
    pub(crate) gas_limit: Gas,
    pub(crate) chunk_hash: Hash,
    pub(crate) height_included: Height,
}

impl BlockView {
    /// Whether it is the block that was asked for.
    pub(crate) fn is_at(&self, at: At) -> bool {
        at.is(self.header.height, self.header.hash)
    }
}

impl HeaderView {
    pub(crate) fn block_ref(&self) -> BlockRef {
        BlockRef {
            height: self.height,
            hash: self.hash,
            prev_hash: self.prev_hash,
            timestamp_ns: self.timestamp_nanosec,
        }
    }
}

#[derive(Deserialize)]
pub(crate) struct ChunkView {
    pub(crate) header: ChunkNameView,
    pub(crate) transactions: Vec<TransactionView>,
    pub(crate) receipts: Vec<ReceiptView>,
}

#[derive(Deserialize)]
pub(crate) struct ChunkNameView {
    pub(crate) chunk_hash: Hash,
}

#[derive(Deserialize)]
pub(crate) struct TransactionView {
    pub(crate) signer_id: String,
    pub(crate) public_key: String,
    pub(crate) nonce: Nonce,
    pub(crate) receiver_id: String,
    pub(crate) hash: Hash,
    pub(crate) actions: Vec<ActionView>,
}

/// A receipt on its way.
#[derive(Deserialize)]
pub(crate) struct ReceiptView {
    pub(crate) predecessor_id: String,
    pub(crate) receiver_id: String,
    pub(crate) receipt_id: Hash,
    pub(crate) receipt: ReceiptKindView,
}

#[derive(Deserialize)]
pub(crate) struct ReceiptKindView {
    /// Absent of data and what else is no call.
    #[serde(rename = "Action")]
    pub(crate) action: Option<ActionReceiptView>,
}

#[derive(Deserialize)]
pub(crate) struct ActionReceiptView {
    pub(crate) signer_id: String,
    pub(crate) signer_public_key: String,
    pub(crate) actions: Vec<ActionView>,
}

#[derive(Deserialize)]
#[serde(untagged)]
pub(crate) enum ActionView {
    Call {
        #[serde(rename = "FunctionCall")]
        call: CallView,
    },
    Transfer {
        #[serde(rename = "Transfer")]
        _transfer: IgnoredAny,
    },
    Other(IgnoredAny),
}

#[derive(Deserialize)]
pub(crate) struct CallView {
    pub(crate) method_name: String,
    #[serde(deserialize_with = "base64_bytes")]
    pub(crate) args: Vec<u8>,
}

fn base64_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
    base64::engine::general_purpose::STANDARD.decode(&*text).map_err(serde::de::Error::custom)
}

/// The answer to `view_access_key`; a missing key is an `error` text inside the result (nearcore keeps that for
/// compatibility).
#[derive(Deserialize)]
#[serde(try_from = "RawKeyView")]
pub(crate) struct KeyView {
    pub(crate) block_height: Height,
    pub(crate) block_hash: Hash,
    /// Its nonce and permission, if there is such a key.
    pub(crate) key: Option<(Nonce, Value)>,
}

#[derive(Deserialize)]
struct RawKeyView {
    block_height: Height,
    block_hash: Hash,
    nonce: Option<Nonce>,
    permission: Option<Value>,
    error: Option<String>,
}

impl TryFrom<RawKeyView> for KeyView {
    type Error = &'static str;

    fn try_from(raw: RawKeyView) -> Result<Self, Self::Error> {
        let RawKeyView { block_height, block_hash, nonce, permission, error } = raw;
        let key = match (nonce, permission) {
            (Some(nonce), Some(permission)) => Some((nonce, permission)),
            _ if error.is_some_and(|text| text.contains("does not exist while viewing")) => None,
            _ => return Err("neither a key nor its absence"),
        };
        Ok(Self { block_height, block_hash, key })
    }
}

/// The answer to `EXPERIMENTAL_changes` of access keys.
#[derive(Deserialize)]
pub(crate) struct ChangesView {
    pub(crate) block_hash: Hash,
    changes: Vec<ChangeView>,
}

#[derive(Deserialize)]
struct ChangeView {
    cause: CauseView,
    #[serde(rename = "type")]
    kind: String,
    change: KeyChangeView,
}

#[derive(Deserialize)]
struct CauseView {
    tx_hash: Option<Hash>,
}

#[derive(Deserialize)]
struct KeyChangeView {
    account_id: String,
    public_key: String,
    access_key: Option<NewKeyView>,
}

#[derive(Deserialize)]
struct NewKeyView {
    #[serde(deserialize_with = "wide")]
    nonce: Nonce,
}

impl ChangesView {
    /// Whether it is about this key alone, in this block.
    pub(crate) fn is_about(&self, account: &str, public_key: &str, block: Hash) -> bool {
        let is_its =
            |change: &ChangeView| change.change.account_id == account && change.change.public_key == public_key;
        self.block_hash == block && self.changes.iter().all(is_its)
    }

    /// What moved the key's nonce, and what removed it. A receipt may change a key too (its allowance); it moves no nonce.
    pub(crate) fn key_changes(self) -> Vec<KeyChange> {
        let change = |change: ChangeView| match (change.cause.tx_hash, change.change.access_key, &*change.kind) {
            (Some(by), Some(NewKeyView { nonce }), _) => Some(KeyChange::Moved { by, nonce }),
            (_, None, "access_key_deletion") => Some(KeyChange::Removed),
            _ => None,
        };
        self.changes.into_iter().filter_map(change).collect()
    }
}

#[derive(Deserialize)]
pub(crate) struct AccountView {
    #[serde(deserialize_with = "balance")]
    pub(crate) amount: u128,
    pub(crate) storage_usage: u64,
    pub(crate) code_hash: Hash,
    pub(crate) global_contract_hash: Option<String>,
    pub(crate) global_contract_account_id: Option<String>,
}

/// The answer to `call_function`; a contract's error is text inside the result.
#[derive(Deserialize)]
#[serde(try_from = "RawCallResultView")]
pub(crate) struct CallResultView {
    pub(crate) block_height: Height,
    pub(crate) block_hash: Hash,
    pub(crate) answer: Result<Vec<u8>, String>,
}

#[derive(Deserialize)]
struct RawCallResultView {
    block_height: Height,
    block_hash: Hash,
    result: Option<Vec<u8>>,
    error: Option<String>,
}

impl TryFrom<RawCallResultView> for CallResultView {
    type Error = &'static str;

    fn try_from(raw: RawCallResultView) -> Result<Self, Self::Error> {
        let RawCallResultView { block_height, block_hash, result, error } = raw;
        let answer = match (result, error) {
            (_, Some(error)) => Err(error),
            (Some(bytes), None) => Ok(bytes),
            (None, None) => return Err("neither result nor error"),
        };
        Ok(Self { block_height, block_hash, answer })
    }
}

#[derive(Deserialize)]
pub(crate) struct GasPriceView {
    #[serde(deserialize_with = "balance")]
    pub(crate) gas_price: u128,
}

#[derive(Deserialize)]
pub(crate) struct ConfigView {
    pub(crate) protocol_version: u32,
    #[serde(deserialize_with = "wide")]
    pub(crate) gas_limit: u64,
    #[serde(deserialize_with = "wide")]
    pub(crate) transaction_validity_period: u64,
    pub(crate) runtime_config: RuntimeView,
}

#[derive(Deserialize)]
pub(crate) struct RuntimeView {
    #[serde(deserialize_with = "balance")]
    pub(crate) storage_amount_per_byte: u128,
    pub(crate) wasm_config: WasmView,
}

#[derive(Deserialize)]
pub(crate) struct WasmView {
    pub(crate) limit_config: LimitView,
}

#[derive(Deserialize)]
pub(crate) struct LimitView {
    #[serde(deserialize_with = "wide")]
    pub(crate) max_actions_per_receipt: u64,
    #[serde(deserialize_with = "wide")]
    pub(crate) max_total_prepaid_gas: u64,
    #[serde(deserialize_with = "wide")]
    pub(crate) max_transaction_size: u64,
}

/// The answer to `tx` and `send_tx`.
#[derive(Deserialize)]
pub(crate) struct TxView {
    final_execution_status: String,
    transaction_outcome: Option<OutcomeView>,
    #[serde(default)]
    receipts_outcome: Vec<OutcomeView>,
}

/// The answer to `EXPERIMENTAL_light_client_proof`. The outcome's `block_hash` is there that of the block which commits to
/// it, the next with a chunk of the shard (nearcore, `view_client_actor.rs`, `GetExecutionOutcome`).
#[derive(Deserialize)]
pub(crate) struct LightProofView {
    pub(crate) outcome_proof: OutcomeView,
    pub(crate) block_header_lite: LightHeaderView,
}

#[derive(Deserialize)]
pub(crate) struct LightHeaderView {
    pub(crate) prev_block_hash: Hash,
}

#[derive(Deserialize)]
pub(crate) struct OutcomeView {
    pub(crate) id: Hash,
    block_hash: Hash,
    pub(crate) outcome: ExecutionView,
}

#[derive(Deserialize)]
pub(crate) struct ExecutionView {
    #[serde(default)]
    pub(crate) logs: Vec<String>,
    #[serde(deserialize_with = "wide")]
    pub(crate) gas_burnt: Gas,
    receipt_ids: Vec<Hash>,
    status: Value,
}

impl TxView {
    /// What became of transaction `hash` that `sender` signed: judged by the receipt that its conversion made, never by the
    /// summary, which speaks of the last receipt. An answer about another transaction says nothing of this one.
    pub(crate) fn status(&self, hash: Hash, sender: &str) -> TxStatus {
        if self.transaction_outcome.as_ref().is_some_and(|conversion| conversion.id != hash) {
            return TxStatus::Pending;
        }
        let Some(conversion) = &self.transaction_outcome else {
            return if self.final_execution_status == "NONE" { TxStatus::Unknown } else { TxStatus::Pending };
        };
        let Some(receipt) = conversion.outcome.receipt_ids.first() else {
            return match conversion.outcome.status.get("Failure").map(|error| outcome::read(error, sender)) {
                Some(Failure::Refused(refusal)) => TxStatus::Invalid(refusal),
                _ => TxStatus::Pending,
            };
        };
        let Some(executed) = self.receipts_outcome.iter().find(|outcome| outcome.id == *receipt) else {
            return TxStatus::Pending;
        };
        match executed.outcome.execution(sender) {
            Some(execution) => TxStatus::Landed(Landed {
                receipt: *receipt,
                block: executed.block_hash,
                execution,
                gas_burnt: self.gas_burnt(conversion),
            }),
            None => TxStatus::Pending,
        }
    }

    /// The block that holds the transaction with the outcome that is shown.
    pub(crate) fn recorded_in(&self, hash: Hash) -> Option<Hash> {
        self.transaction_outcome.as_ref().filter(|own| own.id == hash).map(|own| own.block_hash)
    }

    /// The first failure among all receipts, those that a contract made included.
    pub(crate) fn any_failure(&self, sender: &str) -> Option<Execution> {
        self.receipts_outcome
            .iter()
            .filter_map(|outcome| outcome.outcome.execution(sender))
            .find(|execution| *execution != Execution::Success)
    }

    fn gas_burnt(&self, conversion: &OutcomeView) -> Gas {
        let receipts = self.receipts_outcome.iter().map(|outcome| outcome.outcome.gas_burnt);
        receipts.fold(conversion.outcome.gas_burnt, Gas::saturating_add)
    }
}

impl ExecutionView {
    pub(crate) fn execution(&self, sender: &str) -> Option<Execution> {
        if let Some(error) = self.status.get("Failure") {
            return Some(match outcome::read(error, sender) {
                Failure::Action(execution) => execution,
                Failure::Refused(refusal) => Execution::Failure {
                    index: None,
                    kind: nearbench_core::outcome::FailureKind::Action(format!("{refusal:?}")),
                },
            });
        }
        let succeeded = self.status.get("SuccessValue").is_some() || self.status.get("SuccessReceiptId").is_some();
        succeeded.then_some(Execution::Success)
    }
}
