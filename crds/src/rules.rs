//! The rules between fields that an API server checks when a manifest is applied, as CEL expressions.
//!
//! `resolve` has the same rules, and more: those that need a plan, such as whether the supply covers the load. What is
//! refused here is refused there too; a table of manifests holds both to it.

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    JSONSchemaProps, JSONSchemaPropsOrArray, ValidationRule,
};

/// Where `self` is, what must hold, what is said where it does not, and the field at fault, seen from `self` (empty:
/// `self`).
type Rule = (&'static str, &'static str, &'static str, &'static str);

const SPEC: &str = "spec";
const PHASE: &str = "spec.load.phases[]";
const THRESHOLD: &str = "spec.ensure.thresholds[]";

/// What must hold of a manifest.
const RULES: [Rule; 34] = [
    (
        SPEC,
        "self.network.profile == 'devnet' || has(self.network.endpoints) && size(self.network.endpoints) > 0",
        "must name an RPC endpoint: only profile devnet brings up a chain of its own",
        ".network.endpoints",
    ),
    (
        "spec.network.endpoints[]",
        "!self.url.contains('@') && !self.url.contains('?')",
        "must not hold credentials or a query: put credentials into a Secret and name it in authSecretRef",
        ".url",
    ),
    (
        "spec.network.endpoints[]",
        // Names are resolved by whoever connects, who refuses these addresses too, however they are written.
        r"!self.url.matches('(?i)^https?://(169[.]254[.]|[[](fe[89ab][0-9a-f]:|fd00:0?ec2:([0:]*:)?0?254[]]|[0:]*:(ffff:)?(169[.]254[.]|a9fe:[0-9a-f]*[]])))')",
        "must not be a link-local address: clouds serve the credentials of their machines there",
        ".url",
    ),
    (
        SPEC,
        "self.network.profile != 'mainnet' || has(self.network.allowRealFunds) && self.network.allowRealFunds",
        "must be true on mainnet: every transfer there spends real funds",
        ".network.allowRealFunds",
    ),
    (
        SPEC,
        "!(has(self.account.createFrom) && has(self.account.masterKeySecretRef))",
        "is for an account that is there, and createFrom for one that is to be made: keep one of them",
        ".account.masterKeySecretRef",
    ),
    (
        SPEC,
        "self.network.profile == 'devnet' && !(has(self.network.endpoints) && size(self.network.endpoints) > 0) \
         || has(self.account.createFrom) || has(self.account.masterKeySecretRef) \
         || has(self.account.keys) && has(self.account.keys.secretRef)",
        "lacks a key: name masterKeySecretRef (the account is there), createFrom (it is to be made) or keys.secretRef (prepared keys)",
        ".account",
    ),
    (
        SPEC,
        "!has(self.account.createFrom) || has(self.account.createFrom.secretRef) \
         || self.network.profile == 'devnet' && !(has(self.network.endpoints) && size(self.network.endpoints) > 0)",
        "is missing: name the Secret with a full-access key of the funding account",
        ".account.createFrom.secretRef",
    ),
    (
        SPEC,
        "!(has(self.account.createFrom) && has(self.account.keys) && has(self.account.keys.secretRef))",
        "names prepared keys, which an account that createFrom makes cannot have: use count",
        ".account.keys.secretRef",
    ),
    (
        "spec.account.keys",
        "!(has(self.count) && has(self.secretRef))",
        "has count (new keys) and secretRef (prepared keys): keep one of them",
        "",
    ),
    (
        "spec.account",
        "!has(self.createFrom) || self.accountId.endsWith('.' + self.createFrom.accountId) \
         && self.accountId.split('.').size() == self.createFrom.accountId.split('.').size() + 1",
        "must be a direct sub-account of createFrom.accountId, as bench.test.near is of test.near",
        ".accountId",
    ),
    (
        SPEC,
        "!has(self.token.deploy) || self.token.contractId.endsWith('.' + self.account.accountId) \
         && self.token.contractId.split('.').size() == self.account.accountId.split('.').size() + 1",
        "must be a direct sub-account of account.accountId where the token is deployed, as ft.bench.near is of bench.near",
        ".token.contractId",
    ),
    (
        "spec.receivers",
        "[has(self.count), has(self.accounts), has(self.accountsFrom)].filter(given, given).size() == 1",
        "must have exactly one of count, accounts and accountsFrom",
        "",
    ),
    ("spec.receivers", "!has(self.prefix) || has(self.count)", "goes with count: remove it, or the list", ".prefix"),
    (
        SPEC,
        "!has(self.receivers.accounts) || !self.receivers.accounts.exists(a, a == self.account.accountId)",
        "list account.accountId: a token refuses transfers to oneself",
        ".receivers.accounts",
    ),
    (
        "spec.load",
        "self.maxSockets >= self.connections",
        "is below connections: a connection needs a socket",
        ".maxSockets",
    ),
    ("spec.load", "!self.amount.matches('^0+$')", "must be at least \"1\"", ".amount"),
    ("spec.load", "duration(self.timeout) > duration('0s')", "must be above 0", ".timeout"),
    ("spec.load", "duration(self.maxSendLag) > duration('0s')", "must be above 0", ".maxSendLag"),
    (
        "spec.load",
        "!has(self.generators) || !has(self.generators.replicas) || self.generators.replicas > 0",
        "must be at least 1",
        ".generators.replicas",
    ),
    (
        "spec.load",
        "self.phases.all(p, !has(p.name) || self.phases.exists_one(q, has(q.name) && q.name == p.name))",
        "have one name twice: give each phase its own",
        ".phases",
    ),
    (
        "spec.load",
        "self.phases.exists(p, !has(p.pause))",
        "are pauses only: one phase must offer something, such as {duration: 60, arrivalRate: 50}",
        ".phases",
    ),
    (
        PHASE,
        "[has(self.pause), has(self.arrivalRate), has(self.arrivalCount)].filter(given, given).size() < 2",
        "is of two kinds: keep one of pause, arrivalRate and arrivalCount, and make the other a phase of its own",
        "",
    ),
    (
        PHASE,
        "has(self.pause) || has(self.arrivalRate) || has(self.arrivalCount) || has(self.rampTo)",
        "offers nothing: write arrivalRate (a rate), arrivalCount (a number in all) or pause",
        "",
    ),
    (
        PHASE,
        "!has(self.rampTo) || has(self.arrivalRate)",
        "goes with arrivalRate: it says where the rate goes, arrivalRate where it begins",
        ".rampTo",
    ),
    (
        PHASE,
        "!has(self.arrivalRate) || self.arrivalRate > 0.0 || has(self.rampTo) && self.rampTo > 0.0",
        "must be above 0: write pause for a phase that offers nothing",
        ".arrivalRate",
    ),
    (
        PHASE,
        "!(has(self.pause) && has(self.duration))",
        "is not for a pause, which says its own length: remove it",
        ".duration",
    ),
    (
        PHASE,
        "has(self.duration) || has(self.pause)",
        "is missing: say how long, in seconds or as a text such as \"5m\"",
        ".duration",
    ),
    // What a text must be, the schema says.
    (
        PHASE,
        "!has(self.duration) || type(self.duration) != int || int(self.duration) > 0",
        "must be at least 1 second",
        ".duration",
    ),
    (
        PHASE,
        "!has(self.pause) || type(self.pause) != int || int(self.pause) > 0",
        "must be at least 1 second",
        ".pause",
    ),
    ("spec.engine.batch", "self.min <= self.max", "is above batch.max", ".min"),
    ("spec.engine.breaker", "duration(self.timeout) > duration('0s')", "must be above 0", ".timeout"),
    ("spec.engine.breaker", "duration(self.resetTimeout) > duration('0s')", "must be above 0", ".resetTimeout"),
    (THRESHOLD, "has(self.min) || has(self.max)", "bounds nothing: write min, max or both", ""),
    (
        SPEC,
        "!has(self.ensure) || !has(self.ensure.thresholds) || self.ensure.thresholds.all(t, !has(t.phase) \
         || t.phase.startsWith('phase-') || self.load.phases.exists(p, has(p.name) && p.name == t.phase))",
        "name a phase that is not in load.phases",
        ".ensure.thresholds",
    ),
];

/// What cannot change from which stage on: a run is what was asked for at its beginning, or its numbers would be of
/// something else.
const FROZEN: [(&str, &str, &str); 9] = [
    ("network.profile", "Identity", "provisioning"),
    ("account", "Identity", "provisioning"),
    ("token", "Identity", "provisioning"),
    ("receivers", "Identity", "provisioning"),
    ("store", "Identity", "provisioning"),
    ("network", "Everything", "its load"),
    ("load", "Everything", "its load"),
    ("engine", "Everything", "its load"),
    ("ensure", "Everything", "its load"),
];

/// Adds every rule to the schema of a `BenchmarkRun`.
pub(crate) fn add(root: &mut JSONSchemaProps) {
    for (place, rule, message, field) in RULES {
        let Some(schema) = descend(root, place) else { continue };
        schema.x_kubernetes_validations.get_or_insert_default().push(ValidationRule {
            rule: rule.to_owned(),
            message: Some(message.to_owned()),
            field_path: (!field.is_empty()).then(|| field.to_owned()),
            ..ValidationRule::default()
        });
    }
    let rules = root.x_kubernetes_validations.get_or_insert_default();
    for (field, stage, what) in FROZEN {
        let same = if field == "store" {
            "(has(self.spec.store) == has(oldSelf.spec.store) && (!has(self.spec.store) || self.spec.store == oldSelf.spec.store))".to_owned()
        } else {
            format!("self.spec.{field} == oldSelf.spec.{field}")
        };
        let free = match stage {
            "Everything" => "oldSelf.status.frozen != 'Everything' || ",
            _ => "",
        };
        rules.push(ValidationRule {
            rule: format!("!has(oldSelf.status) || !has(oldSelf.status.frozen) || {free}{same}"),
            message: Some(format!(
                "cannot change once the run began {what}: its numbers would be of something else; apply it under another name"
            )),
            field_path: Some(format!(".spec.{field}")),
            reason: Some("FieldValueForbidden".to_owned()),
            ..ValidationRule::default()
        });
    }
    rules.push(ValidationRule {
        rule: "!has(oldSelf.status) || !has(oldSelf.status.frozen) || oldSelf.status.frozen != 'Everything' \
               || !has(self.spec.suspend) || !self.spec.suspend || has(oldSelf.spec.suspend) && oldSelf.spec.suspend"
            .to_owned(),
        message: Some("cannot hold a run whose load began; stop ends it".to_owned()),
        field_path: Some(".spec.suspend".to_owned()),
        ..ValidationRule::default()
    });
    rules.push(ValidationRule {
        rule: "size(self.metadata.name) <= 63".to_owned(),
        message: Some("metadata.name: must have at most 63 characters: it becomes a label".to_owned()),
        ..ValidationRule::default()
    });
}

fn descend<'a>(schema: &'a mut JSONSchemaProps, place: &str) -> Option<&'a mut JSONSchemaProps> {
    place.split('.').try_fold(schema, |schema, step| {
        let child = schema.properties.as_mut()?.get_mut(step.trim_end_matches("[]"))?;
        if !step.ends_with("[]") {
            return Some(child);
        }
        match child.items.as_mut()? {
            JSONSchemaPropsOrArray::Schema(items) => Some(&mut **items),
            JSONSchemaPropsOrArray::Schemas(_) => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use kube_core::CustomResourceExt;

    #[test]
    fn every_rule_has_its_place() {
        let mut crd = crate::BenchmarkRun::crd();
        let schema = crd.spec.versions[0].schema.as_mut().and_then(|schema| schema.open_api_v3_schema.as_mut());
        let schema = schema.expect("a schema");
        for (place, rule, ..) in RULES {
            assert!(descend(schema, place).is_some(), "{place}: {rule}");
        }
    }
}
