"""The chart: what it installs, what it may, and what an upgrade brings."""

import base64
import json
import shutil
import time

import pytest
import yaml

import kube


@pytest.fixture
def rendered(cluster, repository):
    """What the chart becomes with values (`rendered("replicas=2")`), the CRDs left out."""
    def render(*values):
        options = [f"--set={value}" for value in ("crds.enabled=false", *values)]
        chart = repository / "charts/nearbench"
        made = kube.call("helm", "template", "bench", chart, "--namespace=here", "--kube-version=1.34.0", *options)
        return [thing for thing in yaml.safe_load_all(made) if thing]

    return render


def may(user, verb, what, where):
    """Whether somebody may, by the API server's word."""
    # kubectl takes what follows a slash for the name of an object.
    resource, _, subresource = what.partition("/")
    asked = (verb, resource, f"--subresource={subresource}", f"--as={user}", where)
    try:
        return kube.call("kubectl", "auth", "can-i", *asked).strip() == "yes"
    except kube.CommandFailed as failed:
        assert "no" in str(failed).splitlines(), failed
        return False


def await_right(user, verb, what, where, seconds=10):
    deadline = time.monotonic() + seconds
    while not may(user, verb, what, where):
        assert time.monotonic() < deadline, f"{user} may not {verb} {what}"


def kinds(things):
    return sorted({thing["kind"] for thing in things})


def environment(things):
    """The variables of the operator's container."""
    [deployment] = [thing for thing in things if thing["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    return {entry["name"]: entry.get("value") for entry in container["env"]}


def test_with_a_namespace_to_watch_nothing_is_made_in_the_cluster_as_a_whole(rendered):
    things = rendered("watchNamespace=there")
    assert not [kind for kind in kinds(things) if kind.startswith("Cluster")], kinds(things)
    assert environment(things)["NEARBENCH_NAMESPACE"] == "there"
    places = {(thing["metadata"]["name"], thing["metadata"]["namespace"]) for thing in things if thing["kind"] == "Role"}
    assert places == {("bench-operator", "there"), ("bench-operator-leader", "here"), ("bench-uninstall", "there"),
                      ("bench-test", "there")}
    [job] = [thing for thing in things if thing["kind"] == "Job"]
    assert job["spec"]["template"]["spec"]["containers"][0]["args"][-2:] == ["--namespace", "there"]


def test_only_several_operators_have_a_disruption_budget(rendered):
    assert "PodDisruptionBudget" not in kinds(rendered())
    assert "PodDisruptionBudget" in kinds(rendered("replicas=2"))


def test_values_reach_the_operator(rendered):
    usual = environment(rendered())
    assert "NEARBENCH_STORAGE_CLASS" not in usual and usual["NEARBENCH_VOLUMES"] == "true"
    given = environment(rendered("volumes.className=fast", "volumes.size=5Gi", "maxConcurrentRuns=0", "redis.image=r:7"))
    expected = {"NEARBENCH_STORAGE_CLASS": "fast", "NEARBENCH_STORAGE_SIZE": "5Gi", "NEARBENCH_REDIS_IMAGE": "r:7",
                "NEARBENCH_MAX_CONCURRENT_RUNS": "0"}
    assert given.items() >= expected.items(), given
    for wrong in ("replicas=-1", "volumes.size=5 GB", "maxConcurrentRuns=some", "volume.enabled=false"):
        with pytest.raises(kube.CommandFailed, match="schema"):
            rendered(wrong)


def test_a_replicated_redis_is_made_where_it_is_asked_for(rendered):
    name = "bench-redis-replicated"

    def made(*values):
        things = rendered("redis.replicated.enabled=true", *values)
        return {thing["kind"]: thing for thing in things if thing["metadata"]["name"] == name}

    assert not [thing for thing in rendered() if thing["metadata"]["name"] == name]
    things = made()
    assert sorted(things) == ["ConfigMap", "NetworkPolicy", "PodDisruptionBudget", "Secret", "Service", "StatefulSet"]
    secret = things["Secret"]
    password, url = (base64.b64decode(secret["data"][key]).decode() for key in ("password", "nearbench-redis-url"))
    hosts = [f"{name}-{n}.{name}.here.svc:26379" for n in range(3)]
    assert len(password) == 32 and url == f"redis+sentinel://:{password}@{','.join(hosts)}/nearbench"
    assert secret["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    others = [thing for kind, thing in things.items() if kind != "Secret"]
    assert password not in json.dumps(others)
    pod = things["StatefulSet"]["spec"]["template"]
    # What a policy or a budget chooses are these pods, and neither the operator's nor a run's.
    chosen = things["StatefulSet"]["spec"]["selector"]["matchLabels"]
    budget = things["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"]
    assert things["Service"]["spec"]["selector"] == chosen == budget
    assert pod["metadata"]["labels"] == chosen and chosen["app.kubernetes.io/component"] == "redis"
    [spread] = pod["spec"]["topologySpreadConstraints"]
    assert spread["whenUnsatisfiable"] == "ScheduleAnyway" and spread["labelSelector"]["matchLabels"] == chosen
    [claim] = things["StatefulSet"]["spec"]["volumeClaimTemplates"]
    assert "storageClassName" not in claim["spec"]


def test_values_reach_the_replicated_redis(rendered):
    given = ("volumes.className=fast", "volumes.size=5Gi", "appendfsync=always", "secretName=ours", "priorityClassName=high",
             "nodeSelector.disk=ssd")
    things = rendered("redis.image=r:7", *(f"redis.replicated.{value}" for value in ("enabled=true", *given)))
    assert "Secret" not in kinds(things)
    [redis] = [thing for thing in things if thing["kind"] == "StatefulSet"]
    [claim] = redis["spec"]["volumeClaimTemplates"]
    assert claim["spec"]["storageClassName"] == "fast" and claim["spec"]["resources"]["requests"]["storage"] == "5Gi"
    pod = redis["spec"]["template"]["spec"]
    assert pod["priorityClassName"] == "high" and pod["nodeSelector"] == {"disk": "ssd"}
    for container in pod["containers"]:
        assert container["image"] == "r:7"
        variables = {entry["name"]: entry for entry in container["env"]}
        assert variables["REDISCLI_AUTH"]["valueFrom"]["secretKeyRef"] == {"name": "ours", "key": "password"}
    [files] = [thing for thing in things if thing["kind"] == "ConfigMap"]
    assert "appendfsync always" in files["data"]["redis.conf"]
    for wrong in ("appendfsync=often", "volumes.size=0", "replicas=5", "secretName=Ours"):
        with pytest.raises(kube.CommandFailed, match="schema"):
            rendered(f"redis.replicated.{wrong}")


def of_kind(things, kind):
    [thing] = [thing for thing in things if thing["kind"] == kind]
    return thing


def test_prometheus_finds_the_operator_and_the_pods_of_runs(rendered):
    def annotations(*values):
        return of_kind(rendered(*values), "Deployment")["spec"]["template"]["metadata"].get("annotations")

    plain = {"prometheus.io/scrape": "true", "prometheus.io/port": "8081", "prometheus.io/path": "/metrics"}
    assert annotations() == plain and annotations("metrics.annotations=false") is None
    assert annotations("podAnnotations.team=pay") == {**plain, "team": "pay"}
    own = r"podAnnotations.prometheus\.io/scrape"
    assert annotations(f"{own}=no")["prometheus.io/scrape"] == "no"
    assert not {"PodMonitor", "ServiceMonitor", "PrometheusRule"} & set(kinds(rendered()))

    monitors = ("metrics.podMonitor.enabled=true", "metrics.podMonitor.labels.release=mine",
                "metrics.serviceMonitor.enabled=true", "metrics.serviceMonitor.interval=1m")
    things = rendered(*monitors)
    runs = of_kind(things, "PodMonitor")
    assert runs["metadata"]["labels"]["release"] == "mine" and runs["spec"]["namespaceSelector"] == {"any": True}
    endpoints = runs["spec"]["podMetricsEndpoints"]
    assert [(endpoint["port"], endpoint["interval"]) for endpoint in endpoints] == [("api", "5s"), ("standing", "5s")]
    # The label is that of an RPC endpoint.
    assert all({"action": "labeldrop", "regex": "endpoint"} in endpoint["relabelings"] for endpoint in endpoints)
    there = of_kind(rendered(*monitors, "watchNamespace=there"), "PodMonitor")
    assert there["spec"]["namespaceSelector"] == {"matchNames": ["there"]}

    monitor, service = of_kind(things, "ServiceMonitor")["spec"], of_kind(things, "Service")
    [endpoint] = monitor["endpoints"]
    assert (endpoint["port"], endpoint["interval"]) == (service["spec"]["ports"][0]["name"], "1m")
    labels = of_kind(things, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert service["metadata"]["labels"].items() >= monitor["selector"]["matchLabels"].items()
    assert labels.items() >= service["spec"]["selector"].items()
    for wrong in ("podMonitor.interval=5", "podMonitor.every=5s", "serviceMonitor.labels=x"):
        with pytest.raises(kube.CommandFailed, match="schema"):
            rendered(f"metrics.{wrong}")


def test_the_alerts_are_those_of_the_plain_rules_file(rendered, repository):
    def rules(*values):
        return of_kind(rendered("alerts.enabled=true", *values), "PrometheusRule")["spec"]

    text = (repository / "docs/alerts.yaml").read_text()
    assert rules() == yaml.safe_load(text)
    # Values reach all that they are in, and nothing else.
    changed = text.replace("docs/runbook.md#", "https://docs.example/runbook#").replace("5000", "70")
    other = rules("alerts.runbook=https://docs.example/runbook", "alerts.thresholds.queueDepth=70")
    assert other == yaml.safe_load(changed)
    assert of_kind(rendered("alerts.enabled=true", "alerts.labels.role=rules"), "PrometheusRule")["metadata"]["labels"]["role"] == "rules"
    for wrong in ("thresholds.queueDepth=many", "thresholds.tpsFor=5", "thresholds.tpsPercent=101", "thresholds.depth=1",
                  "thresholds.queueDepth=null", "runbook="):
        with pytest.raises(kube.CommandFailed, match="schema"):
            rendered(f"alerts.{wrong}")


def test_the_dashboard_is_told_by_its_label(rendered, repository):
    def found(*values):
        return [thing for thing in rendered(*values) if thing["metadata"]["name"] == "bench-operator-dashboard"]

    assert not found()
    [told] = found("dashboard.enabled=true")
    assert told["kind"] == "ConfigMap" and told["metadata"]["labels"]["grafana_dashboard"] == "1"
    assert list(told["data"]) == ["nearbench.json"]
    dashboard = json.loads((repository / "charts/nearbench/files/dashboard.json").read_text())
    assert json.loads(told["data"]["nearbench.json"]) == dashboard
    [other] = found("dashboard.enabled=true", "dashboard.labels.team=pay")
    assert other["metadata"]["labels"].items() >= {"team": "pay", "grafana_dashboard": "1"}.items()


def test_the_password_of_the_replicated_redis_stays(namespace, repository):
    chart, release = repository / "charts/nearbench", "kept"
    secret = f"secret/{release}-redis-replicated"
    # No operator, and no volume for this Redis to begin on.
    values = ("crds.enabled=false", "replicas=0", f"watchNamespace={namespace.name}",
              "redis.replicated.volumes.className=none")
    on = (*(f"--set={value}" for value in values), "--set=redis.replicated.enabled=true")
    namespace.helm("install", release, chart, *on)
    first = namespace.get(secret)["data"]
    said = namespace.helm("upgrade", release, chart, *on, "--set=redis.replicated.appendfsync=always")
    assert namespace.get(secret)["data"] == first and f"{release}-redis-replicated" in said
    assert base64.b64decode(first["password"]).decode() not in said
    namespace.helm("uninstall", release, "--no-hooks")
    assert namespace.get(secret)["data"] == first
    namespace.helm("install", release, chart, *on)
    assert namespace.get(secret)["data"] == first
    namespace.helm("uninstall", release, "--no-hooks")


def test_helm_test_carries_a_small_run_out(operator):
    operator.namespace.helm("test", operator.RELEASE, "--timeout=5m", seconds=300)


def test_the_operator_may_read_no_secret_and_make_no_pod(operator):
    for verb, what in [("get", "secrets"), ("list", "secrets"), ("watch", "secrets"), ("patch", "secrets"),
                       ("create", "pods"), ("delete", "pods"), ("create", "pods/exec"), ("update", "benchmarkruns"),
                       ("delete", "configmaps"), ("create", "clusterroles"), ("get", "leases")]:
        assert not may(operator.account, verb, what, "--all-namespaces"), f"{verb} {what}"


def test_who_may_view_or_edit_a_namespace_may_do_so_with_its_runs(operator, namespace):
    for user, role in {"viewer": "view", "editor": "edit"}.items():
        namespace.kubectl("create", "rolebinding", user, f"--clusterrole={role}", f"--user={user}")
    here = f"--namespace={namespace.name}"
    for verb in ("get", "list", "watch"):
        # The controller that gathers such roles comes to it a moment later.
        await_right("viewer", verb, "benchmarkruns", here)
        await_right("editor", verb, "benchmarkruns", here)
    for verb, what in [("create", "benchmarkruns"), ("patch", "benchmarkruns"), ("delete", "benchmarkruns"),
                       ("update", "benchmarkruns/scale")]:
        assert not may("viewer", verb, what, here), f"{verb} {what}"
        await_right("editor", verb, what, here)
    assert not may("editor", "patch", "benchmarkruns/status", here)


def test_its_endpoints_say_how_the_operator_is(operator):
    def ask(path):
        pod = f"/api/v1/namespaces/{operator.namespace.name}/pods/{operator.pod()}:8081/proxy{path}"
        return kube.call("kubectl", "get", "--raw", pod)

    assert ask("/livez") == "ok\n" and ask("/readyz") == "ok\n"
    metrics = ask("/metrics")
    assert "# TYPE nearbench_operator_reconciliations_total counter\n" in metrics and "# EOF" not in metrics
    assert "nearbench_operator_leader " in metrics


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
