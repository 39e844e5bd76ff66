//! The rules of settling: from evidence to the fate of transfers. No I/O, no clock.
//!
//! Evidence names a final, canonical block; the caller gathers it. Hints (an unknown transaction, a refusal, a
//! timeout) never reach this module, because nothing may be concluded from them. The way of an attempt that left no
//! outcome: [`look`] at its key; where the key's nonce has reached the attempt's, find the block in which it did
//! ([`Crossing`]), and judge by who moved it ([`passed`]).

use crate::{
    Hash, Height, NONCE_RANGE, Nonce,
    outcome::{Execution, FailureKind},
};
use serde::{Deserialize, Serialize};

/// What became of one transfer of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Why an attempt has moved nothing and never will: what alone permits signing its transfers anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeathCertificate {
    /// A final block past its expiry shows its key's nonce below its own: it was not included, and no later block may
    /// include it.
    Expired {
        /// The key's nonce there.
        key_nonce: Nonce,
        /// The block's height.
        height: Height,
    },
    /// In this final block another transaction moved the key's nonce to or past its own.
    Overtaken {
        /// The block's height.
        height: Height,
        /// The transaction.
        by: Hash,
    },
    /// In this final block its key was taken off the account, its nonce unused.
    KeyGone {
        /// The block's height.
        height: Height,
    },
    /// It can land no more, and none of the blocks after its base, read whole, holds it otherwise than as invalid.
    Absent {
        /// The height of the last of them, which is final.
        to: Height,
    },
}

/// Where and when an attempt was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Executed {
    /// The receipt that carried its actions.
    pub receipt: Hash,
    /// The final block that executed the receipt.
    pub block: Hash,
    /// That block's own time, in nanoseconds since the Unix epoch.
    pub block_unix_ns: u64,
    /// When this worker learnt of the execution, in nanoseconds since the load's start.
    pub at_ns: u64,
}

/// What a settlement rests on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Proof {
    /// It was executed, with or without success.
    Executed(Executed),
    /// It never was, and never will be.
    Dead(DeathCertificate),
    /// There is none: a person decides.
    None,
}

/// The end of an attempt, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settled {
    /// What becomes of its transfers.
    pub settlement: Settlement,
    /// Why.
    pub proof: Proof,
    /// What failed, if it was executed and failed.
    pub failure: Option<FailureKind>,
    /// When, in nanoseconds since the load's start.
    pub at_ns: u64,
}

/// What there is to know of an attempt before it is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subject {
    /// Its hash.
    pub hash: Hash,
    /// Its nonce.
    pub nonce: Nonce,
    /// The height of its base block: it is in none at or below it.
    pub base: Height,
    /// The last height at which it may be included.
    pub expiry: Height,
}

/// An attempt's key in a final block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeyLook {
    /// The block's height.
    pub height: Height,
    /// The key's nonce; `None`: the account has no such key.
    pub nonce: Option<Nonce>,
}

impl KeyLook {
    /// Whether a transaction with `nonce` can be in no later block.
    fn is_past(&self, nonce: Nonce) -> bool {
        self.nonce.is_none_or(|key| key >= nonce)
    }
}

/// What one look at an attempt's key says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It may still be included, or be in a block that is not final yet: send the same bytes again.
    MayLand,
    /// It never will be, and was not.
    Dead(DeathCertificate),
    /// It never will be; whether it was is to be found in the past.
    SearchThePast,
}

/// Judges an attempt by one look at its key in the last final block.
///
/// A key that is added again starts at a nonce of its block's height times 10⁶ (nearcore, `initial_nonce_value`), so
/// that a lower one can never be used again; nearbench adds no deleted key again.
pub fn look(subject: &Subject, key: &KeyLook) -> Look {
    match key.nonce {
        Some(nonce) if nonce >= subject.nonce => Look::SearchThePast,
        Some(nonce) if key.height > subject.expiry => {
            Look::Dead(DeathCertificate::Expired { key_nonce: nonce, height: key.height })
        }
        Some(_) => Look::MayLand,
        None if subject.nonce < key.height.saturating_mul(NONCE_RANGE) || key.height > subject.expiry => {
            Look::SearchThePast
        }
        None => Look::MayLand,
    }
}

/// What a search saw at a height.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    /// The attempt's key, in the final block of this height.
    Key(KeyLook),
    /// There is no block of this height.
    NoBlock,
    /// Nobody who was asked has it any more.
    Collected,
}

/// What a search needs next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Search {
    /// The key at this height.
    LookAt(Height),
    /// Nothing: the first block seen in which the nonce is past the attempt's. What this rests on is only as good as the
    /// answers were: [`passed`] proves it by the block's parent.
    Found(Height),
    /// Nothing: the block is among those that were collected, at this height or below.
    Collected(Height),
}

/// The search for the final block in which a key's nonce reached or passed an attempt's, by halving.
#[derive(Clone, Debug)]
pub struct Crossing {
    nonce: Nonce,
    /// Below this nothing is to be looked for.
    low: Height,
    /// Whether `low` is not past, or merely collected.
    low_is_known: bool,
    /// Past here.
    high: Height,
    /// Where to look next within; lower than the middle where there was no block.
    probe: Option<Height>,
}

impl Crossing {
    /// A search from the attempt's base to `past`, a look that showed its key past its nonce.
    pub fn new(subject: &Subject, past: &KeyLook) -> Self {
        Self { nonce: subject.nonce, low: subject.base, low_is_known: true, high: past.height, probe: None }
    }

    fn middle(&self) -> Height {
        self.low + (self.high - self.low) / 2
    }

    /// What is to be looked at.
    pub fn next(&self) -> Search {
        if self.high <= self.low + 1 {
            return if self.low_is_known { Search::Found(self.high) } else { Search::Collected(self.low) };
        }
        Search::LookAt(self.probe.unwrap_or_else(|| self.middle()))
    }

    /// Takes what was seen where [`Self::next`] said to look.
    pub fn saw(&mut self, seen: Seen) {
        let Search::LookAt(probe) = self.next() else { return };
        self.probe = None;
        match seen {
            Seen::Key(key) if key.is_past(self.nonce) => self.high = probe,
            Seen::Key(_) => (self.low, self.low_is_known) = (probe.max(self.low), true),
            Seen::Collected => (self.low, self.low_is_known) = (probe, false),
            // What holds in the block before holds here. Without one down to the low end, that end's state does.
            Seen::NoBlock if probe - 1 > self.low => self.probe = Some(probe - 1),
            Seen::NoBlock => self.low = self.middle(),
        }
    }
}

/// A transaction or receipt that changed a key in a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyChange {
    /// A transaction moved its nonce.
    Moved {
        /// The transaction.
        by: Hash,
        /// To this.
        nonce: Nonce,
    },
    /// It was taken off the account.
    Removed,
}

/// The block in which a key's nonce reached or passed an attempt's, whole.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Passing {
    /// The key in the block's parent.
    pub before: KeyLook,
    /// The key in the block.
    pub at: KeyLook,
    /// All that changed the key in the block.
    pub changes: Vec<KeyChange>,
}

/// What became of an attempt whose nonce lies behind its key's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Past {
    /// It is in the block: its outcome exists.
    Included,
    /// It is in no block.
    Dead(DeathCertificate),
    /// The answers contradict each other, as those of an endpoint that is behind or lies: ask again.
    Contradiction,
}

/// Judges by the block in which the key's nonce passed the attempt's: whoever is not among those that moved the key
/// there was in no earlier block either, since the nonce was still below, and can be in no later one.
pub fn passed(subject: &Subject, passing: &Passing) -> Past {
    let Passing { before, at, changes } = passing;
    if changes.iter().any(|change| matches!(change, KeyChange::Moved { by, .. } if *by == subject.hash)) {
        return Past::Included;
    }
    // Signed when its key was gone already. A key that is added again begins above its nonce.
    let gone = before.height <= subject.base && before.nonce.is_none() && at.nonce.is_none();
    if gone && before.height < at.height && subject.nonce < at.height.saturating_mul(NONCE_RANGE) {
        return Past::Dead(DeathCertificate::KeyGone { height: before.height });
    }
    if before.height >= at.height || before.is_past(subject.nonce) || !at.is_past(subject.nonce) {
        return Past::Contradiction;
    }
    // The last to move it left it where it is; else these are the changes of something else.
    let moved = changes.iter().filter_map(|change| match change {
        KeyChange::Moved { nonce, .. } => Some(*nonce),
        KeyChange::Removed => None,
    });
    if at.nonce.is_some() && at.nonce != moved.max() {
        return Past::Contradiction;
    }
    let overtaker = changes.iter().find_map(|change| match change {
        KeyChange::Moved { by, nonce } if *nonce >= subject.nonce => Some(*by),
        _ => None,
    });
    match (overtaker, at.nonce) {
        (Some(by), _) => Past::Dead(DeathCertificate::Overtaken { height: at.height, by }),
        (None, None) if changes.contains(&KeyChange::Removed) => {
            Past::Dead(DeathCertificate::KeyGone { height: at.height })
        }
        _ => Past::Contradiction,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

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

    const NONCE: Nonce = 50_000_010;

    /// Base 50, expiry 150, and a nonce of the range that belongs to them.
    fn subject() -> Subject {
        Subject { hash: Hash([7; 32]), nonce: NONCE, base: 50, expiry: 150 }
    }

    fn key(height: Height, nonce: impl Into<Option<Nonce>>) -> KeyLook {
        KeyLook { height, nonce: nonce.into() }
    }

    #[test]
    fn each_look_at_the_key_has_its_meaning() {
        use Look::{Dead, MayLand, SearchThePast};
        let expired = |key_nonce, height| Dead(DeathCertificate::Expired { key_nonce, height });
        for (seen, meaning, why) in [
            (key(100, NONCE - 1), MayLand, "not expired"),
            (key(150, NONCE - 1), MayLand, "the block at the expiry height may still include it"),
            (key(151, NONCE - 1), expired(NONCE - 1, 151), "past the expiry, its nonce not reached"),
            (key(151, NONCE), SearchThePast, "its own nonce was reached: it may have landed"),
            (key(100, NONCE), SearchThePast, "likewise before its expiry"),
            (key(100, NONCE + 5), SearchThePast, "overtaken, or landed and others after it"),
            (key(100, None), SearchThePast, "the key is gone, and a new one would begin at 99 million"),
            (key(50, None), MayLand, "the key is gone, and a new one would begin below its nonce"),
            (key(151, None), SearchThePast, "the key is gone, and it has expired"),
        ] {
            assert_eq!(look(&subject(), &seen), meaning, "{why}");
        }
        let high = Subject { nonce: 151_000_000, ..subject() };
        assert_eq!(look(&high, &key(150, None)), MayLand, "a key that is added again might begin below its nonce");
    }

    #[test]
    fn each_passing_has_its_meaning() {
        use KeyChange::Removed;
        let moved = |by, nonce| KeyChange::Moved { by: Hash([by; 32]), nonce };
        let overtaken = Past::Dead(DeathCertificate::Overtaken { height: 61, by: Hash([8; 32]) });
        let (below, past) = (key(60, NONCE - 1), key(61, NONCE + 1));
        for (before, at, changes, meaning, why) in [
            (below, past, vec![moved(7, NONCE), moved(8, NONCE + 1)], Past::Included, "it is among them"),
            (below, past, vec![moved(8, NONCE + 1)], overtaken, "another passed it"),
            (below, key(61, NONCE), vec![moved(8, NONCE)], overtaken, "another used its very nonce"),
            (below, past, vec![moved(9, NONCE - 1), moved(8, NONCE + 1)], overtaken, "the one that passed it counts"),
            (below, key(61, None), vec![moved(7, NONCE), Removed], Past::Included, "then the key was removed"),
            (below, key(61, None), vec![moved(8, NONCE + 1), Removed], overtaken, "then the key was removed"),
            (
                below,
                key(61, None),
                vec![Removed],
                Past::Dead(DeathCertificate::KeyGone { height: 61 }),
                "the key was removed before its nonce was used",
            ),
            (below, key(61, None), vec![], Past::Contradiction, "a key does not vanish by itself"),
            (below, past, vec![], Past::Contradiction, "nor does a nonce move by itself"),
            (below, past, vec![moved(8, NONCE - 1)], Past::Contradiction, "that does not explain the nonce"),
            (below, past, vec![moved(8, NONCE + 9)], Past::Contradiction, "these are the changes of another block"),
            (key(60, NONCE), past, vec![moved(8, NONCE + 1)], Past::Contradiction, "it was passed before"),
            (key(60, None), past, vec![moved(8, NONCE + 1)], Past::Contradiction, "there was no key before"),
            (below, key(61, NONCE - 1), vec![moved(8, NONCE + 1)], Past::Contradiction, "it was not passed here"),
            (key(61, NONCE - 1), past, vec![moved(8, NONCE + 1)], Past::Contradiction, "no parent"),
            (
                key(50, None),
                key(51, None),
                vec![],
                Past::Dead(DeathCertificate::KeyGone { height: 50 }),
                "its key was gone at its base",
            ),
            (key(51, None), key(52, None), vec![], Past::Contradiction, "gone after its base: by whom is to be found"),
            (key(50, None), key(50, None), vec![], Past::Contradiction, "no parent"),
        ] {
            assert_eq!(passed(&subject(), &Passing { before, at, changes }), meaning, "{why}");
        }
    }

    proptest! {
        /// Over chains with missing heights and a collected beginning, the search ends, looks at few blocks, and finds
        /// the first block past the nonce, or says that nobody can know.
        #[test]
        fn a_search_finds_the_block_in_which_the_nonce_was_passed(
            crossed in 51u64..1_000, last in 0u64..1_000, collected in 0u64..1_050, gaps in any::<u64>(),
        ) {
            let last = crossed + last;
            let is_block = |height: Height| {
                let mixed = (height ^ gaps).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 60;
                height == last || height == crossed || mixed > 4
            };
            let mut search = Crossing::new(&subject(), &key(last, NONCE));
            let mut looks = 0;
            let end = loop {
                let Search::LookAt(height) = search.next() else { break search.next() };
                prop_assert!(height > 50 && height < last);
                looks += 1;
                search.saw(match height {
                    _ if height < collected => Seen::Collected,
                    _ if !is_block(height) => Seen::NoBlock,
                    _ => Seen::Key(key(height, if height < crossed { NONCE - 1 } else { NONCE })),
                });
            };
            prop_assert!(looks <= 64, "{looks} looks");
            let before = (51..crossed).rev().find(|height| is_block(*height)).unwrap_or(50);
            let knowable = collected <= 51 || before >= collected;
            match end {
                Search::Found(height) => prop_assert_eq!(height, crossed),
                Search::Collected(_) => prop_assert!(!knowable, "{:?}", end),
                Search::LookAt(_) => prop_assert!(false),
            }
        }
    }
}
