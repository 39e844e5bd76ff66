//! Who receives.

use super::Resolver;
use crate::violation::shown;
use nearbench_core::Account;
use std::collections::HashMap;

/// The key under which a ConfigMap lists accounts, one a line.
pub const ACCOUNTS_KEY: &str = "nearbench-accounts";
const DEFAULT_PREFIX: &str = "user";
const MAX_RECEIVERS: usize = 100_000;

impl Resolver<'_> {
    pub(super) fn receivers(&mut self, payer: Option<&Account>) -> Option<Vec<Account>> {
        let receivers = &self.spec.receivers;
        let given = [receivers.count.is_some(), receivers.accounts.is_some(), receivers.accounts_from.is_some()];
        if given.iter().filter(|given| **given).count() != 1 {
            self.faults.add("spec.receivers", "must have exactly one of count, accounts and accountsFrom");
            return None;
        }
        if receivers.prefix.is_some() && receivers.count.is_none() {
            self.faults.add("spec.receivers.prefix", "goes with count: remove it, or the list");
        }
        if let Some(count) = receivers.count {
            return self.made_up(count, receivers.prefix.as_deref().unwrap_or(DEFAULT_PREFIX), payer);
        }
        let listed: Vec<(String, String)> = match (&receivers.accounts, &receivers.accounts_from) {
            (Some(accounts), _) => accounts
                .iter()
                .enumerate()
                .map(|(n, account)| (format!("spec.receivers.accounts[{n}]"), account.clone()))
                .collect(),
            (None, from) => self.in_config_map(&from.as_ref()?.config_map_ref.name)?,
        };
        self.listed(&listed, payer)
    }

    fn made_up(&mut self, count: u32, prefix: &str, payer: Option<&Account>) -> Option<Vec<Account>> {
        if count == 0 || count as usize > MAX_RECEIVERS {
            self.faults.add("spec.receivers.count", format!("must be 1 to {MAX_RECEIVERS}, and is {count}"));
            return None;
        }
        let payer = payer?;
        let accounts =
            (0..count).map(|n| Account::new(&format!("{prefix}-{n}.{payer}"))).collect::<Result<Vec<_>, _>>();
        self.faults.take("spec.receivers.prefix", accounts)
    }

    fn in_config_map(&mut self, name: &str) -> Option<Vec<(String, String)>> {
        const PATH: &str = "spec.receivers.accountsFrom.configMapRef.name";
        let Some(text) = (self.resolve.config_map)(name) else {
            self.faults.add(PATH, format!("there is no list of accounts in ConfigMap {name:?}: it needs the key nearbench-accounts, with one account id a line"));
            return None;
        };
        let line = |(n, line): (usize, &str)| {
            (format!("ConfigMap {name}, nearbench-accounts, line {}", n + 1), line.trim().to_owned())
        };
        Some(
            text.lines()
                .enumerate()
                .map(line)
                .filter(|(_, account)| !account.is_empty() && !account.starts_with('#'))
                .collect(),
        )
    }

    fn listed(&mut self, listed: &[(String, String)], payer: Option<&Account>) -> Option<Vec<Account>> {
        if listed.is_empty() || listed.len() > MAX_RECEIVERS {
            self.faults
                .add("spec.receivers", format!("must list 1 to {MAX_RECEIVERS} accounts, and lists {}", listed.len()));
            return None;
        }
        let mut seen: HashMap<&str, &str> = HashMap::with_capacity(listed.len());
        let mut accounts = Vec::with_capacity(listed.len());
        for (path, text) in listed {
            if let Some(first) = seen.insert(text, path) {
                self.faults.add(path, format!("{} is at {first} already: each receiver is listed once", shown(text)));
                continue;
            }
            let Some(account) = self.account_id(path, text) else {
                continue;
            };
            if Some(&account) == payer {
                self.faults
                    .add(path, format!("{account} is spec.account.accountId: a token refuses transfers to oneself"));
            }
            accounts.push(account);
        }
        (accounts.len() == listed.len()).then_some(accounts)
    }
}
