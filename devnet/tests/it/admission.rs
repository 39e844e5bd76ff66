//! What an RPC node refuses, and what it takes only for the chunk to drop it.
#![allow(clippy::unwrap_used)]

use near_crypto::{InMemorySigner, KeyType, Signature};
use near_primitives::account::{AccessKey, AccessKeyPermission, FunctionCallPermission};
use near_primitives::action::{
    AddKeyAction, DeleteAccountAction, DeployContractAction, FunctionCallAction, StakeAction, TransferAction,
};
use near_primitives::errors::{ActionsValidationError, InvalidAccessKeyError, InvalidTxError};
use near_primitives::hash::CryptoHash;
use near_primitives::transaction::{Action, SignedTransaction, Transaction, TransactionV0};
use near_primitives::types::{Balance, Gas};
use nearbench_devnet::chain::{Chain, Submitted};

use crate::driver::{account, finish, genesis, next_block, signed, signer, submit};

fn chain() -> Chain {
    let names = [("alice.near", Balance::from_near(100)), ("bob.near", Balance::from_near(100))];
    let mut genesis = genesis(&names);
    genesis.transaction_validity_period = 20;
    let mut chain = Chain::new(genesis).unwrap();
    next_block(&mut chain);
    chain
}

fn transfer(deposit: Balance) -> Action {
    Action::Transfer(TransferAction { deposit })
}

fn call(gas: Gas, deposit: Balance) -> Action {
    let (method_name, args) = ("pay".to_owned(), Vec::new());
    Action::FunctionCall(Box::new(FunctionCallAction { method_name, args, gas, deposit }))
}

fn with(chain: &Chain, change: impl FnOnce(&mut TransactionV0)) -> SignedTransaction {
    let plain = signed(chain, "alice.near", "bob.near", vec![transfer(Balance::from_near(1))], 0);
    let Transaction::V0(mut transaction) = plain.transaction else { unreachable!() };
    change(&mut transaction);
    let signer = signer(transaction.signer_id.as_str());
    Transaction::V0(transaction).sign(&signer)
}

/// Submits a payment from alice to bob that `change` spoiled and returns the answer.
fn answer(chain: &mut Chain, change: impl FnOnce(&mut TransactionV0)) -> InvalidTxError {
    let transaction = with(chain, change);
    chain.submit(transaction).unwrap_err()
}

fn actions_answer(chain: &mut Chain, actions: Vec<Action>) -> ActionsValidationError {
    match answer(chain, |tx| tx.actions = actions) {
        InvalidTxError::ActionsValidation(error) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn each_fault_of_the_envelope_has_the_answer_of_a_node() {
    let mut chain = chain();
    let plain = with(&chain, |_| {});
    let forged = SignedTransaction::new(Signature::empty(KeyType::ED25519), plain.transaction);
    assert_eq!(chain.submit(forged), Err(InvalidTxError::InvalidSignature));

    let fork = CryptoHash::hash_bytes(b"fork");
    assert_eq!(answer(&mut chain, |tx| tx.block_hash = fork), InvalidTxError::Expired);

    let nobody = with(&chain, |tx| {
        tx.signer_id = account("nobody.near");
        tx.public_key = signer("nobody.near").public_key();
    });
    assert_eq!(chain.submit(nobody), Err(InvalidTxError::SignerDoesNotExist { signer_id: account("nobody.near") }));

    let stranger = InMemorySigner::from_seed(account("alice.near"), KeyType::ED25519, "stranger");
    let mut unknown_key = with(&chain, |_| {}).transaction;
    if let Transaction::V0(tx) = &mut unknown_key {
        tx.public_key = stranger.public_key();
    }
    assert_eq!(
        chain.submit(unknown_key.sign(&stranger)),
        Err(InvalidTxError::InvalidAccessKeyError(InvalidAccessKeyError::AccessKeyNotFound {
            account_id: account("alice.near"),
            public_key: Box::new(stranger.public_key()),
        }))
    );

    assert_eq!(answer(&mut chain, |tx| tx.nonce = 0), InvalidTxError::InvalidNonce { tx_nonce: 0, ak_nonce: 0 });
    let rich = Balance::from_near(100);
    assert!(matches!(
        answer(&mut chain, |tx| tx.actions = vec![transfer(rich)]),
        InvalidTxError::NotEnoughBalance { balance, cost, .. } if balance == rich && cost > rich
    ));
    assert_eq!(answer(&mut chain, |tx| tx.actions = vec![transfer(Balance::MAX); 2]), InvalidTxError::CostOverflow);
    let code = vec![0; 1_572_864];
    assert!(matches!(
        answer(&mut chain, |tx| tx.actions = vec![Action::DeployContract(DeployContractAction { code })]),
        InvalidTxError::TransactionSizeExceeded { limit: 1_572_864, .. }
    ));
}

#[test]
fn each_fault_of_the_actions_has_the_answer_of_a_node() {
    let mut chain = chain();
    let yocto = Balance::from_yoctonear(1);
    assert_eq!(
        actions_answer(&mut chain, vec![transfer(yocto); 101]),
        ActionsValidationError::TotalNumberOfActionsExceeded { total_number_of_actions: 101, limit: 100 }
    );
    assert_eq!(
        actions_answer(&mut chain, vec![call(Gas::from_teragas(501), yocto); 2]),
        ActionsValidationError::TotalPrepaidGasExceeded {
            total_prepaid_gas: Gas::from_teragas(1002),
            limit: Gas::from_teragas(1000),
        }
    );
    assert_eq!(
        actions_answer(&mut chain, vec![call(Gas::ZERO, yocto)]),
        ActionsValidationError::FunctionCallZeroAttachedGas
    );
    let delete = Action::DeleteAccount(DeleteAccountAction { beneficiary_id: account("bob.near") });
    assert_eq!(
        actions_answer(&mut chain, vec![delete, transfer(yocto)]),
        ActionsValidationError::DeleteActionMustBeFinal
    );
    let public_key = signer("alice.near").public_key();
    let stake = Action::Stake(Box::new(StakeAction { stake: yocto, public_key }));
    assert!(matches!(
        actions_answer(&mut chain, vec![stake]),
        ActionsValidationError::UnsupportedProtocolFeature { .. }
    ));
}

#[test]
fn a_function_call_key_may_make_one_call_without_a_deposit() {
    let mut chain = chain();
    let key = InMemorySigner::from_seed(account("alice.near"), KeyType::ED25519, "calls");
    let permission = AccessKeyPermission::FunctionCall(FunctionCallPermission {
        allowance: None,
        receiver_id: "bob.near".to_owned(),
        method_names: vec!["pay".to_owned()],
    });
    let access_key = AccessKey { nonce: 0, permission };
    let add = Action::AddKey(Box::new(AddKeyAction { public_key: key.public_key(), access_key }));
    let hash = submit(&mut chain, "alice.near", "alice.near", vec![add]).unwrap();
    finish(&mut chain, hash);
    let nonce = chain.state_at(chain.head().height).unwrap().access_key(&account("alice.near"), &key.public_key());
    // Made in block 2: a new key begins at (height - 1) * 10^6.
    assert_eq!(nonce.unwrap().nonce, 1_000_000);

    let submit = |chain: &mut Chain, actions: Vec<Action>| {
        let Transaction::V0(mut tx) = with(chain, |_| {}).transaction else { unreachable!() };
        tx.public_key = key.public_key();
        tx.nonce = 1_000_001;
        tx.actions = actions;
        chain.submit(Transaction::V0(tx).sign(&key))
    };
    let gas = Gas::from_teragas(1);
    let refused = |error| Err(InvalidTxError::InvalidAccessKeyError(error));
    let paid = vec![call(gas, Balance::from_yoctonear(1))];
    assert_eq!(submit(&mut chain, paid), refused(InvalidAccessKeyError::DepositWithFunctionCall));
    let twice = vec![call(gas, Balance::ZERO); 2];
    assert_eq!(submit(&mut chain, twice), refused(InvalidAccessKeyError::RequiresFullAccess));
    assert_eq!(submit(&mut chain, vec![call(gas, Balance::ZERO)]), Ok(Submitted::New));
}

#[test]
fn a_nonce_beyond_the_chunk_s_range_is_taken_and_silently_dropped() {
    let mut chain = chain();
    let far = with(&chain, |tx| tx.nonce = 1 << 50);
    let hash = far.get_hash();
    assert_eq!(chain.submit(far.clone()), Ok(Submitted::New));
    assert_eq!(chain.submit(far), Ok(Submitted::Duplicate));
    for _ in 0..3 {
        next_block(&mut chain);
    }
    assert!(chain.transaction(&hash).is_none() && chain.outcome(&hash).is_none());
}

#[test]
fn gaps_between_nonces_are_fine_and_what_comes_late_is_refused() {
    let mut chain = chain();
    let high = with(&chain, |tx| tx.nonce = 9);
    let low = with(&chain, |tx| tx.nonce = 5);
    let late = with(&chain, |tx| tx.nonce = 7);
    let (first, second) = (low.get_hash(), high.get_hash());
    chain.submit(high.clone()).unwrap();
    chain.submit(low).unwrap();
    let block = next_block(&mut chain);
    let order: Vec<_> = block.chunks[0].transactions.iter().map(|tx| tx.get_hash()).collect();
    assert_eq!(order, [first, second], "the pool orders a key's transactions by nonce");
    assert_eq!(chain.submit(late), Err(InvalidTxError::InvalidNonce { tx_nonce: 7, ak_nonce: 9 }));
    assert_eq!(chain.submit(high), Err(InvalidTxError::InvalidNonce { tx_nonce: 9, ak_nonce: 9 }));
}

#[test]
fn a_transaction_lives_as_long_as_its_base_block_and_not_one_block_longer() {
    let mut chain = chain();
    let base = chain.head();
    let by_then = |chain: &Chain, nonce| {
        with(chain, |tx| {
            tx.block_hash = base.hash;
            tx.nonce = nonce;
        })
    };
    while chain.head().height < base.height + 20 {
        next_block(&mut chain);
    }
    let last = by_then(&chain, 1);
    assert_eq!(chain.submit(last.clone()), Ok(Submitted::New));
    next_block(&mut chain);
    assert!(chain.transaction(&last.get_hash()).is_some());
    let expired = by_then(&chain, 2);
    assert_eq!(chain.submit(expired), Err(InvalidTxError::Expired));
}
