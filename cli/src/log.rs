//! Lines on standard error: of the log, and for machines also remarks and errors. There each line is one flat JSON object.
//!
//! What is the same for all lines of a process, the run, is known once and written with each: nothing is passed on for it.

use nearbench_core::Plan;
use serde::Serialize;
use serde_json::{Map, Value};
use std::{fmt, sync::OnceLock};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
};
use tracing_subscriber::{
    fmt::{FmtContext, FormatEvent, FormatFields, format::Writer},
    registry::LookupSpan,
};

/// The run that this process carries out, or is a part of.
static RUN: OnceLock<String> = OnceLock::new();

/// From now on each JSON line names this plan's run.
pub(crate) fn of_run(plan: &Plan) {
    RUN.get_or_init(|| plan.name.clone());
}

/// A line. No field of the log has a name of these.
#[derive(Serialize)]
struct Line<'a> {
    timestamp: String,
    level: &'a str,
    target: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    run: Option<&'a str>,
    #[serde(flatten)]
    fields: Map<String, Value>,
}

/// A line of these fields, without its end.
fn json(level: &str, target: &str, fields: Map<String, Value>) -> String {
    let run = RUN.get().map(String::as_str);
    let line = Line { timestamp: jiff::Timestamp::now().to_string(), level, target, run, fields };
    // Its keys are texts: nothing in it cannot be written.
    serde_json::to_string(&line).unwrap_or_default()
}

/// A remark or an error as a JSON line, without its end.
pub(crate) fn remark(level: &str, message: &str) -> String {
    json(level, "nearbench", Map::from_iter([("message".to_owned(), message.into())]))
}

/// Writes each event of the log as a JSON line.
pub(crate) struct JsonLines;

impl<S, N> FormatEvent<S, N> for JsonLines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let metadata = event.metadata();
        writeln!(writer, "{}", json(metadata.level().as_str(), metadata.target(), fields.0))
    }
}

/// Numbers and truth stay such; all else is text.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Fields {
    fn set(&mut self, field: &Field, value: impl Into<Value>) {
        self.0.insert(field.name().to_owned(), value.into());
    }
}

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.set(field, format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.set(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.set(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.set(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.set(field, value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.set(field, value);
    }
}
