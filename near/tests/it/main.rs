//! `nearbench-near` as its users see it: against a real node's recorded answers, and against endpoints that misbehave.
#![allow(clippy::unwrap_used)]

mod devnet;
mod endpoints;
mod evidence;
mod fake;
mod faulty;
mod history;
mod journal;
mod receipts;
mod recorded;
