//! A token's view methods (NEP-141, NEP-145, NEP-148), with JSON read into values.

use crate::{
    chain::{At, ViewError},
    client::Client,
    rpc::shape,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use nearbench_core::{Account, Amount, Near, audit::Balances};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// So many views of one token are under way at once.
const CONCURRENT_VIEWS: usize = 16;

/// A token contract at one block.
#[derive(Clone, Copy)]
pub(crate) struct Token<'a> {
    pub(crate) client: &'a Client,
    pub(crate) contract: &'a Account,
    pub(crate) at: At,
}

impl Token<'_> {
    async fn view<T: DeserializeOwned>(&self, method: &str, args: Value) -> Result<T, ViewError> {
        let bytes = self.client.view(self.contract, method, &args, self.at).await?;
        serde_json::from_slice(&bytes).map_err(|e| ViewError::Contract {
            contract: self.contract.clone(),
            method: method.to_owned(),
            reason: format!("its answer is not NEP-141's: {}", shape(&e)),
        })
    }

    pub(crate) async fn balance_of(&self, account: &Account) -> Result<Amount, ViewError> {
        self.view("ft_balance_of", json!({ "account_id": account })).await
    }

    pub(crate) async fn total_supply(&self) -> Result<Amount, ViewError> {
        self.view("ft_total_supply", json!({})).await
    }

    /// Whether the contract answers as a token (NEP-148).
    pub(crate) async fn check_metadata(&self) -> Result<(), ViewError> {
        #[derive(serde::Deserialize)]
        struct Metadata {
            #[serde(rename = "decimals")]
            _decimals: u8,
        }
        self.view::<Metadata>("ft_metadata", json!({})).await.map(drop)
    }

    /// What registering an account costs at least (NEP-145).
    pub(crate) async fn registration_price(&self) -> Result<Near, ViewError> {
        #[derive(serde::Deserialize)]
        struct Bounds {
            min: Amount,
        }
        let bounds: Bounds = self.view("storage_balance_bounds", json!({})).await?;
        Ok(Near(bounds.min.0))
    }

    /// Which of these accounts have storage at the token, in their order.
    pub(crate) async fn registered(&self, accounts: &[Account]) -> Result<Vec<bool>, ViewError> {
        self.of_each(accounts, |account| async move {
            let balance: Option<Value> = self.view("storage_balance_of", json!({ "account_id": account })).await?;
            Ok(balance.is_some())
        })
        .await
    }

    /// The token balances of the sender and of all receivers, and the total supply.
    pub(crate) async fn balances(&self, sender: &Account, receivers: &[Account]) -> Result<Balances, ViewError> {
        Ok(Balances {
            sender: self.balance_of(sender).await?,
            receivers: self.of_each(receivers, |account| self.balance_of(account)).await?,
            total_supply: self.total_supply().await?,
        })
    }

    async fn of_each<'a, T, F>(
        &self,
        accounts: &'a [Account],
        ask: impl Fn(&'a Account) -> F,
    ) -> Result<Vec<T>, ViewError>
    where
        F: Future<Output = Result<T, ViewError>>,
    {
        stream::iter(accounts).map(ask).buffered(CONCURRENT_VIEWS).try_collect().await
    }
}
