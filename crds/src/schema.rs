//! The CRD: what an API server knows of a `BenchmarkRun`, generated from the types.

use crate::{rules, spec::BenchmarkRun};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps, JSONSchemaPropsOrArray, JSONSchemaPropsOrBool,
};
use kube_core::CustomResourceExt;

/// Bounds for what Kubernetes' own types leave unbounded: without them an API server refuses CEL rules as too
/// costly. All are far above what makes sense.
const MAX_LENGTH: i64 = 1_024;
const MAX_DURATION_LENGTH: i64 = 32;
const MAX_ITEMS: i64 = 128;
const MAX_PROPERTIES: i64 = 128;

/// The definition of `BenchmarkRun`, with a bound on every list, map and text, and the rules between fields.
pub fn crd() -> CustomResourceDefinition {
    let mut crd = BenchmarkRun::crd();
    for version in &mut crd.spec.versions {
        if let Some(schema) = version.schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut()) {
            bound(schema);
            rules::add(schema);
        }
    }
    crd
}

/// The definition as YAML, as `kubectl apply` takes it.
///
/// # Errors
/// Only if the definition cannot be written as YAML, which its types rule out.
pub fn crd_yaml() -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(&crd())
}

fn bound(schema: &mut JSONSchemaProps) {
    if schema.x_kubernetes_int_or_string == Some(true) && schema.pattern.is_some() {
        schema.max_length.get_or_insert(MAX_DURATION_LENGTH);
    }
    match schema.type_.as_deref() {
        Some("string") if schema.enum_.is_none() => {
            schema.max_length.get_or_insert(MAX_LENGTH);
        }
        Some("array") => {
            schema.max_items.get_or_insert(MAX_ITEMS);
        }
        // OpenAPI knows no unsigned formats, and an API server warns of them; `minimum: 0` says the same.
        Some("integer") if schema.format.as_deref().is_some_and(|format| format.starts_with("uint")) => {
            schema.format = None;
        }
        Some("object") if schema.additional_properties.is_some() => {
            schema.max_properties.get_or_insert(MAX_PROPERTIES);
        }
        _ => {}
    }
    schema.properties.iter_mut().flat_map(|properties| properties.values_mut()).for_each(bound);
    if let Some(JSONSchemaPropsOrArray::Schema(items)) = &mut schema.items {
        bound(items);
    }
    if let Some(JSONSchemaPropsOrBool::Schema(values)) = &mut schema.additional_properties {
        bound(values);
    }
}
