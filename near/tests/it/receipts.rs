//! What a receipt and its events tell of a payment, where its hash tells nothing or less.

use crate::devnet::{Stage, stage, transfer};
use nearbench_core::{
    Height, TGAS, Transfer, TransferId, TransferState,
    audit::Expected,
    outcome::{Execution, FailureKind, Refusal, TxStatus},
    settle::KeyChange,
};
use nearbench_near::{
    SignedTx, Signer,
    audit::{Scope, audit},
    chain::{At, Wait},
    provision::{Desired, Provisioned},
    receipts::Payment,
    transaction::sign_transfers,
};
use serde_json::json;

async fn provisioned() -> (Stage, Desired, Provisioned) {
    let stage = stage().await;
    let desired = stage.desired();
    let provisioned = stage.provision(&desired).await.0.unwrap();
    (stage, desired, provisioned)
}

fn ids(transfers: &[Transfer]) -> Vec<TransferId> {
    transfers.iter().map(|transfer| transfer.id).collect()
}

/// The height of the final block in which a transaction moved its key.
async fn included(stage: &Stage, lane: &Signer, tx: &SignedTx, from: Height) -> Height {
    let mut height = from;
    loop {
        if stage.client.block(At::Final).await.unwrap().at.height < height {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            continue;
        }
        let passing = stage.client.passing(lane.account(), lane.public_key(), height).await.unwrap().unwrap();
        let is_its = |change: &KeyChange| matches!(change, KeyChange::Moved { by, .. } if *by == tx.hash);
        if passing.changes.iter().any(is_its) {
            return height;
        }
        height += 1;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_success_that_hides_behind_a_failure_under_its_hash_is_told_by_its_receipt_and_audited() {
    let (stage, desired, before) = provisioned().await;
    let (lane, client) = (&stage.lanes[0], &stage.client);
    // Too large for some blocks, and put into a chunk all the same: recorded as invalid, and valid later.
    let base = client.block(At::Final).await.unwrap().at;
    let too_large = base.height + 90;
    let batches: Vec<_> = (1..13).map(|n| vec![transfer(n, &desired.receivers[usize::from(n)])]).collect();
    let sign = |(batch, n): (&Vec<Transfer>, u64)| {
        sign_transfers(lane, &desired.token, batch, 5 * TGAS, too_large * 1_000_000 + n, &base)
    };
    let signed: Vec<_> = batches.iter().zip(0..).map(sign).collect();
    stage.devnet.set_faults(&json!([{"fault": "unchecked"}])).unwrap();
    // Each in a block of its own: which of the two is shown, the blocks' hashes decide.
    for tx in &signed {
        client.send(tx).await.unwrap();
        let status = client.tx_status(tx.hash, lane.account(), Wait::ExecutedOptimistic).await.unwrap();
        assert!(matches!(status, TxStatus::Invalid(Refusal::NonceTooHigh { .. })), "{status:?}");
    }
    stage.devnet.clear_faults();
    while client.status().await.unwrap().head <= too_large {
        tokio::time::sleep(std::time::Duration::from_millis(20)).await;
    }

    let mut hidden = 0;
    for (tx, batch) in signed.iter().zip(&batches) {
        client.send(tx).await.unwrap();
        let height = included(&stage, lane, tx, too_large).await;
        let ids = ids(batch);
        let payment =
            Payment { account: lane.account(), public_key: lane.public_key(), token: &desired.token, ids: &ids };
        let told = loop {
            if let Some(told) = client.executed(&payment, height).await.unwrap() {
                break told;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        };
        assert_eq!(told.execution, Execution::Success);
        match client.outcome_from_any(tx.hash, lane.account()).await.unwrap() {
            TxStatus::Landed(shown) => assert_eq!((told.receipt, told.block), (shown.receipt, shown.block)),
            TxStatus::Invalid(_) => hidden += 1,
            other => panic!("{other:?}"),
        }
        assert_eq!(client.block(At::Hash(told.block)).await.unwrap().at.height, height + 1);
    }
    assert!(hidden > 0, "each is hidden with a chance of one half");

    // Each stands in two blocks, and moved once.
    let all: Vec<Transfer> = batches.concat();
    let report = |id: TransferId| {
        let transfer = all.iter().find(|transfer| transfer.id == id)?;
        let (receiver, amount) = (transfer.receiver.clone(), transfer.amount);
        Some(Expected { receiver, amount, state: TransferState::Finalized })
    };
    let scope = Scope {
        account: lane.account(),
        public_keys: &desired.lane_keys,
        token: &desired.token,
        receivers: &desired.receivers,
        from: before.height,
        before: &before.balances,
        until: before.height,
    };
    let audit = audit(client, &scope, &report, 12, &|_, _| {}).await.unwrap();
    assert!(audit.matches && audit.transfers_found == 12, "{audit:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_attempts_with_the_same_transfers_each_is_told_by_its_own_receipt() {
    let (stage, desired, before) = provisioned().await;
    let (lane, client) = (&stage.lanes[0], &stage.client);
    let batch = [transfer(1, &desired.receivers[1]), transfer(2, &desired.receivers[2])];
    let ids = ids(&batch);
    let payment = Payment { account: lane.account(), public_key: lane.public_key(), token: &desired.token, ids: &ids };
    let mut heights = Vec::new();
    for (gas, nonce) in [(TGAS / 10, 1), (5 * TGAS, 2)] {
        let base = client.block(At::Final).await.unwrap().at;
        let tx = sign_transfers(lane, &desired.token, &batch, gas, before.lanes[0].nonce + nonce, &base);
        client.send(&tx).await.unwrap();
        let height = included(&stage, lane, &tx, base.height + 1).await;
        assert_eq!(client.executed(&payment, height + 1).await.unwrap(), None, "it is looked for in the wrong place");
        let shown = loop {
            if let TxStatus::Landed(shown) = client.tx_status(tx.hash, lane.account(), Wait::Final).await.unwrap() {
                break shown;
            }
        };
        let told = loop {
            if let Some(told) = client.executed(&payment, height).await.unwrap() {
                break told;
            }
        };
        assert_eq!((told.receipt, told.block, &told.execution), (shown.receipt, shown.block, &shown.execution));
        heights.push(height);
    }
    let told = [
        client.executed(&payment, heights[0]).await.unwrap().unwrap().execution,
        client.executed(&payment, heights[1]).await.unwrap().unwrap().execution,
    ];
    assert_eq!(told, [Execution::Failure { index: Some(0), kind: FailureKind::OutOfGas }, Execution::Success]);
    // Another key's, or other transfers than these: nothing of them is here.
    let other = Payment { public_key: stage.lanes[1].public_key(), ..payment };
    assert_eq!(client.executed(&other, heights[1]).await.unwrap(), None);
    let fence = Payment { ids: &[], ..payment };
    assert_eq!(client.executed(&fence, heights[1]).await.unwrap(), None);
}
