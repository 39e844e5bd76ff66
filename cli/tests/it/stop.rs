//! `nearbench stop` against the part of an API server that it speaks to, and an operator that obeys for some runs.

use crate::harness::{Ended, Folder};
use axum::{
    Json, Router,
    body::Body,
    extract::{Path, State},
    http::{StatusCode, Uri},
    response::{IntoResponse, Response},
    routing::get,
};
use futures_util::stream;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
};
use tokio::sync::watch;

/// A run's namespace and name.
type Key = (String, String);

struct Inner {
    runs: Mutex<BTreeMap<Key, Value>>,
    version: watch::Sender<u64>,
}

#[derive(Clone)]
struct Server(Arc<Inner>);

/// The server, and a folder with the way to it.
struct Cluster {
    server: Server,
    folder: Folder,
    _runtime: tokio::runtime::Runtime,
}

fn run(namespace: &str, name: &str, status: Value) -> (Key, Value) {
    let run = json!({
        "apiVersion": "nearbench.dev/v1alpha1",
        "kind": "BenchmarkRun",
        "metadata": {"namespace": namespace, "name": name, "uid": name, "resourceVersion": "1",
            "finalizers": ["other.example/keeps", "nearbench.dev/cleanup"]},
        "spec": {
            "network": {"profile": "testnet", "endpoints": [{"url": "https://rpc.example.org"}]},
            "account": {"accountId": "bench.testnet", "masterKeySecretRef": {"name": "master"}},
            "token": {"contractId": "ft.testnet"},
            "receivers": {"count": 3},
            "load": {"phases": [{"duration": 10, "arrivalRate": 1}]},
        },
        "status": status,
    });
    ((namespace.to_owned(), name.to_owned()), run)
}

impl Cluster {
    fn start(runs: impl IntoIterator<Item = (Key, Value)>) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let runs = Mutex::new(BTreeMap::from_iter(runs));
        let server = Server(Arc::new(Inner { runs, version: watch::Sender::new(1) }));
        let of_group = "/apis/nearbench.dev/v1alpha1";
        let in_namespace = format!("{of_group}/namespaces/{{namespace}}/benchmarkruns");
        let router = Router::new()
            .route(&format!("{of_group}/benchmarkruns"), get(list_all))
            .route(&in_namespace, get(list))
            .route(&format!("{in_namespace}/{{name}}"), get(look).patch(patch))
            .with_state(server.clone());
        let listener = runtime.block_on(tokio::net::TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, router).await });
        let folder = Folder::new();
        folder.write(
            "kubeconfig",
            &json!({"apiVersion": "v1", "kind": "Config", "current-context": "test",
                "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
                "users": [{"name": "test", "user": {}}],
                "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "team"}}]})
            .to_string(),
        );
        Self { server, folder, _runtime: runtime }
    }

    fn nearbench(&self, arguments: &[&str]) -> Ended {
        let output = self.folder.command(arguments).env("KUBECONFIG", "kubeconfig").output().unwrap();
        Ended {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn run(&self, namespace: &str, name: &str) -> Value {
        self.server.0.runs.lock().unwrap()[&(namespace.to_owned(), name.to_owned())].clone()
    }

    fn is_told_to_stop(&self, namespace: &str, name: &str) -> bool {
        self.run(namespace, name)["spec"]["stop"] == true
    }

    fn finalizers(&self, name: &str) -> Value {
        self.run("team", name)["metadata"]["finalizers"].clone()
    }
}

async fn list_all(State(server): State<Server>) -> Json<Value> {
    Json(server.listed(|_| true))
}

async fn list(State(server): State<Server>, Path(namespace): Path<String>, uri: Uri) -> Response {
    let query = uri.query().unwrap_or_default().replace("%3D", "=");
    let query: HashMap<_, _> = query.split('&').filter_map(|part| part.split_once('=')).collect();
    let name = query.get("fieldSelector").and_then(|selector| selector.strip_prefix("metadata.name="));
    if query.get("watch").is_none_or(|watch| *watch == "false") {
        return Json(server.listed(|key| key.0 == namespace && name.is_none_or(|name| key.1 == name))).into_response();
    }
    let key = (namespace, name.unwrap().to_owned());
    let seen = query["resourceVersion"].parse::<u64>().unwrap();
    let versions = server.0.version.subscribe();
    let events = stream::unfold((server, key, versions, seen), |(server, key, mut versions, seen)| async move {
        loop {
            let version = *versions.borrow_and_update();
            let now = server.0.runs.lock().unwrap().get(&key).cloned();
            let (kind, object) = match now {
                Some(run) => ("MODIFIED", run),
                None => ("DELETED", run(&key.0, &key.1, json!({})).1),
            };
            if version > seen {
                let event = format!("{}\n", json!({"type": kind, "object": object}));
                return Some((Ok::<_, std::io::Error>(event), (server, key, versions, version)));
            }
            versions.changed().await.ok()?;
        }
    });
    Body::from_stream(events).into_response()
}

async fn look(State(server): State<Server>, Path(key): Path<Key>) -> Response {
    server.answer(server.0.runs.lock().unwrap().get(&key))
}

async fn patch(State(server): State<Server>, Path(key): Path<Key>, body: String) -> Response {
    let patch: Value = serde_json::from_str(&body).unwrap();
    let mut runs = server.0.runs.lock().unwrap();
    if let Some(run) = runs.get_mut(&key) {
        let version = &run["metadata"]["resourceVersion"];
        if patch["metadata"]["resourceVersion"].as_str().is_some_and(|wanted| version != wanted) {
            return refusal(409, "Conflict");
        }
        if patch["spec"]["stop"] == true {
            run["spec"]["stop"] = true.into();
            if key.1.starts_with("good") {
                run["status"] = json!({"phase": "Finished", "verdict": "Inconclusive", "message": "it was stopped"});
            }
        }
        if let Some(finalizers) = patch["metadata"].get("finalizers") {
            run["metadata"]["finalizers"] = finalizers.clone();
        }
        server.0.version.send_modify(|version| *version += 1);
        run["metadata"]["resourceVersion"] = server.0.version.borrow().to_string().into();
        if key.1 == "going" {
            return server.answer(runs.remove(&key).as_ref());
        }
    }
    server.answer(runs.get(&key))
}

impl Server {
    fn listed(&self, wanted: impl Fn(&Key) -> bool) -> Value {
        let runs = self.0.runs.lock().unwrap();
        let items: Vec<_> = runs.iter().filter(|(key, _)| wanted(key)).map(|(_, run)| run).collect();
        let version = self.0.version.borrow().to_string();
        json!({"apiVersion": "nearbench.dev/v1alpha1", "kind": "BenchmarkRunList",
            "metadata": {"resourceVersion": version}, "items": items})
    }

    fn answer(&self, run: Option<&Value>) -> Response {
        run.map_or_else(|| refusal(404, "NotFound"), |run| Json(run).into_response())
    }
}

fn refusal(code: u16, reason: &str) -> Response {
    let body = json!({"apiVersion": "v1", "kind": "Status", "status": "Failure", "message": reason, "reason": reason,
        "code": code, "metadata": {}});
    (StatusCode::from_u16(code).unwrap(), Json(body)).into_response()
}

fn cluster() -> Cluster {
    let running = || json!({"phase": "Running", "publicKeys": ["ed25519:one", "ed25519:two"]});
    Cluster::start([
        run("team", "done", json!({"phase": "Finished", "verdict": "Passed"})),
        run("team", "going", running()),
        run("team", "good", running()),
        run("team", "stuck", running()),
        run("team", "wrong", json!({"phase": "Pending", "reason": "InvalidSpec", "message": "spec.load: is missing"})),
        run("others", "good-too", running()),
    ])
}

#[test]
fn a_run_is_stopped_and_waited_for_and_its_verdict_told() {
    let cluster = cluster();
    let stopped = cluster.nearbench(&["stop", "run/good"]);
    assert_eq!(stopped.code, 3, "{stopped:?}");
    assert!(stopped.stderr.contains("Inconclusive: it was stopped"), "{}", stopped.stderr);
    assert_eq!(cluster.nearbench(&["stop", "run/good-too", "-n", "others"]).code, 3);
    assert!(cluster.is_told_to_stop("others", "good-too"));

    let late = cluster.nearbench(&["stop", "run/stuck", "--timeout", "1s"]);
    assert_eq!(late.code, 4, "{late:?}");
    assert!(late.stderr.contains("run/stuck is not over after 1s; it is told to stop"), "{}", late.stderr);
    assert!(cluster.is_told_to_stop("team", "stuck"));
    assert!(cluster.finalizers("stuck").to_string().contains("nearbench.dev/cleanup"), "a run that is named is kept");
    assert!(!cluster.is_told_to_stop("team", "wrong"), "no other is stopped");
}

#[test]
fn all_that_is_not_over_is_stopped_and_what_does_not_end_is_let_go_with_its_keys_named() {
    let cluster = cluster();
    let ended = cluster.nearbench(&["stop", "--all", "--timeout", "2s"]);
    assert_eq!(ended.code, 0, "{ended:?}");
    for told in [
        "4 runs to stop in namespace team",
        "team/good: Inconclusive: it was stopped",
        "team/stuck: it is not over after 2s; nearbench.dev/cleanup is removed, and its access keys may still be on \
         bench.testnet: `nearbench remove-keys MANIFEST ed25519:one ed25519:two`",
        "team/wrong: it cannot be run: spec.load: is missing; nearbench.dev/cleanup is removed",
    ] {
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    assert_eq!(cluster.finalizers("stuck"), json!(["other.example/keeps"]));
    for ended in ["good", "done"] {
        assert!(cluster.finalizers(ended).to_string().contains("nearbench.dev/cleanup"), "{ended}");
    }
    assert!(!cluster.is_told_to_stop("team", "done") && !cluster.is_told_to_stop("others", "good-too"));

    let everywhere = cluster.nearbench(&["stop", "--all", "--all-namespaces", "--timeout", "2s"]);
    assert_eq!(everywhere.code, 0, "{everywhere:?}");
    assert!(cluster.is_told_to_stop("others", "good-too"));
}

#[test]
fn what_names_no_run_or_cluster_is_one_clear_error() {
    let cluster = cluster();
    for (arguments, told) in [
        (&["stop"][..], "run/NAME"),
        (&["stop", "run/good", "--all"], "--all"),
        (&["stop", "run/good", "--all-namespaces"], "--all"),
        (&["stop", "pod/good"], "\"pod/good\" names no BenchmarkRun"),
        (&["stop", "run/nobody"], "there is no BenchmarkRun nobody in namespace team"),
    ] {
        let ended = cluster.nearbench(arguments);
        assert_eq!(ended.code, 2, "{arguments:?}: {ended:?}");
        assert!(ended.stderr.contains(told), "{told}: {}", ended.stderr);
    }
    let nowhere = cluster.folder.nearbench(&["stop", "--all"]);
    assert_eq!(nowhere.code, 2, "{nowhere:?}");
    assert!(nowhere.stderr.contains("set KUBECONFIG"), "{}", nowhere.stderr);
}
