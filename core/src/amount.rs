//! Amounts: token units and NEAR, never through a floating-point number.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::{borrow::Cow, fmt, str::FromStr};

/// Smallest units of a token. Text and JSON form: a decimal string.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Amount(pub u128);

/// NEAR, in yoctoNEAR (10⁻²⁴). Text form: `"100 NEAR"`, `"0.5 NEAR"` or `"1 yoctoNEAR"`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Near(pub u128);

/// Why a text is no amount.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AmountError {
    /// Not plain decimal digits.
    #[error(
        "{0:?} is not an amount: write whole token units as decimal digits in quotes, such as \"1000000\" (no sign, point, exponent or unit)"
    )]
    NotDigits(String),
    /// More than 128 bits.
    #[error("{0:?} is too large: an amount is at most {max}", max = u128::MAX)]
    TooLarge(String),
    /// Not an amount of NEAR.
    #[error(
        "{0:?} is not an amount of NEAR: write it with its unit, such as \"100 NEAR\", \"0.5 NEAR\" or \"1 yoctoNEAR\""
    )]
    NotNear(String),
}

/// One NEAR in yoctoNEAR.
pub const NEAR: u128 = 10u128.pow(24);

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit())
}

impl FromStr for Amount {
    type Err = AmountError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if !digits(text) {
            return Err(AmountError::NotDigits(text.to_owned()));
        }
        text.parse().map(Self).map_err(|_| AmountError::TooLarge(text.to_owned()))
    }
}

impl FromStr for Near {
    type Err = AmountError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let bad = || AmountError::NotNear(text.to_owned());
        let (number, unit) = text.split_once(' ').ok_or_else(bad)?;
        let (scale, decimals) = match unit {
            "NEAR" => (NEAR, 24),
            "yoctoNEAR" => (1, 0),
            _ => return Err(bad()),
        };
        let (whole, fraction) = match number.split_once('.') {
            Some((whole, fraction)) if digits(fraction) && fraction.len() <= decimals => (whole, fraction),
            Some(_) => return Err(bad()),
            None => (number, ""),
        };
        if !digits(whole) {
            return Err(bad());
        }
        let large = || AmountError::TooLarge(text.to_owned());
        let whole: u128 = whole.parse().map_err(|_| large())?;
        let fraction: u128 = format!("{fraction:0<decimals$}").parse().unwrap_or(0);
        whole.checked_mul(scale).and_then(|w| w.checked_add(fraction)).map(Self).ok_or_else(large)
    }
}

impl fmt::Display for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Amount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, fraction) = (self.0 / NEAR, self.0 % NEAR);
        if fraction == 0 {
            return write!(f, "{whole} NEAR");
        }
        let fraction = format!("{fraction:024}");
        write!(f, "{whole}.{} NEAR", fraction.trim_end_matches('0'))
    }
}

impl fmt::Debug for Near {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

macro_rules! as_text {
    ($type:ty) => {
        impl Serialize for $type {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Text;
                impl serde::de::Visitor<'_> for Text {
                    type Value = $type;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a string")
                    }

                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$type, E> {
                        text.parse().map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Text)
            }
        }
    };
}
pub(crate) use as_text;

/// The text form of an [`Amount`].
pub const AMOUNT_PATTERN: &str = "^[0-9]{1,39}$";
/// The text form of [`Near`].
pub const NEAR_PATTERN: &str = "^[0-9]{1,39}(\\.[0-9]{1,24})? (NEAR|yoctoNEAR)$";

impl JsonSchema for Amount {
    fn schema_name() -> Cow<'static, str> {
        "Amount".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 39, "pattern": AMOUNT_PATTERN})
    }
}

impl JsonSchema for Near {
    fn schema_name() -> Cow<'static, str> {
        "Near".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": "string", "maxLength": 80, "pattern": NEAR_PATTERN})
    }
}

as_text!(Amount);
as_text!(Near);

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn only_plain_digits_are_an_amount() {
        for bad in ["", "1e3", "-1", "+1", "1.0", " 1", "1 ", "0x1", "١"] {
            assert!(matches!(bad.parse::<Amount>(), Err(AmountError::NotDigits(_))), "{bad}");
        }
        assert!(matches!("340282366920938463463374607431768211456".parse::<Amount>(), Err(AmountError::TooLarge(_))));
        assert_eq!(u128::MAX.to_string().parse(), Ok(Amount(u128::MAX)));
    }

    #[test]
    fn near_needs_its_unit() {
        assert_eq!("100 NEAR".parse(), Ok(Near(100 * NEAR)));
        assert_eq!("0.5 NEAR".parse(), Ok(Near(NEAR / 2)));
        assert_eq!("1 yoctoNEAR".parse(), Ok(Near(1)));
        for bad in ["100", "100NEAR", "1e3 NEAR", "-1 NEAR", ".5 NEAR", "1. NEAR", "1.5 yoctoNEAR", "1 near"] {
            assert!(bad.parse::<Near>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn near_round_trips_through_its_text(yocto: u128) {
            prop_assert_eq!(Near(yocto).to_string().parse(), Ok(Near(yocto)));
        }
    }
}
