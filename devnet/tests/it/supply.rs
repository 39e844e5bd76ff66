//! Tokens neither appear nor vanish, and a recorded chain comes out equal, whatever is submitted.
#![allow(clippy::unwrap_used)]

use near_primitives::account::AccessKey;
use near_primitives::action::{
    AddKeyAction, DeleteAccountAction, DeleteKeyAction, DeployContractAction, FunctionCallAction, TransferAction,
};
use near_primitives::shard_layout::ShardLayout;
use near_primitives::transaction::{Action, CreateAccountAction};
use near_primitives::types::{Balance, Gas, ShardId};
use nearbench_devnet::chain::{Chain, Retention};
use nearbench_devnet::faults::Handling;
use proptest::prelude::*;

use crate::driver::{account, genesis, next_block, signed, signer};
use crate::vectors::TOKEN;

/// Every account that can come to be.
const ACCOUNTS: [&str; 7] = [
    "alice.near",
    "bob.near",
    "token.near",
    "new.alice.near",
    "new.bob.near",
    "stranger.near",
    "5e1d3fa4a9c1ff8e4a5dcd2b1b9c2b1a9b3e2b1a9c1ff8e4a5dcd2b1b9c2b1a9",
];

#[derive(Clone, Debug)]
struct Submission {
    from: usize,
    to: usize,
    actions: Vec<Action>,
    /// How far the nonce is above the next one.
    above: u64,
    handling: Handling,
    blocks_after: usize,
}

fn deposit() -> impl Strategy<Value = Balance> {
    prop_oneof![
        Just(Balance::ZERO),
        Just(Balance::from_yoctonear(1)),
        (1..2000u128).prop_map(Balance::from_near),
        Just(Balance::MAX),
    ]
}

fn call(method: &'static str, args: String, gas: u64, deposit: Balance) -> Action {
    Action::FunctionCall(Box::new(FunctionCallAction {
        method_name: method.to_owned(),
        args: args.into_bytes(),
        gas: Gas::from_teragas(gas),
        deposit,
    }))
}

fn action() -> impl Strategy<Value = Action> {
    let someone = 0..ACCOUNTS.len();
    prop_oneof![
        3 => deposit().prop_map(|deposit| Action::Transfer(TransferAction { deposit })),
        1 => Just(Action::CreateAccount(CreateAccountAction {})),
        1 => someone.clone().prop_map(|name| Action::AddKey(Box::new(AddKeyAction {
            public_key: signer(ACCOUNTS[name]).public_key(),
            access_key: AccessKey::full_access(),
        }))),
        1 => someone.clone().prop_map(|name| Action::DeleteKey(Box::new(DeleteKeyAction {
            public_key: signer(ACCOUNTS[name]).public_key(),
        }))),
        1 => someone.clone().prop_map(|name| {
            Action::DeleteAccount(DeleteAccountAction { beneficiary_id: account(ACCOUNTS[name]) })
        }),
        1 => Just(Action::DeployContract(DeployContractAction { code: TOKEN.to_vec() })),
        2 => Just(call(
            "new",
            r#"{"owner_id": "alice.near", "total_supply": "1000"}"#.to_owned(),
            30,
            Balance::ZERO,
        )),
        3 => (someone.clone(), deposit()).prop_map(|(name, deposit)| {
            call("storage_deposit", format!(r#"{{"account_id": "{}"}}"#, ACCOUNTS[name]), 10, deposit)
        }),
        3 => (someone.clone(), 0..3u64).prop_map(|(name, gas)| {
            let args = format!(r#"{{"receiver_id": "{}", "amount": "1"}}"#, ACCOUNTS[name]);
            call("ft_transfer", args, gas, Balance::from_yoctonear(1))
        }),
        1 => someone.prop_map(|name| {
            let args = format!(r#"{{"receiver_id": "{}", "amount": "1", "msg": ""}}"#, ACCOUNTS[name]);
            call("ft_transfer_call", args, 60, Balance::from_yoctonear(1))
        }),
        1 => Just(call("storage_unregister", r#"{"force": true}"#.to_owned(), 10, Balance::from_yoctonear(1))),
    ]
}

fn submission() -> impl Strategy<Value = Submission> {
    let someone = 0..ACCOUNTS.len();
    let actions = prop::collection::vec(action(), 1..4);
    let above = prop_oneof![4 => Just(0u64), 1 => Just(1), 1 => Just(1 << 60)];
    let handling = prop_oneof![
        3 => Just(Handling::Take),
        1 => (0..3u64).prop_map(|blocks| Handling::Unchecked { blocks }),
    ];
    (someone.clone(), someone, actions, above, handling, 0..2usize).prop_map(
        |(from, to, actions, above, handling, blocks_after)| Submission {
            from,
            to,
            actions,
            above,
            handling,
            blocks_after,
        },
    )
}

fn held(chain: &Chain) -> Balance {
    let state = chain.state_at(chain.head().height).unwrap();
    let accounts = ACCOUNTS.iter().filter_map(|name| state.account(&account(name)));
    accounts.map(|account| account.amount()).fold(Balance::ZERO, |sum, amount| sum.checked_add(amount).unwrap())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn accounts_hold_the_supply_less_what_was_burnt_and_a_recorded_chain_is_the_same_again(
        submissions in prop::collection::vec(submission(), 1..40),
        protocol_version in 84..=88u32,
        shards in 1..=3usize,
    ) {
        let rich = Balance::from_near(10_000);
        let mut genesis = genesis(&[("alice.near", rich), ("bob.near", rich), ("token.near", rich)]);
        genesis.protocol_version = protocol_version;
        let boundaries = ["bob.near", "new.bob.near"].map(account);
        let shard_ids = (0..shards as u64).map(ShardId::new).collect();
        genesis.shard_layout = ShardLayout::v2(boundaries[..shards - 1].to_vec(), shard_ids, None);
        genesis.accounts[2].code = Some(TOKEN.to_vec());
        let supply = genesis.total_supply().unwrap();
        genesis.epoch_length = 4;
        let home = tempfile::tempdir().unwrap();
        let collecting = Retention { epochs: Some(3), archival: false };
        let mut chain = Chain::open(genesis.clone(), collecting, home.path()).unwrap();
        next_block(&mut chain);
        for Submission { from, to, actions, above, handling, blocks_after } in submissions {
            // Refused or not, executed or not: nothing may be lost.
            let _ = chain.submit_as(signed(&chain, ACCOUNTS[from], ACCOUNTS[to], actions, above), handling);
            for _ in 0..blocks_after {
                next_block(&mut chain);
            }
        }
        let mut quiet = 0;
        while quiet < 4 {
            let block = next_block(&mut chain);
            let idle = block.transactions().next().is_none() && block.receipts().next().is_none();
            quiet = if idle { quiet + 1 } else { 0 };
            prop_assert!(block.height < 1000, "receipts never end");
        }
        let burnt = (0..=chain.head().height)
            .flat_map(|height| chain.block_at(height).unwrap().chunks.clone())
            .map(|chunk| chunk.balance_burnt)
            .fold(Balance::ZERO, |sum, burnt| sum.checked_add(burnt).unwrap());
        prop_assert_eq!(held(&chain), chain.head().total_supply);
        prop_assert_eq!(chain.head().total_supply.checked_add(burnt), Some(supply));

        // Opened again it is the same chain, and has what was collected as far as it is told to keep it.
        let (head, first) = (chain.head(), chain.first_kept());
        drop(chain);
        let everything = Chain::open(genesis.clone(), Retention::default(), home.path()).unwrap();
        prop_assert_eq!(everything.head().hash, head.hash);
        let transactions: Vec<_> = (0..=head.height)
            .flat_map(|height| {
                let block = everything.block_at(height).unwrap();
                block.transactions().map(|tx| (tx.get_hash(), height)).collect::<Vec<_>>()
            })
            .collect();
        for (hash, height) in &transactions {
            prop_assert!(everything.outcomes(hash).any(|record| record.height == *height));
        }
        drop(everything);
        let collected = Chain::open(genesis, collecting, home.path()).unwrap();
        prop_assert_eq!((collected.head().hash, collected.first_kept()), (head.hash, first));
        for (hash, height) in &transactions {
            prop_assert!(*height < first || collected.outcomes(hash).any(|record| record.height == *height));
            prop_assert!(collected.outcomes(hash).all(|record| record.height >= first));
        }
    }
}
