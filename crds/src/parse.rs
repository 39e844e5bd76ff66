//! From text to a `BenchmarkRun`: YAML or JSON, one document, every fault at once with its field's path.

use crate::{
    check::check,
    schema::crd,
    spec::{BenchmarkRun, NAME_PATTERN},
    violation::{Faults, Violation, closest, might_be_secret, shown_value},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSONSchemaProps;
use kube_core::Resource;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, SeqAccess, Visitor},
};
use serde_json::Value;
use std::{fmt, sync::LazyLock};

/// Why a text is no manifest: every fault, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ManifestError(pub Vec<Violation>);

impl fmt::Display for ManifestError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, violation) in self.0.iter().enumerate() {
            write!(f, "{}{violation}", if n == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for ManifestError {}

/// Reads a manifest.
///
/// # Errors
/// All unknown, misspelt, doubled or missing fields, wrong types and values out of bounds. No message shows a
/// value that could be a secret.
pub fn parse(text: &str) -> Result<BenchmarkRun, ManifestError> {
    let mut faults = Faults::default();
    let run = read(text, &mut faults);
    match run {
        Some(run) if faults.0.is_empty() => Ok(run),
        _ => Err(ManifestError(faults.0)),
    }
}

fn read(text: &str, faults: &mut Faults) -> Option<BenchmarkRun> {
    let options = serde_saphyr::options! {
        duplicate_keys: serde_saphyr::DuplicateKeyPolicy::PassThrough,
        // Such a number is refused below, where its field is known.
        non_finite_float_policy: serde_saphyr::options::NonFiniteFloatPolicy::PassThrough,
        with_snippet: false,
    };
    let documents: Vec<Node> = match serde_saphyr::from_multiple_with_options(text, options) {
        Ok(documents) => documents,
        Err(error) => {
            faults.add("", format!("this is neither YAML nor JSON: {error}; a manifest begins with {EXAMPLE}"));
            return None;
        }
    };
    let count = documents.len();
    let mut documents = documents.into_iter();
    let (Some(document), None) = (documents.next(), documents.next()) else {
        faults.add("", format!("a manifest is one document, and here are {count}: write one BenchmarkRun a file, beginning with {EXAMPLE}"));
        return None;
    };
    let value = document.into_value("", faults);
    root(&value, faults);
    if !faults.0.is_empty() {
        return None;
    }
    match serde_path_to_error::deserialize(value) {
        Ok(run) => Some(run),
        Err(error) => {
            faults.add(error.path().to_string(), error.inner());
            None
        }
    }
}

/// How a manifest begins, for who wrote something else.
const EXAMPLE: &str = "`apiVersion: nearbench.dev/v1alpha1`, as examples/quickstart.yaml does";

/// The schema of `spec`. Making it takes a while.
static SPEC: LazyLock<Option<JSONSchemaProps>> = LazyLock::new(|| {
    let mut version = crd().spec.versions.into_iter().next()?;
    version.schema.take()?.open_api_v3_schema?.properties?.remove("spec")
});

/// Checks what every Kubernetes object has, and the spec by its schema.
fn root(value: &Value, faults: &mut Faults) {
    const FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];
    let Value::Object(fields) = value else {
        faults
            .add("", format!("a manifest is a map with apiVersion, kind, metadata and spec, beginning with {EXAMPLE}"));
        return;
    };
    for field in fields.keys().filter(|field| !FIELDS.contains(&field.as_str())) {
        let meant = closest(field, FIELDS)
            .map_or("only apiVersion, kind, metadata and spec are known here".to_owned(), |meant| {
                format!("did you mean {meant}?")
            });
        faults.add(field, format!("unknown field; {meant}"));
    }
    for (field, wanted) in [("apiVersion", BenchmarkRun::api_version(&())), ("kind", BenchmarkRun::kind(&()))] {
        match fields.get(field) {
            Some(Value::String(text)) if *text == wanted => {}
            Some(other) => faults.add(field, format!("must be {wanted}, and is {}", shown_value(other))),
            None => faults.add(field, format!("is missing: write {field}: {wanted}")),
        }
    }
    match fields.get("metadata").and_then(|metadata| metadata.get("name")) {
        Some(Value::String(name)) if is_name(name) => {}
        Some(other) => faults.add("metadata.name", format!("{NAME_RULE}, and is {}", shown_value(other))),
        None => faults.add("metadata.name", "is missing: give the run a name"),
    }
    match (&*SPEC, fields.get("spec")) {
        (Some(schema), Some(spec)) => check(schema, spec, "spec", faults),
        _ => faults.add("spec", "is missing: it says what to run"),
    }
}

/// What [`is_name`] asks for.
pub(crate) const NAME_RULE: &str =
    "must be text of 1 to 63 of a-z, 0-9, '-' and '.', beginning and ending with a letter or digit";

pub(crate) fn is_name(name: &str) -> bool {
    name.len() <= 63 && regex_lite::Regex::new(NAME_PATTERN).is_ok_and(|pattern| pattern.is_match(name))
}

/// A document as written, doubled keys included.
enum Node {
    Leaf(Value),
    /// A number that is none, such as `.nan` and `.inf`.
    NotFinite(f64),
    List(Vec<Node>),
    Map(Vec<(String, Node)>),
}

impl Node {
    fn into_value(self, path: &str, faults: &mut Faults) -> Value {
        match self {
            Self::Leaf(value) => value,
            Self::NotFinite(number) => {
                faults.add(path, format!("must be a finite number, and is {number}"));
                // A number that no bound refuses: the fault is told already.
                Value::from(1)
            }
            Self::List(items) => {
                let value = |(n, item): (usize, Self)| item.into_value(&format!("{path}[{n}]"), faults);
                Value::Array(items.into_iter().enumerate().map(value).collect())
            }
            Self::Map(entries) => {
                let mut map = serde_json::Map::new();
                for (key, node) in entries {
                    if might_be_secret(&key) {
                        faults.add(path, "has a field whose name looks like a key or a password: Secrets are named in secretRef, never written here");
                        continue;
                    }
                    let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                    let value = node.into_value(&path, faults);
                    if map.insert(key, value).is_some() {
                        faults.add(path, "is written twice: keep one of them");
                    }
                }
                Value::Object(map)
            }
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_i128<E>(self, value: i128) -> Result<Node, E> {
        Ok(Node::Leaf((value as f64).into()))
    }

    fn visit_u128<E>(self, value: u128) -> Result<Node, E> {
        Ok(Node::Leaf((value as f64).into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(if value.is_finite() { Node::Leaf(value.into()) } else { Node::NotFinite(value) })
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::Leaf(value.into()))
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_none<E>(self) -> Result<Node, E> {
        Ok(Node::Leaf(Value::Null))
    }

    fn visit_some<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}
