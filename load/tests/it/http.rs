//! The load over HTTP, against a service that does what it is told to.

use crate::{offer, phase};
use axum::{
    Router,
    extract::State,
    http::{HeaderMap, StatusCode},
    routing::post,
};
use nearbench_core::{
    measure::Recorder,
    plan::Arrivals,
    report::{Observed, Results},
    schedule::{Arrival, Schedule},
};
use nearbench_load::{Target, drive_http};
use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
    time::Duration,
};
use tokio::{net::TcpListener, time::Instant};
use tokio_util::sync::CancellationToken;

/// What came under each key, and how a request is answered: its key, and how often that came before.
type Asked = Arc<Mutex<BTreeMap<u64, u32>>>;
type Rule = fn(u64, u32) -> Option<StatusCode>;

struct Counts(Mutex<Recorder>);

impl AsRef<Mutex<Recorder>> for Counts {
    fn as_ref(&self) -> &Mutex<Recorder> {
        &self.0
    }
}

async fn answer(State((asked, rule)): State<(Asked, Rule)>, headers: HeaderMap) -> StatusCode {
    assert_eq!(headers["authorization"], "Bearer of-the-load");
    let key = headers["idempotency-key"].to_str().unwrap().parse().unwrap();
    let times = {
        let mut asked = asked.lock().unwrap();
        let times = asked.entry(key).or_default();
        *times += 1;
        *times
    };
    match rule(key, times - 1) {
        Some(status) => status,
        None => std::future::pending().await,
    }
}

/// Sends 40 transfers in a second to two workers of this rule.
async fn sent(rule: Rule) -> (Recorder, BTreeMap<u64, u32>, Vec<Arrival>) {
    let phases = [phase("all", 1, Arrivals::Count(40), None)];
    let schedule = Schedule::new(&phases);
    let asked = Asked::default();
    let mut workers = Vec::new();
    for _ in 0..2 {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        workers.push(listener.local_addr().unwrap());
        let router = Router::new().route("/v1/transfers", post(answer)).with_state((asked.clone(), rule));
        tokio::spawn(async move { axum::serve(listener, router).await });
    }
    let target = Target {
        workers,
        authorization: "Bearer of-the-load".into(),
        token: "ft.near".parse().unwrap(),
        timeout: Duration::from_millis(300),
        connections: 10,
        max_sockets: 15,
        grace: Duration::from_secs(3),
    };
    let counts = Arc::new(Counts(Mutex::new(Recorder::new(&schedule))));
    let (offer, stop) = (offer(&phases, u64::MAX), CancellationToken::new());
    let start = Instant::now();
    let unanswered = drive_http(target, schedule.arrivals(0, 1), &offer, start, counts.clone(), &stop).await;
    let recorder = counts.0.lock().unwrap().clone();
    let asked = asked.lock().unwrap().clone();
    (recorder, asked, unanswered)
}

fn errors(recorder: &Recorder) -> BTreeMap<String, u64> {
    let observed = Observed { block_time_ms: 600.0, max_send_lag_ms: 1000, ..Observed::default() };
    Results::new(recorder, ["all"], &observed).unwrap().errors
}

#[tokio::test(flavor = "multi_thread")]
async fn each_transfer_is_sent_once_under_its_number() {
    let (recorder, asked, unanswered) = sent(|_, _| Some(StatusCode::ACCEPTED)).await;
    let counts = recorder.counts();
    assert_eq!((counts.sent, counts.accepted, counts.rejected), (40, 40, 0));
    assert!(asked.keys().copied().eq(0..40) && asked.values().all(|times| *times == 1) && unanswered.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_service_has_no_room_for_is_rejected_and_what_it_does_not_understand_too() {
    let (recorder, asked, _) = sent(|n, _| {
        Some(match n % 4 {
            0 => StatusCode::TOO_MANY_REQUESTS,
            1 => StatusCode::SERVICE_UNAVAILABLE,
            2 => StatusCode::UNPROCESSABLE_ENTITY,
            _ => StatusCode::ACCEPTED,
        })
    })
    .await;
    let counts = recorder.counts();
    assert_eq!((counts.sent, counts.accepted, counts.rejected), (40, 10, 30));
    assert!(asked.values().all(|times| *times == 1));
    assert_eq!(errors(&recorder), [("api_422".to_owned(), 10)].into());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_no_answer_is_asked_again_under_the_same_key() {
    let (recorder, asked, unanswered) = sent(|n, before| match (n % 4, before) {
        (0, 0) => None,
        (1, 0) => Some(StatusCode::BAD_GATEWAY),
        // It may have been accepted at the first time.
        (2, 0) => None,
        (2, 1) => Some(StatusCode::SERVICE_UNAVAILABLE),
        _ => Some(StatusCode::OK),
    })
    .await;
    let counts = recorder.counts();
    assert_eq!((counts.sent, counts.accepted, counts.rejected), (40, 40, 0), "{:?}", errors(&recorder));
    assert_eq!([0, 1, 2, 3].map(|n| asked[&n]), [2, 2, 3, 1]);
    assert!(unanswered.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_never_gets_an_answer_is_told() {
    let (recorder, _, unanswered) = sent(|n, _| (n % 10 != 0).then_some(StatusCode::ACCEPTED)).await;
    let counts = recorder.counts();
    assert_eq!((counts.sent, counts.accepted, counts.rejected), (40, 36, 0));
    let mut numbers: Vec<_> = unanswered.iter().map(|arrival| arrival.n).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, [0, 10, 20, 30]);
    assert!(errors(&recorder)["timeout"] >= 4);
}
