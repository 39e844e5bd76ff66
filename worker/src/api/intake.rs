//! Requests that arrive together share one step of the store: while one is under way, the next collects.

use nearbench_store::{Accepted, Records, StoreError, Submission};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Submissions of one step, at most.
const MOST: usize = 4096;

/// One that waits for its answer.
type Asked = (Submission, oneshot::Sender<Result<Accepted, StoreError>>);

/// The way to the task that asks the store.
#[derive(Clone)]
pub(crate) struct Intake(mpsc::Sender<Asked>);

impl Intake {
    /// Starts the task; it ends with the last of its handles.
    pub(crate) fn start<S: Records>(store: Arc<S>, max_depth: u64) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Asked>(MOST);
        tokio::spawn(async move {
            let mut asked = Vec::new();
            while receiver.recv_many(&mut asked, MOST).await > 0 {
                let (submissions, waiting): (Vec<_>, Vec<_>) = asked.drain(..).unzip();
                match store.accept(submissions, max_depth).await {
                    // Whoever left does not hear it.
                    Ok(answers) => waiting.into_iter().zip(answers).for_each(|(to, answer)| drop(to.send(Ok(answer)))),
                    Err(error) => waiting.into_iter().for_each(|to| drop(to.send(Err(error.clone())))),
                }
            }
        });
        Self(sender)
    }

    /// What became of a submission; `None` where the task is gone.
    pub(crate) async fn accept(&self, submission: Submission) -> Option<Result<Accepted, StoreError>> {
        let (sender, receiver) = oneshot::channel();
        self.0.send((submission, sender)).await.ok()?;
        receiver.await.ok()
    }
}
