//! What is to be done, as a pure function of what is there and what is desired.

use super::{
    Desired, Lane, ProvisionError,
    observe::{Observed, TokenState},
};
use crate::{
    Signer,
    chain::{AccessKey, Permission},
};
use nearbench_core::{Account, Amount, Gas, Near, TGAS};
use std::fmt;

/// Attached to each `storage_deposit`; it burns some 2 Tgas.
pub(super) const REGISTRATION_GAS: Gas = 5 * TGAS;
/// Attached to `new` and to `ft_mint`; each burns some 3 Tgas.
pub(super) const DEPLOY_GAS: Gas = 50 * TGAS;
/// Registrations in a transaction: one receipt, which must stay well below a chunk.
const REGISTRATIONS: usize = 50;
/// State that a token holds besides its code and its accounts' registrations, generously, in bytes.
const TOKEN_STATE_BYTES: u128 = 10_000;
/// What NEP-145's registration costs with near-contract-standards: 125 bytes. Asked of the token itself once it is there.
const USUAL_REGISTRATION_BYTES: u128 = 125;
/// What an access key occupies, generously, in bytes.
const KEY_BYTES: u128 = 100;
/// Kept for gas, on top of all deposits.
const GAS_RESERVE: Near = Near(nearbench_core::amount::NEAR / 2);

/// One transaction that changes the chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The paying account, with its balance and master key.
    CreateAccount,
    /// Lane keys, by their public keys.
    AddKeys(Vec<String>),
    /// The token at its own account: created, deployed, initialised and minted in one receipt, all or nothing.
    DeployToken {
        /// What its account gets, to pay for its state.
        balance: Near,
    },
    /// Storage at the token.
    Register {
        /// For whom.
        accounts: Vec<Account>,
        /// What each costs.
        deposit: Near,
        /// How many will be registered once this step and those before it are done.
        through: usize,
        /// Of how many that are to be.
        of: usize,
    },
    /// Access keys that go.
    RemoveKeys(Vec<String>),
}

impl Step {
    /// What a journal calls it, if doing it twice would leave a failed transaction behind. The others may be repeated.
    pub(super) fn once(&self) -> Option<&'static str> {
        match self {
            Self::CreateAccount => Some("create-account"),
            Self::DeployToken { .. } => Some("deploy-token"),
            Self::AddKeys(_) | Self::Register { .. } | Self::RemoveKeys(_) => None,
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CreateAccount => f.write_str("creating the account"),
            Self::AddKeys(keys) => write!(f, "adding {}", counted(keys.len(), "access key")),
            Self::DeployToken { balance } => write!(f, "deploying the token with {balance}"),
            Self::Register { through, of, .. } => write!(f, "registering receivers at the token, {through}/{of}"),
            Self::RemoveKeys(keys) => write!(f, "removing {}", counted(keys.len(), "access key")),
        }
    }
}

fn counted(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// What is left to do.
#[derive(Debug)]
pub(super) struct Todo {
    /// The steps that can be taken now.
    pub(super) now: Vec<Step>,
    /// How many are known to follow from a later observation.
    pub(super) later: usize,
}

fn impossible(field: &'static str, reason: String) -> ProvisionError {
    ProvisionError::Impossible { field, reason }
}

pub(super) fn no_such_key(field: &'static str, signer: &Signer) -> ProvisionError {
    let (account, key) = (signer.account(), signer.public_key());
    impossible(
        field,
        format!("{key} is no access key of {account}: use the file that holds a key of this account on this chain"),
    )
}

/// What is to be done from here on.
///
/// # Errors
/// When the end cannot be reached from here, whatever is done: found before the first step.
pub(super) fn plan(desired: &Desired, observed: &Observed) -> Result<Todo, ProvisionError> {
    let price = |bytes: u128| Near(bytes.saturating_mul(observed.storage_price.0));
    check_keys(desired, observed)?;
    check_tokens(desired, observed)?;

    let missing_keys: Vec<_> = desired.lane_keys.iter().zip(&observed.lanes).filter(|(_, key)| key.is_none()).collect();
    let keys = missing_keys.iter().map(|(public_key, _)| (*public_key).clone()).collect::<Vec<_>>();
    let (deploy, unregistered, deposit): (_, Vec<Account>, _) = match (&observed.token, &desired.deploy) {
        (Some(TokenState::Contract { registration_price, sender_registered, receivers_registered, .. }), _) => {
            let sender = std::iter::once((&desired.account, sender_registered));
            let missing =
                sender.chain(desired.receivers.iter().zip(receivers_registered)).filter(|(_, there)| !**there);
            (None, missing.map(|(account, _)| account.clone()).collect(), *registration_price)
        }
        (_, Some((_, wasm))) => {
            let balance = price(wasm.len() as u128 + TOKEN_STATE_BYTES);
            (Some(Step::DeployToken { balance }), desired.receivers.clone(), price(USUAL_REGISTRATION_BYTES))
        }
        (_, None) => (None, Vec::new(), Near(0)),
    };

    let deposits = deposit.0.saturating_mul(unregistered.len() as u128)
        + price(KEY_BYTES.saturating_mul(keys.len() as u128)).0
        + match &deploy {
            Some(Step::DeployToken { balance }) => balance.0,
            _ => 0,
        };
    if deposits > 0 || observed.account.is_none() {
        check_funds(desired, observed, Near(deposits))?;
    }

    if desired.master.is_none() {
        check_nothing_needs_a_master(desired, &keys, deploy.is_some(), &unregistered)?;
    }
    let max_actions = observed.limits.max_actions.max(1) as usize;
    let by_gas = (observed.limits.max_total_prepaid_gas / REGISTRATION_GAS).max(1) as usize;
    let (mut through, of) = (0, unregistered.len());
    let registrations = unregistered.chunks(REGISTRATIONS.min(max_actions).min(by_gas)).map(|accounts| {
        through += accounts.len();
        Step::Register { accounts: accounts.to_vec(), deposit, through, of }
    });
    let mut all: Vec<_> = observed.account.is_none().then_some(Step::CreateAccount).into_iter().collect();
    all.extend(keys.chunks(max_actions).map(|keys| Step::AddKeys(keys.to_vec())));
    // Nothing can be done in an account that is not there yet, nor at a token.
    let mut now = if observed.account.is_none() { all.len().min(1) } else { usize::MAX };
    if let Some(deploy) = deploy {
        all.push(deploy);
        now = now.min(all.len());
    }
    all.extend(registrations);
    let later = all.split_off(now.min(all.len())).len();
    Ok(Todo { now: all, later })
}

/// Without a master key the chain must be as it is needed already.
fn check_nothing_needs_a_master(
    desired: &Desired,
    keys: &[String],
    deploys: bool,
    unregistered: &[Account],
) -> Result<(), ProvisionError> {
    let account = &desired.account;
    let (field, missing) = match (keys, unregistered) {
        ([key, ..], _) => ("account.keys.secretRef", format!("{key} is no access key of {account} on this chain")),
        ([], _) if deploys => ("token.contractId", format!("there is no token at {} on this chain", desired.token)),
        ([], [first, ..]) => (
            "receivers",
            format!(
                "not registered at {} yet: {}, such as {first}",
                desired.token,
                counted(unregistered.len(), "account")
            ),
        ),
        ([], []) => return Ok(()),
    };
    Err(impossible(
        field,
        format!(
            "{missing}, and prepared keys alone change nothing: prepare it with `nearbench provision` and a manifest that \
             names account.masterKeySecretRef"
        ),
    ))
}

/// What provisioning promises, read from an observation that leaves nothing to do.
///
/// # Errors
/// Names what is not as it must be.
pub(super) fn verify(desired: &Desired, observed: &Observed) -> Result<Vec<Lane>, ProvisionError> {
    let balance = observed.account.map_or(Near(0), |account| account.balance);
    if balance < desired.min_balance {
        return Err(impossible(
            "account.minBalance",
            format!(
                "{} has {balance}, less than the {} it must have: send it some, or lower minBalance",
                desired.account, desired.min_balance
            ),
        ));
    }
    let lane = |(public_key, key): (&String, &Option<AccessKey>)| {
        let nonce = key.as_ref().map(|key| key.nonce).ok_or_else(|| {
            impossible("account.keys", format!("{public_key} is no longer an access key of {}", desired.account))
        })?;
        Ok(Lane { public_key: public_key.clone(), nonce })
    };
    desired.lane_keys.iter().zip(&observed.lanes).map(lane).collect()
}

/// `why` says what the key is for, and that only a full-access key can do that.
fn check_full_access(
    field: &'static str,
    account: &Account,
    public_key: &str,
    key: &AccessKey,
    why: &str,
) -> Result<(), ProvisionError> {
    let what = match &key.permission {
        Permission::FullAccess => return Ok(()),
        Permission::FunctionCall { receiver } => format!("is a function-call key for {receiver}"),
        Permission::Other(name) => format!("is a key of kind {name}"),
    };
    Err(impossible(field, format!("{public_key} of {account} {what}, {why}; use a full-access key")))
}

const LANE_KEY: &str = "which cannot sign ft_transfer: NEP-141 demands 1 yoctoNEAR with it, and only a full-access key may \
                        attach a deposit";
const MASTER_KEY: &str =
    "and a master key must be full-access: it adds keys, deploys the token and registers receivers";
const FUNDING_KEY: &str = "and a funding account's key must be full-access: it makes the new account";

/// What is wrong whatever the chain looks like.
///
/// # Errors
/// Names the first key that is none.
pub(super) fn check(desired: &Desired) -> Result<(), ProvisionError> {
    match desired.lane_keys.iter().find(|text| text.parse::<near_crypto::PublicKey>().is_err()) {
        Some(text) => Err(impossible(
            "account.keys.secretRef",
            format!("{text:?} is no public key: write it as ed25519: and base58"),
        )),
        None => Ok(()),
    }
}

fn check_keys(desired: &Desired, observed: &Observed) -> Result<(), ProvisionError> {
    let account = &desired.account;
    for (public_key, key) in desired.lane_keys.iter().zip(&observed.lanes) {
        if let Some(key) = key {
            check_full_access("account.keys.secretRef", account, public_key, key, LANE_KEY)?;
        }
    }
    if observed.account.is_some() {
        // An account that the run makes has its funder's key as its master key.
        let made = desired.create_from.is_some();
        let field = if made { "account.createFrom.secretRef" } else { "account.masterKeySecretRef" };
        return match (&desired.master, &observed.master) {
            (Some(master), None) if made => Err(impossible(
                field,
                format!(
                    "{account} is there already, and {} is no access key of it: name its own key in \
                     account.masterKeySecretRef instead of createFrom, or another account",
                    master.public_key()
                ),
            )),
            (Some(master), None) => Err(no_such_key(field, master)),
            (Some(master), Some(key)) => check_full_access(field, account, master.public_key(), key, MASTER_KEY),
            (None, _) => Ok(()),
        };
    }
    let (Some((parent, _)), Some((state, key))) = (&desired.create_from, &observed.parent) else {
        return Err(impossible(
            "account.accountId",
            format!("{account} does not exist on this chain: correct it, or set spec.account.createFrom"),
        ));
    };
    if !account.is_direct_child_of(parent.account()) {
        return Err(impossible(
            "account.createFrom.accountId",
            format!(
                "{} cannot create {account}: only its parent can; use {}",
                parent.account(),
                account.parent().map_or_else(|| "an existing account".to_owned(), |parent| parent.to_string())
            ),
        ));
    }
    match (state, key) {
        (None, _) => Err(impossible(
            "account.createFrom.accountId",
            format!("{} does not exist on this chain", parent.account()),
        )),
        (_, None) => Err(no_such_key("account.createFrom.secretRef", parent)),
        (_, Some(key)) => {
            check_full_access("account.createFrom.secretRef", parent.account(), parent.public_key(), key, FUNDING_KEY)
        }
    }?;
    if desired.master.is_none() {
        return Err(impossible(
            "account.masterKeySecretRef",
            format!("{account} is to be created, but no master key is given for it"),
        ));
    }
    Ok(())
}

fn check_tokens(desired: &Desired, observed: &Observed) -> Result<(), ProvisionError> {
    let (token, account, needed) = (&desired.token, &desired.account, desired.tokens_needed);
    let have = match (&observed.token, &desired.deploy) {
        (Some(TokenState::Contract { balance, .. }), _) => *balance,
        (Some(TokenState::NoCode), _) => {
            return Err(impossible(
                "token.contractId",
                format!(
                    "the account {token} exists but holds no contract: name a token that is deployed, or an account that does not exist yet"
                ),
            ));
        }
        (None, None) => {
            return Err(impossible(
                "token.contractId",
                format!("there is no token at {token} on this chain: correct it, or set spec.token.deploy"),
            ));
        }
        (None, Some(_)) if !token.is_direct_child_of(account) => {
            return Err(impossible(
                "token.contractId",
                format!("{token} cannot be deployed by {account}: only a direct sub-account can, such as ft.{account}"),
            ));
        }
        (None, Some((deploy, _))) => match deploy.total_supply.0.checked_add(deploy.mint.0) {
            Some(sum) => Amount(sum),
            None => {
                return Err(impossible(
                    "token.deploy.mint",
                    "totalSupply and mint together exceed 128 bits".to_owned(),
                ));
            }
        },
    };
    if have < needed {
        return Err(impossible(
            "token",
            format!(
                "{account} has {have} units of {token} and the load moves {needed}: give it more (spec.token.deploy.mint), or lower the load"
            ),
        ));
    }
    Ok(())
}

/// Whether all of it can be paid for, the account's minimal balance included.
fn check_funds(desired: &Desired, observed: &Observed, deposits: Near) -> Result<(), ProvisionError> {
    let needs = Near(desired.min_balance.0.saturating_add(deposits.0).saturating_add(GAS_RESERVE.0));
    let (has, field) = match (observed.account, &desired.create_from) {
        (Some(account), _) => (account.balance, "account.minBalance"),
        (None, Some((_, initial))) => (*initial, "account.createFrom.initialBalance"),
        (None, None) => (Near(0), "account.accountId"),
    };
    if has < needs {
        return Err(impossible(
            field,
            format!(
                "{} would start with {has} and needs {needs}: minBalance {}, deposits {deposits}, gas {GAS_RESERVE}; give it more, or lower minBalance",
                desired.account, desired.min_balance
            ),
        ));
    }
    let (None, Some((parent, initial)), Some((Some(state), _))) =
        (observed.account, &desired.create_from, &observed.parent)
    else {
        return Ok(());
    };
    // What an account's state locks cannot be given away.
    let locked = u128::from(state.storage_bytes).saturating_mul(observed.storage_price.0);
    let needs = Near(initial.0.saturating_add(GAS_RESERVE.0).saturating_add(locked));
    if state.balance < needs {
        return Err(impossible(
            "account.createFrom.initialBalance",
            format!(
                "{} has {} and needs {needs} to create {} with {initial}: fund it, or lower initialBalance",
                parent.account(),
                state.balance,
                desired.account
            ),
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::chain::AccountState;
    use nearbench_core::{
        Hash, Nonce,
        outcome::BlockRef,
        plan::{ChainLimits, Deploy},
    };
    use proptest::prelude::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn account(id: &str) -> Account {
        Account::new(id).unwrap()
    }

    fn key(nonce: Nonce) -> Option<AccessKey> {
        Some(AccessKey { nonce, permission: Permission::FullAccess })
    }

    /// A desire, and a chain on which all of it is there.
    fn done(receivers: usize, lanes: usize) -> (Desired, Observed) {
        let bench = account("bench.near");
        let state =
            AccountState { balance: Near(100 * nearbench_core::amount::NEAR), storage_bytes: 500, has_code: false };
        let desired = Desired {
            chain_id: "devnet".to_owned(),
            account: bench.clone(),
            create_from: None,
            master: Some(Signer::generate(bench, &mut StdRng::seed_from_u64(1))),
            lane_keys: (0..lanes).map(|i| format!("ed25519:{i}")).collect(),
            token: account("ft.bench.near"),
            deploy: Some((Deploy { total_supply: Amount(9), mint: Amount(1) }, bytes::Bytes::from_static(b"wasm"))),
            receivers: (0..receivers).map(|i| account(&format!("user-{i}.near"))).collect(),
            min_balance: Near(nearbench_core::amount::NEAR),
            tokens_needed: Amount(10),
        };
        let observed = Observed {
            base: BlockRef { height: 9, hash: Hash::default(), prev_hash: Hash::default(), timestamp_ns: 0 },
            limits: ChainLimits {
                protocol_version: 86,
                max_actions: 100,
                max_total_prepaid_gas: 1000 * TGAS,
                max_transaction_size: 1_572_864,
                chunk_gas_limit: 1000 * TGAS,
                transaction_validity_period: 86_400,
            },
            storage_price: Near(10u128.pow(19)),
            parent: None,
            account: Some(state),
            master: key(1),
            lanes: (0..lanes as u64).map(key).collect(),
            token: Some(TokenState::Contract {
                registration_price: Near(1250 * 10u128.pow(18)),
                balance: Amount(10),
                sender_registered: true,
                receivers_registered: vec![true; receivers],
            }),
        };
        (desired, observed)
    }

    #[test]
    fn a_function_call_key_is_refused_with_the_reason() {
        let (desired, mut observed) = done(1, 2);
        observed.lanes[1] =
            Some(AccessKey { nonce: 5, permission: Permission::FunctionCall { receiver: "ft.near".to_owned() } });
        let error = plan(&desired, &observed).unwrap_err().to_string();
        for part in
            ["account.keys", "ed25519:1", "function-call key for ft.near", "cannot sign ft_transfer", "1 yoctoNEAR"]
        {
            assert!(error.contains(part), "{part}: {error}");
        }
    }

    #[test]
    fn a_run_without_a_master_key_can_use_what_is_there_and_add_nothing() {
        let (mut desired, mut observed) = done(1, 1);
        (desired.master, observed.master) = (None, None);
        assert_eq!(plan(&desired, &observed).unwrap().now, []);
        let refused = |observed: &Observed| plan(&desired, observed).unwrap_err().to_string();
        let mut unregistered = observed.clone();
        if let Some(TokenState::Contract { receivers_registered, .. }) = &mut unregistered.token {
            receivers_registered[0] = false;
        }
        let error = refused(&unregistered);
        assert!(error.starts_with("spec.receivers: ") && error.contains("nearbench provision"), "{error}");
        observed.lanes[0] = None;
        let error = refused(&observed);
        assert!(error.starts_with("spec.account.keys.secretRef: ed25519:0 is no access key of bench.near"), "{error}");
    }

    #[test]
    fn a_master_key_must_be_full_access_and_is_blamed_where_it_is_named() {
        let (mut desired, mut observed) = done(1, 1);
        observed.master =
            Some(AccessKey { nonce: 5, permission: Permission::FunctionCall { receiver: "ft.near".to_owned() } });
        let refused = |desired: &Desired, observed: &Observed| plan(desired, observed).unwrap_err().to_string();
        let error = refused(&desired, &observed);
        assert!(error.starts_with("spec.account.masterKeySecretRef: "), "{error}");
        assert!(error.contains("a master key must be full-access") && !error.contains("ft_transfer"), "{error}");
        let funder = Signer::generate(account("near"), &mut StdRng::seed_from_u64(2));
        desired.create_from = Some((funder, Near(nearbench_core::amount::NEAR)));
        for master in [observed.master.clone(), None] {
            observed.master = master;
            let error = refused(&desired, &observed);
            assert!(error.starts_with("spec.account.createFrom.secretRef: "), "{error}");
        }
    }

    #[test]
    fn the_steps_that_follow_from_others_are_counted_from_the_start() {
        let (mut desired, mut observed) = done(120, 3);
        let funder = Signer::generate(account("near"), &mut StdRng::seed_from_u64(2));
        desired.create_from = Some((funder, Near(50 * nearbench_core::amount::NEAR)));
        let state =
            AccountState { balance: Near(100 * nearbench_core::amount::NEAR), storage_bytes: 9, has_code: false };
        observed.parent = Some((Some(state), key(1)));
        (observed.account, observed.token, observed.lanes) = (None, None, vec![None; 3]);
        let counted = |observed: &Observed| plan(&desired, observed).map(|todo| (todo.now.len(), todo.later)).unwrap();
        assert_eq!(counted(&observed), (1, 5), "the account; keys, token and three batches of receivers");
        (observed.account, observed.master) = (Some(state), key(1));
        assert_eq!(counted(&observed), (2, 3), "keys and token; the receivers");
    }

    #[test]
    fn a_token_account_without_code_and_a_poor_account_are_refused() {
        let (desired, mut observed) = done(1, 1);
        observed.token = Some(TokenState::NoCode);
        assert!(plan(&desired, &observed).unwrap_err().to_string().contains("holds no contract"));
        let (desired, mut observed) = done(1, 1);
        observed.account = observed.account.map(|state| AccountState { balance: Near(1), ..state });
        assert_eq!(plan(&desired, &observed).unwrap().now, []);
        assert!(verify(&desired, &observed).unwrap_err().to_string().contains("account.minBalance"));
    }

    proptest! {
        #[test]
        fn every_missing_thing_is_planned_once_within_the_limits(
            keys in proptest::collection::vec(any::<bool>(), 0..250),
            registered in proptest::collection::vec(any::<bool>(), 0..250),
            sender: bool,
            max_actions in 1..120u64,
            tgas in 1..1200u64,
        ) {
            let (desired, mut observed) = done(registered.len(), keys.len());
            observed.limits.max_actions = max_actions;
            observed.limits.max_total_prepaid_gas = tgas * TGAS;
            for (lane, there) in observed.lanes.iter_mut().zip(&keys) {
                *lane = lane.take().filter(|_| *there);
            }
            let Some(TokenState::Contract { receivers_registered, sender_registered, .. }) = &mut observed.token else { panic!() };
            (*receivers_registered, *sender_registered) = (registered.clone(), sender);

            let (mut added, mut enrolled) = (Vec::new(), Vec::new());
            let todo = plan(&desired, &observed).unwrap();
            prop_assert_eq!(todo.later, 0);
            for step in todo.now {
                match step {
                    Step::AddKeys(keys) => {
                        prop_assert!((1..=max_actions).contains(&(keys.len() as u64)));
                        added.extend(keys);
                    }
                    Step::Register { accounts, .. } => {
                        prop_assert!((1..=max_actions).contains(&(accounts.len() as u64)));
                        prop_assert!(accounts.len() == 1 || accounts.len() as u64 * REGISTRATION_GAS <= tgas * TGAS);
                        enrolled.extend(accounts);
                    }
                    other => prop_assert!(false, "not needed: {other}"),
                }
            }
            let missing = |there: &[bool]| there.iter().enumerate().filter(|(_, there)| !**there).map(|(i, _)| i).collect::<Vec<_>>();
            prop_assert_eq!(added, missing(&keys).into_iter().map(|i| desired.lane_keys[i].clone()).collect::<Vec<_>>());
            let mut expected: Vec<_> = missing(&registered).into_iter().map(|i| desired.receivers[i].clone()).collect();
            if !sender {
                expected.insert(0, desired.account.clone());
            }
            prop_assert_eq!(enrolled, expected);
        }
    }
}
