//! The chain behind HTTP/1.1 and cleartext HTTP/2, with the routes of a node.
//!
//! It carries answers; what they say is decided in [`crate::rpc`]. Bodies are at most 2 MB, axum's default, which
//! is also what nearcore takes.

use crate::{Answer, Devnet, rpc};
use axum::{
    Json, Router,
    extract::{State, rejection::JsonRejection},
    http::{StatusCode, header::CONTENT_TYPE},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use near_jsonrpc_primitives::message::Message;
use std::future::Future;
use tokio::net::TcpListener;

/// Serves until `shutdown` is ready and the requests under way are answered.
pub(crate) async fn serve(
    devnet: Devnet,
    listener: TcpListener,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> std::io::Result<()> {
    devnet.node().served_at(listener.local_addr()?);
    let routes = Router::new()
        .route("/", post(call))
        .route(
            "/status",
            get(async |State(devnet): State<Devnet>| rpc::answer_bare(rpc::status(devnet.node()))),
        )
        .route(
            "/health",
            get(async |State(devnet): State<Devnet>| rpc::answer_bare(rpc::health(devnet.node()))),
        )
        .route(
            "/network_info",
            get(async || rpc::answer_bare(rpc::network_info())),
        )
        .route(
            "/metrics",
            get(async |State(devnet): State<Devnet>| rpc::metrics(devnet.node())),
        )
        .with_state(devnet);
    axum::serve(listener, routes)
        .with_graceful_shutdown(shutdown)
        .await
}

async fn call(
    State(devnet): State<Devnet>,
    message: Result<Json<Message>, JsonRejection>,
) -> Answer {
    rpc::answer_parsed(devnet.node(), message.map(|Json(message)| message)).await
}

impl IntoResponse for Answer {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        (status, [(CONTENT_TYPE, self.content_type)], self.body).into_response()
    }
}
