//! What the chain tells of nonces that nobody remembers.

use crate::devnet::{stage, transfer};
use nearbench_core::{
    Height, Memo, Nonce, TGAS, Transfer,
    outcome::{BlockRef, Execution, FailureKind},
};
use nearbench_near::{
    Client, SignedTx, Signer,
    chain::{At, Wait},
    history::{LaneMark, found_since},
    transaction::{sign_fence, sign_transfers},
};
use std::time::Duration;

/// Returns once the key's nonce is at least `nonce` in a final block, which is returned.
async fn passes(client: &Client, lane: &Signer, nonce: Nonce) -> BlockRef {
    loop {
        let key = client.access_key(lane.account(), lane.public_key(), At::Final).await.unwrap();
        if key.value.is_some_and(|key| key.nonce >= nonce) {
            return client.block(At::Hash(key.block)).await.unwrap().at;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_used_unknown_nonces_is_found_with_its_transfers_and_its_end() {
    let stage = stage().await;
    let (client, desired) = (&stage.client, stage.desired());
    let from: Height = stage.provision(&desired).await.0.unwrap().height;
    let nonce = |above: Nonce, base: &BlockRef| base.height * 1_000_000 + above;
    let base = client.block(At::Final).await.unwrap().at;
    let memo = Memo::new("for \"Ada\" \\ 7").unwrap();
    let to = |n: u8| transfer(n, &desired.receivers[usize::from(n)]);
    let sign = |lane: &Signer, transfers: &[Transfer], above| {
        sign_transfers(lane, &desired.token, transfers, 5 * TGAS, nonce(above, &base), &base)
    };
    let send = async |tx: &SignedTx, lane: &Signer| {
        client.send(tx).await.unwrap();
        client.tx_status(tx.hash, lane.account(), Wait::Final).await.unwrap();
    };
    let [first, second, idle] = [&stage.lanes[0], &stage.lanes[1], &stage.lanes[2]];
    let known = sign(first, &[to(1)], 1);
    let lost = sign(first, &[to(2), Transfer { memo: Some(memo.clone()), ..to(3) }], 2);
    let stranger = transfer(4, &"stranger.near".parse().unwrap());
    let failed = sign(second, &[to(5), stranger], 1);
    for (tx, lane) in [(&known, first), (&lost, first), (&failed, second)] {
        send(tx, lane).await;
    }
    let fence = sign_fence(first, nonce(9, &base), &base);
    send(&fence, first).await;
    let until = passes(client, first, nonce(9, &base)).await;

    let mark = |lane: &'static str, known| LaneMark { public_key: lane, known };
    let leak = |lane: &Signer| -> &'static str { lane.public_key().to_owned().leak() };
    let marks = [mark(leak(first), nonce(1, &base)), mark(leak(second), 0), mark(leak(idle), nonce(0, &base))];
    // A key begins at the nonce of the block before that which made it: nothing is known of the second.
    let marks = [marks[0], LaneMark { known: (from - 1) * 1_000_000 + 999_999, ..marks[1] }, marks[2]];
    let found = found_since(client, first.account(), &desired.token, &marks, from, until).await.unwrap();
    let mut found: Vec<_> = found.iter().collect();
    found.sort_by_key(|tx| (tx.public_key != first.public_key(), tx.nonce));
    assert_eq!(found.iter().map(|tx| tx.hash).collect::<Vec<_>>(), [lost.hash, fence.hash, failed.hash]);
    assert!(found.iter().all(|tx| tx.executed_in.height <= until.height && tx.executed_in.hash == tx.landed.block));

    assert_eq!(found[0].landed.execution, Execution::Success);
    let carried: Vec<_> = found[0].transfers.iter().map(|t| (t.id, &t.receiver, t.amount, t.memo.clone())).collect();
    let sent: Vec<_> = [to(2), Transfer { memo: Some(memo), ..to(3) }].to_vec();
    assert_eq!(carried, sent.iter().map(|t| (t.id, &t.receiver, t.amount, t.memo.clone())).collect::<Vec<_>>());
    assert!(found[1].transfers.is_empty(), "a fence carries nothing");
    let unregistered = Execution::Failure { index: Some(1), kind: FailureKind::Unregistered };
    assert_eq!(found[2].landed.execution, unregistered);
    assert_eq!(found[2].transfers.len(), 2);

    let all_known = [LaneMark { known: nonce(9, &base), ..marks[0] }];
    let found = found_since(client, first.account(), &desired.token, &all_known, from, until).await.unwrap();
    assert_eq!(found, [], "what is known is not looked for");
}
