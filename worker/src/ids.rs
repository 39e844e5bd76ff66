//! How transfers are named in the log: by their ids, which stand in the memos on chain.

use nearbench_core::{Transfer, TransferId};
use std::fmt;

/// Of a batch, a line that is not there to follow each transfer names so many.
const FEW: usize = 5;

/// Transfers' ids, a space between two. They are written where a line is, and not before.
pub(crate) struct Ids<I>(pub(crate) I);

impl<I: Iterator<Item = TransferId> + Clone> fmt::Display for Ids<I> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, id) in self.0.clone().enumerate() {
            write!(f, "{}{id}", if index == 0 { "" } else { " " })?;
        }
        Ok(())
    }
}

/// All of them.
pub(crate) fn all(transfers: &[Transfer]) -> Ids<impl Iterator<Item = TransferId> + Clone> {
    Ids(transfers.iter().map(|transfer| transfer.id))
}

/// The first few.
pub(crate) fn few(transfers: &[Transfer]) -> Ids<impl Iterator<Item = TransferId> + Clone> {
    all(&transfers[..transfers.len().min(FEW)])
}
