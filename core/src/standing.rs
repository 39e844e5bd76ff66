//! How a run stands: what the process that carries it out tells whoever follows it.

use crate::{lifecycle::Stage, measure::Live};
use serde::{Deserialize, Serialize};

/// How a run stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Standing {
    /// Which stage its life is in.
    pub stage: Stage,
    /// The load's phase; empty before the load.
    pub phase: String,
    /// How much of the load's time is over, 0 to 100.
    pub percent: u32,
    /// Transfers meant to have arrived by now.
    pub offered: u64,
    /// Transfers that succeeded.
    pub succeeded: u64,
    /// What keeps it from going on just now, and the way out, where something does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trouble: Option<String>,
}

impl Standing {
    /// A run in `stage`, its load not begun.
    pub fn at(stage: Stage) -> Self {
        Self { stage, phase: String::new(), percent: 0, offered: 0, succeeded: 0, trouble: None }
    }

    /// The same run, its load in `phase` and as far as `live`.
    pub fn under_load(&mut self, phase: &str, live: &Live) {
        self.phase.clear();
        self.phase.push_str(phase);
        self.percent = live.percent.clamp(0.0, 100.0) as u32;
        self.offered = live.offered;
        self.succeeded = live.succeeded;
    }
}
