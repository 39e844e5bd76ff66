//! The table of manifests that are accepted and refused. An API server is held to the same table, in a real cluster.

use crate::resolved_on;
use nearbench_crds::{BenchmarkRun, Violation, parse};
use serde::Deserialize;
use serde_json::Value;
use std::{fs, path::Path};

#[derive(Deserialize)]
struct Case {
    case: String,
    patch: Value,
    field: Option<String>,
    #[serde(default)]
    here: String,
}

fn read<T: serde::de::DeserializeOwned>(name: &str) -> T {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/manifests").join(name);
    serde_saphyr::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// RFC 7386.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Object(fields) = patch else {
        *target = patch.clone();
        return;
    };
    if !target.is_object() {
        *target = Value::Object(serde_json::Map::new());
    }
    for (key, value) in fields {
        match value {
            Value::Null => drop(target.as_object_mut().unwrap().remove(key)),
            _ => merge(target.as_object_mut().unwrap().entry(key).or_insert(Value::Null), value),
        }
    }
}

fn faults(manifest: &Value) -> Vec<Violation> {
    let run: Result<BenchmarkRun, _> = parse(&manifest.to_string());
    run.map_err(|error| error.0).and_then(|run| resolved_on(&run, false)).err().unwrap_or_default()
}

#[test]
fn every_case_is_accepted_or_refused_by_its_field() {
    let base: Value = read("base.yaml");
    let cases: Vec<Case> = read("cases.yaml");
    assert!(cases.len() > 40);
    let mut wrong = Vec::new();
    for Case { case, patch, field, here } in cases {
        let mut manifest = base.clone();
        merge(&mut manifest["spec"], &patch);
        let faults = faults(&manifest);
        let as_meant = match &field {
            None => faults.is_empty(),
            Some(field) => faults.iter().any(|fault| fault.path.starts_with(field) && fault.message.contains(&here)),
        };
        if !as_meant {
            wrong.push(format!("{case}: {faults:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}
