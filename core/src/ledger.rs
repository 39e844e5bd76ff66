//! What became of every transfer of a schedule, in two bits each, so that the audit can compare it with the chain.

/// The final state of a scheduled transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Final {
    /// Not settled: never accepted, or without proof either way.
    Open,
    /// The tokens moved.
    Succeeded,
    /// They did not.
    Failed,
}

/// The final states of the transfers `0..total` of a schedule. Its size is fixed at the start.
#[derive(Clone, Debug)]
pub struct Ledger {
    bits: Vec<u8>,
    total: u64,
}

impl Ledger {
    /// A ledger in which every transfer is open.
    pub fn new(total: u64) -> Self {
        Self { bits: vec![0; usize::try_from(total.div_ceil(4)).unwrap_or(usize::MAX)], total }
    }

    /// How many transfers it covers.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Notes the final state of transfer `sequence`; one beyond the schedule is not its business.
    pub fn set(&mut self, sequence: u64, state: Final) {
        if sequence >= self.total {
            return;
        }
        let shift = (sequence % 4) * 2;
        let byte = &mut self.bits[(sequence / 4) as usize];
        let value = match state {
            Final::Open => 0,
            Final::Succeeded => 1,
            Final::Failed => 2,
        };
        *byte = (*byte & !(3 << shift)) | (value << shift);
    }

    /// The final state of transfer `sequence`.
    pub fn get(&self, sequence: u64) -> Final {
        let byte = self.bits.get((sequence / 4) as usize).copied().unwrap_or(0);
        match (byte >> ((sequence % 4) * 2)) & 3 {
            1 => Final::Succeeded,
            2 => Final::Failed,
            _ => Final::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    proptest! {
        #[test]
        fn it_remembers_the_last_state_of_each_and_touches_no_neighbour(
            writes in prop::collection::vec((0u64..40, 0u8..3), 0..200),
        ) {
            let mut ledger = Ledger::new(37);
            let mut model = HashMap::new();
            for (sequence, state) in writes {
                let state = [Final::Open, Final::Succeeded, Final::Failed][state as usize];
                ledger.set(sequence, state);
                if sequence < 37 {
                    model.insert(sequence, state);
                }
            }
            for sequence in 0..40 {
                prop_assert_eq!(ledger.get(sequence), model.get(&sequence).copied().unwrap_or(Final::Open));
            }
        }
    }
}
