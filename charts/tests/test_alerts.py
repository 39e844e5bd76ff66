"""The alerts: that they fire when they must and only then, at the thresholds that are set, and that each has its runbook."""

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

import rules

HERE = Path(__file__).parent

# A case of changed.yaml for each: it holds with this threshold, and not with the chart's own.
CHANGED = {"tpsPercent": 50, "tpsFor": "2m", "successPercent": 50, "settleP95Seconds": 2.5, "queueDepth": 100,
           "nonceConflictPercent": 1, "minBalanceNear": 10, "generatorBehindSeconds": 5, "reconcileErrors": 50,
           "pastDeadlineSeconds": 600}


def promtool(*arguments):
    return subprocess.run(["promtool", *arguments], capture_output=True, text=True, timeout=60)


def tried(folder, text, cases):
    """What promtool says of these cases on these rules."""
    (folder / "rules.yaml").write_text(text)
    (folder / "cases.yaml").write_text(yaml.safe_dump({**cases, "rule_files": ["rules.yaml"]}))
    checked = promtool("check", "rules", "--lint-fatal", folder / "rules.yaml")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return promtool("test", "rules", folder / "cases.yaml")


def test_each_alert_fires_when_it_must_and_only_then(tmp_path):
    cases = yaml.safe_load((HERE / "alerts.yaml").read_text())
    ran = tried(tmp_path, rules.rendered(), cases)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    asked = [case for test in cases["tests"] for case in test["alert_rule_test"]]
    fires = {case["alertname"] for case in asked if case["exp_alerts"]}
    silent = {case["alertname"] for case in asked if not case["exp_alerts"]}
    assert fires == silent == rules.alerts(rules.rendered()).keys()


@pytest.mark.parametrize("threshold", rules.thresholds())
def test_a_threshold_is_the_one_that_is_set(threshold, tmp_path):
    cases = yaml.safe_load((HERE / "changed.yaml").read_text())
    [cases["tests"]] = [[test] for test in cases["tests"] if test["name"] == threshold]
    ran = tried(tmp_path, rules.rendered(**{threshold: CHANGED[threshold]}), cases)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert tried(tmp_path, rules.rendered(), cases).returncode != 0


def test_the_plain_file_is_what_the_chart_renders_with_its_own_values():
    if os.environ.get("UPDATE_EXPECT") == "1":
        rules.PLAIN.write_text(rules.plain())
    assert rules.PLAIN.read_text() == rules.plain(), "UPDATE_EXPECT=1 charts/check.sh writes docs/alerts.yaml anew"
    assert "@" not in re.sub(r"@\w+@", "", rules.SOURCE.read_text()), "what is left would be seen by Prometheus"


def test_each_alert_says_what_is_the_matter_how_bad_it_is_and_what_to_do():
    sections = re.findall(r"^## (.*)$", rules.RUNBOOK.read_text(), re.MULTILINE)
    base = rules.values()["runbook"]
    found = rules.alerts(rules.rendered())
    for name, alert in found.items():
        assert alert["labels"]["severity"] in ("warning", "critical"), name
        said = alert["annotations"]
        assert said.keys() == {"summary", "description", "runbook_url"}, name
        assert said["runbook_url"] == f"{base}#{name.lower()}" and name in sections, f"{name} has no section in the runbook"
    # By default a file of this repository, and no section of an alert that is no more.
    assert (rules.REPOSITORY / base).samefile(rules.RUNBOOK)
    assert {section for section in sections if section.startswith("Nearbench")} == found.keys()
    elsewhere = rules.alerts(rules.rendered(runbook="https://docs.example/runbook"))
    assert {alert["annotations"]["runbook_url"] for alert in elsewhere.values()} == {
        f"https://docs.example/runbook#{name.lower()}" for name in elsewhere}


def test_what_the_runbook_says_to_look_at_is_on_the_dashboard():
    shown = {panel["title"] for panel in json.loads((rules.CHART / "files/dashboard.json").read_text())["panels"]}
    text = " ".join(rules.RUNBOOK.read_text().split())
    named = set(re.findall(r"(?<!\*)\*([A-Z][^*]*)\*(?!\*)", text))
    assert named and named <= shown, named - shown
