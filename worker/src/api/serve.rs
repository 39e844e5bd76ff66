//! Connections: so many at most, none of them for nothing.

use super::{
    Api, ListenError, may_listen,
    refusal::{Code, Refusal},
};
use axum::response::IntoResponse;
use hyper::{server::conn::http1, service::service_fn};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use nearbench_store::Records;
use std::{convert::Infallible, io, sync::Arc, time::Duration};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// Bytes of a request's head, at most: what a connection reads ahead.
const HEAD_BYTES: usize = 8 << 10;
/// How long a listener rests when the system has no more sockets for it.
const REST: Duration = Duration::from_millis(100);
/// Connections past the most that are told so at once, and for how long.
const REFUSALS: usize = 64;
const REFUSAL_TIME: Duration = Duration::from_millis(500);

/// Why the API does not serve.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Not there without tokens.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// The listener has no address.
    #[error("the API has no address to listen on: {0}")]
    Address(#[from] io::Error),
}

/// Serves the API until `shutdown`; then takes no more connections, lets requests under way come to their end for as long
/// as the settings say, and returns.
///
/// # Errors
/// Without tokens, the listener's address must be this machine's own.
pub async fn serve<S: Records>(
    listener: TcpListener,
    api: Api<S>,
    shutdown: CancellationToken,
) -> Result<(), ServeError> {
    let settings = api.settings();
    may_listen(listener.local_addr()?.ip(), settings.tokens.is_some())?;
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(settings.head_timeout)
        .max_buf_size(HEAD_BYTES)
        // Who has said all may close their side, and is answered.
        .half_close(true)
        .pipeline_flush(true);
    let router = api.router();
    let places = Arc::new(Semaphore::new(settings.max_connections));
    let refusals = Arc::new(Semaphore::new(REFUSALS));
    let tasks = TaskTracker::new();
    let abort = CancellationToken::new();
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = shutdown.cancelled() => break,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "no connection");
                // One that ended before it was taken is nobody's fault; of sockets there may be more later.
                if !matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
                    sleep(REST).await;
                }
                continue;
            }
        };
        // Small answers go at once.
        let _ = stream.set_nodelay(true);
        let Ok(place) = places.clone().try_acquire_owned() else {
            if let Ok(place) = refusals.clone().try_acquire_owned() {
                tasks.spawn(async move {
                    refuse(stream).await;
                    drop(place);
                });
            }
            continue;
        };
        let connection = http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router.clone()));
        let (shutdown, abort) = (shutdown.clone(), abort.clone());
        tasks.spawn(async move {
            let mut connection = std::pin::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => {}
                () = shutdown.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    abort.run_until_cancelled(connection).await;
                }
            }
            drop(place);
        });
    }
    drop(listener);
    tasks.close();
    if timeout(settings.grace, tasks.wait()).await.is_err() {
        abort.cancel();
        tasks.wait().await;
    }
    Ok(())
}

/// Answers one request of a connection for which there is no place.
async fn refuse(stream: TcpStream) {
    let answer = service_fn(|_| async {
        let refusal = Refusal::new(Code::BacklogFull, "there are as many connections as this service takes");
        Ok::<_, Infallible>(refusal.after(Duration::from_secs(1)).into_response())
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .max_buf_size(HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer);
    // Whoever is slow is not told.
    let _ = timeout(REFUSAL_TIME, connection).await;
}
