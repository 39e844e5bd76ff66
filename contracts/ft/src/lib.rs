//! The token that nearbench deploys and moves: NEP-141 (transfers), NEP-145 (storage registration)
//! and NEP-148 (metadata) as near-contract-standards implements them, plus an owner who can mint.
//!
//! It must stay an ordinary token. Nothing here may make a transfer cheaper than with a token that
//! somebody else deployed: what is measured with it has to hold for theirs.

use near_contract_standards::fungible_token::events::FtMint;
use near_contract_standards::fungible_token::metadata::{
    FT_METADATA_SPEC, FungibleTokenMetadata, FungibleTokenMetadataProvider,
};
use near_contract_standards::fungible_token::{FungibleToken, FungibleTokenCore, FungibleTokenResolver};
use near_contract_standards::storage_management::{StorageBalance, StorageBalanceBounds, StorageManagement};
use near_sdk::json_types::U128;
use near_sdk::{AccountId, BorshStorageKey, NearToken, PanicOnDefault, PromiseOrValue, env, near, require};

/// State: the NEP-141 ledger and who may mint.
#[near(
    contract_state,
    contract_metadata(
        standard(standard = "nep141", version = "1.0.0"),
        standard(standard = "nep145", version = "1.0.0"),
        standard(standard = "nep148", version = "1.0.0"),
    )
)]
#[derive(PanicOnDefault)]
pub struct Contract {
    token: FungibleToken,
    owner_id: AccountId,
}

#[near]
#[derive(BorshStorageKey)]
enum StorageKey {
    FungibleToken,
}

#[near]
impl Contract {
    /// Makes `owner_id` the owner and mints `total_supply` (smallest units, may be 0) to it.
    /// Panics when the contract has a state already.
    #[init]
    pub fn new(owner_id: AccountId, total_supply: U128) -> Self {
        let mut contract = Self { token: FungibleToken::new(StorageKey::FungibleToken), owner_id };
        let owner_id = contract.owner_id.clone();
        contract.token.internal_register_account(&owner_id);
        contract.mint(&owner_id, total_supply);
        contract
    }

    /// Adds `amount` (smallest units, above 0) to `account_id` and to the total supply, and logs
    /// `ft_mint`. An account that is not registered is registered, at the cost of the contract's
    /// own balance. Panics, changing nothing, when the caller is not the owner and when the supply
    /// would pass 2^128 - 1.
    pub fn ft_mint(&mut self, account_id: AccountId, amount: U128) {
        require!(env::predecessor_account_id() == self.owner_id, "Only the owner can mint");
        require!(amount.0 > 0, "The amount should be a positive number");
        if !self.token.accounts.contains_key(&account_id) {
            self.token.internal_register_account(&account_id);
        }
        self.mint(&account_id, amount);
    }

    /// The account that may mint.
    pub fn owner(&self) -> AccountId {
        self.owner_id.clone()
    }

    fn mint(&mut self, account_id: &AccountId, amount: U128) {
        self.token.internal_deposit(account_id, amount.0);
        FtMint { owner_id: account_id, amount, memo: None }.emit();
    }
}

#[near]
impl FungibleTokenCore for Contract {
    #[payable]
    fn ft_transfer(&mut self, receiver_id: AccountId, amount: U128, memo: Option<String>) {
        self.token.ft_transfer(receiver_id, amount, memo)
    }

    #[payable]
    fn ft_transfer_call(
        &mut self,
        receiver_id: AccountId,
        amount: U128,
        memo: Option<String>,
        msg: String,
    ) -> PromiseOrValue<U128> {
        self.token.ft_transfer_call(receiver_id, amount, memo, msg)
    }

    fn ft_total_supply(&self) -> U128 {
        self.token.ft_total_supply()
    }

    fn ft_balance_of(&self, account_id: AccountId) -> U128 {
        self.token.ft_balance_of(account_id)
    }
}

#[near]
impl FungibleTokenResolver for Contract {
    #[private]
    fn ft_resolve_transfer(&mut self, sender_id: AccountId, receiver_id: AccountId, amount: U128) -> U128 {
        self.token.ft_resolve_transfer(sender_id, receiver_id, amount)
    }
}

#[near]
impl StorageManagement for Contract {
    #[payable]
    fn storage_deposit(&mut self, account_id: Option<AccountId>, registration_only: Option<bool>) -> StorageBalance {
        self.token.storage_deposit(account_id, registration_only)
    }

    #[payable]
    fn storage_withdraw(&mut self, amount: Option<NearToken>) -> StorageBalance {
        self.token.storage_withdraw(amount)
    }

    #[payable]
    fn storage_unregister(&mut self, force: Option<bool>) -> bool {
        self.token.storage_unregister(force)
    }

    fn storage_balance_bounds(&self) -> StorageBalanceBounds {
        self.token.storage_balance_bounds()
    }

    fn storage_balance_of(&self, account_id: AccountId) -> Option<StorageBalance> {
        self.token.storage_balance_of(account_id)
    }
}

#[near]
impl FungibleTokenMetadataProvider for Contract {
    fn ft_metadata(&self) -> FungibleTokenMetadata {
        FungibleTokenMetadata {
            spec: FT_METADATA_SPEC.to_string(),
            name: "nearbench token".to_string(),
            symbol: "NBT".to_string(),
            icon: None,
            reference: None,
            reference_hash: None,
            decimals: 24,
        }
    }
}
