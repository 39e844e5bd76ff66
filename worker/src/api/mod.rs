//! The transfer API: what clients ask over HTTP, answered from the store's records.
//!
//! A request is checked whole before anything is done, and is in the store before it is answered. Requests that arrive
//! together share one step of the store. Nothing here knows the chain: that is the engine's, in this process or another.

mod auth;
mod body;
mod intake;
mod listen;
mod query;
mod refusal;
mod routes;
mod serve;
mod time;
mod view;
mod wait;

pub use auth::{Grant, Scope, Tokens, TokensError};
pub use listen::{ListenError, may_listen};
pub use serve::{ServeError, serve};
pub use view::Keys;

use crate::spool::Spooled;
use auth::Client;
use axum::{
    Router,
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderName, HeaderValue, header, request::Parts},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post},
};
use body::{Order, check_key};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use intake::Intake;
use nearbench_core::{Account, Hash, Transfer, TransferId, TransferState};
use nearbench_store::{Accepted, Changed, Cursor, Filter, Record, Records, Submission};
use query::Query;
use rand::Rng;
use refusal::{Code, Refusal, json};
use routes::{Operation, ROUTES};
use std::{
    sync::{Arc, LazyLock},
    time::{Duration, Instant},
};
use time::Time;
use tokio::sync::Semaphore;
use view::{
    BatchView, JobsView, LatencyView, LegacyBatchView, LegacyView, ListView, ResultView, SpoolView, TransferView,
};
use wait::{Until, Waits};

/// Transfers in a batch, at most.
pub const MAX_BATCH: usize = 1000;

/// Batches whose bodies are read at once: each may hold as much as a batch may.
const BATCHES_AT_ONCE: usize = 16;

/// Where a transfer stands in the load's schedule, and on its clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its number; `u64::MAX` where it is not in the schedule.
    pub sequence: u64,
    /// The index of the phase it arrived in.
    pub phase: u16,
    /// When it was meant to arrive, in nanoseconds since the load's start.
    pub intended_ns: u64,
    /// When it came, likewise.
    pub sent_ns: u64,
}

/// Gives the place in the schedule of what a client asks for under a key.
pub type Stamper = dyn Fn(&str, Option<&str>) -> Stamp + Send + Sync;

/// Gives metrics in the format that an `Accept` header asks for, and its media type.
pub type MetricsText = dyn Fn(Option<&str>) -> (&'static str, String) + Send + Sync;

/// How the API works. A field that is no bound or switch has no default.
pub struct Settings {
    /// What transfer ids are made with: the same in every worker of a fleet, and from run to run.
    pub namespace: [u8; 32],
    /// The token that is transferred.
    pub token: Account,
    /// Who pays, where it is known: no receiver.
    pub payer: Option<Account>,
    /// Who may ask; without it, whoever reaches the service.
    pub tokens: Option<Tokens>,
    /// Transfers in the queue, at most: past it, clients are asked to come again.
    pub max_depth: u64,
    /// Bytes of a body, at most.
    pub max_body: usize,
    /// Bytes of a batch's body, at most.
    pub max_batch_body: usize,
    /// Connections, at most.
    pub max_connections: usize,
    /// How long a connection may be idle, or take for the head of a request.
    pub head_timeout: Duration,
    /// How long a body may take.
    pub body_timeout: Duration,
    /// How long requests under way may take once the service is told to end.
    pub grace: Duration,
    /// Whether `/v1/transfer`, `/transfer` and `/send-ft` do without a key: a request that is repeated then pays twice.
    pub legacy_without_key: bool,
    /// The schedule: of a client's name and its key.
    pub stamp: Arc<Stamper>,
    /// What the process waits for before it can work; nothing, once it can.
    pub waiting_for: Arc<dyn Fn() -> Vec<String> + Send + Sync>,
    /// Why no transfer is taken now, where that is so.
    pub closed: Arc<dyn Fn() -> Option<&'static str> + Send + Sync>,
    /// Hears how many transfers were answered with 429 or 503.
    pub turned_away: Arc<dyn Fn(usize) + Send + Sync>,
    /// How the account's keys stand.
    pub keys: Arc<dyn Fn() -> Keys + Send + Sync>,
    /// How the spool stands, where there is one.
    pub spooled: Option<Arc<dyn Fn() -> Spooled + Send + Sync>>,
    /// Hears how many transfers were taken that are new.
    pub taken: Arc<dyn Fn(usize) + Send + Sync>,
    /// What `/metrics` answers to an `Accept` header: a media type and a text.
    pub metrics: Arc<MetricsText>,
}

impl Settings {
    /// The usual bounds, no tokens, and nothing to wait for.
    pub fn new(namespace: [u8; 32], token: Account) -> Self {
        let start = Instant::now();
        let stamp = move |_: &str, _: Option<&str>| {
            let now = u64::try_from(start.elapsed().as_nanos()).unwrap_or(u64::MAX);
            Stamp { sequence: u64::MAX, phase: 0, intended_ns: now, sent_ns: now }
        };
        Self {
            namespace,
            token,
            payer: None,
            tokens: None,
            max_depth: 1_000_000,
            max_body: 16 << 10,
            max_batch_body: 1 << 20,
            max_connections: 4096,
            head_timeout: Duration::from_secs(75),
            body_timeout: Duration::from_secs(10),
            grace: Duration::from_secs(10),
            legacy_without_key: false,
            stamp: Arc::new(stamp),
            waiting_for: Arc::new(Vec::new),
            closed: Arc::new(|| None),
            turned_away: Arc::new(|_| {}),
            keys: Arc::new(Keys::default),
            spooled: None,
            taken: Arc::new(|_| {}),
            metrics: Arc::new(|_| ("text/plain", String::new())),
        }
    }
}

struct Shared<S> {
    store: Arc<S>,
    settings: Settings,
    anonymous: Client,
    intake: Intake,
    waits: Waits,
    batches: Semaphore,
    start: Instant,
}

/// The API over a store.
pub struct Api<S>(Arc<Shared<S>>);

impl<S> Clone for Api<S> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| routes::document().to_string().into());

/// The OpenAPI document that `/openapi.json` serves.
pub fn openapi() -> serde_json::Value {
    routes::document()
}

impl<S: Records> Api<S> {
    /// The API over `store`. It needs a tokio runtime for the tasks that requests share.
    pub fn new(store: Arc<S>, settings: Settings) -> Self {
        Self(Arc::new(Shared {
            intake: Intake::start(store.clone(), settings.max_depth),
            waits: Waits::start(store.clone()),
            batches: Semaphore::new(BATCHES_AT_ONCE),
            anonymous: Client::anonymous(),
            start: Instant::now(),
            store,
            settings,
        }))
    }

    fn spooled(&self) -> Option<SpoolView> {
        self.0.settings.spooled.as_ref().map(|spooled| spooled().into())
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.0.settings
    }

    /// Its routes.
    pub fn router(&self) -> Router {
        let nowhere = || async { Refusal::new(Code::NotFound, "there is no such path; /openapi.json lists all") };
        let otherwise = || async { Refusal::new(Code::MethodNotAllowed, "this path is asked by another method") };
        ROUTES
            .iter()
            .fold(Router::new(), |router, route| router.route(route.path, handler(route.operation)))
            .fallback(nowhere)
            .method_not_allowed_fallback(otherwise)
            .with_state(self.clone())
    }

    /// Whether transfers are taken at all.
    fn open(&self) -> Result<(), Refusal> {
        match (self.0.settings.closed)() {
            Some(why) => Err(Refusal::new(Code::Closed, why).after(Duration::from_secs(1))),
            None => Ok(()),
        }
    }

    /// Tells of `count` transfers that were refused for now, if they were.
    fn tell(&self, count: usize, refusal: &Refusal) {
        if refusal.is_for_now() {
            (self.0.settings.turned_away)(count);
        }
    }

    /// Tells of `count` transfers that came to nothing for now, if they did.
    fn heard<T>(&self, count: usize, asked: Result<T, Refusal>) -> Result<T, Refusal> {
        asked.inspect_err(|refusal| self.tell(count, refusal))
    }

    /// Who asks, if they may.
    fn client(&self, headers: &HeaderMap, scope: Scope) -> Result<&Client, Refusal> {
        let client = match &self.0.settings.tokens {
            Some(tokens) => tokens.bearer(headers)?,
            None => {
                let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
                if !host.is_none_or(listen::is_own_name) {
                    let error = "without tokens, only requests to localhost or a loopback address are answered";
                    return Err(Refusal::new(Code::HostRefused, error));
                }
                &self.0.anonymous
            }
        };
        client.may(scope)?;
        self.take(client, 1)?;
        Ok(client)
    }

    fn take(&self, client: &Client, count: usize) -> Result<(), Refusal> {
        let now = u64::try_from(self.0.start.elapsed().as_nanos()).unwrap_or(u64::MAX);
        client.take(now, u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// A body in JSON of `limit` bytes at most, read in time.
    async fn body(&self, headers: &HeaderMap, body: Body, limit: usize) -> Result<Bytes, Refusal> {
        // A page elsewhere cannot send this type without asking first.
        let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            return Err(Refusal::new(Code::NotJson, "send JSON: Content-Type: application/json"));
        }
        let too_large =
            || Refusal::new(Code::TooLarge, format!("a body has at most {limit} bytes")).with("limit", limit);
        let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
        if length.is_some_and(|length| length > limit as u64) {
            return Err(too_large());
        }
        match tokio::time::timeout(self.0.settings.body_timeout, Limited::new(body, limit).collect()).await {
            Err(_) => Err(Refusal::new(Code::BodyTooSlow, "the body did not come in time")),
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(_)) => Err(Refusal::new(Code::Malformed, "the body ends before its end")),
        }
    }

    fn check(&self, body: &body::Body<'_>) -> Result<Order, Refusal> {
        Order::check(body, &self.0.settings.token, self.0.settings.payer.as_ref())
    }

    fn id(&self, client: &Client, key: &str) -> TransferId {
        let name = client.name.as_bytes();
        let mut text = Vec::with_capacity(name.len() + 1 + key.len());
        text.extend_from_slice(name);
        text.push(0);
        text.extend_from_slice(key.as_bytes());
        TransferId::derive(&self.0.settings.namespace, &text)
    }

    fn submission(&self, client: &Client, key: Option<&str>, order: &Order) -> Submission {
        let id = key.map_or_else(|| TransferId(rand::rng().random()), |key| self.id(client, key));
        let Stamp { sequence, phase, intended_ns, sent_ns } = (self.0.settings.stamp)(&client.name, key);
        let Order { receiver, amount, memo } = order.clone();
        let transfer = Transfer { id, receiver, amount, memo, sequence, phase, intended_ns, sent_ns };
        Submission { transfer, digest: order.digest(), budget: client.budget() }
    }

    fn view(&self, record: &Record) -> TransferView {
        TransferView::of(record, &self.0.settings.token)
    }

    /// A transfer that was just accepted.
    fn new_view(&self, id: TransferId, at: u64, order: Order) -> TransferView {
        TransferView {
            transfer_id: id.to_string(),
            status: TransferState::Queued.into(),
            receiver_id: Some(order.receiver.to_string()),
            amount: Some(order.amount.to_string()),
            memo: order.memo.map(|memo| memo.to_string()),
            token_id: self.0.settings.token.to_string(),
            tx_hash: None,
            batch_id: None,
            attempts: 0,
            error: None,
            created_at: Time(at),
            updated_at: Time(at),
            finalized_at: None,
            events: None,
        }
    }

    /// Submits one transfer, and waits where that is asked for.
    async fn submit(
        &self,
        client: &Client,
        key: Option<&str>,
        order: Order,
        wait: Option<(Until, Duration)>,
    ) -> Result<Submitted, Refusal> {
        self.open()?;
        let submission = self.submission(client, key, &order);
        let id = submission.transfer.id;
        let accepted = self.0.intake.accept(submission).await;
        let gone = || Refusal::new(Code::StoreUnavailable, "the service ends").after(Duration::from_secs(1));
        let (transfer, state, replayed) = match accepted.ok_or_else(gone)?? {
            Accepted::New { at } => {
                (self.0.settings.taken)(1);
                (self.new_view(id, at, order), TransferState::Queued, false)
            }
            Accepted::Replayed(record) => (self.view(&record), record.state, true),
            refused => return Err(self.refusal(&refused)),
        };
        let mut submitted = Submitted { id, transfer, replayed, reached: false };
        if let Some((until, timeout)) = wait {
            submitted.reached = until.is_reached(state);
            if !submitted.reached
                && let Some(record) = self.0.waits.wait(id, until, timeout).await
            {
                submitted.reached = until.is_reached(record.state);
                submitted.transfer = self.view(&record);
            }
        }
        Ok(submitted)
    }

    fn refusal(&self, accepted: &Accepted) -> Refusal {
        match accepted {
            Accepted::OverCap => auth::over_cap(unix_ms()),
            Accepted::Full => Refusal::new(Code::BacklogFull, "more transfers wait than this service takes")
                .with("capacity", self.0.settings.max_depth)
                .after(Duration::from_secs(5)),
            _ => Refusal::new(Code::KeyConflict, "another transfer was submitted under this key"),
        }
    }

    /// Submits many.
    async fn submit_all(
        &self,
        client: &Client,
        bodies: &[body::Body<'_>],
        key: impl Fn(usize, &body::Body<'_>) -> Result<Option<String>, Refusal>,
    ) -> Result<BatchView, Refusal> {
        if bodies.len() > MAX_BATCH {
            let error = format!("a batch has at most {MAX_BATCH} transfers, and this one has {}", bodies.len());
            return Err(Refusal::new(Code::TooLarge, error).with("limit", MAX_BATCH));
        }
        if bodies.is_empty() {
            return Err(Refusal::new(Code::Malformed, "a batch has at least one transfer"));
        }
        self.open()?;
        self.take(client, bodies.len() - 1)?;
        let mut checked = Vec::with_capacity(bodies.len());
        let mut submissions = Vec::with_capacity(bodies.len());
        for (index, body) in bodies.iter().enumerate() {
            let submission =
                key(index, body).and_then(|key| Ok(self.submission(client, key.as_deref(), &self.check(body)?)));
            checked.push(submission.map(|submission| {
                let id = submission.transfer.id;
                submissions.push(submission);
                id
            }));
        }
        let answers = match submissions.is_empty() {
            true => Vec::new(),
            false => self.0.store.accept(submissions, self.0.settings.max_depth).await?,
        };
        if answers.len() == bodies.len() && answers.iter().all(|answer| *answer == Accepted::Full) {
            return Err(self.refusal(&Accepted::Full));
        }
        (self.0.settings.taken)(answers.iter().filter(|answer| matches!(answer, Accepted::New { .. })).count());
        let mut answers = answers.into_iter();
        let results: Vec<_> = checked
            .into_iter()
            .enumerate()
            .map(|(index, checked)| {
                let none = ResultView { index, transfer_id: None, status: None, replayed: false, error: None };
                let refused = |refusal: Refusal| ResultView { error: Some(refusal.view()), ..none };
                let id = match checked {
                    Ok(id) => id,
                    Err(refusal) => return refused(refusal),
                };
                let (state, replayed) = match answers.next() {
                    Some(Accepted::New { .. }) => (TransferState::Queued, false),
                    Some(Accepted::Replayed(record)) => (record.state, true),
                    Some(answer) => {
                        let refusal = self.refusal(&answer);
                        self.tell(1, &refusal);
                        return refused(refusal);
                    }
                    None => return refused(Refusal::new(Code::StoreUnavailable, "the store gave no answer")),
                };
                ResultView {
                    index,
                    transfer_id: Some(id.to_string()),
                    status: Some(state.into()),
                    replayed,
                    error: None,
                }
            })
            .collect();
        let rejected = results.iter().filter(|result| result.error.is_some()).count();
        Ok(BatchView { accepted: results.len() - rejected, rejected, results })
    }

    async fn find(&self, id: &str) -> Result<Record, Refusal> {
        let unknown = || Refusal::new(Code::NotFound, "there is no transfer of this id, or it is no longer kept");
        let id: TransferId = id.parse().map_err(|_| unknown())?;
        self.0.store.find(&[id]).await?.into_iter().next().flatten().ok_or_else(unknown)
    }
}

fn unix_ms() -> u64 {
    let unix = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    u64::try_from(unix.as_millis()).unwrap_or(u64::MAX)
}

struct Submitted {
    id: TransferId,
    transfer: TransferView,
    replayed: bool,
    reached: bool,
}

static REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");

impl Submitted {
    fn respond(self, legacy: bool) -> Response {
        let Self { id, transfer, replayed, reached } = self;
        let status = if replayed || reached { 200 } else { 202 };
        let mut response = if legacy { json(status, &LegacyView::from(transfer)) } else { json(status, &transfer) };
        if let Ok(location) = HeaderValue::try_from(format!("/v1/transfers/{id}")) {
            response.headers_mut().insert(header::LOCATION, location);
        }
        if replayed {
            response.headers_mut().insert(REPLAYED.clone(), HeaderValue::from_static("true"));
        }
        response
    }
}

/// The key that a request gives.
fn key(headers: &HeaderMap) -> Result<Option<&str>, Refusal> {
    let mut all = headers.get_all("idempotency-key").iter().chain(headers.get_all("x-idempotency-key"));
    let Some(first) = all.next() else { return Ok(None) };
    if all.any(|other| other != first) {
        return Err(Refusal::new(Code::KeyInvalid, "there are two keys that differ"));
    }
    check_key(first.to_str().unwrap_or_default()).map(Some)
}

fn key_missing() -> Refusal {
    Refusal::new(
        Code::KeyMissing,
        "give the transfer a key of your own, so that asking again never pays twice: Idempotency-Key",
    )
}

/// How long a request may wait, at most, and by default.
const MAX_WAIT: Duration = Duration::from_secs(60);
const WAIT: Duration = Duration::from_secs(30);

fn wait(parts: &Parts) -> Result<Option<(Until, Duration)>, Refusal> {
    let query = Query::parse(parts.uri.query(), &["wait", "timeout_ms"])?;
    let bad = |error: &str| Refusal::new(Code::BadQuery, error);
    let timeout = match query.get::<u64>("timeout_ms", "a number of milliseconds")? {
        None => WAIT,
        Some(ms) => Some(Duration::from_millis(ms))
            .filter(|timeout| (Duration::from_millis(1)..=MAX_WAIT).contains(timeout))
            .ok_or_else(|| bad("timeout_ms is from 1 to 60000"))?,
    };
    match query.text("wait") {
        None => Ok(None),
        Some("submitted") => Ok(Some((Until::Submitted, timeout))),
        Some("final") => Ok(Some((Until::Final, timeout))),
        Some(_) => Err(bad("wait is submitted or final")),
    }
}

fn handler<S: Records>(operation: Operation) -> MethodRouter<Api<S>> {
    match operation {
        Operation::Create => post(create::<S>),
        Operation::Batch => post(batch::<S>),
        Operation::Get => get(one::<S>),
        Operation::List => get(list::<S>),
        Operation::Cancel => post(cancel::<S>),
        Operation::Retry => post(retry::<S>),
        Operation::Transaction => get(transaction::<S>),
        Operation::Legacy => post(legacy::<S>),
        Operation::Job => get(job::<S>),
        Operation::Health => get(|| async { json(200, &view::HealthView { status: "ok" }) }),
        Operation::Ready => get(ready::<S>),
        Operation::Jobs => get(jobs::<S>),
        Operation::Metrics => get(metrics::<S>),
        Operation::Document => get(|| async {
            ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], DOCUMENT.clone()).into_response()
        }),
    }
}

async fn metrics<S: Records>(State(api): State<Api<S>>, headers: HeaderMap) -> Response {
    let accept = headers.get(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    let (kind, text) = (api.0.settings.metrics)(accept);
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}

/// A part of the path; one that cannot be decoded names nothing.
type Part = Result<Path<String>, PathRejection>;

fn text(part: Part) -> String {
    part.map(|Path(text)| text).unwrap_or_default()
}

async fn create<S: Records>(State(api): State<Api<S>>, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let client = api.heard(1, api.client(&parts.headers, Scope::Transfer))?;
    let key = key(&parts.headers)?.ok_or_else(key_missing)?;
    let wait = wait(&parts)?;
    let bytes = api.body(&parts.headers, body, api.0.settings.max_body).await?;
    let body: body::Body<'_> = body::parse(&bytes)?;
    if body.idempotency_key.is_some() {
        return Err(Refusal::new(Code::Malformed, "the key of one transfer is a header: Idempotency-Key"));
    }
    let order = api.check(&body)?;
    Ok(api.heard(1, api.submit(client, Some(key), order, wait).await)?.respond(false))
}

async fn batch<S: Records>(State(api): State<Api<S>>, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let client = api.heard(1, api.client(&parts.headers, Scope::Transfer))?;
    let place = api.0.batches.acquire().await;
    let bytes = api.body(&parts.headers, body, api.0.settings.max_batch_body).await?;
    let batch: body::Batch<'_> = body::parse(&bytes)?;
    let key = |_: usize, body: &body::Body<'_>| {
        let key = body.idempotency_key.as_deref().ok_or_else(key_missing)?;
        check_key(key).map(|key| Some(key.to_owned()))
    };
    let view = api.heard(batch.transfers.len(), api.submit_all(client, &batch.transfers, key).await)?;
    drop(place);
    Ok(json(202, &view))
}

async fn legacy<S: Records>(State(api): State<Api<S>>, request: Request) -> Result<Response, Refusal> {
    let (parts, body) = request.into_parts();
    let client = api.heard(1, api.client(&parts.headers, Scope::Transfer))?;
    let key = key(&parts.headers)?;
    let may_lack_key = api.0.settings.legacy_without_key;
    let wait = wait(&parts)?;
    let bytes = api.body(&parts.headers, body, api.0.settings.max_body).await?;
    let bodies = match body::parse_either(&bytes)? {
        body::OneOrMany::One(body) => {
            if key.is_none() && !may_lack_key {
                return Err(key_missing());
            }
            let order = api.check(&body)?;
            return Ok(api.heard(1, api.submit(client, key, order, wait).await)?.respond(true));
        }
        body::OneOrMany::Many(bodies) => bodies,
    };
    // One key for all makes one for each, by its place.
    let key = |index: usize, body: &body::Body<'_>| match (body.idempotency_key.as_deref(), key) {
        (Some(own), _) => check_key(own).map(|own| Some(own.to_owned())),
        (None, Some(all)) => Ok(Some(format!("{all}\0{index}"))),
        (None, None) if may_lack_key => Ok(None),
        (None, None) => Err(key_missing()),
    };
    let submitted = api.heard(bodies.len(), api.submit_all(client, &bodies, key).await);
    let BatchView { accepted, rejected, results } = submitted?;
    let view = LegacyBatchView {
        success: rejected == 0,
        job_ids: results.iter().filter_map(|result| result.transfer_id.clone()).collect(),
        transaction_hash: None,
        transfers: accepted,
        batch_id: None,
        results,
        message: if rejected == 0 { "accepted" } else { "some were not accepted" },
    };
    Ok(json(202, &view))
}

async fn one<S: Records>(State(api): State<Api<S>>, id: Part, headers: HeaderMap) -> Result<Response, Refusal> {
    api.client(&headers, Scope::Read)?;
    let record = api.find(&text(id)).await?;
    Ok(json(200, &TransferView::with_events(&record, &api.0.settings.token)))
}

async fn job<S: Records>(State(api): State<Api<S>>, id: Part, headers: HeaderMap) -> Result<Response, Refusal> {
    api.client(&headers, Scope::Read)?;
    let job: LegacyView = api.view(&api.find(&text(id)).await?).into();
    Ok(json(200, &view::JobView { success: true, job }))
}

async fn list<S: Records>(State(api): State<Api<S>>, request: Request) -> Result<Response, Refusal> {
    let client = api.client(request.headers(), Scope::Read)?;
    let known = ["idempotency_key", "receiver_id", "status", "tx_hash", "cursor", "limit"];
    let query = Query::parse(request.uri().query(), &known)?;
    let filter = Filter {
        receiver: query.get("receiver_id", "a NEAR account id")?,
        state: match query.text("status") {
            None => None,
            Some(name) => {
                Some(view::state(name).ok_or_else(|| Refusal::new(Code::BadQuery, "status is none of the known"))?)
            }
        },
        tx_hash: query.get::<Hash>("tx_hash", "a transaction's hash in base58")?,
    };
    let cursor = query.get("cursor", "the next_cursor of a page")?.map(Cursor);
    let limit: usize = query.get("limit", "a number")?.unwrap_or(100);
    if !(1..=1000).contains(&limit) {
        return Err(Refusal::new(Code::BadQuery, "limit is from 1 to 1000"));
    }
    let store = &api.0.store;
    // What is named is looked up instead of looked for.
    let named = match (query.text("idempotency_key"), filter.tx_hash) {
        (Some(key), _) => Some(vec![api.id(client, check_key(key)?)]),
        (None, Some(hash)) => Some(store.transaction(hash).await?),
        (None, None) => None,
    };
    let (records, next) = match named {
        Some(ids) => {
            let records = store.find(&ids).await?.into_iter().flatten().filter(|record| filter.takes(record));
            (records.take(limit).collect(), None)
        }
        None => {
            let page = store.list(&filter, cursor, limit).await?;
            (page.records, page.next)
        }
    };
    let transfers = records.iter().map(|record| api.view(record)).collect();
    Ok(json(200, &ListView { transfers, next_cursor: next.map(|cursor| cursor.0.to_string()) }))
}

async fn transaction<S: Records>(
    State(api): State<Api<S>>,
    hash: Part,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    api.client(&headers, Scope::Read)?;
    let unknown = || Refusal::new(Code::NotFound, "no transfer that is kept was in this transaction");
    let hash: Hash = text(hash).parse().map_err(|_| unknown())?;
    let ids = api.0.store.transaction(hash).await?;
    let records = api.0.store.find(&ids).await?;
    let transfers: Vec<_> = records.iter().flatten().map(|record| api.view(record)).collect();
    if transfers.is_empty() {
        return Err(unknown());
    }
    Ok(json(200, &view::TransactionView { tx_hash: hash.to_string(), transfers }))
}

async fn cancel<S: Records>(State(api): State<Api<S>>, id: Part, headers: HeaderMap) -> Result<Response, Refusal> {
    api.client(&headers, Scope::Transfer)?;
    let id = api.find(&text(id)).await?.id;
    changed(&api, api.0.store.cancel(id).await?, 200, "only a transfer that is queued can be withdrawn")
}

async fn retry<S: Records>(State(api): State<Api<S>>, id: Part, headers: HeaderMap) -> Result<Response, Refusal> {
    let client = api.client(&headers, Scope::Admin)?;
    let id = api.find(&text(id)).await?.id;
    let now = (api.0.settings.stamp)(&client.name, None).sent_ns;
    let error = "only a transfer that is proven to have failed, and whose details are kept, can be queued again";
    changed(&api, api.0.store.retry(id, now).await?, 202, error)
}

fn changed<S: Records>(api: &Api<S>, changed: Changed, status: u16, error: &str) -> Result<Response, Refusal> {
    match changed {
        Changed::Done(record) => Ok(json(status, &api.view(&record))),
        Changed::Refused(record) => {
            Err(Refusal::new(Code::WrongState, error).with("status", view::state_name(record.state)))
        }
        Changed::Unknown => Err(Refusal::new(Code::NotFound, "there is no transfer of this id any more")),
    }
}

/// How long the store may take before it counts as gone.
const STORE_PATIENCE: Duration = Duration::from_secs(2);

async fn ready<S: Records>(State(api): State<Api<S>>) -> Response {
    let mut waiting_for = (api.0.settings.waiting_for)();
    if !matches!(tokio::time::timeout(STORE_PATIENCE, api.0.store.depth()).await, Ok(Ok(_))) {
        waiting_for.push("the store: it does not answer".to_owned());
    }
    let ready = waiting_for.is_empty();
    let view = view::ReadyView { ready, waiting_for, closed: (api.0.settings.closed)(), spooled: api.spooled() };
    let mut response = json(if ready { 200 } else { 503 }, &view);
    if !ready {
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

async fn jobs<S: Records>(State(api): State<Api<S>>) -> Result<Response, Refusal> {
    let census = api.0.store.census().await?;
    let recent = &census.recent;
    let per_second = |count: u64| (count as f64 / 60.0 * 1000.0).round() / 1000.0;
    let ended = recent.finalized + recent.failed;
    let view = JobsView {
        success: true,
        counts: census.counts.iter().map(|(state, count)| (view::state_name(state), count)).collect(),
        uptime_ms: u64::try_from(api.0.start.elapsed().as_millis()).unwrap_or(u64::MAX),
        timestamp: Time(census.now),
        tps: per_second(recent.finalized),
        accepted_tps: per_second(recent.accepted),
        success_rate: (ended > 0).then(|| recent.finalized as f64 * 100.0 / ended as f64),
        latency_ms: LatencyView {
            p50: recent.latency_ms(50.0),
            p95: recent.latency_ms(95.0),
            p99: recent.latency_ms(99.0),
        },
        queue_depth: census.depth.queued,
        oldest_queued_sec: census.oldest_queued.map(|at| census.now.saturating_sub(at) as f64 / 1000.0),
        keys: (api.0.settings.keys)(),
        spooled: api.spooled(),
    };
    Ok(json(200, &view))
}
