//! The operator's own endpoints: `/livez`, `/readyz` and `/metrics`. They say how the operator is, never a run.

use crate::controller::State;
use axum::{Router, http::StatusCode, http::header::CONTENT_TYPE, response::IntoResponse, routing::get};
use std::{net::SocketAddr, sync::Arc};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

/// What Prometheus asks for.
const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

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
            get(move || async move {
                match metrics.metrics() {
                    Ok(text) => ([(CONTENT_TYPE, OPENMETRICS)], text).into_response(),
                    Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
                }
            }),
        );
    axum::serve(listener, router).with_graceful_shutdown(stop.cancelled_owned()).await
}
