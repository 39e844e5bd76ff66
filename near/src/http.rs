//! HTTP as a way to an endpoint: keep-alive, TLS, bounded answers. What the bytes mean is not its business.

use crate::{
    link_local::{self, BeyondLink, LinkLocal},
    secret::SecretText,
    transport::{Response, Transport, TransportError},
};
use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{HeaderMap, HeaderValue, Method, Request, Uri, header};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::{
    body::Incoming,
    client::conn::{TrySendError, http1},
};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder, MaybeHttpsStream};
use hyper_util::{
    client::legacy::connect::{HttpConnector, dns::GaiResolver},
    rt::TokioIo,
};
use std::{
    collections::VecDeque,
    error::Error,
    fmt,
    future::poll_fn,
    pin::pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll},
    time::{Duration, SystemTime},
};
use tokio::{net::TcpStream, time::Instant};
use tower_service::Service;

/// The largest answer that is read. A block with full chunks stays far below.
pub const MAX_BODY_BYTES: usize = 32 << 20;
/// A connection that was not used for so long is not used again: many a gateway has silently dropped it by then.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

/// An endpoint reached by HTTP. Connections are kept alive and shared by all clones of the client that holds this.
///
/// A connection is worked by whoever asks over it: a task of its own would cost two changes of task a request.
pub struct HttpTransport {
    connector: HttpsConnector<HttpConnector<BeyondLink<GaiResolver>>>,
    url: Uri,
    /// The path and query alone, as a request names them.
    target: Uri,
    headers: HeaderMap,
    /// Connections that nobody uses, the latest used last.
    idle: Mutex<VecDeque<(Instant, Box<Connection>)>>,
}

struct Connection {
    requests: http1::SendRequest<Full<Bytes>>,
    wire: http1::Connection<MaybeHttpsStream<TokioIo<TcpStream>>, Full<Bytes>>,
    over: bool,
}

/// Why there is no answer to a request over one connection.
enum NoAnswer {
    /// The connection ended before any of it was sent.
    Unsent(Box<Request<Full<Bytes>>>, hyper::Error),
    /// It may have been sent.
    Sent(TransportError),
}

impl Connection {
    /// Moves bytes both ways, as far as that goes without waiting. What breaks is told to whoever asked.
    fn turn(&mut self, cx: &mut Context<'_>) {
        self.over = self.over || self.wire.poll_without_shutdown(cx).is_ready();
    }

    /// Whether a request can be sent over it now.
    async fn is_usable(&mut self) -> bool {
        poll_fn(|cx| {
            self.turn(cx);
            Poll::Ready(!self.over && self.requests.is_ready())
        })
        .await
    }

    async fn ask(&mut self, request: Request<Full<Bytes>>) -> Result<Response, NoAnswer> {
        let sent = self.requests.try_send_request(request);
        let mut answer = pin!(read(sent));
        poll_fn(|cx| {
            self.turn(cx);
            if let Poll::Ready(answer) = answer.as_mut().poll(cx) {
                return Poll::Ready(answer);
            }
            // The head is read, and the body may have come with it.
            self.turn(cx);
            answer.as_mut().poll(cx)
        })
        .await
    }
}

/// Waits for an answer and reads it whole.
async fn read(
    sent: impl Future<Output = Result<http::Response<Incoming>, TrySendError<Request<Full<Bytes>>>>>,
) -> Result<Response, NoAnswer> {
    let answer = sent.await.map_err(|mut error| match error.take_message() {
        Some(request) => NoAnswer::Unsent(Box::new(request), error.into_error()),
        None => NoAnswer::Sent(TransportError::Broken(causes(error.error()))),
    })?;
    let status = answer.status().as_u16();
    let retry_after = retry_after(answer.headers(), SystemTime::now());
    match Limited::new(answer.into_body(), MAX_BODY_BYTES).collect().await {
        Ok(body) => Ok(Response { status, retry_after, body: body.to_bytes() }),
        Err(e) if e.is::<LengthLimitError>() => Err(NoAnswer::Sent(TransportError::TooLarge(MAX_BODY_BYTES))),
        Err(e) => Err(NoAnswer::Sent(TransportError::Broken(causes(&*e)))),
    }
}

/// Why an endpoint cannot even be tried.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    /// Not an http or https URL.
    #[error("{0:?} is not the URL of an endpoint: write it as https://host/path or http://host:port")]
    Url(String),
    /// The credentials cannot stand in a header.
    #[error("the credentials of {0} cannot stand in a header: use printable ASCII on one line, such as \"Bearer …\"")]
    Authorization(String),
    /// An address where no endpoint is.
    #[error(transparent)]
    LinkLocal(#[from] LinkLocal),
    /// TLS cannot be set up.
    #[error("cannot set up TLS: {0}")]
    Tls(String),
}

impl HttpTransport {
    /// A way to `url`; `authorization` is the whole value of that header. Nothing is sent yet.
    ///
    /// # Errors
    /// When the URL is not http or https, holds credentials, names a link-local address, or the header's value cannot stand
    /// in a header.
    pub fn new(url: &str, authorization: Option<&SecretText>) -> Result<Self, HttpError> {
        let bad_url = || HttpError::Url(url.rsplit('@').next().unwrap_or_default().to_owned());
        let url: Uri = url.parse().map_err(|_| bad_url())?;
        let authority = url.authority().ok_or_else(bad_url)?;
        if !matches!(url.scheme_str(), Some("http" | "https")) || authority.as_str().contains('@') {
            return Err(bad_url());
        }
        link_local::check(authority.host())?;
        let mut headers = HeaderMap::new();
        let host = HeaderValue::from_str(authority.as_str()).map_err(|_| bad_url())?;
        headers.insert(header::HOST, host);
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        if let Some(secret) = authorization {
            let mut value =
                HeaderValue::from_str(secret.expose()).map_err(|_| HttpError::Authorization(authority.to_string()))?;
            value.set_sensitive(true);
            headers.insert(header::AUTHORIZATION, value);
        }
        let connector = HttpsConnectorBuilder::new()
            .with_provider_and_webpki_roots(Arc::new(rustls::crypto::ring::default_provider()))
            .map_err(|e| HttpError::Tls(e.to_string()))?
            .https_or_http()
            .enable_http1()
            .wrap_connector({
                let mut tcp = HttpConnector::new_with_resolver(BeyondLink(GaiResolver::new()));
                tcp.set_nodelay(true);
                tcp.enforce_http(false);
                tcp
            });
        let target = url.path_and_query().map_or("/", |target| target.as_str()).parse().map_err(|_| bad_url())?;
        Ok(Self { connector, url, target, headers, idle: Mutex::default() })
    }

    fn idle(&self) -> MutexGuard<'_, VecDeque<(Instant, Box<Connection>)>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<Box<Connection>, TransportError> {
        let mut connector = self.connector.clone();
        let refused = |e: &(dyn Error + 'static)| TransportError::Connect(causes(e));
        poll_fn(|cx| connector.poll_ready(cx)).await.map_err(|e| refused(&*e))?;
        let socket = connector.call(self.url.clone()).await.map_err(|e| refused(&*e))?;
        let (requests, wire) = http1::handshake(socket).await.map_err(|e| refused(&e))?;
        Ok(Box::new(Connection { requests, wire, over: false }))
    }

    /// The connection that was used last, if the endpoint has not closed it.
    async fn kept(&self) -> Option<Box<Connection>> {
        loop {
            let (since, mut connection) = self.idle().pop_back()?;
            if since.elapsed() < IDLE_TIMEOUT && connection.is_usable().await {
                return Some(connection);
            }
        }
    }

    fn keep(&self, connection: Box<Connection>) {
        let now = Instant::now();
        let mut idle = self.idle();
        idle.push_back((now, connection));
        while idle.front().is_some_and(|(since, _)| now - *since >= IDLE_TIMEOUT) {
            idle.pop_front();
        }
    }

    async fn post(&self, body: Bytes) -> Result<Response, TransportError> {
        let mut request = Request::new(Full::new(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.target.clone();
        *request.headers_mut() = self.headers.clone();
        while let Some(connection) = self.kept().await {
            match self.ask(connection, request).await {
                // It was closed while nobody looked.
                Err(NoAnswer::Unsent(unsent, _)) => request = *unsent,
                Err(NoAnswer::Sent(error)) => return Err(error),
                Ok(answer) => return Ok(answer),
            }
        }
        self.ask(self.connect().await?, request).await.map_err(|error| match error {
            NoAnswer::Unsent(_, error) => TransportError::Broken(causes(&error)),
            NoAnswer::Sent(error) => error,
        })
    }

    async fn ask(&self, mut connection: Box<Connection>, request: Request<Full<Bytes>>) -> Result<Response, NoAnswer> {
        let answer = connection.ask(request).await?;
        if !connection.over {
            self.keep(connection);
        }
        Ok(answer)
    }
}

impl fmt::Debug for HttpTransport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpTransport").field("url", &self.url).finish_non_exhaustive()
    }
}

impl Transport for HttpTransport {
    fn call(&self, request: Bytes, timeout: Duration) -> BoxFuture<'_, Result<Response, TransportError>> {
        Box::pin(async move {
            tokio::time::timeout(timeout, self.post(request)).await.unwrap_or(Err(TransportError::Timeout(timeout)))
        })
    }
}

/// `Retry-After` as a duration from `now`: seconds or an HTTP date (RFC 9110, 10.2.3). A date past is zero.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let text = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(text).ok()?;
    Some(date.duration_since(now).unwrap_or(Duration::ZERO))
}

/// An error with its causes: hyper's own message is only the outermost.
fn causes(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text = format!("{text}: {cause}");
        next = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    const SECOND: Duration = Duration::from_secs(30);

    /// Answers each request on one connection with the next of `answers`; tells what it read in the end.
    async fn server(answers: Vec<Vec<u8>>) -> (String, tokio::task::JoinHandle<Vec<u8>>) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/rpc", listener.local_addr().unwrap());
        let task = tokio::spawn(async move {
            let (mut socket, _) = listener.accept().await.unwrap();
            let mut heard = Vec::new();
            for answer in answers {
                let mut chunk = [0; 4096];
                let read = socket.read(&mut chunk).await.unwrap();
                heard.extend_from_slice(&chunk[..read]);
                // The client may hang up on an answer that it finds too large.
                let _ = socket.write_all(&answer).await;
            }
            heard
        });
        (url, task)
    }

    fn answer(status: &str, body: &str) -> Vec<u8> {
        format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes()
    }

    #[tokio::test]
    async fn requests_share_a_connection_and_carry_the_credentials() {
        let (url, task) = server(vec![answer("200 OK", "one"), answer("429 Slow\r\nRetry-After: 7", "two")]).await;
        let transport = HttpTransport::new(&url, Some(&SecretText::new("Bearer hidden".to_owned()))).unwrap();
        let first = transport.call(Bytes::from_static(b"{}"), SECOND).await.unwrap();
        assert_eq!((first.status, &*first.body), (200, &b"one"[..]));
        let second = transport.call(Bytes::from_static(b"{}"), SECOND).await.unwrap();
        assert_eq!((second.status, second.retry_after), (429, Some(Duration::from_secs(7))));
        let heard = String::from_utf8(task.await.unwrap()).unwrap().to_lowercase();
        assert_eq!(heard.matches("post /rpc http/1.1").count(), 2, "{heard}");
        assert_eq!(heard.matches("authorization: bearer hidden").count(), 2);
        assert!(!format!("{transport:?}").contains("hidden"));
    }

    #[tokio::test]
    async fn a_huge_a_broken_and_a_missing_answer_are_told_apart() {
        let mut huge = format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\n\r\n", MAX_BODY_BYTES + 1).into_bytes();
        huge.resize(huge.len() + MAX_BODY_BYTES + 1, b' ');
        let (url, task) = server(vec![huge]).await;
        let result = HttpTransport::new(&url, None).unwrap().call(Bytes::new(), SECOND).await;
        assert_eq!(result, Err(TransportError::TooLarge(MAX_BODY_BYTES)));
        task.await.unwrap();

        let (url, _task) = server(vec![b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf".to_vec()]).await;
        let result = HttpTransport::new(&url, None).unwrap().call(Bytes::new(), SECOND).await;
        assert!(matches!(result, Err(TransportError::Broken(_))), "{result:?}");

        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let transport = HttpTransport::new(&url, None).unwrap();
        let short = Duration::from_millis(20);
        assert_eq!(transport.call(Bytes::new(), short).await, Err(TransportError::Timeout(short)));
        drop(listener);
        let result = HttpTransport::new(&url, None).unwrap().call(Bytes::new(), SECOND).await;
        assert!(matches!(result, Err(TransportError::Connect(_))), "{result:?}");
    }

    #[test]
    fn urls_that_are_none_are_refused_without_their_credentials() {
        for bad in ["", "rpc.near.example", "ftp://host", "http://", "https://user:hidden@host/"] {
            let error = HttpTransport::new(bad, None).unwrap_err().to_string();
            assert!(!error.contains("hidden"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_link_local_address_is_never_connected_to_however_it_is_written() {
        for literal in ["http://169.254.169.254/latest", "https://[fe80::1]:3030", "http://[fd00:ec2::254]"] {
            let error = HttpTransport::new(literal, None).unwrap_err().to_string();
            assert!(error.contains("link-local"), "{literal}: {error}");
        }
        // The system's resolver takes these for the address, as it would a name.
        for name in ["http://2852039166/", "http://0xa9fea9fe", "http://169.254.43518:80"] {
            let result = HttpTransport::new(name, None).unwrap().call(Bytes::new(), SECOND).await;
            assert!(
                matches!(&result, Err(TransportError::Connect(why)) if why.contains("169.254.169.254, a link-local")),
                "{name}: {result:?}"
            );
        }
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_777);
        let read = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::RETRY_AFTER, text.parse().unwrap());
            retry_after(&headers, now)
        };
        assert_eq!(read("120"), Some(Duration::from_secs(120)));
        assert_eq!(read("Sun, 06 Nov 1994 08:50:37 GMT"), Some(Duration::from_secs(60)));
        assert_eq!(read("Sun, 06 Nov 1994 08:00:00 GMT"), Some(Duration::ZERO));
        assert_eq!(read("soon"), None);
    }
}
