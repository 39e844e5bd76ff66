//! Runs beside each other, as `nearbench compare` prints them.

use crate::{
    harness::Folder,
    page,
    reports::{self, Story},
};
use expect_test::{Expect, expect};
use nearbench_core::audit::Audit;

/// A machine that is slower by a fifth of a second, and by more from time to time.
const SLOWER: Story = Story { execution_ms: |n| 1_500 + n * 7_919 % 101, ..BASE };
const BASE: Story = Story {
    replaced: &[],
    failing: None,
    execution_ms: |n| 1_300 + n * 7_919 % 101,
    audit: Some(Audit {
        matches: true,
        transfers_found: 0,
        missing: 0,
        doubled: 0,
        foreign: 0,
        contradicted: 0,
        receivers: 5,
        wrong_balances: 0,
        supply_conserved: true,
    }),
    stopped_early: false,
};

fn folder() -> Folder {
    let folder = Folder::new();
    BASE.write(&folder, "base/report.json");
    SLOWER.write(&folder, "slower.json");
    Story { stopped_early: true, ..BASE }.write(&folder, "stopped.json");
    Story { failing: Some(3), ..BASE }.write(&folder, "failing.json");
    folder
}

fn check(folder: &Folder, arguments: &[&str], code: i32, expected: &Expect) {
    let ended = folder.nearbench(&[&["compare"], arguments].concat());
    assert_eq!((ended.code, ended.stderr.as_str()), (code, ""), "{ended:?}");
    expected.assert_eq(&ended.stdout);
}

#[test]
fn what_is_worse_by_more_than_the_tolerance_and_chance_is_a_regression() {
    check(
        &folder(),
        &["base", "slower.json"],
        1,
        &expect![[r#"
            REGRESSION: shop (slower.json, PASSED)
              beside shop (base/report.json, PASSED)

                                              base         new     change
              tps.mean                       10.00       10.00      0.0 %  ok
              tps.peak                       10.20       10.30     +1.0 %
              successRate                   100.00      100.00      0.0 %  ok
              errorRate                       0.00        0.00      0.0 %
              latencyMs.settle.p50         2551.81     2750.46     +7.8 %  REGRESSION (p < 0.0001)
              latencyMs.settle.p95         2596.86     2795.52     +7.6 %  REGRESSION (p < 0.0001)
              latencyMs.settle.p99         2600.96     2799.61     +7.6 %  REGRESSION (p < 0.0001)
              latencyMs.execution.p50      1350.65     1550.34    +14.8 %  REGRESSION (p < 0.0001)
              latencyMs.execution.p95      1395.71     1595.39    +14.3 %  REGRESSION (p < 0.0001)
              latencyMs.execution.p99      1399.81     1599.49    +14.3 %  REGRESSION (p < 0.0001)
              latencyMs.accept.p50            2.00        2.00      0.0 %
              latencyMs.accept.p95            2.00        2.00      0.0 %
              latencyMs.accept.p99            2.00        2.00      0.0 %
              queueDepth.mean                 0.00        0.00      0.0 %
              batchSize.mean                  5.00        5.00      0.0 %

            A regression is worse by more than 5 % and significant (p < 0.05) by Welch's t-test on the means of
            10-second blocks of the longest steady phase, without its first and its last block. What has no finding
            is shown and not judged.
              succeeded a second (TPS)      hold: n = 6 and 6, mean 10.00 and 10.00, p = 1.0000
              mean settle ms (p50)          hold: n = 6 and 6, mean 2550.13 and 2750.10, p < 0.0001
              longest settle ms (p95, p99)  hold: n = 6 and 6, mean 2593.58 and 2793.05, p < 0.0001
        "#]],
    );
}

#[test]
fn another_plan_and_another_machine_are_told_before_any_number() {
    let folder = folder();
    let replaced = &[("duration: 80, arrivalRate: 10", "duration: 30, arrivalRate: 20"), ("count: 5", "count: 9")];
    let mut other = Story { replaced, ..BASE }.report();
    other.environment.machine.cpus = 4;
    reports::write(&folder, "other.json", &other);
    check(
        &folder,
        &["base", "other.json", "--tolerance", "0"],
        0,
        &expect![[r#"
            NO REGRESSION: shop (other.json, PASSED)
              beside shop (base/report.json, PASSED)

            The plans differ: the numbers may differ because other things were asked for.
              load.phases[1].arrivals.rate: 10.0 -> 20.0
              load.phases[1].durationMs: 80000 -> 30000
              receivers: ["user-0.bench.near","user-1.bench.near","user-2.bench.near"… (5) -> ["user-0.bench.near","user-1.bench.near","user-2.bench.near"… (9)

            The environments differ: the numbers may differ because of them.
              machine.cpus: 2 -> 4

                                              base         new     change
              tps.mean                       10.00       20.00   +100.0 %  ok
              tps.peak                       10.20       20.50   +101.0 %
              successRate                   100.00      100.00      0.0 %  ok
              errorRate                       0.00        0.00      0.0 %
              latencyMs.settle.p50         2551.81     2551.81      0.0 %  ok
              latencyMs.settle.p95         2596.86     2596.86      0.0 %  ok
              latencyMs.settle.p99         2600.96     2600.96      0.0 %  ok
              latencyMs.execution.p50      1350.65     1350.65      0.0 %  ok
              latencyMs.execution.p95      1395.71     1395.71      0.0 %  ok
              latencyMs.execution.p99      1399.81     1399.81      0.0 %  ok
              latencyMs.accept.p50            2.00        2.00      0.0 %
              latencyMs.accept.p95            2.00        2.00      0.0 %
              latencyMs.accept.p99            2.00        2.00      0.0 %
              queueDepth.mean                 0.00        0.00      0.0 %
              batchSize.mean                  5.00        5.00      0.0 %

            A regression is worse by more than 0 % and significant (p < 0.05) by Welch's t-test on the means of
            10-second blocks of the longest steady phase, without its first and its last block. What has no finding
            is shown and not judged.
              succeeded a second (TPS)      hold: n = 6 and 1, mean 10.00 and 19.20; a test needs 4 blocks of each, so the tolerance alone decides
              mean settle ms (p50)          hold: n = 6 and 1, mean 2550.13 and 2549.89; a test needs 4 blocks of each, so the tolerance alone decides
              longest settle ms (p95, p99)  hold: n = 6 and 1, mean 2593.58 and 2595.60; a test needs 4 blocks of each, so the tolerance alone decides
        "#]],
    );
    check(
        &folder,
        &["base", "other.json", "--format", "md"],
        0,
        &expect![[r#"
            **NO REGRESSION**: shop (other.json, PASSED) beside shop (base/report.json, PASSED)

            The plans differ: the numbers may differ because other things were asked for.

            - load.phases\[1\].arrivals.rate: 10.0 -> 20.0
            - load.phases\[1\].durationMs: 80000 -> 30000
            - receivers: \["user-0.bench.near","user-1.bench.near","user-2.bench.near"… (5) -> \["user-0.bench.near","user-1.bench.near","user-2.bench.near"… (9)

            The environments differ: the numbers may differ because of them.

            - machine.cpus: 2 -> 4

            | Measure | Base | New | Change | Finding |
            | --- | --- | --- | --- | --- |
            | tps.mean | 10.00 | 20.00 | +100.0 % | ok |
            | tps.peak | 10.20 | 20.50 | +101.0 % |  |
            | successRate | 100.00 | 100.00 | 0.0 % | ok |
            | errorRate | 0.00 | 0.00 | 0.0 % |  |
            | latencyMs.settle.p50 | 2551.81 | 2551.81 | 0.0 % | ok |
            | latencyMs.settle.p95 | 2596.86 | 2596.86 | 0.0 % | ok |
            | latencyMs.settle.p99 | 2600.96 | 2600.96 | 0.0 % | ok |
            | latencyMs.execution.p50 | 1350.65 | 1350.65 | 0.0 % | ok |
            | latencyMs.execution.p95 | 1395.71 | 1395.71 | 0.0 % | ok |
            | latencyMs.execution.p99 | 1399.81 | 1399.81 | 0.0 % | ok |
            | latencyMs.accept.p50 | 2.00 | 2.00 | 0.0 % |  |
            | latencyMs.accept.p95 | 2.00 | 2.00 | 0.0 % |  |
            | latencyMs.accept.p99 | 2.00 | 2.00 | 0.0 % |  |
            | queueDepth.mean | 0.00 | 0.00 | 0.0 % |  |
            | batchSize.mean | 5.00 | 5.00 | 0.0 % |  |

            A regression is worse by more than 5 % and significant (p < 0.05) by Welch's t-test on the means of
            10-second blocks of the longest steady phase, without its first and its last block. What has no finding
            is shown and not judged.

            - succeeded a second (TPS): hold: n = 6 and 1, mean 10.00 and 19.20; a test needs 4 blocks of each, so the tolerance alone decides
            - mean settle ms (p50): hold: n = 6 and 1, mean 2550.13 and 2549.89; a test needs 4 blocks of each, so the tolerance alone decides
            - longest settle ms (p95, p99): hold: n = 6 and 1, mean 2593.58 and 2595.60; a test needs 4 blocks of each, so the tolerance alone decides
        "#]],
    );
}

#[test]
fn an_inconclusive_run_is_no_result() {
    check(
        &folder(),
        &["base", "stopped.json"],
        3,
        &expect![[r#"
            NO RESULT: shop (stopped.json, INCONCLUSIVE)
              beside shop (base/report.json, PASSED)

            new is inconclusive: the run was stopped before its load was over. The numbers are no result.

                                              base         new     change
              tps.mean                       10.00       10.00      0.0 %
              tps.peak                       10.20       10.20      0.0 %
              successRate                   100.00      100.00      0.0 %
              errorRate                       0.00        0.00      0.0 %
              latencyMs.settle.p50         2551.81     2551.81      0.0 %
              latencyMs.settle.p95         2596.86     2596.86      0.0 %
              latencyMs.settle.p99         2600.96     2600.96      0.0 %
              latencyMs.execution.p50      1350.65     1350.65      0.0 %
              latencyMs.execution.p95      1395.71     1395.71      0.0 %
              latencyMs.execution.p99      1399.81     1399.81      0.0 %
              latencyMs.accept.p50            2.00        2.00      0.0 %
              latencyMs.accept.p95            2.00        2.00      0.0 %
              latencyMs.accept.p99            2.00        2.00      0.0 %
              queueDepth.mean                 0.00        0.00      0.0 %
              batchSize.mean                  5.00        5.00      0.0 %

            A regression is worse by more than 5 % and significant (p < 0.05) by Welch's t-test on the means of
            10-second blocks of the longest steady phase, without its first and its last block. What has no finding
            is shown and not judged.
              succeeded a second (TPS)      hold: n = 6 and 6, mean 10.00 and 10.00, p = 1.0000
              mean settle ms (p50)          hold: n = 6 and 6, mean 2550.13 and 2550.13, p = 1.0000
              longest settle ms (p95, p99)  hold: n = 6 and 6, mean 2593.58 and 2593.58, p = 1.0000
        "#]],
    );
}

#[test]
fn the_exit_code_is_that_of_the_worst_that_is_proven() {
    let folder = folder();
    let code = |arguments: &[&str]| folder.nearbench(&[&["compare"], arguments].concat()).code;
    assert_eq!(code(&["base", "base/report.json"]), 0);
    assert_eq!(code(&["slower.json", "base"]), 0, "faster is no regression");
    assert_eq!(code(&["base", "slower.json", "--tolerance", "40"]), 0);
    assert_eq!(code(&["base", "failing.json"]), 1);
    assert_eq!(code(&["stopped.json", "failing.json"]), 3);
    assert_eq!(code(&["base", "stopped.json", "base", "slower.json"]), 1, "proven, whatever another says");
    assert_eq!(code(&["base", "base", "stopped.json"]), 3);
}

#[test]
fn a_run_that_the_chain_contradicts_is_a_regression_whatever_its_numbers() {
    let folder = folder();
    let audit = Audit { matches: false, missing: 3, ..BASE.audit.unwrap() };
    Story { audit: Some(audit), ..BASE }.write(&folder, "contradicted.json");
    let ended = folder.nearbench(&["compare", "base", "contradicted.json"]);
    assert!(ended.code == 1 && ended.stdout.contains("The chain disagrees with the new run's report"), "{ended:?}");
    assert_eq!(folder.nearbench(&["compare", "contradicted.json", "base"]).code, 3);
}

#[test]
fn as_json_it_is_one_document_with_every_comparison() {
    let ended = folder().nearbench(&["compare", "base", "slower.json", "stopped.json", "--format", "json"]);
    assert_eq!(ended.code, 1, "{ended:?}");
    let document: serde_json::Value = serde_json::from_str(&ended.stdout).unwrap();
    assert_eq!((&document["base"]["source"], &document["tolerancePercent"]), (&"base/report.json".into(), &5.0.into()));
    let [slower, stopped] = document["comparisons"].as_array().unwrap().as_slice() else { panic!("{document:#}") };
    assert_eq!((&slower["outcome"], &stopped["outcome"]), (&"regression".into(), &"noResult".into()));
    assert_eq!((&slower["new"]["run"], &slower["new"]["verdict"]), (&"shop".into(), &"Passed".into()));
    let settle =
        slower["changes"].as_array().unwrap().iter().find(|change| change["measure"] == "latencyMs.settle.p50");
    assert_eq!(settle.unwrap()["finding"], "regression", "{settle:?}");
    assert!(slower["tests"][1]["p"].as_f64().unwrap() < 0.05, "{slower:#}");
}

#[test]
fn as_a_page_it_holds_the_words_of_the_table_and_the_series_of_every_run() {
    let folder = folder();
    let hostile = "</script><script>alert(1)</script><!-- {{script}}";
    let replaced = &[("count: 5", "count: 9")];
    let mut other = Story { replaced, ..SLOWER }.report();
    other.run.name = hostile.to_owned();
    reports::write(&folder, "other.json", &other);
    let ended = folder.nearbench(&["compare", "base", "other.json", "stopped.json", "--html", "page.html"]);
    assert_eq!((ended.code, ended.stdout.as_str()), (1, ""), "the exit code stays: {ended:?}");
    assert!(ended.stderr.contains("page.html is written"), "{ended:?}");

    let html = std::fs::read_to_string(folder.path().join("page.html")).unwrap();
    assert!(!html.contains("<script>alert"), "what a report says ends nothing");
    let held = page::held_as("comparison", &html);
    let runs = held["runs"].as_array().unwrap();
    let names: Vec<_> = runs.iter().map(|run| (run["run"]["name"].as_str(), run["source"].as_str())).collect();
    let sources = [(Some("shop"), Some("base/report.json")), (Some(hostile), Some("other.json"))];
    assert_eq!(names, [&sources[..], &[(Some("shop"), Some("stopped.json"))]].concat());
    assert_eq!(runs[1]["results"], serde_json::to_value(&other.results).unwrap());
    assert!(runs.iter().all(|run| run.get("plan").is_none()), "receivers are no part of the page");

    let [other, stopped] = held["comparisons"].as_array().unwrap().as_slice() else { panic!("{held:#}") };
    assert_eq!((&other["outcome"], &stopped["outcome"]), (&"regression".into(), &"noResult".into()));
    let plan = &other["plan"];
    assert!(plan["what"].as_str().unwrap().starts_with("The plans differ") && plan["more"].is_null(), "{plan}");
    assert_eq!(plan["fields"][0]["field"], "receivers", "{plan}");
    assert!(plan["fields"][0]["new"].as_str().unwrap().ends_with("… (9)"), "cut as in the table: {plan}");
    assert!(stopped["plan"].is_null() && stopped["environment"].is_null(), "{stopped:#}");
    assert!(stopped["remarks"][0].as_str().unwrap().contains("stopped before its load was over"), "{stopped:#}");
    let settle = other["changes"].as_array().unwrap().iter().find(|change| change["measure"] == "latencyMs.settle.p50");
    assert_eq!(settle.unwrap()["told"], "REGRESSION (p < 0.0001)");
    assert_eq!((&other["tests"][1]["phase"], &other["tests"][1]["chance"]), (&"hold".into(), &"p < 0.0001".into()));
}

#[test]
fn a_page_that_cannot_be_written_so_is_refused() {
    let folder = folder();
    folder.write("pages/other.txt", "");
    for (arguments, told) in [
        (&["--html", "pages"][..], "pages is a folder: name a file, such as pages/comparison.html"),
        (&["--html", ".."], ".. is no name of a file: name one, such as comparison.html"),
        (&["--html", "page.html", "--format", "json"], "cannot be used with"),
    ] {
        let ended = folder.nearbench(&[&["compare", "base", "slower.json"], arguments].concat());
        assert!(ended.code == 2 && ended.stdout.is_empty() && ended.stderr.contains(told), "{told}: {ended:?}");
    }
    let ended = folder.nearbench(&["compare", "base", "nowhere.json", "--html", "page.html"]);
    assert!(ended.code == 2 && ended.stderr.contains("nowhere.json"), "{ended:?}");
    assert!(!folder.path().join("page.html").exists());
}

#[test]
fn nothing_is_printed_unless_all_can_be_read() {
    let folder = folder();
    let whole = std::fs::read_to_string(folder.path().join("slower.json")).unwrap();
    folder.write("cut.json", &whole[..whole.len() / 2]);
    folder.write("other.json", &whole.replace("nearbench.dev/v1alpha1", "nearbench.dev/v2"));
    folder.write("text.json", "TPS 200");
    for (file, told) in [
        ("cut.json", "it ends in the middle of the report"),
        ("other.json", "nearbench.dev/v2"),
        ("text.json", "it is not JSON"),
        ("nowhere.json", "cannot read the report nowhere.json"),
    ] {
        for arguments in [["compare", "base", "slower.json", file], ["compare", file, "base", "slower.json"]] {
            let ended = folder.nearbench(&arguments);
            assert_eq!((ended.code, ended.stdout.as_str()), (2, ""), "{ended:?}");
            assert!(ended.stderr.contains(file) && ended.stderr.contains(told), "{told}: {}", ended.stderr);
        }
    }
    for tolerance in ["-1", "NaN", "inf", "five"] {
        let ended = folder.nearbench(&["compare", "base", "base", &format!("--tolerance={tolerance}")]);
        assert!(ended.code == 2 && ended.stderr.contains("--tolerance"), "{ended:?}");
    }
}
