//! Transactions: sending them and following them.
//!
//! How far a transaction has come is a pure function of what the chain shows of it ([`Trace`]); waiting is looking
//! again after each chunk and each block.

use super::{
    params::{read, take},
    site::{Sight, Site},
    value, view,
};
use crate::block::{OutcomeRecord, TransactionRecord};
use borsh::BorshDeserialize;
use near_jsonrpc_primitives::{
    errors::{RpcError, RpcErrorKind},
    types::transactions::{
        RpcSendTransactionRequest, RpcTransactionError, RpcTransactionResponse, RpcTransactionStatusRequest,
        TransactionInfo,
    },
};
use near_primitives::{
    errors::InvalidTxError,
    hash::CryptoHash,
    receipt::Receipt,
    serialize::from_base64,
    transaction::{ExecutionStatus, SignedTransaction},
    views::{
        FinalExecutionOutcomeView, FinalExecutionOutcomeViewEnum, FinalExecutionOutcomeWithReceiptView,
        FinalExecutionStatus, SignedTransactionView, TxExecutionStatus,
    },
};
use serde_json::Value;
use std::{collections::HashSet, sync::Arc, time::Duration};
use tokio::time::{Instant, timeout_at};

/// A waiting request is answered after this at the latest (nearcore: `polling_timeout`).
const LONGEST_WAIT: Duration = Duration::from_secs(10);

pub(super) async fn send(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let RpcSendTransactionRequest { signed_transaction, wait_until } = send_request(params)?;
    value(submit_and_wait(node, signed_transaction, wait_until).await.map_err(error)?)
}

pub(super) async fn broadcast_commit(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let RpcSendTransactionRequest { signed_transaction, .. } = send_request(params)?;
    value(submit_and_wait(node, signed_transaction, TxExecutionStatus::ExecutedOptimistic).await.map_err(error)?)
}

pub(super) fn broadcast_async(node: &Site<'_>, params: Value) -> Result<Value, RpcError> {
    let RpcSendTransactionRequest { signed_transaction, .. } = send_request(params)?;
    let hash = signed_transaction.get_hash();
    submit_unheard(node, signed_transaction);
    value(hash.to_string())
}

pub(super) async fn status(node: &Site<'_>, params: Value, with_receipts: bool) -> Result<Value, RpcError> {
    let RpcTransactionStatusRequest { transaction_info, wait_until } = status_request(params)?;
    let (hash, _) = transaction_info.to_tx_hash_and_account();
    value(wait(node, hash, &wait_until, with_receipts).await.map_err(error)?)
}

/// By name, or the transaction alone.
fn send_request(params: Value) -> Result<RpcSendTransactionRequest, RpcError> {
    match params {
        Value::Array(values) if values.len() == 2 => {
            Err(RpcError::parse_error("Unable to parse send request: too many params passed".to_owned()))
        }
        params => match take::<1>(params) {
            Ok([transaction]) => Ok(RpcSendTransactionRequest {
                signed_transaction: decode(transaction)?,
                wait_until: TxExecutionStatus::default(),
            }),
            Err(params) => read(params),
        },
    }
}

/// By name, or hash and sender, or the transaction alone.
fn status_request(params: Value) -> Result<RpcTransactionStatusRequest, RpcError> {
    let transaction_info = match take::<2>(params) {
        Ok([hash, sender]) => TransactionInfo::TransactionId { tx_hash: read(hash)?, sender_account_id: read(sender)? },
        Err(params) => match take::<1>(params) {
            Ok([transaction]) => TransactionInfo::from_signed_tx(decode(transaction)?),
            Err(params) => return read(params),
        },
    };
    Ok(RpcTransactionStatusRequest { transaction_info, wait_until: TxExecutionStatus::default() })
}

fn decode(transaction: Value) -> Result<SignedTransaction, RpcError> {
    let failed = |error: String| RpcError::parse_error(format!("Failed to decode transaction: {error}"));
    let bytes = from_base64(&read::<String>(transaction)?).map_err(|error| failed(error.to_string()))?;
    SignedTransaction::try_from_slice(&bytes).map_err(|error| failed(error.to_string()))
}

/// What is answered to who waited in vain.
pub(super) fn timeout() -> RpcError {
    error(RpcTransactionError::TimeoutError(None))
}

/// As nearcore of protocol 86 prints it: a timeout says nothing of its cause.
fn error(error: RpcTransactionError) -> RpcError {
    let mut error = RpcError::from(error);
    if let Some(RpcErrorKind::HandlerError(cause)) = &mut error.error_struct
        && let Some(cause) = cause.as_object_mut()
        && cause.get("info").is_some_and(Value::is_null)
    {
        cause.remove("info");
    }
    error
}

fn submit_unheard(node: &Site<'_>, transaction: SignedTransaction) {
    let hash = transaction.get_hash();
    if let Err(error) = node.submit(transaction) {
        tracing::debug!(tx_hash = %hash, %error, "a transaction whose sender does not listen was refused");
    }
}

async fn submit_and_wait(
    node: &Site<'_>,
    transaction: SignedTransaction,
    wait_until: TxExecutionStatus,
) -> Result<RpcTransactionResponse, RpcTransactionError> {
    if wait_until == TxExecutionStatus::None {
        submit_unheard(node, transaction);
        return Ok(RpcTransactionResponse {
            final_execution_outcome: None,
            final_execution_status: TxExecutionStatus::None,
        });
    }
    let hash = transaction.get_hash();
    match node.submit(transaction) {
        Ok(_) => {}
        // These bytes may be what used the nonce up; nearcore looks only after this error.
        Err(InvalidTxError::InvalidNonce { .. }) if node.chain().transaction(&hash).is_some() => {}
        Err(context) => return Err(RpcTransactionError::InvalidTransaction { context }),
    }
    wait(node, hash, &wait_until, false).await
}

async fn wait(
    node: &Site<'_>,
    hash: CryptoHash,
    wait_until: &TxExecutionStatus,
    with_receipts: bool,
) -> Result<RpcTransactionResponse, RpcTransactionError> {
    let deadline = Instant::now() + LONGEST_WAIT;
    let mut progress = node.progress();
    loop {
        let seen = {
            let chain = node.chain();
            Trace::look(&chain, &hash, with_receipts).map(|trace| (trace, chain.final_block().height))
        };
        match seen {
            Some((trace, final_height)) => {
                let status = trace.status(final_height);
                if satisfies(&status, wait_until) {
                    return Ok(trace.into_response(status, with_receipts));
                }
            }
            None if *wait_until == TxExecutionStatus::None => {
                return Err(RpcTransactionError::UnknownTransaction { requested_transaction_hash: hash });
            }
            None => {}
        }
        if !matches!(timeout_at(deadline, progress.changed()).await, Ok(Ok(()))) {
            return Err(RpcTransactionError::TimeoutError(None));
        }
    }
}

/// Whether a transaction that has come this far is as far as it was waited for. EXECUTED_OPTIMISTIC and
/// INCLUDED_FINAL do not imply each other.
fn satisfies(status: &TxExecutionStatus, wait_until: &TxExecutionStatus) -> bool {
    use TxExecutionStatus::{Executed, ExecutedOptimistic, Final, Included, IncludedFinal, None};
    match wait_until {
        None => true,
        Included => *status != None,
        ExecutedOptimistic => matches!(status, ExecutedOptimistic | Executed | Final),
        IncludedFinal => matches!(status, IncludedFinal | Executed | Final),
        Executed => matches!(status, Executed | Final),
        Final => *status == Final,
    }
}

/// What the chain shows of a transaction.
struct Trace {
    transaction: TransactionRecord,
    /// Its own outcome first, then those of its receipts, each followed by those of the receipts it made.
    outcomes: Vec<Arc<OutcomeRecord>>,
    /// The receipts of these outcomes; only where they were asked for.
    receipts: Vec<Arc<Receipt>>,
}

impl Trace {
    fn look(chain: &Sight<'_>, hash: &CryptoHash, with_receipts: bool) -> Option<Self> {
        let transaction = chain.transaction(hash)?;
        let mut outcomes = Vec::new();
        let mut ahead = vec![*hash];
        while let Some(id) = ahead.pop() {
            if let Some(record) = chain.outcome(&id) {
                ahead.extend(record.outcome.outcome.receipt_ids.iter().rev());
                outcomes.push(record);
            }
        }
        let receipts = if with_receipts {
            outcomes.iter().skip(1).filter_map(|record| chain.receipt(&record.outcome.id)).collect()
        } else {
            Vec::new()
        };
        Some(Self { transaction, outcomes, receipts })
    }

    /// The highest level that it has reached by nearcore's rules (`get_tx_execution_status`): the last receipt that
    /// a receipt made counts as a refund, and refunds matter only to FINAL.
    fn status(&self, final_height: u64) -> TxExecutionStatus {
        let Some((own, rest)) = self.outcomes.split_first() else {
            return TxExecutionStatus::Included;
        };
        let executed: HashSet<&CryptoHash> = rest.iter().map(|record| &record.outcome.id).collect();
        let made = |record: &Arc<OutcomeRecord>, refunds: bool| {
            let ids = &record.outcome.outcome.receipt_ids;
            let counted = if refunds { ids.len() } else { ids.len().saturating_sub(1) };
            ids[..counted].iter().all(|id| executed.contains(id))
        };
        let done = made(own, true) && rest.iter().all(|record| made(record, false));
        let done_with_refunds = done && rest.iter().all(|record| made(record, true));
        match (own.height <= final_height, done) {
            (false, false) => TxExecutionStatus::Included,
            (false, true) => TxExecutionStatus::ExecutedOptimistic,
            (true, false) => TxExecutionStatus::IncludedFinal,
            (true, true) if done_with_refunds && rest.iter().all(|record| record.height <= final_height) => {
                TxExecutionStatus::Final
            }
            (true, true) => TxExecutionStatus::Executed,
        }
    }

    /// The result: that of the outcome in which the chain of promised results ends.
    fn result(&self) -> FinalExecutionStatus {
        let mut promised = None;
        for record in &self.outcomes {
            if promised.is_some_and(|id| id != record.outcome.id) {
                continue;
            }
            match &record.outcome.outcome.status {
                ExecutionStatus::Unknown if self.outcomes.len() == 1 => {
                    return FinalExecutionStatus::NotStarted;
                }
                ExecutionStatus::Unknown => return FinalExecutionStatus::Started,
                ExecutionStatus::Failure(error) => {
                    return FinalExecutionStatus::Failure(error.clone());
                }
                ExecutionStatus::SuccessValue(value) => {
                    return FinalExecutionStatus::SuccessValue(value.clone());
                }
                ExecutionStatus::SuccessReceiptId(id) => promised = Some(*id),
            }
        }
        FinalExecutionStatus::Started
    }

    fn into_response(self, status: TxExecutionStatus, with_receipts: bool) -> RpcTransactionResponse {
        let outcome = self.outcomes.split_first().map(|(own, rest)| FinalExecutionOutcomeView {
            status: self.result(),
            transaction: SignedTransactionView::from(SignedTransaction::clone(&self.transaction.transaction)),
            transaction_outcome: own.to_view(),
            receipts_outcome: rest.iter().map(|record| record.to_view()).collect(),
        });
        let outcome = outcome.map(|final_outcome| {
            if with_receipts {
                FinalExecutionOutcomeViewEnum::FinalExecutionOutcomeWithReceipt(FinalExecutionOutcomeWithReceiptView {
                    receipts: self.shown_receipts(),
                    final_outcome,
                })
            } else {
                FinalExecutionOutcomeViewEnum::FinalExecutionOutcome(final_outcome)
            }
        });
        RpcTransactionResponse { final_execution_outcome: outcome, final_execution_status: status }
    }

    /// nearcore does not show the receipt of a transaction to oneself, which it never stored.
    fn shown_receipts(&self) -> Vec<near_primitives::views::ReceiptView> {
        let transaction = &self.transaction.transaction.transaction;
        let local = transaction.signer_id() == transaction.receiver_id();
        let own = self.outcomes.first().and_then(|own| own.outcome.outcome.receipt_ids.first());
        self.receipts
            .iter()
            .filter(|receipt| !(local && own == Some(receipt.receipt_id())))
            .map(|receipt| view::receipt(Receipt::clone(receipt)))
            .collect()
    }
}
