//! The endpoints of a chain, and which of them is asked.
//!
//! Reads go to the preferred endpoint and on to the next when one fails. Sends stay on one endpoint until it fails, because
//! transactions of one key that travel over two may overtake each other and die. That choice is made in `order` and
//! `failed` alone. What requests and answers mean is not its business.

use crate::{
    rpc::{self, Fault, RpcError},
    transport::Transport,
};
use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

/// A way to the chain.
#[derive(Clone)]
pub struct Endpoint {
    /// How errors and metrics call it. Holds no secret.
    pub name: Arc<str>,
    /// Lower is preferred.
    pub priority: u32,
    /// The way itself.
    pub transport: Arc<dyn Transport>,
}

pub(crate) struct Pool {
    /// By priority.
    endpoints: Vec<Endpoint>,
    /// What a request that does not wait may take.
    pub(crate) timeout: Duration,
    /// The endpoint that sends go to.
    pinned: AtomicUsize,
}

impl Pool {
    pub(crate) fn new(mut endpoints: Vec<Endpoint>, timeout: Duration) -> Self {
        endpoints.sort_by_key(|endpoint| endpoint.priority);
        Self { endpoints, timeout, pinned: AtomicUsize::new(0) }
    }

    /// The endpoints in the order in which a read tries them.
    pub(crate) fn order(&self) -> Range<usize> {
        0..self.endpoints.len()
    }

    /// Notes that a send on this endpoint failed: the next one takes over.
    fn failed(&self, endpoint: usize) {
        let next = (endpoint + 1) % self.endpoints.len().max(1);
        // Of several sends that failed on it, one moves the pin.
        let _ = self.pinned.compare_exchange(endpoint, next, Ordering::AcqRel, Ordering::Acquire);
    }

    /// An endpoint's name.
    pub(crate) fn name(&self, endpoint: usize) -> Arc<str> {
        self.endpoints.get(endpoint).map_or_else(|| "no endpoint".into(), |endpoint| endpoint.name.clone())
    }

    pub(crate) fn error(&self, endpoint: usize, method: &'static str, fault: Fault) -> RpcError {
        RpcError { endpoint: self.name(endpoint), method, fault }
    }

    /// Asks one endpoint.
    pub(crate) async fn call<T: DeserializeOwned>(
        &self,
        endpoint: usize,
        method: &'static str,
        request: Bytes,
        timeout: Duration,
    ) -> Result<T, RpcError> {
        let result = match self.endpoints.get(endpoint) {
            None => Err(Fault::NoEndpoint),
            Some(endpoint) => match endpoint.transport.call(request, timeout).await {
                Ok(response) => rpc::read(&response),
                Err(error) => Err(Fault::Transport(error)),
            },
        };
        result.map_err(|fault| self.error(endpoint, method, fault))
    }

    /// Asks the endpoints in their order until one answers; the first one's error if none does.
    pub(crate) async fn read<T: DeserializeOwned>(
        &self,
        method: &'static str,
        params: &impl Serialize,
        timeout: Duration,
    ) -> Result<T, RpcError> {
        let request = rpc::request(method, params);
        let mut first = None;
        for endpoint in self.order() {
            match self.call(endpoint, method, request.clone(), timeout).await {
                Err(error) if error.fault.is_endpoints() => {
                    tracing::debug!(%error, "endpoint failed");
                    first.get_or_insert(error);
                }
                answer => return answer,
            }
        }
        Err(first.unwrap_or_else(|| self.error(0, method, Fault::NoEndpoint)))
    }

    /// Sends to the endpoint in use.
    pub(crate) async fn send<T: DeserializeOwned>(
        &self,
        method: &'static str,
        request: Bytes,
        timeout: Duration,
    ) -> Result<T, RpcError> {
        let endpoint = self.pinned.load(Ordering::Acquire);
        let answer = self.call(endpoint, method, request, timeout).await;
        if let Err(error) = &answer
            && error.fault.is_endpoints()
        {
            tracing::debug!(%error, "endpoint failed");
            self.failed(endpoint);
        }
        answer
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.endpoints.iter().map(|endpoint| &endpoint.name)).finish()
    }
}
