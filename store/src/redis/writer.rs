//! The steps that are made durable, in groups: while one group is on its way, the steps that come meanwhile make up the
//! next, and one WAIT covers them all. Pushes become one step a group, and so do submissions. Nothing waits to be sent for
//! these or a settle, so a group of those alone lingers a moment for others to come along.

use super::{
    Durability,
    connect::{ANSWER, BACKOFF, Fault},
    step::{Answer, Asked, Core, Odd, Parts, Step},
};
use crate::StoreError;
use redis::{Cmd, Value};
use std::{
    collections::VecDeque,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};
use tokio::{
    sync::{mpsc, oneshot},
    time::{Instant, sleep_until, timeout_at},
};

/// Steps in a group, at most.
const STEPS: usize = 64;
/// How long a WAIT waits before it says how far it came; it is asked again.
const WAIT: Duration = Duration::from_millis(500);

/// How it ended; an answer is durable.
pub(crate) type Outcome<T> = Result<T, StoreError>;

/// What adds transfers: it keeps its number until it is answered, since the store knows the last number alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Each is an element, and the answer is how many were taken.
    Push,
    /// Each is a submission, and has an answer, behind the time of all.
    Accept,
}

impl Kind {
    fn step(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Accept => "accept",
        }
    }

    /// Transfers in a step, at most: it takes the server's time.
    pub(crate) fn most(self) -> usize {
        match self {
            Self::Push => 1000,
            Self::Accept => 250,
        }
    }
}

/// Transfers to add.
pub(crate) struct Adding {
    pub(crate) kind: Kind,
    pub(crate) count: usize,
    pub(crate) args: Vec<Vec<u8>>,
    pub(crate) max_depth: u64,
    pub(crate) reply: oneshot::Sender<Outcome<Vec<Value>>>,
}

/// Something to do, and who wants to hear of it.
pub(crate) enum Task {
    Add(Adding),
    Step { step: Step, urgent: bool, reply: oneshot::Sender<Outcome<Answer>> },
}

struct Act {
    step: Step,
    reply: oneshot::Sender<Outcome<Answer>>,
    again: bool,
}

/// A step for several who add.
struct Asking {
    kind: Kind,
    step: Step,
    members: Vec<(oneshot::Sender<Outcome<Vec<Value>>>, usize)>,
    again: bool,
}

/// Those who add in one way, and what is asked for some of them.
struct Line {
    kind: Kind,
    /// Who asks, to the store.
    client: [u8; 16],
    number: u64,
    waiting: VecDeque<Adding>,
    asking: Option<Asking>,
}

impl Line {
    fn new(kind: Kind) -> Self {
        Self { kind, client: rand::random(), number: 0, waiting: VecDeque::new(), asking: None }
    }

    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.asking.is_none()
    }

    fn is_fresh(&self) -> bool {
        self.asking.as_ref().map_or(!self.waiting.is_empty(), |asking| !asking.again)
    }

    fn has_room(&self) -> bool {
        self.waiting.iter().map(|adding| adding.count).sum::<usize>() < self.kind.most()
    }

    /// Who gave up waiting does not want it done any more.
    fn forget(&mut self) {
        self.waiting.retain(|adding| !adding.reply.is_closed());
        if self.asking.as_ref().is_some_and(|asking| !asking.is_wanted()) {
            self.asking = None;
        }
    }

    fn gather(&mut self) {
        if self.asking.is_some() || self.waiting.is_empty() {
            return;
        }
        self.number += 1;
        let (mut members, mut bounds, mut all, mut count) = (Vec::new(), Vec::new(), Vec::new(), 0);
        while let Some(adding) = self.waiting.front()
            && (members.is_empty() || count + adding.count <= self.kind.most())
            && let Some(adding) = self.waiting.pop_front()
        {
            count += adding.count;
            bounds.push(adding.count.to_string().into_bytes());
            // Lua's numbers are doubles: beyond this nothing is ever as deep.
            bounds.push(adding.max_depth.min(1 << 53).to_string().into_bytes());
            members.push((adding.reply, adding.count));
            all.extend(adding.args);
        }
        let head = [self.client.to_vec(), self.number.to_string().into_bytes(), members.len().to_string().into_bytes()];
        let args = head.into_iter().chain(bounds).chain(all).collect();
        let step = Step { name: self.kind.step(), args };
        self.asking = Some(Asking { kind: self.kind, step, members, again: false });
    }
}

pub(crate) struct Writer {
    pub(crate) core: Arc<Core>,
    pub(crate) tasks: mpsc::UnboundedReceiver<Task>,
    pub(crate) durability: Durability,
    /// What WAIT waits for.
    pub(crate) replicas: Arc<AtomicU32>,
    pub(crate) linger: Duration,
}

/// What one asking of a step came to.
enum Came<T> {
    Done(Outcome<T>),
    Again,
}

impl Writer {
    /// Until nobody can ask for anything.
    pub(crate) async fn run(mut self) {
        let mut lines = [Kind::Push, Kind::Accept].map(Line::new);
        let mut acts: VecDeque<Act> = VecDeque::new();
        let mut backoff = BACKOFF;
        // What failed is not tried again before; what is new goes on meanwhile.
        let mut retry_at = Instant::now();
        loop {
            let mut urgent = false;
            let mut sort = |task, lines: &mut [Line; 2], acts: &mut VecDeque<Act>| match task {
                Task::Add(adding) => lines[adding.kind as usize].waiting.push_back(adding),
                Task::Step { step, urgent: hurry, reply } => {
                    urgent |= hurry;
                    acts.push_back(Act { step, reply, again: false });
                }
            };
            if acts.is_empty() && lines.iter().all(Line::is_idle) {
                let Some(task) = self.tasks.recv().await else { return };
                sort(task, &mut lines, &mut acts);
            }
            while let Ok(task) = self.tasks.try_recv() {
                sort(task, &mut lines, &mut acts);
            }
            let fresh = acts.iter().any(|act| !act.again) || lines.iter().any(Line::is_fresh);
            if !fresh && Instant::now() < retry_at {
                match timeout_at(retry_at, self.tasks.recv()).await {
                    Ok(Some(task)) => sort(task, &mut lines, &mut acts),
                    Ok(None) => sleep_until(retry_at).await,
                    Err(_) => {}
                }
            }
            let until = Instant::now() + self.linger;
            while !urgent && acts.len() < STEPS && lines.iter().all(Line::has_room) {
                let mut hurry = false;
                match timeout_at(until, self.tasks.recv()).await {
                    Ok(Some(Task::Add(adding))) => lines[adding.kind as usize].waiting.push_back(adding),
                    Ok(Some(Task::Step { step, urgent, reply })) => {
                        hurry = urgent;
                        acts.push_back(Act { step, reply, again: false });
                    }
                    Ok(None) | Err(_) => break,
                }
                if hurry {
                    break;
                }
            }
            acts.retain(|act| !act.reply.is_closed());
            for line in &mut lines {
                line.forget();
                line.gather();
            }
            let again = Instant::now() >= retry_at;
            let (mut group, mut held) = (Vec::new(), VecDeque::new());
            for act in acts.drain(..) {
                match group.len() < STEPS && (again || !act.again) {
                    true => group.push(act),
                    false => held.push_back(act),
                }
            }
            acts = held;
            let mut asking: Vec<_> =
                lines.iter_mut().filter_map(|line| line.asking.take_if(|asking| again || !asking.again)).collect();
            if group.is_empty() && asking.is_empty() {
                continue;
            }
            match self.carry_out(group, &mut asking, &mut acts).await {
                Ok(()) if again => backoff = BACKOFF,
                Ok(()) => {}
                Err(fault) => {
                    self.core.troubled(Some(&fault));
                    retry_at = Instant::now() + backoff.step(rand::random());
                }
            }
            for asking in asking {
                let line = &mut lines[asking.kind as usize];
                line.asking = Some(asking);
            }
        }
    }

    /// Sends a group, waits until it is durable, and answers. What has to be asked again goes back to `acts` and stays in
    /// `asking`.
    async fn carry_out(
        &self,
        mut group: Vec<Act>,
        asking: &mut Vec<Asking>,
        acts: &mut VecDeque<Act>,
    ) -> Result<(), Fault> {
        let core = &*self.core;
        let live = match core.durable.live().await {
            Ok(live) => live,
            Err(fault) => {
                group.into_iter().rev().for_each(|act| acts.push_front(act));
                return Err(fault);
            }
        };
        let floor = core.floor();
        let mut pipeline = redis::pipe();
        group.iter().for_each(|act| _ = pipeline.add_command(core.command(&live, &act.step)));
        asking.iter().for_each(|asking| _ = pipeline.add_command(core.command(&live, &asking.step)));
        let wait = self.wait();
        if let Some(wait) = &wait {
            pipeline.add_command(wait.clone());
        }
        let mut asked: Vec<Asked> = Vec::new();
        let mut waited = Ok(true);
        match live.ask_all(&pipeline, ANSWER + WAIT).await {
            Ok(mut values) => {
                if wait.is_some() {
                    waited = values.pop().ok_or_else(odd).and_then(|value| self.reached(value));
                }
                let again = group.iter().map(|act| act.again).chain(asking.iter().map(|asking| asking.again));
                asked.extend(values.into_iter().zip(again).map(|(value, again)| core.read(value, floor, again)));
            }
            Err(fault) => waited = Err(fault),
        }
        // Short of answers only where the connection failed.
        let failed = waited.as_ref().err().cloned().unwrap_or_else(odd);
        asked.resize_with(group.len() + asking.len(), || Asked::Failed(failed.clone()));
        while let (Ok(false), Some(wait)) = (&waited, &wait)
            // What was refused changed nothing.
            && asked.iter().any(|asked| matches!(asked, Asked::Answered(answer) if answer.status == b"OK"))
        {
            let wanted = group.iter().any(|act| !act.reply.is_closed()) || asking.iter().any(Asking::is_wanted);
            if !wanted {
                break;
            }
            core.troubled(Some(&Fault::Later("its replicas do not confirm what they are sent".into())));
            // A recovery counts the replicas anew.
            if let Asked::Answered(mut answer) = core.ask(&live, &Step::new("open", []), false).await
                && answer.rest.bytes().is_ok()
                && let Ok(replicas) = answer.rest.number()
            {
                self.replicas.store(replicas as u32, Ordering::SeqCst);
            }
            let again = self.wait().unwrap_or_else(|| wait.clone());
            waited = live.ask(&again, ANSWER + WAIT).await.and_then(|value| self.reached(value));
        }
        let added = asked.split_off(group.len());
        let mut fault = waited.as_ref().err().cloned();
        let mut behind = None;
        let mut judge = |asked| match (asked, &waited) {
            (Asked::Behind(gap), _) => {
                behind = Some(gap);
                Came::Again
            }
            (Asked::Failed(failed), _) => {
                fault.get_or_insert(failed);
                Came::Again
            }
            (Asked::Answered(answer), Err(_)) if answer.status == b"OK" => Came::Again,
            (Asked::Answered(answer), _) => Came::Done(Ok(answer)),
        };
        for (mut act, asked) in group.drain(..).zip(asked).rev().collect::<Vec<_>>() {
            match judge(asked) {
                Came::Done(outcome) => _ = act.reply.send(outcome),
                Came::Again => {
                    act.again = true;
                    acts.push_front(act);
                }
            }
        }
        for (mut one, asked) in std::mem::take(asking).into_iter().zip(added) {
            match judge(asked) {
                Came::Done(outcome) => one.answer(core, outcome),
                Came::Again => {
                    one.again = true;
                    asking.push(one);
                }
            }
        }
        if let Some(gap) = behind {
            // Told, it knows itself what it may still do. Who is not heard is told again with the next group.
            _ = core.suspect(Some(ANSWER), gap).await;
        }
        let Some(fault) = fault else {
            core.troubled(None);
            return Ok(());
        };
        core.durable.heed(&live, &fault).await;
        match fault {
            Fault::NoFunctions => core.load(&live).await,
            Fault::Moved(..) => Ok(()),
            fault => Err(fault),
        }
    }

    /// What asks for the durability of all that this connection wrote before.
    fn wait(&self) -> Option<Cmd> {
        let (replicas, millis) = (self.replicas.load(Ordering::SeqCst), WAIT.as_millis() as u64);
        let mut cmd = match self.durability {
            Durability::Local => return None,
            Durability::Replicated if replicas == 0 => return None,
            Durability::Replicated => redis::cmd("WAIT"),
            Durability::Fsync => redis::cmd("WAITAOF"),
        };
        match self.durability {
            Durability::Fsync => cmd.arg(1).arg(0).arg(millis),
            Durability::Local | Durability::Replicated => cmd.arg(replicas).arg(millis),
        };
        Some(cmd)
    }

    /// Whether it is so durable by now.
    fn reached(&self, value: Value) -> Result<bool, Fault> {
        match value.extract_error()? {
            Value::Int(reached) => Ok(reached >= i64::from(self.replicas.load(Ordering::SeqCst))),
            Value::Array(reached) => Ok(reached.first() == Some(&Value::Int(1))),
            _ => Err(odd()),
        }
    }
}

fn odd() -> Fault {
    Fault::Refused("an answer has an odd form".into())
}

impl Asking {
    fn is_wanted(&self) -> bool {
        self.members.iter().any(|(reply, _)| !reply.is_closed())
    }

    fn answer(self, core: &Core, outcome: Outcome<Answer>) {
        let mut parts = outcome.and_then(|mut answer| match (&*answer.status, self.kind) {
            (b"RESTORED", _) => Err(core.restored()),
            (_, Kind::Push) => {
                let taken = answer.rest.bytes().map_err(|Odd| core.odd())?;
                let each = taken.split(|byte| *byte == b',').map(|count| Value::BulkString(count.to_vec()));
                Ok((None, each.collect::<Vec<_>>().into_iter()))
            }
            (_, Kind::Accept) => {
                let mut answers = answer.rest.list().map_err(|Odd| core.odd())?;
                Ok((Some(answers.next().ok_or_else(|| core.odd())?), answers))
            }
        });
        for (reply, count) in self.members {
            let outcome = match &mut parts {
                Ok((Some(head), answers)) => {
                    Ok(std::iter::once(head.clone()).chain(answers.by_ref().take(count)).collect())
                }
                Ok((None, answers)) => Ok(answers.by_ref().take(1).collect()),
                Err(error) => Err(error.clone()),
            };
            _ = reply.send(outcome);
        }
    }
}
