//! How one JSON answer differs from another.
//!
//! Objects must have the same keys, and values the same types. Arrays are compared by their first element, except
//! the outcomes of receipts, which are compared one by one. What a replay must repeat literally, and not only in
//! its shape, is said by [`literal`].

use serde_json::Value;

/// Every difference as (path, what). Paths are like `result/header/hash`.
pub fn differences(recorded: &Value, answered: &Value) -> Vec<(String, String)> {
    let mut found = Vec::new();
    compare("", recorded, answered, &mut found);
    found
}

fn compare(path: &str, recorded: &Value, answered: &Value, found: &mut Vec<(String, String)>) {
    let at = |key: &str| {
        if path.is_empty() {
            key.to_owned()
        } else {
            format!("{path}/{key}")
        }
    };
    match (recorded, answered) {
        (Value::Object(recorded_map), Value::Object(answered_map)) => {
            for (key, value) in recorded_map {
                match answered_map.get(key) {
                    Some(answer) if of_a_contract(recorded, key) => {
                        compare_kind(&at(key), value, answer, found)
                    }
                    Some(answer) => compare(&at(key), value, answer, found),
                    None => found.push((at(key), "missing".to_owned())),
                }
            }
            for key in answered_map
                .keys()
                .filter(|key| !recorded_map.contains_key(*key))
            {
                found.push((at(key), "not in the recording".to_owned()));
            }
        }
        (Value::Array(recorded), Value::Array(answered)) => {
            let whole = path.ends_with("receipts_outcome");
            if whole && recorded.len() != answered.len() {
                found.push((
                    path.to_owned(),
                    format!("{} elements, recorded {}", answered.len(), recorded.len()),
                ));
            }
            if answered.is_empty() && !recorded.is_empty() && !whole {
                found.push((
                    path.to_owned(),
                    "empty, and not so in the recording".to_owned(),
                ));
            }
            let compared = if whole { recorded.len() } else { 1 };
            for (index, (recorded, answered)) in
                recorded.iter().zip(answered).take(compared).enumerate()
            {
                compare(&at(&index.to_string()), recorded, answered, found);
            }
        }
        _ if literal(path) && recorded != answered => {
            found.push((path.to_owned(), format!("{answered}, recorded {recorded}")));
        }
        _ => compare_kind(path, recorded, answered, found),
    }
}

fn compare_kind(path: &str, recorded: &Value, answered: &Value, found: &mut Vec<(String, String)>) {
    if kind(recorded) != kind(answered) {
        found.push((
            path.to_owned(),
            format!("a {}, recorded a {}", kind(answered), kind(recorded)),
        ));
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "bool",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

/// Whether `key` of this outcome is about gas that was burnt inside a contract: the recordings' token is another wasm.
fn of_a_contract(outcome: &Value, key: &str) -> bool {
    let profile = &outcome["metadata"]["gas_profile"];
    let in_contract = profile.as_array().is_some_and(|costs| !costs.is_empty());
    in_contract && matches!(key, "gas_burnt" | "tokens_burnt")
}

/// Whether the value at `path` must be repeated literally: it carries no height, hash, time or balance of the
/// recorded chain.
fn literal(path: &str) -> bool {
    let last = path.rsplit('/').next().unwrap_or(path);
    match path.split_once('/') {
        None => true,
        Some(("error", _)) => !["block_hash", "block_height", "balance"].contains(&last),
        Some((_, rest)) => match rest.split_once('/') {
            Some(("transaction", _)) => !["hash", "signature"].contains(&last),
            Some(("runtime_config" | "shard_layout" | "status", _)) => true,
            _ => LITERAL.contains(&last) || path.ends_with("metadata/version"),
        },
    }
}

const LITERAL: &[&str] = &[
    "final_execution_status",
    "gas_burnt",
    "tokens_burnt",
    "executor_id",
    "gas_price",
    "gas_limit",
    "min_gas_price",
    "permission",
    "congestion_level",
    "protocol_version",
    "chunks_included",
    "syncing",
    "transaction_validity_period",
    "locked",
    "storage_paid_at",
];
