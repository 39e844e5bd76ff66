//! The generated CRD.

use expect_test::expect_file;
use nearbench_crds::crd_yaml;
use serde_json::Value;

/// `kubectl apply` keeps a copy of what it applied in an annotation, and annotations end at 256 KiB.
const KUBECTL_APPLY_LIMIT: usize = 262_144;

#[test]
fn the_committed_crd_is_that_of_the_types() {
    expect_file!["../../../charts/nearbench/files/benchmarkruns.yaml"].assert_eq(&crd_yaml().unwrap());
}

#[test]
fn the_crd_is_small_enough_for_kubectl_apply() {
    let json = serde_json::to_string(&nearbench_crds::crd()).unwrap();
    assert!(json.len() < KUBECTL_APPLY_LIMIT, "{} bytes", json.len());
}

fn walk(schema: &Value, path: &str, visit: &mut impl FnMut(&Value, &str)) {
    visit(schema, path);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        walk(property, &format!("{path}.{name}"), visit);
    }
    for (part, suffix) in [("items", "[]"), ("additionalProperties", "{}")] {
        if schema[part].is_object() {
            walk(&schema[part], &format!("{path}{suffix}"), visit);
        }
    }
}

fn schema() -> Value {
    let crd = serde_json::to_value(nearbench_crds::crd()).unwrap();
    crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

#[test]
fn every_list_map_and_text_has_a_bound() {
    let mut unbounded = Vec::new();
    walk(&schema(), "", &mut |schema, path| {
        let bound = match schema["type"].as_str() {
            Some("string") if schema["enum"].is_null() => "maxLength",
            Some("array") => "maxItems",
            Some("object") if schema["additionalProperties"].is_object() => "maxProperties",
            _ => return,
        };
        if schema[bound].is_null() {
            unbounded.push(path.to_owned());
        }
    });
    assert_eq!(unbounded, Vec::<String>::new());
}

#[test]
fn every_field_is_documented_and_typed() {
    let mut bare = Vec::new();
    walk(&schema()["properties"]["spec"], "spec", &mut |schema, path| {
        let documented = schema["description"].is_string() || path.ends_with("[]") || path.ends_with("{}");
        let typed = schema["type"].is_string() || schema["x-kubernetes-int-or-string"] == true;
        if !documented || !typed {
            bare.push(path.to_owned());
        }
    });
    assert_eq!(bare, Vec::<String>::new());
}

#[test]
fn the_columns_are_those_that_users_were_promised() {
    let crd = serde_json::to_value(nearbench_crds::crd()).unwrap();
    let version = &crd["spec"]["versions"][0];
    let columns: Vec<(&str, i64)> = version["additionalPrinterColumns"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| (column["name"].as_str().unwrap(), column["priority"].as_i64().unwrap_or(0)))
        .collect();
    let always = ["Phase", "Verdict", "TPS", "Target", "Success", "P95", "Age"].map(|name| (name, 0));
    let wide = ["P99", "Audit", "Workers", "Transfers", "Message"].map(|name| (name, 1));
    assert_eq!(columns, [&always[..], &wide[..]].concat());
    assert_eq!(crd["spec"]["names"]["shortNames"], serde_json::json!(["bench"]));
    assert_eq!(version["subresources"]["scale"]["specReplicasPath"], ".spec.workers.replicas");
}
