//! A table of every error that nearcore knows, and the word that it must become.
#![allow(clippy::unwrap_used)]
use super::*;
use near_crypto::{KeyType, PublicKey};
use near_primitives::{
    action::GlobalContractIdentifier,
    errors::{
        ActionsValidationError, DepositCostFailureReason, HostError, MethodResolveError, PrepareError,
        ReceiptValidationError, StorageError, TxExecutionError, WasmTrap,
    },
    types::{AccountId, Balance},
};

fn id() -> AccountId {
    "bench.near".parse().unwrap()
}

fn key() -> Box<PublicKey> {
    Box::new(PublicKey::empty(KeyType::ED25519))
}

/// Whether a key, a balance, … is to blame: the kind of a refusal.
fn kind(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::NonceTooLow { .. } => "low",
        Refusal::NonceTooHigh { .. } => "high",
        Refusal::Expired => "expired",
        Refusal::WrongChain => "chain",
        Refusal::Congested { .. } => "congested",
        Refusal::Key(_) => "key",
        Refusal::Balance(_) => "balance",
        Refusal::Malformed(_) => "malformed",
        Refusal::Node(_) => "node",
    }
}

/// Every variant of nearcore's `InvalidTxError`, with the word it must become. `refusal` matches without a wildcard,
/// so that a new variant does not compile; the count below sees to it that the table keeps up.
fn refusals() -> Vec<(InvalidTxError, &'static str)> {
    use InvalidTxError as E;
    let (signer_id, amount) = (id(), Balance::from_yoctonear(1));
    let access = |error| E::InvalidAccessKeyError(error);
    vec![
        (access(InvalidAccessKeyError::RequiresFullAccess), "key"),
        (E::InvalidSignerId { signer_id: "?".to_owned() }, "malformed"),
        (E::SignerDoesNotExist { signer_id: id() }, "key"),
        (E::InvalidNonce { tx_nonce: 1, ak_nonce: 2 }, "low"),
        (E::NonceTooLarge { tx_nonce: 9, upper_bound: 5 }, "high"),
        (E::InvalidReceiverId { receiver_id: "?".to_owned() }, "malformed"),
        (E::InvalidSignature, "malformed"),
        (E::NotEnoughBalance { signer_id: id(), balance: amount, cost: amount }, "balance"),
        (E::LackBalanceForState { signer_id: id(), amount }, "balance"),
        (E::CostOverflow, "malformed"),
        (E::InvalidChain, "chain"),
        (E::Expired, "expired"),
        (E::ActionsValidation(ActionsValidationError::IntegerOverflow), "malformed"),
        (E::TransactionSizeExceeded { size: 2, limit: 1 }, "malformed"),
        (E::InvalidTransactionVersion, "malformed"),
        (E::StorageError(StorageError::StorageInternalError), "node"),
        (E::ShardCongested { shard_id: 3, congestion_level: 0.9.try_into().unwrap() }, "congested"),
        (E::ShardStuck { shard_id: 3, missed_chunks: 9 }, "congested"),
        (E::InvalidNonceIndex { tx_nonce_index: None, num_nonces: 1 }, "key"),
        (E::NotEnoughGasKeyBalance { signer_id: id(), balance: amount, cost: amount }, "balance"),
        (
            E::NotEnoughBalanceForDeposit {
                signer_id,
                balance: amount,
                cost: amount,
                reason: DepositCostFailureReason::NotEnoughBalance,
            },
            "balance",
        ),
        (
            access(InvalidAccessKeyError::NotEnoughAllowance {
                account_id: id(),
                public_key: key(),
                allowance: amount,
                cost: amount,
            }),
            "balance",
        ),
        (access(InvalidAccessKeyError::AccessKeyNotFound { account_id: id(), public_key: key() }), "key"),
        (access(InvalidAccessKeyError::DepositWithFunctionCall), "key"),
    ]
}

/// The number that borsh gives a value's variant.
fn variant(value: &impl borsh::BorshSerialize) -> u8 {
    borsh::to_vec(value).unwrap()[0]
}

fn all_variants_up_to(highest: u8, found: impl Iterator<Item = u8>) {
    let found: std::collections::BTreeSet<_> = found.collect();
    assert_eq!(found, (0..=highest).collect(), "a variant lacks its line in the table");
}

#[test]
fn every_refusal_of_nearcore_has_its_word_through_its_json() {
    let table = refusals();
    all_variants_up_to(20, table.iter().map(|(error, _)| variant(error)));
    assert!(
        borsh::from_slice::<InvalidTxError>(&[21]).unwrap_err().to_string().contains("21"),
        "nearcore has a new variant"
    );
    for (error, word) in table {
        let json = serde_json::json!({ "TxExecutionError": TxExecutionError::InvalidTxError(error.clone()) });
        let Failure::Refused(refusal) = read(&json, "bench.near") else { panic!("{error:?} is a refusal") };
        assert_eq!(kind(&refusal), word, "{error:?}");
    }
    let nonce = serde_json::to_value(TxExecutionError::InvalidTxError(InvalidTxError::InvalidNonce {
        tx_nonce: 1,
        ak_nonce: 7,
    }));
    let Failure::Refused(refusal) = read(&nonce.unwrap(), "") else { panic!("a refusal") };
    assert_eq!(refusal, Refusal::NonceTooLow { key_nonce: 7 });
}

/// Every variant of nearcore's `ActionErrorKind`, with the label it must become.
fn failures() -> Vec<(ActionErrorKind, &'static str)> {
    use ActionErrorKind as K;
    let amount = Balance::from_yoctonear(1);
    let call = |error| K::FunctionCallError(error);
    let says = |text: &str| call(FunctionCallError::ExecutionError(text.to_owned()));
    let panics = |text: &str| says(&format!("Smart contract panicked: {text}"));
    vec![
        (K::AccountAlreadyExists { account_id: id() }, "action"),
        (K::AccountDoesNotExist { account_id: id() }, "contract"),
        (
            K::CreateAccountOnlyByRegistrar { account_id: id(), registrar_account_id: id(), predecessor_id: id() },
            "action",
        ),
        (K::CreateAccountNotAllowed { account_id: id(), predecessor_id: id() }, "action"),
        (K::ActorNoPermission { account_id: id(), actor_id: id() }, "action"),
        (K::DeleteKeyDoesNotExist { account_id: id(), public_key: key() }, "action"),
        (K::AddKeyAlreadyExists { account_id: id(), public_key: key() }, "action"),
        (K::DeleteAccountStaking { account_id: id() }, "action"),
        (K::LackBalanceForState { account_id: id(), amount }, "action"),
        (K::TriesToUnstake { account_id: id() }, "action"),
        (K::TriesToStake { account_id: id(), stake: amount, locked: amount, balance: amount }, "action"),
        (K::InsufficientStake { account_id: id(), stake: amount, minimum_stake: amount }, "action"),
        (panics("The account somebody.near is not registered"), "unregistered"),
        (panics("The account bench.near is not registered"), "sender_unregistered"),
        (panics("The amount should be a positive number"), "bad_amount"),
        (panics("Sender and receiver should be different"), "self_transfer"),
        (panics("The account doesn't have enough balance"), "sender_balance"),
        (says("Exceeded the prepaid gas."), "out_of_gas"),
        (says("Exceeded the maximum amount of gas allowed to burn per contract."), "out_of_gas"),
        (says("MethodNotFound"), "contract"),
        (panics("the token is paused"), "panic"),
        (panics("The account is already registered"), "panic"),
        (call(FunctionCallError::MethodResolveError(MethodResolveError::MethodNotFound)), "contract"),
        (
            call(FunctionCallError::CompilationError(CompilationError::CodeDoesNotExist { account_id: id() })),
            "contract",
        ),
        (call(FunctionCallError::CompilationError(CompilationError::PrepareError(PrepareError::Memory))), "contract"),
        (call(FunctionCallError::LinkError { msg: "x".to_owned() }), "contract"),
        (call(FunctionCallError::WasmTrap(WasmTrap::Unreachable)), "panic"),
        (call(FunctionCallError::WasmUnknownError), "panic"),
        (call(FunctionCallError::HostError(HostError::BadUTF8)), "panic"),
        (K::NewReceiptValidationError(ReceiptValidationError::ReceiptSizeExceeded { size: 2, limit: 1 }), "action"),
        (K::OnlyImplicitAccountCreationAllowed { account_id: id() }, "action"),
        (K::DeleteAccountWithLargeState { account_id: id() }, "action"),
        (K::DelegateActionInvalidSignature, "action"),
        (K::DelegateActionSenderDoesNotMatchTxReceiver { sender_id: id(), receiver_id: id() }, "action"),
        (K::DelegateActionExpired, "action"),
        (K::DelegateActionAccessKeyError(InvalidAccessKeyError::RequiresFullAccess), "action"),
        (K::DelegateActionInvalidNonce { delegate_nonce: 1, ak_nonce: 2 }, "action"),
        (K::DelegateActionNonceTooLarge { delegate_nonce: 1, upper_bound: 1 }, "action"),
        (K::GlobalContractDoesNotExist { identifier: GlobalContractIdentifier::AccountId(id()) }, "contract"),
        (K::GasKeyDoesNotExist { account_id: id(), public_key: key() }, "action"),
        (
            K::InsufficientGasKeyBalance { account_id: id(), public_key: key(), balance: amount, required: amount },
            "action",
        ),
        (K::GasKeyBalanceTooHigh { account_id: id(), public_key: None, balance: amount }, "action"),
        (K::DelegateActionInvalidNonceIndex { nonce_index: 1, num_nonces: 1 }, "action"),
        (K::TotalPromiseInputSizeExceeded { size: 2, limit: 1 }, "action"),
        (K::ReceiptStorageProofSizeExceeded { limit: 1 }, "action"),
        (K::MalformedUniversalStateInit, "action"),
        (K::AccountNotInitialized { account_id: id() }, "action"),
    ]
}

#[test]
fn every_failure_of_nearcore_has_its_label_and_index_through_its_json() {
    let table = failures();
    all_variants_up_to(30, table.iter().map(|(kind, _)| variant(kind)));
    assert!(
        borsh::from_slice::<ActionErrorKind>(&[31]).unwrap_err().to_string().contains("31"),
        "nearcore has a new variant"
    );
    for (index, (kind, label)) in (0..).zip(table) {
        for index in [None, Some(index)] {
            let error = TxExecutionError::ActionError(ActionError { index, kind: kind.clone() });
            let read = read(&serde_json::to_value(error).unwrap(), "bench.near");
            let Failure::Action(Execution::Failure { index: found, kind: failure }) = read else {
                panic!("{kind:?} is a failed receipt")
            };
            assert_eq!((found, failure.label()), (index, label), "{kind:?}");
            let own = ["unregistered", "bad_amount", "self_transfer"].contains(&label);
            assert_eq!(failure.is_transfers_own(), own, "{kind:?}");
        }
    }
}

#[test]
fn what_a_newer_node_says_is_a_hint_or_a_systemic_failure() {
    let refused = serde_json::json!({ "InvalidTxError": { "Novelty": {} } });
    assert!(matches!(read(&refused, ""), Failure::Refused(Refusal::Node(_))));
    let failed = serde_json::json!({ "ActionError": { "index": 4, "kind": { "Novelty": {} } } });
    let Failure::Action(Execution::Failure { index, kind }) = read(&failed, "") else { panic!("a failure") };
    assert_eq!((index, kind.is_transfers_own()), (Some(4), false));
}
