//! A run in a browser while it goes on: the report's page, fed with server-sent events. On this machine alone.
//!
//! An event holds all there is to be seen, so that a browser may come, go and come again at any time.

use super::{View, Watched};
use crate::{exit::Failure, page};
use anyhow::Context;
use axum::{
    Router,
    extract::Request,
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{
        Html, IntoResponse, Response, Sse,
        sse::{Event, KeepAlive},
    },
    routing::get,
};
use futures_util::stream;
use nearbench_core::standing::Standing;
use serde::Serialize;
use std::{convert::Infallible, net::SocketAddr, sync::Arc, time::Duration};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// Between two states that are shown.
const REFRESH: Duration = Duration::from_secs(1);
/// How long browsers have to take the last event.
const FAREWELL: Duration = Duration::from_secs(3);

/// What browsers are shown.
#[derive(Clone, Debug, Default)]
enum Shown {
    /// Nothing yet.
    #[default]
    Nothing,
    /// A run under way, as JSON.
    UnderWay(Arc<str>),
    /// Its report, as JSON. There is nothing after it.
    Report(Arc<str>),
    /// Why there is none, as JSON. There is nothing after it.
    Ended(Arc<str>),
}

impl Shown {
    fn event(&self) -> Option<Event> {
        match self {
            Self::Nothing => None,
            Self::UnderWay(json) => Some(Event::default().event("view").data(&**json)),
            Self::Report(json) => Some(Event::default().event("report").data(&**json)),
            Self::Ended(json) => Some(Event::default().event("ended").data(&**json)),
        }
    }

    fn is_last(&self) -> bool {
        matches!(self, Self::Report(_) | Self::Ended(_))
    }
}

/// What is on the page of a run.
#[derive(Clone)]
pub(crate) struct Screen(watch::Sender<Shown>);

/// Whoever serves it.
pub(crate) struct Server {
    address: SocketAddr,
    screen: Screen,
    stop: CancellationToken,
    served: JoinHandle<()>,
}

impl Server {
    /// Serves the page on a port of this machine; on any that is free where it is 0. `option` names where the port was said.
    pub(crate) async fn start(port: u16, option: &str) -> Result<Self, Failure> {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        let listener = TcpListener::bind(address).await;
        let listener = listener
            .with_context(|| format!("{option} {port}: cannot serve on {address}; name another port, or 0 for any"))
            .map_err(Failure::input)?;
        let address = listener.local_addr().map_err(Failure::run)?;
        let (shown, seen) = watch::channel(Shown::default());
        let stop = CancellationToken::new();
        let router = Router::new()
            .route("/", get(async || Html(page::live())))
            .route("/events", get(move || events(seen.clone())))
            .layer(middleware::from_fn(only_from_here));
        let served = tokio::spawn({
            let stop = stop.clone();
            async move {
                if let Err(error) = axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await {
                    tracing::warn!(%error, "the page is not served any more");
                }
            }
        });
        Ok(Self { address, screen: Screen(shown), stop, served })
    }

    /// Where it is.
    pub(crate) fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// What is on it.
    pub(crate) fn screen(&self) -> &Screen {
        &self.screen
    }

    /// Lets browsers take the last event, for a bounded time.
    pub(crate) async fn end(self) {
        self.stop.cancel();
        if tokio::time::timeout(FAREWELL, self.served).await.is_err() {
            tracing::debug!("a browser did not take the end of the run");
        }
    }
}

impl Screen {
    /// Shows how a run of this process stands, for as long as it says so.
    pub(crate) async fn follow(self, mut watched: Watched, mut standing: watch::Receiver<Standing>) {
        let mut tick = tokio::time::interval(REFRESH);
        while standing.has_changed().is_ok() {
            tick.tick().await;
            let now = standing.borrow_and_update().clone();
            self.show(&watched.see(format!("{:?}", now.stage), now.trouble.clone(), now, None));
        }
    }

    /// Shows a run under way.
    pub(crate) fn show(&self, view: &View<'_>) {
        self.send(view, Shown::UnderWay);
    }

    /// Shows its report, which is JSON, as the last thing.
    pub(crate) fn report(&self, json: &str) {
        // Digit by digit as it is. Line breaks are between its values alone, and would end an event's line.
        self.put(Shown::Report(json.replace('\n', "").into()));
    }

    /// Says why there is no report, as the last thing.
    pub(crate) fn ended(&self, why: &str) {
        self.send(why, Shown::Ended);
    }

    fn send<T: Serialize + ?Sized>(&self, what: &T, shown: fn(Arc<str>) -> Shown) {
        match serde_json::to_string(what) {
            Ok(json) => self.put(shown(json.into())),
            Err(error) => tracing::warn!(%error, "the run cannot be shown"),
        }
    }

    fn put(&self, next: Shown) {
        self.0.send_if_modified(|now| {
            let goes_on = !now.is_last();
            // Nothing comes after what is last.
            if goes_on {
                *now = next;
            }
            goes_on
        });
    }
}

async fn events(seen: watch::Receiver<Shown>) -> impl IntoResponse {
    let mut first = seen;
    first.mark_changed();
    let events = stream::unfold(Some(first), async |seen| {
        let mut seen = seen?;
        loop {
            seen.changed().await.ok()?;
            let shown = seen.borrow_and_update().clone();
            if let Some(event) = shown.event() {
                return Some((Ok::<_, Infallible>(event), (!shown.is_last()).then_some(seen)));
            }
        }
    });
    ([(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))], Sse::new(events).keep_alive(KeepAlive::default()))
}

/// A page of somebody else's that leads a browser here by a name of its own is refused.
async fn only_from_here(request: Request, next: Next) -> Response {
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    if ["127.0.0.1", "localhost", "[::1]"].contains(&name) {
        return next.run(request).await;
    }
    (StatusCode::FORBIDDEN, "this page is for this machine: open it as http://127.0.0.1:PORT/\n").into_response()
}
