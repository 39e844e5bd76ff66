//! nearcore's JSON-RPC: from a request's bytes to an answer's bytes.
//!
//! Here the envelope, the list of methods and the HTTP status of each answer; the methods are in the modules
//! below. Requests, answers and errors are nearcore's own types (`near-jsonrpc-primitives`), so that their shapes
//! are too. Nothing here knows HTTP beyond a status number, and nothing holds the chain's lock while it waits.

mod block;
mod changes;
mod config;
mod light_client;
mod metrics;
mod params;
mod query;
mod site;
mod status;
mod transaction;
mod view;

use crate::{Answer, faults::AtNode, node::Node};
use axum::{Json, extract::rejection::JsonRejection};
use bytes::Bytes;
use near_jsonrpc_primitives::{
    errors::{RpcError, RpcErrorKind},
    message::{Broken, Message, Request},
};
use serde::Serialize;
use serde_json::Value;

pub(crate) use metrics::metrics;
pub(crate) use site::Site;
pub(crate) use status::{health, network_info, status};

const JSON: &str = "application/json";
const TEXT: &str = "text/plain; charset=utf-8";

/// The methods that are answered.
pub(crate) const METHODS: [&str; 28] = [
    "status",
    "health",
    "network_info",
    "validators",
    "block",
    "chunk",
    "gas_price",
    "EXPERIMENTAL_congestion_level",
    "EXPERIMENTAL_changes",
    "light_client_proof",
    "EXPERIMENTAL_light_client_proof",
    "EXPERIMENTAL_protocol_config",
    "EXPERIMENTAL_genesis_config",
    "query",
    "EXPERIMENTAL_view_account",
    "EXPERIMENTAL_view_access_key",
    "EXPERIMENTAL_view_access_key_list",
    "EXPERIMENTAL_view_code",
    "EXPERIMENTAL_view_state",
    "EXPERIMENTAL_call_function",
    "send_tx",
    "broadcast_tx_async",
    "broadcast_tx_commit",
    "tx",
    "tx_status",
    "EXPERIMENTAL_tx_status",
    "sandbox_fast_forward",
    "sandbox_patch_state",
];

/// A body that axum has read, or refuses in its words as nearcore does.
pub(crate) type Parsed = Result<Message, JsonRejection>;

/// Reads the body of a POST to `/`.
pub(crate) fn parse(body: &[u8]) -> Parsed {
    Json::from_bytes(body).map(|Json(message)| message)
}

/// The method that is called; empty where none is.
pub(crate) fn method(message: &Parsed) -> &str {
    match message {
        Ok(Message::Request(request)) => &request.method,
        _ => "",
    }
}

/// Answers a request that came to an endpoint (empty: to `/`), as faulty as `at_node` says.
pub(crate) async fn answer(node: &Node, endpoint: &str, message: Parsed, at_node: &AtNode) -> Answer {
    let request = match message {
        Err(rejection) => {
            let status = rejection.status().as_u16();
            return Answer { status, content_type: TEXT, body: rejection.body_text().into() };
        }
        Ok(Message::Request(request)) => request,
        Ok(_) => return json(400, &Broken::Unmatched(Value::Null).reply()),
    };
    let site = Site::new(node, endpoint, at_node);
    let mut result = call(&site, &request).await;
    let status = result.as_ref().map_or_else(|error| http_status(&site, &request.params, error), |_| 200);
    if let Ok(result) = &mut result {
        if at_node.remember {
            node.faults().remember(&request.method, result.clone());
        }
        if let Some(instead) = &at_node.instead {
            result.clone_from(instead);
        }
    }
    json(status, &Message::response(request.id, result))
}

/// nearcore's answer to a request that it waited for in vain.
pub(crate) fn timed_out(message: &Parsed) -> Answer {
    let id = match message {
        Ok(Message::Request(request)) => request.id.clone(),
        _ => Value::Null,
    };
    json(408, &Message::response(id, Err::<Value, _>(transaction::timeout())))
}

/// Answers a GET with the bare value, as nearcore does; an error is the status 503.
pub(crate) fn answer_bare(result: Result<Value, RpcError>) -> Answer {
    match result {
        Ok(value) => json(200, &value),
        Err(error) => json(503, &error),
    }
}

pub(crate) fn json(status: u16, value: &impl Serialize) -> Answer {
    match serde_json::to_vec(value) {
        Ok(body) => Answer { status, content_type: JSON, body: body.into() },
        Err(error) => Answer { status: 500, content_type: TEXT, body: Bytes::from(error.to_string()) },
    }
}

async fn call(node: &Site<'_>, request: &Request) -> Result<Value, RpcError> {
    let params = request.params.clone();
    match request.method.as_str() {
        "status" => status::status(node),
        "health" => status::health(node),
        "network_info" => status::network_info(),
        "validators" => status::validators(node, params),
        "block" => block::block(node, params),
        "chunk" => block::chunk(node, params),
        "gas_price" => block::gas_price(node, params),
        "EXPERIMENTAL_congestion_level" => block::congestion_level(node, params),
        "EXPERIMENTAL_changes" => changes::changes(node, params),
        "light_client_proof" | "EXPERIMENTAL_light_client_proof" => light_client::execution_proof(node, params),
        "EXPERIMENTAL_protocol_config" => config::protocol_config(node, params),
        "EXPERIMENTAL_genesis_config" => config::genesis_config(node),
        "query" => query::query(node, params).await,
        "EXPERIMENTAL_view_account" => query::named(node, "view_account", params).await,
        "EXPERIMENTAL_view_access_key" => query::named(node, "view_access_key", params).await,
        "EXPERIMENTAL_view_access_key_list" => query::named(node, "view_access_key_list", params).await,
        "EXPERIMENTAL_view_code" => query::named(node, "view_code", params).await,
        "EXPERIMENTAL_view_state" => query::named(node, "view_state", params).await,
        "EXPERIMENTAL_call_function" => query::named(node, "call_function", params).await,
        "send_tx" => transaction::send(node, params).await,
        "broadcast_tx_async" => transaction::broadcast_async(node, params),
        "broadcast_tx_commit" => transaction::broadcast_commit(node, params).await,
        "tx" => transaction::status(node, params, false).await,
        "tx_status" | "EXPERIMENTAL_tx_status" => transaction::status(node, params, true).await,
        "sandbox_fast_forward" => status::fast_forward(node, params).await,
        "sandbox_patch_state" => status::patch_state(node, params).await,
        _ => Err(RpcError::method_not_found(request.method.clone())),
    }
}

/// The status that nearcore sends with an error (`chain/jsonrpc/src/lib.rs`, `rpc_handler`).
fn http_status(node: &Site<'_>, params: &Value, error: &RpcError) -> u16 {
    match &error.error_struct {
        Some(RpcErrorKind::RequestValidationError(_)) => 400,
        Some(RpcErrorKind::InternalError(_)) => 500,
        Some(RpcErrorKind::HandlerError(cause)) => match cause["name"].as_str() {
            Some("TIMEOUT_ERROR") => 408,
            Some("UNKNOWN_BLOCK") => {
                let height = params.get("block_id").and_then(Value::as_u64);
                if height.is_some_and(|height| height < node.chain().head().height) { 422 } else { 200 }
            }
            _ => 200,
        },
        None => 200,
    }
}

/// A value as JSON; it fails only for a type that has no JSON form.
fn value(value: impl Serialize) -> Result<Value, RpcError> {
    serde_json::to_value(value).map_err(|error| RpcError::serialization_error(error.to_string()))
}
