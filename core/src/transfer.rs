//! A transfer and its identity.

use crate::{Account, Amount, amount::as_text};
use hmac::{Hmac, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::Sha256;
use std::{fmt, ops::Deref, str::FromStr, sync::Arc};

/// A transfer's identity, 16 bytes; as text 32 hexadecimal characters, which head its `memo` on chain.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TransferId(pub [u8; 16]);

/// A text that is no transfer id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a transfer id: 32 hexadecimal characters are expected")]
pub struct TransferIdError(String);

impl TransferId {
    /// The id of the transfer that a client named `key`: HMAC-SHA-256 under the namespace's secret, cut to
    /// 16 bytes, so that two workers that hear the same key agree, and nobody outside can forge a match.
    pub fn derive(secret: &[u8; 32], key: &[u8]) -> Self {
        #[allow(clippy::expect_used)]
        let mut mac = Hmac::<Sha256>::new_from_slice(secret).expect("HMAC takes a key of any length");
        mac.update(key);
        let mut id = [0; 16];
        id.copy_from_slice(&mac.finalize().into_bytes()[..16]);
        Self(id)
    }

    /// The id at the head of a memo, if there is one.
    pub fn from_memo(memo: &str) -> Option<Self> {
        memo.get(..32)?.parse().ok()
    }
}

impl fmt::Display for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 32];
        hex::encode_to_slice(self.0, &mut text).map_err(|_| fmt::Error)?;
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl fmt::Debug for TransferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for TransferId {
    type Err = TransferIdError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut id = [0; 16];
        hex::decode_to_slice(text, &mut id).map_err(|_| TransferIdError(text.to_owned()))?;
        Ok(Self(id))
    }
}

as_text!(TransferId);

/// What a client writes to a transfer, beside its id in the `memo` on chain: 1 to 256 bytes without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Memo(Arc<str>);

/// A text that is no memo.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MemoError {
    /// Empty, or too long.
    #[error("a memo has 1 to {MAX_MEMO_BYTES} bytes, and this one has {0}")]
    Length(usize),
    /// Not printable.
    #[error("a memo has no control characters, and this one has {0:?}")]
    Control(char),
}

/// Bytes of a memo, at most.
pub const MAX_MEMO_BYTES: usize = 256;

impl Memo {
    /// Checks a memo.
    ///
    /// # Errors
    /// When it is empty, longer than [`MAX_MEMO_BYTES`], or holds a control character.
    pub fn new(text: &str) -> Result<Self, MemoError> {
        if text.is_empty() || text.len() > MAX_MEMO_BYTES {
            return Err(MemoError::Length(text.len()));
        }
        match text.chars().find(|character| character.is_control()) {
            Some(character) => Err(MemoError::Control(character)),
            None => Ok(Self(text.into())),
        }
    }
}

impl Deref for Memo {
    type Target = str;
    fn deref(&self) -> &str {
        &self.0
    }
}

/// One `ft_transfer` that a client asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Transfer {
    /// Its identity, on chain at the head of the memo.
    pub id: TransferId,
    /// Who gets the tokens.
    pub receiver: Account,
    /// How many smallest units.
    pub amount: Amount,
    /// What the client wrote to it: on chain behind its id, after a space.
    pub memo: Option<Memo>,
    /// Its number in the load's schedule.
    pub sequence: u64,
    /// The index of the load phase it arrived in.
    pub phase: u16,
    /// When it was meant to arrive, in nanoseconds since the load's start. Latencies count from here.
    pub intended_ns: u64,
    /// When it was handed over, in nanoseconds since the load's start.
    pub sent_ns: u64,
}

/// Where a transfer stands. The last four are final.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferState {
    /// Accepted, in the queue.
    Queued,
    /// In a stored, signed attempt.
    Signed,
    /// Its attempt was handed to an endpoint.
    Submitted,
    /// Executed in a final block: the tokens moved.
    Finalized,
    /// Proven not to move, for its own fault.
    Failed,
    /// Withdrawn before it was signed.
    Cancelled,
    /// No proof either way.
    NeedsReview,
}
