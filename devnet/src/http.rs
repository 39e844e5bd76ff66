//! The chain behind HTTP/1.1 and cleartext HTTP/2, with the routes of a node, and `/faults`.
//!
//! It carries answers; what they say is decided in [`crate::rpc`], and which of them get lost on the way in
//! [`crate::faults`]. Bodies are at most 2 MB, axum's default, which is also what nearcore takes.

use crate::{
    Answer, Devnet,
    faults::{AtNode, OfRequest, Travel},
    rpc::{self, Site},
};
use axum::{
    Json, Router,
    extract::{ConnectInfo, Path, State, connect_info::Connected, rejection::JsonRejection},
    http::{
        StatusCode,
        header::{CONTENT_TYPE, RETRY_AFTER},
    },
    response::{IntoResponse, Response},
    routing::{get, post},
    serve::{IncomingStream, Listener},
};
use bytes::Bytes;
use near_jsonrpc_primitives::message::Message;
use serde_json::{Value, json};
use std::{
    future::Future,
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    time::{sleep, timeout},
};

const TEXT: &str = "text/plain; charset=utf-8";

/// Serves until `shutdown` is ready and the requests under way are answered.
pub(crate) async fn serve(
    devnet: Devnet,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> io::Result<()> {
    devnet.node().served_at(listener.local_addr()?);
    let routes = Router::new()
        .route("/", post(call))
        .route("/endpoints/{name}", post(call_endpoint))
        .route("/status", get(async |State(devnet): State<Devnet>| bare(&devnet, rpc::status)))
        .route("/health", get(async |State(devnet): State<Devnet>| bare(&devnet, rpc::health)))
        .route("/network_info", get(async || rpc::answer_bare(rpc::network_info())))
        .route("/metrics", get(async |State(devnet): State<Devnet>| rpc::metrics(devnet.node())))
        .route("/faults", get(faults).post(set_faults).delete(clear_faults))
        .with_state(devnet);
    let service = routes.into_make_service_with_connect_info::<Connection>();
    axum::serve(Resettable(listener), service).with_graceful_shutdown(shutdown).await
}

fn bare(
    devnet: &Devnet,
    look: impl FnOnce(&Site<'_>) -> Result<Value, near_jsonrpc_primitives::errors::RpcError>,
) -> Answer {
    rpc::answer_bare(look(&Site::new(devnet.node(), "", &AtNode::default())))
}

type Body = Result<Json<Message>, JsonRejection>;

async fn call(State(devnet): State<Devnet>, ConnectInfo(connection): ConnectInfo<Connection>, body: Body) -> Response {
    carry(&devnet, "", &connection, body).await
}

async fn call_endpoint(
    State(devnet): State<Devnet>,
    Path(endpoint): Path<String>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    body: Body,
) -> Response {
    carry(&devnet, &endpoint, &connection, body).await
}

/// Answers a request, or does to it what befalls it on its way.
async fn carry(devnet: &Devnet, endpoint: &str, connection: &Connection, body: Body) -> Response {
    let message = body.map(|Json(message)| message);
    let node = devnet.node();
    let OfRequest { latency, travel, at_node } = node.faults().of_request(endpoint, rpc::method(&message), true);
    if !latency.is_zero() {
        sleep(latency).await;
    }
    let plain =
        |status, text: &'static str| Answer { status, content_type: TEXT, body: Bytes::from_static(text.as_bytes()) };
    match travel {
        None => rpc::answer(node, endpoint, message, &at_node).await.into_response(),
        Some(Travel::TooManyRequests { retry_after_seconds }) => {
            let mut response = plain(429, "Too Many Requests").into_response();
            if retry_after_seconds > 0 {
                response.headers_mut().insert(RETRY_AFTER, retry_after_seconds.into());
            }
            response
        }
        Some(Travel::ServerError { status }) => plain(status, "the server failed, as it was told").into_response(),
        Some(Travel::Reset { accepted }) => {
            if accepted {
                rpc::answer(node, endpoint, message, &at_node).await;
            }
            connection.reset();
            plain(500, "").into_response()
        }
        Some(Travel::Timeout { after }) => {
            let timed_out = rpc::timed_out(&message);
            // What it asks for is done, or begun, when its time is over; nobody hears of it.
            let answered = timeout(after, rpc::answer(node, endpoint, message, &at_node));
            let _ = tokio::join!(answered, sleep(after));
            timed_out.into_response()
        }
        Some(Travel::Truncate) => {
            let answer = rpc::answer(node, endpoint, message, &at_node).await;
            let half = answer.body.slice(..answer.body.len() / 2);
            Answer { body: half, ..answer }.into_response()
        }
        Some(Travel::Garbage) => {
            let answer = rpc::answer(node, endpoint, message, &at_node).await;
            Answer { body: Bytes::from_static(b"{\"result\": <html>\xff"), ..answer }.into_response()
        }
    }
}

async fn faults(State(devnet): State<Devnet>) -> Answer {
    rpc::json(200, &devnet.faults())
}

/// Instead of those in force.
async fn set_faults(State(devnet): State<Devnet>, body: Bytes) -> Answer {
    let rules = match serde_json::from_slice::<Value>(&body) {
        Ok(rules) => rules,
        Err(error) => return rpc::json(400, &json!({"error": format!("the body is not JSON: {error}")})),
    };
    match devnet.set_faults(&rules) {
        Ok(()) => rpc::json(200, &devnet.faults()),
        Err(error) => rpc::json(400, &json!({"error": error.to_string()})),
    }
}

async fn clear_faults(State(devnet): State<Devnet>) -> Answer {
    devnet.clear_faults();
    rpc::json(200, &devnet.faults())
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(CONTENT_TYPE, self.content_type)], self.body).into_response()
    }
}

/// A listener whose connections can be reset by who answers on them.
struct Resettable(TcpListener);

impl Listener for Resettable {
    type Io = ResettableStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (ResettableStream, SocketAddr) {
        let (stream, address) = Listener::accept(&mut self.0).await;
        (ResettableStream { stream, connection: Connection::default() }, address)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }
}

/// Whether a connection is to be reset.
#[derive(Clone, Default)]
struct Connection(Arc<AtomicBool>);

impl Connection {
    /// Nothing is written any more, and the peer sees a reset.
    fn reset(&self) {
        self.0.store(true, Ordering::Release);
    }
}

impl Connected<IncomingStream<'_, Resettable>> for Connection {
    fn connect_info(stream: IncomingStream<'_, Resettable>) -> Self {
        stream.io().connection.clone()
    }
}

struct ResettableStream {
    stream: TcpStream,
    connection: Connection,
}

impl ResettableStream {
    /// Closing a socket without lingering resets it.
    fn check(&self) -> io::Result<()> {
        if self.connection.0.load(Ordering::Acquire) {
            self.stream.set_zero_linger()?;
            return Err(io::ErrorKind::ConnectionReset.into());
        }
        Ok(())
    }
}

impl AsyncRead for ResettableStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for ResettableStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.check()?;
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
