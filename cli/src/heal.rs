//! Keeps the store of a fleet whole: as long as a worker lives, somebody brings back what a restored Redis forgot.

use crate::fleet::{BRIEF, Brief, START};
use nearbench_core::Account;
use nearbench_near::{Client, Signer};
use nearbench_store::{RedisStore, StoreError};
use nearbench_worker::{
    Finality, Tally,
    recover::{Ground, RecoverError, recover},
};
use std::{convert::Infallible, sync::Arc, time::Duration};

/// Between two looks whether the store is whole.
const LOOK: Duration = Duration::from_secs(1);

/// What a worker knows that may have to be told to the store again.
pub(crate) struct Healer {
    pub(crate) store: Arc<RedisStore>,
    pub(crate) client: Client,
    pub(crate) finality: Finality,
    pub(crate) token: Account,
    pub(crate) signers: Vec<Signer>,
    pub(crate) brief: Brief,
    pub(crate) tally: Arc<Tally>,
}

impl Healer {
    /// Looks again and again, and recovers the store where it was restored. Never returns.
    pub(crate) async fn watch(self) -> Infallible {
        // Every worker that saw it restored tells it, whoever recovers it. Not before: a step that waits for replicas which
        // are gone ends only once a recovery has counted those that are left.
        let mut untold = false;
        loop {
            tokio::time::sleep(LOOK).await;
            match self.store.is_restored().await {
                Ok(false) if untold => match self.tell().await {
                    Ok(()) => untold = false,
                    Err(error) => tracing::debug!(%error, "the store was not told how the run began; trying again"),
                },
                Ok(false) => {}
                Ok(true) => {
                    untold = true;
                    if let Err(error) = self.heal().await {
                        tracing::error!(%error, "the store is not whole yet; trying again");
                    }
                }
                Err(error) => tracing::debug!(%error, "the store was not heard; looking again"),
            }
        }
    }

    async fn heal(&self) -> Result<(), RecoverError> {
        let Self { store, client, finality, token, signers, brief, tally } = self;
        let now_ns = || tally.now_ns();
        let ground = Ground { client, finality, token, lanes: signers, from: brief.height, now_ns: &now_ns };
        recover(store, &ground).await?;
        Ok(())
    }

    /// What a worker that starts later asks the store for.
    async fn tell(&self) -> Result<(), StoreError> {
        // Values of plain numbers always have a JSON text.
        let brief = serde_json::to_vec(&self.brief).unwrap_or_default();
        let start = self.tally.start_unix_ns().and_then(|start| serde_json::to_vec(&start).ok());
        let start = start.iter().map(|start| (START, start.as_slice()));
        let values: Vec<_> = [(BRIEF, brief.as_slice())].into_iter().chain(start).collect();
        self.store.put_meta(&values).await
    }
}
