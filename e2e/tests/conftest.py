"""Fixtures: the cluster, a namespace for each test, and the images. See kube.py for what a namespace can do."""

import os
import re
import secrets
import shutil
import subprocess
from pathlib import Path

import pytest

import kube
from chains import Chain
from operator_release import Operator
from runs import Runs

REPOSITORY = Path(__file__).parents[2]
# The state folder of the cluster that is made here.
CLUSTER = Path(os.environ.get("NEARBENCH_CLUSTER_DIR") or REPOSITORY / ".cluster").resolve()
# Where a failed test's logs, events and objects go.
FAILURES = CLUSTER / "failures"
# Whether this is the whole of the tests, those included that take long.
WHOLE = os.environ.get("NEARBENCH_E2E_ALL") == "1"

CRD = "benchmarkruns.nearbench.dev"


def pytest_collection_modifyitems(items):
    """Leaves out what is of whole runs only, and puts what looks back on all the others last."""
    for item in items:
        if not WHOLE and item.get_closest_marker("whole"):
            item.add_marker(pytest.mark.skip(reason="only where NEARBENCH_E2E_ALL=1"))
    items.sort(key=lambda item: item.get_closest_marker("last") is not None)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.failed:
        item.stash.setdefault(failed_phases, []).append(report.when)
    return report


failed_phases = pytest.StashKey()


@pytest.fixture(scope="session")
def cluster():
    """The kubeconfig of a cluster that answers."""
    kubeconfig = kube.environment("KUBECONFIG", "the cluster")
    for program in ("kubectl", "helm"):
        assert shutil.which(program), f"{program} is not on PATH; `make cluster` builds it and says where"
    kube.call("kubectl", "get", "--raw", "/readyz")
    return kubeconfig


@pytest.fixture(scope="session")
def namespaces(cluster):
    """Those of this session. Deleting one takes seconds, so all are awaited at the end."""
    made = []
    yield made
    for namespace in made:
        namespace.await_gone()


@pytest.fixture
def apart(namespaces, request):
    """Makes namespaces of this test alone, at Pod Security's level `restricted`; their end begins with the test's."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    made = []

    def make(name):
        namespace = kube.Namespace(f"e2e-{name[:40].strip('-')}-{secrets.token_hex(3)}")
        namespaces.append(namespace)
        made.append(namespace)
        namespace.create()
        return namespace

    yield make
    try:
        if failed_phases in request.node.stash:
            folder = FAILURES / test
            shutil.rmtree(folder, ignore_errors=True)
            for namespace in made:
                namespace.collect(folder / namespace.name)
            print(f"logs, events and objects: {folder}")
    finally:
        for namespace in made:
            namespace.delete()


@pytest.fixture
def namespace(apart, request):
    """A namespace of this test alone."""
    return apart(re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-"))


@pytest.fixture(scope="session")
def image():
    """nearbench's image, as the cluster's nodes know it."""
    return kube.environment("NEARBENCH_IMAGE", "nearbench's image in the cluster")


@pytest.fixture(scope="session")
def tools():
    """An image with /bin/busybox."""
    return kube.environment("NEARBENCH_TOOLS_IMAGE", "an image with /bin/busybox in the cluster")


@pytest.fixture(scope="session")
def redis_image():
    """An image with redis-server and redis-cli."""
    return kube.environment("NEARBENCH_REDIS_IMAGE", "an image with redis-server and redis-cli in the cluster")


@pytest.fixture(scope="session")
def whole():
    """Whether every test runs: what none of them needed is needed by nobody."""
    return WHOLE


@pytest.fixture(scope="session")
def audit(cluster):
    """The folder in which the API server logs what service accounts ask of it; skips where that is elsewhere."""
    if Path(cluster).resolve() != CLUSTER / "kubeconfig":
        pytest.skip("what is asked of a cluster's API server is known of one that was made here")
    return CLUSTER / "logs"


@pytest.fixture(scope="session")
def repository():
    """The root of the repository: its examples, its chart."""
    return REPOSITORY


@pytest.fixture(scope="session")
def operator(cluster, image, redis_image, request):
    """The operator, installed by the chart in a namespace of its own."""
    assert not kube.call("kubectl", "get", "crd", CRD, "--ignore-not-found"), (
        f"this cluster has {CRD} already, and perhaps runs of yours: these tests install and remove it; use a cluster for tests")
    namespace = kube.Namespace(f"e2e-operator-{secrets.token_hex(3)}")
    namespace.create()
    operator = Operator(namespace, REPOSITORY / "charts/nearbench", image, redis_image)
    try:
        operator.upgrade()
        yield operator
    finally:
        if request.session.testsfailed:
            namespace.collect(FAILURES / "operator")
        operator.uninstall()
        # The chart leaves it, for whoever removes a release must not lose every run with it.
        kube.call("kubectl", "delete", "crd", CRD, "--ignore-not-found")
        namespace.delete()


@pytest.fixture
def runs(namespace, operator):
    """The BenchmarkRuns of this test's namespace."""
    return Runs(namespace)


@pytest.fixture
def chain(namespace, image, tmp_path):
    """A NEAR chain in the test's namespace, which is nobody's own."""
    return Chain(namespace, image, tmp_path / "funder")


@pytest.fixture(scope="session")
def nearbench():
    """The command, as `nearbench("report", "run/x")`; what it printed, and its exit code."""
    binary = kube.environment("NEARBENCH_BINARY", "the nearbench binary")

    def run(*arguments):
        return subprocess.run([binary, *arguments], capture_output=True, text=True, timeout=60)

    return run
