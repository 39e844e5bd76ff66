"""A run's way from a manifest to the columns, and what becomes of it when something dies."""

import json

import pytest

import kube
import runs as make


def test_the_quickstart_from_helm_install_to_the_columns(nearbench, runs, repository):
    runs.namespace.kubectl("apply", "--filename", repository / "examples/quickstart.yaml")
    status = runs.complete("quickstart")
    # The verdict is a matter of how busy the machine is; the counts and the audit are not.
    results = status["results"]
    assert results["offered"] == 10590, status
    assert results["succeeded"] == results["accepted"] == 10590, results
    assert results["audit"]["matches"] and results["audit"]["transfersFound"] == 10590
    assert status["verdict"] in ("Passed", "Failed", "Inconclusive") and status["phase"] == "Finished"

    header, line = runs.namespace.kubectl("get", "benchmarkruns", "quickstart").splitlines()
    assert header.split() == ["NAME", "PHASE", "VERDICT", "TPS", "TARGET", "SUCCESS", "P95", "AGE"]
    name, phase, verdict, tps, target, success, p95, _ = line.split()
    assert (name, phase, verdict, target, success) == ("quickstart", "Finished", status["verdict"], "202", "100.00%")
    assert float(tps) > 0 and p95.endswith("s")
    wide = runs.namespace.kubectl("get", "bench", "quickstart", "--output=wide")
    assert "matches" in wide and "10590" in wide

    # The report is the same wherever it is read.
    stored = runs.namespace.get(f"configmap/{status['reportRef']['name']}")["data"]["report.json"]
    here = ("run/quickstart", "--namespace", runs.namespace.name)
    assert nearbench("report", *here, "--json").stdout == stored
    assert "quickstart: " in nearbench("report", *here).stdout
    codes = {"Passed": 0, "Failed": 1, "Inconclusive": 3}
    assert nearbench("wait", *here).returncode == codes[status["verdict"]]

    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    reached = ["Admitted", "Provisioned", "KeysReady", "NoncesSeeded", "LoadCompleted", "Settled", "Audited", "Complete"]
    assert {kind: conditions[kind] for kind in reached} == dict.fromkeys(reached, "True")
    told = runs.events()
    assert "Provisioning" in told and status["verdict"] in told


def test_what_a_run_was_made_of_cannot_change_under_it(runs):
    runs.apply(make.run("frozen", make.lasting(20)))
    runs.wait("frozen", "condition=Provisioned")
    for field, spec in {
        "spec.load": {"load": {"timeout": "30s"}},
        "spec.account": {"account": {"minBalance": "2 NEAR"}},
        "spec.receivers": {"receivers": {"count": 6}},
        "spec.engine": {"engine": {"maxTps": 5}},
        "spec.network": {"network": {"profile": "localnet", "endpoints": [{"url": "http://127.0.0.1:1"}]}},
    }.items():
        with pytest.raises(kube.CommandFailed) as refused:
            runs.patch("frozen", spec)
        assert field in refused.value.stderr and "once the run began" in refused.value.stderr, refused.value.stderr
    with pytest.raises(kube.CommandFailed, match="cannot hold a run whose load began"):
        runs.patch("frozen", {"suspend": True})
    # These stay editable, and stop ends the load in good order.
    runs.patch("frozen", {"ttlSecondsAfterFinished": 3600})
    runs.patch("frozen", {"stop": True})
    status = runs.complete("frozen")
    assert status["verdict"] == "Inconclusive", status
    results = status["results"]
    assert results["audit"]["matches"] and 0 < results["succeeded"] == results["accepted"] < 400, results


def test_a_suspended_run_waits_and_then_begins(runs):
    runs.apply(make.run("held", {"suspend": True}))
    runs.wait("held", "jsonpath={.status.reason}=Suspended")
    assert runs.children("held") == []
    runs.patch("held", {"suspend": False})
    assert runs.complete("held")["results"]["succeeded"] == 100


def test_a_name_that_somebody_else_has_is_left_alone(runs):
    theirs = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "taken-plan"}, "data": {"ours": "no"}}
    runs.namespace.apply(theirs)
    runs.apply(make.run("taken"))
    runs.wait("taken", "jsonpath={.status.reason}=NameTaken")
    assert "ConfigMap taken-plan" in runs.status("taken")["message"]
    runs.delete("taken")
    runs.wait("taken", "delete")
    assert runs.namespace.get("configmap/taken-plan")["data"] == {"ours": "no"}


def test_a_run_that_replaces_another_of_its_name_begins_anew(runs):
    runs.apply(make.run("again", make.lasting(30)))
    runs.wait("again", "condition=Provisioned")
    runs.delete("again")
    runs.wait("again", "delete")
    runs.apply(make.run("again"))
    results = runs.complete("again")["results"]
    assert results["offered"] == results["succeeded"] == 100, "the second run's, not the first one's"


def test_what_the_api_server_refuses_is_told_and_can_be_mended(runs):
    runs.apply(make.run("odd", {"workers": {"labels": {"a b": "c"}}}))
    runs.wait("odd", "jsonpath={.status.reason}=Refused")
    assert "a b" in runs.status("odd")["message"] and "Refused" in runs.events()
    runs.patch("odd", {"workers": {"labels": None}})
    assert runs.complete("odd")["results"]["succeeded"] == 100


def test_a_pod_that_needs_too_much_memory_is_told(runs):
    runs.apply(make.run("hungry", {"workers": {"resources": {"limits": {"memory": "16Mi"}}}}))
    status = runs.complete("hungry", 60)
    assert (status["verdict"], status["reason"]) == ("Error", "OOMKilled"), status
    assert "spec.workers.resources.limits.memory" in status["message"]
    assert runs.condition("hungry", "WorkersReady")["reason"] == "OOMKilled"


def test_a_pod_that_has_no_room_is_told(runs):
    runs.apply(make.run("homeless", {"workers": {"nodeSelector": {"nearbench.dev/nowhere": "true"}}}))
    runs.wait("homeless", "jsonpath={.status.reason}=Unschedulable", 30)
    assert runs.condition("homeless", "WorkersReady")["status"] == "False"
    assert "Unschedulable" in runs.events()
    runs.delete("homeless")
    runs.gone("homeless")


def test_a_pod_without_its_image_is_told(runs, operator):
    with operator.environment(NEARBENCH_IMAGE="nearbench.invalid/none:0", NEARBENCH_IMAGE_PULL_POLICY="Never"):
        runs.apply(make.run("faceless"))
        runs.wait("faceless", "jsonpath={.status.conditions[?(@.type=='WorkersReady')].reason}=ErrImageNeverPull", 30)
        assert "nearbench.invalid/none:0" in runs.status("faceless")["message"]


def test_a_run_whose_secret_is_missing_says_which(runs):
    runs.apply(make.run("keyless", {
        "network": {"profile": "localnet", "endpoints": [{"url": "http://127.0.0.1:1"}]},
        "account": {"createFrom": {"secretRef": {"name": "funder"}}},
    }))
    status = runs.complete("keyless", 60)
    assert (status["verdict"], status["reason"]) == ("Error", "BadInput"), status
    assert "funder" in status["message"] and "nearbench-account.json" in status["message"]


def test_an_operator_killed_in_the_middle_finds_its_run_again(runs, operator):
    runs.apply(make.run("orphan", make.lasting(15)))
    runs.wait("orphan", "condition=WorkersReady")
    operator.kill()
    operator.ready()
    status = runs.complete("orphan")
    results = status["results"]
    assert results["offered"] == results["succeeded"] == 300 and results["audit"]["matches"], results
    pods = [child for child in runs.children("orphan") if child.startswith("pod/")]
    assert len(pods) == 1, "one pod, and no second one"


def test_deleting_a_run_leaves_nothing_in_any_phase(runs):
    runs.apply(make.run("pending", {"suspend": True}))
    runs.wait_phase("pending", "Pending")
    runs.delete("pending")
    runs.apply(make.run("provisioning", make.lasting(30)))
    runs.wait_phase("provisioning", "Provisioning")
    runs.delete("provisioning")
    runs.apply(make.run("running", make.lasting(60)))
    runs.wait_phase("running", "Running")
    runs.delete("running")
    runs.apply(make.run("draining", make.lasting(60)))
    runs.wait_phase("draining", "Running")
    runs.patch("draining", {"stop": True})
    runs.wait("draining", "jsonpath={.status.reason}=Stopped")
    runs.delete("draining")
    runs.apply(make.run("finished"))
    runs.complete("finished")
    assert runs.children("finished") != []
    runs.delete("finished")
    for name in ("pending", "provisioning", "running", "draining", "finished"):
        runs.gone(name)


def test_a_finished_run_goes_when_its_time_is_over(runs):
    runs.apply(make.run("brief", {"ttlSecondsAfterFinished": 1}))
    runs.gone("brief")
