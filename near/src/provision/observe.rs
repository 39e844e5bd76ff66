//! What is on chain now, all read at one final block. Reads only.

use super::{Desired, ProvisionError};
use crate::{
    Client,
    chain::{AccessKey, AccountState, At},
    rpc::RpcError,
    token::Token,
};
use futures_util::{StreamExt, TryStreamExt, stream};
use nearbench_core::{Account, Amount, Near, outcome::BlockRef, plan::ChainLimits};

const CONCURRENT_READS: usize = 16;

/// The chain as far as provisioning is concerned.
#[derive(Clone, Debug)]
pub(super) struct Observed {
    /// The final block of all reads.
    pub(super) base: BlockRef,
    pub(super) limits: ChainLimits,
    /// What a byte of state locks.
    pub(super) storage_price: Near,
    /// The parent and its key, where one is desired.
    pub(super) parent: Option<(Option<AccountState>, Option<AccessKey>)>,
    pub(super) account: Option<AccountState>,
    pub(super) master: Option<AccessKey>,
    pub(super) lanes: Vec<Option<AccessKey>>,
    /// `None`: no such account.
    pub(super) token: Option<TokenState>,
}

/// The token's account.
#[derive(Clone, Debug)]
pub(super) enum TokenState {
    /// It exists, without a contract.
    NoCode,
    /// It answers as a token.
    Contract { registration_price: Near, balance: Amount, sender_registered: bool, receivers_registered: Vec<bool> },
}

pub(super) async fn observe(client: &Client, desired: &Desired) -> Result<Observed, ProvisionError> {
    let base = client.block(At::Final).await?.at;
    let at = At::Hash(base.hash);
    let key =
        |account, public_key| async move { Ok::<_, RpcError>(client.access_key(account, public_key, at).await?.value) };
    let parent = match &desired.create_from {
        Some((signer, _)) => {
            Some((client.account(signer.account(), at).await?.value, key(signer.account(), signer.public_key()).await?))
        }
        None => None,
    };
    let account = client.account(&desired.account, at).await?.value;
    let master = match &desired.master {
        Some(signer) => key(&desired.account, signer.public_key()).await?,
        None => None,
    };
    Ok(Observed {
        base,
        limits: client.limits().await?,
        storage_price: client.storage_price().await?,
        parent,
        account,
        master,
        lanes: access_keys(client, &desired.account, &desired.lane_keys, at).await?,
        token: token(client, desired, at).await?,
    })
}

/// Access keys of one account, in the order asked for.
pub(super) async fn access_keys(
    client: &Client,
    account: &Account,
    public_keys: &[String],
    at: At,
) -> Result<Vec<Option<AccessKey>>, RpcError> {
    stream::iter(public_keys)
        .map(|public_key| async move { Ok(client.access_key(account, public_key, at).await?.value) })
        .buffered(CONCURRENT_READS)
        .try_collect()
        .await
}

async fn token(client: &Client, desired: &Desired, at: At) -> Result<Option<TokenState>, ProvisionError> {
    let Some(state) = client.account(&desired.token, at).await?.value else {
        return Ok(None);
    };
    if !state.has_code {
        return Ok(Some(TokenState::NoCode));
    }
    let token = Token { client, contract: &desired.token, at };
    token.check_metadata().await?;
    Ok(Some(TokenState::Contract {
        registration_price: token.registration_price().await?,
        balance: token.balance_of(&desired.account).await?,
        sender_registered: token.registered(std::slice::from_ref(&desired.account)).await? == [true],
        receivers_registered: token.registered(&desired.receivers).await?,
    }))
}
