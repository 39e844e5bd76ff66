//! What a report looks like to a CI or a chat. Each form is made from the report alone, as the result table is, and takes
//! every text in it for what somebody else wrote.

pub(crate) mod comparison;
pub(crate) mod junit;
pub(crate) mod markdown;

use nearbench_core::ensure::Check;

/// What a threshold asks for, such as `tps.mean in sustain >= 200`.
fn demand(check: &Check) -> String {
    let phase = check.phase.as_ref().map_or_else(String::new, |phase| format!(" in {phase}"));
    format!("{}{phase} {}", check.metric, check.bound)
}

/// Text on one line that a terminal takes for nothing else.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { '\u{fffd}' } else { character }).collect()
}
