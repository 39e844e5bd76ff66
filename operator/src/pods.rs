//! What keeps a pod from doing its work, or ended it, read from its status.

use crate::names::{PART_LABEL, Part, reasons};
use k8s_openapi::api::core::v1::{ContainerStateTerminated, Pod};
use kube::ResourceExt;
use serde::Deserialize;

/// Why a pod is not at work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Trouble {
    /// One word.
    pub(crate) reason: String,
    /// The same for people.
    pub(crate) message: String,
}

impl Trouble {
    pub(crate) fn new(reason: &str, message: impl Into<String>) -> Self {
        Self { reason: reason.to_owned(), message: message.into() }
    }
}

/// What a pod waits for in the ordinary course of things.
const ORDINARY: [&str; 2] = ["ContainerCreating", "PodInitializing"];

/// Exit codes of `nearbench run` that go with a report: passed, failed, inconclusive.
const REPORTED: [i32; 3] = [0, 1, 3];

/// What a pod is for.
pub(crate) fn part(pod: &Pod) -> Option<Part> {
    Part::of(pod.labels().get(PART_LABEL)?)
}

/// Whether nothing of a pod runs any more.
pub(crate) fn is_over(pod: &Pod) -> bool {
    let phase = pod.status.as_ref().and_then(|status| status.phase.as_deref());
    matches!(phase, Some("Succeeded" | "Failed"))
}

/// How often a pod's processes were started again.
pub(crate) fn restarts(pod: &Pod) -> i64 {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    containers.map(|container| i64::from(container.restart_count)).sum()
}

/// Whether a pod is ready, and goes on.
pub(crate) fn ready(pod: &Pod) -> bool {
    pod.metadata.deletion_timestamp.is_none() && condition(pod, "Ready").is_some_and(|(status, ..)| status == "True")
}

/// Whether a pod's process ended because it was told to, before it had anything to report.
pub(crate) fn was_stopped(pod: &Pod) -> bool {
    let containers = pod.status.iter().flat_map(|status| status.container_statuses.iter().flatten());
    let mut states = containers.filter_map(|container| container.state.as_ref()?.terminated.as_ref());
    states.any(|ended| ended.exit_code == 3)
}

/// What keeps `pod` from its work, or how it ended other than well; `None` while all is well.
pub(crate) fn trouble(pod: &Pod) -> Option<Trouble> {
    let status = pod.status.as_ref()?;
    if status.reason.is_some() || status.message.is_some() {
        let reason = status.reason.as_deref().unwrap_or("PodFailed");
        return Some(Trouble::new(reason, status.message.clone().unwrap_or_default()));
    }
    if let Some((_, Some(reason), message)) =
        condition(pod, "PodScheduled").filter(|(status, reason, _)| *status == "False" && reason.is_some())
    {
        return Some(Trouble::new(reason, message.unwrap_or("the pod cannot be placed on any node")));
    }
    for container in status.container_statuses.iter().flatten() {
        let Some(state) = &container.state else { continue };
        if let Some(ended) = state.terminated.as_ref().filter(|ended| !REPORTED.contains(&ended.exit_code)) {
            return Some(ended_badly(pod, ended));
        }
        let waiting = state.waiting.as_ref();
        if let Some((reason, waiting)) = waiting.and_then(|waiting| Some((waiting.reason.as_deref()?, waiting)))
            && !ORDINARY.contains(&reason)
        {
            // What it is started again after says more than that it is.
            let ended = container.last_state.as_ref().and_then(|last| last.terminated.as_ref());
            if let Some(ended) = ended.filter(|_| reason == "CrashLoopBackOff") {
                return Some(ended_badly(pod, ended));
            }
            return Some(Trouble::new(reason, waiting.message.clone().unwrap_or_default()));
        }
    }
    None
}

fn condition<'a>(pod: &'a Pod, type_: &str) -> Option<(&'a str, Option<&'a str>, Option<&'a str>)> {
    let conditions = pod.status.as_ref()?.conditions.as_ref()?;
    let found = conditions.iter().find(|condition| condition.type_ == type_)?;
    Some((&found.status, found.reason.as_deref(), found.message.as_deref()))
}

fn ended_badly(pod: &Pod, ended: &ContainerStateTerminated) -> Trouble {
    let said = ended.message.as_deref().and_then(last_error);
    let exit = ended.exit_code;
    if ended.reason.as_deref() == Some(reasons::OOM_KILLED) {
        let limit = memory_limit(pod).map_or_else(String::new, |limit| format!(", {limit}"));
        return Trouble::new(
            reasons::OOM_KILLED,
            format!(
                "the run's process needed more memory than its limit{limit}: raise spec.workers.resources.limits.memory"
            ),
        );
    }
    // As `nearbench run` ends.
    let reason = match exit {
        2 => "BadInput",
        4 => "CouldNotRun",
        _ => ended.reason.as_deref().unwrap_or("Error"),
    };
    let killed = if exit > 128 { format!(": killed by signal {}", exit - 128) } else { String::new() };
    Trouble::new(reason, said.unwrap_or_else(|| format!("the run's process ended with exit code {exit}{killed}")))
}

fn memory_limit(pod: &Pod) -> Option<&str> {
    let container = pod.spec.as_ref()?.containers.first()?;
    Some(container.resources.as_ref()?.limits.as_ref()?.get("memory")?.0.as_str())
}

/// The error at the end of a process's log, whose lines are for people or JSON objects.
fn last_error(log: &str) -> Option<String> {
    #[derive(Deserialize)]
    struct Line {
        level: String,
        target: String,
        message: String,
    }
    log.lines().rev().find_map(|line| match line.trim().strip_prefix("error: ") {
        Some(error) => Some(error.to_owned()),
        // What a process ends with it says itself; what its rooms log is on the way there.
        None => serde_json::from_str::<Line>(line)
            .ok()
            .filter(|line| line.level == "ERROR" && line.target == "nearbench")
            .map(|line| line.message),
    })
}

#[cfg(test)]
mod tests {
    use super::last_error;

    #[test]
    fn the_last_error_is_read_of_either_form_of_a_log() {
        let text = "    account bench.near\nerror: the first\n==> Draining\nerror: the last: and why\n";
        assert_eq!(last_error(text).as_deref(), Some("the last: and why"));
        let json = concat!(
            r#"message that was cut in the middle","run":"a"}"#,
            "\n",
            r#"{"timestamp":"2026-01-01T00:00:00Z","level":"ERROR","target":"nearbench","run":"a","message":"spec.x: \"no\""}"#,
            "\n",
            r#"{"timestamp":"2026-01-01T00:00:00Z","level":"ERROR","target":"nearbench_worker::lane","message":"the lane stops"}"#,
            "\n",
            r#"{"timestamp":"2026-01-01T00:00:00Z","level":"INFO","target":"nearbench","message":"over"}"#,
        );
        assert_eq!(last_error(json).as_deref(), Some("spec.x: \"no\""));
        assert_eq!(last_error("nothing of the kind\n{}\n"), None);
    }
}
