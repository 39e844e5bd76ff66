//! The receipts a contract call makes, while it runs. Source: nearcore `runtime/runtime/src/receipt_manager.rs`.

use near_primitives::hash::CryptoHash;
use near_primitives::receipt::{ActionReceipt, ActionReceiptV2, DataReceiver, Receipt, ReceiptEnum, ReceiptV0};
use near_primitives::transaction::Action;
use near_primitives::types::{AccountId, Balance, Gas, GasWeight};
use near_vm_runner::logic::{HostError, VMLogicError};

/// A receipt in the making.
struct Draft {
    receiver_id: AccountId,
    refund_to: Option<AccountId>,
    output_data_receivers: Vec<DataReceiver>,
    input_data_ids: Vec<CryptoHash>,
    actions: Vec<Action>,
}

/// Who signed what led to a receipt, and at what price its gas was bought; inherited by the receipts it makes.
pub(super) struct Origin<'a> {
    pub(super) predecessor_id: &'a AccountId,
    pub(super) signer_id: &'a AccountId,
    pub(super) signer_public_key: &'a near_crypto::PublicKey,
    pub(super) gas_price: Balance,
}

/// All receipts of one call, by index.
#[derive(Default)]
pub(super) struct Promises {
    drafts: Vec<Draft>,
    /// Function calls that share the gas left over: (receipt, action, weight).
    weights: Vec<(usize, usize, GasWeight)>,
}

impl Promises {
    /// A receipt for `receiver_id` that waits for the results of `after`, which arrive under `data_ids`.
    pub(super) fn create(
        &mut self,
        data_ids: Vec<CryptoHash>,
        after: Vec<u64>,
        receiver_id: AccountId,
    ) -> Result<u64, VMLogicError> {
        for (&data_id, receipt_index) in data_ids.iter().zip(after) {
            let draft = usize::try_from(receipt_index).ok().and_then(|index| self.drafts.get_mut(index));
            let draft = draft.ok_or(HostError::InvalidReceiptIndex { receipt_index })?;
            draft.output_data_receivers.push(DataReceiver { data_id, receiver_id: receiver_id.clone() });
        }
        self.drafts.push(Draft {
            receiver_id,
            refund_to: None,
            output_data_receivers: Vec::new(),
            input_data_ids: data_ids,
            actions: Vec::new(),
        });
        Ok(self.drafts.len() as u64 - 1)
    }

    /// Appends an action and returns its index. The VM passes only indices that it was given.
    pub(super) fn append(&mut self, receipt: u64, action: Action) -> usize {
        let actions = &mut self.draft(receipt).actions;
        actions.push(action);
        actions.len() - 1
    }

    /// Gives a function call a share of the gas left over.
    pub(super) fn weigh(&mut self, receipt: u64, action: usize, weight: GasWeight) {
        if weight.0 > 0 {
            self.weights.push((receipt as usize, action, weight));
        }
    }

    pub(super) fn refund_to(&mut self, receipt: u64, account_id: AccountId) {
        self.draft(receipt).refund_to = Some(account_id);
    }

    pub(super) fn receiver(&self, receipt: u64) -> &AccountId {
        &self.drafts[receipt as usize].receiver_id
    }

    fn draft(&mut self, receipt: u64) -> &mut Draft {
        &mut self.drafts[receipt as usize]
    }

    /// Splits the gas left over by weight, the remainder to the last; returns what was given.
    pub(super) fn distribute(&mut self, unused: Gas) -> Gas {
        let sum: u128 = self.weights.iter().map(|(_, _, weight)| u128::from(weight.0)).sum();
        if sum == 0 || unused == Gas::ZERO {
            return Gas::ZERO;
        }
        let mut left = unused;
        for (position, &(receipt, action, ref weight)) in self.weights.iter().enumerate() {
            let share = u128::from(unused.as_gas()) * u128::from(weight.0) / sum;
            let share = match position + 1 == self.weights.len() {
                true => left,
                // A share is at most the whole.
                false => Gas::from_gas(u64::try_from(share).unwrap_or(u64::MAX)),
            };
            left = left.saturating_sub(share);
            if let Some(Action::FunctionCall(call)) = self.drafts[receipt].actions.get_mut(action) {
                call.gas = call.gas.saturating_add(share);
            }
        }
        unused
    }

    /// The finished receipts, without their ids.
    pub(super) fn into_receipts(self, origin: &Origin<'_>) -> Vec<Receipt> {
        self.drafts.into_iter().map(|draft| draft.into_receipt(origin)).collect()
    }
}

impl Draft {
    fn into_receipt(self, origin: &Origin<'_>) -> Receipt {
        let (signer_id, signer_public_key) = (origin.signer_id.clone(), origin.signer_public_key.clone());
        let gas_price = origin.gas_price;
        let Self { receiver_id, refund_to, output_data_receivers, input_data_ids, actions } = self;
        let receipt = match refund_to {
            None => ReceiptEnum::Action(ActionReceipt {
                signer_id,
                signer_public_key,
                gas_price,
                output_data_receivers,
                input_data_ids,
                actions,
            }),
            refund_to => ReceiptEnum::ActionV2(ActionReceiptV2 {
                signer_id,
                refund_to,
                signer_public_key,
                gas_price,
                output_data_receivers,
                input_data_ids,
                actions,
            }),
        };
        Receipt::V0(ReceiptV0 {
            predecessor_id: origin.predecessor_id.clone(),
            receiver_id,
            receipt_id: CryptoHash::default(),
            receipt,
        })
    }
}
