//! A storage that keeps what is written to it in memory until it is told to go on: a file is looked at, and repaired
//! after a crash, before it is known to be ours, and a file that is refused stays as it was.

use redb::{BackendError, StorageBackend};
use std::{
    collections::BTreeMap,
    io,
    ops::Bound,
    sync::{Arc, PoisonError, RwLock},
};

const PAGE: u64 = 4096;

/// What was written so far.
#[derive(Debug)]
struct Writes {
    pages: BTreeMap<u64, Box<[u8]>>,
    len: u64,
    /// What lies from here on in the storage below is not seen.
    visible: u64,
}

#[derive(Debug)]
pub(crate) struct Staged<B> {
    below: B,
    /// `None` once it goes on: all passes through.
    writes: RwLock<Option<Writes>>,
}

/// The handle by which a [`Staged`] that was given away is told to go on.
pub(crate) type Handle<B> = Arc<Staged<B>>;

impl<B: StorageBackend> Staged<B> {
    pub(crate) fn new(below: B) -> io::Result<Handle<B>> {
        let len = below.len()?;
        let writes = RwLock::new(Some(Writes { pages: BTreeMap::new(), len, visible: len }));
        Ok(Arc::new(Self { below, writes }))
    }

    /// Writes what was held back; from now on all passes through.
    pub(crate) fn go_on(&self) -> io::Result<()> {
        let mut writes = self.writes.write().unwrap_or_else(PoisonError::into_inner);
        let Some(held) = writes.take() else { return Ok(()) };
        if self.below.len()? > held.visible {
            self.below.set_len(held.visible)?;
        }
        self.below.set_len(held.len)?;
        for (page, bytes) in &held.pages {
            let offset = page * PAGE;
            let count = PAGE.min(held.len.saturating_sub(offset)) as usize;
            self.below.write(offset, &bytes[..count])?;
        }
        self.below.sync_data()
    }
}

impl Writes {
    fn page(&self, below: &impl StorageBackend, page: u64) -> io::Result<Box<[u8]>> {
        if let Some(bytes) = self.pages.get(&page) {
            return Ok(bytes.clone());
        }
        let mut bytes = vec![0; PAGE as usize].into_boxed_slice();
        let there = PAGE.min(self.visible.saturating_sub(page * PAGE)) as usize;
        if there > 0 {
            below.read(page * PAGE, &mut bytes[..there])?;
        }
        Ok(bytes)
    }
}

/// The pages that `count` bytes from `offset` touch: each with the range within it, and within the bytes.
fn pages(offset: u64, count: usize) -> impl Iterator<Item = (u64, std::ops::Range<usize>, std::ops::Range<usize>)> {
    let mut done = 0;
    std::iter::from_fn(move || {
        if done == count {
            return None;
        }
        let at = offset + done as u64;
        let within = (at % PAGE) as usize;
        let take = (PAGE as usize - within).min(count - done);
        let step = (at / PAGE, within..within + take, done..done + take);
        done += take;
        Some(step)
    })
}

/// For [`Handle`], so that one can be kept. (The trait is redb's.)
#[derive(Debug)]
pub(crate) struct Shared<B>(pub(crate) Handle<B>);

impl<B: StorageBackend> StorageBackend for Shared<B> {
    fn len(&self) -> io::Result<u64> {
        match &*self.0.writes.read().unwrap_or_else(PoisonError::into_inner) {
            None => self.0.below.len(),
            Some(writes) => Ok(writes.len),
        }
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match &*self.0.writes.read().unwrap_or_else(PoisonError::into_inner) {
            None => self.0.below.read(offset, out),
            Some(writes) => {
                if offset.saturating_add(out.len() as u64) > writes.len {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                if writes.pages.is_empty() && writes.visible == writes.len {
                    return self.0.below.read(offset, out);
                }
                for (page, within, at) in pages(offset, out.len()) {
                    out[at].copy_from_slice(&writes.page(&self.0.below, page)?[within]);
                }
                Ok(())
            }
        }
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        match &mut *self.0.writes.write().unwrap_or_else(PoisonError::into_inner) {
            None => self.0.below.set_len(len),
            Some(writes) => {
                if len < writes.len {
                    writes.pages.split_off(&len.div_ceil(PAGE));
                    if let Some(last) = writes.pages.get_mut(&(len / PAGE)) {
                        last[(len % PAGE) as usize..].fill(0);
                    }
                    writes.visible = writes.visible.min(len);
                }
                writes.len = len;
                Ok(())
            }
        }
    }

    fn sync_data(&self) -> io::Result<()> {
        match &*self.0.writes.read().unwrap_or_else(PoisonError::into_inner) {
            None => self.0.below.sync_data(),
            Some(_) => Ok(()),
        }
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        {
            let writes = self.0.writes.read().unwrap_or_else(PoisonError::into_inner);
            if writes.is_none() {
                return self.0.below.write(offset, data);
            }
        }
        let mut writes = self.0.writes.write().unwrap_or_else(PoisonError::into_inner);
        let Some(writes) = &mut *writes else { return self.0.below.write(offset, data) };
        for (page, within, at) in pages(offset, data.len()) {
            let mut bytes = writes.page(&self.0.below, page)?;
            bytes[within].copy_from_slice(&data[at]);
            writes.pages.insert(page, bytes);
        }
        writes.len = writes.len.max(offset + data.len() as u64);
        Ok(())
    }

    fn close(&self) -> io::Result<()> {
        self.0.below.close()
    }

    fn try_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.below.try_lock_range(start, end)
    }

    fn try_lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.below.try_lock_shared_range(start, end)
    }

    fn lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.below.lock_range(start, end)
    }

    fn lock_shared_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.below.lock_shared_range(start, end)
    }

    fn unlock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<(), BackendError> {
        self.0.below.unlock_range(start, end)
    }

    fn query_lock_range(&self, start: Bound<u64>, end: Bound<u64>) -> Result<bool, BackendError> {
        self.0.below.query_lock_range(start, end)
    }
}
