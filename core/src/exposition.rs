//! Metrics as text: OpenMetrics, and the older format of Prometheus that is made from it.

/// The media type of OpenMetrics.
pub const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
/// The media type of the older format.
pub const PLAIN: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Metrics in the format that an `Accept` header asks for, and its media type. `text` is OpenMetrics.
pub fn negotiate(accept: Option<&str>, text: String) -> (&'static str, String) {
    if accept.is_some_and(|accept| accept.contains("application/openmetrics-text")) {
        (OPENMETRICS, text)
    } else {
        (PLAIN, plain(&text))
    }
}

/// OpenMetrics in Prometheus' text format: a counter is called as its sample, and units and the end are not told.
/// Exemplars are no part of what is given.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    // Help comes before the type, and bears the name that depends on it.
    let mut help: Option<(&str, &str)> = None;
    for line in text.lines() {
        let comment = line.strip_prefix("# ").and_then(|rest| rest.split_once(' '));
        match comment.and_then(|(word, rest)| Some((word, rest.split_once(' ')?))) {
            Some(("HELP", named)) => help = Some(named),
            Some(("TYPE", (name, kind))) => {
                let suffix = if kind == "counter" { "_total" } else { "" };
                if let Some((_, text)) = help.take().filter(|(of, _)| *of == name) {
                    out += &format!("# HELP {name}{suffix} {text}\n");
                }
                let kind = if kind == "unknown" { "untyped" } else { kind };
                out += &format!("# TYPE {name}{suffix} {kind}\n");
            }
            Some(("UNIT", _)) => {}
            _ if line == "# EOF" => {}
            _ => {
                out += line;
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a_b How many.\n# TYPE a_b counter\na_b_total{c=\"# EOF\"} 1\n# HELP d_seconds How long.\n\
                        # TYPE d_seconds histogram\n# UNIT d_seconds seconds\nd_seconds_sum 0.5\n# EOF\n";

    #[test]
    fn counters_are_called_as_their_samples_in_the_older_format() {
        let (kind, text) = negotiate(Some("text/plain"), TEXT.to_owned());
        assert_eq!(kind, PLAIN);
        assert_eq!(
            text,
            "# HELP a_b_total How many.\n# TYPE a_b_total counter\na_b_total{c=\"# EOF\"} 1\n# HELP d_seconds How long.\n\
             # TYPE d_seconds histogram\nd_seconds_sum 0.5\n"
        );
    }

    #[test]
    fn who_asks_for_openmetrics_gets_it_as_it_is() {
        let accept = "application/openmetrics-text;version=1.0.0;q=0.6,text/plain;q=0.3";
        assert_eq!(negotiate(Some(accept), TEXT.to_owned()), (OPENMETRICS, TEXT.to_owned()));
        assert_eq!(negotiate(None, TEXT.to_owned()).0, PLAIN);
    }
}
