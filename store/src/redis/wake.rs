//! Who waits for work hears of it: a message where the queue was empty and is no more, and a slow look at it in case that
//! a message was lost.

use super::{
    connect::BACKOFF,
    step::{Core, Parts, Step},
};
use futures_util::StreamExt;
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::Notify,
    time::{Instant, sleep, timeout_at},
};

/// How often the queue is looked at while somebody waits.
const LOOK: Duration = Duration::from_millis(500);

pub(crate) struct Wake {
    /// The queue may hold something.
    some: AtomicBool,
    /// How often it was heard that it does.
    heard: AtomicU64,
    waiting: AtomicUsize,
    /// Wakes one waiter for each batch of work; a waiter that leaves work behind wakes the next.
    work: Notify,
}

/// Counts a waiter for as long as it waits.
struct Waiter<'a>(&'a AtomicUsize);

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Wake {
    /// Listens for as long as anybody has the result.
    pub(crate) fn start(core: Arc<Core>) -> Arc<Self> {
        let wake = Arc::new(Self {
            some: AtomicBool::new(true),
            heard: AtomicU64::new(0),
            waiting: AtomicUsize::new(0),
            work: Notify::new(),
        });
        tokio::spawn(listen(core.clone(), Arc::downgrade(&wake)));
        tokio::spawn(look(core, Arc::downgrade(&wake)));
        wake
    }

    pub(crate) fn heard(&self) -> u64 {
        self.heard.load(Ordering::SeqCst)
    }

    fn hear(&self) {
        self.heard.fetch_add(1, Ordering::SeqCst);
        self.some.store(true, Ordering::SeqCst);
        self.work.notify_one();
    }

    /// A claim left something in the queue, or nothing, unless more was heard of since `heard`.
    pub(crate) fn left(&self, some: bool, heard: u64) {
        if some {
            self.some.store(true, Ordering::SeqCst);
            self.work.notify_one();
            return;
        }
        self.some.store(false, Ordering::SeqCst);
        if self.heard() != heard {
            self.some.store(true, Ordering::SeqCst);
        }
    }

    pub(crate) async fn wait(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let _waiter = Waiter(&self.waiting);
        loop {
            let notified = self.work.notified();
            if self.some.load(Ordering::SeqCst) {
                return;
            }
            notified.await;
        }
    }
}

async fn listen(core: Arc<Core>, wake: Weak<Wake>) {
    let channel = core.key(b"work");
    let mut backoff = BACKOFF;
    while wake.strong_count() > 0 {
        if let Ok(mut heard) = core.prompt.listen(&channel).await {
            backoff.reset();
            // Something may have come before.
            if let Some(wake) = wake.upgrade() {
                wake.hear();
            }
            let mut messages = heard.on_message();
            // Now and then, whether anybody still wants to know.
            loop {
                match timeout_at(Instant::now() + LOOK * 4, messages.next()).await {
                    Ok(Some(_)) => match wake.upgrade() {
                        Some(wake) => wake.hear(),
                        None => return,
                    },
                    Ok(None) => break,
                    Err(_) if wake.strong_count() == 0 => return,
                    Err(_) => {}
                }
            }
        }
        sleep(LOOK + backoff.step(rand::random())).await;
    }
}

async fn look(core: Arc<Core>, wake: Weak<Wake>) {
    let step = Step::new("depth", []);
    loop {
        sleep(LOOK).await;
        let Some(wake) = wake.upgrade() else { return };
        if wake.waiting.load(Ordering::SeqCst) == 0 {
            continue;
        }
        if wake.some.load(Ordering::SeqCst) {
            // One that was woken may have gone without a claim.
            wake.work.notify_one();
            continue;
        }
        if let Ok(mut answer) = core.prompt(Some(LOOK), &step).await
            && answer.rest.number().is_ok_and(|queued| queued > 0)
        {
            wake.hear();
        }
    }
}
