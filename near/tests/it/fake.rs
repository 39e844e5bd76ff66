//! A transport that answers what it is told, and remembers what it was asked.

use bytes::Bytes;
use futures_util::future::BoxFuture;
use nearbench_near::{
    Client, Endpoint,
    transport::{Response, Transport, TransportError},
};
use serde_json::Value;
use std::{
    sync::{Arc, Mutex},
    time::Duration,
};

type Answer = Result<Response, TransportError>;

pub(crate) struct Fake {
    answer: Mutex<Answer>,
    asked: Mutex<Vec<Value>>,
}

impl Fake {
    pub(crate) fn new(answer: Answer) -> Arc<Self> {
        Arc::new(Self { answer: Mutex::new(answer), asked: Mutex::default() })
    }

    pub(crate) fn answers(&self, answer: Answer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// Takes the requests heard so far.
    pub(crate) fn asked(&self) -> Vec<Value> {
        std::mem::take(&mut *self.asked.lock().unwrap())
    }
}

impl Transport for Fake {
    fn call(&self, request: Bytes, _timeout: Duration) -> BoxFuture<'_, Answer> {
        self.asked.lock().unwrap().push(serde_json::from_slice(&request).unwrap());
        let answer = self.answer.lock().unwrap().clone();
        Box::pin(async { answer })
    }
}

pub(crate) fn ok(status: u16, body: impl Into<Bytes>) -> Answer {
    Ok(Response { status, retry_after: None, body: body.into() })
}

/// A client of these, the first preferred.
pub(crate) fn client(fakes: &[&Arc<Fake>]) -> Client {
    let endpoint = |(priority, fake): (usize, &&Arc<Fake>)| Endpoint {
        name: format!("endpoint-{priority}").into(),
        priority: priority as u32,
        transport: Arc::clone(*fake) as Arc<dyn Transport>,
    };
    // Given in the wrong order on purpose.
    Client::new(fakes.iter().enumerate().map(endpoint).rev().collect(), Duration::from_secs(5))
}
