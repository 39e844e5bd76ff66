//! Evidence about a key's past: of whom it is asked, and what a chain says.

use crate::{
    devnet::{account, stage, transfer},
    fake::{Fake, client, ok},
};
use nearbench_core::{
    Hash, TGAS,
    outcome::TxStatus,
    settle::{KeyChange, KeyLook, Seen},
};
use nearbench_near::{
    chain::{At, Wait},
    provision::remove_keys,
    transaction::{sign_fence, sign_transfers},
    transport::TransportError,
};

const KEY: &str = r#"{"result":{"block_height":9,"block_hash":"11111111111111111111111111111111","nonce":7,"permission":"FullAccess"}}"#;

fn error(cause: &str) -> String {
    format!(r#"{{"error":{{"cause":{{"name":"{cause}","info":{{}}}},"data":"x"}}}}"#)
}

#[tokio::test(start_paused = true)]
async fn whoever_still_has_a_block_is_asked_and_what_nobody_has_is_told_apart_from_what_nobody_knows() {
    let (collected, unknown) = (ok(422, error("GARBAGE_COLLECTED_BLOCK")), ok(422, error("UNKNOWN_BLOCK")));
    let down = Err(TransportError::Connect("refused".to_owned()));
    let key = Ok(Seen::Key(KeyLook { height: 9, nonce: Some(7) }));
    for (first, second, expected, why) in [
        (collected.clone(), ok(200, KEY), key, "the second is archival"),
        (collected.clone(), collected.clone(), Ok(Seen::Collected), "both have collected it"),
        (unknown.clone(), unknown.clone(), Ok(Seen::NoBlock), "there is none of that height"),
        (collected.clone(), unknown, Ok(Seen::NoBlock), "the archival one says that there never was one"),
        (collected, down, Err("connect"), "the one that is down might have it"),
    ] {
        let (first, second) = (Fake::new(first), Fake::new(second));
        let seen = client(&[&first, &second]).key_at_height(&account("a.near"), "ed25519:x", 9).await;
        assert_eq!(seen.map_err(|error| error.fault.label()), expected, "{why}");
        assert_eq!((first.count(), second.count()), (1, 1), "{why}");
    }
    let (first, second) =
        (Fake::new(ok(200, error("UNKNOWN_TRANSACTION"))), Fake::new(ok(200, error("UNKNOWN_TRANSACTION"))));
    let status = client(&[&first, &second]).outcome_from_any(Hash::default(), &account("a.near")).await;
    assert_eq!((status, first.count(), second.count()), (Ok(TxStatus::Unknown), 1, 1), "an archival one would know it");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_block_that_moved_a_key_shows_by_whom_and_what_it_was_before() {
    let stage = stage().await;
    let desired = stage.desired();
    let provisioned = stage.provision(&desired).await.0.unwrap();
    let (lane, client, payer) = (&stage.lanes[0], &stage.client, &desired.account);
    let base = client.block(At::Final).await.unwrap().at;
    let nonce = provisioned.lanes[0].nonce + 5;
    let batch = [transfer(1, &desired.receivers[0])];
    let tx = sign_transfers(lane, &desired.token, &batch, 5 * TGAS, nonce, &base);
    let fence = sign_fence(lane, nonce + 1, &base);
    for tx in [&tx, &fence] {
        client.send(tx).await.unwrap();
        while !matches!(client.tx_status(tx.hash, payer, Wait::Final).await.unwrap(), TxStatus::Landed(_)) {}
    }

    // From the block of the first, the chain can be walked back to the base.
    let mut crossed = Vec::new();
    let mut hash = client.block(At::Final).await.unwrap().at.hash;
    loop {
        let (block, signed) = client.signed_in(payer, hash).await.unwrap().unwrap();
        if block.height <= base.height {
            break;
        }
        crossed.extend(signed.into_iter().map(|hash| (hash, block.height)));
        hash = block.prev_hash;
    }
    crossed.reverse();
    assert_eq!(crossed.iter().map(|(hash, _)| *hash).collect::<Vec<_>>(), [tx.hash, fence.hash]);

    let passing = client.passing(payer, lane.public_key(), crossed[0].1).await.unwrap().unwrap();
    assert_eq!(passing.before.nonce, Some(provisioned.lanes[0].nonce));
    assert!(passing.before.height < passing.at.height && passing.at.height == crossed[0].1);
    assert_eq!(passing.changes[0], KeyChange::Moved { by: tx.hash, nonce });
    let seen = client.key_at_height(payer, lane.public_key(), crossed[1].1).await.unwrap();
    assert_eq!(seen, Seen::Key(KeyLook { height: crossed[1].1, nonce: Some(nonce + 1) }));

    remove_keys(client, &stage.master, &desired.lane_keys, &|_| {}).await.unwrap();
    let last = client.block(At::Final).await.unwrap().at.height;
    let mut removed = None;
    for height in crossed[1].1..=last {
        let Seen::Key(KeyLook { nonce: None, .. }) =
            client.key_at_height(payer, lane.public_key(), height).await.unwrap()
        else {
            continue;
        };
        removed = client.passing(payer, lane.public_key(), height).await.unwrap();
        break;
    }
    let removed = removed.unwrap();
    assert_eq!((removed.before.nonce, removed.at.nonce), (Some(nonce + 1), None));
    assert_eq!(removed.changes, [KeyChange::Removed]);
}
