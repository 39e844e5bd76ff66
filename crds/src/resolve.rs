//! From a manifest to a plan: every default filled in, every rule between fields checked, all faults at once.
//!
//! It trusts no schema: a `BenchmarkRun` that somebody built is checked like one that somebody wrote.

mod ensure;
mod load;
mod receivers;

pub use receivers::ACCOUNTS_KEY;

use crate::{
    parse::{NAME_RULE, is_name},
    spec::{self, BenchmarkRun, BenchmarkRunSpec, SecretRef},
    violation::{Faults, Violation, might_be_secret, shown},
};
use kube_core::ResourceExt;
use nearbench_core::{
    Account, Amount, Gas, Near, Plan, TGAS,
    link_local::{is_link_local, literal},
    plan::{
        Batch, Breaker, CreateFrom, Deploy, Endpoint, Engine, Keys, Network, PayingAccount, Profile, Store, Token, Via,
    },
};
use std::collections::BTreeMap;

/// What a manifest alone does not say.
pub struct Resolve<'a> {
    /// Run on a devnet of the run's own, whatever the profile: its limits stay, its endpoints and all Secrets are
    /// left aside.
    pub on_devnet: bool,
    /// The list of accounts (key `nearbench-accounts`) in the ConfigMap of this name; `None`: there is none.
    pub config_map: &'a dyn Fn(&str) -> Option<String>,
}

/// Keys of a run that does not say how many.
const DEFAULT_KEYS: u32 = 12;
/// What no protocol of the supported range takes more of in one transaction (nearcore, `LimitConfig`): actions,
/// and gas attached in all.
const MAX_ACTIONS: u32 = 100;
const MAX_PREPAID_GAS: Gas = 1_000 * TGAS;
/// `ft_transfer` needs 0.69 Tgas in the VM (measured, nearbench's own token).
const MIN_GAS: Gas = TGAS;

/// Resolves a manifest.
///
/// # Errors
/// Every rule that does not hold, with the field's path and the way out.
pub fn plan(run: &BenchmarkRun, resolve: &Resolve<'_>) -> Result<Plan, Vec<Violation>> {
    let mut faults = Faults::default();
    let plan = Resolver { spec: &run.spec, resolve, faults: &mut faults }.plan(run.name_any());
    match plan {
        Some(plan) if faults.0.is_empty() => Ok(plan),
        _ => Err(faults.0),
    }
}

/// What one process cannot do of a plan: it has its own memory for a queue, and one generator.
pub fn one_process(plan: &Plan) -> Vec<Violation> {
    let rules = [
        (plan.store != Store::Own, "spec.store", "one process keeps its queue in its own memory; remove it"),
        (
            plan.load.via != Via::Queue,
            "spec.load.via",
            "one process offers its load straight into the queue; use queue",
        ),
        (plan.load.generators != 1, "spec.load.generators.replicas", "one process has one generator; use 1"),
    ];
    let broken = rules.into_iter().filter(|(asked, ..)| *asked);
    broken.map(|(_, path, message)| Violation { path: path.to_owned(), message: message.to_owned() }).collect()
}

/// The id of the chain that a manifest's endpoints must report; `None`: it brings up one of its own.
pub fn chain_id(network: &spec::Network) -> Option<&'static str> {
    (!network.endpoints.is_empty()).then(|| id_of(network.profile))
}

fn id_of(profile: Profile) -> &'static str {
    match profile {
        Profile::Devnet => "devnet",
        Profile::Sandbox | Profile::Localnet => "localnet",
        Profile::Testnet => "testnet",
        Profile::Mainnet => "mainnet",
    }
}

struct Resolver<'a> {
    spec: &'a BenchmarkRunSpec,
    resolve: &'a Resolve<'a>,
    faults: &'a mut Faults,
}

impl Resolver<'_> {
    /// Every part is resolved before any is missed, so that all faults are found.
    fn plan(mut self, name: String) -> Option<Plan> {
        if !is_name(&name) {
            self.faults.add("metadata.name", format!("{NAME_RULE}, and is {}", shown(&name)));
        }
        let network = self.network();
        let account = self.account();
        let payer = account.as_ref().map(|account| &account.account_id);
        let token = self.token(payer);
        let receivers = self.receivers(payer);
        let amount = self.amount();
        let load = self.load();
        let engine = self.engine();
        let ensure = self.ensure();
        if let (Some(token), Some(amount), Some(load)) = (&token, amount, &load) {
            self.supply(token, amount, load);
        }
        let active_deadline_ms = self.spec.active_deadline_seconds.map(|seconds| u64::from(seconds) * 1_000);
        let load_ms = load.as_ref().map_or(0, |load| load.phases.iter().map(|phase| phase.duration_ms).sum::<u64>());
        if let Some(deadline_ms) = active_deadline_ms.filter(|deadline_ms| *deadline_ms <= load_ms) {
            self.faults.add(
                "spec.activeDeadlineSeconds",
                format!(
                    "is {} s, and the phases alone take {} s: allow more, to provision, drain and audit as well",
                    deadline_ms / 1_000,
                    load_ms / 1_000
                ),
            );
        }
        Some(Plan {
            name,
            network: network?,
            account: account?,
            token: token?,
            receivers: receivers?,
            transfer_amount: amount?,
            store: self.store(),
            load: load?,
            workers: self.spec.workers.replicas,
            engine: engine?,
            ensure: ensure?,
            cleanup: self.spec.cleanup,
            active_deadline_ms,
        })
    }

    /// Whether the run brings its chain up itself: then every account is made with it, and no Secret is needed.
    fn own_chain(&self) -> bool {
        let network = &self.spec.network;
        self.resolve.on_devnet || network.profile == Profile::Devnet && network.endpoints.is_empty()
    }

    fn secret(&self, secret: Option<&SecretRef>) -> Option<String> {
        secret.filter(|_| !self.own_chain()).map(|secret| secret.name.clone())
    }

    fn account_id(&mut self, path: &str, text: &str) -> Option<Account> {
        if might_be_secret(text) {
            self.faults.add(path, "is not a NEAR account id, such as bench.testnet");
            return None;
        }
        self.faults.take(path, Account::new(text))
    }

    fn network(&mut self) -> Option<Network> {
        let network = &self.spec.network;
        let chain_id = if self.own_chain() { "devnet" } else { id_of(network.profile) };
        let mut endpoints = Vec::with_capacity(network.endpoints.len());
        let mut seen = BTreeMap::new();
        for (n, endpoint) in network.endpoints.iter().enumerate() {
            let path = format!("spec.network.endpoints[{n}].url");
            if let Err(reason) = check_url(&endpoint.url) {
                self.faults.add(&path, reason);
            }
            if let Some(first) = seen.insert(endpoint.url.trim_end_matches('/'), path.clone()) {
                self.faults.add(&path, format!("is the same as {first}: write each endpoint once"));
            }
            if endpoint.max_requests_per_second == Some(0) {
                self.faults.add(
                    format!("spec.network.endpoints[{n}].maxRequestsPerSecond"),
                    "must be at least 1; leave it out for no limit",
                );
            }
            endpoints.push(Endpoint {
                url: endpoint.url.clone(),
                priority: endpoint.priority,
                max_requests_per_second: endpoint.max_requests_per_second,
                auth_secret: self.secret(endpoint.auth_secret_ref.as_ref()),
            });
        }
        if self.own_chain() {
            endpoints.clear();
        } else if endpoints.is_empty() {
            self.faults.add(
                "spec.network.endpoints",
                "must name an RPC endpoint: only profile devnet brings up a chain of its own (or run any manifest there, with --on devnet)",
            );
        }
        if network.profile == Profile::Mainnet && !network.allow_real_funds && !self.own_chain() {
            self.faults
                .add("spec.network.allowRealFunds", "must be true on mainnet: every transfer there spends real funds");
        }
        Some(Network { profile: network.profile, chain_id: chain_id.to_owned(), endpoints })
    }

    fn account(&mut self) -> Option<PayingAccount> {
        let account = &self.spec.account;
        let account_id = self.account_id("spec.account.accountId", &account.account_id);
        let min_balance = self.faults.take("spec.account.minBalance", account.min_balance.parse::<Near>());
        let from = account.create_from.as_ref();
        let create_from = from.map(|from| self.create_from(from, account_id.as_ref(), min_balance));
        if account.create_from.is_some() && account.master_key_secret_ref.is_some() {
            self.faults.add(
                "spec.account.masterKeySecretRef",
                "is for an account that is there, and createFrom for one that is to be made: keep one of them",
            );
        }
        let prepared = account.keys.secret_ref.is_some();
        if !self.own_chain() && account.create_from.is_none() && account.master_key_secret_ref.is_none() && !prepared {
            self.faults.add(
                "spec.account",
                "lacks a key: name masterKeySecretRef (the account is there), createFrom (it is to be made) or keys.secretRef (prepared keys)",
            );
        }
        let keys = self.keys(&account.keys);
        Some(PayingAccount {
            account_id: account_id?,
            create_from: create_from.map_or(Some(None), |from| from.map(Some))?,
            master_key_secret: self.secret(account.master_key_secret_ref.as_ref()),
            keys: keys?,
            min_balance: min_balance?,
        })
    }

    fn create_from(
        &mut self,
        from: &spec::CreateFrom,
        child: Option<&Account>,
        min_balance: Option<Near>,
    ) -> Option<CreateFrom> {
        let account_id = self.account_id("spec.account.createFrom.accountId", &from.account_id);
        let initial_balance =
            self.faults.take("spec.account.createFrom.initialBalance", from.initial_balance.parse::<Near>());
        if let (Some(child), Some(parent)) = (child, &account_id)
            && !child.is_direct_child_of(parent)
        {
            self.faults.add(
                "spec.account.accountId",
                format!("{child} is no direct sub-account of {parent}, which alone could then make it: call it NAME.{parent}"),
            );
        }
        if let (Some(given), Some(needed)) = (initial_balance, min_balance)
            && given < needed
        {
            self.faults.add(
                "spec.account.createFrom.initialBalance",
                format!("{given} is less than spec.account.minBalance, {needed}: the load would never start"),
            );
        }
        if !self.own_chain() && from.secret_ref.is_none() {
            self.faults.add("spec.account.createFrom.secretRef", "is missing: the funding account's key must sign");
        }
        let secret = self.secret(from.secret_ref.as_ref());
        Some(CreateFrom { account_id: account_id?, secret, initial_balance: initial_balance? })
    }

    fn keys(&mut self, keys: &spec::Keys) -> Option<Keys> {
        match (keys.count, &keys.secret_ref) {
            (Some(_), Some(_)) => {
                self.faults
                    .add("spec.account.keys", "has count (new keys) and secretRef (prepared keys): keep one of them");
                None
            }
            (Some(0), None) => {
                self.faults.add("spec.account.keys.count", "must be at least 1: without a key nothing can be signed");
                None
            }
            (None, Some(secret)) if !self.own_chain() => {
                if self.spec.account.create_from.is_some() {
                    self.faults.add(
                        "spec.account.keys.secretRef",
                        "names prepared keys, which an account that createFrom makes cannot have: use keys.count",
                    );
                }
                Some(Keys::Prepared { secret: secret.name.clone() })
            }
            (count, _) => Some(Keys::Generate { count: count.unwrap_or(DEFAULT_KEYS) }),
        }
    }

    fn token(&mut self, payer: Option<&Account>) -> Option<Token> {
        let token = &self.spec.token;
        let contract_id = self.account_id("spec.token.contractId", &token.contract_id);
        let fresh = spec::Deploy::default();
        let deploy = match &token.deploy {
            // A chain of the run's own has no token: the one that a manifest for another chain uses is made anew.
            None if self.resolve.on_devnet => Some(&fresh),
            None if self.own_chain() => {
                self.faults.add(
                    "spec.token.deploy",
                    "is missing: a chain of the run's own has no token yet; write `deploy: {}`",
                );
                None
            }
            deploy => deploy.as_ref(),
        };
        if let (Some(_), Some(payer), Some(contract)) = (deploy, payer, &contract_id)
            && !contract.is_direct_child_of(payer)
        {
            self.faults.add(
                "spec.token.contractId",
                format!("{contract} is no direct sub-account of {payer}, which alone can make and deploy it: call it NAME.{payer}, such as ft.{payer}"),
            );
        }
        let deploy = match deploy {
            Some(deploy) => {
                let total_supply =
                    self.faults.take("spec.token.deploy.totalSupply", deploy.total_supply.parse::<Amount>());
                let mint = self.faults.take("spec.token.deploy.mint", deploy.mint.parse::<Amount>());
                let (total_supply, mint) = (total_supply?, mint?);
                if total_supply.0.checked_add(mint.0).is_none() {
                    self.faults.add("spec.token.deploy.mint", format!("{mint} and totalSupply {total_supply} together are more than {}, the most that a token can have", u128::MAX));
                }
                Some(Deploy { total_supply, mint })
            }
            None => None,
        };
        Some(Token { contract_id: contract_id?, deploy })
    }

    fn amount(&mut self) -> Option<Amount> {
        let amount = self.faults.take("spec.load.amount", self.spec.load.amount.parse::<Amount>())?;
        if amount.0 == 0 {
            self.faults.add("spec.load.amount", "must be at least \"1\": a token refuses transfers of nothing");
        }
        Some(amount)
    }

    /// A token that is deployed must have what the load moves.
    fn supply(&mut self, token: &Token, amount: Amount, load: &nearbench_core::plan::Load) {
        let Some(deploy) = token.deploy else { return };
        let transfers = nearbench_core::schedule::Schedule::new(&load.phases).total();
        let has = deploy.total_supply.0.saturating_add(deploy.mint.0);
        if amount.0.checked_mul(transfers.into()).is_none_or(|needed| needed > has) {
            self.faults.add(
                "spec.token.deploy.totalSupply",
                format!("with mint makes {has}, and {transfers} transfers of {amount} need more: raise it, or lower spec.load.amount"),
            );
        }
    }

    fn store(&self) -> Store {
        let redis = self.spec.store.as_ref().map(|store| &store.redis.secret_ref);
        match redis {
            Some(secret) if !self.resolve.on_devnet => Store::Redis { secret: secret.name.clone() },
            _ => Store::Own,
        }
    }

    fn engine(&mut self) -> Option<Engine> {
        let engine = &self.spec.engine;
        let batch = &engine.batch;
        let at_least_one = [
            ("spec.engine.concurrency", u64::from(engine.concurrency)),
            ("spec.engine.maxInFlightPerKey", engine.max_in_flight_per_key.into()),
            ("spec.engine.maxQueueDepth", engine.max_queue_depth),
            ("spec.engine.batch.min", batch.min.into()),
            ("spec.engine.batch.max", batch.max.into()),
            ("spec.engine.batch.depthDivisor", batch.depth_divisor.into()),
        ];
        for (path, _) in at_least_one.iter().filter(|(_, value)| *value == 0) {
            self.faults.add(*path, "must be at least 1");
        }
        if batch.min > batch.max {
            self.faults.add(
                "spec.engine.batch.min",
                format!("{0} is above batch.max, {1}: write min: {1}, or max: {0}", batch.min, batch.max),
            );
        }
        if batch.max > MAX_ACTIONS {
            self.faults.add(
                "spec.engine.batch.max",
                format!("must be at most {MAX_ACTIONS}, the most actions in a transaction, and is {}", batch.max),
            );
        }
        let gas = self.gas(&engine.gas_per_transfer);
        let prepaid = |gas: Gas| u128::from(gas) * u128::from(batch.max.min(MAX_ACTIONS));
        if gas.is_some_and(|gas| prepaid(gas) > u128::from(MAX_PREPAID_GAS)) {
            self.faults.add(
                "spec.engine.gasPerTransfer",
                format!(
                    "{} for each of batch.max {} transfers are more than {} Tgas, the most in a transaction: write {} Tgas \
                     at most, or batch.max: {}",
                    engine.gas_per_transfer,
                    batch.max,
                    MAX_PREPAID_GAS / TGAS,
                    MAX_PREPAID_GAS / u64::from(batch.max.clamp(1, MAX_ACTIONS)) / TGAS,
                    gas.map_or(1, |gas| MAX_PREPAID_GAS / gas),
                ),
            );
        }
        let breaker = &engine.breaker;
        if !(1..=100).contains(&breaker.error_threshold_percentage) {
            self.faults.add("spec.engine.breaker.errorThresholdPercentage", "must be 1 to 100");
        }
        let timeout_ms = self.duration("spec.engine.breaker.timeout", &breaker.timeout);
        let reset_timeout_ms = self.duration("spec.engine.breaker.resetTimeout", &breaker.reset_timeout);
        Some(Engine {
            concurrency: engine.concurrency,
            max_in_flight_per_key: engine.max_in_flight_per_key,
            max_tps: engine.max_tps,
            batch: Batch { min: batch.min, max: batch.max, depth_divisor: batch.depth_divisor },
            breaker: Breaker {
                timeout_ms: timeout_ms?,
                error_threshold_percentage: breaker.error_threshold_percentage,
                reset_timeout_ms: reset_timeout_ms?,
            },
            gas_per_transfer: gas?,
            max_queue_depth: engine.max_queue_depth,
        })
    }

    fn gas(&mut self, text: &str) -> Option<Gas> {
        const PATH: &str = "spec.engine.gasPerTransfer";
        let tgas = text.strip_suffix(" Tgas").and_then(decimal);
        let Some(tgas) = tgas else {
            self.faults
                .add(PATH, format!("{} is not an amount of gas: write it with its unit, such as 3 Tgas", shown(text)));
            return None;
        };
        let gas = (tgas * TGAS as f64).round() as Gas;
        if !(MIN_GAS..=MAX_PREPAID_GAS).contains(&gas) {
            let (min, max) = (MIN_GAS / TGAS, MAX_PREPAID_GAS / TGAS);
            self.faults.add(PATH, format!("{text} is out of reach: write {min} Tgas, which an ft_transfer needs, to {max} Tgas, the most in a transaction, such as 3 Tgas"));
            return None;
        }
        Some(gas)
    }
}

/// A decimal number of plain digits.
fn decimal(text: &str) -> Option<f64> {
    let plain = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    if !plain || text.starts_with('.') || text.ends_with('.') {
        return None;
    }
    text.parse().ok()
}

/// An endpoint's address. A message never shows it: it could hold a token.
fn check_url(url: &str) -> Result<(), &'static str> {
    let rest = url
        .strip_prefix("https://")
        .or_else(|| url.strip_prefix("http://"))
        .ok_or("must begin with http:// or https://, such as https://rpc.testnet.near.org")?;
    let (host, tail) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
    if host.contains('@') || tail.contains(['?', '#']) {
        return Err("must not hold credentials or a query: put credentials into a Secret and name it in authSecretRef");
    }
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && !port.ends_with(']') => (name, Some(port)),
        _ => (host, None),
    };
    let name_ok = !name.is_empty()
        && (!name.starts_with('[') || literal(name).is_some())
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._[]:".contains(&b));
    if !name_ok || port.is_some_and(|port| port.parse::<u16>().is_err()) || tail.contains(char::is_whitespace) {
        return Err("is no address of a host: write one such as https://rpc.testnet.near.org or http://127.0.0.1:3030");
    }
    // A pattern is all that an API server has: to it, `169.254.example.org` is such an address too.
    if literal(name).is_some_and(is_link_local) || name.starts_with("169.254.") {
        return Err("must not be a link-local address: clouds serve the credentials of their machines there");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_host_and_port_are_endpoints() {
        for good in [
            "http://127.0.0.1:3030",
            "https://rpc.testnet.near.org",
            "http://[::1]:3030/",
            "https://host/path/more",
            "http://node-0.nodes:80",
        ] {
            assert_eq!(check_url(good), Ok(()), "{good}");
        }
    }

    #[test]
    fn what_is_no_address_or_holds_credentials_is_refused() {
        for bad in [
            "",
            "ftp://host",
            "127.0.0.1:3030",
            "http://",
            "http:///x",
            "http://host:port",
            "http://host:99999",
            "http://a b",
            "http://[fe80:zz]:80",
            "http://169.254.169.254",
            "https://[fe80::1]:443/x",
        ] {
            assert!(check_url(bad).is_err(), "{bad}");
        }
        for secret in ["https://user:pass@host", "https://host/?apiKey=1", "https://host#1"] {
            assert!(check_url(secret).is_err_and(|reason| reason.contains("authSecretRef")), "{secret}");
        }
    }
}
