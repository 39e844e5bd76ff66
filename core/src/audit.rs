//! What the audit found on chain: the comparison of what a run reports with what the chain did, as pure bookkeeping.
//!
//! Somebody walks the run's blocks and feeds every transaction of its keys; nothing here trusts the engine's own account
//! of where its transfers went. Memory: 17 bytes for each identity found.

use crate::{Account, Amount, TransferId, TransferState};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::HashMap;

/// The result of walking the run's blocks and looking for every transfer by its identity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Audit {
    /// Whether chain and report agree in everything below.
    pub matches: bool,
    /// Transfers of the run found on chain.
    pub transfers_found: u64,
    /// Reported as succeeded, and not on chain.
    pub missing: u64,
    /// On chain more than once.
    pub doubled: u64,
    /// Transactions of the run's keys that are not the run's.
    pub foreign: u64,
    /// On chain otherwise than reported: another receiver, amount or outcome.
    pub contradicted: u64,
    /// Receivers whose balance was checked.
    pub receivers: u64,
    /// Accounts, the sender among them, whose balance is not what the transfers found make of it.
    pub wrong_balances: u64,
    /// Whether the token's total supply is what it was.
    pub supply_conserved: bool,
}

/// What the run reports of a transfer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expected {
    /// Who was to get the tokens.
    pub receiver: Account,
    /// How many.
    pub amount: Amount,
    /// How it ended.
    pub state: TransferState,
}

/// A transfer found in a transaction on chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found<'a> {
    /// Its identity, from the memo.
    pub id: TransferId,
    /// Who was named as receiver.
    pub receiver: &'a str,
    /// The amount.
    pub amount: Amount,
    /// Whether its receipt succeeded: a batch succeeds or fails as one.
    pub succeeded: bool,
}

/// Token balances at one block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Balances {
    /// The sender's.
    pub sender: Amount,
    /// The receivers', in the plan's order.
    pub receivers: Vec<Amount>,
    /// The token's total supply.
    pub total_supply: Amount,
}

const MOVED: u8 = 1;
const DOUBLED: u8 = 2;
const CONTRADICTED: u8 = 4;

/// Gathers what is found on chain and compares it with what is expected.
pub struct Auditor<'a> {
    expected: &'a (dyn Fn(TransferId) -> Option<Expected> + Sync),
    seen: HashMap<TransferId, u8>,
    received: HashMap<Account, u128>,
    sent: u128,
    foreign: u64,
}

impl<'a> Auditor<'a> {
    /// `expected` tells what the run reports of an identity; `None` if it never had such a transfer.
    pub fn new(expected: &'a (dyn Fn(TransferId) -> Option<Expected> + Sync)) -> Self {
        Self { expected, seen: HashMap::new(), received: HashMap::new(), sent: 0, foreign: 0 }
    }

    /// One transaction of the run's keys, final: the transfers in it, and whether it holds anything else.
    pub fn transaction<'f>(&mut self, transfers: impl IntoIterator<Item = Found<'f>>, anything_else: bool) {
        let (mut empty, mut strange) = (true, anything_else);
        for found in transfers {
            empty = false;
            strange |= !self.transfer(&found);
        }
        self.foreign += u64::from(strange || empty);
    }

    /// Notes one transfer; whether it is the run's.
    fn transfer(&mut self, found: &Found<'_>) -> bool {
        if found.succeeded {
            self.sent = self.sent.saturating_add(found.amount.0);
        }
        let Some(expected) = (self.expected)(found.id) else {
            return false;
        };
        let seen = self.seen.entry(found.id).or_default();
        let as_expected = *expected.receiver == *found.receiver && expected.amount == found.amount;
        if !as_expected {
            *seen |= CONTRADICTED;
        }
        if found.succeeded {
            if *seen & MOVED != 0 {
                *seen |= DOUBLED;
            }
            *seen |= MOVED;
            if matches!(expected.state, TransferState::Failed | TransferState::Cancelled) {
                *seen |= CONTRADICTED;
            }
            if *expected.receiver == *found.receiver {
                let sum = self.received.entry(expected.receiver).or_default();
                *sum = sum.saturating_add(found.amount.0);
            }
        }
        true
    }

    /// The verdict, once every transaction was fed. `succeeded` is how many transfers the run reports as succeeded;
    /// balances are those before the first and after the last of the run's blocks.
    pub fn finish(self, succeeded: u64, receivers: &[Account], before: &Balances, after: &Balances) -> Audit {
        let mut audit = Audit {
            foreign: self.foreign,
            receivers: receivers.len() as u64,
            supply_conserved: before.total_supply == after.total_supply,
            ..Audit::default()
        };
        // Of those reported as succeeded, the ones that were seen at all, moved or not.
        let mut accounted = 0;
        for (id, seen) in &self.seen {
            let finalized = (self.expected)(*id).is_some_and(|e| e.state == TransferState::Finalized);
            let moved = seen & MOVED != 0;
            accounted += u64::from(finalized);
            audit.transfers_found += u64::from(moved);
            audit.doubled += u64::from(seen & DOUBLED != 0);
            audit.contradicted += u64::from(seen & CONTRADICTED != 0 || (finalized && !moved));
        }
        audit.missing = succeeded.saturating_sub(accounted);
        audit.wrong_balances = self.wrong_balances(receivers, before, after);
        audit.matches = audit.missing == 0
            && accounted <= succeeded
            && audit.doubled == 0
            && audit.foreign == 0
            && audit.contradicted == 0
            && audit.wrong_balances == 0
            && audit.supply_conserved;
        audit
    }

    fn wrong_balances(&self, receivers: &[Account], before: &Balances, after: &Balances) -> u64 {
        let sender_wrong = before.sender.0.checked_sub(self.sent) != Some(after.sender.0);
        let wrong = receivers.iter().enumerate().filter(|(i, receiver)| {
            let got = self.received.get(*receiver).copied().unwrap_or(0);
            match (before.receivers.get(*i), after.receivers.get(*i)) {
                (Some(before), Some(after)) => before.0.checked_add(got) != Some(after.0),
                _ => true,
            }
        });
        wrong.count() as u64 + u64::from(sender_wrong)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    /// One transaction: (index of the transfer, receiver's index, amount) each, and whether it succeeded.
    type Transaction = (Vec<(usize, usize, u128)>, bool);

    #[derive(Clone, Debug)]
    struct Ledger {
        receivers: Vec<Account>,
        /// Receiver's index, amount, final state.
        transfers: Vec<(usize, u128, TransferState)>,
        chain: Vec<Transaction>,
        foreign: u64,
        before: Balances,
        /// Changes by hand to what the chain's transfers make of the balances.
        sender_off: u128,
        receiver_off: u128,
        supply_off: u128,
    }

    fn id(index: usize) -> TransferId {
        TransferId((index as u128).to_le_bytes())
    }

    impl Ledger {
        fn audit(&self) -> Audit {
            let expected = |wanted: TransferId| {
                let (receiver, amount, state) = *self.transfers.get(u128::from_le_bytes(wanted.0) as usize)?;
                Some(Expected { receiver: self.receivers[receiver].clone(), amount: Amount(amount), state })
            };
            let mut auditor = Auditor::new(&expected);
            let mut after = self.before.clone();
            for (transfers, succeeded) in &self.chain {
                auditor.transaction(
                    transfers.iter().map(|(index, receiver, amount)| Found {
                        id: id(*index),
                        receiver: &self.receivers[*receiver],
                        amount: Amount(*amount),
                        succeeded: *succeeded,
                    }),
                    false,
                );
                for (_, receiver, amount) in transfers.iter().filter(|_| *succeeded) {
                    after.sender.0 -= amount;
                    after.receivers[*receiver].0 += amount;
                }
            }
            for _ in 0..self.foreign {
                auditor.transaction([], true);
            }
            after.sender.0 -= self.sender_off;
            after.receivers[0].0 += self.receiver_off;
            after.total_supply.0 += self.supply_off;
            let succeeded = self.transfers.iter().filter(|t| t.2 == TransferState::Finalized).count();
            auditor.finish(succeeded as u64, &self.receivers, &self.before, &after)
        }

        fn some(&self, state: TransferState, pick: usize) -> Option<usize> {
            let all: Vec<_> = (0..self.transfers.len()).filter(|i| self.transfers[*i].2 == state).collect();
            all.get(pick % all.len().max(1)).copied()
        }

        /// The transaction and place where a transfer moved.
        fn place(&self, index: usize) -> (usize, usize) {
            let moved = |(t, (transfers, ok)): (usize, &Transaction)| {
                let at = transfers.iter().position(|(i, ..)| *i == index);
                at.filter(|_| *ok).map(|at| (t, at))
            };
            self.chain.iter().enumerate().find_map(moved).unwrap()
        }
    }

    /// An honest run: batches that failed and were signed anew, batches that succeeded, transfers failed for good.
    fn honest() -> impl Strategy<Value = Ledger> {
        let state = prop_oneof![
            4 => Just(TransferState::Finalized),
            1 => Just(TransferState::Failed),
            1 => Just(TransferState::NeedsReview),
        ];
        let transfer = (0..5usize, 1..1000u128, state);
        (proptest::collection::vec(transfer, 1..40), 1..6usize, any::<u64>()).prop_map(|(transfers, batch, retried)| {
            let receivers: Vec<_> = (0..5).map(|i| Account::new(&format!("user-{i}.near")).unwrap()).collect();
            let mut chain: Vec<Transaction> = Vec::new();
            let all: Vec<_> = transfers.iter().enumerate().map(|(i, (r, a, s))| (i, *r, *a, *s)).collect();
            for (n, chunk) in all.chunks(batch).enumerate() {
                let rows = |keep: &dyn Fn(TransferState) -> bool| -> Vec<_> {
                    chunk.iter().filter(|t| keep(t.3)).map(|(i, r, a, _)| (*i, *r, *a)).collect()
                };
                if retried >> (n % 64) & 1 == 1 {
                    chain.push((rows(&|_| true), false));
                }
                let moved = rows(&|state| state == TransferState::Finalized);
                if !moved.is_empty() {
                    chain.push((moved, true));
                }
            }
            let before = Balances {
                sender: Amount(1_000_000),
                receivers: (0..5).map(Amount).collect(),
                total_supply: Amount(2_000_000),
            };
            Ledger { receivers, transfers, chain, foreign: 0, before, sender_off: 0, receiver_off: 0, supply_off: 0 }
        })
    }

    proptest! {
        #[test]
        fn an_honest_run_matches(ledger in honest()) {
            let audit = ledger.audit();
            let succeeded = ledger.transfers.iter().filter(|t| t.2 == TransferState::Finalized).count() as u64;
            let expected = Audit {
                matches: true, transfers_found: succeeded, receivers: 5, supply_conserved: true, ..Audit::default()
            };
            prop_assert_eq!(audit, expected);
        }

        #[test]
        fn every_single_lie_is_found_and_named(ledger in honest(), pick: usize, lie in 0..10u8) {
            let mut told = ledger.clone();
            let finalized = ledger.some(TransferState::Finalized, pick);
            let failed = ledger.some(TransferState::Failed, pick);
            let base = ledger.audit();
            let named = match lie {
                // Reported as succeeded, never on chain.
                0 => {
                    told.transfers.push((0, 7, TransferState::Finalized));
                    Audit { missing: 1, ..base }
                }
                // Paid twice.
                1 => {
                    prop_assume!(finalized.is_some());
                    let (t, at) = told.place(finalized.unwrap());
                    let again = told.chain[t].0[at];
                    told.chain.push((vec![again], true));
                    Audit { doubled: 1, ..base }
                }
                // Paid too much.
                2 => {
                    prop_assume!(finalized.is_some());
                    let (t, at) = told.place(finalized.unwrap());
                    told.chain[t].0[at].2 += 1;
                    Audit { contradicted: 1, ..base }
                }
                // Paid to somebody else: two balances are off, too.
                3 => {
                    prop_assume!(finalized.is_some());
                    let (t, at) = told.place(finalized.unwrap());
                    let receiver = &mut told.chain[t].0[at].1;
                    *receiver = (*receiver + 1) % 5;
                    Audit { contradicted: 1, wrong_balances: 1, ..base }
                }
                // Moved, though reported as failed.
                4 => {
                    prop_assume!(failed.is_some());
                    let index = failed.unwrap();
                    let (receiver, amount, _) = told.transfers[index];
                    told.chain.push((vec![(index, receiver, amount)], true));
                    Audit { contradicted: 1, transfers_found: base.transfers_found + 1, ..base }
                }
                // Failed, though reported as succeeded.
                5 => {
                    told.transfers.push((0, 7, TransferState::Finalized));
                    told.chain.push((vec![(told.transfers.len() - 1, 0, 7)], false));
                    Audit { contradicted: 1, ..base }
                }
                // Somebody else used our keys: without an identity, or with an unknown one.
                6 => {
                    told.foreign = 1;
                    Audit { foreign: 1, ..base }
                }
                7 => {
                    told.chain.push((vec![(told.transfers.len() + 5, 0, 3)], true));
                    Audit { foreign: 1, wrong_balances: 1, ..base }
                }
                // Tokens that came or went otherwise.
                8 => {
                    told.sender_off = 1;
                    told.receiver_off = 1;
                    Audit { wrong_balances: 2, ..base }
                }
                _ => {
                    told.supply_off = 1;
                    Audit { supply_conserved: false, ..base }
                }
            };
            prop_assert_eq!(told.audit(), Audit { matches: false, ..named });
        }
    }
}
