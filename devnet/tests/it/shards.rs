//! More than one shard: a transaction runs in its signer's shard, a receipt in its receiver's.
#![allow(clippy::unwrap_used)]

use near_primitives::action::TransferAction;
use near_primitives::shard_layout::ShardLayout;
use near_primitives::transaction::Action;
use near_primitives::types::{Balance, Gas, ShardId};
use nearbench_devnet::block::Block;
use nearbench_devnet::chain::{Chain, Retention};
use nearbench_devnet::genesis::Genesis;
use tempfile::TempDir;

use crate::driver::{account, genesis, next_block, signed, submit};

/// alice's shard and zoe's; an id is no index.
const ALICES: u64 = 7;
const ZOES: u64 = 3;

fn two_shards() -> Genesis {
    let mut genesis = genesis(&[("alice.near", Balance::from_near(100)), ("zoe.near", Balance::from_near(100))]);
    let shard_ids = vec![ShardId::new(ALICES), ShardId::new(ZOES)];
    genesis.shard_layout = ShardLayout::v2(vec![account("middle.near")], shard_ids, None);
    genesis
}

fn pay(near: u128) -> Vec<Action> {
    vec![Action::Transfer(TransferAction { deposit: Balance::from_near(near) })]
}

/// How many transactions and receipts a block has in alice's and in zoe's shard.
fn contents(block: &Block) -> [(usize, usize); 2] {
    [ALICES, ZOES].map(|shard_id| {
        let chunk = block.chunk(ShardId::new(shard_id)).unwrap();
        (chunk.transactions.len(), chunk.receipts.len())
    })
}

#[test]
fn a_receipt_for_another_shard_leaves_its_own_and_arrives_there_in_the_next_block() {
    let home = TempDir::new().unwrap();
    let mut chain = Chain::open(two_shards(), Retention::default(), home.path()).unwrap();
    next_block(&mut chain);
    let payment = submit(&mut chain, "alice.near", "zoe.near", pay(1)).unwrap();

    let block = next_block(&mut chain);
    let order: Vec<u64> = block.chunks.iter().map(|chunk| chunk.shard_id.into()).collect();
    assert_eq!(order, [ALICES, ZOES], "in the order of the layout");
    assert_eq!(contents(&block), [(1, 0), (0, 0)]);
    let receipt = chain.outcome(&payment).unwrap().outcome.outcome.receipt_ids[0];
    assert!(chain.receipt(&receipt).is_some() && chain.outcome(&receipt).is_none(), "it is on its way");

    let block = next_block(&mut chain);
    assert_eq!(contents(&block), [(0, 0), (0, 1)]);
    assert_eq!(block.chunks[1].receipts[0].receipt_id(), &receipt);
    assert_eq!(chain.outcome(&receipt).unwrap().height, block.height);
    assert_eq!(block.chunks[0].state_root, block.chunks[0].prev_state_root, "alice's shard had nothing to do");
    assert_ne!(block.chunks[1].state_root, block.chunks[1].prev_state_root);
    let state = chain.state_at(block.height).unwrap();
    assert_eq!(state.account(&account("zoe.near")).unwrap().amount(), Balance::from_near(101));

    assert_eq!(contents(&next_block(&mut chain)), [(0, 1), (0, 0)], "the refund of gas goes home");
    let head = chain.head().hash;
    drop(chain);
    assert_eq!(Chain::open(two_shards(), Retention::default(), home.path()).unwrap().head().hash, head);
}

#[test]
fn each_shard_has_a_pool_of_its_own() {
    let mut chain = Chain::new(two_shards()).unwrap();
    next_block(&mut chain);
    for (from, to) in [("alice.near", "zoe.near"), ("zoe.near", "alice.near"), ("zoe.near", "zoe.near")] {
        let above = u64::from(from == to);
        let transaction = signed(&chain, from, to, pay(1), above);
        chain.submit(transaction).unwrap();
    }
    assert_eq!(contents(&next_block(&mut chain)), [(1, 0), (2, 0)]);
    assert_eq!(contents(&next_block(&mut chain)), [(0, 1), (0, 2)], "also the refund of what zoe paid herself");
}

#[test]
fn receipts_are_delayed_in_the_shard_of_their_receiver() {
    let mut genesis = two_shards();
    genesis.gas_limit = Gas::from_teragas(1);
    let mut chain = Chain::new(genesis).unwrap();
    next_block(&mut chain);
    for above in 0..40 {
        let transaction = signed(&chain, "alice.near", "zoe.near", pay(1), above);
        chain.submit(transaction).unwrap();
    }
    assert_eq!(contents(&next_block(&mut chain)), [(40, 0), (0, 0)]);
    let block = next_block(&mut chain);
    let delayed = |shard_id| block.chunk(ShardId::new(shard_id)).unwrap().congestion.delayed_receipts_gas();
    assert_eq!(delayed(ALICES), 0);
    assert!(delayed(ZOES) > 0);
}
