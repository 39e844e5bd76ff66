//! The way to the one server that holds a run's keys: where it is, who we are there, and what it must be.

use nearbench_core::backoff::Backoff;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionAddr, IntoConnectionInfo, Pipeline, RedisConnectionInfo,
    ServerErrorKind, TlsCertificates, Value,
    aio::{MultiplexedConnection, PubSub},
};
use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};
use tokio::time::{Instant, timeout, timeout_at};

/// A server that does not take a connection, or answer, within this is tried again.
const CONNECT: Duration = Duration::from_secs(2);
/// For the answer to a step. A server that saves or fails over may be slow.
pub(crate) const ANSWER: Duration = Duration::from_secs(3);
/// Between attempts.
pub(crate) const BACKOFF: Backoff = Backoff::new(Duration::from_millis(20), Duration::from_millis(500));
/// Commands that wait for their turn on a connection.
const WAITING: usize = 1024;

/// Why a Redis was not made or opened as a store. No text of it holds a credential.
#[derive(Debug, thiserror::Error)]
pub enum RedisError {
    /// The URL says nothing that can be connected to.
    #[error(
        "the URL of the Redis {0}; write redis://[user[:password]@]host[:port][,host…][/database], rediss:// for TLS, or \
         redis+sentinel://[user[:password]@]host[:port][,host…]/master-name, with %XX for special characters"
    )]
    Url(&'static str),
    /// The CA file holds no certificate.
    #[error("the CA file for the Redis holds no certificate in PEM form; give the one that signed the server's")]
    Certificate,
    /// It cannot be reached, or refuses us.
    #[error("{store}: {cause}; check the URL, that the server runs, and what its user may do")]
    Refused {
        /// Which store.
        store: Arc<str>,
        /// What stood in the way.
        cause: Arc<str>,
    },
    /// It lacks what the store is made of.
    #[error("{store} is Redis {found}, and {needed} is needed ({why}); upgrade it")]
    TooOld {
        /// Which store.
        store: Arc<str>,
        /// Its version.
        found: Arc<str>,
        /// The least version.
        needed: &'static str,
        /// For what.
        why: &'static str,
    },
    /// It may throw away keys.
    #[error(
        "{store} has maxmemory-policy {found} and would throw queued transfers away when its memory is used up; set \
         maxmemory-policy noeviction (CONFIG SET maxmemory-policy noeviction, and in redis.conf)"
    )]
    Policy {
        /// Which store.
        store: Arc<str>,
        /// What is set.
        found: Arc<str>,
    },
    /// There is a run of this name.
    #[error("{store}: there is a run of this name already; resume it, remove it, or name another")]
    Exists {
        /// Which store.
        store: Arc<str>,
    },
    /// There is none.
    #[error("{store}: there is no such run; check its name, or begin a new one")]
    Missing {
        /// Which store.
        store: Arc<str>,
    },
    /// Another nearbench made it.
    #[error(
        "{store}: its format is version {found}, and this nearbench reads version {expected}; use the one that made it"
    )]
    Version {
        /// Which store.
        store: Arc<str>,
        /// What it says.
        found: Arc<str>,
        /// What we read.
        expected: u64,
    },
}

/// How a Redis is reached: a URL, and the CA that its certificate must come from. A secret: it prints as `[redacted]`.
#[derive(Clone)]
pub struct RedisUrl(Arc<Url>);

struct Url {
    tls: bool,
    user: Option<String>,
    password: Option<String>,
    hosts: Vec<(String, u16)>,
    /// Set: the hosts are sentinels, and this is what they watch.
    master: Option<String>,
    database: i64,
    ca: Option<Vec<u8>>,
}

impl fmt::Debug for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

impl fmt::Display for RedisUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[redacted]")
    }
}

fn decoded(text: &str) -> Result<String, RedisError> {
    const BROKEN: RedisError = RedisError::Url("has a % that no two hexadecimal digits follow, or not UTF-8 behind it");
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let mut digit = || bytes.next().and_then(|digit| char::from(digit).to_digit(16)).ok_or(BROKEN);
        out.push((digit()? * 16 + digit()?) as u8);
    }
    String::from_utf8(out).map_err(|_| BROKEN)
}

fn host(text: &str, port: u16) -> Result<(String, u16), RedisError> {
    let (host, after) = match text.strip_prefix('[') {
        Some(text) => text.split_once(']').ok_or(RedisError::Url("has a [ without its ]"))?,
        None => text.split_at(text.find(':').unwrap_or(text.len())),
    };
    let port = match after.strip_prefix(':') {
        Some(port) => port.parse().map_err(|_| RedisError::Url("has a port that is no number up to 65535"))?,
        None if after.is_empty() => port,
        None => return Err(RedisError::Url("has something odd behind a host")),
    };
    if host.is_empty() || host.contains(|c: char| c.is_whitespace() || c.is_control()) {
        return Err(RedisError::Url("names no host"));
    }
    Ok((host.to_owned(), port))
}

impl RedisUrl {
    /// Reads the text of a URL.
    ///
    /// # Errors
    /// It is none, or one of something else.
    pub fn parse(text: &str) -> Result<Self, RedisError> {
        let (scheme, text) = text.trim().split_once("://").ok_or(RedisError::Url("has no scheme"))?;
        let (tls, sentinel) = match scheme {
            "redis" => (false, false),
            "rediss" => (true, false),
            "redis+sentinel" => (false, true),
            "rediss+sentinel" => (true, true),
            _ => return Err(RedisError::Url("has an unknown scheme")),
        };
        if text.contains(['?', '#']) {
            return Err(RedisError::Url("has options, and none are known"));
        }
        let (authority, path) = text.split_once('/').unwrap_or((text, ""));
        let (credentials, hosts) = match authority.rsplit_once('@') {
            Some((credentials, hosts)) => (Some(credentials), hosts),
            None => (None, authority),
        };
        let (user, password) = match credentials.map(|text| text.split_once(':').unwrap_or((text, ""))) {
            Some((user, password)) => (Some(decoded(user)?), Some(decoded(password)?)),
            None => (None, None),
        };
        let port = if sentinel { 26379 } else { 6379 };
        let hosts = hosts.split(',').map(|text| host(text, port)).collect::<Result<_, _>>()?;
        let (master, database) = match (sentinel, path.split_once('/')) {
            (true, None) => (Some(path), ""),
            (true, Some((master, database))) => (Some(master), database),
            (false, None) => (None, path),
            (false, Some(_)) => return Err(RedisError::Url("has a path of several parts")),
        };
        if master == Some("") {
            return Err(RedisError::Url("names no master for its sentinels"));
        }
        let database = match database {
            "" => 0,
            text => text.parse::<u16>().map_err(|_| RedisError::Url("has a database that is no number"))?.into(),
        };
        let some = |text: Option<String>| text.filter(|text| !text.is_empty());
        let master = master.map(decoded).transpose()?;
        Ok(Self(Arc::new(Url { tls, user: some(user), password: some(password), hosts, master, database, ca: None })))
    }

    /// Trusts the certificates in `pem` instead of the system's, for `rediss://`.
    ///
    /// # Errors
    /// There is none in it.
    pub fn with_ca(self, pem: &[u8]) -> Result<Self, RedisError> {
        if !String::from_utf8_lossy(pem).contains("-----BEGIN CERTIFICATE-----") {
            return Err(RedisError::Certificate);
        }
        let Url { tls, user, password, hosts, master, database, .. } = &*self.0;
        let (user, password, hosts, master) = (user.clone(), password.clone(), hosts.clone(), master.clone());
        let ca = Some(pem.to_vec());
        Ok(Self(Arc::new(Url { tls: *tls, user, password, hosts, master, database: *database, ca })))
    }

    /// What may be shown: where, and not as whom.
    pub(crate) fn shown(&self) -> String {
        let hosts: Vec<_> = self.0.hosts.iter().map(|(host, port)| format!("{host}:{port}")).collect();
        match &self.0.master {
            Some(master) => format!("Redis {master} of the sentinels {}", hosts.join(", ")),
            None => format!("Redis at {}", hosts.join(", ")),
        }
    }

    fn client(&self, (host, port): &(String, u16), credentials: bool) -> Result<Client, Fault> {
        let Url { tls, user, password, database, ca, .. } = &*self.0;
        let (host, port) = (host.clone(), *port);
        let addr = match tls {
            true => ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None },
            false => ConnectionAddr::Tcp(host, port),
        };
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if credentials {
            settings = settings.set_db(*database);
            if let Some(user) = user {
                settings = settings.set_username(user);
            }
            if let Some(password) = password {
                settings = settings.set_password(password);
            }
        }
        let info = addr.into_connection_info()?.set_redis_settings(settings);
        if !tls {
            return Ok(Client::open(info)?);
        }
        // Where something else chose a provider already, it is the same.
        _ = rustls::crypto::ring::default_provider().install_default();
        Ok(Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: ca.clone() })?)
    }

    async fn connection(&self, at: &(String, u16), credentials: bool) -> Result<MultiplexedConnection, Fault> {
        let config = AsyncConnectionConfig::new()
            .set_connection_timeout(Some(CONNECT))
            .set_response_timeout(None)
            .set_pipeline_buffer_size(WAITING);
        let client = self.client(at, credentials)?;
        // Its own timeout ends with the connection; who we are is still to be said.
        timeout(CONNECT, client.get_multiplexed_async_connection_with_config(&config))
            .await
            .map_err(|_| silent(at))?
            .map_err(|error| match error.kind() {
                redis::ErrorKind::Io => Fault::Gone(format!("{}:{}: {error}", at.0, at.1).into()),
                _ => error.into(),
            })
    }

    /// Where the primary is now, according to the first sentinel that answers, and what it says of its replicas.
    async fn ask_sentinels(&self, master: &str) -> Result<(String, u16), Fault> {
        let mut fault = Fault::Gone("no sentinel was named".into());
        for sentinel in &self.0.hosts {
            let ask = async {
                let mut connection = self.connection(sentinel, false).await?;
                let mut cmd = redis::cmd("SENTINEL");
                cmd.arg("GET-MASTER-ADDR-BY-NAME").arg(master);
                match answer(&mut connection, &cmd).await? {
                    Value::Array(parts) => match &*parts {
                        [Value::BulkString(host), Value::BulkString(port)] => {
                            let host = String::from_utf8_lossy(host).into_owned();
                            let port = String::from_utf8_lossy(port).parse().unwrap_or(6379);
                            Ok((host, port))
                        }
                        _ => Err(Fault::Gone("a sentinel's answer is no address".into())),
                    },
                    _ => Err(Fault::Gone(format!("the sentinels know no master called {master}").into())),
                }
            };
            match ask.await {
                Ok(found) => return Ok(found),
                Err(other) => fault = other,
            }
        }
        Err(fault)
    }
}

fn silent((host, port): &(String, u16)) -> Fault {
    Fault::Gone(format!("{host}:{port} takes no connection, or says nothing on it").into())
}

/// The answer of a server that may be silent.
async fn answer(connection: &mut MultiplexedConnection, cmd: &Cmd) -> Result<Value, Fault> {
    match timeout(ANSWER, connection.send_packed_command(cmd)).await {
        Ok(answer) => Ok(answer?.extract_error()?),
        Err(_) => Err(Fault::Gone("no answer to a command".into())),
    }
}

/// Why a command was not carried out, and what helps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// The connection, or what it leads to, is no good: find the server anew.
    Gone(Arc<str>),
    /// Another server of the cluster has the keys.
    Moved(String, u16),
    /// The functions are not there: another primary, or somebody flushed them.
    NoFunctions,
    /// Later it may succeed, over this connection too.
    Later(Arc<str>),
    /// The server refuses for a reason that waiting does not mend by itself.
    Refused(Arc<str>),
    /// The server may throw keys away.
    Policy(Arc<str>),
    /// The server knows no functions.
    TooOld(Arc<str>),
}

impl Fault {
    pub(crate) fn cause(&self) -> Arc<str> {
        match self {
            Self::Gone(cause) | Self::Later(cause) | Self::Refused(cause) => cause.clone(),
            Self::Moved(host, port) => format!("its keys are at {host}:{port}").into(),
            Self::NoFunctions => "its functions are not loaded".into(),
            Self::Policy(found) => format!("its maxmemory-policy is {found}, and must be noeviction").into(),
            Self::TooOld(found) => format!("it is Redis {found}, and 7.0 is needed").into(),
        }
    }
}

impl From<redis::RedisError> for Fault {
    fn from(error: redis::RedisError) -> Self {
        let text: Arc<str> = error.to_string().into();
        if let redis::ErrorKind::Server(kind) = error.kind() {
            match kind {
                ServerErrorKind::Moved => {
                    return match error.redirect_node() {
                        Some((node, _)) => match host(node, 6379) {
                            Ok((host, port)) => Self::Moved(host, port),
                            Err(_) => Self::Later(text),
                        },
                        None => Self::Later(text),
                    };
                }
                // A slot on its way to another server: what is there of the keys is not whole until it has arrived.
                ServerErrorKind::Ask | ServerErrorKind::TryAgain | ServerErrorKind::ClusterDown => {
                    return Self::Later(text);
                }
                ServerErrorKind::BusyLoading => return Self::Later(text),
                // A primary that became a replica: the primary is elsewhere, or will be.
                ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown => return Self::Gone(text),
                ServerErrorKind::NoPerm => return Self::Refused(text),
                _ => {}
            }
        }
        if text.contains("Function not found") {
            return Self::NoFunctions;
        }
        match error.code() {
            Some("NOREPLICAS" | "OOM" | "BUSY" | "MISCONF" | "UNBLOCKED") => Self::Later(text),
            Some("WRONGPASS" | "NOAUTH" | "WRONGTYPE") => Self::Refused(text),
            Some(_) => Self::Refused(text),
            None if matches!(error.kind(), redis::ErrorKind::AuthenticationFailed) => Self::Refused(text),
            None => Self::Gone(text),
        }
    }
}

/// A connection and what is known of the server at its other end.
#[derive(Clone)]
pub(crate) struct Live {
    pub(crate) connection: MultiplexedConnection,
    pub(crate) run_id: Arc<str>,
    pub(crate) version: Arc<str>,
    generation: u64,
}

impl Live {
    pub(crate) fn is_at_least(&self, major: u32, minor: u32) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0u32));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= (major, minor)
    }

    /// Asks over this connection.
    pub(crate) async fn ask(&self, cmd: &Cmd, within: Duration) -> Result<Value, Fault> {
        let mut connection = self.connection.clone();
        match timeout(within, connection.send_packed_command(cmd)).await {
            Ok(answer) => Ok(answer?.extract_error()?),
            Err(_) => Err(Fault::Gone("no answer to a step".into())),
        }
    }

    /// Asks several things in one round trip; errors stand among the answers.
    pub(crate) async fn ask_all(&self, pipeline: &Pipeline, within: Duration) -> Result<Vec<Value>, Fault> {
        let mut connection = self.connection.clone();
        match timeout(within, connection.send_packed_commands(pipeline, 0, pipeline.len())).await {
            Ok(answers) => Ok(answers?),
            Err(_) => Err(Fault::Gone("no answer to a group of steps".into())),
        }
    }
}

#[derive(Default)]
struct Way {
    live: Option<Live>,
    /// Where the cluster said that the keys are.
    moved: Option<(String, u16)>,
    /// Which of the hosts is tried next.
    turn: usize,
    generation: u64,
    /// Connections that failed since one succeeded; the next is not tried before.
    backoff: Option<(Backoff, Instant)>,
}

/// One connection, made anew where it broke.
pub(crate) struct Link {
    url: RedisUrl,
    way: tokio::sync::Mutex<Way>,
    /// Why the last connection was not made; `None` once one is.
    fault: Mutex<Option<Fault>>,
}

fn field<'a>(info: &'a str, name: &str) -> Option<&'a str> {
    info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim)
}

impl Link {
    pub(crate) fn new(url: RedisUrl) -> Self {
        Self { url, way: tokio::sync::Mutex::default(), fault: Mutex::default() }
    }

    /// Why there is no connection, where there is none.
    pub(crate) fn fault(&self) -> Option<Fault> {
        self.fault.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The connection; a new one where there is none.
    pub(crate) async fn live(&self) -> Result<Live, Fault> {
        let mut way = self.way.lock().await;
        if let Some(live) = &way.live {
            return Ok(live.clone());
        }
        if let Some((_, not_before)) = way.backoff {
            tokio::time::sleep_until(not_before).await;
        }
        // Kept before it is tried: whoever comes after a caller that gave up goes on with the next.
        let (mut backoff, _) = way.backoff.unwrap_or((BACKOFF, Instant::now()));
        let pause = backoff.step(rand::random());
        way.backoff = Some((backoff, Instant::now() + pause));
        let made = self.make(&mut way).await;
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match made {
            Ok(live) => {
                way.backoff = None;
                way.live = Some(live.clone());
                *fault = None;
                Ok(live)
            }
            Err(failed) => {
                way.moved = None;
                way.turn += 1;
                *fault = Some(failed.clone());
                Err(failed)
            }
        }
    }

    async fn make(&self, way: &mut Way) -> Result<Live, Fault> {
        let at = match (&way.moved, &self.url.0.master) {
            (Some(at), _) => at.clone(),
            (None, Some(master)) => self.url.ask_sentinels(master).await?,
            (None, None) => {
                let hosts = &self.url.0.hosts;
                hosts.get(way.turn % hosts.len().max(1)).cloned().unwrap_or_default()
            }
        };
        let mut connection = self.url.connection(&at, true).await?;
        let info = match answer(&mut connection, &redis::cmd("INFO")).await? {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Value::VerbatimString { text, .. } => text,
            _ => return Err(Fault::Refused("INFO is answered with no text".into())),
        };
        if field(&info, "role") == Some("slave") {
            return Err(Fault::Gone(format!("{}:{} is a replica, and not the primary", at.0, at.1).into()));
        }
        let known = |name| field(&info, name).map(Arc::<str>::from);
        let (Some(run_id), Some(version)) = (known("run_id"), known("redis_version")) else {
            return Err(Fault::Refused("INFO does not say its run_id and version".into()));
        };
        way.generation += 1;
        let live = Live { connection, run_id, version, generation: way.generation };
        if !live.is_at_least(7, 0) {
            return Err(Fault::TooOld(live.version));
        }
        match known("maxmemory_policy") {
            Some(policy) if &*policy != "noeviction" => Err(Fault::Policy(policy)),
            _ => Ok(live),
        }
    }

    /// Leaves a connection that `fault` came from, where that helps.
    pub(crate) async fn heed(&self, live: &Live, fault: &Fault) {
        let (Fault::Gone(_) | Fault::Moved(..)) = fault else { return };
        let mut way = self.way.lock().await;
        if way.generation != live.generation {
            return;
        }
        way.live = None;
        match fault {
            Fault::Moved(host, port) => way.moved = Some((host.clone(), *port)),
            _ => way.moved = None,
        }
    }

    /// A connection that hears what is published, at the same server.
    pub(crate) async fn listen(&self, channel: &[u8]) -> Result<PubSub, Fault> {
        // What is published in a cluster is heard at every server of it.
        let at = match &self.url.0.master {
            Some(master) => self.url.ask_sentinels(master).await?,
            None => {
                let way = self.way.lock().await;
                let hosts = &self.url.0.hosts;
                let host = hosts.get(way.turn % hosts.len().max(1)).cloned().unwrap_or_default();
                way.moved.clone().unwrap_or(host)
            }
        };
        let client = self.url.client(&at, true)?;
        let until = Instant::now() + CONNECT;
        let mut heard = timeout_at(until, client.get_async_pubsub()).await.map_err(|_| silent(&at))??;
        timeout_at(until, heard.subscribe(channel)).await.map_err(|_| silent(&at))??;
        Ok(heard)
    }

    /// How many replicas are connected that may be promoted. One that cannot be asked counts.
    pub(crate) async fn replicas(&self, live: &Live) -> Result<u32, Fault> {
        let mut cmd = redis::cmd("INFO");
        cmd.arg("replication");
        let info = match live.ask(&cmd, ANSWER).await? {
            Value::BulkString(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Value::VerbatimString { text, .. } => text,
            _ => return Ok(0),
        };
        let mut count = 0;
        for number in 0.. {
            let Some(replica) = field(&info, &format!("slave{number}")) else { break };
            let part = |name: &str| replica.split(',').find_map(|part| part.strip_prefix(name)?.strip_prefix('='));
            let at =
                (part("ip").unwrap_or_default().to_owned(), part("port").and_then(|p| p.parse().ok()).unwrap_or(0));
            let may_lead = async {
                let mut connection = self.url.connection(&at, true).await?;
                match answer(&mut connection, &cmd).await? {
                    Value::BulkString(bytes) => {
                        Ok::<_, Fault>(field(&String::from_utf8_lossy(&bytes), "slave_priority") != Some("0"))
                    }
                    _ => Ok(true),
                }
            };
            count += u32::from(may_lead.await.unwrap_or(true));
        }
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn urls_are_read() {
        for (text, shown, user, password, database) in [
            ("redis://localhost", "Redis at localhost:6379", None, None, 0),
            ("redis://:p%40ss@h:7000/3\n", "Redis at h:7000", None, Some("p@ss"), 3),
            ("rediss://bench:a%2Fb:c@[::1]:6380", "Redis at ::1:6380", Some("bench"), Some("a/b:c"), 0),
            ("redis://h1:7000,h2:7001", "Redis at h1:7000, h2:7001", None, None, 0),
            (
                "redis+sentinel://u:p@s1,s2:5000/mymaster/2",
                "Redis mymaster of the sentinels s1:26379, s2:5000",
                Some("u"),
                Some("p"),
                2,
            ),
        ] {
            let url = RedisUrl::parse(text).expect(text);
            assert_eq!(url.shown(), shown);
            assert_eq!((url.0.user.as_deref(), url.0.password.as_deref()), (user, password), "{text}");
            assert_eq!(url.0.database, database, "{text}");
            assert_eq!(format!("{url:?} {url}"), "[redacted] [redacted]");
        }
    }

    #[test]
    fn what_is_no_url_is_refused_without_telling_it() {
        for text in [
            "",
            "localhost:6379",
            "http://sesame@localhost",
            "redis://",
            "redis://:sesame@",
            "redis://:sesame@host:port",
            "redis://:sesame@host:99999",
            "redis://:sesame%zz@host",
            "redis://:sesame%ff@host",
            "redis://:sesame@host/one",
            "redis://:sesame@host/1/2",
            "redis://:sesame@host?timeout=1",
            "redis://:sesame@host#insecure",
            "redis://:sesame@[::1",
            "redis://:sesame@[::1]x",
            "redis://h1,,h2",
            "redis+sentinel://:sesame@host",
            "redis+sentinel://:sesame@host/",
        ] {
            let error = RedisUrl::parse(text).expect_err(text);
            assert!(!format!("{error} {error:?}").contains("sesame"), "{error}");
        }
        let url = RedisUrl::parse("rediss://host").expect("a URL");
        assert!(matches!(url.with_ca(b"sesame"), Err(RedisError::Certificate)));
    }

    proptest! {
        #[test]
        fn any_password_survives_its_encoding(password in any::<String>()) {
            let encoded: String = password.bytes().map(|byte| format!("%{byte:02x}")).collect();
            let url = RedisUrl::parse(&format!("redis://user:{encoded}@host")).expect("a URL");
            prop_assert_eq!(url.0.password.clone().unwrap_or_default(), password);
        }

        #[test]
        fn no_text_makes_reading_panic(text in any::<String>()) {
            _ = RedisUrl::parse(&text);
            _ = RedisUrl::parse(&format!("redis://{text}"));
        }
    }
}
