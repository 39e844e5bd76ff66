//! Each fault that devnet knows, alone, and what the engine does about it: every transfer succeeds all the same, and none
//! twice. `NEARBENCH_FAULTS_TABLE=FILE` has it run one fault after another and write what it saw as a Markdown table.

use crate::{
    heard::Heard,
    world::{Deeds, Make, World},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    env,
    fmt::Write,
    fs,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

const TRANSFERS: u64 = 500;
const BATCH: u32 = 5;
/// Longer than any of these runs takes; a run that needs it fails by its counts.
const PATIENCE: Duration = Duration::from_secs(120);

/// Every fault of devnet's table. How often it hits is chosen so that it surely does.
fn faults() -> Vec<(&'static str, Value)> {
    vec![
        ("none", json!([])),
        ("`latency` 300 ms, every 3rd request", json!([{"fault": "latency", "milliseconds": 300, "every": 3}])),
        (
            "`tooManyRequests` without Retry-After, every 5th request",
            json!([{"fault": "tooManyRequests", "retryAfterSeconds": 0, "every": 5}]),
        ),
        (
            "`tooManyRequests`, Retry-After 1 s, every 50th request",
            json!([{"fault": "tooManyRequests", "retryAfterSeconds": 1, "every": 50}]),
        ),
        ("`serverError` 502, every 5th request", json!([{"fault": "serverError", "status": 502, "every": 5}])),
        ("`reset` before it is seen, every 5th request", json!([{"fault": "reset", "every": 5}])),
        ("`reset` after it is done, every 5th request", json!([{"fault": "reset", "accepted": true, "every": 5}])),
        ("`timeout` after 1 s, every 10th request", json!([{"fault": "timeout", "milliseconds": 1000, "every": 10}])),
        ("`truncate`, every 5th answer", json!([{"fault": "truncate", "every": 5}])),
        ("`garbage`, every 5th answer", json!([{"fault": "garbage", "every": 5}])),
        ("`otherAnswer`, every 7th answer", json!([{"fault": "otherAnswer", "every": 7}])),
        ("`behind` 5 blocks, every 2nd request", json!([{"fault": "behind", "blocks": 5, "every": 2}])),
        ("`drop`, every 10th transaction", json!([{"fault": "drop", "every": 10}])),
        ("`holdBack` 3 blocks, every 10th transaction", json!([{"fault": "holdBack", "blocks": 3, "every": 10}])),
        ("`shardCongested`, every 5th transaction", json!([{"fault": "shardCongested", "every": 5}])),
        ("`stall` 500 ms, every 10th block", json!([{"fault": "stall", "milliseconds": 500, "every": 10}])),
        ("`emptyPool`, every 5th block", json!([{"fault": "emptyPool", "every": 5}])),
    ]
}

/// What was seen of a fault.
struct Row {
    hits: u64,
    deeds: Deeds,
    set_aside: u64,
}

#[test]
fn what_every_fault_does_alone_is_paid_once() {
    let table = env::var_os("NEARBENCH_FAULTS_TABLE");
    let at_once = if table.is_some() { 1 } else { 3 };
    let (faults, next, rows) = (faults(), AtomicUsize::new(0), Mutex::new(BTreeMap::new()));
    thread::scope(|scope| {
        for _ in 0..at_once {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some((name, rules)) = faults.get(number) else { return };
                    let row = run(name, rules);
                    rows.lock().unwrap().insert(number, row);
                }
            });
        }
    });
    let rows = rows.into_inner().unwrap();
    assert_eq!(rows.len(), faults.len());
    if let Some(path) = table {
        fs::write(path, print(&faults, &rows)).unwrap();
    }
}

/// In a thread of its own, so that what is logged there is this run's.
fn run(name: &str, rules: &Value) -> Row {
    let heard = Heard::default();
    let _listening = tracing::subscriber::set_default(heard.clone());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let outcome = runtime.block_on(async {
        let world = World::made(Make { lanes: 4, over_http: true, ..Make::default() }).await;
        world.fail_chain(rules);
        world.run(world.transfers(TRANSFERS, |_| None), BATCH, PATIENCE, true).await
    });
    let (counts, audit, deeds) = (&outcome.counts, outcome.audit.unwrap(), outcome.deeds);
    assert_eq!(
        (counts.succeeded, counts.ended(), counts.unknown),
        (TRANSFERS, TRANSFERS, 0),
        "{name}: {counts:?} {deeds:?}"
    );
    assert!(outcome.drained.complete && audit.matches, "{name}: {audit:?}");
    assert_eq!(audit.transfers_found, TRANSFERS, "{name}: {audit:?}");
    assert!(outcome.chain_faults.iter().all(|hits| *hits > 0), "{name} did not hit");
    let set_aside = heard.times("endpoint set aside");
    Row { hits: outcome.chain_faults.iter().sum(), deeds, set_aside }
}

fn print(faults: &[(&str, Value)], rows: &BTreeMap<usize, Row>) -> String {
    let mut text = String::from(
        "| fault | hits | what went wrong, as counted | sent again | proven dead, signed anew | fences | set aside | seconds |\n\
         |---|--:|---|--:|---|--:|--:|--:|\n",
    );
    for ((name, _), Row { hits, deeds, set_aside }) in faults.iter().zip(rows.values()) {
        let list = |pairs: Vec<String>| if pairs.is_empty() { "–".to_owned() } else { pairs.join(", ") };
        let errors = list(deeds.errors.iter().map(|(label, times)| format!("{times} {label}")).collect());
        let dead = list(deeds.dead.iter().map(|(certificate, times)| format!("{times} {certificate}")).collect());
        let (resent, fences, seconds) = (deeds.resent, deeds.fences, deeds.took.as_secs_f64());
        writeln!(text, "| {name} | {hits} | {errors} | {resent} | {dead} | {fences} | {set_aside} | {seconds:.1} |")
            .unwrap();
    }
    text
}
