//! The load over HTTP, as clients of the transfer API would send it: open loop, with keep-alive, each transfer under its
//! number as Idempotency-Key.
//!
//! A request without an answer is asked again under the same key, so that it is known in the end what was accepted. What
//! stays without an answer to the end is told, and the store knows.

use crate::{MAX_STEP, Offer, nanos_since};
use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::{
    Request, StatusCode,
    client::conn::http1::{SendRequest, handshake},
    header,
};
use hyper_util::rt::TokioIo;
use nearbench_core::{
    Account,
    backoff::Backoff,
    measure::{Recorder, TIMEOUT},
    schedule::Arrival,
};
use rand::Rng;
use serde_json::json;
use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{net::TcpStream, sync::Semaphore, time::Instant};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Bytes of an answer, at most.
const MAX_ANSWER: usize = 64 << 10;
/// Before a request without an answer is asked again.
const AGAIN: Backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(2));

/// How the API is reached.
#[derive(Clone)]
pub struct Target {
    /// The workers' addresses.
    pub workers: Vec<SocketAddr>,
    /// What the `Authorization` header says. A secret.
    pub authorization: Arc<str>,
    /// The token that is transferred.
    pub token: Account,
    /// How long a request may take, connecting included.
    pub timeout: Duration,
    /// Connections to each worker, at most.
    pub connections: u32,
    /// Connections in all, at most.
    pub max_sockets: u32,
    /// How long those that have no answer at the end are asked for.
    pub grace: Duration,
}

/// One of the workers.
struct Worker {
    address: SocketAddr,
    outstanding: AtomicUsize,
    places: Semaphore,
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

struct Shared {
    target: Target,
    workers: Vec<Worker>,
    sockets: Semaphore,
    offer: Offer,
    start: Instant,
    /// Cancelled when nothing is asked for any more.
    over: CancellationToken,
    unanswered: Mutex<Vec<Arrival>>,
}

/// What a request came to.
enum Answer {
    Accepted,
    Rejected,
    /// A status that no retry mends.
    Refused(StatusCode),
}

/// Why there is no answer.
enum Silence {
    /// Nothing was sent.
    Unsent(&'static str),
    /// It may have been accepted.
    Unknown(&'static str),
}

/// Sends every arrival to the API when it is due, until the schedule ends or `stop` is cancelled. Returns those of which
/// nobody said whether they were accepted.
pub async fn drive_http(
    target: Target,
    arrivals: impl Iterator<Item = Arrival>,
    offer: &Offer,
    start: Instant,
    recorder: Arc<impl AsRef<Mutex<Recorder>> + Send + Sync + 'static>,
    stop: &CancellationToken,
) -> Vec<Arrival> {
    let worker = |address: &SocketAddr| Worker {
        address: *address,
        outstanding: AtomicUsize::new(0),
        places: Semaphore::new(target.connections.max(1) as usize),
        idle: Mutex::default(),
    };
    let shared = Arc::new(Shared {
        workers: target.workers.iter().map(worker).collect(),
        sockets: Semaphore::new(target.max_sockets.max(1) as usize),
        offer: offer.clone(),
        start,
        over: CancellationToken::new(),
        unanswered: Mutex::default(),
        target,
    });
    let tasks = TaskTracker::new();
    let mut arrivals = arrivals.peekable();
    let mut due: Vec<Arrival> = Vec::new();
    while let Some(next) = arrivals.peek() {
        let at = start + Duration::from_nanos(next.intended_ns);
        if Instant::now() < at {
            tokio::select! {
                () = tokio::time::sleep_until(at) => {}
                () = stop.cancelled() => break,
            }
        } else if stop.is_cancelled() {
            break;
        }
        let now_ns = nanos_since(start);
        due.clear();
        while let Some(arrival) = arrivals.next_if(|arrival| arrival.intended_ns <= now_ns) {
            due.push(arrival);
            if due.len() == MAX_STEP {
                break;
            }
        }
        offer.drop_beyond_bounds(&mut due, recorder.as_ref().as_ref());
        for arrival in &due {
            tasks.spawn(send(shared.clone(), *arrival, recorder.clone()));
        }
        tokio::task::yield_now().await;
    }
    tasks.close();
    if tokio::time::timeout(shared.target.grace, tasks.wait()).await.is_err() {
        shared.over.cancel();
        tasks.wait().await;
    }
    std::mem::take(&mut *lock(&shared.unanswered))
}

/// One transfer, from its being due to the answer.
async fn send(
    shared: Arc<Shared>,
    arrival: Arrival,
    recorder: Arc<impl AsRef<Mutex<Recorder>> + Send + Sync + 'static>,
) {
    let recorder = || recorder.as_ref().as_ref().lock().unwrap_or_else(PoisonError::into_inner);
    let Arrival { n, phase, intended_ns } = arrival;
    let body: Bytes = json!({
        "receiver_id": shared.offer.receiver(n),
        "amount": shared.offer.amount.to_string(),
        "token_id": shared.target.token,
    })
    .to_string()
    .into();
    let mut backoff = AGAIN;
    let (mut sent, mut unknown) = (false, false);
    loop {
        let mut on_sending = || {
            if !std::mem::replace(&mut sent, true) {
                recorder().sent(phase, intended_ns, nanos_since(shared.start));
            }
        };
        let asked = tokio::time::timeout(shared.target.timeout, shared.ask(n, body.clone(), &mut on_sending));
        let answer = match shared.over.run_until_cancelled(asked).await {
            None => break,
            Some(Err(_)) => Err(Silence::Unknown(TIMEOUT)),
            Some(Ok(answer)) => answer,
        };
        match answer {
            Ok(Answer::Accepted) => {
                recorder().accepted(phase, intended_ns, nanos_since(shared.start));
                return;
            }
            // What an earlier request under this key came to, only the store knows then.
            Ok(Answer::Rejected) if !unknown => return recorder().rejected(phase, intended_ns),
            Ok(Answer::Rejected) => {}
            Ok(Answer::Refused(status)) => {
                let mut recorder = recorder();
                recorder.errors(format!("api_{}", status.as_u16()), 1);
                return recorder.rejected(phase, intended_ns);
            }
            Err(Silence::Unsent(label)) => recorder().errors(label, 1),
            Err(Silence::Unknown(label)) => {
                recorder().errors(label, 1);
                unknown |= sent;
            }
        }
        let pause = tokio::time::sleep(backoff.step(rand::rng().random()));
        if shared.over.run_until_cancelled(pause).await.is_none() {
            break;
        }
    }
    if sent {
        lock(&shared.unanswered).push(arrival);
    }
}

impl Shared {
    /// The worker with less to do of two random ones.
    fn choose(&self) -> &Worker {
        let mut rng = rand::rng();
        let mut one = || &self.workers[rng.random_range(0..self.workers.len())];
        let (a, b) = (one(), one());
        if a.outstanding.load(Ordering::Relaxed) <= b.outstanding.load(Ordering::Relaxed) { a } else { b }
    }

    async fn ask(&self, n: u64, body: Bytes, on_sending: &mut (dyn FnMut() + Send)) -> Result<Answer, Silence> {
        let worker = self.choose();
        let _outstanding = Outstanding::of(worker);
        let closed = |_| Silence::Unsent("closed");
        let _place = worker.places.acquire().await.map_err(closed)?;
        let _socket = self.sockets.acquire().await.map_err(closed)?;
        let mut connection = worker.connection().await?;
        let request = Request::post("/v1/transfers")
            .header(header::HOST, worker.address.to_string())
            .header(header::CONTENT_TYPE, "application/json")
            .header(header::AUTHORIZATION, &*self.target.authorization)
            .header("idempotency-key", n.to_string())
            .body(Full::new(body))
            .map_err(|_| Silence::Unsent("request"))?;
        on_sending();
        let answer = connection.send_request(request).await.map_err(|_| Silence::Unknown("broken"))?;
        let status = answer.status();
        // The connection is free once the answer is read whole.
        let whole = Limited::new(answer.into_body(), MAX_ANSWER).collect().await;
        if whole.is_ok() {
            lock(&worker.idle).push(connection);
        }
        Ok(match status {
            StatusCode::OK | StatusCode::ACCEPTED => Answer::Accepted,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE => Answer::Rejected,
            status if status.is_server_error() => return Err(Silence::Unknown("http_5xx")),
            status => Answer::Refused(status),
        })
    }
}

impl Worker {
    /// A connection that is kept alive, or a new one.
    async fn connection(&self) -> Result<SendRequest<Full<Bytes>>, Silence> {
        loop {
            let Some(mut idle) = lock(&self.idle).pop() else { break };
            if !idle.is_closed() && idle.ready().await.is_ok() {
                return Ok(idle);
            }
        }
        let unreachable = |_| Silence::Unsent("connect");
        let stream = TcpStream::connect(self.address).await.map_err(unreachable)?;
        // Small requests go at once.
        let _ = stream.set_nodelay(true);
        let (requests, connection) = handshake(TokioIo::new(stream)).await.map_err(|_| Silence::Unsent("connect"))?;
        // It ends when the last request over it does, or the worker closes it: whoever asks is told.
        tokio::spawn(async move { drop(connection.await) });
        Ok(requests)
    }
}

/// A request under way.
struct Outstanding<'a>(&'a Worker);

impl<'a> Outstanding<'a> {
    fn of(worker: &'a Worker) -> Self {
        worker.outstanding.fetch_add(1, Ordering::Relaxed);
        Self(worker)
    }
}

impl Drop for Outstanding<'_> {
    fn drop(&mut self) {
        self.0.outstanding.fetch_sub(1, Ordering::Relaxed);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
