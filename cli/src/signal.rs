//! What tells a process to end: Ctrl-C by a person, SIGTERM by a machine. Both mean the same.

use tokio::signal::unix::{Signal, SignalKind, signal};

/// Both signals, from now on.
pub(crate) struct Ended {
    interrupt: Signal,
    terminate: Signal,
}

impl Ended {
    /// Begins to listen: from now on neither ends the process by itself.
    ///
    /// # Errors
    /// When the system gives no handler.
    pub(crate) fn listen() -> std::io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// Waits for the next of either.
    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}
