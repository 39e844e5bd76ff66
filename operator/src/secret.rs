//! What is made up for one run and goes into its Secret: access keys, passwords, tokens. Random bytes are an argument, and
//! nothing of it is ever read again by the operator.

use ed25519_dalek::SigningKey;
use nearbench_core::{Account, Plan, plan::Keys};
use serde_json::json;
use sha2::{Digest, Sha256};
use std::{collections::BTreeMap, fmt};

/// The keys of the run's Secret.
pub(crate) const KEYS: &str = "nearbench-keys.json";
/// The key of the account that owns everything on a chain of the run's own.
pub(crate) const ACCOUNT: &str = "nearbench-account.json";
/// The secret that transfer ids are made with.
pub(crate) const NAMESPACE: &str = "nearbench-namespace";
/// The token of the run's load to the workers' API.
pub(crate) const TOKEN: &str = "nearbench-token";
/// A token for those who send in place of the load.
pub(crate) const CLIENT_TOKEN: &str = "nearbench-client-token";
/// What the workers know of both: names and hashes.
pub(crate) const TOKENS: &str = "nearbench-tokens";
/// The URL of the run's Redis.
pub(crate) const REDIS_URL: &str = "nearbench-redis-url";
/// The configuration of the run's own Redis.
pub(crate) const REDIS_CONF: &str = "redis.conf";

/// What is made up for a run.
#[derive(Clone, PartialEq, Eq)]
pub struct Made {
    /// What makes the Secret's name one that nobody could have taken.
    pub(crate) suffix: String,
    keys: Vec<SigningKey>,
    owner: SigningKey,
    namespace: [u8; 32],
    load_token: String,
    client_token: String,
    redis_password: String,
}

impl fmt::Debug for Made {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Made").field("suffix", &self.suffix).finish_non_exhaustive()
    }
}

impl Made {
    /// For `plan`; `random` gives 32 bytes that nobody can guess, again and again.
    pub fn for_plan(plan: &Plan, mut random: impl FnMut() -> [u8; 32]) -> Self {
        let count = match plan.account.keys {
            Keys::Generate { count } => count,
            Keys::Prepared { .. } => 0,
        };
        let token = |random: [u8; 32]| format!("nbt_{}", hex::encode(random));
        Self {
            suffix: hex::encode(&random()[..5]),
            keys: (0..count).map(|_| SigningKey::from_bytes(&random())).collect(),
            owner: SigningKey::from_bytes(&random()),
            namespace: random(),
            load_token: token(random()),
            client_token: token(random()),
            redis_password: hex::encode(random()),
        }
    }

    /// The public keys of the access keys, as NEAR writes them.
    pub(crate) fn public_keys(&self) -> Vec<String> {
        self.keys.iter().map(public).collect()
    }

    /// What the Secret holds. `redis` is the host of the run's own Redis, `owner` who owns everything on its own chain.
    pub(crate) fn data(
        &self,
        account: &Account,
        redis: Option<&str>,
        owner: Option<&Account>,
    ) -> BTreeMap<String, String> {
        let mut data = BTreeMap::new();
        let mut put = |key: &str, text: String| data.insert(key.to_owned(), text);
        if !self.keys.is_empty() {
            let pair = |key| json!({"public_key": public(key), "private_key": private(key)});
            let keys: Vec<_> = self.keys.iter().map(pair).collect();
            put(KEYS, json!({"account_id": account, "keys": keys}).to_string());
        }
        if let Some(owner) = owner {
            let (public_key, private_key) = (public(&self.owner), private(&self.owner));
            let text = json!({"account_id": owner, "public_key": public_key, "private_key": private_key});
            put(ACCOUNT, text.to_string());
        }
        put(NAMESPACE, hex::encode(self.namespace));
        put(TOKEN, self.load_token.clone());
        put(CLIENT_TOKEN, self.client_token.clone());
        // As `nearbench token` writes them.
        let line = |name: &str, scopes: &[&str], token: &str| {
            json!({"sha256": hex::encode(Sha256::digest(token)), "name": name, "scopes": scopes}).to_string()
        };
        let load = line("load", &["transfer"], &self.load_token);
        put(TOKENS, format!("{load}\n{}\n", line("client", &["transfer", "read"], &self.client_token)));
        if let Some(host) = redis {
            put(REDIS_URL, format!("redis://:{}@{host}:6379", self.redis_password));
            put(REDIS_CONF, redis_conf(&self.redis_password));
        }
        data
    }
}

/// A Redis that survives its own end, and never throws away what it was given.
fn redis_conf(password: &str) -> String {
    format!(
        "dir /data\nport 6379\nbind * -::*\nappendonly yes\nappendfsync everysec\nsave \"\"\n\
         maxmemory-policy noeviction\nrequirepass {password}\n"
    )
}

fn public(key: &SigningKey) -> String {
    format!("ed25519:{}", bs58::encode(key.verifying_key().as_bytes()).into_string())
}

/// As NEAR's tools write it: the seed and the public key after it.
fn private(key: &SigningKey) -> String {
    format!("ed25519:{}", bs58::encode(key.to_keypair_bytes()).into_string())
}
