//! Text that must not be seen: keys and credentials.
//!
//! It prints as `[redacted]`, is wiped when dropped, and is read only from files that nobody else may read.

use serde::{Deserialize, Deserializer};
use std::{fmt, fs::File, io::Read, path::Path};
use zeroize::{Zeroize, Zeroizing};

/// Larger files are no key files.
const MAX_FILE_BYTES: u64 = 1 << 20;

/// A secret text.
#[derive(Clone)]
pub struct SecretText(Zeroizing<String>);

/// Why a secret could not be read.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {reason}; check that the file is there and yours")]
    Unreadable {
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// Others may read the file.
    #[error("{path} may be read by others (mode {mode:03o}); run: chmod 600 {path}")]
    Exposed {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Not UTF-8 text of a reasonable size.
    #[error("{path} is no text of at most 1 MiB")]
    NoText {
        /// The file.
        path: String,
    },
}

impl SecretText {
    /// Takes over a text.
    pub fn new(text: String) -> Self {
        Self(Zeroizing::new(text))
    }

    /// Reads a file, without the line break at its end.
    ///
    /// # Errors
    /// When the file is not there, is not text, or its mode lets group or others read it, unless it is as Kubernetes
    /// mounts a Secret: root's, mode 0440.
    pub fn read(path: &Path) -> Result<Self, SecretError> {
        let name = || path.display().to_string();
        let unreadable = |e: std::io::Error| SecretError::Unreadable { path: name(), reason: e.to_string() };
        let file = File::open(path).map_err(unreadable)?;
        let metadata = file.metadata().map_err(unreadable)?;
        #[cfg(unix)]
        {
            use std::os::unix::fs::{MetadataExt, PermissionsExt};
            let mode = metadata.permissions().mode() & 0o777;
            // The files of a Secret volume are root's, and their group is the pod's own (its fsGroup).
            let in_secret_volume = mode == 0o440 && metadata.uid() == 0;
            if mode & 0o077 != 0 && !in_secret_volume {
                return Err(SecretError::Exposed { path: name(), mode });
            }
        }
        let limit = metadata.len().min(MAX_FILE_BYTES) as usize + 1;
        let mut bytes = Zeroizing::new(Vec::with_capacity(limit));
        file.take(MAX_FILE_BYTES + 1).read_to_end(&mut bytes).map_err(unreadable)?;
        match std::str::from_utf8(&bytes) {
            Ok(text) if bytes.len() as u64 <= MAX_FILE_BYTES => {
                Ok(Self::new(text.trim_end_matches(['\r', '\n']).to_owned()))
            }
            _ => Err(SecretError::NoText { path: name() }),
        }
    }

    /// The text itself. Never print or store what this returns.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl Zeroize for SecretText {
    fn zeroize(&mut self) {
        self.0.zeroize();
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self::new)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt};

    #[test]
    fn a_secret_never_prints() {
        let secret = SecretText::new("ed25519:hidden".to_owned());
        assert_eq!(format!("{secret} {secret:?}"), "[redacted] [redacted]");
    }

    #[test]
    fn a_file_that_others_may_read_is_refused_with_the_command_that_mends_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("key");
        fs::write(&path, "hidden\n").unwrap();
        for mode in [0o644, 0o640, 0o604] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
            let error = SecretText::read(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 600 {}", path.display())) && !error.contains("hidden"), "{error}");
        }
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        assert_eq!(SecretText::read(&path).unwrap().expose(), "hidden");
    }
}
