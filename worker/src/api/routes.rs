//! Every route, who may use it and what it may answer: the one table that the router and the OpenAPI document are made of.

use super::{
    auth::Scope,
    body,
    refusal::Code::{self, *},
    refusal::ErrorView,
    view::{
        BatchView, HealthView, JobView, JobsView, LegacyBatchView, LegacyView, ListView, ReadyView, TransactionView,
        TransferView,
    },
};
use schemars::{JsonSchema, SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

/// What a route does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operation {
    Create,
    Batch,
    Get,
    List,
    Cancel,
    Retry,
    Transaction,
    Legacy,
    Job,
    Health,
    Ready,
    Jobs,
    Metrics,
    Document,
}

pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    pub(crate) operation: Operation,
    summary: &'static str,
    scope: Option<Scope>,
    parameters: &'static [Parameter],
    body: Option<Shape>,
    /// Statuses beside the refusals', and what is answered with them.
    answers: &'static [(u16, Shape, &'static str)],
    refusals: &'static [Code],
}

#[derive(Clone, Copy)]
enum Shape {
    Request,
    Batch,
    LegacyRequest,
    Transfer,
    List,
    Transaction,
    BatchResult,
    Legacy,
    Job,
    Health,
    Ready,
    Jobs,
    /// Text, as Prometheus reads it.
    Metrics,
    Document,
}

/// Name, place, whether it is required, schema as JSON, and what it is.
struct Parameter(&'static str, &'static str, bool, &'static str, &'static str);

const KEY: Parameter = Parameter(
    "Idempotency-Key",
    "header",
    true,
    r#"{"type":"string","minLength":1,"maxLength":255}"#,
    "The client's own name for the transfer: the same key never pays twice. X-Idempotency-Key is the same.",
);
const MAYBE_KEY: Parameter = Parameter("Idempotency-Key", "header", false, KEY.3, KEY.4);
const WAIT: Parameter = Parameter(
    "wait",
    "query",
    false,
    r#"{"type":"string","enum":["submitted","final"]}"#,
    "Answer once the transfer is as far, with 200, or else after timeout_ms, with 202.",
);
const TIMEOUT: Parameter = Parameter(
    "timeout_ms",
    "query",
    false,
    r#"{"type":"integer","minimum":1,"maximum":60000,"default":30000}"#,
    "How long to wait.",
);
const ID: Parameter =
    Parameter("id", "path", true, r#"{"type":"string","pattern":"^[0-9a-f]{32}$"}"#, "A transfer's id.");
const HASH: Parameter = Parameter("hash", "path", true, r#"{"type":"string"}"#, "A transaction's hash, in base58.");
const JOB: Parameter = Parameter("jobId", "path", true, ID.3, ID.4);
const FILTERS: [Parameter; 6] = [
    Parameter("idempotency_key", "query", false, KEY.3, "The transfer that this token's client gave this key."),
    Parameter("receiver_id", "query", false, r#"{"type":"string"}"#, "Who gets the tokens."),
    Parameter("status", "query", false, r##"{"$ref":"#/components/schemas/Status"}"##, "Where it stands."),
    Parameter("tx_hash", "query", false, r#"{"type":"string"}"#, "The transaction that carries it."),
    Parameter("cursor", "query", false, r#"{"type":"string"}"#, "The next_cursor of the page before."),
    Parameter("limit", "query", false, r#"{"type":"integer","minimum":1,"maximum":1000,"default":100}"#, "Of a page."),
];

const SUBMITS: &[Code] = &[
    Malformed,
    BadQuery,
    KeyMissing,
    KeyInvalid,
    Unauthorized,
    MissingScope,
    CapExceeded,
    HostRefused,
    BodyTooSlow,
    KeyConflict,
    TooLarge,
    NotJson,
    BadAccount,
    BadAmount,
    BadMemo,
    UnknownToken,
    SelfTransfer,
    RateLimited,
    BacklogFull,
    StoreUnavailable,
    Closed,
];
const READS: &[Code] = &[Unauthorized, MissingScope, HostRefused, NotFound, RateLimited, StoreUnavailable];
const CHANGES: &[Code] =
    &[Unauthorized, MissingScope, HostRefused, NotFound, WrongState, RateLimited, StoreUnavailable];

const fn alias(path: &'static str) -> Route {
    Route {
        method: "post",
        path,
        operation: Operation::Legacy,
        summary: "Submit a transfer, or several, as clients of older services do",
        scope: Some(Scope::Transfer),
        parameters: &[MAYBE_KEY, WAIT, TIMEOUT],
        body: Some(Shape::LegacyRequest),
        answers: &[
            (202, Shape::Legacy, "Accepted; of several, what became of each"),
            (200, Shape::Legacy, "A replay, or as far as was waited for"),
        ],
        refusals: SUBMITS,
    }
}

pub(crate) const ROUTES: &[Route] = &[
    Route {
        method: "post",
        path: "/v1/transfers",
        operation: Operation::Create,
        summary: "Submit a transfer",
        scope: Some(Scope::Transfer),
        parameters: &[KEY, WAIT, TIMEOUT],
        body: Some(Shape::Request),
        answers: &[
            (
                202,
                Shape::Transfer,
                "Accepted: it is carried out whatever fails from here on. Location says where it stands",
            ),
            (200, Shape::Transfer, "A replay (Idempotent-Replayed: true), or as far as was waited for"),
        ],
        refusals: SUBMITS,
    },
    Route {
        method: "post",
        path: "/v1/transfers/batch",
        operation: Operation::Batch,
        summary: "Submit up to 1000 transfers, each with a key of its own",
        scope: Some(Scope::Transfer),
        parameters: &[],
        body: Some(Shape::Batch),
        answers: &[(202, Shape::BatchResult, "What became of each")],
        refusals: &[
            Malformed,
            Unauthorized,
            MissingScope,
            HostRefused,
            BodyTooSlow,
            TooLarge,
            NotJson,
            RateLimited,
            BacklogFull,
            StoreUnavailable,
            Closed,
        ],
    },
    Route {
        method: "get",
        path: "/v1/transfers",
        operation: Operation::List,
        summary: "Transfers whose details are kept, newest first",
        scope: Some(Scope::Read),
        parameters: &FILTERS,
        body: None,
        answers: &[(200, Shape::List, "A page")],
        refusals: &[BadQuery, KeyInvalid, Unauthorized, MissingScope, HostRefused, RateLimited, StoreUnavailable],
    },
    Route {
        method: "get",
        path: "/v1/transfers/{id}",
        operation: Operation::Get,
        summary: "A transfer, and what happened to it",
        scope: Some(Scope::Read),
        parameters: &[ID],
        body: None,
        answers: &[(200, Shape::Transfer, "As it stands")],
        refusals: READS,
    },
    Route {
        method: "post",
        path: "/v1/transfers/{id}/cancel",
        operation: Operation::Cancel,
        summary: "Withdraw a transfer that is queued",
        scope: Some(Scope::Transfer),
        parameters: &[ID],
        body: None,
        answers: &[(200, Shape::Transfer, "Withdrawn")],
        refusals: CHANGES,
    },
    Route {
        method: "post",
        path: "/v1/transfers/{id}/retry",
        operation: Operation::Retry,
        summary: "Queue a transfer again that is proven to have failed",
        scope: Some(Scope::Admin),
        parameters: &[ID],
        body: None,
        answers: &[(202, Shape::Transfer, "Queued again")],
        refusals: CHANGES,
    },
    Route {
        method: "get",
        path: "/v1/transactions/{hash}",
        operation: Operation::Transaction,
        summary: "The transfers of a transaction",
        scope: Some(Scope::Read),
        parameters: &[HASH],
        body: None,
        answers: &[(200, Shape::Transaction, "Those that were submitted here")],
        refusals: READS,
    },
    alias("/v1/transfer"),
    alias("/transfer"),
    alias("/send-ft"),
    Route {
        method: "get",
        path: "/transfer/{jobId}",
        operation: Operation::Job,
        summary: "A transfer, as clients of older services look it up",
        scope: Some(Scope::Read),
        parameters: &[JOB],
        body: None,
        answers: &[(200, Shape::Job, "As it stands")],
        refusals: READS,
    },
    Route {
        method: "get",
        path: "/health",
        operation: Operation::Health,
        summary: "Whether the process answers",
        scope: None,
        parameters: &[],
        body: None,
        answers: &[(200, Shape::Health, "It does")],
        refusals: &[],
    },
    Route {
        method: "get",
        path: "/ready",
        operation: Operation::Ready,
        summary: "Whether it can do its work, and what it waits for",
        scope: None,
        parameters: &[],
        body: None,
        answers: &[(200, Shape::Ready, "It can"), (503, Shape::Ready, "It waits")],
        refusals: &[],
    },
    Route {
        method: "get",
        path: "/metrics/jobs",
        operation: Operation::Jobs,
        summary: "How the transfers stand, and the rates of the last minute",
        scope: None,
        parameters: &[],
        body: None,
        answers: &[(200, Shape::Jobs, "Counts and rates")],
        refusals: &[StoreUnavailable],
    },
    Route {
        method: "get",
        path: "/metrics",
        operation: Operation::Metrics,
        summary: "What this process counts, for Prometheus",
        scope: None,
        parameters: &[],
        body: None,
        answers: &[(200, Shape::Metrics, "Prometheus' text format, or OpenMetrics where that is asked for")],
        refusals: &[],
    },
    Route {
        method: "get",
        path: "/openapi.json",
        operation: Operation::Document,
        summary: "This document",
        scope: None,
        parameters: &[],
        body: None,
        answers: &[(200, Shape::Document, "OpenAPI 3.1")],
        refusals: &[],
    },
];

impl Shape {
    fn schema(self, generator: &mut SchemaGenerator) -> Value {
        fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Value {
            generator.subschema_for::<T>().to_value()
        }
        match self {
            Self::Request => of::<body::Body<'_>>(generator),
            Self::Batch => of::<body::Batch<'_>>(generator),
            Self::LegacyRequest => {
                json!({"oneOf": [of::<body::Body<'_>>(generator), of::<body::Batch<'_>>(generator)]})
            }
            Self::Transfer => of::<TransferView>(generator),
            Self::List => of::<ListView>(generator),
            Self::Transaction => of::<TransactionView>(generator),
            Self::BatchResult => of::<BatchView>(generator),
            Self::Legacy => json!({"oneOf": [of::<LegacyView>(generator), of::<LegacyBatchView>(generator)]}),
            Self::Job => of::<JobView>(generator),
            Self::Health => of::<HealthView>(generator),
            Self::Ready => of::<ReadyView>(generator),
            Self::Jobs => of::<JobsView>(generator),
            Self::Metrics => json!({"type": "string"}),
            Self::Document => json!({"type": "object"}),
        }
    }
}

/// The OpenAPI document.
pub(crate) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let generator = &mut settings.into_generator();
    let error = generator.subschema_for::<ErrorView>().to_value();
    let content = |schema: Value| json!({"application/json": {"schema": schema}});
    let mut paths = Map::new();
    for route in ROUTES {
        let mut responses = Map::new();
        for (status, shape, text) in route.answers {
            let schema = shape.schema(generator);
            let content = match shape {
                Shape::Metrics => json!({"text/plain": {"schema": schema}}),
                _ => content(schema),
            };
            responses.insert(status.to_string(), json!({"description": text, "content": content}));
        }
        let mut codes: Vec<Code> = route.refusals.to_vec();
        codes.sort_by_key(|code| code.status());
        for same in codes.chunk_by(|a, b| a.status() == b.status()) {
            let names: Vec<_> = same.iter().map(|code| code.name()).collect();
            let mut response = json!({"description": names.join(", "), "content": content(error.clone())});
            if [429, 503].contains(&same[0].status()) {
                response["headers"] = json!({"Retry-After": {"required": true, "schema": {"type": "integer"}}});
            }
            responses.insert(same[0].status().to_string(), response);
        }
        let parameters: Vec<_> = route
            .parameters
            .iter()
            .map(|Parameter(name, place, required, schema, text)| {
                let schema: Value = serde_json::from_str(schema).unwrap_or_default();
                json!({"name": name, "in": place, "required": required, "schema": schema, "description": text})
            })
            .collect();
        let id = format!("{}{}", route.method, route.path.replace(['/', '{', '}', '.', '-'], "_"));
        let mut operation = json!({
            "operationId": id, "summary": route.summary, "parameters": parameters, "responses": responses,
        });
        if let Some(body) = route.body {
            operation["requestBody"] = json!({"required": true, "content": content(body.schema(generator))});
        }
        operation["security"] = match route.scope {
            Some(scope) => json!([{"token": [scope.name()]}]),
            None => json!([]),
        };
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method] = operation;
    }
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "nearbench transfer API",
            "version": "1",
            "description": "Transfers of a NEAR fungible token, each carried out once under the key that its client gives it.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    })
}
