//! A disk that knows which writes were synced: it can fail at any write, and lose in a crash what was not synced.

use nearbench_store::StorageBackend;
use std::{
    io,
    sync::{Arc, Condvar, Mutex, MutexGuard},
};

/// What a crash leaves of the writes since the last sync.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Keep {
    Nothing,
    /// As when a process is killed: the system writes all in its time.
    Everything,
    /// The first writes, in their order.
    First(u8),
    /// Any of them, some of those only up to a sector; the bits are drawn from the seed.
    Some(u64),
}

#[derive(Clone, Debug)]
enum Write {
    Length(u64),
    Bytes(u64, Vec<u8>),
}

impl Write {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Length(length) => to.resize(*length as usize, 0),
            Self::Bytes(offset, bytes) => {
                let (from, to_byte) = (*offset as usize, *offset as usize + bytes.len());
                to.resize(to.len().max(to_byte), 0);
                to[from..to_byte].copy_from_slice(bytes);
            }
        }
    }
}

#[derive(Debug, Default)]
struct Inner {
    now: Vec<u8>,
    synced: Vec<u8>,
    pending: Vec<Write>,
    /// Writes and syncs that still succeed.
    left: Option<u64>,
    fail_with: Option<io::ErrorKind>,
    syncs: u64,
    /// Whether a sync waits, and whether one does.
    held: bool,
    waiting: bool,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Disk(Arc<(Mutex<Inner>, Condvar)>);

impl Disk {
    pub(crate) fn holding(bytes: Vec<u8>) -> Self {
        let inner = Inner { now: bytes.clone(), synced: bytes, ..Inner::default() };
        Self(Arc::new((Mutex::new(inner), Condvar::new())))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.0.0.lock().unwrap()
    }

    /// After `writes` more writes every one fails.
    pub(crate) fn fail_after(&self, writes: u64, kind: io::ErrorKind) {
        let mut inner = self.lock();
        (inner.left, inner.fail_with) = (Some(writes), Some(kind));
    }

    /// From now on a sync waits for [`Self::let_go`].
    pub(crate) fn hold_syncs(&self) {
        self.lock().held = true;
    }

    /// Returns once a sync waits.
    pub(crate) fn wait_for_sync(&self) {
        drop(self.0.1.wait_while(self.lock(), |inner| !inner.waiting).unwrap());
    }

    pub(crate) fn let_go(&self) {
        self.lock().held = false;
        self.0.1.notify_all();
    }

    /// How many syncs succeeded.
    pub(crate) fn syncs(&self) -> u64 {
        self.lock().syncs
    }

    /// The next write panics.
    pub(crate) fn panic_next(&self) {
        let mut inner = self.lock();
        (inner.left, inner.fail_with) = (Some(0), None);
    }

    /// Everything that was written.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        self.lock().now.clone()
    }

    /// How the disk is found after a crash now.
    pub(crate) fn after_crash(&self, keep: Keep) -> Self {
        let inner = self.lock();
        let mut bytes = inner.synced.clone();
        for (nth, write) in inner.pending.iter().enumerate() {
            let drawn = |seed: u64| (seed ^ nth as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 62;
            match (keep, write) {
                (Keep::Nothing, _) => {}
                (Keep::First(count), _) if nth >= usize::from(count) => {}
                (Keep::Some(seed), _) if drawn(seed) == 0 => {}
                (Keep::Some(seed), Write::Bytes(offset, whole)) if drawn(seed) == 1 => {
                    Write::Bytes(*offset, whole[..whole.len() / 2 / 512 * 512].to_vec()).apply(&mut bytes);
                }
                _ => write.apply(&mut bytes),
            }
        }
        Self::holding(bytes)
    }

    fn write_one(&self, write: Option<Write>) -> io::Result<()> {
        let mut inner = self.lock();
        match &mut inner.left {
            Some(0) => {
                let Some(kind) = inner.fail_with else {
                    drop(inner);
                    panic!("the disk was told to panic");
                };
                return Err(kind.into());
            }
            Some(left) => *left -= 1,
            None => {}
        }
        match write {
            Some(write) => {
                write.apply(&mut inner.now);
                inner.pending.push(write);
            }
            None => {
                inner.syncs += 1;
                for write in std::mem::take(&mut inner.pending) {
                    write.apply(&mut inner.synced);
                }
            }
        }
        Ok(())
    }
}

impl StorageBackend for Disk {
    fn len(&self) -> io::Result<u64> {
        Ok(self.lock().now.len() as u64)
    }

    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let inner = self.lock();
        let from = offset as usize;
        let there = inner.now.get(from..from + out.len()).ok_or(io::ErrorKind::UnexpectedEof)?;
        out.copy_from_slice(there);
        Ok(())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.write_one(Some(Write::Length(len)))
    }

    fn sync_data(&self) -> io::Result<()> {
        let mut inner = self.lock();
        if inner.held {
            inner.waiting = true;
            self.0.1.notify_all();
            inner = self.0.1.wait_while(inner, |inner| inner.held).unwrap();
            inner.waiting = false;
        }
        drop(inner);
        self.write_one(None)
    }

    fn write(&self, offset: u64, data: &[u8]) -> io::Result<()> {
        self.write_one(Some(Write::Bytes(offset, data.to_vec())))
    }
}
