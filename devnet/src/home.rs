//! A chain's folder: the parameters that its chain was made with, kept beside the log of [`crate::history`].
//!
//! They are there for whoever opens the folder with others: a genesis hash could only say that something differs. The
//! file is a JSON object of texts by their paths in [`crate::Config`], so that a person can read it too. What blocks
//! mean is not known here.

use crate::{
    DevnetError,
    chain::{Chain, ChainError, Retention},
    genesis::Genesis,
    history::{self, HistoryError, LOG_NAME},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
};

/// Name of the file in a chain's folder that holds its parameters.
pub const PARAMETERS_NAME: &str = "config.json";

/// Texts by their paths in the configuration, such as `accounts[0].balance`.
pub(crate) type Parameters = BTreeMap<String, String>;

/// A parameter that is not the one that the chain was made with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// Its path in the configuration.
    pub field: String,
    /// Its value now, if it has one.
    pub given: Option<String>,
    /// What the chain was made with, if that had one.
    pub made_with: Option<String>,
}

impl std::fmt::Display for Difference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let text = |value: &Option<String>| value.clone().unwrap_or_else(|| "none".to_owned());
        write!(f, "{} {} (not {})", self.field, text(&self.made_with), text(&self.given))
    }
}

/// Why a chain's folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum HomeError {
    /// The file system refused.
    #[error("{path}: {error}; give a folder that can be read and written")]
    Io {
        /// The file.
        path: PathBuf,
        /// What the file system said.
        error: io::Error,
    },
    /// The parameters cannot be read.
    #[error("{path}: {error}; restore it from a copy, or give another folder")]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        error: serde_json::Error,
    },
    /// The chain in the folder was made with other parameters.
    #[error("{home} holds a chain that was made with {}; give those, or another folder", list(.differences))]
    Differs {
        /// The folder.
        home: PathBuf,
        /// All that differ, by their paths.
        differences: Vec<Difference>,
    },
}

fn list(differences: &[Difference]) -> String {
    differences.iter().map(Difference::to_string).collect::<Vec<_>>().join(", ")
}

/// Whether the folder says what its chain was made with, which must then be `parameters`. Nothing is changed. A log of
/// another format is told first: what was a parameter when it was written is not known.
pub(crate) fn check(home: &Path, parameters: &Parameters) -> Result<bool, DevnetError> {
    history::check_format(home).map_err(ChainError::from)?;
    let path = home.join(PARAMETERS_NAME);
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(HomeError::Io { path, error }.into()),
    };
    let made: Parameters = serde_json::from_slice(&text).map_err(|error| HomeError::Malformed { path, error })?;
    let fields: BTreeSet<&String> = made.keys().chain(parameters.keys()).collect();
    let differences: Vec<_> = fields
        .into_iter()
        .map(|field| Difference {
            field: field.clone(),
            given: parameters.get(field).cloned(),
            made_with: made.get(field).cloned(),
        })
        .filter(|difference| difference.given != difference.made_with)
        .collect();
    match differences.is_empty() {
        true => Ok(true),
        false => Err(HomeError::Differs { home: home.to_owned(), differences }.into()),
    }
}

/// The chain in `home`, or a new one there. On failure nothing new is left behind.
pub(crate) fn open(
    home: &Path,
    parameters: &Parameters,
    genesis: Genesis,
    retention: Retention,
) -> Result<Chain, DevnetError> {
    let kept = check(home, parameters)?;
    let mut undo = Undo::of(home);
    let chain = Chain::open(genesis, retention, home).inspect_err(|error| {
        if matches!(error, ChainError::History(HistoryError::InUse(_))) {
            // What is new is the other process's.
            undo.keep();
        }
    })?;
    if !kept {
        // The chain is locked, and its log agrees with the genesis.
        keep(home, parameters).map_err(|error| HomeError::Io { path: home.join(PARAMETERS_NAME), error })?;
    }
    undo.keep();
    Ok(chain)
}

/// Writes the parameters, all or nothing.
fn keep(home: &Path, parameters: &Parameters) -> io::Result<()> {
    let mut file = tempfile::NamedTempFile::new_in(home)?;
    file.write_all(&serde_json::to_vec_pretty(parameters)?)?;
    file.as_file().sync_all()?;
    file.persist(home.join(PARAMETERS_NAME))?;
    File::open(home)?.sync_all()
}

/// Removes what was not there before, unless it is to be kept.
struct Undo {
    log: Option<PathBuf>,
    /// The deepest first.
    folders: Vec<PathBuf>,
}

impl Undo {
    fn of(home: &Path) -> Self {
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let log = home.join(LOG_NAME);
        Self {
            log: (!log.exists()).then_some(log),
            folders: home.ancestors().take_while(missing).map(Path::to_owned).collect(),
        }
    }

    fn keep(&mut self) {
        self.log = None;
        self.folders.clear();
    }
}

impl Drop for Undo {
    fn drop(&mut self) {
        // What cannot be removed was not made; a folder that somebody else uses by now is not empty.
        if let Some(log) = &self.log {
            let _ = fs::remove_file(log);
        }
        for folder in &self.folders {
            let _ = fs::remove_dir(folder);
        }
    }
}
