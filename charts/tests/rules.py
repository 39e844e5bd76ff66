"""The alerts, made of the chart's source and values as the chart makes them (`nearbench.alerts` in its `_helpers.tpl`)."""

import re
from pathlib import Path

import yaml

REPOSITORY = Path(__file__).parents[2]
CHART = REPOSITORY / "charts/nearbench"
SOURCE = CHART / "files/alerts.yaml"
# The same for who has no Kubernetes, with the chart's own thresholds.
PLAIN = REPOSITORY / "docs/alerts.yaml"
RUNBOOK = REPOSITORY / "docs/runbook.md"


def values():
    """The chart's own, of its alerts."""
    return yaml.safe_load((CHART / "values.yaml").read_text())["alerts"]


def thresholds():
    return values()["thresholds"]


def rendered(**changed):
    """The rules, with other thresholds where they are given."""
    known = {"runbook": values()["runbook"], **thresholds()}
    assert changed.keys() <= known.keys(), changed
    of = {**known, **changed}
    return re.sub(r"@(\w+)@", lambda found: str(of[found[1]]), SOURCE.read_text())


def plain():
    return ("# Made from charts/nearbench/files/alerts.yaml, with the thresholds of the chart's values.yaml. Not to be edited:\n"
            "# `UPDATE_EXPECT=1 charts/check.sh` writes it anew.\n#\n" + rendered())


def alerts(text):
    """The alerts of a rules file, by name."""
    found = [rule for group in yaml.safe_load(text)["groups"] for rule in group["rules"]]
    by_name = {rule["alert"]: rule for rule in found}
    assert len(by_name) == len(found), "two alerts have one name"
    return by_name
