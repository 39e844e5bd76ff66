//! The query of a request: read as strictly as a body.

use super::refusal::{Code, Refusal};
use std::str::FromStr;

/// Names and values, each name once.
pub(crate) struct Query(Vec<(String, String)>);

fn bad(error: String) -> Refusal {
    Refusal::new(Code::BadQuery, error)
}

/// Undoes percent-encoding, and `+` for a space.
fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'+' => b' ',
            b'%' => {
                let mut digit = || rest.next().and_then(|digit| char::from(digit).to_digit(16));
                let (high, low) = (digit()?, digit()?);
                (high * 16 + low) as u8
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok()
}

impl Query {
    /// Reads a query of which these names are known.
    pub(crate) fn parse(text: Option<&str>, known: &[&str]) -> Result<Self, Refusal> {
        let mut pairs: Vec<(String, String)> = Vec::new();
        for pair in text.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let (Some(name), Some(value)) = (decode(name), decode(value)) else {
                return Err(bad("the query cannot be decoded".to_owned()));
            };
            if !known.contains(&&*name) {
                let name: String = name.chars().take(40).collect();
                return Err(bad(format!("{name:?} is no parameter here; known are: {}", known.join(", "))));
            }
            if pairs.iter().any(|(other, _)| *other == name) {
                return Err(bad(format!("{name} is there twice")));
            }
            pairs.push((name, value));
        }
        Ok(Self(pairs))
    }

    /// The value of `name`.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(other, _)| other == name).map(|(_, value)| &**value)
    }

    /// The value of `name`, read; `what` says what it is.
    pub(crate) fn get<T: FromStr>(&self, name: &str, what: &str) -> Result<Option<T>, Refusal> {
        let Some(text) = self.text(name) else { return Ok(None) };
        text.parse().map(Some).map_err(|_| bad(format!("{name} is {what}")))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_known_and_there_once() {
        let known = &["a", "b"];
        let query = Query::parse(Some("a=x%20y+z&b=%C3%A4&"), known).unwrap();
        assert_eq!((query.text("a"), query.text("b")), (Some("x y z"), Some("ä")));
        for bad in ["c=1", "a=1&a=2", "a=%", "a=%x1", "a=%ff", "a=1&%61=2"] {
            assert_eq!(Query::parse(Some(bad), known).err().unwrap().code(), Code::BadQuery, "{bad}");
        }
        assert!(query.get::<u32>("a", "a number").is_err());
    }

    proptest! {
        #[test]
        fn no_query_panics(text in "[a-c=&%+0-9]{0,40}|.{0,40}") {
            let _ = Query::parse(Some(&text), &["a"]);
        }
    }
}
