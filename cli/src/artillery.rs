//! A result file of Artillery 2 (`artillery run --output`), read so that it can stand beside nearbench's own reports.
//!
//! It counts requests that were answered. Whether a token moved it cannot know, and nothing here says that one did.

use crate::format::{markdown, plain};
use anyhow::anyhow;
use serde::Deserialize;
use serde_json::Value;
use std::{
    collections::BTreeMap,
    fmt::{self, Write},
};

/// What a reader of the numbers must know.
const MEANING: &str = "Artillery counts requests that were answered, not transfers that are proven on chain.";

/// What Artillery counted over a whole test.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ArtilleryResult {
    counters: BTreeMap<String, f64>,
    #[serde(default)]
    rates: BTreeMap<String, Option<f64>>,
    /// Older versions call them `histograms`; newer ones write both.
    #[serde(default)]
    summaries: BTreeMap<String, Times>,
    #[serde(default)]
    histograms: BTreeMap<String, Times>,
    /// Milliseconds since the Unix epoch.
    first_counter_at: Option<f64>,
    last_counter_at: Option<f64>,
}

/// Milliseconds, to 1 % of each: Artillery keeps sketches.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Times {
    count: Option<f64>,
    min: Option<f64>,
    median: Option<f64>,
    p95: Option<f64>,
    p99: Option<f64>,
    p999: Option<f64>,
    max: Option<f64>,
}

/// The heads of a table of `Times`.
const TIMES: [&str; 7] = ["count", "min", "median", "p95", "p99", "p999", "max"];

impl Times {
    fn values(self) -> [Option<f64>; 7] {
        [self.count, self.min, self.median, self.p95, self.p99, self.p999, self.max]
    }
}

/// Whether a document looks like one of Artillery's, of whatever version.
pub(crate) fn is_artillery(document: &Value) -> bool {
    document.get("apiVersion").is_none() && document["aggregate"].is_object()
}

impl ArtilleryResult {
    /// Reads the document.
    pub(crate) fn parse(mut document: Value) -> anyhow::Result<Self> {
        let aggregate = document["aggregate"].take();
        let is_second = ["summaries", "histograms", "rates"].iter().any(|field| aggregate[field].is_object());
        if !aggregate["counters"].is_object() || !is_second {
            return Err(anyhow!(
                "it looks like a result of Artillery 1: its aggregate lacks counters or summaries; run the test with Artillery \
                 2 and `--output FILE`"
            ));
        }
        serde_path_to_error::deserialize(aggregate).map_err(|error| {
            anyhow!(
                "it looks like a result of Artillery 2, but aggregate.{} is not as Artillery writes it: {}",
                error.path(),
                error.inner()
            )
        })
    }

    /// As a table, ending with a line break.
    pub(crate) fn table(&self, source: &str) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.as_table(&mut out, source);
        out
    }

    /// As Markdown, ending with a line break.
    pub(crate) fn markdown(&self, source: &str) -> String {
        let mut out = String::new();
        // Writing to a String cannot fail.
        let _ = self.as_markdown(&mut out, source);
        out
    }

    fn as_table(&self, out: &mut String, source: &str) -> fmt::Result {
        writeln!(out, "{}: a result of Artillery\n  {MEANING}\n", plain(source))?;
        self.rows().iter().try_for_each(|(what, value)| writeln!(out, "  {what:<14} {}", plain(value)))?;
        let times = self.times();
        if times.is_empty() {
            return Ok(());
        }
        let width = times.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0).max(14);
        let heads: String = TIMES.iter().map(|head| format!(" {head:>9}")).collect();
        writeln!(out, "\n  {:<width$}{heads}", "ms")?;
        for (name, times) in times {
            let values: String = times.values().iter().map(|value| format!(" {:>9}", number(*value))).collect();
            writeln!(out, "  {:<width$}{values}", plain(name))?;
        }
        Ok(())
    }

    fn as_markdown(&self, out: &mut String, source: &str) -> fmt::Result {
        writeln!(out, "**Artillery**: {}\n\n{MEANING}\n", markdown::text(source))?;
        let rows: Vec<_> =
            self.rows().iter().map(|(what, value)| vec![(*what).to_owned(), markdown::text(value)]).collect();
        markdown::table(out, &["Measure", "Result"], &rows)?;
        let times = self.times();
        if times.is_empty() {
            return Ok(());
        }
        let row = |(name, times): &(&str, Times)| {
            [markdown::text(name)].into_iter().chain(times.values().map(number)).collect::<Vec<_>>()
        };
        let rows: Vec<_> = times.iter().map(row).collect();
        writeln!(out)?;
        markdown::table(out, &[&["ms"], &TIMES[..]].concat(), &rows)
    }

    fn rows(&self) -> Vec<(&'static str, String)> {
        let count = |name: &str| self.counters.get(name).copied().unwrap_or(0.0);
        let requests = count("http.requests");
        let answered = count("http.responses");
        let mut rows = vec![
            ("requests", format!("{} sent, {} answered (over HTTP)", number(Some(requests)), number(Some(answered)))),
            ("rate", self.rate(requests)),
            ("codes", self.under("http.codes.")),
            ("virtual users", self.users()),
            ("errors", self.under("errors.")),
        ];
        rows.retain(|(_, value)| !value.is_empty());
        rows
    }

    /// Artillery's own rate is the mean of its periods', which those at the ends bend.
    fn rate(&self, requests: f64) -> String {
        let seconds = self.first_counter_at.zip(self.last_counter_at).map(|(first, last)| (last - first) / 1_000.0);
        let own = self.rates.get("http.request_rate").copied().flatten();
        let measured = seconds.filter(|seconds| *seconds > 0.0).map(|seconds| {
            format!("{:.2} requests a second over {seconds:.1} s, from the first count to the last", requests / seconds)
        });
        let own = own.map(|own| format!("{} by Artillery's own account, a mean of its periods", number(Some(own))));
        [measured, own].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    fn users(&self) -> String {
        let of = |what: &str| Some(format!("{} {what}", number(Some(*self.counters.get(&format!("vusers.{what}"))?))));
        ["created", "completed", "failed", "skipped"].into_iter().filter_map(of).collect::<Vec<_>>().join(", ")
    }

    /// The counters whose names begin so, without that.
    fn under(&self, prefix: &str) -> String {
        let counters = self.counters.iter().filter_map(|(name, count)| Some((name.strip_prefix(prefix)?, count)));
        counters.map(|(name, count)| format!("{name}: {}", number(Some(*count)))).collect::<Vec<_>>().join(", ")
    }

    /// Of requests and of virtual users; plugins have others.
    fn times(&self) -> Vec<(&str, Times)> {
        let all = if self.summaries.is_empty() { &self.histograms } else { &self.summaries };
        let of_requests = |name: &str| name.starts_with("http.response_time") || name.starts_with("vusers.");
        all.iter().filter(|(name, _)| of_requests(name)).map(|(name, times)| (&**name, *times)).collect()
    }
}

/// Whole numbers as such.
fn number(value: Option<f64>) -> String {
    match value {
        Some(value) if value.fract() == 0.0 => format!("{value:.0}"),
        Some(value) => format!("{value:.1}"),
        None => "-".to_owned(),
    }
}
