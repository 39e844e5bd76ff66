//! What a spool's file promises: what it took waits there until it is ended, through crashes.

use crate::{
    conformance::transfer,
    disk::{Disk, Keep},
};
use nearbench_core::{Amount, TransferId, TransferState};
use nearbench_store::{Accepted, Budget, Digest, FileStore, Moved, SpoolFile, Submission, Windows};
use proptest::{prelude::*, test_runner::TestRunner};
use std::{collections::BTreeMap, time::Duration};

const AGE: Duration = Duration::from_secs(24 * 3600);

async fn on(store: FileStore) -> SpoolFile {
    SpoolFile::of(store, "run", &[7; 32], AGE).await.unwrap()
}

fn submission(n: u64, body: u8) -> Submission {
    let budget =
        n.is_multiple_of(2).then(|| Budget { client: format!("shop{}", n % 3).into(), daily_cap: Amount(n.into()) });
    let mut transfer = transfer(n);
    transfer.amount = Amount(0);
    Submission { transfer, digest: Digest([body; 16]), budget }
}

#[derive(Clone, Debug)]
enum Act {
    Accept(Vec<u64>),
    End(Vec<(u64, Moved)>),
    Crash(Keep),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let n = || 0..200u64;
    let moved = prop_oneof![Just(Moved::Over), Just(Moved::Conflict), Just(Moved::OverCap)];
    let keep = prop_oneof![
        Just(Keep::Nothing),
        Just(Keep::Everything),
        any::<u8>().prop_map(Keep::First),
        any::<u64>().prop_map(Keep::Some)
    ];
    let act = prop_oneof![
        prop::collection::vec(n(), 1..150).prop_map(Act::Accept),
        prop::collection::vec((n(), moved), 1..40).prop_map(Act::End),
        keep.prop_map(Act::Crash),
    ];
    prop::collection::vec(act, 1..25)
}

async fn history(acts: Vec<Act>) {
    let mut disk = Disk::default();
    let mut spool = on(FileStore::create_on(disk.clone(), "spool.store").unwrap()).await;
    // In the order in which they wait, and what failed of what.
    let mut waiting: Vec<u64> = Vec::new();
    let mut failed: BTreeMap<u64, &str> = BTreeMap::new();
    for act in acts {
        match act {
            Act::Accept(numbers) => {
                let answers = spool.accept(numbers.iter().map(|n| submission(*n, 1)).collect(), 150).await.unwrap();
                for (n, answer) in numbers.into_iter().zip(answers) {
                    let known = waiting.contains(&n) || failed.contains_key(&n);
                    match answer {
                        Accepted::New { .. } => {
                            assert!(!known);
                            waiting.push(n);
                        }
                        Accepted::Replayed(_) => assert!(known),
                        Accepted::Full => assert!(!known && waiting.len() == 150),
                        other => panic!("{other:?}"),
                    }
                }
            }
            Act::End(ends) => {
                let named: Vec<_> = ends.iter().map(|(n, moved)| (transfer(*n).id, Digest([1; 16]), *moved)).collect();
                spool.end(&named).await.unwrap();
                for (n, moved) in ends {
                    let Some(at) = waiting.iter().position(|waits| *waits == n) else { continue };
                    waiting.remove(at);
                    match moved {
                        Moved::Over => None,
                        Moved::Conflict => failed.insert(n, "conflict"),
                        Moved::OverCap => failed.insert(n, "cap_exceeded"),
                    };
                }
            }
            Act::Crash(keep) => {
                disk = disk.after_crash(keep);
                spool = on(FileStore::open_on(disk.clone(), "spool.store").unwrap()).await;
            }
        }
        let there: Vec<_> = waiting.iter().map(|n| submission(*n, 1)).collect();
        assert_eq!(spool.oldest(1000).unwrap(), there);
        assert_eq!(spool.oldest(7).unwrap(), there[..there.len().min(7)]);
        assert_eq!(spool.waiting().unwrap(), there.len() as u64);
        let counts = spool.census().await.unwrap().counts;
        let counts = [TransferState::Queued, TransferState::Failed].map(|state| counts.of(state));
        assert_eq!(counts, [there.len() as u64, failed.len() as u64]);
        assert_eq!(spool.is_empty().unwrap(), there.is_empty() && failed.is_empty());
        let ids: Vec<TransferId> = (0..200).map(|n| transfer(n).id).collect();
        assert_eq!(spool.among(ids.iter().chain(&ids).copied()).unwrap().len(), there.len());
        for (n, record) in spool.find(&ids).await.unwrap().into_iter().enumerate() {
            let state = record.map(|record| (record.state, record.error));
            let n = n as u64;
            match (waiting.contains(&n), failed.get(&n)) {
                (true, _) => assert_eq!(state, Some((TransferState::Queued, None))),
                (_, Some(error)) => assert_eq!(state, Some((TransferState::Failed, Some(*error)))),
                (false, None) => assert_eq!(state, None),
            }
        }
    }
}

#[test]
fn what_was_taken_waits_until_it_is_ended_through_crashes() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let cases = ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() };
    TestRunner::new(cases)
        .run(&acts(), |acts| {
            runtime.block_on(history(acts));
            Ok(())
        })
        .unwrap();
}

#[tokio::test]
async fn another_body_under_the_same_id_is_not_ended() {
    let spool = on(FileStore::create_on(Disk::default(), "spool.store").unwrap()).await;
    spool.accept(vec![submission(1, 1)], 10).await.unwrap();
    spool.end(&[(transfer(1).id, Digest([2; 16]), Moved::Over)]).await.unwrap();
    assert_eq!(spool.oldest(10).unwrap(), [submission(1, 1)]);
    // What was carried over late does not take what came under the same id since.
    spool.end(&[(transfer(1).id, Digest([1; 16]), Moved::Over)]).await.unwrap();
    spool.accept(vec![submission(1, 2)], 10).await.unwrap();
    spool.end(&[(transfer(1).id, Digest([1; 16]), Moved::Conflict)]).await.unwrap();
    assert_eq!(spool.oldest(10).unwrap(), [submission(1, 2)]);
}

#[tokio::test(start_paused = true)]
async fn what_is_too_old_is_given_up() {
    let disk = Disk::default();
    let spool = on(FileStore::create_on(disk.clone(), "spool.store").unwrap()).await;
    spool.accept(vec![submission(1, 1), submission(2, 1)], 10).await.unwrap();
    tokio::time::advance(AGE / 2).await;
    spool.accept(vec![submission(3, 1)], 10).await.unwrap();
    assert_eq!((spool.give_up().await.unwrap(), spool.oldest(10).unwrap().len()), (0, 3));
    tokio::time::advance(AGE / 2).await;
    let ids = [1, 2, 3].map(|n| transfer(n).id);
    assert_eq!(spool.oldest(10).unwrap(), [submission(3, 1)], "also before it is given up");
    assert_eq!(spool.among(ids.into_iter()).unwrap(), [submission(3, 1)]);
    assert_eq!((spool.give_up().await.unwrap(), spool.waiting().unwrap()), (2, 1));
    let spool = on(FileStore::open_on(disk.after_crash(Keep::Nothing), "spool.store").unwrap()).await;
    let states = spool.find(&ids).await.unwrap().into_iter().map(|record| record.map(|record| record.state));
    let (review, queued) = (Some(TransferState::NeedsReview), Some(TransferState::Queued));
    assert_eq!(states.collect::<Vec<_>>(), [review, review, queued]);
}

/// A failure is told for its own windows, though the id was here before.
#[tokio::test(start_paused = true)]
async fn windows_count_from_the_last_acceptance() {
    let hours = |count: u64| Duration::from_secs(3600 * count);
    let windows = Windows { idempotency: hours(10), details: hours(3) };
    let spool = on(FileStore::create_on(Disk::default(), "spool.store").unwrap().keeping(windows)).await;
    let id = transfer(1).id;
    let round = async |moved| {
        spool.accept(vec![submission(1, 1)], 10).await.unwrap();
        spool.end(&[(id, Digest([1; 16]), moved)]).await.unwrap();
    };
    let later = async |count: u64| {
        tokio::time::advance(hours(count)).await;
        // Windows end as others come.
        spool.accept(vec![submission(10 + count, 1)], 100).await.unwrap();
        spool.find(&[id]).await.unwrap().remove(0)
    };
    round(Moved::Over).await;
    assert_eq!(later(2).await, None);
    round(Moved::Conflict).await;
    assert!(later(1).await.unwrap().details.is_some(), "the first one's are over");
    assert!(later(3).await.unwrap().details.is_none());
    assert!(later(5).await.is_some(), "the first one's window is over");
    assert_eq!(later(4).await, None);
}
