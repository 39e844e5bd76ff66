//! Every example must run as it stands.

use crate::resolved_on;
use nearbench_core::{
    Plan,
    schedule::{Schedule, target_rate},
};
use nearbench_crds::parse;
use std::{collections::BTreeMap, fs, path::Path};

fn examples() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples");
    let files = fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    files
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), fs::read_to_string(path).unwrap()))
        .collect()
}

fn plan_of(name: &str, on_devnet: bool) -> Plan {
    let run = parse(&examples()[name]).unwrap_or_else(|error| panic!("{name}: {error}"));
    resolved_on(&run, on_devnet).unwrap_or_else(|violations| panic!("{name}: {violations:?}"))
}

#[test]
fn every_example_resolves_to_a_plan_as_it_is_and_on_devnet() {
    let examples = examples();
    assert!(examples.len() >= 4);
    for name in examples.keys() {
        assert_eq!(format!("{}.yaml", plan_of(name, false).name), *name);
        let plan = plan_of(name, true);
        assert_eq!((plan.network.chain_id.as_str(), plan.network.endpoints.len()), ("devnet", 0));
        assert!(!serde_json::to_string(&plan).unwrap().contains("ecret\":\""), "no Secret is needed on devnet");
    }
}

#[test]
fn the_quickstart_offers_just_over_200_a_second_for_most_of_a_minute() {
    let schedule = Schedule::new(&plan_of("quickstart.yaml", false).load.phases);
    assert_eq!(schedule.duration_ns(), 60_000_000_000);
    assert_eq!(schedule.phase_totals().collect::<Vec<_>>(), [1_250, 9_090, 250]);
}

#[test]
fn the_200_tps_profile_is_that_of_780_seconds() {
    let plan = plan_of("ft-200tps.yaml", false);
    let schedule = Schedule::new(&plan.load.phases);
    assert_eq!((schedule.duration_ns() / 1_000_000_000, schedule.total()), (780, 136_200));
}

#[test]
fn the_sandbox_profile_has_the_small_settings() {
    let plan = plan_of("sandbox-50tps.yaml", false);
    assert_eq!(plan.network.chain_id, "localnet");
    let engine = plan.engine;
    assert_eq!((engine.concurrency, engine.max_in_flight_per_key, engine.max_tps, engine.batch.max), (300, 5, 60, 20));
    assert_eq!((plan.load.timeout_ms, plan.load.connections, plan.load.max_sockets), (60_000, 100, 200));
    let schedule = Schedule::new(&plan.load.phases);
    assert_eq!((schedule.duration_ns() / 1_000_000_000, target_rate(&plan.load.phases)), (780, 50.0));
}
