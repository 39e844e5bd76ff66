//! Which run may use an account: two that sign with one account's keys would disturb each other's nonces and numbers.
//!
//! The lock is a Lease in the operator's own namespace, found by the chain and the account alone, so that runs of all
//! namespaces meet at it. It never runs out: that its holder was not heard of for a while does not mean that nothing it
//! signed is still on its way. It ends when its run is known to be over: the run gives it back, or the next one finds
//! that it is gone.

use super::{LOOKS, conflict};
use crate::names::MANAGER;
use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::{Lease, LeaseSpec},
    apimachinery::pkg::apis::meta::v1::{MicroTime, ObjectMeta},
};
use kube::{
    Api, Client,
    api::{DeleteParams, PostParams, Preconditions},
};
use sha2::{Digest, Sha256};
use std::{fmt, str::FromStr};

/// Annotations that tell people what the lock is for.
const ACCOUNT: &str = "nearbench.dev/account";
const CHAIN: &str = "nearbench.dev/chain-id";

/// A run that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The run's namespace.
    pub(crate) namespace: String,
    /// Its name.
    pub(crate) name: String,
    /// Its UID, which tells it from an earlier run of that name.
    pub(crate) uid: String,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.namespace, self.name, self.uid)
    }
}

/// A lock's holder that is no run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the holder {0:?} is no run: it should be NAMESPACE/NAME/UID; delete the Lease if no run uses the account")]
pub(crate) struct HolderError(String);

impl FromStr for Holder {
    type Err = HolderError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.split('/').collect::<Vec<_>>()[..] {
            [namespace, name, uid] if ![namespace, name, uid].contains(&"") => {
                Ok(Self { namespace: namespace.to_owned(), name: name.to_owned(), uid: uid.to_owned() })
            }
            _ => Err(HolderError(text.to_owned())),
        }
    }
}

/// What came of asking for a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Claim {
    /// The account is the run's.
    Ours,
    /// It is another run's.
    HeldBy(Holder),
    /// Somebody else wrote into the lock; it is never taken from them.
    Unreadable(HolderError),
}

/// What to do about a lock that is there.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Take,
    Leave(Claim),
}

fn turn(lease: &Lease, holder: &Holder, is_over: impl Fn(&Holder) -> bool) -> Turn {
    match holder_of(lease) {
        None => Turn::Take,
        Some(Ok(there)) if there == *holder => Turn::Leave(Claim::Ours),
        Some(Ok(there)) if is_over(&there) => Turn::Take,
        Some(Ok(there)) => Turn::Leave(Claim::HeldBy(there)),
        Some(Err(error)) => Turn::Leave(Claim::Unreadable(error)),
    }
}

fn holder_of(lease: &Lease) -> Option<Result<Holder, HolderError>> {
    let text = lease.spec.as_ref()?.holder_identity.as_deref()?;
    (!text.is_empty()).then(|| text.parse())
}

/// The lock of one account on one chain.
pub(crate) struct AccountLock<'a> {
    leases: Api<Lease>,
    chain_id: &'a str,
    account: &'a str,
}

impl<'a> AccountLock<'a> {
    /// The lock in the operator's `namespace`. Nothing is asked yet.
    pub(crate) fn new(client: Client, namespace: &str, chain_id: &'a str, account: &'a str) -> Self {
        Self { leases: Api::namespaced(client, namespace), chain_id, account }
    }

    /// The Lease's name. A chain's id and an account's may hold what a name may not, and be longer.
    pub(crate) fn name(&self) -> String {
        let digest = Sha256::digest(format!("{}\0{}", self.chain_id, self.account));
        let hex: String = digest.iter().take(20).map(|byte| format!("{byte:02x}")).collect();
        format!("nearbench-account-{hex}")
    }

    /// Takes the lock for `holder`, unless another run has it that is not over. May be repeated.
    ///
    /// `is_over` must be sure: a run that is merely not known yet is not over.
    ///
    /// # Errors
    /// When the API server says no, or the lock changed hands at every look.
    pub(crate) async fn claim(&self, holder: &Holder, is_over: impl Fn(&Holder) -> bool) -> Result<Claim, kube::Error> {
        let by = PostParams { field_manager: Some(MANAGER.to_owned()), ..PostParams::default() };
        let name = self.name();
        let mut look = 1;
        loop {
            let written = match self.leases.get_opt(&name).await? {
                None => self.leases.create(&by, &self.lease(holder, ObjectMeta::default())).await,
                Some(lease) => match turn(&lease, holder, &is_over) {
                    Turn::Leave(claim) => return Ok(claim),
                    // Its metadata names the version that was looked at.
                    Turn::Take => self.leases.replace(&name, &by, &self.lease(holder, lease.metadata)).await,
                },
            };
            match written {
                Ok(_) => return Ok(Claim::Ours),
                Err(error) if conflict(&error).is_some() && look < LOOKS => look += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// Gives the lock back, if it is `holder`'s, and does nothing otherwise. May be repeated.
    ///
    /// # Errors
    /// When the API server says no, or the lock changed at every look.
    pub(crate) async fn release(&self, holder: &Holder) -> Result<(), kube::Error> {
        let name = self.name();
        let mut look = 1;
        loop {
            let Some(lease) = self.leases.get_opt(&name).await? else { return Ok(()) };
            if holder_of(&lease) != Some(Ok(holder.clone())) {
                return Ok(());
            }
            let this_one = Preconditions { uid: lease.metadata.uid, resource_version: lease.metadata.resource_version };
            let params = DeleteParams { preconditions: Some(this_one), ..DeleteParams::default() };
            match self.leases.delete(&name, &params).await {
                Ok(_) => return Ok(()),
                Err(kube::Error::Api(status)) if status.is_not_found() => return Ok(()),
                Err(error) if conflict(&error).is_some() && look < LOOKS => look += 1,
                Err(error) => return Err(error),
            }
        }
    }

    /// The Lease that gives the account to `holder`, with what its metadata has already.
    fn lease(&self, holder: &Holder, mut metadata: ObjectMeta) -> Lease {
        metadata.name = Some(self.name());
        let labels = metadata.labels.get_or_insert_default();
        labels.insert("app.kubernetes.io/managed-by".to_owned(), MANAGER.to_owned());
        let annotations = metadata.annotations.get_or_insert_default();
        annotations.insert(ACCOUNT.to_owned(), self.account.to_owned());
        annotations.insert(CHAIN.to_owned(), self.chain_id.to_owned());
        let spec = LeaseSpec {
            holder_identity: Some(holder.to_string()),
            // For people: nothing is decided by it.
            acquire_time: Some(MicroTime(Timestamp::now())),
            ..LeaseSpec::default()
        };
        Lease { metadata, spec: Some(spec) }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::server::Server;
    use super::*;

    const NEVER: fn(&Holder) -> bool = |_| false;

    fn holder(name: &str) -> Holder {
        Holder { namespace: "team".to_owned(), name: name.to_owned(), uid: format!("uid-of-{name}") }
    }

    fn lock(server: &Server) -> AccountLock<'static> {
        AccountLock::new(server.client(), "system", "testnet", "bench.testnet")
    }

    #[test]
    fn a_holder_is_read_as_it_was_written_and_nothing_else_is_one() {
        assert_eq!(holder("run").to_string(), "team/run/uid-of-run");
        assert_eq!("team/run/uid-of-run".parse(), Ok(holder("run")));
        for bad in ["", "run", "team/run", "team/run/", "//", "team/run/uid/more"] {
            let error = bad.parse::<Holder>().unwrap_err().to_string();
            assert!(error.contains(&format!("{bad:?}")) && error.contains("NAMESPACE/NAME/UID"), "{error}");
        }
    }

    #[tokio::test]
    async fn a_name_is_of_the_chain_and_the_account() {
        let server = Server::new();
        let name = |chain, account| AccountLock::new(server.client(), "system", chain, account).name();
        // printf 'testnet\0bench.testnet' | sha256sum
        assert_eq!(name("testnet", "bench.testnet"), "nearbench-account-b81b7f470c058aa58f0a51208fa8efa4073d3003");
        assert_ne!(name("testnet", "bench.testnet"), name("mainnet", "bench.testnet"));
        assert_ne!(name("a", "bc"), name("ab", "c"));
    }

    #[tokio::test]
    async fn the_first_run_has_the_account_until_it_gives_it_back() {
        let server = Server::new();
        let lock = lock(&server);
        let (first, second) = (holder("first"), holder("second"));
        assert_eq!(lock.claim(&first, NEVER).await.unwrap(), Claim::Ours);
        assert_eq!(lock.claim(&first, NEVER).await.unwrap(), Claim::Ours, "it may ask again");
        assert_eq!(lock.claim(&second, NEVER).await.unwrap(), Claim::HeldBy(first.clone()));
        lock.release(&second).await.unwrap();
        assert_eq!(lock.claim(&second, NEVER).await.unwrap(), Claim::HeldBy(first.clone()), "it was not its own");
        let lease = server.lease(&lock.name()).unwrap();
        let annotations = lease.metadata.annotations.unwrap();
        assert_eq!((&*annotations[ACCOUNT], &*annotations[CHAIN]), ("bench.testnet", "testnet"));
        assert_eq!(lease.spec.unwrap().lease_duration_seconds, None, "it never runs out");
        lock.release(&first).await.unwrap();
        lock.release(&first).await.unwrap();
        assert_eq!(server.lease(&lock.name()), None);
        assert_eq!(lock.claim(&second, NEVER).await.unwrap(), Claim::Ours);
    }

    #[tokio::test]
    async fn a_run_that_is_over_loses_the_account_also_to_one_of_its_name() {
        let server = Server::new();
        let lock = lock(&server);
        let gone = holder("run");
        let next = Holder { uid: "another".to_owned(), ..gone.clone() };
        lock.claim(&gone, NEVER).await.unwrap();
        assert_eq!(lock.claim(&next, NEVER).await.unwrap(), Claim::HeldBy(gone.clone()));
        assert_eq!(lock.claim(&next, |there| *there == gone).await.unwrap(), Claim::Ours);
        lock.release(&gone).await.unwrap();
        assert_eq!(lock.claim(&next, NEVER).await.unwrap(), Claim::Ours, "what is another's is not deleted");
    }

    #[tokio::test]
    async fn of_many_that_ask_at_once_one_has_the_account() {
        let server = Server::new();
        for gone in [None, Some(holder("gone"))] {
            if let Some(gone) = &gone {
                lock(&server).claim(gone, |_| true).await.unwrap();
            }
            let claims = (0..8).map(|n| {
                let (lock, gone) = (lock(&server), gone.clone());
                async move { lock.claim(&holder(&n.to_string()), |there| Some(there) == gone.as_ref()).await.unwrap() }
            });
            let claims = futures_util::future::join_all(claims).await;
            assert_eq!(claims.iter().filter(|claim| **claim == Claim::Ours).count(), 1, "{claims:?}");
        }
    }

    #[tokio::test]
    async fn what_a_person_wrote_into_a_lock_is_left_alone() {
        let server = Server::new();
        let lock = lock(&server);
        lock.claim(&holder("run"), NEVER).await.unwrap();
        server.write(&lock.name(), |lease| {
            lease.spec.as_mut().unwrap().holder_identity = Some("ops, keep out".to_owned())
        });
        let claim = lock.claim(&holder("run"), |_| true).await.unwrap();
        assert!(matches!(claim, Claim::Unreadable(_)), "{claim:?}");
        lock.release(&holder("run")).await.unwrap();
        assert!(server.lease(&lock.name()).is_some());
        server.write(&lock.name(), |lease| lease.spec.as_mut().unwrap().holder_identity = None);
        assert_eq!(lock.claim(&holder("run"), NEVER).await.unwrap(), Claim::Ours);
    }

    #[tokio::test]
    async fn a_lock_that_changes_hands_at_every_look_is_given_up_on() {
        let server = Server::new();
        let lock = lock(&server);
        lock.claim(&holder("gone"), NEVER).await.unwrap();
        server.disturb(true);
        let error = lock.claim(&holder("run"), |_| true).await.unwrap_err();
        assert!(conflict(&error).is_some(), "{error}");
        let error = lock.release(&holder("gone")).await.unwrap_err();
        assert!(conflict(&error).is_some(), "{error}");
        server.disturb(false);
        assert_eq!(lock.claim(&holder("run"), |_| true).await.unwrap(), Claim::Ours);
    }
}
