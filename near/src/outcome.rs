//! nearcore's errors in nearbench's words: a refused transaction, a failed receipt.
//!
//! The types are nearcore's published ones. A variant that a newer node sends and we do not know becomes the most
//! cautious word there is: a hint of a refusal, a systemic failure.

use crate::rpc::{bounded, variant};
use near_primitives::errors::{
    ActionError, ActionErrorKind, CompilationError, FunctionCallError, InvalidAccessKeyError, InvalidTxError,
};
use nearbench_core::outcome::{Execution, FailureKind, Refusal};
use serde::Deserialize;
use serde_json::Value;

/// What `"Failure": …` in an outcome, or `data` of a refused submission, says.
pub(crate) enum Failure {
    /// A receipt failed: evidence.
    Action(Execution),
    /// The transaction was refused: a hint.
    Refused(Refusal),
}

/// Reads a `TxExecutionError`, with or without its outer name; `sender` is the account that signed.
pub(crate) fn read(error: &Value, sender: &str) -> Failure {
    let error = error.get("TxExecutionError").unwrap_or(error);
    if let Some(invalid) = error.get("InvalidTxError") {
        return Failure::Refused(match InvalidTxError::deserialize(invalid) {
            Ok(known) => refusal(&known),
            Err(_) => Refusal::Node(format!("a refusal {}", variant(invalid))),
        });
    }
    let action = error.get("ActionError").unwrap_or(error);
    match ActionError::deserialize(action) {
        Ok(ActionError { index, kind }) => Failure::Action(Execution::Failure { index, kind: failure(&kind, sender) }),
        Err(_) => Failure::Action(Execution::Failure {
            index: action.get("index").and_then(Value::as_u64),
            kind: FailureKind::Action(format!("a failure {}", variant(action.get("kind").unwrap_or(action)))),
        }),
    }
}

/// Why a node refused a transaction.
pub(crate) fn refusal(error: &InvalidTxError) -> Refusal {
    let text = || bounded(&error.to_string());
    match error {
        InvalidTxError::InvalidNonce { ak_nonce, .. } => Refusal::NonceTooLow { key_nonce: *ak_nonce },
        InvalidTxError::NonceTooLarge { upper_bound, .. } => Refusal::NonceTooHigh { upper_bound: *upper_bound },
        InvalidTxError::Expired => Refusal::Expired,
        InvalidTxError::InvalidChain => Refusal::WrongChain,
        InvalidTxError::ShardCongested { shard_id, .. } | InvalidTxError::ShardStuck { shard_id, .. } => {
            Refusal::Congested { shard: u64::from(*shard_id) }
        }
        InvalidTxError::InvalidAccessKeyError(InvalidAccessKeyError::NotEnoughAllowance { .. })
        | InvalidTxError::NotEnoughBalance { .. }
        | InvalidTxError::LackBalanceForState { .. }
        | InvalidTxError::NotEnoughGasKeyBalance { .. }
        | InvalidTxError::NotEnoughBalanceForDeposit { .. } => Refusal::Balance(text()),
        InvalidTxError::InvalidAccessKeyError(_)
        | InvalidTxError::SignerDoesNotExist { .. }
        | InvalidTxError::InvalidNonceIndex { .. } => Refusal::Key(text()),
        InvalidTxError::InvalidSignerId { .. }
        | InvalidTxError::InvalidReceiverId { .. }
        | InvalidTxError::InvalidSignature
        | InvalidTxError::CostOverflow
        | InvalidTxError::ActionsValidation(_)
        | InvalidTxError::TransactionSizeExceeded { .. }
        | InvalidTxError::InvalidTransactionVersion => Refusal::Malformed(text()),
        InvalidTxError::StorageError(_) => Refusal::Node(text()),
    }
}

/// Why a receipt failed.
pub(crate) fn failure(kind: &ActionErrorKind, sender: &str) -> FailureKind {
    match kind {
        ActionErrorKind::FunctionCallError(error) => call_failure(error, sender),
        ActionErrorKind::AccountDoesNotExist { .. } | ActionErrorKind::GlobalContractDoesNotExist { .. } => {
            FailureKind::Contract(bounded(&kind.to_string()))
        }
        _ => FailureKind::Action(bounded(&kind.to_string())),
    }
}

fn call_failure(error: &FunctionCallError, sender: &str) -> FailureKind {
    match error {
        FunctionCallError::ExecutionError(text) => message_failure(text, sender),
        FunctionCallError::MethodResolveError(e) => FailureKind::Contract(bounded(&format!("{e:?}"))),
        FunctionCallError::CompilationError(CompilationError::CodeDoesNotExist { account_id }) => {
            FailureKind::Contract(format!("no contract is deployed at {account_id}"))
        }
        FunctionCallError::CompilationError(e) => FailureKind::Contract(bounded(&format!("{e:?}"))),
        FunctionCallError::LinkError { msg } => FailureKind::Contract(bounded(msg)),
        FunctionCallError::HostError(e) => message_failure(&format!("{e:?}"), sender),
        FunctionCallError::WasmTrap(_) | FunctionCallError::WasmUnknownError | FunctionCallError::_EVMError => {
            FailureKind::Panic(format!("{error:?}"))
        }
    }
}

/// A contract's own words: those of near-contract-standards' `fungible_token/core_impl.rs`, and nearcore's for gas.
fn message_failure(text: &str, sender: &str) -> FailureKind {
    let unregistered = text
        .split_once("The account ")
        .and_then(|(_, rest)| rest.split_once(" is not registered"))
        .map(|(account, _)| account);
    match unregistered {
        Some(account) if account == sender => return FailureKind::SenderUnregistered,
        Some(_) => return FailureKind::Unregistered,
        None => {}
    }
    let says = |needle| text.contains(needle);
    if says("The amount should be a positive number") {
        FailureKind::BadAmount
    } else if says("Sender and receiver should be different") {
        FailureKind::SelfTransfer
    } else if says("The account doesn't have enough balance") {
        FailureKind::SenderBalance
    } else if says("Exceeded the prepaid gas") || says("Exceeded the maximum amount of gas") {
        FailureKind::OutOfGas
    } else if says("MethodNotFound") || says("CodeDoesNotExist") || says("Link Error") {
        FailureKind::Contract(bounded(text))
    } else {
        FailureKind::Panic(bounded(text.strip_prefix("Smart contract panicked: ").unwrap_or(text)))
    }
}

#[cfg(test)]
mod tests;
