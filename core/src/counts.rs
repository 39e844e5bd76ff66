//! What became of the transfers, as numbers that must add up.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How many transfers reached which point.
///
/// `offered = sent + notSent` and `accepted = succeeded + failed + cancelled + expired + unknown`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Counts {
    /// Scheduled.
    pub offered: u64,
    /// Handed to the queue or the API.
    pub sent: u64,
    /// Scheduled, and never sent.
    pub not_sent: u64,
    /// Sent, and refused (429 or 503).
    pub rejected: u64,
    /// Sent, and accepted: from here on each must end in one of the states below.
    pub accepted: u64,
    /// In a transaction whose receipt a block executed: succeeded or failed.
    pub included: u64,
    /// The tokens moved, by the outcome of a receipt in a final block.
    pub succeeded: u64,
    /// The receipt failed, for the transfer's own fault.
    pub failed: u64,
    /// Withdrawn before it was signed.
    pub cancelled: u64,
    /// Proven never to execute.
    pub expired: u64,
    /// No proof either way.
    pub unknown: u64,
}

/// Counts that contradict one another: a transfer was counted twice, or in a state that it never was in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the counts do not add up: {rule}, but they are {left} and {right}; this is a bug in nearbench, no result can be given"
)]
pub struct Miscount {
    /// The identity that does not hold.
    pub rule: &'static str,
    /// Its left side.
    pub left: u64,
    /// Its right side.
    pub right: u64,
}

impl Counts {
    /// Transfers that ended in a state.
    pub fn ended(&self) -> u64 {
        self.succeeded + self.failed + self.cancelled + self.expired + self.unknown
    }

    /// Checks the identities.
    ///
    /// # Errors
    /// Names the first that does not hold, with both sides.
    pub fn check(&self) -> Result<(), Miscount> {
        let equal = |rule, left, right| {
            if left == right { Ok(()) } else { Err(Miscount { rule, left, right }) }
        };
        let at_most = |rule, left, right| {
            if left <= right { Ok(()) } else { Err(Miscount { rule, left, right }) }
        };
        equal("offered = sent + not sent", self.offered, self.sent + self.not_sent)?;
        at_most("accepted + rejected <= sent", self.accepted + self.rejected, self.sent)?;
        equal("accepted = succeeded + failed + cancelled + expired + unknown", self.accepted, self.ended())?;
        equal("included = succeeded + failed", self.included, self.succeeded + self.failed)
    }

    /// Transfers that succeeded, in percent of those offered; `None` where none was offered.
    pub fn success_rate(&self) -> Option<f64> {
        (self.offered > 0).then(|| self.succeeded as f64 * 100.0 / self.offered as f64)
    }
}

impl std::ops::AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        // Destructured without `..`: a new count that is not added does not compile.
        let Self {
            offered,
            sent,
            not_sent,
            rejected,
            accepted,
            included,
            succeeded,
            failed,
            cancelled,
            expired,
            unknown,
        } = other;
        self.offered += offered;
        self.sent += sent;
        self.not_sent += not_sent;
        self.rejected += rejected;
        self.accepted += accepted;
        self.included += included;
        self.succeeded += succeeded;
        self.failed += failed;
        self.cancelled += cancelled;
        self.expired += expired;
        self.unknown += unknown;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transfer_counted_twice_is_found() {
        let good = Counts {
            offered: 9,
            sent: 8,
            not_sent: 1,
            rejected: 1,
            accepted: 6,
            included: 5,
            succeeded: 4,
            failed: 1,
            unknown: 1,
            ..Counts::default()
        };
        assert_eq!(good.check(), Ok(()));
        assert!(Counts { sent: 9, ..good }.check().is_err());
        assert!(Counts { succeeded: 5, ..good }.check().is_err());
        assert!(Counts { accepted: 9, unknown: 4, ..good }.check().is_err());
        assert!(Counts { included: 4, ..good }.check().is_err());
    }
}
