//! Starts the binary in a folder of its own and keeps what it said.

use nearbench_devnet::{AccountConfig, Config, Devnet};
use nearbench_near::Signer;
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};
use tempfile::TempDir;

/// A service that takes no transfer for so long takes none.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) code: i32,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A folder to run in.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// Leaves it on disk.
    pub(crate) fn keep(self) -> PathBuf {
        self.0.keep()
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    pub(crate) fn report(&self) -> serde_json::Value {
        serde_json::from_str(&fs::read_to_string(self.path().join("out/report.json")).unwrap()).unwrap()
    }

    /// The names of what lies in `out`, in order.
    pub(crate) fn left(&self) -> Vec<String> {
        names(&self.path().join("out"))
    }

    /// `nearbench ARGUMENTS` in this folder.
    pub(crate) fn nearbench(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().unwrap();
        Ended {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    /// The same, with a Ctrl-C for each of `marks` once standard error says it, in that order, and `ready` then holds.
    pub(crate) fn interrupted(&self, arguments: &[&str], marks: &[&str], ready: &dyn Fn() -> bool) -> Ended {
        let mut child = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut marks, mut stderr) = (marks.iter().peekable(), String::new());
        for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
            if marks.next_if(|mark| line.contains(**mark)).is_some() {
                while !ready() {
                    std::thread::sleep(Duration::from_millis(5));
                }
                let kill = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
                assert!(kill.unwrap().success());
            }
            stderr += &(line + "\n");
        }
        assert_eq!(marks.next(), None, "it was said: {stderr}");
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        Ended { code: output.status.code().unwrap(), stdout, stderr }
    }

    /// The same, uninterrupted; `heard` gets each line of standard error.
    pub(crate) fn listened(&self, arguments: &[&str], mut heard: impl FnMut(&str)) -> Ended {
        let mut child = self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut stderr = String::new();
        for line in BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok) {
            heard(&line);
            stderr += &(line + "\n");
        }
        let output = child.wait_with_output().unwrap();
        let stdout = String::from_utf8(output.stdout).unwrap();
        Ended { code: output.status.code().unwrap(), stdout, stderr }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearbench"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null()).env_clear();
        command
    }
}

/// The names of what lies in a folder, in order.
pub(crate) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<_> = entries.collect();
    names.sort();
    names
}

/// A chain in the test's process, served on loopback, on which `test.near` owns everything.
pub(crate) struct Chain {
    pub(crate) devnet: Devnet,
    pub(crate) url: String,
    pub(crate) root: Signer,
    _runtime: tokio::runtime::Runtime,
}

impl Chain {
    pub(crate) fn start(chain_id: &str) -> Self {
        Self::with_blocks_every(chain_id, Duration::from_millis(60))
    }

    pub(crate) fn with_blocks_every(chain_id: &str, block_time: Duration) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let root = Signer::generate("test.near".parse().unwrap(), &mut rand::rng());
        let (devnet, url) = runtime.block_on(async {
            let devnet = Devnet::start(Config {
                chain_id: chain_id.to_owned(),
                block_time,
                accounts: vec![AccountConfig {
                    account_id: "test.near".to_owned(),
                    balance: 1_000_000 * 10u128.pow(24),
                    public_keys: vec![root.public_key().to_owned()],
                }],
                ..Config::default()
            })
            .await
            .unwrap();
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let serving = devnet.clone();
            tokio::spawn(async move { serving.serve(listener, std::future::pending()).await });
            (devnet, url)
        });
        Self { devnet, url, root, _runtime: runtime }
    }

    /// The key file of `signer` as the Secret `name`.
    pub(crate) fn secret(&self, folder: &Folder, name: &str, signer: &Signer) {
        let text = serde_json::json!({
            "account_id": signer.account(),
            "public_key": signer.public_key(),
            "private_key": signer.secret().expose(),
        });
        folder.write(&format!("secrets/{name}/nearbench-account.json"), &text.to_string());
    }

    /// The nonce of the root key on an account: it moves with everything that is signed with it there.
    pub(crate) fn root_nonce(&self, account: &str) -> u64 {
        let answer = self.query(serde_json::json!({"request_type": "view_access_key", "finality": "optimistic",
            "account_id": account, "public_key": self.root.public_key()}));
        answer["nonce"].as_u64().unwrap()
    }

    /// The public keys of an account.
    pub(crate) fn keys(&self, account: &str) -> Vec<String> {
        let answer = self.query(serde_json::json!({"request_type": "view_access_key_list", "finality": "final",
            "account_id": account}));
        let keys = answer["keys"].as_array().unwrap().iter();
        keys.map(|key| key["public_key"].as_str().unwrap().to_owned()).collect()
    }

    /// It fails by these rules from now on.
    pub(crate) fn fail(&self, rules: &serde_json::Value) {
        let address = self.url.trim_start_matches("http://").parse().unwrap();
        let (status, answer) = Client::new(address, "").post("/faults", "", &rules.to_string());
        assert_eq!(status, 200, "{answer}");
    }

    /// It fails no more.
    pub(crate) fn heal(&self) {
        let address = self.url.trim_start_matches("http://").parse().unwrap();
        let (status, answer) = Client::new(address, "").ask("DELETE", "/faults", "", "").unwrap();
        assert_eq!(status, 200, "{answer}");
    }

    /// The tokens of `account` at the token `contract`.
    pub(crate) fn tokens(&self, contract: &str, account: &str) -> u128 {
        use base64::{Engine as _, engine::general_purpose::STANDARD};
        let args = STANDARD.encode(serde_json::json!({"account_id": account}).to_string());
        let answer = self.query(serde_json::json!({"request_type": "call_function", "finality": "optimistic",
            "account_id": contract, "method_name": "ft_balance_of", "args_base64": args}));
        let bytes: Vec<u8> = serde_json::from_value(answer["result"].clone()).unwrap();
        serde_json::from_slice::<String>(&bytes).unwrap().parse().unwrap()
    }

    /// A transaction that `sender` signed, and what became of it.
    pub(crate) fn transaction(&self, hash: &str, sender: &str) -> serde_json::Value {
        self.ask("tx", serde_json::json!({"tx_hash": hash, "sender_account_id": sender, "wait_until": "FINAL"}))
    }

    fn query(&self, params: serde_json::Value) -> serde_json::Value {
        self.ask("query", params)
    }

    fn ask(&self, method: &str, params: serde_json::Value) -> serde_json::Value {
        let request = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
        let answer = self._runtime.block_on(self.devnet.handle(request.to_string().into()));
        serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["result"].clone()
    }
}

/// Ports that follow each other, and that nothing listens on.
pub(crate) fn free_ports(count: u16) -> Vec<SocketAddr> {
    loop {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let ports = (0..count).map_while(|n| first.local_addr().unwrap().port().checked_add(n));
        let addresses: Vec<_> = ports.map(|port| SocketAddr::from(([127, 0, 0, 1], port))).collect();
        if addresses.len() == usize::from(count)
            && addresses.iter().skip(1).all(|address| TcpListener::bind(address).is_ok())
        {
            return addresses;
        }
    }
}

/// Whoever asks a transfer API.
pub(crate) struct Client {
    address: SocketAddr,
    token: String,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, token: &str) -> Self {
        Self { address, token: token.to_owned() }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Submits a transfer: the status, and what was said.
    pub(crate) fn post(&self, path: &str, key: &str, body: &str) -> (u16, serde_json::Value) {
        self.try_post(path, key, body).unwrap()
    }

    /// The same, again and again until somebody answers and takes transfers.
    pub(crate) fn post_until_open(&self, path: &str, key: &str, body: &str) -> (u16, serde_json::Value) {
        let began = Instant::now();
        loop {
            match self.try_post(path, key, body) {
                refused @ (Ok((502..=504, _)) | Err(_)) if began.elapsed() > PATIENCE => panic!("{path}: {refused:?}"),
                Ok((502..=504, _)) | Err(_) => std::thread::sleep(Duration::from_millis(20)),
                Ok(answer) => return answer,
            }
        }
    }

    /// Asks for what is there.
    pub(crate) fn get(&self, path: &str) -> (u16, serde_json::Value) {
        self.ask("GET", path, "", "").unwrap()
    }

    fn try_post(&self, path: &str, key: &str, body: &str) -> std::io::Result<(u16, serde_json::Value)> {
        let headers = format!("Idempotency-Key: {key}\r\nContent-Type: application/json\r\n");
        self.ask("POST", path, &headers, body)
    }

    fn ask(&self, method: &str, path: &str, more: &str, body: &str) -> std::io::Result<(u16, serde_json::Value)> {
        let Self { address, token } = self;
        let mut stream = TcpStream::connect(address)?;
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n{more}\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len(),
        )?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        let broken = || std::io::Error::other(format!("no answer: {answer}"));
        let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
        let (_, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
        Ok((status, serde_json::from_str(body).map_err(std::io::Error::other)?))
    }
}
