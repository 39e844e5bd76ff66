//! nearbench, the command. One binary for every role; a role is a subcommand.

mod api;
mod args;
mod artillery;
mod chain;
mod compare;
mod devnet;
mod driver;
mod environment;
mod exit;
mod findings;
mod fleet;
mod follower;
mod format;
mod heal;
mod interrupt;
mod kept;
mod live;
mod log;
mod manifest;
mod measurement;
mod metrics;
mod operator;
mod output;
mod page;
mod patience;
mod progress;
mod provision;
mod remove_keys;
mod report;
mod run;
mod secrets;
mod signal;
mod step;
mod stop;
mod summary;
mod token;
mod top;
mod ui;
mod validate;
mod wait;
mod way;
mod worker;

use args::{Cli, Command, LogFormat};
use clap::Parser;
use exit::Failure;
use std::{io::IsTerminal, process::ExitCode};

fn main() -> ExitCode {
    let cli = Cli::parse();
    if cli.log_format == LogFormat::Json {
        output::use_json();
    }
    output::log_level(&cli.log);
    if let Err(error) = log_to_stderr(&cli) {
        return ended(Err(error));
    }
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return ended(Err(Failure::run(error))),
    };
    let result = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run::run(args).await,
            Command::Devnet(args) => devnet::run(args).await,
            Command::Validate(args) => validate::run(&args),
            Command::Provision(args) => provision::run(args).await,
            Command::Report(args) => report::run(args).await,
            Command::Compare(args) => compare::run(args).await,
            Command::Worker(args) => worker::run(args).await,
            Command::Step(args) => step::run(args).await,
            Command::Wait(args) => wait::run(args).await,
            Command::Ui(args) => ui::run(args).await,
            Command::Top(args) => top::run(args).await,
            Command::Stop(args) => stop::run(args).await,
            Command::RemoveKeys(args) => remove_keys::run(args).await,
            Command::Operator(args) => operator::run(args).await,
            Command::Token(args) => token::run(args),
            Command::Crds => {
                let yaml = nearbench_crds::crd_yaml().map_err(Failure::run)?;
                output::print(yaml).map(|()| exit::PASSED)
            }
        }
    });
    // Blocking work that nobody waits for, such as a block under way, must not hold up the end.
    runtime.shutdown_background();
    ended(result)
}

fn ended(result: Result<u8, Failure>) -> ExitCode {
    match result {
        Ok(code) => ExitCode::from(code),
        Err(failure) => {
            output::error(&failure.error);
            failure.exit_code()
        }
    }
}

/// Whether colours are not wanted: NO_COLOR is set, to anything.
fn no_color() -> bool {
    std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty())
}

fn log_to_stderr(cli: &Cli) -> Result<(), Failure> {
    let filter = tracing_subscriber::EnvFilter::try_new(&cli.log).map_err(|error| {
        Failure::input(anyhow::anyhow!("--log {:?}: {error}; write a level such as info, or target=level", cli.log))
    })?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal() && !no_color());
    match cli.log_format {
        LogFormat::Text => builder.init(),
        LogFormat::Json => builder.event_format(log::JsonLines).init(),
    }
    Ok(())
}
