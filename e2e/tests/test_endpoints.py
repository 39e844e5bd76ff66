"""A run against a chain that is there: a devnet behind a Service, its key in a Secret."""

import base64
import json
import subprocess

import pytest

import kube
import runs as make

PORT = 3030


@pytest.fixture
def funder(namespace, tmp_path):
    """A Secret with the key of a chain's funding account, made as a user makes it."""
    binary = kube.environment("NEARBENCH_BINARY", "the nearbench binary")
    folder = tmp_path / "funder"
    with subprocess.Popen([binary, "devnet", "--rpc-addr", "127.0.0.1:0", "--secret", folder],
                          stdout=subprocess.PIPE, text=True) as devnet:
        # Its first line says that it serves: the key is written by then.
        said = devnet.stdout.readline()
        devnet.terminate()
    assert "serves JSON-RPC" in said
    namespace.kubectl("create", "secret", "generic", "funder", f"--from-file={folder}/nearbench-account.json")
    return "funder"


@pytest.fixture
def endpoint(namespace, image, funder):
    """The URL, within the cluster, of a devnet whose funding account has that key."""
    labels = {"app": "devnet"}
    spec = kube.pod(
        image, "devnet", "--rpc-addr", f"0.0.0.0:{PORT}", "--secret", "/secrets/funder",
        volumes=[{"name": "funder", "secret": {"secretName": funder, "defaultMode": 0o400}}],
        ports=[{"containerPort": PORT}], readinessProbe={"tcpSocket": {"port": PORT}},
        volumeMounts=[{"name": "tmp", "mountPath": "/tmp"}, {"name": "funder", "mountPath": "/secrets/funder"}])
    namespace.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "devnet"},
         "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "devnet"},
         "spec": {"selector": labels, "ports": [{"port": PORT}]}})
    namespace.rollout("deployment/devnet")
    return f"http://devnet.{namespace.name}.svc:{PORT}"


def test_a_run_pays_from_an_account_whose_key_is_in_a_secret(runs, endpoint, funder):
    patch = {
        "network": {"endpoints": [{"url": endpoint}]},
        "account": {"createFrom": {"secretRef": {"name": funder}}},
    }
    runs.apply(make.run("funded", patch))
    status = runs.complete("funded")
    results = status["results"]
    assert results["succeeded"] == 100 and results["audit"]["matches"], status
    said = runs.namespace.kubectl("logs", "job/funded")
    assert "removing 4 access keys" in said, "the run takes its keys off the account"
    key = json.loads(base64.b64decode(runs.namespace.get(f"secret/{funder}")["data"]["nearbench-account.json"]))
    told = said + runs.namespace.kubectl("get", "benchmarkruns,configmaps,jobs,pods,events", "--output=yaml")
    assert key["account_id"] in told and key["private_key"].removeprefix("ed25519:") not in told
