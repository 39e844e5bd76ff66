//! Results of Artillery, as `nearbench report` prints them.

use crate::{harness::Folder, reports::Story};
use expect_test::expect;
use serde_json::{Value, json};

/// In the shape that Artillery 2 writes, with a name of each kind.
fn result() -> Value {
    let times = json!({"min": 3, "max": 2041, "count": 11_988, "mean": 51.2, "p50": 44.3, "median": 44.3, "p75": 60.4,
                       "p90": 82.3, "p95": 102.5, "p99": 407.5, "p999": 1_587.9});
    let counters = json!({
        "vusers.created_by_name.pay": 12_000, "vusers.created": 12_000, "vusers.completed": 11_988, "vusers.failed": 12,
        "http.requests": 12_000, "http.responses": 11_988, "http.codes.202": 11_900, "http.codes.503": 88,
        "http.downloaded_bytes": 4_666_200, "errors.ETIMEDOUT": 12, "plugins.metrics-by-endpoint./pay.codes.202": 11_900,
    });
    let aggregate = json!({
        "counters": counters, "rates": {"http.request_rate": 97}, "http.request_rate": null,
        "firstCounterAt": 1_700_000_000_120_u64, "firstHistogramAt": 1_700_000_000_200_u64,
        "lastCounterAt": 1_700_000_120_120_u64, "lastHistogramAt": 1_700_000_120_120_u64,
        "firstMetricAt": 1_700_000_000_120_u64, "lastMetricAt": 1_700_000_120_120_u64, "period": 1_700_000_120_000_u64,
        "summaries": {"http.response_time": times, "http.response_time.2xx": times, "vusers.session_length": times,
                      "plugins.metrics-by-endpoint.response_time./pay": times},
        "histograms": {"http.response_time": times},
    });
    json!({"aggregate": aggregate, "intermediate": [aggregate]})
}

fn printed(document: &Value, arguments: &[&str]) -> String {
    let folder = Folder::new();
    folder.write("out.json", &document.to_string());
    let ended = folder.nearbench(&[&["report", "out.json"], arguments].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    ended.stdout
}

#[test]
fn a_result_is_shown_as_what_it_is() {
    expect![[r#"
        out.json: a result of Artillery
          Artillery counts requests that were answered, not transfers that are proven on chain.

          requests       12000 sent, 11988 answered (over HTTP)
          rate           100.00 requests a second over 120.0 s, from the first count to the last; 97 by Artillery's own account, a mean of its periods
          codes          202: 11900, 503: 88
          virtual users  12000 created, 11988 completed, 12 failed
          errors         ETIMEDOUT: 12

          ms                         count       min    median       p95       p99      p999       max
          http.response_time         11988         3      44.3     102.5     407.5    1587.9      2041
          http.response_time.2xx     11988         3      44.3     102.5     407.5    1587.9      2041
          vusers.session_length      11988         3      44.3     102.5     407.5    1587.9      2041
    "#]].assert_eq(&printed(&result(), &[]));
    expect![[r#"
        **Artillery**: out.json

        Artillery counts requests that were answered, not transfers that are proven on chain.

        | Measure | Result |
        | --- | --- |
        | requests | 12000 sent, 11988 answered (over HTTP) |
        | rate | 100.00 requests a second over 120.0 s, from the first count to the last; 97 by Artillery's own account, a mean of its periods |
        | codes | 202: 11900, 503: 88 |
        | virtual users | 12000 created, 11988 completed, 12 failed |
        | errors | ETIMEDOUT: 12 |

        | ms | count | min | median | p95 | p99 | p999 | max |
        | --- | --- | --- | --- | --- | --- | --- | --- |
        | http.response\_time | 11988 | 3 | 44.3 | 102.5 | 407.5 | 1587.9 | 2041 |
        | http.response\_time.2xx | 11988 | 3 | 44.3 | 102.5 | 407.5 | 1587.9 | 2041 |
        | vusers.session\_length | 11988 | 3 | 44.3 | 102.5 | 407.5 | 1587.9 | 2041 |
    "#]].assert_eq(&printed(&result(), &["--format", "md"]));
    assert_eq!(printed(&result(), &["--json"]), result().to_string());
}

#[test]
fn what_an_older_version_or_another_engine_leaves_out_is_left_out() {
    let mut older = result();
    let aggregate = older["aggregate"].as_object_mut().unwrap();
    let times = aggregate.remove("summaries").unwrap();
    aggregate.insert("histograms".to_owned(), times);
    aggregate.remove("firstCounterAt");
    assert!(printed(&older, &[]).contains("http.response_time.2xx"));
    let nothing =
        json!({"aggregate": {"counters": {}, "rates": {}, "summaries": {}, "histograms": {}}, "intermediate": []});
    expect![[r#"
        out.json: a result of Artillery
          Artillery counts requests that were answered, not transfers that are proven on chain.

          requests       0 sent, 0 answered (over HTTP)
    "#]]
    .assert_eq(&printed(&nothing, &[]));
}

#[test]
fn no_name_in_it_reaches_the_terminal_or_the_table_as_anything_but_text() {
    let mut hostile = result();
    hostile["aggregate"]["counters"]["errors.\u{1b}[2J\n| a | <script>"] = 1.into();
    assert!(printed(&hostile, &[]).contains("\u{fffd}[2J\u{fffd}| a | <script>: 1, ETIMEDOUT: 12\n"));
    assert!(printed(&hostile, &["--format", "md"]).contains(r"�\[2J \| a \| &lt;script>: 1, ETIMEDOUT: 12 |"));
}

#[test]
fn what_cannot_be_made_of_a_result_is_refused() {
    let folder = Folder::new();
    folder.write("out.json", &result().to_string());
    Story::default().write(&folder, "report.json");
    let mut first = result();
    first["aggregate"] = json!({"scenariosCreated": 60, "codes": {"200": 60}, "latency": {"p95": 3}, "counters": {}});
    folder.write("first.json", &first.to_string());
    let mut broken = result();
    broken["aggregate"]["counters"]["http.requests"] = "many".into();
    folder.write("broken.json", &broken.to_string());
    for (arguments, told) in [
        (&["report", "out.json", "--format", "junit"][..], "no verdict, threshold or audit"),
        (&["report", "first.json"], "Artillery 1"),
        (&["report", "broken.json"], "aggregate.counters.http.requests"),
        (&["compare", "report.json", "out.json"], "only reports of nearbench"),
    ] {
        let ended = folder.nearbench(arguments);
        assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
        assert!(ended.stderr.contains(told) && ended.stderr.contains(".json"), "{told}: {}", ended.stderr);
    }
}
