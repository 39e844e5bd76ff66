//! Endpoints on real sockets that answer as no node should: each such answer counts against its endpoint, none ends in a
//! panic, and the pool goes on with the others.

use crate::fake::{BREAKER, Fake, client_of, ok};
use nearbench_core::{Account, Hash, plan::Breaker};
use nearbench_near::{Client, Endpoint, SignedTx, chain::At, http::HttpTransport, rpc::Fault, transport::Transport};
use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

/// What a server does with a request.
#[derive(Clone, Debug)]
enum Reply {
    /// Sends these bytes and closes the connection.
    Raw(Vec<u8>),
    /// Closes it at once.
    Reset,
    /// Says nothing, and keeps it open.
    Silence,
}

fn http(status: &str, body: &str) -> Reply {
    Reply::Raw(format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

fn status(head: u64) -> String {
    status_of("devnet", head)
}

fn status_of(chain: &str, head: u64) -> String {
    format!(
        r#"{{"jsonrpc":"2.0","id":"nearbench","result":{{"chain_id":"{chain}","protocol_version":86,
        "version":{{"version":"1","build":"b"}},"sync_info":{{"latest_block_height":{head},"syncing":false}}}}}}"#
    )
}

/// A server on a port of its own.
struct Server {
    url: String,
    asked: Arc<AtomicUsize>,
}

impl Server {
    async fn start(reply: Reply) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(AtomicUsize::new(0));
        let server = Self { url, asked: asked.clone() };
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (reply, asked) = (reply.clone(), asked.clone());
                tokio::spawn(async move {
                    // Our requests are small: they come in one piece.
                    if socket.read(&mut [0; 4096]).await.is_ok_and(|read| read > 0) {
                        asked.fetch_add(1, Ordering::SeqCst);
                        match reply {
                            Reply::Raw(bytes) => _ = socket.write_all(&bytes).await,
                            Reply::Reset => {}
                            Reply::Silence => std::future::pending().await,
                        }
                    }
                });
            }
        });
        server
    }

    fn endpoint(&self, priority: u32) -> Endpoint {
        Endpoint {
            name: self.url.as_str().into(),
            priority,
            max_requests_per_second: None,
            transport: Arc::new(HttpTransport::new(&self.url, None).unwrap()),
        }
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }
}

#[tokio::test]
async fn what_something_else_than_a_node_answers_stands_in_no_error() {
    const SECRET: &str = "s3cret-of-another-service";
    let error = |error: &str| format!(r#"{{"jsonrpc":"2.0","id":"nearbench","error":{error}}}"#);
    let bodies = [
        SECRET.to_owned(),
        format!("<html><body>{SECRET}</body></html>"),
        format!("{SECRET:?}"),
        format!(r#"{{"token":"{SECRET}","result":"{SECRET}"}}"#),
        format!(r#"{{"error":{{"message":"{SECRET}"}}}}"#),
        error(&format!(r#"{{"code":-32000,"message":"Server error","data":"{SECRET}"}}"#)),
        error(&format!(r#"{{"code":-32000,"message":"","data":"{SECRET}","cause":{{"name":"INVALID_TRANSACTION"}}}}"#)),
        error(&format!(
            r#"{{"code":-32000,"message":"","data":"{SECRET}","cause":{{"name":"CONTRACT_EXECUTION_ERROR","info":"{SECRET}"}}}}"#
        )),
    ];
    for (status, body) in ["200 OK", "403 Forbidden", "500 Internal Server Error"]
        .iter()
        .flat_map(|status| bodies.iter().map(move |body| (*status, body)))
    {
        let server = Server::start(http(status, body)).await;
        let client = Client::new(vec![server.endpoint(0)], &Breaker { timeout_ms: 200, ..BREAKER });
        let tx = SignedTx { hash: Hash::default(), bytes: "bytes".into() };
        let account: Account = "bench.near".parse().unwrap();
        let arguments = serde_json::json!({});
        let told = [
            told(client.status().await),
            told(client.send(&tx).await),
            told(client.resend_and_learn(&tx, &account).await),
            told(client.view(&account, "ft_metadata", &arguments, At::Final).await),
        ];
        assert!(!told.concat().contains(SECRET), "{status} {body}: {told:#?}");
    }
    let server = Server::start(http("200 OK", &error(r#"{"code":-429,"message":"no credits are left"}"#))).await;
    let client = Client::new(vec![server.endpoint(0)], &BREAKER);
    assert!(told(client.status().await).contains("no credits are left"), "what JSON-RPC has for people is told");
}

/// What there is to hear of a call that brought nothing, or a refusal.
fn told<T: std::fmt::Debug, E: std::fmt::Display + std::fmt::Debug>(answer: Result<T, E>) -> String {
    answer.map_or_else(|error| format!("{error} {error:?}"), |refusal| format!("{refusal:?}"))
}

#[tokio::test]
async fn every_answer_that_is_no_nodes_counts_against_its_endpoint_and_opens_its_breaker() {
    let wrong_id = status(7).replace("nearbench", "somebody");
    let raw = |text: &str| Reply::Raw(text.as_bytes().to_vec());
    let replies = [
        ("http_429", http("429 Too Many Requests", "slow down")),
        ("http_5xx", http("503 Service Unavailable", "<html>")),
        ("http_5xx", http("500 Internal Server Error", "")),
        ("http_status", http("404 Not Found", "nothing here")),
        ("malformed_answer", http("200 OK", "<html>hello</html>")),
        ("malformed_answer", http("200 OK", "")),
        ("malformed_answer", http("200 OK", r#"{"jsonrpc":"2.0","id":"nearbench"}"#)),
        ("malformed_answer", http("200 OK", r#"{"jsonrpc":"2.0","id":"nearbench","result":{"chain_id":7}}"#)),
        ("malformed_answer", http("200 OK", r#"[1, 2, {"result": "#)),
        ("malformed_answer", http("200 OK", &wrong_id)),
        ("malformed_answer", http("200 OK", &"[".repeat(100_000))),
        ("connection_broken", raw("HTTP/1.1 200 OK\r\nContent-Length: 999\r\n\r\n{\"result\":")),
        ("connection_broken", raw("\u{1F4A9} this is not HTTP\r\n\r\n")),
        ("connection_broken", Reply::Reset),
        ("rpc_timeout", Reply::Silence),
        ("node_error", http("200 OK", r#"{"id":"nearbench","error":{"cause":{"name":"NO_SYNCED_BLOCKS"}}}"#)),
    ];
    for (label, reply) in replies {
        // Short only where it is waited for: the other endpoint is never to run out of time.
        let timeout_ms = if label == "rpc_timeout" { 1000 } else { 30_000 };
        let breaker = Breaker { timeout_ms, ..BREAKER };
        let (bad, good) = (Server::start(reply.clone()).await, Server::start(http("200 OK", &status(7))).await);
        let client = Client::new(vec![bad.endpoint(0), good.endpoint(1)], &breaker);
        let wanted = if label == "http_429" { 1 } else { 10 };
        // Together: an endpoint that says nothing takes its time over each.
        let reads = (0..2 * wanted).map(|_| client.status());
        for read in futures_util::future::join_all(reads).await {
            assert_eq!(read.unwrap().head, 7, "{reply:?}");
        }
        let asked = bad.asked();
        assert!(asked >= wanted, "{reply:?}: asked {asked} times");
        let traffic = client.traffic();
        assert_eq!(traffic.errors.keys().collect::<Vec<_>>(), [&label], "{reply:?}");
        assert_eq!(client.status().await.unwrap().head, 7);
        assert_eq!(bad.asked(), asked, "{reply:?}: set aside, it is left alone");
        assert_eq!(good.asked() as u64, traffic.requests - traffic.errors[label] + 1);
        let [one, other] = client.readings().try_into().unwrap();
        let (one, other) = (one.served(), other.served());
        assert_eq!(
            (one.endings.troubled(), one.endings.total()),
            (traffic.errors[label], traffic.errors[label]),
            "{reply:?}"
        );
        assert_eq!((one.endings.refused > 0, one.endings.timeout > 0), (label == "http_429", label == "rpc_timeout"));
        assert_eq!((other.endings.ok, other.endings.total()), (good.asked() as u64, good.asked() as u64));
        let opened = u64::from(wanted == 10);
        assert_eq!((one.times_opened, other.times_opened), (opened, 0), "{reply:?}: a rest is asked for, not taken");
        assert!((one.open_ns > 0) == (opened > 0) && client.open_ns() >= one.open_ns && other.open_ns == 0);
    }
}

#[tokio::test]
async fn an_endless_answer_is_cut_off_and_counts() {
    // Chunks without end: there is no length to be warned by.
    let mut endless = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
    let chunk = [b"100000\r\n".as_slice(), &vec![b' '; 0x10_0000], b"\r\n"].concat();
    endless.extend(std::iter::repeat_n(chunk, 33).flatten());
    let (bad, good) = (Server::start(Reply::Raw(endless)).await, Server::start(http("200 OK", &status(7))).await);
    let breaker = Breaker { timeout_ms: 60_000, ..BREAKER };
    let client = Client::new(vec![bad.endpoint(0), good.endpoint(1)], &breaker);
    assert_eq!(client.status().await.unwrap().head, 7);
    assert_eq!(client.traffic().errors.into_iter().collect::<Vec<_>>(), [("answer_too_large", 1)]);
}

#[tokio::test]
async fn what_a_node_says_of_the_question_or_the_transaction_never_counts() {
    let invalid = |error: &str| {
        format!(
            r#"{{"id":"nearbench","error":{{"cause":{{"name":"INVALID_TRANSACTION"}},"data":{{"TxExecutionError":{{"InvalidTxError":{error}}}}}}}}}"#
        )
    };
    let answers = [
        invalid(r#"{"InvalidNonce":{"tx_nonce":1,"ak_nonce":2}}"#),
        invalid(r#""Expired""#),
        r#"{"id":"nearbench","error":{"cause":{"name":"UNKNOWN_TRANSACTION"}}}"#.to_owned(),
    ];
    for answer in answers {
        let server = Server::start(http("200 OK", &answer)).await;
        let client = Client::new(vec![server.endpoint(0)], &BREAKER);
        for n in 1..=20 {
            client.status().await.unwrap_err();
            assert_eq!(server.asked(), n, "{answer}");
        }
        assert!(client.traffic().errors.is_empty());
    }
}

#[tokio::test(start_paused = true)]
async fn a_node_that_could_not_answer_in_its_own_time_is_asked_again_and_it_never_counts() {
    let fake = Fake::new(ok(408, r#"{"id":"nearbench","error":{"cause":{"name":"TIMEOUT_ERROR"}}}"#));
    let client = client_of(&[&fake], &BREAKER);
    for _ in 0..20 {
        let error = client.status().await.unwrap_err();
        assert!(matches!(error.fault, Fault::Node(_)), "{error}");
        assert!(fake.asked().len() > 1, "another go may do better");
    }
    assert!(client.traffic().errors.is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_lone_endpoint_that_fails_is_left_alone_until_one_probe_finds_it_well() {
    let fake = Fake::new(ok(500, "broken"));
    let client = client_of(&[&fake], &BREAKER);
    while !matches!(client.status().await.unwrap_err().fault, Fault::SetAside { .. }) {}
    fake.asked();
    client.status().await.unwrap_err();
    assert!(fake.asked().is_empty(), "open");
    tokio::time::advance(Duration::from_secs(30)).await;
    let gate = fake.hold();
    let probes: Vec<_> = (0..5)
        .map(|_| {
            tokio::spawn({
                let client = client.clone();
                async move { client.status().await }
            })
        })
        .collect();
    while fake.count() == 0 {
        tokio::task::yield_now().await;
    }
    for _ in 0..20 {
        tokio::task::yield_now().await;
    }
    assert_eq!(fake.asked().len(), 1, "one probe, the others wait");
    let open_ns = client.readings()[0].open_ns;
    assert_eq!((open_ns, client.open_ns()), (BREAKER.reset_timeout_ms * 1_000_000, open_ns), "until the probe");
    fake.answers(ok(200, status(7)));
    gate.add_permits(100);
    for probe in probes {
        assert_eq!(probe.await.unwrap().unwrap().head, 7);
    }
}

#[tokio::test(start_paused = true)]
async fn retry_after_is_waited_for_and_the_next_endpoint_is_asked_meanwhile() {
    let busy = || {
        ok(429, "slow down").map(|mut answer| {
            answer.retry_after = Some(Duration::from_secs(3));
            answer
        })
    };
    let (first, second) = (Fake::new(busy()), Fake::new(ok(200, status(7))));
    let client = client_of(&[&first, &second], &BREAKER);
    for _ in 0..3 {
        assert_eq!(client.status().await.unwrap().head, 7);
    }
    assert_eq!((first.asked().len(), second.asked().len()), (1, 3));
    first.answers(ok(200, status(8)));
    tokio::time::advance(Duration::from_secs(3)).await;
    assert_eq!(client.status().await.unwrap().head, 8);

    // Alone, it is waited for.
    let alone = Fake::new(busy());
    let client = client_of(&[&alone], &BREAKER);
    let began = tokio::time::Instant::now();
    let read = tokio::spawn({
        let client = client.clone();
        async move { client.status().await }
    });
    while alone.count() == 0 {
        tokio::task::yield_now().await;
    }
    alone.answers(ok(200, status(9)));
    assert_eq!(read.await.unwrap().unwrap().head, 9);
    assert!(began.elapsed() >= Duration::from_secs(3));
}

#[tokio::test(start_paused = true)]
async fn requests_wait_for_their_turn_or_go_to_an_endpoint_of_the_same_priority() {
    let fakes = [Fake::new(ok(200, status(7))), Fake::new(ok(200, status(7))), Fake::new(ok(200, status(7)))];
    let endpoint = |n: usize, priority| Endpoint {
        name: format!("endpoint-{n}").into(),
        priority,
        max_requests_per_second: Some(10),
        transport: Arc::clone(&fakes[n]) as Arc<dyn Transport>,
    };
    let client = Client::new(vec![endpoint(0, 0), endpoint(1, 0), endpoint(2, 1)], &BREAKER);
    let began = tokio::time::Instant::now();
    let reads = (0..40).map(|_| client.status());
    for read in futures_util::future::join_all(reads).await {
        read.unwrap();
    }
    // Twenty each, the first at once.
    let took = began.elapsed();
    assert!((1900..2000).contains(&took.as_millis()), "{took:?}");
    assert_eq!(fakes.each_ref().map(|fake| fake.asked().len()), [20, 20, 0]);
}

#[tokio::test(start_paused = true)]
async fn a_head_that_lags_stalls_or_is_another_chains_sets_its_endpoint_aside_until_it_is_well() {
    let (first, second) = (Fake::new(ok(200, status(1))), Fake::new(ok(200, status(1))));
    let client = client_of(&[&first, &second], &BREAKER);
    client.check_chain_id("devnet").await.unwrap();
    client.watch();
    let tell = async |first_says: String, second_says: u64| {
        first.answers(ok(200, first_says));
        second.answers(ok(200, status(second_says)));
        // Two rounds of questions, whatever was under way.
        tokio::time::sleep(Duration::from_secs(5)).await;
        client.status().await.unwrap().head
    };
    assert_eq!(tell(status(100), 110).await, 100, "a little behind");
    assert_eq!(tell(status(105), 116).await, 116, "too far behind");
    assert_eq!(tell(status(119), 120).await, 119, "back");
    for height in [121, 122, 123, 124] {
        tell(status(119), height).await;
    }
    assert_eq!(tell(status(119), 125).await, 125, "it stands still");
    assert_eq!(tell(status_of("testnet", 130), 130).await, 130);
    assert_eq!(tell(status_of("testnet", 131), 132).await, 132, "another chain's");
    assert_eq!(tell(status(131), 132).await, 131, "back");
}
