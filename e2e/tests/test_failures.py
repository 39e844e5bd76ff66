"""What keeps a run with workers from going on, told where users look, with the way out; and what is mended goes on."""

import pytest

import kube
import runs as make
from test_fleet import examine, fleet, succeeded

# How soon a condition must say what is wrong.
SECONDS = 30
NOWHERE = "http://198.18.0.254:3030"


def own_redis(namespace, image):
    """A Redis of the user's, as the Secret `redis` says."""
    labels = {"app": "redis"}
    spec = kube.pod(image, command=["redis-server", "--dir", "/tmp", "--protected-mode", "no", "--save", "",
                                    "--maxmemory-policy", "noeviction"],
                    ports=[{"containerPort": 6379}], readinessProbe={"tcpSocket": {"port": 6379}})
    namespace.apply(
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "redis"},
         "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": spec}}},
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "redis"},
         "spec": {"selector": labels, "ports": [{"port": 6379}]}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "redis"},
         "stringData": {"nearbench-redis-url": f"redis://redis.{namespace.name}.svc:6379"}})
    namespace.rollout("deployment/redis")


def bound(namespace, memory):
    """Says how much that Redis may hold; 0: no bound."""
    namespace.kubectl("exec", "deployment/redis", "--", "redis-cli", "config", "set", "maxmemory", memory)


# The case, what is wrong with the manifest, the condition that says so, its reason, and what it says.
TABLE = [
    ("wrong-key", lambda chain, account: {"account": {"createFrom": {"secretRef": {"name": "stranger"}}}},
     "Provisioned", "CouldNotRun", ["account.createFrom.secretRef", "no access key of test.near"]),
    ("unreachable", lambda chain, account: {"network": {"endpoints": [{"url": NOWHERE}]}},
     "Provisioned", "CouldNotRun", ["198.18.0.254:3030"]),
    ("unschedulable", lambda chain, account: {"workers": {"nodeSelector": {"nearbench.dev/nowhere": "true"}}},
     "Provisioned", "Unschedulable", ["didn't match Pod's node affinity/selector"]),
    ("oom", lambda chain, account: {"workers": {"resources": {"limits": {"memory": "12Mi"}}},
                                    # A plan that is too large for that.
                                    "receivers": {"count": 60000}},
     "Provisioned", "OOMKilled", ["spec.workers.resources.limits.memory"]),
    ("no-token", lambda chain, account: {"token": {"contractId": "nobody.test.near", "deploy": None}},
     "Provisioned", "CouldNotRun", ["token.contractId", "nobody.test.near"]),
    ("too-poor", lambda chain, account: {"account": {"createFrom": {"initialBalance": "2000000000 NEAR"},
                                                     "minBalance": "1500000000 NEAR"}},
     "Provisioned", "CouldNotRun", ["account.createFrom", "NEAR"]),
    ("no-secret", lambda chain, account: {"account": {"createFrom": {"secretRef": {"name": "missing"}}}},
     "Provisioned", "BadInput", ["account.createFrom.secretRef", "missing"]),
]


def says(status, condition, reason, texts):
    """Whether a condition says no, for this reason and with these words."""
    return any((c["type"], c["status"], c["reason"]) == (condition, "False", reason)
               and all(text in c["message"] for text in texts) for c in status.get("conditions", []))


def test_a_redis_that_is_full_is_told_and_the_run_goes_on_once_it_is_not(runs, operator, redis_image):
    own_redis(runs.namespace, redis_image)
    runs.apply(fleet("full", seconds=30, workers=1, patch={"store": {"redis": {"secretRef": {"name": "redis"}}}}))
    succeeded(runs, "full", 20)
    bound(runs.namespace, "1mb")
    runs.until("full", lambda status: says(status, "LoadCompleted", "Trouble", ["maxmemory"]), SECONDS)
    bound(runs.namespace, "0")
    examine(runs.complete("full", 150), 600)


def test_every_failure_is_told_with_its_way_out_and_what_is_mended_goes_on(
        operator, chain, apart):
    cases = {}
    for name, wrong, *_ in TABLE:
        account = f"{name}.test.near"
        there = make.Runs(apart(name))
        chain.fund(there.namespace)
        if name == "wrong-key":
            # A key of that account, and none that the chain knows.
            there.namespace.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "stranger"},
                                   "stringData": {"nearbench-account.json": make.stranger("test.near")}})
        manifest = fleet(name, seconds=5, workers=1, patch=chain.patch(account))
        there.apply(dict(manifest, spec=make.merged(manifest["spec"], wrong(chain, account))))
        cases[name] = there

    for name, _, condition, reason, texts in TABLE:
        cases[name].until(name, lambda status: says(status, condition, reason, texts), SECONDS)

    # An endpoint and a Secret are mended while their runs wait.
    cases["unreachable"].patch("unreachable", {"network": {"endpoints": [{"url": chain.url}]}})
    cases["wrong-key"].namespace.kubectl("delete", "secret/stranger")
    chain.fund(cases["wrong-key"].namespace, "stranger")
    for name in ("unreachable", "wrong-key"):
        examine(cases[name].complete(name, 180), 100)
    # The others end when they are told to, and leave nothing on chain.
    for name in ("no-token", "oom"):
        cases[name].patch(name, {"stop": True})
        assert cases[name].complete(name, 120)["verdict"] in ("Inconclusive", "Error")
    for there in cases.values():
        there.namespace.kubectl("delete", "benchmarkruns", "--all", "--wait=false")


@pytest.mark.whole
def test_two_runs_never_share_an_account(runs, operator, chain):
    runs.apply(fleet("first", seconds=20, patch=chain.patch()))
    runs.wait_phase("first", "Provisioning")
    runs.apply(make.run("second", chain.patch()))
    runs.wait("second", "jsonpath={.status.reason}=AccountBusy")
    assert "first" in runs.status("second")["message"]
    examine(runs.complete("first", 150), 400)
    assert runs.complete("second", 120)["results"]["succeeded"] == 100
    assert len(chain.keys("bench.test.near")) == 1, "both took their keys off"


@pytest.mark.whole
def test_a_run_deleted_under_way_takes_its_keys_with_it(runs, operator, chain):
    runs.apply(fleet("gone", seconds=120, patch=chain.patch()))
    runs.wait_phase("gone", "Running")
    assert len(chain.keys("bench.test.near")) == 5
    runs.delete("gone")
    runs.gone("gone", 150)
    assert len(chain.keys("bench.test.near")) == 1


@pytest.mark.whole
def test_a_namespace_deleted_under_way_never_hangs_and_names_the_keys_that_are_left(operator, chain, apart):
    there = make.Runs(apart("doomed"))
    chain.fund(there.namespace)
    there.apply(fleet("doomed", seconds=120, patch=chain.patch()))
    there.wait_phase("doomed", "Running")
    left = chain.keys("bench.test.near")
    there.namespace.delete()
    there.namespace.await_gone(180)
    if len(chain.keys("bench.test.near")) > 1:
        told = operator.namespace.kubectl("get", "events.events.k8s.io", "--output=jsonpath={.items[*].note}")
        assert "nearbench remove-keys" in told and any(key in told for key in left), told
