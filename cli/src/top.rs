//! `nearbench top`: a BenchmarkRun of the cluster in a terminal. Elsewhere, a line for each time that it stands otherwise.

use crate::{
    args,
    exit::Failure,
    format::plain,
    live::{View, Workers, cluster::Run},
    output, wait,
};
use console::{Term, style, truncate_str};
use nearbench_core::histogram::Latency;
use std::{cell::RefCell, time::Duration};

/// The rate is drawn over so many points.
const MOST_BARS: usize = 60;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
const BAR_WIDTH: usize = 40;

pub(crate) async fn run(args: args::Top) -> Result<u8, Failure> {
    let run = Run::find(&args.run, args.namespace).await?;
    let (term, screen) = (Term::stdout(), RefCell::new(Screen::default()));
    let end = run.follow(|view| screen.borrow_mut().show(&term, view)).await?;
    wait::exit_code(end, run.name())
}

/// What is on the terminal.
#[derive(Default)]
struct Screen {
    lines: usize,
    last: String,
}

impl Screen {
    fn show(&mut self, term: &Term, view: &View<'_>) {
        if !term.is_term() {
            let line = line(view);
            if line != self.last {
                // A reader that went away is told by the run's end.
                let _ = output::print(format!("{line}\n"));
                self.last = line;
            }
            return;
        }
        let width = usize::from(term.size().1).max(20);
        let lines = lines(view);
        // A terminal that cannot be written to shows nothing, and the run's end is still told.
        let _ = term.clear_last_lines(self.lines);
        for (n, line) in lines.iter().enumerate() {
            let line = truncate_str(line, width - 1, "…");
            let _ = if n == 0 { term.write_line(&style(line).bold().to_string()) } else { term.write_line(&line) };
        }
        self.lines = lines.len();
    }
}

/// How a run stands, in one line.
fn line(view: &View<'_>) -> String {
    let mut line = plain(&view.stage);
    if !view.phase.is_empty() {
        line += &format!(
            "  {} {} %  offered {}  succeeded {}  failed {}  in flight {}  {:.0} TPS  p95 {}  queue {}",
            plain(&view.phase),
            view.percent,
            view.offered,
            view.succeeded,
            view.figures.failed,
            view.figures.in_flight,
            view.figures.tps,
            latency(view.figures.settle, |settle| settle.p95),
            view.figures.queue_depth
        );
    } else if let Some(message) = &view.message {
        line += &format!("  {}", plain(message));
    }
    line
}

/// The same over several lines.
fn lines(view: &View<'_>) -> Vec<String> {
    let View { name, place, stage, message, phase, percent, remaining_ms, target, figures, .. } = view;
    let mut lines = vec![format!("{}  {}  {}", plain(name), plain(place), plain(stage))];
    if !phase.is_empty() {
        let filled = BAR_WIDTH * (*percent).min(100) as usize / 100;
        let left = remaining_ms.map_or_else(String::new, |ms| {
            format!(", load ends in {}", humantime::format_duration(Duration::from_secs(ms / 1_000)))
        });
        let bar = format!("{}{}", "█".repeat(filled), "░".repeat(BAR_WIDTH - filled));
        lines.push(format!("{bar} {percent} %  {}{left}", plain(phase)));
        let of = target.map_or_else(String::new, |target| format!(" of {target}"));
        lines.push(format!("TPS        {:.1}{of}  {}", figures.tps, bars(view)));
        lines.push(format!(
            "transfers  {} offered, {} succeeded, {} failed, {} rejected, {} in flight",
            view.offered, view.succeeded, figures.failed, figures.rejected, figures.in_flight
        ));
        let settle = |of: fn(Latency) -> f64| latency(figures.settle, of);
        lines.push(format!(
            "settle     p50 {}, p95 {}, p99 {}, longest {}",
            settle(|settle| settle.p50),
            settle(|settle| settle.p95),
            settle(|settle| settle.p99),
            settle(|settle| settle.max)
        ));
        lines.push(format!("queue      {}", figures.queue_depth));
    }
    if let Some(Workers { ready, replicas, restarts }) = view.workers {
        lines.push(format!("workers    {ready} of {replicas} ready, restarts: {restarts}"));
    }
    if let Some(message) = message {
        lines.push(plain(message));
    }
    lines
}

fn latency(settle: Option<Latency>, of: impl Fn(Latency) -> f64) -> String {
    settle.map_or_else(|| "-".to_owned(), |settle| format!("{:.2} s", of(settle) / 1_000.0))
}

/// The rate of success of late, drawn up to the highest of what is seen and the target.
fn bars(view: &View<'_>) -> String {
    let rates: Vec<_> = view.series.iter().rev().take(MOST_BARS).map(|point| point.succeeded).collect();
    let top = rates.iter().copied().chain(view.target).fold(0.0, f64::max);
    let bar = |rate: &f64| {
        let height = if top > 0.0 { rate / top * (BARS.len() - 1) as f64 } else { 0.0 };
        BARS[(height.round() as usize).min(BARS.len() - 1)]
    };
    rates.iter().rev().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::live::Watched;
    use expect_test::expect;
    use nearbench_core::{
        lifecycle::Stage,
        plan::{Arrivals, Phase},
        standing::{Figures, Standing},
    };

    fn watched() -> Watched {
        let mut watched = Watched::new("usdt\n200", "namespace bench");
        watched.load(vec![Phase {
            name: "steady".to_owned(),
            duration_ms: 600_000,
            arrivals: Arrivals::Rate(200.0),
            max_vusers: None,
        }]);
        watched
    }

    fn standing(second: u64) -> Standing {
        let settle = Latency {
            mean: 1_900.0,
            p50: 1_850.0,
            p90: 2_500.0,
            p95: 2_700.0,
            p99: 3_000.0,
            p999: 3_200.0,
            max: 4_000.0,
        };
        let figures = Figures {
            elapsed_ms: second * 1_000,
            accepted: 200 * second,
            in_flight: 400,
            queue_depth: 3,
            tps: 199.96,
            settle: (second > 2).then_some(settle),
            ..Figures::default()
        };
        Standing {
            phase: "steady".to_owned(),
            percent: (second / 6) as u32,
            offered: 200 * second,
            succeeded: (200 * second).saturating_sub(400),
            figures,
            ..Standing::at(Stage::Running)
        }
    }

    #[test]
    fn a_run_under_load_is_drawn_with_its_rate_of_late() {
        let mut watched = watched();
        for second in 0..90 {
            watched.see("Running".to_owned(), None, standing(second), None);
        }
        let workers = Some(Workers { ready: 3, replicas: 4, restarts: 1 });
        let message = Some("a pod was \u{1b}[31mkilled".to_owned());
        let view = watched.see("Running".to_owned(), message, standing(90), workers);
        expect![[r#"
            usdt�200  namespace bench  Running
            ██████░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░░ 15 %  steady, load ends in 8m 30s
            TPS        200.0 of 200  ████████████████████████████████████████████████████████████
            transfers  18000 offered, 17600 succeeded, 0 failed, 0 rejected, 400 in flight
            settle     p50 1.85 s, p95 2.70 s, p99 3.00 s, longest 4.00 s
            queue      3
            workers    3 of 4 ready, restarts: 1
            a pod was �[31mkilled
            Running  steady 15 %  offered 18000  succeeded 17600  failed 0  in flight 400  200 TPS  p95 2.70 s  queue 3
        "#]]
        .assert_eq(&(lines(&view).join("\n") + "\n" + &line(&view) + "\n"));
    }

    #[test]
    fn before_its_load_there_are_no_figures() {
        let mut watched = watched();
        let view = watched.see(
            "Pending".to_owned(),
            Some("it waits for its turn".to_owned()),
            Standing::at(Stage::Pending),
            None,
        );
        assert_eq!(lines(&view), ["usdt\u{fffd}200  namespace bench  Pending", "it waits for its turn"]);
        assert_eq!(line(&view), "Pending  it waits for its turn");
    }
}
