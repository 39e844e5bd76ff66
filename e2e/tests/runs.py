"""runs: BenchmarkRuns for tests, as a user writes them."""

import base64
import copy
import json
import subprocess
import tempfile
from pathlib import Path

import yaml

import kube

# A chain of its own, and a load of a few seconds.
SMALL = {
    "apiVersion": "nearbench.dev/v1alpha1",
    "kind": "BenchmarkRun",
    "metadata": {"name": "small"},
    "spec": {
        "network": {"profile": "devnet"},
        "account": {"accountId": "bench.test.near", "createFrom": {"accountId": "test.near"}, "keys": {"count": 4}},
        "token": {"contractId": "ft.bench.test.near", "deploy": {}},
        "receivers": {"count": 5},
        "workers": {"replicas": 0},
        # A busy machine is no fault of what these tests are about.
        "load": {"maxSendLag": "1h", "phases": [{"name": "steady", "duration": 5, "arrivalRate": 20}]},
        "ensure": {"thresholds": [{"metric": "transfers", "min": "100"}]},
    },
}


def run(name, patch=None):
    """SMALL under another name, its spec merged with `patch`."""
    manifest = copy.deepcopy(SMALL)
    manifest["metadata"]["name"] = name
    manifest["spec"] = merged(manifest["spec"], patch or {})
    return manifest


def lasting(seconds):
    """A patch: the load goes on for so long."""
    return {"load": {"phases": [{"name": "steady", "duration": seconds, "arrivalRate": 20}]}}


def merged(target, patch):
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def read(path):
    """A YAML file."""
    return yaml.safe_load(path.read_text())


def stranger(account):
    """The text of a key file whose key no chain knows."""
    binary = kube.environment("NEARBENCH_BINARY", "the nearbench binary")
    with tempfile.TemporaryDirectory() as folder:
        with subprocess.Popen([binary, "devnet", "--rpc-addr", "127.0.0.1:0", "--account", account, "--secret", folder],
                              stdout=subprocess.PIPE, text=True) as devnet:
            assert "serves JSON-RPC" in devnet.stdout.readline()
            devnet.terminate()
        return (Path(folder) / "nearbench-account.json").read_text()


def hidden(secret):
    """What a run's Secret holds that nobody else may see: keys, passwords and tokens, as they would be told."""
    values = {key: base64.b64decode(value).decode() for key, value in secret["data"].items()}
    for key in json.loads(values["nearbench-keys.json"])["keys"]:
        yield key["private_key"].removeprefix("ed25519:")
    yield json.loads(values["nearbench-account.json"])["private_key"].removeprefix("ed25519:")
    yield values["nearbench-redis-url"].split("@")[0].removeprefix("redis://:")
    yield from (values[name] for name in ("nearbench-namespace", "nearbench-token", "nearbench-client-token"))


class Runs:
    """The BenchmarkRuns of a namespace."""

    KINDS = ("jobs,pods,configmaps,serviceaccounts,roles,rolebindings,deployments,statefulsets,services,secrets,"
             "networkpolicies,poddisruptionbudgets")

    def __init__(self, namespace):
        self.namespace = namespace

    def apply(self, manifest):
        self.namespace.apply(manifest)

    def patch(self, name, spec):
        self.namespace.kubectl("patch", f"benchmarkrun/{name}", "--type=merge", f"--patch={json.dumps({'spec': spec})}")

    def status(self, name):
        return self.namespace.get(f"benchmarkrun/{name}").get("status", {})

    def condition(self, name, kind):
        found = [condition for condition in self.status(name).get("conditions", []) if condition["type"] == kind]
        return found[0] if found else None

    def wait(self, name, until, seconds=120):
        self.namespace.wait(f"benchmarkrun/{name}", until, seconds)

    def wait_phase(self, name, phase, seconds=240):
        self.wait(name, f"jsonpath={{.status.phase}}={phase}", seconds)

    def complete(self, name, seconds=300):
        """Waits for its end; its status."""
        self.wait(name, "condition=Complete", seconds)
        return self.status(name)

    def until(self, name, holds, seconds=90):
        """Waits until a run's status is such, as its changes are told."""
        command = ["kubectl", "--namespace", self.namespace.name, "get", f"benchmarkrun/{name}", "--watch",
                   "--output=jsonpath={.status}{'\\n'}", f"--request-timeout={seconds}s"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as watch:
            try:
                for line in watch.stdout:
                    if line.strip() and holds(json.loads(line)):
                        return
            finally:
                watch.terminate()
        raise AssertionError(f"not within {seconds} s: {json.dumps(self.status(name))}")

    def children(self, name):
        """Everything that was made for a run, as kind/name."""
        found = self.namespace.kubectl("get", self.KINDS, f"--selector=nearbench.dev/run={name}", "--output=name")
        return found.split()

    def delete(self, name):
        self.namespace.kubectl("delete", f"benchmarkrun/{name}", "--wait=false")

    def gone(self, name, seconds=120):
        """Waits until a run and all that was made for it is gone."""
        self.wait(name, "delete", seconds)
        for child in self.children(name):
            self.namespace.wait(child, "delete", seconds)
        assert self.children(name) == []

    def told(self):
        """What may come to be seen of the runs: objects but Secrets, Events, and the logs of pods that are there."""
        told = self.namespace.kubectl("get", "benchmarkruns,configmaps,jobs,pods,events", "--output=yaml")
        for pod in self.namespace.kubectl("get", "pods", "--output=name").split():
            try:
                told += self.namespace.kubectl("logs", pod, "--all-containers", "--ignore-errors")
            except kube.CommandFailed:
                # On its way out.
                continue
        return told

    def events(self):
        """The reasons of all Events so far."""
        return self.namespace.kubectl("get", "events.events.k8s.io", "--output=jsonpath={.items[*].reason}").split()
