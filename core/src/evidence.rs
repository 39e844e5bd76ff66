//! Where the time of a process that carries transfers goes: into its lanes, its store, its endpoints. Each counts from its
//! beginning on; what belongs to the load is the part between two moments, and what several processes measured is added up.
//!
//! Values alone. What they say of a run is for `report`.

use crate::histogram::Coarse;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::{collections::BTreeMap, ops::AddAssign};

/// What was measured, by one process or by several together.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Evidence {
    /// For how long, in nanoseconds; of several processes, together.
    pub elapsed_ns: u64,
    /// How often the engine was looked at.
    pub looks: u64,
    /// How often all its lanes had as much under way as they may, though something waited.
    pub full: u64,
    /// What the lanes did.
    pub lanes: LaneTime,
    /// How long the steps of the store took that the engine waits for: to give out transfers, to take an attempt, to end it.
    pub store: Coarse,
    /// For how long the breaker of at least one endpoint was open, in nanoseconds.
    pub open_ns: u64,
    /// What each endpoint did, by its name, which holds no secret.
    pub endpoints: BTreeMap<String, Served>,
}

/// What lanes did with their time, in nanoseconds; of several lanes, together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct LaneTime {
    /// All of it.
    pub total_ns: u64,
    /// With room for more under way, and nothing to sign.
    pub idle_ns: u64,
    /// Waiting for the store to give out transfers, or to take what was signed.
    pub store_ns: u64,
}

/// What an endpoint did.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Served {
    /// How the requests to it ended.
    pub endings: Endings,
    /// How long they took.
    pub latency: Coarse,
    /// For how long its breaker let nothing through, in nanoseconds.
    pub open_ns: u64,
    /// How often its breaker opened, a probe that failed included.
    pub times_opened: u64,
}

/// How requests to an endpoint ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct Endings {
    /// With an answer.
    pub ok: u64,
    /// With the node's no, which is not the endpoint's fault.
    pub error: u64,
    /// The endpoint asked for fewer requests (429).
    pub refused: u64,
    /// It did not answer in time.
    pub timeout: u64,
    /// Another fault of the endpoint: 5xx, a lost connection, nonsense.
    pub failed: u64,
}

impl Endings {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.ok + self.error + self.troubled()
    }

    /// Those for which the endpoint is to blame.
    pub fn troubled(&self) -> u64 {
        self.refused + self.timeout + self.failed
    }

    fn since(self, earlier: Self) -> Self {
        Self {
            ok: self.ok.saturating_sub(earlier.ok),
            error: self.error.saturating_sub(earlier.error),
            refused: self.refused.saturating_sub(earlier.refused),
            timeout: self.timeout.saturating_sub(earlier.timeout),
            failed: self.failed.saturating_sub(earlier.failed),
        }
    }
}

impl AddAssign for Endings {
    fn add_assign(&mut self, other: Self) {
        self.ok += other.ok;
        self.error += other.error;
        self.refused += other.refused;
        self.timeout += other.timeout;
        self.failed += other.failed;
    }
}

impl AddAssign for LaneTime {
    fn add_assign(&mut self, other: Self) {
        self.total_ns += other.total_ns;
        self.idle_ns += other.idle_ns;
        self.store_ns += other.store_ns;
    }
}

impl LaneTime {
    fn since(self, earlier: Self) -> Self {
        Self {
            total_ns: self.total_ns.saturating_sub(earlier.total_ns),
            idle_ns: self.idle_ns.saturating_sub(earlier.idle_ns),
            store_ns: self.store_ns.saturating_sub(earlier.store_ns),
        }
    }
}

impl Served {
    /// Adds what it did for another process.
    pub fn merge(&mut self, other: &Self) {
        self.endings += other.endings;
        self.latency.merge(&other.latency);
        self.open_ns += other.open_ns;
        self.times_opened += other.times_opened;
    }

    fn since(&self, earlier: &Self) -> Self {
        Self {
            endings: self.endings.since(earlier.endings),
            latency: self.latency.since(&earlier.latency),
            open_ns: self.open_ns.saturating_sub(earlier.open_ns),
            times_opened: self.times_opened.saturating_sub(earlier.times_opened),
        }
    }
}

impl Evidence {
    /// Adds what another process measured.
    pub fn merge(&mut self, other: &Self) {
        self.elapsed_ns += other.elapsed_ns;
        self.looks += other.looks;
        self.full += other.full;
        self.lanes += other.lanes;
        self.store.merge(&other.store);
        self.open_ns += other.open_ns;
        for (name, served) in &other.endpoints {
            self.endpoints.entry(name.clone()).or_default().merge(served);
        }
    }

    /// What the same process measured since `earlier`.
    pub fn since(&self, earlier: &Self) -> Self {
        let nothing = Served::default();
        let served = |(name, served): (&String, &Served)| {
            (name.clone(), served.since(earlier.endpoints.get(name).unwrap_or(&nothing)))
        };
        Self {
            elapsed_ns: self.elapsed_ns.saturating_sub(earlier.elapsed_ns),
            looks: self.looks.saturating_sub(earlier.looks),
            full: self.full.saturating_sub(earlier.full),
            lanes: self.lanes.since(earlier.lanes),
            store: self.store.since(&earlier.store),
            open_ns: self.open_ns.saturating_sub(earlier.open_ns),
            endpoints: self.endpoints.iter().map(served).collect(),
        }
    }
}

/// Where a process stands in a load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// It has not begun.
    Before,
    /// It is under way.
    During,
    /// It is over.
    After,
}

/// What of all that a process measures belongs to the load: from the last look before it, or the process's own beginning,
/// to the first look after it.
#[derive(Clone, Debug, Default)]
pub struct DuringLoad {
    before: Option<Evidence>,
    found: Evidence,
}

impl DuringLoad {
    /// Takes over what was measured up to now; what of it belongs to the load.
    pub fn look(&mut self, moment: Moment, now: Evidence) -> &Evidence {
        match moment {
            Moment::Before => self.before = Some(now),
            Moment::During => self.found = now.since(self.before.get_or_insert_default()),
            Moment::After => {
                if let Some(before) = self.before.take() {
                    self.found = now.since(&before);
                }
            }
        }
        &self.found
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    prop_compose! {
        fn served()(counts in any::<[u16; 7]>(), latencies in prop::collection::vec(0u64..9_000_000_000, 0..20)) -> Served {
            let [ok, error, refused, timeout, failed, open_ns, times_opened] = counts.map(u64::from);
            let mut latency = Coarse::default();
            latencies.into_iter().for_each(|ns| latency.record_ns(ns));
            Served { endings: Endings { ok, error, refused, timeout, failed }, latency, open_ns, times_opened }
        }
    }

    prop_compose! {
        fn evidence()(
            counts in any::<[u16; 7]>(),
            store in served(),
            endpoints in prop::collection::btree_map("[ab]", served(), 0..3),
        ) -> Evidence {
            let [elapsed_ns, looks, full, total_ns, idle_ns, store_ns, open_ns] = counts.map(u64::from);
            let lanes = LaneTime { total_ns, idle_ns, store_ns };
            Evidence { elapsed_ns, looks, full, lanes, store: store.latency, open_ns, endpoints }
        }
    }

    fn both(one: &Evidence, other: &Evidence) -> Evidence {
        let mut both = one.clone();
        both.merge(other);
        both
    }

    proptest! {
        #[test]
        fn it_does_not_matter_in_which_order_processes_are_counted(one in evidence(), two in evidence(), three in evidence()) {
            prop_assert_eq!(both(&one, &two), both(&two, &one));
            prop_assert_eq!(both(&both(&one, &two), &three), both(&one, &both(&two, &three)));
        }

        #[test]
        fn what_came_since_is_what_was_added(earlier in evidence(), more in evidence()) {
            let mut since = both(&earlier, &more).since(&earlier);
            since.endpoints.retain(|name, _| more.endpoints.contains_key(name));
            prop_assert_eq!(since, more);
        }

        #[test]
        fn it_survives_the_way_to_the_store(evidence in evidence()) {
            let text = serde_json::to_string(&evidence).unwrap();
            prop_assert_eq!(serde_json::from_str::<Evidence>(&text).unwrap(), evidence);
        }

        /// Whatever was measured before the load and after it, and however often somebody looked.
        #[test]
        fn the_load_has_what_came_between_its_neighbouring_looks(
            parts in prop::collection::vec((0u8..3, 0u64..100), 1..20),
        ) {
            let mut parts = parts;
            parts.sort_unstable_by_key(|(moment, _)| *moment);
            let (mut load, mut now, mut expected, mut began) = (DuringLoad::default(), Evidence::default(), 0, false);
            let mut ended = false;
            for (moment, more) in parts {
                now.elapsed_ns += more;
                let moment = [Moment::Before, Moment::During, Moment::After][usize::from(moment)];
                // What came up to the first look of a process that began during the load is the load's.
                expected += if moment == Moment::During || (moment == Moment::After && began && !ended) { more } else { 0 };
                ended |= moment == Moment::After;
                began = true;
                prop_assert_eq!(load.look(moment, now.clone()).elapsed_ns, expected);
            }
        }
    }
}
