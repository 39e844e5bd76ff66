//! Real Redis servers, each on a port and in a folder of its own; they end with the test.

use ::redis::Value;
use std::{
    fs,
    io::{Read, Write},
    net::{TcpListener, TcpStream},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A redis-server.
pub struct RedisServer {
    child: Child,
    /// Where it listens, on 127.0.0.1.
    pub port: u16,
    folder: TempDir,
    args: Vec<String>,
    /// Said first on each connection of the test's own.
    login: Option<(String, String)>,
}

/// A port that nobody has now.
pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl RedisServer {
    /// A server that saves nothing, with these settings besides.
    pub fn start(args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), args)
    }

    /// The same in this folder.
    pub fn start_in(folder: TempDir, args: &[&str]) -> Self {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        // Another may take the port meanwhile.
        for _ in 0..10 {
            let port = free_port();
            if let Some(child) = spawn(port, &folder, &args, false) {
                return Self { child, port, folder, args, login: None };
            }
        }
        panic!("redis-server does not start: install it with .ci/setup servers")
    }

    /// A sentinel with this configuration.
    pub fn start_sentinel(folder: TempDir, conf: &std::path::Path) -> Self {
        let args = vec!["--sentinel".to_owned()];
        for _ in 0..10 {
            let port = free_port();
            let mut command = Command::new("redis-server");
            command.arg(conf).args(["--sentinel", "--port", &port.to_string(), "--bind", "127.0.0.1"]);
            if let Some(child) = started(command, port, &folder, false) {
                return Self { child, port, folder, args, login: None };
            }
        }
        panic!("no sentinel starts")
    }

    /// The value of a setting that it answers with.
    pub fn info_of(&self, words: &[&str]) -> String {
        let pair: Vec<String> = ::redis::from_redis_value(self.ask(words)).unwrap();
        pair.into_iter().nth(1).unwrap()
    }

    /// The user that the test asks as, from now on.
    pub fn log_in(&mut self, user: &str, password: &str) {
        self.login = Some((user.to_owned(), password.to_owned()));
    }

    /// What it saves, and its log, are here.
    pub fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Its address as a URL.
    pub fn address(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// As `kill -9` does.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Once more, on what is in its folder, as soon as it says anything.
    pub fn restart_into_loading(&mut self, args: &[&str]) {
        self.args.extend(args.iter().map(|arg| (*arg).to_owned()));
        self.child = spawn(self.port, &self.folder, &self.args, true).expect("it starts again");
    }

    /// Once more, on what is in its folder.
    pub fn restart(&mut self) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(child) = spawn(self.port, &self.folder, &self.args, false) {
                self.child = child;
                return;
            }
            assert!(Instant::now() < until, "it does not start again");
        }
    }

    /// Sends it a signal, such as `-STOP`.
    pub fn signal(&self, signal: &str) {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args([signal, &pid]).status().unwrap().success());
    }

    /// What it answers.
    pub fn try_ask(&self, words: &[&str]) -> Result<Value, ::redis::RedisError> {
        let credentials = self.login.as_ref().map(|(user, password)| format!("{user}:{password}@")).unwrap_or_default();
        let client = ::redis::Client::open(format!("redis://{credentials}127.0.0.1:{}", self.port))?;
        let mut connection = client.get_connection()?;
        let mut cmd = ::redis::cmd(words[0]);
        cmd.arg(&words[1..]);
        cmd.query(&mut connection)
    }

    /// What it answers; it must.
    pub fn ask(&self, words: &[&str]) -> Value {
        self.try_ask(words).unwrap()
    }

    /// How many keys it holds.
    pub fn keys(&self) -> u64 {
        ::redis::from_redis_value(self.ask(&["DBSIZE"])).unwrap()
    }

    /// A field of INFO; empty where there is none.
    pub fn info(&self, field: &str) -> String {
        let text: String = ::redis::from_redis_value(self.ask(&["INFO", "everything"])).unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
        line.unwrap_or_default().trim().to_owned()
    }

    /// A replica that has caught up.
    pub fn replica(&self, args: &[&str]) -> Self {
        let port = self.port.to_string();
        let args = [&["--replicaof", "127.0.0.1", &port, "--repl-diskless-sync-delay", "0"], args].concat();
        let replica = Self::start(&args);
        eventually("it follows", || replica.info("master_link_status") == "up");
        eventually("it is online", || {
            (0..9).any(|n| self.info(&format!("slave{n}")).contains(&format!("port={},state=online", replica.port)))
        });
        replica
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

/// Waits for `done`, and says what did not come about.
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < until, "not within 20 s: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn spawn(port: u16, folder: &TempDir, args: &[String], loading: bool) -> Option<Child> {
    let mut command = Command::new("redis-server");
    command
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--repl-diskless-sync-delay", "0"])
        .args(["--dir", &folder.path().to_string_lossy()])
        .args(args);
    started(command, port, folder, loading)
}

fn started(mut command: Command, port: u16, folder: &TempDir, loading: bool) -> Option<Child> {
    let log = fs::File::create(folder.path().join("log")).unwrap();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(Stdio::null())
        .spawn()
        .expect("redis-server runs: install it with .ci/setup servers");
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if child.try_wait().unwrap().is_some() {
            return None;
        }
        if answers(port, loading) {
            return Some(child);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    _ = child.kill();
    _ = child.wait();
    None
}

/// Whether it says something, be it that it wants a password; or that it loads, where that will do.
fn answers(port: u16, loading: bool) -> bool {
    let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
    _ = stream.set_read_timeout(Some(Duration::from_millis(500)));
    let mut byte = [0; 4];
    stream.write_all(b"PING\r\n").is_ok() && stream.read_exact(&mut byte).is_ok() && (loading || &byte != b"-LOA")
}
