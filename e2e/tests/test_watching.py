"""What whoever may look at runs, and no more, sees of one while it goes on."""

import http.client
import json
import os
import re
import subprocess
import threading
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

import kube
from test_fleet import fleet

# What the dashboard and the alerts are tested on, in place of an operator.
OPERATOR_PAGE = Path(__file__).parents[2] / "charts/tests/fixtures/operator.prom"
SAMPLE = re.compile(r"^(\w+)(?:{(.*)})? \S+$", re.MULTILINE)
ADDRESS = re.compile(r"is shown at http://([\d.:]+)/")


@pytest.fixture
def someone(namespace, cluster, tmp_path):
    """Makes a kubeconfig of somebody who has a ClusterRole in the namespace, or none."""
    def make(name, role=None):
        namespace.kubectl("create", "serviceaccount", name)
        if role:
            namespace.kubectl("create", "rolebinding", name, f"--clusterrole={role}",
                              f"--serviceaccount={namespace.name}:{name}")
        token = namespace.kubectl("create", "token", name).strip()
        config = yaml.safe_load(open(cluster, encoding="utf-8"))
        context = config["contexts"][0]["context"]
        context.update({"namespace": namespace.name, "user": name})
        config.update({"users": [{"name": name, "user": {"token": token}}], "current-context": config["contexts"][0]["name"]})
        path = tmp_path / f"{name}.yaml"
        path.write_text(yaml.safe_dump(config))
        return os.environ | {"KUBECONFIG": str(path)}

    return make


@contextmanager
def started(*arguments, env):
    """A nearbench that goes on; it is ended afterwards."""
    binary = kube.environment("NEARBENCH_BINARY", "the nearbench binary")
    with subprocess.Popen([binary, *arguments], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.terminate()


def events(address):
    """Every event that a page is fed with, until there are no more."""
    connection = http.client.HTTPConnection(address, timeout=300)
    connection.request("GET", "/events")
    name = None
    for line in connection.getresponse():
        kind, _, rest = line.decode().rstrip("\n").partition(": ")
        if kind == "event":
            name = rest
        elif kind == "data":
            yield name, json.loads(rest)


def shapes(text):
    """The name of each sample, with the names of its labels, and the bounds of histograms."""
    for name, labels in SAMPLE.findall(text):
        yield name, frozenset(re.findall(r'(\w+)="', labels)), tuple(re.findall(r'le="(.*?)"', labels))


def test_the_operator_tells_prometheus_what_the_dashboard_is_tested_on(runs, operator):
    def told():
        pod = f"/api/v1/namespaces/{operator.namespace.name}/pods/{operator.leader()}:8081/proxy/metrics"
        return set(shapes(kube.call("kubectl", "get", "--raw", pod)))

    runs.apply(fleet("told", seconds=10))
    # A stage whose time is bounded.
    runs.wait_phase("told", "Provisioning")
    under_way = told()
    runs.complete("told")
    assert set(shapes(OPERATOR_PAGE.read_text())) - under_way - told() == set()


def test_a_viewer_watches_a_run_in_a_browser_and_in_a_terminal(runs, someone, operator):
    viewer = someone("viewer", role="view")
    runs.apply(fleet("watched", seconds=25))
    with started("ui", "run/watched", env=viewer) as page, started("top", "run/watched", env=viewer) as terminal:
        address = ADDRESS.search(page.stderr.readline())[1]
        seen = []
        reader = threading.Thread(target=lambda: seen.extend(events(address)))
        reader.start()
        lines, complaints = terminal.communicate(timeout=300)
        reader.join(300)
        status = runs.complete("watched")

    codes = {"Passed": 0, "Failed": 1, "Inconclusive": 3}
    assert terminal.returncode == codes[status["verdict"]], complaints
    under_load = [line for line in lines.splitlines() if line.startswith("Running") and "TPS" in line]
    assert len(under_load) >= 3 and "steady" in under_load[-1], lines

    *views, (last, report) = seen
    assert last == "report", (last, report)
    stored = runs.namespace.get(f"configmap/{status['reportRef']['name']}")["data"]["report.json"]
    assert report == json.loads(stored)
    views = [view for name, view in views if name == "view"]
    assert views[-1]["target"] == 20 and views[-1]["phases"][0]["name"] == "steady", views[-1]
    assert len({view["offered"] for view in views if view["phase"]}) >= 3, views
    series = max((view["series"] for view in views), key=len)
    assert len(series) >= 2 and sum(point["succeeded"] for point in series) > 0, series
    assert any(view.get("settle") and view["transactions"] > 0 for view in views), views[-1]


def test_whoever_may_not_look_is_told_so(runs, someone, operator):
    stranger = someone("stranger")
    for command in ("ui", "top"):
        binary = kube.environment("NEARBENCH_BINARY", "the nearbench binary")
        refused = subprocess.run([binary, command, "run/any"], env=stranger, capture_output=True, text=True, timeout=60, check=False)
        assert refused.returncode == 4 and "run/any in namespace" in refused.stderr, refused
        assert "forbidden" in refused.stderr and refused.stdout == "", refused
