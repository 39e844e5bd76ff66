//! Replays transactions recorded on a real nearcore node (protocol 86) and compares what they cost and did.
#![allow(clippy::unwrap_used)]

use near_primitives::action::{DeployContractAction, FunctionCallAction, TransferAction};
use near_primitives::transaction::{Action, CreateAccountAction};
use near_primitives::types::{Balance, Gas};
use near_primitives::views::ExecutionOutcomeView;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use crate::driver::{finish, genesis, next_block, submit};

const VECTORS: &str = include_str!("../data/ft-vectors.jsonl");
pub(crate) const TOKEN: &[u8] = include_bytes!("../data/ft-sdk-5.24.wasm");

/// A recorded transaction.
#[derive(Deserialize)]
struct Vector {
    name: String,
    signer: String,
    receiver: String,
    actions: Vec<Recorded>,
    transaction: Value,
    receipts: Vec<Value>,
}

#[derive(Deserialize)]
enum Recorded {
    CreateAccount,
    Transfer { deposit: Balance },
    DeployContract(String),
    FunctionCall { method_name: String, args: Arguments, gas: Gas, deposit: Balance },
}

/// The fields of a call's arguments in their recorded order: the contract's gas depends on it.
struct Arguments(Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Arguments {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Fields;
        impl<'de> Visitor<'de> for Fields {
            type Value = Arguments;

            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Arguments, A::Error> {
                let mut fields = Vec::new();
                while let Some(field) = map.next_entry()? {
                    fields.push(field);
                }
                Ok(Arguments(fields))
            }
        }
        deserializer.deserialize_map(Fields)
    }
}

impl Arguments {
    /// As the recorder's Python wrote them; their length is part of the fees.
    fn to_bytes(&self) -> Vec<u8> {
        let fields = self.0.iter().map(|(key, value)| format!("\"{key}\": {value}"));
        format!("{{{}}}", fields.collect::<Vec<_>>().join(", ")).into_bytes()
    }
}

impl Recorded {
    fn action(&self) -> Action {
        match self {
            Self::CreateAccount => Action::CreateAccount(CreateAccountAction {}),
            Self::Transfer { deposit } => Action::Transfer(TransferAction { deposit: *deposit }),
            Self::DeployContract(file) => {
                assert_eq!(file, "ft-sdk-5.24.wasm");
                Action::DeployContract(DeployContractAction { code: TOKEN.to_vec() })
            }
            Self::FunctionCall { method_name, args, gas, deposit } => {
                Action::FunctionCall(Box::new(FunctionCallAction {
                    method_name: method_name.clone(),
                    args: args.to_bytes(),
                    gas: *gas,
                    deposit: *deposit,
                }))
            }
        }
    }
}

fn status(value: &Value) -> Value {
    // A receipt's id differs from chain to chain.
    match value {
        Value::Object(fields) if fields.contains_key("SuccessReceiptId") => "SuccessReceiptId".into(),
        other => other.clone(),
    }
}

fn compare(name: &str, position: usize, recorded: &Value, outcome: &ExecutionOutcomeView) {
    let at = format!("{name}, outcome {position}");
    let ours = serde_json::to_value(outcome).unwrap();
    for field in ["logs", "gas_burnt", "tokens_burnt"] {
        assert_eq!(ours[field], recorded[field], "{at}: {field}");
    }
    assert_eq!(status(&ours["status"]), status(&recorded["status"]), "{at}");
    if let Some(executor) = recorded.get("executor_id") {
        assert_eq!(&ours["executor_id"], executor, "{at}");
    }
}

/// Gas is compared exactly, that of contracts too: the trie nodes that writes touch are those of the recorded chain
/// as far as keys near the token's go.
#[test]
fn recorded_transactions_cost_and_do_the_same() {
    let million = Balance::from_near(1_000_000);
    let users: Vec<String> = (0..100).map(|user| format!("user-{user}.test.near")).collect();
    let mut names = vec![("test.near", million), ("bench.test.near", million)];
    names.extend(users.iter().map(|user| (user.as_str(), Balance::from_near(10))));
    let mut chain = nearbench_devnet::chain::Chain::new(genesis(&names)).unwrap();
    next_block(&mut chain);

    for line in VECTORS.lines() {
        let vector: Vector = serde_json::from_str(line).unwrap();
        let name = &vector.name;
        let actions = vector.actions.iter().map(Recorded::action).collect();
        let hash = submit(&mut chain, &vector.signer, &vector.receiver, actions)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        let outcomes = finish(&mut chain, hash);
        let mut outcomes = outcomes.into_iter().map(|record| record.to_view().outcome);
        compare(name, 0, &vector.transaction, &outcomes.next().unwrap());
        let recorded = &vector.receipts;
        let mut ours: Vec<_> = outcomes.collect();
        assert_eq!(ours.len(), recorded.len(), "{name}: receipts");
        for (position, recorded) in recorded.iter().enumerate() {
            // Receipts of one parent may have been listed in another order.
            let same = |outcome: &ExecutionOutcomeView| {
                outcome.executor_id == recorded["executor_id"].as_str().unwrap()
                    && outcome.tokens_burnt.is_zero() == (recorded["tokens_burnt"] == "0")
            };
            let found = ours.iter().position(same).unwrap_or_else(|| panic!("{name}: {recorded} did not happen"));
            let outcome = ours.remove(found);
            compare(name, position + 1, recorded, &outcome);
        }
    }
}
