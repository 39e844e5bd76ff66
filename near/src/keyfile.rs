//! Key files: `nearbench-account.json` (near-cli's form, one key) and `nearbench-keys.json` (many).

use crate::{
    Signer,
    secret::{SecretError, SecretText},
    signer::KeyError,
};
use nearbench_core::Account;
use serde::Deserialize;
use serde_json::json;
use std::{
    fs::{self, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// The file name of an account's master key, also its key in a Secret.
pub const ACCOUNT_FILE: &str = "nearbench-account.json";
/// The file name of prepared lane keys, also their key in a Secret.
pub const KEYS_FILE: &str = "nearbench-keys.json";

/// Why a key file cannot be used. No message repeats what the file holds, except public keys and account ids.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file cannot be read.
    #[error(transparent)]
    Secret(#[from] SecretError),
    /// Not the JSON that is expected.
    #[error("{path}: line {line}, column {column}: not {expected}")]
    Form {
        /// The file.
        path: String,
        /// Where.
        line: usize,
        /// Where.
        column: usize,
        /// The form.
        expected: &'static str,
    },
    /// The account id is no account id.
    #[error("{path}: account_id: {source}")]
    AccountId {
        /// The file.
        path: String,
        /// Why.
        source: nearbench_core::AccountError,
    },
    /// The keys of somebody else.
    #[error("{path} holds keys of {found}, not of {wanted}: name the right file or account")]
    OtherAccount {
        /// The file.
        path: String,
        /// Whose.
        found: Account,
        /// Whose were wanted.
        wanted: Account,
    },
    /// A secret that is no key.
    #[error("{path}: {source}")]
    Key {
        /// The file.
        path: String,
        /// Why.
        source: KeyError,
    },
    /// Public and secret key do not belong together.
    #[error(
        "{path}: the private_key beside public_key {stated} belongs to {actual}: write the pair that belongs together"
    )]
    Mismatch {
        /// The file.
        path: String,
        /// What the file says.
        stated: String,
        /// What the secret key says.
        actual: String,
    },
    /// The file cannot be written.
    #[error("cannot write {path}: {reason}")]
    Unwritable {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// No key at all, or one twice.
    #[error("{path}: {reason}")]
    Keys {
        /// The file.
        path: String,
        /// What is wrong.
        reason: String,
    },
}

#[derive(Deserialize)]
struct AccountForm {
    account_id: String,
    public_key: String,
    private_key: SecretText,
}

#[derive(Deserialize)]
struct KeysForm {
    account_id: String,
    keys: Vec<Pair>,
}

#[derive(Deserialize)]
struct Pair {
    public_key: String,
    private_key: SecretText,
}

/// Reads an account's master key: `{"account_id", "public_key", "private_key"}`, as near-cli writes it.
///
/// # Errors
/// When the file is unreadable, readable by others, malformed, another account's, or its pair does not match.
pub fn read_account(path: &Path, wanted: &Account) -> Result<Signer, KeyFileError> {
    let form: AccountForm = parse(path, "near-cli's {\"account_id\", \"public_key\", \"private_key\"}")?;
    let account = check_account(path, &form.account_id, wanted)?;
    signer(path, account, &form.public_key, &form.private_key)
}

/// Reads prepared lane keys: `{"account_id", "keys": [{"public_key", "private_key"}]}`, in the file's order.
///
/// # Errors
/// As [`read_account`]; also when there is no key or one is there twice.
pub fn read_keys(path: &Path, wanted: &Account) -> Result<Vec<Signer>, KeyFileError> {
    let form: KeysForm = parse(path, "{\"account_id\", \"keys\": [{\"public_key\", \"private_key\"}]}")?;
    let account = check_account(path, &form.account_id, wanted)?;
    let bad = |reason: String| KeyFileError::Keys { path: path.display().to_string(), reason };
    if form.keys.is_empty() {
        return Err(bad("keys is empty: at least one key is needed".to_owned()));
    }
    let mut seen = std::collections::HashSet::new();
    form.keys
        .iter()
        .map(|pair| {
            let signer = signer(path, account.clone(), &pair.public_key, &pair.private_key)?;
            if !seen.insert(signer.public_key().to_owned()) {
                return Err(bad(format!("{} is there twice: two lanes cannot share a key", signer.public_key())));
            }
            Ok(signer)
        })
        .collect()
}

/// Writes an account's master key as [`read_account`] reads it, mode 0600, making the folder where it is missing.
///
/// # Errors
/// When the file is there already: no key is ever written over.
pub fn write_account(path: &Path, signer: &Signer) -> Result<(), KeyFileError> {
    let form = json!({
        "account_id": signer.account(),
        "public_key": signer.public_key(),
        "private_key": signer.secret().expose(),
    });
    write(path, SecretText::new(form.to_string()))
}

/// Writes one account's lane keys as [`read_keys`] reads them, as [`write_account`] does.
///
/// # Errors
/// As [`write_account`].
pub fn write_keys(path: &Path, signers: &[Signer]) -> Result<(), KeyFileError> {
    let pair = |signer: &Signer| json!({"public_key": signer.public_key(), "private_key": signer.secret().expose()});
    let form = json!({
        "account_id": signers.first().map(Signer::account),
        "keys": signers.iter().map(pair).collect::<Vec<_>>(),
    });
    write(path, SecretText::new(form.to_string()))
}

fn write(path: &Path, text: SecretText) -> Result<(), KeyFileError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    // Written beside and then given its name, so that a file of that name is whole whenever this process ends.
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    let written = || {
        fs::create_dir_all(folder)?;
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&beside)?;
        file.write_all(text.expose().as_bytes())?;
        file.sync_all()?;
        // Unlike a renaming, this replaces nothing.
        fs::hard_link(&beside, path)
    };
    let result = written();
    // What is not there needs no removing.
    let _ = fs::remove_file(&beside);
    result.map_err(|e| KeyFileError::Unwritable { path: path.display().to_string(), reason: e.to_string() })
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, expected: &'static str) -> Result<T, KeyFileError> {
    let text = SecretText::read(path)?;
    // serde's own message may repeat a value, so only the place is told.
    serde_json::from_str(text.expose()).map_err(|e| KeyFileError::Form {
        path: path.display().to_string(),
        line: e.line(),
        column: e.column(),
        expected,
    })
}

fn check_account(path: &Path, text: &str, wanted: &Account) -> Result<Account, KeyFileError> {
    let path = || path.display().to_string();
    let found = Account::new(text).map_err(|source| KeyFileError::AccountId { path: path(), source })?;
    if found == *wanted {
        Ok(found)
    } else {
        Err(KeyFileError::OtherAccount { path: path(), found, wanted: wanted.clone() })
    }
}

fn signer(path: &Path, account: Account, stated: &str, secret: &SecretText) -> Result<Signer, KeyFileError> {
    let path = || path.display().to_string();
    let signer = Signer::from_secret(account, secret).map_err(|source| KeyFileError::Key { path: path(), source })?;
    if signer.public_key() == stated {
        return Ok(signer);
    }
    Err(KeyFileError::Mismatch { path: path(), stated: stated.to_owned(), actual: signer.public_key().to_owned() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};
    use std::{fs, io::Write, os::unix::fs::OpenOptionsExt, path::PathBuf};

    fn file(folder: &Path, text: &str) -> PathBuf {
        let path = folder.join(ACCOUNT_FILE);
        let _ = fs::remove_file(&path);
        let mut file = fs::OpenOptions::new().create(true).write(true).truncate(true).mode(0o600).open(&path).unwrap();
        file.write_all(text.as_bytes()).unwrap();
        path
    }

    fn pair(signer: &Signer) -> String {
        format!(r#""public_key":"{}","private_key":"{}""#, signer.public_key(), signer.secret().expose())
    }

    #[test]
    fn key_files_give_the_signers_they_were_written_from_and_refuse_everything_else() {
        let folder = tempfile::tempdir().unwrap();
        let account = Account::new("bench.near").unwrap();
        let mut rng = StdRng::seed_from_u64(7);
        let (a, b) = (Signer::generate(account.clone(), &mut rng), Signer::generate(account.clone(), &mut rng));

        let path = file(folder.path(), &format!(r#"{{"account_id":"bench.near",{},"extra":1}}"#, pair(&a)));
        assert_eq!(read_account(&path, &account).unwrap().public_key(), a.public_key());
        let other = read_account(&path, &Account::new("other.near").unwrap()).unwrap_err().to_string();
        assert!(other.contains("bench.near") && other.contains("other.near"), "{other}");

        let keys = |list: &str| file(folder.path(), &format!(r#"{{"account_id":"bench.near","keys":[{list}]}}"#));
        let two = keys(&format!("{{{}}},{{{}}}", pair(&a), pair(&b)));
        let read: Vec<_> = read_keys(&two, &account).unwrap().iter().map(|s| s.public_key().to_owned()).collect();
        assert_eq!(read, [a.public_key(), b.public_key()]);
        let twice = keys(&format!("{{{0}}},{{{0}}}", pair(&a)));
        assert!(read_keys(&twice, &account).unwrap_err().to_string().contains("twice"));
        assert!(read_keys(&keys(""), &account).unwrap_err().to_string().contains("empty"));

        let secret = b.secret();
        for broken in [
            format!(
                r#"{{"account_id":"bench.near","public_key":"{}","private_key":"{}"}}"#,
                a.public_key(),
                secret.expose()
            ),
            format!(
                r#"{{"account_id":"bench.near","public_key":"{}","private_key":"{}"}}"#,
                b.public_key(),
                &secret.expose()[..60]
            ),
            format!(r#"{{"account_id":"bench.near","private_key":"{}"}}"#, secret.expose()),
            format!(r#"{{"account_id":"bench.near","public_key":3,"private_key":"{}"#, secret.expose()),
            secret.expose().to_owned(),
        ] {
            let error = read_account(&file(folder.path(), &broken), &account).unwrap_err().to_string();
            assert!(!error.contains(&secret.expose()[8..24]), "the secret leaked: {error}");
        }
    }
}
