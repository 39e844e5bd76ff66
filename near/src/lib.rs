//! The chain as nearbench sees it: endpoints, signing, transactions, evidence, provisioning, audit.
//!
//! Besides `devnet`, the only room that knows nearcore's types; what leaves it is in the words of `core`.

pub mod transport;
