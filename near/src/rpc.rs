//! JSON-RPC: the shape of requests, and what an answer is: a result, a node's error, or no answer worth the name.
//!
//! An answer is judged by its JSON body first and by its HTTP status second: nodes send errors with status 200, 400,
//! 408, 422 and 500, and gateways send statuses without JSON. Nothing here knows a method.
//!
//! No error repeats what an endpoint answered: it may be no node, and its answer nobody's business who reads a log or a
//! report. What is repeated is the name and the message that JSON-RPC has for it.

use crate::transport::{Response, TransportError};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, error::Category};
use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

/// What every request is called. Their connection tells requests apart; an answer by another name is not ours.
const ID: &str = "nearbench";
/// So much of an error's message is repeated.
const MESSAGE_CHARS: usize = 200;
/// No cause of nearcore has a longer name.
const NAME_CHARS: usize = 64;

/// A call that brought no result: which endpoint and method, and why.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[error("{endpoint}: {method}: {fault}")]
pub struct RpcError {
    /// The endpoint's name.
    pub endpoint: Arc<str>,
    /// The JSON-RPC method.
    pub method: &'static str,
    /// Why.
    pub fault: Fault,
}

/// Why a call brought no result.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// The client has no endpoint at all.
    NoEndpoint,
    /// The endpoint was not asked.
    SetAside {
        /// Why.
        reason: &'static str,
        /// When it may be asked again, where that is known.
        wait: Option<Duration>,
    },
    /// No answer.
    Transport(TransportError),
    /// An HTTP status without a JSON-RPC body.
    Status {
        /// The status.
        status: u16,
        /// How long the endpoint asks to be left alone.
        retry_after: Option<Duration>,
    },
    /// An answer that is not what nearcore's node sends.
    Malformed(&'static str),
    /// The node's own error.
    Node(NodeError),
}

/// An error that a node answered with (nearcore, `RpcError`).
#[derive(Clone, PartialEq)]
pub struct NodeError {
    /// The cause's name, such as `UNKNOWN_BLOCK`; where it has none, JSON-RPC's message for people, bounded.
    pub cause: String,
    /// The cause's details, to be read and never to be repeated.
    pub info: Value,
    /// The details of a refused transaction, or a text for people: likewise.
    pub data: Value,
}

impl fmt::Debug for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NodeError").field("cause", &self.cause).finish_non_exhaustive()
    }
}

impl Fault {
    /// A bounded name for counts of errors by type.
    pub fn label(&self) -> &'static str {
        match self {
            Self::NoEndpoint => "no_endpoint",
            Self::SetAside { .. } => "endpoint_set_aside",
            Self::Transport(TransportError::Connect(_)) => "connect",
            Self::Transport(TransportError::Broken(_)) => "connection_broken",
            Self::Transport(TransportError::Timeout(_)) => "rpc_timeout",
            Self::Transport(TransportError::TooLarge(_)) => "answer_too_large",
            Self::Status { status: 429, .. } => "http_429",
            Self::Status { status: 500.., .. } => "http_5xx",
            Self::Status { .. } => "http_status",
            Self::Malformed(_) => "malformed_answer",
            Self::Node(_) => "node_error",
        }
    }

    /// Whether the endpoint is to blame (and another may do better), rather than the question or the transaction.
    pub fn is_endpoints(&self) -> bool {
        match self {
            Self::NoEndpoint | Self::SetAside { .. } | Self::Transport(_) | Self::Malformed(_) => true,
            Self::Status { status, .. } => *status != 413,
            Self::Node(error) => matches!(
                error.cause.as_str(),
                "INTERNAL_ERROR" | "NO_SYNCED_BLOCKS" | "NOT_SYNCED_YET" | "UNAVAILABLE_SHARD" | "DOES_NOT_TRACK_SHARD"
            ),
        }
    }

    /// How long the endpoint asks to be left alone, where nothing else is the matter with it; zero if it does not say.
    pub(crate) fn asks_to_wait(&self) -> Option<Duration> {
        match self {
            Self::SetAside { wait, .. } => Some(wait.unwrap_or_default()),
            Self::Status { status: 429, retry_after, .. } => Some(retry_after.unwrap_or_default()),
            _ => None,
        }
    }

    /// The node's own error, if it has this cause.
    pub(crate) fn caused_by(&self, causes: &[&str]) -> Option<&NodeError> {
        match self {
            Self::Node(error) if causes.contains(&error.cause.as_str()) => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoint => f.write_str("no endpoint is configured; name one under spec.network.endpoints"),
            Self::SetAside { reason, wait } => {
                write!(f, "the endpoint is set aside: {reason}")?;
                if let Some(wait) = wait {
                    write!(f, "; it is tried again in {wait:.1?}")?;
                }
                f.write_str("; add another endpoint")
            }
            Self::Transport(error) => write!(f, "{error}; check that the endpoint is up and its URL right"),
            Self::Status { status, retry_after } => {
                write!(f, "HTTP status {status}")?;
                match (status, retry_after) {
                    (429, Some(wait)) => {
                        write!(f, "; it asks to wait {wait:?}: lower maxRequestsPerSecond")
                    }
                    (429, None) => f.write_str("; lower maxRequestsPerSecond or add an endpoint"),
                    (401 | 403, _) => f.write_str("; check the endpoint's credentials (nearbench-rpc-auth)"),
                    (500.., _) => f.write_str("; the endpoint is in trouble: wait, or add another"),
                    _ => f.write_str("; check that the URL is that of a NEAR JSON-RPC endpoint"),
                }
            }
            Self::Malformed(reason) => {
                write!(
                    f,
                    "the answer is not a NEAR node's: {reason}; check that the URL is that of a NEAR JSON-RPC endpoint"
                )
            }
            Self::Node(error) => error.fmt(f),
        }
    }
}

impl fmt::Display for NodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.cause.is_empty() { "an error without a name" } else { &self.cause })?;
        f.write_str(match self.cause.as_str() {
            "GARBAGE_COLLECTED_BLOCK" | "UNKNOWN_BLOCK" | "UNKNOWN_CHUNK" => {
                "; the node no longer holds this block or never did: add an archival endpoint"
            }
            "NO_SYNCED_BLOCKS" | "NOT_SYNCED_YET" => "; the node is still syncing: wait for it",
            "DOES_NOT_TRACK_SHARD" | "UNAVAILABLE_SHARD" => {
                "; the node does not follow this shard: use another endpoint"
            }
            "METHOD_NOT_FOUND" => "; the endpoint does not offer this method: use another endpoint",
            _ => "",
        })
    }
}

/// A text that an endpoint wrote for people: its beginning, on one line.
pub(crate) fn bounded(text: &str) -> String {
    let mut short: String = text.chars().take(MESSAGE_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
}

/// The name of a variant of nearcore's, such as `"Expired"` or `{"NotEnoughBalance": {…}}`; nothing else of it.
pub(crate) fn variant(value: &Value) -> &str {
    let name = match value {
        Value::String(name) => Some(name),
        Value::Object(fields) => fields.keys().next().filter(|_| fields.len() == 1),
        _ => None,
    };
    name.filter(|name| is_name(name)).map_or("of an unknown kind", String::as_str)
}

fn is_name(text: &str) -> bool {
    (1..=NAME_CHARS).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
}

/// A request's bytes.
pub(crate) fn request(method: &str, params: &impl Serialize) -> Bytes {
    #[derive(Serialize)]
    struct Request<'a, P> {
        jsonrpc: &'static str,
        id: &'static str,
        method: &'a str,
        params: &'a P,
    }
    let request = Request { jsonrpc: "2.0", id: ID, method, params };
    // Our parameters are texts, numbers and lists of them: they always serialise.
    serde_json::to_vec(&request).unwrap_or_default().into()
}

#[derive(Deserialize)]
struct Answer<'a, T> {
    #[serde(borrow, default)]
    id: Option<Cow<'a, str>>,
    #[serde(default = "Option::default")]
    result: Option<T>,
    error: Option<ErrorObject>,
    #[serde(borrow, default)]
    jsonrpc: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
struct ErrorObject {
    cause: Option<Cause>,
    code: Option<i64>,
    #[serde(default)]
    message: String,
    #[serde(default)]
    data: Value,
}

#[derive(Deserialize)]
struct Cause {
    name: String,
    #[serde(default)]
    info: Value,
}

/// What an answer says.
pub(crate) fn read<T: DeserializeOwned>(response: &Response) -> Result<T, Fault> {
    match serde_json::from_slice::<Answer<'_, T>>(&response.body) {
        Ok(Answer { id: Some(id), .. }) if id != ID => Err(Fault::Malformed("it answers another request than ours")),
        Ok(Answer { error: Some(error), jsonrpc, .. }) => {
            let ErrorObject { cause, code, message, data } = error;
            let (cause, info) = match cause.filter(|cause| is_name(&cause.name)) {
                Some(Cause { name, info }) => (name, info),
                // Other protocols have an object of that name too, and whatever they like in it.
                None if jsonrpc.as_deref() == Some("2.0") && code.is_some() => (bounded(&message), Value::Null),
                None => (String::new(), Value::Null),
            };
            Err(Fault::Node(NodeError { cause, info, data }))
        }
        Ok(Answer { result: Some(result), .. }) => Ok(result),
        _ if response.status != 200 => {
            Err(Fault::Status { status: response.status, retry_after: response.retry_after })
        }
        Ok(_) => Err(Fault::Malformed("it has neither result nor error")),
        Err(error) => Err(Fault::Malformed(shape(&error))),
    }
}

/// What is wrong with some JSON. serde's own words repeat parts of it.
pub(crate) fn shape(error: &serde_json::Error) -> &'static str {
    match error.classify() {
        Category::Eof => "it ends before its JSON does",
        Category::Syntax | Category::Io => "it is not JSON",
        Category::Data => "its JSON is of another shape",
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn response(status: u16, body: &str) -> Response {
        Response { status, retry_after: None, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    #[test]
    fn the_body_is_judged_before_the_status() {
        assert_eq!(read::<u8>(&response(500, r#"{"result":7}"#)), Ok(7));
        let node = read::<u8>(&response(408, r#"{"error":{"cause":{"name":"TIMEOUT_ERROR"},"data":"Timeout"}}"#));
        assert!(node.unwrap_err().caused_by(&["TIMEOUT_ERROR"]).is_some());
        assert!(matches!(read::<u8>(&response(429, "slow down")), Err(Fault::Status { status: 429, .. })));
        assert!(matches!(read::<u8>(&response(200, "<html>")), Err(Fault::Malformed(_))));
        assert!(matches!(read::<u8>(&response(200, "{}")), Err(Fault::Malformed(_))));
    }

    #[test]
    fn only_faults_of_the_endpoint_send_the_question_elsewhere() {
        let node = |cause: &str| {
            read::<u8>(&response(200, &json!({"error": {"cause": {"name": cause}}}).to_string())).unwrap_err()
        };
        for cause in ["INTERNAL_ERROR", "NO_SYNCED_BLOCKS", "UNAVAILABLE_SHARD"] {
            assert!(node(cause).is_endpoints(), "{cause}");
        }
        for cause in ["INVALID_TRANSACTION", "UNKNOWN_TRANSACTION", "UNKNOWN_ACCOUNT", "PARSE_ERROR", "TIMEOUT_ERROR"] {
            assert!(!node(cause).is_endpoints(), "{cause}");
        }
    }

    /// Everything that an error says, to people and to programmers.
    fn told(status: u16, body: &str) -> String {
        #[derive(Debug, Deserialize)]
        struct Shape {
            _number: u64,
        }
        let fault = read::<Shape>(&response(status, body)).unwrap_err();
        format!("{fault} {fault:?}")
    }

    #[test]
    fn no_error_repeats_an_answer_that_is_not_json_rpcs() {
        const SECRET: &str = "AKIAIOSFODNN7EXAMPLE";
        let bodies = [
            SECRET.to_owned(),
            format!("<html><body>{SECRET}</body></html>"),
            json!(SECRET).to_string(),
            json!([SECRET]).to_string(),
            json!({ SECRET: SECRET }).to_string(),
            json!({"result": SECRET}).to_string(),
            json!({"result": {"_number": SECRET}}).to_string(),
            json!({"id": SECRET, "result": 1}).to_string(),
            json!({"error": SECRET}).to_string(),
            json!({"error": {"message": SECRET}}).to_string(),
            json!({"error": {"message": SECRET, "code": 403, "status": SECRET}}).to_string(),
            json!({"error": {"cause": {"name": format!("see {SECRET}"), "info": SECRET}}}).to_string(),
            json!({"jsonrpc": "2.0", "id": ID, "error": {"code": -32000, "message": "Server error", "data": SECRET,
                "cause": {"name": "HANDLER_ERROR", "info": {"error_message": SECRET}}}})
            .to_string(),
            json!({"jsonrpc": "2.0", "error": {"code": -32000, "message": "no", "data": {"text": SECRET}}}).to_string(),
        ];
        for body in bodies {
            for status in [200, 400, 429, 500] {
                let told = told(status, &body);
                assert!(!told.contains(SECRET), "{body}: {told}");
            }
        }
    }

    #[test]
    fn a_message_of_json_rpc_is_repeated_where_nothing_else_names_the_error_and_bounded() {
        let body = |message: &str| json!({"jsonrpc": "2.0", "error": {"code": -429, "message": message}}).to_string();
        assert!(told(200, &body("no credits\nleft")).starts_with("no credits left "));
        let long = told(200, &body(&"x".repeat(10_000)));
        assert!(long.contains(&format!("{}…", "x".repeat(200))) && !long.contains(&"x".repeat(201)), "{long}");
    }

    #[test]
    fn of_what_nearcore_may_come_to_say_the_name_is_repeated() {
        assert_eq!(variant(&json!("Expired")), "Expired");
        assert_eq!(variant(&json!({"NewRefusal": {"text": "hidden"}})), "NewRefusal");
        for other in [json!("some hidden text"), json!({"a": 1, "b": 2}), json!(["hidden"]), json!("x".repeat(65))] {
            assert_eq!(variant(&other), "of an unknown kind");
        }
    }

    proptest! {
        #[test]
        fn no_answer_whatsoever_panics(status: u16, body in proptest::collection::vec(any::<u8>(), 0..300)) {
            let response = Response { status, retry_after: None, body: body.into() };
            if let Err(fault) = read::<Value>(&response) {
                prop_assert!(fault.to_string().len() < 2000);
            }
        }
    }
}
