//! The operator: makes every `BenchmarkRun` of a cluster come to its end.
//!
//! A reconciliation is `observe -> validate -> decide(now) -> build -> apply -> status`, a file each. Deciding and
//! building are pure; observing, applying and writing the status are thin shells.
//!
//! It speaks to the API server and to pods that it made, and to nothing else: no chain, no Redis. It may make objects
//! that only a run's own pod reads, and never reads a Secret. It keeps nothing in memory that it could not lose: killed
//! at any moment, the next one goes on where it was.

mod admin;
mod apply;
mod build;
mod controller;
mod decide;
mod document;
mod follow;
// Until the controller leads and runs claim their accounts.
#[allow(dead_code, unused_imports)]
mod leases;
mod metrics;
mod names;
mod observe;
mod pods;
mod status;
mod validate;

pub use build::Image;
pub use controller::{Config, OperatorError, run};
pub use document::{DocumentError, PLAN, REPORT, deliver, inflate, pack, stored_report, unpack};

/// What is decided and built, for those who test it as values.
pub mod decisions {
    pub use crate::{
        build::{Children, children},
        decide::{Act, Decision, Observed, decide},
        names::{conditions, reasons},
        status::summary,
    };
}
