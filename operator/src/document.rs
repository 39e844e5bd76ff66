//! Documents in ConfigMaps: a run's plan and its report, as JSON, compressed where an object could not hold it.

use flate2::{Compression, read::GzDecoder, write::GzEncoder};
use k8s_openapi::{ByteString, api::core::v1::ConfigMap};
use kube::{
    Api, Client,
    api::{Patch, PatchParams},
};
use nearbench_core::report::BenchmarkReport;
use serde_json::json;
use std::{
    collections::BTreeMap,
    io::{Read, Write},
};

/// The key of a plan.
pub const PLAN: &str = "plan.json";
/// The key of a report.
pub const REPORT: &str = "report.json";

/// An object holds at most 1 MiB, and the rest of it needs some.
const PLAIN_LIMIT: usize = 900 * 1024;
/// What a compressed document may become: no plan or report is near it.
const MAX_BYTES: u64 = 256 * 1024 * 1024;

/// Why a document cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum DocumentError {
    /// Even compressed it is too large for a ConfigMap.
    #[error(
        "{name} has {bytes} bytes compressed, and a ConfigMap holds {PLAIN_LIMIT}: use fewer receivers or shorter phases"
    )]
    TooLarge {
        /// The document's key.
        name: String,
        /// Its compressed size.
        bytes: usize,
    },
    /// There is none.
    #[error("ConfigMap {config_map} has no {name}")]
    Missing {
        /// Where it was looked for.
        config_map: String,
        /// The document's key.
        name: String,
    },
    /// It is not what it should be.
    #[error("{name} in ConfigMap {config_map} is damaged: {reason}")]
    Damaged {
        /// Where it is.
        config_map: String,
        /// The document's key.
        name: String,
        /// How.
        reason: String,
    },
    /// The API server said no.
    #[error("ConfigMap {config_map} in namespace {namespace}: {}", crate::apply::said(source))]
    Api {
        /// Which.
        config_map: String,
        /// Where.
        namespace: String,
        /// What it said.
        source: Box<kube::Error>,
    },
}

/// A document as a ConfigMap's `data` or `binaryData`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Packed {
    /// As it is.
    pub data: BTreeMap<String, String>,
    /// Compressed, under its name with `.gz`.
    pub binary_data: BTreeMap<String, ByteString>,
}

/// Packs a document of this name.
///
/// # Errors
/// [`DocumentError::TooLarge`].
pub fn pack(name: &str, text: &str) -> Result<Packed, DocumentError> {
    let mut packed = Packed::default();
    if text.len() <= PLAIN_LIMIT {
        packed.data.insert(name.to_owned(), text.to_owned());
        return Ok(packed);
    }
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    // Writing to memory does not fail.
    let bytes = encoder.write_all(text.as_bytes()).and_then(|()| encoder.finish()).unwrap_or_default();
    // base64 makes three bytes four.
    if bytes.len() / 3 * 4 > PLAIN_LIMIT {
        return Err(DocumentError::TooLarge { name: name.to_owned(), bytes: bytes.len() });
    }
    packed.binary_data.insert(format!("{name}.gz"), ByteString(bytes));
    Ok(packed)
}

/// The document of this name, or `None` if it is not there yet.
///
/// # Errors
/// [`DocumentError::Damaged`].
pub fn unpack(config_map: &ConfigMap, name: &str) -> Result<Option<String>, DocumentError> {
    if let Some(text) = config_map.data.as_ref().and_then(|data| data.get(name)) {
        return Ok(Some(text.clone()));
    }
    let packed = config_map.binary_data.as_ref().and_then(|data| data.get(&format!("{name}.gz")));
    let Some(ByteString(bytes)) = packed else { return Ok(None) };
    inflate(bytes).map(Some).map_err(|error| damaged(config_map, name, error))
}

/// The text that `gz` compresses.
///
/// # Errors
/// When it is cut, damaged, no text, or absurdly large.
pub fn inflate(gz: &[u8]) -> std::io::Result<String> {
    let mut text = String::new();
    GzDecoder::new(gz).take(MAX_BYTES).read_to_string(&mut text)?;
    Ok(text)
}

/// The report in this ConfigMap, or `None` if the run has not delivered it.
///
/// # Errors
/// [`DocumentError::Damaged`].
pub(crate) fn report(config_map: &ConfigMap) -> Result<Option<BenchmarkReport>, DocumentError> {
    let text = unpack(config_map, REPORT)?;
    text.map(|text| serde_json::from_str(&text).map_err(|error| damaged(config_map, REPORT, error))).transpose()
}

/// The document of type `T` under this name.
///
/// # Errors
/// [`DocumentError::Damaged`], [`DocumentError::Missing`].
pub(crate) fn required<T: serde::de::DeserializeOwned>(config_map: &ConfigMap, name: &str) -> Result<T, DocumentError> {
    let text = unpack(config_map, name)?.ok_or_else(|| DocumentError::Missing {
        config_map: config_map.metadata.name.clone().unwrap_or_default(),
        name: name.to_owned(),
    })?;
    serde_json::from_str(&text).map_err(|error| damaged(config_map, name, error))
}

fn damaged(config_map: &ConfigMap, name: &str, reason: impl std::fmt::Display) -> DocumentError {
    DocumentError::Damaged {
        config_map: config_map.metadata.name.clone().unwrap_or_default(),
        name: name.to_owned(),
        reason: reason.to_string(),
    }
}

/// The text of the report of `run`, as the run delivered it; `None` where it has not yet.
///
/// # Errors
/// [`DocumentError::Api`], also when there is no such run; [`DocumentError::Damaged`].
pub async fn stored_report(client: Client, namespace: &str, run: &str) -> Result<Option<String>, DocumentError> {
    stored(client, namespace, &crate::names::report(run), REPORT).await
}

/// The plan in the ConfigMap that a run's status names, or `None` where that holds none.
///
/// # Errors
/// [`DocumentError::Damaged`], [`DocumentError::Api`].
pub async fn stored_plan(client: Client, namespace: &str, config_map: &str) -> Result<Option<String>, DocumentError> {
    stored(client, namespace, config_map, PLAN).await
}

async fn stored(
    client: Client,
    namespace: &str,
    config_map: &str,
    document: &str,
) -> Result<Option<String>, DocumentError> {
    let found = Api::<ConfigMap>::namespaced(client, namespace).get(config_map).await;
    unpack(&found.map_err(api_error(config_map, namespace))?, document)
}

/// Puts a report into a ConfigMap that is there: what a run's own pod may do, and nothing else.
///
/// # Errors
/// [`DocumentError::TooLarge`], [`DocumentError::Api`].
pub async fn deliver(client: Client, namespace: &str, config_map: &str, text: &str) -> Result<(), DocumentError> {
    let Packed { data, binary_data } = pack(REPORT, text)?;
    let patch = Patch::Merge(json!({"data": data, "binaryData": binary_data}));
    Api::<ConfigMap>::namespaced(client, namespace)
        .patch(config_map, &PatchParams::default(), &patch)
        .await
        .map(drop)
        .map_err(api_error(config_map, namespace))
}

fn api_error(config_map: &str, namespace: &str) -> impl FnOnce(kube::Error) -> DocumentError {
    let (config_map, namespace) = (config_map.to_owned(), namespace.to_owned());
    move |source| DocumentError::Api { config_map, namespace, source: Box::new(source) }
}
