//! A devnet with the accounts of the recordings, under a clock that stands still unless told to move.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use near_crypto::{KeyType, SecretKey};
use near_primitives::{
    action::{Action, DeployContractAction, FunctionCallAction},
    hash::CryptoHash,
    transaction::{SignedTransaction, Transaction, TransactionV0},
    types::{Balance, Gas},
};
use nearbench_devnet::{AccountConfig, Config, Devnet};
use serde_json::{Value, json};
use std::{future::Future, net::SocketAddr, sync::mpsc, time::Duration};

pub const NEAR: u128 = 10_u128.pow(24);
pub const BENCH: &str = "bench.test.near";
pub const TOKEN: &str = "ft.test.near";
const WASM: &[u8] = include_bytes!("../data/ft-sdk-5.24.wasm");

/// The key that an account starts with.
pub fn key(account: &str) -> SecretKey {
    SecretKey::from_seed(KeyType::ED25519, account)
}

pub fn config() -> Config {
    let users = (0..5).map(|n| format!("user-{n}.test.near"));
    let accounts = ["test.near", BENCH, TOKEN]
        .map(str::to_owned)
        .into_iter()
        .chain(users);
    let account = |account_id: String| AccountConfig {
        public_keys: vec![key(&account_id).public_key().to_string()],
        balance: 1_000_000 * NEAR,
        account_id,
    };
    Config {
        chain_id: "localnet".to_owned(),
        accounts: accounts.map(account).collect(),
        ..Config::default()
    }
}

/// Stops tokio's paused clock from moving by itself for as long as it lives: it does not while a blocking task runs.
pub struct Frozen {
    _until_dropped: mpsc::Sender<()>,
}

pub fn freeze() -> Frozen {
    let (until_dropped, dropped) = mpsc::channel::<()>();
    tokio::task::spawn_blocking(move || dropped.recv());
    Frozen {
        _until_dropped: until_dropped,
    }
}

/// Moves the frozen clock until `future` is ready, slowly enough for sockets and contracts, which take real time.
pub async fn moving<T>(future: impl Future<Output = T>) -> T {
    tokio::pin!(future);
    loop {
        tokio::select! {
            biased;
            output = &mut future => return output,
            _ = tokio::task::spawn_blocking(|| std::thread::sleep(Duration::from_millis(3))) => {
                tokio::time::advance(Duration::from_millis(30)).await;
            }
        }
    }
}

/// A JSON-RPC request.
pub fn request(method: &str, params: Value) -> Bytes {
    json!({"jsonrpc": "2.0", "id": "test", "method": method, "params": params})
        .to_string()
        .into()
}

/// The result of a JSON-RPC request without HTTP.
pub async fn call(devnet: &Devnet, method: &str, params: Value) -> Value {
    let answer = devnet.handle(request(method, params)).await;
    let mut body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(answer.status, 200, "{method}: {body}");
    assert!(body.get("error").is_none(), "{method}: {body}");
    body["result"].take()
}

/// The hash of the latest final block.
pub async fn final_hash(devnet: &Devnet) -> CryptoHash {
    let block = call(devnet, "block", json!({"finality": "final"})).await;
    block["header"]["hash"].as_str().unwrap().parse().unwrap()
}

/// A transaction signed with the account's first key.
pub async fn signed(
    devnet: &Devnet,
    signer: &str,
    nonce: u64,
    receiver: &str,
    actions: Vec<Action>,
) -> SignedTransaction {
    let transaction = Transaction::V0(TransactionV0 {
        signer_id: signer.parse().unwrap(),
        public_key: key(signer).public_key(),
        nonce,
        receiver_id: receiver.parse().unwrap(),
        block_hash: final_hash(devnet).await,
        actions,
    });
    sign(transaction, &key(signer))
}

pub fn sign(transaction: Transaction, key: &SecretKey) -> SignedTransaction {
    let (hash, _) = transaction.get_hash_and_size();
    SignedTransaction::new(key.sign(hash.as_ref()), transaction)
}

pub fn base64(transaction: &SignedTransaction) -> String {
    STANDARD.encode(borsh::to_vec(transaction).unwrap())
}

pub fn function_call(method: &str, args: &Value, deposit: u128) -> Action {
    Action::FunctionCall(Box::new(FunctionCallAction {
        method_name: method.to_owned(),
        args: args.to_string().into_bytes(),
        gas: Gas::from_teragas(30),
        deposit: Balance::from_yoctonear(deposit),
    }))
}

/// Deploys the token and registers users, as in the recordings.
pub async fn deploy_token(devnet: &Devnet) {
    let new = json!({"owner_id": BENCH, "total_supply": (1_000_000_000 * NEAR).to_string()});
    let deploy = Action::DeployContract(DeployContractAction {
        code: WASM.to_vec(),
    });
    let register = |n| {
        function_call(
            "storage_deposit",
            &json!({"account_id": format!("user-{n}.test.near")}),
            NEAR / 800,
        )
    };
    for (signer, nonce, actions) in [
        (TOKEN, 1, vec![deploy, function_call("new", &new, 0)]),
        (BENCH, 1, (1..4).map(register).collect()),
    ] {
        let transaction = signed(devnet, signer, nonce, TOKEN, actions).await;
        call(
            devnet,
            "send_tx",
            json!({"signed_tx_base64": base64(&transaction), "wait_until": "NONE"}),
        )
        .await;
        // Compiling the contract may take longer than a request waits.
        let id = json!({"tx_hash": transaction.get_hash(), "sender_account_id": signer, "wait_until": "FINAL"});
        loop {
            let answer = moving(devnet.handle(request("tx", id.clone()))).await;
            if answer.status == 200 {
                let body: Value = serde_json::from_slice(&answer.body).unwrap();
                assert!(
                    body["result"]["status"]["SuccessValue"].is_string(),
                    "{body}"
                );
                break;
            }
        }
    }
}

/// Serves `devnet` on a free port of the loopback interface until the test ends.
pub async fn serve(devnet: &Devnet) -> SocketAddr {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let devnet = devnet.clone();
    tokio::spawn(async move { devnet.serve(listener, std::future::pending()).await });
    address
}

/// A client that asks no proxy.
pub fn http() -> reqwest::Client {
    reqwest::Client::builder().no_proxy().build().unwrap()
}
