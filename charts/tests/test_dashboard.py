"""What the dashboard and the alerts ask, asked of a real Prometheus with pages as nearbench's processes serve them."""

import json
import math
import re
import subprocess
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

import rules
from prometheus import Pages, prometheus

DASHBOARD = rules.CHART / "files/dashboard.json"
FIXTURES = Path(__file__).parent / "fixtures"

# What is wrong with each, so that every alert has its reason.
AILING = [
    (r"nearbench_tps\b", 10), (r'nearbench_transfers_total{.*state="failed"', 900),
    (r'nearbench_transfers_total{.*state="needs_review"', 1),
    (r'nearbench_settle_latency_seconds_bucket{.*le="(0\.\d+|1\.5|2\.5|[1-8]\.0)"', 0), (r"nearbench_queue_depth\b", 6000),
    (r"nearbench_breaker_state\b", 2), (r"nearbench_nonce_conflicts_total\b", 50), (r"nearbench_account_balance_near\b", 3),
    (r"nearbench_store_up\b", 0), (r"nearbench_spooled_transfers\b", 5), (r"nearbench_generator_behind_seconds\b", 4),
    (r'nearbench_operator_reconciliations_total{outcome="Error"', 50), (r"nearbench_run_phase_deadline_seconds\b", 1000),
    (r"nearbench_operator_leader\b", 0)]


@contextmanager
def scraped(folder, in_cluster, changes=()):
    """A Prometheus that knows two workers, a generator and an operator, with the labels that one in a cluster adds."""
    pages = Pages()
    targets = []
    for pod, page in {"w-0": "worker", "w-1": "worker", "load-0": "generator", "operator-0": "operator"}.items():
        pages.add(f"/{pod}", (FIXTURES / f"{page}.prom").read_text(), changes)
        namespace = "nearbench" if page == "operator" else "shop"
        targets.append((pages.address, f"/{pod}", {"namespace": namespace, "pod": pod} if in_cluster else {}))
    try:
        with prometheus(folder, targets, rules.rendered()) as started:
            started.await_scrapes({path for _, path, _ in targets})
            yield started
    finally:
        pages.close()


@pytest.fixture(scope="module", params=["in a cluster", "without one"])
def well(request, tmp_path_factory):
    with scraped(tmp_path_factory.mktemp("prometheus"), request.param == "in a cluster") as started:
        started.in_cluster = request.param == "in a cluster"
        yield started


@pytest.fixture(scope="module")
def dashboard():
    return json.loads(DASHBOARD.read_text())


def panels(dashboard):
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def chosen(dashboard, expression):
    """As Grafana asks it while everything is chosen."""
    for variable in dashboard["templating"]["list"]:
        expression = expression.replace(f"${variable['name']}", variable.get("allValue", ""))
    expression = expression.replace("$__rate_interval", "1m")
    assert "$" not in expression, expression
    return expression


def test_every_panel_and_annotation_has_data(well, dashboard):
    asked = [(panel["title"], target["expr"]) for panel in panels(dashboard) for target in panel["targets"]]
    asked += [(note["name"], note["expr"]) for note in dashboard["annotations"]["list"]]
    assert len(asked) > len(panels(dashboard))

    def has_data(expression):
        found = well.query(chosen(dashboard, expression))
        return found and not any(math.isnan(value) for _, value in found)

    well.until_nothing_lacks(lambda: [one for one in asked if not has_data(one[1])])


def test_what_can_be_chosen_is_there(well, dashboard):
    variables = {variable["name"]: variable for variable in dashboard["templating"]["list"]}
    assert variables.keys() == {"datasource", "namespace", "run"}
    for name, value in {"namespace": "shop" if well.in_cluster else None, "run": "ft-200tps"}.items():
        metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variables[name]["query"]["query"]).groups()
        counted = f"count by ({label}) (max_over_time({chosen(dashboard, metric)}[1m]))"
        assert [labels.get(label) for labels, _ in well.query(counted)] == [value]


def test_legends_name_labels_that_are_there(well, dashboard):
    for panel in panels(dashboard):
        for target in panel["targets"]:
            for label in re.findall(r"{{(\w+)}}", target["legendFormat"]):
                for labels, _ in well.query(chosen(dashboard, target["expr"])):
                    assert label in labels or label == "pod" and not well.in_cluster, f"{panel['title']}: {label}"


def test_panels_lie_beside_each_other(dashboard):
    taken, ids = {}, set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        assert panel["id"] not in ids and at["x"] + at["w"] <= 24, panel["title"]
        ids.add(panel["id"])
        for place in ((x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])):
            assert place not in taken, f"{panel['title']} lies on {taken[place]}"
            taken[place] = panel["title"]
    for panel in panels(dashboard):
        assert panel["description"], panel["title"]
        sources = [panel["datasource"], *(target["datasource"] for target in panel["targets"])]
        assert all(source == {"type": "prometheus", "uid": "${datasource}"} for source in sources), panel["title"]


def evaluated(started):
    """The alerts by name, once each was evaluated."""
    started.until_nothing_lacks(lambda: [rule["name"] for rule in started.rules() if rule["health"] == "unknown"])
    known = {rule["name"]: rule for rule in started.rules()}
    assert known.keys() == rules.alerts(rules.rendered()).keys()
    assert not [rule for rule in known.values() if rule["health"] != "ok"], known
    return known


def test_no_alert_is_active_while_all_is_well(well):
    # For good: while a scrape fails, less is seen than there is.
    well.until_nothing_lacks(lambda: [rule for rule in evaluated(well).values() if rule["state"] != "inactive"])


def test_each_alert_is_active_when_it_has_its_reason(tmp_path):
    with scraped(tmp_path, True, AILING) as ailing:
        ailing.until_nothing_lacks(lambda: {name for name, rule in evaluated(ailing).items() if rule["state"] == "inactive"})
        for name, rule in evaluated(ailing).items():
            for alert in rule["alerts"]:
                of_run = name not in ("NearbenchReconcileErrors", "NearbenchNoLeader")
                assert alert["labels"]["namespace"] == ("shop" if of_run else "nearbench")
                assert alert["labels"].get("run") == ("ft-200tps" if of_run else None)


def test_compose_has_the_same_dashboard_and_alerts(tmp_path):
    compose = yaml.safe_load((rules.REPOSITORY / "compose.yaml").read_text())

    def files(service):
        mounts = [volume.split(":") for volume in compose["services"][service]["volumes"]]
        return {inside: rules.REPOSITORY / outside for outside, inside, *_ in mounts
                if not outside.startswith(("./compose/state", "./compose/secrets"))}

    grafana = files("grafana")
    [provider] = yaml.safe_load(grafana["/etc/grafana/provisioning/dashboards/nearbench.yaml"].read_text())["providers"]
    [dashboard] = [outside for inside, outside in grafana.items() if inside.startswith(provider["options"]["path"])]
    assert dashboard.samefile(DASHBOARD)
    for inside, outside in files("prometheus").items():
        (tmp_path / Path(inside).name).write_text(outside.read_text())
    ran = subprocess.run(["promtool", "check", "config", tmp_path / "prometheus.yml"], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0 and f"{len(rules.alerts(rules.plain()))} rules found" in ran.stdout, ran.stdout + ran.stderr
