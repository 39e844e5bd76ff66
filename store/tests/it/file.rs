//! What a store in a file promises beside the trait: its opening, its errors, its groups, what it keeps.

use crate::{
    conformance::{TTL, attempt, key, lease, numbers, settled, transfer, whole},
    disk::{Disk, Keep},
};
use futures_util::{
    FutureExt,
    future::{join_all, poll_immediate},
};
use nearbench_core::{
    Transfer,
    settle::{Fate, Settlement},
};
use nearbench_store::{FileStore, OpenError, Recall, ResultRow, Store, StoreError};
use proptest::prelude::*;
use redb::{Database, TableDefinition};
use std::{fs, io, os::unix::fs::PermissionsExt, path::Path, pin::pin};
use tokio::time::Instant;

/// What is not settled.
fn unsettled(store: &FileStore) -> Vec<Transfer> {
    store.unsettled().now_or_never().unwrap().unwrap()
}

fn refusal(opened: Result<FileStore, OpenError>) -> OpenError {
    opened.err().expect("it is refused")
}

/// A file of a store with something in it, as a crash leaves it.
fn bytes() -> Vec<u8> {
    let disk = Disk::default();
    let store = FileStore::create_on(disk.clone(), "run.store").unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(store.push((0..300).map(transfer).collect(), 1000)).unwrap();
    runtime.block_on(store.put_meta(&[("plan", b"{}")])).unwrap();
    disk.bytes()
}

#[tokio::test]
async fn a_new_file_is_the_owners_alone_and_never_replaces_one() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.store");
    let store = FileStore::create(&path).unwrap();
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    store.push(vec![transfer(7)], 10).await.unwrap();
    drop(store);
    let error = refusal(FileStore::create(&path));
    assert!(matches!(error, OpenError::Exists { .. }), "{error}");
    assert!(error.to_string().contains("run.store"), "{error}");
    let store = FileStore::open(&path).unwrap();
    assert_eq!(unsettled(&store), [transfer(7)], "what was there is there");
}

#[test]
fn what_is_not_there_is_not_made() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.store");
    let error = refusal(FileStore::open(&path));
    assert!(matches!(error, OpenError::Missing { .. }), "{error}");
    assert!(!path.exists());
    let error = refusal(FileStore::create(&folder.path().join("no-folder/run.store")));
    assert!(matches!(error, OpenError::Io { .. }), "{error}");
}

#[test]
fn a_second_opener_is_told_who_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.store");
    let first = FileStore::create(&path).unwrap();
    let error = refusal(FileStore::open(&path));
    assert!(matches!(error, OpenError::Locked { .. }), "{error}");
    assert!(error.to_string().contains("run.store"), "{error}");
    assert!(error.to_string().contains("process has it open"), "{error}");
    drop(first);
    FileStore::open(&path).unwrap();
}

/// Opening is refused, the error names the file, and not a byte of it is changed.
fn is_refused(path: &Path, bytes: &[u8]) -> OpenError {
    fs::write(path, bytes).unwrap();
    let error = refusal(FileStore::open(path));
    assert!(fs::read(path).unwrap() == bytes, "{error}: the file was changed");
    assert!(error.to_string().starts_with(&*path.to_string_lossy()), "{error}");
    error
}

#[test]
fn what_is_no_whole_store_is_refused_and_left_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.store");
    let whole = bytes();
    fs::write(&path, &whole).unwrap();
    drop(FileStore::open(&path).unwrap());
    let closed_well = fs::read(&path).unwrap();

    for garbage in [&b""[..], b"x", b"redb", b"{\"kind\": \"BenchmarkReport\"}", &[0; 100_000], &[0xa5; 100_000]] {
        let error = is_refused(&path, garbage);
        assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    }
    for file in [&whole, &closed_well] {
        for length in (0..file.len()).step_by(4096).flat_map(|at| [at, at + 1, at + 511]).filter(|at| *at < file.len())
        {
            // A tail that held nothing yet may be missing; then it is whole.
            fs::write(&path, &file[..length]).unwrap();
            match FileStore::open(&path) {
                Ok(store) => assert_eq!(unsettled(&store), (0..300).map(transfer).collect::<Vec<_>>()),
                Err(_) => {
                    let error = is_refused(&path, &file[..length]);
                    assert!(matches!(error, OpenError::Damaged { .. }), "{length}: {error}");
                }
            }
        }
    }
}

#[test]
fn a_creation_that_was_cut_off_is_refused() {
    let disk = Disk::default();
    drop(FileStore::create_on(disk.clone(), "whole").unwrap());
    let mut opened = false;
    for writes in 0.. {
        let disk = Disk::default();
        disk.fail_after(writes, io::ErrorKind::StorageFull);
        let made = FileStore::create_on(disk.clone(), "run.store");
        if made.is_ok() {
            break;
        }
        for keep in [Keep::Nothing, Keep::Everything] {
            match FileStore::open_on(disk.after_crash(keep), "run.store") {
                // All was written, though nobody heard that it was.
                Ok(store) => assert!(unsettled(&store).is_empty()),
                Err(error) => {
                    opened = true;
                    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
                }
            }
        }
    }
    assert!(opened);
}

#[test]
fn another_database_and_another_version_are_told_apart() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("run.store");
    let about = TableDefinition::<&str, u64>::new("about");
    let foreign = folder.path().join("foreign");
    let database = Database::create(&foreign).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(TableDefinition::<u64, u64>::new("squares")).unwrap().insert(2, 4).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = is_refused(&path, &fs::read(&foreign).unwrap());
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");

    let newer = folder.path().join("newer");
    drop(FileStore::create(&newer).unwrap());
    let database = Database::open(&newer).unwrap();
    let transaction = database.begin_write().unwrap();
    transaction.open_table(about).unwrap().insert("version", 99).unwrap();
    transaction.commit().unwrap();
    drop(database);
    let error = is_refused(&path, &fs::read(&newer).unwrap());
    assert!(matches!(error, OpenError::Version { found: 99, .. }), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Where a bit of the file turned, it is refused, or the bit said nothing.
    #[test]
    fn a_file_that_rotted_is_refused_or_whole(flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4)) {
        let mut bytes = bytes();
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let disk = Disk::holding(bytes.clone());
        match FileStore::open_on(disk.clone(), "run.store") {
            Ok(store) => {
                // The meta value came last: its commit may be the one that rotted, and it may not.
                prop_assert_eq!(numbers(&unsettled(&store)), (0..300).collect::<Vec<_>>());
            }
            Err(_) => prop_assert!(disk.bytes() == bytes, "it was refused, and changed"),
        }
    }
}

#[tokio::test]
async fn a_full_disk_ends_the_store_and_loses_nothing_confirmed() {
    let disk = Disk::default();
    let store = FileStore::create_on(disk.clone(), "run.store").unwrap();
    store.push(vec![transfer(1)], 10).await.unwrap();
    let lane = key(0);
    store.acquire(&lane, lease(0), TTL).await.unwrap();
    let claim = store.claim(&lane, lease(0), &whole(1), 1).await.unwrap().unwrap();
    disk.fail_after(1, io::ErrorKind::StorageFull);
    let failure = store.push(vec![transfer(2)], 10).await.unwrap_err();
    let StoreError::File { file, cause } = &failure else { panic!("{failure}") };
    assert_eq!(&**file, "run.store");
    assert!(failure.to_string().contains(&**cause) && failure.to_string().contains("free space"), "{failure}");

    // The disk has room again; the store stays closed to all.
    disk.fail_after(u64::MAX, io::ErrorKind::StorageFull);
    assert_eq!(store.push(vec![transfer(3)], 10).await, Err(failure.clone()));
    assert_eq!(store.commit(&lane, lease(0), Some(claim.id), attempt(1)).await, Err(failure.clone()));
    assert_eq!(store.release(claim.id).await, Err(failure.clone()));
    assert_eq!(store.renew(&lane, lease(0), TTL).await, Err(failure.clone()));
    assert_eq!(store.depth().await, Err(failure.clone()));
    assert_eq!(store.put_meta(&[("a", b"b")]).await, Err(failure));
    store.wait_for_work().await;
    drop(store);
    let store = FileStore::open_on(Disk::holding(disk.bytes()), "run.store").unwrap();
    assert_eq!(unsettled(&store)[0], transfer(1));
}

#[tokio::test]
async fn who_waits_for_work_hears_of_a_failure() {
    let disk = Disk::default();
    let store = FileStore::create_on(disk.clone(), "run.store").unwrap();
    let mut waiting = pin!(store.wait_for_work());
    assert_eq!(poll_immediate(&mut waiting).await, None);
    disk.fail_after(0, io::ErrorKind::Other);
    store.put_meta(&[("plan", b"{}")]).await.unwrap_err();
    waiting.await;
}

#[tokio::test]
async fn a_writer_that_panics_ends_the_store_instead_of_leaving_all_to_wait() {
    let disk = Disk::default();
    let store = FileStore::create_on(disk.clone(), "run.store").unwrap();
    store.push(vec![transfer(1)], 10).await.unwrap();
    disk.panic_next();
    let failures = join_all((2..5).map(|n| store.push(vec![transfer(n)], 10))).await;
    assert!(failures.iter().all(|failure| matches!(failure, Err(StoreError::File { .. }))), "{failures:?}");
    assert!(matches!(store.depth().await, Err(StoreError::File { .. })));
    // Closing what panicked within panics again.
    std::mem::forget(store);
    let store = FileStore::open_on(disk.after_crash(Keep::Nothing), "run.store").unwrap();
    assert_eq!(unsettled(&store), [transfer(1)]);
}

#[tokio::test(start_paused = true)]
async fn a_clock_that_jumps_to_the_next_timer_waits_for_the_disk() {
    let disk = Disk::default();
    let store = FileStore::create_on(disk.clone(), "run.store").unwrap();
    let start = Instant::now();
    disk.hold_syncs();
    let slow = std::thread::spawn(move || {
        disk.wait_for_sync();
        disk.let_go();
    });
    tokio::select! {
        biased;
        () = tokio::time::sleep(TTL) => panic!("every lease ran out meanwhile"),
        pushed = store.push(vec![transfer(1)], 10) => assert_eq!(pushed, Ok(1)),
    }
    assert_eq!(Instant::now(), start);
    slow.join().unwrap();
}

#[tokio::test]
async fn what_comes_while_a_group_is_written_goes_with_the_next() {
    let disk = Disk::default();
    let store = FileStore::create_on(disk.clone(), "run.store").unwrap();
    let before = disk.syncs();
    disk.hold_syncs();
    let mut first = pin!(store.push(vec![transfer(0)], 100));
    assert_eq!(poll_immediate(&mut first).await, None);
    disk.wait_for_sync();
    let mut others: Vec<_> = (1..50).map(|n| Box::pin(store.push(vec![transfer(n)], 100))).collect();
    for other in &mut others {
        assert_eq!(poll_immediate(other).await, None, "confirmed before it is on disk");
    }
    assert!(store.results(&mut |_| ()).await.is_ok(), "reading goes on meanwhile");
    disk.let_go();
    assert_eq!(first.await, Ok(1));
    assert!(join_all(others).await.iter().all(|taken| *taken == Ok(1)));
    assert_eq!(disk.syncs() - before, 2);
}

#[tokio::test]
async fn what_came_and_went_within_a_group_leaves_its_result_alone() {
    let disk = Disk::default();
    let store = FileStore::create_on(disk.clone(), "run.store").unwrap();
    let lane = key(0);
    store.acquire(&lane, lease(0), TTL).await.unwrap();
    disk.hold_syncs();
    let mut earlier = pin!(store.put_meta(&[("plan", b"{}")]));
    assert_eq!(poll_immediate(&mut earlier).await, None);
    disk.wait_for_sync();
    // Its life is one group, since nothing is written meanwhile.
    let mut pushed = pin!(store.push(vec![transfer(0xabc)], 10));
    assert_eq!(poll_immediate(&mut pushed).await, None);
    let claim = store.claim(&lane, lease(0), &whole(10), 10).await.unwrap().unwrap();
    let mut committed = pin!(store.commit(&lane, lease(0), Some(claim.id), attempt(1)));
    assert_eq!(poll_immediate(&mut committed).await, None);
    disk.let_go();
    earlier.await.unwrap();
    assert_eq!(pushed.await, Ok(1));
    let id = committed.await.unwrap();
    let receiver = transfer(0xabc).receiver;
    let times = |disk: &Disk| disk.bytes().windows(receiver.len()).filter(|at| *at == receiver.as_bytes()).count();
    assert_eq!(times(&disk), 1, "in the attempt's row, and in none of the queue");
    store.settle(id, &settled(Settlement::All(Fate::Finalized))).await.unwrap();
}

#[tokio::test]
async fn an_adopter_hears_of_an_attempt_once_it_is_on_disk() {
    let disk = Disk::default();
    let store = FileStore::create_on(disk.clone(), "run.store").unwrap();
    let lane = key(0);
    store.acquire(&lane, lease(0), TTL).await.unwrap();
    disk.hold_syncs();
    let mut committed = pin!(store.commit(&lane, lease(0), None, attempt(1)));
    assert_eq!(poll_immediate(&mut committed).await, None);
    disk.wait_for_sync();
    store.release_lane(&lane, lease(0)).await.unwrap();
    let mut acquired = pin!(store.acquire(&lane, lease(1), TTL));
    assert_eq!(poll_immediate(&mut acquired).await, None, "it would send what a crash undoes");
    disk.let_go();
    let id = committed.await.unwrap();
    assert_eq!(acquired.await.unwrap().open[0].0, id);
}

#[tokio::test]
async fn values_and_results_outlive_the_process() {
    let disk = Disk::default();
    let store = FileStore::create_on(disk.clone(), "run.store").unwrap();
    store.put_meta(&[("plan", b"{}"), ("start", b"1")]).await.unwrap();
    store.put_meta(&[("start", b"2")]).await.unwrap();
    // More than one row's worth of withdrawn transfers.
    let many: Vec<_> = (0..2500).map(transfer).collect();
    store.push(many.clone(), u64::MAX).await.unwrap();
    assert_eq!(store.cancel_queued().await.unwrap(), many);
    drop(store);
    let store = FileStore::open_on(disk.after_crash(Keep::Nothing), "run.store").unwrap();
    assert_eq!(store.meta("plan").as_deref(), Some(&b"{}"[..]));
    assert_eq!(store.meta("start").as_deref(), Some(&b"2"[..]));
    assert_eq!(store.meta("end"), None);
    let mut cancelled = Vec::new();
    let mut visit = |row| match row {
        ResultRow::Cancelled { transfers } => cancelled.extend(transfers),
        ResultRow::Settled { .. } => panic!("nothing was settled"),
    };
    store.results(&mut visit).await.unwrap();
    assert_eq!(cancelled, many.iter().map(Into::into).collect::<Vec<_>>());
    assert_eq!(unsettled(&store), []);
    assert!(store.wait_for_work().now_or_never().is_none());
}
