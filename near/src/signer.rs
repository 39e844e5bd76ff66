//! Who signs: an account and one of its ed25519 keys, expanded once.

use crate::SecretText;
use ed25519_dalek::{Signer as _, SigningKey};
use nearbench_core::Account;
use rand::CryptoRng;
use std::{fmt, sync::Arc};
use zeroize::Zeroizing;

/// A key of an account that can sign. Cheap to clone; the secret is wiped with the last clone.
#[derive(Clone)]
pub struct Signer(Arc<Inner>);

struct Inner {
    account: Account,
    public_key: String,
    key: SigningKey,
}

/// A text that is no secret key. The text itself is never repeated.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Another curve, or none named.
    #[error("the secret key of {0} does not begin with \"ed25519:\"; only ed25519 keys can be used")]
    NotEd25519(Account),
    /// Not base58 of 32 or 64 bytes.
    #[error("the secret key of {0} is not ed25519: followed by 64 (or 32) bytes in base58; was it cut?")]
    NotAKey(Account),
    /// The public half inside does not belong to the secret half.
    #[error("the secret key of {0} is damaged: its two halves do not belong together")]
    Damaged(Account),
}

impl Signer {
    /// A new key. It still has to be added to the account.
    pub fn generate(account: Account, rng: &mut impl CryptoRng) -> Self {
        let mut seed = Zeroizing::new([0; 32]);
        rng.fill_bytes(&mut *seed);
        Self::from_key(account, SigningKey::from_bytes(&seed))
    }

    /// The key in a text such as `ed25519:…`: near-cli's 64 bytes (secret, public) or the 32 secret ones in base58.
    ///
    /// # Errors
    /// When the text is no such key.
    pub fn from_secret(account: Account, secret: &SecretText) -> Result<Self, KeyError> {
        let Some(text) = secret.expose().strip_prefix("ed25519:") else {
            return Err(KeyError::NotEd25519(account));
        };
        let mut bytes = Zeroizing::new([0; 64]);
        let length = bs58::decode(text).onto(&mut *bytes).ok();
        let (seed, public) = bytes.split_at(32);
        let (Some(32 | 64), Ok(seed)) = (length, <&[u8; 32]>::try_from(seed)) else {
            return Err(KeyError::NotAKey(account));
        };
        let key = SigningKey::from_bytes(seed);
        if length == Some(64) && key.verifying_key().as_bytes() != public {
            return Err(KeyError::Damaged(account));
        }
        Ok(Self::from_key(account, key))
    }

    fn from_key(account: Account, key: SigningKey) -> Self {
        let public_key = public_key_text(key.verifying_key().as_bytes());
        Self(Arc::new(Inner { account, public_key, key }))
    }

    /// The account that signs.
    pub fn account(&self) -> &Account {
        &self.0.account
    }

    /// The public key as text: `ed25519:` and base58.
    pub fn public_key(&self) -> &str {
        &self.0.public_key
    }

    /// The secret key as near-cli writes it. Only for a key file or a Secret.
    pub fn secret(&self) -> SecretText {
        let pair = Zeroizing::new(self.0.key.to_keypair_bytes());
        SecretText::new(format!("ed25519:{}", bs58::encode(&*pair).into_string()))
    }

    pub(crate) fn public_key_bytes(&self) -> [u8; 32] {
        self.0.key.verifying_key().to_bytes()
    }

    pub(crate) fn sign(&self, digest: &[u8; 32]) -> [u8; 64] {
        self.0.key.sign(digest).to_bytes()
    }
}

/// A public key as the chain writes it; `None`: the text is none.
pub fn public_key(text: &str) -> Option<String> {
    text.parse::<near_crypto::PublicKey>().ok().map(|key| key.to_string())
}

fn public_key_text(bytes: &[u8; 32]) -> String {
    format!("ed25519:{}", bs58::encode(bytes).into_string())
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.0.account, self.0.public_key)
    }
}
