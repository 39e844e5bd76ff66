//! Faults of a manifest: where, what, and the way out.

use serde_json::Value;
use std::fmt;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// The field, such as `spec.load.phases[1].arrivalRate`; empty where the text as a whole is at fault.
    pub path: String,
    /// What is wrong, and the way out.
    pub message: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.message);
        }
        write!(f, "{}: {}", self.path, self.message)
    }
}

/// Faults found so far.
#[derive(Debug, Default)]
pub(crate) struct Faults(pub(crate) Vec<Violation>);

impl Faults {
    pub(crate) fn add(&mut self, path: impl Into<String>, message: impl fmt::Display) {
        self.0.push(Violation { path: path.into(), message: message.to_string() });
    }

    /// The value, or its error as a fault at `path`.
    pub(crate) fn take<T, E: fmt::Display>(&mut self, path: impl Into<String>, result: Result<T, E>) -> Option<T> {
        result.map_err(|error| self.add(path, error)).ok()
    }
}

/// The candidate that a misspelt word was probably meant to be.
pub(crate) fn closest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let lower = word.to_lowercase();
    candidates
        .into_iter()
        .map(|candidate| (strsim::jaro_winkler(&lower, &candidate.to_lowercase()), candidate))
        .filter(|(likeness, _)| *likeness > 0.84)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, candidate)| candidate)
}

/// Whether a text could hold a key or a password.
pub(crate) fn might_be_secret(text: &str) -> bool {
    ["ed25519:", "secp256k1:", "://", "@", "Bearer "].iter().any(|mark| text.contains(mark))
}

/// A value as a message may show it.
pub(crate) fn shown_value(value: &Value) -> String {
    match value {
        Value::String(text) => shown(text),
        Value::Null => "empty".to_owned(),
        Value::Array(_) => "a list".to_owned(),
        Value::Object(_) => "a map".to_owned(),
        Value::Bool(_) | Value::Number(_) => value.to_string(),
    }
}

/// A text as a message may show it: not when it could be a secret, or is long.
pub(crate) fn shown(text: &str) -> String {
    if might_be_secret(text) || text.chars().count() > 80 { "this text".to_owned() } else { format!("{text:?}") }
}
