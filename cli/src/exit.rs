//! How a command ends: the exit codes that scripts rely on.

use std::process::ExitCode;

/// Everything was as it should be.
pub(crate) const PASSED: u8 = 0;
/// A threshold or the audit failed, or a run is worse than the one that it is compared with.
pub(crate) const FAILED: u8 = 1;
/// What was typed or written cannot be used; nothing was changed.
pub(crate) const BAD_INPUT: u8 = 2;
/// The run says nothing: it was stopped, or its generator fell behind.
pub(crate) const INCONCLUSIVE: u8 = 3;
/// It could not be done.
pub(crate) const COULD_NOT_RUN: u8 = 4;

/// An error and the exit code it ends with.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) code: u8,
    pub(crate) error: anyhow::Error,
}

impl Failure {
    /// What was typed or written is at fault.
    pub(crate) fn input(error: impl Into<anyhow::Error>) -> Self {
        Self { code: BAD_INPUT, error: error.into() }
    }

    /// The world is at fault.
    pub(crate) fn run(error: impl Into<anyhow::Error>) -> Self {
        Self { code: COULD_NOT_RUN, error: error.into() }
    }

    pub(crate) fn exit_code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}
