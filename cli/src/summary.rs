//! The result table: what a person reads at the end of a run. It is made from the report alone, so that a report
//! reads later as the run printed it.

use crate::format::plain;
use nearbench_core::{
    histogram::Latency,
    report::{BenchmarkReport, Measures, PhaseResults, Restarts},
    verdict::Verdict,
};
use std::fmt::Write;

/// The table as text, ending with a line break.
pub(crate) fn table(report: &BenchmarkReport) -> String {
    let mut out = String::new();
    // Writing to a String cannot fail.
    let _ = write(&mut out, report);
    out
}

fn write(out: &mut String, report: &BenchmarkReport) -> std::fmt::Result {
    let BenchmarkReport { run, environment, results, ensure, verdict, reasons, .. } = report;
    let (measures, chain) = (&results.measures, &environment.chain);
    writeln!(out, "{}: {}", plain(&run.name), word(*verdict))?;
    for reason in reasons {
        let word = if *verdict == Verdict::Passed { "note   " } else { "because" };
        writeln!(out, "  {word}  {}", plain(reason))?;
    }
    writeln!(
        out,
        "\n  chain         {}, version {}, chain id {}, protocol {}, blocks every {:.0} ms",
        plain(&chain.software),
        plain(&chain.version),
        plain(&chain.chain_id),
        chain.protocol_version,
        chain.block_time_ms
    )?;
    writeln!(
        out,
        "  TPS           {:.2} mean, {:.2} peak (transfers/s succeeded; {:.2} transactions/s)",
        measures.tps.mean, measures.tps.peak, measures.transactions_per_second.mean
    )?;
    let counts = &measures.counts;
    writeln!(
        out,
        "  transfers     {} offered, {} accepted, {} succeeded{}, {} failed, {} cancelled, {} expired, {} unknown",
        counts.offered,
        counts.accepted,
        counts.succeeded,
        measures.success_rate.map_or_else(String::new, |rate| format!(" ({rate:.2} %)")),
        counts.failed,
        counts.cancelled,
        counts.expired,
        counts.unknown
    )?;
    if counts.not_sent + counts.rejected > 0 {
        writeln!(out, "                {} not sent, {} rejected", counts.not_sent, counts.rejected)?;
    }
    if let Some(batch) = measures.batch_size {
        writeln!(out, "  batch size    {:.2} mean, {} max (transfers in a transaction)", batch.mean, batch.max)?;
    }
    latencies(out, measures)?;
    phases(out, &results.phases)?;
    if !results.errors.is_empty() {
        let errors: Vec<_> = results.errors.iter().map(|(label, count)| format!("{} {count}", plain(label))).collect();
        writeln!(out, "\n  errors        {}", errors.join(", "))?;
    }
    if ensure.is_empty() {
        writeln!(out, "\n  thresholds    none is set")?;
    } else {
        writeln!(out, "\n  thresholds")?;
        for check in ensure {
            let phase = check.phase.as_ref().map_or_else(String::new, |phase| format!(" in {}", plain(phase)));
            let actual = check.actual.map_or_else(|| "no data".to_owned(), |value| format!("{value:.2}"));
            let mark = if check.ok { "ok    " } else { "FAILED" };
            writeln!(out, "    {mark}  {}{phase} {}: {actual}", check.metric, plain(&check.bound))?;
        }
    }
    match results.audit {
        Some(audit) => writeln!(
            out,
            "\n  audit         {}: {} transfers found on chain, {} missing, {} doubled, {} contradicted, {} foreign; \
             {} balances checked, supply {}",
            if audit.matches { "matches" } else { "DOES NOT MATCH" },
            audit.transfers_found,
            audit.missing,
            audit.doubled,
            audit.contradicted,
            audit.foreign,
            audit.receivers,
            if audit.supply_conserved { "conserved" } else { "NOT conserved" },
        )?,
        None => writeln!(out, "\n  audit         none")?,
    }
    writeln!(out, "  limited by    {:?}: {}", results.limited_by.what, plain(&results.limited_by.evidence))?;
    if let Some(by_part) = results.restarts_by_part.filter(|_| results.restarts > 0) {
        writeln!(out, "  restarts      {}", restarts(by_part))?;
    }
    if let Some(percent) = results.chunk_fill {
        writeln!(out, "  chunks        {percent:.1} % of their gas limit in the longest phase")?;
    }
    if let Some(bytes) = environment.peak_rss_bytes {
        writeln!(out, "  peak memory   {} MiB", bytes >> 20)?;
    }
    Ok(())
}

/// Which parts were started again.
fn restarts(Restarts { run, workers, generators }: Restarts) -> String {
    let parts = [("the run itself", run), ("workers", workers), ("load generators", generators)];
    let told = parts.into_iter().filter_map(|(part, times)| Some(format!("{part} {}", times.filter(|n| *n > 0)?)));
    told.collect::<Vec<_>>().join(", ")
}

/// The verdict as it is printed.
pub(crate) fn word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Passed => "PASSED",
        Verdict::Failed => "FAILED",
        Verdict::Inconclusive => "INCONCLUSIVE",
    }
}

fn latencies(out: &mut String, measures: &Measures) -> std::fmt::Result {
    writeln!(out, "\n  latency ms         mean       p50       p95       p99      p999       max")?;
    let latency = &measures.latency_ms;
    for (name, summary) in [
        ("settle", latency.settle),
        ("execution", latency.execution),
        ("accept", latency.accept),
        ("send lag", latency.send_lag),
    ] {
        if let Some(Latency { mean, p50, p95, p99, p999, max, .. }) = summary {
            writeln!(out, "    {name:<10} {mean:>9.1} {p50:>9.1} {p95:>9.1} {p99:>9.1} {p999:>9.1} {max:>9.1}")?;
        }
    }
    Ok(())
}

fn phases(out: &mut String, phases: &[PhaseResults]) -> std::fmt::Result {
    writeln!(out, "\n  phase            seconds   offered succeeded       TPS      tx/s  settle p95")?;
    for PhaseResults { name, duration_ms, measures, .. } in phases {
        let p95 = measures.latency_ms.settle.map_or_else(|| "-".to_owned(), |latency| format!("{:.0} ms", latency.p95));
        writeln!(
            out,
            "    {:<14} {:>7.0} {:>9} {:>9} {:>9.2} {:>9.2} {p95:>11}",
            plain(name),
            *duration_ms as f64 / 1000.0,
            measures.counts.offered,
            measures.counts.succeeded,
            measures.tps.mean,
            measures.transactions_per_second.mean,
        )?;
    }
    Ok(())
}
