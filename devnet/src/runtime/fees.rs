//! What actions cost. Source: nearcore `runtime/runtime/src/config.rs`.

use near_parameters::{ActionCosts, ParameterCost, RuntimeConfig, transfer_exec_fee, transfer_send_fee};
use near_primitives::account::AccessKeyPermission;
use near_primitives::errors::IntegerOverflowError;
use near_primitives::transaction::{Action, Transaction};
use near_primitives::types::{AccountId, Balance, Gas};

/// What a transaction costs its signer up front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransactionCost {
    /// Burnt at conversion.
    pub burnt: ParameterCost,
    /// Tokens burnt at conversion, in yoctoNEAR.
    pub burnt_amount: Balance,
    /// Price at which the receipt's gas is bought.
    pub receipt_gas_price: Balance,
    /// Everything taken from the signer: burnt, bought and deposited.
    pub total: Balance,
}

/// Cost of a transaction at a gas price (yoctoNEAR per gas).
pub fn transaction_cost(
    rules: &super::Rules,
    transaction: &Transaction,
    gas_price: Balance,
) -> Result<TransactionCost, IntegerOverflowError> {
    let config = &rules.config;
    let receiver = transaction.receiver_id();
    let to_itself = transaction.signer_id() == receiver;
    let mut burnt = config.fees.fee(ActionCosts::new_action_receipt).send_fee(to_itself);
    for action in transaction.actions() {
        burnt = burnt.checked_add_result(send_fee(config, rules.protocol_version, action, to_itself, receiver))?;
    }
    let receipt_gas_price = gas_price.max(config.min_gas_purchase_price);
    let burnt_amount = price(gas_price, burnt.gas)?;
    let bought = price(receipt_gas_price, prepaid(config, rules.protocol_version, transaction.actions(), receiver)?)?;
    let total = add(add(burnt_amount, bought)?, total_deposit(transaction.actions())?)?;
    Ok(TransactionCost { burnt, burnt_amount, receipt_gas_price, total })
}

/// Gas that a receipt of these actions comes with: attached, and for its own execution.
pub fn prepaid(
    config: &RuntimeConfig,
    protocol_version: u32,
    actions: &[Action],
    receiver: &AccountId,
) -> Result<Gas, IntegerOverflowError> {
    let mut gas = attached_gas(actions)?;
    gas = gas.checked_add_result(config.fees.fee(ActionCosts::new_action_receipt).exec_fee().gas)?;
    for action in actions {
        gas = gas.checked_add_result(exec_fee(config, protocol_version, action, receiver).gas)?;
    }
    Ok(gas)
}

/// Gas attached to function calls.
pub fn attached_gas(actions: &[Action]) -> Result<Gas, IntegerOverflowError> {
    actions.iter().try_fold(Gas::ZERO, |sum, action| sum.checked_add_result(action.get_prepaid_gas()))
}

/// Sum of the deposits.
pub fn total_deposit(actions: &[Action]) -> Result<Balance, IntegerOverflowError> {
    actions.iter().try_fold(Balance::ZERO, |sum, action| add(sum, action.get_deposit_balance()))
}

/// Fee for sending an action, burnt by the sender.
pub fn send_fee(
    config: &RuntimeConfig,
    protocol_version: u32,
    action: &Action,
    to_itself: bool,
    receiver: &AccountId,
) -> ParameterCost {
    let (eth, universal) = accounts_enabled(config, protocol_version);
    let transfer = || transfer_send_fee(&config.fees, to_itself, eth, universal, receiver.get_account_type());
    sum(action, transfer, |cost| config.fees.fee(cost).send_fee(to_itself))
}

/// Fee for executing an action, burnt by its receiver's chunk.
pub fn exec_fee(config: &RuntimeConfig, protocol_version: u32, action: &Action, receiver: &AccountId) -> ParameterCost {
    let (eth, universal) = accounts_enabled(config, protocol_version);
    let transfer = || transfer_exec_fee(&config.fees, eth, universal, receiver.get_account_type());
    sum(action, transfer, |cost| config.fees.fee(cost).exec_fee())
}

fn accounts_enabled(config: &RuntimeConfig, protocol_version: u32) -> (bool, bool) {
    let universal = near_primitives::version::ProtocolFeature::UniversalAccounts.enabled(protocol_version);
    (config.wasm_config.eth_implicit_accounts, universal)
}

/// The terms of an action's fee. Actions that validation refuses cost nothing.
fn sum(
    action: &Action,
    transfer: impl Fn() -> ParameterCost,
    fee: impl Fn(ActionCosts) -> ParameterCost,
) -> ParameterCost {
    let per_byte = |base: ActionCosts, byte: ActionCosts, bytes: usize| {
        let bytes = fee(byte).checked_mul(bytes as u64).expect("sizes are limited");
        fee(base).checked_add(bytes).expect("sizes are limited")
    };
    match action {
        Action::CreateAccount(_) => fee(ActionCosts::create_account),
        Action::DeployContract(deploy) => {
            per_byte(ActionCosts::deploy_contract_base, ActionCosts::deploy_contract_byte, deploy.code.len())
        }
        Action::FunctionCall(call) => {
            let bytes = call.method_name.len() + call.args.len();
            per_byte(ActionCosts::function_call_base, ActionCosts::function_call_byte, bytes)
        }
        Action::Transfer(_) => transfer(),
        Action::Stake(_) => fee(ActionCosts::stake),
        Action::AddKey(add) => match &add.access_key.permission {
            AccessKeyPermission::FunctionCall(call) | AccessKeyPermission::GasKeyFunctionCall(_, call) => {
                // Each name counts with the zero that ended it once.
                let bytes = call.method_names.iter().map(|name| name.len() + 1).sum();
                per_byte(ActionCosts::add_function_call_key_base, ActionCosts::add_function_call_key_byte, bytes)
            }
            AccessKeyPermission::FullAccess | AccessKeyPermission::GasKeyFullAccess(_) => {
                fee(ActionCosts::add_full_access_key)
            }
        },
        Action::DeleteKey(_) => fee(ActionCosts::delete_key),
        Action::DeleteAccount(_) => fee(ActionCosts::delete_account),
        _ => ParameterCost::ZERO,
    }
}

/// Tokens that an amount of gas costs at a price.
pub fn price(gas_price: Balance, gas: Gas) -> Result<Balance, IntegerOverflowError> {
    gas_price.checked_mul(u128::from(gas.as_gas())).ok_or(IntegerOverflowError)
}

fn add(a: Balance, b: Balance) -> Result<Balance, IntegerOverflowError> {
    a.checked_add(b).ok_or(IntegerOverflowError)
}
