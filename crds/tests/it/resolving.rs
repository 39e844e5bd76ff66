//! Manifest to plan: defaults, and the rules between fields.

use crate::{GOOD, changed, resolved, resolved_on};
use nearbench_core::{
    Amount, TGAS,
    plan::{Arrivals, Cleanup, Keys, Store, Via},
};
use nearbench_crds::parse;

#[test]
fn defaults_are_filled_in() {
    let plan = resolved(GOOD).unwrap();
    assert_eq!(plan.network.chain_id, "testnet");
    assert_eq!(plan.network.endpoints[0].auth_secret.as_deref(), Some("rpc"));
    assert_eq!(plan.account.create_from.as_ref().unwrap().secret.as_deref(), Some("funder"));
    assert_eq!(plan.account.min_balance.to_string(), "1 NEAR");
    assert_eq!(
        plan.receivers.iter().map(|r| r.as_str()).collect::<Vec<_>>(),
        ["user-0.bench.alice.testnet", "user-1.bench.alice.testnet", "user-2.bench.alice.testnet"]
    );
    assert_eq!(plan.transfer_amount, Amount(1));
    assert_eq!(plan.store, Store::Redis { secret: "redis".into() });
    assert_eq!(
        (plan.load.via, plan.load.generators, plan.load.timeout_ms, plan.load.max_send_lag_ms),
        (Via::Queue, 1, 60_000, 1_000)
    );
    assert_eq!((plan.load.connections, plan.load.max_sockets), (100, 200));
    let engine = plan.engine;
    assert_eq!(
        (engine.concurrency, engine.max_in_flight_per_key, engine.max_tps, engine.gas_per_transfer),
        (300, 5, 0, 3 * TGAS)
    );
    assert_eq!((engine.batch.min, engine.batch.max, engine.batch.depth_divisor), (1, 20, 10));
    let breaker = engine.breaker;
    assert_eq!((breaker.timeout_ms, breaker.error_threshold_percentage, breaker.reset_timeout_ms), (5_000, 50, 30_000));
    assert_eq!((plan.cleanup, plan.workers, plan.active_deadline_ms), (Cleanup::Always, 1, None));
    let phases: Vec<_> =
        plan.load.phases.iter().map(|phase| (phase.name.as_str(), phase.duration_ms, phase.arrivals)).collect();
    assert_eq!(
        phases,
        [
            ("ramp", 120_000, Arrivals::Ramp { from: 50.0, to: 150.0 }),
            ("sustain", 600_000, Arrivals::Rate(202.0)),
            ("phase-2", 10_000, Arrivals::Pause),
            ("few", 10_000, Arrivals::Count(20)),
        ]
    );
}

#[test]
fn on_devnet_any_manifest_needs_no_endpoint_and_no_secret() {
    let text = changed("keys: {count: 12}", "keys: {count: 7}")
        .replace(", deploy: {totalSupply: '1000000000', mint: '5'}", "");
    let plan = resolved_on(&parse(&text).unwrap(), true).unwrap();
    assert_eq!((plan.network.chain_id.as_str(), plan.network.endpoints.len()), ("devnet", 0));
    assert_eq!(plan.account.create_from.unwrap().secret, None);
    assert_eq!((plan.account.keys, plan.store), (Keys::Generate { count: 7 }, Store::Own));
    assert!(plan.token.deploy.is_some(), "devnet has no token of its own");
}

#[test]
fn mainnet_needs_consent_but_not_on_devnet() {
    let text = changed("profile: testnet", "profile: mainnet");
    let run = parse(&text).unwrap();
    assert!(resolved_on(&run, false).unwrap_err()[0].message.contains("real funds"));
    assert!(resolved_on(&run, true).is_ok());
    assert!(resolved(&text.replace("profile: mainnet", "profile: mainnet\n    allowRealFunds: true")).is_ok());
}

#[test]
fn prepared_keys_need_no_master_key() {
    let text = changed(
        "    createFrom: {accountId: alice.testnet, secretRef: {name: funder}, initialBalance: 100 NEAR}\n",
        "",
    );
    let text = text.replace("keys: {count: 12}", "keys: {secretRef: {name: keys}}");
    assert_eq!(resolved(&text).unwrap().account.keys, Keys::Prepared { secret: "keys".into() });
}

#[test]
fn load_by_others_and_by_many_generators_is_legal_in_a_manifest() {
    let text = changed("  load:", "  load:\n    via: external\n    generators: {replicas: 3}");
    let load = resolved(&text).unwrap().load;
    assert_eq!((load.via, load.generators), (Via::External, 3));
}

#[test]
fn every_broken_rule_names_its_field_and_the_way_out() {
    let phase = "{name: sustain, duration: 600, arrivalRate: 202}";
    let create = "createFrom: {accountId: alice.testnet, secretRef: {name: funder}, initialBalance: 100 NEAR}";
    let receivers = "{count: 3, prefix: user}";
    let engine = |engine: &str| format!("  engine: {engine}\n  ensure:");
    let (gas, batch, min) = (
        engine("{gasPerTransfer: 60 Tgas}"),
        engine("{gasPerTransfer: 0.5 Tgas}"),
        engine("{batch: {min: 9, max: 5}}"),
    );
    let table = [
        (
            phase,
            "{name: sustain, duration: 600, arrivalRate: 0}",
            "spec.load.phases[1].arrivalRate: is 0, which only a ramp may begin with: write a rate above 0, or pause",
        ),
        (
            phase,
            "{name: sustain, duration: 600, arrivalRate: 0, rampTo: 0}",
            "spec.load.phases[1].rampTo: and arrivalRate are both 0",
        ),
        (
            phase,
            "{name: sustain, duration: 600, arrivalRate: 5, arrivalCount: 9}",
            "spec.load.phases[1]: is of two kinds, arrivalRate and arrivalCount",
        ),
        (
            phase,
            "{name: sustain, pause: 5, arrivalRate: 5}",
            "spec.load.phases[1]: is of two kinds, pause and arrivalRate",
        ),
        (phase, "{name: sustain, duration: 600}", "spec.load.phases[1]: offers nothing: write arrivalRate"),
        (phase, "{name: sustain, duration: 600, rampTo: 5}", "spec.load.phases[1].arrivalRate: is missing"),
        (
            phase,
            "{name: sustain, duration: 600, arrivalCount: 5, rampTo: 5}",
            "spec.load.phases[1].rampTo: goes with arrivalRate",
        ),
        (phase, "{name: sustain, arrivalRate: 5}", "spec.load.phases[1].duration: is missing"),
        (phase, "{name: sustain, pause: 5, duration: 5}", "spec.load.phases[1].duration: is not for a pause"),
        (
            phase,
            "{name: sustain, duration: 0, arrivalRate: 5}",
            "spec.load.phases[1].duration: must be above 0 and at most 168h, and is 0",
        ),
        (
            phase,
            "{name: sustain, duration: -5, arrivalRate: 5}",
            "spec.load.phases[1].duration: must be above 0 and at most 168h, and is -5",
        ),
        (
            phase,
            "{name: sustain, duration: 5 minutes, arrivalRate: 5}",
            "spec.load.phases[1].duration: \"5 minutes\" is not a length of time",
        ),
        (phase, "{name: sustain, duration: 1s, arrivalRate: 0.5}", "spec.load.phases[1]: offers no transfer"),
        (
            phase,
            "{name: sustain, duration: 400h, arrivalRate: 5}",
            "spec.load.phases[1].duration: must be above 0 and at most 168h, and is 400h",
        ),
        ("name: few", "name: ramp", "spec.load.phases[3].name: \"ramp\" is the name of spec.load.phases[0] already"),
        (
            "phase: sustain",
            "phase: sustan",
            "spec.ensure.thresholds[0].phase: \"sustan\" is no phase of spec.load; did you mean sustain?",
        ),
        (
            "metric: tps.mean",
            "metric: errors.timeout",
            "spec.ensure.thresholds[0].phase: errors.timeout is counted for the whole run",
        ),
        (", min: '200'", "", "spec.ensure.thresholds[0]: bounds nothing"),
        ("min: '200'", "min: '200', max: '100'", "spec.ensure.thresholds[0].min: 200 is above max, 100"),
        ("  ensure:", "  ensure:\n    maxErrorRate: '101'", "spec.ensure.maxErrorRate: is in percent"),
        (
            "contractId: ft.bench.alice.testnet",
            "contractId: ft.alice.testnet",
            "spec.token.contractId: ft.alice.testnet is no direct sub-account of bench.alice.testnet",
        ),
        (
            "contractId: ft.bench.alice.testnet",
            "contractId: a.ft.bench.alice.testnet",
            "spec.token.contractId: a.ft.bench.alice.testnet is no direct sub-account",
        ),
        (
            "totalSupply: '1000000000'",
            "totalSupply: '100'",
            "spec.token.deploy.totalSupply: with mint makes 105, and 133220 transfers of 1 need more",
        ),
        (
            "mint: '5'",
            "mint: '340282366920938463463374607431768211455'",
            "spec.token.deploy.mint: 340282366920938463463374607431768211455 and totalSupply",
        ),
        (
            "mint: '5'",
            "mint: '340282366920938463463374607431768211456'",
            "spec.token.deploy.mint: \"340282366920938463463374607431768211456\" is too large",
        ),
        (
            "accountId: alice.testnet",
            "accountId: bob.testnet",
            "spec.account.accountId: bench.alice.testnet is no direct sub-account of bob.testnet",
        ),
        (", secretRef: {name: funder}", "", "spec.account.createFrom.secretRef: is missing"),
        (
            "100 NEAR",
            "0.5 NEAR",
            "spec.account.createFrom.initialBalance: 0.5 NEAR is less than spec.account.minBalance, 1 NEAR",
        ),
        (create, "minBalance: 2 NEAR", "spec.account: lacks a key"),
        (
            "    keys:",
            "    masterKeySecretRef: {name: master}\n    keys:",
            "spec.account.masterKeySecretRef: is for an account that is there",
        ),
        (
            "{count: 12}",
            "{count: 12, secretRef: {name: keys}}",
            "spec.account.keys: has count (new keys) and secretRef",
        ),
        (
            "{count: 12}",
            "{secretRef: {name: keys}}",
            "spec.account.keys.secretRef: names prepared keys, which an account that createFrom makes cannot have",
        ),
        (
            receivers,
            "{count: 3, accounts: [a.testnet]}",
            "spec.receivers: must have exactly one of count, accounts and accountsFrom",
        ),
        (receivers, "{}", "spec.receivers: must have exactly one of"),
        (
            receivers,
            "{accounts: [a.testnet, b.testnet, a.testnet]}",
            "spec.receivers.accounts[2]: \"a.testnet\" is at spec.receivers.accounts[0] already",
        ),
        (
            receivers,
            "{accounts: [bench.alice.testnet]}",
            "spec.receivers.accounts[0]: bench.alice.testnet is spec.account.accountId",
        ),
        (
            receivers,
            "{accountsFrom: {configMapRef: {name: accounts}}}",
            "ConfigMap accounts, nearbench-accounts, line 5: \"a.testnet\" is at ConfigMap accounts, nearbench-accounts, line 2 already",
        ),
        (
            receivers,
            "{accountsFrom: {configMapRef: {name: others}}}",
            "spec.receivers.accountsFrom.configMapRef.name: there is no list of accounts in ConfigMap \"others\"",
        ),
        (receivers, "{accounts: [a.testnet], prefix: u}", "spec.receivers.prefix: goes with count"),
        ("{count: 3, prefix: user}", "{count: 3, prefix: a2345678901234567890123456789012, distribution: uniform}", ""),
        (
            "[{url: 'https://rpc.testnet.near.org', authSecretRef: {name: rpc}}]",
            "[]",
            "spec.network.endpoints: must name an RPC endpoint",
        ),
        (
            "authSecretRef: {name: rpc}}",
            "priority: 1}, {url: 'https://rpc.testnet.near.org/'}",
            "spec.network.endpoints[1].url: is the same as spec.network.endpoints[0].url",
        ),
        (
            "https://rpc.testnet.near.org",
            "https://rpc.testnet.near.org:99999",
            "spec.network.endpoints[0].url: is no address of a host",
        ),
        ("  load:", "  load:\n    amount: '0'", "spec.load.amount: must be at least \"1\""),
        ("  load:", "  load:\n    timeout: 0s", "spec.load.timeout: must be above 0 and at most 168h, and is 0s"),
        ("  load:", "  load:\n    connections: 300", "spec.load.maxSockets: 200 is below spec.load.connections, 300"),
        (
            "  ensure:",
            &gas,
            "spec.engine.gasPerTransfer: 60 Tgas for each of batch.max 20 transfers are more than 1000 Tgas, the most in a transaction: write 50 Tgas at most, or batch.max: 16",
        ),
        ("  ensure:", &batch, "spec.engine.gasPerTransfer: 0.5 Tgas is out of reach"),
        ("  ensure:", &min, "spec.engine.batch.min: 9 is above batch.max, 5: write min: 5, or max: 9"),
        (
            "  load:",
            "  activeDeadlineSeconds: 700\n  load:",
            "spec.activeDeadlineSeconds: is 700 s, and the phases alone take 740 s",
        ),
    ];
    for (from, to, expected) in table {
        let faults: Vec<String> = resolved(&changed(from, to))
            .map(|_| Vec::new())
            .unwrap_or_else(|v| v.iter().map(ToString::to_string).collect());
        if expected.is_empty() {
            assert_eq!(faults, Vec::<String>::new(), "{to:?}");
        } else {
            assert!(faults.len() == 1 && faults[0].starts_with(expected), "{to:?}: {faults:#?}");
        }
    }
}

#[test]
fn a_manifest_that_no_schema_checked_is_checked_all_the_same() {
    let mut run = parse(GOOD).unwrap();
    run.spec.load.phases[1].arrival_rate = Some(-1.0);
    run.spec.load.phases[0].ramp_to = Some(f64::NAN);
    run.spec.account.keys.count = Some(0);
    run.spec.engine.batch.max = 101;
    run.spec.engine.concurrency = 0;
    run.spec.load.generators.replicas = 0;
    run.spec.receivers.count = Some(0);
    run.spec.token.contract_id = "FT".into();
    run.metadata.name = None;
    let paths: Vec<String> =
        resolved_on(&run, false).unwrap_err().into_iter().map(|violation| violation.path).collect();
    for path in [
        "metadata.name",
        "spec.load.phases[0].rampTo",
        "spec.load.phases[1].arrivalRate",
        "spec.account.keys.count",
        "spec.engine.batch.max",
        "spec.engine.concurrency",
        "spec.load.generators.replicas",
        "spec.receivers.count",
        "spec.token.contractId",
    ] {
        assert!(paths.iter().any(|found| found == path), "{path} is not among {paths:?}");
    }
}
