"""Runs with workers: what they are made of, what they survive, and what they say when they cannot go on."""

import pytest

import kube
import runs as make

LABEL = "nearbench.dev/run"
PART = "app.kubernetes.io/component"


def fleet(name, seconds=30, rate=20, workers=2, patch=None):
    """A run of its own chain, Redis and workers."""
    count = seconds * rate
    return make.run(name, make.merged({
        "workers": {"replicas": workers},
        "load": {"phases": [{"name": "steady", "duration": seconds, "arrivalRate": rate}]},
        "ensure": {"thresholds": [{"metric": "transfers", "min": str(count)}]},
    }, patch or {}))


def pods(runs, name, part):
    """The names of the pods of one part of a run that are not on their way out."""
    found = runs.namespace.get("pods", f"--selector={LABEL}={name},{PART}={part}")
    return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]


def kill(runs, pod):
    """Ends a pod at once, as a node that dies would."""
    runs.namespace.kubectl("delete", f"pod/{pod}", "--grace-period=0", "--force")


def succeeded(runs, name, at_least, seconds=90):
    """Waits until so many transfers of a run succeeded."""
    runs.until(name, lambda status: status.get("progress", {}).get("succeeded", 0) >= at_least, seconds)


def examine(status, offered):
    """Every transfer that was accepted moved its tokens once."""
    results = status["results"]
    assert results["offered"] == offered, results
    assert results["succeeded"] == results["accepted"] > 0, results
    assert results["audit"]["matches"] and results["audit"]["transfersFound"] == results["succeeded"], results["audit"]
    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    reached = ["Admitted", "Provisioned", "NoncesSeeded", "Settled", "Audited", "Complete"]
    assert {kind: conditions[kind] for kind in reached} == dict.fromkeys(reached, "True"), conditions
    return results


def test_a_minute_in_which_a_worker_the_operator_and_redis_are_killed(runs, operator):
    runs.apply(fleet("kills", seconds=60, workers=4))
    succeeded(runs, "kills", 100)
    kill(runs, pods(runs, "kills", "worker")[0])
    succeeded(runs, "kills", 300)
    operator.kill()
    kill(runs, pods(runs, "kills", "redis")[0])
    operator.ready()
    status = runs.complete("kills", 180)
    results = examine(status, 1200)
    assert results["accepted"] == 1200 and results["unknown"] == 0, results
    assert status["summary"]["audit"] == "matches" and status["summary"]["transfers"] == "1200"
    runs.delete("kills")
    runs.gone("kills")


@pytest.mark.whole
def test_scaling_under_load_and_killing_pods_loses_nothing(runs):
    runs.apply(fleet("scaled", seconds=45))
    succeeded(runs, "scaled", 50)
    runs.namespace.kubectl("scale", "benchmarkrun/scaled", "--replicas=4")
    runs.until("scaled", lambda status: status["workers"]["ready"] == 4)
    kill(runs, pods(runs, "scaled", "worker")[0])
    runs.namespace.kubectl("scale", "benchmarkrun/scaled", "--replicas=1")
    runs.until("scaled", lambda status: status["workers"]["replicas"] == 1)
    kill(runs, pods(runs, "scaled", "load")[0])
    results = examine(runs.complete("scaled", 150), 900)
    # What fell due while there was no generator was never sent; nothing else is missing.
    assert results["accepted"] + results["notSent"] == 900, results


@pytest.mark.whole
def test_a_run_is_held_before_its_load_and_may_be_changed_until_then(runs):
    runs.apply(fleet("held", seconds=5, patch={"suspend": True}))
    runs.wait("held", "jsonpath={.status.reason}=Suspended")
    assert pods(runs, "held", "worker") == []
    runs.patch("held", {"load": {"phases": [{"name": "steady", "duration": 5, "arrivalRate": 30}]}})
    with pytest.raises(kube.CommandFailed, match="once the run began provisioning"):
        runs.patch("held", {"receivers": {"count": 6}})
    runs.patch("held", {"suspend": False})
    examine(runs.complete("held", 120), 150)


@pytest.mark.whole
def test_what_is_stopped_under_load_is_worked_off_and_reported(runs):
    runs.apply(fleet("stopped", seconds=120))
    succeeded(runs, "stopped", 50)
    with pytest.raises(kube.CommandFailed, match="once the run began its load"):
        runs.patch("stopped", {"load": {"timeout": "30s"}})
    runs.patch("stopped", {"stop": True})
    status = runs.complete("stopped", 120)
    assert status["verdict"] == "Inconclusive", status
    results = examine(status, 2400)
    assert 50 < results["accepted"] < 2400, results


@pytest.mark.whole
def test_load_over_http_through_one_address(runs):
    runs.apply(fleet("http", seconds=10, patch={"load": {"via": "http", "generators": {"replicas": 2}}}))
    results = examine(runs.complete("http", 120), 200)
    assert results["accepted"] == 200 and results["latencyMs"]["accept"]["p95"] > 0, results


@pytest.mark.whole
def test_objects_of_a_run_are_its_own_and_its_secret_is_nowhere_told(runs):
    runs.apply(fleet("whole", seconds=10))
    succeeded(runs, "whole", 20)
    found = runs.namespace.get("all,networkpolicies,poddisruptionbudgets,configmaps,secrets,persistentvolumeclaims",
                               f"--selector={LABEL}=whole")
    kinds = {item["kind"] for item in found}
    assert {"StatefulSet", "Deployment", "Service", "Job", "NetworkPolicy", "PodDisruptionBudget", "Secret"} <= kinds
    secret = next(item for item in found if item["kind"] == "Secret")
    assert secret["immutable"] and set(secret["data"]) >= {"nearbench-keys.json", "nearbench-redis-url"}
    examine(runs.complete("whole", 120), 200)
    told = runs.told()
    for hidden in make.hidden(secret):
        assert hidden not in told
    # What carried it out goes with its end; its report stays.
    runs.namespace.wait("statefulset/whole-redis", "delete")
    assert runs.namespace.kubectl("get", "deployments,statefulsets,services", f"--selector={LABEL}=whole", "--output=name") == ""
    assert runs.namespace.get("configmap/whole-report")["data"]["report.json"]


@pytest.mark.whole
def test_deletion_in_any_phase_leaves_nothing(runs):
    names = []
    for phase in ("Provisioning", "Running", "Draining", "Finished"):
        name = phase.lower()
        names.append(name)
        runs.apply(fleet(name, seconds=5 if phase == "Finished" else 60))
    for name in ("provisioning", "running", "draining"):
        runs.wait_phase(name, "Provisioning")
    runs.delete("provisioning")
    for name in ("running", "draining"):
        runs.wait_phase(name, "Running")
    runs.delete("running")
    runs.patch("draining", {"stop": True})
    runs.wait_phase("draining", "Draining")
    runs.delete("draining")
    runs.complete("finished", 120)
    runs.delete("finished")
    for name in names:
        runs.gone(name)


@pytest.mark.whole
def test_an_operator_killed_in_each_phase_does_no_step_twice(runs, operator, chain):
    runs.apply(fleet("phases", seconds=20, patch=chain.patch()))
    for phase in ("Provisioning", "Running", "Draining", "Auditing", "CleaningUp"):
        try:
            runs.wait_phase("phases", phase)
        except kube.CommandFailed:
            assert runs.status("phases")["phase"] == "Finished", phase
        operator.kill()
        operator.ready()
    examine(runs.complete("phases", 180), 400)
    for job in runs.namespace.get("jobs", f"--selector={LABEL}=phases"):
        assert job["status"].get("succeeded") == 1 and not job["status"].get("failed"), job
    # The account; then its keys, its token and the receivers, and the keys again.
    assert (chain.signed("test.near"), chain.signed("bench.test.near")) == (1, 4)


@pytest.mark.whole
def test_two_operators_and_one_that_leads(runs, operator):
    operator.upgrade(replicas=2)
    try:
        operator.ready()
        runs.apply(fleet("led", seconds=20))
        succeeded(runs, "led", 20)
        before = operator.leader()
        operator.kill()
        runs.until("led", lambda _: operator.leader() not in ("", before))
        examine(runs.complete("led", 120), 400)
    finally:
        operator.upgrade()


@pytest.mark.whole
def test_no_more_runs_than_may_be_are_under_way(runs, operator):
    operator.upgrade(maxConcurrentRuns=1)
    try:
        for n in range(3):
            runs.apply(make.run(f"queued-{n}"))
        runs.wait("queued-2", "jsonpath={.status.reason}=Queued")
        assert "maxConcurrentRuns" in runs.status("queued-2")["message"]
        for n in range(3):
            assert runs.complete(f"queued-{n}", 180)["results"]["succeeded"] == 100
    finally:
        operator.upgrade()
