"""A run's way from a manifest to the columns, and what becomes of it when something dies."""

import json

import runs as make


def test_the_quickstart_from_helm_install_to_the_columns(nearbench, in_cluster, repository):
    in_cluster("apply", "-f", str(repository / "examples/quickstart.yaml"))
    status = in_cluster.complete("quickstart")
    # The verdict is a matter of how busy the machine is; the counts and the audit are not.
    results = status["results"]
    assert results["offered"] == 10590, status
    assert results["succeeded"] == results["accepted"] == 10590, results
    assert results["audit"]["matches"] and results["audit"]["transfersFound"] == 10590
    assert status["verdict"] in ("Passed", "Failed", "Inconclusive") and status["phase"] == "Finished"

    header, line = in_cluster("get", "benchmarkruns", "quickstart").splitlines()
    assert header.split() == ["NAME", "PHASE", "VERDICT", "TPS", "TARGET", "SUCCESS", "P95", "AGE"]
    name, phase, verdict, tps, target, success, p95, _ = line.split()
    assert (name, phase, verdict, target, success) == ("quickstart", "Finished", status["verdict"], "202", "100.00%")
    assert float(tps) > 0 and p95.endswith("s")
    wide = in_cluster("get", "bench", "quickstart", "-o", "wide")
    assert "matches" in wide and "10590" in wide

    # The report is the same wherever it is read.
    stored = json.loads(in_cluster("get", "configmap", status["reportRef"]["name"], "-o", "json"))["data"]["report.json"]
    printed = nearbench("report", "run/quickstart", "--json", "-n", in_cluster.namespace)
    assert printed.stdout == stored
    assert "quickstart: " in nearbench("report", "run/quickstart", "-n", in_cluster.namespace).stdout
    codes = {"Passed": 0, "Failed": 1, "Inconclusive": 3}
    waited = nearbench("wait", "run/quickstart", "-n", in_cluster.namespace, check=False)
    assert waited.returncode == codes[status["verdict"]]

    conditions = {c["type"]: c["status"] for c in status["conditions"]}
    reached = ["Admitted", "Provisioned", "KeysReady", "NoncesSeeded", "LoadCompleted", "Settled", "Audited", "Complete"]
    assert {kind: conditions[kind] for kind in reached} == dict.fromkeys(reached, "True")
    told = in_cluster("get", "events.events.k8s.io", "-o", "jsonpath={.items[*].reason}").split()
    assert "Provisioning" in told and status["verdict"] in told


def test_what_a_run_was_made_of_cannot_change_under_it(in_cluster):
    in_cluster.apply(make.run("frozen", make.lasting(20)))
    in_cluster.wait("frozen", "condition=Provisioned")
    for field, spec in {
        "spec.load": {"load": {"timeout": "30s"}},
        "spec.account": {"account": {"minBalance": "2 NEAR"}},
        "spec.receivers": {"receivers": {"count": 6}},
        "spec.engine": {"engine": {"maxTps": 5}},
        "spec.network": {"network": {"profile": "localnet", "endpoints": [{"url": "http://127.0.0.1:1"}]}},
    }.items():
        refused = in_cluster("patch", "benchmarkrun", "frozen", "--type", "merge", "-p", json.dumps({"spec": spec}),
                             check=False)
        assert refused.returncode != 0 and field in refused.stderr and "once the run began" in refused.stderr, refused
    # These stay editable, and stop ends the load in good order.
    in_cluster.patch("frozen", {"ttlSecondsAfterFinished": 3600})
    in_cluster.patch("frozen", {"stop": True})
    status = in_cluster.complete("frozen")
    assert status["verdict"] == "Inconclusive", status
    results = status["results"]
    assert results["audit"]["matches"] and 0 < results["succeeded"] == results["accepted"] < 400, results


def test_a_suspended_run_waits_and_then_begins(in_cluster):
    in_cluster.apply(make.run("held", {"suspend": True}))
    in_cluster.wait("held", "jsonpath={.status.reason}=Suspended")
    assert in_cluster.children("held") == []
    in_cluster.patch("held", {"suspend": False})
    assert in_cluster.complete("held")["results"]["succeeded"] == 100


def test_a_pod_that_needs_too_much_memory_is_told(in_cluster):
    in_cluster.apply(make.run("hungry", {"workers": {"resources": {"limits": {"memory": "16Mi"}}}}))
    status = in_cluster.complete("hungry", "60s")
    assert (status["verdict"], status["reason"]) == ("Error", "OOMKilled"), status
    assert "spec.workers.resources.limits.memory" in status["message"]
    assert in_cluster.condition("hungry", "WorkersReady")["reason"] == "OOMKilled"


def test_a_pod_that_has_no_room_is_told(in_cluster):
    in_cluster.apply(make.run("homeless", {"workers": {"nodeSelector": {"nearbench.dev/nowhere": "true"}}}))
    in_cluster.wait("homeless", "jsonpath={.status.reason}=Unschedulable", "30s")
    assert in_cluster.condition("homeless", "WorkersReady")["status"] == "False"
    told = in_cluster("get", "events.events.k8s.io", "-o", "jsonpath={.items[*].reason}").split()
    assert "Unschedulable" in told
    in_cluster("delete", "benchmarkrun", "homeless")
    in_cluster.gone("homeless")


def test_a_pod_without_its_image_is_told(in_cluster, operator):
    with operator.environment(NEARBENCH_IMAGE="nearbench.invalid/none:0", NEARBENCH_IMAGE_PULL_POLICY="Never"):
        in_cluster.apply(make.run("faceless"))
        in_cluster.wait("faceless", "jsonpath={.status.conditions[?(@.type=='WorkersReady')].reason}=ErrImageNeverPull", "30s")
        assert "nearbench.invalid/none:0" in in_cluster.status("faceless")["message"]


def test_a_run_whose_secret_is_missing_says_which(in_cluster):
    in_cluster.apply(make.run("keyless", {
        "network": {"profile": "localnet", "endpoints": [{"url": "http://127.0.0.1:1"}]},
        "account": {"createFrom": {"secretRef": {"name": "funder"}}},
    }))
    status = in_cluster.complete("keyless", "60s")
    assert (status["verdict"], status["reason"]) == ("Error", "BadInput"), status
    assert "funder" in status["message"] and "nearbench-account.json" in status["message"]


def test_an_operator_killed_in_the_middle_finds_its_run_again(in_cluster, operator):
    in_cluster.apply(make.run("orphan", make.lasting(15)))
    in_cluster.wait("orphan", "condition=WorkersReady")
    operator.kill()
    operator.ready()
    status = in_cluster.complete("orphan")
    results = status["results"]
    assert results["offered"] == results["succeeded"] == 300 and results["audit"]["matches"], results
    pods = [child for child in in_cluster.children("orphan") if child.startswith("pod/")]
    assert len(pods) == 1, "one pod, and no second one"


def test_deleting_a_run_leaves_nothing_in_any_phase(in_cluster):
    def delete(name):
        in_cluster("delete", "benchmarkrun", name, "--wait=false")

    in_cluster.apply(make.run("pending", {"suspend": True}))
    in_cluster.wait_phase("pending", "Pending")
    delete("pending")
    in_cluster.apply(make.run("provisioning", make.lasting(30)))
    in_cluster.wait_phase("provisioning", "Provisioning")
    delete("provisioning")
    in_cluster.apply(make.run("running", make.lasting(60)))
    in_cluster.wait_phase("running", "Running")
    delete("running")
    in_cluster.apply(make.run("draining", make.lasting(60)))
    in_cluster.wait_phase("draining", "Running")
    in_cluster.patch("draining", {"stop": True})
    in_cluster.wait("draining", "jsonpath={.status.reason}=Stopped")
    delete("draining")
    in_cluster.apply(make.run("finished"))
    in_cluster.complete("finished")
    assert in_cluster.children("finished") != []
    delete("finished")
    for name in ("pending", "provisioning", "running", "draining", "finished"):
        in_cluster.gone(name)


def test_a_finished_run_goes_when_its_time_is_over(in_cluster):
    in_cluster.apply(make.run("brief", {"ttlSecondsAfterFinished": 1}))
    in_cluster.gone("brief")
