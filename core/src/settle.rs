//! The rules of settling: from evidence to the fate of transfers. No I/O, no clock.
//!
//! Evidence names a final, canonical block; the caller gathers it. Hints (an unknown transaction, a refusal, a
//! timeout) never reach this module, because nothing may be concluded from them.

use crate::{
    Height, Nonce,
    outcome::{Execution, FailureKind},
};

/// What became of one transfer of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The tokens moved, in a final block.
    Finalized,
    /// Proven not to move, for its own fault.
    Failed,
    /// Proven that this attempt moved nothing: back to the head of the queue.
    Requeue,
    /// No proof either way: a person decides.
    NeedsReview,
}

/// What became of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settlement {
    /// The same for every transfer.
    All(Fate),
    /// One transfer failed for its own fault; nothing was applied, and the others go back.
    Poisoned {
        /// The index of the transfer that failed.
        index: usize,
    },
}

impl Settlement {
    /// The fate of the transfer at `index`.
    pub fn fate(self, index: usize) -> Fate {
        match self {
            Self::All(fate) => fate,
            Self::Poisoned { index: bad } if bad == index => Fate::Failed,
            Self::Poisoned { .. } => Fate::Requeue,
        }
    }
}

/// A settlement, and whether the fault is everybody's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ruling {
    /// What becomes of the transfers.
    pub settlement: Settlement,
    /// Set: signing more with this lane would fail the same way, so the lane stops.
    pub systemic: Option<FailureKind>,
}

/// Judges an attempt of `transfers` transfers whose receipt was executed in a final, canonical block.
///
/// A batch is one receipt: when one action fails, nothing of it was applied (nearcore, `Runtime::apply_action_receipt`
/// rolls the state back). Only a transfer's own fault fails it; what would fail every transfer alike fails none.
pub fn landed(execution: &Execution, transfers: usize) -> Ruling {
    match execution {
        Execution::Success => Ruling { settlement: Settlement::All(Fate::Finalized), systemic: None },
        Execution::Failure { index: Some(index), kind } if kind.is_transfers_own() && *index < transfers as u64 => {
            Ruling { settlement: Settlement::Poisoned { index: *index as usize }, systemic: None }
        }
        Execution::Failure { kind, .. } => {
            Ruling { settlement: Settlement::All(Fate::Requeue), systemic: Some(kind.clone()) }
        }
    }
}

/// Whether an attempt can never land any more: one look at its key, in a final block past the attempt's expiry,
/// shows a nonce below the attempt's.
pub fn dead_by_expiry(nonce: Nonce, expiry: Height, key_nonce: Nonce, final_height: Height) -> bool {
    final_height > expiry && key_nonce < nonce
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failure(index: Option<u64>, kind: FailureKind) -> Execution {
        Execution::Failure { index, kind }
    }

    #[test]
    fn each_execution_has_its_ruling() {
        let own = Settlement::Poisoned { index: 2 };
        let back = Settlement::All(Fate::Requeue);
        for (execution, settlement, systemic) in [
            (Execution::Success, Settlement::All(Fate::Finalized), false),
            (failure(Some(2), FailureKind::Unregistered), own, false),
            (failure(Some(2), FailureKind::BadAmount), own, false),
            (failure(Some(2), FailureKind::SelfTransfer), own, false),
            (failure(None, FailureKind::Unregistered), back, true),
            (failure(Some(9), FailureKind::Unregistered), back, true),
            (failure(Some(0), FailureKind::SenderBalance), back, true),
            (failure(Some(1), FailureKind::OutOfGas), back, true),
            (failure(Some(1), FailureKind::Contract("MethodNotFound".into())), back, true),
            (failure(Some(1), FailureKind::Panic("paused".into())), back, true),
            (failure(None, FailureKind::Action("LackBalanceForState".into())), back, true),
        ] {
            let ruling = landed(&execution, 5);
            assert_eq!(ruling.settlement, settlement, "{execution:?}");
            assert_eq!(ruling.systemic.is_some(), systemic, "{execution:?}");
        }
    }

    #[test]
    fn a_poisoned_batch_fails_one_and_puts_the_others_back() {
        let fates: Vec<_> = (0..4).map(|i| Settlement::Poisoned { index: 1 }.fate(i)).collect();
        assert_eq!(fates, [Fate::Requeue, Fate::Failed, Fate::Requeue, Fate::Requeue]);
    }

    #[test]
    fn only_a_final_height_past_the_expiry_with_an_unreached_nonce_proves_death() {
        assert!(dead_by_expiry(10, 100, 9, 101));
        assert!(!dead_by_expiry(10, 100, 9, 100), "a block at the expiry height may still include it");
        assert!(!dead_by_expiry(10, 100, 10, 101), "its own nonce was reached: it may have landed");
        assert!(!dead_by_expiry(10, 100, 11, 101));
    }
}
