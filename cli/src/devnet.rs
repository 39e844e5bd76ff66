//! `nearbench devnet`: a chain as a process of its own.
//!
//! All that can be wrong is looked at before anything is written, and what was written is taken back where the chain
//! does not start after all.

use crate::{
    args,
    exit::{self, Failure},
    output,
    signal::Ended,
};
use anyhow::{Context, anyhow};
use nearbench_core::{Account, Near, amount::NEAR};
use nearbench_devnet::{AccountConfig, Config, ConfigError, Devnet, DevnetError, Difference, HomeError, Resumed};
use nearbench_near::{
    Signer,
    keyfile::{self, ACCOUNT_FILE},
};
use std::{
    fs,
    path::{Path, PathBuf},
};

/// What the account owns at least: it pays for all storage and gas, and a run's token and receivers take a few NEAR.
const LOWEST_BALANCE: Near = Near(10 * NEAR);

pub(crate) async fn run(args: args::Devnet) -> Result<u8, Failure> {
    let account = Account::new(&args.account).context("--account").map_err(Failure::input)?;
    let balance: Near = args.balance.parse().context("--balance").map_err(Failure::input)?;
    if balance < LOWEST_BALANCE {
        return Err(Failure::input(anyhow!(
            "--balance is {balance}: it must pay for the gas and the storage of everything on the chain, such as a \
             run's token and receivers; give at least {LOWEST_BALANCE}"
        )));
    }
    let mut config = Config {
        chain_id: args.chain_id.clone(),
        protocol_version: args.protocol_version,
        block_time: args.block_time,
        transaction_validity_period: args.validity_period,
        epoch_length: args.epoch_length,
        keep_epochs: args.keep_epochs,
        archival: args.archival,
        accounts: vec![AccountConfig { account_id: account.to_string(), balance: balance.0, public_keys: Vec::new() }],
        home: args.home,
        ..Config::default()
    };
    // The flags first: whose key is needed, they say.
    match config.check() {
        Err(DevnetError::Home(HomeError::Differs { differences, .. })) if differences.iter().all(is_key) => {}
        checked => checked.map_err(refused)?,
    }
    let root = RootKey::read(&account, args.secret.join(ACCOUNT_FILE))?;
    for account in &mut config.accounts {
        account.public_keys = vec![root.signer.public_key().to_owned()];
    }
    config.check().map_err(|error| root.refused(error))?;
    let listener = tokio::net::TcpListener::bind(args.rpc_addr).await.map_err(|error| {
        Failure::run(anyhow!(
            "cannot serve on --rpc-addr {}: {error}; end what serves there, or give another address, such as \
             127.0.0.1:0 for a free port",
            args.rpc_addr
        ))
    })?;
    let address = listener.local_addr().map_err(Failure::run)?;
    let written = root.write()?;
    let devnet = Devnet::start(config).await.map_err(|error| root.refused(error))?;
    written.keep();
    // From here on a signal ends the chain in order. Before, being killed is safe as well.
    let mut ended = Ended::listen().map_err(Failure::run)?;

    let chain_id = &args.chain_id;
    if let Some(Resumed { height, cut_off: bytes @ 1.. }) = devnet.resumed() {
        output::note(&format!(
            "the log ended within block {}, which was not yet published: {bytes} bytes were cut off, and the block is \
             made anew",
            height + 1
        ));
    }
    let begins = match devnet.resumed() {
        Some(Resumed { height, .. }) => format!("goes on at height {height}"),
        None => "begins at height 0".to_owned(),
    };
    output::print(format!(
        "devnet {chain_id} (not NEAR) {begins} and serves JSON-RPC on http://{address}\n\
         {account} owned {balance} at genesis; its key is in {}\n",
        root.path.display()
    ))?;
    devnet.serve(listener, async move { ended.next().await }).await.map_err(Failure::run)?;
    devnet.stop().await;
    output::print(format!("devnet {chain_id} ended at height {}\n", devnet.height()))?;
    Ok(exit::PASSED)
}

/// The key of the account that owns everything at genesis.
struct RootKey {
    signer: Signer,
    path: PathBuf,
    is_new: bool,
}

impl RootKey {
    /// The key that was made at an earlier start, or a new one that is not written yet.
    fn read(account: &Account, path: PathBuf) -> Result<Self, Failure> {
        let is_new = !path.exists();
        let signer = if is_new {
            Signer::generate(account.clone(), &mut rand::rng())
        } else {
            keyfile::read_account(&path, account).context("--secret").map_err(Failure::input)?
        };
        Ok(Self { signer, path, is_new })
    }

    /// Why the chain does not start with this key.
    fn refused(&self, error: DevnetError) -> Failure {
        let DevnetError::Home(HomeError::Differs { home, differences }) = &error else {
            return refused(error);
        };
        let Some(Difference { made_with: Some(key), .. }) = differences.iter().find(|difference| is_key(difference))
        else {
            return refused(error);
        };
        let found = match self.is_new {
            true => "is not there".to_owned(),
            false => format!("holds {}", self.signer.public_key()),
        };
        Failure::input(anyhow!(
            "the chain in --home {} was made with the key {key}, but {} {found}; give the --secret that has it, or \
             another --home",
            home.display(),
            self.path.display()
        ))
    }

    /// Writes a new key. It is there before the chain is: a chain whose key is lost is of no use.
    fn write(&self) -> Result<Written, Failure> {
        if !self.is_new {
            return Ok(Written(Vec::new()));
        }
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let written = Written(self.path.ancestors().take_while(missing).map(Path::to_owned).collect());
        keyfile::write_account(&self.path, &self.signer).context("--secret").map_err(Failure::run)?;
        Ok(written)
    }
}

/// A file that was not there before, and after it the folders that it needed; they go again unless they are kept.
struct Written(Vec<PathBuf>);

impl Written {
    fn keep(mut self) {
        self.0.clear();
    }
}

impl Drop for Written {
    fn drop(&mut self) {
        if let Some((file, folders)) = self.0.split_first() {
            // What cannot be removed is not there, or somebody else's by now.
            let _ = fs::remove_file(file);
            for folder in folders {
                let _ = fs::remove_dir(folder);
            }
        }
    }
}

/// Why the chain does not start, in the words of the command line.
fn refused(error: DevnetError) -> Failure {
    match error {
        DevnetError::Config(ConfigError { field, value, reason, way_out }) => {
            Failure::input(anyhow!("{} is {value:?}: {reason}; {way_out}", flag(&field)))
        }
        DevnetError::Home(HomeError::Differs { home, differences }) => {
            let differs = |Difference { field, given, made_with }: &Difference| {
                let (given, made_with) = (value(field, given.as_deref()), value(field, made_with.as_deref()));
                format!("{} {made_with} (not {given})", flag(field))
            };
            let differences: Vec<_> =
                differences.iter().filter(|difference| !is_key(difference)).map(differs).collect();
            Failure::input(anyhow!(
                "the chain in --home {} was made with {}; give the same, or another --home",
                home.display(),
                differences.join(", ")
            ))
        }
        error @ (DevnetError::Home(_) | DevnetError::Chain(_)) => {
            Failure::run(anyhow::Error::new(error).context("--home"))
        }
        error => Failure::run(error),
    }
}

/// Whether it is the account's key that differs, which no flag says but the file that `--secret` names.
fn is_key(difference: &Difference) -> bool {
    difference.field.contains(".public_keys")
}

fn value(field: &str, text: Option<&str>) -> String {
    let Some(text) = text else { return "none".to_owned() };
    match text.parse() {
        Ok(amount) if field.ends_with(".balance") => format!("\"{}\"", Near(amount)),
        _ => text.to_owned(),
    }
}

/// The flag that a field of the configuration comes from; other fields are the same in all chains of one version.
fn flag(field: &str) -> &str {
    match field {
        "chain_id" => "--chain-id",
        "protocol_version" => "--protocol-version",
        "block_time" => "--block-time",
        "transaction_validity_period" => "--validity-period",
        "epoch_length" => "--epoch-length",
        "keep_epochs" => "--keep-epochs",
        field if field.starts_with("archival") => "--archival",
        field if field.ends_with(".account_id") => "--account",
        field if field.ends_with(".balance") => "--balance",
        field => field,
    }
}
