//! Faults that are set at run time: which requests, transactions and blocks they hit, as values.
//!
//! A rule hits by its method and endpoint, every nth time, with a probability, at most so many times. Chance is a
//! function of seed, rule and how often the rule was asked, so that equal rules asked equally often hit alike. What a
//! fault does is done elsewhere: to the connection in [`crate::http`], to an answer in [`crate::rpc`], to
//! transactions in [`crate::chain`], to blocks in [`crate::node`].

use serde::Serialize;
use serde_json::{Map, Value, json};
use std::{collections::HashMap, ops::RangeInclusive, time::Duration};

/// The methods that hand in a transaction.
const SUBMITTING: [&str; 3] = ["send_tx", "broadcast_tx_async", "broadcast_tx_commit"];
/// A set of rules has at most this many.
const MOST_RULES: usize = 100;
const HOUR_MS: u64 = 3_600_000;
const MOST_BLOCKS: u64 = 1000;
const MOST_TIMES: u64 = 1_000_000_000;

/// What happens where a rule hits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "camelCase", rename_all_fields = "camelCase")]
enum Fault {
    Latency { milliseconds: u64 },
    TooManyRequests { retry_after_seconds: u64 },
    ServerError { status: u64 },
    Reset { accepted: bool },
    Timeout { milliseconds: u64 },
    Truncate,
    Garbage,
    OtherAnswer,
    Behind { blocks: u64 },
    Drop,
    HoldBack { blocks: u64 },
    Unchecked { blocks: u64 },
    ShardCongested,
    Stall { milliseconds: u64 },
    EmptyPool,
}

/// What a rule is asked about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    /// How a request and its answer travel.
    Transport,
    /// What is answered.
    Answer,
    /// A transaction that is handed in.
    Transaction,
    /// The next block.
    Block,
}

impl Fault {
    fn subject(&self) -> Subject {
        match self {
            Self::Latency { .. }
            | Self::TooManyRequests { .. }
            | Self::ServerError { .. }
            | Self::Reset { .. }
            | Self::Timeout { .. }
            | Self::Truncate
            | Self::Garbage => Subject::Transport,
            Self::OtherAnswer | Self::Behind { .. } => Subject::Answer,
            Self::Drop | Self::HoldBack { .. } | Self::Unchecked { .. } | Self::ShardCongested => Subject::Transaction,
            Self::Stall { .. } | Self::EmptyPool => Subject::Block,
        }
    }
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Rule {
    #[serde(flatten)]
    fault: Fault,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    endpoint: Option<String>,
    probability: f64,
    every: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    /// How often it was asked while it could still hit.
    asked: u64,
    /// How often it hit.
    hit: u64,
}

impl Rule {
    fn concerns(&self, endpoint: &str, method: &str) -> bool {
        self.endpoint.as_ref().is_none_or(|of| of == endpoint)
            && match &self.method {
                Some(of) => of == method,
                None => self.fault.subject() != Subject::Transaction || SUBMITTING.contains(&method),
            }
    }

    /// Asks the rule once.
    fn hits(&mut self, seed: u64, index: u64) -> bool {
        if self.count.is_some_and(|count| self.hit >= count) {
            return false;
        }
        self.asked += 1;
        let hits = self.asked.is_multiple_of(self.every) && chance(seed, index, self.asked) < self.probability;
        self.hit += u64::from(hits);
        hits
    }
}

/// A number of [0, 1) that depends on all three, by the finaliser of SplitMix64.
fn chance(seed: u64, rule: u64, time: u64) -> f64 {
    let mix = |z: u64| {
        let z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    };
    let step = 0x9e37_79b9_7f4a_7c15_u64;
    let bits = mix(mix(mix(seed.wrapping_add(step)).wrapping_add(rule)).wrapping_add(time.wrapping_mul(step)));
    (bits >> 11) as f64 / (1_u64 << 53) as f64
}

/// What befalls a request on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Travel {
    /// Refused with 429 and, unless 0, Retry-After in seconds.
    TooManyRequests { retry_after_seconds: u64 },
    /// Refused with this status.
    ServerError { status: u16 },
    /// The connection is reset, before the request is seen or after it was done.
    Reset { accepted: bool },
    /// Done, and answered TIMEOUT_ERROR after this time.
    Timeout { after: Duration },
    /// Half of the answer's body.
    Truncate,
    /// A body that is no JSON.
    Garbage,
}

impl Travel {
    /// Whether the node sees the request.
    fn arrives(self) -> bool {
        !matches!(self, Self::TooManyRequests { .. } | Self::ServerError { .. } | Self::Reset { accepted: false })
    }
}

/// What becomes of a transaction that is handed in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Handling {
    /// It goes into the pool.
    #[default]
    Take,
    /// It is checked and answered as valid, and forgotten, as a full pool does.
    Drop,
    /// It is checked, and reaches the pool that many blocks later: what its key signed after it overtakes it.
    HoldBack {
        /// Blocks.
        blocks: u64,
    },
    /// It is checked, and is in the chunk that many blocks after the next, behind all others and whether it is valid by
    /// then or not.
    Unchecked {
        /// Blocks.
        blocks: u64,
    },
    /// It is refused as if its receiver's shard were congested.
    Congested,
}

/// What befalls a request at the node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct AtNode {
    /// Blocks by which the node that answers is behind the head.
    pub(crate) behind: u64,
    /// What becomes of its transaction.
    pub(crate) handling: Handling,
    /// The result that is given instead of the right one.
    pub(crate) instead: Option<Value>,
    /// The result is to be remembered, for another request.
    pub(crate) remember: bool,
}

/// All that befalls a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct OfRequest {
    /// It takes that much longer.
    pub(crate) latency: Duration,
    pub(crate) travel: Option<Travel>,
    pub(crate) at_node: AtNode,
}

/// All that befalls the next block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OfBlock {
    /// It comes that much later.
    pub(crate) stall: Duration,
    /// No transaction that waits in a pool will ever be in a block.
    pub(crate) empties_pool: bool,
}

/// The faults in force.
#[derive(Clone, Debug, Default)]
pub(crate) struct Faults {
    seed: u64,
    rules: Vec<Rule>,
    /// The latest result of each method; kept only where a rule may give it to somebody else.
    results: HashMap<String, Value>,
}

/// A rule that is wrong; nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field} is {value}: {way_out}")]
pub struct FaultsError {
    /// The field, by its path, such as `rules[0].probability`.
    pub field: String,
    /// Its value as JSON, or `missing`.
    pub value: String,
    /// What would be right.
    pub way_out: String,
}

impl Faults {
    /// Reads `{"seed": …, "rules": […]}` or the list of rules alone; `methods` are those that a rule may name.
    pub(crate) fn read(given: &Value, methods: &[&str]) -> Result<Self, FaultsError> {
        let given = if given.is_array() { json!({"rules": given}) } else { given.clone() };
        let mut fields = Fields::of("", "faults", &given, "give {\"seed\": 1, \"rules\": [...]} or a list of rules")?;
        let seed = fields.number("seed", Some(0), 0..=u64::MAX)?;
        let rules = fields.take("rules").unwrap_or_default();
        fields.end("seed and rules")?;
        let Some(rules) = rules.as_array().filter(|rules| rules.len() <= MOST_RULES) else {
            return Err(wrong("rules", &rules, format!("give a list of at most {MOST_RULES} rules")));
        };
        let rule = |(index, rule)| rule_of(&format!("rules[{index}]"), rule, methods);
        let rules = rules.iter().enumerate().map(rule).collect::<Result<_, _>>()?;
        Ok(Self { seed, rules, results: HashMap::new() })
    }

    /// As they were given, every default filled in, with how often each rule was asked and hit.
    pub(crate) fn to_json(&self) -> Value {
        json!({"seed": self.seed, "rules": self.rules})
    }

    /// What befalls a request. `over_http` is false where there is no connection that could fail.
    pub(crate) fn of_request(&mut self, endpoint: &str, method: &str, over_http: bool) -> OfRequest {
        let mut all = OfRequest::default();
        if self.rules.is_empty() {
            return all;
        }
        for rule in self.asked(Subject::Transport).filter(|(rule, ..)| over_http && rule.concerns(endpoint, method)) {
            let (rule, seed, index) = rule;
            // A request has one fate; rules behind the one that decided it are not asked, but for more latency.
            if (all.travel.is_some() && !matches!(rule.fault, Fault::Latency { .. })) || !rule.hits(seed, index) {
                continue;
            }
            let fault = rule.fault;
            match fault {
                Fault::Latency { milliseconds } => all.latency += Duration::from_millis(milliseconds),
                Fault::TooManyRequests { retry_after_seconds } => {
                    all.travel = Some(Travel::TooManyRequests { retry_after_seconds });
                }
                Fault::ServerError { status } => {
                    all.travel = Some(Travel::ServerError { status: u16::try_from(status).unwrap_or(500) });
                }
                Fault::Reset { accepted } => all.travel = Some(Travel::Reset { accepted }),
                Fault::Timeout { milliseconds } => {
                    all.travel = Some(Travel::Timeout { after: Duration::from_millis(milliseconds) });
                }
                Fault::Truncate => all.travel = Some(Travel::Truncate),
                Fault::Garbage => all.travel = Some(Travel::Garbage),
                _ => {}
            }
        }
        if all.travel.is_none_or(Travel::arrives) {
            all.at_node = self.at_node(endpoint, method);
        }
        all
    }

    fn at_node(&mut self, endpoint: &str, method: &str) -> AtNode {
        let mut at = AtNode::default();
        let other = self.results.get(method).cloned();
        for (rule, seed, index) in self.asked(Subject::Answer).filter(|(rule, ..)| rule.concerns(endpoint, method)) {
            let fault = rule.fault;
            match fault {
                Fault::OtherAnswer => {
                    at.remember = true;
                    // Before anything was answered there is nothing to confuse.
                    if at.instead.is_none() && other.is_some() && rule.hits(seed, index) {
                        at.instead.clone_from(&other);
                    }
                }
                Fault::Behind { blocks } if rule.hits(seed, index) => at.behind = at.behind.max(blocks),
                _ => {}
            }
        }
        for (rule, seed, index) in self.asked(Subject::Transaction).filter(|(rule, ..)| rule.concerns(endpoint, method))
        {
            if at.handling != Handling::Take || !rule.hits(seed, index) {
                continue;
            }
            let fault = rule.fault;
            match fault {
                Fault::Drop => at.handling = Handling::Drop,
                Fault::HoldBack { blocks } => at.handling = Handling::HoldBack { blocks },
                Fault::Unchecked { blocks } => at.handling = Handling::Unchecked { blocks },
                Fault::ShardCongested => at.handling = Handling::Congested,
                _ => {}
            }
        }
        at
    }

    /// What befalls the next block.
    pub(crate) fn of_block(&mut self) -> OfBlock {
        let mut all = OfBlock::default();
        for (rule, seed, index) in self.asked(Subject::Block) {
            let fault = rule.fault;
            match fault {
                Fault::Stall { milliseconds } if rule.hits(seed, index) => {
                    all.stall += Duration::from_millis(milliseconds);
                }
                Fault::EmptyPool if rule.hits(seed, index) => all.empties_pool = true,
                _ => {}
            }
        }
        all
    }

    /// A method's result, to be given to another request some time.
    pub(crate) fn remember(&mut self, method: &str, result: Value) {
        self.results.insert(method.to_owned(), result);
    }

    fn asked(&mut self, subject: Subject) -> impl Iterator<Item = (&mut Rule, u64, u64)> {
        let seed = self.seed;
        let rules = self.rules.iter_mut().zip(0_u64..);
        rules.filter(move |(rule, _)| rule.fault.subject() == subject).map(move |(rule, index)| (rule, seed, index))
    }
}

const FAULTS: &str = "use latency, tooManyRequests, serverError, reset, timeout, truncate, garbage, otherAnswer, \
                      behind, drop, holdBack, unchecked, shardCongested, stall or emptyPool";

fn rule_of(path: &str, given: &Value, methods: &[&str]) -> Result<Rule, FaultsError> {
    let mut fields = Fields::of(&format!("{path}."), path, given, "give an object such as {\"fault\": \"drop\"}")?;
    let name = fields.text("fault")?.ok_or_else(|| fields.missing("fault", FAULTS))?;
    let fault = match name.as_str() {
        "latency" => Fault::Latency { milliseconds: fields.number("milliseconds", None, 1..=HOUR_MS)? },
        "tooManyRequests" => {
            Fault::TooManyRequests { retry_after_seconds: fields.number("retryAfterSeconds", Some(1), 0..=3600)? }
        }
        "serverError" => Fault::ServerError { status: fields.number("status", Some(503), 500..=599)? },
        "reset" => Fault::Reset { accepted: fields.flag("accepted")? },
        "timeout" => Fault::Timeout { milliseconds: fields.number("milliseconds", Some(10_000), 0..=HOUR_MS)? },
        "truncate" => Fault::Truncate,
        "garbage" => Fault::Garbage,
        "otherAnswer" => Fault::OtherAnswer,
        "behind" => Fault::Behind { blocks: fields.number("blocks", None, 1..=MOST_BLOCKS)? },
        "drop" => Fault::Drop,
        "holdBack" => Fault::HoldBack { blocks: fields.number("blocks", None, 1..=MOST_BLOCKS)? },
        "unchecked" => Fault::Unchecked { blocks: fields.number("blocks", Some(0), 0..=MOST_BLOCKS)? },
        "shardCongested" => Fault::ShardCongested,
        "stall" => Fault::Stall { milliseconds: fields.number("milliseconds", None, 1..=HOUR_MS)? },
        "emptyPool" => Fault::EmptyPool,
        _ => return Err(wrong(&format!("{path}.fault"), &json!(name), FAULTS)),
    };
    let subject = fault.subject();
    let (mut method, mut endpoint) = (None, None);
    if subject != Subject::Block {
        method = fields.text("method")?;
        endpoint = fields.text("endpoint")?;
    }
    if let Some(method) = &method {
        let allowed = if subject == Subject::Transaction { &SUBMITTING } else { methods };
        if !allowed.contains(&method.as_str()) {
            let way_out = format!("{name} can hit {}", allowed.join(", "));
            return Err(wrong(&format!("{path}.method"), &json!(method), way_out));
        }
    }
    let probability = fields.probability()?;
    let every = fields.number("every", Some(1), 1..=MOST_TIMES)?;
    let count = match fields.number("count", Some(0), 1..=MOST_TIMES)? {
        0 => None,
        count => Some(count),
    };
    fields.end(match subject {
        Subject::Block => "what the fault takes, probability, every and count: blocks have no method and no endpoint",
        _ => "what the fault takes, method, endpoint, probability, every and count",
    })?;
    Ok(Rule { fault, method, endpoint, probability, every, count, asked: 0, hit: 0 })
}

/// The fields of an object that were not looked at yet.
struct Fields {
    /// Stands before the name of a field.
    prefix: String,
    left: Map<String, Value>,
}

impl Fields {
    fn of(prefix: &str, path: &str, given: &Value, way_out: &str) -> Result<Self, FaultsError> {
        let left = given.as_object().cloned().ok_or_else(|| wrong(path, given, way_out))?;
        Ok(Self { prefix: prefix.to_owned(), left })
    }

    fn take(&mut self, name: &str) -> Option<Value> {
        self.left.remove(name)
    }

    fn wrong(&self, name: &str, value: &Value, way_out: impl Into<String>) -> FaultsError {
        wrong(&format!("{}{name}", self.prefix), value, way_out)
    }

    fn missing(&self, name: &str, way_out: impl Into<String>) -> FaultsError {
        let field = format!("{}{name}", self.prefix);
        FaultsError { field, value: "missing".to_owned(), way_out: way_out.into() }
    }

    /// A whole number of `range`, or the default where there is one and none is given.
    fn number(&mut self, name: &str, default: Option<u64>, range: RangeInclusive<u64>) -> Result<u64, FaultsError> {
        let way_out = format!("give a whole number from {} to {}", range.start(), range.end());
        let Some(value) = self.take(name) else {
            return default.ok_or_else(|| self.missing(name, way_out));
        };
        value.as_u64().filter(|number| range.contains(number)).ok_or_else(|| self.wrong(name, &value, way_out))
    }

    fn probability(&mut self) -> Result<f64, FaultsError> {
        let Some(value) = self.take("probability") else { return Ok(1.0) };
        let number = value.as_f64().filter(|number| *number > 0.0 && *number <= 1.0);
        number.ok_or_else(|| self.wrong("probability", &value, "give a number above 0 and up to 1"))
    }

    fn text(&mut self, name: &str) -> Result<Option<String>, FaultsError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match value.as_str().filter(|text| text.len() <= 64) {
            Some(text) => Ok(Some(text.to_owned())),
            None => Err(self.wrong(name, &value, "give a text of at most 64 bytes")),
        }
    }

    fn flag(&mut self, name: &str) -> Result<bool, FaultsError> {
        let Some(value) = self.take(name) else { return Ok(false) };
        value.as_bool().ok_or_else(|| self.wrong(name, &value, "give true or false"))
    }

    /// Nothing else may be given.
    fn end(self, known: &str) -> Result<(), FaultsError> {
        match self.left.iter().next() {
            None => Ok(()),
            Some((name, value)) => Err(self.wrong(name, value, format!("there is no such field; it takes {known}"))),
        }
    }
}

fn wrong(field: &str, value: &Value, way_out: impl Into<String>) -> FaultsError {
    let mut value = value.to_string();
    if value.len() > 100 {
        value = format!("{}...", value.chars().take(100).collect::<String>());
    }
    FaultsError { field: field.to_owned(), value, way_out: way_out.into() }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const METHODS: [&str; 3] = ["send_tx", "tx", "block"];

    fn faults(given: Value) -> Faults {
        Faults::read(&given, &METHODS).unwrap()
    }

    fn refused(given: Value) -> String {
        Faults::read(&given, &METHODS).unwrap_err().to_string()
    }

    #[test]
    fn a_wrong_rule_is_refused_by_the_name_of_its_field() {
        for (given, field) in [
            (json!("drop"), "faults is \"drop\":"),
            (json!({"seed": -1, "rules": []}), "seed is -1:"),
            (json!({"seed": 1}), "rules is null:"),
            (json!({"rule": [], "rules": []}), "rule is []:"),
            (json!([{"fault": "drop"}, 3]), "rules[1] is 3:"),
            (json!([{}]), "rules[0].fault is missing:"),
            (json!([{"fault": "dorp"}]), "rules[0].fault is \"dorp\":"),
            (json!([{"fault": "latency"}]), "rules[0].milliseconds is missing:"),
            (json!([{"fault": "latency", "milliseconds": "9"}]), "rules[0].milliseconds is \"9\":"),
            (json!([{"fault": "serverError", "status": 404}]), "rules[0].status is 404:"),
            (json!([{"fault": "reset", "accepted": 1}]), "rules[0].accepted is 1:"),
            (json!([{"fault": "unchecked", "blocks": 1001}]), "rules[0].blocks is 1001:"),
            (json!([{"fault": "drop", "probability": 0}]), "rules[0].probability is 0:"),
            (json!([{"fault": "drop", "probability": 1.5}]), "rules[0].probability is 1.5:"),
            (json!([{"fault": "drop", "count": 0}]), "rules[0].count is 0:"),
            (json!([{"fault": "drop", "every": 0}]), "rules[0].every is 0:"),
            (json!([{"fault": "drop", "method": "block"}]), "rules[0].method is \"block\":"),
            (json!([{"fault": "garbage", "method": "send_txx"}]), "rules[0].method is \"send_txx\":"),
            (json!([{"fault": "emptyPool", "method": "send_tx"}]), "rules[0].method is \"send_tx\":"),
            (json!([{"fault": "garbage", "milliseconds": 1}]), "rules[0].milliseconds is 1:"),
            (json!(vec![json!({"fault": "drop"}); 101]), "rules is [{"),
        ] {
            let said = refused(given);
            assert!(said.starts_with(field), "{said} for {field}");
        }
    }

    #[test]
    fn one_seed_gives_one_history_and_another_one_another() {
        let history = |seed: u64| {
            let mut faults = faults(json!({"seed": seed, "rules": [
                {"fault": "drop", "probability": 0.3}, {"fault": "garbage", "probability": 0.3}]}));
            (0..1000).map(|_| faults.of_request("", "send_tx", true)).collect::<Vec<_>>()
        };
        assert_eq!(history(1), history(1));
        assert_ne!(history(1), history(2));
        let hits = history(1).iter().filter(|all| all.travel.is_some()).count();
        assert!((230..370).contains(&hits), "{hits} of 1000 at 0.3");
        let both = history(1).into_iter().filter(|all| all.travel.is_some() && all.at_node.handling != Handling::Take);
        assert!((50..140).contains(&both.count()), "two rules of one set are independent");
    }

    #[test]
    fn a_rule_hits_its_method_and_endpoint_every_nth_time_and_no_more_than_told() {
        let mut faults = faults(json!([
            {"fault": "behind", "blocks": 5, "method": "block", "endpoint": "b", "every": 2, "count": 2}]));
        let mut behind = |endpoint, method| faults.of_request(endpoint, method, true).at_node.behind;
        assert_eq!([behind("", "block"), behind("a", "block"), behind("b", "tx")], [0; 3], "none of its business");
        assert_eq!([(); 6].map(|()| behind("b", "block")), [0, 5, 0, 5, 0, 0]);
        assert_eq!(faults.to_json()["rules"][0]["hit"], 2);
    }

    #[test]
    fn what_never_arrives_befalls_nothing_at_the_node() {
        let mut faults = faults(json!([
            {"fault": "drop"}, {"fault": "reset", "count": 1}, {"fault": "reset", "accepted": true}]));
        let first = faults.of_request("", "send_tx", true);
        assert_eq!((first.travel, first.at_node.handling), (Some(Travel::Reset { accepted: false }), Handling::Take));
        let second = faults.of_request("", "send_tx", true);
        assert_eq!((second.travel, second.at_node.handling), (Some(Travel::Reset { accepted: true }), Handling::Drop));
        let inside = faults.of_request("", "send_tx", false);
        assert_eq!((inside.travel, inside.at_node.handling), (None, Handling::Drop), "no connection, no reset");
        assert_eq!(faults.of_request("", "block", false).at_node.handling, Handling::Take, "hands nothing in");
    }

    #[test]
    fn another_answer_is_one_that_was_given_before() {
        let mut faults = faults(json!([{"fault": "otherAnswer", "method": "tx", "count": 1}]));
        let first = faults.of_request("", "tx", true).at_node;
        assert_eq!((first.instead, first.remember), (None, true));
        faults.remember("tx", json!({"of": "another"}));
        assert_eq!(faults.of_request("", "tx", true).at_node.instead, Some(json!({"of": "another"})));
        assert_eq!(faults.of_request("", "tx", true).at_node.instead, None);
    }

    #[test]
    fn blocks_stall_and_pools_empty_apart_from_requests() {
        let mut faults = faults(json!([
            {"fault": "stall", "milliseconds": 50, "every": 2}, {"fault": "emptyPool", "count": 1}]));
        assert_eq!(faults.of_request("", "send_tx", true), OfRequest::default());
        let blocks = [(); 3].map(|()| faults.of_block());
        assert_eq!(blocks.map(|block| block.stall.as_millis()), [0, 50, 0]);
        assert_eq!(blocks.map(|block| block.empties_pool), [true, false, false]);
    }
}
