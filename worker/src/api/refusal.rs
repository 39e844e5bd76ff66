//! What a request is refused with: always JSON, `{"error", "code", "details"}`.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use nearbench_store::StoreError;
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};
use std::time::Duration;

macro_rules! codes {
    ($($(#[$doc:meta])* $code:ident = $status:literal $name:literal,)*) => {
        /// Why a request was refused.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Code { $($(#[$doc])* $code,)* }

        impl Code {
            pub(crate) fn status(self) -> u16 {
                match self { $(Self::$code => $status,)* }
            }

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$code => $name,)* }
            }
        }
    };
}

codes! {
    /// The body is no JSON of the shape that is asked for.
    Malformed = 400 "malformed",
    /// A parameter of the query is unknown, twice there, or cannot be read.
    BadQuery = 400 "bad_query",
    KeyMissing = 400 "idempotency_key_missing",
    KeyInvalid = 400 "idempotency_key_invalid",
    Unauthorized = 401 "unauthorized",
    MissingScope = 403 "missing_scope",
    CapExceeded = 403 "daily_cap_exceeded",
    /// Without tokens, only who calls this machine by its own name is answered.
    HostRefused = 403 "host_refused",
    NotFound = 404 "not_found",
    MethodNotAllowed = 405 "method_not_allowed",
    BodyTooSlow = 408 "body_too_slow",
    KeyConflict = 409 "idempotency_conflict",
    WrongState = 409 "wrong_state",
    TooLarge = 413 "too_large",
    NotJson = 415 "not_json",
    BadAccount = 422 "bad_account",
    BadAmount = 422 "bad_amount",
    BadMemo = 422 "bad_memo",
    UnknownToken = 422 "unknown_token",
    SelfTransfer = 422 "self_transfer",
    RateLimited = 429 "rate_limited",
    BacklogFull = 503 "backlog_full",
    StoreUnavailable = 503 "store_unavailable",
    /// No transfer is taken now, whatever is asked for.
    Closed = 503 "closed",
}

/// The JSON of a refusal.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "Error")]
pub(crate) struct ErrorView {
    /// For people.
    error: String,
    /// For programs.
    code: String,
    /// What belongs to the code.
    details: Map<String, Value>,
}

/// A refusal.
#[derive(Debug)]
pub(crate) struct Refusal(Box<Inner>);

#[derive(Debug)]
struct Inner {
    code: Code,
    error: String,
    details: Map<String, Value>,
    retry_after: Option<Duration>,
}

impl Refusal {
    pub(crate) fn new(code: Code, error: impl Into<String>) -> Self {
        Self(Box::new(Inner { code, error: error.into(), details: Map::new(), retry_after: None }))
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.0.details.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn after(mut self, pause: Duration) -> Self {
        self.0.retry_after = Some(pause);
        self
    }

    /// Whether the same may be accepted later.
    pub(crate) fn is_for_now(&self) -> bool {
        matches!(self.0.code.status(), 429 | 503)
    }

    #[cfg(test)]
    pub(crate) fn code(&self) -> Code {
        self.0.code
    }

    /// What a batch says of one of its transfers.
    pub(crate) fn view(self) -> ErrorView {
        let Inner { code, error, details, .. } = *self.0;
        ErrorView { error, code: code.name().to_owned(), details }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        // What it says of files and hosts is the operator's business.
        tracing::warn!(%error, "a request finds no store");
        Self::new(Code::StoreUnavailable, "the store cannot be reached; ask again, with the same key")
            .after(Duration::from_secs(1))
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let (code, retry_after) = (self.0.code, self.0.retry_after);
        let mut response = json(code.status(), &self.view());
        let headers = response.headers_mut();
        if let Some(pause) = retry_after {
            let seconds = pause.as_millis().div_ceil(1000).max(1);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(u64::try_from(seconds).unwrap_or(u64::MAX)));
        }
        if code == Code::Unauthorized {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

/// A response in JSON.
pub(crate) fn json(status: u16, value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).unwrap_or_default();
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
