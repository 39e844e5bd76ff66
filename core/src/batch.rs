//! How many transfers share a transaction.

use crate::{
    Gas,
    plan::{Batch, ChainLimits},
};

/// What one transfer adds to a transaction, and what the transaction needs besides.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weight {
    /// Gas attached to each `ft_transfer`.
    pub gas_per_transfer: Gas,
    /// Bytes of the largest `ft_transfer` action.
    pub bytes_per_action: u64,
    /// Bytes of a transaction without its actions, signature included.
    pub bytes_overhead: u64,
}

/// The most transfers that the chain takes in one transaction. 0: not even one fits.
pub fn cap(limits: &ChainLimits, weight: &Weight) -> u32 {
    let by_gas = limits.max_total_prepaid_gas / weight.gas_per_transfer.max(1);
    let by_size = limits.max_transaction_size.saturating_sub(weight.bytes_overhead) / weight.bytes_per_action.max(1);
    u32::try_from(limits.max_actions.min(by_gas).min(by_size)).unwrap_or(u32::MAX)
}

/// `clamp(floor(queueDepth / depthDivisor), min, max)`, at most `cap`, and never more than wait.
pub fn size(queue_depth: u64, batch: &Batch, cap: u32) -> u32 {
    let wanted = queue_depth / u64::from(batch.depth_divisor.max(1));
    let wanted = wanted.max(batch.min.into()).min(batch.max.into()).min(cap.into());
    u32::try_from(wanted.min(queue_depth)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::TGAS;
    use proptest::prelude::*;

    const BATCH: Batch = Batch { min: 1, max: 20, depth_divisor: 10 };
    const LIMITS: ChainLimits = ChainLimits {
        protocol_version: 86,
        max_actions: 100,
        max_total_prepaid_gas: 1_000 * TGAS,
        max_transaction_size: 1_572_864,
        chunk_gas_limit: 1_000 * TGAS,
        transaction_validity_period: 100,
    };

    #[test]
    fn the_batch_grows_with_the_queue_between_its_bounds() {
        let sizes = [0, 1, 9, 10, 57, 200, 5_000].map(|depth| size(depth, &BATCH, 100));
        assert_eq!(sizes, [0, 1, 1, 1, 5, 20, 20]);
    }

    #[test]
    fn the_chain_caps_by_whatever_binds_first() {
        let weight = |gas, bytes| Weight { gas_per_transfer: gas, bytes_per_action: bytes, bytes_overhead: 300 };
        assert_eq!(cap(&LIMITS, &weight(10 * TGAS, 200)), 100);
        assert_eq!(cap(&LIMITS, &weight(30 * TGAS, 200)), 33);
        assert_eq!(cap(&LIMITS, &weight(3 * TGAS, 200)), 100);
        assert_eq!(cap(&LIMITS, &weight(3 * TGAS, 100_000)), 15);
        assert_eq!(cap(&LIMITS, &weight(1_001 * TGAS, 200)), 0);
    }

    proptest! {
        #[test]
        fn a_batch_never_exceeds_cap_queue_or_max(
            depth: u64, min in 0u32..50, max in 1u32..200, depth_divisor in 0u32..50, cap in 0u32..200,
        ) {
            let size = u64::from(size(depth, &Batch { min, max, depth_divisor }, cap));
            prop_assert!(size <= depth && size <= u64::from(cap) && size <= u64::from(max));
        }

        #[test]
        fn something_is_sent_whenever_something_waits(depth in 1u64.., cap in 1u32..) {
            prop_assert!(size(depth, &BATCH, cap) >= 1);
        }
    }
}
