//! Starts the binary in a folder of its own and keeps what it said.

use nearbench_devnet::{AccountConfig, Config, Devnet};
use nearbench_near::Signer;
use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};
use tempfile::TempDir;

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

    /// `nearbench ARGUMENTS` in this folder.
    pub(crate) fn nearbench(&self, arguments: &[&str]) -> Ended {
        let output = self.command(arguments).output().unwrap();
        Ended {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_nearbench"));
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null()).env_clear();
        command
    }
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
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        let root = Signer::generate("test.near".parse().unwrap(), &mut rand::rng());
        let (devnet, url) = runtime.block_on(async {
            let devnet = Devnet::start(Config {
                chain_id: chain_id.to_owned(),
                block_time: Duration::from_millis(60),
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

    /// The nonce of the root key: it moves with everything that the root account signs.
    pub(crate) fn root_nonce(&self) -> u64 {
        let request = serde_json::json!({"jsonrpc": "2.0", "id": 1, "method": "query", "params": {
            "request_type": "view_access_key", "finality": "optimistic",
            "account_id": "test.near", "public_key": self.root.public_key()}});
        let answer = self._runtime.block_on(self.devnet.handle(request.to_string().into()));
        serde_json::from_slice::<serde_json::Value>(&answer.body).unwrap()["result"]["nonce"].as_u64().unwrap()
    }
}
