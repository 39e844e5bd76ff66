//! Hashes: 32 bytes, base58 as text.

use crate::{amount::as_text, base58};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{fmt, str::FromStr};

/// A hash of a block, transaction or receipt.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Hash(pub [u8; 32]);

/// A text that is no hash.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a hash: 32 bytes in base58 are expected")]
pub struct HashError(String);

impl FromStr for Hash {
    type Err = HashError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        base58::decode(text.as_bytes()).map(Self).ok_or_else(|| HashError(text.to_owned()))
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(base58::encode(&self.0, &mut [0; base58::BUFFER]))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

as_text!(Hash);
