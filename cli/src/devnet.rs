//! `nearbench devnet`: a chain as a process of its own.

use crate::{
    args,
    exit::{self, Failure},
    output,
};
use anyhow::Context;
use nearbench_core::{Account, Near};
use nearbench_devnet::{AccountConfig, Config, Devnet};
use nearbench_near::{Signer, keyfile};

pub(crate) async fn run(args: args::Devnet) -> Result<u8, Failure> {
    let account = Account::new(&args.account).context("--account").map_err(Failure::input)?;
    let balance: Near = args.balance.parse().context("--balance").map_err(Failure::input)?;
    let listener = tokio::net::TcpListener::bind(args.rpc_addr)
        .await
        .with_context(|| format!("cannot serve on --rpc-addr {}; is another devnet there?", args.rpc_addr))
        .map_err(Failure::run)?;
    let root = root_key(&account, &args.secret)?;
    let devnet = Devnet::start(Config {
        chain_id: args.chain_id.clone(),
        protocol_version: args.protocol_version,
        block_time: args.block_time,
        accounts: vec![AccountConfig {
            account_id: account.to_string(),
            balance: balance.0,
            public_keys: vec![root.public_key().to_owned()],
        }],
        home: args.home,
        ..Config::default()
    })
    .await
    .map_err(Failure::input)?;
    let address = listener.local_addr().map_err(Failure::run)?;
    output::print(format!(
        "devnet {} (not NEAR) serves JSON-RPC on http://{address}\n{account} owns {balance}; its key is in {}\n",
        args.chain_id,
        args.secret.display()
    ))?;
    devnet
        .serve(listener, async {
            // Without the signal there is no way to stop but to be killed, which is safe as well.
            drop(tokio::signal::ctrl_c().await);
        })
        .await
        .map_err(Failure::run)?;
    devnet.stop().await;
    Ok(exit::PASSED)
}

/// The key that was made at an earlier start, or a new one.
fn root_key(account: &Account, folder: &std::path::Path) -> Result<Signer, Failure> {
    let path = folder.join("nearbench-account.json");
    if path.exists() {
        return keyfile::read_account(&path, account).map_err(Failure::input);
    }
    let signer = Signer::generate(account.clone(), &mut rand::rng());
    keyfile::write_account(&path, &signer).map_err(Failure::run)?;
    Ok(signer)
}
