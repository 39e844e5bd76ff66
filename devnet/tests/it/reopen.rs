//! A chain with a home outlives its process.
#![allow(clippy::unwrap_used)]

use std::fs::OpenOptions;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use near_primitives::action::TransferAction;
use near_primitives::hash::CryptoHash;
use near_primitives::transaction::Action;
use near_primitives::types::Balance;
use nearbench_devnet::chain::{Chain, ChainError, Resumed, Retention};
use nearbench_devnet::genesis::Genesis;
use nearbench_devnet::history::{HistoryError, LOG_NAME};
use tempfile::TempDir;

use crate::driver::{account, finish, genesis, next_block, outcomes, submit};

fn two_accounts() -> Genesis {
    genesis(&[("alice.near", Balance::from_near(100)), ("bob.near", Balance::from_near(100))])
}

/// A chain in `home` on which alice paid bob a few times.
fn written(home: &Path) -> (Vec<CryptoHash>, CryptoHash) {
    let mut chain = Chain::open(two_accounts(), Retention::default(), home).unwrap();
    assert_eq!(chain.resumed(), None);
    next_block(&mut chain);
    let payments = (0..5)
        .map(|_| {
            let deposit = Balance::from_near(1);
            let transfer = Action::Transfer(TransferAction { deposit });
            let hash = submit(&mut chain, "alice.near", "bob.near", vec![transfer]).unwrap();
            finish(&mut chain, hash);
            hash
        })
        .collect();
    (payments, chain.head().hash)
}

#[test]
fn a_reopened_chain_has_its_blocks_outcomes_and_state_and_goes_on() {
    let home = TempDir::new().unwrap();
    let (payments, head) = written(home.path());
    let mut chain = Chain::open(two_accounts(), Retention::default(), home.path()).unwrap();
    assert_eq!(chain.head().hash, head);
    assert_eq!(chain.resumed(), Some(Resumed { height: chain.head().height, cut_off: 0 }));
    for hash in payments {
        assert_eq!(outcomes(&chain, hash).unwrap().len(), 3, "conversion, transfer, refund");
    }
    let state = chain.state_at(chain.head().height).unwrap();
    assert_eq!(state.account(&account("bob.near")).unwrap().amount(), Balance::from_near(105));
    next_block(&mut chain);
    let head = chain.head().hash;
    drop(chain);
    assert_eq!(Chain::open(two_accounts(), Retention::default(), home.path()).unwrap().head().hash, head);
}

/// Where the last record of a log begins, by the lengths in the records' headers.
fn end_of_records_before_last(log: &[u8]) -> usize {
    let mut at = 44;
    loop {
        let length = u32::from_le_bytes(log[at..at + 4].try_into().unwrap()) as usize;
        if at + 8 + length == log.len() {
            return at;
        }
        at += 8 + length;
    }
}

#[test]
fn a_record_that_was_cut_off_at_any_byte_is_forgotten_and_the_block_is_made_anew() {
    let home = TempDir::new().unwrap();
    let log = home.path().join(LOG_NAME);
    let (_, head) = written(home.path());
    let chain = Chain::open(two_accounts(), Retention::default(), home.path()).unwrap();
    let before = chain.block_at(chain.head().height - 1).unwrap();
    drop(chain);
    let whole = std::fs::read(&log).unwrap();
    // The last block is empty: its record is some hundred bytes.
    let end_of_whole_records = end_of_records_before_last(&whole);
    for lost in [1, 2, 7, 100, 150] {
        std::fs::write(&log, &whole[..whole.len() - lost]).unwrap();
        let mut chain = Chain::open(two_accounts(), Retention::default(), home.path()).unwrap();
        assert_eq!(chain.head().hash, before.hash, "{lost} bytes lost");
        let cut_off = (whole.len() - lost - end_of_whole_records) as u64;
        assert_eq!(chain.resumed(), Some(Resumed { height: before.height, cut_off }));
        assert_ne!(chain.head().hash, head);
        next_block(&mut chain);
        drop(chain);
        assert_eq!(
            Chain::open(two_accounts(), Retention::default(), home.path()).unwrap().head().height,
            before.height + 1
        );
    }
}

#[test]
fn damage_before_the_end_is_an_error_that_changes_nothing() {
    let home = TempDir::new().unwrap();
    written(home.path());
    let log = home.path().join(LOG_NAME);
    let mut file = OpenOptions::new().write(true).open(&log).unwrap();
    file.seek(SeekFrom::Start(200)).unwrap();
    file.write_all(b"damage").unwrap();
    let damaged = std::fs::read(&log).unwrap();
    let Err(error) = Chain::open(two_accounts(), Retention::default(), home.path()) else {
        panic!("a damaged log was opened")
    };
    assert!(matches!(error, ChainError::History(HistoryError::Damaged { .. })), "{error}");
    assert_eq!(std::fs::read(&log).unwrap(), damaged);
}

#[test]
fn another_genesis_another_file_and_a_second_process_are_refused() {
    let home = TempDir::new().unwrap();
    written(home.path());
    let log = home.path().join(LOG_NAME);
    let whole = std::fs::read(&log).unwrap();
    let refused = |genesis: Genesis| match Chain::open(genesis, Retention::default(), home.path()) {
        Err(ChainError::History(error)) => error,
        Err(error) => panic!("{error}"),
        Ok(_) => panic!("opened"),
    };
    let mut other = two_accounts();
    other.timestamp_ns += 1;
    assert!(matches!(refused(other), HistoryError::Genesis { .. }));
    assert_eq!(std::fs::read(&log).unwrap(), whole);

    let open = Chain::open(two_accounts(), Retention::default(), home.path()).unwrap();
    assert!(matches!(refused(two_accounts()), HistoryError::InUse(_)));
    drop(open);

    for other in [whole[8] - 1, whole[8] + 1] {
        let mut log_of_other_format = whole.clone();
        log_of_other_format[8] = other;
        std::fs::write(&log, &log_of_other_format).unwrap();
        let error = refused(two_accounts());
        assert!(matches!(error, HistoryError::Version { found, .. } if found == u32::from(other)), "{error}");
    }
    std::fs::write(&log, b"notes about something else, kept in a file of the same name").unwrap();
    assert!(matches!(refused(two_accounts()), HistoryError::NotALog(_)));
}
