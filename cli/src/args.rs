//! The command line: what can be typed, and nothing of what it does.

use clap::{Args, Parser, Subcommand, ValueEnum};
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Measures how many NEAR fungible-token transfers per second a chain, an RPC provider or a transfer service really
/// sustains, and proves it on chain.
#[derive(Parser, Debug)]
#[command(name = "nearbench", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// How log lines look.
    #[arg(long, global = true, value_enum, default_value_t = LogFormat::Text, env = "NEARBENCH_LOG_FORMAT")]
    pub(crate) log_format: LogFormat,
    /// What is logged, such as `info` or `nearbench_worker=debug`.
    #[arg(long, global = true, default_value = "warn", env = "NEARBENCH_LOG")]
    pub(crate) log: String,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

#[derive(Subcommand, Debug)]
pub(crate) enum Command {
    /// Run a benchmark: provision, load, drain, audit, report.
    #[command(
        after_help = "Exit codes: 0 passed, 1 thresholds failed, 2 bad input, 3 inconclusive or stopped, 4 could not run."
    )]
    Run(Run),
    /// Bring up a chain of nearbench's own, with nearcore's JSON-RPC, until Ctrl-C.
    Devnet(Devnet),
    /// Check manifests and say what they would do; nothing is contacted.
    Validate(Validate),
    /// Do what a run does before its load: account, keys, token, receivers, and check each.
    Provision(Provision),
    /// Print the result table of a report.
    Report(Report),
    /// Print the CustomResourceDefinitions.
    Crds,
}

/// Where a manifest's references lead.
#[derive(Args, Debug)]
pub(crate) struct References {
    /// A folder with a folder for each Secret that the manifest names; its files are the Secret's keys, mode 0600.
    #[arg(long, value_name = "DIR", default_value = "secrets", env = "NEARBENCH_SECRETS")]
    pub(crate) secrets: PathBuf,
    /// The same for ConfigMaps.
    #[arg(long, value_name = "DIR", default_value = "configmaps", env = "NEARBENCH_CONFIGMAPS")]
    pub(crate) configmaps: PathBuf,
    /// Run on a devnet of the run's own, with the limits of the manifest's profile: its endpoints and secrets are
    /// not used.
    #[arg(long, value_enum, value_name = "CHAIN")]
    pub(crate) on: Option<On>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum On {
    Devnet,
}

#[derive(Args, Debug)]
pub(crate) struct Run {
    /// The manifest, a BenchmarkRun in YAML or JSON; `-` reads standard input.
    pub(crate) file: PathBuf,
    /// Where report.json goes.
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
    /// Print the report as JSON on standard output instead of the result table.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) references: References,
}

#[derive(Args, Debug)]
pub(crate) struct Devnet {
    /// The address to serve JSON-RPC on.
    #[arg(long, default_value = "127.0.0.1:3030")]
    pub(crate) rpc_addr: SocketAddr,
    /// Keep the chain in this folder and go on with it at the next start, which takes the same flags. Without it the
    /// chain lives in memory.
    #[arg(long, value_name = "DIR")]
    pub(crate) home: Option<PathBuf>,
    /// Between two blocks, 1ms to 1h.
    #[arg(long, default_value = "600ms", value_parser = humantime::parse_duration)]
    pub(crate) block_time: Duration,
    /// The protocol version, 84 to 88.
    #[arg(long, default_value_t = 86)]
    pub(crate) protocol_version: u32,
    /// The chain id: any but those of NEAR's networks.
    #[arg(long, default_value = "devnet")]
    pub(crate) chain_id: String,
    /// The account that owns everything at genesis.
    #[arg(long, default_value = "test.near")]
    pub(crate) account: String,
    /// What it owns, at least 10 NEAR.
    #[arg(long, default_value = "1000000000 NEAR")]
    pub(crate) balance: String,
    /// Where its key is, as a Secret: DIR/nearbench-account.json. It is made (mode 0600) if it is not there.
    #[arg(long, value_name = "DIR", default_value = "secrets/devnet-root")]
    pub(crate) secret: PathBuf,
}

#[derive(Args, Debug)]
pub(crate) struct Validate {
    /// Manifests.
    #[arg(required = true)]
    pub(crate) files: Vec<PathBuf>,
    /// Print the resolved plans as JSON.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) references: References,
}

#[derive(Args, Debug)]
pub(crate) struct Provision {
    /// The manifest.
    pub(crate) file: PathBuf,
    /// Where the run's access keys go, as a Secret: DIR/nearbench-keys.json, mode 0600. A manifest with
    /// `account.keys.secretRef` then uses them.
    #[arg(long, value_name = "DIR", default_value = "secrets/keys")]
    pub(crate) keys: PathBuf,
    #[command(flatten)]
    pub(crate) references: References,
}

#[derive(Args, Debug)]
pub(crate) struct Report {
    /// A report.json, or the folder that holds one.
    pub(crate) path: PathBuf,
    /// Print it as JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
