//! Receipts that a chunk has no room for wait in order, and their load is known.
#![allow(clippy::unwrap_used)]

use near_primitives::action::TransferAction;
use near_primitives::transaction::Action;
use near_primitives::types::{Balance, Gas};
use nearbench_devnet::chain::Chain;

use crate::driver::{genesis, next_block, outcomes, signed};

/// Room for some four native receipts a chunk.
const LIMIT: Gas = Gas::from_teragas(1);

#[test]
fn delayed_receipts_run_in_order_in_later_chunks_and_leave_no_load_behind() {
    let mut genesis = genesis(&[("alice.near", Balance::from_near(100)), ("bob.near", Balance::from_near(100))]);
    genesis.gas_limit = LIMIT;
    let mut chain = Chain::new(genesis).unwrap();
    next_block(&mut chain);
    let mut sent = Vec::new();
    for index in 0..40 {
        let transfer = Action::Transfer(TransferAction { deposit: Balance::from_yoctonear(1) });
        let transaction = signed(&chain, "alice.near", "bob.near", vec![transfer], index);
        sent.push(transaction.get_hash());
        chain.submit(transaction).unwrap();
    }
    let mut heaviest = 0;
    let mut executed = Vec::new();
    for _ in 0..200 {
        let block = next_block(&mut chain);
        heaviest = heaviest.max(block.chunks[0].congestion.delayed_receipts_gas());
        assert_eq!(
            block.chunks[0].congestion.delayed_receipts_gas() == 0,
            block.chunks[0].congestion.receipt_bytes() == 0
        );
        // A chunk takes receipts until it is full; the last may overshoot, by less than a receipt. Conversions count.
        let conversions = block.chunks[0].transactions.len() as u64 * 223_182_562_500;
        let limit = LIMIT.as_gas().max(conversions) + 223_182_562_500;
        assert!(block.chunks[0].gas_used.as_gas() <= limit, "{:?}", block.chunks[0].gas_used);
        executed.extend(sent.iter().enumerate().filter_map(|(index, hash)| {
            let receipt = chain.outcome(hash)?.outcome.outcome.receipt_ids[0];
            let record = chain.outcome(&receipt)?;
            (record.height == block.height).then_some(index)
        }));
    }
    assert_eq!(executed, (0..40).collect::<Vec<_>>(), "each once, in the order of their transactions");
    assert!(heaviest > 10 * 223_182_562_500, "{heaviest}");
    assert_eq!(chain.head().chunks[0].congestion.delayed_receipts_gas(), 0);
    for hash in sent {
        assert_eq!(outcomes(&chain, hash).unwrap().len(), 3);
    }
}
