"""The cluster itself: what the other tests rely on, with nothing of nearbench but its image."""

import json
import urllib.request

import kube
import pytest

PORT = 3030


def devnet(image):
    """Two chains that know nothing of each other, behind one name."""
    spec = kube.pod(image, "devnet", "--rpc-addr", f"0.0.0.0:{PORT}", "--secret", "/tmp/root",
                    ports=[{"containerPort": PORT}],
                    readinessProbe={"httpGet": {"path": "/status", "port": PORT}, "periodSeconds": 1})
    labels = {"app": "devnet"}
    yield {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "devnet"},
           "spec": {"replicas": 2, "selector": {"matchLabels": labels},
                    "template": {"metadata": {"labels": labels}, "spec": spec}}}
    yield {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "devnet"},
           "spec": {"selector": labels, "ports": [{"port": PORT}]}}


def once(name, image, *command):
    """A pod that runs one command of busybox. (Debian's dies of a segmentation fault at `wget -T`.)"""
    spec = kube.pod(image, command=["/bin/busybox", *command]) | {"restartPolicy": "Never"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def test_a_deployment_is_reached_by_name_and_goes_without_a_trace(namespace, image, tools):
    namespace.apply(*devnet(image))
    namespace.rollout("deployment/devnet")
    [endpoints] = namespace.get("endpointslices", "--selector=kubernetes.io/service-name=devnet")
    assert [endpoint["conditions"]["ready"] for endpoint in endpoints["endpoints"]] == [True, True]

    # From another pod, by the Service's short and full name.
    names = {"short": "devnet", "full": f"devnet.{namespace.name}.svc.cluster.local"}
    namespace.apply(*(once(pod, tools, "wget", "-q", "-O", "-", f"http://{name}:{PORT}/status")
                      for pod, name in names.items()))
    for pod in names:
        code, said = namespace.finish(pod)
        assert code == 0, said
        assert json.loads(said)["chain_id"] == "devnet"

    # From here.
    with namespace.forward("service/devnet", PORT) as url:
        with urllib.request.urlopen(f"{url}/status", timeout=10) as answer:
            assert json.load(answer)["chain_id"] == "devnet"
    assert namespace.kubectl("exec", "deployment/devnet", "--", "/nearbench", "--version").startswith("nearbench ")

    namespace.kubectl("delete", "deployment,service,pod", "--all", "--cascade=foreground", "--timeout=60s")
    # A ReplicaSet may have made a pod anew before it was gone itself.
    for left in namespace.kubectl("get", "pods,replicasets,endpointslices", "--output=name").split():
        namespace.wait(left, "delete")
    assert namespace.get("pods,replicasets,endpointslices") == []


def test_a_name_that_does_not_exist_is_answered_at_once(namespace, tools):
    namespace.apply(once("lookup", tools, "nslookup", "nobody.kube-system.svc.cluster.local"))
    code, said = namespace.finish("lookup")
    assert code != 0 and "NXDOMAIN" in said, said


def test_a_pod_that_the_level_restricted_forbids_is_refused(namespace, tools):
    with pytest.raises(kube.CommandFailed, match="violates PodSecurity"):
        namespace.kubectl("run", "root", f"--image={tools}")


def test_helm_installs_and_uninstalls_a_chart(namespace, tmp_path):
    (tmp_path / "templates").mkdir()
    (tmp_path / "Chart.yaml").write_text("apiVersion: v2\nname: little\nversion: 0.1.0\n")
    (tmp_path / "templates" / "map.yaml").write_text(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: little}\n"
        "data: {version: {{ .Capabilities.KubeVersion.Version | quote }}}\n")
    namespace.helm("install", "little", tmp_path)
    assert namespace.get("configmap/little")["data"]["version"].startswith("v1.")
    namespace.helm("uninstall", "little", "--wait")
    with pytest.raises(kube.CommandFailed, match="NotFound"):
        namespace.get("configmap/little")
