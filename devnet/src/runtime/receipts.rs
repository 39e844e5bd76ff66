//! Executes one action receipt: its actions in order, all or none, then what it owes.
//! Source: nearcore `runtime/runtime/src/lib.rs`, `apply_action_receipt`.

use std::rc::Rc;
use std::sync::Arc;

use near_parameters::{ActionCosts, ParameterCost};
use near_primitives::account::{Account, AccountContract};
use near_primitives::action::FunctionCallAction;
use near_primitives::errors::{ActionError, ActionErrorKind, TxExecutionError};
use near_primitives::hash::CryptoHash;
use near_primitives::profile_data_v3::ProfileDataV3;
use near_primitives::receipt::{
    DataReceipt, Receipt, ReceiptEnum, ReceiptV0, ReceivedData, VersionedActionReceipt, VersionedReceiptEnum,
};
use near_primitives::transaction::{
    Action, ExecutionMetadata, ExecutionMetadataV4, ExecutionOutcome, ExecutionOutcomeWithId, ExecutionStatus,
};
use near_primitives::trie_key::TrieKey;
use near_primitives::types::{Balance, Gas};
use near_primitives::utils::{
    create_action_hash_from_receipt_id, create_random_seed, create_receipt_id_from_receipt_id,
};
use near_primitives::version::ProtocolFeature;
use near_vm_runner::logic::types::PromiseResult;
use near_vm_runner::logic::{ReturnData, VMContext};

use super::actions::{Subject, add, refund_allowance};
use super::contract::{call_error, local_contract, no_code};
use super::external::ContractExternal;
use super::fees::{exec_fee, price, total_deposit};
use super::promises::Origin;
use super::refunds::{Prices, Spent, settle};
use super::validate::validate_new_receipt;
use super::verify::lack_for_storage;
use super::{BlockContext, Rules, contract};
use crate::state::Update;

/// What came of a receipt.
pub(super) struct Executed {
    pub(super) outcome: ExecutionOutcomeWithId,
    pub(super) new_receipts: Vec<Receipt>,
    pub(super) compute: u64,
    /// Tokens gone for good, in yoctoNEAR.
    pub(super) burnt: Balance,
    /// Tokens made from nothing (see [`near_vm_runner::logic::VMOutcome::subsidized_amount`]), in yoctoNEAR.
    pub(super) subsidized: Balance,
}

/// The running account of a receipt's execution.
struct Tally {
    burnt: Gas,
    burnt_by_calls: Gas,
    used: Gas,
    compute: u64,
    subsidized: Balance,
    logs: Vec<String>,
    new_receipts: Vec<Receipt>,
    contracts: Vec<AccountContract>,
    profile: ProfileDataV3,
}

impl Tally {
    fn burn(&mut self, cost: ParameterCost) {
        self.burnt = self.burnt.saturating_add(cost.gas);
        self.used = self.used.saturating_add(cost.gas);
        self.compute = self.compute.saturating_add(cost.compute);
    }
}

/// What every part of an execution needs to know.
struct Execution<'a> {
    rules: &'a Rules,
    block: &'a BlockContext,
    receipt: &'a Receipt,
    action_receipt: &'a VersionedActionReceipt<'a>,
    promise_results: Arc<[PromiseResult]>,
}

/// Executes an action receipt whose input data are in the state.
///
/// # Panics
/// Where state or receipts are not as the runtime left them: no chain goes on from there.
pub(super) fn execute(rules: &Rules, block: &BlockContext, state: &mut Update, receipt: &Receipt) -> Executed {
    let versioned = receipt.versioned_receipt();
    let (VersionedReceiptEnum::Action(action_receipt) | VersionedReceiptEnum::PromiseYield(action_receipt)) =
        &versioned
    else {
        panic!("only action receipts are executed");
    };
    let promise_results = take_inputs(state, receipt, action_receipt);
    state.commit();
    let execution = Execution { rules, block, receipt, action_receipt, promise_results };
    let mut subject = Subject {
        rules,
        height: block.height,
        account_id: receipt.receiver_id(),
        predecessor_id: receipt.predecessor_id(),
        actor_id: receipt.predecessor_id().clone(),
        account: state.account(receipt.receiver_id()),
    };
    let existed = subject.account.is_some();
    let mut tally = Tally {
        burnt: Gas::ZERO,
        burnt_by_calls: Gas::ZERO,
        used: Gas::ZERO,
        compute: 0,
        subsidized: Balance::ZERO,
        logs: Vec::new(),
        new_receipts: Vec::new(),
        contracts: Vec::new(),
        profile: ProfileDataV3::default(),
    };
    tally.burn(rules.config.fees.fee(ActionCosts::new_action_receipt).exec_fee());
    let result = execution.actions(state, &mut subject, &mut tally);
    if result.is_err() {
        tally.new_receipts.clear();
        tally.subsidized = Balance::ZERO;
        state.rollback();
    } else {
        state.commit();
    }
    let created_account = !existed && subject.account.is_some() && result.is_ok();
    execution.conclude(state, tally, result, created_account)
}

/// Takes the data that a receipt waited for out of the state.
fn take_inputs(
    state: &mut Update,
    receipt: &Receipt,
    action_receipt: &VersionedActionReceipt<'_>,
) -> Arc<[PromiseResult]> {
    let take = |&data_id: &CryptoHash| {
        let key = TrieKey::ReceivedData { receiver_id: receipt.receiver_id().clone(), data_id };
        let received: ReceivedData = state.take(&key).expect("a receipt is executed once its data are there");
        received.data.map_or(PromiseResult::Failed, |data| PromiseResult::Successful(Rc::from(data)))
    };
    // Made and dropped on one thread, which the VM's type cannot say.
    #[allow(clippy::arc_with_non_send_sync)]
    action_receipt.input_data_ids().iter().map(take).collect()
}

impl Execution<'_> {
    /// Runs the actions; on success the account is written.
    fn actions(
        &self,
        state: &mut Update,
        subject: &mut Subject<'_>,
        tally: &mut Tally,
    ) -> Result<ReturnData, ActionError> {
        let actions = self.action_receipt.actions();
        let contract = |subject: &Subject<'_>| {
            subject.account.as_ref().map_or(AccountContract::None, |account| account.contract().into_owned())
        };
        let mut returned = ReturnData::None;
        for (index, action) in actions.iter().enumerate() {
            tally.contracts.push(contract(subject));
            let before = tally.new_receipts.len();
            let result = self.action(state, subject, tally, index, action).and_then(|value| {
                let mut new = tally.new_receipts[before..].iter();
                new.try_for_each(|receipt| validate_new_receipt(self.rules, receipt))
                    .map_err(ActionErrorKind::NewReceiptValidationError)?;
                Ok(value)
            });
            returned = result.map_err(|kind| {
                // Actions that never ran are listed too, with what they would have found.
                tally.contracts.resize(actions.len(), contract(subject));
                ActionError { index: Some(index as u64), kind }
            })?;
        }
        if let Some(account) = &subject.account {
            if let Some(amount) = lack_for_storage(&self.rules.config, account, account.amount()) {
                let account_id = subject.account_id.clone();
                return Err(ActionErrorKind::LackBalanceForState { account_id, amount }.into());
            }
            state.set_account(subject.account_id, account);
        }
        Ok(returned)
    }

    fn action(
        &self,
        state: &mut Update,
        subject: &mut Subject<'_>,
        tally: &mut Tally,
        index: usize,
        action: &Action,
    ) -> Result<ReturnData, ActionErrorKind> {
        tally.burn(exec_fee(&self.rules.config, self.rules.protocol_version, action, subject.account_id));
        let is_refund = self.receipt.predecessor_id().is_system();
        let alone = self.action_receipt.actions().len() == 1;
        subject.check(action, alone && !is_refund)?;
        match action {
            Action::CreateAccount(_) => subject.create_account()?,
            Action::DeployContract(deploy) => subject.deploy_contract(state, deploy),
            Action::FunctionCall(call) => return self.call(state, subject, tally, index, call),
            Action::Transfer(transfer) => {
                subject.transfer(state, transfer.deposit);
                if is_refund && self.action_receipt.signer_id() == subject.account_id {
                    let key = self.action_receipt.signer_public_key();
                    refund_allowance(state, subject.account_id, key, transfer.deposit);
                }
            }
            Action::AddKey(add) => subject.add_key(state, add)?,
            Action::DeleteKey(delete) => subject.delete_key(state, delete)?,
            Action::DeleteAccount(delete) => tally.new_receipts.extend(subject.delete_account(state, delete)?),
            other => panic!("validation refuses {other:?}"),
        }
        Ok(ReturnData::None)
    }

    fn call(
        &self,
        state: &mut Update,
        subject: &mut Subject<'_>,
        tally: &mut Tally,
        index: usize,
        call: &FunctionCallAction,
    ) -> Result<ReturnData, ActionErrorKind> {
        let account_id = subject.account_id;
        let account = subject.account_mut();
        let hash = local_contract(account).ok_or_else(|| no_code(account_id))?;
        let action_hash = create_action_hash_from_receipt_id(self.receipt.receipt_id(), self.block.height, index);
        let context = self.context(account, index, call, action_hash);
        // Only the code of the account is read, and nothing of it changes while it runs.
        let code = state.get_raw(&TrieKey::ContractCode { account_id: account_id.clone() }.to_vec()).cloned();
        let mut external =
            ContractExternal::new(state, account_id.clone(), &self.rules.chain_id, action_hash, self.block.height);
        let ran = contract::run(self.rules, hash, |_| code.clone(), &call.method_name, &context, &mut external);
        let refused = external.refused.take();
        let mut promises = external.promises;
        let mut outcome = match (ran, refused) {
            (Ok(outcome), None) => outcome,
            (Err(unsupported), _) | (Ok(_), Some(unsupported)) => {
                tally.burn(ParameterCost::new(call.gas, call.gas.as_gas()));
                let error = near_primitives::errors::FunctionCallError::ExecutionError(unsupported.to_string());
                return Err(ActionErrorKind::FunctionCallError(error));
            }
        };
        if outcome.aborted.is_none() {
            let given = promises.distribute(call.gas.saturating_sub(outcome.used_gas));
            outcome.used_gas = outcome.used_gas.saturating_add(given);
        }
        tally.burnt = tally.burnt.saturating_add(outcome.burnt_gas);
        tally.burnt_by_calls = tally.burnt_by_calls.saturating_add(outcome.burnt_gas);
        tally.used = tally.used.saturating_add(outcome.used_gas);
        tally.compute = tally.compute.saturating_add(outcome.compute_usage);
        tally.logs.append(&mut outcome.logs);
        tally.profile.merge(&ProfileDataV3 {
            actions_profile: outcome.profile.actions_profile,
            wasm_ext_profile: outcome.profile.wasm_ext_profile,
            wasm_gas: outcome.profile.wasm_gas,
        });
        if let Some(error) = outcome.aborted {
            return Err(call_error(error));
        }
        account.set_amount(outcome.balance);
        account.set_storage_usage(outcome.storage_usage);
        tally.subsidized = add(tally.subsidized, outcome.subsidized_amount);
        let before = tally.new_receipts.len() as u64;
        tally.new_receipts.extend(promises.into_receipts(&Origin {
            predecessor_id: account_id,
            signer_id: self.action_receipt.signer_id(),
            signer_public_key: self.action_receipt.signer_public_key(),
            gas_price: self.action_receipt.gas_price(),
        }));
        Ok(match outcome.return_data {
            ReturnData::ReceiptIndex(index) => ReturnData::ReceiptIndex(before + index),
            other => other,
        })
    }

    fn context(
        &self,
        account: &Account,
        index: usize,
        call: &FunctionCallAction,
        action_hash: CryptoHash,
    ) -> VMContext {
        let receivers = self.action_receipt.output_data_receivers();
        let is_last = index + 1 == self.action_receipt.actions().len();
        VMContext {
            current_account_id: self.receipt.receiver_id().clone(),
            signer_account_id: self.action_receipt.signer_id().clone(),
            signer_account_pk: borsh::to_vec(self.action_receipt.signer_public_key())
                .expect("writing to memory does not fail"),
            predecessor_account_id: self.receipt.predecessor_id().clone(),
            refund_to_account_id: self.receipt.balance_refund_receiver().clone(),
            input: Rc::from(call.args.as_slice()),
            promise_results: Arc::clone(&self.promise_results),
            block_height: self.block.height,
            block_timestamp: self.block.timestamp_ns,
            epoch_height: self.block.epoch_height,
            account_balance: account.amount(),
            account_locked_balance: account.locked(),
            storage_usage: account.storage_usage(),
            account_contract: account.contract().into_owned(),
            attached_deposit: call.deposit,
            prepaid_gas: call.gas,
            random_seed: create_random_seed(action_hash, self.block.random_seed),
            view_config: None,
            output_data_receivers: receivers
                .iter()
                .filter(|_| is_last)
                .map(|receiver| receiver.receiver_id.clone())
                .collect(),
        }
    }

    /// Refunds, the contract's reward, output data, ids: what follows whether the actions succeeded or not.
    fn conclude(
        &self,
        state: &mut Update,
        mut tally: Tally,
        result: Result<ReturnData, ActionError>,
        created_account: bool,
    ) -> Executed {
        let fits = "amounts of one receipt fit: its signer paid for them";
        let account_id = self.receipt.receiver_id();
        let prices = Prices::of(self.rules, self.action_receipt.gas_price(), self.block.gas_price);
        let (mut burnt, tokens_burnt) = if self.receipt.predecessor_id().is_system() {
            // Refunds are free; one that cannot be delivered is burnt, but not as the price of gas.
            let lost = match result {
                Ok(_) => Balance::ZERO,
                Err(_) => total_deposit(self.action_receipt.actions()).expect(fits),
            };
            (lost, Balance::ZERO)
        } else {
            let spent = Spent { burnt: tally.burnt, used: tally.used, succeeded: result.is_ok(), created_account };
            let settlement = settle(self.rules, self.receipt, self.action_receipt, prices, spent).expect(fits);
            tally.new_receipts.extend(settlement.refunds);
            (settlement.burnt, settlement.burnt)
        };
        let reward = self.reward(tally.burnt_by_calls, prices);
        if !reward.is_zero()
            && let Some(mut account) = state.account(account_id)
        {
            account.set_amount(add(account.amount(), reward));
            state.set_account(account_id, &account);
            state.commit();
            burnt = burnt.checked_sub(reward).expect("a reward is a part of what was burnt");
        }
        self.send_output(&mut tally.new_receipts, &result);

        let receipt_id =
            |index: usize| create_receipt_id_from_receipt_id(self.receipt.receipt_id(), self.block.height, index);
        for (index, receipt) in tally.new_receipts.iter_mut().enumerate() {
            receipt.set_receipt_id(receipt_id(index));
        }
        let actions = tally.new_receipts.iter().filter(|receipt| !matches!(receipt.receipt(), ReceiptEnum::Data(_)));
        let receipt_ids = actions.map(|receipt| *receipt.receipt_id()).collect();
        let status = match result {
            // An index counts receipts of this very execution.
            Ok(ReturnData::ReceiptIndex(index)) => ExecutionStatus::SuccessReceiptId(receipt_id(index as usize)),
            Ok(ReturnData::Value(value)) => ExecutionStatus::SuccessValue(value),
            Ok(ReturnData::None) => ExecutionStatus::SuccessValue(Vec::new()),
            Err(error) => ExecutionStatus::Failure(TxExecutionError::ActionError(error)),
        };
        let metadata = if ProtocolFeature::ExecutionMetadataV4.enabled(self.rules.protocol_version) {
            let metadata = ExecutionMetadataV4 { profile: tally.profile, contracts: tally.contracts };
            ExecutionMetadata::V4(Box::new(metadata))
        } else {
            ExecutionMetadata::V3(Box::new(tally.profile))
        };
        let outcome = ExecutionOutcome {
            logs: tally.logs,
            receipt_ids,
            gas_burnt: tally.burnt,
            compute_usage: Some(tally.compute),
            tokens_burnt,
            executor_id: account_id.clone(),
            status,
            metadata,
        };
        Executed {
            outcome: ExecutionOutcomeWithId { id: *self.receipt.receipt_id(), outcome },
            new_receipts: tally.new_receipts,
            compute: tally.compute,
            burnt,
            subsidized: tally.subsidized,
        }
    }

    /// What the contract's account gets of the gas that its calls burnt.
    fn reward(&self, burnt_by_calls: Gas, prices: Prices) -> Balance {
        let ratio = self.rules.config.fees.burnt_gas_reward;
        let (numerator, denominator) = (*ratio.numer() as u64, *ratio.denom() as u64);
        let gas = burnt_by_calls.checked_mul(numerator).and_then(|gas| gas.checked_div(denominator));
        gas.and_then(|gas| price(prices.burnt, gas).ok()).expect("a part of a chunk's gas")
    }

    /// Passes the result on to whoever waits for it: as data, or by handing the duty to the promise returned.
    fn send_output(&self, new_receipts: &mut Vec<Receipt>, result: &Result<ReturnData, ActionError>) {
        let receivers = self.action_receipt.output_data_receivers();
        if receivers.is_empty() {
            return;
        }
        let data = match result {
            Ok(ReturnData::ReceiptIndex(index)) => {
                match new_receipts[*index as usize].receipt_mut() {
                    ReceiptEnum::Action(action) => action.output_data_receivers.extend_from_slice(receivers),
                    ReceiptEnum::ActionV2(action) => action.output_data_receivers.extend_from_slice(receivers),
                    other => panic!("a promise is an action receipt, not {other:?}"),
                }
                return;
            }
            Ok(ReturnData::Value(value)) => Some(value.clone()),
            Ok(ReturnData::None) => Some(Vec::new()),
            Err(_) => None,
        };
        new_receipts.extend(receivers.iter().map(|receiver| {
            Receipt::V0(ReceiptV0 {
                predecessor_id: self.receipt.receiver_id().clone(),
                receiver_id: receiver.receiver_id.clone(),
                receipt_id: CryptoHash::default(),
                receipt: ReceiptEnum::Data(DataReceipt { data_id: receiver.data_id, data: data.clone() }),
            })
        }));
    }
}
