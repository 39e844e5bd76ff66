//! Checks a value by a CRD's schema: the part of OpenAPI that structural schemas may use.
//!
//! An API server does the same when a manifest is applied; here every fault is found at once, and said so that
//! it can be put right.

use crate::{
    spec::{
        DECIMAL_PATTERN, DURATION_PATTERN, GAS_PATTERN, NAME_PATTERN, PHASE_NAME_PATTERN, PREFIX_PATTERN, URL_PATTERN,
    },
    violation::{Faults, closest, shown},
};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSON, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use nearbench_core::{
    account,
    amount::{AMOUNT_PATTERN, NEAR_PATTERN},
};
use serde_json::{Map, Value};

/// What a text must be, by the pattern that it must match.
const MEANINGS: [(&str, &str); 10] = [
    (DURATION_PATTERN, "a length of time with its unit, such as 500ms, 90s, 5m or 1h30m"),
    (DECIMAL_PATTERN, "a decimal number in quotes, such as \"200\" or \"99.5\""),
    (GAS_PATTERN, "an amount of gas with its unit, such as 3 Tgas"),
    (URL_PATTERN, "an address that begins with http:// or https://, such as https://rpc.testnet.near.org"),
    (NAME_PATTERN, "a Kubernetes name: a-z, 0-9, '-' and '.', beginning and ending with a letter or digit"),
    (PHASE_NAME_PATTERN, "a name of a-z, 0-9, '-' and '_', beginning and ending with a letter or digit"),
    (PREFIX_PATTERN, "the head of an account id: a-z and 0-9, with single '-' or '_' between"),
    (account::PATTERN, "a NEAR account id: 2 to 64 of a-z, 0-9, '-', '_' and '.', such as bench.testnet"),
    (
        AMOUNT_PATTERN,
        "whole token units as decimal digits in quotes, such as \"1000000\" (no sign, point, exponent or unit)",
    ),
    (NEAR_PATTERN, "an amount of NEAR with its unit, such as \"100 NEAR\" or \"0.5 NEAR\""),
];

/// Adds everything that keeps `value` from matching `schema`.
pub(crate) fn check(schema: &JSONSchemaProps, value: &Value, path: &str, faults: &mut Faults) {
    if value.is_null() {
        if schema.nullable != Some(true) {
            faults.add(path, "is empty: give it a value, or leave the field out");
        }
        return;
    }
    if schema.x_kubernetes_int_or_string == Some(true) {
        if !(value.is_string() || value.is_i64() || value.is_u64()) {
            faults.add(path, format!("must be a whole number or a text, and is {}", kind(value)));
        } else if value.is_number() && value.as_i64().is_none_or(|number| i32::try_from(number).is_err()) {
            faults.add(path, format!("{value} is too large"));
        }
        return;
    }
    let right_type = match schema.type_.as_deref() {
        Some("string") => value.is_string(),
        Some("integer") => value.is_i64() || value.is_u64(),
        Some("number") => value.is_number(),
        Some("boolean") => value.is_boolean(),
        Some("array") => value.is_array(),
        Some("object") => value.is_object(),
        _ => true,
    };
    if !right_type {
        faults.add(path, wrong_type(schema, value));
        return;
    }
    match value {
        Value::String(text) => check_text(schema, text, path, faults),
        Value::Number(number) => check_number(schema, number.as_f64().unwrap_or(f64::NAN), path, faults),
        Value::Array(items) => check_list(schema, items, path, faults),
        Value::Object(fields) => check_map(schema, fields, path, faults),
        Value::Bool(_) | Value::Null => {}
    }
}

fn wrong_type(schema: &JSONSchemaProps, value: &Value) -> String {
    let (wanted, kind) = (schema.type_.as_deref().unwrap_or_default(), kind(value));
    match (wanted, value) {
        // In quotes it would still not be what it must be.
        ("string", Value::Number(_) | Value::Bool(_)) if !matches(schema, &value.to_string()) => {
            format!("must be {}, and is {kind}", meaning(schema))
        }
        ("string", Value::Number(_) | Value::Bool(_)) => {
            format!("must be a text, and is {kind}: put it in quotes")
        }
        ("integer" | "number", Value::String(_)) => {
            format!("must be a number, and is {kind}: write it without quotes")
        }
        ("string", _) => format!("must be a text, and is {kind}"),
        ("integer", _) => format!("must be a whole number, and is {kind}"),
        ("boolean", _) => format!("must be true or false, and is {kind}"),
        ("array", _) => format!("must be a list, and is {kind}"),
        ("object", _) => format!("must be a map of fields, and is {kind}"),
        _ => format!("must be a {wanted}, and is {kind}"),
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "empty",
        Value::Bool(_) => "true or false",
        Value::Number(number) if number.is_f64() => "a number with a point or exponent",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a map",
    }
}

fn check_text(schema: &JSONSchemaProps, text: &str, path: &str, faults: &mut Faults) {
    if let Some(allowed) = &schema.enum_ {
        let allowed: Vec<&str> = allowed.iter().filter_map(|JSON(value)| value.as_str()).collect();
        if !allowed.contains(&text) {
            let meant =
                closest(text, allowed.iter().copied()).map_or(String::new(), |meant| format!("did you mean {meant}? "));
            faults.add(path, format!("{} is not known; {meant}use one of {}", shown(text), allowed.join(", ")));
        }
        return;
    }
    let length = text.chars().count() as i64;
    if !matches(schema, text) {
        faults.add(path, format!("{} is not {}", shown(text), meaning(schema)));
    } else if schema.min_length.is_some_and(|min| length < min) || schema.max_length.is_some_and(|max| length > max) {
        let (min, max) = (schema.min_length.unwrap_or(0), schema.max_length.unwrap_or(i64::MAX));
        faults.add(path, format!("must have {min} to {max} characters, and has {length}"));
    }
}

/// Whether a text is of the schema's form.
fn matches(schema: &JSONSchemaProps, text: &str) -> bool {
    let pattern = schema.pattern.as_deref();
    pattern.is_none_or(|pattern| regex_lite::Regex::new(pattern).is_ok_and(|pattern| pattern.is_match(text)))
}

/// What a text of the schema's form is.
fn meaning(schema: &JSONSchemaProps) -> String {
    let pattern = schema.pattern.as_deref().unwrap_or_default();
    let known = MEANINGS.iter().find(|(known, _)| *known == pattern);
    known.map_or_else(|| format!("a text that matches {pattern}"), |(_, meaning)| (*meaning).to_owned())
}

fn check_number(schema: &JSONSchemaProps, number: f64, path: &str, faults: &mut Faults) {
    if let Some(min) = schema.minimum.filter(|min| number < *min) {
        faults.add(path, format!("must be at least {min}, and is {number}"));
    }
    if let Some(max) = schema.maximum.filter(|max| number > *max) {
        faults.add(path, format!("must be at most {max}, and is {number}"));
    }
}

fn check_list(schema: &JSONSchemaProps, items: &[Value], path: &str, faults: &mut Faults) {
    let length = items.len() as i64;
    if schema.min_items.is_some_and(|min| length < min) || schema.max_items.is_some_and(|max| length > max) {
        let (min, max) = (schema.min_items.unwrap_or(0), schema.max_items.unwrap_or(i64::MAX));
        faults.add(path, format!("must have {min} to {max} entries, and has {length}"));
    }
    if let Some(JSONSchemaPropsOrArray::Schema(schema)) = &schema.items {
        for (n, item) in items.iter().enumerate() {
            check(schema, item, &format!("{path}[{n}]"), faults);
        }
    }
}

fn check_map(schema: &JSONSchemaProps, fields: &Map<String, Value>, path: &str, faults: &mut Faults) {
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &schema.additional_properties {
        if schema.max_properties.is_some_and(|max| fields.len() as i64 > max) {
            faults.add(path, format!("must have at most {} entries", schema.max_properties.unwrap_or_default()));
        }
        fields.iter().for_each(|(key, value)| check(values, value, &format!("{path}.{key}"), faults));
        return;
    }
    let Some(known) = &schema.properties else {
        return;
    };
    for (key, value) in fields {
        let path = format!("{path}.{key}");
        match known.get(key) {
            Some(schema) => check(schema, value, &path, faults),
            None => {
                let names = known.keys().map(String::as_str);
                let meant = closest(key, names.clone()).map_or_else(
                    || format!("known here: {}", names.collect::<Vec<_>>().join(", ")),
                    |meant| format!("did you mean {meant}?"),
                );
                faults.add(path, format!("unknown field; {meant}"));
            }
        }
    }
    for name in schema.required.iter().flatten().filter(|name| !fields.contains_key(*name)) {
        let about = known.get(name).and_then(|schema| schema.description.as_deref()).unwrap_or_default();
        let about = about.split_once(". ").map_or(about, |(first, _)| first).trim_end_matches('.').replace('\n', " ");
        faults.add(format!("{path}.{name}"), format!("is missing: {about}"));
    }
}
