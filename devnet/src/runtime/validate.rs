//! What can be said of a transaction or a receipt without the state: sizes, limits, shape, signature.
//! Source: nearcore `runtime/runtime/src/verifier.rs` and `action_validation.rs`.

use near_parameters::vm::LimitConfig;
use near_primitives::account::{AccessKeyPermission, FunctionCallPermission};
use near_primitives::errors::{ActionsValidationError, InvalidTxError, ReceiptValidationError};
use near_primitives::receipt::{Receipt, VersionedReceiptEnum};
use near_primitives::transaction::{Action, SignedTransaction, ValidatedTransaction};
use near_primitives::types::{AccountId, Gas};
use near_primitives::version::ProtocolFeature;

use super::Rules;

/// Checks what needs no state, in nearcore's order: actions, size, version, signature.
pub(crate) fn validate_transaction(
    rules: &Rules,
    transaction: SignedTransaction,
) -> Result<ValidatedTransaction, InvalidTxError> {
    validate_actions(rules, transaction.transaction.actions()).map_err(InvalidTxError::ActionsValidation)?;
    ValidatedTransaction::new(&rules.config, transaction, rules.protocol_version).map_err(|(error, _)| error)
}

/// Checks a receipt that a contract made.
pub(crate) fn validate_new_receipt(rules: &Rules, receipt: &Receipt) -> Result<(), ReceiptValidationError> {
    let limits = &rules.config.wasm_config.limit_config;
    let size = borsh::object_length(receipt).expect("measuring does not fail") as u64;
    if size > limits.max_receipt_size {
        return Err(ReceiptValidationError::ReceiptSizeExceeded { size, limit: limits.max_receipt_size });
    }
    match receipt.versioned_receipt() {
        VersionedReceiptEnum::Action(action) | VersionedReceiptEnum::PromiseYield(action) => {
            let dependencies = action.input_data_ids().len() as u64;
            let limit = limits.max_number_input_data_dependencies;
            if dependencies > limit {
                return Err(ReceiptValidationError::NumberInputDataDependenciesExceeded {
                    number_of_input_data_dependencies: dependencies,
                    limit,
                });
            }
            validate_actions(rules, action.actions()).map_err(ReceiptValidationError::ActionsValidation)
        }
        VersionedReceiptEnum::Data(data) | VersionedReceiptEnum::PromiseResume(data) => {
            let length = data.data.as_ref().map_or(0, Vec::len) as u64;
            let limit = limits.max_length_returned_data;
            if length > limit {
                return Err(ReceiptValidationError::ReturnedValueLengthExceeded { length, limit });
            }
            Ok(())
        }
        VersionedReceiptEnum::GlobalContractDistribution(_) => Ok(()),
    }
}

fn validate_actions(rules: &Rules, actions: &[Action]) -> Result<(), ActionsValidationError> {
    let limits = &rules.config.wasm_config.limit_config;
    let count = actions.len() as u64;
    if count > limits.max_actions_per_receipt {
        return Err(ActionsValidationError::TotalNumberOfActionsExceeded {
            total_number_of_actions: count,
            limit: limits.max_actions_per_receipt,
        });
    }
    let deploys = actions.iter().filter(|action| matches!(action, Action::DeployContract(_))).count() as u64;
    if deploys > limits.max_deploy_actions_per_receipt {
        return Err(ActionsValidationError::TotalNumberOfDeployActionsExceeded {
            number_of_deploy_actions: deploys,
            limit: limits.max_deploy_actions_per_receipt,
        });
    }
    let mut prepaid = Gas::ZERO;
    for (index, action) in actions.iter().enumerate() {
        if matches!(action, Action::DeleteAccount(_)) && index + 1 != actions.len() {
            return Err(ActionsValidationError::DeleteActionMustBeFinal);
        }
        validate_action(rules, limits, action)?;
        prepaid = prepaid.checked_add(action.get_prepaid_gas()).ok_or(ActionsValidationError::IntegerOverflow)?;
    }
    if prepaid > limits.max_total_prepaid_gas {
        return Err(ActionsValidationError::TotalPrepaidGasExceeded {
            total_prepaid_gas: prepaid,
            limit: limits.max_total_prepaid_gas,
        });
    }
    Ok(())
}

fn validate_action(rules: &Rules, limits: &LimitConfig, action: &Action) -> Result<(), ActionsValidationError> {
    let unsupported = |feature: &str| ActionsValidationError::UnsupportedProtocolFeature {
        protocol_feature: format!("{feature} (devnet does not execute it)"),
        version: rules.protocol_version,
    };
    match action {
        Action::CreateAccount(_) | Action::Transfer(_) | Action::DeleteKey(_) | Action::DeleteAccount(_) => Ok(()),
        Action::DeployContract(deploy) => {
            let (size, limit) = (deploy.code.len() as u64, limits.max_contract_size);
            if size > limit {
                return Err(ActionsValidationError::ContractSizeExceeded { size, limit });
            }
            Ok(())
        }
        Action::FunctionCall(call) => {
            if call.gas == Gas::ZERO {
                return Err(ActionsValidationError::FunctionCallZeroAttachedGas);
            }
            if call.method_name.is_empty() && ProtocolFeature::RejectEmptyMethodName.enabled(rules.protocol_version) {
                return Err(ActionsValidationError::FunctionCallEmptyMethodName);
            }
            let (length, limit) = (call.method_name.len() as u64, limits.max_length_method_name);
            if length > limit {
                return Err(ActionsValidationError::FunctionCallMethodNameLengthExceeded { length, limit });
            }
            let (length, limit) = (call.args.len() as u64, limits.max_arguments_length);
            if length > limit {
                return Err(ActionsValidationError::FunctionCallArgumentsLengthExceeded { length, limit });
            }
            Ok(())
        }
        Action::AddKey(add) => match &add.access_key.permission {
            AccessKeyPermission::FullAccess => Ok(()),
            AccessKeyPermission::FunctionCall(permission) => validate_permission(limits, permission),
            AccessKeyPermission::GasKeyFunctionCall(..) | AccessKeyPermission::GasKeyFullAccess(_) => {
                Err(unsupported("GasKeys"))
            }
        },
        Action::Stake(_) => Err(unsupported("Stake")),
        Action::Delegate(_) => Err(unsupported("Delegate")),
        Action::DelegateV2(_) => Err(unsupported("DelegateV2")),
        Action::DeployGlobalContract(_) | Action::UseGlobalContract(_) => Err(unsupported("GlobalContracts")),
        Action::DeterministicStateInit(_) => Err(unsupported("DeterministicAccountIds")),
        Action::TransferToGasKey(_) | Action::WithdrawFromGasKey(_) => Err(unsupported("GasKeys")),
        Action::UniversalStateInit(_) => Err(unsupported("UniversalAccounts")),
    }
}

fn validate_permission(
    limits: &LimitConfig,
    permission: &FunctionCallPermission,
) -> Result<(), ActionsValidationError> {
    if permission.receiver_id.parse::<AccountId>().is_err() {
        return Err(ActionsValidationError::InvalidAccountId { account_id: permission.receiver_id.clone() });
    }
    let mut bytes = 0u64;
    for name in &permission.method_names {
        let (length, limit) = (name.len() as u64, limits.max_length_method_name);
        if length > limit {
            return Err(ActionsValidationError::AddKeyMethodNameLengthExceeded { length, limit });
        }
        bytes = bytes.checked_add(length + 1).ok_or(ActionsValidationError::IntegerOverflow)?;
    }
    let limit = limits.max_number_bytes_method_names;
    if bytes > limit {
        return Err(ActionsValidationError::AddKeyMethodNamesNumberOfBytesExceeded {
            total_number_of_bytes: bytes,
            limit,
        });
    }
    Ok(())
}
