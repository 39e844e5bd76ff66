//! Times as clients read them.

use serde::{Serialize, Serializer};

/// Unix milliseconds; in JSON as RFC 3339 in UTC, `2026-11-26T03:03:05.123Z`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Time(pub(crate) u64);

/// The first millisecond of the year 10000, which has no text.
const END: u64 = 253_402_300_800_000;

impl Time {
    fn text(self) -> [u8; 24] {
        let ms = self.0.min(END - 1);
        let (days, of_day) = (ms / 86_400_000, ms % 86_400_000);
        // Howard Hinnant's civil_from_days, for days since 1970.
        let z = days + 719_468;
        let era = z / 146_097;
        let doe = z % 146_097;
        let yoe = (doe - doe / 1460 + doe / 36_524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 3 } else { mp - 9 };
        let year = yoe + era * 400 + u64::from(month <= 2);
        let mut text = *b"0000-00-00T00:00:00.000Z";
        let mut put = |at: usize, digits: usize, mut value: u64| {
            for place in (at..at + digits).rev() {
                text[place] = b'0' + (value % 10) as u8;
                value /= 10;
            }
        };
        put(0, 4, year);
        put(5, 2, month);
        put(8, 2, day);
        put(11, 2, of_day / 3_600_000);
        put(14, 2, of_day / 60_000 % 60);
        put(17, 2, of_day / 1000 % 60);
        put(20, 3, of_day % 1000);
        text
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(std::str::from_utf8(&self.text()).unwrap_or_default())
    }
}

impl schemars::JsonSchema for Time {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({"type": "string", "format": "date-time"})
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn it_is_what_others_write(ms in 0..END) {
            let theirs = jiff::Timestamp::from_millisecond(ms as i64).map(|at| format!("{at:.3}"));
            prop_assert_eq!(String::from_utf8(Time(ms).text().to_vec()).ok(), theirs.ok());
        }
    }

    #[test]
    fn no_time_panics() {
        assert_eq!(&Time(u64::MAX).text(), b"9999-12-31T23:59:59.999Z");
    }
}
