//! The command line: what can be typed, and nothing of what it does.

use clap::{Args, Parser, Subcommand, ValueEnum};
use nearbench_core::Amount;
use nearbench_worker::Scope;
use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// Measures how many NEAR fungible-token transfers per second a chain, an RPC provider or a transfer service really
/// sustains, and proves it on chain.
#[derive(Parser, Debug)]
#[command(name = "nearbench", version, max_term_width = 100)]
pub(crate) struct Cli {
    /// How log lines, errors and progress look.
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
    #[command(
        after_help = "It fails as it is told to, while it runs: POST /faults takes rules such as {\"rules\": [{\"fault\": \"drop\", \
                      \"probability\": 0.1}]}, GET reads them, DELETE clears them. README.md lists the faults."
    )]
    Devnet(Devnet),
    /// Check manifests and say what they would do; nothing is contacted.
    Validate(Validate),
    /// Do what a run does before its load: account, keys, token, receivers, and check each.
    Provision(Provision),
    /// Print a report: its result table, a page for a browser, or what a CI or a chat takes.
    Report(Report),
    /// Set runs beside the one that they are measured by: what differs, and whether that is a regression.
    #[command(
        after_help = "Exit codes: 0 no regression, 1 a regression, 2 bad input, 3 one of the runs is inconclusive."
    )]
    Compare(Compare),
    /// Carry transfers to the chain as one of the workers of a run, until SIGTERM: `run --workers` starts them.
    Worker(Worker),
    /// Do one step of a run whose worker processes somebody else keeps: what the operator's Jobs do.
    Step(Step),
    /// Wait for a BenchmarkRun of the cluster, and end with the exit code that `run` would have.
    Wait(Wait),
    /// Show a BenchmarkRun of the cluster in a browser, live, until Ctrl-C: on this machine, with your own rights.
    Ui(Ui),
    /// Show a BenchmarkRun of the cluster in this terminal, live, and end with the exit code that `run` would have.
    Top(Top),
    /// End the load of runs in the cluster now: what is under way is finished, audited and reported. Waits for that.
    #[command(
        after_help = "Exit codes: of run/NAME those of `run`; with --all 0 once nothing keeps a run from being deleted."
    )]
    Stop(Stop),
    /// Take access keys off a manifest's account: those of a run that was deleted before it could do that itself.
    RemoveKeys(RemoveKeys),
    /// Print the CustomResourceDefinition of BenchmarkRun.
    Crds,
    /// Reconcile the BenchmarkRuns of a cluster, until SIGTERM: what the chart installs.
    Operator(Operator),
    /// Make a token of the transfer API: it is printed once, and its hash is added to a file.
    Token(Token),
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
}

/// Another chain than the manifest's.
#[derive(Args, Clone, Copy, Debug)]
pub(crate) struct Elsewhere {
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
    #[arg(required_unless_present_any = ["plan", "resume"], conflicts_with = "plan")]
    pub(crate) file: Option<PathBuf>,
    /// Run a resolved plan instead: the folder of a plan.json, or a plan.json.gz.
    #[arg(long, value_name = "DIR", conflicts_with = "on")]
    pub(crate) plan: Option<PathBuf>,
    /// Finish the run that --out holds, which was killed or could not go on: what was accepted is brought to its end, and
    /// the schedule goes on where it would be by now. Needs no manifest.
    #[arg(long)]
    pub(crate) resume: bool,
    /// Say how the run stands, as JSON on http://ADDR/standing, for as long as it lasts.
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// Put the report into this ConfigMap too, which must be there, in the namespace of this pod.
    #[arg(long, value_name = "CONFIGMAP")]
    pub(crate) report_to: Option<String>,
    /// Where report.json and report.html go, and, until then, what --resume needs.
    #[arg(long, value_name = "DIR", default_value = "out")]
    pub(crate) out: PathBuf,
    /// Print the report as JSON on standard output instead of the result table.
    #[arg(long)]
    pub(crate) json: bool,
    /// Serve Prometheus' metrics on http://ADDR/metrics. Of several workers each has its own: they have the ports that
    /// follow.
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics_addr: Option<SocketAddr>,
    /// Show the run in a browser while it goes on: on http://127.0.0.1:PORT, a free port where none is named.
    #[arg(long, value_name = "PORT", num_args = 0..=1, require_equals = true, default_missing_value = "0")]
    pub(crate) ui: Option<u16>,
    /// With `load.via: external`: where those who send reach the transfer API, as 127.0.0.1:3001. Of several workers it is
    /// the first one's; the others have the ports that follow.
    #[arg(long, value_name = "ADDR")]
    pub(crate) api: Option<SocketAddr>,
    /// Who may send: a file of `nearbench token`. Without it the API listens on this machine alone.
    #[arg(long, value_name = "FILE")]
    pub(crate) tokens: Option<PathBuf>,
    /// So many worker processes on a Redis that they share, in place of the manifest's workers.replicas.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=64))]
    pub(crate) workers: Option<u32>,
    /// The Redis that the workers share, where it asks for no password: redis://HOST:PORT.
    #[arg(long, value_name = "URL", conflicts_with = "redis_url_file")]
    pub(crate) redis_url: Option<String>,
    /// The same, in a file of mode 0600.
    #[arg(long, value_name = "FILE", env = "NEARBENCH_REDIS_URL_FILE")]
    pub(crate) redis_url_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) references: References,
    #[command(flatten)]
    pub(crate) elsewhere: Elsewhere,
}

#[derive(Args, Debug)]
pub(crate) struct Worker {
    /// The folder of the run's plan.json, or its plan.json.gz.
    #[arg(long, value_name = "DIR", env = "NEARBENCH_PLAN")]
    pub(crate) plan: PathBuf,
    /// The folder of the run's nearbench-keys.json, mode 0600: the keys that transfers are signed with. With --listen also
    /// of its nearbench-namespace, which transfer ids are made with.
    #[arg(long, value_name = "DIR", env = "NEARBENCH_KEYS")]
    pub(crate) keys: PathBuf,
    /// Under which name the Redis knows the run, if not under the plan's.
    #[arg(long, value_name = "ID", env = "NEARBENCH_RUN_ID")]
    pub(crate) run_id: Option<String>,
    /// A folder with a folder for each Secret that the plan's endpoints name.
    #[arg(long, value_name = "DIR", default_value = "secrets", env = "NEARBENCH_SECRETS")]
    pub(crate) secrets: PathBuf,
    /// A file of mode 0600 with the URL of the Redis that the workers share.
    #[arg(long, value_name = "FILE", env = "NEARBENCH_REDIS_URL_FILE")]
    pub(crate) redis_url_file: PathBuf,
    /// Where the transfer API is served; nowhere without it.
    #[arg(long, value_name = "ADDR", env = "NEARBENCH_LISTEN")]
    pub(crate) listen: Option<SocketAddr>,
    /// Who may use the API: a file of `nearbench token`. Without it the API listens on this machine alone.
    #[arg(long, value_name = "FILE", requires = "listen", env = "NEARBENCH_TOKENS")]
    pub(crate) tokens: Option<PathBuf>,
    /// Serve Prometheus' metrics on http://ADDR/metrics, also where no API is served; the API has them too.
    #[arg(long, value_name = "ADDR", env = "NEARBENCH_METRICS_ADDR")]
    pub(crate) metrics_addr: Option<SocketAddr>,
    /// Where the API keeps what it takes while the Redis is away, until that is back: a folder that outlives the process, of
    /// this worker alone. Without it clients are told to come again.
    #[arg(long, value_name = "DIR", requires = "listen", env = "NEARBENCH_SPOOL")]
    pub(crate) spool: Option<PathBuf>,
    /// End in order once standard input does, which is when whoever started this process is gone.
    #[arg(long, hide = true)]
    pub(crate) while_stdin: bool,
}

/// A step of a run. The run's Redis is all that one leaves to the next; each may be done again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StepName {
    /// Account, keys, token and receivers; then the keys' nonces into the Redis.
    Provision,
    /// A generator's share of the load.
    Load,
    /// Work off what was accepted, search the chain for every transfer, and report.
    Conclude,
    /// Take the run's keys off the account.
    CleanUp,
}

#[derive(Args, Debug)]
pub(crate) struct Step {
    #[arg(value_enum)]
    pub(crate) step: StepName,
    /// The folder of the run's plan.json, or its plan.json.gz.
    #[arg(long, value_name = "DIR", env = "NEARBENCH_PLAN")]
    pub(crate) plan: PathBuf,
    /// Under which name the Redis knows the run, if not under the plan's.
    #[arg(long, value_name = "ID", env = "NEARBENCH_RUN_ID")]
    pub(crate) run_id: Option<String>,
    /// The folder of what the run's processes share: nearbench-keys.json, nearbench-namespace and nearbench-token, each where
    /// the step needs it.
    #[arg(long, value_name = "DIR", env = "NEARBENCH_KEYS")]
    pub(crate) keys: PathBuf,
    /// A folder with a folder for each Secret that the plan names.
    #[arg(long, value_name = "DIR", default_value = "secrets", env = "NEARBENCH_SECRETS")]
    pub(crate) secrets: PathBuf,
    /// A file of mode 0600 with the URL of the Redis that the run's processes share.
    #[arg(long, value_name = "FILE", env = "NEARBENCH_REDIS_URL_FILE")]
    pub(crate) redis_url_file: PathBuf,
    /// Say how the step stands, as JSON on http://ADDR/standing, and what it counts on /metrics, for as long as it lasts.
    #[arg(long, value_name = "ADDR", env = "NEARBENCH_STANDING")]
    pub(crate) listen: Option<SocketAddr>,
    /// Load: which of the generators this is, from 0.
    #[arg(long, value_name = "N", default_value_t = 0, env = "JOB_COMPLETION_INDEX")]
    pub(crate) generator: u32,
    /// Load, with `load.via: http`: where the workers' API is, HOST:PORT.
    #[arg(long, value_name = "HOST:PORT")]
    pub(crate) api: Option<String>,
    /// Conclude: put the report into this ConfigMap too, which must be there, in the namespace of this pod.
    #[arg(long, value_name = "CONFIGMAP")]
    pub(crate) report_to: Option<String>,
    /// Conclude: where report.json and report.html go.
    #[arg(long, value_name = "DIR")]
    pub(crate) out: Option<PathBuf>,
    /// Conclude: the load was cut short.
    #[arg(long)]
    pub(crate) stopped_early: bool,
    /// Clean up: remove what the run has in a Redis that outlives it.
    #[arg(long)]
    pub(crate) forget: bool,
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
    /// Blocks of an epoch.
    #[arg(long, value_name = "BLOCKS", default_value_t = 43_200)]
    pub(crate) epoch_length: u64,
    /// Blocks for which a transaction stays valid after its base block, at most two epochs.
    #[arg(long, value_name = "BLOCKS", default_value_t = 86_400)]
    pub(crate) validity_period: u64,
    /// Collect what is older than that many epochs, the current one included, at least 3: blocks, outcomes and states
    /// are then answered as by a nearcore node that is not archival. Without it everything is kept.
    #[arg(long, value_name = "EPOCHS")]
    pub(crate) keep_epochs: Option<u64>,
    /// Let POST /endpoints/NAME answer from everything, as an archival node beside those that collect; repeatable.
    #[arg(long, value_name = "NAME")]
    pub(crate) archival: Vec<String>,
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
    /// Print the resolved plan as JSON: an object for one manifest; for several an array, which leaves out those with
    /// faults.
    #[arg(long)]
    pub(crate) json: bool,
    #[command(flatten)]
    pub(crate) references: References,
    #[command(flatten)]
    pub(crate) elsewhere: Elsewhere,
}

#[derive(Args, Debug)]
pub(crate) struct Provision {
    /// The manifest.
    pub(crate) file: PathBuf,
    /// Where the run's access keys go, as a Secret: DIR/nearbench-keys.json, mode 0600. A manifest with
    /// `account.keys.secretRef` then uses them.
    #[arg(long, value_name = "DIR", default_value = "secrets/keys")]
    pub(crate) keys: PathBuf,
    /// For workers that no run starts: write their plan.json here, the secret of their transfer ids beside their keys, and
    /// the keys' nonces into the Redis that they share.
    #[arg(long, value_name = "DIR", requires = "redis_url_file")]
    pub(crate) plan: Option<PathBuf>,
    /// A file of mode 0600 with the URL of that Redis.
    #[arg(long, value_name = "FILE", env = "NEARBENCH_REDIS_URL_FILE")]
    pub(crate) redis_url_file: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) references: References,
}

#[derive(Args, Debug)]
pub(crate) struct Report {
    /// A report.json, the folder that holds one, or run/NAME: that of a BenchmarkRun in the cluster. Also what `artillery run
    /// --output` wrote.
    pub(crate) path: PathBuf,
    /// The namespace of run/NAME; the kubeconfig's if it is not given.
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// What it looks like.
    #[arg(long, value_enum, default_value_t = ReportFormat::Table)]
    pub(crate) format: ReportFormat,
    /// The same as --format json.
    #[arg(long, conflicts_with = "format")]
    pub(crate) json: bool,
    /// Write it as a page for a browser into this file instead: one file that needs no other and no network.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["json", "format"])]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum ReportFormat {
    /// The result table, as the run printed it.
    Table,
    /// The report itself, byte by byte.
    Json,
    /// JUnit's XML, for a CI: a test for each threshold, for the audit and for the load.
    Junit,
    /// A summary in Markdown, for a chat or a pull request.
    Md,
}

#[derive(Args, Debug)]
pub(crate) struct Compare {
    /// What the others are measured by: a report.json, the folder that holds one, or run/NAME.
    pub(crate) base: PathBuf,
    /// The others.
    #[arg(required = true)]
    pub(crate) new: Vec<PathBuf>,
    /// The namespace of run/NAME; the kubeconfig's if it is not given.
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// By how much a number may be worse.
    #[arg(long, value_name = "PERCENT", default_value = "5", value_parser = percent)]
    pub(crate) tolerance: f64,
    /// What it looks like.
    #[arg(long, value_enum, default_value_t = CompareFormat::Table)]
    pub(crate) format: CompareFormat,
    /// Write it as a page for a browser into this file instead, the runs laid over each other in its charts: one file that
    /// needs no other and no network.
    #[arg(long, value_name = "FILE", conflicts_with = "format")]
    pub(crate) html: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CompareFormat {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// In Markdown, for a chat or a pull request.
    Md,
}

fn percent(text: &str) -> Result<f64, String> {
    let percent = text.parse().ok().filter(|percent: &f64| percent.is_finite() && *percent >= 0.0);
    percent.ok_or_else(|| "write a number of percent that is not below 0, such as 5 or 2.5".to_owned())
}

#[derive(Args, Debug)]
pub(crate) struct Wait {
    /// run/NAME.
    #[arg(value_name = "run/NAME")]
    pub(crate) run: String,
    /// Its namespace; the kubeconfig's if it is not given.
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// How long.
    #[arg(long, default_value = "1h", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct Ui {
    /// run/NAME.
    #[arg(value_name = "run/NAME")]
    pub(crate) run: String,
    /// Its namespace; the kubeconfig's if it is not given.
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// The port of 127.0.0.1 that the page is on; a free one if it is 0.
    #[arg(long, value_name = "PORT", default_value_t = 0)]
    pub(crate) port: u16,
}

#[derive(Args, Debug)]
pub(crate) struct Top {
    /// run/NAME.
    #[arg(value_name = "run/NAME")]
    pub(crate) run: String,
    /// Its namespace; the kubeconfig's if it is not given.
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
}

#[derive(Args, Debug)]
pub(crate) struct Stop {
    /// run/NAME.
    #[arg(value_name = "run/NAME", required_unless_present = "all")]
    pub(crate) run: Option<String>,
    /// Its namespace; the kubeconfig's if it is not given.
    #[arg(long, short, value_name = "NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Every run of the namespace that is not over. What is not over in time is let go: it can be deleted, and its access
    /// keys may stay on the account.
    #[arg(long, conflicts_with = "run")]
    pub(crate) all: bool,
    /// The same in all namespaces.
    #[arg(long, requires = "all", conflicts_with_all = ["namespace", "run"])]
    pub(crate) all_namespaces: bool,
    /// How long.
    #[arg(long, default_value = "5m", value_parser = humantime::parse_duration)]
    pub(crate) timeout: Duration,
}

#[derive(Args, Debug)]
pub(crate) struct RemoveKeys {
    /// The manifest: its account's master key takes the keys off.
    pub(crate) file: PathBuf,
    /// Public keys, such as ed25519:…; no other key is touched.
    #[arg(value_name = "KEY", required = true)]
    pub(crate) keys: Vec<String>,
    #[command(flatten)]
    pub(crate) references: References,
}

#[derive(Args, Debug)]
pub(crate) struct Operator {
    /// The image that runs are carried out with: this one.
    #[arg(long, env = "NEARBENCH_IMAGE")]
    pub(crate) image: String,
    /// When a node pulls it.
    #[arg(long, value_enum, default_value_t = PullPolicy::IfNotPresent, env = "NEARBENCH_IMAGE_PULL_POLICY")]
    pub(crate) image_pull_policy: PullPolicy,
    /// The image of the Redis that a run without `spec.store` gets: it has redis-server on its path.
    #[arg(long, default_value = "redis:7.2", env = "NEARBENCH_REDIS_IMAGE")]
    pub(crate) redis_image: String,
    /// Whether a run's own Redis and chain keep their data on volumes, which outlive a pod.
    #[arg(long, default_value_t = true, action = clap::ArgAction::Set, env = "NEARBENCH_VOLUMES")]
    pub(crate) volumes: bool,
    /// The storage class of the volumes; the cluster's own choice without it.
    #[arg(long, env = "NEARBENCH_STORAGE_CLASS")]
    pub(crate) storage_class: Option<String>,
    /// The size of each volume.
    #[arg(long, default_value = "1Gi", env = "NEARBENCH_STORAGE_SIZE")]
    pub(crate) storage_size: String,
    /// At most so many runs at once; the others wait. 0: no bound.
    #[arg(long, default_value_t = 10, env = "NEARBENCH_MAX_CONCURRENT_RUNS")]
    pub(crate) max_concurrent_runs: u32,
    /// The pod that this is: one of several leads.
    #[arg(long, default_value = "nearbench-operator", env = "NEARBENCH_POD_NAME")]
    pub(crate) pod_name: String,
    /// Its namespace, where the Leases are that operators and runs agree by.
    #[arg(long, default_value = "default", env = "NEARBENCH_POD_NAMESPACE")]
    pub(crate) pod_namespace: String,
    /// Only the runs of this namespace; all without it.
    #[arg(long, env = "NEARBENCH_NAMESPACE")]
    pub(crate) namespace: Option<String>,
    /// Where /livez, /readyz and /metrics are served.
    #[arg(long, default_value = "0.0.0.0:8081", env = "NEARBENCH_ADMIN_ADDR")]
    pub(crate) admin_addr: SocketAddr,
}

#[derive(Args, Debug)]
pub(crate) struct Token {
    /// Whose it is: 1 to 64 of a-z, 0-9, '-', '_' and '.'. A new token under the same name keeps its client's keys.
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// The file of hashes that workers read; made if it is not there, mode 0600.
    #[arg(long, value_name = "FILE", env = "NEARBENCH_TOKENS")]
    pub(crate) file: PathBuf,
    /// What it may be used for: transfer (submit, cancel), read, admin (retry).
    #[arg(long = "scope", value_name = "SCOPE", value_delimiter = ',', default_value = "transfer,read")]
    pub(crate) scopes: Vec<Scope>,
    /// Transfers and other requests a second, on average; each worker counts for itself. No limit without it.
    #[arg(long, value_name = "N")]
    pub(crate) requests_per_second: Option<u32>,
    /// Token units that it may have transferred in a day (UTC), by all workers together. No limit without it.
    #[arg(long, value_name = "UNITS")]
    pub(crate) daily_cap: Option<Amount>,
}

/// When a node pulls an image, by Kubernetes' names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
pub(crate) enum PullPolicy {
    Always,
    IfNotPresent,
    Never,
}

impl PullPolicy {
    pub(crate) fn as_kubernetes(self) -> &'static str {
        match self {
            Self::Always => "Always",
            Self::IfNotPresent => "IfNotPresent",
            Self::Never => "Never",
        }
    }
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
