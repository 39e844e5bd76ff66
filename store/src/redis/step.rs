//! How a step is carried out: asked, asked again where no answer came, and checked against what was seen before.

use super::connect::{ANSWER, BACKOFF, Fault, Link, Live};
use crate::StoreError;
use redis::{Cmd, Value};
use std::{
    collections::BTreeMap,
    future::Future,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};
use tokio::time::{Instant, timeout, timeout_at};

/// Trouble that goes on is told of again after this long.
const TELLING: Duration = Duration::from_secs(10);
/// A server that says nothing for this long to a caller that then gives up is connected to anew.
const SILENCE: Duration = Duration::from_secs(1);

/// The functions, and the name of their library: by its text, so that several versions live beside each other.
fn library() -> &'static (String, String) {
    static LIBRARY: OnceLock<(String, String)> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let text = include_str!("library.lua").replace("--@ records.lua\n", include_str!("records.lua"));
        // FNV-1a: nobody is kept out by it, it only tells one text from another.
        let mark = |mark: u64, byte: u8| (mark ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        let name = format!("nearbench_{:016x}", text.bytes().fold(0xcbf2_9ce4_8422_2325, mark));
        let code = format!("#!lua name={name}\n{}", text.replace("'@_'", &format!("'{name}_'")));
        (name, code)
    })
}

/// A step of the library and its arguments. Whatever is in them, asking twice does what asking once does.
pub(crate) struct Step {
    pub(crate) name: &'static str,
    pub(crate) args: Vec<Vec<u8>>,
}

impl Step {
    pub(crate) fn new<const N: usize>(name: &'static str, args: [&[u8]; N]) -> Self {
        Self { name, args: args.into_iter().map(<[u8]>::to_vec).collect() }
    }
}

/// What the library said.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: Vec<u8>,
    pub(crate) rest: std::vec::IntoIter<Value>,
    /// Whether it was asked before, and may have been done then.
    pub(crate) again: bool,
}

/// An answer of another form than the library gives.
#[derive(Debug)]
pub(crate) struct Odd;

pub(crate) trait Parts {
    fn bytes(&mut self) -> Result<Vec<u8>, Odd>;
    fn number(&mut self) -> Result<u64, Odd>;
    fn list(&mut self) -> Result<std::vec::IntoIter<Value>, Odd>;
}

impl Parts for std::vec::IntoIter<Value> {
    fn bytes(&mut self) -> Result<Vec<u8>, Odd> {
        match self.next() {
            Some(Value::BulkString(bytes)) => Ok(bytes),
            _ => Err(Odd),
        }
    }

    fn number(&mut self) -> Result<u64, Odd> {
        match self.next() {
            Some(Value::Int(number)) => u64::try_from(number).map_err(|_| Odd),
            Some(Value::BulkString(bytes)) => {
                std::str::from_utf8(&bytes).map_err(|_| Odd)?.parse::<u64>().map_err(|_| Odd)
            }
            _ => Err(Odd),
        }
    }

    fn list(&mut self) -> Result<std::vec::IntoIter<Value>, Odd> {
        match self.next() {
            Some(Value::Array(list)) => Ok(list.into_iter()),
            _ => Err(Odd),
        }
    }
}

/// What all handles of a store share of its connections.
pub(crate) struct Core {
    /// Which store, for errors.
    pub(crate) name: Arc<str>,
    /// `{nearbench:RUN}:`.
    pub(crate) prefix: Vec<u8>,
    /// For steps that nothing waits for behind them.
    pub(crate) prompt: Link,
    /// For those that are made durable, which may take long.
    pub(crate) durable: Link,
    /// The highest sequence that was seen.
    seen: AtomicU64,
    /// What stands in the way; `None` while steps are answered.
    trouble: Mutex<Option<Arc<str>>>,
    /// When somebody was told of it last.
    told: Mutex<Option<Instant>>,
    asked: Mutex<Activity>,
    /// What the time is in the store, in microseconds, where a test says it.
    pub(crate) clock: Option<Arc<AtomicU64>>,
}

/// What was asked of a store by this process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Activity {
    /// Steps, by name; those that were asked again count again.
    pub steps: BTreeMap<&'static str, u64>,
    /// How often one was not answered, or the store could not do it.
    pub failures: u64,
}

/// A sequence that was seen, and the lower one that was found later.
#[derive(Clone, Copy)]
pub(crate) struct Gap {
    seen: u64,
    found: u64,
}

/// How one asking ended.
pub(crate) enum Asked {
    Answered(Answer),
    /// The store is behind what it confirmed.
    Behind(Gap),
    Failed(Fault),
}

impl Core {
    pub(crate) fn new(
        name: Arc<str>,
        prefix: Vec<u8>,
        prompt: Link,
        durable: Link,
        clock: Option<Arc<AtomicU64>>,
    ) -> Self {
        Self {
            name,
            prefix,
            prompt,
            durable,
            seen: AtomicU64::new(0),
            trouble: Mutex::default(),
            told: Mutex::default(),
            asked: Mutex::default(),
            clock,
        }
    }

    pub(crate) fn key(&self, name: &[u8]) -> Vec<u8> {
        [&*self.prefix, name].concat()
    }

    pub(crate) fn trouble(&self) -> Option<Arc<str>> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn activity(&self) -> Activity {
        self.asked().clone()
    }

    fn asked(&self) -> MutexGuard<'_, Activity> {
        self.asked.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn troubled(&self, by: Option<&Fault>) {
        self.asked().failures += u64::from(by.is_some());
        let mut trouble = self.trouble.lock().unwrap_or_else(PoisonError::into_inner);
        let cause = by.map(Fault::cause);
        if let Some(cause) = &cause {
            let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
            if told.is_none_or(|told| told.elapsed() >= TELLING) {
                *told = Some(Instant::now());
                tracing::warn!(store = %self.name, %cause, "the store does not do what it is asked; it is asked again");
            }
        }
        *trouble = cause;
    }

    pub(crate) fn unreachable(&self) -> StoreError {
        let cause = self.trouble().unwrap_or_else(|| "no answer came in time".into());
        StoreError::Unreachable { store: self.name.clone(), cause }
    }

    pub(crate) fn restored(&self) -> StoreError {
        StoreError::Restored { store: self.name.clone() }
    }

    pub(crate) fn odd(&self) -> StoreError {
        self.damaged("an answer of its functions has another form than ours")
    }

    pub(crate) fn damaged(&self, cause: &str) -> StoreError {
        StoreError::Damaged { store: self.name.clone(), cause: cause.into() }
    }

    pub(crate) fn command(&self, live: &Live, step: &Step) -> Cmd {
        *self.asked().steps.entry(step.name).or_default() += 1;
        let mut cmd = redis::cmd("FCALL");
        cmd.arg(format!("{}_{}", library().0, step.name)).arg(1).arg(&self.prefix).arg(live.run_id.as_bytes());
        match &self.clock {
            Some(clock) => cmd.arg(clock.load(Ordering::SeqCst)),
            None => cmd.arg(""),
        };
        step.args.iter().for_each(|arg| {
            cmd.arg(arg);
        });
        cmd
    }

    /// Asks once.
    pub(crate) async fn ask(&self, live: &Live, step: &Step, again: bool) -> Asked {
        // What was confirmed before the store is asked, it has.
        let floor = self.floor();
        match live.ask(&self.command(live, step), ANSWER).await {
            Ok(value) => self.read(value, floor, again),
            Err(fault) => Asked::Failed(fault),
        }
    }

    pub(crate) fn floor(&self) -> u64 {
        self.seen.load(Ordering::SeqCst)
    }

    /// What the library answered; `floor`: what was seen before it was asked.
    pub(crate) fn read(&self, value: Value, floor: u64, again: bool) -> Asked {
        let parts = match value.extract_error() {
            Ok(Value::Array(parts)) => parts,
            Ok(_) => Vec::new(),
            Err(error) => return Asked::Failed(error.into()),
        };
        let mut rest = parts.into_iter();
        let (Ok(before), Ok(after), Ok(status)) = (rest.number(), rest.number(), rest.bytes()) else {
            return Asked::Failed(Fault::Refused("an answer has an odd form".into()));
        };
        if before < floor {
            return Asked::Behind(Gap { seen: floor, found: before });
        }
        self.seen.fetch_max(after, Ordering::SeqCst);
        Asked::Answered(Answer { status, rest, again })
    }

    /// Loads the functions, where they are missing.
    pub(crate) async fn load(&self, live: &Live) -> Result<(), Fault> {
        let mut cmd = redis::cmd("FUNCTION");
        cmd.arg("LOAD").arg(&library().1);
        match live.ask(&cmd, ANSWER).await {
            // Another was faster.
            Err(Fault::Refused(text)) if text.contains("already exists") => Ok(()),
            other => other.map(drop),
        }
    }

    /// Does `act` over a connection of `link` until it is done, for as long as `patience` says.
    pub(crate) async fn insist<T, F>(
        &self,
        link: &Link,
        patience: Option<Duration>,
        mut act: impl FnMut(Live, bool) -> F,
    ) -> Result<T, StoreError>
    where
        F: Future<Output = Result<T, Fault>>,
    {
        let until = patience.map(|patience| Instant::now() + patience);
        let (mut backoff, mut again) = (BACKOFF, false);
        loop {
            let used = Mutex::new(None);
            let attempt = async {
                let live = link.live().await?;
                *used.lock().unwrap_or_else(PoisonError::into_inner) = Some((live.clone(), Instant::now()));
                let done = act(live.clone(), again).await;
                if let Err(fault) = &done {
                    link.heed(&live, fault).await;
                    if *fault == Fault::NoFunctions {
                        self.load(&live).await?;
                    }
                }
                done
            };
            let done = match until {
                Some(until) => match timeout_at(until, attempt).await {
                    Ok(done) => done,
                    Err(_) => {
                        if let Some(fault) = link.fault() {
                            self.troubled(Some(&fault));
                        }
                        // A connection on which nothing comes, for long enough to mean something, is left.
                        let used = used.into_inner().unwrap_or_else(PoisonError::into_inner);
                        if let Some((live, _)) = used.filter(|(_, since)| since.elapsed() >= SILENCE) {
                            // Somebody who is about it already holds the lock.
                            let silent = Fault::Gone("no answer to a step".into());
                            _ = timeout(Duration::from_millis(1), link.heed(&live, &silent)).await;
                        }
                        return Err(self.unreachable());
                    }
                },
                None => attempt.await,
            };
            match done {
                Ok(done) => {
                    self.troubled(None);
                    return Ok(done);
                }
                Err(fault) => {
                    again = true;
                    if matches!(fault, Fault::NoFunctions | Fault::Moved(..))
                        && until.is_none_or(|t| Instant::now() < t)
                    {
                        tokio::task::yield_now().await;
                        continue;
                    }
                    self.troubled(Some(&fault));
                    let pause = backoff.step(rand::random());
                    if until.is_some_and(|until| Instant::now() + pause >= until) {
                        return Err(self.unreachable());
                    }
                    tokio::time::sleep(pause).await;
                }
            }
        }
    }

    /// A step that need not be made durable.
    pub(crate) async fn prompt(&self, patience: Option<Duration>, step: &Step) -> Result<Answer, StoreError> {
        let ask = |live: Live, again| async move {
            match self.ask(&live, step, again).await {
                Asked::Answered(answer) => Ok(Ok(answer)),
                Asked::Behind(gap) => Ok(Err(gap)),
                Asked::Failed(fault) => Err(fault),
            }
        };
        loop {
            match self.insist(&self.prompt, patience, ask).await? {
                Ok(answer) => return Ok(answer),
                // Told, it knows itself what it may still do.
                Err(gap) => self.suspect(patience, gap).await?,
            }
        }
    }

    /// Tells the store that it lacks something.
    pub(crate) async fn suspect(&self, patience: Option<Duration>, gap: Gap) -> Result<(), StoreError> {
        let step = &Step::new("suspect", [gap.seen.to_string().as_bytes(), gap.found.to_string().as_bytes()]);
        let tell = |live: Live, _| async move {
            match self.ask(&live, step, false).await {
                Asked::Failed(fault) => Err(fault),
                Asked::Answered(_) | Asked::Behind(_) => Ok(()),
            }
        };
        self.insist(&self.prompt, patience, tell).await
    }

    /// A command of Redis itself.
    pub(crate) async fn command_of_redis(&self, patience: Option<Duration>, cmd: &Cmd) -> Result<Value, StoreError> {
        self.insist(&self.prompt, patience, |live, _| async move { live.ask(cmd, ANSWER).await }).await
    }
}
