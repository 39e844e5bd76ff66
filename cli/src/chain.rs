//! The chain of a run, and who may sign on it: a devnet in this process, or endpoints and key files.

use crate::{
    exit::Failure,
    kept::{Kept, OwnChain},
    secrets,
};
use anyhow::Context;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use nearbench_core::{
    Account,
    plan::{self, Keys, Plan},
};
use nearbench_devnet::{AccountConfig, Config, Devnet};
use nearbench_near::{
    Client, Endpoint, Signer,
    transport::{Response, Transport, TransportError},
};
use std::{path::Path, sync::Arc, time::Duration};
use tokio::net::TcpListener;

/// What the funding account of a chain of the run's own owns: a thousand million NEAR, as on nearcore's localnet.
const GENESIS_BALANCE: u128 = 1_000_000_000 * nearbench_core::amount::NEAR;

/// Keys on a chain of the run's own, where the plan's are prepared for another.
const OWN_CHAIN_KEYS: u32 = 12;

/// A chain within reach, and the keys to work on it.
pub(crate) struct Chain {
    pub(crate) client: Client,
    pub(crate) signers: Signers,
    /// Set when the run brought the chain up itself.
    devnet: Option<Devnet>,
}

/// Who signs what.
pub(crate) struct Signers {
    /// The account that funds the paying one.
    pub(crate) create_from: Option<Signer>,
    /// The paying account's master key. `None` with prepared keys alone.
    pub(crate) master: Option<Signer>,
    /// One a lane.
    pub(crate) lanes: Vec<Signer>,
}

impl Chain {
    /// Brings the chain up, or reads the key files that the plan names, under `secrets`. Nothing is sent yet.
    pub(crate) async fn open(plan: &Plan, secrets: &Path, kept: &Kept) -> Result<Self, Failure> {
        match plan.network.endpoints.is_empty() {
            true => Self::own(plan, kept).await,
            false => Self::through_endpoints(plan, secrets),
        }
    }

    async fn own(plan: &Plan, kept: &Kept) -> Result<Self, Failure> {
        let account = &plan.account;
        let root = account.create_from.as_ref().map_or(&account.account_id, |from| &from.account_id);
        let OwnChain { home, funder: root, lanes } =
            kept.own_chain(root, &account.account_id, lane_count(&account.keys))?;
        let devnet = Devnet::start(Config {
            chain_id: plan.network.chain_id.clone(),
            accounts: vec![AccountConfig {
                account_id: root.account().to_string(),
                balance: GENESIS_BALANCE,
                public_keys: vec![root.public_key().to_owned()],
            }],
            home: Some(home),
            ..Config::default()
        })
        .await
        .context("cannot start the devnet of this run")
        .map_err(Failure::run)?;
        let endpoint = Endpoint {
            name: "devnet (in this process)".into(),
            priority: 0,
            max_requests_per_second: None,
            transport: Arc::new(InProcess(devnet.clone())),
        };
        let client = Client::new(vec![endpoint], &plan.engine.breaker);
        let master = same_key(&root, &account.account_id)?;
        let create_from = account.create_from.is_some().then_some(root);
        Ok(Self { client, signers: Signers { create_from, master: Some(master), lanes }, devnet: Some(devnet) })
    }

    /// The chain that the plan's endpoints lead to.
    pub(crate) fn through_endpoints(plan: &Plan, folder: &Path) -> Result<Self, Failure> {
        let account = &plan.account;
        let create_from = match &account.create_from {
            Some(plan::CreateFrom { account_id, secret: Some(secret), .. }) => {
                Some(secrets::account(folder, secrets::FUNDER, secret, account_id)?)
            }
            _ => None,
        };
        let master = match (&account.master_key_secret, &create_from) {
            (Some(secret), _) => Some(secrets::account(folder, secrets::MASTER, secret, &account.account_id)?),
            // The new account gets the funding account's public key as its master key.
            (None, Some(funder)) => Some(same_key(funder, &account.account_id)?),
            (None, None) => None,
        };
        let lanes = match &account.keys {
            Keys::Prepared { secret } => secrets::keys(folder, secret, &account.account_id)?,
            Keys::Generate { count } => generate(&account.account_id, *count),
        };
        let client = client(plan, folder)?;
        Ok(Self { client, signers: Signers { create_from, master, lanes }, devnet: None })
    }

    /// The same for those who sign nothing.
    pub(crate) fn to_look_at(plan: &Plan, folder: &Path) -> Result<Self, Failure> {
        let signers = Signers { create_from: None, master: None, lanes: Vec::new() };
        Ok(Self { client: client(plan, folder)?, signers, devnet: None })
    }

    /// Where other processes reach the chain, if it is one of this process: from now on it is served on loopback.
    pub(crate) async fn serve(&self) -> Result<Option<plan::Endpoint>, Failure> {
        let Some(devnet) = self.devnet.clone() else { return Ok(None) };
        let listener = TcpListener::bind("127.0.0.1:0").await.context("cannot serve the chain to the workers");
        let listener = listener.map_err(Failure::run)?;
        let url = format!("http://{}", listener.local_addr().map_err(Failure::run)?);
        tokio::spawn(async move {
            if let Err(error) = devnet.serve(listener, std::future::pending()).await {
                tracing::error!(%error, "the workers cannot reach the chain any more");
            }
        });
        Ok(Some(plan::Endpoint { url, priority: 0, max_requests_per_second: None, auth_secret: None }))
    }

    /// What runs the chain, by the version that its node states. devnet is never presented as NEAR.
    pub(crate) fn software(&self, version: &str) -> &'static str {
        match (self.is_own(), version.contains("devnet")) {
            (true, _) => "nearbench devnet in this process (not NEAR)",
            (false, true) => "nearbench devnet (not NEAR)",
            (false, false) => "nearcore",
        }
    }

    /// Whether the chain ends with this process.
    pub(crate) fn is_own(&self) -> bool {
        self.devnet.is_some()
    }
}

/// A client of the plan's endpoints.
pub(crate) fn client(plan: &Plan, folder: &Path) -> Result<Client, Failure> {
    let endpoint = |endpoint: &plan::Endpoint| {
        Ok(Endpoint {
            name: endpoint.url.as_str().into(),
            priority: endpoint.priority,
            max_requests_per_second: endpoint.max_requests_per_second,
            transport: Arc::new(secrets::transport(folder, endpoint)?),
        })
    };
    let endpoints = plan.network.endpoints.iter().map(endpoint).collect::<Result<_, Failure>>()?;
    let client = Client::new(endpoints, &plan.engine.breaker);
    client.watch();
    Ok(client)
}

fn lane_count(keys: &Keys) -> u32 {
    match keys {
        Keys::Generate { count } => *count,
        // Keys prepared for another chain are not on this one. New ones do as well.
        Keys::Prepared { .. } => OWN_CHAIN_KEYS,
    }
}

fn generate(account: &Account, count: u32) -> Vec<Signer> {
    (0..count).map(|_| Signer::generate(account.clone(), &mut rand::rng())).collect()
}

fn same_key(signer: &Signer, account: &Account) -> Result<Signer, Failure> {
    Signer::from_secret(account.clone(), &signer.secret()).map_err(Failure::run)
}

/// A devnet in this process as a transport: the same bytes, without HTTP.
struct InProcess(Devnet);

impl Transport for InProcess {
    fn call(&self, request: Bytes, timeout: Duration) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            let answer = tokio::time::timeout(timeout, self.0.handle(request))
                .await
                .map_err(|_| TransportError::Timeout(timeout))?;
            Ok(Response { status: answer.status, retry_after: None, body: answer.body })
        })
    }
}
