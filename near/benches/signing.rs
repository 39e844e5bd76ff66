//! What signing a batch of transfers costs beside the signature itself, as ratios measured in one run.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

use ed25519_dalek::{Signer as _, SigningKey};
use nearbench_core::{Account, Amount, Hash, TGAS, Transfer, TransferId, outcome::BlockRef};
use nearbench_near::{Signer, transaction::sign_transfers};
use std::{hint::black_box, time::Instant};

const REPETITIONS: usize = 7;
const SIGNATURES: u64 = 4_000;

/// Nanoseconds a round of `work` takes.
fn time(mut work: impl FnMut(u64)) -> f64 {
    let start = Instant::now();
    (0..SIGNATURES).for_each(&mut work);
    start.elapsed().as_nanos() as f64 / SIGNATURES as f64
}

fn transfers(count: usize) -> Vec<Transfer> {
    let receiver: Account = "user-42.ft-benchmark.testnet".parse().unwrap();
    (0..count as u64)
        .map(|n| Transfer {
            id: TransferId::derive(&[7; 32], &n.to_le_bytes()),
            receiver: receiver.clone(),
            amount: Amount(1),
            memo: None,
            sequence: n,
            phase: 0,
            intended_ns: 0,
            sent_ns: 0,
        })
        .collect()
}

fn main() {
    let account: Account = "ft-benchmark.testnet".parse().unwrap();
    let token: Account = "ft.ft-benchmark.testnet".parse().unwrap();
    let signer = Signer::generate(account, &mut rand::rng());
    let base = BlockRef { height: 1, hash: Hash([1; 32]), prev_hash: Hash([0; 32]), timestamp_ns: 0 };
    let bare_key = SigningKey::from_bytes(&[3; 32]);
    println!("signing: time of a signed transaction / time of one bare ed25519 signature, {REPETITIONS} repetitions");
    for size in [1, 20, 100] {
        let batch = transfers(size);
        let mut ratios: Vec<f64> = (0..REPETITIONS)
            .map(|_| {
                let bare = time(|n| _ = black_box(bare_key.sign(&n.to_le_bytes())));
                let ours = time(|n| drop(black_box(sign_transfers(&signer, &token, &batch, 3 * TGAS, n, &base))));
                ours / bare
            })
            .collect();
        ratios.sort_by(f64::total_cmp);
        println!(
            "  batch of {size:>3}: median {:.2} (from {:.2} to {:.2}), {:.3} a transfer",
            ratios[REPETITIONS / 2],
            ratios[0],
            ratios[REPETITIONS - 1],
            ratios[REPETITIONS / 2] / size as f64
        );
    }
}
