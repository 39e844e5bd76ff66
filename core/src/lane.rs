//! A lane's nonces: always upwards, never twice.

use crate::{Height, NONCE_RANGE, Nonce};
use std::collections::BTreeSet;

/// The first nonce that a new holder of a lane may sign with: above every nonce that any earlier holder can have
/// used, whether the chain saw it (`key_nonce`, final), the store did (`high_water`), or neither: an earlier holder
/// started at an earlier final height and counted up from it by ones.
pub fn first_nonce(key_nonce: Nonce, high_water: Nonce, final_height: Height) -> Nonce {
    key_nonce.max(high_water).max(final_height.saturating_mul(NONCE_RANGE)) + 1
}

/// The nonces of a lane that were sent and not seen executed.
#[derive(Debug, Default)]
pub struct OpenNonces(BTreeSet<Nonce>);

impl OpenNonces {
    /// Notes that `nonce` is on its way.
    pub fn insert(&mut self, nonce: Nonce) {
        self.0.insert(nonce);
    }

    /// Notes that it is not any more.
    pub fn remove(&mut self, nonce: Nonce) {
        self.0.remove(&nonce);
    }

    /// Whether `nonce` may be resent: only the lowest, since a higher one that lands first kills it.
    pub fn is_lowest(&self, nonce: Nonce) -> bool {
        self.0.first() == Some(&nonce)
    }

    /// Whether none is above `nonce`: nothing under way will overtake it.
    pub fn is_highest(&self, nonce: Nonce) -> bool {
        self.0.last().is_none_or(|last| *last <= nonce)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_nonce_is_above_all_and_within_the_range_of_the_next_block(
            height in 1u64..1_000_000_000, below in 0u64..NONCE_RANGE, high_water in 0u64..1_000_000_000_000,
        ) {
            // A key's nonce at a final height is below that height's range.
            let key_nonce = height * NONCE_RANGE - 1 - below;
            let first = first_nonce(key_nonce, high_water, height);
            prop_assert!(first > key_nonce && first > high_water);
            if high_water <= height * NONCE_RANGE {
                prop_assert!(first < (height + 1) * NONCE_RANGE);
            }
        }
    }

    #[test]
    fn only_the_lowest_open_nonce_may_be_resent() {
        let mut open = OpenNonces::default();
        open.insert(7);
        open.insert(5);
        assert!(open.is_lowest(5) && !open.is_lowest(7));
        assert!(open.is_highest(7) && !open.is_highest(5));
        open.remove(5);
        assert!(open.is_lowest(7) && !open.is_lowest(5));
    }
}
