//! A chain in a folder outlives its process.

use crate::world::{BENCH, NEAR, base64, call, config, signed};
use near_primitives::{
    action::{Action, TransferAction},
    types::Balance,
};
use nearbench_devnet::{AccountConfig, Config, Devnet, DevnetError, Difference, HomeError, history::LOG_NAME};
use serde_json::json;
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_chain_in_a_folder_goes_on_where_it_stopped() {
    let home = tempfile::tempdir().unwrap();
    let at_home = || Config { home: Some(home.path().to_owned()), ..config() };

    let devnet = Devnet::start(at_home()).await.unwrap();
    let pay = Action::Transfer(TransferAction { deposit: Balance::from_yoctonear(NEAR) });
    let transaction = signed(&devnet, BENCH, 1, "user-1.test.near", vec![pay]).await;
    let send = json!({"signed_tx_base64": base64(&transaction), "wait_until": "FINAL"});
    let sent = call(&devnet, "send_tx", send).await;
    devnet.stop().await;
    let stopped = call(&devnet, "status", json!([])).await;
    drop(devnet);

    let devnet = Devnet::start(at_home()).await.unwrap();
    let restored = call(&devnet, "block", json!([stopped["sync_info"]["latest_block_height"]])).await;
    assert_eq!(restored["header"]["hash"], stopped["sync_info"]["latest_block_hash"]);
    let id = json!({"tx_hash": transaction.get_hash(), "sender_account_id": BENCH, "wait_until": "FINAL"});
    assert_eq!(call(&devnet, "tx", id).await, sent);
}

#[tokio::test]
async fn every_parameter_that_differs_is_named_with_both_values_and_nothing_changes() {
    let folder = tempfile::tempdir().unwrap();
    let home = folder.path().join("home");
    let made = Config { home: Some(home.clone()), ..config() };
    let devnet = Devnet::start(made.clone()).await.unwrap();
    devnet.stop().await;
    drop(devnet);
    let before = contents(&home);

    let account = |change: fn(&mut AccountConfig)| {
        let mut config = made.clone();
        change(&mut config.accounts[1]);
        config
    };
    for (other, field, given, made_with) in [
        (Config { chain_id: "other".into(), ..made.clone() }, "chain_id", "other", "localnet"),
        (Config { protocol_version: 85, ..made.clone() }, "protocol_version", "85", "86"),
        (Config { block_time: Duration::from_secs(1), ..made.clone() }, "block_time", "1000ms", "600ms"),
        (Config { gas_limit: 7, ..made.clone() }, "gas_limit", "7", "1000000000000000"),
        (Config { transaction_validity_period: 9, ..made.clone() }, "transaction_validity_period", "9", "86400"),
        (Config { epoch_length: 50_000, ..made.clone() }, "epoch_length", "50000", "43200"),
        (Config { keep_epochs: Some(4), ..made.clone() }, "keep_epochs", "4", "everything"),
        (account(|account| account.account_id = "x.near".into()), "accounts[1].account_id", "x.near", BENCH),
        (account(|account| account.balance = 5), "accounts[1].balance", "5", &(1_000_000 * NEAR).to_string()),
    ] {
        let started = Devnet::start(other.clone()).await.map(|_| ());
        for refused in [started, other.check()] {
            let error = refused.unwrap_err();
            let DevnetError::Home(HomeError::Differs { differences, .. }) = &error else { panic!("{field}: {error}") };
            let (given, made_with) = (Some(given.to_owned()), Some(made_with.to_owned()));
            assert_eq!(*differences, [Difference { field: field.to_owned(), given, made_with }]);
            assert!(error.to_string().contains(&home.display().to_string()), "{error}");
        }
    }
    let fewer = Config { accounts: made.accounts[1..].to_vec(), ..made.clone() };
    let Err(DevnetError::Home(HomeError::Differs { differences, .. })) = fewer.check() else { panic!("not refused") };
    assert!(differences.iter().any(|difference| difference.given.is_none()), "{differences:?}");
    assert_eq!(contents(&home), before);

    // A log of another format is told, and not the parameters that chains of that format did not have.
    let mut log = std::fs::read(home.join(LOG_NAME)).unwrap();
    log[8] -= 1;
    std::fs::write(home.join(LOG_NAME), log).unwrap();
    let error = Config { epoch_length: 50_000, ..made }.check().unwrap_err().to_string();
    assert!(error.contains("has format 2") && error.contains("another folder"), "{error}");
}

#[tokio::test]
async fn a_home_that_cannot_be_made_leaves_nothing_behind() {
    let folder = tempfile::tempdir().unwrap();
    let wrong = Config { home: Some(folder.path().join("a/b")), gas_limit: 0, ..config() };
    Devnet::start(wrong).await.map(|_| ()).unwrap_err();
    assert_eq!(contents(folder.path()), []);
    // The first two folders are made, the third has a name that is too long.
    let too_long = folder.path().join("a/b").join("c".repeat(300));
    Devnet::start(Config { home: Some(too_long), ..config() }).await.map(|_| ()).unwrap_err();
    assert_eq!(contents(folder.path()), []);

    // A folder where the log should be.
    let home = folder.path().join("taken");
    std::fs::create_dir_all(home.join(LOG_NAME)).unwrap();
    let before = contents(&home);
    Devnet::start(Config { home: Some(home.clone()), ..config() }).await.map(|_| ()).unwrap_err();
    assert_eq!(contents(&home), before);
    // A file where a folder should be.
    std::fs::write(folder.path().join("file"), "").unwrap();
    let error = Devnet::start(Config { home: Some(folder.path().join("file/home")), ..config() }).await.map(|_| ());
    assert!(error.unwrap_err().to_string().contains("file/home"));
    assert_eq!(contents(folder.path()).len(), 2);
}

/// Names and bytes of what is in a folder.
fn contents(folder: &std::path::Path) -> Vec<(String, Vec<u8>)> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let content = |path: std::path::PathBuf| (path.display().to_string(), std::fs::read(&path).unwrap_or_default());
    let mut contents: Vec<_> = entries.map(content).collect();
    contents.sort();
    contents
}
