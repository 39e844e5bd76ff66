//! What comes back after a receipt, and what it burnt. Source: nearcore `runtime/runtime/src/lib.rs`,
//! `refund_unspent_gas_and_deposits`.

use near_parameters::{ActionCosts, RuntimeConfig};
use near_primitives::errors::IntegerOverflowError;
use near_primitives::receipt::{Receipt, VersionedActionReceipt};
use near_primitives::types::{Balance, Gas};
use near_primitives::version::ProtocolFeature;

use super::Rules;
use super::fees::{prepaid, price, total_deposit};

/// Prices of one receipt, in yoctoNEAR per gas.
#[derive(Clone, Copy)]
pub(super) struct Prices {
    /// At which its gas was bought.
    pub(super) bought: Balance,
    /// At which it is burnt.
    pub(super) burnt: Balance,
}

impl Prices {
    /// Since protocol 85 no gas is burnt at more than it was bought for.
    pub(super) fn of(rules: &Rules, bought: Balance, block: Balance) -> Self {
        let capped = ProtocolFeature::AccountCostIncrease.enabled(rules.protocol_version);
        Self { bought, burnt: if capped { bought.min(block) } else { block } }
    }
}

/// The money side of an executed receipt.
pub(super) struct Settlement {
    /// Refund receipts, deposits first.
    pub(super) refunds: Vec<Receipt>,
    /// Tokens burnt, rewards to contracts still included, in yoctoNEAR.
    pub(super) burnt: Balance,
}

/// How the execution of a receipt ended, in gas.
#[derive(Clone, Copy)]
pub(super) struct Spent {
    pub(super) burnt: Gas,
    pub(super) used: Gas,
    pub(super) succeeded: bool,
    pub(super) created_account: bool,
}

/// Settles a receipt that is not itself a refund.
pub(super) fn settle(
    rules: &Rules,
    receipt: &Receipt,
    action: &VersionedActionReceipt<'_>,
    prices: Prices,
    spent: Spent,
) -> Result<Settlement, IntegerOverflowError> {
    let config: &RuntimeConfig = &rules.config;
    let paid = prepaid(config, rules.protocol_version, action.actions(), receipt.receiver_id())?;
    let gone = if spent.succeeded { spent.used } else { spent.burnt };
    let unspent = paid.checked_sub(gone).ok_or(IntegerOverflowError)?;
    let penalty = config.fees.gas_penalty_for_gas_refund(unspent);
    let mut refund = price(prices.bought, unspent.saturating_sub(penalty))?;
    let mut burnt = price(prices.burnt, spent.burnt)?;
    burnt = sum(burnt, price(prices.bought, penalty)?)?;
    if prices.burnt > prices.bought {
        // What was bought too cheaply nobody pays: the burnt tokens are fewer.
        let deficit = price(prices.burnt.saturating_sub(prices.bought), spent.burnt)?;
        burnt = burnt.saturating_sub(deficit);
    } else {
        let mut surplus = price(prices.bought.saturating_sub(prices.burnt), spent.burnt)?;
        if spent.created_account {
            let exec = config.fees.fee(ActionCosts::create_account).exec_fee().gas;
            let charge = config.account_creation_charge.saturating_sub(price(prices.burnt, exec)?).min(surplus);
            surplus = surplus.saturating_sub(charge);
            burnt = sum(burnt, charge)?;
        }
        if ProtocolFeature::AccountCostIncrease.enabled(rules.protocol_version) {
            refund = sum(refund, surplus)?;
        } else {
            burnt = sum(burnt, surplus)?;
        }
    }
    let deposit = if spent.succeeded { Balance::ZERO } else { total_deposit(action.actions())? };
    let mut refunds = Vec::new();
    if !deposit.is_zero() {
        refunds.push(Receipt::new_balance_refund(receipt.balance_refund_receiver(), deposit));
    }
    if !refund.is_zero() {
        let key = action.signer_public_key().clone();
        refunds.push(Receipt::new_gas_refund(action.signer_id(), refund, key));
    }
    Ok(Settlement { refunds, burnt })
}

fn sum(a: Balance, b: Balance) -> Result<Balance, IntegerOverflowError> {
    a.checked_add(b).ok_or(IntegerOverflowError)
}
