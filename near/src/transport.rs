//! The border to a chain: bytes in, bytes out.
//!
//! HTTP is one way to cross it; a chain in the same process is another. Nothing here knows what the bytes mean.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use std::time::Duration;

/// An answer, whatever its status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The `Retry-After` header in seconds, if there was one.
    pub retry_after: Option<Duration>,
    /// The body.
    pub body: Bytes,
}

/// No answer at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TransportError {
    /// Nobody there, or no route, name or TLS.
    #[error("cannot connect: {0}")]
    Connect(String),
    /// It broke off.
    #[error("the connection broke: {0}")]
    Broken(String),
    /// It took too long.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// It was larger than we take.
    #[error("the answer is larger than {0} bytes")]
    TooLarge(usize),
}

/// A way to one endpoint of a chain.
pub trait Transport: Send + Sync + 'static {
    /// Posts a JSON-RPC request and waits for its answer, at most `timeout`.
    fn call(&self, request: Bytes, timeout: Duration) -> BoxFuture<'_, Result<Response, TransportError>>;
}
