//! JSON-RPC: the shape of requests, and what an answer is: a result, a node's error, or no answer worth the name.
//!
//! An answer is judged by its JSON body first and by its HTTP status second: nodes send errors with status 200, 400,
//! 408, 422 and 500, and gateways send statuses without JSON. Nothing here knows a method.

use crate::transport::{Response, TransportError};
use bytes::Bytes;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;
use std::{borrow::Cow, fmt, sync::Arc, time::Duration};

/// What every request is called. Their connection tells requests apart; an answer by another name is not ours.
const ID: &str = "nearbench";
/// So much of an unexpected answer is repeated in an error.
const SNIPPET_CHARS: usize = 200;

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
        /// The head of the body.
        text: String,
    },
    /// An answer that is not what nearcore's node sends.
    Malformed(String),
    /// The node's own error.
    Node(NodeError),
}

/// An error that a node answered with (nearcore, `RpcError`).
#[derive(Clone, Debug, PartialEq)]
pub struct NodeError {
    /// The cause's name, such as `UNKNOWN_BLOCK`.
    pub cause: String,
    /// The cause's details.
    pub info: Value,
    /// The details of a refused transaction, or a text for people.
    pub data: Value,
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
            Self::Status { status, retry_after, text } => {
                write!(f, "HTTP status {status}")?;
                if !text.is_empty() {
                    write!(f, " ({text})")?;
                }
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
        f.write_str(&self.cause)?;
        match &self.data {
            Value::Null => {}
            Value::String(text) => write!(f, ": {}", snippet(text))?,
            other => write!(f, ": {}", snippet(&other.to_string()))?,
        }
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

fn snippet(text: &str) -> String {
    let mut short: String = text.chars().take(SNIPPET_CHARS).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if short.len() < text.len() {
        short.push('…');
    }
    short
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
}

#[derive(Deserialize)]
struct ErrorObject {
    cause: Option<Cause>,
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
    let refused = || Fault::Status {
        status: response.status,
        retry_after: response.retry_after,
        text: snippet(String::from_utf8_lossy(&response.body[..response.body.len().min(4 * SNIPPET_CHARS)]).trim()),
    };
    match serde_json::from_slice::<Answer<'_, T>>(&response.body) {
        Ok(Answer { id: Some(id), .. }) if id != ID => {
            Err(Fault::Malformed(format!("it answers request {:?}, not ours", snippet(&id))))
        }
        Ok(Answer { error: Some(error), .. }) => {
            let (cause, info) = match error.cause {
                Some(cause) => (cause.name, cause.info),
                None => (error.message, Value::Null),
            };
            Err(Fault::Node(NodeError { cause, info, data: error.data }))
        }
        Ok(Answer { result: Some(result), .. }) => Ok(result),
        _ if response.status != 200 => Err(refused()),
        Ok(_) => Err(Fault::Malformed("it has neither result nor error".to_owned())),
        Err(e) => Err(Fault::Malformed(snippet(&e.to_string()))),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

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
        let node =
            |cause: &str| Fault::Node(NodeError { cause: cause.to_owned(), info: Value::Null, data: Value::Null });
        for cause in ["INTERNAL_ERROR", "NO_SYNCED_BLOCKS", "UNAVAILABLE_SHARD"] {
            assert!(node(cause).is_endpoints(), "{cause}");
        }
        for cause in ["INVALID_TRANSACTION", "UNKNOWN_TRANSACTION", "UNKNOWN_ACCOUNT", "PARSE_ERROR", "TIMEOUT_ERROR"] {
            assert!(!node(cause).is_endpoints(), "{cause}");
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
