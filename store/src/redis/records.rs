//! The records of a run in Redis.

use super::RedisStore;
use crate::{Accepted, Census, Changed, Cursor, Filter, Page, Record, Records, StoreError, Submission};
use nearbench_core::{Hash, TransferId};

impl Records for RedisStore {
    async fn accept(&self, _: Vec<Submission>, _: u64) -> Result<Vec<Accepted>, StoreError> {
        Err(self.core.odd())
    }

    async fn find(&self, _: &[TransferId]) -> Result<Vec<Option<Record>>, StoreError> {
        Err(self.core.odd())
    }

    async fn list(&self, _: &Filter, _: Option<Cursor>, _: usize) -> Result<Page, StoreError> {
        Err(self.core.odd())
    }

    async fn transaction(&self, _: Hash) -> Result<Vec<TransferId>, StoreError> {
        Err(self.core.odd())
    }

    async fn cancel(&self, _: TransferId) -> Result<Changed, StoreError> {
        Err(self.core.odd())
    }

    async fn retry(&self, _: TransferId, _: u64) -> Result<Changed, StoreError> {
        Err(self.core.odd())
    }

    async fn census(&self) -> Result<Census, StoreError> {
        Err(self.core.odd())
    }
}
