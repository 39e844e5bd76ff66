//! How long `send_tx` takes on an idle chain with blocks of 600 ms, in real time, for each level of waiting.
#![allow(clippy::print_stdout)]

use base64::{Engine, engine::general_purpose::STANDARD};
use near_crypto::{KeyType, SecretKey};
use near_primitives::{
    action::{Action, TransferAction},
    hash::CryptoHash,
    transaction::{SignedTransaction, Transaction, TransactionV0},
    types::Balance,
};
use nearbench_devnet::{AccountConfig, Config, Devnet};
use serde_json::{Value, json};
use std::{error::Error, time::Instant};

const REPETITIONS: u32 = 5;
const ACCOUNT: &str = "bench.devnet";
const RECEIVER: &str = "user.devnet";

async fn call(devnet: &Devnet, method: &str, params: Value) -> Result<Value, Box<dyn Error>> {
    let request = json!({"jsonrpc": "2.0", "id": 1, "method": method, "params": params});
    let answer: Value = serde_json::from_slice(&devnet.handle(request.to_string().into()).await.body)?;
    match answer.get("result") {
        Some(result) => Ok(result.clone()),
        None => Err(answer.to_string().into()),
    }
}

async fn transfer(devnet: &Devnet, key: &SecretKey, nonce: u64) -> Result<String, Box<dyn Error>> {
    let block = call(devnet, "block", json!({"finality": "final"})).await?;
    let block_hash: CryptoHash = serde_json::from_value(block["header"]["hash"].clone())?;
    let transaction = Transaction::V0(TransactionV0 {
        signer_id: ACCOUNT.parse()?,
        public_key: key.public_key(),
        nonce,
        receiver_id: RECEIVER.parse()?,
        block_hash,
        actions: vec![Action::Transfer(TransferAction { deposit: Balance::ZERO })],
    });
    let (hash, _) = transaction.get_hash_and_size();
    let signed = SignedTransaction::new(key.sign(hash.as_ref()), transaction);
    Ok(STANDARD.encode(borsh::to_vec(&signed)?))
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let key = SecretKey::from_seed(KeyType::ED25519, ACCOUNT);
    let accounts = [ACCOUNT, RECEIVER].map(|account_id| AccountConfig {
        account_id: account_id.to_owned(),
        balance: 10_u128.pow(27),
        public_keys: vec![key.public_key().to_string()],
    });
    let devnet = Devnet::start(Config { accounts: accounts.into(), ..Config::default() }).await?;
    let mut nonce = 0;
    for level in ["INCLUDED", "EXECUTED_OPTIMISTIC", "INCLUDED_FINAL", "EXECUTED", "FINAL"] {
        let mut seconds = Vec::new();
        for _ in 0..REPETITIONS {
            nonce += 1;
            let transaction = transfer(&devnet, &key, nonce).await?;
            let sent = Instant::now();
            call(&devnet, "send_tx", json!({"signed_tx_base64": transaction, "wait_until": level})).await?;
            seconds.push(sent.elapsed().as_secs_f64());
        }
        let mean = seconds.iter().sum::<f64>() / f64::from(REPETITIONS);
        let (least, most) = seconds.iter().fold((f64::MAX, 0_f64), |(low, high), s| (low.min(*s), high.max(*s)));
        println!("{level:<20} mean {mean:.3} s, {least:.3} to {most:.3} s");
    }
    devnet.stop().await;
    Ok(())
}
