//! Thresholds.

use super::{Resolver, decimal};
use crate::violation::{closest, shown};
use nearbench_core::plan::{Ensure, Threshold};

impl Resolver<'_> {
    pub(super) fn ensure(&mut self) -> Option<Ensure> {
        let ensure = &self.spec.ensure;
        let phases = &self.spec.load.phases;
        let names: Vec<String> = phases
            .iter()
            .enumerate()
            .map(|(n, phase)| phase.name.clone().unwrap_or_else(|| format!("phase-{n}")))
            .collect();
        let mut thresholds = Vec::with_capacity(ensure.thresholds.len());
        for (n, threshold) in ensure.thresholds.iter().enumerate() {
            let path = format!("spec.ensure.thresholds[{n}]");
            let min = threshold.min.as_ref().and_then(|text| self.decimal(&format!("{path}.min"), text));
            let max = threshold.max.as_ref().and_then(|text| self.decimal(&format!("{path}.max"), text));
            if threshold.min.is_none() && threshold.max.is_none() {
                self.faults.add(&path, "bounds nothing: write min, max or both");
            }
            if let (Some(min), Some(max)) = (min, max)
                && min > max
            {
                self.faults.add(format!("{path}.min"), format!("{min} is above max, {max}: nothing can be both"));
            }
            if let Some(phase) = &threshold.phase {
                if !names.contains(phase) {
                    let meant = closest(phase, names.iter().map(String::as_str))
                        .map_or(String::new(), |meant| format!("did you mean {meant}? "));
                    self.faults.add(
                        format!("{path}.phase"),
                        format!("{} is no phase of spec.load; {meant}there are {}", shown(phase), names.join(", ")),
                    );
                }
                if !threshold.metric.is_by_phase() {
                    self.faults.add(
                        format!("{path}.phase"),
                        format!("{} is counted for the whole run: remove the phase", threshold.metric),
                    );
                }
            }
            thresholds.push(Threshold { metric: threshold.metric, phase: threshold.phase.clone(), min, max });
        }
        let max_error_rate =
            ensure.max_error_rate.as_ref().and_then(|text| self.decimal("spec.ensure.maxErrorRate", text));
        if let Some(rate) = max_error_rate.filter(|rate| *rate > 100.0) {
            self.faults.add("spec.ensure.maxErrorRate", format!("is in percent, and {rate} is above 100"));
        }
        Some(Ensure { thresholds, max_error_rate })
    }

    fn decimal(&mut self, path: &str, text: &str) -> Option<f64> {
        let value = decimal(text);
        if value.is_none() {
            self.faults
                .add(path, format!("{} is not a decimal number in quotes, such as \"200\" or \"99.5\"", shown(text)));
        }
        value
    }
}
