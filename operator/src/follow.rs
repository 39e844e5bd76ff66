//! Asks a run's pod how the run stands.

use crate::{
    names::{Part, STANDING_PATH, STANDING_PORT},
    pods,
};
use http_body_util::{BodyExt, Empty, Limited};
use hyper::body::Bytes;
use hyper_util::{client::legacy::Client, rt::TokioExecutor};
use k8s_openapi::api::core::v1::Pod;
use nearbench_core::standing::Standing;
use std::{net::IpAddr, net::SocketAddr, time::Duration};

/// A pod that does not answer within this is asked again at the next reconciliation.
const PATIENCE: Duration = Duration::from_secs(2);
/// An answer is a handful of fields.
const MAX_BYTES: usize = 16 * 1024;

/// How the run stands by the pod that carries it out, or its present step; `None` where none answers.
pub(crate) async fn standing(pods: &[Pod]) -> Option<Standing> {
    let address: IpAddr = pods.iter().find_map(|pod| {
        let silent = [Part::Worker, Part::Redis, Part::Devnet];
        if pods::part(pod).is_some_and(|part| silent.contains(&part)) {
            return None;
        }
        let status = pod.status.as_ref()?;
        (status.phase.as_deref() == Some("Running")).then_some(status.pod_ip.as_ref()?.parse().ok()?)
    })?;
    tokio::time::timeout(PATIENCE, ask(SocketAddr::new(address, STANDING_PORT))).await.ok()?
}

async fn ask(address: SocketAddr) -> Option<Standing> {
    let client = Client::builder(TokioExecutor::new()).build_http::<Empty<Bytes>>();
    let answer = client.get(format!("http://{address}{STANDING_PATH}").parse().ok()?).await.ok()?;
    let body = Limited::new(answer.into_body(), MAX_BYTES).collect().await.ok()?.to_bytes();
    serde_json::from_slice(&body).ok()
}
