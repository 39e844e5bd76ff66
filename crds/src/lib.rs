//! The manifest: what a user writes, and its way to a plan.
//!
//! `parse` turns text into a [`BenchmarkRun`], by the very schema that an API server has; `plan` fills in every
//! default and checks what fields mean together. Both find all faults at once, name the field, and say the way
//! out. No I/O here, and nothing of a cluster.

mod pods;
mod schema;
mod spec;
mod status;

pub use pods::Pods;
pub use schema::{crd, crd_yaml};
pub use spec::*;
pub use status::*;
