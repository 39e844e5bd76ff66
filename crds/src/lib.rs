//! The manifest: what a user writes, and its way to a plan.
//!
//! [`parse`] turns text into a [`BenchmarkRun`], by the very schema that an API server has; [`plan`] fills in every
//! default and checks what fields mean together. Both find all faults at once, name the field, and say the way
//! out. No I/O here, and nothing of a cluster.

mod check;
mod parse;
mod pods;
mod resolve;
mod rules;
mod schema;
mod spec;
mod status;
mod violation;

pub use parse::{ManifestError, parse};
pub use pods::Pods;
pub use resolve::{ACCOUNTS_KEY, Resolve, chain_id, one_process, plan};
pub use schema::{crd, crd_yaml};
pub use spec::*;
pub use status::*;
pub use violation::Violation;
