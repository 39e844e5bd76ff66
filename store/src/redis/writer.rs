//! The steps that are made durable, in groups: while one group is on its way, the steps that come meanwhile make up the
//! next, and one WAIT covers them all. Pushes become one step a group. Nothing waits to be sent for a push or a settle,
//! so a group of those alone lingers a moment for others to come along.

use super::{
    Durability,
    connect::{ANSWER, BACKOFF, Fault},
    step::{Answer, Asked, Core, Parts, Step},
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

/// Steps and pushed transfers in a group, at most.
const STEPS: usize = 64;
pub(crate) const PUSHED: usize = 1000;
/// How long a WAIT waits before it says how far it came; it is asked again.
const WAIT: Duration = Duration::from_millis(500);

/// How it ended; an answer is durable.
pub(crate) type Outcome<T> = Result<T, StoreError>;

/// Something to do, and who wants to hear of it.
pub(crate) enum Task {
    Push { elements: Vec<Vec<u8>>, max_depth: u64, reply: oneshot::Sender<Outcome<usize>> },
    Step { step: Step, urgent: bool, reply: oneshot::Sender<Outcome<Answer>> },
}

struct Push {
    elements: Vec<Vec<u8>>,
    max_depth: u64,
    reply: oneshot::Sender<Outcome<usize>>,
}

struct Act {
    step: Step,
    reply: oneshot::Sender<Outcome<Answer>>,
    again: bool,
}

/// A push of several, which keeps its number until it is answered: the store knows the last number alone.
struct Pushes {
    step: Step,
    members: Vec<(oneshot::Sender<Outcome<usize>>, usize)>,
    again: bool,
}

pub(crate) struct Writer {
    pub(crate) core: Arc<Core>,
    pub(crate) tasks: mpsc::UnboundedReceiver<Task>,
    pub(crate) durability: Durability,
    /// What WAIT waits for.
    pub(crate) replicas: Arc<AtomicU32>,
    pub(crate) linger: Duration,
    /// Who pushes.
    pub(crate) client: [u8; 16],
}

/// What one asking of a step came to.
enum Came<T> {
    Done(Outcome<T>),
    Again,
}

impl Writer {
    /// Until nobody can ask for anything.
    pub(crate) async fn run(mut self) {
        let mut waiting: VecDeque<Push> = VecDeque::new();
        let mut acts: VecDeque<Act> = VecDeque::new();
        let mut pushes: Option<Pushes> = None;
        let (mut number, mut backoff) = (0u64, BACKOFF);
        // What failed is not tried again before; what is new goes on meanwhile.
        let mut retry_at = Instant::now();
        loop {
            let mut urgent = false;
            let mut sort = |task, waiting: &mut VecDeque<Push>, acts: &mut VecDeque<Act>| match task {
                Task::Push { elements, max_depth, reply } => waiting.push_back(Push { elements, max_depth, reply }),
                Task::Step { step, urgent: hurry, reply } => {
                    urgent |= hurry;
                    acts.push_back(Act { step, reply, again: false });
                }
            };
            if waiting.is_empty() && acts.is_empty() && pushes.is_none() {
                let Some(task) = self.tasks.recv().await else { return };
                sort(task, &mut waiting, &mut acts);
            }
            while let Ok(task) = self.tasks.try_recv() {
                sort(task, &mut waiting, &mut acts);
            }
            let fresh = acts.iter().any(|act| !act.again)
                || pushes.as_ref().map_or(!waiting.is_empty(), |pushes| !pushes.again);
            if !fresh && Instant::now() < retry_at {
                match timeout_at(retry_at, self.tasks.recv()).await {
                    Ok(Some(task)) => sort(task, &mut waiting, &mut acts),
                    Ok(None) => sleep_until(retry_at).await,
                    Err(_) => {}
                }
            }
            let until = Instant::now() + self.linger;
            while !urgent
                && acts.len() < STEPS
                && waiting.iter().map(|push| push.elements.len()).sum::<usize>() < PUSHED
            {
                let mut hurry = false;
                match timeout_at(until, self.tasks.recv()).await {
                    Ok(Some(Task::Push { elements, max_depth, reply })) => {
                        waiting.push_back(Push { elements, max_depth, reply });
                    }
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
            // Who gave up waiting does not want it done any more.
            acts.retain(|act| !act.reply.is_closed());
            waiting.retain(|push| !push.reply.is_closed());
            if pushes.as_ref().is_some_and(|pushes| pushes.members.iter().all(|(reply, _)| reply.is_closed())) {
                pushes = None;
            }
            if pushes.is_none() && !waiting.is_empty() {
                number += 1;
                pushes = Some(self.gather(&mut waiting, number));
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
            let mut pushed =
                if again || pushes.as_ref().is_some_and(|pushes| !pushes.again) { pushes.take() } else { None };
            if group.is_empty() && pushed.is_none() {
                continue;
            }
            match self.carry_out(group, &mut pushed, &mut acts).await {
                Ok(()) if again => backoff = BACKOFF,
                Ok(()) => {}
                Err(fault) => {
                    self.core.troubled(Some(&fault));
                    retry_at = Instant::now() + backoff.step(rand::random());
                }
            }
            pushes = pushes.or(pushed);
        }
    }

    fn gather(&self, waiting: &mut VecDeque<Push>, number: u64) -> Pushes {
        let (mut members, mut bounds, mut elements) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(push) = waiting.front()
            && (members.is_empty() || elements.len() + push.elements.len() <= PUSHED)
            && let Some(push) = waiting.pop_front()
        {
            bounds.push(push.elements.len().to_string().into_bytes());
            // Lua's numbers are doubles: beyond this nothing is ever as deep.
            bounds.push(push.max_depth.min(1 << 53).to_string().into_bytes());
            members.push((push.reply, push.elements.len()));
            elements.extend(push.elements);
        }
        let head = [self.client.to_vec(), number.to_string().into_bytes(), members.len().to_string().into_bytes()];
        let args = head.into_iter().chain(bounds).chain(elements).collect();
        Pushes { step: Step { name: "push", args }, members, again: false }
    }

    /// Sends a group, waits until it is durable, and answers. What has to be asked again goes back to `acts` and `pushes`.
    async fn carry_out(
        &self,
        mut group: Vec<Act>,
        pushes: &mut Option<Pushes>,
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
        if let Some(pushes) = pushes {
            pipeline.add_command(core.command(&live, &pushes.step));
        }
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
                let again = group.iter().map(|act| act.again).chain(pushes.iter().map(|pushes| pushes.again));
                asked.extend(values.into_iter().zip(again).map(|(value, again)| core.read(value, floor, again)));
            }
            Err(fault) => waited = Err(fault),
        }
        // Short of answers only where the connection failed.
        let failed = waited.as_ref().err().cloned().unwrap_or_else(odd);
        asked.resize_with(group.len() + usize::from(pushes.is_some()), || Asked::Failed(failed.clone()));
        while let (Ok(false), Some(wait)) = (&waited, &wait)
            // What was refused changed nothing.
            && asked.iter().any(|asked| matches!(asked, Asked::Answered(answer) if answer.status == b"OK"))
        {
            let wanted = group.iter().any(|act| !act.reply.is_closed())
                || pushes.as_ref().is_some_and(|pushes| pushes.members.iter().any(|(reply, _)| !reply.is_closed()));
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
        let pushed = if pushes.is_some() { asked.pop() } else { None };
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
        if let Some(asked) = pushed
            && let Some(mut asking) = pushes.take()
        {
            match judge(asked) {
                Came::Done(outcome) => asking.answer(core, outcome),
                Came::Again => {
                    asking.again = true;
                    *pushes = Some(asking);
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

impl Pushes {
    fn answer(self, core: &Core, outcome: Outcome<Answer>) {
        let taken = outcome.and_then(|mut answer| match &*answer.status {
            b"RESTORED" => Err(core.restored()),
            _ => {
                let taken = answer.rest.bytes().map_err(|_| core.odd())?;
                let taken = String::from_utf8_lossy(&taken).into_owned();
                taken.split(',').map(|count| count.parse().map_err(|_| core.odd())).collect::<Result<Vec<usize>, _>>()
            }
        });
        for (at, (reply, _)) in self.members.into_iter().enumerate() {
            let outcome = match &taken {
                Ok(taken) => taken.get(at).copied().ok_or_else(|| core.odd()),
                Err(error) => Err(error.clone()),
            };
            _ = reply.send(outcome);
        }
    }
}
