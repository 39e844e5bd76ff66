//! Phases and times.

use super::Resolver;
use crate::{spec, violation::shown};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use nearbench_core::{
    plan::{Arrivals, Load, Phase},
    schedule::Schedule,
};
use std::collections::BTreeMap;

/// Transfers a second.
const MAX_RATE: f64 = 1_000_000.0;
/// A phase, and every other time.
const MAX_HOURS: u64 = 7 * 24;
const MAX_MS: u64 = MAX_HOURS * 3_600 * 1_000;

impl Resolver<'_> {
    pub(super) fn load(&mut self) -> Option<Load> {
        let load = &self.spec.load;
        if load.generators.replicas == 0 {
            self.faults.add("spec.load.generators.replicas", "must be at least 1, and is 0");
        }
        let timeout_ms = self.duration("spec.load.timeout", &load.timeout);
        let max_send_lag_ms = self.duration("spec.load.maxSendLag", &load.max_send_lag);
        if load.connections == 0 {
            self.faults.add("spec.load.connections", "must be at least 1");
        }
        if load.max_sockets < load.connections {
            self.faults.add(
                "spec.load.maxSockets",
                format!(
                    "{} is below spec.load.connections, {}: a connection needs a socket",
                    load.max_sockets, load.connections
                ),
            );
        }
        let phases = self.phases(&load.phases);
        Some(Load {
            via: load.via,
            generators: load.generators.replicas,
            timeout_ms: timeout_ms?,
            connections: load.connections,
            max_sockets: load.max_sockets,
            max_send_lag_ms: max_send_lag_ms?,
            phases: phases?,
        })
    }

    /// `None` once any phase is at fault; all are looked at.
    fn phases(&mut self, phases: &[spec::Phase]) -> Option<Vec<Phase>> {
        if phases.is_empty() {
            self.faults.add("spec.load.phases", "must have a phase, such as {duration: 60, arrivalRate: 50}");
            return None;
        }
        let mut names = BTreeMap::new();
        let mut resolved = Vec::with_capacity(phases.len());
        for (n, phase) in phases.iter().enumerate() {
            let path = format!("spec.load.phases[{n}]");
            let name = phase.name.clone().unwrap_or_else(|| format!("phase-{n}"));
            if let Some(first) = names.insert(name.clone(), path.clone()) {
                self.faults.add(
                    format!("{path}.name"),
                    format!("{} is the name of {first} already: give each phase its own", shown(&name)),
                );
            }
            if phase.max_vusers == Some(0) {
                self.faults.add(format!("{path}.maxVusers"), "must be at least 1; leave it out for no limit");
            }
            if let Some((duration_ms, arrivals)) = self.arrivals(&path, phase) {
                let phase = Phase { name, duration_ms, arrivals, max_vusers: phase.max_vusers };
                if arrivals != Arrivals::Pause && Schedule::new(std::slice::from_ref(&phase)).total() == 0 {
                    self.faults.add(&path, "offers no transfer: it is too short for its rate");
                }
                resolved.push(phase);
            }
        }
        if resolved.len() == phases.len() && resolved.iter().all(|phase| phase.arrivals == Arrivals::Pause) {
            self.faults.add(
                "spec.load.phases",
                "are pauses only: one phase must offer something, such as {duration: 60, arrivalRate: 50}",
            );
        }
        (resolved.len() == phases.len()).then_some(resolved)
    }

    fn arrivals(&mut self, path: &str, phase: &spec::Phase) -> Option<(u64, Arrivals)> {
        let kinds = [
            ("pause", phase.pause.is_some()),
            ("arrivalRate", phase.arrival_rate.is_some()),
            ("arrivalCount", phase.arrival_count.is_some()),
        ];
        let given: Vec<&str> = kinds.iter().filter(|(_, given)| *given).map(|(name, _)| *name).collect();
        match given[..] {
            [_] => {}
            [] if phase.ramp_to.is_some() => {
                self.faults.add(
                    format!("{path}.arrivalRate"),
                    "is missing: rampTo says where the rate goes, arrivalRate where it begins",
                );
                return None;
            }
            [] => {
                self.faults
                    .add(path, "offers nothing: write arrivalRate (a rate), arrivalCount (a number in all) or pause");
                return None;
            }
            _ => {
                self.faults.add(
                    path,
                    format!(
                        "is of two kinds, {}: keep one of them, and make the other a phase of its own",
                        given.join(" and ")
                    ),
                );
                return None;
            }
        }
        if phase.ramp_to.is_some() && phase.arrival_rate.is_none() {
            self.faults
                .add(format!("{path}.rampTo"), format!("goes with arrivalRate, not with {}: remove it", given[0]));
            return None;
        }
        if let Some(pause) = &phase.pause {
            if phase.duration.is_some() {
                self.faults.add(format!("{path}.duration"), "is not for a pause, which says its own length: remove it");
            }
            return Some((self.phase_length(&format!("{path}.pause"), pause)?, Arrivals::Pause));
        }
        let Some(duration) = &phase.duration else {
            self.faults
                .add(format!("{path}.duration"), "is missing: say how long, in seconds or as a text such as \"5m\"");
            return None;
        };
        let duration_ms = self.phase_length(&format!("{path}.duration"), duration);
        let rate = phase.arrival_rate.map(|rate| self.rate(&format!("{path}.arrivalRate"), rate));
        let ramp_to = phase.ramp_to.map(|rate| self.rate(&format!("{path}.rampTo"), rate));
        let arrivals = match (rate, ramp_to, phase.arrival_count) {
            (_, _, Some(0)) => {
                self.faults.add(
                    format!("{path}.arrivalCount"),
                    "must be at least 1: write pause for a phase that offers nothing",
                );
                return None;
            }
            (_, _, Some(count)) => Arrivals::Count(count),
            (Some(from), Some(to), _) => {
                let (from, to) = (from?, to?);
                if from == 0.0 && to == 0.0 {
                    self.faults.add(
                        format!("{path}.rampTo"),
                        "and arrivalRate are both 0: write pause for a phase that offers nothing",
                    );
                    return None;
                }
                Arrivals::Ramp { from, to }
            }
            (rate, _, _) => {
                let rate = rate??;
                if rate == 0.0 {
                    self.faults.add(
                        format!("{path}.arrivalRate"),
                        "is 0, which only a ramp may begin with: write a rate above 0, or pause for a phase that offers nothing",
                    );
                    return None;
                }
                Arrivals::Rate(rate)
            }
        };
        Some((duration_ms?, arrivals))
    }

    fn rate(&mut self, path: &str, rate: f64) -> Option<f64> {
        if (0.0..=MAX_RATE).contains(&rate) {
            return Some(rate);
        }
        self.faults.add(path, format!("must be 0 to {MAX_RATE} transfers a second, and is {rate}"));
        None
    }

    fn phase_length(&mut self, path: &str, length: &IntOrString) -> Option<u64> {
        match length {
            IntOrString::Int(seconds) => {
                self.bounded(path, u64::try_from(*seconds).unwrap_or(0) * 1_000, &seconds.to_string())
            }
            // Artillery takes a number in quotes for seconds.
            IntOrString::String(text) if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => {
                self.duration(path, &format!("{text}s"))
            }
            IntOrString::String(text) => self.duration(path, text),
        }
    }

    /// A length of time above zero, in milliseconds.
    pub(super) fn duration(&mut self, path: &str, text: &str) -> Option<u64> {
        let Some(ms) = duration_ms(text) else {
            self.faults.add(
                path,
                format!(
                    "{} is not a length of time: write one such as 500ms, 90s, 5m or 1h30m, at most {MAX_HOURS}h",
                    shown(text)
                ),
            );
            return None;
        };
        self.bounded(path, ms, text)
    }

    /// `written` is what the manifest says.
    fn bounded(&mut self, path: &str, ms: u64, written: &str) -> Option<u64> {
        if (1..=MAX_MS).contains(&ms) {
            return Some(ms);
        }
        self.faults.add(path, format!("must be above 0 and at most {MAX_HOURS}h, and is {written}"));
        None
    }
}

/// `1h30m`, `90s`, `500ms` and the like, in milliseconds.
fn duration_ms(mut text: &str) -> Option<u64> {
    let mut sum = 0u64;
    loop {
        let digits = text.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = text[..digits].parse().ok()?;
        let rest = &text[digits..];
        let unit = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
        let scale = match &rest[..unit] {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            _ => return None,
        };
        sum = sum.checked_add(number.checked_mul(scale)?)?;
        text = &rest[unit..];
        if text.is_empty() {
            return Some(sum);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::duration_ms;

    #[test]
    fn lengths_of_time_are_numbers_with_units() {
        let read = ["500ms", "90s", "5m", "1h30m", "1m1ms"].map(duration_ms);
        assert_eq!(read, [Some(500), Some(90_000), Some(300_000), Some(5_400_000), Some(60_001)]);
        for bad in
            ["", "5", "m", "5 m", "1.5s", "-1s", "5min", "1h30", "99999999999999999999s", "18446744073709551615h"]
        {
            assert_eq!(duration_ms(bad), None, "{bad}");
        }
    }
}
