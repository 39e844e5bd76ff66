//! The part of an API server that leases need, in memory: names, versions and preconditions, as the real one has them.

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::{get, post},
};
use k8s_openapi::{api::coordination::v1::Lease, apimachinery::pkg::apis::meta::v1::DeleteOptions};
use kube::Client;
use serde_json::json;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Such a server; clones are the same one.
#[derive(Clone, Default)]
pub(super) struct Server(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    leases: HashMap<String, Lease>,
    version: u64,
    /// No request is answered.
    hangs: bool,
    /// Somebody else writes after every look.
    disturbs: bool,
}

impl Inner {
    /// Stores a lease under the next version.
    fn put(&mut self, name: &str, mut lease: Lease) -> Lease {
        self.version += 1;
        lease.metadata.resource_version = Some(self.version.to_string());
        lease.metadata.uid.get_or_insert_with(|| format!("uid-{name}-{}", self.version));
        self.leases.insert(name.to_owned(), lease.clone());
        lease
    }
}

type Where = Path<(String, String)>;

impl Server {
    pub(super) fn new() -> Self {
        Self::default()
    }

    /// A client of it.
    pub(super) fn client(&self) -> Client {
        let all = "/apis/coordination.k8s.io/v1/namespaces/{namespace}/leases";
        let router = Router::new()
            .route(all, post(create))
            .route(&format!("{all}/{{name}}"), get(look).put(replace).delete(delete))
            .layer(axum::middleware::from_fn_with_state(self.clone(), hold))
            .with_state(self.clone());
        Client::new(router, "default")
    }

    pub(super) fn lease(&self, name: &str) -> Option<Lease> {
        self.inner().leases.get(name).cloned()
    }

    /// Changes a lease as somebody else would.
    pub(super) fn write(&self, name: &str, change: impl FnOnce(&mut Lease)) {
        let mut inner = self.inner();
        if let Some(mut lease) = inner.leases.get(name).cloned() {
            change(&mut lease);
            inner.put(name, lease);
        }
    }

    pub(super) fn hang(&self, hangs: bool) {
        self.inner().hangs = hangs;
    }

    pub(super) fn disturb(&self, disturbs: bool) {
        self.inner().disturbs = disturbs;
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn hold(State(server): State<Server>, request: axum::extract::Request, next: axum::middleware::Next) -> Response {
    let hangs = server.inner().hangs;
    if hangs {
        std::future::pending::<()>().await;
    }
    next.run(request).await
}

fn refusal(status: StatusCode, reason: &str) -> Response {
    let code = status.as_u16();
    let body = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": reason,
        "reason": reason, "code": code});
    (status, Json(body)).into_response()
}

async fn create(State(server): State<Server>, Path(_): Path<String>, Json(lease): Json<Lease>) -> Response {
    let name = lease.metadata.name.clone().unwrap_or_default();
    let mut inner = server.inner();
    if inner.leases.contains_key(&name) {
        return refusal(StatusCode::CONFLICT, "AlreadyExists");
    }
    (StatusCode::CREATED, Json(inner.put(&name, lease))).into_response()
}

async fn look(State(server): State<Server>, Path((_, name)): Where) -> Response {
    let mut inner = server.inner();
    let Some(lease) = inner.leases.get(&name).cloned() else { return refusal(StatusCode::NOT_FOUND, "NotFound") };
    if inner.disturbs {
        inner.put(&name, lease.clone());
    }
    Json(lease).into_response()
}

async fn replace(State(server): State<Server>, Path((_, name)): Where, Json(lease): Json<Lease>) -> Response {
    let mut inner = server.inner();
    match inner.leases.get(&name) {
        None => refusal(StatusCode::NOT_FOUND, "NotFound"),
        // A write without a version would be one that overwrites whatever is there.
        Some(there) if there.metadata.resource_version != lease.metadata.resource_version => {
            refusal(StatusCode::CONFLICT, "Conflict")
        }
        Some(_) => Json(inner.put(&name, lease)).into_response(),
    }
}

async fn delete(State(server): State<Server>, Path((_, name)): Where, Json(options): Json<DeleteOptions>) -> Response {
    let mut inner = server.inner();
    let Some(there) = inner.leases.get(&name) else { return refusal(StatusCode::NOT_FOUND, "NotFound") };
    let this_one = options.preconditions.is_some_and(|wanted| {
        wanted.uid == there.metadata.uid && wanted.resource_version == there.metadata.resource_version
    });
    if !this_one {
        return refusal(StatusCode::CONFLICT, "Conflict");
    }
    let lease = inner.leases.remove(&name);
    Json(lease).into_response()
}
