"""Tenants: who may make runs and not read Secrets learns nothing from a run, and reaches nothing through it."""

import json

import pytest

import kube
import runs as make
from test_fleet import fleet

TENANT = "tenant"
SECRET = "a-secret-of-something-else"


@pytest.fixture
def tenant(namespace, operator):
    """A user who may edit runs in the test's namespace and nothing else; calls kubectl as that user."""
    namespace.apply({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": {"name": TENANT},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "nearbench-edit"},
        "subjects": [{"kind": "User", "name": TENANT, "apiGroup": "rbac.authorization.k8s.io"}]})

    def kubectl(*arguments, **options):
        return namespace.kubectl(f"--as={TENANT}", *arguments, **options)

    return kubectl


def apply(tenant, manifest):
    tenant("create", "--filename=-", input=json.dumps(manifest))


@pytest.mark.whole
def test_a_tenant_may_make_and_scale_runs_and_read_no_secret(runs, tenant):
    apply(tenant, fleet("theirs", seconds=20, workers=1))
    runs.wait_phase("theirs", "Running")
    tenant("scale", "benchmarkrun/theirs", "--replicas=2")
    secret = runs.status("theirs")["secretRef"]["name"]
    for what in (f"secret/{secret}", "secrets", "configmap/theirs-plan"):
        with pytest.raises(kube.CommandFailed, match="orbidden"):
            tenant("get", what)
    tenant("delete", "benchmarkrun/theirs", "--wait=false")
    runs.gone("theirs")


@pytest.mark.whole
def test_a_secret_that_was_made_for_something_else_goes_nowhere(runs, tenant, chain):
    runs.namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "database"},
                          "stringData": {"password": SECRET, "nearbench": SECRET}})
    patch = make.merged(chain.patch("nosy.test.near"),
                        {"network": {"endpoints": [{"url": chain.url, "authSecretRef": {"name": "database"}}]}})
    apply(tenant, fleet("nosy", seconds=5, workers=1, patch=patch))
    runs.until("nosy", lambda status: any(
        c["status"] == "False" and "nearbench-rpc-auth" in c["message"] for c in status.get("conditions", [])))
    assert SECRET not in runs.told()
    runs.delete("nosy")


def test_a_secret_of_another_namespace_cannot_be_named(tenant, operator):
    for name in (f"{operator.namespace.name}/default", "../other/database", "other:database"):
        with pytest.raises(kube.CommandFailed, match="secretRef.name"):
            apply(tenant, fleet("foreign", patch={"account": {"createFrom": {"secretRef": {"name": name}}}}))


def test_the_metadata_of_a_cloud_cannot_be_reached(runs, tenant):
    for url in ("http://169.254.169.254/latest/meta-data", "http://[fe80::1]:80/", "http://[fd00:ec2::254]/"):
        with pytest.raises(kube.CommandFailed, match="link-local"):
            apply(tenant, fleet("cloud", patch={"network": {"endpoints": [{"url": url}]}}))
    # By name too: whatever it resolves to, the pods' network leads nowhere there.
    apply(tenant, fleet("there", seconds=60, workers=1))
    runs.wait("there", "condition=Admitted")
    runs.until("there", lambda status: status.get("secretRef"))
    runs.namespace.wait("networkpolicy/there-run", "create")
    policy = runs.namespace.get("networkpolicy/there-run")["spec"]
    assert policy["policyTypes"] == ["Egress"]
    blocks = [peer["ipBlock"] for rule in policy["egress"] for peer in rule.get("to", [])]
    assert {"cidr": "0.0.0.0/0", "except": ["169.254.0.0/16"]} in blocks
    runs.delete("there")


@pytest.mark.whole
def test_what_an_endpoint_answers_is_not_repeated(runs, tenant, tools):
    """An address that answers with something secret, as a service of somebody else's would."""
    labels = {"app": "other"}
    script = f"echo -n '{SECRET}' >/tmp/index.html; exec httpd -f -p 8000 -h /tmp"
    spec = kube.pod(tools, "-c", script, command=["/bin/busybox", "sh"], ports=[{"containerPort": 8000}],
                    readinessProbe={"tcpSocket": {"port": 8000}})
    runs.namespace.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "other"},
         "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "other"},
         "spec": {"selector": labels, "ports": [{"port": 8000}]}})
    runs.namespace.rollout("deployment/other")
    runs.namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "own"},
                          "stringData": {"nearbench-account.json": make.stranger("test.near")}})
    url = f"http://other.{runs.namespace.name}.svc:8000/index.html"
    apply(tenant, fleet("curious", seconds=5, workers=1, patch={
        "network": {"endpoints": [{"url": url}]}, "account": {"accountId": "curious.test.near",
                                                             "createFrom": {"secretRef": {"name": "own"}}},
        "token": {"contractId": "ft.curious.test.near"}}))
    runs.until("curious", lambda status: any(
        c["type"] == "Provisioned" and c["reason"] == "CouldNotRun" for c in status.get("conditions", [])))
    told = runs.told()
    assert told.count(SECRET) == told.count(f"echo -n '{SECRET}'") + told.count(f"echo -n \\'{SECRET}\\'"), "its own pod's script alone"
    runs.delete("curious")
