"""The chart: what it installs, what it may, and what an upgrade brings."""

import json
import shutil

import pytest
import yaml

import kube


def test_helm_test_carries_a_small_run_out(operator):
    operator.namespace.helm("test", operator.RELEASE, "--timeout=5m", seconds=300)


def test_the_operator_may_read_no_secret_and_make_no_pod(operator):
    account = f"system:serviceaccount:{operator.namespace.name}:{operator.NAME}"
    for verb, what in [("get", "secrets"), ("list", "secrets"), ("create", "pods"), ("create", "pods/exec"),
                       ("update", "benchmarkruns"), ("delete", "configmaps"), ("create", "clusterroles")]:
        with pytest.raises(kube.CommandFailed) as answer:
            kube.call("kubectl", "auth", "can-i", verb, what, f"--as={account}", "--all-namespaces")
        assert "no" in str(answer.value).splitlines(), f"{verb} {what}"


def test_its_endpoints_say_how_the_operator_is(operator):
    def ask(path):
        pod = f"/api/v1/namespaces/{operator.namespace.name}/pods/{operator.pod()}:8081/proxy{path}"
        return kube.call("kubectl", "get", "--raw", pod)

    assert ask("/livez") == "ok\n" and ask("/readyz") == "ok\n"
    metrics = ask("/metrics")
    assert "nearbench_operator_reconciliations_total" in metrics and metrics.endswith("# EOF\n")


def test_an_upgrade_that_adds_a_field_reaches_the_cluster(operator, repository, tmp_path):
    chart = tmp_path / "nearbench"
    shutil.copytree(repository / "charts/nearbench", chart)
    path = chart / "files/benchmarkruns.yaml"
    crd = yaml.safe_load(path.read_text())
    spec = crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]
    spec["colour"] = {"type": "string", "maxLength": 10, "description": "A field of the future."}
    path.write_text(yaml.safe_dump(crd))

    def known():
        stored = json.loads(kube.call("kubectl", "get", "crd", "benchmarkruns.nearbench.dev", "--output=json"))
        schema = stored["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        return "colour" in schema["properties"]["spec"]["properties"]

    assert not known()
    operator.upgrade(chart)
    assert known()
    operator.upgrade(repository / "charts/nearbench")
    assert not known()
