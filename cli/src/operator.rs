//! `nearbench operator`: the operator as a process.

use crate::{
    args,
    exit::{self, Failure},
    output,
    signal::Ended,
};
use nearbench_operator::{Config, Kit, Volumes};
use tokio_util::sync::CancellationToken;

pub(crate) async fn run(args: args::Operator) -> Result<u8, Failure> {
    let stop = CancellationToken::new();
    let mut ended = Ended::listen().map_err(Failure::run)?;
    let stopping = stop.clone();
    tokio::spawn(async move {
        ended.next().await;
        tracing::info!("stopping: what is under way is finished first");
        stopping.cancel();
    });
    let config = Config {
        kit: Kit {
            image: args.image,
            pull_policy: args.image_pull_policy.as_kubernetes().to_owned(),
            redis_image: args.redis_image,
            volumes: args.volumes.then_some(Volumes { class: args.storage_class, size: args.storage_size }),
            json_logs: output::is_json(),
        },
        max_concurrent_runs: args.max_concurrent_runs,
        pod: args.pod_name,
        own_namespace: args.pod_namespace,
        namespace: args.namespace,
        admin_addr: args.admin_addr,
    };
    nearbench_operator::run(config, stop).await.map_err(Failure::run)?;
    Ok(exit::PASSED)
}
