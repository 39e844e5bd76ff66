//! The transfer API as a run and its workers serve it: who may ask, where, and where in the load what they ask stands.

use crate::{args, exit::Failure, metrics::Metrics};
use anyhow::{Context, anyhow};
use nearbench_core::{Plan, plan::Via, schedule::Schedule};
use nearbench_load::{CLIENT, Target};
use nearbench_near::SecretText;
use nearbench_store::Records;
use nearbench_worker::{Api, Grant, Scope, Settings, Stamp, Tally, Tokens, may_listen};
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};
use tokio::{net::TcpListener, task::JoinHandle};
use tokio_util::sync::CancellationToken;

/// The file, beside a run's keys, with the secret that transfer ids are made with: 64 hexadecimal digits.
pub(crate) const NAMESPACE_FILE: &str = "nearbench-namespace";

/// How long requests without an answer are asked again once the schedule has ended, at most.
const GRACE: Duration = Duration::from_secs(30);

/// Where those who send in place of the run's load reach the API, and who may.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    /// The first worker's address; the next ones have the ports that follow.
    address: SocketAddr,
    tokens: Option<PathBuf>,
}

impl Access {
    /// What the command line says of it, for `workers` processes. Nothing is made; that it can be is checked.
    pub(crate) fn of(args: &args::Run, plan: &Plan, workers: u32) -> Result<Option<Self>, Failure> {
        let (address, tokens) = match (plan.load.via, args.api, &args.tokens) {
            (Via::External, Some(address), tokens) => (address, tokens.clone()),
            (Via::External, None, _) => {
                return Err(Failure::input(anyhow!(
                    "spec.load.via is external: say where those who send reach the transfer API, such as with --api \
                     127.0.0.1:3001"
                )));
            }
            (_, None, None) => return Ok(None),
            _ => {
                return Err(Failure::input(anyhow!(
                    "--api, --tokens: they are for those who send in place of the run's own load: set spec.load.via to \
                     external, or leave them out"
                )));
            }
        };
        let access = Self { address, tokens };
        access.tokens()?;
        for address in access.addresses(workers)? {
            std::net::TcpListener::bind(address)
                .with_context(|| format!("--api {address}: cannot serve there"))
                .map_err(Failure::input)?;
        }
        Ok(Some(access))
    }

    /// Each worker's.
    pub(crate) fn addresses(&self, workers: u32) -> Result<Vec<SocketAddr>, Failure> {
        let (ip, first) = (self.address.ip(), u32::from(self.address.port()));
        (first..first + workers)
            .map(|port| u16::try_from(port).ok().map(|port| SocketAddr::new(ip, port)))
            .collect::<Option<_>>()
            .ok_or_else(|| {
                Failure::input(anyhow!("--api {}: there are no {workers} ports from there on", self.address))
            })
    }

    /// The one address of a run in one process.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Who may ask; `None`: whoever is on this machine.
    pub(crate) fn tokens(&self) -> Result<Option<Tokens>, Failure> {
        read_tokens(self.tokens.as_deref(), self.address)
    }

    /// The lines of the token file, for workers.
    pub(crate) fn token_lines(&self) -> Result<Option<SecretText>, Failure> {
        self.tokens.as_deref().map(SecretText::read).transpose().map_err(Failure::input)
    }
}

/// Reads who may use an API that listens on `address`.
pub(crate) fn read_tokens(file: Option<&Path>, address: SocketAddr) -> Result<Option<Tokens>, Failure> {
    may_listen(address.ip(), file.is_some()).map_err(Failure::input)?;
    let read = |file: &Path| Tokens::read(file).with_context(|| format!("--tokens {}", file.display()));
    file.map(read).transpose().map_err(Failure::input)
}

/// The key of the load to the API, and the line by which the API knows it.
pub(crate) fn key_of_the_load() -> Result<(Arc<str>, String), Failure> {
    let grant =
        Grant { name: CLIENT.to_owned(), scopes: vec![Scope::Transfer], requests_per_second: None, daily_cap: None };
    let (token, line) = grant.token(rand::random()).map_err(Failure::run)?;
    Ok((format!("Bearer {}", token.expose()).into(), line))
}

/// How the API of `plan`'s run works, in this process and in its workers.
pub(crate) fn settings(
    plan: &Plan,
    namespace: [u8; 32],
    tokens: Option<Tokens>,
    tally: Arc<Tally>,
    metrics: Metrics,
) -> Settings {
    let schedule = Arc::new(Schedule::new(&plan.load.phases));
    let defaults = Settings::new(namespace, plan.token.contract_id.clone());
    let stamp = {
        let (schedule, tally, via) = (schedule.clone(), tally.clone(), plan.load.via);
        move |client: &str, key: Option<&str>| {
            let now_ns = tally.now_ns();
            let number = key.filter(|_| via == Via::Http && client == CLIENT).and_then(|key| key.parse().ok());
            match number.and_then(|number| schedule.arrival(number)) {
                Some(arrival) => Stamp {
                    sequence: arrival.n,
                    phase: arrival.phase,
                    intended_ns: arrival.intended_ns,
                    sent_ns: now_ns,
                },
                // Whoever else sends is in no schedule: it was meant to come when it came.
                None => Stamp {
                    sequence: u64::MAX,
                    phase: schedule.phase_at(now_ns) as u16,
                    intended_ns: now_ns,
                    sent_ns: now_ns,
                },
            }
        }
    };
    let turned_away = move |count: usize| {
        let now_ns = tally.now_ns();
        let (phase, mut recorder) = (schedule.phase_at(now_ns) as u16, tally.recorder());
        for _ in 0..count {
            recorder.sent(phase, now_ns, now_ns);
            recorder.rejected(phase, now_ns);
        }
    };
    let taken = metrics.taken();
    Settings {
        metrics: Arc::new(move |accept| metrics.answer(accept)),
        taken: Arc::new(move |count| _ = taken.fetch_add(count as u64, Ordering::Relaxed)),
        payer: Some(plan.account.account_id.clone()),
        tokens,
        max_depth: plan.engine.max_queue_depth,
        // The load bounds its own.
        max_connections: if plan.load.via == Via::Http { usize::MAX >> 4 } else { defaults.max_connections },
        stamp: Arc::new(stamp),
        turned_away: if plan.load.via == Via::External { Arc::new(turned_away) } else { defaults.turned_away },
        ..defaults
    }
}

/// Takes an address to serve the API on.
pub(crate) async fn listen(address: SocketAddr) -> Result<TcpListener, Failure> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("cannot serve the transfer API on {address}"))
        .map_err(Failure::input)
}

/// Serves the API over `store` until `shutdown`, and then for as long as requests are under way.
pub(crate) fn serve<S: Records>(
    listener: TcpListener,
    store: Arc<S>,
    settings: Settings,
    shutdown: CancellationToken,
) -> JoinHandle<()> {
    let api = Api::new(store, settings);
    tokio::spawn(async move {
        if let Err(error) = nearbench_worker::serve(listener, api, shutdown).await {
            tracing::error!(%error, "the transfer API is not served any more");
        }
    })
}

/// How the load reaches the API.
pub(crate) fn target(plan: &Plan, workers: Vec<SocketAddr>, authorization: Arc<str>) -> Target {
    let timeout = Duration::from_millis(plan.load.timeout_ms);
    Target {
        workers,
        authorization,
        token: plan.token.contract_id.clone(),
        timeout,
        connections: plan.load.connections,
        max_sockets: plan.load.max_sockets,
        grace: timeout.min(GRACE),
    }
}

/// Reads the secret of the run whose keys are in `folder`.
pub(crate) fn read_namespace(folder: &Path) -> Result<[u8; 32], Failure> {
    let path = folder.join(NAMESPACE_FILE);
    let text = SecretText::read(&path).map_err(Failure::input)?;
    let mut namespace = [0; 32];
    hex::decode_to_slice(text.expose().trim(), &mut namespace)
        .map_err(|_| {
            anyhow!("{} is no secret of 64 hexadecimal digits; `nearbench provision` makes it", path.display())
        })
        .map_err(Failure::input)?;
    Ok(namespace)
}
