"""operator_release: the operator as a user installs it: one release of the chart for all tests."""

import json
from contextlib import contextmanager
from datetime import datetime, timezone

import kube


class Operator:
    """The release and its pods."""

    RELEASE = "nearbench"
    NAME = "nearbench-operator"

    def __init__(self, namespace, chart, image, redis_image):
        self.namespace, self.chart = namespace, chart
        repository, _, tag = image.rpartition(":")
        # From when to when the release was being removed: its pods outlive its rights by a moment.
        self.removals = []
        self.values = {"image": {"repository": repository, "tag": tag}, "redis": {"image": redis_image}}

    @property
    def account(self):
        """Who the operator is to the API server."""
        return f"system:serviceaccount:{self.namespace.name}:{self.NAME}"

    def upgrade(self, chart=None, **values):
        """Installs a chart, or upgrades to it, with these of its values; returns when the operator is ready."""
        given = [f"--set-json={name}={json.dumps(value)}" for name, value in {**self.values, **values}.items()]
        self.namespace.helm("upgrade", "--install", self.RELEASE, chart or self.chart, *given,
                            "--wait", "--timeout=2m", seconds=120)

    def uninstall(self):
        began = datetime.now(timezone.utc)
        self.namespace.helm("uninstall", self.RELEASE, "--wait", "--timeout=5m", seconds=300)
        self.removals.append((began, datetime.now(timezone.utc)))

    def pods(self):
        """The names of its pods, without those that are on their way out."""
        found = self.namespace.get("pods", "--selector=app.kubernetes.io/component=operator")
        return [pod["metadata"]["name"] for pod in found if "deletionTimestamp" not in pod["metadata"]]

    def pod(self):
        """The name of one of its pods."""
        return self.pods()[0]

    def leader(self):
        """The name of the pod that works: it holds the Lease."""
        return self.namespace.kubectl("get", "lease/nearbench-operator", "--output=jsonpath={.spec.holderIdentity}")

    def kill(self):
        """Ends the pod that works at once, as a node that dies would."""
        self.namespace.kubectl("delete", f"pod/{self.leader()}", "--grace-period=0", "--force")

    def ready(self):
        self.namespace.rollout(f"deployment/{self.NAME}", 120)

    @contextmanager
    def environment(self, **variables):
        """Runs the operator with other variables while the context lasts."""
        before = json.loads(self.namespace.kubectl("get", f"deployment/{self.NAME}", "--output=json"))
        known = {entry["name"]: entry.get("value") for entry in before["spec"]["template"]["spec"]["containers"][0]["env"]}
        self._set(variables)
        try:
            yield
        finally:
            self._set({name: known.get(name) for name in variables})

    def _set(self, variables):
        """Sets variables; those that are None are taken away."""
        values = [f"{name}-" if value is None else f"{name}={value}" for name, value in variables.items()]
        self.namespace.kubectl("set", "env", f"deployment/{self.NAME}", *values)
        self.ready()
