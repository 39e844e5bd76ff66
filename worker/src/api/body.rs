//! What clients write: read strictly. A key that is unknown or there twice, or a number in place of a text, may be a
//! mistake that moves tokens.

use super::refusal::{Code, Refusal};
use nearbench_core::{Account, Amount, Memo};
use nearbench_store::Digest;
use schemars::JsonSchema;
use serde::{
    Deserialize, Deserializer,
    de::{MapAccess, Visitor, value::MapAccessDeserializer},
};
use sha2::{Digest as _, Sha256};
use std::{borrow::Cow, fmt, marker::PhantomData};

/// An amount as it was written; a text, or something that is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum AmountText<'a> {
    Text(Cow<'a, str>),
    NoText,
}

impl<'de: 'a, 'a> Deserialize<'de> for AmountText<'a> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = AmountText<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an amount in quotes")
            }

            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(AmountText::Text(Cow::Borrowed(text)))
            }

            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(AmountText::Text(Cow::Owned(text.to_owned())))
            }

            fn visit_u64<E>(self, _: u64) -> Result<Self::Value, E> {
                Ok(AmountText::NoText)
            }

            fn visit_i64<E>(self, _: i64) -> Result<Self::Value, E> {
                Ok(AmountText::NoText)
            }

            fn visit_f64<E>(self, _: f64) -> Result<Self::Value, E> {
                Ok(AmountText::NoText)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

impl JsonSchema for AmountText<'_> {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(generator: &mut schemars::SchemaGenerator) -> schemars::Schema {
        Amount::json_schema(generator)
    }
}

/// A value that is written with its fields' names: serde takes a list of its values as well.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Map<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Map<T> {
            type Value = T;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<T, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map))
            }
        }
        deserializer.deserialize_map(Map(PhantomData)).map(Self)
    }
}

fn objects<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Body<'de>>, D::Error> {
    let objects = Vec::<Object<Body<'de>>>::deserialize(deserializer)?;
    Ok(objects.into_iter().map(|Object(body)| body).collect())
}

fn maybe_objects<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Vec<Body<'de>>>, D::Error> {
    objects(deserializer).map(Some)
}

/// A transfer that is asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "TransferRequest")]
pub(crate) struct Body<'a> {
    /// Who gets the tokens. `receiverId` is the same.
    #[serde(borrow, alias = "receiverId")]
    pub(crate) receiver_id: Cow<'a, str>,
    /// Whole token units, as decimal digits in quotes.
    #[serde(borrow)]
    pub(crate) amount: AmountText<'a>,
    /// 1 to 256 bytes without control characters; on chain behind the transfer's id.
    #[serde(default)]
    pub(crate) memo: Option<Cow<'a, str>>,
    /// The token's contract; this service knows one. `tokenId` is the same.
    #[serde(default, alias = "tokenId")]
    pub(crate) token_id: Option<Cow<'a, str>>,
    /// In a batch, and only there. `idempotencyKey` is the same.
    #[serde(default, alias = "idempotencyKey")]
    pub(crate) idempotency_key: Option<Cow<'a, str>>,
}

/// Many transfers.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "BatchRequest")]
pub(crate) struct Batch<'a> {
    /// 1 to 1000, each with a key of its own.
    #[serde(borrow, deserialize_with = "objects")]
    #[schemars(length(min = 1, max = 1000))]
    pub(crate) transfers: Vec<Body<'a>>,
}

/// What the aliases take: one transfer, or `transfers`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Either<'a> {
    #[serde(default, alias = "receiverId")]
    receiver_id: Option<Cow<'a, str>>,
    #[serde(default, borrow)]
    amount: Option<AmountText<'a>>,
    #[serde(default)]
    memo: Option<Cow<'a, str>>,
    #[serde(default, alias = "tokenId")]
    token_id: Option<Cow<'a, str>>,
    #[serde(default, borrow, deserialize_with = "maybe_objects")]
    transfers: Option<Vec<Body<'a>>>,
}

pub(crate) enum OneOrMany<'a> {
    One(Body<'a>),
    Many(Vec<Body<'a>>),
}

/// The text of an error about a body, at most.
const MAX_ERROR: usize = 300;

fn malformed(error: &serde_json::Error) -> Refusal {
    let text: String = error.to_string().chars().take(MAX_ERROR).collect();
    Refusal::new(Code::Malformed, format!("the body is not what is asked for: {text}"))
}

/// Reads a body.
pub(crate) fn parse<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, Refusal> {
    serde_json::from_slice(bytes).map(|Object(value)| value).map_err(|error| malformed(&error))
}

/// Reads what the aliases take.
pub(crate) fn parse_either(bytes: &[u8]) -> Result<OneOrMany<'_>, Refusal> {
    match parse::<Either<'_>>(bytes)? {
        Either { receiver_id: Some(receiver_id), amount: Some(amount), memo, token_id, transfers: None } => {
            Ok(OneOrMany::One(Body { receiver_id, amount, memo, token_id, idempotency_key: None }))
        }
        Either { receiver_id: None, amount: None, memo: None, token_id: None, transfers: Some(transfers) } => {
            Ok(OneOrMany::Many(transfers))
        }
        _ => Err(Refusal::new(Code::Malformed, "write receiverId and amount, or transfers, and not both")),
    }
}

/// What a body asks for, checked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Order {
    pub(crate) receiver: Account,
    pub(crate) amount: Amount,
    pub(crate) memo: Option<Memo>,
}

impl Order {
    /// Checks a body; `token` is the one that is transferred, `payer` who pays.
    pub(crate) fn check(body: &Body<'_>, token: &Account, payer: Option<&Account>) -> Result<Self, Refusal> {
        let receiver = Account::new(&body.receiver_id)
            .map_err(|_| refused(Code::BadAccount, "receiver_id", &body.receiver_id, ACCOUNT))?;
        let amount: Amount = match &body.amount {
            AmountText::NoText => return Err(Refusal::new(Code::BadAmount, AMOUNT).with("field", "amount")),
            AmountText::Text(text) => text.parse().map_err(|_| refused(Code::BadAmount, "amount", text, AMOUNT))?,
        };
        if amount == Amount(0) {
            return Err(refused(Code::BadAmount, "amount", "0", "the token refuses to transfer nothing"));
        }
        let memo = body.memo.as_deref().map(Memo::new).transpose();
        let memo = memo.map_err(|error| Refusal::new(Code::BadMemo, error.to_string()).with("field", "memo"))?;
        if let Some(other) = body.token_id.as_deref().filter(|other| *other != token.as_str()) {
            return Err(refused(Code::UnknownToken, "token_id", other, "this service transfers another token")
                .with("token_id", token.as_str()));
        }
        if payer.is_some_and(|payer| *payer == receiver) {
            return Err(refused(Code::SelfTransfer, "receiver_id", &receiver, "the receiver is who pays"));
        }
        Ok(Self { receiver, amount, memo })
    }

    /// Two bodies with the same digest ask for the same.
    pub(crate) fn digest(&self) -> Digest {
        let mut hash = Sha256::new();
        let memo: &str = self.memo.as_ref().map_or("", |memo| memo);
        hash.update(self.amount.0.to_le_bytes());
        hash.update([self.receiver.len() as u8]);
        hash.update(self.receiver.as_bytes());
        hash.update(memo.as_bytes());
        let mut head = [0; 16];
        head.copy_from_slice(&hash.finalize()[..16]);
        Digest(head)
    }
}

const ACCOUNT: &str = "no NEAR account id: 2 to 64 of a-z, 0-9, '-', '_' and '.' are one, such as bob.near";
const AMOUNT: &str =
    "an amount is whole token units as decimal digits in quotes, such as \"1000000\", of 128 bits at most";

fn refused(code: Code, field: &str, value: &str, error: &str) -> Refusal {
    let value: String = value.chars().take(80).collect();
    Refusal::new(code, error).with("field", field).with("value", value)
}

/// Characters of a key, at most.
const MAX_KEY: usize = 255;

/// Checks a client's key.
pub(crate) fn check_key(key: &str) -> Result<&str, Refusal> {
    if (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| (0x20..0x7f).contains(&b)) {
        return Ok(key);
    }
    Err(Refusal::new(Code::KeyInvalid, "an idempotency key has 1 to 255 printable ASCII characters"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn check(text: &str) -> Result<Order, Code> {
        let token: Account = "ft.near".parse().unwrap();
        let payer: Account = "bench.near".parse().unwrap();
        let body: Body<'_> = parse(text.as_bytes()).map_err(|refusal| refusal.code())?;
        Order::check(&body, &token, Some(&payer)).map_err(|refusal| refusal.code())
    }

    #[test]
    fn what_is_wrong_is_told() {
        let good = r#"{"receiver_id":"bob.near","amount":"5","memo":"for \u00e4","token_id":"ft.near"}"#;
        let order = check(good).unwrap();
        assert_eq!(
            (order.receiver.as_str(), order.amount.0, &**order.memo.as_ref().unwrap()),
            ("bob.near", 5, "for ä")
        );
        assert_eq!(
            check(r#"{"receiverId":"bob.near","amount":"5","memo":"for ä","tokenId":"ft.near"}"#).unwrap(),
            order
        );
        let long = format!(r#"{{"receiver_id":"bob.near","amount":"5","memo":"{}"}}"#, "x".repeat(257));
        for (code, body) in [
            (Code::Malformed, ""),
            (Code::Malformed, "x"),
            (Code::Malformed, "[]"),
            (Code::Malformed, "null"),
            (Code::Malformed, r#"["bob.near","5"]"#),
            (Code::Malformed, "{"),
            (Code::Malformed, r#"{"receiver_id":"bob.near"}"#),
            (Code::Malformed, r#"{"receiver_id":"bob.near","amount":"5"} {}"#),
            (Code::Malformed, r#"{"receiver_id":"bob.near","amount":"5","to":"eve.near"}"#),
            (Code::Malformed, r#"{"receiver_id":"bob.near","amount":"5","amount":"6"}"#),
            (Code::Malformed, r#"{"receiver_id":"bob.near","receiverId":"eve.near","amount":"5"}"#),
            (Code::Malformed, r#"{"receiver_id":7,"amount":"5"}"#),
            (Code::Malformed, r#"{"receiver_id":"bob.near","amount":null}"#),
            (Code::Malformed, r#"{"receiver_id":"bob.near","amount":["5"]}"#),
            (Code::BadAmount, r#"{"receiver_id":"bob.near","amount":5}"#),
            (Code::BadAmount, r#"{"receiver_id":"bob.near","amount":1e3}"#),
            (Code::BadAmount, r#"{"receiver_id":"bob.near","amount":-1}"#),
            (Code::BadAmount, r#"{"receiver_id":"bob.near","amount":"1e3"}"#),
            (Code::BadAmount, r#"{"receiver_id":"bob.near","amount":"-1"}"#),
            (Code::BadAmount, r#"{"receiver_id":"bob.near","amount":"1.0"}"#),
            (Code::BadAmount, r#"{"receiver_id":"bob.near","amount":""}"#),
            (Code::BadAmount, r#"{"receiver_id":"bob.near","amount":"0"}"#),
            (Code::BadAmount, r#"{"receiver_id":"bob.near","amount":"000"}"#),
            (Code::BadAmount, r#"{"receiver_id":"bob.near","amount":"340282366920938463463374607431768211456"}"#),
            (Code::BadAccount, r#"{"receiver_id":"Bob.near","amount":"5"}"#),
            (Code::BadAccount, r#"{"receiver_id":"b","amount":"5"}"#),
            (Code::BadAccount, r#"{"receiver_id":"","amount":"5"}"#),
            (Code::BadMemo, r#"{"receiver_id":"bob.near","amount":"5","memo":""}"#),
            (Code::BadMemo, r#"{"receiver_id":"bob.near","amount":"5","memo":"a\nb"}"#),
            (Code::BadMemo, &long),
            (Code::UnknownToken, r#"{"receiver_id":"bob.near","amount":"5","token_id":"usdt.near"}"#),
            (Code::SelfTransfer, r#"{"receiver_id":"bench.near","amount":"5"}"#),
        ] {
            assert_eq!(check(body), Err(code), "{body}");
        }
    }

    #[test]
    fn lists_are_no_objects_in_a_batch_either() {
        let batch = br#"{"transfers":[["bob.near","5"]]}"#;
        assert!(parse::<Batch<'_>>(batch).is_err() && parse_either(batch).is_err());
        let batch = br#"{"transfers":[{"receiver_id":"bob.near","amount":"5"}]}"#;
        assert!(parse::<Batch<'_>>(batch).is_ok() && parse_either(batch).is_ok());
    }

    #[test]
    fn keys_have_a_length() {
        for bad in ["", "a\u{7f}", "a\nb", "ä", &"x".repeat(256)] {
            assert_eq!(check_key(bad).unwrap_err().code(), Code::KeyInvalid);
        }
        assert!(check_key(&"x".repeat(255)).is_ok());
    }

    fn value() -> impl Strategy<Value = serde_json::Value> {
        let leaf = prop_oneof![
            Just(json!(null)),
            any::<bool>().prop_map(|v| json!(v)),
            any::<i64>().prop_map(|v| json!(v)),
            any::<f64>().prop_map(|v| json!(v)),
            ".{0,20}".prop_map(|v| json!(v)),
            "[0-9]{1,45}".prop_map(|v| json!(v)),
            Just(json!("bob.near")),
        ];
        leaf.prop_recursive(3, 16, 4, |inner| {
            let name = prop_oneof![
                "receiver_id",
                "receiverId",
                "amount",
                "memo",
                "token_id",
                "transfers",
                "idempotency_key",
                ".{0,5}"
            ];
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(|v| json!(v)),
                prop::collection::btree_map(name, inner, 0..5).prop_map(|v| json!(v)),
            ]
        })
    }

    proptest! {
        /// No body panics, and what is taken is what was written.
        #[test]
        fn any_json_is_taken_or_refused(value in value(), bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let text = value.to_string();
            if let Ok(order) = check(&text) {
                let receiver = value.get("receiver_id").or(value.get("receiverId")).cloned();
                prop_assert_eq!(receiver, Some(json!(order.receiver.as_str())));
                let amount = value["amount"].as_str().unwrap_or_default().trim_start_matches('0').to_owned();
                prop_assert_eq!(amount, order.amount.to_string());
            }
            let _ = parse::<Batch<'_>>(text.as_bytes()).map(drop);
            let _ = parse_either(text.as_bytes()).map(drop);
            let _ = parse::<Body<'_>>(&bytes).map(drop);
        }

        /// A good body with a byte changed is taken as something that it says, or refused.
        #[test]
        fn a_changed_byte_never_panics(at in 0usize..60, byte in any::<u8>()) {
            let mut body = br#"{"receiver_id":"bob.near","amount":"5000000","memo":"a memo"}"#.to_vec();
            let at = at % body.len();
            body[at] = byte;
            let _ = parse::<Body<'_>>(&body).map(drop);
            let _ = parse_either(&body).map(drop);
        }

        #[test]
        fn digests_tell_bodies_apart(
            receivers in prop::array::uniform2("[a-z]{2,5}"), amounts in any::<[u8; 2]>(),
            memos in prop::array::uniform2(prop::option::of("[a-z]{1,3}")),
        ) {
            let order = |n: usize| Order {
                receiver: receivers[n].parse().unwrap(),
                amount: Amount(amounts[n].into()),
                memo: memos[n].as_ref().map(|memo| Memo::new(memo).unwrap()),
            };
            prop_assert_eq!(order(0).digest() == order(1).digest(), order(0) == order(1));
        }
    }
}
