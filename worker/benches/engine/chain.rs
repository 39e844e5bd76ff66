//! The stand-in for a chain as a child process: this binary again, with an argument.

use nearbench_core::{Hash, Height, outcome::BlockRef};
use std::{
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    time::Duration,
};

/// What tells this binary to be the chain.
pub(crate) const ARGUMENT: &str = "--be-the-chain";
/// Between two final blocks.
pub(crate) const BLOCK_INTERVAL: Duration = Duration::from_millis(100);

/// A running stand-in; ended when dropped.
pub(crate) struct Chain {
    child: Child,
    /// Its port on this machine.
    pub(crate) port: u16,
}

impl Chain {
    /// One whose transactions carry `batch` transfers.
    pub(crate) fn start(batch: u32) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args([ARGUMENT, &batch.to_string()])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Self { child, port: line.trim().parse().unwrap() }
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The block of this height. Its hash says its height.
pub(crate) fn block(height: Height) -> BlockRef {
    let hash = |height: Height| {
        let mut bytes = [0xb1; 32];
        bytes[..8].copy_from_slice(&height.to_le_bytes());
        Hash(bytes)
    };
    let timestamp_ns = height * BLOCK_INTERVAL.as_nanos() as u64;
    BlockRef { height, hash: hash(height), prev_hash: hash(height - 1), timestamp_ns }
}

/// The height that a block's hash says.
pub(crate) fn height(hash: &Hash) -> Height {
    let mut bytes = [0; 8];
    bytes.copy_from_slice(&hash.0[..8]);
    Height::from_le_bytes(bytes)
}
