//! Leases of `coordination.k8s.io/v1`: which of several operators leads, and which run may use an account.
//!
//! The two have nothing in common but the object. A leader's lease ends by itself when it is not renewed; an account's
//! never does. Every write names the version that was looked at, so that of two who saw the same one succeeds.

mod account;
mod leadership;
#[cfg(test)]
mod server;

pub(crate) use account::{AccountLock, Claim, Holder};
pub(crate) use leadership::Leadership;

use kube::core::Status;

/// How often something is looked at again that changed between the look and the write.
const LOOKS: usize = 5;

/// What the API server said, if it refused because the object is not as it was: changed, there already, or another.
fn conflict(error: &kube::Error) -> Option<&Status> {
    match error {
        kube::Error::Api(status) if status.code == 409 => Some(status),
        _ => None,
    }
}
