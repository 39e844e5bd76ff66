"""runs: BenchmarkRuns for tests, as a user writes them."""

import copy
import json

import yaml

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


class Runs:
    """The BenchmarkRuns of a namespace."""

    def __init__(self, kubectl, namespace):
        self.kubectl, self.namespace = kubectl, namespace

    def __call__(self, *arguments, **options):
        return self.kubectl("--namespace", self.namespace, *arguments, **options)

    def apply(self, manifest):
        self("apply", "-f", "-", input=json.dumps(manifest))

    def patch(self, name, spec):
        self("patch", "benchmarkrun", name, "--type", "merge", "-p", json.dumps({"spec": spec}))

    def status(self, name):
        return json.loads(self("get", "benchmarkrun", name, "-o", "json")).get("status", {})

    def condition(self, name, kind):
        found = [c for c in self.status(name).get("conditions", []) if c["type"] == kind]
        return found[0] if found else None

    def wait(self, name, condition, timeout="120s"):
        self("wait", f"--for={condition}", f"benchmarkrun/{name}", f"--timeout={timeout}")

    def wait_phase(self, name, phase, timeout="120s"):
        self.wait(name, f"jsonpath={{.status.phase}}={phase}", timeout)

    def complete(self, name, timeout="300s"):
        """Waits for its end; its status."""
        self.wait(name, "condition=Complete", timeout)
        return self.status(name)

    def children(self, name):
        """Everything that was made for a run, as kind/name."""
        kinds = "jobs,pods,configmaps,serviceaccounts,roles,rolebindings"
        return self("get", kinds, "-l", f"nearbench.dev/run={name}", "-o", "name").split()

    def gone(self, name, timeout="120s"):
        """Waits until a run and all that was made for it is gone."""
        kinds = "jobs,pods,configmaps,serviceaccounts,roles,rolebindings"
        self("wait", "--for=delete", f"benchmarkrun/{name}", f"--timeout={timeout}")
        if self.children(name):
            self("wait", "--for=delete", kinds, "-l", f"nearbench.dev/run={name}", f"--timeout={timeout}")
        assert self.children(name) == []
