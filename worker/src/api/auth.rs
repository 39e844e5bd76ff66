//! Who may ask for what: bearer tokens, of which the service knows hashes alone.

use super::refusal::{Code, Refusal};
use axum::http::{HeaderMap, header};
use nearbench_core::{
    Amount,
    quota::{Rate, until_tomorrow},
};
use nearbench_near::{SecretError, SecretText};
use nearbench_store::Budget;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};
use subtle::{ConditionallySelectable, ConstantTimeEq};

/// What a token may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// To submit and cancel transfers.
    Transfer,
    /// To read transfers and transactions.
    Read,
    /// To put failed transfers into the queue again.
    Admin,
}

impl Scope {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Transfer => "transfer",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl std::str::FromStr for Scope {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Transfer, Self::Read, Self::Admin]
            .into_iter()
            .find(|scope| scope.name() == text)
            .ok_or_else(|| format!("{text:?} is no scope; use transfer, read or admin"))
    }
}

/// What goes into a token's line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Grant {
    /// Whose it is: 1 to 64 of a-z, 0-9, '-', '_' and '.'. Transfer ids are made with it: whoever gets a new token under
    /// the same name keeps their keys.
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// Transfers and other requests a second, on average; no limit without it. Each worker counts for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requests_per_second: Option<u32>,
    /// Token units a day (UTC), of all workers together; no limit without it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub daily_cap: Option<Amount>,
}

/// A line of the file.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Line {
    sha256: String,
    #[serde(flatten)]
    grant: Grant,
}

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TokensError {
    /// It cannot be read, or others may read it.
    #[error(transparent)]
    File(#[from] SecretError),
    /// A line is none.
    #[error("line {line} of the token file is no token: {cause}; make one with: nearbench token")]
    Line {
        /// Counted from 1.
        line: usize,
        /// What is wrong with it.
        cause: String,
    },
    /// A grant says what it cannot.
    #[error("{0}")]
    Grant(String),
}

impl Grant {
    fn check(&self) -> Result<(), TokensError> {
        let Self { name, scopes, requests_per_second, .. } = self;
        let named = (1..=64).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b"-_.".contains(&b));
        if !named {
            return Err(TokensError::Grant(format!(
                "{name:?} is no name of a token: use 1 to 64 of a-z, 0-9, '-', '_' and '.'"
            )));
        }
        if scopes.is_empty() {
            return Err(TokensError::Grant(format!("token {name} has no scope; give it transfer, read or admin")));
        }
        if *requests_per_second == Some(0) {
            return Err(TokensError::Grant(format!("token {name} may ask for nothing; give it 1 or more a second")));
        }
        Ok(())
    }

    /// Makes a token of 32 random bytes: the token, which is never seen again, and its line of the file.
    ///
    /// # Errors
    /// The grant has no name or no scope.
    pub fn token(&self, random: [u8; 32]) -> Result<(SecretText, String), TokensError> {
        self.check()?;
        let token = format!("nbt_{}", hex::encode(random));
        let line = Line { sha256: hex::encode(Sha256::digest(&token)), grant: self.clone() };
        let line = serde_json::to_string(&line).map_err(|error| TokensError::Grant(error.to_string()))?;
        Ok((SecretText::new(token), line))
    }
}

/// Longer ones are none.
const MAX_TOKEN_BYTES: usize = 256;

/// A token's holder.
pub(crate) struct Client {
    pub(crate) name: Arc<str>,
    hash: [u8; 32],
    scopes: Vec<Scope>,
    rate: Option<Rate>,
    place: AtomicU64,
    daily_cap: Option<Amount>,
}

impl Client {
    /// Whoever asks where there are no tokens.
    pub(crate) fn anonymous() -> Self {
        Self {
            name: "anonymous".into(),
            hash: [0; 32],
            scopes: vec![Scope::Transfer, Scope::Read, Scope::Admin],
            rate: None,
            place: AtomicU64::new(0),
            daily_cap: None,
        }
    }

    pub(crate) fn budget(&self) -> Option<Budget> {
        self.daily_cap.map(|daily_cap| Budget { client: self.name.clone(), daily_cap })
    }

    pub(crate) fn may(&self, scope: Scope) -> Result<(), Refusal> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let error = format!("this token has no scope {}", scope.name());
        Err(Refusal::new(Code::MissingScope, error).with("scope", scope.name()))
    }

    /// Takes `count` requests at `now_ns`.
    pub(crate) fn take(&self, now_ns: u64, count: u32) -> Result<(), Refusal> {
        let Some(rate) = self.rate else { return Ok(()) };
        let mut pause = None;
        let taken = self.place.fetch_update(Relaxed, Relaxed, |place| match rate.take(place, now_ns, count) {
            Ok(place) => Some(place),
            Err(wait) => {
                pause = Some(wait);
                None
            }
        });
        match (taken, pause) {
            (Err(_), Some(pause)) => {
                Err(Refusal::new(Code::RateLimited, "this token's requests come too fast").after(pause))
            }
            _ => Ok(()),
        }
    }
}

/// What becomes of a transfer past its client's cap.
pub(crate) fn over_cap(now_ms: u64) -> Refusal {
    Refusal::new(Code::CapExceeded, "this would go past the token units that this token may transfer in a day")
        .after(until_tomorrow(now_ms))
}

/// Every token that is known.
pub struct Tokens(Vec<Client>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|client| &client.name)).finish()
    }
}

impl Tokens {
    /// Reads a file of tokens, mode 0600.
    ///
    /// # Errors
    /// The file cannot be read, others may read it, or a line of it is no token.
    pub fn read(path: &Path) -> Result<Self, TokensError> {
        Self::parse(SecretText::read(path)?.expose())
    }

    /// Reads lines of tokens; empty ones and those that begin with `#` are passed over.
    ///
    /// # Errors
    /// A line is no token, or a name is there twice.
    pub fn parse(text: &str) -> Result<Self, TokensError> {
        let mut clients = Vec::new();
        let mut names = HashSet::new();
        let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#'));
        for (index, line) in lines {
            let bad = |cause: String| TokensError::Line { line: index + 1, cause };
            let Line { sha256, grant } = serde_json::from_str(line).map_err(|error| bad(error.to_string()))?;
            grant.check().map_err(|error| bad(error.to_string()))?;
            let mut hash = [0; 32];
            hex::decode_to_slice(&sha256, &mut hash).map_err(|_| bad("its sha256 is none".to_owned()))?;
            if !names.insert(grant.name.clone()) {
                return Err(bad(format!("there is one of the name {} already", grant.name)));
            }
            clients.push(Client {
                name: grant.name.into(),
                hash,
                scopes: grant.scopes,
                rate: grant.requests_per_second.map(Rate::new),
                place: AtomicU64::new(0),
                daily_cap: grant.daily_cap,
            });
        }
        Ok(Self(clients))
    }

    /// Whose token the headers bear. Every token is compared, each in constant time.
    pub(crate) fn bearer(&self, headers: &HeaderMap) -> Result<&Client, Refusal> {
        let refused = || Refusal::new(Code::Unauthorized, "send a token that is known here: Authorization: Bearer …");
        let mut all = headers.get_all(header::AUTHORIZATION).iter();
        let (Some(value), None) = (all.next(), all.next()) else { return Err(refused()) };
        let (scheme, token) = value.as_bytes().split_at_checked(7).ok_or_else(refused)?;
        if !scheme.eq_ignore_ascii_case(b"bearer ") || token.len() > MAX_TOKEN_BYTES {
            return Err(refused());
        }
        let hash: [u8; 32] = Sha256::digest(token).into();
        let mut found = u32::MAX;
        for (index, client) in (0..).zip(&self.0) {
            found.conditional_assign(&index, client.hash.ct_eq(&hash));
        }
        self.0.get(found as usize).ok_or_else(refused)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use axum::http::HeaderValue;

    fn grant(name: &str) -> Grant {
        Grant { name: name.to_owned(), scopes: vec![Scope::Transfer], requests_per_second: None, daily_cap: None }
    }

    fn headers(value: &str) -> HeaderMap {
        HeaderMap::from_iter([(header::AUTHORIZATION, HeaderValue::from_str(value).unwrap())])
    }

    #[test]
    fn a_token_is_known_by_its_hash_alone() {
        let (first, line) = grant("first").token([1; 32]).unwrap();
        let (second, other) = grant("second").token([2; 32]).unwrap();
        assert!(!line.contains(&first.expose()[4..]));
        let tokens = Tokens::parse(&format!("# ours\n{line}\n\n{other}\n")).unwrap();
        assert_eq!(format!("{tokens:?}"), r#"["first", "second"]"#);
        let name = |value: &str| tokens.bearer(&headers(value)).map(|client| client.name.to_string());
        assert_eq!(name(&format!("Bearer {}", first.expose())).unwrap(), "first");
        assert_eq!(name(&format!("bearer {}", second.expose())).unwrap(), "second");
        let long = format!("Bearer {}", "x".repeat(300));
        for wrong in ["", "Bearer", "Bearer ", "Bearer nbt_0", "Basic eDp5", &line[..40], &long] {
            assert_eq!(name(wrong).unwrap_err().code(), Code::Unauthorized, "{wrong}");
        }
        let mut twice = headers(&format!("Bearer {}", first.expose()));
        twice.append(header::AUTHORIZATION, HeaderValue::from_static("Bearer x"));
        assert!(tokens.bearer(&twice).is_err());
    }

    #[test]
    fn lines_that_are_no_tokens_are_named() {
        let line = grant("a").token([1; 32]).unwrap().1;
        for bad in [
            "x".to_owned(),
            "{}".to_owned(),
            line.replace("\"a\"", "\"A\""),
            line.replace("transfer", "everything"),
            line.replace("[\"transfer\"]", "[]"),
            line.replace("{", "{\"more\":1,"),
            line.replace("\"name\"", "\"requestsPerSecond\":0,\"name\""),
            line.replace("\"name\"", "\"dailyCap\":\"-1\",\"name\""),
            line.clone(),
        ] {
            let error = Tokens::parse(&format!("{line}\n{bad}")).unwrap_err().to_string();
            assert!(error.contains("line 2"), "{bad}: {error}");
        }
    }

    #[test]
    fn a_rate_is_taken_without_a_lock() {
        let mut grant = grant("a");
        grant.requests_per_second = Some(2);
        let tokens = Tokens::parse(&grant.token([1; 32]).unwrap().1).unwrap();
        let client = &tokens.0[0];
        assert!(client.take(5, 1).is_ok());
        assert!(client.take(5, 1).is_ok());
        assert_eq!(client.take(5, 1).unwrap_err().code(), Code::RateLimited);
        assert!(client.take(500_000_005, 1).is_ok());
    }
}
