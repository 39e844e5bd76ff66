"""Fixtures: the cluster, a namespace for each test, and the images. See kube.py for what a namespace can do."""

import os
import re
import secrets
import shutil
from pathlib import Path

import pytest

import kube

# Where a failed test's logs, events and objects go.
FAILURES = Path(os.environ.get("NEARBENCH_CLUSTER_DIR") or Path(__file__).parents[2] / ".cluster") / "failures"


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
def namespace(namespaces, request):
    """A namespace of this test alone, at Pod Security's level `restricted`; its end begins with the test's."""
    test = re.sub(r"[^a-z0-9]+", "-", request.node.name.lower()).strip("-")
    namespace = kube.Namespace(f"e2e-{test[:40].strip('-')}-{secrets.token_hex(3)}")
    namespaces.append(namespace)
    namespace.create()
    yield namespace
    try:
        if failed_phases in request.node.stash:
            folder = FAILURES / test
            shutil.rmtree(folder, ignore_errors=True)
            namespace.collect(folder)
            print(f"logs, events and objects: {folder}")
    finally:
        namespace.delete()


@pytest.fixture(scope="session")
def image():
    """nearbench's image, as the cluster's nodes know it."""
    return kube.environment("NEARBENCH_IMAGE", "nearbench's image in the cluster")


@pytest.fixture(scope="session")
def tools():
    """An image with /bin/busybox."""
    return kube.environment("NEARBENCH_TOOLS_IMAGE", "an image with /bin/busybox in the cluster")
