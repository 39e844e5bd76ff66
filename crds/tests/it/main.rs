//! The manifest, from outside: the generated CRD, the examples, and tables of what is accepted and refused.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod cases;
mod crd;
mod examples;
mod parsing;
mod resolving;

use nearbench_core::Plan;
use nearbench_crds::{BenchmarkRun, Resolve, Violation, parse, plan};

/// A manifest that is in order, for tests to change.
const GOOD: &str = "
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: good}
spec:
  network:
    profile: testnet
    endpoints: [{url: 'https://rpc.testnet.near.org', authSecretRef: {name: rpc}}]
  account:
    accountId: bench.alice.testnet
    createFrom: {accountId: alice.testnet, secretRef: {name: funder}, initialBalance: 100 NEAR}
    keys: {count: 12}
  token: {contractId: ft.bench.alice.testnet, deploy: {totalSupply: '1000000000', mint: '5'}}
  receivers: {count: 3, prefix: user}
  store: {redis: {secretRef: {name: redis}}}
  load:
    phases:
      - {name: ramp, duration: 2m, arrivalRate: 50, rampTo: 150}
      - {name: sustain, duration: 600, arrivalRate: 202}
      - {pause: 10}
      - {name: few, duration: 10s, arrivalCount: 20}
  ensure:
    thresholds: [{metric: tps.mean, phase: sustain, min: '200'}]
";

/// `GOOD` with `from` replaced; `from` must be there, once.
fn changed(from: &str, to: &str) -> String {
    assert_eq!(GOOD.matches(from).count(), 1, "{from:?} must be in the manifest once");
    GOOD.replace(from, to)
}

/// What a test resolves with: one ConfigMap.
fn resolved_on(run: &BenchmarkRun, on_devnet: bool) -> Result<Plan, Vec<Violation>> {
    let config_map =
        |name: &str| (name == "accounts").then(|| "# ours\na.testnet\nb.testnet\n\na.testnet\n".to_owned());
    plan(run, &Resolve { on_devnet, config_map: &config_map })
}

fn resolved(text: &str) -> Result<Plan, Vec<Violation>> {
    resolved_on(&parse(text).map_err(|error| error.0)?, false)
}
