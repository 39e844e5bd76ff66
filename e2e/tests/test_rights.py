"""Rights: what was asked of the API server while the other tests ran, against what the chart grants."""

import itertools
import json
from collections import Counter
from datetime import datetime

import pytest

import kube

# The group of pods, Secrets and the like, which an event leaves out.
CORE = ""


@pytest.fixture(scope="module")
def asked(audit):
    """Every request of a service account so far, as the audit log's event. A watch that has ended is there once."""
    events = {}
    for file in sorted(audit.glob("audit*.log")):
        with open(file) as lines:
            for event in map(json.loads, lines):
                events[event["auditID"]] = event
    return list(events.values())


def needed(event):
    """The rights that a request needs, as rules name them: (group, resource or resource/subresource, verb)."""
    what = event["objectRef"]
    resource = "/".join(filter(None, (what.get("resource"), what.get("subresource"))))
    yield what.get("apiGroup", CORE), resource, event["verb"]
    # An apply that made the object is logged as what it was sent as.
    if event["verb"] == "patch" and event.get("responseStatus", {}).get("code") == 201:
        yield what.get("apiGroup", CORE), resource, "create"


def refused(events, removals):
    """The requests that were refused for want of a right, and what the API server said.

    A namespace that is on its way out takes nothing in from anybody, and a release that is being removed loses its rights
    before its pods.
    """
    for event in events:
        answer = event.get("responseStatus", {})
        at = datetime.fromisoformat(event["requestReceivedTimestamp"].replace("Z", "+00:00"))
        removed = any(began <= at <= ended for began, ended in removals)
        if answer.get("code") == 403 and not removed and "because it is being terminated" not in answer.get("message", ""):
            yield event["requestURI"], event["verb"], answer.get("message")


def granted(account):
    """The rights of a service account by every binding in the cluster that names it, as `needed` names them."""
    _, _, namespace, name = account.split(":")
    subject = {"kind": "ServiceAccount", "name": name, "namespace": namespace}
    everything = json.loads(kube.call("kubectl", "get", "clusterrolebindings,rolebindings,clusterroles,roles",
                                      "--all-namespaces", "--output=json"))["items"]
    rules = {(item["kind"], item["metadata"].get("namespace"), item["metadata"]["name"]): item["rules"] or []
             for item in everything if "roleRef" not in item}
    for binding in everything:
        if subject in binding.get("subjects", []):
            role = binding["roleRef"]
            within = binding["metadata"].get("namespace") if role["kind"] == "Role" else None
            for rule in rules[role["kind"], within, role["name"]]:
                yield from itertools.product(rule["apiGroups"], rule["resources"], rule["verbs"])


def table(rights):
    return "\n".join(" ".join((group or "core", resource, verb)) for group, resource, verb in sorted(rights))


@pytest.mark.last
def test_the_operator_has_the_rights_that_it_uses_and_no_others(operator, asked, whole, capsys):
    own = [event for event in asked if event["user"]["username"] == operator.account and "objectRef" in event]
    used = Counter(right for event in own for right in needed(event))
    runs = {(event["objectRef"]["namespace"], event["objectRef"]["name"]) for event in own
            if ("nearbench.dev", "benchmarkruns/status", "patch") in needed(event)}
    idle = set(granted(operator.account)) - set(used)
    with capsys.disabled():
        print(f"\nthe operator: {len(own)} requests for {len(runs)} runs, {len(own) / max(len(runs), 1):.0f} each")
        for (group, resource, verb), times in used.most_common():
            print(f"  {times:6} {verb} {resource}{'.' if group else ''}{group}")
        print(f"granted and not used:\n{table(idle)}" if idle else "every right was used")
    assert own
    assert list(refused(own, operator.removals)) == []
    if whole:
        assert idle == set(), table(idle)


@pytest.mark.last
def test_the_pods_of_runs_were_refused_nothing(operator, asked, namespaces):
    theirs = tuple(f"system:serviceaccount:{namespace.name}:" for namespace in [operator.namespace, *namespaces])
    # A user's token is of an account too, but of no pod.
    events = [event for event in asked if event["user"]["username"].startswith(theirs)
              and "authentication.kubernetes.io/pod-name" in event["user"].get("extra", {})]
    assert events
    assert list(refused(events, operator.removals)) == []
