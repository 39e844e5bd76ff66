//! Whether a signer may send a transaction now, and what that takes from it.
//! Source: nearcore `runtime/runtime/src/verifier.rs`, `verify_and_charge_tx_ephemeral`.

use near_parameters::RuntimeConfig;
use near_primitives::account::{AccessKey, AccessKeyPermission, Account, FunctionCallPermission};
use near_primitives::errors::{InvalidAccessKeyError, InvalidTxError};
use near_primitives::transaction::{Action, NonceMode, Transaction};
use near_primitives::types::{AccountId, Balance};

use super::Rules;
use super::fees::{TransactionCost, transaction_cost};
use crate::state::Update;

/// Accounts that use no more than this need no balance for it (NEP-448).
const ZERO_BALANCE_ACCOUNT_STORAGE_LIMIT: u64 = 770;

/// How much an account with this balance lacks for its storage; `None` where it lacks nothing.
pub(crate) fn lack_for_storage(config: &RuntimeConfig, account: &Account, amount: Balance) -> Option<Balance> {
    if account.storage_usage() <= ZERO_BALANCE_ACCOUNT_STORAGE_LIMIT {
        return None;
    }
    let required = config.storage_amount_per_byte().saturating_mul(u128::from(account.storage_usage()));
    let lack = required.saturating_sub(amount.saturating_add(account.locked()));
    (!lack.is_zero()).then_some(lack)
}

/// A transaction that may be converted, with what its conversion writes.
#[derive(Debug)]
pub(crate) struct Charged {
    pub(crate) signer: Account,
    pub(crate) access_key: AccessKey,
    pub(crate) cost: TransactionCost,
}

/// Checks a transaction against the state. `chunk_height` is that of the chunk it would be in; an RPC node, which
/// does not know it, passes `None` and so accepts nonces that are too large.
pub(crate) fn verify_and_charge(
    rules: &Rules,
    state: &Update,
    transaction: &Transaction,
    gas_price: Balance,
    chunk_height: Option<u64>,
) -> Result<Charged, InvalidTxError> {
    let cost = transaction_cost(rules, transaction, gas_price).map_err(|_| InvalidTxError::CostOverflow)?;
    let signer_id = transaction.signer_id();
    let mut signer =
        state.account(signer_id).ok_or_else(|| InvalidTxError::SignerDoesNotExist { signer_id: signer_id.clone() })?;
    let mut access_key = state.access_key(signer_id, transaction.public_key()).ok_or_else(|| {
        InvalidTxError::InvalidAccessKeyError(InvalidAccessKeyError::AccessKeyNotFound {
            account_id: signer_id.clone(),
            public_key: Box::new(transaction.public_key().clone()),
        })
    })?;
    if let Some(index) = transaction.nonce().nonce_index() {
        return Err(InvalidTxError::InvalidNonceIndex { tx_nonce_index: Some(index), num_nonces: 0 });
    }
    check_nonce(transaction, access_key.nonce, chunk_height)?;

    let balance = signer.amount();
    let left = balance.checked_sub(cost.total).ok_or_else(|| InvalidTxError::NotEnoughBalance {
        signer_id: signer_id.clone(),
        balance,
        cost: cost.total,
    })?;
    if let AccessKeyPermission::FunctionCall(permission) = &mut access_key.permission
        && let Some(allowance) = &mut permission.allowance
    {
        *allowance = allowance.checked_sub(cost.total).ok_or_else(|| {
            InvalidTxError::InvalidAccessKeyError(InvalidAccessKeyError::NotEnoughAllowance {
                account_id: signer_id.clone(),
                public_key: Box::new(transaction.public_key().clone()),
                allowance: *allowance,
                cost: cost.total,
            })
        })?;
    }
    if let Some(amount) = lack_for_storage(&rules.config, &signer, left) {
        return Err(InvalidTxError::LackBalanceForState { signer_id: signer_id.clone(), amount });
    }
    if let AccessKeyPermission::FunctionCall(permission) = &access_key.permission {
        check_permission(permission, transaction.receiver_id(), transaction.actions())
            .map_err(InvalidTxError::InvalidAccessKeyError)?;
    }
    access_key.nonce = transaction.nonce().nonce();
    signer.set_amount(left);
    Ok(Charged { signer, access_key, cost })
}

fn check_nonce(transaction: &Transaction, ak_nonce: u64, chunk_height: Option<u64>) -> Result<(), InvalidTxError> {
    let tx_nonce = transaction.nonce().nonce();
    let fits = match transaction.nonce_mode() {
        NonceMode::Monotonic => tx_nonce > ak_nonce,
        NonceMode::Strict => Some(tx_nonce) == ak_nonce.checked_add(1),
    };
    if !fits {
        return Err(InvalidTxError::InvalidNonce { tx_nonce, ak_nonce });
    }
    if let Some(height) = chunk_height {
        let upper_bound = height.saturating_mul(AccessKey::ACCESS_KEY_NONCE_RANGE_MULTIPLIER);
        if tx_nonce >= upper_bound {
            return Err(InvalidTxError::NonceTooLarge { tx_nonce, upper_bound });
        }
    }
    Ok(())
}

fn check_permission(
    permission: &FunctionCallPermission,
    receiver: &AccountId,
    actions: &[Action],
) -> Result<(), InvalidAccessKeyError> {
    let [Action::FunctionCall(call)] = actions else {
        return Err(InvalidAccessKeyError::RequiresFullAccess);
    };
    if !call.deposit.is_zero() {
        return Err(InvalidAccessKeyError::DepositWithFunctionCall);
    }
    if *receiver != permission.receiver_id {
        return Err(InvalidAccessKeyError::ReceiverMismatch {
            tx_receiver: receiver.clone(),
            ak_receiver: permission.receiver_id.clone(),
        });
    }
    if !permission.method_names.is_empty() && !permission.method_names.contains(&call.method_name) {
        return Err(InvalidAccessKeyError::MethodNameMismatch { method_name: call.method_name.clone() });
    }
    Ok(())
}
