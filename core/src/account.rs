//! Account ids: checked once, then cheap to copy.

use near_account_id::AccountIdRef;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{borrow::Cow, fmt, ops::Deref, str::FromStr, sync::Arc};

/// NEAR's rule for account ids (nearcore, `AccountId`), its length aside.
pub const PATTERN: &str = "^(([a-z0-9]+[-_])*[a-z0-9]+\\.)*([a-z0-9]+[-_])*[a-z0-9]+$";

/// A valid NEAR account id. Cloning shares the text, so that a queue of a million transfers to a hundred
/// receivers holds a hundred names.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Account(Arc<str>);

/// Why a text is no account id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "{value:?} is not a NEAR account id: {reason}; use 2 to 64 of a-z, 0-9, '-', '_' and '.', such as bench.testnet"
)]
pub struct AccountError {
    value: String,
    reason: String,
}

impl Account {
    /// Checks `text` by NEAR's rules.
    ///
    /// # Errors
    /// Names the text and the rule it breaks.
    pub fn new(text: &str) -> Result<Self, AccountError> {
        AccountIdRef::new(text)
            .map(|_| Self(text.into()))
            .map_err(|e| AccountError { value: text.to_owned(), reason: e.to_string() })
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether this is a direct sub-account of `parent`: only the parent can create it.
    pub fn is_direct_child_of(&self, parent: &Account) -> bool {
        self.strip_suffix(parent.as_str())
            .and_then(|head| head.strip_suffix('.'))
            .is_some_and(|name| !name.is_empty() && !name.contains('.'))
    }

    /// The account that can create this one: all after the first dot. `None` for a top-level or implicit account.
    pub fn parent(&self) -> Option<Account> {
        self.split_once('.').and_then(|(_, parent)| Account::new(parent).ok())
    }
}

impl Deref for Account {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

impl FromStr for Account {
    type Err = AccountError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::new(text)
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", &*self.0)
    }
}

impl JsonSchema for Account {
    fn schema_name() -> Cow<'static, str> {
        "AccountId".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "minLength": 2, "maxLength": 64, "pattern": PATTERN})
    }
}

impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Account {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = Cow::<'de, str>::deserialize(deserializer)?;
        Self::new(&text).map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_direct_child_can_be_created_by_its_parent() {
        let parent = Account::new("bench.near").expect("valid");
        let child = |id| Account::new(id).expect("valid").is_direct_child_of(&parent);
        assert!(child("ft.bench.near"));
        assert!(!child("a.ft.bench.near"));
        assert!(!child("ftbench.near"));
        assert!(!child("bench.near"));
    }

    #[test]
    fn a_bad_id_is_refused_with_its_text() {
        for bad in ["", "a", "Bench.near", "a..b", "-a", "a b", &"x".repeat(65)] {
            let error = Account::new(bad).expect_err(bad);
            assert!(error.to_string().contains(&format!("{bad:?}")), "{error}");
        }
    }
}
