//! What was signed for a step that must happen once, kept before it is sent: whoever comes after a process that was killed
//! sends the same bytes instead of others. Where it is kept is somebody else's business.

use crate::SignedTx;
use borsh::BorshDeserialize;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use near_primitives::transaction::SignedTransaction;
use nearbench_core::{Hash, Height, Nonce};
use std::error::Error;

/// Why a journal did not answer.
pub type JournalError = Box<dyn Error + Send + Sync>;

/// Keeps bytes by a step's name, for one provisioning and those that go on with it. The bytes hold no secret.
pub trait Journal: Send + Sync {
    /// What was stored last for `step`.
    ///
    /// # Errors
    /// When that cannot be known.
    fn load<'a>(&'a self, step: &'a str) -> BoxFuture<'a, Result<Option<Bytes>, JournalError>>;

    /// Keeps `bytes` for `step` in place of what was there. Once it returns, they outlive this process.
    ///
    /// # Errors
    /// When they may not have been kept.
    fn store<'a>(&'a self, step: &'a str, bytes: Bytes) -> BoxFuture<'a, Result<(), JournalError>>;
}

/// A transaction as a journal keeps it: the last height at which it can be included, little-endian, and its bytes.
pub(super) struct Entry {
    pub(super) tx: SignedTx,
    pub(super) expiry: Height,
    pub(super) nonce: Nonce,
    /// The hash of its base block.
    pub(super) base: Hash,
}

impl Entry {
    pub(super) fn write(tx: &SignedTx, expiry: Height) -> Bytes {
        [&expiry.to_le_bytes()[..], &tx.bytes].concat().into()
    }

    /// `None`: no such entry.
    pub(super) fn read(entry: &Bytes) -> Option<Self> {
        let expiry = Height::from_le_bytes(*entry.first_chunk()?);
        let bytes = entry.slice(size_of::<Height>()..);
        let signed = SignedTransaction::try_from_slice(&bytes).ok()?;
        Some(Self {
            expiry,
            nonce: signed.transaction.nonce().nonce(),
            base: Hash(signed.transaction.block_hash().0),
            tx: SignedTx { hash: Hash(signed.get_hash().0), bytes },
        })
    }
}
