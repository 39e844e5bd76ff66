//! A transport that answers what it is told, and remembers what it was asked.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use nearbench_core::plan::Breaker;
use nearbench_near::{
    Client, Endpoint,
    transport::{Response, Transport, TransportError},
};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::sync::Semaphore;

pub(crate) const BREAKER: Breaker =
    Breaker { timeout_ms: 5000, error_threshold_percentage: 50, reset_timeout_ms: 30_000 };

type Answer = Result<Response, TransportError>;

pub(crate) struct Fake {
    answer: Mutex<Answer>,
    asked: Mutex<Vec<Value>>,
    /// Answers take a permit each, once they are held.
    gate: Mutex<Option<Arc<Semaphore>>>,
}

impl Fake {
    pub(crate) fn new(answer: Answer) -> Arc<Self> {
        Arc::new(Self { answer: Mutex::new(answer), asked: Mutex::default(), gate: Mutex::default() })
    }

    pub(crate) fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// From now on every answer waits for a permit, which it uses up, and is what is then to be answered.
    pub(crate) fn hold(&self) -> Arc<Semaphore> {
        self.gate.lock().unwrap().insert(Arc::new(Semaphore::new(0))).clone()
    }

    /// How many requests were heard since they were last taken.
    pub(crate) fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }

    /// Takes the requests heard so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Transport for Fake {
    fn call(&self, request: Bytes, _timeout: Duration) -> BoxFuture<'_, Answer> {
        self.asked.lock().unwrap().push(serde_json::from_slice(&request).unwrap());
        let gate = self.gate.lock().unwrap().clone();
        Box::pin(async move {
            if let Some(gate) = gate {
                gate.acquire().await.unwrap().forget();
            }
            self.answer.lock().unwrap().clone()
        })
    }
}

pub(crate) fn ok(status: u16, body: impl Into<Bytes>) -> Answer {
    Ok(Response { status, retry_after: None, body: body.into() })
}

/// A client of these, the first preferred.
pub(crate) fn client(fakes: &[&Arc<Fake>]) -> Client {
    client_of(fakes, &BREAKER)
}

pub(crate) fn client_of(fakes: &[&Arc<Fake>], breaker: &Breaker) -> Client {
    let endpoint = |(priority, fake): (usize, &&Arc<Fake>)| Endpoint {
        name: format!("endpoint-{priority}").into(),
        priority: priority as u32,
        max_requests_per_second: None,
        transport: Arc::clone(*fake) as Arc<dyn Transport>,
    };
    // Given in the wrong order on purpose.
    Client::new(fakes.iter().enumerate().map(endpoint).rev().collect(), breaker)
}
