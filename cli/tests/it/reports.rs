//! Reports that no run made, as `nearbench report` prints them.

use crate::harness::Folder;
use expect_test::{Expect, expect};
use nearbench_core::{Plan, plan::ChainLimits};
use nearbench_core::{
    audit::Audit,
    ensure::evaluate,
    measure::Recorder,
    report::{API_VERSION, BenchmarkReport, Chain, Environment, KIND, Machine, Observed, Restarts, Results, Run},
    schedule::Schedule,
    verdict::{Conduct, judge},
};

const MS: u64 = 1_000_000;

const MANIFEST: &str = r#"
apiVersion: nearbench.dev/v1alpha1
kind: BenchmarkRun
metadata: {name: shop}
spec:
  network: {profile: devnet}
  account: {accountId: bench.near, keys: {count: 3}}
  token: {contractId: ft.bench.near, deploy: {totalSupply: "1000000", mint: "500000"}}
  receivers: {count: 5, prefix: user}
  load:
    phases:
      - {name: ramp, duration: 4, arrivalRate: 5, rampTo: 10}
      - {name: hold, duration: 80, arrivalRate: 10}
  ensure:
    thresholds:
      - {metric: tps.mean, phase: hold, min: "9"}
      - {metric: latencyMs.settle.p95, max: "5000"}
"#;

/// A run as it might have gone.
pub(crate) struct Story {
    /// The manifest's parts that are otherwise.
    pub(crate) replaced: &'static [(&'static str, &'static str)],
    /// Every so many transfers one fails.
    pub(crate) failing: Option<u64>,
    /// How long transfer n takes from its arrival to its execution, in milliseconds.
    pub(crate) execution_ms: fn(u64) -> u64,
    pub(crate) audit: Option<Audit>,
    pub(crate) stopped_early: bool,
}

impl Default for Story {
    fn default() -> Self {
        Self {
            replaced: &[],
            failing: None,
            // Not two blocks alike.
            execution_ms: |n| 1_300 + n * 7_919 % 101,
            audit: Some(Audit { matches: true, supply_conserved: true, receivers: 5, ..Audit::default() }),
            stopped_early: false,
        }
    }
}

impl Story {
    pub(crate) fn report(&self) -> BenchmarkReport {
        let manifest = self.replaced.iter().fold(MANIFEST.to_owned(), |text, (what, with)| {
            assert!(text.contains(what), "{what}");
            text.replace(what, with)
        });
        let plan = plan(&manifest);
        let schedule = Schedule::new(&plan.load.phases);
        let mut record = Recorder::new(&schedule);
        for arrival in schedule.arrivals(0, 1) {
            let at = arrival.intended_ns;
            record.sent(arrival.phase, at, at + MS);
            record.accepted(arrival.phase, at, at + 2 * MS);
            let executed = at + (self.execution_ms)(arrival.n) * MS;
            let block = (executed / (600 * MS) * 600 * MS) as i64;
            if self.failing.is_some_and(|every| arrival.n % every == 0) {
                record.failed(arrival.phase, executed, "unregistered");
            } else {
                record.succeeded(arrival.phase, at, executed, executed + 1_200 * MS, block);
            }
            if arrival.n % 5 == 0 {
                record.attempt(arrival.phase, block, 5);
            }
        }
        let observed = Observed {
            block_time_ms: 600.0,
            max_send_lag_ms: plan.load.max_send_lag_ms,
            audit: self.audit,
            ..Default::default()
        };
        let mut results = Results::new(&record, plan.load.phases.iter().map(|phase| &*phase.name), &observed).unwrap();
        if let Some(audit) = &mut results.audit {
            audit.transfers_found = results.measures.counts.succeeded;
        }
        let ensure = evaluate(&plan.ensure, &results);
        let conduct = Conduct {
            stopped_early: self.stopped_early,
            max_send_lag_ms: plan.load.max_send_lag_ms,
            throttled_ms: Some(0),
            load_ms: schedule.duration_ns() / MS,
            clocks_apart_ms: 0,
        };
        let judgement = judge(&results, &ensure, &conduct);
        BenchmarkReport {
            api_version: API_VERSION.to_owned(),
            kind: KIND.to_owned(),
            run: Run {
                name: plan.name.clone(),
                start_time: "2026-01-01T08:00:00.5Z".to_owned(),
                load_start_time: Some("2026-01-01T08:00:10Z".to_owned()),
                completion_time: "2026-01-01T08:01:40.75Z".to_owned(),
            },
            environment: environment(),
            plan,
            results,
            ensure,
            verdict: judgement.verdict,
            reasons: judgement.reasons,
        }
    }

    /// Writes the report of it as `name`.
    pub(crate) fn write(&self, folder: &Folder, name: &str) {
        write(folder, name, &self.report());
    }
}

pub(crate) fn write(folder: &Folder, name: &str, report: &BenchmarkReport) {
    folder.write(name, &serde_json::to_string_pretty(report).unwrap());
}

fn plan(manifest: &str) -> Plan {
    let run = nearbench_crds::parse(manifest).unwrap();
    nearbench_crds::plan(&run, &nearbench_crds::Resolve { on_devnet: false, config_map: &|_| None }).unwrap()
}

fn environment() -> Environment {
    Environment {
        nearbench_version: "0.1.0".to_owned(),
        chain: Chain {
            software: "nearbench devnet (not NEAR)".to_owned(),
            version: "0.1.0".to_owned(),
            chain_id: "devnet".to_owned(),
            protocol_version: 86,
            limits: ChainLimits {
                protocol_version: 86,
                max_actions: 100,
                max_total_prepaid_gas: 10u64.pow(15),
                max_transaction_size: 1_572_864,
                chunk_gas_limit: 10u64.pow(15),
                transaction_validity_period: 86_400,
            },
            block_time_ms: 600.0,
        },
        machine: Machine { cpus: 2, memory_bytes: 8 << 30, os: "linux 6".to_owned(), cpu_model: "CPU".to_owned() },
        throttled_ms: Some(0),
        steal_percent: Some(0.0),
        polling_error_ms: 25.0,
        peak_rss_bytes: None,
    }
}

/// A report of which every free text tries to be something else.
fn hostile() -> BenchmarkReport {
    let mut report = Story { stopped_early: true, ..Story::default() }.report();
    let text = "<script>alert(1)</script> & \"'`|*_[x](http://x)~$\\#\n| a | b |\r\u{0}\u{1b}[31m]]>\u{fffe}";
    report.run.name = format!("shop {text}");
    report.run.start_time = text.to_owned();
    report.environment.chain.software = text.to_owned();
    report.reasons = vec![format!("stopped {text}")];
    report.results.limited_by.evidence = text.to_owned();
    report.ensure[0].phase = Some(text.to_owned());
    report
}

fn check(report: &BenchmarkReport, format: &str, expected: &Expect) {
    let folder = Folder::new();
    write(&folder, "report.json", report);
    let ended = folder.nearbench(&["report", "report.json", "--format", format]);
    assert_eq!((ended.code, ended.stderr.as_str()), (0, ""), "{ended:?}");
    expected.assert_eq(&ended.stdout);
}

#[test]
fn as_junit_each_threshold_the_audit_and_the_load_are_a_test() {
    check(
        &Story::default().report(),
        "junit",
        &expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="nearbench" tests="4" failures="0" errors="0" skipped="0">
          <testsuite name="shop" tests="4" failures="0" errors="0" skipped="0" timestamp="2026-01-01T08:00:00" time="100.250">
            <properties>
              <property name="verdict" value="PASSED"/>
              <property name="nearbench" value="0.1.0"/>
              <property name="chain" value="nearbench devnet (not NEAR) 0.1.0, chain id devnet"/>
              <property name="target" value="10"/>
              <property name="tps.mean" value="10.00"/>
              <property name="transfers" value="830"/>
              <property name="successRate" value="100.00"/>
              <property name="latencyMs.settle.p95" value="2596.9"/>
              <property name="latencyMs.settle.p99" value="2601.0"/>
            </properties>
            <testcase classname="shop" name="load as scheduled"/>
            <testcase classname="shop" name="audit"/>
            <testcase classname="shop" name="tps.mean in hold &gt;= 9"/>
            <testcase classname="shop" name="latencyMs.settle.p95 &lt;= 5000"/>
          </testsuite>
        </testsuites>
    "#]],
    );
}

#[test]
fn as_junit_what_failed_has_its_numbers() {
    let audit = Audit { missing: 2, receivers: 5, supply_conserved: true, ..Audit::default() };
    let slow = Story { execution_ms: |_| 9_000, failing: Some(4), audit: Some(audit), ..Story::default() };
    check(
        &slow.report(),
        "junit",
        &expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="nearbench" tests="4" failures="3" errors="0" skipped="0">
          <testsuite name="shop" tests="4" failures="3" errors="0" skipped="0" timestamp="2026-01-01T08:00:00" time="100.250">
            <properties>
              <property name="verdict" value="FAILED"/>
              <property name="nearbench" value="0.1.0"/>
              <property name="chain" value="nearbench devnet (not NEAR) 0.1.0, chain id devnet"/>
              <property name="target" value="10"/>
              <property name="tps.mean" value="7.50"/>
              <property name="transfers" value="622"/>
              <property name="successRate" value="74.94"/>
              <property name="latencyMs.settle.p95" value="10207.2"/>
              <property name="latencyMs.settle.p99" value="10207.2"/>
            </properties>
            <testcase classname="shop" name="load as scheduled"/>
            <testcase classname="shop" name="audit">
              <failure message="the chain disagrees with the report: 2 transfers missing, 0 doubled, 0 contradicted, 0 foreign transactions, supply conserved">the chain disagrees with the report: 2 transfers missing, 0 doubled, 0 contradicted, 0 foreign transactions, supply conserved</failure>
            </testcase>
            <testcase classname="shop" name="tps.mean in hold &gt;= 9">
              <failure message="it must be &gt;= 9, and it is 7.50">it must be &gt;= 9, and it is 7.50</failure>
            </testcase>
            <testcase classname="shop" name="latencyMs.settle.p95 &lt;= 5000">
              <failure message="it must be &lt;= 5000, and it is 10207.23">it must be &lt;= 5000, and it is 10207.23</failure>
            </testcase>
          </testsuite>
        </testsuites>
    "#]],
    );
}

#[test]
fn as_junit_the_thresholds_of_a_run_without_a_result_are_skipped() {
    check(
        &Story { audit: None, ..Story::default() }.report(),
        "junit",
        &expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="nearbench" tests="4" failures="1" errors="0" skipped="2">
          <testsuite name="shop" tests="4" failures="1" errors="0" skipped="2" timestamp="2026-01-01T08:00:00" time="100.250">
            <properties>
              <property name="verdict" value="INCONCLUSIVE"/>
              <property name="nearbench" value="0.1.0"/>
              <property name="chain" value="nearbench devnet (not NEAR) 0.1.0, chain id devnet"/>
              <property name="target" value="10"/>
              <property name="tps.mean" value="10.00"/>
              <property name="transfers" value="830"/>
              <property name="successRate" value="100.00"/>
              <property name="latencyMs.settle.p95" value="2596.9"/>
              <property name="latencyMs.settle.p99" value="2601.0"/>
            </properties>
            <testcase classname="shop" name="load as scheduled"/>
            <testcase classname="shop" name="audit">
              <failure message="the chain was not audited">the chain was not audited</failure>
            </testcase>
            <testcase classname="shop" name="tps.mean in hold &gt;= 9">
              <skipped message="it is 10.00, and the run is inconclusive: its numbers are no result"/>
            </testcase>
            <testcase classname="shop" name="latencyMs.settle.p95 &lt;= 5000">
              <skipped message="it is 2596.86, and the run is inconclusive: its numbers are no result"/>
            </testcase>
          </testsuite>
        </testsuites>
    "#]],
    );
}

#[test]
fn as_junit_no_text_ends_its_attribute_or_holds_what_xml_cannot() {
    check(
        &hostile(),
        "junit",
        &expect![[r#"
        <?xml version="1.0" encoding="UTF-8"?>
        <testsuites name="nearbench" tests="4" failures="1" errors="0" skipped="2">
          <testsuite name="shop &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&apos;`|*_[x](http://x)~$\#&#10;| a | b |&#13;��[31m]]&gt;�" tests="4" failures="1" errors="0" skipped="2">
            <properties>
              <property name="verdict" value="INCONCLUSIVE"/>
              <property name="nearbench" value="0.1.0"/>
              <property name="chain" value="&lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&apos;`|*_[x](http://x)~$\#&#10;| a | b |&#13;��[31m]]&gt;� 0.1.0, chain id devnet"/>
              <property name="target" value="10"/>
              <property name="tps.mean" value="10.00"/>
              <property name="transfers" value="830"/>
              <property name="successRate" value="100.00"/>
              <property name="latencyMs.settle.p95" value="2596.9"/>
              <property name="latencyMs.settle.p99" value="2601.0"/>
            </properties>
            <testcase classname="shop &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&apos;`|*_[x](http://x)~$\#&#10;| a | b |&#13;��[31m]]&gt;�" name="load as scheduled">
              <failure message="stopped &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&apos;`|*_[x](http://x)~$\#&#10;| a | b |&#13;��[31m]]&gt;�">stopped &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&apos;`|*_[x](http://x)~$\#&#10;| a | b |&#13;��[31m]]&gt;�</failure>
            </testcase>
            <testcase classname="shop &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&apos;`|*_[x](http://x)~$\#&#10;| a | b |&#13;��[31m]]&gt;�" name="audit"/>
            <testcase classname="shop &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&apos;`|*_[x](http://x)~$\#&#10;| a | b |&#13;��[31m]]&gt;�" name="tps.mean in &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&apos;`|*_[x](http://x)~$\#&#10;| a | b |&#13;��[31m]]&gt;� &gt;= 9">
              <skipped message="it is 10.00, and the run is inconclusive: its numbers are no result"/>
            </testcase>
            <testcase classname="shop &lt;script&gt;alert(1)&lt;/script&gt; &amp; &quot;&apos;`|*_[x](http://x)~$\#&#10;| a | b |&#13;��[31m]]&gt;�" name="latencyMs.settle.p95 &lt;= 5000">
              <skipped message="it is 2596.86, and the run is inconclusive: its numbers are no result"/>
            </testcase>
          </testsuite>
        </testsuites>
    "#]],
    );
}

#[test]
fn as_markdown_the_verdict_comes_first() {
    check(
        &Story::default().report(),
        "md",
        &expect![[r#"
            **PASSED**: shop, 10.00 of 10 transfers/s

            | Measure | Result |
            | --- | --- |
            | TPS | 10.00 mean, 10.20 peak, target 10 |
            | Success | 100.00 % |
            | Settle latency | p95 2.60 s, p99 2.60 s |
            | Transfers | 830 succeeded of 830 offered |
            | Audit | matches, 830 transfers found on chain |
            | Chain | nearbench devnet (not NEAR) 0.1.0, chain id devnet |

            Limited by nothing: 10.0 of 10.0 transfers/s succeeded: the run was as fast as it was asked to be
        "#]],
    );
}

#[test]
fn as_markdown_what_failed_is_told_with_why() {
    let slow = Story { execution_ms: |_| 9_000, failing: Some(4), ..Story::default() };
    check(
        &slow.report(),
        "md",
        &expect![[r#"
            **FAILED**: shop, 7.50 of 10 transfers/s

            | Measure | Result |
            | --- | --- |
            | TPS | 7.50 mean, 7.70 peak, target 10 |
            | Success | 74.94 % |
            | Settle latency | p95 10.21 s, p99 10.21 s |
            | Transfers | 622 succeeded of 830 offered, 208 failed |
            | Audit | matches, 622 transfers found on chain |
            | Chain | nearbench devnet (not NEAR) 0.1.0, chain id devnet |

            What failed:

            - threshold: tps.mean in phase hold must be >= 9, and it is 7.50
            - threshold: latencyMs.settle.p95 must be &lt;= 5000, and it is 10207.23

            Limited by nothing: 7.5 of 10.0 transfers/s succeeded, and nothing that is measured explains it
        "#]],
    );
}

#[test]
fn as_markdown_no_text_is_markup_or_leaves_its_line() {
    check(
        &hostile(),
        "md",
        &expect![[r#"
            **INCONCLUSIVE**: shop &lt;script>alert(1)&lt;/script> &amp; "'\`\|\*\_\[x\](http://x)\~\$\\\# \| a \| b \| ��\[31m\]\]>￾, 10.00 of 10 transfers/s; the numbers are no result

            | Measure | Result |
            | --- | --- |
            | TPS | 10.00 mean, 10.20 peak, target 10 |
            | Success | 100.00 % |
            | Settle latency | p95 2.60 s, p99 2.60 s |
            | Transfers | 830 succeeded of 830 offered |
            | Audit | matches, 830 transfers found on chain |
            | Chain | &lt;script>alert(1)&lt;/script> &amp; "'\`\|\*\_\[x\](http://x)\~\$\\\# \| a \| b \| ��\[31m\]\]>￾ 0.1.0, chain id devnet |

            What failed:

            - load: stopped &lt;script>alert(1)&lt;/script> &amp; "'\`\|\*\_\[x\](http://x)\~\$\\\# \| a \| b \| ��\[31m\]\]>￾

            Limited by nothing: &lt;script>alert(1)&lt;/script> &amp; "'\`\|\*\_\[x\](http://x)\~\$\\\# \| a \| b \| ��\[31m\]\]>￾
        "#]],
    );
}

#[test]
fn as_a_table_no_text_leaves_its_line_or_commands_the_terminal() {
    check(
        &hostile(),
        "table",
        &expect![[r#"
        shop <script>alert(1)</script> & "'`|*_[x](http://x)~$\#�| a | b |���[31m]]>￾: INCONCLUSIVE
          because  stopped <script>alert(1)</script> & "'`|*_[x](http://x)~$\#�| a | b |���[31m]]>￾

          chain         <script>alert(1)</script> & "'`|*_[x](http://x)~$\#�| a | b |���[31m]]>￾, version 0.1.0, chain id devnet, protocol 86, blocks every 600 ms
          TPS           10.00 mean, 10.20 peak (transfers/s succeeded; 2.00 transactions/s)
          transfers     830 offered, 830 accepted, 830 succeeded (100.00 %), 0 failed, 0 cancelled, 0 expired, 0 unknown
          batch size    5.00 mean, 5 max (transfers in a transaction)

          latency ms         mean       p50       p95       p99      p999       max
            settle        2549.9    2551.8    2596.9    2601.0    2601.0    2601.0
            execution     1349.9    1350.7    1395.7    1399.8    1400.8    1400.8
            accept           2.0       2.0       2.0       2.0       2.0       2.0
            send lag         1.0       1.0       1.0       1.0       1.0       1.0

          phase            seconds   offered succeeded       TPS      tx/s  settle p95
            ramp                 4        30        30      7.50      1.50     2595 ms
            hold                80       800       800     10.00      2.00     2597 ms

          thresholds
            ok      tps.mean in <script>alert(1)</script> & "'`|*_[x](http://x)~$\#�| a | b |���[31m]]>￾ >= 9: 10.00
            ok      latencyMs.settle.p95 <= 5000: 2596.86

          audit         matches: 830 transfers found on chain, 0 missing, 0 doubled, 0 contradicted, 0 foreign; 5 balances checked, supply conserved
          limited by    Nothing: <script>alert(1)</script> & "'`|*_[x](http://x)~$\#�| a | b |���[31m]]>￾
    "#]],
    );
}

#[test]
fn what_was_started_again_is_told_part_by_part() {
    let mut report = Story::default().report();
    let by_part = Restarts { run: Some(1), workers: Some(0), generators: Some(3) };
    (report.results.restarts, report.results.restarts_by_part) = (by_part.total(), Some(by_part));
    let folder = Folder::new();
    write(&folder, "report.json", &report);
    let table = folder.nearbench(&["report", "report.json"]).stdout;
    assert!(table.contains("\n  restarts      the run itself 1, load generators 3\n"), "{table}");
}

#[test]
fn as_a_table_and_as_json_it_is_what_it_was_without_the_option() {
    let folder = Folder::new();
    Story::default().write(&folder, "report.json");
    let printed = |arguments: &[&str]| {
        let ended = folder.nearbench(&[&["report", "report.json"], arguments].concat());
        assert_eq!(ended.code, 0, "{ended:?}");
        ended.stdout
    };
    assert_eq!(printed(&["--format", "table"]), printed(&[]));
    assert_eq!(printed(&["--format", "json"]), printed(&["--json"]));
    assert_eq!(printed(&["--json"]), std::fs::read_to_string(folder.path().join("report.json")).unwrap());
    assert_eq!(folder.nearbench(&["report", "report.json", "--json", "--format", "md"]).code, 2);
}
