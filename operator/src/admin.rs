//! The operator's own endpoints: `/livez`, `/readyz` and `/metrics`. They say how the operator is, never a run.

use crate::controller::State;
use axum::{
    Router,
    http::{
        HeaderMap, StatusCode,
        header::{ACCEPT, CONTENT_TYPE},
    },
    response::IntoResponse,
    routing::get,
};
use nearbench_core::exposition;
use std::{net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// Takes the address, so that one that is taken is told at once.
pub(crate) async fn bind(address: SocketAddr) -> std::io::Result<TcpListener> {
    TcpListener::bind(address).await
}

/// Serves until `stop`.
pub(crate) async fn serve(listener: TcpListener, state: Arc<State>, stop: CancellationToken) -> std::io::Result<()> {
    let (ready, metrics) = (state.clone(), state);
    let router = Router::new()
        .route("/livez", get(|| async { "ok\n" }))
        .route(
            "/readyz",
            get(move || async move {
                match ready.pending() {
                    None => (StatusCode::OK, "ok\n".to_owned()),
                    Some(pending) => (StatusCode::SERVICE_UNAVAILABLE, format!("waiting for {pending}\n")),
                }
            }),
        )
        .route(
            "/metrics",
            get(move |headers: HeaderMap| async move {
                let accept = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
                match metrics.metrics().map(|text| exposition::negotiate(accept, text)) {
                    Ok((kind, text)) => ([(CONTENT_TYPE, kind)], text).into_response(),
                    Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                }
            }),
        );
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}
