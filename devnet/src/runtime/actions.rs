//! What each action does to its receiver's account. Source: nearcore `runtime/runtime/src/actions.rs` and
//! `access_keys.rs`.

use near_crypto::{ED25519PublicKey, PublicKey};
use near_parameters::RuntimeConfig;
use near_primitives::account::id::AccountType;
use near_primitives::account::{AccessKey, AccessKeyPermission, Account, AccountContract};
use near_primitives::action::{AddKeyAction, DeleteAccountAction, DeleteKeyAction, DeployContractAction};
use near_primitives::errors::ActionErrorKind;
use near_primitives::hash::CryptoHash;
use near_primitives::receipt::Receipt;
use near_primitives::transaction::Action;
use near_primitives::trie_key::{TrieKey, trie_key_parsers};
use near_primitives::types::{AccountId, Balance};

use super::Rules;
use crate::state::Update;

/// The account that a receipt acts on, and who acts.
pub(super) struct Subject<'a> {
    pub(super) rules: &'a Rules,
    pub(super) height: u64,
    pub(super) account_id: &'a AccountId,
    pub(super) predecessor_id: &'a AccountId,
    /// Who the account's own actions are done by: the predecessor, or the account itself once it was created.
    pub(super) actor_id: AccountId,
    pub(super) account: Option<Account>,
}

/// The nonce of a key made at a height. Source: nearcore `access_keys.rs`, `initial_nonce_value`.
fn initial_nonce(height: u64) -> u64 {
    height.saturating_sub(1).saturating_mul(AccessKey::ACCESS_KEY_NONCE_RANGE_MULTIPLIER)
}

/// Bytes that a key takes of its account's storage.
pub(super) fn key_storage(config: &RuntimeConfig, public_key: &PublicKey, access_key: &AccessKey) -> u64 {
    let length = |length: std::io::Result<usize>| length.expect("measuring does not fail") as u64;
    length(borsh::object_length(public_key))
        + length(borsh::object_length(access_key))
        + config.fees.storage_usage_config.num_extra_bytes_record
}

impl Subject<'_> {
    /// Whether the action finds the account it needs, and whether the actor may do it.
    pub(super) fn check(&self, action: &Action, may_create_implicitly: bool) -> Result<(), ActionErrorKind> {
        let account_id = self.account_id.clone();
        let implicit = self.account_id.get_account_type() == AccountType::NearImplicitAccount;
        match action {
            Action::CreateAccount(_) if self.account.is_some() => {
                return Err(ActionErrorKind::AccountAlreadyExists { account_id });
            }
            Action::CreateAccount(_) if self.account_id.get_account_type().is_implicit() => {
                return Err(ActionErrorKind::OnlyImplicitAccountCreationAllowed { account_id });
            }
            Action::CreateAccount(_) => return Ok(()),
            Action::Transfer(_) if self.account.is_none() && may_create_implicitly && implicit => {
                return Ok(());
            }
            _ if self.account.is_none() => {
                return Err(ActionErrorKind::AccountDoesNotExist { account_id });
            }
            _ => {}
        }
        let own = matches!(
            action,
            Action::DeployContract(_)
                | Action::Stake(_)
                | Action::AddKey(_)
                | Action::DeleteKey(_)
                | Action::DeleteAccount(_)
        );
        if own && self.actor_id != *self.account_id {
            return Err(ActionErrorKind::ActorNoPermission { account_id, actor_id: self.actor_id.clone() });
        }
        Ok(())
    }

    /// The account, which [`Self::check`] found.
    pub(super) fn account_mut(&mut self) -> &mut Account {
        self.account.as_mut().expect("checked before the action")
    }

    pub(super) fn create_account(&mut self) -> Result<(), ActionErrorKind> {
        let creation = &self.rules.config.account_creation_config;
        let (account_id, predecessor_id) = (self.account_id, self.predecessor_id);
        if account_id.is_top_level() {
            let short = account_id.len() < usize::from(creation.min_allowed_top_level_account_length);
            if short && *predecessor_id != creation.registrar_account_id {
                return Err(ActionErrorKind::CreateAccountOnlyByRegistrar {
                    account_id: account_id.clone(),
                    registrar_account_id: creation.registrar_account_id.clone(),
                    predecessor_id: predecessor_id.clone(),
                });
            }
        } else if !account_id.is_sub_account_of(predecessor_id) {
            return Err(ActionErrorKind::CreateAccountNotAllowed {
                account_id: account_id.clone(),
                predecessor_id: predecessor_id.clone(),
            });
        }
        self.actor_id = account_id.clone();
        let storage = self.rules.config.fees.storage_usage_config.num_bytes_account;
        self.account = Some(Account::new(Balance::ZERO, Balance::ZERO, AccountContract::None, storage));
        Ok(())
    }

    /// A transfer to an account that is there, or to an implicit one that it creates.
    pub(super) fn transfer(&mut self, state: &mut Update, deposit: Balance) {
        if let Some(account) = &mut self.account {
            account.set_amount(add(account.amount(), deposit));
            return;
        }
        let public_key = implicit_key(self.account_id);
        let access_key = AccessKey { nonce: initial_nonce(self.height), permission: AccessKeyPermission::FullAccess };
        let config = &self.rules.config;
        let storage =
            config.fees.storage_usage_config.num_bytes_account + key_storage(config, &public_key, &access_key);
        state.set_access_key(self.account_id, &public_key, &access_key);
        self.actor_id = self.account_id.clone();
        self.account = Some(Account::new(deposit, Balance::ZERO, AccountContract::None, storage));
    }

    pub(super) fn deploy_contract(&mut self, state: &mut Update, deploy: &DeployContractAction) {
        let key = TrieKey::ContractCode { account_id: self.account_id.clone() };
        let old = state.get_raw(&key.to_vec()).map_or(0, |code| code.len() as u64);
        let account = self.account_mut();
        let storage = account.storage_usage().saturating_sub(old).saturating_add(deploy.code.len() as u64);
        account.set_storage_usage(storage);
        let hash = CryptoHash::hash_bytes(&deploy.code);
        account.set_contract(AccountContract::Local(hash)).expect("every account of devnet is initialized");
        state.set_raw(key.to_vec(), deploy.code.as_slice().into());
    }

    pub(super) fn add_key(&mut self, state: &mut Update, add: &AddKeyAction) -> Result<(), ActionErrorKind> {
        if state.access_key(self.account_id, &add.public_key).is_some() {
            return Err(ActionErrorKind::AddKeyAlreadyExists {
                account_id: self.account_id.clone(),
                public_key: Box::new(add.public_key.clone()),
            });
        }
        let access_key = AccessKey { nonce: initial_nonce(self.height), permission: add.access_key.permission.clone() };
        state.set_access_key(self.account_id, &add.public_key, &access_key);
        let storage = key_storage(&self.rules.config, &add.public_key, &access_key);
        let account = self.account_mut();
        account.set_storage_usage(account.storage_usage().saturating_add(storage));
        Ok(())
    }

    pub(super) fn delete_key(&mut self, state: &mut Update, delete: &DeleteKeyAction) -> Result<(), ActionErrorKind> {
        let Some(access_key) = state.access_key(self.account_id, &delete.public_key) else {
            return Err(ActionErrorKind::DeleteKeyDoesNotExist {
                account_id: self.account_id.clone(),
                public_key: Box::new(delete.public_key.clone()),
            });
        };
        state.remove(&TrieKey::access_key(self.account_id.clone(), &delete.public_key));
        let storage = key_storage(&self.rules.config, &delete.public_key, &access_key);
        let account = self.account_mut();
        account.set_storage_usage(account.storage_usage().saturating_sub(storage));
        Ok(())
    }

    /// Removes the account with all it has; what is left of its balance goes to the beneficiary in a receipt.
    pub(super) fn delete_account(
        &mut self,
        state: &mut Update,
        delete: &DeleteAccountAction,
    ) -> Result<Option<Receipt>, ActionErrorKind> {
        let account_id = self.account_id;
        let code = TrieKey::ContractCode { account_id: account_id.clone() }.to_vec();
        let code_length = state.get_raw(&code).map_or(0, |code| code.len() as u64);
        let account = self.account_mut();
        if account.storage_usage().saturating_sub(code_length) > Account::MAX_ACCOUNT_DELETION_STORAGE_USAGE {
            return Err(ActionErrorKind::DeleteAccountWithLargeState { account_id: account_id.clone() });
        }
        let amount = account.amount();
        let keys = trie_key_parsers::get_raw_prefix_for_access_keys(account_id);
        let data = trie_key_parsers::get_raw_prefix_for_contract_data(account_id, &[]);
        for prefix in [keys, data] {
            for key in state.keys_with_prefix(&prefix) {
                state.remove_raw(key);
            }
        }
        state.remove_raw(code);
        state.remove(&TrieKey::Account { account_id: account_id.clone() });
        self.actor_id = self.predecessor_id.clone();
        self.account = None;
        Ok((!amount.is_zero()).then(|| Receipt::new_balance_refund(&delete.beneficiary_id, amount)))
    }
}

/// The key that a 64-digit account id spells.
fn implicit_key(account_id: &AccountId) -> PublicKey {
    let mut bytes = [0; 32];
    for (byte, digits) in bytes.iter_mut().zip(account_id.as_bytes().chunks(2)) {
        let digit = |digit: u8| {
            if digit.is_ascii_digit() { digit - b'0' } else { digit - b'a' + 10 }
        };
        *byte = digit(digits[0]) << 4 | digit(digits[1]);
    }
    PublicKey::ED25519(ED25519PublicKey(bytes))
}

/// Balances cannot overflow: their sum is the supply, which fits.
pub(super) fn add(a: Balance, b: Balance) -> Balance {
    a.checked_add(b).expect("the supply of the chain fits into 128 bits")
}

/// Gives a refund's allowance back to the function-call key that paid for the gas.
pub(super) fn refund_allowance(state: &mut Update, account_id: &AccountId, key: &PublicKey, deposit: Balance) {
    let Some(mut access_key) = state.access_key(account_id, key) else {
        return;
    };
    if let AccessKeyPermission::FunctionCall(permission) = &mut access_key.permission
        && let Some(allowance) = &mut permission.allowance
    {
        *allowance = allowance.saturating_add(deposit);
        state.set_access_key(account_id, key, &access_key);
    }
}
