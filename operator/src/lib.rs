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
mod leases;
mod metrics;
mod names;
mod observe;
mod pods;
mod queue;
mod secret;
mod status;
mod validate;

pub use build::{Kit, Volumes};
pub use controller::{Config, OperatorError, run};
pub use document::{DocumentError, PLAN, REPORT, deliver, inflate, pack, stored_plan, stored_report, unpack};
pub use names::FINALIZER;

/// What is decided and built, for those who test it as values.
pub mod decisions {
    pub use crate::{
        build::{
            Children, children,
            fleet::{Ground, ground, plan_for, secret, step, workers},
        },
        decide::{Act, Decision, Fleet, Observed, Turn, decide},
        names::{Part, conditions, reasons},
        secret::Made,
        status::summary,
    };
}
