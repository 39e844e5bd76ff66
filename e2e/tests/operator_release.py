"""operator_release: the operator as a user installs it: one release of the chart for all tests."""

import json
from contextlib import contextmanager

import kube


class Operator:
    """The release and its pod."""

    RELEASE = "nearbench"
    NAME = "nearbench-operator"

    def __init__(self, namespace, chart, image):
        self.namespace, self.chart, self.image = namespace, chart, image

    def upgrade(self, chart=None):
        """Installs a chart, or upgrades to it; returns when the operator is ready."""
        repository, _, tag = self.image.rpartition(":")
        values = {"image": {"repository": repository, "tag": tag}}
        self.namespace.helm("upgrade", "--install", self.RELEASE, chart or self.chart, f"--set-json=image={json.dumps(values['image'])}",
                            "--wait", "--timeout=2m", seconds=120)

    def uninstall(self):
        self.namespace.helm("uninstall", self.RELEASE, "--wait", "--timeout=2m", seconds=120)

    def pod(self):
        """The name of its pod."""
        selector = "--selector=app.kubernetes.io/component=operator"
        return self.namespace.kubectl("get", "pods", selector, "--output=jsonpath={.items[0].metadata.name}")

    def kill(self):
        """Ends its pod at once, as a node that dies would."""
        self.namespace.kubectl("delete", f"pod/{self.pod()}", "--grace-period=0", "--force")

    def ready(self):
        self.namespace.rollout(f"deployment/{self.NAME}", 120)

    @contextmanager
    def environment(self, **variables):
        """Runs the operator with other variables while the context lasts."""
        before = json.loads(self.namespace.kubectl("get", f"deployment/{self.NAME}", "--output=json"))
        known = {entry["name"]: entry["value"] for entry in before["spec"]["template"]["spec"]["containers"][0]["env"]}
        self._set(variables)
        try:
            yield
        finally:
            self._set({name: known[name] for name in variables})

    def _set(self, variables):
        values = [f"{name}={value}" for name, value in variables.items()]
        self.namespace.kubectl("set", "env", f"deployment/{self.NAME}", *values)
        self.ready()


