//! `nearbench ui`: a BenchmarkRun of the cluster in a browser, by the rights of whoever watches.

use crate::{
    args,
    exit::{self, Failure},
    follower,
    live::{
        cluster::Run,
        server::{Screen, Server},
    },
    output,
    signal::Ended,
    wait::End,
};
use anyhow::Context;
use nearbench_core::report::BenchmarkReport;

pub(crate) async fn run(args: args::Ui) -> Result<u8, Failure> {
    let run = Run::find(&args.run, args.namespace).await?;
    let server = Server::start(args.port, "--port").await?;
    let mut ended = Ended::listen().map_err(Failure::run)?;
    output::note(&format!("run/{} is shown at {}; Ctrl-C ends this, not the run", run.name(), server.url()));
    tokio::select! {
        () = ended.next() => {}
        shown = show(&run, server.screen()) => {
            output::note(&format!("{}; it is shown until Ctrl-C", shown?));
            ended.next().await;
        }
    }
    server.end().await;
    Ok(exit::PASSED)
}

/// Shows a run to its end; how it ended.
async fn show(run: &Run, screen: &Screen) -> Result<String, Failure> {
    let name = run.name();
    let why = match run.follow(|view| screen.show(view)).await? {
        End::Finished(verdict) => match report(run).await {
            Ok(report) => {
                screen.report(&report);
                return Ok(format!("run/{name} is over: {verdict:?}"));
            }
            Err(failure) => output::in_a_line(&failure.error),
        },
        End::Refused(faults) => format!("run/{name} cannot be run: {faults}"),
        End::Gone => format!("run/{name} was deleted"),
    };
    screen.ended(&why);
    Ok(why)
}

/// The text of its report, which the page can draw.
async fn report(run: &Run) -> Result<String, Failure> {
    let text = follower::report_of(run.name(), Some(run.namespace())).await?;
    serde_json::from_str::<BenchmarkReport>(&text)
        .with_context(|| format!("the report of run/{} is not one of this version of nearbench", run.name()))
        .map_err(Failure::input)?;
    Ok(text)
}
