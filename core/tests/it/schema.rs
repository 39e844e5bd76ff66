//! The report's schema, which others rely on.

use crate::{ideal_results, phases};
use expect_test::expect_file;
use nearbench_core::{
    Amount, Near, Plan, TGAS,
    ensure::evaluate,
    plan::{
        Batch, Breaker, ChainLimits, Cleanup, CreateFrom, Deploy, Engine, Ensure, Keys, Load, Network, PayingAccount,
        Profile, Store, Threshold, Token, Via,
    },
    report::{API_VERSION, BenchmarkReport, Chain, Environment, KIND, Machine, Run},
    verdict::Verdict,
};
use serde_json::Value;

fn plan() -> Plan {
    Plan {
        name: "test".into(),
        network: Network { profile: Profile::Devnet, chain_id: "devnet".into(), endpoints: Vec::new() },
        account: PayingAccount {
            account_id: "bench.test.near".parse().unwrap(),
            create_from: Some(CreateFrom {
                account_id: "test.near".parse().unwrap(),
                secret: None,
                initial_balance: Near(5),
            }),
            master_key_secret: None,
            keys: Keys::Generate { count: 12 },
            min_balance: Near(1),
        },
        token: Token {
            contract_id: "ft.bench.test.near".parse().unwrap(),
            deploy: Some(Deploy { total_supply: Amount(9), mint: Amount(0) }),
        },
        receivers: vec!["user-0.bench.test.near".parse().unwrap()],
        transfer_amount: Amount(1),
        store: Store::Own,
        load: Load {
            via: Via::Queue,
            generators: 1,
            timeout_ms: 60_000,
            connections: 100,
            max_sockets: 200,
            max_send_lag_ms: 1_000,
            phases: phases(),
        },
        workers: 1,
        engine: Engine {
            concurrency: 300,
            max_in_flight_per_key: 5,
            max_tps: 0,
            batch: Batch { min: 1, max: 20, depth_divisor: 10 },
            breaker: Breaker { timeout_ms: 5_000, error_threshold_percentage: 50, reset_timeout_ms: 30_000 },
            gas_per_transfer: 3 * TGAS,
            max_queue_depth: 100_000,
        },
        ensure: Ensure {
            thresholds: vec![Threshold {
                metric: "tps.mean".parse().unwrap(),
                phase: None,
                min: Some(200.0),
                max: None,
            }],
            max_error_rate: Some(5.0),
        },
        cleanup: Cleanup::Always,
        active_deadline_ms: None,
    }
}

pub(crate) fn report() -> BenchmarkReport {
    let (plan, results) = (plan(), ideal_results());
    BenchmarkReport {
        api_version: API_VERSION.into(),
        kind: KIND.into(),
        run: Run {
            name: plan.name.clone(),
            start_time: "2026-01-01T00:00:00Z".into(),
            load_start_time: None,
            completion_time: "2026-01-01T00:01:00Z".into(),
        },
        environment: Environment {
            nearbench_version: "0.1.0".into(),
            chain: Chain {
                software: "nearbench-devnet".into(),
                version: "0.1.0".into(),
                chain_id: "devnet".into(),
                protocol_version: 86,
                limits: ChainLimits {
                    protocol_version: 86,
                    max_actions: 100,
                    max_total_prepaid_gas: 1_000 * TGAS,
                    max_transaction_size: 1_572_864,
                    chunk_gas_limit: 1_000 * TGAS,
                    transaction_validity_period: 100,
                },
                block_time_ms: 600.0,
            },
            machine: Machine { cpus: 2, memory_bytes: 1 << 33, os: "linux".into(), cpu_model: "cpu".into() },
            throttled_ms: Some(0),
            steal_percent: None,
            polling_error_ms: 50.0,
            peak_rss_bytes: Some(1 << 26),
        },
        ensure: evaluate(&plan.ensure, &results),
        plan,
        results,
        verdict: Verdict::Failed,
        reasons: vec!["tps.mean must be >= 200, and it is 100.00".into()],
    }
}

#[test]
fn the_committed_schema_is_that_of_the_types() {
    let generated = serde_json::to_string_pretty(&schemars::schema_for!(BenchmarkReport)).unwrap() + "\n";
    expect_file!["../../../docs/report.schema.json"].assert_eq(&generated);
}

#[test]
fn a_report_survives_its_text() {
    let text = serde_json::to_string(&report()).unwrap();
    assert_eq!(serde_json::from_str::<BenchmarkReport>(&text).unwrap(), report());
}

/// Everything that keeps `value` from matching `schema`, as far as the report's schema goes.
fn mismatches(root: &Value, schema: &Value, value: &Value, path: &str, found: &mut Vec<String>) {
    if let Some(reference) = schema["$ref"].as_str() {
        let target =
            root.pointer(reference.trim_start_matches('#')).unwrap_or_else(|| panic!("{reference} leads nowhere"));
        return mismatches(root, target, value, path, found);
    }
    for choice in ["anyOf", "oneOf"] {
        if let Some(choices) = schema[choice].as_array() {
            let fits = |schema: &Value| {
                let mut found = Vec::new();
                mismatches(root, schema, value, path, &mut found);
                found.is_empty()
            };
            if !choices.iter().any(fits) {
                found.push(format!("{path} fits none of {choice}"));
            }
        }
    }
    let kind = match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_u64() || number.is_i64() => "integer",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    };
    let is = |wanted: &Value| wanted == kind || wanted == "number" && kind == "integer";
    let right_type = match &schema["type"] {
        Value::Null => true,
        Value::Array(kinds) => kinds.iter().any(is),
        wanted => is(wanted),
    };
    let right_value = schema["enum"].as_array().is_none_or(|allowed| allowed.contains(value));
    let right_const = schema.get("const").is_none_or(|only| only == value);
    if !right_type || !right_value || !right_const {
        found.push(format!("{path} is {value}"));
    }
    for name in schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str) {
        if value.get(name).is_none() {
            found.push(format!("{path}.{name} is missing"));
        }
    }
    for (name, field) in value.as_object().into_iter().flatten() {
        match schema["properties"].get(name) {
            Some(schema) => mismatches(root, schema, field, &format!("{path}.{name}"), found),
            None if schema["properties"].is_object() && schema["oneOf"].is_null() => {
                found.push(format!("{path}.{name} is not in the schema"))
            }
            None => {}
        }
    }
    for item in value.as_array().into_iter().flatten() {
        mismatches(root, &schema["items"], item, &format!("{path}[]"), found);
    }
}

fn mismatches_of(value: &Value) -> Vec<String> {
    let schema = serde_json::to_value(schemars::schema_for!(BenchmarkReport)).unwrap();
    let mut found = Vec::new();
    mismatches(&schema, &schema, value, "", &mut found);
    found
}

#[test]
fn a_report_matches_its_schema() {
    assert_eq!(mismatches_of(&serde_json::to_value(report()).unwrap()), Vec::<String>::new());
}

#[test]
fn a_report_that_lacks_a_field_or_has_a_wrong_one_does_not_match() {
    let good = serde_json::to_value(report()).unwrap();
    for path in [
        "/verdict",
        "/results/tps/mean",
        "/results/succeeded",
        "/results/phases/0/latencyMs",
        "/environment/chain/limits",
        "/plan/network/chainId",
    ] {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = Value::Array(Vec::new());
        assert_ne!(mismatches_of(&bad), Vec::<String>::new(), "{path} is a list");
        let (parent, name) = path.rsplit_once('/').unwrap();
        let mut bad = good.clone();
        let parent = if parent.is_empty() { &mut bad } else { bad.pointer_mut(parent).unwrap() };
        parent.as_object_mut().unwrap().remove(name);
        assert_ne!(mismatches_of(&bad), Vec::<String>::new(), "{path} is missing");
    }
}
